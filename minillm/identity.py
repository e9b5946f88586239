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

from .expect import expect, expect_finite, expect_some_response, expect_tensor

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
        return sum(surrogate(coefficient[k], logprobs[k], response_mask, divide_by) for k in logprobs)
    _expect_terms(coefficient, logprobs, response_mask, divide_by)
    mask = response_mask if logprobs.ndim > 1 else torch.ones_like(logprobs, dtype=torch.bool)
    mask, F = _wide(mask, logprobs.ndim), _wide(coefficient, logprobs.ndim)
    # Masked before they meet: 0 · NaN is NaN.
    return (F.where(mask, 0.0) * logprobs.where(mask, 0.0)).sum() / (divide_by or len(logprobs))


def _wide(tensor: Tensor, ndim: int) -> Tensor:
    """(B,) as (B, 1), (B, T) as (B, T, 1): one number for all that follows it."""
    return tensor.reshape(*tensor.shape, *[1] * (ndim - tensor.ndim))


def _expect_terms(coefficient: Tensor, logprobs: Tensor, response_mask: Tensor,
                  divide_by: int | None) -> None:
    expect_tensor("response_mask", response_mask, "B T", "bool")
    expect_some_response(response_mask)
    sizes = dict(zip("BT", response_mask.shape))
    for name, tensor in (("logprobs", logprobs), ("coefficient", coefficient)):
        expect(isinstance(tensor, Tensor), name, type(tensor).__name__,
               "give a tensor (B,), (B, T) or (B, T, V)")
        letters = ("B", "B", "B T", "B T V")[min(tensor.ndim, 3)]
        expect_tensor(name, tensor, letters, "float", **{k: n for k, n in sizes.items() if k in letters})
        numbers = tensor.detach()
        if tensor.ndim > 1:
            numbers = numbers.where(_wide(response_mask, tensor.ndim), 0.0)
        expect_finite(name, numbers)
    fits = coefficient.shape == logprobs.shape[:coefficient.ndim]
    expect(fits, "coefficient", f"of shape {tuple(coefficient.shape)}",
           f"logprobs are {tuple(logprobs.shape)}: give as many")
    remedy = "detach it: the gradient is F · ∇ log p, not ∇ (F · log p)"
    expect(not coefficient.requires_grad, "coefficient", "part of the graph", remedy)
    expect(divide_by is None or divide_by >= 1, "divide_by", divide_by,
           "give how many pairs (x, y) the batch holds")


def every_answer(vocab_size: int, longest: int, end: int = 0) -> list[list[int]]:
    """Every y of at most `longest` tokens: those that the end token closes, and those of full length, cut.

    every_answer(3, 2) -> [[0], [1, 0], [2, 0], [1, 1], [1, 2], [2, 1], [2, 2]].
    Their probabilities sum to one.
    """
    expect(isinstance(vocab_size, int) and vocab_size >= 2, "vocab_size", vocab_size,
           "give at least 2: the end and one more")
    expect(isinstance(longest, int) and longest >= 1, "longest", longest, "give at least one token")
    expect(isinstance(end, int) and 0 <= end < vocab_size, "end", end, f"ids run from 0 to {vocab_size - 1}")
    total = sum((vocab_size - 1) ** n for n in range(longest)) + (vocab_size - 1) ** longest
    expect(total <= 1_000_000, "vocab_size, longest", (vocab_size, longest),
           f"that lists {total:,} answers: take fewer or shorter ones")
    words = [i for i in range(vocab_size) if i != end]
    closed = [[*y, end] for n in range(longest) for y in product(words, repeat=n)]
    return closed + [list(y) for y in product(words, repeat=longest)]


def expectation(logp: Tensor, value: Tensor) -> Tensor:
    """E over y of value(y), exactly: Σ p(y)·value(y) over every y. logp (..., N), value (..., N) -> (...)."""
    _expect_listing(logp)
    expect(isinstance(value, Tensor), "value", type(value).__name__,
           "give a tensor with one value for each answer")
    expect(value.shape[-1:] == logp.shape[-1:], "value", f"of shape {tuple(value.shape)}",
           f"give one for each of the {logp.shape[-1]} answers")
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
    _expect_listing(logp)
    expect(logp.requires_grad, "logp", "without a gradient", "compute it from parameters that require one")
    q = logp.detach().exp() if q is None else q
    for name, tensor in (("coefficient", coefficient), ("q", q)):
        expect(isinstance(tensor, Tensor), name, type(tensor).__name__,
               f"give a tensor {tuple(logp.shape)}, as logp")
        expect(tensor.shape == logp.shape, name, f"of shape {tuple(tensor.shape)}",
               f"give {tuple(logp.shape)}, as logp")
    expect(not coefficient.requires_grad, "coefficient", "part of the graph",
           "detach it: F carries no gradient")
    expect_finite("q", q)
    expect(bool((q >= 0).all()), "q", f"as low as {q.min().item()}",
           "give probabilities, or weights of 0 and more")
    expect(not isinstance(parameters, Tensor), "parameters", "one tensor", "give a list: [theta]")
    # An answer that is never drawn adds nothing, even where log p is −inf.
    coefficient = coefficient.where(q > 0, 0.0)
    expect_finite("coefficient", coefficient)
    value = (q.detach() * coefficient * logp.where(q > 0, 0.0)).sum(-1)             # one prompt's, or (X,)
    if d is None:
        value = value.mean()
    else:
        expect_tensor("d", d, "X", "float", X=len(logp) if logp.ndim == 2 else 0)
        expect_finite("d", d)
        expect(bool((d >= 0).all()), "d", f"as low as {d.min().item()}",
               "give probabilities, or weights of 0 and more")
        value = (d.detach() * value).sum()
    parameters = list(parameters)
    expect(all(p.requires_grad for p in parameters), "parameters", "without a gradient",
           "give those that logp was computed from")
    grads = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, grads)]


def _expect_listing(logp: Tensor) -> None:
    floats = isinstance(logp, Tensor) and logp.is_floating_point() and logp.ndim > 0
    known = f"{logp.dtype} {tuple(logp.shape)}" if isinstance(logp, Tensor) else type(logp).__name__
    expect(floats, "logp", known, "give log p of every answer, (..., N)")
    total = logp.detach().exp().sum(-1).flatten()
    # Float32 over a few thousand answers; a missing end token misses by far more. Of a NaN, too, this is False.
    right = (total - 1).abs() <= 1e-4
    expect(bool(right.all()), "logp", f"a listing whose probabilities sum to {total[~right].tolist()[:3]}",
           "list every answer once, each with its end token")
