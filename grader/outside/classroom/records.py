"""What a run keeps of each submission, as JSON: the record and its marks; and the settings of a run."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from .. import CHAPTERS
from ..judge import Check

GRADER = Path(__file__).resolve().parents[2]
EXERCISES = GRADER.parent / "exercises"
WHAT = "grades of One Gradient"
VERSION = 1


@dataclass(frozen=True)
class Given:
    """The mark of one exercise as it is kept: without the seconds that it took, which differ by machine."""

    exercise: str
    points: float                       # 0 to 1
    reason: str                         # "right", a misconception's name, …
    text: str                           # for the student
    held: tuple[bool, ...] = ()         # which cases held
    flags: tuple[str, ...] = ()         # for the teacher


@dataclass(frozen=True)
class Record:
    """One submission with its marks. trouble says why it could not be read; then every mark is 0."""

    id: str
    seed: int
    sha256: str = ""                    # of the notebook
    trouble: str = ""
    warnings: tuple[str, ...] = ()
    marks: tuple[Given, ...] = ()

    @property
    def total(self) -> float:
        """The sum of the points, each exercise being worth 1."""
        return round(sum(mark.points for mark in self.marks), 4)

    @property
    def flags(self) -> tuple[str, ...]:
        """All that the teacher should look at, each with its exercise."""
        return tuple(f"{mark.exercise}: {flag}" for mark in self.marks for flag in mark.flags)


@dataclass(frozen=True)
class Settings:
    """What marks hang on, beside the notebooks."""

    chapter: int
    seed: int
    only: tuple[str, ...] = ()          # exercises; empty for all of the chapter
    timeout: float | None = None        # CPU seconds for each exercise; None: each exercise's own
    checks: str = field(default="")     # the digest of the checks and of what judges

    @property
    def exercises(self) -> tuple[Check, ...]:
        """The checks that are marked, in the chapter's order."""
        return tuple(c for c in CHAPTERS[self.chapter] if not self.only or c.name in self.only)


def checks_digest(chapter: int) -> str:
    """The digest of the source that a chapter's marks hang on: it changes when a check is mended."""
    digest = hashlib.sha256()
    files = [*GRADER.glob("inside/*.py"), *GRADER.glob("outside/*.py"),
             *GRADER.glob(f"outside/chapter{chapter:02d}/*.py")]
    for path in sorted(files):
        digest.update(path.relative_to(GRADER).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def notebook_name(chapter: int) -> str:
    """The file name of a chapter's exercises: 13_dpo.ipynb."""
    return next(iter(sorted(EXERCISES.glob(f"{chapter:02d}_*.ipynb"))), Path(f"{chapter:02d}.ipynb")).name


def to_json(record: Record) -> dict:
    """A record as plain JSON values."""
    return asdict(record)


def from_json(kept: Mapping) -> Record:
    """The record that to_json made; KeyError or TypeError for anything else."""
    marks = tuple(Given(**{**mark, "held": tuple(mark["held"]), "flags": tuple(mark["flags"])})
                  for mark in kept["marks"])
    return Record(kept["id"], kept["seed"], kept["sha256"], kept["trouble"], tuple(kept["warnings"]), marks)


def settings_from_json(kept: Mapping) -> Settings:
    """The settings that asdict made."""
    return Settings(kept["chapter"], kept["seed"], tuple(kept["only"]), kept["timeout"], kept["checks"])


def nothing_read(settings: Settings, id: str, seed: int, trouble: str, sha256: str = "") -> Record:
    """The record of a submission that could not be read: every exercise is 0, and the reason is said."""
    marks = tuple(Given(c.name, 0.0, "not read", f"{c.name}: not marked. Your submission: {trouble}.")
                  for c in settings.exercises)
    return Record(id, seed, sha256, trouble, (), marks)
