"""PPO against a reward: answers drawn, then several passes over them. The critic is a second head on the
policy's trunk."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from ..batch import Batch
from ..methods import critic, ppo
from ..train import Settings, train
from . import LONGEST


def F(batch: Batch, scores: dict[str, Tensor]) -> dict[str, Tensor]:
    """PPO's F on the policy's log-probs, and half the critic's on its values: one step for both."""
    return {"policy": ppo.coefficient(batch, scores["policy"]),
            "critic": 0.5 * critic.coefficient(batch, scores["critic"])}


def climb(model, reference, reward: Callable[[Batch], Tensor], prompts: Sequence[list[int]], draws: int,
          rates: dict, seed: int, end: int, *, answers: int = 64, rows: int = 32, passes: int = 2,
          beta: float = 0.05, lam: float = 1.0, critic_into_trunk: bool = False,
          look: Callable[[int], object] | None = None, **how) -> list[dict]:
    """`answers` drawn, then `passes` over them in minibatches of `rows`. The policy is changed in place.

    The critic's gradient stays out of the trunk unless critic_into_trunk. The first minibatch's row of
    metrics has the draw's: reward, kl, objective (reward − β·kl), tokens written.
    look(n) is called when n draws are used up. how: goes to `train`.
    lam is 1: below it a token's advantage leans on the critic, which begins at 0, and then what is far from
    the reward is paid less of it.
    """
    device = model.embed.weight.device
    both = critic.PolicyAndCritic(model, critic_into_trunk).to(device)
    each = passes * -(-answers // rows)                                             # steps a draw
    # The draw's numbers, until they are told.
    latest: list[dict] = []

    def draw(step: int) -> Iterator[Batch]:
        rng = random.Random(f"ppo/{seed}/{step}")
        generator = torch.Generator(device).manual_seed(rng.getrandbits(62))
        asked = rng.choices(prompts, k=answers)
        whole = ppo.draw(model, both.critic, reference, asked, reward, LONGEST, beta=beta, lam=lam, end=end,
                         generator=generator)
        latest[:] = [numbers_of(whole, beta)]
        yield from ppo.minibatches(whole, rows, passes, torch.Generator().manual_seed(rng.getrandbits(62)))
        if look is not None:  # asked for the batch after the last, the last step has been taken
            look(step // each + 1)

    def watch(batch: Batch, scores: dict, coefficient: dict) -> dict[str, float]:
        return latest.pop() if latest else {}

    return train(both, draw, F, Settings(draws * each, **rates), critic.PolicyAndCritic.score, watch, **how)


def numbers_of(batch: Batch, beta: float) -> dict[str, float]:
    """What a draw is like: reward, kl, objective (reward − β·kl), tokens written."""
    reward, kl = float(batch.rewards.mean()), float(batch.kl.mean())
    return {"reward": reward, "kl": kl, "tokens written": float(batch.response_mask.sum(1).float().mean()),
            "objective": reward - beta * kl}
