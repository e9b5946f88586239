"""What students are handed holds no answer and works; and the proof of the checks finds what is wrong."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from classes import ROOT, STUBS, UNSAFE, source
from grader.__main__ import main
from grader.outside import CHAPTERS
from grader.outside.classroom import verify


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    folder = tmp_path_factory.mktemp("release") / "dpo"
    assert main(["release", "--chapter", "13", "--out", str(folder)]) == 0
    return folder


def test_no_answer_is_in_a_release(released):
    names = {path.relative_to(released).as_posix() for path in released.rglob("*")}
    assert {"13_dpo.ipynb", "README.md", "requirements.txt", "minillm", "grader/__init__.py"} <= names
    assert not any("outside" in name or "solution" in name or "__pycache__" in name for name in names)
    assert {name for name in names if name.startswith("grader/")} == {
        "grader/__init__.py",
        "grader/exercises.json",
    }
    notebook = json.loads((released / "13_dpo.ipynb").read_text("utf-8"))
    assert [source(c) for c in notebook["cells"]] == [source(c) for c in STUBS["cells"]]
    solutions = json.loads((ROOT / "solutions" / "13_dpo.ipynb").read_text("utf-8"))
    texts = "\n".join(path.read_text("utf-8") for path in released.rglob("*.py"))
    for cell in solutions["cells"]:
        written = re.search(r"### BEGIN SOLUTION\n(.*?)### END SOLUTION", source(cell), re.S)
        assert written is None or written[1] not in texts


def test_a_release_works_in_its_own_folder(released):
    """The exercises' cells run with what is there, and a check says what it can."""
    cells = [source(c) for c in STUBS["cells"] if c["cell_type"] == "code"]
    run = subprocess.run(
        [sys.executable, "-c", "\n".join(cells) + "\nhint('tilt')\nhint('tilt')\n"],
        cwd=released,
        capture_output=True,
        text=True,
        env={"PYTHONUTF8": "1", "PATH": "/usr/bin:/bin"},
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("holds no answers") == 5 and "tilt, hint 2 of" in run.stdout
    assert "★☆☆  tried" in run.stdout


def test_with_checks_the_grader_comes_along(tmp_path, capsys):
    assert main(["release", "--chapter", "13", "--out", str(tmp_path / "new"), "--with-checks"]) == 0
    assert (tmp_path / "new" / "grader" / "outside" / "judge.py").is_file()
    assert "can read" in capsys.readouterr().out
    assert not (tmp_path / "new" / "solutions").exists()


def test_verify_proves_a_check(capsys):
    assert main(["verify", "--chapter", "13", "--only", "ipo-coefficient", *UNSAFE]) == 0
    said = capsys.readouterr().out
    assert re.search(r"ipo-coefficient +1 +1 +\d+ +\d+  none", said) and "0 faults" in said


def test_verify_finds_a_check_that_is_wrong(capsys, monkeypatch):
    """A wrong answer that passes, and a right one that fails."""
    tables = verify.tables_of(13)
    right, wrong = tables.RIGHT["ipo-coefficient"], tables.WRONG["ipo-coefficient"]
    monkeypatch.setitem(tables.WRONG, "ipo-coefficient", [("sign turned", right[0]), *wrong[1:]])
    monkeypatch.setitem(tables.RIGHT, "ipo-coefficient", [wrong[0][1], right[0]])
    monkeypatch.setattr(verify, "in_sandbox", lambda *_: None)
    assert main(["verify", "--chapter", "13", "--only", "ipo-coefficient", *UNSAFE]) == 1
    said = capsys.readouterr().out
    assert "wrong answer 0 should fail by “sign turned”" in said and "right answer 0 fails" in said


def test_every_chapter_has_the_tables():
    for chapter, checks in CHAPTERS.items():
        tables = verify.tables_of(chapter)
        assert {check.name for check in checks} <= set(tables.WRONG) & set(tables.RIGHT), chapter
