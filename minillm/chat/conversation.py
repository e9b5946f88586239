"""A conversation with a model: what it reads of it, and its answer while it is written, piece by piece."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch

from ..acting.tools import Tool
from ..acting.transcript import Limits, Transcript, stream_use
from ..expect import expect, expect_whole
from ..sample import stream
from ..tokenizer import Tokenizer

LEAST = 4               # tokens of context: who speaks, a word, who answers, a token of the answer
LONGEST = 1024          # tokens of an answer, where the context has room for more


class Piece(NamedTuple):
    """Some text. kind: "answer", "thought", "call", "reply", or "made up": a reply that no tool gave."""

    kind: str
    text: str


class Reader:
    """Tokens, one by one, to pieces of text; the pieces of a kind joined are what `decode` gives at once.

    A character whose bytes have not all come is held until they have, or until its kind ends.
    """

    def __init__(self, tokenizer: Tokenizer):
        t = self.tokenizer = tokenizer
        begin = {t.think: "thought", t.call: "call", t.reply: "reply"}
        close = dict.fromkeys((t.think_end, t.call_end, t.reply_end, t.end), "answer")
        self.marks = {mark: kind for mark, kind in (begin | close).items() if mark is not None}
        self.kind, self.ids, self.given = "answer", [], 0

    def read(self, token: int, by_model: bool = True) -> list[Piece]:
        """What one more token lets be said: nothing, or a piece."""
        if token in self.marks:
            rest = self.close()
            kind = self.marks[token]
            self.kind, self.ids, self.given = "made up" if by_model and kind == "reply" else kind, [], 0
            return rest
        self.ids.append(token)
        text = self.tokenizer.decode(self.ids, specials=True)
        return self._said(text.rstrip("\ufffd"))

    def close(self) -> list[Piece]:
        """What was held."""
        return self._said(self.tokenizer.decode(self.ids, specials=True))

    def _said(self, text: str) -> list[Piece]:
        new = text[self.given:]
        self.given = max(self.given, len(text))
        return [Piece(self.kind, new)] if new else []


class Conversation:
    """Questions and answers, of which the next question's prompt is made.

    tools: functions that the model may call; None: it calls none. turns: how many of those before a question
    the model reads with it; None: as many as the context takes. tokens: the longest answer; None: half of the
    context, and 1024 at most. temperature 0 is greedy.
    A tokenizer from elsewhere that has no marks of who speaks: the text goes on where the question ends.
    """

    def __init__(self, model, tokenizer: Tokenizer, *, tools: Sequence[Tool] | None = None,
                 turns: int | None = None, tokens: int | None = None, temperature: float = 0.0,
                 generator: torch.Generator | None = None):
        context = model.config.context
        expect(context >= LEAST, "model", f"one with a context of {context} tokens",
               f"give a model that reads {LEAST} or more")
        if turns is not None:
            expect_whole(0, turns=turns)
        if tokens is not None:
            expect_whole(1, context - LEAST + 2, tokens=tokens)
        expect(temperature >= 0, "temperature", temperature, "give 0 (greedy) or more")
        self.model, self.tokenizer, self.tools, self.turns = model, tokenizer, tools, turns
        self.tokens = max(1, min(context // 2, LONGEST)) if tokens is None else tokens
        self.how = {"temperature": temperature, "generator": generator}
        self.past: list[list[int]] = []         # x and y of each turn
        self.speaks = None not in (tokenizer.user, tokenizer.assistant, tokenizer.end)
        self.calls = self.speaks and None not in (tokenizer.call, tokenizer.call_end, tokenizer.reply,
                                                  tokenizer.reply_end)

    def prompt(self, question: str) -> tuple[list[int], int]:
        """(x, how many of the oldest turns were left out because the context ends).

        What is left out is not read again. ValueError for a question that is longer than the context.
        """
        asked, context = self._asked(question), self.model.config.context
        expect(len(asked) < context, "the question", f"{len(asked)} tokens long",
               f"the context is {context}: ask a shorter one")
        past = self.past if self.turns is None else self.past[max(0, len(self.past) - self.turns):]
        before = len(past)
        while past and sum(map(len, past)) + len(asked) + self.tokens > context:
            past = past[1:]
        self.past = past
        return [i for turn in past for i in turn] + asked, before - len(past)

    def answer(self, prompt: list[int]) -> Iterator[Transcript]:
        """One and the same transcript after each token of the model, and after each reply of a tool."""
        if self.tools is not None and self.calls:
            limits = Limits(tokens=self.tokens, total=float("inf"))
            yield from stream_use(self.model, self.tokenizer, prompt, self.tools, limits, **self.how)
            return
        room = min(self.tokens, self.model.config.context - len(prompt))
        row, end = Transcript(prompt), self.tokenizer.end
        for token, logp in stream(self.model, prompt, room, end=end, **self.how):
            row.append([token], True, [logp])
            row.stopped = "end" if token == end else ""
            yield row
        if not row.stopped:
            row.stopped = "tokens" if room == self.tokens else "context"
            yield row

    def keep(self, question: str, row: Transcript) -> None:
        """Put a turn behind the others. An answer that was stopped is closed as if it had ended there."""
        closed = not self.speaks or row.ids[-1:] == [self.tokenizer.end]
        self.past.append(self._asked(question) + row.ids + ([] if closed else [self.tokenizer.end]))

    def _asked(self, question: str) -> list[int]:
        if self.speaks:
            return self.tokenizer.prompt(question)
        return self.tokenizer.encode(("\n" if self.past else "") + question)
