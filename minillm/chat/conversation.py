"""A conversation with a model: what it reads of it, and its answer while it is written, piece by piece."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from functools import cache, cached_property
from typing import NamedTuple

import torch

from ..acting.json_calls import as_messages, json_form
from ..acting.tools import Tool, schema
from ..acting.transcript import Form, Limits, Transcript, stream_use
from ..expect import expect, expect_whole
from ..hub import ChatTemplate
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
    template: of a checkpoint from elsewhere, whose thoughts, calls and ends have their own tokens. What it
    writes around a reply is not said; `follow` says the reply.
    """

    def __init__(self, tokenizer: Tokenizer, template: ChatTemplate | None = None):
        self.tokenizer, t = tokenizer, template or tokenizer
        ends = (t.end,) if template is None else template.ends
        begin = {t.think: "thought", t.call: "call", t.reply: "reply"}
        close = dict.fromkeys((t.think_end, t.call_end, t.reply_end, *ends), "answer")
        self.marks = {mark: kind for mark, kind in (begin | close).items() if mark is not None}
        self.kind, self.ids, self.given = "answer", [], 0
        self.messages = template is not None
        self.bare = self.messages and template.calls == "json"      # a call is told from an answer at its end
        self.seen = self.calls = 0                                  # of a transcript

    def follow(self, row: Transcript) -> list[Piece]:
        """What a transcript lets be said that it did not when it was last seen."""
        pieces = []
        for token, by_model in zip(row.ids[self.seen:], row.response_mask[self.seen:]):
            pieces += self.read(token, by_model)
        for made in row.calls[self.calls:] if self.messages else ():
            pieces += [Piece("reply", made.reply)]
        self.seen, self.calls = len(row.ids), len(row.calls)
        return pieces

    def read(self, token: int, by_model: bool = True) -> list[Piece]:
        """What one more token lets be said: nothing, or a piece."""
        if self.messages and not by_model:
            held, kind = self.close("call"), self.marks.get(token, self.kind)
            # Some templates open a thought before the model goes on.
            self.kind, self.ids, self.given = "thought" if kind == "thought" else "answer", [], 0
            return held
        if token in self.marks and self._held():
            return []
        if token in self.marks:
            rest = self.close()
            kind = self.marks[token]
            self.kind, self.ids, self.given = "made up" if by_model and kind == "reply" else kind, [], 0
            return rest
        self.ids.append(token)
        text = self.tokenizer.decode(self.ids, specials=True)
        return [] if self._held() else self._said(text.rstrip("\ufffd"))

    def close(self, kind: str | None = None) -> list[Piece]:
        """What was held; of a kind, where it was held because that was not known."""
        self.kind = kind if kind is not None and self._held() else self.kind
        return self._said(self.tokenizer.decode(self.ids, specials=True))

    def _held(self) -> bool:
        """Whether what is being written may be a call without tags, which is known at its end."""
        text = self.tokenizer.decode(self.ids, specials=True) if self.bare and self.kind == "answer" else ""
        return text.lstrip().startswith(("{", "<|python_tag|>"))

    def _said(self, text: str) -> list[Piece]:
        new = text[self.given:]
        self.given = max(self.given, len(text))
        return [Piece(self.kind, new)] if new else []


