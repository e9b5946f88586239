"""DAgger: the model's own visits make x, an expert's correction makes y, F = 1.

Source: Ross, Gordon, Bagnell 2011, algorithm 3.1. For a language model a state is the text so far and an
action is the
next token: the model writes, and the expert says, at each place, what it would have written there.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..batch import Batch
from ..expect import expect
from ..sample import sample


def F(logp: Tensor) -> Tensor:
    """1 for each visited state and the expert's token there: logp (...) -> (...)."""
    return torch.ones_like(logp)


def loss(logp: Tensor) -> Tensor:
    """−log p(expert's token | visited state): Ross et al. 2011, section 2, the surrogate loss ℓ."""
    return -logp


def coefficient(batch: Batch, logprobs: Tensor | None = None) -> Tensor:
    """F of a batch, (B, T), 0 off the response."""
    return batch.response_mask.float()


def visit(model, prompts: list[list[int]], expert: Callable[[list[int]], int], max_new_tokens: int, *,
          temperature: float = 1.0, generator: torch.Generator | None = None) -> Batch:
    """One round's draw: the model writes an answer to each prompt, the expert corrects every token of it.

    expert(ids so far) -> the id that it would write next. Returns `sample`'s Batch with targets (B, T): the
    expert's token at each place of the response, which is what is scored; and divide_by: every visited state
    is a pair (x, y).
    """
    batch = sample(model, prompts, max_new_tokens, temperature=temperature, generator=generator)
    batch.targets = batch.tokens.clone()
    for row, targets, mask in zip(batch.tokens.tolist(), batch.targets, batch.response_mask):
        for t in mask.nonzero()[:, 0].tolist():
            token, V = expert(row[:t]), model.config.vocab_size
            known = isinstance(token, int) and 0 <= token < V
            expect(known, "expert's token", token, f"ids run from 0 to {V - 1}")
            targets[t] = token
    batch.divide_by = int(batch.response_mask.sum())
    return batch
