"""The secure layer as the class's tools use it: reading a notebook safely, and marking it in a sandbox."""

from __future__ import annotations

from pathlib import Path

from .. import CHAPTERS, sandbox, submission
from ..mark import Mark, finish, mark, names, seed_of, worth
from ..sandbox import Isolation
from ..submission import Broken, Submission

__all__ = [
    "Broken",
    "Isolation",
    "Mark",
    "chapters_in",
    "finish",
    "isolation",
    "mark",
    "read",
    "seed_of",
    "worth",
]


def isolation(unsafe: bool) -> Isolation:
    """What isolation is in force: none where the teacher said --unsafe."""
    return sandbox.unsafe() if unsafe else sandbox.available()


def read(path: Path, chapter: int) -> Submission:
    """The exercise cells of a notebook; Broken where it is none."""
    return submission.read(path, names(chapter))


def chapters_in(path: Path) -> list[int]:
    """The chapters whose exercises a notebook has; Broken where it is none.

    Where no cell says its exercise's name any more, the one chapter of which most functions are defined.
    """
    named = submission.read(path).cells
    found = [n for n, checks in CHAPTERS.items() if any(check.name in named for check in checks)]
    if found:
        return found
    counts = {n: len(read(path, n).cells) for n in CHAPTERS}
    most = max(counts.values())
    best = [n for n, count in counts.items() if count == most]
    return best if most and len(best) == 1 else []
