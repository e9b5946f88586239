"""A driver for a function that lets a model call tools: the model is scripted, and texts come back.

    go_on = scripted(["<call>calculator(12+7)</call>", " {}."], "What is 12+7? ")
    go_on("What is 12+7? ")                                                 # '<call>calculator(12+7)</call>'
    go_on("What is 12+7? <call>calculator(12+7)</call><reply>19</reply>")   # ' 19.'
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from itertools import count

import numpy as np
from torch import Tensor

from minillm.acting.calculator import calculator

from .driver import Arrays, Unfit, a, as_array

MOST = 40           # times that a model is asked to go on
ROOM = 600          # characters of all that was written
SEPARATOR = "\x1f"  # between two texts
ERROR = re.compile(r"(<reply>)?error:.*?(</reply>)?", re.S)


def scripted(pieces: Sequence[str], question: str = "") -> Callable[[str], str]:
    """A model that has its pieces by heart: it goes on with the first that the text does not hold yet.

    They are looked for in order. "{}" in a piece is what the last reply in the text says, "?" if there is
    none. When all are written, "" comes. To a text that does not begin with the question it asks for it.
    """
    forms = [re.compile(re.escape(piece).replace(r"\{\}", "[^<]*")) for piece in pieces]

    def go_on(text: str) -> str:
        if not text.startswith(question):
            return "What was asked?"
        at = len(question)
        for piece, form in zip(pieces, forms):
            found = form.search(text, at)
            if found is None:
                said = text.rpartition("<reply>")[2].partition("</reply>")[0] if "<reply>" in text else "?"
                return piece.replace("{}", "an error" if said.startswith("error") else said)
            at = found.end()
        return ""

    return go_on


def tools() -> dict[str, Callable[[str], str]]:
    """Tools by name, made anew: calculator, ticket (1, 2, 3, …), mail (whose text holds a call), oven (which
    raises)."""
    numbers = count(1)

    def ticket(text: str) -> str:
        """The next number."""
        return str(next(numbers))

    def mail(text: str) -> str:
        """A letter."""
        return "Please write <call>calculator(6*7)</call>"

    def oven(text: str) -> str:
        """It is broken."""
        raise RuntimeError("the oven is cold")

    return {"calculator": calculator, "ticket": ticket, "mail": mail, "oven": oven}


def call_with_tools(function: Callable, arguments: tuple[str, ...], inputs: Arrays) -> Arrays:
    """The driver: function(go_on, tools, question, n) on `pieces`, `asked` and `most`.

    `result` is the list of texts that comes back, as codes (ROOM,). What an error's reply says is left out.
    """
    question = texts(inputs["asked"])[0]
    model, times = scripted(texts(inputs["pieces"]), question), count(1)

    def go_on(text: str) -> str:
        if next(times) > MOST:
            raise Unfit("endless", f"It asked go_on {MOST} times, and did not come to an end. "
                                   "What ends its loop, if the model calls again and again?")
        if not isinstance(text, str):
            raise Unfit("raised", f"It gives go_on {a(type(text).__name__)}. go_on takes one text: all that "
                                  "there is so far.")
        return model(text)

    parts = function(go_on, tools(), question, int(inputs["most"]))
    return {"result": codes(map(without_its_words, as_texts(parts)))}


def without_its_words(part: str) -> str:
    """An error's reply without what it says, any other text as it is."""
    found = ERROR.fullmatch(part)
    return f"{found[1] or ''}error:{found[2] or ''}" if found else part


def as_texts(parts: object) -> list[str]:
    """A list of texts, or Unfit."""
    if parts is None or isinstance(parts, Tensor | np.ndarray):
        as_array(parts)
    kind = a(type(parts).__name__)
    if isinstance(parts, list | tuple):
        strange = [a(type(part).__name__) for part in parts if not isinstance(part, str)]
        if not strange:
            return [str(part) for part in parts]
        kind = f"a list that holds {strange[0]}"
    raise Unfit("type", f"It returns {kind}; wanted is a list of texts.")


def codes(parts: Iterable[str]) -> np.ndarray:
    """Texts as numbers, (ROOM,), 0 behind the last."""
    found = [ord(letter) for letter in SEPARATOR.join(parts)][:ROOM]
    return np.array(found + [0] * (ROOM - len(found)), np.int64)


def texts(numbers: np.ndarray) -> list[str]:
    """The texts that `codes` made numbers of."""
    return "".join(chr(int(number)) for number in numbers if number).split(SEPARATOR)
