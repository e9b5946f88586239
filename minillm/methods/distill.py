"""Distillation: x from data, y from a teacher, F = 1 on what it wrote, or its probability on every next token. It leaves out the student's own visits.

Sources: Hinton, Vinyals, Dean 2015, section 2 (soft targets and their temperature); Kim & Rush 2016, sections 3.1 (token by token)
and 3.2 (whole answers; here one is drawn, where they take the likeliest). Where the text so far is the teacher's own, both estimate the gradient
of Σ_y q(y|x)·log p(y|x); listing v in place of drawing it takes part of the noise away.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..expect import expect, expect_numbers, expect_tensor
from ..batch import Batch
from ..logprob import all_logprobs, answer_logprobs


def coefficient(response_mask: Tensor, teacher: Tensor | None = None, temperature: float = 1.0) -> Tensor:
    """F = 1 for each answer that the teacher wrote, (B,). With its log-probs of every next token v: F = τ²·q(v | x, y<t), (B, V·T).

    response_mask (B, T); teacher (B, V·T): from `ask_teacher`, at temperature τ. The student is scored by all_logprobs at the same τ;
    the factor τ² keeps the gradient's size, which softening divides by τ² (Hinton et al. 2015, section 2). 0 off the response.
    """
    expect_tensor("response_mask", response_mask, "B T", "bool")
    if teacher is None:
        return torch.ones(len(response_mask), device=response_mask.device)
    mask = _every_token(response_mask, teacher, temperature)
    return temperature**2 * teacher.detach().exp() * mask


def loss(logprobs: Tensor, response_mask: Tensor, teacher: Tensor | None = None, temperature: float = 1.0) -> Tensor:
    """−log p(y|x), (B,), of the teacher's answer; or −τ²·Σ_t Σ_v q(v|·)·log p(v|·): Kim & Rush 2016, L_SEQ-KD and L_WORD-KD.

    logprobs (B, T), or with a teacher (B, V·T).
    """
    if teacher is None:
        return -answer_logprobs(logprobs, response_mask)
    mask = _every_token(response_mask, teacher, temperature)
    expect_tensor("logprobs", logprobs, "B S", "float", B=len(teacher), S=teacher.shape[1])
    return -temperature**2 * (teacher.detach().exp() * logprobs.where(mask, 0.0)).sum(1)


@torch.no_grad()
def ask_teacher(model, batch: Batch, temperature: float = 1.0) -> Tensor:
    """The teacher's log-probs of every next token at each place of the response, (B, V·T), without a gradient."""
    expect(temperature > 0, "temperature", temperature, "give more than 0")
    return all_logprobs(model, batch.tokens, batch.response_mask, temperature=temperature, sequence=getattr(batch, "sequence", None))


def _every_token(response_mask: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """The mask once for each token of the vocabulary, (B, V·T), after a look at the teacher's log-probs."""
    expect_tensor("teacher", teacher, "B S", "float", B=len(response_mask))
    expect_tensor("response_mask", response_mask, "B T", "bool")
    T = response_mask.shape[1]
    expect(teacher.shape[1] % T == 0, "teacher", f"of shape {tuple(teacher.shape)}", f"give V columns for each of the {T} places")
    expect(temperature > 0, "temperature", temperature, "give more than 0")
    expect_numbers("teacher", teacher)
    return response_mask.repeat(1, teacher.shape[1] // T)
