"""The proof of chapter 17's checks: wrong answers fail by name, right ones written another way pass."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from grader.inside import scripted
from grader.outside.chapter17 import find_the_reply
from grader.outside.chapter17 import gain as keep_the_call
from minillm.acting.transcript import Transcript, batch_transcripts
from minillm.tokenizer import CALL, END, REPLY, REPLY_END
from proof import CHECKS, Proof, fresh, inputs_of, run_cell, trials_of, verdict  # noqa: F401  (a fixture)

WRONG: dict[str, list] = {}  # exercise -> (the misconception's name, a function that has it)
RIGHT: dict[str, list] = {}  # exercise -> a right function written another way

# mask-of-a-reply


def walked(tokens, n_x, n_y, calls, *, first=0, last=0, call=False, marks=False, shift=0, x=False, pad=False,
           end=True, which=None, start=0):
    """Token by token. first, last: by how much a reply's borders are moved; marks: by marks alone."""
    ids = tokens.tolist()
    found = [(x or t >= n_x) and (pad or t < n_x + n_y) and (end or ids[t] != END) for t in range(len(ids))]
    for a, b in calls.tolist()[which if which is not None else slice(None)]:
        a, b = a + start, b + start
        r = next((t for t in range(a, len(ids)) if ids[t] == (CALL if call else REPLY)), len(ids))
        r = a if start else r
        for t in range(r + first, min(len(ids), b + 1 + last)):
            found[t] = False
    if marks:
        inside = False
        for t, token in enumerate(ids):
            inside = inside or token == REPLY
            found[t] = found[t] and not inside
            inside = inside and token != REPLY_END
    return torch.tensor(found).roll(shift)


def between_all_marks(tokens, n_x, n_y, calls):
    """Nothing from a [CALL] to the end of a reply."""
    found, inside = torch.zeros(len(tokens), dtype=torch.bool), False
    for t, token in enumerate(tokens.tolist()):
        inside = inside or token in (CALL, REPLY)
        found[t] = not inside and n_x <= t < n_x + n_y
        inside = inside and token not in (REPLY_END, END)
    return found


def from_y(tokens, n_x, n_y, calls):
    """The places of calls in y."""
    found = torch.zeros(len(tokens), dtype=torch.bool)
    found[n_x:n_x + n_y] = True
    for a, b in calls.tolist():
        r = a + tokens[a:].tolist().index(REPLY)
        found[r + int(n_x):b + 1 + int(n_x)] = False
    return found


def only_behind(tokens, n_x, n_y, calls):
    found = walked(tokens, n_x, n_y, calls)
    if len(calls):
        found[:calls[-1, 1]] = False
    return found


def only_before(tokens, n_x, n_y, calls):
    found = walked(tokens, n_x, n_y, calls)
    if len(calls):
        found[calls[0, 1]:] = False
    return found


def by_the_transcript(tokens, n_x, n_y, calls):
    """minillm's own: a transcript that is written part by part."""
    ids, y = tokens.tolist(), tokens.tolist()[n_x:n_x + n_y]
    row, at = Transcript(ids[:n_x]), 0
    for call, end in (calls - n_x).tolist():
        reply = y.index(REPLY, call)
        row.append(y[at:reply], by_model=True)
        row.append(y[reply:end + 1], by_model=False)
        at = end + 1
    row.append(y[at:], by_model=True)
    mask = batch_transcripts([row]).response_mask[0]
    return torch.cat([mask, torch.zeros(len(ids) - len(mask), dtype=torch.bool)])


def by_counting(tokens, n_x, n_y, calls):
    """How many replies have begun before a token, less how many have ended; no loop over tokens."""
    T = len(tokens)
    open_ = torch.zeros(T + 1, dtype=torch.long)
    marks = (tokens == REPLY).nonzero()[:, 0]
    for call, end in calls:
        open_[marks[marks > call].min()] += 1
        open_[end + 1] -= 1
    t = torch.arange(T)
    return (open_.cumsum(0)[:-1] == 0) & (t >= n_x) & (t - n_x < n_y)


def fills(tokens, n_x, n_y, calls):
    calls += 1
    return walked(tokens, n_x, n_y, calls - 1)


