"""GRPO: the model a moment ago makes y, in groups; F = ρ·(R − mean)/std of its group, clipped, and its KL term. It leaves out critics.

GRPO (Shao et al. 2024, eq. 3): reference, beta.
Dr. GRPO (Liu et al. 2025): divide=False, average=False, pairs = rows · a constant.
RLOO (Ahmadian et al. 2024): divide=False, leave_one_out=True, average=False, clip=inf, one step a draw.
DAPO (Yu et al. 2025, arXiv 2503.14476, eq. 8): clip_high=0.28, group=batch.group. The paper divides by the
tokens of the prompt's own answers, so prompts weigh alike. The libraries verl and trl divide by the tokens of
the whole batch, so prompts with long answers weigh more: average=False, pairs = response_mask.sum().
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .. import returns
from ..expect import expect, expect_finite, expect_tensor
from ..batch import Batch
from ..logprob import logprobs
from ..sample import sample


def advantages(rewards: Tensor, group: Tensor, divide: bool = True, leave_one_out: bool = False,
               eps: float = 1e-4) -> Tensor:
    """(R − mean)/std of the answers to the same prompt, (B,), (B,) -> (B,); all equal gives 0. divide=False leaves out the std.

    leave_one_out: the mean is of the *other* answers, so that it is a baseline; with the answer's own reward in it the gradient
    shrinks by (G − 1)/G. The std is the sample's, with G − 1.
    eps: added to the std, so that all equal is not 0/0; 1e-4 as in the library trl, 1e-5 or 1e-6 elsewhere.
    It matters where rewards are small: at a std of 1e-3 A is 9 % smaller, at 1e-4 half.
    """
    expect_tensor("rewards", rewards, "B", "float")
    expect_finite("rewards", rewards)
    expect_tensor("group", group, "B", "integer", B=len(rewards))
    expect(0 < eps < torch.inf, "eps", eps, "give a small positive number: equal rewards have a std of 0")
    same = (group[:, None] == group).to(rewards.dtype)                              # (B, B): 1 where two rows share a prompt
    G = same.sum(1)                                                                 # (B,)
    expect(bool((G >= 2).all()), "group", f"{group[G < 2].tolist()[:3]}, with one answer each", "draw at least two answers to each prompt")
    A = rewards.detach() - same @ rewards.detach() / G
    std = (same @ A**2 / (G - 1)).sqrt()  # A² of a group sums around its own mean
    return A * (G / (G - 1) if leave_one_out else 1) / (std + eps if divide else 1)


def coefficient(logprobs: Tensor, response_mask: Tensor, old: Tensor, advantages: Tensor, clip: float = 0.2,
                clip_high: float | None = None, reference: Tensor | None = None, beta: float = 0.0,
                average: bool = True, group: Tensor | None = None) -> Tensor:
    """F (B, T) = {ρ·A, or 0 where clipping stops it, + β·(p_ref/p − 1)} / |y|, from advantages (B,); old, reference (B, T).

    clip_high: the upper clip, where it differs. average=False leaves out eq. 3's 1/|y|. The KL term is the gradient of k3: it goes
    down KL(p_ref ‖ p) at each text so far, not KL(p ‖ p_ref).
    group (B,), a number for each prompt: |y| is then the mean length of the prompt's answers (DAPO, eq. 8).
    Keep a prompt's answers in one batch, and the surrogate's pairs at B, the rows.
    """
    logprobs = logprobs.detach()
    ratio, A, high, size = _parts(logprobs, response_mask, old, advantages, clip, clip_high, average, group)
    stopped = torch.where(A > 0, ratio > 1 + high, ratio < 1 - clip)
    pull = beta * returns.kl_coefficient(logprobs, reference, response_mask, "k3") if beta else 0.0
    return torch.where(response_mask, (torch.where(stopped, 0.0, ratio * A) + pull) / size, 0.0)


def loss(logprobs: Tensor, response_mask: Tensor, old: Tensor, advantages: Tensor, clip: float = 0.2,
         clip_high: float | None = None, reference: Tensor | None = None, beta: float = 0.0,
         average: bool = True, group: Tensor | None = None) -> Tensor:
    """−1/|y| Σ_t {min(ρ·A, clip(ρ)·A) − β·k3}, (B,): Shao et al. 2024, eq. 3 and 4, unreduced."""
    ratio, A, high, size = _parts(logprobs, response_mask, old, advantages, clip, clip_high, average, group)
    cost = beta * returns.kl(logprobs, reference, response_mask, "k3") if beta else 0.0
    value = torch.minimum(ratio * A, ratio.clamp(1 - clip, 1 + high) * A) - cost
    return -(torch.where(response_mask, value, 0.0) / size).sum(1)


def _parts(logprobs: Tensor, response_mask: Tensor, old: Tensor, advantages: Tensor, clip: float,
           clip_high: float | None, average: bool, group: Tensor | None):
    """ρ (B, T), A (B, 1), the upper clip, and what a row's sum is divided by, (B, 1) or 1."""
    high = clip if clip_high is None else clip_high
    expect(clip > 0 and high > 0, "clip, clip_high", (clip, high), "give positive numbers, or inf for none")
    expect_tensor("advantages", advantages, "B", "float", B=len(logprobs))
    returns.expect_aligned(response_mask, logprobs=logprobs, old=old)
    size = response_mask.sum(1, keepdim=True) if average else 1
    if group is not None:
        expect(average, "average", average, "leave it out with group, which divides by a mean length")
        size = _mean_length(response_mask.sum(1).to(logprobs), group)[:, None]
    return returns.log_ratio(logprobs, old, response_mask).exp(), advantages.detach()[:, None], high, size


def _mean_length(length: Tensor, group: Tensor) -> Tensor:
    """Of the answers to a row's prompt, (B,), (B,) -> (B,): 1, 3, 4, 4 of two prompts give 2, 2, 4, 4.

    Tokens are divided by B/P, not by the prompt's rows: P prompts then weigh alike, if some have more rows.
    """
    expect_tensor("group", group, "B", "integer", B=len(length))
    tokens = ((group[:, None] == group) * length).sum(1)  # (B,): of all answers to the row's prompt
    return tokens * len(group.unique()) / len(group)


@torch.no_grad()
def draw(model, prompts: list[list[int]], reward: Callable[[Batch], Tensor], max_new_tokens: int, *, n: int = 8, temperature: float = 1.0,
         end: int = 0, reference=None, generator: torch.Generator | None = None, **how: float) -> Batch:
    """`sample`'s Batch, n answers a prompt (its logprobs are p_old), with rewards, advantages (B,).

    reference: a model; then with its log-probs too, (B, T). how: divide, leave_one_out, eps of `advantages`.
    """
    batch = sample(model, prompts, max_new_tokens, n=n, temperature=temperature, end=end, generator=generator)
    batch.rewards = reward(batch)
    batch.advantages = advantages(batch.rewards, batch.group, **how)
    if reference is not None:
        batch.reference = logprobs(reference, batch.tokens, batch.response_mask, temperature=temperature)
    return batch
