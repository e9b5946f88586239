"""gradient = E over (x, y) of [ F(x, y) · ∇ log p(y|x) ]: estimated from samples, and summed over every y.

Who draws x and y is in `worlds` and `sample`, what F is in `methods`. Sources: Williams 1992, eq. 4 (the
score function); Schulman et al. 2015, "Gradient estimation using stochastic computation graphs" (the
surrogate).
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product

import torch
from torch import Tensor

from .expect import (
    expect, expect_answers, expect_finite, expect_keys, expect_listing, expect_terms, expect_weights,
    expect_whole
)

Scores = Tensor | dict[str, Tensor]


def surrogate(coefficient: Scores, logprobs: Scores, response_mask: Tensor,
              divide_by: int | None = None) -> Tensor:
    """A number whose gradient estimates E[F · ∇ log p(y|x)]. Its value means nothing: no loss to be plotted.

    coefficient: F, a number for each answer (B,), for each token (B, T), or for each next token that there
    could be (B, T, V).
    logprobs, with gradient: (B, T) or (B, T, V), or one score for each answer, (B,).
    response_mask (B, T): True on y's tokens.
    divide_by: what the sum over y's tokens is divided by. By default the B rows: a mean over pairs (x, y).
    In pretraining each token is a pair (x the text so far, y the next token): give response_mask.sum().

    Of several objectives, dicts with the same keys, it is the sum. Ascend it: (−surrogate(…)).backward().
    Raises ValueError for a wrong shape or kind, a row without a token of y, a NaN, and an F with a gradient.
    """
    if isinstance(logprobs, dict):
        expect_keys("coefficient", coefficient, logprobs)
        return sum(surrogate(coefficient[k], logprobs[k], response_mask, divide_by) for k in logprobs)
    expect_terms(coefficient, logprobs, response_mask, divide_by)
    mask = response_mask if logprobs.ndim > 1 else torch.ones_like(logprobs, dtype=torch.bool)
    mask, F = _wide(mask, logprobs.ndim), _wide(coefficient, logprobs.ndim)
    # Masked before they meet: 0 · NaN is NaN.
    return (F.where(mask, 0.0) * logprobs.where(mask, 0.0)).sum() / (divide_by or len(logprobs))


def _wide(tensor: Tensor, ndim: int) -> Tensor:
    """(B,) as (B, 1), (B, T) as (B, T, 1): one number for all that follows it."""
    return tensor.reshape(*tensor.shape, *[1] * (ndim - tensor.ndim))


def every_answer(vocab_size: int, longest: int, end: int = 0) -> list[list[int]]:
    """Every y of at most `longest` tokens: those that the end token closes, and those of full length, cut.

    every_answer(3, 2) -> [[0], [1, 0], [2, 0], [1, 1], [1, 2], [2, 1], [2, 2]].
    Their probabilities sum to one.
    """
    expect_whole(2, vocab_size=vocab_size)
    expect_whole(1, longest=longest)
    expect_whole(0, end=end, below=vocab_size)
    total = sum((vocab_size - 1) ** n for n in range(longest)) + (vocab_size - 1) ** longest
    expect(total <= 1_000_000, "vocab_size, longest", (vocab_size, longest),
           f"that lists {total:,} answers: take fewer or shorter ones")
    words = [i for i in range(vocab_size) if i != end]
    closed = [[*y, end] for n in range(longest) for y in product(words, repeat=n)]
    return closed + [list(y) for y in product(words, repeat=longest)]


def expectation(logp: Tensor, value: Tensor) -> Tensor:
    """E over y of value(y), exactly: Σ p(y)·value(y) over every y. logp (..., N), value (..., N) -> (...)."""
    expect_listing(logp)
    expect_answers("value", value, logp, exactly=False)
    p = logp.exp()
    # An answer that is never drawn adds nothing, even where its value is −inf.
    return (p * value.where(p > 0, 0.0)).sum(-1)


def exact_gradient(logp: Tensor, coefficient: Tensor, parameters: Iterable[Tensor], q: Tensor | None = None,
                   d: Tensor | None = None) -> list[Tensor]:
    """Σ over x of d(x) Σ over y of q(y|x)·F(x, y)·∇ log p(y|x): what `surrogate` estimates from samples.

    logp (N,) or (X, N): log p of every answer to one prompt, or to X of them, with gradient.
    coefficient: F, of the same shape.
    q: who makes y, of the same shape (data, an expert, an older model); by default the policy itself.
    d (X,): who makes x; by default each prompt alike.
    Returns one gradient for each parameter, zeros where it does not matter.
    """
    expect_listing(logp, with_gradient=True)
    q = logp.detach().exp() if q is None else q
    expect_weights("q", q, logp.shape)
    expect_answers("coefficient", coefficient, logp)
    # An answer that is never drawn adds nothing, even where log p is −inf.
    F, logp = coefficient.where(q > 0, 0.0), logp.where(q > 0, 0.0)
    expect_finite("coefficient", F)
    value = (q.detach() * F * logp).sum(-1)                                         # one prompt's, or (X,)
    if d is not None:
        expect_weights("d", d, value.shape)
    value = value.mean() if d is None else (d.detach() * value).sum()
    expect(not isinstance(parameters, Tensor), "parameters", "one tensor", "give a list: [theta]")
    parameters = list(parameters)
    learned = all(p.requires_grad for p in parameters)
    expect(learned, "parameters", "without a gradient", "give those that logp was computed from")
    grads = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, grads)]
