"""What the tests of the loop share: four pairs, a table to train, AdamW without a schedule, a run without a
bar.
"""

from __future__ import annotations

import pytest
import torch

from conftest import Table
from minillm.batch import batch_pairs
from minillm.train import Settings, train

PAIRS = [([1], [2, 1, 0]), ([2, 1], [0]), ([1], [1, 2, 2]), ([2, 1], [1, 0])]


def adamw(steps, **others):
    """AdamW alone at one rate, no schedule, no clipping."""
    plain = {"steps": steps, "lr": 0.1, "muon_lr": 0, "warmup": 0, "decay": 0, "clip": 1e9}
    return Settings(**(plain | others))


def table():
    return Table([[1], [2, 1]], 3, 3, seed=0)


class Stop(Exception):
    """Something that a draw may raise."""


def stop():
    raise Stop


def run(model, draw, F, settings, stopped=False, **others):
    """train without a bar; None where it is to be stopped by Stop."""
    if not stopped:
        return train(model, draw, F, settings, progress=False, **others)
    with pytest.raises(Stop):
        train(model, draw, F, settings, progress=False, **others)


def draw_pairs(step):
    """Two pairs, others at each step, chosen by the step's number alone."""
    return batch_pairs([PAIRS[step % 4], PAIRS[(step * step + 1) % 4]])


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def timeless(rows):
    """Metrics without the clock."""
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]
