"""Toolformer: of the calls that a model tries within texts, keep those that make what follows easier to say.

    the text    Ben has 285 pears and Ada has 347. In all there are 632 pears.
    a call      … In all there are [CALL] calculator(285+347) [/CALL] [REPLY] 632 [/REPLY] 632 pears.

    L+          the loss of " 632 p…" behind the call and its reply
    L−          the smaller of two: behind nothing; behind the call and an empty reply
    kept        where L− − L+ ≥ tau_f

Nobody says where a call belongs. x is a text up to a place, y a call that the model tries there, and F is 1
for a call that is kept and 0 for another: the text itself is the judge. Then the model is trained on texts in
which the kept calls stand, with F = 1 on the text and the calls, and 0 on the replies.

Source: Schick et al. 2023, section 2 (places, calls, L+ and L−) and 4.1 (the weights).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from ..batch import batch_pairs
from ..expect import expect, expect_tensor, expect_whole
from ..logprob import all_logprobs
from ..sample import sample
from ..tokenizer import Tokenizer
from .tools import Made, Tool, by_name, run
from .transcript import Transcript

ROWS = 64                       # of a pass
REACH = 5                       # tokens that have a weight


@dataclass(frozen=True)
class Candidate:
    """A call that a model tried before token `place` of a text. p: how probable a call was there."""

    text: int
    place: int
    made: Made
    p: float


class Losses(NamedTuple):
    """Weighted nats of what follows each place, (N,) each, by what stands before it."""

    reply: Tensor               # the call and its reply: L+
    nothing: Tensor
    no_reply: Tensor            # the call and an empty reply

    @property
    def gain(self) -> Tensor:
        """L− − L+: nats that the reply saves, against the better of doing without."""
        return torch.minimum(self.nothing, self.no_reply) - self.reply


def weights(T: int) -> Tensor:
    """How much each of the T tokens behind a place counts, (T,): w_t = max(0, 1 − 0.2 t) / 3.

    3 is the sum of all: 1 + 0.8 + 0.6 + 0.4 + 0.2. Where a text ends sooner, the rest is not made up for.
    weights(7) is [5, 4, 3, 2, 1, 0, 0] / 15. Source: section 4.1.
    """
    expect_whole(1, T=T)
    return (1 - torch.arange(T, dtype=torch.float64) / REACH).clamp(min=0) / 3


@torch.no_grad()
def p_call(model, tokenizer: Tokenizer, texts: Sequence[Sequence[int]]) -> list[Tensor]:
    """p([CALL] | the text before it) at each place of each text, a (T,) for a text of T tokens.

    texts: ids, without the mark that stands before a text; place i is before token i.
    """
    _expect_texts(tokenizer, texts)
    found = []
    for k in range(0, len(texts), ROWS):
        batch = batch_pairs([([tokenizer.end], text) for text in texts[k:k + ROWS]])
        p = all_logprobs(model, batch)[..., tokenizer.call].exp()                           # (B, T)
        found += [row[mask] for row, mask in zip(p, batch.response_mask)]
    return found


def places(p: Tensor, k: int = 5, tau_s: float = 0.05) -> list[int]:
    """The k places where a call is most probable, of those with p > tau_s, in their order: p (T,).

    places([.1, .3, .0, .2], k=2) is [1, 3]. Of equal ones the earlier comes first.
    """
    expect_tensor("p", p, "T", "float")
    expect_whole(1, k=k)
    order = p.sort(descending=True, stable=True).indices[:k].tolist()
    return sorted(i for i in order if p[i] > tau_s)


@torch.no_grad()
def candidates(model, tokenizer: Tokenizer, texts: Sequence[Sequence[int]], tools: Sequence[Tool],
               k: int = 5, m: int = 5, tau_s: float = 0.05, *, longest: int = 32,
               generator: torch.Generator | None = None) -> list[Candidate]:
    """The different calls that a model tries in texts: m drawn at each of `places`, and made.

    What is not closed within `longest` tokens is no call. A call that came to an error is here too, with
    made.ok False: nobody should learn it.
    """
    tools = by_name(tools)
    expect_whole(1, m=m, longest=longest)
    asked = [(n, i, float(p[i])) for n, p in enumerate(p_call(model, tokenizer, texts))
             for i in places(p, k, tau_s)]
    tried: dict[tuple[int, int, str], Candidate] = {}
    for j in range(0, len(asked), ROWS):
        some = asked[j:j + ROWS]
        prompts = [[tokenizer.end, *texts[n][:i], tokenizer.call] for n, i, _ in some]
        drawn = sample(model, prompts, longest, n=m, end=(tokenizer.call_end, tokenizer.end),
                       generator=generator)
        for g, ids in zip(drawn.group.tolist(), drawn.responses()):
            n, i, p = some[g]
            call = tokenizer.decode(ids[:-1], specials=True)
            if ids[-1] == tokenizer.call_end and (n, i, call) not in tried:
                tried[n, i, call] = Candidate(n, i, run(tools, call), p)
    return list(tried.values())


@torch.no_grad()
def losses(model, tokenizer: Tokenizer, texts: Sequence[Sequence[int]], tried: Sequence[Candidate],
           prefix: bool = False, forbid: bool = True) -> Losses:
    """Of each candidate, the weighted loss of what follows its place: Σ w_t · −log p(x_{i+t} | …), nats.

    prefix: the call stands before the whole text, as in the paper, whose model has never seen a call within
    a text. By default it stands in its place, which is for a model that has.
    forbid: p is that of the next token, given that it is no [CALL]. A model that has learned to call there
    would pay for not calling, whatever a reply is good for; the paper's model has not.
    """
    _expect_texts(tokenizer, texts)
    expect(len(tried) > 0, "tried", "empty", "give at least one candidate")
    for j, c in enumerate(tried):
        inside = 0 <= c.text < len(texts) and 0 <= c.place < len(texts[c.text])
        expect(inside, f"tried[{j}]", f"of text {c.text}, place {c.place}", "give the texts it was tried in")
    rows = []
    for c in tried:
        text = list(texts[c.text])
        before, follows = text[:c.place], text[c.place:c.place + REACH]
        for call in (written(tokenizer, c.made), [], written(tokenizer, c.made, reply=False)):
            x = [*call, *before] if prefix else [*before, *call]
            rows.append(([tokenizer.end, *x], follows))
    no = tokenizer.call if forbid else None
    found = [_weighted(model, rows[k:k + ROWS], no) for k in range(0, len(rows), ROWS)]
    return Losses(*torch.cat(found).reshape(-1, 3).T)


def _weighted(model, rows: list[tuple[list[int], list[int]]], no: int | None) -> Tensor:
    """Σ w_t · −log p of each row's y, (B,). no: a token that may not be next; p is shared out to the rest."""
    batch = batch_pairs(rows)
    logp = all_logprobs(model, batch)                                                       # (B, T, V)
    if no is not None:
        logp[..., no] = -torch.inf
        logp = logp.log_softmax(-1)
    logp = logp.gather(-1, batch.tokens[..., None])[..., 0].where(batch.response_mask, 0.0)  # (B, T)
    t = batch.response_mask.cumsum(1) - 1                       # the number of a token in y, from 0
    w = weights(REACH).to(logp)[t.clamp(min=0)].where(batch.response_mask, 0.0)             # (B, T)
    return -(w * logp).sum(1)


