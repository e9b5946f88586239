"""The widget of chapter 17: the model calls a tool, and the reader is the tool.

`ToolByHand` is what it does and says, without a browser; `ToolWidget` wires it to buttons. The answer is
written by `transcript.stream_use`, with stand-ins that say what the reader said. What the true tool says to
the same call is kept beside it, and so is how the model goes on behind that.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from html import escape

import ipywidgets as widgets
import torch

from ..acting.tools import Made, Tool, by_name, read_call, run, within
from ..acting.transcript import Limits, Transcript, last_call, reply_ids, stream_use
from ..batch import batch_pairs
from ..expect import expect
from ..logprob import answer_logprobs, logprobs
from ..sample import stream

BLOCKS = ("now", "what came of your replies")
SMALLEST = math.log(1e-9)       # of a probability that is shown
STOPPED = {"end": "It has ended.", "tokens": "It was stopped: it has written all the tokens that it may.",
           "context": "It was stopped: its context is full.", "seconds": "It was stopped: it took too long."}
VERDICTS = {
    "same": "nothing to believe: you said what the tool says",
    "no": "no: it went on as if you had said what the tool says",
    "yes": "yes: it goes on with what you said",
    "doubts": "no: it goes on with what the tool says",
    "other": "hard to say: what you said changed its words, and they do not hold one reply alone",
}


@dataclass(frozen=True)
class Turn:
    """A call that the reader answered, and what came of it.

    words: how the model went on behind the reader's reply, to its next call or its end; other: how behind the
    tool's. logp: log p of the words after (your reply, the tool's), and of the other words after both; None
    where a text has no token or no room.
    """

    call: str
    said: str
    tool: str
    words: str
    other: str
    logp: tuple[tuple[float | None, float | None], tuple[float | None, float | None]]

    @property
    def believed(self) -> str:
        """Which of VERDICTS it is. A reply is looked for in the words as it stands there, as whole words."""
        if self.said == self.tool:
            return "same"
        if self.words == self.other:
            return "no"
        yours, tools = holds(self.words, self.said), holds(self.words, self.tool)
        return "yes" if yours and not tools else "doubts" if tools and not yours else "other"


def holds(words: str, reply: str) -> bool:
    """Whether the words hold a reply: "it is 85." holds "85", and "it is 853" does not."""
    reply = reply.strip()
    return bool(reply) and re.search(rf"(?<!\w){re.escape(reply)}(?!\w)", words) is not None


class ToolByHand:
    """A question, an answer that stops at each call, and the reader's replies to them.

    tools: the true ones, as `transcript.use` takes them. A call that cannot be read, and one for which none
    is left, is answered by an error as always: nobody is asked. temperature, seed: how the model writes,
    greedily by default.
    ValueError for a tool that cannot be called, and where `transcript.use` raises one.
    """

    def __init__(self, model, tokenizer, tools: Sequence[Tool] | Callable[[], Sequence[Tool]],
                 limits: Limits = Limits(), *, temperature: float = 0.0, seed: int = 0):
        expect(isinstance(limits, Limits), "limits", repr(limits), "give Limits(…)")
        self.model, self.tokenizer, self.tools = model, tokenizer, tools
        self.limits = replace(limits, total=math.inf)       # a reader has all the time
        self.temperature, self.seed = temperature, seed
        self.ends = tokenizer.end, tokenizer.call_end
        self._kit()
        self.row: Transcript | None = None
        self.true: Made | None = None                       # of the call that waits
        self.turns: list[Turn] = []

    def _kit(self) -> dict[str, Tool]:
        """The true tools by name, made anew where a function makes them."""
        return by_name(self.tools() if callable(self.tools) else self.tools)

    def _how(self) -> dict:
        generator = torch.Generator(self.model.embed.weight.device).manual_seed(self.seed)
        return {"temperature": self.temperature, "generator": generator}

    # what the reader does

    def ask(self, question: str) -> None:
        """Begin anew: the model writes to its first call, or to the end."""
        expect(isinstance(question, str) and question.strip() != "", "question", repr(question),
               "give a text")
        self.kit, self.box, self.turns, self.row, self.true = self._kit(), [], [], None, None
        stand_ins = [_stand_in(tool, self.box) for tool in self.kit.values()]
        self.writing: Iterator[Transcript] = stream_use(self.model, self.tokenizer, question, stand_ins,
                                                        self.limits, **self._how())
        self._go_on()

    def say(self, reply: str) -> None:
        """The reply to the call that waits: the model goes on to its next call, or to the end."""
        expect(isinstance(reply, str), "reply", type(reply).__name__, "give a text")
        expect(self.waiting is not None, "reply", repr(reply), "there is no call to answer: ask a question")
        true, before = self.true, len(self.row.ids)
        self.box.append(reply)
        next(self.writing)
        self.box.clear()
        self.true = None
        if self.row.stopped:                                # there was no room for a reply
            return
        made = self.row.calls[-1]
        self._go_on()
        self.turns.append(self._turn(made, true, before))

    def let_the_tool(self) -> None:
        """The true tool answers the call that waits."""
        expect(self.waiting is not None, "the tool", "asked", "there is no call to answer: ask a question")
        self.say(self.true.reply)

    @property
    def waiting(self) -> str | None:
        """The call that waits for a reply."""
        return None if self.true is None else self.true.text

    def _go_on(self) -> None:
        """To a call that the reader is to answer, or to the end."""
        for self.row in self.writing:
            row = self.row
            written = row.ids and row.response_mask[-1] and row.ids[-1] == self.tokenizer.call_end
            if written and not row.stopped and len(row.calls) < self.limits.calls:
                text = last_call(row, self.tokenizer)[1]
                try:
                    read_call(text, self.kit)
                except ValueError:
                    continue
                self.true = run(self.kit, text, self.limits.seconds)
                return

    # what is beside it

    def _turn(self, made: Made, true: Made, before: int) -> Turn:
        """The words behind the reader's reply and behind the tool's, and log p of each after both."""
        row, size = self.row, self.model.config.context
        context = row.prompt + row.ids[:before]
        yours = row.prompt + row.ids[:made.end]
        room = min(self.limits.tokens - before, size - len(context))
        tools = context + reply_ids(self.tokenizer, true.reply, min(self.limits.reply, room - 3))
        words = other = self._to_an_end(row.ids[made.end:])
        left = room - (len(tools) - len(context))
        if made.reply != true.reply:
            drawn = stream(self.model, tools, left, end=self.ends, **self._how()) if left else ()
            other = [token for token, _ in drawn]
        logp = tuple(tuple(self.log_p(x, y) for x in (yours, tools)) for y in (words, other))
        return Turn(made.text, made.reply, true.reply, self._text(words), self._text(other), logp)

    def _to_an_end(self, ids: list[int]) -> list[int]:
        """The ids up to the first that ends a call or the answer, with it."""
        stops = [i for i, token in enumerate(ids) if token in self.ends]
        return ids[:stops[0] + 1] if stops else ids

    @torch.no_grad()
    def log_p(self, context: list[int], words: list[int]) -> float | None:
        """log p of words after a context, in nats; None for no words, and where both have no room."""
        if not words or len(context) + len(words) > self.model.config.context:
            return None
        batch = batch_pairs([(context, words)]).to(self.model.embed.weight.device)
        return float(answer_logprobs(logprobs(self.model, batch), batch.response_mask))

    def _text(self, ids: list[int]) -> str:
        return self.tokenizer.decode(ids, specials=True)

    # in words

    def now(self) -> str:
        """The question and all that was written, and who is to go on."""
        if self.row is None:
            return "Ask it something."
        said = self._text(self.row.prompt + self.row.ids)
        if self.waiting is None:
            return f"{said}\n{STOPPED[self.row.stopped]}"
        return f"{said}\nIt calls {self.waiting}, and waits. You are the tool: what do you say?"

    def turns_text(self) -> str:
        """Each reply of the reader, the tool's, how the model went on behind both, and p of that."""
        lines = []
        for number, turn in enumerate(self.turns, 1):
            lines += [f"{number}. {turn.call}", f"    you said: {turn.said}",
                      f"    the tool says: {turn.tool}", f"    it went on: {turn.words}"]
            if turn.believed != "same":
                lines.append(f"    behind the tool's reply: {turn.other}")
            lines.append(f"    did it believe you? {VERDICTS[turn.believed]}")
            if turn.believed == "same":
                lines.append(f"    p of its words: {_p(turn.logp[0][0])}")
                continue
            for what, logp in zip(("its words", "the other words"), turn.logp):
                lines.append(f"    p of {what}: {_p(logp[0])} behind your reply, {_p(logp[1])} behind the "
                             "tool's")
                if turn.words == turn.other:
                    break
        return "\n".join(lines)


