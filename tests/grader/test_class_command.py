"""The commands' words: an error names the argument, the value and the remedy, and nothing is written."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from classes import ROOT, SOLVED, save, use_fakes
from grader.__main__ import main, parser


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a class of two, where commands are run."""
    use_fakes(monkeypatch)
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "in" / "ada.ipynb", SOLVED)
    save(tmp_path / "in" / "ben" / "13_dpo.ipynb", SOLVED)
    (tmp_path / "file").write_text("x")
    return tmp_path


GRADE = ["grade", "in", "--chapter", "13", "--out", "out"]

# the command, and what the error says: the argument, the value, the remedy
BAD = [
    ([*GRADE, "--jobs", "0"], ("--jobs", "'0'", "1 or more")),
    ([*GRADE, "--jobs", "two"], ("--jobs", "'two'", "whole number")),
    ([*GRADE, "--seed", "-1"], ("--seed", "'-1'", "2**53")),
    ([*GRADE, "--seed", str(2**53)], ("--seed", str(2**53), "2**53")),
    ([*GRADE, "--seed", "1e3"], ("--seed", "1e3", "whole number")),
    ([*GRADE, "--timeout", "0"], ("--timeout", "'0'", "above 0")),
    ([*GRADE, "--timeout", "nan"], ("--timeout", "nan", "above 0")),
    ([*GRADE, "--timeout", "soon"], ("--timeout", "soon", "above 0")),
    ([*GRADE, "--only", "tlit"], ("--only", "tlit", "Did you mean 'tilt'")),
    ([*GRADE, "--only", ","], ("--only", "','", "name exercises")),
    ([*GRADE, "--only", "surrogate"], ("--only", "surrogate", "There are: tilt")),
    ([*GRADE, "--shard", "0/16"], ("--shard", "0/16", "from 1 to N")),
    ([*GRADE, "--shard", "17/16"], ("--shard", "17/16", "3/16")),
    ([*GRADE, "--shard", "3"], ("--shard", "'3'", "I/N")),
    ([*GRADE, "--shard", "1/2"], ("--seed", "not given", "shards need the same one")),
    (
        ["grade", "in", "--chapter", "99", "--out", "out"],
        ("--chapter", "'99'", "chapters with exercises are 0, 1"),
    ),
    (["grade", "in", "--chapter", "dpo", "--out", "out"], ("--chapter", "'dpo'", "13")),
    (["grade", "in", "--out", "out"], ("--chapter",)),
    (["grade", "in", "--chapter", "13"], ("--out",)),
    (["grade", "--chapter", "13", "--out", "out"], ("SUBMISSIONS",)),
    (["grade", "nowhere", "--chapter", "13", "--out", "out"], ("SUBMISSIONS", "nowhere", "that exists")),
    (["grade", "in", "--chapter", "13", "--out", "file"], ("--out", "file", "Name a folder")),
    (["grade", "in", "--chapter", "13", "--out", "file/deep"], ("--out", "file/deep", "Name a folder")),
    (["grade", "in", "--chapter", "13", "--out", "in/out"], ("--out", "in/out", "name a folder outside")),
    (["grade", "in", "--chapter", "13", "--out", "."], ("--out", ".", "holds other files")),
    (["check", "nowhere.ipynb"], ("FILE", "nowhere.ipynb", "Name a notebook")),
    (["check", "file"], ("FILE", "file", "JSON")),
    (["check", "in"], ("FILE", "in", "regular file")),
    (["check", "in/ada.ipynb", "--only", "surrogate"], ("--only", "surrogate")),
    (["status", "nowhere"], ("RESULTS", "nowhere", "grade --out")),
    (["status", "in"], ("RESULTS", "in", "no run")),
    (["release", "--chapter", "13", "--out", "in"], ("--out", "in", "Name a new folder")),
    (["release", "--chapter", "13", "--out", "file"], ("--out", "file", "Name a folder")),
    (["release", "--chapter", "4", "--out", "new"], ("--chapter", "'4'", "chapters with exercises are")),
    (["regrade", "in", "--from", "nowhere", "--out", "new"], ("--from", "nowhere", "--resume")),
    (["regrade", "in", "--from", "file", "--out", "new"], ("--from", "file", "grade --out")),
    (["merge", "nowhere", "--out", "new"], ("SHARDS", "nowhere", "no grades.json")),
    (["export", "nowhere", "--for", "canvas", "--roster", "file", "--out", "x"], ("RESULTS", "nowhere")),
    (
        ["export", "in", "--for", "blackboard", "--roster", "file", "--out", "x"],
        ("--for", "blackboard", "canvas"),
    ),
    (
        ["export", "in", "--for", "canvas", "--roster", "file", "--out", "x", "--points", "0"],
        ("--points", "'0'"),
    ),
    (["verify", "--chapter", "13", "--only", "surrogate"], ("--only", "surrogate", "There are: tilt")),
    (["verify", "--seeds", "0"], ("--seeds", "'0'", "1 or more")),
    (["mark"], ("mark", "grade")),
    ([], ("COMMAND",)),
]


@pytest.mark.parametrize(
    "command, said", BAD, ids=[" ".join(command)[-60:] or "nothing" for command, _ in BAD]
)
def test_bad_input_is_refused_with_a_remedy(place, command, said, capsys):
    before = {path for path in place.rglob("*")}
    try:
        code = main(command)
    except SystemExit as end:
        code = end.code
    error = capsys.readouterr().err
    assert code == 2 and all(part in error for part in said), error
    assert "Traceback" not in error
    assert {path for path in place.rglob("*")} <= before | {place / "out", place / "new"}


def test_no_isolation_means_that_nothing_is_run(place, monkeypatch, capsys):
    from grader.outside.classroom import run
    from grader.outside.sandbox import Isolation
    monkeypatch.setattr(run.marking, "isolation", lambda unsafe: Isolation(
        "none", ("bwrap not found: apt-get install bubblewrap",)))
    assert main(GRADE) == 2
    said = capsys.readouterr().err
    assert "apt-get install bubblewrap" in said and "--unsafe" in said and not (place / "out").exists()


def test_unsafe_is_said_and_kept(place, capsys):
    assert main([*GRADE, "--unsafe"]) == 0
    assert "WARNING" in capsys.readouterr().err
    for page in ("summary.html", "feedback/ada.html"):
        assert "--unsafe" in (place / "out" / page).read_text("utf-8")
    assert '"unsafe": true' in (place / "out" / "grades.json").read_text()


def test_status_lists_isolation_and_exercises(capsys):
    assert main(["status"]) == 0
    said = capsys.readouterr().out
    assert "Isolation: " in said and "find-the-wrong-push" in said


def test_no_module_is_taken_from_the_folder_that_it_is_started_in(tmp_path):
    """A student may hand in a torch.py, and a teacher may stand in that folder."""
    for name in ("torch", "numpy", "json", "argparse", "tqdm", "jinja2", "sitecustomize"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    run = subprocess.run(
        [sys.executable, "-m", "grader", "status"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert run.returncode == 0, run.stderr
    assert not (tmp_path / "ran").exists()


def test_help_can_be_read(capsys):
    """Within 110 columns, for the whole and for each command."""
    commands = next(a for a in parser()._actions if a.dest == "command").choices
    assert set(commands) == {"grade", "check", "status", "release", "regrade", "verify", "export", "merge"}
    for text in (parser().format_help(), *(command.format_help() for command in commands.values())):
        assert max(map(len, text.splitlines())) <= 110
    run = subprocess.run([sys.executable, "-m", "grader", "--help"], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0 and "TEACHING.md" in run.stdout
