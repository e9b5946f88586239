"""Joins the grades of shards into what one run would have written, byte for byte."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .collect import class_digest
from .plain import Refused, expect, plain
from .run import make_folder, tell, write_out
from .tables import Grades, read_grades


def merge(folders: Sequence[Path], out: Path) -> None:
    """Write to `out` what these shards found.

    Refused unless all have the same settings and class, and every submission is in one of them.
    """
    shards = [(folder, read_grades(folder, "SHARDS")) for folder in folders]
    make_folder(out, "--out")
    expect(not any(out.iterdir()), "--out", out, "it is not empty. Name a new folder")
    joined = join(shards)
    write_out(joined, out)
    tell(joined, out)


def join(shards: Sequence[tuple[Path, Grades]]) -> Grades:
    """One set of grades of several."""
    first_folder, first = shards[0]
    for folder, grades in shards[1:]:
        expect(grades.settings == first.settings, "SHARDS", folder,
               f"it was graded with other settings or checks than {first_folder}: {differ(first, grades)}. "
               "Grade it again with the same")
        expect(grades.class_digest == first.class_digest, "SHARDS", folder,
               f"its class was not the one of {first_folder}: submissions came or went between the two. "
               "Run both again with --resume, so that they see the same folder")
    records = sorted((record for _, grades in shards for record in grades.records), key=lambda r: r.id)
    for one, two in zip(records, records[1:]):
        if one.id == two.id:
            raise Refused(
                f"SHARDS is {', '.join(map(str, (f for f, _ in shards)))}: {plain(one.id)} is in two of "
                "them. Name each shard once"
            )
    expect(class_digest(r.id for r in records) == first.class_digest, "SHARDS",
           f"{len(shards)} folders with {len(records)} submissions",
           "a part of the class is in none of them. Name every shard")
    return Grades(first.settings, first.class_digest, any(g.unsafe for _, g in shards), tuple(records))


def differ(one: Grades, two: Grades) -> str:
    """Which settings differ, in words."""
    names = ("chapter", "seed", "only", "timeout", "checks")
    return ", ".join(name for name in names if getattr(one.settings, name) != getattr(two.settings, name))
