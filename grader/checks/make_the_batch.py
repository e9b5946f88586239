"""The check of make-the-batch: a learner's test is put to right and to wrong code. It leaves out that code: see grader/planted_batches.py."""

from __future__ import annotations

import numpy as np

from ..judge import Case, Check, Misconception as M
from ..planted_batches import CODES, RIGHT, WRONG, a_number_each_turn, one_number_a_row, put_to_the_test


def right(i):
    """True if code number `which`, of shape (), is right code."""
    return i.which < len(RIGHT)


def numbers_not_read(i):
    """True for the codes whose tokens and mask are right, whatever their numbers."""
    return right(i) or CODES[int(i.which)] in (one_number_a_row, a_number_each_turn)


ADVICE = ("In which order conversations stand, how many share a row, what they are numbered, and how wide rows are is nobody's concern, as long as "
          "a number stands for one conversation within its row.")

MAKE_THE_BATCH = Check(
    name="make-the-batch", title="A test that lets no answer be lost", minutes=30, difficulty=3,
    function="is_right", arguments=("make",), call=put_to_the_test, compared="the verdict",
    task="a test that says True to right code and False to each planted bug.",
    hints=(
        "Take a row and one of its numbers: sequence[r] == n. The tokens there, in their order, are what the model will see as one conversation; "
        "the mask there says what it will learn. From your conversations you know both, ends included. Padding has the number −1.",
        "So collect, over all rows and numbers, the pairs (tokens, mask) as tuples, and compare with those that you expect: each exactly once, in "
        "any order. Is anything scored where the number is −1?",
        "Choose conversations on which things happen: one of two turns, prompts and answers of several tokens, all ids different, several short "
        "enough to share a row, and together too long for one."),
    expected=lambda i: np.array(right(i), bool),
    cases=(
        Case(f"saying True to right code, however it lays its rows. {ADVICE}", lambda rng, k: {"which": np.array(k)}, draws=len(RIGHT)),
        *(Case(f"saying False to code in which {bug}. It shows on {shows}.", lambda rng, k, n=n: {"which": np.array(len(RIGHT) + n)}, draws=1)
          for n, (bug, shows, _) in enumerate(WRONG))),
    misconceptions=(
        M("it lets everything through", "It says True to right code and to every planted bug. What would code have to do to be told False?",
          lambda i: np.array(True)),
        M("it turns everything away", f"It says False to right code too. {ADVICE}", lambda i: np.array(False)),
        M("numbers not read", "Tokens and mask were looked at, sequence was not. It decides who sees whom: two of the planted bugs are wrong in nothing else.",
          lambda i: np.array(numbers_not_read(i)))))
