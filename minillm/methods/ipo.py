"""IPO: data holds a chosen and a rejected answer, F = ±2·(1/(2β) − h). Batches are `dpo.draw`'s.

Where DPO pushes h without end on a choice that is never contradicted, IPO draws it to 1/(2β) and back.
Source: Azar et al. 2023, "A general theoretical paradigm to understand learning from human preferences", eq.
17 (β is its τ).
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..batch import Batch
from ..expect import expect_positive
from ..returns import margin


def F(h: Tensor, beta: float = 0.1) -> Tensor:
    """2·(1/(2β) − h) on the chosen answer, its negative on the rejected: (B,) -> (B,). h sums over tokens."""
    return 2 * (1 / (2 * beta) - h)


def loss(h: Tensor, beta: float = 0.1) -> Tensor:
    """(h − 1/(2β))², (B,): Azar et al. 2023, eq. 17, unreduced."""
    return (h - 1 / (2 * beta)) ** 2


def coefficient(batch: Batch, logprobs: Tensor, beta: float = 0.1, average: bool = False) -> Tensor:
    """F of a batch with reference (2B,), log p_ref(y|x): (2B,), the chosen rows and then the rejected.

    average: means over tokens, as the library trl has it, which cites the paper's authors for it; F is then
    divided by |y|.
    """
    expect_positive(beta=beta)
    h, size = margin(batch, logprobs, average)                                      # (B,), (2B,)
    push = F(h, beta)                                                               # (B,)
    return torch.cat([push, -push]) / size
