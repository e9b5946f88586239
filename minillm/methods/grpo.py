"""GRPO: the model a moment ago makes y, in groups; F = ρ·(R − mean)/std of its group, clipped, and its KL
term.

GRPO (Shao et al. 2024, eq. 3): reference, beta.
Dr. GRPO (Liu et al. 2025): advantages(…, divide=False), average=None, divide_by = rows · a constant.
RLOO (Ahmadian et al. 2024): advantages(…, divide=False, leave_one_out=True), average=None, clip=inf, one step
a draw.
DAPO (Yu et al. 2025, arXiv 2503.14476, eq. 8): clip_high=0.28, average="prompt". The paper divides by the
tokens of the prompt's own answers, so prompts weigh alike. The libraries verl and trl divide by the tokens of
the whole batch, so prompts with long answers weigh more: average=None, divide_by = response_mask.sum().
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .. import returns
from ..batch import Batch
from ..expect import expect, expect_groups, expect_positive
from ..logprob import logprobs
from ..sample import sample


def F(ratio: Tensor, A: Tensor, clip: float = 0.2, clip_high: float | None = None, beta: float = 0.0,
      log_ratio: Tensor | float = 0.0) -> Tensor:
    """ρ·A of a token, or 0 where clipping stops it, + β·(p_ref/p − 1). ρ is p/p_old, log_ratio is log
    p/p_ref.

    clip_high: the upper clip, where it differs. The KL term is the gradient of k3: it goes down KL(p_ref ‖ p)
    at each text so far, not KL(p ‖ p_ref).
    """
    high = clip if clip_high is None else clip_high
    stopped = torch.where(A > 0, ratio > 1 + high, ratio < 1 - clip)
    pull = beta * torch.expm1(-log_ratio) if beta else 0.0
    return torch.where(stopped, 0.0, ratio * A) + pull


def loss(ratio: Tensor, A: Tensor, clip: float = 0.2, clip_high: float | None = None, beta: float = 0.0,
         log_ratio: Tensor | float = 0.0) -> Tensor:
    """−{min(ρ·A, clip(ρ)·A) − β·k3} of a token: Shao et al. 2024, eq. 3 and 4, before the mean over y."""
    high = clip if clip_high is None else clip_high
    k3 = torch.expm1(-log_ratio) + log_ratio if beta else 0.0
    return -(torch.minimum(ratio * A, ratio.clamp(1 - clip, 1 + high) * A) - beta * k3)


def coefficient(batch: Batch, logprobs: Tensor, clip: float = 0.2, clip_high: float | None = None,
                beta: float = 0.0, average: str | None = "answer") -> Tensor:
    """F of a batch with logprobs (when drawn) and advantages (B,), (B, T), 0 off the response; beta needs
    reference (B, T).

    average: what a row's sum is divided by. "answer": its own length, eq. 3's 1/|y|; "prompt": the mean
    length of the prompt's answers, from batch.group (DAPO, eq. 8; keep a prompt's answers in one batch, and
    divide_by at the rows);
    None: nothing.
    """
    expect_positive(clip=clip, clip_high=clip if clip_high is None else clip_high)
    expect(average in ("answer", "prompt", None), "average", repr(average), "give 'answer', 'prompt' or None")
    batch.needs(logprobs="B T float", advantages="B float")
    mask = batch.response_mask
    ratio = returns.log_ratio(logprobs, batch.logprobs, mask).exp()                 # (B, T)
    log_ratio = returns.log_ratio(logprobs, batch.reference, mask) if beta else 0.0
    size = _size(batch, average, logprobs.dtype)
    return torch.where(mask, F(ratio, batch.advantages[:, None], clip, clip_high, beta, log_ratio) / size,
                       0.0)


def advantages(rewards: Tensor, group: Tensor, divide: bool = True, leave_one_out: bool = False,
               eps: float = 1e-4) -> Tensor:
    """(R − mean)/std of the answers to the same prompt, (B,), (B,) -> (B,); all equal gives 0. divide=False
    leaves out the std.

    leave_one_out: the mean is of the *other* answers, so that it is a baseline; with the answer's own reward
    in it the gradient shrinks by (G − 1)/G. The std is the sample's, with G − 1.
    eps: added to the std, so that all equal is not 0/0; 1e-4 as in the library trl, 1e-5 or 1e-6 elsewhere.
    It matters where rewards are small: at a std of 1e-3 A is 9 % smaller, at 1e-4 half.
    """
    expect_groups(rewards, group, least=2)
    expect(0 < eps < torch.inf, "eps", eps, "give a small positive number: equal rewards have a std of 0")
    same = (group[:, None] == group).to(rewards.dtype)                              # (B, B)
    G = same.sum(1)                                                                 # (B,)
    A = rewards.detach() - same @ rewards.detach() / G
    std = (same @ A**2 / (G - 1)).sqrt()  # A² of a group sums around its own mean
    return A * (G / (G - 1) if leave_one_out else 1) / (std + eps if divide else 1)


def _size(batch: Batch, average: str | None, dtype: torch.dtype) -> Tensor:
    """What a row's sum is divided by, (B, 1). Mean lengths of 1, 3, 4, 4 of two prompts give 2, 2, 4, 4.

    Tokens are divided by B/P, not by the prompt's rows: P prompts then weigh alike, if some have more rows.
    """
    length = batch.response_mask.sum(1, keepdim=True).to(dtype)                     # (B, 1)
    if average == "prompt":
        batch.needs(group="B integer")
        same = (batch.group[:, None] == batch.group).to(length)                     # (B, B)
        return same @ length * len(batch.group.unique()) / len(length)
    return length if average == "answer" else torch.ones_like(length)


@torch.no_grad()
def draw(model, prompts: list[list[int]], reward: Callable[[Batch], Tensor], max_new_tokens: int, *,
         n: int = 8, temperature: float = 1.0, end: int = 0, reference=None,
         generator: torch.Generator | None = None, **how: float) -> Batch:
    """`sample`'s Batch, n answers a prompt (its logprobs are p_old), with rewards, advantages (B,).

    reference: a model; then with its log-probs too, (B, T). how: divide, leave_one_out, eps of `advantages`.
    """
    batch = sample(model, prompts, max_new_tokens, n=n, temperature=temperature, end=end, generator=generator)
    batch.rewards = reward(batch)
    batch.advantages = advantages(batch.rewards, batch.group, **how)
    if reference is not None:
        batch.reference = logprobs(reference, batch, temperature)
    return batch
