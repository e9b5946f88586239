"""SimPO: data holds a chosen and a rejected answer, F = ±β/|y|·σ(γ − βΔ), and there is no reference. Batches
are `dpo.draw`'s.

Δ is the mean log p of a token of the chosen answer less that of the rejected: what a model writes by itself,
whatever its length.
Source: Meng, Xia, Chen 2024, "SimPO: simple preference optimization with a reference-free reward", eq. 6.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from ..batch import Batch
from ..expect import expect_halves, expect_positive
from ..logprob import answer_logprobs


def F(delta: Tensor, beta: float = 2.0, gamma: float = 1.0) -> Tensor:
    """β·σ(γ − βΔ) on a chosen answer's mean log p, its negative on the rejected: (B,) -> (B,)."""
    return beta * torch.sigmoid(gamma - beta * delta)


def loss(delta: Tensor, beta: float = 2.0, gamma: float = 1.0) -> Tensor:
    """−log σ(βΔ − γ), (B,): Meng et al. 2024, eq. 6, unreduced. γ: the margin to win a choice by."""
    return -logsigmoid(beta * delta - gamma)


def coefficient(batch: Batch, logprobs: Tensor, beta: float = 2.0, gamma: float = 1.0) -> Tensor:
    """F of a batch, (2B,), chosen rows, then rejected; over |y|, since it multiplies ∇ of the sum."""
    expect_positive(beta=beta)
    expect_halves("logprobs", logprobs)
    size = batch.response_mask.sum(1)
    chosen, rejected = (answer_logprobs(logprobs, batch.response_mask) / size).chunk(2)
    push = F(chosen - rejected, beta, gamma)
    return torch.cat([push, -push]) / size
