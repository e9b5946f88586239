"""score(model, batch) where several processes share a batch, or where it is too large to be scored whole.

Each process scores its own rows with their gradient, piece by piece; the others' scores arrive as numbers. So
F and the surrogate are the same code for one process and for many, and gradients are summed
(`parallel.clip_gradients`).
Sources: Chen et al. 2016 (checkpointing: what a piece holds is computed again in the backward pass);
Micikevicius et al. 2018 (mixed precision).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ..batch import Batch
from . import parallel


def together(score: Callable, model, batch: Batch, pieces: int = 1, bf16: bool = False):
    """score(model, batch): a tensor with a row for each of the batch's, or a dict of such tensors. Its
    numbers are the same for any number of processes and pieces. bf16: matrix products in bfloat16."""
    with torch.autocast(batch.tokens.device.type, torch.bfloat16, enabled=bf16):
        if pieces == 1 and parallel.size() == 1:
            return score(model, batch)
        mine = parallel.pieces(len(batch.tokens), pieces)
        scored = [_score(score, model, batch.rows(rows), again=pieces > 1) for rows, _ in mine]
    if isinstance(scored[0], dict):
        return {name: _whole(batch, mine, [some[name] for some in scored]) for name in scored[0]}
    return _whole(batch, mine, scored)


def _score(score: Callable, model, part: Batch, again: bool):
    return checkpoint(score, model, part, use_reentrant=False) if again else score(model, part)


def _whole(batch: Batch, mine: list[tuple[slice, bool]], scored: list[Tensor]) -> Tensor:
    """The scores of all rows: those of this process with their gradient, the others' as numbers."""
    B = len(batch.tokens)
    whole = scored[0].new_zeros(B, *scored[0].shape[1:]).detach()
    for (rows, counts), part in zip(mine, scored):
        if counts:
            whole[rows] = part.detach()
    parallel.add_up(whole)
    for (rows, counts), part in zip(mine, scored):
        # Row 0 once more, where there are too few rows: it adds nothing, but every process takes part in
        # every exchange.
        mask = torch.zeros(B, dtype=torch.bool, device=whole.device)
        mask[rows] = counts
        whole = whole.masked_scatter(_like(mask, whole), part) if counts else whole + 0.0 * part.sum()
    return whole


def _like(mask: Tensor, scores: Tensor) -> Tensor:
    return mask.view(-1, *[1] * (scores.ndim - 1)).expand_as(scores)
