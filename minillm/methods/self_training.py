"""Self-training: the model makes y, and a filter says which to keep: F = 1[kept].

Rejection sampling, best-of-n, STaR and expert iteration differ in the filter and in how often the model that
samples is replaced by the one that was trained. Sources: Anthony, Tian, Barber 2017 (expert iteration);
Zelikman et al. 2022 (STaR).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..batch import Batch
from ..expect import expect, expect_groups
from ..sample import sample


def F(keep: Tensor) -> Tensor:
    """1 if the filter keeps y, else 0: keep (B,) bool -> (B,).

    On the model's own samples this is the gradient of P(kept) itself (STaR's eq. 1): a reward of 0 or 1
    without a baseline.
    """
    return keep.float()


def loss(logp: Tensor, keep: Tensor) -> Tensor:
    """−1[kept] · log p(y|x), (B,): the loss on what was kept (Zelikman et al. 2022, section 3.1)."""
    return torch.where(keep, -logp, 0.0)


def coefficient(batch: Batch, logprobs: Tensor | None = None) -> Tensor:
    """F of a batch with `keep`, (B,)."""
    batch.needs(keep="B bool")
    return F(batch.keep)


def best_of_n(rewards: Tensor, group: Tensor) -> Tensor:
    """Keep the best answer of each group, the first of equals: rewards (B,), group (B,) -> keep (B,) bool."""
    expect_groups(rewards, group)
    keep = torch.zeros_like(rewards, dtype=torch.bool)
    for g in group.unique():
        members = (group == g).nonzero()[:, 0]
        keep[members[rewards[members].argmax()]] = True
    return keep


def expert_iteration(model, prompts: list[list[int]], judge: Callable[[int, list[int]], bool],
                     max_new_tokens: int, *, n: int = 4, temperature: float = 1.0, end: int = 0,
                     generator: torch.Generator | None = None) -> Batch:
    """One round's draw: n answers to each prompt by the model, each judged. Train on it, and call again with
    the new model.

    judge(i, response ids) -> keep, for an answer to prompts[i]. An answer that never ended is never kept: log
    p of a text that was cut is not log p of an answer. Returns `sample`'s Batch with keep (B·n,) bool.
    """
    expect(0 < temperature, "temperature", temperature,
           "give more than 0: greedy answers to one prompt are all the same")
    batch = sample(model, prompts, max_new_tokens, n=n, temperature=temperature, end=end, generator=generator)
    drawn = zip(batch.responses(), batch.ended.tolist(), batch.group.tolist())
    batch.keep = torch.tensor([bool(ended) and judge(g, y) for y, ended, g in drawn],
                              device=batch.tokens.device)
    return batch
