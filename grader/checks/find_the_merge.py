"""The check of find-the-merge: a learner's test is put to right and to wrong adapters. It leaves out that code: see grader/planted_adapters.py."""

from __future__ import annotations

import numpy as np

from ..judge import Case, Check, Misconception as M
from ..planted_adapters import BEFORE_AND_AFTER, RIGHT, WRONG, put_to_the_test


def right(i):
    """True if code number `which`, of shape (), is right code."""
    return i.which < len(RIGHT)


ADVICE = ("Compare with a tolerance (1e-4 of numbers of size 10); the reference is claimed before merge() alone; merge() is to be called once, on an "
          "object of its own. Or your own expected numbers are wrong: is α divided by r, the number of A's rows?")

FIND_THE_MERGE = Check(
    name="find-the-merge", title="A test that no wrong merge passes", minutes=30, difficulty=3,
    function="is_right", arguments=("adapt",), call=put_to_the_test, compared="the verdict",
    task="a test that says True to right code and False to each planted bug.",
    hints=(
        "Write down what you expect, once and by hand: with W, A and B of your own, what should forward(x) be, and what reference(x)? Take a rank "
        "above 1, a width that is not the rank, and an α that makes α/r neither 0 nor 1.",
        "What may change nothing? A call of reference() leaves forward as it was. merge() leaves forward as it was.",
        "Three bugs are left. One needs a W with as many rows as columns, since only such a matrix can be transposed unnoticed. Two give the right "
        "results, and spoil something that is yours: look at all of the tensors that you handed over."),
    expected=lambda i: np.array(right(i), bool),
    cases=(
        Case(f"saying True to right code, however it is written. {ADVICE}", lambda rng, k: {"which": np.array(k)}, draws=len(RIGHT)),
        *(Case(f"saying False to code in which {bug}. It shows on {shows}.",
               lambda rng, k, n=n: {"which": np.array(len(RIGHT) + n)}, draws=1)
          for n, (bug, shows, _) in enumerate(WRONG))),
    misconceptions=(
        M("it lets everything through", "It says True to right code and to every planted bug. What would code have to do to be told False?",
          lambda i: np.array(True)),
        M("it turns everything away", f"It says False to right code too. {ADVICE}", lambda i: np.array(False)),
        M("before and after alone",
          "It finds every merge that changes what forward gives, and nothing else. An adapter can be the same before and after, and wrong both times; "
          "and there is a reference, and what was handed over.",
          lambda i: np.array(right(i) or i.which >= len(RIGHT) + BEFORE_AND_AFTER))))
