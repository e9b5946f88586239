"""x·(W + s·BA)ᵀ + b in one product, where `LoRA.forward` spells out three. A test holds the two equal."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .products import linear


def fits(lora, x: Tensor) -> bool:
    """Whether one product is worth it: x has rows enough to pay for making W + s·BA, and no short type would
    round BA away in it. lora: adapt.lora.LoRA."""
    base, D, F = lora.base, lora.in_features, lora.out_features
    weight = base.weight if isinstance(base, nn.Linear) else base.like
    exact = weight.dtype in (torch.float32, torch.float64)
    one_type = x.dtype == lora.A.dtype == lora.B.dtype == weight.dtype
    plain = not (weight.requires_grad or torch.is_autocast_enabled(x.device.type)
                 or torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active())
    return (x.numel() // D * (D + F) >= D * F
            and exact and one_type and plain and type(lora.A) is nn.Parameter)


def product(lora, x: Tensor) -> Tensor:
    """(..., D) -> (..., F)"""
    return _Folded.apply(x, lora.A, lora.B, lora.bias, lora.base, lora.scale)


class _Folded(torch.autograd.Function):
    """x alone is kept for the backward pass."""

    @staticmethod
    def forward(ctx, x, A, B, bias, base, s):
        plain = isinstance(base, nn.Linear)
        weight = base.weight
        ctx.save_for_backward(x, A, B, weight if plain else None)
        ctx.base, ctx.s = None if plain else base, s            # what is kept in few bits is unpacked again
        return linear(x, torch.addmm(weight, B, A, alpha=s), bias)

    @staticmethod
    def backward(ctx, g):
        x, A, B, weight = ctx.saved_tensors
        weight, s, need = ctx.base.weight if weight is None else weight, ctx.s, ctx.needs_input_grad
        rows, out = x.flatten(0, -2), g.flatten(0, -2)          # (N, D), (N, F)
        to_x = to_A = to_B = to_bias = None
        # Each product with r stands the way round in which the r rows come first: several times as fast.
        if need[0]:
            to_x = linear(g, torch.addmm(weight, B, A, alpha=s).t())            # (..., D)
        if need[1]:
            to_A = s * linear(linear(out, B.t()).t(), rows.t())                 # (r, D)
        if need[2]:
            to_B = s * linear(linear(rows, A).t(), out.t()).t()                 # (F, r)
        if need[3]:
            to_bias = out.sum(0)                                                # (F,)
        return to_x, to_A, to_B, to_bias, None, None
