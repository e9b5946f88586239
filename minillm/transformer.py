"""p(y|x): a decoder-only transformer in the shape of Llama. It leaves out dropout, biases and learned positions.

Two paths give the same numbers: `Transformer.hidden` is the fast one (PyTorch's scaled-dot-product attention, a KV
cache), `readable_logits` writes every contraction as an einsum. A test holds them equal.

Letters: B batch, T time, S keys' time, V vocabulary, D model width, H heads, K keys' heads, E head width, F inner width.
Sources: Vaswani et al. 2017; Zhang & Sennrich 2019 (RMSNorm); Su et al. 2021 (RoPE); Shazeer 2020 (SwiGLU); Ainslie
et al. 2023 (grouped queries); Press & Wolf 2017 (tied embeddings).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, einsum, nn

from .expect import expect, expect_tensor


@dataclass(frozen=True)
class Config:
    """The shape of a model. The defaults are the course's model: 0.80 M parameters."""

    vocab_size: int = 512   # V
    d_model: int = 128      # D
    n_layers: int = 4
    n_heads: int = 4        # H: query heads
    n_kv_heads: int = 2     # K: each serves H / K query heads
    d_ff: int = 352         # F: inner width of SwiGLU
    context: int = 256      # longest T
    rope_theta: float = 10_000.0  # the slowest rotation takes about 2π·theta tokens
    norm_eps: float = 1e-5

    def __post_init__(self):
        for name in ("vocab_size", "d_model", "n_layers", "n_heads", "n_kv_heads", "d_ff", "context"):
            value = getattr(self, name)
            expect(isinstance(value, int) and value > 0, name, value, "give a positive integer")
        for name in ("rope_theta", "norm_eps"):
            value = getattr(self, name)
            expect(isinstance(value, (int, float)) and 0 < value < math.inf, name, value, "give a positive number")
        expect(self.d_model % self.n_heads == 0 and self.d_head % 2 == 0, "n_heads", self.n_heads,
               f"d_model = {self.d_model} must split into heads of equal, even width")
        expect(self.n_heads % self.n_kv_heads == 0, "n_kv_heads", self.n_kv_heads, f"it must divide n_heads = {self.n_heads}")

    @property
    def d_head(self) -> int:  # E
        return self.d_model // self.n_heads


class Cache:
    """Keys and values of the tokens read so far: k, v per layer, (B, K, capacity, E). Rows are aligned at the right.

    pad (B,): how many columns at the left of each row are padding; a row's first token stands at column pad[b].
    """

    def __init__(self, model: Transformer, rows: int, capacity: int, pad: Tensor):
        expect_tensor("pad", pad, "B", "integer", B=rows)
        c, like = model.config, model.embed.weight
        shape = (rows, c.n_kv_heads, capacity, c.d_head)
        self.k = [like.new_empty(shape) for _ in range(c.n_layers)]
        self.v = [like.new_empty(shape) for _ in range(c.n_layers)]
        self.length, self.pad, self.padded = 0, pad, bool(pad.any())

    def select(self, rows: Tensor) -> None:
        """Keep these rows (an index, with repeats where answers share a prompt)."""
        for kv in (self.k, self.v):
            for i, old in enumerate(kv):
                kv[i] = old.new_empty(len(rows), *old.shape[1:])
                kv[i][:, :, :self.length] = old[rows, :, :self.length]
        self.pad = self.pad[rows]
        self.padded = bool(self.pad.any())


