"""PPO: the model a moment ago makes y, F = ρ·A, and 0 where clipping stops it. It leaves out the loop over draws: that is `train`'s.

Its critic is a regression beside it: see critic. The KL to a reference is in the reward (`draw`), or a loss of its own: then add
β·returns.kl_coefficient to F. Sources: Schulman et al. 2017, eq. 7; Ouyang et al. 2022 (the language model's version).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from .. import returns
from ..expect import expect
from ..batch import Batch
from ..logprob import logprobs
from ..sample import sample


def coefficient(logprobs: Tensor, response_mask: Tensor, old: Tensor, advantages: Tensor, clip: float = 0.2) -> Tensor:
    """F (B, T) = ρ·A, ρ = p/p_old of the token; 0 where ρ > 1 + clip and A > 0, and where ρ < 1 − clip and A < 0: far enough already.

    old (B, T): log-probs when drawn. advantages (B, T). Each token is a pair (x, y): give surrogate pairs = response_mask.sum().
    """
    ratio, A = _ratio(logprobs.detach(), response_mask, old, advantages, clip)
    stopped = torch.where(A > 0, ratio > 1 + clip, ratio < 1 - clip)
    return torch.where(response_mask & ~stopped, ratio * A, 0.0)


def loss(logprobs: Tensor, response_mask: Tensor, old: Tensor, advantages: Tensor, clip: float = 0.2) -> Tensor:
    """−min(ρ·A, clip(ρ, 1 − ε, 1 + ε)·A), (B, T), 0 off the response: Schulman et al. 2017, eq. 7, unreduced."""
    ratio, A = _ratio(logprobs, response_mask, old, advantages, clip)
    return torch.where(response_mask, -torch.minimum(ratio * A, ratio.clamp(1 - clip, 1 + clip) * A), 0.0)


def _ratio(logprobs: Tensor, response_mask: Tensor, old: Tensor, advantages: Tensor, clip: float) -> tuple[Tensor, Tensor]:
    expect(clip > 0, "clip", clip, "give a positive number, or inf for none")
    returns.expect_aligned(response_mask, logprobs=logprobs, old=old, advantages=advantages)
    return returns.log_ratio(logprobs, old, response_mask).exp(), advantages.detach().where(response_mask, 0.0)


@torch.no_grad()
def draw(model, critic, reference, prompts: list[list[int]], reward: Callable[[Batch], Tensor], max_new_tokens: int, *,
         beta: float = 0.05, gamma: float = 1.0, lam: float = 0.95, n: int = 1, temperature: float = 1.0, end: int = 0,
         generator: torch.Generator | None = None) -> Batch:
    """`sample`'s Batch (its logprobs are p_old) with rewards (B,), kl (B,), values, advantages (white) and goals (B, T).

    reward(batch) -> (B,); an answer that was cut has ended False. The reference is scored at the temperature that drew.
    Train at it as well, or ρ is not 1 on fresh answers: score=partial(PolicyAndCritic.score, temperature=temperature).
    """
    batch = sample(model, prompts, max_new_tokens, n=n, temperature=temperature, end=end, generator=generator)
    mask, batch.rewards = batch.response_mask, reward(batch)
    other = logprobs(reference, batch.tokens, mask, temperature=temperature)
    paid = returns.rewards_with_kl(batch.rewards, batch.logprobs, other, mask, beta)  # (B, T)
    batch.kl = returns.log_ratio(batch.logprobs, other, mask).sum(1)                # (B,): what adapt_beta takes the mean of
    batch.values = critic(model.hidden(batch.tokens), mask)
    advantages = returns.gae(paid, batch.values, mask, gamma, lam)
    batch.goals, batch.advantages = advantages + batch.values, returns.whiten(advantages, mask)
    return batch


def minibatches(batch: Batch, rows: int, passes: int, generator: torch.Generator | None = None) -> Iterator[Batch]:
    """The rows in a new order each pass, `rows` at a time: each row once a pass, under p_old as it was drawn."""
    B = len(batch.tokens)
    expect(isinstance(rows, int) and 1 <= rows <= B, "rows", rows, f"give 1 to {B}, the rows of the batch")
    expect(isinstance(passes, int) and passes >= 1, "passes", passes, "give 1 or more")
    for _ in range(passes):
        for index in torch.randperm(B, generator=generator).to(batch.tokens.device).split(rows):
            yield Batch(**{k: v[index] if isinstance(v, Tensor) and v.shape[:1] == (B,) else v for k, v in vars(batch).items()})
