"""log p(y|x): the only file that shifts, gathers or masks. It leaves out attention masks: rows are padded at the right.

Everything here is aligned with the tokens: logprobs[b, t] is log p(tokens[b, t] | tokens[b, <t]), and response_mask[b, t]
is True where tokens[b, t] belongs to y. The end token belongs to y.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from .expect import expect, expect_finite, expect_numbers, expect_some_response, expect_tensor

HELD = 5 * 2**21  # logits held at once, in numbers: 40 MiB in float32; chunks below 32 MiB fragment the heap, and then take more memory


def warp(logits: Tensor, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None) -> Tensor:
    """log of the distribution that is drawn from, (..., V) to (..., V): temperature, then top-k, then top-p, renormalised.

    temperature 0 is greedy: log 1 on the largest logit (the first, if several are equal), −inf elsewhere. top_k keeps the k
    largest (and their equals); top_p keeps the fewest tokens that hold a probability of at least top_p (Holtzman et al. 2020).
    """
    expect(temperature >= 0, "temperature", temperature, "give 0 (greedy) or more")
    expect(top_k is None or (isinstance(top_k, int) and top_k >= 1), "top_k", top_k, "give 1 or more, or None for all")
    expect(top_p is None or 0 < top_p <= 1, "top_p", top_p, "give a share in (0, 1], or None for all")
    expect(isinstance(logits, Tensor) and logits.is_floating_point() and logits.numel() > 0, "logits",
           tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__, "give a float tensor (..., V)")
    logits = logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits
    logits = logits / temperature if temperature else logits
    expect_finite("(logits / temperature).amax(-1)", logits.detach().amax(-1))  # −inf forbids a token; a NaN would be drawn
    if temperature == 0:
        best = logits.argmax(-1, keepdim=True)
        return torch.full_like(logits, -torch.inf).scatter(-1, best, 0.0)
    if top_k is not None and top_k < logits.shape[-1]:
        least = logits.topk(top_k, dim=-1).values[..., -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    if top_p is not None and top_p < 1:
        ordered, index = logits.softmax(-1).sort(dim=-1, descending=True)
        before = ordered.cumsum(-1) - ordered  # what stands ahead of each token
        drop = (before >= top_p).scatter(-1, index, before >= top_p)
        logits = logits.masked_fill(drop, -torch.inf)
    return logits.log_softmax(-1)


def logprobs(model, tokens: Tensor, response_mask: Tensor | None = None, *, targets: Tensor | None = None, sequence: Tensor | None = None,
             temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None, held: int = HELD) -> Tensor:
    """log p of each token given those before it, (B, T); 0 where response_mask is False.

    model: has hidden(tokens) -> (B, T, D) and logits(hidden) -> (..., V). tokens (B, T): integer, padded at the right.
    response_mask (B, T): True where a token is scored; by default all but the first, which has no context.
    targets (B, T): score these in place of the tokens themselves (what an expert would have written at each place).
    sequence (B, T): which text each token belongs to, where a row holds several (see batch_packed); none sees another.
    temperature, top_k, top_p: score under the distribution that `sample` draws from with the same settings.
    held: at most so many logits exist at once; in the backward pass they are computed again, chunk by chunk.
    """
    expect_tensor("tokens", tokens, "B T", "integer")
    B, T = tokens.shape
    if response_mask is None:
        expect(T > 1, "tokens", f"of shape {(B, T)}", "give at least two tokens a row: the first has no context")
        response_mask = torch.ones_like(tokens, dtype=torch.bool)
        response_mask[:, 0] = False
    expect_tensor("response_mask", response_mask, "B T", "bool", B=B, T=T)
    expect_some_response(response_mask)
    if targets is None:
        targets = tokens
    expect_tensor("targets", targets, "B T", "integer", B=B, T=T)
    hidden = _before(model, tokens, response_mask, sequence)        # (N, D): the state *before* each scored token
    wanted = targets[response_mask]                                 # (N,), in the same order
    V = model.config.vocab_size
    low, high = int(wanted.min()), int(wanted.max())
    expect(low >= 0 and high < V, "targets", f"from {low} to {high}", f"ids run from 0 to {V - 1}")

    def score(h: Tensor, y: Tensor) -> Tensor:
        logits = model.logits(h)
        if temperature == 1 and top_k is None and top_p is None:
            logits = logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits
            return _Chosen.apply(logits, y) if logits.requires_grad and not torch._C._are_functorch_transforms_active() else chosen(logits, y)[0]
        return warp(logits, temperature, top_k, top_p).gather(-1, y[:, None])[:, 0]

    flat = in_chunks(score, hidden, wanted, max(1, held // V))
    return torch.zeros(B, T, dtype=flat.dtype, device=flat.device).masked_scatter(response_mask, flat)


def logprobs_of_logits(logits: Tensor, tokens: Tensor, response_mask: Tensor | None = None) -> Tensor:
    """`logprobs` for whoever has the logits (B, T, V) already: (B, T), 0 where response_mask is False.

    logits[:, t] predicts tokens[:, t + 1], as a model gives them: they are shifted here, and not before.
    Of log [[[1, 3], [1, 1]]] and tokens [[0, 1]] it is [[0, log 3/4]]: the last place is not read.
    For what was drawn at a temperature, or with top-k or top-p, give warp(logits, …).
    Raises ValueError for logits of another shape or kind, and where `logprobs` does.
    """
    expect_tensor("logits", logits, "B T V", "float")
    B, T, V = logits.shape
    expect_tensor("tokens", tokens, "B T", "integer", B=B, T=T)
    config = SimpleNamespace(vocab_size=V)
    given = SimpleNamespace(hidden=lambda _: logits, logits=lambda some: some, config=config)
    return logprobs(given, tokens, response_mask, held=logits.numel())  # in one piece: they are held anyway


def all_logprobs(model, tokens: Tensor, response_mask: Tensor, *, temperature: float = 1.0, sequence: Tensor | None = None) -> Tensor:
    """log p of *every* next token, (B, V·T): column v·T + t is log p(v | tokens[b, <t]); 0 where response_mask is False.

    .view(B, V, T) has a distribution over v at each scored place. `train` takes it as a score, and F then weighs every token.
    """
    expect_tensor("response_mask", response_mask, "B T", "bool")
    (B, T), V = response_mask.shape, model.config.vocab_size
    expect_tensor("tokens", tokens, "B T", "integer", B=B, T=T)
    expect_some_response(response_mask)
    flat = warp(model.logits(_before(model, tokens, response_mask, sequence)), temperature)         # (N, V)
    found = torch.zeros(B, T, V, dtype=flat.dtype, device=flat.device).masked_scatter(response_mask[..., None], flat)
    return found.transpose(1, 2).reshape(B, V * T)


def _before(model, tokens: Tensor, response_mask: Tensor, sequence: Tensor | None) -> Tensor:
    """The states behind which the scored tokens stand, (N, D)."""
    expect(not response_mask[:, 0].any(), "response_mask[:, 0]", "True", "the first token has no context: begin x with a token")
    if sequence is None:
        return model.hidden(tokens)[:, :-1][response_mask[:, 1:]]
    hidden = model.hidden(tokens, sequence=sequence)
    expect(bool((sequence[:, 1:] == sequence[:, :-1])[response_mask[:, 1:]].all()), "response_mask", "True on the first token of a sequence",
           "it has no context: begin each x with a token")
    return hidden[:, :-1][response_mask[:, 1:]]


def chosen(logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """log softmax(logits) at y, and the logarithm of the sum that it is divided by: (N, V), (N,) -> (N,), (N,)."""
    total = logits.logsumexp(-1)
    return logits.gather(-1, y[:, None])[:, 0] - total, total


class _Chosen(torch.autograd.Function):
    """`chosen`, whose backward pass keeps the logits and one number a row, where autograd's own keeps several copies of the logits."""

    @staticmethod
    def forward(ctx, logits, y):
        logp, total = chosen(logits, y)
        ctx.save_for_backward(logits, y, total)
        return logp

    @staticmethod
    def backward(ctx, g):
        logits, y, total = ctx.saved_tensors
        if torch.is_grad_enabled():  # a gradient of the gradient is asked for: then all of it must be in the graph
            return (-g[:, None] * logits.softmax(-1)).scatter_add(-1, y[:, None], g[:, None]), None
        return (logits - total[:, None]).exp_().mul_(-g[:, None]).scatter_add_(-1, y[:, None], g[:, None]), None


