"""REINFORCE: the model makes y, the world makes R, and F = R − b. It leaves out critics, ratios and clips (see ppo, to come).

Source: Williams 1992, "Simple statistical gradient-following algorithms", eq. 4: Δw = α (r − b) ∂ log p/∂w.
"""

from __future__ import annotations

import math

from torch import Tensor

from ..expect import expect, expect_finite, expect_tensor
from ..logprob import answer_logprobs


def coefficient(rewards: Tensor, baseline: Tensor | float = 0.0) -> Tensor:
    """F(x, y) = R(x, y) − b(x): rewards (B,) -> (B,). The baseline, a number or (B,), may depend on x but not on this y."""
    _expect(rewards, baseline)
    return (rewards - baseline).detach()


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


def loss(logprobs: Tensor, response_mask: Tensor, rewards: Tensor, baseline: Tensor | float = 0.0) -> Tensor:
    """−(R − b) · log p(y|x), (B,): the form whose gradient is Williams' rule, for y drawn from the policy itself."""
    _expect(rewards, baseline)
    expect_tensor("rewards", rewards, "B", "float", B=len(logprobs))
    return -(rewards - baseline) * answer_logprobs(logprobs, response_mask)


def _expect(rewards: Tensor, baseline: Tensor | float) -> None:
    expect_tensor("rewards", rewards, "B", "float")
    expect_finite("rewards", rewards)
    if isinstance(baseline, Tensor) and baseline.ndim > 0:
        expect_tensor("baseline", baseline, "B", "float", B=len(rewards))
        expect_finite("baseline", baseline)
    else:
        expect(math.isfinite(baseline), "baseline", baseline, "give a number, or one for each answer")
