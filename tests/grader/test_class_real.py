"""Real runs, in the sandbox where there is one: known marks, editors' notebooks, and stops of every kind.

Where there is none, the notebooks here are trusted (--unsafe).
"""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from classes import ROOT, SOLVED, STUBS, UNSAFE, files_under, save, solved, source
from grader.__main__ import main
from grader.outside.classroom.journal import FILE, read_lines

ONLY = "tilt,ipo-coefficient"
SHIFTED = "def best_policy(reference, R, beta):\n    return (reference.log() + R / beta).softmax(0)\n"
LOUD = ("import warnings\ndef best_policy(reference, R, beta):\n    warnings.warn('look out')\n"
        "    print('hello')\n    return (reference.log() + R / beta).softmax(-1)\n")


def as_vs_code(notebook):
    """As VS Code saves it: no ids, no tags, its own language field."""
    cells = [{k: v for k, v in cell.items() if k != "id"} | {"metadata": {}} for cell in notebook["cells"]]
    return {**notebook, "cells": cells, "nbformat_minor": 2}


def as_colab(notebook):
    """As Colab saves it: ids within the metadata, everything else of it gone."""
    cells = [{k: v for k, v in cell.items() if k != "id"} | {"metadata": {"id": f"a{n}"}}
             for n, cell in enumerate(notebook["cells"])]
    return {**notebook, "cells": cells, "nbformat_minor": 0, "metadata": {"colab": {"provenance": []}}}


def as_one_text(notebook):
    """With each cell's source as one text, as some tools write it, and Windows' line ends."""
    return {**notebook, "cells": [{**cell, "source": source(cell).replace("\n", "\r\n")}
                                  for cell in notebook["cells"]]}


@pytest.fixture(scope="module")
def handed_in(tmp_path_factory):
    """Six students, and one whose file is broken; what each gets for `tilt` is known."""
    folder = tmp_path_factory.mktemp("class") / "in"
    for name, notebook in (("ada", SOLVED), ("vs-code", as_vs_code(SOLVED)), ("colab", as_colab(SOLVED)),
                           ("loud", as_one_text(solved(tilt=LOUD))), ("open", STUBS),
                           ("shifted", solved(tilt=SHIFTED))):
        save(folder / name / "13_dpo.ipynb", notebook)
    (folder / "broken.ipynb").write_text("{")
    return folder


@pytest.fixture(scope="module")
def whole(handed_in):
    """What an undisturbed run writes."""
    out = handed_in.parent / "whole"
    assert main(arguments(handed_in, out)) == 0
    return out


def arguments(handed_in, out, *options):
    """The arguments of `grade`."""
    return ["grade", str(handed_in), "--chapter", "13", "--only", ONLY, "--seed", "5", "--jobs", "2", *UNSAFE,
            "--out", str(out), *options]


def start(handed_in, out, *options):
    """`grade` in a process of its own, as a person starts it."""
    return subprocess.Popen(
        [sys.executable, "-m", "grader", *arguments(handed_in, out, *options)],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )


def graded(out):
    """The ids in a run's journal, in the order in which they were graded."""
    path = out / FILE
    return [line["record"]["id"] for line in read_lines(path.read_bytes())[0][1:]] if path.exists() else []


def wait_for(condition, seconds=120):
    """Wait until it holds."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    assert condition()


def below(pid):
    """The processes that descend from one."""
    parents = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                parents[int(name)] = int(file.read().rpartition(b")")[2].split()[1])
        except OSError:
            pass
    found = [pid]
    for each in found:
        found += [child for child, parent in parents.items() if parent == each]
    return found[1:]


def gone(pid):
    """True for a process that has ended."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] == b"Z"
    except OSError:
        return True


