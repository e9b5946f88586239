"""A class that runs nbgrader: its own commands make the assignment, and give the solutions all points.

It needs nbgrader, which the course itself does not: pip install nbgrader, or the extra `classroom`.
"""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from classes import ROOT, save, solved, source
from grader.__main__ import main

SHIFTED = "def best_policy(reference, R, beta):\n    return (reference.log() + R / beta).softmax(0)\n"
UNCUT = ("import warnings\nimport torch\ndef reference_point(ratio):\n    warnings.warn('look out')\n"
         "    prompt = torch.arange(len(ratio))\n    return ratio[prompt, prompt.roll(-1)].mean()\n")


def exercise(cell):
    """The exercise that a cell is, or None."""
    name = re.match(r"# exercise: (\S+)", source(cell))
    return name and name[1]


def test_the_source_of_an_assignment(tmp_path):
    assert main(["release", "--chapter", "13", "--for", "nbgrader", "--out", str(tmp_path / "dpo")]) == 0
    cells = json.loads((tmp_path / "dpo" / "13_dpo.ipynb").read_text("utf-8"))["cells"]
    graded = [
        cell["metadata"]["nbgrader"] for cell in cells if cell["metadata"].get("nbgrader", {}).get("grade")
    ]
    names = [exercise(cell) for cell in cells if exercise(cell)]
    assert [g["grade_id"] for g in graded] == [f"graded-{name}" for name in names] and len(names) == 5
    assert all(g["points"] == 1 and g["locked"] for g in graded)
    ids = [cell["metadata"]["nbgrader"]["grade_id"] for cell in cells if "nbgrader" in cell["metadata"]]
    assert len(ids) == len(set(ids))


def test_points_are_the_graders(capsys):
    """The plain case first, then the share of the cases that hold; a warning costs nothing."""
    import torch

    from grader.outside.nbgrader import points
    assert points("tilt", lambda reference, R, beta: (reference.log() + R / beta).softmax(-1)) == 1
    space = {}
    exec(UNCUT, space)
    assert points("reference-point", space["reference_point"]) == 0.75
    assert capsys.readouterr().err == ""
    with pytest.raises(AssertionError, match="wrong axis"):
        points("tilt", lambda reference, R, beta: (torch.log(reference) + R / beta).softmax(0))
    with pytest.raises(AssertionError):
        points("find-the-wrong-push", lambda coefficient: False)  # most cases hold, and no right code passes


@pytest.mark.skipif(importlib.util.find_spec("nbgrader") is None,
                    reason="nbgrader is not installed: pip install nbgrader")
def test_nbgraders_own_command_line_gives_the_solutions_all_points(tmp_path):
    course = tmp_path / "course"
    assert (
        main(["release", "--chapter", "13", "--for", "nbgrader", "--out", str(course / "source" / "dpo")])
        == 0
    )
    (course / "nbgrader_config.py").write_text("c = get_config()\nc.Execute.timeout = 250\n")

    def nbgrader(*command):
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # it calls alembic
        done = subprocess.run([sys.executable, "-m", "nbgrader", *command], cwd=course, capture_output=True,
                              text=True, env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)})
        assert done.returncode == 0, done.stderr[-2000:]

    nbgrader("generate_assignment", "dpo")
    released = json.loads((course / "release" / "dpo" / "13_dpo.ipynb").read_text("utf-8"))
    text = "\n".join(source(cell) for cell in released["cells"])
    assert "SOLUTION" not in text and "points(" not in text
    for name, answers in (("ada", solved()), ("ben", solved(tilt=SHIFTED, reference_point=UNCUT))):
        written = {exercise(cell): cell["source"] for cell in answers["cells"] if exercise(cell)}
        cells = [
            {**cell, "source": written.get(exercise(cell), cell["source"])} for cell in released["cells"]
        ]
        save(course / "submitted" / name / "dpo" / "13_dpo.ipynb", {**released, "cells": cells})
    nbgrader("autograde", "dpo")
    nbgrader("export")
    with open(course / "grades.csv", encoding="utf-8") as file:
        marks = {
            row["student_id"]: (float(row["score"]), float(row["max_score"])) for row in csv.DictReader(file)
        }
    assert marks == {"ada": (5, 5), "ben": (3.75, 5)}
