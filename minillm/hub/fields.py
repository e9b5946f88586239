"""What is read from a JSON file or named by a path, held to what it must be."""

from __future__ import annotations

import math
import os
from pathlib import Path

from ..expect import expect

WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", dict: "an object"}
ABSENT = object()


def expect_field(written: dict, key: str, kind, default=ABSENT, low: float = -math.inf,
                 high: float = math.inf, place: str = ""):
    """What an object of a JSON file says under a key, held to a kind and, a number, to low ≤ it ≤ high.

    kind: int, float (a whole number is one too), bool, str or dict; [kind] for a list of them, each held to
    the same. JSON's true is no number, and "true" is no bool. default: stands for a key that is missing or
    null; without one the key must be there. place: the file, for the message.
    Raises ValueError that names file, key, value and what to give.
    """
    value = written.get(key)
    if value is None and default is not ABSENT:
        return default
    several = isinstance(kind, list)
    one = kind[0] if several else kind
    items = value if several and isinstance(value, list) else [value]
    right = isinstance(value, list) == several and all(_is(item, one, low, high) for item in items)
    wanted = ("a list, each " if several else "") + WORDS[one]
    wanted += f" from {low:.10g}" if low > -math.inf else ""
    wanted += f" to {high:.10g}" if high < math.inf else ""
    there = "missing" if value is None else _short(value)
    expect(right, f"{place}: {key}" if place else key, there, f"give {wanted}")
    return value


def _is(value, kind: type, low: float, high: float) -> bool:
    if kind not in (int, float):
        return isinstance(value, kind)
    number = isinstance(value, (int, float) if kind is float else int) and not isinstance(value, bool)
    return number and low <= value <= high  # NaN is in no range


def _short(value) -> str:
    """A value as Python writes it, cut where it would fill a screen."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def expect_folder(folder: str | os.PathLike) -> Path:
    """The path of a folder. "" is refused: it would be the folder that one happens to stand in."""
    named = isinstance(folder, (str, os.PathLike)) and os.fspath(folder) != ""
    expect(named, "folder", repr(folder), 'name a folder; "." is the one you are in')
    return Path(folder)
