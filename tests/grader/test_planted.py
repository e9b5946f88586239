"""A learner's test can read off planted code neither by its place nor by its name which it is."""

from __future__ import annotations

import gc
import importlib
import inspect
import sys
from collections.abc import Mapping
from dataclasses import replace
from itertools import count
from types import CodeType

import numpy as np
import pytest
import torch

from grader.outside import notebook
from grader.outside.chapter01 import find_the_bug
from grader.outside.chapter02 import find_the_leak
from grader.outside.chapter03 import cut_the_text
from grader.outside.chapter08 import find_the_merge
from grader.outside.chapter16 import find_the_hole
from grader.outside.chapter18 import find_the_race
from grader.outside.chapter19 import find_the_stale
from grader.outside.judge import judge
from grader.outside.planted import sealed
from proof import CHECKS, fresh, inputs_of, trials_of, verdict  # noqa: F401  (a fixture is among them)

PLANTED = [name for name, check in CHECKS.items() if check.shuffled]


def test_all_checks_of_a_learners_test_are_these():
    assert len(PLANTED) == 14
    assert all(CHECKS[name].function == "is_right" for name in PLANTED)


def by_position(name):
    """A test that looks at nothing and counts its calls: right code comes first in the table."""
    wanted = [bool(CHECKS[name].expected(i)) for i in inputs_of(name)]
    calls = count()
    return lambda code: wanted[next(calls) % len(wanted)]


@pytest.mark.parametrize("name", PLANTED)
def test_positions_cannot_be_learned(name):
    """Counting calls would pass if codes came in the order of the table, and fails in an order drawn anew."""
    in_table_order = replace(CHECKS[name], shuffled=False)
    trials = trials_of(name)
    assert judge(in_table_order, trials, notebook.ask(in_table_order, trials, by_position(name))).passed
    assert sum(verdict(name, by_position(name), seed).passed for seed in range(10)) <= 1


def test_each_check_draws_an_order_of_its_own():
    """Orders differ, every code is asked once, and answers come back in the table's order."""
    orders = []

    def note(function, arguments, inputs):
        orders[-1].append(int(inputs["which"]))
        return {"which": inputs["which"]}

    check = replace(CHECKS["find-the-bug"], call=note)
    trials = trials_of("find-the-bug")
    for _ in range(3):
        orders.append([])
        answers = notebook.ask(check, trials, len)
        assert ([int(a["which"]) for a in answers]
                == [int(t.inputs["which"]) for t in trials]
                == sorted(orders[-1]))
    assert len({tuple(order) for order in orders}) > 1


@pytest.mark.parametrize("name", PLANTED)
def test_a_count_kept_between_checks_does_not_help(name):
    """Neither the first calls of each check, nor those of all checks together, are the right ones."""
    check, trials = CHECKS[name], trials_of(name)
    right = sum(bool(check.expected(i)) for i in inputs_of(name))
    calls = count()

    def counts_on(code):
        return next(calls) % len(trials) < right

    passed = [judge(check, trials, notebook.ask(check, trials, counts_on)).passed for _ in range(5)]
    assert not all(passed) and sum(passed) <= 1


ANSWERS = [CHECKS["find-the-bug"]]
PRIES = {
    "frames": lambda code: "right" in str(sys._getframe(1).f_locals),
    "inspect": lambda code: bool(inspect.currentframe().f_back),
    "closures": lambda code: bool(code.__closure__[0].cell_contents),
    "collector": lambda code: bool(gc.get_referents(code)),
    "answers": lambda code: bool(notebook.ALL),
    "imports": lambda code: bool(importlib.import_module("grader.outside.chapter01.find_the_bug")),
    "a check": lambda code: ANSWERS[0].expected(0),
    "globals": lambda code: bool(code.__globals__["RIGHT"]),
    "tracing": lambda code: sys.settrace(None) is None,
}


def test_a_test_that_asserts_is_told_to_return():
    def asserts(cut):
        assert cut([[5, 6]], 4)[1].sum() == 2
        return True
    result = verdict("cut-the-text", asserts)
    said = " ".join(result.text.split())
    assert result.reason == "raised" and "`return` in the place of the `assert`" in said


@pytest.mark.parametrize("how", PRIES)
def test_looking_behind_the_curtain_is_refused(how):
    result = verdict("find-the-bug", PRIES[how])
    assert not result.passed and result.reason == "shortcut" and "looks behind" in result.text


