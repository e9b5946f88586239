"""Tables and pages of strangers' words: nothing is run, nothing is cut loose, nothing hangs on colour."""

from __future__ import annotations

import csv
import io
import re
from html.parser import HTMLParser

import pytest

from grader.outside import CHAPTERS
from grader.outside.classroom import pages
from grader.outside.classroom.plain import cell, file_name, name_of, plain
from grader.outside.classroom.records import Given, Record, Settings
from grader.outside.classroom.tables import Grades, grades_csv, grades_json, read_grades

EVIL = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "{{ 7*7 }}{% include 'x' %}",
    "&lt;b&gt;",
    "=1+1",
    "+cmd|'/c calc'!A0",
    "-2+3",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    " =1",
    "＝1+1",
    'a,b;c"d"',
    "\x1b[31mred\x1b]0;title\x07",
    "\u202egpj.exe",
    "javascript:alert(1)",
    "../../etc/passwd",
    "con",
    "x" * 250,
    "name\x00null",
    "\ud83d",
    "]]></style><script>",
    "<!--",
    "łódź 猫",
]


def given(n, text="", flags=()):
    """A mark of the n-th exercise of chapter 13."""
    check = CHAPTERS[13][n]
    return Given(check.name, 0.5, check.misconceptions[0].name, text, (True, False), flags)


def evil_class():
    """A submission for each evil name, with evil feedback, flags, warnings and troubles."""
    records = [Record(name, n, "", name if n % 5 == 0 else "", (name,),
                      tuple(given(k, f"{name}\n    {name}", (name,)) for k in range(5)))
               for n, name in enumerate(EVIL)]
    return Grades(Settings(13, 1), "", False, tuple(sorted(records, key=lambda r: r.id)))


class Reader(HTMLParser):
    """Notes the tags of a page, their attributes, and its text outside of <style>."""

    def __init__(self):
        super().__init__()
        self.tags, self.attributes, self.text, self.open = set(), set(), "", []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.open.append(tag)
        for name, value in attrs:
            if name == "href":
                assert re.fullmatch(r"#[a-z0-9-]+|feedback/[\w.-]+\.html", value), value

    def handle_data(self, data):
        self.text += data if self.open[-1:] != ["style"] else ""


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    pages.write_pages(evil_class(), folder)
    return folder


def test_pages_hold_no_code_of_a_stranger(written):
    known = {
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "h1",
        "h2",
        "p",
        "strong",
        "div",
        "table",
        "tr",
        "th",
        "td",
        "a",
        "section",
        "code",
        "pre",
        "footer",
        "bdi",
        "svg",
        "rect",
        "br",
    }
    files = [written / "summary.html", *(written / "feedback").iterdir()]
    assert len(files) == len(EVIL) + 1
    for path in files:
        text = path.read_text("utf-8")
        reader = Reader()
        reader.feed(text)
        assert reader.tags <= known, reader.tags - known
        assert not any(
            name.startswith("on") or name in ("src", "style", "srcdoc") for name in reader.attributes
        )
        assert "default-src 'none'" in text and "color-scheme" in text
        assert not re.search("[\x00-\x08\x0b-\x1f\u202a-\u202e\u2066-\u2069]", text)
    summary = (written / "summary.html").read_text("utf-8")
    assert "{{ 7*7 }}" in summary and "łódź 猫" in summary and "&lt;script&gt;" in summary


def test_what_is_shown_is_what_was_handed_in(written):
    reader = Reader()
    reader.feed((written / "summary.html").read_text("utf-8"))
    for name in EVIL:
        assert plain(name) in reader.text


def test_pages_do_not_need_colour(written):
    text = (written / "feedback" / f"{file_name('łódź 猫')}.html").read_text("utf-8")
    assert "◐ in part" in text and "0.5" in text


def test_no_cell_is_a_formula():
    table = list(csv.reader(io.StringIO(grades_csv(evil_class()))))
    assert len(table) == len(EVIL) + 1 and {len(row) for row in table} == {len(table[0])}
    for row in table:
        for value in row:
            assert not value.lstrip().startswith(("=", "+", "-", "@", "＝", "＋", "－", "＠")), value
            assert value.isprintable()
    assert cell(-0.5) == "-0.5" and cell(0.30000000000000004) == "0.3"       # numbers are ours


def test_names_of_pages_are_safe_and_differ():
    names = [file_name(name) for name in EVIL + ["Ada", "ada", "ADA", "ada.", "CON", "."]]
    assert len({name.lower() for name in names}) == len(names)
    for name in names:
        assert re.fullmatch(r"[\w.-]{1,80}", name, re.A) and not name.startswith(".")
    assert file_name("ada") == "ada" and file_name("s1234567") == "s1234567"
    assert name_of("/x/é") == "é"


def test_json_is_read_as_it_was_written(tmp_path):
    grades = evil_class()
    (tmp_path / "grades.json").write_text(grades_json(grades))
    assert read_grades(tmp_path, "RESULTS") == grades


def test_the_summary_counts_right():
    def student(n, *points):
        marks = [Given(c.name, p, "right" if p == 1 else "wrong axis", "", (p > 0,))
                 for c, p in zip(CHAPTERS[13], points)]
        return Record(f"s{n}", n, "", "", (), tuple(marks))
    records = (student(0, 1, 1, 1, 1, 1), student(1, 1, 0.5, 1, 0, 0), student(2, 1, 0, 0, 0, 0),
               Record("x", 3, "", "broken", (), ()))
    grades = Grades(Settings(13, 1), "", False, records)
    assert [count for _, count, _ in pages.distribution(grades)] == [1, 1, 1, 0, 0, 1]
    assert pages.distribution(grades)[-1][0] == "5: all"
    tilt = pages.of_exercise(CHAPTERS[13][0], records)
    assert (tilt["read"], tilt["right"], tilt["mean"]) == (3, 3, 1)
    assert pages.hardest(grades)["check"].name in ("reference-point", "find-the-wrong-push")
    assert pages.commonest(grades)[0][3] == 2 and pages.median([1, 2, 4]) == 2 and pages.median([1, 2]) == 1.5
    empty = Grades(Settings(13, 1), "", False, ())
    assert pages.hardest(empty) is None and sum(c for _, c, _ in pages.distribution(empty)) == 0
