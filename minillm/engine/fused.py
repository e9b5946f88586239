"""log p of the chosen token in little memory: a few rows of logits at a time, and a backward pass that keeps
them once.

Its plain twin is `minillm.logprob.of_chosen`; a test holds the two equal, gradients too.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

# Logits held at once: 40 MiB in float32; chunks below 32 MiB fragment the heap, and then take more memory.
HELD = 5 * 2**21


def chosen_logprobs(model, hidden: Tensor, y: Tensor, plain: Callable[[Tensor, Tensor], Tensor] | None = None,
                    held: int = HELD) -> Tensor:
    """log p(y) behind each state: hidden (N, D), y (N,) -> (N,). model: has logits(hidden) -> (N, V).

    plain(logits, y) -> (N,): takes the place of log softmax, where y was drawn at a temperature or with a
    cut.
    held: at most so many logits exist at once; in the backward pass they are computed again, chunk by chunk.
    """
    of = plain or chosen
    rows = max(1, held // model.config.vocab_size)
    if len(hidden) <= rows:
        return of(model.logits(hidden), y)

    def score(h: Tensor, y: Tensor) -> Tensor:
        return of(model.logits(h), y)

    parts = zip(hidden.split(rows), y.split(rows))
    if not torch.is_grad_enabled():
        return torch.cat([score(h, y) for h, y in parts])
    return torch.cat([checkpoint(score, h, y, use_reentrant=False) for h, y in parts])


def chosen(logits: Tensor, y: Tensor) -> Tensor:
    """log softmax(logits) at y: (N, V), (N,) -> (N,), in float32 at least."""
    logits = logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits
    if logits.requires_grad and not torch._C._are_functorch_transforms_active():
        return _Chosen.apply(logits, y)
    return _with_total(logits, y)[0]


def _with_total(logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """log softmax at y, and the logarithm of the sum that it is divided by, (N,) each."""
    total = logits.logsumexp(-1)
    return logits.gather(-1, y[:, None])[:, 0] - total, total


class _Chosen(torch.autograd.Function):
    """Keeps the logits and one number a row for the backward pass; autograd's own keeps several copies."""

    @staticmethod
    def forward(ctx, logits, y):
        logp, total = _with_total(logits, y)
        ctx.save_for_backward(logits, y, total)
        return logp

    @staticmethod
    def backward(ctx, g):
        logits, y, total = ctx.saved_tensors
        # A gradient of the gradient is asked for: then all of it must be in the graph.
        if torch.is_grad_enabled():
            return (-g[:, None] * logits.softmax(-1)).scatter_add(-1, y[:, None], g[:, None]), None
        p = (logits - total[:, None]).exp_()
        return p.mul_(-g[:, None]).scatter_add_(-1, y[:, None], g[:, None]), None