def in_chunks(score: Callable[[Tensor, Tensor], Tensor], hidden: Tensor, wanted: Tensor, rows: int) -> Tensor:
    """score(hidden, wanted) a few rows at a time; what it holds is dropped and computed again in the backward pass."""
    if len(hidden) <= rows:
        return score(hidden, wanted)
    parts = zip(hidden.split(rows), wanted.split(rows))
    if not torch.is_grad_enabled():
        return torch.cat([score(h, y) for h, y in parts])
    return torch.cat([checkpoint(score, h, y, use_reentrant=False) for h, y in parts])


def answer_logprobs(logprobs: Tensor, response_mask: Tensor) -> Tensor:
    """log p(y|x) of each row, (B,): the sum over y's tokens, the end token with them. A sum, not a mean."""
    expect_tensor("logprobs", logprobs, "B T", "float")
    B, T = logprobs.shape
    expect_tensor("response_mask", response_mask, "B T", "bool", B=B, T=T)
    expect_some_response(response_mask)
    logprobs = logprobs.where(response_mask, 0.0)
    expect_numbers("logprobs", logprobs.detach())
    return logprobs.sum(-1)


def entropy(logits: Tensor) -> Tensor:
    """−Σ p log p at each place, in nats, (..., V) -> (...): entropy(zeros(4)) is log 4 = 1.386.

    logits[:, t] is about the token behind t, so a response's mean is
    masked_mean(entropy(logits)[:, :-1], response_mask[:, 1:]).
    A token whose logit is −inf adds 0. Raises ValueError for a NaN, +inf, or a place where all are −inf.
    """
    logp = warp(logits)
    return -(logp.exp() * logp.where(logp > -torch.inf, 0.0)).sum(-1)  # 0 · −inf would be NaN


