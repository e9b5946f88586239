"""grades.csv and grades.json, of records in the order of their ids: the same bytes for the same marks."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..judge import Check
from .plain import Refused, cell, expect
from .records import VERSION, WHAT, Record, Settings, from_json, settings_from_json, to_json

JSON, CSV = "grades.json", "grades.csv"


@dataclass(frozen=True)
class Grades:
    """All that a run found: its settings, the class's digest, whether isolation was off, and the records."""

    settings: Settings
    class_digest: str
    unsafe: bool
    records: tuple[Record, ...]

    @property
    def out_of(self) -> int:
        """The points that can be had: one an exercise."""
        return len(self.settings.exercises)


def write(path: Path, content: str) -> None:
    """Write beside, then rename: a run that is stopped leaves no half file."""
    beside = path.with_name(f".{path.name}.part")
    with open(beside, "w", encoding="utf-8", newline="\n") as file:
        file.write(content)
    os.replace(beside, path)


def as_csv(rows: Sequence[Sequence]) -> str:
    """Rows as CSV. No cell begins as a formula would."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([cell(value) for value in row] for row in rows)
    return text.getvalue()


def grades_csv(grades: Grades) -> str:
    """A row for each submission, a column for each exercise, then total, out_of, flags and trouble."""
    names = [check.name for check in grades.settings.exercises]
    rows: list[list] = [["submission", *names, "total", "out_of", "flags", "trouble"]]
    for record in grades.records:
        points = {mark.exercise: mark.points for mark in record.marks}
        rows.append([record.id, *(points.get(name, 0.0) for name in names), record.total, len(names),
                     "; ".join(record.flags), record.trouble])
    return as_csv(rows)


def described(check: Check) -> dict:
    """An exercise as grades.json names it."""
    return {
        "name": check.name,
        "title": check.title,
        "minutes": check.minutes,
        "difficulty": check.difficulty,
        "cases": len(check.cases),
    }


def grades_json(grades: Grades) -> str:
    """Everything, for a program: what grades.csv has, and each exercise's reason, feedback and cases."""
    settings = grades.settings
    kept = {"what": WHAT, "version": VERSION, "chapter": settings.chapter, "seed": settings.seed,
            "only": list(settings.only), "timeout": settings.timeout, "checks": settings.checks,
            "unsafe": grades.unsafe, "class": grades.class_digest,
            "exercises": [described(check) for check in settings.exercises], "out_of": grades.out_of,
            "submissions": [{**to_json(record), "total": record.total} for record in grades.records]}
    return json.dumps(kept, indent=1, ensure_ascii=True) + "\n"


def read_grades(folder: Path, argument: str) -> Grades:
    """The grades of a finished run. Refused for anything else, with what to do."""
    path = folder / JSON if folder.is_dir() else folder
    expect(path.is_file(), argument, folder,
           f"no {JSON} is there. Name the folder of a run that has ended (`grade … --resume` ends one)")
    try:
        kept = json.loads(path.read_bytes())
        expect(kept["what"] == WHAT and kept["version"] == VERSION, argument, path,
               f"it is not a {JSON} of this grader: name the folder that `grade --out` wrote")
        grades = Grades(settings_from_json(kept), kept["class"], kept["unsafe"],
                        tuple(from_json(record) for record in kept["submissions"]))
        return grades if grades.settings.exercises else None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Refused(f"{argument} is {path}: it cannot be read as a {JSON} of this grader "
                      f"({type(error).__name__}); name the folder that `grade --out` wrote") from None
