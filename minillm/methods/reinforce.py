"""REINFORCE: the model makes y, the world makes R, and F = R − β log p/p_ref − b. It leaves out ratios and clips: see ppo.

A ladder, each step one argument: R; a baseline b; with β, the KL to a reference (RLHF's objective E[R] − β·KL); and R and b token
by token, (B, T), reward-to-go and a critic's values. Sources: Williams 1992, eq. 4: Δw = α (r − b) ∂ log p/∂w; Sutton et al.
2000, theorem 1 (Q in place of R); Ouyang et al. 2022, eq. 2 (the KL).
"""

from __future__ import annotations

import math

from torch import Tensor

from ..expect import expect, expect_finite, expect_tensor
from ..logprob import answer_logprobs


def coefficient(rewards: Tensor, baseline: Tensor | float = 0.0, beta: float = 0.0, log_ratio: Tensor | float = 0.0) -> Tensor:
    """F(x, y) = R(x, y) − β·log p(y|x)/p_ref(y|x) − b(x), of the shape of rewards: (B,), or (B, T) for what is still to come at a token.

    baseline: a number, or of that shape; it may depend on x, and at a token on the text so far, but not on what is written then.
    log_ratio: of that shape too, summed over y (or over what is to come). It gives F its value and no gradient.
    """
    _expect(rewards, baseline=baseline, beta=beta, log_ratio=log_ratio)
    F = rewards - beta * log_ratio - baseline
    return F.detach()


def leave_one_out(rewards: Tensor, group: Tensor) -> Tensor:
    """A baseline that costs no model: the mean reward of the *other* answers to the same prompt, (B,), (B,) -> (B,).

    It does not depend on this y, so the gradient keeps its mean (Kool, van Hoof, Welling 2019). Groups hold two answers or more.
    """
    expect_tensor("rewards", rewards, "B", "float")
    expect_finite("rewards", rewards)
    expect_tensor("group", group, "B", "integer", B=len(rewards))
    same = (group[:, None] == group).to(rewards.dtype)                              # (B, B): 1 where two rows share a prompt
    others = same.sum(1) - 1                                                        # (B,)
    expect(bool((others >= 1).all()), "group", f"{group[others < 1].tolist()[:3]}, with one answer each", "draw at least two answers to each prompt")
    return (same @ rewards - rewards) / others


def loss(logprobs: Tensor, response_mask: Tensor, rewards: Tensor, baseline: Tensor | float = 0.0, beta: float = 0.0,
         log_ratio: Tensor | float = 0.0) -> Tensor:
    """−(R − β·log p/p_ref − b) · log p(y|x), (B,), or Σ_t of it: its gradient is Williams' rule, for y drawn from the policy itself."""
    weight = coefficient(rewards, baseline, beta, log_ratio)
    if weight.ndim == 1:
        expect_tensor("rewards", rewards, "B", "float", B=len(logprobs))
        return -weight * answer_logprobs(logprobs, response_mask)
    expect_tensor("rewards", rewards, "B T", "float", B=len(logprobs), T=logprobs.shape[1])
    return answer_logprobs(-weight * logprobs, response_mask)


def _expect(rewards: Tensor, **others: Tensor | float) -> None:
    expect_tensor("rewards", rewards, "B T" if isinstance(rewards, Tensor) and rewards.ndim == 2 else "B", "float")
    expect_finite("rewards", rewards)
    for name, other in others.items():
        if isinstance(other, Tensor) and other.ndim > 0:
            expect_tensor(name, other, "B T" if rewards.ndim == 2 else "B", "float", **dict(zip("BT", rewards.shape)))
            expect_finite(name, other.detach())
        else:
            expect(math.isfinite(other), name, other, "give a number, or one for each answer")
