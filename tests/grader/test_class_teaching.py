"""TEACHING.md says what is so: its exercise works as printed, its tables name what there is."""

from __future__ import annotations

import importlib.util
import re
import sys

import jupytext
import pytest
import torch

from classes import ROOT
from grader.__main__ import parser
from grader.outside import CHAPTERS, notebook
from grader.outside.judge import judge, plan

TEXT = (ROOT / "TEACHING.md").read_text("utf-8")
NAMES = {check.name: chapter for chapter, checks in CHAPTERS.items() for check in checks}


def block(name):
    """The code that is printed under a mark."""
    return re.search(rf"<!-- {name} -->\n```python\n(.*?)\n```", TEXT, re.S)[1]


@pytest.fixture(scope="module")
def check(tmp_path_factory):
    """The printed check, imported as if it stood in its chapter's folder."""
    path = tmp_path_factory.mktemp("check") / "implicit_reward.py"
    path.write_text(block("the check") + "\n", "utf-8")
    name = "grader.outside.chapter13.implicit_reward"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    yield module.IMPLICIT_REWARD
    del sys.modules[name]


def verdict(check, function):
    """What the check says of a function."""
    trials = plan(check)
    return judge(check, trials, notebook.ask(check, trials, function, 0))


def test_the_printed_exercise_is_right(check):
    cells = jupytext.reads(block("the task") + "\n", fmt="py:percent").cells
    space = {"torch": torch}
    exec(next(c.source for c in cells if "exercise" in c.metadata.get("tags", [])), space)
    assert verdict(check, space[check.function]).passed
    text = cells[0].source
    stars = "★" * check.difficulty + "☆" * (3 - check.difficulty)
    assert f"`{check.name}` · difficulty {stars} · {check.minutes} minutes" in text and check.title in text
    example = re.search(r"logprobs = (\[.*?\])`, `reference = (\[.*?\])`, `beta = (.*?)`: `(\[.*?\])`", text)
    p, q, beta, wanted = (torch.tensor(eval(part)) for part in example.groups())
    assert torch.allclose(space[check.function](p, q, beta), wanted.float())


def test_the_printed_proof_holds(check):
    space = {"WRONG": {}, "RIGHT": {}, "torch": torch}
    exec(block("the proof"), space)
    wrong, right = space["WRONG"][check.name], space["RIGHT"][check.name]
    assert len(wrong) >= 5 and len(right) >= 2
    for reason, function in wrong:
        assert verdict(check, function).reason == reason
    assert all(verdict(check, function).passed for function in right)


def test_the_plan_names_each_exercise_once():
    rows = re.findall(r"^\| (\d+) \| (.*?) \| (.*?) \| (.*?) \| (.*?) ?\|$", TEXT, re.M)
    assert [int(row[0]) for row in rows] == list(range(1, 13))
    named: list[str] = []
    for _, chapter, _, set_, left in rows:
        own = int(re.findall(r"\d+", chapter)[-1])
        here = re.findall(r"`([\w-]+)`", set_ + left)
        assert all(NAMES[name] == own for name in here), chapter
        if "all" in set_:
            here = [check.name for check in CHAPTERS[own]]
        named += here
    assert len(named) == len(set(named))
    assert set(named) == {name for name, chapter in NAMES.items() if chapter not in (0, 18, 19)}


def test_commands_and_options_are_those_there_are():
    commands = next(a for a in parser()._actions if a.dest == "command").choices
    for name, rest in re.findall(
        r"(?:-m grader |`)(grade|check|status|release|regrade|verify|export|merge)\b(.*)", TEXT
    ):
        known = set(commands[name]._option_string_actions)
        for option in re.findall(r"(?<![\w-])--[a-z][\w-]*", rest.split("`")[0]):
            assert option in known, (name, option)


def test_links_lead_somewhere():
    for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", TEXT):
        assert (ROOT / link).exists(), link
