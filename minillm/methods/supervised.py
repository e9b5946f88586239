"""Supervised learning (pretraining, fine-tuning): x and y from data, F = 1.

Which tokens are y is the batch's affair: `batch_windows` (all of a text), batch_pairs (the answer),
batch_turns (every answer of a conversation), batch_packed (many conversations to a row).
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..batch import Batch


def F(logp: Tensor) -> Tensor:
    """1 for each pair: somebody chose these y, and nothing is weighed. logp (B,): log p(y|x) -> (B,)."""
    return torch.ones_like(logp)


def loss(logp: Tensor) -> Tensor:
    """Negative log-likelihood, −log p(y|x), (B,): Bengio et al. 2003, eq. 2, unreduced.

    Means differ by paper: the mean over answers is what `surrogate` takes, the mean over tokens has divide_by
    = response_mask.sum().
    """
    return -logp


def coefficient(batch: Batch, logprobs: Tensor | None = None) -> Tensor:
    """F of a batch, (B,): one for all pairs of a row."""
    return torch.ones(len(batch.tokens), device=batch.tokens.device)
