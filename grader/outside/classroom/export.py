"""The gradebook's own CSV for Canvas or Moodle: the roster that it exports, with the marks filled in."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .plain import FORMULA, Refused, expect, number, plain
from .records import Record
from .tables import Grades, read_grades, write

LARGEST = 50_000_000    # bytes of a roster


@dataclass(frozen=True)
class Form:
    """How a gradebook names its columns. keys: those that tell who a student is, the surest first."""

    keys: tuple[str, ...]
    needs: tuple[tuple[str, ...], ...]      # of each group one column at least must be there
    where: str                              # where a teacher gets the roster
    downloaded: str                         # how it names the submissions that it hands out; (1): whose


FORMS = {
    "canvas": Form(("SIS Login ID", "SIS User ID", "ID", "Student"), (("Student",), ("ID",), ("Section",)),
                   "in Canvas: Grades, Export", r"[^_]+(?:_LATE)?_(\d+)_\d+_"),
    "moodle": Form(("Email address", "ID number", "Username", "Identifier", "Full name"),
                   (("Email address", "ID number", "Username", "Identifier"),),
                   "in Moodle: the assignment, Download grading worksheet; or Grades, Export",
                   r".+?_(\d+)_assignsubmission_"),
}


def export(results: Path, kind: str, roster: Path, out: Path, column: str | None, worth: float | None) -> int:
    """Write `out`; says who has no mark, and which submission nobody on the roster handed in.

    column: what the gradebook calls the assignment. worth: its points, to which marks are scaled.
    """
    grades = read_grades(results, "RESULTS")
    form = FORMS[kind]
    header, rows = read_roster(roster, form)
    expect(not out.exists(), "--out", out, "it is there already, and is not written over. Name another file")
    worth = float(grades.out_of) if worth is None else worth
    column = f"Chapter {grades.settings.chapter}" if column is None else column
    people = [row for row in rows if is_person(kind, header, row)]
    handed = match(people, header, form, grades.records)
    fill = fill_canvas if kind == "canvas" else fill_moodle
    header, rows = fill(header, rows, handed, grades, column, worth)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *([safe(name, value, form) for name, value in
                                                               zip(header, row)] for row in rows)])
    try:
        write(out, text.getvalue())
    except OSError as error:
        raise Refused(f"--out is {out}: it cannot be written ({error.strerror}). Name a file in a folder "
                      "that exists") from None
    without = [person_name(header, row, form) for row in people if id(row) not in handed]
    nobody = [r.id for r in grades.records if r.id not in {record.id for record in handed.values()}]
    print(f"{out}: {len(handed)} of {len(people)} people have a mark, out of {number(worth)}.")
    say_some("No submission of", without, "their cells are left as they were")
    say_some(
        "Nobody on the roster for",
        nobody,
        "put a login, an e-mail address or an ID into the folder's name, or fill these in by hand",
    )
    return 0


def say_some(what: str, names: Sequence[str], remedy: str) -> None:
    """A line on some people, where there are any."""
    if names:
        shown = ", ".join(plain(name) for name in names[:10]) + (
            f" and {len(names) - 10} more" if len(names) > 10 else ""
        )
        print(f"{what} {len(names)}: {shown}. {remedy[0].upper() + remedy[1:]}.")


def read_roster(path: Path, form: Form) -> tuple[list[str], list[list[str]]]:
    """A roster's header and rows, each as long as the header. Refused for what is none."""
    expect(path.is_file(), "--roster", path, f"there is no such file. Get it {form.where}")
    expect(
        path.stat().st_size <= LARGEST, "--roster", path, "it is too large for a roster: name the right file"
    )
    try:
        content = path.read_bytes().decode("utf-8-sig")
        table = [row for row in csv.reader(io.StringIO(content, newline=""), strict=True) if any(row)]
    except UnicodeDecodeError:
        raise Refused(f"--roster is {path}: it is not UTF-8. Save it as “CSV UTF-8”") from None
    except csv.Error as error:
        raise Refused(
            f"--roster is {path}: it is no CSV with commas ({error}). Get it {form.where}"
        ) from None
    header = table[0] if table else []
    for group in form.needs:
        expect(any(name in header for name in group), "--roster", path,
               f"it has no column {' or '.join(group)}. Get it {form.where}")
    expect(
        len(set(header)) == len(header), "--roster", path, "two of its columns have the same name. Rename one"
    )
    for n, row in enumerate(table[1:], 2):
        expect(
            len(row) <= len(header),
            "--roster",
            path,
            f"row {n} has more cells than the header. Mend that row",
        )
    return header, [row + [""] * (len(header) - len(row)) for row in table[1:]]


def is_person(kind: str, header: Sequence[str], row: Sequence[str]) -> bool:
    """False for Canvas's rows of points and its test student."""
    if kind != "canvas":
        return True
    student = row[header.index("Student")].strip()
    return student not in ("Points Possible", "") and not student.startswith("Student, Test")