WRONG["mask-of-a-reply"] = [
    ("the call is left out too", lambda *i: walked(*i, call=True)),
    ("the call is left out too", between_all_marks),
    ("the reply's marks stay in", lambda *i: walked(*i, last=-1)),
    ("the reply's marks stay in", lambda *i: walked(*i, first=1)),
    ("the reply's marks stay in", lambda *i: walked(*i, first=1, last=-1)),
    ("one token of the call", lambda *i: walked(*i, first=-1)),
    ("one token behind the reply", lambda *i: walked(*i, last=1)),
    ("the mask is shifted", lambda *i: walked(*i, shift=-1)),
    ("the mask is shifted", lambda *i: walked(*i, shift=1)),
    ("places counted in y", from_y),
    ("x too", lambda *i: walked(*i, x=True)),
    ("the padding too", lambda *i: walked(*i, pad=True)),
    ("x and the padding too", lambda *i: walked(*i, x=True, pad=True)),
    ("the end token is left out", lambda *i: walked(*i, end=False)),
    ("a made-up reply is left out", lambda *i: walked(*i, marks=True)),
    ("the first call alone", lambda *i: walked(*i, which=slice(1))),
    ("the last call alone", lambda *i: walked(*i, which=slice(-1, None))),
    ("the answer alone", only_behind),
    ("nothing behind a reply", only_before),
    ("True and False exchanged", lambda *i: walked(*i, which=slice(0)) & ~walked(*i)),
    ("a law", lambda *i: torch.zeros(len(i[0]), dtype=torch.bool)),
    ("a law", lambda *i: torch.ones(len(i[0]), dtype=torch.bool)),
    ("dtype", lambda *i: walked(*i).float()),
    ("dtype", lambda *i: walked(*i).nonzero()[:, 0]),
    ("shape", lambda *i: walked(*i)[None]),
    ("raised", lambda tokens, n_x, n_y, calls: tokens[calls[0, 0]:calls[0, 1]] > 0),
    ("input changed", fills),
]
RIGHT["mask-of-a-reply"] = [walked, by_the_transcript, by_counting]

# answer-the-call


def loop(go_on, tools, question, n, *, limit=lambda n: n, pick=None, order=1, see="".join, ends=None,
         failed="error: no", too_many=False, stop=False, cut=False, form="<reply>{}</reply>"):
    """A loop in which each step can go wrong."""
    parts, made = [], 0
    while True:
        piece = go_on(see([question, *parts]))
        calls = piece.endswith("</call>") if ends is None else ends(piece)
        if not calls or made >= limit(n):
            return parts + [piece] + [form.format("error: too many")] * bool(calls and too_many)
        call = pick("".join([question, *parts, piece])) if pick else piece[piece.rfind("<call>") + 6:-7]
        try:
            name, argument = call.split("(", 1)
            reply = tools[name](argument.split(")")[0] if cut else argument[:argument.rindex(")")])
        except Exception:
            if stop:
                return parts + [piece]
            reply = failed
        parts += [piece, form.format(reply)][::order]
        made += 1


def first_call(text):
    return re.search("<call>(.*?)</call>", text, re.S)[1]


def reading_error(go_on, tools, question, n):
    """Catches what is not there, and no more."""
    parts = [go_on(question)]
    while parts[-1].endswith("</call>") and len(parts) <= 2 * n:
        name, _, argument = parts[-1].rpartition("<call>")[2][:-7].partition("(")
        try:
            reply = tools[name](argument.removesuffix(")"))
        except KeyError:
            reply = "error: there is no such tool"
        parts.append(f"<reply>{reply}</reply>")
        parts.append(go_on(question + "".join(parts)))
    return parts


def carelessly(go_on, tools, question, n, also="<call>"):
    """What holds a <call> anywhere is a call."""
    parts = [go_on(question)]
    while ("<call>" in parts[-1] or also in parts[-1]) and len(parts) <= 2 * n:
        name, _, argument = parts[-1].rpartition("<call>")[2].removesuffix("</call>").partition("(")
        try:
            parts.append(f"<reply>{tools[name](argument.removesuffix(')'))}</reply>")
        except Exception as error:
            parts.append(f"<reply>error: {error}</reply>")
        parts.append(go_on(question + "".join(parts)))
    return parts


def recursively(go_on, tools, question, n):
    """What comes behind a reply is the answer to a longer question."""
    piece = go_on(question)
    if n == 0 or not piece.endswith("</call>"):
        return [piece]
    try:
        form = re.fullmatch(r".*<call>(\w+)\((.*)\)</call>", piece, re.S)
        reply = tools[form[1]](form[2])
    except Exception as error:
        reply = f"error: {type(error).__name__}: {error}"
    said = f"<reply>{reply}</reply>"
    return [piece, said, *recursively(go_on, tools, question + piece + said, n - 1)]