def test_known_marks(whole):
    table = {
        row["submission"]: row for row in csv.DictReader(io.StringIO((whole / "grades.csv").read_text()))
    }
    for name in ("ada", "vs-code", "colab", "loud"):
        assert (table[name]["tilt"], table[name]["ipo-coefficient"]) == ("1", "1"), name
    assert (table["shifted"]["tilt"], table["shifted"]["ipo-coefficient"]) == ("0", "1")
    assert table["open"]["total"] == table["broken"]["total"] == "0"
    assert "JSON" in table["broken"]["trouble"]
    kept = {one["id"]: one for one in json.loads((whole / "grades.json").read_text())["submissions"]}
    assert (
        kept["shifted"]["marks"][0]["reason"] == "wrong axis" and kept["open"]["marks"][0]["reason"] == "stub"
    )


def test_the_feedback_says_what_the_check_saw_and_no_number_that_is_wanted(whole):
    page = (whole / "feedback" / "shifted.html").read_text()
    assert "wrong axis" in page and "0 of 1 point" in page
    assert "Nothing could be marked" in (whole / "feedback" / "broken.html").read_text()


def test_killed_and_resumed_each_is_graded_once(handed_in, whole, tmp_path):
    out = tmp_path / "out"
    run = start(handed_in, out)
    wait_for(lambda: len(graded(out)) >= 2 or run.poll() is not None)
    children = below(run.pid)
    run.kill()
    run.communicate()
    kept = graded(out)
    assert 2 <= len(kept) < 7 and children, "it ended before it was killed"
    if os.path.isdir("/proc"):
        wait_for(lambda: all(map(gone, children)), 30)          # nothing is left running
    assert not (out / "grades.csv").exists()

    run = start(handed_in, out, "--resume")                     # and now Ctrl-C
    wait_for(lambda: len(graded(out)) > len(kept) or run.poll() is not None)
    children = below(run.pid)
    run.send_signal(signal.SIGINT)
    said = run.communicate(timeout=60)[1]
    kept = graded(out)
    assert run.returncode == 130 and f"{len(kept)} of 7" in said and "--resume" in said, said
    wait_for(lambda: all(map(gone, children)), 30)

    assert main(arguments(handed_in, out, "--resume")) == 0
    assert sorted(graded(out)) == sorted(set(graded(out))) and len(graded(out)) == 7
    one, two = files_under(out), files_under(whole)
    assert {k: v for k, v in one.items() if k != FILE} == {k: v for k, v in two.items() if k != FILE}


def test_check_has_exit_codes(handed_in, tmp_path, capsys):
    def check(path, *options):
        code = main(["check", str(path), *UNSAFE, *options])
        return code, capsys.readouterr()

    code, said = check(handed_in / "colab" / "13_dpo.ipynb", "--only", ONLY, "--json")
    told = json.loads(said.out)
    assert code == 0 and told["right"] and told["points"] == told["out_of"] == 2
    code, said = check(handed_in / "shifted" / "13_dpo.ipynb", "--only", "tilt")
    assert code == 1 and "wrong axis" in said.out and "0 of 1 points" in said.out
    code, said = check(handed_in / "broken.ipynb")
    assert code == 2 and "FILE" in said.err and not said.out
    code, said = check(tmp_path / "none.ipynb")
    assert code == 2 and "there is no such file" in said.err
    code, said = check(tmp_path / "none.ipynb", "--json")
    assert code == 2 and "there is no such file" in json.loads(said.out)["error"]
    code, said = check(save(tmp_path / "x.ipynb", {"cells": [], "nbformat": 4}))
    assert code == 2 and "no exercise is in it" in said.err


@pytest.mark.skipif(bool(UNSAFE), reason="there is no sandbox here")
def test_a_learners_process_sees_no_answers(tmp_path, capsys):
    """Through the class's own command: neither solutions nor checks are to be found."""
    looks = ("def best_policy(reference, R, beta):\n"
             "    import os\n"
             "    seen = [os.path.join(f, n) for f, _, names in os.walk('/course') for n in names]\n"
             "    bad = [p for p in seen if '/solutions/' in p or '/grader/outside' in p]\n"
             "    assert not bad, bad[:3]\n"
             "    return (reference.log() + R / beta).softmax(-1)\n")
    path = save(tmp_path / "looks.ipynb", solved(tilt=looks))
    assert main(["check", str(path), "--only", "tilt", "--timeout", "120"]) == 0, capsys.readouterr().out
