"""Grades a class again, with the same seeds, after a check was mended: whose marks change, and why."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from .plain import expect, number, plain
from .records import Given, Record
from .run import Wish, marked, tell, write_out
from .tables import Grades, as_csv, read_grades, write

CHANGES = "changes.csv"
MOST = 100          # changes that are printed; the file has all


@dataclass(frozen=True)
class Change:
    """One mark that is another one now."""

    id: str
    exercise: str
    before: Given | None
    after: Given | None
    why: str

    @property
    def by(self) -> float:
        """How many points more, or less."""
        return round(points(self.after) - points(self.before), 4)

    def line(self) -> str:
        """For a terminal."""
        return (
            f"{plain(self.id)}  {self.exercise}  "
            f"{number(points(self.before))} -> {number(points(self.after))}  "
            f"({reason(self.before)} -> {reason(self.after)}; {self.why})"
        )


def regrade(
    results: Path,
    places: tuple[Path, ...],
    out: Path,
    only: tuple[str, ...],
    jobs: int,
    unsafe: bool,
    resume: bool,
) -> int:
    """Grade again into `out`, say what changes; returns on how many the grader itself broke.

    only: the exercises that are marked again; the others keep their marks.
    """
    old = read_grades(results, "--from")
    known = tuple(check.name for check in old.settings.exercises)
    for name in only:
        expect(name in known, "--only", name, f"the run in {results} has {', '.join(known)}")
    again = only or old.settings.only
    new, failed = marked(
        Wish(
            places,
            old.settings.chapter,
            out,
            old.settings.seed,
            again,
            old.settings.timeout,
            jobs,
            resume,
            unsafe,
        )
    )
    new = with_old_marks(old, new, known) if only else new
    write_out(new, out)
    changes = list(changed(old, new))
    rows = [["submission", "exercise", "before", "after", "reason before", "reason after", "why"],
            *([c.id, c.exercise, points(c.before), points(c.after), reason(c.before), reason(c.after), c.why]
              for c in changes)]
    write(out / CHANGES, as_csv(rows))
    tell(new, out)
    say(changes, out, old.settings.checks == new.settings.checks)
    return failed


def with_old_marks(old: Grades, new: Grades, order: Sequence[str]) -> Grades:
    """The new grades, with the old marks of exercises that were not marked again."""
    before, records = {record.id: record for record in old.records}, []
    for record in new.records:
        kept = before[record.id].marks if record.id in before else ()
        marks = {mark.exercise: mark for mark in (*kept, *record.marks)}
        records.append(replace(record, marks=tuple(marks[name] for name in order if name in marks)))
    return replace(new, records=tuple(records), settings=replace(new.settings, only=old.settings.only))


def changed(old: Grades, new: Grades) -> Iterator[Change]:
    """Each mark whose points changed, the largest loss first within a submission's order."""
    before = {record.id: record for record in old.records}
    after = {record.id: record for record in new.records}
    for id in sorted(before.keys() | after.keys()):
        one, two = before.get(id), after.get(id)
        ones, twos = by_name(one), by_name(two)
        for name in dict.fromkeys([*ones, *twos]):
            a, b = ones.get(name), twos.get(name)
            if points(a) != points(b) or (a is None) != (b is None):
                yield Change(id, name, a, b, why(one, two, a, b, old.settings.checks != new.settings.checks))


def why(one: Record | None, two: Record | None, a: Given | None, b: Given | None, mended: bool) -> str:
    """What a change comes from, as far as the two records tell."""
    if one is None or two is None:
        return "the submission is new" if one is None else "the submission is gone"
    if one.sha256 != two.sha256:
        return "the notebook is another one"
    if one.trouble != two.trouble:
        return "it can be read now" if one.trouble else f"it cannot be read now: {two.trouble}"
    if mended and a and b:
        held, now = f"{sum(a.held)} of {len(a.held)}", f"{sum(b.held)} of {len(b.held)}"
        return f"the check changed: {held} cases held, now {now}"
    return "the same notebook, seed and checks: the limits, the machine or a library differs"


def say(changes: Sequence[Change], out: Path, same_checks: bool) -> None:
    """What changes, in the terminal."""
    if same_checks:
        print("The checks are those of the first run.")
    for change in changes[:MOST]:
        print(change.line())
    if len(changes) > MOST:
        print(f"… and {len(changes) - MOST} more")
    students = len({change.id for change in changes})
    up, down = sum(c.by > 0 for c in changes), sum(c.by < 0 for c in changes)
    print(f"{len(changes)} marks of {students} submissions change: {up} up, {down} down. They are in "
          f"{out / CHANGES}." if changes else "No mark changes.")


def by_name(record: Record | None) -> dict[str, Given]:
    """A record's marks by their exercise."""
    return {mark.exercise: mark for mark in record.marks} if record else {}


def points(mark: Given | None) -> float:
    """A mark's points; 0 where there is none."""
    return mark.points if mark else 0.0


def reason(mark: Given | None) -> str:
    """A mark's reason in words."""
    return mark.reason if mark else "no mark"