def as_a_tuple(go_on, tools, question, n):
    """A for loop, errors asked for beforehand where that can be done."""
    text, parts = question, ()
    for left in range(n, -1, -1):
        piece = go_on(text)
        parts += (piece,)
        body = piece[:-len("</call>")].split("<call>")[-1]
        if not (piece.endswith("</call>") and left):
            break
        name = body.split("(")[0]
        reply = "error: write it as name(argument), with one of " + ", ".join(tools)
        if name in tools and body.endswith(")"):
            try:
                reply = tools[name](body[len(name) + 1:-1])
            except Exception as error:
                reply = "error: " + str(error)
        parts += ("<reply>" + reply + "</reply>",)
        text = question + "".join(parts)
    return parts


WRONG["answer-the-call"] = [
    ("no end to the calls", lambda *i: loop(*i, limit=lambda n: 10**9)),
    ("one call too many", lambda *i: loop(*i, limit=lambda n: n + 1)),
    ("one call too few", lambda *i: loop(*i, limit=lambda n: n - 1)),
    ("a reply to the call too many", lambda *i: loop(*i, too_many=True)),
    ("the reply of another call", lambda *i: loop(*i, pick=first_call)),
    ("the reply in front of the call", lambda *i: loop(*i, order=-1)),
    ("the model does not see the reply", lambda *i: loop(*i, see=lambda p: "".join([p[0], *p[1::2]]))),
    ("the model does not see what it wrote", lambda *i: loop(*i, see=lambda p: p[0])),
    ("the model does not see the question", lambda *i: loop(*i, see=lambda p: "".join(p[1:]) or p[0])),
    ("the model does not see the question", lambda *i: loop(*i, see=lambda p: p[-1])),
    ("a tool is run though nobody called", lambda *i: carelessly(*i)),
    ("a tool is run though nobody called", lambda *i: carelessly(*i, also="<reply>")),
    ("a law", lambda *i: loop(*i, ends=lambda piece: "<call>" in piece)),
    ("an error is not said", lambda *i: loop(*i, failed="")),
    ("an error ends the answer", lambda *i: loop(*i, stop=True)),
    ("the argument ends at the first bracket", lambda *i: loop(*i, cut=True)),
    ("replies without their marks", lambda *i: loop(*i, form="{}")),
    ("a law", lambda *i: loop(*i, failed="it did not work")),
    ("raised", reading_error),
    ("a law", lambda go_on, tools, question, n: [go_on(question)]),
    ("type", lambda *i: "".join(loop(*i))),
    ("type", lambda *i: [loop(*i)]),
    ("endless", lambda go_on, tools, question, n: [go_on("") for _ in iter(int, 1)]),
    ("raised", lambda go_on, tools, question, n: [go_on([question])]),
]
RIGHT["answer-the-call"] = [loop, recursively, as_a_tuple]

# keep-the-call


def by_hand(logp, place, tau, *, w=lambda t, left: max(0.0, 1 - 0.2 * t), total=lambda w: 3.0, less=min,
            shift=0, sign=1, over=0.0, apart=False, known=None):
    """Candidate by candidate, token by token, in floats."""
    out = []
    for rows, start in zip(logp.double().tolist(), place.tolist()):
        start = known if known is not None else start + shift
        ways = [row[start:] for row in rows]
        left = len(ways[0])
        weights = [w(t, left) for t in range(left)]
        sums = [-sign * sum(a * p for a, p in zip(weights, way)) / total(weights) for way in ways]
        if apart:
            best = [max(a, b) for a, b in zip(*ways[:2])]
            sums[0] = sums[1] = -sum(a * p for a, p in zip(weights, best)) / total(weights)
        gain = less(sums[0], sums[1]) - sums[2]
        out.append(gain)
    gain = torch.tensor(out)
    return torch.where(gain >= tau, gain - over, 0.0) if over is not None else gain


def by_unfolding(logp, place, tau):
    """Five windows of the text, each gathered for itself, in NumPy."""
    padded = np.pad(logp.numpy(), ((0, 0), (0, 0), (0, 5)))
    L = sum(-w / 3 * np.take_along_axis(padded, (place.numpy() + t)[:, None, None], 2)[..., 0]
            for t, w in enumerate((1, 0.8, 0.6, 0.4, 0.2)))
    gain = L[:, :2].min(1) - L[:, 2]
    return gain * (gain >= tau.numpy())


def by_einsum(logp, place, tau):
    """One product, and the threshold as relu: what is left, with tau added again."""
    far = torch.arange(logp.shape[2])[None] - place[:, None]
    w = torch.where((far >= 0) & (far < 5), 5 - far, 0) / 15
    with_and_without = torch.einsum("nt,nkt->nk", w, -logp.float())
    gain = with_and_without[:, :2].amin(1) - with_and_without[:, 2]
    over = torch.relu(gain - tau)
    return over + tau * (over > 0)


