"""PPO: the model a moment ago makes y, F = ρ·A, and 0 where clipping stops it.

Its critic is a regression beside it: see critic. The KL to a reference is in the reward (`draw`), or a loss
of its own: then add β·returns.kl_coefficient to F. Sources: Schulman et al. 2017, eq. 7; Ouyang et al. 2022
(the language model's version).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from .. import returns
from ..batch import Batch
from ..expect import expect_positive, expect_whole
from ..logprob import logprobs
from ..sample import sample


def F(ratio: Tensor, A: Tensor, clip: float = 0.2) -> Tensor:
    """ρ·A, ρ = p/p_old of a token; 0 where it has gone far enough already.

    That is where ρ > 1 + clip and A > 0, and where ρ < 1 − clip and A < 0.
    """
    stopped = torch.where(A > 0, ratio > 1 + clip, ratio < 1 - clip)
    return torch.where(stopped, 0.0, ratio * A)


def loss(ratio: Tensor, A: Tensor, clip: float = 0.2) -> Tensor:
    """−min(ρ·A, clip(ρ, 1 − ε, 1 + ε)·A): Schulman et al. 2017, eq. 7, unreduced."""
    return -torch.minimum(ratio * A, ratio.clamp(1 - clip, 1 + clip) * A)


def coefficient(batch: Batch, logprobs: Tensor, clip: float = 0.2) -> Tensor:
    """F of a batch with logprobs (when drawn) and advantages, (B, T), 0 off the response.

    Each token is a pair (x, y): batch.divide_by is response_mask.sum().
    """
    expect_positive(clip=clip)
    batch.needs(logprobs="B T float", advantages="B T float")
    ratio = returns.log_ratio(logprobs, batch.logprobs, batch.response_mask).exp()
    return torch.where(batch.response_mask, F(ratio, batch.advantages, clip), 0.0)


@torch.no_grad()
def draw(model, critic, reference, prompts: list[list[int]], reward: Callable[[Batch], Tensor],
         max_new_tokens: int, *, beta: float = 0.05, gamma: float = 1.0, lam: float = 0.95, n: int = 1,
         temperature: float = 1.0, end: int = 0, generator: torch.Generator | None = None) -> Batch:
    """`sample`'s Batch (its logprobs are p_old) with rewards (B,), kl (B,), values, advantages (white) and
    goals (B, T).

    reward(batch) -> (B,); an answer that was cut has ended False. The reference is scored at the temperature
    that drew. Train at it as well, or ρ is not 1 on fresh answers: score=partial(PolicyAndCritic.score,
    temperature=temperature).
    """
    batch = sample(model, prompts, max_new_tokens, n=n, temperature=temperature, end=end, generator=generator)
    mask, batch.rewards = batch.response_mask, reward(batch)
    other = logprobs(reference, batch, temperature)
    paid = returns.rewards_with_kl(batch.rewards, batch.logprobs, other, mask, beta)  # (B, T)
    batch.kl = returns.log_ratio(batch.logprobs, other, mask).sum(1)                # (B,)
    batch.values = critic(model.hidden(batch.tokens), mask)
    advantages = returns.gae(paid, batch.values, mask, gamma, lam)
    batch.goals, batch.advantages = advantages + batch.values, returns.whiten(advantages, mask)
    return batch


def minibatches(batch: Batch, rows: int, passes: int,
                generator: torch.Generator | None = None) -> Iterator[Batch]:
    """The rows in a new order each pass, `rows` at a time: each row once a pass, under p_old as it was drawn.

    Each token is a pair (x, y), so divide_by counts the tokens of a minibatch's answers.
    """
    B = len(batch.tokens)
    expect_whole(1, B + 1, rows=rows)
    expect_whole(1, passes=passes)
    for _ in range(passes):
        for index in torch.randperm(B, generator=generator).to(batch.tokens.device).split(rows):
            some = batch.rows(index)
            some.divide_by = int(some.response_mask.sum())
            yield some
