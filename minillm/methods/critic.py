"""Critic: a regression, F = goal − V on ∇V. The policy's own F is then A, made by `returns.gae`. It leaves out the policy.

With A = R_t − V in place of R − b, `reinforce.coefficient(to_go, values)` is the policy gradient with a critic. Sources: Sutton et
al. 2000, theorem 2; Schulman et al. 2016 (advantages).
"""

from __future__ import annotations

from types import SimpleNamespace

import torch
from torch import Tensor, nn

from ..expect import expect
from ..logprob import logprobs
from ..returns import expect_aligned


class Critic(nn.Module):
    """V(x, y so far): a linear head on hidden states (B, T, D) -> (B, T), read before each response token, 0 elsewhere. It begins at 0."""

    def __init__(self, d_model: int):
        super().__init__()
        self.head = nn.Linear(d_model, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, hidden: Tensor, response_mask: Tensor) -> Tensor:
        before = nn.functional.pad(self.head(hidden[:, :-1])[..., 0], (1, 0))       # (B, T)
        return torch.where(response_mask, before, 0.0)


class PolicyAndCritic(nn.Module):
    """One trunk with two heads, read once for both. `train` takes its `score`; F is the policy's, then the critic's.

    The critic reads the trunk and leaves it alone: its gradient stops at its own head. critic_into_trunk=True lets it
    through, and then what the critic learns moves the policy as well; chapter 11 measures how far.
    """

    def __init__(self, trunk: nn.Module, critic_into_trunk: bool = False):
        super().__init__()
        self.trunk, self.critic = trunk, Critic(trunk.config.d_model)
        self.critic_into_trunk = critic_into_trunk

    def score(self, tokens: Tensor, response_mask: Tensor, temperature: float = 1.0) -> Tensor:
        """[log p | V], (B, 2T), with gradient. temperature: y's when drawn, or ρ is not 1 on fresh answers.

        ppo.draw(…, temperature=0.7) needs train(…, score=partial(PolicyAndCritic.score, temperature=0.7)).
        """
        hidden = self.trunk.hidden(tokens)                                          # (B, T, D)
        read = SimpleNamespace(hidden=lambda _: hidden, logits=self.trunk.logits, config=self.trunk.config)
        seen = hidden if self.critic_into_trunk else hidden.detach()                # (B, T, D)
        logp = logprobs(read, tokens, response_mask, temperature=temperature)
        return torch.cat([logp, self.critic(seen, response_mask)], 1)


def coefficient(values: Tensor, response_mask: Tensor, old_values: Tensor, goals: Tensor, clip: float = torch.inf) -> Tensor:
    """F on ∇V, (B, T): goal − V; 0 where V left old ± clip and the clipped one misses by more. goals: advantages + old values."""
    near = _near(values.detach(), response_mask, old_values, goals, clip)
    missing = goals - values.detach()
    return torch.where(response_mask & (missing.abs() >= (goals - near).abs()), missing, 0.0)


def loss(values: Tensor, response_mask: Tensor, old_values: Tensor, goals: Tensor, clip: float = torch.inf) -> Tensor:
    """½·max((V − goal)², (V clipped to old ± clip − goal)²), (B, T): the value clip of OpenAI's baselines; inf: plain regression."""
    near = _near(values, response_mask, old_values, goals, clip)
    return torch.where(response_mask, torch.maximum((values - goals) ** 2, (near - goals) ** 2) / 2, 0.0)


def _near(values: Tensor, response_mask: Tensor, old_values: Tensor, goals: Tensor, clip: float) -> Tensor:
    expect(clip > 0, "clip", clip, "give a positive number, or inf for none")
    expect_aligned(response_mask, values=values, old_values=old_values, goals=goals)
    moved = values - old_values
    # Within the clip it is V itself: old + (V − old) may miss V by a rounding, and F would then be 0.
    return torch.where(moved.abs() > clip, old_values + moved.clamp(-clip, clip), values)
