"""Critic: a regression beside the policy, F = goal − V on ∇V. The policy's own F is then A, made by
`returns.gae`.

With A = R_t − V in place of R − b, `reinforce.F(to_go, values)` is the policy gradient with a critic.
Sources: Sutton et al. 2000, theorem 2; Schulman et al. 2016 (advantages).
"""

from __future__ import annotations

from types import SimpleNamespace

import torch
from torch import Tensor, nn

from ..batch import Batch
from ..expect import expect_positive
from ..logprob import logprobs


def F(V: Tensor, goal: Tensor, old: Tensor | float = 0.0, clip: float = torch.inf) -> Tensor:
    """goal − V; 0 where V left old ± clip and the clipped one misses by more. Goals are A + old values."""
    missing = goal - V
    return torch.where(missing.abs() >= (goal - _clipped(V, old, clip)).abs(), missing, 0.0)


def loss(V: Tensor, goal: Tensor, old: Tensor | float = 0.0, clip: float = torch.inf) -> Tensor:
    """½·max((V − goal)², (V clipped to old ± clip − goal)²): the value clip of OpenAI's baselines."""
    return torch.maximum((V - goal) ** 2, (_clipped(V, old, clip) - goal) ** 2) / 2


def _clipped(V: Tensor, old: Tensor | float, clip: float) -> Tensor:
    moved = V - old
    # Within the clip it is V itself: old + (V − old) may miss V by a rounding, and F would then be 0.
    return torch.where(moved.abs() > clip, old + moved.clamp(-clip, clip), V)


def coefficient(batch: Batch, values: Tensor, clip: float = torch.inf) -> Tensor:
    """F of a batch with goals and values (when it was drawn), (B, T), 0 off the response.

    values (B, T): V now.
    """
    expect_positive(clip=clip)
    batch.needs(values="B T float", goals="B T float")
    return torch.where(batch.response_mask, F(values, batch.goals, batch.values, clip), 0.0)


class Critic(nn.Module):
    """V(x, y so far): a linear head on hidden states (B, T, D) -> (B, T), read before each response token, 0
    elsewhere.

    It begins at 0.
    """

    def __init__(self, d_model: int):
        super().__init__()
        self.head = nn.Linear(d_model, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, hidden: Tensor, response_mask: Tensor) -> Tensor:
        before = nn.functional.pad(self.head(hidden[:, :-1])[..., 0], (1, 0))       # (B, T)
        return torch.where(response_mask, before, 0.0)


class PolicyAndCritic(nn.Module):
    """One trunk with two heads, read once for both. `train` takes its `score`; F is a dict with the same two
    keys.

    The critic reads the trunk and leaves it alone: its gradient stops at its own head. critic_into_trunk=True
    lets it through, and then what the critic learns moves the policy as well; chapter 11 measures how far.
    """

    def __init__(self, trunk: nn.Module, critic_into_trunk: bool = False):
        super().__init__()
        self.trunk, self.critic = trunk, Critic(trunk.config.d_model)
        self.critic_into_trunk = critic_into_trunk

    def score(self, batch: Batch, temperature: float = 1.0) -> dict[str, Tensor]:
        """{"policy": log p, "critic": V}, (B, T) each, with gradient. temperature: y's when drawn, or ρ is
        not 1 at first.

        ppo.draw(…, temperature=0.7) needs train(…, score=partial(PolicyAndCritic.score, temperature=0.7)).
        """
        hidden = self.trunk.hidden(batch.tokens)                                    # (B, T, D)
        read = SimpleNamespace(hidden=lambda _: hidden, logits=self.trunk.logits, config=self.trunk.config)
        seen = hidden if self.critic_into_trunk else hidden.detach()                # (B, T, D)
        return {"policy": logprobs(read, batch, temperature),
                "critic": self.critic(seen, batch.response_mask)}
