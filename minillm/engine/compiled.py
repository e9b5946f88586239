"""Scoring with torch.compile, or without it where that fails."""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import SimpleNamespace

import torch
from torch import Tensor

from . import parallel


def compiled(score: Callable, again: bool = False) -> Callable:
    """score(model, batch), with the model's hidden states by torch.compile from the first batch on.

    again: batches are scored twice, as engine.together does in pieces; then one graph serves all sizes, for
    the second time must keep what the first kept.
    """
    faster: list = []

    def scored(model, batch):
        if not faster:
            faster.append(_compiled(model, batch.tokens, again))
        return score(faster[0], batch)

    return scored


def _compiled(model, tokens: Tensor, again: bool):
    """What `logprobs` needs of a model. Where compiling fails on these tokens: one line, and the model."""
    # It warns of the checks of tokens, which it leaves uncompiled.
    logging.getLogger("torch._dynamo").setLevel(logging.ERROR)
    try:
        hidden = torch.compile(model.hidden, dynamic=True) if again else torch.compile(model.hidden)
        # It compiles, or fails, when it is first called, forwards and backwards: within a checkpoint as
        # alone.
        with torch.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: t):
            hidden(tokens).sum().backward()
        return SimpleNamespace(hidden=hidden, logits=model.logits, config=model.config)
    except Exception as error:  # whatever a compiler may raise
        why = (str(error).strip().splitlines() or [""])[0]
        if parallel.rank() == 0:
            print(f"torch.compile failed, so training goes on without it: {type(error).__name__}: {why}")
        return model
    finally:
        model.zero_grad()