def masked_mean(values: Tensor, response_mask: Tensor, axis: int | None = None) -> Tensor:
    """Mean of values (B, T) over all response tokens, one number; axis=1: over each row's, (B,).

    [[1, 2, 9], [6, 9, 9]] with True on 1, 2 and 6: 3, and with axis=1 [1.5, 6]. The 9s are not read.
    Raises ValueError for a row without a response token, a NaN on one, another shape or another axis.
    """
    expect_tensor("values", values, "B T", "float")
    B, T = values.shape
    expect_tensor("response_mask", response_mask, "B T", "bool", B=B, T=T)
    expect_some_response(response_mask)
    expect(axis is None or axis == 1, "axis", axis, "give 1 for each row's mean, None for one of all")
    inside = values.where(response_mask, 0.0)  # a product would keep a NaN: 0 · NaN is NaN
    expect_numbers("values", inside.detach())
    return inside.sum(axis) / response_mask.sum(axis)


@torch.no_grad()
def text_nats(model, ids: Tensor, length: int, rows: int = 32) -> float:
    """−log p of a long text in nats, each token scored once with at most length − 1 tokens before it: ids (N,), first token free.

    Windows of `length` overlap by half, so that a token has at least length/2 tokens of context after the first window.
    """
    expect_tensor("ids", ids, "N", "integer")
    expect(len(ids) >= 2, "ids", f"{len(ids)} long", "give at least two tokens")
    expect(isinstance(length, int) and length >= 2, "length", length, "give 2 or more: a token and what stands before it")
    expect(isinstance(rows, int) and rows >= 1, "rows", rows, "give 1 or more")
    length = min(length, len(ids))
    stride = max(1, length // 2)
    starts = list(range(0, max(1, len(ids) - length + stride), stride))
    starts = sorted({min(s, len(ids) - length) for s in starts})
    total, scored = 0.0, 1                                                          # the text's first token is given
    masks = []
    for s in starts:
        mask = torch.zeros(length, dtype=torch.bool)
        mask[scored - s:] = True
        masks.append(mask)
        scored = s + length
    for i in range(0, len(starts), rows):
        tokens = torch.stack([ids[s:s + length] for s in starts[i:i + rows]])
        mask = torch.stack(masks[i:i + rows]).to(tokens.device)
        total -= float(logprobs(model, tokens, mask).cpu().double().sum())  # Apple's GPUs have no doubles
    return total