def rescales(logp, place, tau):
    logp *= 2
    return by_hand(logp / 2, place, tau)


def flat(t, left):
    return 1.0


def five(t, left):
    return float(t < 5)


WRONG["keep-the-call"] = [
    ("a mean for the weights", lambda *i: by_hand(*i, w=flat, total=sum)),
    ("a mean for the weights", lambda *i: by_hand(*i, w=five, total=sum)),
    ("a mean for the weights", lambda *i: by_hand(*i, w=five, total=lambda w: 5)),
    ("a sum without weights", lambda *i: by_hand(*i, w=flat, total=lambda w: 1)),
    ("the weights do not sum to 1", lambda *i: by_hand(*i, total=lambda w: 1)),
    ("the weights do not sum to 1", lambda *i: by_hand(*i, total=lambda w: 5)),
    ("divided by the weights that are left", lambda *i: by_hand(*i, total=sum)),
    ("the larger for the smaller", lambda *i: by_hand(*i, less=max)),
    ("against no call alone", lambda *i: by_hand(*i, less=lambda a, b: a)),
    ("against the empty reply alone", lambda *i: by_hand(*i, less=lambda a, b: b)),
    ("the mean of the two", lambda *i: by_hand(*i, less=lambda a, b: (a + b) / 2)),
    ("the smaller token by token", lambda *i: by_hand(*i, apart=True)),
    ("the sign turned", lambda *i: by_hand(*i, sign=-1, less=max)),
    ("log p for the loss", lambda *i: by_hand(*i, sign=-1)),
    ("from the token before the call", lambda *i: by_hand(*i, shift=-1)),
    ("from the second token on", lambda *i: by_hand(*i, shift=1)),
    ("the text's first tokens", lambda *i: by_hand(*i, known=0)),
    ("nothing is turned away", lambda *i: by_hand(*i, over=None)),
    ("tau taken off", lambda *i: by_hand(*i, over=i[2])),
    ("a law", lambda *i: by_hand(*i, w=lambda t, left: 1 - 0.2 * t)),
    ("a law", lambda logp, place, tau: by_hand(logp, place, tau - 0.6)),
    ("a law", lambda *i: by_hand(*i) > 0),
    ("shape", lambda *i: by_hand(*i)[:, None]),
    ("input changed", rescales),
]
RIGHT["keep-the-call"] = [by_hand, by_unfolding, by_einsum]

# luck-in-the-filter


def table(true, lucky, n, *, share=None, luck=None, weight=None):
    """Question by question, in floats."""
    p, q, n = true.double().tolist(), lucky.double().tolist(), int(n)
    Q, total = len(p), sum(p) + sum(q)
    known = sum(a + b > 0 for a, b in zip(p, q))
    share = share or (lambda a, b, c: (a + b) / total)
    luck = luck or (lambda a, b, c: b / (a + b) if a + b else 0.0)
    weight = weight or (lambda a, b, c: 1 / (Q * n * (a + b)) if a + b else 0.0)

    def row(of):
        names = {"Q": Q, "n": n, "total": total, "known": known, "p": p, "q": q}
        return [of(a, b, names) for a, b in zip(p, q)]
    return torch.tensor([row(share), row(luck), row(weight)])


def counted_out(true, lucky, n):
    """All outcomes of n draws: the expected numbers by the binomial, term by term."""
    from math import comb
    p, q, n = true.double(), lucky.double(), int(n)
    r = p + q
    kept = sum(k * comb(n, k) * r**k * (1 - r)**(n - k) for k in range(n + 1))
    some = kept > 0
    share = kept / kept.sum()
    out = torch.zeros(3, len(r), dtype=torch.float64)
    out[0] = share
    out[1, some] = q[some] / r[some]
    out[2, some] = 1 / (len(r) * kept[some])
    return out


def in_place(true, lucky, n):
    """Rows filled one after another, NaN replaced at the end."""
    out = torch.stack([true + lucky] * 3)
    out[0] /= out[0].sum()
    out[1] = lucky / out[1]
    out[2] = (out[2] * n * len(true)).reciprocal()
    return torch.nan_to_num(out, nan=0.0, posinf=0.0)


def adds(true, lucky, n):
    true += lucky
    return table(true - lucky, lucky, n)


