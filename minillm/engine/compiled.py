"""Scoring with torch.compile, or without it where that fails."""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import SimpleNamespace

import torch
from torch import Tensor

from . import parallel


def compiled(score: Callable) -> Callable:
    """score(model, batch), with the model's hidden states by torch.compile from the first batch on."""
    faster: list = []

    def scored(model, batch):
        if not faster:
            faster.append(_compiled(model, batch.tokens))
        return score(faster[0], batch)

    return scored


def _compiled(model, tokens: Tensor):
    """What `logprobs` needs of a model. Where compiling fails on these tokens: one line, and the model."""
    # It warns of the checks of tokens, which it leaves uncompiled.
    logging.getLogger("torch._dynamo").setLevel(logging.ERROR)
    try:
        hidden = torch.compile(model.hidden)
        # It compiles, or fails, when it is first called, forwards and backwards.
        hidden(tokens).sum().backward()
        return SimpleNamespace(hidden=hidden, logits=model.logits, config=model.config)
    except Exception as error:  # whatever a compiler may raise
        why = (str(error).strip().splitlines() or [""])[0]
        if parallel.rank() == 0:
            print(f"torch.compile failed, so training goes on without it: {type(error).__name__}: {why}")
        return model
    finally:
        model.zero_grad()