def folded(text: str) -> str:
    """Text as it is compared: without case, accents' spelling and outer spaces."""
    return unicodedata.normalize("NFKC", text).strip().casefold()


def match(people: Sequence[list[str]], header: Sequence[str], form: Form, records: Iterable[Record]
          ) -> dict[int, Record]:
    """id(row) -> the record of who handed it in. Where several people fit a name, nobody does."""
    owners: dict[str, set[int]] = {}
    for n, row in enumerate(people):
        for name in (name for name in form.keys if name in header):
            value = folded(row[header.index(name)])
            for key in {
                value,
                value.removeprefix("participant "),
                value.split("@")[0] if "@" in value else "",
            }:
                owners.setdefault(key, set()).add(n)
    found: dict[int, Record] = {}
    for record in sorted(records, key=lambda r: r.id):
        fitting = owners.get(key_of(record.id, form), set())
        if len(fitting) != 1:
            continue
        row = people[next(iter(fitting))]
        expect(id(row) not in found, "RESULTS", record.id,
               f"{found[id(row)].id if id(row) in found else ''} is by the same person on the roster. "
               "Take one of the two out of the submissions")
        found[id(row)] = record
    return found


def key_of(submission: str, form: Form) -> str:
    """What in a submission's name says whose it is: the number that the gradebook put there, or all of it.

    The rest of such a name is the student's own choice, and may be another student's login.
    """
    number_in = re.match(form.downloaded, submission, re.S)
    return folded(number_in[1] if number_in else submission) or "\0"


def fill_canvas(
    header: list[str],
    rows: list[list[str]],
    handed: Mapping[int, Record],
    grades: Grades,
    column: str,
    worth: float,
) -> tuple[list[str], list[list[str]]]:
    """Canvas wants the columns that name a student, one for the assignment, and a row with its points."""
    kept = [name for name in ("Student", "ID", "SIS User ID", "SIS Login ID", "Section") if name in header]
    found = [name for name in header if name == column or re.fullmatch(re.escape(column) + r" \(\d+\)", name)]
    name = found[0] if found else column
    out = [["    Points Possible", *[""] * (len(kept) - 1), number(worth)]]
    for row in rows:
        if not is_person("canvas", header, row):
            continue
        before = row[header.index(name)] if found else ""
        mark = scaled(handed[id(row)], grades, worth) if id(row) in handed else before
        out.append([*(row[header.index(k)] for k in kept), mark])
    return [*kept, name], out


def fill_moodle(
    header: list[str],
    rows: list[list[str]],
    handed: Mapping[int, Record],
    grades: Grades,
    column: str,
    worth: float,
) -> tuple[list[str], list[list[str]]]:
    """Moodle's worksheet has its columns; another export gets one for the mark and one for feedback."""
    worksheet = "Grade" in header and "Identifier" in header
    mark, said = ("Grade", "Feedback comments") if worksheet else (column, f"{column} (feedback)")
    new = [name for name in (mark, said) if name not in header]
    if worksheet and "Feedback comments" in new:
        new.remove("Feedback comments")                 # Moodle takes it only where the assignment has it
    full = [*header, *new]
    out = []
    for row in rows:
        most = row[header.index("Maximum Grade")] if worksheet and "Maximum Grade" in header else ""
        top = float(most) if re.fullmatch(r"\d+(\.\d+)?", most) else worth
        cells = dict(zip(full, [*row, *[""] * len(new)]))
        if id(row) in handed:
            cells[mark] = scaled(handed[id(row)], grades, top)
            if said in cells:
                cells[said] = in_words(handed[id(row)])
        out.append([cells[name] for name in full])
    return full, out


def scaled(record: Record, grades: Grades, worth: float) -> str:
    """A record's points, out of `worth`."""
    return number(round(record.total / grades.out_of * worth, 2))


def in_words(record: Record) -> str:
    """A submission's marks in one line, for a gradebook's feedback."""
    if record.trouble:
        return f"Not marked: {plain(record.trouble)}."
    return "; ".join(f"{mark.exercise}: {number(mark.points)} of 1"
                     + ("" if mark.points >= 1 else f" ({plain(mark.reason)})") for mark in record.marks)


def safe(column: str, value: str, form: Form) -> str:
    """A cell that no spreadsheet runs. What a gradebook finds a student by stays as it is."""
    risky = value.lstrip().startswith(FORMULA) and not re.fullmatch(r"-?\d+([.,]\d+)?", value)
    return f"'{plain(value)}" if risky and column not in set(form.keys) - {"Student", "Full name"} else value


def person_name(header: Sequence[str], row: Sequence[str], form: Form) -> str:
    """What to call somebody on the roster."""
    cells = dict(zip(header, row))
    return next((cells[name] for name in ("Student", "Full name", *form.keys) if cells.get(name)), "somebody")
