"""A run that meets a NaN stops before the step, and says where and why. Its plain twin does nothing."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..batch import Batch


class NonFinite(FloatingPointError):
    """Training met a NaN or an infinity, at `step`, in `batch`. The model keeps the weights before it."""

    def __init__(self, message: str, step: int, batch: Batch):
        super().__init__(message)
        self.step, self.batch = step, batch


def finite(F: Callable, run) -> Callable:
    """F, held to finite numbers: NonFinite names what was not finite, the scores or F of them."""
    def coefficient(batch: Batch, scores):
        found = F(batch, scores)
        for name, tensors in (("coefficient", found), ("logprobs", scores)):
            for tensor in tensors.values() if isinstance(tensors, dict) else [tensors]:
                if isinstance(tensor, Tensor) and not bool(torch.isfinite(tensor).all()):
                    _stop(name, tensor, batch, run)
        return found
    return coefficient


def expect_finite_norm(norm: float, batch: Batch, run) -> None:
    """Raise NonFinite unless the gradient's norm is a number."""
    if not math.isfinite(norm):
        _stop("gradient", torch.tensor(norm), batch, run)


def _stop(name: str, value: Tensor, batch: Batch, run) -> None:
    bad = ~torch.isfinite(value)
    row = f" in row {bad.nonzero()[0, 0].item()} of the batch" if value.ndim else ""
    norms = [r["grad_norm"] for r in run.rows[-20:]]
    if name == "coefficient":
        cause = "a reward, a baseline or a weight is not a number: look at what F was given"
    elif len(norms) > 1 and norms[-1] > 10 * sorted(norms)[len(norms) // 2]:
        grown = f"the gradient's norm grew to {norms[-1]:.3g} before it"
        cause = f"{grown}: lower lr and muon_lr, or lengthen warmup"
    elif name == "logprobs":
        cause = ("a token has probability 0 (was it drawn under the settings that score it?), or the weights "
                 "are broken already: lower the rates")
    else:
        cause = "log p is near −inf for some token, or the rates are too high: lower lr and muon_lr"
    shape = tuple(batch.tokens.shape)
    where = f"step {run.step}: {name} is {value[bad][0].item()}{row} (tokens {shape})"
    raise NonFinite(f"{where}; likely cause: {cause}", run.step, batch)
