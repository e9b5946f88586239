"""Muon for many matrices at once takes torch.optim.Muon's own steps, to the bit."""

from __future__ import annotations

import copy

import pytest
import torch

from minillm.engine.muon import Muon
from minillm.transformer import Config, Transformer

SHAPES = [(8, 8), (8, 8), (4, 8), (12, 8), (8, 12), (12, 8), (8, 8)]


def weights(shapes, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator).to(dtype).requires_grad_() for shape in shapes]


def steps(optimizer, params, n=6, without=None):
    """n steps on gradients that are the same for both; `without` has none at every second step."""
    generator = torch.Generator().manual_seed(1)
    for step in range(n):
        for i, p in enumerate(params):
            g = torch.randn(p.shape, generator=generator).to(p.dtype)
            p.grad = None if i == without and step % 2 else g
        optimizer.step()
    return [p.detach() for p in params]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("without", [None, 1])
def test_the_same_steps_to_the_bit(dtype, decay, without):
    how = {"lr": 0.02, "momentum": 0.9, "weight_decay": decay}
    mine, theirs = weights(SHAPES, dtype), weights(SHAPES, dtype)
    ours = steps(Muon(mine, **how), mine, without=without)
    others = steps(torch.optim.Muon(theirs, **how), theirs, without=without)
    assert all(torch.equal(a, b) for a, b in zip(ours, others))
    assert not any(torch.equal(a, b) for a, b in zip(ours, weights(SHAPES, dtype)))


def test_on_the_course_s_own_shapes():
    """28 matrices of four shapes, as a model has them, with gradients of its own."""
    ends = []
    for kind in (Muon, torch.optim.Muon):
        model = Transformer(Config())
        matrices = [p for p in model.blocks.parameters() if p.ndim == 2]
        optimizer = kind(matrices, lr=0.02, momentum=0.95, weight_decay=0.0)
        for step in range(3):
            tokens = torch.randint(512, (4, 32), generator=torch.Generator().manual_seed(step))
            model(tokens).logsumexp(-1).mean().backward()
            optimizer.step()
            optimizer.zero_grad()
        ends.append([p.detach() for p in matrices])
    assert len(ends[0]) == 28 and all(torch.equal(a, b) for a, b in zip(*ends))


def test_a_state_of_one_is_read_by_the_other():
    """So a run that was kept with PyTorch's own goes on."""
    mine, theirs = weights(SHAPES[:3]), weights(SHAPES[:3])
    first = torch.optim.Muon(theirs, lr=0.02)
    steps(first, theirs, 2)
    for a, b in zip(mine, theirs):
        a.data.copy_(b)
    ours = Muon(mine, lr=0.02)
    ours.load_state_dict(copy.deepcopy(first.state_dict()))
    ends = steps(ours, mine, 2), steps(first, theirs, 2)
    assert all(torch.equal(a, b) for a, b in zip(*ends))
