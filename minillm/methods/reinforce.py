"""REINFORCE: the model makes y, the world makes R, and F = R − b.

A ladder, each step one term: R; a baseline b; with β, the KL to a reference (RLHF's objective E[R] − β·KL);
and R and b token by token, (B, T), reward-to-go and a critic's values. Sources: Williams 1992, eq. 4: Δw = α
(r − b) ∂ log p/∂w; Sutton et al. 2000, theorem 1 (Q in place of R); Ouyang et al. 2022, eq. 2 (the KL).
"""

from __future__ import annotations

from torch import Tensor

from .. import returns
from ..batch import Batch
from ..expect import expect, expect_groups


def F(R: Tensor, b: Tensor | float = 0.0, beta: float = 0.0, log_ratio: Tensor | float = 0.0) -> Tensor:
    """R(x, y) − β·log p(y|x)/p_ref(y|x) − b(x), (B,); or (B, T), where each counts what is still to come at a
    token.

    b may depend on x, and at a token on the text so far, but not on what is written then. log_ratio gives F
    its value, and no gradient.
    """
    return R - beta * log_ratio - b


def loss(logp: Tensor, R: Tensor, b: Tensor | float = 0.0, beta: float = 0.0,
         log_ratio: Tensor | float = 0.0) -> Tensor:
    """−F · log p, of the shape of R: its gradient is Williams' rule, for y drawn from the policy itself."""
    F_ = F(R, b, beta, log_ratio)
    return -(F_.detach() if isinstance(F_, Tensor) else F_) * logp


def coefficient(batch: Batch, logprobs: Tensor, beta: float = 0.0) -> Tensor:
    """F of a batch with rewards and, perhaps, baseline: (B,), or (B, T) for what is still to come at each
    token.

    With beta the batch has reference (B, T): log p_ref of each token.
    """
    by_token = batch.rewards is not None and batch.rewards.ndim == 2
    form = "B T finite" if by_token else "B finite"
    batch.needs(rewards=form, **({"baseline": form} if isinstance(batch.baseline, Tensor) else {}))
    expect(beta >= 0, "beta", beta, "give 0 or more")
    log_ratio = 0.0
    if beta:
        log_ratio = returns.log_ratio(logprobs, batch.reference, batch.response_mask)       # (B, T)
        log_ratio = returns.reward_to_go(log_ratio, batch.response_mask) if by_token else log_ratio.sum(1)
    return F(batch.rewards, batch.baseline, beta, log_ratio).detach()


def leave_one_out(rewards: Tensor, group: Tensor) -> Tensor:
    """A baseline that costs no model: the mean reward of the *other* answers to the same prompt, (B,), (B,)
    -> (B,).

    It does not depend on this y, so the gradient keeps its mean (Kool, van Hoof, Welling 2019). Groups hold
    two answers or more.
    """
    expect_groups(rewards, group, least=2)
    same = (group[:, None] == group).to(rewards.dtype)                              # (B, B)
    others = same.sum(1) - 1                                                        # (B,)
    return (same @ rewards - rewards) / others
