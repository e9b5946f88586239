"""log p(y|x): the only file that shifts, gathers or masks.

Everything here is aligned with the tokens: logprobs[b, t] is log p(tokens[b, t] | tokens[b, <t]), and
response_mask[b, t] is True where tokens[b, t] belongs to y. The end token belongs to y.
"""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import torch
from torch import Tensor

from .batch import Batch
from .engine.fused import HELD, chosen_logprobs
from .expect import (
    expect, expect_aligned, expect_finite, expect_ids, expect_numbers, expect_settings, expect_tensor,
    expect_whole
)


def logprobs(model, batch: Batch, temperature: float = 1.0, top_k: int | None = None,
             top_p: float | None = None, held: int = HELD) -> Tensor:
    """log p of each token of y given all before it, (B, T), with its gradient; 0 off the response.

    model: has hidden(tokens) -> (B, T, D) and logits(hidden) -> (..., V).
    temperature, top_k, top_p: score under the distribution that `sample` draws from with the same settings.
    held: at most so many logits exist at once (see engine.fused).
    Raises ValueError for tokens or targets that the model does not know.
    """
    y = (batch.tokens if batch.targets is None else batch.targets)[batch.response_mask]    # (N,)
    if batch.targets is not None:  # the tokens themselves are looked at by the model
        expect_ids("targets", y, model.config.vocab_size)
    hidden = states_before(model, batch)                                                   # (N, D)
    as_drawn = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    plain = None if as_drawn == AS_IT_IS else partial(of_chosen, **as_drawn)
    logp = chosen_logprobs(model, hidden, y, plain, held)                                  # (N,)
    return logp.new_zeros(batch.tokens.shape).masked_scatter(batch.response_mask, logp)    # (B, T)


def states_before(model, batch: Batch) -> Tensor:
    """The hidden state before each token of y, from which that token is predicted, (N, D)."""
    packed = {} if batch.sequence is None else {"sequence": batch.sequence}
    hidden = model.hidden(batch.tokens, **packed)                                          # (B, T, D)
    return hidden[:, :-1][batch.response_mask[:, 1:]]


def of_chosen(logits: Tensor, y: Tensor, temperature: float = 1.0, top_k: int | None = None,
              top_p: float | None = None) -> Tensor:
    """log p of y under these logits, (N, V), (N,) -> (N,): what engine.fused computes in less memory."""
    return warp(logits, temperature, top_k, top_p).gather(-1, y[:, None])[:, 0]


AS_IT_IS = {"temperature": 1.0, "top_k": None, "top_p": None}


def warp(logits: Tensor, temperature: float = 1.0, top_k: int | None = None,
         top_p: float | None = None) -> Tensor:
    """log of the distribution that is drawn from, (..., V) to (..., V): temperature, then top-k, then top-p,
    renormalised.

    temperature 0 is greedy: log 1 on the largest logit (the first, if several are equal), −inf elsewhere.
    top_k keeps the k largest (and their equals); top_p keeps the fewest tokens that hold a probability of at
    least top_p (Holtzman et al. 2020).
    """
    expect_settings(logits, temperature, top_k, top_p)
    logits = logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits
    logits = logits / temperature if temperature else logits
    # −inf forbids a token; a NaN would be drawn.
    expect_finite("(logits / temperature).amax(-1)", logits.detach().amax(-1))
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


def logprobs_of_logits(logits: Tensor, tokens: Tensor, response_mask: Tensor | None = None) -> Tensor:
    """`logprobs` for whoever has the logits (B, T, V) already: (B, T), 0 where response_mask is False.

    logits[:, t] predicts tokens[:, t + 1], as a model gives them: they are shifted here, and not before.
    Of log [[[1, 3], [1, 1]]] and tokens [[0, 1]] it is [[0, log 3/4]]: the last place is not read.
    For what was drawn at a temperature, or with top-k or top-p, give warp(logits, …).
    Raises ValueError for logits of another shape or kind, and where `Batch` does.
    """
    expect_tensor("logits", logits, "B T V", "float")
    B, T, V = logits.shape
    expect_tensor("tokens", tokens, "B T", "integer", B=B, T=T)
    expect_ids("tokens", tokens, V)
    given = SimpleNamespace(hidden=lambda _: logits, logits=lambda some: some,
                            config=SimpleNamespace(vocab_size=V))
    # In one piece: they are there anyway.
    return logprobs(given, Batch(tokens, response_mask), held=logits.numel())