TABLES = {"find-the-bug": find_the_bug.WRONG, "find-the-leak": find_the_leak.WRONG,
          "cut-the-text": cut_the_text.WRONG, "find-the-hole": find_the_hole.WRONG,
          "find-the-race": find_the_race.WRONG, "find-the-stale": find_the_stale.WRONG}


@pytest.mark.parametrize("name", TABLES)
def test_a_bug_that_is_let_through_is_told_in_steps(name, fresh):  # noqa: F811
    """First the law, then on what it shows, then what is wrong; and each is new."""
    bug, shows, _, law = TABLES[name][-1]
    number = len(trials_of(name)) - 1
    check, trials = CHECKS[name], trials_of(name)
    said = []
    for _ in range(4):
        answers = [{"result": check.expected(i) if n != number else np.array(True)}
                   for n, i in enumerate(inputs_of(name))]
        result = judge(check, trials, answers, notebook._told)
        notebook._told[result.law] += 1
        said.append(" ".join(result.text.split()))
    assert law in said[0] and shows not in said[0] and bug not in said[0]
    assert law in said[1] and shows in said[1] and bug not in said[1]
    assert bug in said[2] and shows in said[2] and said[3] == said[2]


ATTRIBUTES = (
    "__name__", "__qualname__", "__module__", "__doc__", "__dict__", "__code__", "__closure__",
    "cell_contents", "__defaults__", "__kwdefaults__", "__wrapped__", "__func__", "__self__",
    "func", "args", "keywords",
)


def read_off(thing, seen=None):
    """All that attributes and closures say of a thing, as text; its __globals__ are not looked at."""
    seen = [] if seen is None else seen
    if isinstance(thing, str | int | float | bytes | None):
        return [repr(thing)]
    if any(thing is other for other in seen):
        return []
    seen.append(thing)
    own = thing if isinstance(thing, type) else type(thing)
    if isinstance(thing, tuple | list):
        parts = list(thing)
    elif isinstance(thing, Mapping):
        parts = [*thing, *thing.values()]
    elif isinstance(thing, CodeType):
        parts = [getattr(thing, key) for key in dir(thing) if key.startswith("co_")]
    elif isinstance(thing, type) and not own.__module__.startswith("grader"):
        parts = []
    else:
        parts = [getattr(thing, key) for key in ATTRIBUTES if hasattr(thing, key)]
    parts += [own] * own.__module__.startswith("grader")
    return [type(thing).__name__, *(text for part in parts for text in read_off(part, seen))]


@pytest.mark.parametrize("name", PLANTED)
def test_what_is_handed_over_looks_alike(name):
    """Name, signature, source, place, code and closure are the same for right and wrong code."""
    handed = []
    verdict(name, handed.append)
    assert len(handed) == len(trials_of(name)) == len(set(handed))
    first = handed[0]
    assert first.__name__ == CHECKS[name].arguments[0] and "claims" in first.__doc__
    for code in handed:
        assert inspect.getsource(code) == inspect.getsource(first)
        assert inspect.signature(code) == inspect.signature(first)
        assert read_off(code) == read_off(first)


def test_the_names_are_nowhere_to_be_read():
    """No planted name is among what can be read off; off an unsealed closure it would be."""
    handed = []
    verdict("find-the-merge", handed.append)
    given = torch.ones(2, 3), torch.ones(1, 3), torch.ones(2, 1), 1.0
    parts = [adapt(*given) for adapt in handed]
    assert all(read_off(part) == read_off(parts[0]) for part in parts)
    names = {repr(code.__name__) for _, _, code, *_ in find_the_merge.WRONG}
    assert not names & {text for part in (*handed, *parts) for text in read_off(part)}
    assert "'ScaleTwice'" in read_off(find_the_merge.handed_out(find_the_merge.ScaleTwice))


def test_a_sealed_callable_does_what_it_did():
    def right(a, *, b=2):
        """A docstring."""
        return [a, b]
    shut = sealed(right)
    assert shut([1], b=3) == [[1], 3] and shut([1]) == [[1], 2]
    assert not vars(shut) and not hasattr(shut, "__name__") and "right" not in repr(shut)
    with pytest.raises(TypeError):
        shut()
    assert np.array_equal(sealed(np.add)(1, 2), 3)
