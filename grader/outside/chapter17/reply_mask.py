"""The check of chapter 17 on the mask of an answer in which a tool wrote some of the tokens."""

from __future__ import annotations

import numpy as np

from minillm.tokenizer import ASSISTANT, CALL, CALL_END, END, REPLY, REPLY_END, USER

from ..judge import Case, Check, Misconception as M

WORDS = 20, 90  # ids of plain text


def draw_row(rng, k, kind="plain"):
    """tokens (T,), n_x (), n_y () and calls (C, 2): x, y and padding, and where a tool answered.

    No two stretches of text are equally long. kind "two": two or three calls; "made up": one reply is the
    model's own; "none": no call, at times with a made-up reply; "cut": the answer breaks off in a call.
    """
    sizes = iter(rng.permutation(np.arange(1, 13) if k else np.arange(1, 7)).tolist() + [2] * 20)

    def text(most=12):
        return rng.integers(*WORDS, min(next(sizes), most)).tolist()

    x = [USER, *text(5), ASSISTANT]
    y, calls = text(), []
    real = {"two": 2 + k % 2, "none": 0}.get(kind, 1)
    own = int(kind == "made up" or (kind == "none" and k % 2))
    for tool in rng.permutation([True] * real + [False] * own):
        start = len(x) + len(y)
        if tool or k % 2:
            y += [CALL, *text(), CALL_END]
        if not tool and k % 2:
            y += text(2)                                # a call that nobody answered
        y += [REPLY, *text(), REPLY_END]
        if tool:
            calls.append((start, len(x) + len(y) - 1))
        y += text()
    y += [CALL, *text(3)] if kind == "cut" else [END]
    tokens = np.array(x + y + [0] * (2 + k % 3))
    return {"tokens": tokens.astype(np.int64), "n_x": np.array(len(x)), "n_y": np.array(len(y)),
            "calls": np.array(calls, np.int64).reshape(-1, 2)}


def of_y(i):
    """True on y: (T,) bool."""
    t = np.arange(len(i.tokens))
    return (i.n_x <= t) & (t < i.n_x + i.n_y)


def spans(i):
    """(call's mark, reply's mark, reply's end mark) of each call that a tool answered."""
    tokens = i.tokens.astype(int)
    return [(int(a), int(a) + list(tokens[int(a):]).index(REPLY), int(b)) for a, b in i.calls]


def mask(i, cut=lambda call, reply, end: slice(reply, end + 1), y=None, which=slice(None)):
    """True on y but where `cut` says, of each of the calls `which`: (T,) bool."""
    found = of_y(i) if y is None else y.copy()
    for span in spans(i)[which]:
        found[cut(*span)] = False
    return found


def by_marks(i, first=CALL, last=REPLY_END, call=False):
    """True on y but from each [REPLY] mark to its end, whoever wrote it; call: from each [CALL] mark."""
    found, inside = of_y(i), False
    for t, token in enumerate(i.tokens.astype(int)):
        inside |= token == REPLY or (call and token == CALL)
        if inside:
            found[t] = False
        inside &= token != REPLY_END and not (call and token == END)
    return found


def replies_alone(i):
    """True where a tool wrote: (T,) bool."""
    return of_y(i) & ~mask(i)


def behind_the_last(i):
    """True on y behind the last reply of a tool: (T,) bool."""
    last = max((end for *_, end in spans(i)), default=-1)
    return of_y(i) & (np.arange(len(i.tokens)) > last)


def before_the_first(i):
    """True on y up to the first reply of a tool: (T,) bool."""
    first = min((reply for _, reply, _ in spans(i)), default=len(i.tokens))
    return of_y(i) & (np.arange(len(i.tokens)) < first)


def moved(found, by):
    """The mask moved by some places; what comes in is False."""
    out = np.zeros_like(found)
    out[max(0, by):len(found) + min(0, by)] = found[max(0, -by):len(found) - max(0, by)]
    return out


def counted_in_y(i):
    """The places of the calls taken for places in y."""
    found = of_y(i)
    for _, reply, end in spans(i):
        found[reply + int(i.n_x):end + 1 + int(i.n_x)] = False
    return found


