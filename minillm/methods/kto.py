"""KTO: data holds one answer with a thumb up or down, F = ±λ·β·σ'(β(r − z)).

r = log p/p_ref of the answer, summed over tokens; z ≥ 0 is the reference point, an estimate of KL(p ‖ p_ref)
from prompts with the *next* prompt's answer, held fixed. A batch holds 2B rows: the answers, then the
mismatched ones, whose F is 0; divide_by
is B. Source: Ethayarajh et al. 2024, eq. 8 and section 4.1.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..batch import Batch, batch_pairs
from ..expect import expect, expect_halves, expect_positive, expect_tensor
from ..logprob import answer_logprobs


def F(r: Tensor, z: Tensor | float, thumbs: Tensor, beta: float = 0.1, up: float = 1.0,
      down: float = 1.0) -> Tensor:
    """+λ_up·β·σ'(β(r − z)) where the thumb is up, −λ_down·β·σ'(β(r − z)) where it is down: (B,) -> (B,).

    thumbs (B,): True where it is up. up, down: the two λ. σ' = σ(1 − σ) is the same for u and −u.
    """
    u = beta * (r - z)
    slope = beta * torch.sigmoid(u) * torch.sigmoid(-u)
    return torch.where(thumbs, up * slope, -down * slope)


def loss(r: Tensor, z: Tensor | float, thumbs: Tensor, beta: float = 0.1, up: float = 1.0,
         down: float = 1.0) -> Tensor:
    """λ − λ·σ(±β(r − z)), (B,): Ethayarajh et al. 2024, eq. 8, unreduced; z carries no gradient."""
    u = beta * (r - z)
    return torch.where(thumbs, up * (1 - torch.sigmoid(u)), down * (1 - torch.sigmoid(-u)))


def coefficient(batch: Batch, logprobs: Tensor, beta: float = 0.1, up: float = 1.0,
                down: float = 1.0) -> Tensor:
    """F of a batch with reference (2B,), log p_ref(y|x), and thumbs (B,): (2B,), 0 on the mismatched rows."""
    expect_positive(beta=beta)
    expect(min(up, down) >= 0 and max(up, down) > 0, "up, down", (up, down), "give weights of 0 and more")
    r, z = ratio_and_point(batch, logprobs)
    push = F(r, z, batch.thumbs, beta, up, down)                                    # (B,)
    return torch.cat([push, torch.zeros_like(push)])


def ratio_and_point(batch: Batch, logprobs: Tensor) -> tuple[Tensor, Tensor]:
    """r (B,) of the answers, and z: the mean log p/p_ref of the mismatched ones, not below 0, as a number."""
    batch.needs(reference="B finite")
    answers = answer_logprobs(logprobs, batch.response_mask)                        # (2B,)
    expect_halves("logprobs", answers, "the answers and then, in that order, the mismatched ones")
    expect_tensor("batch.thumbs", batch.thumbs, "B", "bool", B=len(answers) // 2)
    r, mismatched = (answers - batch.reference.detach()).chunk(2)
    return r, mismatched.detach().mean().clamp(min=0)


def draw(examples: Sequence[tuple[Sequence[int], Sequence[int], bool]]) -> Batch:
    """B examples (prompt, response, thumb up?) -> a Batch: their rows, then each prompt with the next one's
    response, in a ring.

    It lacks `reference`: where batches are fixed, compute it once (see `dpo.reference_logprobs`) and keep it
    with them.
    """
    remedy = "give at least two: the reference point takes another prompt's answer"
    expect(len(examples) >= 2, "examples", f"{len(examples)} long", remedy)
    answers, others = [y for _, y, _ in examples], [y for _, y, _ in [*examples[1:], examples[0]]]
    prompts = [x for x, _, _ in examples]
    batch = batch_pairs([*zip(prompts, answers), *zip(prompts, others)])
    batch.thumbs, batch.divide_by = torch.tensor([bool(thumb) for _, _, thumb in examples]), len(examples)
    return batch
