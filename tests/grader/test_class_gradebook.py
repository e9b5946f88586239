"""Marks go to the right people in Canvas's and Moodle's own tables, and to nobody where that is not sure."""

from __future__ import annotations

import csv
import io

import pytest

from grader.__main__ import main
from grader.outside import CHAPTERS
from grader.outside.classroom.records import Given, Record, Settings
from grader.outside.classroom.tables import Grades, grades_json

CANVAS = """Student,ID,SIS User ID,SIS Login ID,Section,DPO (881),Current Score
    Points Possible,,,,,10,(read only)
"Lovelace, Ada",101,s1,ada@uni.edu,A,,
"Turing, Alan",102,s2,alan@uni.edu,A,4,
"Smith, Jo",103,s3,jo1@uni.edu,A,,
"Smith, Jo",104,s4,smithjo@uni.edu,A,,
"=Evil, Eve",105,s5,eve@uni.edu,A,,
"Student, Test",9,,,A,,
"""
WORKSHEET = """Identifier,Full name,Email address,Status,Grade,Maximum Grade,Grade can be changed,\
Feedback comments
Participant 101,Ada Lovelace,ada@uni.edu,Submitted,,20.00,Yes,
Participant 102,Alan Turing,alan@uni.edu,Submitted,5,20.00,Yes,kept
Participant 103,Jo Smith,jo@uni.edu,Submitted,,20.00,Yes,
"""
PLAIN = """First name,Surname,ID number,Email address
Ada,Lovelace,s1,ada@uni.edu
Alan,Turing,s2,alan@uni.edu
"""


def record(id, points):
    """A submission with this many points on each of five exercises."""
    marks = [
        Given(c.name, points, "right" if points == 1 else "wrong axis", "", (True,)) for c in CHAPTERS[13]
    ]
    return Record(id, 1, "", "", (), tuple(marks))


@pytest.fixture
def export(tmp_path, capsys):
    """(ids with points, kind, roster, options) -> (exit code, rows of the table, what was said)."""
    def run(handed_in, kind, roster, *options):
        records = tuple(record(id, points) for id, points in sorted(handed_in.items()))
        (tmp_path / "grades.json").write_text(grades_json(Grades(Settings(13, 1), "", False, records)))
        (tmp_path / "roster.csv").write_text(roster, "utf-8-sig")
        out = tmp_path / "out.csv"
        out.unlink(missing_ok=True)
        code = main(
            [
                "export",
                str(tmp_path),
                "--for",
                kind,
                "--roster",
                str(tmp_path / "roster.csv"),
                "--out",
                str(out),
                *options,
            ]
        )
        said = capsys.readouterr()
        rows = list(csv.reader(io.StringIO(out.read_text("utf-8")))) if out.exists() else []
        return code, rows, said.out + said.err
    return run


def test_canvas(export):
    code, rows, said = export(
        {"lovelaceada_101_555_13_dpo": 1, "eve@uni.edu": 0.5, "smithjo_LATE_103_9_x": 0},
        "canvas",
        CANVAS,
        "--column",
        "DPO",
        "--points",
        "10",
    )
    assert code == 0
    assert rows[0] == ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", "DPO (881)"]
    assert rows[1] == ["    Points Possible", "", "", "", "", "10"]
    marks = {row[1]: row[5] for row in rows[2:]}
    assert marks == {"101": "10", "102": "4", "103": "0", "104": "", "105": "5"}
    assert "No submission of 2: Turing, Alan, Smith, Jo" in said
    assert [row[0] for row in rows if row[1] == "105"] == ["'=Evil, Eve"]


def test_a_name_that_a_student_chose_moves_no_mark(export):
    """Canvas and Moodle put their own number first; what follows may be another student's login."""
    _, rows, _ = export({"lovelaceada_101_555_alan@uni.edu": 0.2}, "canvas", CANVAS)
    assert [row[1] for row in rows[2:] if row[5]] == ["101"]
    _, rows, _ = export(
        {"Ada Lovelace_101_assignsubmission_file_102_assignsubmission_": 1}, "moodle", WORKSHEET
    )
    assert [row[4] for row in rows[1:]] == ["20", "5", ""]


def test_where_two_people_fit_nobody_gets_the_mark(export):
    _, rows, said = export({"Smith, Jo": 1}, "canvas", CANVAS)
    assert not any(row[5] for row in rows[2:]) and "Nobody on the roster for 1: Smith, Jo" in said
    code, rows, said = export({"alan": 1, "alan@uni.edu": 0}, "canvas", CANVAS)
    assert code == 2 and not rows and "by the same person" in said


def test_moodles_worksheet(export):
    code, rows, said = export(
        {"Ada Lovelace_101_assignsubmission_file_": 0.5, "jo@uni.edu": 1}, "moodle", WORKSHEET
    )
    assert code == 0 and rows[0] == WORKSHEET.splitlines()[0].split(",")
    assert [row[4] for row in rows[1:]] == ["10", "5", "20"]
    assert "tilt: 0.5 of 1 (wrong axis)" in rows[1][7] and rows[2][7] == "kept"


def test_another_export_of_moodles(export):
    _, rows, _ = export({"s1": 1, "alan": 0.5}, "moodle", PLAIN, "--column", "DPO", "--points", "100")
    assert rows[0][-2:] == ["DPO", "DPO (feedback)"] and [row[4] for row in rows[1:]] == ["100", "50"]


@pytest.mark.parametrize(
    "kind, roster, said",
    [
        ("canvas", PLAIN, "no column Student"),
        ("moodle", "Name,Mark\na,1\n", "no column Email address or ID number"),
        ("canvas", "", "no column Student"),
        ("moodle", PLAIN + "a,b,c,d,e\n", "row 4 has more cells"),
        ("moodle", "Email address,Email address\na,b\n", "the same name"),
        ("moodle", 'Email address\n"a', "no CSV"),
    ],
)
def test_a_roster_that_is_none(export, kind, roster, said):
    code, rows, error = export({"ada": 1}, kind, roster)
    assert code == 2 and not rows and said in error and "--roster" in error


def test_a_roster_in_another_encoding(export, tmp_path, capsys):
    export({"ada": 1}, "moodle", PLAIN)
    (tmp_path / "roster.csv").write_bytes("Email address\nłódź".encode("utf-16"))
    command = ["export", str(tmp_path), "--for", "moodle", "--roster", str(tmp_path / "roster.csv"), "--out"]
    assert main([*command, str(tmp_path / "new.csv")]) == 2
    assert "not UTF-8" in capsys.readouterr().err
    assert main([*command, str(tmp_path / "out.csv")]) == 2
    assert main([*command, str(tmp_path / "no" / "folder.csv")]) == 2
