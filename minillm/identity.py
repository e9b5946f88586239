"""gradient = E over (x, y) of [ F(x, y) · ∇ log p(y|x) ]: the surrogate, the exact sum over every y, the table of methods.

Left out: who draws x and y (`worlds`, `sample`) and what F is (`methods`). Sources: Williams 1992, eq. 4 (the score
function); Schulman et al. 2015, "Gradient estimation using stochastic computation graphs" (the surrogate).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from .expect import expect, expect_finite, expect_some_response, expect_tensor


def surrogate(coefficient: Tensor, logprobs: Tensor, response_mask: Tensor, pairs: int | None = None) -> Tensor:
    """A number whose gradient is the estimate of E[F · ∇ log p(y|x)]. Its value means nothing: never plot it as a loss.

    coefficient F: (B,) for an answer or (B, T) for a token; it carries no gradient. logprobs (B, T): with gradient.
    response_mask (B, T): True on the tokens of y. The sum runs over y's tokens, the mean over pairs (x, y).
    pairs: how many pairs the batch holds; by default its B rows. Where every token is a pair (x the text so far, y the next
    token), as in pretraining, it is response_mask.sum(). Ascend it: the step is (−surrogate(…)).backward().

    Raises ValueError for a wrong shape or kind, a row without a response token, a NaN, or an F that carries a gradient.
    """
    expect_tensor("logprobs", logprobs, "B T", "float")
    B, T = logprobs.shape
    expect_tensor("response_mask", response_mask, "B T", "bool", B=B, T=T)
    expect_some_response(response_mask)
    expect(isinstance(coefficient, Tensor), "coefficient", type(coefficient).__name__, "give a tensor (B,) or (B, T)")
    if coefficient.ndim == 1:
        expect_tensor("coefficient", coefficient, "B", "float", B=B)
        coefficient = coefficient[:, None]                                          # (B, 1): one F for all tokens of y
    else:
        expect_tensor("coefficient", coefficient, "B T", "float", B=B, T=T)
    expect(not coefficient.requires_grad, "coefficient", "part of the graph", "detach it: the gradient is F · ∇ log p, not ∇ (F · log p)")
    expect(pairs is None or pairs >= 1, "pairs", pairs, "give how many pairs (x, y) the batch holds")
    coefficient = coefficient.expand(B, T).where(response_mask, 0.0)                # (B, T); masked before they meet: 0 · NaN is NaN
    logprobs = logprobs.where(response_mask, 0.0)                                   # (B, T)
    expect_finite("coefficient", coefficient)
    expect_finite("logprobs", logprobs.detach())
    return (coefficient * logprobs).sum() / (B if pairs is None else pairs)


def every_answer(vocab_size: int, longest: int, end: int = 0) -> list[list[int]]:
    """Every y of at most `longest` tokens: those closed by the end token, and those of full length that are not (they were cut).

    every_answer(3, 2) -> [[0], [1, 0], [2, 0], [1, 1], [1, 2], [2, 1], [2, 2]]. Their probabilities sum to one.
    """
    expect(isinstance(vocab_size, int) and vocab_size >= 2, "vocab_size", vocab_size, "give at least 2: the end and one more")
    expect(isinstance(longest, int) and longest >= 1, "longest", longest, "give at least one token")
    expect(isinstance(end, int) and 0 <= end < vocab_size, "end", end, f"ids run from 0 to {vocab_size - 1}")
    total = sum((vocab_size - 1) ** n for n in range(longest)) + (vocab_size - 1) ** longest
    expect(total <= 1_000_000, "vocab_size, longest", (vocab_size, longest), f"that lists {total:,} answers: take fewer or shorter ones")
    words = [i for i in range(vocab_size) if i != end]
    closed = [[*y, end] for n in range(longest) for y in product(words, repeat=n)]
    return closed + [list(y) for y in product(words, repeat=longest)]


def expectation(logp: Tensor, value: Tensor) -> Tensor:
    """E over y of value(y), exactly: Σ p(y)·value(y), with every y listed. logp (..., N), value (..., N) -> (...)."""
    _expect_listing(logp)
    expect(isinstance(value, Tensor), "value", type(value).__name__, "give a tensor with one value for each answer")
    expect(value.shape[-1:] == logp.shape[-1:], "value", f"of shape {tuple(value.shape)}", f"give one for each of the {logp.shape[-1]} answers")
    p = logp.exp()
    return (p * value.where(p > 0, 0.0)).sum(-1)  # an answer that is never drawn adds nothing, even where its value is −inf


def exact_gradient(logp: Tensor, coefficient: Tensor, parameters: Iterable[Tensor], q: Tensor | None = None,
                   d: Tensor | None = None) -> list[Tensor]:
    """Σ over x of d(x) Σ over y of q(y|x)·F(x, y)·∇ log p(y|x), with every y listed: what `surrogate` estimates from samples.

    logp (N,) or (X, N): log p of every answer to one prompt or to X of them, with gradient. coefficient: F, of the same shape.
    q: who makes y, of the same shape (data, an expert, an older model); by default the policy itself. d (X,): who makes x, by
    default each prompt alike. Returns one gradient for each parameter, zeros where it does not matter.
    """
    _expect_listing(logp)
    expect(logp.requires_grad, "logp", "without a gradient", "compute it from parameters that require one")
    q = logp.detach().exp() if q is None else q
    for name, tensor in (("coefficient", coefficient), ("q", q)):
        expect(isinstance(tensor, Tensor), name, type(tensor).__name__, f"give a tensor {tuple(logp.shape)}, as logp")
        expect(tensor.shape == logp.shape, name, f"of shape {tuple(tensor.shape)}", f"give {tuple(logp.shape)}, as logp")
    expect(not coefficient.requires_grad, "coefficient", "part of the graph", "detach it: F carries no gradient")
    expect_finite("q", q)
    expect(bool((q >= 0).all()), "q", f"as low as {q.min().item()}", "give probabilities, or weights of 0 and more")
    expect(not isinstance(parameters, Tensor), "parameters", "one tensor", "give a list: [theta]")
    coefficient = coefficient.where(q > 0, 0.0)  # an answer that is never drawn adds nothing, even where log p is −inf
    expect_finite("coefficient", coefficient)
    value = (q.detach() * coefficient * logp.where(q > 0, 0.0)).sum(-1)             # one prompt's, or (X,)
    if d is None:
        value = value.mean()
    else:
        expect_tensor("d", d, "X", "float", X=len(logp) if logp.ndim == 2 else 0)
        expect_finite("d", d)
        expect(bool((d >= 0).all()), "d", f"as low as {d.min().item()}", "give probabilities, or weights of 0 and more")
        value = (d.detach() * value).sum()
    parameters = list(parameters)
    expect(all(p.requires_grad for p in parameters), "parameters", "without a gradient", "give those that logp was computed from")
    grads = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, grads)]


def _expect_listing(logp: Tensor) -> None:
    expect(isinstance(logp, Tensor) and logp.is_floating_point() and logp.ndim > 0, "logp",
           f"of dtype {logp.dtype} and shape {tuple(logp.shape)}" if isinstance(logp, Tensor) else type(logp).__name__,
           "give log p of every answer, (..., N)")
    total = logp.detach().exp().sum(-1)
    wrong = (total - 1).abs() > 1e-4  # float32 over a few thousand answers; a missing end token misses by far more
    expect(not bool(wrong.any()) and not bool(total.isnan().any()), "logp", f"a listing whose probabilities sum to {total.flatten()[wrong.flatten() | total.flatten().isnan()].tolist()[:3]}",
           "list every answer once, each with its end token")


@dataclass(frozen=True)
class Method:
    """One row of the table: who makes x, who makes y, and what F is. `module` is "" until this package has the method."""

    name: str
    x_from: str
    y_from: str
    F: str
    chapter: int
    module: str = ""


METHODS = (
    Method("pretraining, supervised fine-tuning", "data", "data", "1", 1, "supervised"),
    Method("curated data (LIMA, Humpback, Toolformer's filter)", "data", "data or a model", "1 if the curator keeps the pair, else 0", 1, "self_training"),
    Method("distillation", "data", "a teacher", "1 (sampled), or the teacher's probability (summed over y)", 9, "distill"),
    Method("on-policy distillation", "data", "the model itself", "log q_teacher/p, per token", 9),
    Method("self-training: rejection sampling, STaR, expert iteration, best-of-n", "data", "the model itself", "1 if the filter keeps it, else 0", 1, "self_training"),
    Method("DAgger", "the model's own visits", "an expert's correction", "1", 1, "dagger"),
    Method("REINFORCE", "data", "the model itself", "R − b", 1, "reinforce"),
    Method("policy gradient with a critic", "the model's own visits", "the model itself", "Q(x,y), or A(x,y)", 11, "critic"),
    Method("KL-regularised RL (RLHF's objective)", "data", "the model itself", "R − β log p/p_ref − b", 11, "reinforce"),
    Method("PPO", "data", "the model a moment ago", "ρ·A, and 0 where clipping stops it", 11, "ppo"),
    Method("GRPO, RLOO, Dr. GRPO", "data", "the model a moment ago, in groups", "ρ·(R − group mean)/(group std), with its clip and its KL term", 11, "grpo"),
    Method("reward model (Bradley–Terry; K-wise)", "pairs of answers", "a person's choice", "1: it is supervised learning of p(chosen beats rejected) = σ(r_w − r_l)", 10, "reward_model"),
    Method("DPO", "data", "a pair, chosen and rejected", "+β·σ(−βh) on the chosen, −β·σ(−βh) on the rejected", 13, "dpo"),
    Method("IPO", "data", "a pair", "±2·(1/(2β) − h)", 13, "ipo"),
    Method("KTO", "data", "one answer, thumbs up or down", "+λ_D·β·σ'(·) or −λ_U·β·σ'(·), with its reference point held fixed", 13, "kto"),
    Method("unlikelihood, negative feedback", "data", "data or the model", "−1 on what is wrong", 14),
    Method("chain of thought, trained by outcome", "data", "(scratchpad, answer) by the model", "1 if the answer is right (minus a baseline)", 15),
    Method("tool use", "data and the tool's replies", "the model; a tool writes some tokens", "as its method, and 0 on the tokens that the tool wrote", 17),
)


def table() -> str:
    """The table of methods in Markdown, as the README prints it."""
    rows = ["| method | x from | y from | F on ∇ log p(y\\|x) | in the package | chapter |", "|---|---|---|---|---|---|"]
    for m in METHODS:
        module = f"`methods/{m.module}.py`" if m.module else "to come"
        rows.append(f"| {m.name} | {m.x_from} | {m.y_from} | {m.F} | {module} | {m.chapter} |")
    return "\n".join(rows)
