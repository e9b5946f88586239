"""What F is made of: rewards token by token, KL to a reference, returns, advantages, margins.

Tensors (B, T) are aligned with the tokens: a reward at t is paid for writing token t, a value at t is of the
text before t. What stands off the response is not read, and comes out 0.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .batch import Batch
from .expect import (
    expect, expect_aligned, expect_finite, expect_halves, expect_positive, expect_some_response, expect_tensor
)
from .logprob import answer_logprobs


def last_token(response_mask: Tensor) -> Tensor:
    """True on the last token of each response, the end token where there is one: (B, T) -> (B, T)."""
    expect_tensor("response_mask", response_mask, "B T", "bool")
    expect_some_response(response_mask)
    count = response_mask.long().cumsum(1)
    return response_mask & (count == count[:, -1:])


def place_rewards(rewards: Tensor, response_mask: Tensor) -> Tensor:
    """An answer's reward, paid on its last token and nowhere else: (B,) -> (B, T)."""
    expect_tensor("rewards", rewards, "B", "finite", B=len(response_mask))
    return rewards.detach()[:, None].where(last_token(response_mask), 0.0)


def log_ratio(logprobs: Tensor, reference: Tensor, response_mask: Tensor) -> Tensor:
    """log p/p_ref of each token, (B, T), 0 off the response. E_p of its sum over y is KL(p ‖ p_ref)."""
    expect_aligned(response_mask, logprobs=logprobs, reference=reference)
    ratio = logprobs.where(response_mask, 0.0) - reference.detach().where(response_mask, 0.0)
    expect_finite("(logprobs − reference)", ratio.detach())
    return ratio


def kl(logprobs: Tensor, reference: Tensor, response_mask: Tensor, kind: str = "k1") -> Tensor:
    """An estimate of KL(p ‖ p_ref) from each token drawn from p, (B, T). Schulman 2020, "Approximating KL
    divergence".

    With r = p_ref/p: k1 = −log r, k2 = (log r)²/2 (biased), k3 = r − 1 − log r (never negative).
    """
    d = log_ratio(logprobs, reference, response_mask)
    expect(kind in ("k1", "k2", "k3"), "kind", repr(kind), "give 'k1', 'k2' or 'k3'")
    return {"k1": lambda: d, "k2": lambda: d**2 / 2, "k3": lambda: torch.expm1(-d) + d}[kind]()


def kl_coefficient(logprobs: Tensor, reference: Tensor, response_mask: Tensor, kind: str) -> Tensor:
    """F of a KL that is a loss, −dk/d log p, (B, T): add β times it to a method's F.

    k2 gives log p_ref/p: down the KL of each token's distribution, the texts before it frozen. k3 gives
    p_ref/p − 1, which goes down KL(p_ref ‖ p), the other way round. k1 would give −1: on the policy's own
    samples that is 0 on average.
    """
    expect(kind in ("k2", "k3"), "kind", repr(kind),
           "give 'k2' or 'k3'; k1 belongs into the reward: as a loss its mean gradient is 0")
    d = log_ratio(logprobs, reference, response_mask).detach()
    return -d if kind == "k2" else torch.expm1(-d)


def rewards_with_kl(rewards: Tensor, logprobs: Tensor, reference: Tensor, response_mask: Tensor,
                    beta: float) -> Tensor:
    """R(x, y) on the last token and −β·k1 on every token, (B, T): their sum over y is R − β log p/p_ref
    (Ouyang et al. 2022, eq. 2).

    k1 alone belongs here: the gradient of E[R − β·KL] takes each sample's log-ratio, not another number of
    the same mean.
    """
    expect(beta >= 0, "beta", beta, "give 0 or more")
    paid = place_rewards(rewards, response_mask)                                    # (B, T)
    return paid - beta * log_ratio(logprobs, reference, response_mask).detach()


def gae(rewards: Tensor, values: Tensor, response_mask: Tensor, gamma: float = 1.0,
        lam: float = 0.95) -> Tensor:
    """Advantages Σ_l (γλ)^l δ_{t+l}, δ_t = r_t + γ V_{t+1} − V_t, (B, T). Schulman et al. 2016, eq. 16. V
    after the last token is 0.

    λ = 1 is reward-to-go less V; λ = 0 trusts V at the next token. Tokens between that others wrote take no
    time.
    """
    B, T = expect_aligned(response_mask, rewards=rewards, values=values)
    for name, share in (("gamma", gamma), ("lam", lam)):
        expect(0 <= share <= 1, name, share, "give a number from 0 to 1")
    rewards, values = rewards.detach().where(response_mask, 0.0), values.detach().where(response_mask, 0.0)
    expect_finite("rewards", rewards)
    expect_finite("values", values)
    advantages, ahead, value = torch.zeros_like(values), values.new_zeros(B), values.new_zeros(B)
    for t in range(T - 1, -1, -1):
        here = response_mask[:, t]
        step = rewards[:, t] + gamma * value - values[:, t] + gamma * lam * ahead
        ahead, value = step.where(here, ahead), values[:, t].where(here, value)
        advantages[:, t] = ahead.where(here, 0.0)
    return advantages


def reward_to_go(rewards: Tensor, response_mask: Tensor, gamma: float = 1.0) -> Tensor:
    """Σ_{l ≥ 0} γ^l r_{t+l}: what is still to be had when token t is written, (B, T). Token t can't change
    what was paid before it."""
    return gae(rewards, torch.zeros_like(rewards), response_mask, gamma, 1.0)


def whiten(advantages: Tensor, response_mask: Tensor) -> Tensor:
    """Mean 0 and variance 1 over all response tokens of the batch, (B, T). The mean is not added back; all
    equal gives all 0."""
    expect_aligned(response_mask, advantages=advantages)
    inside = advantages.detach()[response_mask]
    expect_finite("advantages", inside)
    centred = advantages.detach() - inside.mean()
    return (centred / (inside.var(correction=0) + 1e-8).sqrt()).where(response_mask, 0.0)


def adapt_beta(beta: float, kl: float, target: float, rate: float = 0.1) -> float:
    """β for the next batch: larger where the KL is above its target (Ziegler et al. 2019, section 2.2; the
    error is cut to ±0.2)."""
    expect_positive(beta=beta, target=target)  # a beta of 0 can never grow
    expect(-1e9 < kl < 1e9, "kl", kl, "give the mean KL of a batch, in nats an answer")
    return beta * (1 + rate * max(-0.2, min(0.2, kl / target - 1)))


def margin(batch: Batch, logprobs: Tensor, average: bool = False) -> tuple[Tensor, Tensor]:
    """h (B,) and what each row is divided by, (2B,): log p/p_ref of the chosen answers, the first half of the
    rows (2B,), less that of the rejected, the second half. logprobs (2B, T); batch.reference (2B,): log
    p_ref(y|x).

    average: of means over tokens in place of sums, the rows divided by |y|; else by 1.
    """
    batch.needs(reference="B finite")
    answers = answer_logprobs(logprobs, batch.response_mask)                        # (2B,)
    expect_halves("logprobs", answers)
    size = batch.response_mask.sum(1) if average else torch.ones_like(batch.reference)
    chosen, rejected = (answers / size - batch.reference.detach() / size).chunk(2)
    return chosen - rejected, size
