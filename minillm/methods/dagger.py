"""DAgger: the model's own visits make x, an expert's correction makes y, F = 1. It leaves out how an expert is made.

Source: Ross, Gordon, Bagnell 2011, algorithm 3.1. For a language model a state is the text so far and an action is the
next token: the model writes, and the expert says, at each place, what it would have written there.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..expect import expect, expect_numbers, expect_tensor
from ..batch import Batch
from ..sample import sample


def coefficient(response_mask: Tensor) -> Tensor:
    """F(x, y) = 1 for each visited state and the expert's token there: response_mask (B, T) -> (B, T), 0 off the response."""
    expect_tensor("response_mask", response_mask, "B T", "bool")
    return response_mask.float()


def loss(logprobs: Tensor, response_mask: Tensor) -> Tensor:
    """−log p(expert's token | visited state), (B, T), 0 off the response (Ross et al. 2011, section 2: the surrogate loss ℓ)."""
    expect_tensor("logprobs", logprobs, "B T", "float")
    B, T = logprobs.shape
    expect_tensor("response_mask", response_mask, "B T", "bool", B=B, T=T)
    logprobs = logprobs.where(response_mask, 0.0)
    expect_numbers("logprobs", logprobs.detach())
    return -logprobs


def visit(model, prompts: list[list[int]], expert: Callable[[list[int]], int], max_new_tokens: int, *,
          temperature: float = 1.0, generator: torch.Generator | None = None) -> Batch:
    """One round's draw: the model writes an answer to each prompt, the expert corrects every token of it.

    expert(ids so far) -> the id that it would write next. Returns `sample`'s Batch with targets (B, T): the expert's token at
    each place of the response, and pairs: every visited state is a pair (x, y), so that the mean runs over all of them. Score it
    with logprobs(model, tokens, response_mask, targets=targets).
    """
    batch = sample(model, prompts, max_new_tokens, temperature=temperature, generator=generator)
    batch.targets = batch.tokens.clone()
    for row, targets, mask in zip(batch.tokens.tolist(), batch.targets, batch.response_mask):
        for t in mask.nonzero()[:, 0].tolist():
            token = expert(row[:t])
            expect(isinstance(token, int) and 0 <= token < model.config.vocab_size, "expert's token", token,
                   f"ids run from 0 to {model.config.vocab_size - 1}")
            targets[t] = token
    batch.pairs = int(batch.response_mask.sum())
    return batch