class Conversation:
    """Questions and answers, of which the next question's prompt is made.

    tools: functions that the model may call; None: it calls none. turns: how many of those before a question
    the model reads with it; None: as many as the context takes. tokens: the longest answer; None: half of the
    context, and 1024 at most. temperature 0 is greedy.
    template: of a checkpoint from elsewhere; it writes who speaks, and how tools are shown and called.
    A tokenizer from elsewhere that has neither: the text goes on where the question ends.
    """

    def __init__(self, model, tokenizer: Tokenizer, *, tools: Sequence[Tool] | None = None,
                 turns: int | None = None, tokens: int | None = None, temperature: float = 0.0,
                 generator: torch.Generator | None = None, template: ChatTemplate | None = None):
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
        self.template = template
        self.past: list[list] = []              # of each turn x and y; with a template, its messages
        own = None not in (tokenizer.user, tokenizer.assistant, tokenizer.end)
        marks = None not in (tokenizer.call, tokenizer.call_end, tokenizer.reply, tokenizer.reply_end)
        self.speaks = own or template is not None
        self.calls = own and marks if template is None else bool(template.calls and template.ends)

    def prompt(self, question: str) -> tuple[list[int], int]:
        """(x, how many of the oldest turns were left out because the context ends).

        What is left out is not read again. ValueError for a question that is longer than the context.
        """
        if self.template is not None:
            return self._from_template(question)
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
            yield from stream_use(self.model, self.tokenizer, prompt, self.tools, limits, **self.how,
                                  form=self.form)
            return
        room = min(self.tokens, self.model.config.context - len(prompt))
        row = Transcript(prompt)
        ends = (self.tokenizer.end,) if self.template is None else self.template.ends
        ends = tuple(end for end in ends if end is not None)
        for token, logp in stream(self.model, prompt, room, end=ends, **self.how):
            row.append([token], True, [logp])
            row.stopped = "end" if token in ends else ""
            yield row
        if not row.stopped:
            row.stopped = "tokens" if room == self.tokens else "context"
            yield row

    def keep(self, question: str, row: Transcript) -> None:
        """Put a turn behind the others. An answer that was stopped is closed as if it had ended there."""
        if self.template is not None:
            self.past.append([{"role": "user", "content": question}, *self._messages(row)])
            return
        closed = not self.speaks or row.ids[-1:] == [self.tokenizer.end]
        self.past.append(self._asked(question) + row.ids + ([] if closed else [self.tokenizer.end]))

    def _asked(self, question: str) -> list[int]:
        if self.speaks:
            return self.tokenizer.prompt(question)
        return self.tokenizer.encode(("\n" if self.past else "") + question)

    # --- with a template ----------------------------------------------------------------------------

    @cached_property
    def form(self) -> Form | None:
        """How a model from elsewhere calls; None for the course's marks."""
        if self.template is None:
            return None
        return json_form(self.tokenizer, self.template.encode, self.template.ends, self.template.calls)

    def reader(self, prompt: Sequence[int] = ()) -> Reader:
        """What reads an answer to a prompt, from a template also what the prompt opens: a thought."""
        reader = Reader(self.tokenizer, self.template)
        for token in prompt if self.template is not None else ():
            reader.read(token, by_model=False)
        return reader

    def _from_template(self, question: str) -> tuple[list[int], int]:
        asked, context = [{"role": "user", "content": question}], self.model.config.context
        tools = [schema(tool) for tool in self.tools] if self.tools is not None and self.calls else None
        if tools:
            _ = self.form       # what is wrong with it is said before an answer is begun
        past = self.past if self.turns is None else self.past[max(0, len(self.past) - self.turns):]

        @cache
        def prompt(cut: int) -> list[int]:
            said = [message for turn in past[cut:] for message in turn]
            return self.template.encode(said + asked, tools or None)

        alone = len(past)
        # The fewest turns without which the rest has room; where even none has, the question alone.
        cut = bisect_left(range(alone), True, key=lambda n: len(prompt(n)) + self.tokens <= context)
        ids = prompt(cut)
        remedy = f"the context is {context}: ask a shorter one" + (", or turn tools off" if tools else "")
        expect(len(ids) < context, "the question", f"{len(ids)} tokens long", remedy)
        self.past = past[cut:]
        return ids, cut

    def _messages(self, row: Transcript) -> list[dict]:
        """An answer as messages: of the assistant, and of the tools it called."""
        found: list[dict] = []
        blocks = sorted({made.end for made in row.calls})
        for begin, end in zip([0, *blocks], [*blocks, len(row.ids)]):
            calls = [made for made in row.calls if made.end == end]
            reader, said = self.reader(row.prompt + row.ids[:begin]), {"answer": "", "thought": ""}
            mine = [i for i, by_model in zip(row.ids[begin:end], row.response_mask[begin:end]) if by_model]
            for piece in [p for token in mine for p in reader.read(token)] + reader.close():
                said[piece.kind] = said.get(piece.kind, "") + piece.text
            text = "" if calls and self.template.calls == "json" else said["answer"].strip()
            if mine or not calls:               # a turn ends with the assistant, if it says nothing
                found += as_messages([made.text for made in calls], [made.reply for made in calls], text,
                                     said["thought"].strip())
        return found
