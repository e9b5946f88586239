"""A model that calls tools while it answers: y in which a tool wrote some of the tokens.

    x   [USER] What is 47+38? [ASSISTANT]
    y   [CALL] calculator(47+38) [/CALL] [REPLY] 85 [/REPLY] 47+38 is 85. [END]
        by the model                     by the tool         by the model

The tool's tokens are no choice of the policy, so ∇ log p leaves them out: response_mask is False there, marks
and all. Sampling stops at [/CALL]; the tool runs; its reply is written; the model goes on. A reply is encoded
as plain text, so no tool can write a mark. A reply that the model makes up is the model's own: the mask is
True on it, and no tool has run. Source: Schick et al. 2023 (calls within a text); Yao et al. 2023 (ReAct).
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch

from ..batch import Batch, batch_pairs
from ..expect import expect, expect_positive, expect_whole
from ..sample import ROWS, sample, stream
from ..tokenizer import Response, Tokenizer
from .tools import Made, Tool, by_name, run

NO_CALLS_LEFT = "error: no calls are left; answer now"
MORE = "..."                    # at the end of a reply that was cut


@dataclass(frozen=True)
class Limits:
    """What one answer may cost. Each is a hard limit: what reaches it is cut, refused or left."""

    tokens: int = 192           # of y, those of tools among them
    calls: int = 4              # that are made; of a later one the model reads that none are left
    reply: int = 48             # tokens of one reply, marks apart; a longer one is cut
    seconds: float = 2.0        # of one call, where its tool names no others
    total: float = 600.0        # seconds of all answers of one `use`, between two calls or stretches of text

    def __post_init__(self):
        expect_whole(1, tokens=self.tokens, reply=self.reply)
        expect_whole(0, calls=self.calls)
        expect_positive(seconds=self.seconds, total=self.total)


class Form(NamedTuple):
    """How calls and their replies stand in y: `marks` is the course's own form, and the default.

    ends: ids at which sampling stops. around: tokens of a reply beside its text. calls(what the model wrote
    since the last reply) -> (where in it the first call begins, the texts of the calls); none: the answer is
    over. replies([(a call's text, the ids of its reply), …]) -> ids to be written.
    """

    ends: tuple[int, ...]
    around: int
    calls: Callable[[list[int]], tuple[int, list[str]]]
    replies: Callable[[Sequence[tuple[str, list[int]]]], list[int]]


@dataclass
class Transcript:
    """x, y, who wrote each token of y, and every call. stopped: "end", "tokens", "context" or "seconds".

    response_mask: True on what the model wrote; logprobs: of each such token as it was drawn, 0 elsewhere.
    group: the number of its question.
    """

    prompt: list[int]
    ids: list[int] = field(default_factory=list)
    response_mask: list[bool] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    calls: list[Made] = field(default_factory=list)
    stopped: str = ""
    group: int = 0

    @property
    def ended(self) -> bool:
        return self.stopped == "end"

    def append(self, ids: Sequence[int], by_model: bool, logprobs: Sequence[float] | None = None) -> None:
        """Some tokens behind the others."""
        self.ids += ids
        self.response_mask += [by_model] * len(ids)
        self.logprobs += [0.0] * len(ids) if logprobs is None else logprobs

    def response(self, tokenizer: Tokenizer) -> Response:
        """The answer as if there had been no calls: calls and replies are taken out."""
        inside = {i for made in self.calls for i in range(made.start, made.end)}
        return tokenizer.read_response([token for i, token in enumerate(self.ids) if i not in inside])

    def turns(self) -> list[tuple[list[int], list[int]]]:
        """[(x, what the model wrote), (a reply, what it wrote then), …], as `batch_packed` takes it."""
        found: list[tuple[list[int], list[int]]] = [(list(self.prompt), [])]
        for token, mine in zip(self.ids, self.response_mask):
            if not mine and found[-1][1]:
                found.append(([], []))
            found[-1][mine].append(token)
        return found if found[-1][1] else found[:-1]    # behind a last reply nothing was written

    def text(self, tokenizer: Tokenizer) -> str:
        """All of y, marks too, for people to read."""
        return tokenizer.decode(self.ids, specials=True)


@torch.no_grad()
def use(model, tokenizer: Tokenizer, questions: Sequence[str | Sequence[int]],
        tools: Sequence[Tool] | Callable[[], Sequence[Tool]], limits: Limits = Limits(), *, n: int = 1,
        temperature: float = 0.0, top_k: int | None = None, top_p: float | None = None,
        generator: torch.Generator | None = None, form: Form | None = None) -> list[Transcript]:
    """n answers to each question, in order, by a model that may call tools; greedy by default.

    questions: texts, or prompts as ids where something is to stand before a question. tools: functions, or a
    function that makes them anew for each answer, such as `notebook`. All answers are written side by side;
    calls are made one after another. form: how a call is written, where it is not by the course's marks.
    A call for whose reply there is no room left ends its answer, and is not made.
    ValueError for a tool that cannot be called and for a tokenizer without marks; no error of a tool reaches
    the caller (see `tools.run`).
    """
    rows, kits, form = _begun(model, tokenizer, questions, tools, limits, n, form)
    deadline, context = time.monotonic() + limits.total, model.config.context
    how = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "generator": generator}
    while going := [i for i, row in enumerate(rows) if not row.stopped]:
        for k in range(0, len(going), ROWS):
            some = going[k:k + ROWS]
            if time.monotonic() < deadline:
                _write(model, form, [rows[i] for i in some], limits, how)
            for i in some:
                _go_on(rows[i], tokenizer, form, kits[i], limits, context, time.monotonic() >= deadline)
    return rows


@torch.no_grad()
def stream_use(model, tokenizer: Tokenizer, question: str | Sequence[int],
               tools: Sequence[Tool] | Callable[[], Sequence[Tool]], limits: Limits = Limits(), *,
               temperature: float = 0.0, top_k: int | None = None, top_p: float | None = None,
               generator: torch.Generator | None = None, form: Form | None = None) -> Iterator[Transcript]:
    """One answer while it is written: one and the same transcript after each token of the model, and after
    each reply.

    In the end it is what `use` gives for this question and this generator; a test holds the two equal.
    Arguments are as there, and are checked when the first token is asked for.
    """
    (row,), (kit,), form = _begun(model, tokenizer, [question], tools, limits, 1, form)
    deadline, context = time.monotonic() + limits.total, model.config.context
    how = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "generator": generator}
    while not row.stopped:
        if time.monotonic() < deadline:
            room = _room(row, limits, context)
            for token, logp in stream(model, row.prompt + row.ids, room, end=form.ends, **how):
                row.append([token], True, [logp])
                yield row
        _go_on(row, tokenizer, form, kit, limits, context, time.monotonic() >= deadline)
        yield row


def demonstrate(tokenizer: Tokenizer, question: str, calls: Sequence[str], answer: str,
                tools: Sequence[Tool], thought: str | None = None, reply: int = Limits.reply) -> Transcript:
    """A transcript as a person would write it, to learn from: the calls, each with what its tool says to it
    now, then the answer.

    calls: texts in a form that `tools.read_call` reads. thought: a scratchpad before the calls.
    ValueError for a call that comes to an error: nobody should learn it unawares.
    """
    form = marks(tokenizer)
    expect_whole(1, reply=reply)
    tools = by_name(tools)
    row = Transcript(tokenizer.prompt(question), stopped="end")
    if thought is not None:
        row.append([tokenizer.think, *tokenizer.encode(thought), tokenizer.think_end], by_model=True)
    for call in calls:
        start = len(row.ids)
        made = run(tools, call)
        expect(made.ok, f"calls: {call}", made.reply, "give one that its tool answers")
        row.append([tokenizer.call, *tokenizer.encode(call), tokenizer.call_end], by_model=True)
        _reply(row, tokenizer, form, [made], reply, start)
    row.append(tokenizer.response(answer), by_model=True)
    return row


def batch_transcripts(transcripts: Sequence[Transcript], replies: bool = False,
                      dtype: torch.dtype = torch.float32) -> Batch:
    """Rows of x and y: response_mask is True on what the model wrote, and False on what a tool wrote.

    With logprobs (B, T) when drawn, ended (B,) and group (B,), as `sample` gives them. A reply behind which
    the model wrote nothing more is left out. replies: True counts the tools' tokens into y as well. That is
    no policy gradient: it is another objective, in which the model is to predict what tools say as well.
    dtype: of logprobs.
    """
    expect(len(transcripts) > 0, "transcripts", "empty", "give at least one")
    ends = []
    for i, row in enumerate(transcripts):
        lengths = {len(row.ids), len(row.response_mask), len(row.logprobs)}
        expect(len(lengths) == 1, f"transcripts[{i}]", "one with unequal lengths",
               "give as many ids, response_mask and logprobs: Transcript.append does")
        expect(any(row.response_mask), f"transcripts[{i}]", "one in which the model wrote nothing",
               "leave it out")
        ends.append(max(t for t, mine in enumerate(row.response_mask) if mine) + 1)
    batch = batch_pairs([(row.prompt, row.ids[:end]) for row, end in zip(transcripts, ends)])
    batch.logprobs = torch.zeros(batch.tokens.shape, dtype=dtype)
    for b, (row, end) in enumerate(zip(transcripts, ends)):
        y = slice(len(row.prompt), len(row.prompt) + end)
        batch.logprobs[b, y] = torch.tensor(row.logprobs[:end], dtype=dtype)
        if not replies:
            batch.response_mask[b, y] = torch.tensor(row.response_mask[:end])
    batch.ended = torch.tensor([row.ended for row in transcripts])
    batch.group = torch.tensor([row.group for row in transcripts])
    return batch


def marks(tokenizer: Tokenizer) -> Form:
    """The course's form: [CALL] price(lamp) [/CALL], and behind it [REPLY] 12 [/REPLY].

    ValueError for a tokenizer that has no such marks.
    """
    t = tokenizer
    expect(None not in (t.end, t.call, t.call_end, t.reply, t.reply_end), "tokenizer",
           "without the marks of calls and replies", "call hub.add_marks(model, tokenizer) first")

    def calls(ids: list[int]) -> tuple[int, list[str]]:
        """The call that was just closed: its text is empty where it was never opened."""
        if ids[-1] != t.call_end:
            return 0, []
        begun = [i for i, token in enumerate(ids) if token == t.call]
        start = begun[-1] if begun else len(ids) - 1
        return start, [t.decode(ids[start + 1:-1], specials=True)]

    def replies(made: Sequence[tuple[str, list[int]]]) -> list[int]:
        return [token for _, ids in made for token in (t.reply, *ids, t.reply_end)]

    return Form((t.end, t.call_end), 2, calls, replies)


def _begun(model, tokenizer: Tokenizer, questions, tools, limits: Limits, n: int,
           form: Form | None) -> tuple[list[Transcript], list[dict[str, Tool]], Form]:
    """n empty transcripts for each question, the tools of each, and the form of calls.

    ValueError for what `use` cannot use.
    """
    form = marks(tokenizer) if form is None else form
    expect(not isinstance(questions, str), "questions", "one text", "give a list")
    expect(len(questions) > 0, "questions", "empty", "give at least one")
    expect_whole(1, n=n)
    expect(isinstance(limits, Limits), "limits", limits, "give Limits(…)")
    prompts = [tokenizer.prompt(q) if isinstance(q, str) else list(q) for q in questions]
    context = model.config.context
    for i, prompt in enumerate(prompts):
        fits = 0 < len(prompt) < context
        expect(fits, f"questions[{i}]", f"{len(prompt)} tokens long", f"give 1 to {context - 1}")
    rows = [Transcript(list(prompt), group=g) for g, prompt in enumerate(prompts) for _ in range(n)]
    kits = [by_name(_anew(tools)) for _ in rows] if callable(tools) else [by_name(tools)] * len(rows)
    return rows, kits, form


def _write(model, form: Form, rows: list[Transcript], limits: Limits, how: dict) -> None:
    """Each row goes on to the end of a call, to its own end, or as far as there is room.

    A row may be cut because another has a long text before it: it goes on in the next round, from where it
    was, and its distribution is the same.
    """
    context = model.config.context
    prompts = [row.prompt + row.ids for row in rows]
    rooms = [_room(row, limits, context) for row in rows]
    most = min(max(rooms), context - max(map(len, prompts)))
    batch = sample(model, prompts, most, end=form.ends, **how)
    for row, room, tokens, mask, logp in zip(rows, rooms, batch.tokens, batch.response_mask, batch.logprobs):
        row.append(tokens[mask].tolist()[:room], True, logp[mask].tolist()[:room])


def _go_on(row: Transcript, tokenizer: Tokenizer, form: Form, tools: dict[str, Tool], limits: Limits,
           context: int, late: bool) -> None:
    """What follows a stretch of text: the end, calls and their replies, more text, or nothing, and why."""
    since, room = row.calls[-1].end if row.calls else 0, _room(row, limits, context)
    closed = bool(row.ids) and row.response_mask[-1] and row.ids[-1] in form.ends
    begin, texts = form.calls(row.ids[since:]) if closed else (0, [])
    # Of each reply what is around it and a token, and behind the replies a token of the model.
    need = len(texts) * (form.around + 1) + 1
    if closed and not texts:
        row.stopped = "end"
    elif late:
        row.stopped = "seconds"
    elif room < need:
        row.stopped = _why(row, limits, room)
    elif texts:
        made = []
        for text in texts:
            left = len(row.calls) + len(made) < limits.calls
            made.append(run(tools, text, limits.seconds) if left else
                        Made(text, None, NO_CALLS_LEFT, False, 0.0))
        most = min(limits.reply, (room - 1) // len(texts) - form.around)
        _reply(row, tokenizer, form, made, most, since + begin)
        left = _room(row, limits, context)
        row.stopped = "" if left > 0 else _why(row, limits, left)


def _reply(row: Transcript, tokenizer: Tokenizer, form: Form, made: Sequence[Made], room: int,
           start: int) -> None:
    """Write what came back behind the calls of which the first begins at `start`: at most `room` tokens of
    each, and what the form writes around them."""
    replies = [(one.text, _cut(tokenizer, one.reply, room)) for one in made]
    row.append(form.replies(replies), by_model=False)
    end = len(row.ids)
    row.calls += [replace(one, start=end if i else start, end=end) for i, one in enumerate(made)]


def _cut(tokenizer: Tokenizer, reply: str, room: int) -> list[int]:
    """A reply as plain text, in at most `room` tokens."""
    ids = tokenizer.encode(reply)
    if len(ids) > room:
        more = tokenizer.encode(MORE)[:room]
        ids = ids[:room - len(more)] + more
    return ids


def last_call(row: Transcript, tokenizer: Tokenizer) -> tuple[int, str]:
    """Where the call that was just closed by its mark begins in y, and its text."""
    since = row.calls[-1].end if row.calls else 0
    begin, texts = marks(tokenizer).calls(row.ids[since:])
    return since + begin, texts[0]


def reply_ids(tokenizer: Tokenizer, reply: str, room: int) -> list[int]:
    """[REPLY] what came back, as plain text, cut to `room` tokens [/REPLY]."""
    return marks(tokenizer).replies([("", _cut(tokenizer, reply, room))])


def _why(row: Transcript, limits: Limits, room: int) -> str:
    return "tokens" if limits.tokens - len(row.ids) == room else "context"


def _room(row: Transcript, limits: Limits, context: int) -> int:
    """How many tokens may still be written."""
    return min(limits.tokens - len(row.ids), context - len(row.prompt) - len(row.ids))


def _anew(make: Callable[[], Sequence[Tool]]) -> Sequence[Tool]:
    """The tools that a function makes; one that takes arguments is itself a tool that was not put in a list.
    """
    wanted = [p.name for p in inspect.signature(make).parameters.values() if p.default is p.empty]
    expect(not wanted, "tools", f"a function of {', '.join(wanted)}", "give a list of functions: [it]")
    return make()