def written(tokenizer: Tokenizer, made: Made, reply: bool = True) -> list[int]:
    """e(c, r), a call with its reply as ids, or e(c, ε), with an empty one."""
    said = tokenizer.encode(made.reply) if reply else []
    return [*_call(tokenizer, made), tokenizer.reply, *said, tokenizer.reply_end]


def _call(tokenizer: Tokenizer, made: Made) -> list[int]:
    return [tokenizer.call, *tokenizer.encode(made.text), tokenizer.call_end]


def kept(found: Losses, tau_f: float = 1.0) -> Tensor:
    """Which calls stay, (N,): True where L− − L+ ≥ tau_f."""
    return found.gain >= tau_f


def best(tried: Sequence[Candidate], gain: Tensor) -> list[Candidate]:
    """At each place of each text the call that gains most, in order: what `annotate` can take."""
    if not tried:
        return []
    expect_tensor("gain", gain, "N", "float", N=len(tried))
    order = gain.sort(descending=True, stable=True).indices.tolist()
    first: dict[tuple[int, int], Candidate] = {}
    for j in order:
        first.setdefault((tried[j].text, tried[j].place), tried[j])
    return [first[key] for key in sorted(first)]


def annotate(tokenizer: Tokenizer, text: Sequence[int], calls: Sequence[Candidate] = ()) -> Transcript:
    """A text with calls in their places, to learn from: x is the mark before a text, y all the rest.

    The replies are left out of y, as the tools wrote them. (The paper's model learns to predict them too;
    when it writes a text, they are put in all the same.)
    """
    _expect_texts(tokenizer, [text])
    row = Transcript([tokenizer.end], stopped="end")
    done, last = 0, -1
    for c in sorted(calls, key=lambda c: c.place):
        expect(last < c.place < len(text), "calls", f"with one at place {c.place}",
               f"give one for a place, each from 0 to {len(text) - 1}")
        expect(c.made.ok, f"calls: {c.made.text}", "one that came to an error", "leave it out")
        row.append(text[done:c.place], by_model=True)
        start, call, whole = len(row.ids), _call(tokenizer, c.made), written(tokenizer, c.made)
        row.append(call, by_model=True)
        row.append(whole[len(call):], by_model=False)
        row.calls.append(replace(c.made, start=start, end=len(row.ids)))
        done = last = c.place
    row.append(text[done:], by_model=True)
    return row


def _expect_texts(tokenizer: Tokenizer, texts: Sequence[Sequence[int]]) -> None:
    marks = (tokenizer.end, tokenizer.call, tokenizer.call_end, tokenizer.reply, tokenizer.reply_end)
    expect(None not in marks, "tokenizer", "without the marks of calls and replies",
           "call hub.add_marks(model, tokenizer) first")
    expect(not isinstance(texts, str) and len(texts) > 0, "texts", repr(texts)[:60], "give a list of ids")
    for i, text in enumerate(texts):
        expect(not isinstance(text, str), f"texts[{i}]", "a text", "give its ids: tokenizer.encode(text)")
        expect(len(text) > 0, f"texts[{i}]", "empty", "leave it out")
        expect(tokenizer.call not in text, f"texts[{i}]", "one with a call", "give plain texts")
