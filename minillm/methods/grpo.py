"""GRPO: the model a moment ago makes y, in groups; F = ρ·(R − mean)/std of its group, clipped, and its KL term. It leaves out critics.

GRPO (Shao et al. 2024, eq. 3): reference, beta. Dr. GRPO (Liu et al. 2025): divide=False, average=False, pairs = rows · a constant.
RLOO (Ahmadian et al. 2024): divide=False, leave_one_out=True, average=False, clip=inf, one step a draw. DAPO (Yu et al. 2025, eq. 8):
average=False, clip_high=0.28, pairs = response_mask.sum().
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .. import returns
from ..expect import expect, expect_finite, expect_tensor
from ..logprob import Batch, logprobs
from ..sample import sample


def advantages(rewards: Tensor, group: Tensor, divide: bool = True, leave_one_out: bool = False) -> Tensor:
    """(R − mean)/std of the answers to the same prompt, (B,), (B,) -> (B,); all equal gives 0. divide=False leaves out the std.

    leave_one_out: the mean is of the *other* answers, so that it is a baseline; with the answer's own reward in it the gradient
    shrinks by (G − 1)/G. The std is the sample's, with G − 1, and has 1e-4 added, as in the library trl.
    """
    expect_tensor("rewards", rewards, "B", "float")
    expect_finite("rewards", rewards)
    expect_tensor("group", group, "B", "integer", B=len(rewards))
    same = (group[:, None] == group).to(rewards.dtype)                              # (B, B): 1 where two rows share a prompt
    G = same.sum(1)                                                                 # (B,)
    expect(bool((G >= 2).all()), "group", f"{group[G < 2].tolist()[:3]}, with one answer each", "draw at least two answers to each prompt")
    A = rewards.detach() - same @ rewards.detach() / G
    std = (same @ A**2 / (G - 1)).sqrt()  # A² of a group sums around its own mean
    return A * (G / (G - 1) if leave_one_out else 1) / (std + 1e-4 if divide else 1)


def coefficient(logprobs: Tensor, response_mask: Tensor, old: Tensor, advantages: Tensor, clip: float = 0.2, clip_high: float | None = None,
                reference: Tensor | None = None, beta: float = 0.0, average: bool = True) -> Tensor:
    """F (B, T) = {ρ·A, or 0 where clipping stops it, + β·(p_ref/p − 1)} / |y|, from advantages (B,); old, reference (B, T).

    clip_high: the upper clip, where it differs. average=False leaves out eq. 3's 1/|y|. The KL term is the gradient of k3: it goes
    down KL(p_ref ‖ p) at each text so far, not KL(p ‖ p_ref).
    """
    ratio, A, high, size = _parts(logprobs.detach(), response_mask, old, advantages, clip, clip_high, average)
    stopped = torch.where(A > 0, ratio > 1 + high, ratio < 1 - clip)
    pull = beta * returns.kl_coefficient(logprobs, reference, response_mask, "k3") if beta else 0.0
    return torch.where(response_mask, (torch.where(stopped, 0.0, ratio * A) + pull) / size, 0.0)


def loss(logprobs: Tensor, response_mask: Tensor, old: Tensor, advantages: Tensor, clip: float = 0.2, clip_high: float | None = None,
         reference: Tensor | None = None, beta: float = 0.0, average: bool = True) -> Tensor:
    """−1/|y| Σ_t {min(ρ·A, clip(ρ)·A) − β·k3}, (B,): Shao et al. 2024, eq. 3 and 4, unreduced."""
    ratio, A, high, size = _parts(logprobs, response_mask, old, advantages, clip, clip_high, average)
    cost = beta * returns.kl(logprobs, reference, response_mask, "k3") if beta else 0.0
    value = torch.minimum(ratio * A, ratio.clamp(1 - clip, 1 + high) * A) - cost
    return -(torch.where(response_mask, value, 0.0) / size).sum(1)


def _parts(logprobs: Tensor, response_mask: Tensor, old: Tensor, advantages: Tensor, clip: float, clip_high: float | None, average: bool):
    """ρ (B, T), A (B, 1), the upper clip, and |y| (B, 1) or 1."""
    high = clip if clip_high is None else clip_high
    expect(clip > 0 and high > 0, "clip, clip_high", (clip, high), "give positive numbers, or inf for none")
    expect_tensor("advantages", advantages, "B", "float", B=len(logprobs))
    returns.expect_aligned(response_mask, logprobs=logprobs, old=old)
    size = response_mask.sum(1, keepdim=True) if average else 1
    return returns.log_ratio(logprobs, old, response_mask).exp(), advantages.detach()[:, None], high, size


@torch.no_grad()
def draw(model, prompts: list[list[int]], reward: Callable[[Batch], Tensor], max_new_tokens: int, *, n: int = 8, temperature: float = 1.0,
         end: int = 0, reference=None, generator: torch.Generator | None = None, **how: bool) -> Batch:
    """`sample`'s Batch, n answers a prompt (its logprobs are p_old), with rewards, advantages (B,), made `how`, and reference (B, T)."""
    batch = sample(model, prompts, max_new_tokens, n=n, temperature=temperature, end=end, generator=generator)
    batch.rewards = reward(batch)
    batch.advantages = advantages(batch.rewards, batch.group, **how)
    if reference is not None:
        batch.reference = logprobs(reference, batch.tokens, batch.response_mask, temperature=temperature)
    return batch
