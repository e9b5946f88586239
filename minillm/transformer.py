"""p(y|x): a decoder-only transformer, in Llama's shape unless its Family says otherwise.

Two paths give the same numbers: `Transformer.hidden` is the fast one (PyTorch's scaled-dot-product attention,
a KV cache), `readable_logits`, in a file of its own, writes every contraction as an einsum. A test holds them
equal.

Letters: B batch, T time, S keys' time, V vocabulary, D model width, H heads, K keys' heads, E head width, W
inner width.
Sources: Vaswani et al. 2017; Zhang & Sennrich 2019 (RMSNorm); Su et al. 2021 (RoPE); Shazeer 2020 (SwiGLU);
Ainslie et al. 2023 (grouped queries); Press & Wolf 2017 (tied embeddings). For the other families: Radford et
al. 2019 (GPT-2), Yang et al. 2024 and 2025 (Qwen2, Qwen3), Kazemnejad et al. 2023 (layers without positions),
Peng et al. 2023 (YaRN).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .expect import expect, expect_positive, expect_tensor, expect_whole
from .engine.products import Linear, attention, linear
from .readable import expect_tokens
from .readable import readable_logits as readable_logits  # for those who look for it here
from .rope import frequencies, rotate, rotations


MAPS = ("q", "k", "v", "o", "gate", "up", "down")  # the linear maps of a block


@dataclass(frozen=True)
class Family:
    """In what the families of models differ. The defaults are Llama's."""

    norm: str = "rms"                   # or "layer": LayerNorm, which takes the mean away as well
    inner: str = "swiglu"               # or "gelu": no gate
    positions: str = "rotary"           # or "learned": a vector for each place, added to the token's
    bias: tuple[str, ...] = ()          # which of MAPS, or "norm" for LayerNorm, add a bias
    qk_norm: bool = False               # an RMSNorm on each query and each key
    unrotated: tuple[int, ...] = ()     # layers that know nothing of positions

    def __post_init__(self):
        kinds = {"norm": ("rms", "layer"), "inner": ("swiglu", "gelu"), "positions": ("rotary", "learned")}
        for name, known in kinds.items():
            value = getattr(self, name)
            expect(value in known, name, repr(value), f"give {' or '.join(map(repr, known))}")
        strange = [name for name in self.bias if name not in (*MAPS, "norm")]
        expect(not strange, "bias", repr(self.bias), f"give some of {', '.join(MAPS)}, norm")


LLAMA = Family()
QWEN2 = Family(bias=("q", "k", "v"))
QWEN3 = Family(qk_norm=True)
GPT2 = Family(norm="layer", inner="gelu", positions="learned",
              bias=("q", "k", "v", "o", "up", "down", "norm"))


@dataclass(frozen=True)
class Config:
    """The shape of a model. The defaults are the course's model: 0.80 M parameters."""

    vocab_size: int = 512   # V
    d_model: int = 128      # D
    n_layers: int = 4
    n_heads: int = 4        # H: query heads
    n_kv_heads: int = 2     # K: each serves H / K query heads
    d_ff: int = 352         # W: inner width of SwiGLU
    context: int = 256      # longest T
    rope_theta: float = 10_000.0  # the slowest rotation takes about 2π·theta tokens
    norm_eps: float = 1e-5
    head_width: int | None = None         # E, where it is not d_model / n_heads
    # The embedding, read backwards, gives the logits; else a map of its own.
    tied: bool = True
    rope_scaling: dict | None = None      # as in config.json: {"rope_type": "llama3", "factor": 8.0, …}
    family: Family = LLAMA

    def __post_init__(self):
        expect_whole(1, vocab_size=self.vocab_size, d_model=self.d_model, n_layers=self.n_layers,
                     n_heads=self.n_heads, n_kv_heads=self.n_kv_heads, d_ff=self.d_ff, context=self.context,
                     head_width=1 if self.head_width is None else self.head_width)
        expect_positive(norm_eps=self.norm_eps)
        expect(self.norm_eps < math.inf, "norm_eps", self.norm_eps, "give a small number")
        expect(isinstance(self.tied, bool), "tied", repr(self.tied), "give True or False")
        scaling = self.rope_scaling
        named = scaling is None or isinstance(scaling, dict)
        expect(named, "rope_scaling", scaling, "give a dict with a rope_type")
        remedy = f"d_model = {self.d_model} must split into heads of equal, even width"
        splits = self.head_width is not None or self.d_model % self.n_heads == 0
        expect(splits, "n_heads", self.n_heads, remedy)
        paired = self.d_head % 2 == 0 or self.family.positions == "learned"
        expect(paired, "n_heads", self.n_heads,
               f"a head of width {self.d_head} has no pairs to rotate: {remedy}")
        shared = self.n_heads % self.n_kv_heads == 0
        expect(shared, "n_kv_heads", self.n_kv_heads, f"it must divide n_heads = {self.n_heads}")
        # Raises what is wrong with theta and the scaling. Of one pair: a file may promise any width.
        frequencies(2, self.rope_theta, scaling)

    @property
    def d_head(self) -> int:  # E
        return self.head_width or self.d_model // self.n_heads


