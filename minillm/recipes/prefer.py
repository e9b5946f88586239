"""Prefer: DPO on comparisons, without a reward model and without sampling."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from ..batch import Batch
from ..logprob import answer_logprobs
from ..methods import dpo
from ..returns import margin
from ..train import Settings, train
from .compare import Comparison


def prefer(model, reference, comparisons: Sequence[Comparison], steps: int, rates: dict, seed: int, *,
           beta: float = 0.1, rows: int = 24, **how) -> list[dict]:
    """Train a policy, in place, on `rows` comparisons a step; returns `train`'s rows, with loss, chosen,
    rejected.

    The reference is asked once, about those comparisons that some step draws. how: goes to `train`.
    """
    n = len(comparisons)
    drawn = [random.Random(f"dpo/{seed}/{step}").sample(range(n), min(rows, n)) for step in range(steps)]
    met = sorted({i for some in drawn for i in some})
    answers = [(comparisons[i][0], comparisons[i][1]) for i in met]
    answers += [(comparisons[i][0], comparisons[i][2]) for i in met]
    logp = dpo.reference_logprobs(reference, answers).reshape(2, -1).T.cpu()        # (met, 2)
    kept = dict(zip(met, logp))

    def draw(step: int) -> Batch:
        return dpo.draw([comparisons[i] for i in drawn[step]], torch.stack([kept[i] for i in drawn[step]]))

    def watch(batch: Batch, logp: Tensor, coefficient: Tensor) -> dict[str, float]:
        chosen, rejected = answer_logprobs(logp, batch.response_mask).chunk(2)
        h, _ = margin(batch, logp)
        return {"loss": float(dpo.loss(h, beta).mean()), "chosen": float(chosen.mean()),
                "rejected": float(rejected.mean())}

    F = partial(dpo.coefficient, beta=beta)
    return train(model, draw, F, Settings(steps, **rates), watch=watch, **how)