WRONG["luck-in-the-filter"] = [
    ("questions for runs", lambda *i: table(*i, share=lambda a, b, c: 1 / c["Q"])),
    ("questions for runs", lambda *i: table(*i, share=lambda a, b, c: (a + b > 0) / c["known"])),
    ("chances for shares", lambda *i: table(*i, share=lambda a, b, c: a + b)),
    ("counts for shares", lambda *i: table(*i, share=lambda a, b, c: c["n"] * (a + b))),
    ("a mean over questions", lambda *i: table(*i, share=lambda a, b, c: (a + b) / c["Q"])),
    ("lucky runs are not kept", lambda *i: table(*i, share=lambda a, b, c: a / sum(c["p"]))),
    ("the luck of all runs", lambda *i: table(*i, luck=lambda a, b, c: b)),
    ("the luck of all runs", lambda *i: table(*i, luck=lambda a, b, c: b / c["total"])),
    ("luck over truth", lambda *i: table(*i, luck=lambda a, b, c: b / a if a else 0.0)),
    ("truth for luck", lambda *i: table(*i, luck=lambda a, b, c: a / (a + b) if a + b else 0.0)),
    ("each question's luck is that of all",
     lambda *i: table(*i, luck=lambda a, b, c: sum(c["q"]) / c["total"])),
    ("divided by n alone", lambda *i: table(*i, weight=lambda a, b, c: 1 / (c["Q"] * c["n"]))),
    ("divided by n alone", lambda *i: table(*i, weight=lambda a, b, c: (a + b > 0) / (c["Q"] * c["n"]))),
    ("n left out", lambda *i: table(*i, weight=lambda a, b, c: 1 / (c["Q"] * (a + b)) if a + b else 0.0)),
    ("Q left out", lambda *i: table(*i, weight=lambda a, b, c: 1 / (c["n"] * (a + b)) if a + b else 0.0)),
    ("what is lost is shared out", lambda *i: table(
        *i, weight=lambda a, b, c: 1 / (c["known"] * c["n"] * (a + b)) if a + b else 0.0)),
    ("weighted by true runs",
     lambda *i: table(*i, weight=lambda a, b, c: 1 / (c["Q"] * c["n"] * a) if a else 0.0)),
    ("the share for the weight", lambda *i: table(*i, weight=lambda a, b, c: (a + b) / c["total"])),
    ("not finite", lambda true, lucky, n: torch.stack([
        (true + lucky) / (true + lucky).sum(), lucky / (true + lucky),
        1 / (len(true) * n * (true + lucky))])),
    ("a law", lambda *i: table(*i, weight=lambda a, b, c: 0.0)),
    ("a law", lambda *i: table(*i, share=lambda a, b, c: b / sum(c["q"]) if sum(c["q"]) else 0.0)),
    ("axes swapped", lambda *i: table(*i).T),
    ("shape", lambda *i: table(*i)[:2]),
    ("input changed", adds),
]
RIGHT["luck-in-the-filter"] = [table, counted_out, in_place]

# find-the-reply

PARTS = {  # a transcript by what it tries: (parts, ended)
    "call": ([("person", [30]), ("model", [40, 5, 41, 6]), ("tool", [7, 50, 51, 8]), ("model", [42, 0])],
             True),
    "joined": ([("person", [31, 32]), ("model", [10, 11, 43, 0])], True),
    "made up": ([("person", [33]), ("model", [7, 52, 8, 44, 0])], True),
    "person again": ([("person", [34]), ("model", [45]), ("person", [35, 36]), ("model", [46, 0])], True),
    "cut": ([("person", [37]), ("model", [47, 48, 49])], False),
}


def by_definition(parts, kl, reward, ended, beta, T):
    """tokens, seen, mask, F of one transcript, with the sums written out."""
    ids = [token for _, part in parts for token in part]
    who = [name for name, part in parts for _ in part]
    mask = [name == "model" and ended for name in who]
    F = [reward - beta * sum(k for k, name in zip(kl[t:], who[t:]) if name == "model") if mask[t] else 0.0
         for t in range(len(ids))]
    rest = T - len(ids)
    return [ids + [0] * rest, [True] * len(ids) + [False] * rest, mask + [False] * rest, F + [0.0] * rest]


def given(names=tuple(PARTS), beta=0.5, kl=lambda b, t: 1.0 + (5 * t + 3 * b) % 7):
    """The arguments of make_batch for the transcripts of these names."""
    transcripts, ended = [PARTS[name][0] for name in names], [PARTS[name][1] for name in names]
    numbers = [[kl(b, t) for t in range(sum(len(ids) for _, ids in parts))]
               for b, parts in enumerate(transcripts)]
    return transcripts, numbers, torch.tensor([2.0 + b for b in range(len(names))]), torch.tensor(ended), beta


def wanted(transcripts, kl, rewards, ended, beta):
    T = max(map(len, kl))
    rows = [by_definition(*row, beta, T) for row in zip(transcripts, kl, rewards.tolist(), ended.tolist())]
    return [torch.tensor(each) for each in zip(*rows)]


