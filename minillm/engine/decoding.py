"""The fast path of sampling: one new token a row with few kernels, without checks or gradients.

`Transformer.hidden` with a cache gives the same numbers; a test holds the two equal for every family. What is
saved: each block's maps are joined and laid out for a few rows, queries of one key's head are read together,
and no module is called.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import products
from .products import Linear
from ..adapt.lora import LoRA
from ..adapt.quantize import NF4, Int8
from ..transformer import Attention, Block, Cache, Transformer

MANY = 8  # rows from which on the plain products are faster
LARGEST = 2**27  # weights in numbers: a larger model is not copied for the sake of a few kernels


class Decoder:
    """A copy of a model's weights, for tokens that follow what a cache holds. Made anew for each text:
    weights may have moved."""

    def __init__(self, model: Transformer, cache: Cache):
        c = self.config = model.config
        self.model, self.cache = model, cache
        room = cache.k[0].shape[2]
        if c.family.positions == "learned":
            self.places = model.places.weight
        else:  # both halves of a pair turn by the same angle: a·cos − b·sin, b·cos + a·sin
            cos, sin, dtype = model.cos[:room], model.sin[:room], model.embed.weight.dtype
            self.cos = torch.cat([cos, cos], -1).to(dtype)                                # (S, E)
            self.sin = torch.cat([-sin, sin], -1).to(dtype)                               # (S, E)
        self.blocks = [_joined(block, c.family.qk_norm, len(cache.pad)) for block in model.blocks]

    def hidden(self, tokens: Tensor) -> Tensor:
        """The residual stream after the last norm, (L, D), for one new token a row, (L,); the cache grows by
        one."""
        c, cache, L = self.config, self.cache, len(tokens)
        at, end, H, K, E = cache.length, cache.length + 1, c.n_heads, c.n_kv_heads, c.d_head
        position, mask = at, None
        if cache.padded:
            position = at - cache.pad                                                          # (L,)
            real = torch.arange(end, device=tokens.device) >= cache.pad[:, None]               # (L, S)
            mask = real[:, None, None]                                                         # (L, 1, 1, S)
        x = self.model.embed.weight[tokens]                                                    # (L, D)
        if c.family.positions == "learned":
            x = x + self.places[position]
        else:
            cos, sin = self.cos[position], self.sin[position]                             # (E,) or (L, E)
            if cache.padded:
                cos, sin = cos[:, None], sin[:, None]                                          # (L, 1, E)
        for layer, w in enumerate(self.blocks):
            qkv = w.qkv(w.norm1(x))                                                      # (L, (H + 2K)·E)
            qk = qkv[:, :(H + K) * E].view(L, H + K, E)
            if w.qk_norm is not None:
                # Queries and keys at once.
                qk = F.rms_norm(qk, (E,), eps=c.norm_eps) * w.qk_norm
            if w.rotary:
                qk = (qk * cos).addcmul_(qk.roll(E // 2, -1), sin)
            k, v = cache.k[layer], cache.v[layer]
            k[:, :, at] = qk[:, H:]
            v[:, :, at] = qkv[:, (H + K) * E:].view(L, K, E)
            # A key's queries side by side, as if they were times.
            q = qk[:, :H].reshape(L, K, H // K, E)
            out = attend(q, k[:, :, :end], v[:, :, :end], mask)                           # (L, K, H / K, E)
            x += w.o(out.reshape(L, H * E))
            h = w.up(w.norm2(x))                                              # (L, 2W), or (L, W): no gate
            if c.family.inner == "swiglu":
                h = F.silu(h[:, :c.d_ff]).mul_(h[:, c.d_ff:])
            else:
                h = F.gelu(h, approximate="tanh")
            x += w.down(h)
        cache.length = end
        return self.model.norm(x)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """softmax(q·k / √E)·v, (L, K, G, E), of queries that see what mask (L, 1, 1, S) lets them."""
    if q.device.type != "cpu" or len(q) < MANY:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    # On a CPU the fused kernel is made for many queries; for one a row, three plain products of many rows
    # take half its time or less.
    score = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)                                    # (L, K, G, S)
    if mask is not None:
        score = score.masked_fill_(~mask, -torch.inf)
    return score.softmax(-1) @ v


def fits(model) -> bool:
    """Whether a Decoder computes what the model does: nobody has changed it, hooked into it or spread it over
    machines, and it may be copied."""
    if not isinstance(model, Transformer) or type(model).hidden is not Transformer.hidden:
        return False
    # An adapter and a map in few bits give their weight.
    known = (Block, Attention, Linear, nn.RMSNorm, nn.LayerNorm, LoRA, NF4, Int8)
    # A copy holds them as floats.
    stored = sum(m.in_features * m.out_features for m in model.modules() if isinstance(m, (NF4, Int8)))
    return (all(type(part) in known for block in model.blocks for part in block.modules())
            and not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
            and all(type(p) is nn.Parameter for p in model.parameters())
            and sum(p.numel() for p in model.parameters()) + stored <= LARGEST)


def _joined(block, qk_norm: bool, rows: int) -> SimpleNamespace:
    a = block.attention
    gate = [block.gate] if hasattr(block, "gate") else []
    heads = None
    if qk_norm:
        c = a.config
        heads = torch.cat([a.q_norm.weight.expand(c.n_heads, -1),
                           a.k_norm.weight.expand(c.n_kv_heads, -1)])  # (H + K, E)
    (norm1, scale1), (norm2, scale2) = _norm(block.norm1), _norm(block.norm2)
    return SimpleNamespace(
        norm1=norm1, norm2=norm2, rotary=a.rotary, qk_norm=heads,
        qkv=_join(rows, scale1, a.q, a.k, a.v), o=_join(rows, None, a.o),
        up=_join(rows, scale2, *gate, block.up), down=_join(rows, None, block.down))


def _norm(norm) -> tuple[Callable[[Tensor], Tensor], Tensor | None]:
    """A norm without its weight, and the weight (D,) for the map behind it; None where the norm keeps it."""
    if not isinstance(norm, nn.RMSNorm) or norm.weight.dtype not in (torch.float32, torch.float64):
        return norm, None
    # x/√(mean x² + eps) is √D·x/√(|x|² + D·eps): three kernels in place of six.
    root = norm.weight.new_tensor(math.sqrt(norm.eps * len(norm.weight)))
    scale = norm.weight * math.sqrt(len(norm.weight))
    return lambda x: x / torch.linalg.vector_norm(x, dim=-1, keepdim=True).hypot_(root), scale


def _join(rows: int, scale: Tensor | None, *maps) -> Callable[[Tensor], Tensor]:
    """Maps of one input, scaled, as one: x (L, D) -> (L, F). The weight is laid out in the order in which a
    product with few rows reads it."""
    weight, bias = torch.cat([m.weight for m in maps]), None
    if scale is not None:
        weight = weight * scale
    if any(m.bias is not None for m in maps):
        bias = torch.cat([weight.new_zeros(len(m.weight)) if m.bias is None else m.bias for m in maps])
    plain = weight.dtype != torch.float32 or weight.device.type != "cpu" or torch.is_autocast_enabled("cpu")
    if products.WIDE and not plain and rows * weight.numel() >= products.SMALL:
        weight = products.packed(weight, rows)
        return lambda x: products.product(x, weight, bias)
    weight = weight.t().contiguous()
    return lambda x: x @ weight if bias is None else torch.addmm(bias, x, weight)
