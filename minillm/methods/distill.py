"""Distillation: x from data, y from a teacher, F = 1 on what it wrote, or its probability on every next
token.

Sources: Hinton, Vinyals, Dean 2015, section 2 (soft targets and their temperature); Kim & Rush 2016, sections
3.1 (token by token) and 3.2 (whole answers; here one is drawn, where they take the likeliest). Where the text
so far is the teacher's own, both estimate the gradient of Σ_y q(y|x)·log p(y|x); listing v in place of
drawing it takes part of the noise away.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..batch import Batch
from ..expect import expect_numbers, expect_positive
from ..logprob import all_logprobs


def F(teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """τ²·q(v | x, y<t) for every next token v: teacher, its log-probs at temperature τ, (..., V) -> (..., V).

    The factor τ² keeps the gradient's size, which softening divides by τ² (Hinton et al. 2015, section 2).
    """
    return temperature**2 * teacher.exp()


def loss(logp: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """−τ²·Σ_v q(v|·)·log p(v|·) of each place, (..., V) -> (...): Kim & Rush 2016, L_WORD-KD. An answer's
    loss is the sum over its places; of an answer that was drawn from the teacher it is −log p(y|x), L_SEQ-KD:
    see supervised."""
    return -temperature**2 * (teacher.exp() * logp).sum(-1)


def coefficient(batch: Batch, logprobs: Tensor | None = None, temperature: float = 1.0) -> Tensor:
    """F of a batch: (B,) ones for answers that the teacher wrote; with batch.teacher (B, T, V), scored by
    all_logprobs at the same temperature, (B, T, V), 0 off the response."""
    if batch.teacher is None:
        return torch.ones(len(batch.tokens), device=batch.tokens.device)
    expect_positive(temperature=temperature)
    batch.needs(teacher="B T V float")
    expect_numbers("batch.teacher", batch.teacher)
    return F(batch.teacher, temperature).where(batch.response_mask[..., None], 0.0)


@torch.no_grad()
def ask_teacher(model, batch: Batch, temperature: float = 1.0) -> Tensor:
    """The teacher's log-probs of every next token at each place of y, (B, T, V), without a gradient."""
    expect_positive(temperature=temperature)
    return all_logprobs(model, batch, temperature)