def by_parts(make_batch, names=tuple(PARTS), look=range(4), **how):
    """Against the definition, on the transcripts of these names."""
    inputs = given(names, **how)
    pairs = list(zip(make_batch(*inputs), wanted(*inputs)))
    return all(torch.allclose(pairs[n][0].float(), pairs[n][1].float(), atol=1e-4) for n in look)


def but(*names, **how):
    """by_parts without some of its transcripts."""
    return lambda make_batch: by_parts(make_batch, [name for name in PARTS if name not in names], **how)


def one_at_a_time(make_batch):
    """Each transcript with a call beside it, in both orders, with no formula for F but differences."""
    for name in PARTS:
        for names in ((name, "call"), ("call", name)):
            inputs = given(names)
            tokens, seen, mask, F = make_batch(*inputs)
            right = wanted(*inputs)
            if not all(torch.equal(a, b) for a, b in zip((tokens, seen, mask), right)):
                return False
            if F[~mask].any():
                return False
            for f, m, kl, reward in zip(F, mask, inputs[1], inputs[2]):
                places = m.nonzero()[:, 0].tolist()
                to_go = [float(f[t]) for t in places] + [float(reward)]
                steps = [b - a for a, b in zip(to_go, to_go[1:])]
                if any(abs(step - 0.5 * kl[t]) > 1e-4 for step, t in zip(steps, places)):
                    return False
    return True


def bitwise(make_batch):
    return all(torch.equal(a, b) for a, b in zip(make_batch(*given(kl=lambda b, t: 0.1 * t + 0.3)), wanted(
        *given(kl=lambda b, t: 0.1 * t + 0.3))))


WRONG["find-the-reply"] = [
    ("it lets everything through", lambda f: True),
    ("it turns everything away", lambda f: False),
    ("it turns everything away", lambda f: bool(f(*given())[3].sum() == 0.123)),
    ("only the mask is looked at", lambda f: by_parts(f, look=[2])),
    ("only the mask is looked at", but("cut", look=[2])),
    ("only the mask is looked at", but("cut", "made up", "person again", look=[2])),
    ("encoded anew", but("joined")),
    ("what a person says later", but("person again")),
    ("made up is left out", but("made up")),
    ("a row that was cut", but("cut")),
    ("the kl of the tools' tokens", lambda f: by_parts(f, kl=lambda b, t: 1.0 * (b > 0))),
    ("the kl of the tools' tokens", but(beta=0.0)),
    ("where mask is False", lambda f: by_parts(f, look=[0, 1, 2]) and torch.allclose(
        f(*given())[3][wanted(*given())[2]], wanted(*given())[3][wanted(*given())[2]], atol=1e-4)),
    ("end token", lambda f: all(bool(((a == b) | (given_tokens() == 0)).all()) for a, b in zip(
        f(*given())[:3], wanted(*given())[:3])) and by_parts(f, look=[2, 3])),
    ("saying True to right code", bitwise),
    ("raised", lambda f: f([], [], torch.zeros(0), torch.zeros(0), 1.0)),
    ("raised", lambda f: f([[("person", [30]), ("nobody", [31, 0])]], [[1, 1, 1]], [1.0], [True], 1.0)),
    ("type", lambda f: f(*given())),
    ("None", lambda f: None),
]
RIGHT["find-the-reply"] = [by_parts, one_at_a_time, lambda f: np.bool_(by_parts(f))]


def given_tokens():
    return wanted(*given())[0]


class TestProof(Proof):
    chapter, WRONG, RIGHT = 17, WRONG, RIGHT


# what holds for some


def test_what_is_wanted_agrees_with_the_package():
    """The mask against a Transcript's own, on every input."""
    for trial in trials_of("mask-of-a-reply"):
        given = [torch.tensor(trial.inputs[name]) for name in CHECKS["mask-of-a-reply"].arguments]
        found = by_the_transcript(*given).numpy()
        wanted, = (CHECKS["mask-of-a-reply"].expected(i) for i in inputs_of("mask-of-a-reply")
                   if len(i.tokens) == len(found) and np.array_equal(i.tokens, trial.inputs["tokens"]))
        assert np.array_equal(found, wanted)