def _p(logp: float | None) -> str:
    """A probability by its log, in two digits."""
    if logp is None:
        return "unknown"
    return f"{math.exp(logp):.2g}" if logp > SMALLEST else f"below {math.exp(SMALLEST):.0e}"


def _stand_in(tool: Tool, box: list[str]) -> Tool:
    """A tool of the same name and arguments, that says what is in the box."""
    @within(math.inf)
    @wraps(tool)
    def same(*arguments, **named):
        return box.pop()

    return same


class ToolWidget(widgets.VBox):
    """Ask the model, and answer its calls yourself. All that is shown is text.

    model, tokenizer: any whose tokenizer has the marks; tools: the true ones; how: limits, temperature, seed
    of `ToolByHand`. The question is asked at once.
    """

    def __init__(self, model, tokenizer, tools: Sequence[Tool] | Callable[[], Sequence[Tool]],
                 question: str, **how):
        self.game = ToolByHand(model, tokenizer, tools, **how)
        wide = {"layout": widgets.Layout(width="34em"), "style": {"description_width": "7em"}}
        self.question = widgets.Text(question, description="question", **wide)
        self.reply = widgets.Text("", description="your reply", **wide)
        self.ask = self._button("ask", lambda: self.game.ask(self.question.value))
        self.say = self._button("reply", lambda: self.game.say(self.reply.value))
        self.tool = self._button("let the tool reply", self.game.let_the_tool)
        self.blocks = {name: widgets.HTML() for name in BLOCKS}
        self.problem = ""
        now, told = self.blocks.values()
        super().__init__([widgets.HBox([self.question, self.ask]), now,
                          widgets.HBox([self.reply, self.say, self.tool]), told])
        self._press(lambda: self.game.ask(question))

    def _button(self, text: str, act: Callable[[], None]) -> widgets.Button:
        button = widgets.Button(description=text, layout=widgets.Layout(width="auto"))
        button.on_click(lambda _: self._press(act))
        return button

    def _press(self, act: Callable[[], None]) -> None:
        """What every button does. A notebook hides a button's error, so it is shown with the text."""
        self.problem = ""
        try:
            act()
        except ValueError as error:
            self.problem = f"\nThat did not work: {error}"
        self.reply.value = ""
        self.draw()

    def parts(self) -> dict[str, str]:
        """What is shown now, by the names of the blocks; "" for what is not there yet."""
        return dict(zip(BLOCKS, (self.game.now() + self.problem, self.game.turns_text())))

    def text(self) -> str:
        """All that is shown."""
        return "\n\n".join(f"{name}:\n{part}" for name, part in self.parts().items() if part)

    def draw(self) -> None:
        """Show the state again. A reply can be given where a call waits."""
        for control in (self.reply, self.say, self.tool):
            control.disabled = self.game.waiting is None
        for name, part in self.parts().items():
            role = 'role="status"' if name == "now" else f'role="group" aria-label="{escape(name)}"'
            head = f"<b>{escape(name)}</b>\n" if name != "now" and part else ""
            self.blocks[name].value = (f'<div {role} style="white-space: pre-wrap; line-height: 1.4">'
                                       f"{head}{escape(part)}</div>")

    def __repr__(self) -> str:
        return "Widget (run the cell to use it).\n" + self.text()
