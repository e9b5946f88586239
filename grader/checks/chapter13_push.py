"""The check of find-the-wrong-push: a learner's test is put to right and to wrong code. It leaves out that code: see grader/planted_pushes.py."""

from __future__ import annotations

import numpy as np

from ..judge import Case, Check, Misconception as M
from ..planted_pushes import RIGHT, WRONG, put_to_the_test


def right(i):
    """True if code number `which`, of shape (), is right code."""
    return i.which < len(RIGHT)


ADVICE = ("Compare with a tolerance; put the chosen answers in the first half of the rows and the rejected ones, in the same order, in the "
          "second; give both answers of a pair the same prompt; mark all of each answer, its end token too, and nothing else.")
LAST = len(RIGHT) + len(WRONG) - 1  # the one whose numbers are right

FIND_THE_WRONG_PUSH = Check(
    name="find-the-wrong-push", title="A test that finds the wrong push", minutes=40, difficulty=3,
    function="is_right", arguments=("coefficient",), call=put_to_the_test, compared="the verdict",
    task="a test that says True to right code and False to each planted bug.",
    hints=(
        "A policy can be a table: draw table (V, V) from a fixed seed, and let policy be lambda tokens: table[tokens]. The logits of the next "
        "token then depend on this one. The reference is another table. A batch needs two pairs at least, answers of unequal length "
        "within a pair, and a beta that is not 1.",
        "What do you know of F without the function? You can multiply out log p of a short answer by hand: one log_softmax of a row for each "
        "token, the end token too. From four such numbers for a pair, h follows. Then F says what it must be, and how the two rows of a "
        "pair must compare.",
        "One of the bugs gives the right numbers. What does `surrogate` refuse? Give the policy a table that requires a gradient, and look "
        "at what comes back."),
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
        M("only the numbers are looked at",
          "All bugs that change a number are found. One changes none: F is made of the policy's log-probabilities, and it comes back with "
          "their gradient in it, to be differentiated a second time by whoever uses it.",
          lambda i: np.array(right(i) or i.which == LAST))))
