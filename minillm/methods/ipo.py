"""IPO: data holds a chosen and a rejected answer, F = ±2·(1/(2β) − h). It leaves out who compares; batches are `dpo.draw`'s.

Where DPO pushes h without end on a choice that is never contradicted, IPO draws it to 1/(2β) and back.
Source: Azar et al. 2023, "A general theoretical paradigm to understand learning from human preferences", eq. 17 (β is its τ).
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..expect import expect, expect_tensor
from ..logprob import answer_logprobs
from ..returns import margin


def coefficient(logprobs: Tensor, response_mask: Tensor, reference: Tensor, beta: float = 0.1, average: bool = False) -> Tensor:
    """F (2B,): +2·(1/(2β) − h) on the chosen answer, the same with a minus on the rejected.

    logprobs (2B, T), the chosen rows and then the rejected; reference (2B,): log p_ref(y|x). h sums over tokens, as in eq. 17.
    average: means over tokens, as the library trl has it, which cites the paper's authors for it; F is then divided by |y|.
    """
    h, size = _margin(logprobs.detach(), response_mask, reference, beta, average)
    push = 2 * (1 / (2 * beta) - h)                                                 # (B,)
    return torch.cat([push, -push]) / size


def loss(logprobs: Tensor, response_mask: Tensor, reference: Tensor, beta: float = 0.1, average: bool = False) -> Tensor:
    """(h − 1/(2β))², (B,): Azar et al. 2023, eq. 17, unreduced."""
    h, _ = _margin(logprobs, response_mask, reference, beta, average)
    return (h - 1 / (2 * beta)) ** 2


def _margin(logprobs: Tensor, response_mask: Tensor, reference: Tensor, beta: float, average: bool) -> tuple[Tensor, Tensor]:
    expect(beta > 0, "beta", beta, "give a positive number")
    answers = answer_logprobs(logprobs, response_mask)                              # (2B,)
    expect_tensor("reference", reference, "B", "float", B=len(answers))
    size = response_mask.sum(1) if average else torch.ones_like(reference)
    return margin(answers / size, reference / size), size
