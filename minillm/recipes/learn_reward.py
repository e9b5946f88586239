"""Learn a reward: a model of what people choose, on a copy of the policy. F = 1 on the choices."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..batch import Batch, batch_pairs
from ..methods import reward_model
from ..train import Settings, train
from .compare import Comparison, Ranked


def learn_reward(model, ranked: Sequence[Ranked], steps: int, rates: dict, seed: int, rows: int = 12,
                 **how) -> tuple[reward_model.RewardModel, list[dict]]:
    """A reward model and `train`'s rows, with the loss: `rows` prompts with all their comparisons a step."""
    judge = reward_model.RewardModel(copy.deepcopy(model))

    def draw(step: int) -> Batch:
        some = random.Random(f"reward/{seed}/{step}").sample(ranked, min(rows, len(ranked)))
        return reward_model.draw([(r.prompt, r.answers) for r in some])

    def watch(batch: Batch, rewards: Tensor, coefficient: Tensor) -> dict[str, float]:
        losses = batch.weight * reward_model.loss(reward_model.gaps(batch, rewards))
        return {"loss": float(losses.sum() / batch.divide_by)}

    settings = Settings(steps, decay=0.9, **rates)
    return judge, train(judge, draw, reward_model.coefficient, settings, reward_model.score, watch, **how)


@torch.no_grad()
def gaps(judge: reward_model.RewardModel, comparisons: Sequence[Comparison]) -> Tensor:
    """r(chosen) − r(rejected) of each (prompt, chosen, rejected), (P,)."""
    parts = []
    for i in range(0, len(comparisons), 64):
        some = comparisons[i:i + 64]
        batch = batch_pairs([(x, w) for x, w, _ in some] + [(x, l) for x, _, l in some]).to(judge.head.device)
        chosen, rejected = judge(batch.tokens, batch.response_mask).chunk(2)
        parts.append(chosen - rejected)
    return torch.cat(parts)


def judged_by(judge: reward_model.RewardModel) -> Callable[[Batch], Tensor]:
    """The learned reward of a batch's answers, (B,), without a gradient."""
    def reward(batch: Batch) -> Tensor:
        with torch.no_grad():
            return judge(batch.tokens, batch.response_mask)
    return reward
