"""Points for nbgrader, in the student's own process: convenient, and open to whoever wants to cheat.

`python -m grader grade` is for marks that count: there the student's code never meets what knows the answers.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout

import numpy as np

from . import notebook
from .judge import Check, Fields, Trial, judge, plan, widen


def points(name: str, function: Callable) -> float:
    """0 to 1, the value that nbgrader takes as an exercise's points. AssertionError with the feedback for 0.

    What the function prints, a warning too, is held back: nbgrader takes a line on stderr for a failure.
    """
    check = notebook.find(name)
    trials = plan(check, zlib.crc32(name.encode()))
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        answers = notebook.ask(check, trials, function, 0)
    verdict = judge(check, trials, answers)
    worth = part(check, trials, verdict.held)
    assert worth > 0, verdict.text
    print(verdict.text)
    return worth


def part(check: Check, trials: Sequence[Trial], held: Sequence[bool]) -> float:
    """The share of cases that hold; 0 before the plain case does, and for a test that stops right code."""
    first = [case for case in check.cases if lets_pass(check, trials, case)] if check.shuffled else []
    needed = first or check.cases[:1]
    counts = all(holds for case, holds in zip(check.cases, held) if case in needed)
    return round(sum(held) / len(held), 4) if counts else 0.0


def lets_pass(check: Check, trials: Sequence[Trial], case: object) -> bool:
    """True for a case of right code, which a learner's test is to let pass."""
    inputs = [Fields(**{k: widen(v) for k, v in t.inputs.items()}) for t in trials if t.case is case]
    return all(bool(np.all(check.expected(i))) for i in inputs)
