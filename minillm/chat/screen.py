"""Where a conversation is seen: a terminal, with history and styles; or a pipe, with neither.

What a model or a tool wrote may hold codes that steer a terminal or turn the direction of writing. Nothing of
it is printed before `harmless` has made such codes visible.
"""

from __future__ import annotations

import json
import signal
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

# In words and in a style each: what is said by a colour alone, some cannot see.
LABELS = {"answer": "model> ", "thought": "  thinks: ", "call": "  calls: ", "reply": "  tool: ",
          "made up": "  makes up a reply: "}
STYLES = {"answer": "", "thought": "italic dim", "call": "bold ansicyan", "reply": "ansigreen",
          "made up": "underline ansired", "note": "dim"}
KEPT = "\n\t\u200c\u200d"       # beside what is printable: joiners, which some scripts and emoji need


def harmless(text: str) -> str:
    """A text in which codes are seen and do nothing: "a\\x1b[2J" is shown as a, \\x1b and [2J.

    Spaces of any width stay as they are.
    """
    return "".join(c if _plain(c) else repr(c)[1:-1] for c in text)


def one_line_of_json(row: dict) -> str:
    """The same for a line of JSON, which reads back as it was: codes are \\u001b and the like."""
    line = json.dumps(row, ensure_ascii=False)
    return "".join(c if _plain(c) else json.dumps(c)[1:-1] for c in line)


def _plain(c: str) -> bool:
    return c.isprintable() or c in KEPT or unicodedata.category(c) == "Zs"


class Terminal:
    """Lines with history by the arrow keys; an answer's parts with a label and a style each.

    input, output: prompt_toolkit's, where it is not this process's own terminal.
    """

    def __init__(self, input=None, output=None):
        from prompt_toolkit import PromptSession
        from prompt_toolkit.history import InMemoryHistory

        self.session = PromptSession("you> ", history=InMemoryHistory(), input=input, output=output,
                                     reserve_space_for_menu=0)
        self.kind = None                # of the line that is being written

    def lines(self) -> Iterator[str]:
        """What the person writes, until Ctrl-D. Ctrl-C throws away a line that is not sent yet."""
        with _on_interrupt(lambda *_: None):
            while True:
                try:
                    line = self.session.prompt(handle_sigint=False)  # the key is seen all the same
                except KeyboardInterrupt:
                    continue
                except EOFError:
                    return
                yield line

    def hearing(self):
        """A block that Ctrl-C ends, by KeyboardInterrupt. Outside of it Ctrl-C does nothing, so that a second
        one, a moment too late, does not end the program."""
        return _on_interrupt(signal.default_int_handler)

    def say(self, kind: str, text: str) -> None:
        """Some more of an answer."""
        if kind != self.kind:
            self.end()
            self._print("note", LABELS[kind])
            self.kind = kind
        # Indented: a line that begins like a label would be taken for one.
        self._print(kind, harmless(text).replace("\n", "\n" + " " * len(LABELS[kind])))

    def end(self) -> None:
        """The line is over, if one was begun."""
        if self.kind is not None:
            self._print("note", "\n")
        self.kind = None

    def note(self, text: str) -> None:
        """What neither the model nor the person says."""
        self.end()
        self._print("note", f"({harmless(text)})\n")

    welcome = note

    def _print(self, kind: str, text: str) -> None:
        from prompt_toolkit import print_formatted_text
        from prompt_toolkit.formatted_text import FormattedText

        said = FormattedText([(STYLES[kind], text)])
        print_formatted_text(said, end="", flush=True, output=self.session.output)


class Pipe:
    """A question a line from stdin, the answers alone on stdout, all else on stderr; no codes anywhere."""

    def __init__(self):
        self.kind, self.held = None, ""

    def lines(self) -> Iterator[str]:
        """The lines of stdin, one by one as they come."""
        while True:
            if sys.stdin.isatty():          # a person, whose answers go elsewhere
                print("you> ", end="", file=sys.stderr, flush=True)
            if not (line := sys.stdin.readline()):
                return
            yield line

    def hearing(self):
        """Ctrl-C ends the program: nobody sits there to go on."""
        return nullcontext()

    def say(self, kind: str, text: str) -> None:
        """An answer is written as it comes, anything else when it is whole."""
        if kind != self.kind:
            self._aside()
            self.kind = kind
        if kind != "answer":
            self.held += text
            return
        print(harmless(text), end="", flush=True)

    def end(self) -> None:
        """The answer is over: its line, too, if it was empty."""
        self._aside()
        self.kind = None
        print(flush=True)

    def note(self, text: str) -> None:
        """What neither the model nor the person says."""
        print(f"({harmless(text)})", file=sys.stderr, flush=True)

    def welcome(self, text: str) -> None:
        """Nobody reads it."""

    def _aside(self) -> None:
        if self.held:
            said = harmless(self.held).replace("\n", "\n  ")
            print(LABELS[self.kind].strip(), said, file=sys.stderr, flush=True)
        self.held = ""


@contextmanager
def _on_interrupt(handler):
    before = signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
