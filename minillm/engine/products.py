"""The products that nearly all of a model's time goes into, x·Wᵀ + b and attention, by the library that is
fastest here.

PyTorch multiplies float32 matrices with MKL, which keeps to 256-bit instructions on other makers' processors;
oneDNN, beside it, uses the 512-bit ones of any that has them, and takes about half the time there. PyTorch
has no public name for oneDNN's product, so this file alone uses the private one. Everything else (GPUs, other
precisions, autocast, compiled or sharded models, products too small to matter) goes to
torch.nn.functional.linear, the plain twin. A test holds the two equal, gradients
too: they differ by rounding alone. MINILLM_PRODUCTS=plain in the environment turns oneDNN off.
"""

from __future__ import annotations

import os
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SMALL = 2**18  # multiplications; below that, a call costs more than it saves
# Chosen by what the machine is, never by a timing: the same machine gives the same bits.
WIDE = (os.environ.get("MINILLM_PRODUCTS") != "plain"
        and torch.backends.cpu.get_cpu_capability() == "AVX512"
        and torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise"))


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x (..., D), weight (F, D), bias (F,) or None -> (..., F): what torch.nn.functional.linear gives."""
    if not (WIDE and x.dtype == torch.float32 == weight.dtype and x.device.type == "cpu"
            and x.numel() * len(weight) >= SMALL and type(weight) in (Tensor, nn.Parameter)
            and not torch.compiler.is_compiling() and not torch.is_autocast_enabled("cpu")
            and not torch._C._are_functorch_transforms_active()):
        return F.linear(x, weight, bias)
    learned = x.requires_grad or weight.requires_grad or bias is not None and bias.requires_grad
    if torch.is_grad_enabled() and learned:
        return _Product.apply(x, weight, bias)
    return product(x, weight, bias)


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The product itself, without a gradient; weight may be one that `packed` has laid out."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


def packed(weight: Tensor, rows: int) -> Tensor:
    """A weight (F, D) in the order in which oneDNN reads it for so many rows: nothing is rearranged at each
    product."""
    return torch.ops.mkldnn._reorder_linear_weight(weight, rows)


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """softmax(q·kᵀ/√E)·v: q (B, H, T, E), k and v (B, K, S, E) -> (B, H, T, E).

    mask (T, S) or (B, 1, T, S): True where a query sees a key; None: each sees those up to its own place, and
    one new token sees all.
    """
    grouped, causal = q.shape[1] != k.shape[1], mask is None and q.shape[2] > 1
    # On a CPU under autocast attention in bfloat16 takes up to five times float32's time backwards.
    short = q.device.type == "cpu" and torch.is_autocast_enabled("cpu")
    with torch.autocast("cpu", enabled=False) if short else nullcontext():
        q, k, v = (x.float() for x in (q, k, v)) if short else (q, k, v)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal, enable_gqa=grouped)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias):
        # A frozen weight's x is not needed.
        ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, weight)
        return product(x, weight, bias)

    @staticmethod
    def backward(ctx, g):
        x, weight = ctx.saved_tensors
        need, out = ctx.needs_input_grad, g.flatten(0, -2)                          # (N, F)
        return (linear(g, weight.t()) if need[0] else None,                         # (..., D)
                linear(out.t(), x.flatten(0, -2).t()) if need[1] else None,         # (F, D)
                out.sum(0) if need[2] else None)                                    # (F,)


class Linear(nn.Linear):
    """nn.Linear, multiplied by `linear`."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)
