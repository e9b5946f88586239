"""One notebook, or a look at a run: the commands `check` and `status`."""

from __future__ import annotations

import json
import os
from pathlib import Path

from .. import CHAPTERS
from . import marking
from .journal import FILE, at_work, read_header, read_lines
from .pages import state
from .plain import Refused, expect, lines, name_of, number, plain
from .records import Record, Settings, checks_digest, to_json
from .run import say_isolation
from .tables import JSON
from .worker import graded


def chapters_in(path: Path) -> list[int]:
    """The chapters whose exercises a notebook has. Refused where it has none, or cannot be read."""
    expect(os.path.lexists(path), "FILE", path, "there is no such file. Name a notebook")
    expect(path.is_file(), "FILE", path, "it is no regular file. Name a notebook")
    try:
        found = marking.chapters_in(path)
    except marking.Broken as broken:
        raise Refused(f"FILE is {path}: {broken}") from None
    expect(
        found, "FILE", path, "no exercise is in it. An exercise's cell begins with a line `# exercise: NAME`"
    )
    return found


def check(
    path: Path, as_json: bool, unsafe: bool, seed: int, timeout: float | None, only: tuple[str, ...]
) -> int:
    """Mark one notebook and say what came of it: 0 if all is right, 1 if not."""
    chapters = chapters_in(path)
    own = {check.name: n for n in chapters for check in CHAPTERS[n]}
    for name in only:
        expect(name in own, "--only", name, f"it is of no chapter that {path} has exercises of")
    isolation = say_isolation(unsafe)
    records: dict[int, Record] = {}
    for chapter in chapters:
        wanted = tuple(name for name in only if own[name] == chapter)
        if only and not wanted:
            continue
        settings = Settings(chapter, seed, wanted, timeout, checks_digest(chapter))
        records[chapter], _ = graded(name_of(path), path, "", settings, isolation)
        if records[chapter].trouble:
            raise Refused(f"FILE is {path}: {records[chapter].trouble}")
    marking.finish()
    marks = [mark for record in records.values() for mark in record.marks]
    right = all(mark.points >= 1 for mark in marks)
    if as_json:
        print(
            json.dumps(
                {
                    "file": name_of(path),
                    "right": right,
                    "points": round(sum(m.points for m in marks), 4),
                    "out_of": len(marks),
                    "unsafe": unsafe,
                    "chapters": [{"chapter": n, **to_json(record)} for n, record in records.items()],
                },
                indent=1,
            )
        )
    else:
        say(records)
    return 0 if right else 1


def say(records: dict[int, Record]) -> None:
    """The marks of one notebook, for a person."""
    for chapter, record in records.items():
        for warning in record.warnings:
            print(f"Note: {plain(warning)}")
        for mark in record.marks:
            print(f"{state(mark)[0]} {lines(mark.text)}")
            for flag in mark.flags:
                print(f"⚑ {plain(flag)}")
            print(f"{number(mark.points)} of 1 point.\n")
        print(f"Chapter {chapter}: {number(record.total)} of {len(record.marks)} points.")


def status(folder: Path | None) -> int:
    """How far a run is; or, without one, what isolation there is here and which exercises there are."""
    if folder is not None:
        return status_of(folder)
    isolation = marking.isolation(False)
    for line in isolation.missing:
        print(line)
    none = isolation.kind == "none"
    print(f"Isolation: {isolation.kind}" + (", so `grade` refuses to run here." if none else "."),
          *isolation.holds, sep="\n  ")
    print(f"\n{'chapter':<9}{'exercise':<22}{'minutes':>7}  {'difficulty':<12}cases")
    for chapter, checks in CHAPTERS.items():
        for c in checks:
            stars = "★" * c.difficulty + "☆" * (3 - c.difficulty)
            print(f"{chapter:<9}{c.name:<22}{c.minutes:>7}  {stars:<12}{len(c.cases)}")
    return 0


def status_of(folder: Path) -> int:
    """How far the run in a folder is."""
    expect(folder.is_dir(), "RESULTS", folder, "there is no such folder. Name what `grade --out` wrote")
    header = read_header(folder)
    expect(header, "RESULTS", folder, f"no run is in it: it has no {FILE}")
    kept, _ = read_lines((folder / FILE).read_bytes())
    done = {line["record"]["id"] for line in kept[1:] if not line.get("failed")}
    failed = {line["record"]["id"] for line in kept[1:] if line.get("failed")} - done
    shard = f", shard {header['shard']}" if header["shard"] else ""
    print(f"Chapter {header['chapter']}, seed {header['seed']}{shard}: {len(done)} submissions are graded"
          + (f", and the grader broke on {len(failed)}" if failed else "") + ".")
    print("CPU seconds that the submissions took: "
          f"{sum(line['seconds'] for line in kept[1:]):.0f} in all.")
    if (folder / JSON).is_file():
        print(f"It has ended: {folder / JSON} is there.")
    elif at_work(folder):
        print("A grader is at work on it now.")
    else:
        print("It has not ended, and no grader is at work on it. Give `grade` again with --resume.")
    return 0


