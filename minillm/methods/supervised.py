"""Supervised learning (pretraining, fine-tuning): x and y from data, F = 1. It leaves out teachers (see distill).

Which tokens are y is the batch's affair: `logprob.batch_windows` (all of a text), batch_pairs (the answer), batch_turns (every answer of a
conversation), batch_packed (many conversations to a row). A row that holds several pairs counts them in `pairs`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..expect import expect_tensor
from ..logprob import answer_logprobs


def coefficient(response_mask: Tensor) -> Tensor:
    """F(x, y) = 1 for each pair: response_mask (B, T) -> (B,), one for all pairs of a row. Somebody chose these y; nothing is weighed."""
    expect_tensor("response_mask", response_mask, "B T", "bool")
    return torch.ones(len(response_mask), device=response_mask.device)


def loss(logprobs: Tensor, response_mask: Tensor) -> Tensor:
    """Negative log-likelihood, −log p(y|x) = −Σ_t log p(y_t | x, y_<t), (B,). Bengio et al. 2003, eq. 2, unreduced.

    Means differ by paper: the mean over answers is surrogate's default, the mean over tokens is its pairs=response_mask.sum().
    """
    return -answer_logprobs(logprobs, response_mask)
