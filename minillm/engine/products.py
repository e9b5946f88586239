"""x·Wᵀ + b, the product that nearly all of a model's time goes into, by the faster of the two libraries that PyTorch brings for CPUs.

PyTorch multiplies float32 matrices with MKL, which keeps to 256-bit instructions on other makers' processors; oneDNN, beside it, uses
the 512-bit ones of any that has them, and takes about half the time there. Everything else (GPUs, other precisions, autocast, compiled
or sharded models, products too small to matter) goes to torch.nn.functional.linear. A test holds the two equal, gradients too.
It leaves out lower precision: the numbers differ by rounding alone.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SMALL = 2**18  # multiplications; below that, a call costs more than it saves
# Chosen by what the machine is, never by a timing: the same machine gives the same bits.
WIDE = torch.backends.cpu.get_cpu_capability() == "AVX512" and torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x (..., D), weight (F, D), bias (F,) or None -> (..., F): what torch.nn.functional.linear gives."""
    if not (WIDE and x.dtype == torch.float32 == weight.dtype and x.device.type == "cpu" and x.numel() * len(weight) >= SMALL
            and type(weight) in (Tensor, nn.Parameter) and not torch.compiler.is_compiling()
            and not torch.is_autocast_enabled("cpu") and not torch._C._are_functorch_transforms_active()):
        return F.linear(x, weight, bias)
    if torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad or bias is not None and bias.requires_grad):
        return _Product.apply(x, weight, bias)
    return product(x, weight, bias)


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The product itself, without a gradient; weight may be one that `packed` has laid out."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


def packed(weight: Tensor, rows: int) -> Tensor:
    """A weight (F, D) in the order in which oneDNN reads it for so many rows: nothing is rearranged at each product."""
    return torch.ops.mkldnn._reorder_linear_weight(weight, rows)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, weight)  # a frozen weight's x is not needed
        return product(x, weight, bias)

    @staticmethod
    def backward(ctx, g):
        x, weight = ctx.saved_tensors
        out = g.flatten(0, -2)                                                      # (N, F)
        return (linear(g, weight.t()) if ctx.needs_input_grad[0] else None,         # (..., D)
                linear(out.t(), x.flatten(0, -2).t()) if ctx.needs_input_grad[1] else None,  # (F, D)
                out.sum(0) if ctx.needs_input_grad[2] else None)                    # (F,)


class Linear(nn.Linear):
    """nn.Linear, multiplied by `linear`."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)