class Attention(nn.Module):
    """Causal self-attention with grouped queries and rotary positions."""

    def __init__(self, config: Config):
        super().__init__()
        c = self.config = config
        self.q = nn.Linear(c.d_model, c.n_heads * c.d_head, bias=False)
        self.k = nn.Linear(c.d_model, c.n_kv_heads * c.d_head, bias=False)
        self.v = nn.Linear(c.d_model, c.n_kv_heads * c.d_head, bias=False)
        self.o = nn.Linear(c.n_heads * c.d_head, c.d_model, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None, cache: Cache | None, layer: int) -> Tensor:
        c, (B, T, _) = self.config, x.shape
        q = self.q(x).view(B, T, c.n_heads, c.d_head).transpose(1, 2)       # (B, H, T, E)
        k = self.k(x).view(B, T, c.n_kv_heads, c.d_head).transpose(1, 2)    # (B, K, T, E)
        v = self.v(x).view(B, T, c.n_kv_heads, c.d_head).transpose(1, 2)    # (B, K, T, E)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        if cache is not None:
            end = cache.length + T
            cache.k[layer][:, :, cache.length:end] = k
            cache.v[layer][:, :, cache.length:end] = v
            k, v = cache.k[layer][:, :, :end], cache.v[layer][:, :, :end]   # (B, K, S, E)
        causal = mask is None and T > 1  # one new token may see every key
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal, enable_gqa=c.n_heads != c.n_kv_heads)
        return self.o(out.transpose(1, 2).reshape(B, T, -1))                # (B, T, D)


class Block(nn.Module):
    """x + attention(norm(x)), then x + SwiGLU(norm(x)): two writers to one residual stream."""

    def __init__(self, config: Config):
        super().__init__()
        self.norm1 = nn.RMSNorm(config.d_model, eps=config.norm_eps)
        self.attention = Attention(config)
        self.norm2 = nn.RMSNorm(config.d_model, eps=config.norm_eps)
        self.gate = nn.Linear(config.d_model, config.d_ff, bias=False)
        self.up = nn.Linear(config.d_model, config.d_ff, bias=False)
        self.down = nn.Linear(config.d_ff, config.d_model, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None, cache: Cache | None, layer: int) -> Tensor:
        x = x + self.attention(self.norm1(x), cos, sin, mask, cache, layer)
        h = self.norm2(x)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