class Cache:
    """Keys and values of the tokens read so far: k, v per layer, (B, K, capacity, E). Rows are aligned at the
    right.

    pad (B,): how many columns at the left of each row are padding; a row's first token stands at column
    pad[b].
    """

    def __init__(self, model: Transformer, rows: int, capacity: int, pad: Tensor):
        expect_tensor("pad", pad, "B", "integer", B=rows)
        c, like = model.config, model.embed.weight
        shape = (rows, c.n_kv_heads, capacity, c.d_head)
        self.k = [like.new_empty(shape) for _ in range(c.n_layers)]
        self.v = [like.new_empty(shape) for _ in range(c.n_layers)]
        self.length, self.pad, self.padded = 0, pad, bool(pad.any())

    def extend(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Write k, v (B, K, T, E) of new tokens behind the old ones; returns all that a layer holds, (B, K,
        S, E) each."""
        end = self.length + k.shape[2]
        self.k[layer][:, :, self.length:end] = k
        self.v[layer][:, :, self.length:end] = v
        return self.k[layer][:, :, :end], self.v[layer][:, :, :end]

    def places(self, start: int, end: int) -> tuple[Tensor | slice, Tensor | None]:
        """Positions of new tokens at columns start … end − 1, a slice or (B, T), and which keys each may see.

        mask (T, S) or (B, 1, T, S): True where it may; None where PyTorch's own causal mask says the same.
        """
        columns = torch.arange(end, device=self.pad.device)
        query, key = columns[start:, None], columns                                            # (T, 1), (S,)
        if self.padded:
            position = (columns[start:] - self.pad[:, None]).clamp(min=0)                      # (B, T)
            real = key >= self.pad[:, None,
                                   None]                                              # (B, 1, S): no padding
            # Padding sees itself, for a softmax of nothing is NaN.
            mask = (key <= query) & (real | (key == query))
            return position, mask[:, None]                                                     # (B, 1, T, S)
        mask = key <= query if start > 0 and end - start > 1 else None                         # (T, S)
        return slice(start, end), mask

    def select(self, rows: Tensor) -> None:
        """Keep these rows (an index, with repeats where answers share a prompt)."""
        for kv in (self.k, self.v):
            for i, old in enumerate(kv):
                kv[i] = old.new_empty(len(rows), *old.shape[1:])
                kv[i][:, :, :self.length] = old[rows, :, :self.length]
        self.pad = self.pad[rows]
        self.padded = bool(self.pad.any())


class Attention(nn.Module):
    """Causal self-attention with grouped queries and rotary positions.

    attention(x): (B, T, D) -> (B, T, D), at positions 0 .. T − 1, each token seeing itself and those before.
    cos, sin (T, E/2) or (B, 1, T, E/2): rotations to other positions.
    mask (T, S) or (B, 1, T, S): True where a query sees a key.
    cache: keys and values of the tokens before x; it goes with cos and sin.
    Raises ValueError for x longer than the context, and for a cache without rotations.
    """

    def __init__(self, config: Config, layer: int):
        super().__init__()
        c, bias = config, config.family.bias
        self.config, self.layer = config, layer
        self.rotary = c.family.positions == "rotary" and layer not in c.family.unrotated
        self.q = Linear(c.d_model, c.n_heads * c.d_head, bias="q" in bias)
        self.k = Linear(c.d_model, c.n_kv_heads * c.d_head, bias="k" in bias)
        self.v = Linear(c.d_model, c.n_kv_heads * c.d_head, bias="v" in bias)
        self.o = Linear(c.n_heads * c.d_head, c.d_model, bias="o" in bias)
        if c.family.qk_norm:
            self.q_norm = nn.RMSNorm(c.d_head, eps=c.norm_eps)
            self.k_norm = nn.RMSNorm(c.d_head, eps=c.norm_eps)

    def forward(self, x: Tensor, cos: Tensor | None = None, sin: Tensor | None = None,
                mask: Tensor | None = None, cache: Cache | None = None) -> Tensor:
        c, (B, T, _) = self.config, x.shape
        q = self.q(x).view(B, T, c.n_heads, c.d_head).transpose(1, 2)       # (B, H, T, E)
        k = self.k(x).view(B, T, c.n_kv_heads, c.d_head).transpose(1, 2)    # (B, K, T, E)
        v = self.v(x).view(B, T, c.n_kv_heads, c.d_head).transpose(1, 2)    # (B, K, T, E)
        if c.family.qk_norm:
            q, k = self.q_norm(q), self.k_norm(k)
        if self.rotary:
            if cos is None:
                cos, sin = self._from_the_start(x, cache)
            q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        if cache is not None:
            k, v = cache.extend(self.layer, k, v)                           # (B, K, S, E)
        out = attention(q, k, v, mask)                                      # (B, H, T, E)
        return self.o(out.transpose(1, 2).reshape(B, T, -1))                # (B, T, D)

    def _from_the_start(self, x: Tensor, cache: Cache | None) -> tuple[Tensor, Tensor]:
        """cos and sin of positions 0 .. T − 1, (T, E/2), as Transformer.hidden passes them."""
        T, context = x.shape[1], self.config.context
        expect(T <= context, "x", f"{T} long", f"the context is {context}: give fewer tokens")
        expect(cache is None, "cos", "None beside a cache", "give the rotations to places behind the cache's")
        cos, sin = rotations(replace(self.config, context=T))
        return cos.to(x), sin.to(x)


class Block(nn.Module):
    """x + attention(norm(x)), then x + SwiGLU(norm(x)): two writers to one residual stream.

    block(x): (B, T, D) -> (B, T, D). The other arguments are those of Attention.
    """

    def __init__(self, config: Config, layer: int):
        super().__init__()
        c, bias = config, config.family.bias
        self.norm1 = make_norm(c)
        self.attention = Attention(c, layer)
        self.norm2 = make_norm(c)
        if c.family.inner == "swiglu":
            self.gate = Linear(c.d_model, c.d_ff, bias="gate" in bias)
        self.up = Linear(c.d_model, c.d_ff, bias="up" in bias)
        self.down = Linear(c.d_ff, c.d_model, bias="down" in bias)

    def forward(self, x: Tensor, cos: Tensor | None = None, sin: Tensor | None = None,
                mask: Tensor | None = None, cache: Cache | None = None) -> Tensor:
        x = x + self.attention(self.norm1(x), cos, sin, mask, cache)
        h = self.norm2(x)
        if self.attention.config.family.inner == "swiglu":
            return x + self.down(F.silu(self.gate(h)) * self.up(h))
        return x + self.down(F.gelu(self.up(h), approximate="tanh"))


class Transformer(nn.Module):
    """Tokens (B, T) to logits (B, T, V). Weights are drawn from `seed`, the same on every device.

    seed None leaves them as memory has them, for a caller who overwrites them all.
    """

    def __init__(self, config: Config, seed: int | None = 0):
        super().__init__()
        self.config = config

        def vectors(rows: int) -> nn.Embedding:
            # Undrawn: PyTorch's own draw, on the device meta, would import its compiler, which takes a
            # second.
            undrawn = torch.empty(rows, config.d_model) if seed is None else None
            return nn.Embedding(rows, config.d_model, _weight=undrawn)

        self.embed = vectors(config.vocab_size)
        if config.family.positions == "learned":
            self.places = vectors(config.context)
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.n_layers))
        self.norm = make_norm(config)
        if not config.tied:
            self.head = Linear(config.d_model, config.vocab_size, bias=False)
        if config.family.positions == "rotary":
            cos, sin = rotations(config)
            self.register_buffer("cos", cos, persistent=False)  # (context, E/2)
            self.register_buffer("sin", sin, persistent=False)
        if seed is not None:
            self.draw_weights(torch.Generator().manual_seed(seed))

    @torch.no_grad()
    def draw_weights(self, generator: torch.Generator) -> None:
        """Matrices from a normal distribution of width 0.02, biases 0 (Radford et al. 2019)."""
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                # What a block writes is scaled down, so that the residual stream keeps its size through 2L
                # writers.
                writes = name.endswith(("attention.o.weight", "down.weight"))
                std = 0.02 / math.sqrt(2 * self.config.n_layers) if writes else 0.02
                nn.init.normal_(weight, std=std, generator=generator)
            elif name.endswith("bias"):
                weight.zero_()

    def hidden(self, tokens: Tensor, cache: Cache | None = None, sequence: Tensor | None = None) -> Tensor:
        """The residual stream after the last norm, (B, T, D). With a cache, `tokens` continue what it holds.

        sequence (B, T): the number of the text that each token belongs to, where a row holds several (see
        batch_packed).
        """
        start = cache.length if cache is not None else 0
        expect_tokens(tokens, self.config, start)
        end = start + tokens.shape[1]
        if cache is not None:
            rows, _, room, _ = cache.k[0].shape
            fits = len(tokens) == rows and end <= room
            expect(fits, "tokens", f"{len(tokens)} rows up to place {end}",
                   f"the cache has {rows} rows of {room}")
        position, mask = slice(start, end), None
        if cache is not None:
            position, mask = cache.places(start, end)
        if sequence is not None:
            expect(cache is None, "cache", "given with sequence", "read packed rows without one")
            expect_tensor("sequence", sequence, "B T", "integer", B=len(tokens), T=end)
            position, mask = apart(sequence)
        x, cos, sin = self.embed(tokens), None, None                                           # (B, T, D)
        if self.config.family.positions == "learned":
            x = x + self.places.weight[position]                                    # (T, D) or (B, T, D)
        else:
            cos, sin = self.cos[position], self.sin[position]                       # (T, E/2) or (B, T, E/2)
            if cos.ndim == 3:
                cos, sin = cos[:, None], sin[:, None]                               # (B, 1, T, E/2)
        for block in self.blocks:
            x = block(x, cos, sin, mask, cache)
        if cache is not None:
            cache.length = end
        return self.norm(x)

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores of the next token, (..., V): the embedding read backwards, or where it is not tied, a map of
        its own."""
        return linear(hidden, self.embed.weight if self.config.tied else self.head.weight)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.logits(self.hidden(tokens))                                                # (B, T, V)

    def count_parameters(self) -> int:
        """How many numbers are trained; the tied embedding counts once."""
        return sum(p.numel() for p in self.parameters())


def apart(sequence: Tensor) -> tuple[Tensor, Tensor]:
    """Positions (B, T) that begin again in each sequence, and who sees whom, (B, 1, T, T): what stands before
    it in its own sequence.

    sequence (B, T): a number for each token; the tokens of one sequence stand together.
    """
    t = torch.arange(sequence.shape[1], device=sequence.device)
    first = torch.zeros_like(t).repeat(len(sequence), 1)
    # A sequence begins here.
    first[:, 1:] = t[1:].where(sequence[:, 1:] != sequence[:, :-1], 0)
    same = sequence[:, :, None] == sequence[:, None, :]
    return t - first.cummax(1).values, (same & (t <= t[:, None]))[:, None]


def make_norm(config: Config) -> nn.Module:
    """RMSNorm, or GPT-2's LayerNorm."""
    if config.family.norm == "rms":
        return nn.RMSNorm(config.d_model, eps=config.norm_eps)
    return nn.LayerNorm(config.d_model, eps=config.norm_eps, bias="norm" in config.family.bias)


def device_and_dtype(device: str | None = None,
                     dtype: torch.dtype = torch.float32) -> tuple[torch.device, torch.dtype]:
    """Where and in what precision to compute: the CUDA card if there is one, else Apple's, else the CPU."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    here = [name for name, is_there in there.items() if is_there]
    device = here[0] if device is None else device
    expect(str(device).split(":")[0] in here, "device", repr(device), f"this machine has {', '.join(here)}")
    floats = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
    expect(dtype in floats, "dtype", dtype, "give a float type, such as torch.float32")
    return torch.device(device), dtype
