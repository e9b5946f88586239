"""Submissions of chapter 13 made of honest and hostile cells, marked in the sandbox of this machine."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from grader.outside import mark as marking
from grader.outside.mark import mark, names, seed_of
from grader.outside.sandbox import FIRST_UID, available, family
from grader.outside.submission import Submission, read

CHAPTER = 13
ROOT = Path(marking.__file__).resolve().parents[2]
SEED = 20240611
ISOLATION = available()
WHY = "; ".join(ISOLATION.missing) or "isolated"
needs_isolation = pytest.mark.skipif(ISOLATION.kind == "none", reason=WHY)

HONEST = read(ROOT / "solutions" / "13_dpo.ipynb", names(CHAPTER)).cells
FUNCTIONS = dict(name.split(":") for name in names(CHAPTER))
EXERCISES = list(FUNCTIONS)


def cells(**others: str) -> dict[str, str]:
    """The honest cells of all exercises, some replaced; names are written with _ for -."""
    return HONEST | {name.replace("_", "-"): source for name, source in others.items()}


def marked(sources: dict[str, str], who: str = "somebody", timeout: float | None = None, **more) -> dict:
    """The mark of each exercise of a submission with these cells."""
    submission = Submission(who, sources)
    return {m.exercise: m for m in mark(submission, CHAPTER, seed_of(SEED, who), ISOLATION, timeout, **more)}


def notebook(sources: list[str], **more) -> dict:
    """A notebook of code cells."""
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": {},
            "cells": [{"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None,
                       "source": source} for source in sources], **more}


def written(path: Path, sources: list[str], **more) -> Path:
    """The same as a file."""
    path.write_text(json.dumps(notebook(sources, **more)), encoding="utf-8")
    return path


def running() -> list[str]:
    """What still runs of this process's sandboxes: by their uids, or as descendants of a plain user's."""
    if ISOLATION.kind == "user":
        return [str(each.pid) for each in family(os.getpid()) if each.pid != os.getpid() and not each.dead]
    first = FIRST_UID + os.getpid() * 64
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            dead = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()[0] in "ZX"
            if first <= folder.stat().st_uid < first + 64 and not dead:
                found.append(f"{folder.name} {(folder / 'comm').read_text().strip()}")
        except OSError:
            continue
    return found