class Transformer(nn.Module):
    """Tokens (B, T) to logits (B, T, V). Weights are drawn from `seed`, the same on every device."""

    def __init__(self, config: Config, seed: int = 0):
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(config.vocab_size, config.d_model)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layers))
        self.norm = nn.RMSNorm(config.d_model, eps=config.norm_eps)
        cos, sin = rotations(config)
        self.register_buffer("cos", cos, persistent=False)  # (context, E/2)
        self.register_buffer("sin", sin, persistent=False)
        generator = torch.Generator().manual_seed(seed)
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                # What a block writes is scaled down, so that the residual stream keeps its size through 2L writers.
                writes = name.endswith(("attention.o.weight", "down.weight"))
                std = 0.02 / math.sqrt(2 * config.n_layers) if writes else 0.02
                nn.init.normal_(weight, std=std, generator=generator)

    def hidden(self, tokens: Tensor, cache: Cache | None = None) -> Tensor:
        """The residual stream after the last norm, (B, T, D). With a cache, `tokens` continue what it holds."""
        start = cache.length if cache is not None else 0
        _expect_tokens(tokens, self.config, start)
        end = start + tokens.shape[1]
        if cache is not None:
            rows, _, room, _ = cache.k[0].shape
            expect(len(tokens) == rows and end <= room, "tokens", f"{len(tokens)} rows up to place {end}", f"the cache has {rows} rows of {room}")
        cos, sin, mask = self.cos[start:end], self.sin[start:end], None
        if cache is not None and cache.padded:
            columns = torch.arange(end, device=tokens.device)
            position = (columns[start:] - cache.pad[:, None]).clamp(min=0)                     # (B, T)
            cos, sin = self.cos[position][:, None], self.sin[position][:, None]                # (B, 1, T, E/2)
            query, key = columns[start:, None], columns                                        # (T, 1), (S,)
            real = key >= cache.pad[:, None, None]                                             # (B, 1, S): True where not padding
            mask = ((key <= query) & (real | (key == query)))[:, None]                         # (B, 1, T, S): padding sees itself, not nothing
        elif cache is not None and start > 0 and tokens.shape[1] > 1:
            columns = torch.arange(end, device=tokens.device)
            mask = columns <= columns[start:, None]                                            # (T, S)
        x = self.embed(tokens)                                                                 # (B, T, D)
        for layer, block in enumerate(self.blocks):
            x = block(x, cos, sin, mask, cache, layer)
        if cache is not None:
            cache.length = end
        return self.norm(x)

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores of the next token, (..., V): the embedding read backwards."""
        return F.linear(hidden, self.embed.weight)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.logits(self.hidden(tokens))                                                # (B, T, V)

    def count_parameters(self) -> int:
        """How many numbers are trained; the tied embedding counts once."""
        return sum(p.numel() for p in self.parameters())


def _expect_tokens(tokens: Tensor, config: Config, start: int = 0) -> None:
    expect_tensor("tokens", tokens, "B T", "integer")
    end, V = start + tokens.shape[1], config.vocab_size
    expect(end <= config.context, "tokens", f"{end} long", f"the model's context is {config.context}: give fewer tokens")
    low, high = int(tokens.min()), int(tokens.max())
    expect(low >= 0 and high < V, "tokens", f"from {low} to {high}", f"ids run from 0 to {V - 1}")


def rotations(config: Config) -> tuple[Tensor, Tensor]:
    """cos and sin of position · frequency, each (context, E/2): pair i turns by theta^(−2i/E) a token."""
    frequency = config.rope_theta ** (-torch.arange(0, config.d_head, 2, dtype=torch.float64) / config.d_head)
    angle = torch.outer(torch.arange(config.context, dtype=torch.float64), frequency)
    return angle.cos().float(), angle.sin().float()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the pairs (x_i, x_{i+E/2}) of x (B, H, T, E) by their position's angle (Su et al. 2021, eq. 34; Llama's pairing)."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


def readable_logits(model: Transformer, tokens: Tensor) -> Tensor:
    """The same function with every contraction as an einsum and nothing fused: (B, T) to (B, T, V)."""
    _expect_tokens(tokens, model.config)
    c, T = model.config, tokens.shape[1]
    H, K, E, G = c.n_heads, c.n_kv_heads, c.d_head, c.n_heads // c.n_kv_heads
    past = torch.ones(T, T, dtype=torch.bool, device=tokens.device).tril()                     # True where key s <= query t
    cos, sin = model.cos[:T], model.sin[:T]

    def norm(x, layer):
        return x / (x.square().mean(-1, keepdim=True) + c.norm_eps).sqrt() * layer.weight

    x = model.embed.weight[tokens]                                                             # (B, T, D)
    for block in model.blocks:
        a, h = block.attention, norm(x, block.norm1)
        q = einsum("btd,hed->bhte", h, a.q.weight.view(H, E, -1))
        k = einsum("bsd,ked->bkse", h, a.k.weight.view(K, E, -1))
        v = einsum("bsd,ked->bkse", h, a.v.weight.view(K, E, -1))
        q, k = rotate(q, cos, sin).unflatten(1, (K, G)), rotate(k, cos, sin)                   # (B, K, G, T, E)
        score = einsum("bkgte,bkse->bkgts", q, k) / math.sqrt(E)
        weight = score.masked_fill(~past, -torch.inf).softmax(-1)
        out = einsum("bkgts,bkse->bkgte", weight, v).flatten(1, 2)                             # (B, H, T, E)
        x = x + einsum("bhte,dhe->btd", out, a.o.weight.view(-1, H, E))                        # heads are summed: each writes alone
        h = norm(x, block.norm2)
        inner = F.silu(einsum("btd,fd->btf", h, block.gate.weight)) * einsum("btd,fd->btf", h, block.up.weight)
        x = x + einsum("btf,df->btd", inner, block.down.weight)
    return einsum("btd,vd->btv", norm(x, model.norm), model.embed.weight)


def device_and_dtype(device: str | None = None, dtype: torch.dtype = torch.float32) -> tuple[torch.device, torch.dtype]:
    """Where and in what precision to compute, chosen once: the CUDA card if there is one, else Apple's, else the CPU."""
    here = [name for name, there in (("cuda", torch.cuda.is_available()), ("mps", torch.backends.mps.is_available()), ("cpu", True)) if there]
    device = here[0] if device is None else device
    expect(str(device).split(":")[0] in here, "device", repr(device), f"this machine has {', '.join(here)}")
    expect(dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16), "dtype", dtype, "give a float type, such as torch.float32")
    return torch.device(device), dtype