def test_luck_against_draws():
    """The table of the text's example, drawn: shares, luck and weights as they come out on average."""
    draw = np.random.default_rng(0)
    true, lucky, n, times = np.array([0.6, 0.1]), np.array([0.0, 0.1]), 10, 100_000
    u = draw.random((times, 2, n))
    kept, by_luck = u < (true + lucky)[:, None], (u >= true[:, None]) & (u < (true + lucky)[:, None])
    share, luck, weight = run_cell("luck-in-the-filter")(
        torch.tensor(true), torch.tensor(lucky), torch.tensor(n)).numpy()
    counts, lucky_ones = kept.sum(2).mean(0), by_luck.sum(2).mean(0)
    assert np.allclose(counts / counts.sum(), share, atol=2e-3)
    assert np.allclose(lucky_ones / counts, luck, atol=4e-3)
    assert np.allclose(counts * weight, 0.5, atol=4e-3)


def test_the_example_of_each_text():
    """What the tasks say in figures."""
    mask = run_cell("mask-of-a-reply")(torch.tensor([1, 20, 2, 5, 30, 6, 7, 40, 8, 50, 0, 0]),
                                       torch.tensor(3), torch.tensor(8), torch.tensor([[3, 8]]))
    assert mask.nonzero()[:, 0].tolist() == [3, 4, 5, 9, 10]
    said = iter(["It is <call>clock()</call>", " ten now."])
    parts = run_cell("answer-the-call")(lambda text: next(said), {"clock": lambda text: "ten"}, "When? ", 1)
    assert parts == ["It is <call>clock()</call>", "<reply>ten</reply>", " ten now."]
    logp = torch.tensor([[[-1, -2, -4], [-1, -2, -3], [-1, -0.5, -1]]])
    for tau, gain in ((0.5, 3.1 / 3), (1.5, 0.0)):
        found = run_cell("keep-the-call")(logp, torch.tensor([1]), torch.tensor(tau))
        assert abs(float(found) - gain) < 1e-6
    assert keep_the_call.losses(logp.numpy(), [1])[0] * 3 == pytest.approx([5.2, 4.4, 1.3])
    table = run_cell("luck-in-the-filter")(torch.tensor([0.6, 0.1]), torch.tensor([0.0, 0.1]),
                                           torch.tensor(10))
    assert torch.allclose(table, torch.tensor([[0.75, 0.25], [0, 0.5], [1 / 12, 1 / 4]]))
    assert float((table[0] * table[1]).sum()) == pytest.approx(1 / 8)
    kept = 10 * torch.tensor([0.6, 0.2])
    assert float((kept * table[2] * table[1]).sum()) == pytest.approx(1 / 4)


def test_what_is_drawn_is_what_its_law_is_about():
    """Each case of keep-the-call has what it tries: kept ones and others, weights that are cut short."""
    of = {case.law[:20]: [t.inputs for t in trials_of("keep-the-call") if t.case is case]
          for case in CHECKS["keep-the-call"].cases}
    for inputs in of["a call is kept if it"]:
        gain = keep_the_call.gains(inputs["logp"], inputs["place"])
        assert (gain > inputs["tau"]).any() and (gain < inputs["tau"]).any()
    for inputs in of["where the text ends "]:
        assert (inputs["place"] > inputs["logp"].shape[2] - 5).all()
    for i in inputs_of("luck-in-the-filter"):
        assert ((i.true + i.lucky) <= 1).all()
    sizes = [i.calls.shape[0] for i in inputs_of("mask-of-a-reply")]
    assert set(sizes) == {0, 1, 2, 3}


def test_a_scripted_model():
    """It goes on where its words end, says what it read, and does not know a text without its question."""
    go_on = scripted.scripted(["<call>ticket()</call>", "<call>ticket()</call>", " {}."], "Go. ")
    call = "<call>ticket()</call>"
    assert [go_on("Go. "), go_on(f"Go. {call}<reply>1</reply>")] == [call, call]
    assert go_on(f"Go. {call}<reply>1</reply>{call}<reply>2</reply>") == " 2."
    assert go_on(f"Go. {call}{call}") == " ?."
    assert go_on(f"Go. {call}{call}<reply>error: none</reply>") == " an error."
    assert go_on(f"Go. {call}{call} 2.") == "" and go_on(call) == "What was asked?"


def test_texts_and_their_codes():
    """What goes on the wire comes back; what an error says does not matter."""
    parts = ["", "a <call>", "<reply>ä\nb</reply>"]
    assert scripted.texts(scripted.codes(parts)) == parts
    for said in ("<reply>error: a</reply>", "<reply>error:\nb c</reply>"):
        assert scripted.without_its_words(said) == "<reply>error:</reply>"
    for same in ("an error: a", "<reply>1</reply> error:", "<call>error:</call>"):
        assert scripted.without_its_words(same) == same