def all_logprobs(model, batch: Batch, temperature: float = 1.0) -> Tensor:
    """log p of *every* next token at each place of y, (B, T, V), with its gradient; 0 off the response."""
    logp = warp(model.logits(states_before(model, batch)), temperature)                    # (N, V)
    mask = batch.response_mask[..., None]                                                  # (B, T, 1)
    return logp.new_zeros(*batch.tokens.shape, logp.shape[-1]).masked_scatter(mask, logp)


def answer_logprobs(logprobs: Tensor, response_mask: Tensor) -> Tensor:
    """log p(y|x) of each row, (B,): the sum over y's tokens, the end token with them. A sum, not a mean."""
    expect_aligned(response_mask, logprobs=logprobs)
    logprobs = logprobs.where(response_mask, 0.0)
    expect_numbers("logprobs", logprobs.detach())
    return logprobs.sum(-1)


def masked_mean(values: Tensor, response_mask: Tensor, axis: int | None = None) -> Tensor:
    """Mean of values (B, T) over all response tokens, one number; axis=1: over each row's, (B,).

    [[1, 2, 9], [6, 9, 9]] with True on 1, 2 and 6: 3, and with axis=1 [1.5, 6]. The 9s are not read.
    Raises ValueError for a row without a response token, a NaN on one, another shape or another axis.
    """
    expect_aligned(response_mask, values=values)
    expect(axis is None or axis == 1, "axis", axis, "give 1 for each row's mean, None for one of all")
    inside = values.where(response_mask, 0.0)  # a product would keep a NaN: 0 · NaN is NaN
    expect_numbers("values", inside.detach())
    return inside.sum(axis) / response_mask.sum(axis)


def entropy(logits: Tensor) -> Tensor:
    """−Σ p log p at each place, in nats, (..., V) -> (...): entropy(zeros(4)) is log 4 = 1.386.

    logits[:, t] is about the token behind t, so a response's mean is
    masked_mean(entropy(logits)[:, :-1], response_mask[:, 1:]).
    A token whose logit is −inf adds 0. Raises ValueError for a NaN, +inf, or a place where all are −inf.
    """
    logp = warp(logits)
    return -(logp.exp() * logp.where(logp > -torch.inf, 0.0)).sum(-1)  # 0 · −inf would be NaN


@torch.no_grad()
def text_nats(model, ids: Tensor, length: int, rows: int = 32) -> float:
    """−log p of a long text in nats, each token scored once with at most length − 1 tokens before it: ids
    (N,), first free.

    Windows of `length` overlap by half, so that a token has at least length/2 tokens of context after the
    first window.
    """
    expect_tensor("ids", ids, "N", "integer")
    expect(len(ids) >= 2, "ids", f"{len(ids)} long", "give at least two tokens")
    expect_whole(2, length=length)
    expect_whole(1, rows=rows)
    length = min(length, len(ids))
    stride = max(1, length // 2)
    starts = range(0, max(1, len(ids) - length + stride), stride)
    starts = sorted({min(s, len(ids) - length) for s in starts})
    # The text's first token is given.
    total, scored, masks = 0.0, 1, []
    for s in starts:
        mask = torch.zeros(length, dtype=torch.bool)
        mask[scored - s:] = True
        masks.append(mask)
        scored = s + length
    for i in range(0, len(starts), rows):
        tokens = torch.stack([ids[s:s + length] for s in starts[i:i + rows]])
        mask = torch.stack(masks[i:i + rows]).to(tokens.device)
        # Apple's GPUs have no doubles.
        total -= float(logprobs(model, Batch(tokens, mask)).cpu().double().sum())
    return total
