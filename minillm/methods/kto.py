"""KTO: data holds one answer with a thumb up or down, F = ±λ·β·σ'(β(r − z)). It leaves out who judges.

r = log p/p_ref of the answer, summed over tokens; z ≥ 0 is the reference point, an estimate of KL(p ‖ p_ref) from prompts with
the *next* prompt's answer, held fixed. A batch holds 2B rows: the answers, then the mismatched ones, whose F is 0; `pairs` is B.
Source: Ethayarajh et al. 2024, eq. 8 and section 4.1.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..expect import expect, expect_finite, expect_tensor
from ..batch import Batch, batch_pairs
from ..logprob import answer_logprobs


def coefficient(logprobs: Tensor, response_mask: Tensor, reference: Tensor, thumbs: Tensor, beta: float = 0.1,
                up: float = 1.0, down: float = 1.0) -> Tensor:
    """F (2B,): +λ_up·β·σ'(u) where the thumb (B,) is up, −λ_down·β·σ'(u) where it is down, 0 on mismatched rows; u = ±β(r − z).

    logprobs (2B, T), reference (2B,): log p_ref(y|x). σ' = σ(1 − σ) is the same for u and −u.
    """
    u, weight = _utility(logprobs.detach(), response_mask, reference, thumbs, beta, up, down)
    push = weight * beta * torch.sigmoid(u) * torch.sigmoid(-u)                     # (B,)
    return torch.cat([push.where(thumbs, -push), torch.zeros_like(push)])


def loss(logprobs: Tensor, response_mask: Tensor, reference: Tensor, thumbs: Tensor, beta: float = 0.1,
         up: float = 1.0, down: float = 1.0) -> Tensor:
    """λ − λ·σ(±β(r − z)), (B,): Ethayarajh et al. 2024, eq. 8, unreduced; z carries no gradient."""
    u, weight = _utility(logprobs, response_mask, reference, thumbs, beta, up, down)
    return weight * (1 - torch.sigmoid(u))


def _utility(logprobs: Tensor, response_mask: Tensor, reference: Tensor, thumbs: Tensor, beta: float, up: float,
             down: float) -> tuple[Tensor, Tensor]:
    """(±β(r − z), λ), (B,) each."""
    expect(beta > 0, "beta", beta, "give a positive number")
    expect(min(up, down) >= 0 and max(up, down) > 0, "up, down", (up, down), "give weights of 0 and more")
    answers = answer_logprobs(logprobs, response_mask)                              # (2B,)
    expect_tensor("reference", reference, "B", "float", B=len(answers))
    expect_finite("reference", reference)
    expect(len(answers) % 2 == 0, "logprobs", f"of {len(answers)} rows", "give the answers and then, in that order, the mismatched ones")
    expect_tensor("thumbs", thumbs, "B", "bool", B=len(answers) // 2)
    r, mismatched = (answers - reference.detach()).chunk(2)
    z = mismatched.detach().mean().clamp(min=0)                                     # one number: the whole batch's
    return beta * (r - z).where(thumbs, z - r), torch.where(thumbs, r.new_tensor(up), r.new_tensor(down))


def draw(examples: Sequence[tuple[Sequence[int], Sequence[int], bool]]) -> Batch:
    """B examples (prompt, response, thumb up?) -> a Batch: their rows, then each prompt with the next one's response, in a ring.

    It lacks `reference`: where batches are fixed, compute it once (see `dpo.reference_logprobs`) and keep it with them.
    """
    expect(len(examples) >= 2, "examples", f"{len(examples)} long", "give at least two: the reference point takes another prompt's answer")
    answers, others = [y for _, y, _ in examples], [y for _, y, _ in [*examples[1:], examples[0]]]
    prompts = [x for x, _, _ in examples]
    batch = batch_pairs([*zip(prompts, answers), *zip(prompts, others)])
    batch.thumbs, batch.pairs = torch.tensor([bool(thumb) for _, _, thumb in examples]), len(examples)
    return batch
