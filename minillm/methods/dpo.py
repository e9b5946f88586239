"""DPO: data holds a chosen and a rejected answer, F = ±β·σ(−βh).

h is log p/p_ref of the chosen answer less that of the rejected, each a sum over tokens. A batch holds 2B
rows, the chosen answers and then, in the same order, the rejected; divide_by is B. Sources: Rafailov et al.
2023, eq. 7 (the loss) and section 4 (its gradient); Mitchell 2023, "A note on DPO with noisy preferences"
(smoothing).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from ..batch import Batch, batch_pairs
from ..expect import expect, expect_positive, expect_tensor, expect_whole
from ..logprob import answer_logprobs, logprobs
from ..returns import margin


def F(h: Tensor, beta: float = 0.1, smoothing: float = 0.0) -> Tensor:
    """β·(σ(−βh) − ε) on the chosen answer, its negative on the rejected: (B,) -> (B,). ε is the smoothing."""
    return beta * (torch.sigmoid(-beta * h) - smoothing)


def loss(h: Tensor, beta: float = 0.1, smoothing: float = 0.0) -> Tensor:
    """−(1 − ε)·log σ(βh) − ε·log σ(−βh), (B,): Rafailov et al. 2023, eq. 7; Mitchell 2023, eq. 3, for ε."""
    return -(1 - smoothing) * logsigmoid(beta * h) - smoothing * logsigmoid(-beta * h)


def coefficient(batch: Batch, logprobs: Tensor, beta: float = 0.1, smoothing: float = 0.0,
                average: bool = False) -> Tensor:
    """F of a batch with reference (2B,), log p_ref(y|x): (2B,), the chosen rows and then the rejected.

    average: h from means over tokens in place of the paper's sums, as some libraries have it; F is then
    divided by |y|, since it multiplies ∇ of the sum.
    """
    expect_positive(beta=beta)
    share = 0 <= smoothing < 0.5
    expect(share, "smoothing", smoothing, "give the share of labels that are wrong, from 0 to below 0.5")
    h, size = margin(batch, logprobs, average)                                      # (B,), (2B,)
    push = F(h, beta, smoothing)                                                    # (B,)
    return torch.cat([push, -push]) / size


@torch.no_grad()
def reference_logprobs(model, answers: Sequence[tuple[Sequence[int], Sequence[int]]],
                       rows: int = 64) -> Tensor:
    """log p_ref(y|x) of each (prompt, response), (N,). Data and reference are fixed: compute it once."""
    expect_whole(1, rows=rows)
    parts = [batch_pairs(answers[i:i + rows]) for i in range(0, max(1, len(answers)), rows)]
    batches = [part.to(model.embed.weight.device) for part in parts]
    return torch.cat([answer_logprobs(logprobs(model, b), b.response_mask) for b in batches])


def draw(comparisons: Sequence[tuple[Sequence[int], Sequence[int], Sequence[int]]],
         reference: Tensor | None = None) -> Batch:
    """A batch of B comparisons (prompt, chosen, rejected), and log p_ref of the two answers to each,
    reference (B, 2).

    draw([([7], [8, 0], [9, 9, 0])], …) has the rows 7 8 0 and 7 9 9 0, divide_by = 1 and reference (2,).
    """
    expect(len(comparisons) > 0, "comparisons", "empty", "give at least one (prompt, chosen, rejected)")
    batch = batch_pairs([(x, y) for x, y, _ in comparisons] + [(x, y) for x, _, y in comparisons])
    batch.divide_by = len(comparisons)
    if reference is not None:
        expect_tensor("reference", reference, "B two", "float", B=len(comparisons), two=2)
        batch.reference = reference.T.flatten()
    return batch