MASK_OF_A_REPLY = Check(
    name="mask-of-a-reply", title="The mask of a reply", minutes=10, difficulty=1,
    function="reply_mask", arguments=("tokens", "n_x", "n_y", "calls"), kind="bool", compared="the mask",
    learned="You have the mask of an answer in which somebody else wrote too: the model learns from its own "
            "words, its calls among them, and from nobody else's.",
    task="True on every token of y but those of a tool's reply, its two marks with it; False on x and in the "
         "padding.",
    hints=(
        "Leave the calls aside first: y is the n_y tokens behind the n_x tokens of x. Make that mask, with "
        "False on all the rest.",
        "Take one call: calls[c] holds the place of its [CALL] and the place of its reply's end mark. The "
        "model wrote from [CALL] to [/CALL]. Where in between does the reply begin? Look for its mark.",
        "(tokens[start:] == REPLY).nonzero()[0] counts from start. In a slice the last place is not in it: "
        "mask[a:b + 1] holds place b."),
    expected=mask,
    cases=(
        Case("the call is the model's own, its marks with it: True.", draw_row,
             lambda i, o: all(o.result[call:reply].all() for call, reply, _ in spans(i)), draws=4),
        Case("a tool's reply is False, from its first mark to its last.", draw_row,
             lambda i, o: not any(o.result[reply:end + 1].any() for _, reply, end in spans(i)), draws=4),
        Case("x and the padding are False.", draw_row,
             lambda i, o: not o.result[~of_y(i)].any(), draws=4),
        Case("what the model wrote behind a reply is True, up to the end token.", draw_row,
             lambda i, o: all(o.result[end + 1:int(i.n_x + i.n_y)].all() for *_, end in spans(i)), draws=4),
        Case("each of several replies is left out.", lambda rng, k: draw_row(rng, k, "two"),
             lambda i, o: not any(o.result[reply:end + 1].any() for _, reply, end in spans(i))),
        Case("a reply that the model made up is the model's own: no tool ran.",
             lambda rng, k: draw_row(rng, k, "made up"),
             lambda i, o: o.result[of_y(i)].sum() >= mask(i).sum()),
        Case("where no tool ran, all of y is True.", lambda rng, k: draw_row(rng, k, "none"),
             lambda i, o: bool(o.result[of_y(i)].all()), draws=4),
        Case("an answer that breaks off in a call has no reply to it, and all of that call is True.",
             lambda rng, k: draw_row(rng, k, "cut"),
             lambda i, o: bool(o.result[max(e for *_, e in spans(i)) + 1:int(i.n_x + i.n_y)].all()),
             draws=4)),
    misconceptions=(
        M("the call is left out too",
          "The call is False as well. The model wrote it, and it is what the model is to learn: when to "
          "call, and what to ask.",
          lambda i: mask(i, lambda call, reply, end: slice(call, end + 1))),
        M("the call is left out too",
          "All that stands between marks is False. The model wrote the call, and it is what the model is to "
          "learn.",
          lambda i: by_marks(i, call=True)),
        M("the reply's marks stay in",
          "The mark at the reply's end is True. The model did not write it: it went on behind it. In a slice "
          "the last place is not in it.",
          lambda i: mask(i, lambda call, reply, end: slice(reply, end))),
        M("the reply's marks stay in",
          "The mark at the reply's beginning is True. The model stopped at its own [/CALL].",
          lambda i: mask(i, lambda call, reply, end: slice(reply + 1, end + 1))),
        M("the reply's marks stay in",
          "The marks around the reply are True. The model did not write them.",
          lambda i: mask(i, lambda call, reply, end: slice(reply + 1, end))),
        M("one token of the call",
          "The mark at the call's end is False. The model wrote it: that is how it asked for the tool.",
          lambda i: mask(i, lambda call, reply, end: slice(reply - 1, end + 1))),
        M("one token behind the reply",
          "The first token behind the reply is False. It is the model's: the place of the reply's end mark "
          "was given, and the slice went one further.",
          lambda i: mask(i, lambda call, reply, end: slice(reply, end + 2))),
        M("the mask is shifted",
          "The whole mask stands one place too early. It is aligned with the tokens, not with what predicts "
          "them.",
          lambda i: moved(mask(i), -1)),
        M("the mask is shifted",
          "The whole mask stands one place too late.",
          lambda i: moved(mask(i), 1)),
        M("places counted in y",
          "The places of the calls were counted from the beginning of y. They are places in tokens.",
          counted_in_y),
        M("x too",
          "The question is True. Somebody else asked it.",
          lambda i: mask(i, y=np.arange(len(i.tokens)) < i.n_x + i.n_y)),
        M("the padding too",
          "The padding is True. It is nobody's: the row ends after n_x + n_y tokens.",
          lambda i: mask(i, y=np.arange(len(i.tokens)) >= i.n_x)),
        M("x and the padding too",
          "The question and the padding are True. Only y can be the model's.",
          lambda i: mask(i, y=np.ones(len(i.tokens), bool))),
        M("the end token is left out",
          "The end token is False. It has the same id as the padding, and the model wrote it all the same.",
          lambda i: mask(i, y=of_y(i) & (i.tokens != END))),
        M("a made-up reply is left out",
          "All that stands between [REPLY] and its end mark is False. Where no tool ran, the model wrote "
          "that itself. Whether a tool ran, calls says.",
          by_marks),
        M("the first call alone",
          "The reply to the first call is left out, and the replies to the others are not.",
          lambda i: mask(i, which=slice(1))),
        M("the last call alone",
          "The reply to the last call is left out, and the replies to the others are not.",
          lambda i: mask(i, which=slice(-1, None))),
        M("the answer alone",
          "What the model wrote before the last reply is False, its calls too. A call is an action like "
          "another.",
          behind_the_last),
        M("nothing behind a reply",
          "What the model wrote behind the first reply is False. It went on there.",
          before_the_first),
        M("True and False exchanged",
          "True and False are exchanged within y: this marks what the tools wrote.",
          replies_alone)))
