"""The pages of a run: feedback for each student, a summary for the teacher. Every word in them is escaped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ..judge import Check
from .plain import file_name, lines, number, plain
from .records import Given, Record
from .tables import Grades, write

SUMMARY, FEEDBACK = "summary.html", "feedback"
BINS = 10

# What is said in place of the judge's shorter names. A misconception's own name is said as it is.
REASONS = {
    "a law": "a law is broken",
    "the numbers": "the numbers differ",
    "raised": "raises an error",
    "stub": "not written yet",
    "not there": "no such cell",
    "not read": "the notebook was not read",
    "endless": "does not end",
    "shape": "another shape",
    "type": "another type",
    "dtype": "another dtype",
    "a factor": "off by a factor",
    "shortcut": "uses what the task forbids",
    "crashed": "its process ended",
    "strange": "cannot be judged",
}
NO_BELIEF = {"right", *REASONS, "None", "out of time", "out of memory", "forged", "not finite",
             "input changed", "axes swapped", "no gradient", "autograd", "backward called", "TooLong"}


def environment() -> Environment:
    """Jinja2 with autoescape; a name that a template does not have is an error."""
    made = Environment(loader=FileSystemLoader(Path(__file__).parent / "pages"), autoescape=True,
                       undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    made.filters.update(plain=plain, lines=lines, points=number, file_name=file_name,
                        reason=lambda name: REASONS.get(name, name))
    made.globals.update(state=state)
    return made


def state(mark: Given) -> tuple[str, str]:
    """A sign and a word for a mark, so that nothing hangs on colour."""
    if mark.points >= 1:
        return "✓", "right"
    return ("◐", "in part") if mark.points > 0 else ("○", "not yet")


def write_pages(grades: Grades, folder: Path) -> None:
    """summary.html, and feedback/NAME.html for each submission, in the folder of a run."""
    made, checks = environment(), {check.name: check for check in grades.settings.exercises}
    (folder / FEEDBACK).mkdir(exist_ok=True)
    template = made.get_template("feedback.html")
    for record in grades.records:
        page = template.render(
            record=record,
            checks=checks,
            out_of=grades.out_of,
            chapter=grades.settings.chapter,
            unsafe=grades.unsafe,
        )
        write(folder / FEEDBACK / f"{file_name(record.id)}.html", page)
    write(folder / SUMMARY, made.get_template("summary.html").render(
        grades=grades, settings=grades.settings, out_of=grades.out_of, bins=distribution(grades),
        exercises=[of_exercise(check, grades.records) for check in checks.values()],
        hardest=hardest(grades), beliefs=commonest(grades), feedback=FEEDBACK,
        troubled=[r for r in grades.records if r.trouble], flagged=[r for r in grades.records if r.flags],
        alike=alike(grades),
        warned=[r for r in grades.records if r.warnings], mean=mean([r.total for r in grades.records]),
        median=median([r.total for r in grades.records])))


def alike(grades: Grades) -> list[list[Record]]:
    """Groups of submissions whose notebooks are the same byte for byte, and have points."""
    groups: dict[str, list[Record]] = {}
    for record in grades.records:
        if record.sha256 and record.total:
            groups.setdefault(record.sha256, []).append(record)
    return [group for group in groups.values() if len(group) > 1]


def mean(values: Sequence[float]) -> float:
    """The mean; 0 of nothing."""
    return sum(values) / len(values) if values else 0.0


def median(values: Sequence[float]) -> float:
    """The middle value; 0 of nothing."""
    ordered = sorted(values)
    return mean(ordered[(len(ordered) - 1) // 2:len(ordered) // 2 + 1])


def distribution(grades: Grades) -> list[tuple[str, int, float]]:
    """(from which to which total, how many submissions, share of the largest bar), the full mark apart."""
    n = min(BINS, max(1, grades.out_of))
    width = grades.out_of / n
    counts = Counter(min(n, int(r.total / width + 1e-9)) for r in grades.records)
    most = max(counts.values(), default=1)
    labels = [f"{number(k * width)} to below {number((k + 1) * width)}" for k in range(n)] + [
        f"{grades.out_of}: all"
    ]
    return [(labels[k], counts[k], counts[k] / most) for k in range(n + 1)]


def of_exercise(check: Check, records: Sequence[Record]) -> dict:
    """What became of one exercise in the class: counts, the mean, and the reasons that cost points."""
    marks = [
        mark
        for record in records
        if not record.trouble
        for mark in record.marks
        if mark.exercise == check.name
    ]
    reasons = Counter(mark.reason for mark in marks if mark.points < 1)
    return {
        "check": check,
        "mean": mean([mark.points for mark in marks]),
        "read": len(marks),
        "right": sum(mark.points >= 1 for mark in marks),
        "part": sum(0 < mark.points < 1 for mark in marks),
        "none": sum(mark.points == 0 for mark in marks),
        "reasons": sorted(reasons.items(), key=lambda item: (-item[1], item[0]))[:3],
    }


def hardest(grades: Grades) -> dict | None:
    """The exercise with the lowest mean, of those that were read at all."""
    all_of = [of_exercise(check, grades.records) for check in grades.settings.exercises]
    return min((e for e in all_of if e["read"]), key=lambda e: e["mean"], default=None)


def commonest(grades: Grades, most: int = 10) -> list[tuple[str, str, str, int]]:
    """(exercise, misconception, what it is, how many had it), the commonest first."""
    why = {(check.name, m.name): m.why for check in grades.settings.exercises for m in check.misconceptions}
    counts = Counter((mark.exercise, mark.reason) for record in grades.records for mark in record.marks
                     if mark.reason not in NO_BELIEF)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:most]
    return [(*key, why.get(key, ""), count) for key, count in ordered]
