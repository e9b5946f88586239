"""DPO: data holds a chosen and a rejected answer, F = ±β·σ(−βh). It leaves out who compares, and the reward model it does without.

A batch holds 2B rows, the chosen answers and then, in the same order, the rejected; `pairs` is B. h (B,) is the chosen answer's
log p/p_ref less the rejected one's, each a sum over tokens. Sources: Rafailov et al. 2023, eq. 7 (the loss) and section 4 (its
gradient); Mitchell 2023, "A note on DPO with noisy preferences" (smoothing).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..expect import expect, expect_tensor
from ..batch import Batch, batch_pairs
from ..logprob import answer_logprobs, logprobs
from ..returns import margin


def coefficient(logprobs: Tensor, response_mask: Tensor, reference: Tensor, beta: float = 0.1, smoothing: float = 0.0,
                average: bool = False) -> Tensor:
    """F (2B,): +β·(σ(−βh) − ε) on the chosen answer, the same with a minus on the rejected; ε is the smoothing.

    logprobs (2B, T), reference (2B,): log p_ref(y|x). average: h from means over tokens in place of the paper's sums, as some
    libraries have it; F is then divided by |y|, since it multiplies ∇ of the sum.
    """
    h, size = _margin(logprobs.detach(), response_mask, reference, beta, smoothing, average)
    push = beta * (torch.sigmoid(-beta * h) - smoothing)                            # (B,)
    return torch.cat([push, -push]) / size


def loss(logprobs: Tensor, response_mask: Tensor, reference: Tensor, beta: float = 0.1, smoothing: float = 0.0,
         average: bool = False) -> Tensor:
    """−(1 − ε)·log σ(βh) − ε·log σ(−βh), (B,): Rafailov et al. 2023, eq. 7, with Mitchell 2023, eq. 3, for ε above 0."""
    h, _ = _margin(logprobs, response_mask, reference, beta, smoothing, average)
    return -(1 - smoothing) * F.logsigmoid(beta * h) - smoothing * F.logsigmoid(-beta * h)


def _margin(logprobs: Tensor, response_mask: Tensor, reference: Tensor, beta: float, smoothing: float,
            average: bool) -> tuple[Tensor, Tensor]:
    expect(beta > 0, "beta", beta, "give a positive number")
    expect(0 <= smoothing < 0.5, "smoothing", smoothing, "give the share of labels that are wrong, from 0 to below 0.5")
    answers = answer_logprobs(logprobs, response_mask)                              # (2B,)
    expect_tensor("reference", reference, "B", "float", B=len(answers))
    size = response_mask.sum(1) if average else torch.ones_like(reference)
    return margin(answers / size, reference / size), size


@torch.no_grad()
def reference_logprobs(model, answers: Sequence[tuple[Sequence[int], Sequence[int]]], rows: int = 64) -> Tensor:
    """log p_ref(y|x) of each (prompt, response), (N,), `rows` at a time. Data and reference are fixed: compute it once, and keep it."""
    expect(isinstance(rows, int) and rows >= 1, "rows", rows, "give 1 or more")
    batches = [batch_pairs(answers[i:i + rows]).to(model.embed.weight.device) for i in range(0, max(1, len(answers)), rows)]
    return torch.cat([answer_logprobs(logprobs(model, b.tokens, b.response_mask), b.response_mask) for b in batches])


def draw(comparisons: Sequence[tuple[Sequence[int], Sequence[int], Sequence[int]]], reference: Tensor) -> Batch:
    """A batch of B comparisons (prompt, chosen, rejected), and log p_ref of the two answers to each, reference (B, 2).

    draw([([7], [8, 0], [9, 9, 0])], …) has the rows 7 8 0 and 7 9 9 0, pairs = 1 and reference (2,).
    """
    expect(len(comparisons) > 0, "comparisons", "empty", "give at least one (prompt, chosen, rejected)")
    expect_tensor("reference", reference, "B two", "float", B=len(comparisons), two=2)
    batch = batch_pairs([(x, y) for x, y, _ in comparisons] + [(x, y) for x, _, y in comparisons])
    batch.pairs, batch.reference = len(comparisons), reference.T.flatten()
    return batch
