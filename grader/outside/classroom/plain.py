"""Strangers' words made harmless before they are shown: for a terminal, a table and a page; and refusals."""

from __future__ import annotations

import os
import re
import unicodedata

FORMULA = (
    "=",
    "+",
    "-",
    "@",
    "\t",
    "\r",
    "\n",
    "＝",
    "＋",
    "－",
    "＠",
)  # the wide ones too: Excel reads them


class Refused(Exception):
    """The command cannot be done. Its text names the argument, the value and the remedy."""


def expect(ok: object, argument: str, value: object, remedy: str) -> None:
    """Raise Refused("argument is value: remedy") unless ok."""
    if not ok:
        raise Refused(f"{argument} is {plain(str(value))}: {remedy}")


def name_of(path: str | os.PathLike) -> str:
    """A file's or folder's own name as text; bytes that are no UTF-8 are written out, as \\xff."""
    return os.fsencode(os.path.basename(os.fspath(path))).decode("utf-8", "backslashreplace")


def plain(text: str, keep: str = "") -> str:
    """Text without what steers a terminal or turns its direction: such characters are written out.

    `keep` lists the control characters that may stay, such as a line's end.
    """
    return "".join(c if c in keep or unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Zl", "Zp")
                   else c.encode("unicode_escape", "backslashreplace").decode("ascii") for c in text)


def lines(text: str) -> str:
    """As plain, for a text of several lines."""
    return plain(text.replace("\r\n", "\n"), keep="\n")


def cell(value: object) -> str:
    """A cell of a table that people open in a spreadsheet: text that would be a formula gets an apostrophe.

    Numbers of ours pass as they are.
    """
    if isinstance(value, int | float):
        return number(value)
    text = str(value)
    risky = text.startswith(FORMULA) or text.lstrip().startswith(FORMULA)
    return ("'" if risky else "") + plain(text)


def number(value: float) -> str:
    """Points as people write them: 3, 0.75, 0.3333."""
    return f"{round(value, 4):.4f}".rstrip("0").rstrip(".")


def file_name(submission: str) -> str:
    """A file's name for a submission's page: the same each time, for each another, safe on every system."""
    import hashlib
    if re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,63}", submission):
        return submission
    readable = re.sub(r"[^A-Za-z0-9-]+", "_", submission).strip("_")[:48] or "submission"
    return f"{readable}.{hashlib.sha256(submission.encode('utf-8', 'surrogatepass')).hexdigest()[:12]}"