@pytest.mark.parametrize("place", [0, 4, 9, 13])
def test_the_shown_lines_can_be_pasted(place, capsys):
    """They call the function on the smallest input that shows it, and say what came back."""
    function = WRONG["answer-the-call"][place][1]
    lines = [line for line in verdict("answer-the-call", function).text.splitlines()
             if line.startswith("    ")]
    *code, call = [line.strip() for line in lines if "# gives" not in line]
    space = {"answer": function}
    exec("\n".join(code), space)
    found = [scripted.without_its_words(part) for part in eval(call, space)]
    assert lines[-1] == f"    # gives {found}"
    space["answer"] = run_cell("answer-the-call")
    exec("\n".join(code), space)
    assert [scripted.without_its_words(part) for part in eval(call, space)] != found


def test_the_text_counts_the_planted_codes():
    """Twenty-five functions, six right, nineteen wrong."""
    assert (len(find_the_reply.RIGHT), len(find_the_reply.WRONG)) == (6, 19)


@pytest.mark.parametrize("code", find_the_reply.RIGHT, ids=lambda code: code.__name__)
def test_right_ones_agree(code):
    for names in (tuple(PARTS), ("cut",), ("cut", "joined"), ("person again", "call", "call")):
        assert by_parts(find_the_reply.handed_out(code), names)


NEEDS = {  # code -> the transcripts of the table above on which it shows, and no others
    "encoded_anew": {"joined"}, "replies_dropped": {"call"}, "tools_in_the_mask": {"call"},
    "later_questions_in": {"person again"}, "calls_left_out": {"call"}, "made_up_left_out": {"made up"},
    "last_part_alone": {"call", "person again"}, "closing_mark_in": {"call"},
    "end_left_out": {"call", "joined", "made up", "person again"},
    "trimmed_in_front": {"call", "joined", "made up", "person again"},
    "loss_mask_for_seen": set(PARTS), "replies_unseen": {"call"},
    "end_unseen": {"call", "joined", "made up", "person again"},
    "cut_rows_active": {"cut"}, "cut_rows_in_the_mask": {"cut"}, "tools_kl": {"call"},
    "kl_so_far": {"call", "joined", "made up", "person again"},
    "own_kl_alone": {"call", "joined", "made up", "person again"}, "F_on_the_replies": {"call"},
}


@pytest.mark.parametrize("code", [row[2] for row in find_the_reply.WRONG], ids=lambda code: code.__name__)
def test_a_bug_shows_in_its_circumstance_alone(code):
    """Alone and beside another row."""
    make_batch = find_the_reply.handed_out(code)
    assert {name for name in PARTS if not by_parts(make_batch, [name])} == NEEDS[code.__name__]
    assert not by_parts(make_batch)


def test_each_law_of_the_table_sees_its_bug():
    """What a law is about differs, and what the laws before it are about does not."""
    about = {find_the_reply.TOKENS: 0, find_the_reply.SEEN: 1, find_the_reply.MASK: 2,
             find_the_reply.CUT: 2, find_the_reply.RETURN: 3}
    right = wanted(*given())
    for _, _, code, law in find_the_reply.WRONG:
        found = find_the_reply.handed_out(code)(*given())
        same = [bool(torch.allclose(a.float(), b.float(), atol=1e-4)) for a, b in zip(found, right)]
        assert not same[about[law]], code.__name__
        ended = given()[3]
        assert (law == find_the_reply.CUT) == (torch.equal(found[2][ended], right[2][ended])
                                               and not torch.equal(found[2], right[2])), code.__name__
        assert law == find_the_reply.TOKENS or same[0], code.__name__


@pytest.mark.parametrize("change, said", [
    (lambda g: g.update(transcripts=[]), "transcripts is list"),
    (lambda g: g["transcripts"].__setitem__(0, [("model", [1, 0])]), "does not begin with a person"),
    (lambda g: g["transcripts"].__setitem__(0, [("person", [1])]), "in which the model wrote nothing"),
    (lambda g: g["transcripts"].__setitem__(0, [("person", [1]), ("model", [0, 2, 0])]), "a 0 before"),
    (lambda g: g["transcripts"].__setitem__(0, [("person", [1]), ("model", [2])]), r"ended\[0\] is True"),
    (lambda g: g["kl"].__setitem__(0, [1.0]), r"kl\[0\] is 1 numbers"),
    (lambda g: g.update(beta=-1.0), "beta is -1.0"),
])
def test_what_a_test_must_not_hand_over(change, said):
    """It is refused by name, whichever code is inside."""
    names = ("transcripts", "kl", "rewards", "ended", "beta")
    arguments = dict(zip(names, given()))
    change(arguments)
    with pytest.raises(ValueError, match=said):
        find_the_reply.handed_out(find_the_reply.by_tables)(**arguments)
