"""The check of find-the-advantage: a learner's test is put to right and to wrong advantages. It leaves out that code: see grader/planted_advantages.py."""

from __future__ import annotations

import numpy as np

from ..judge import Case, Check, Misconception as M
from ..planted_advantages import RIGHT, WHITENING, WRONG, put_to_the_test


def right(i):
    """True if code number `which`, of shape (), is right code."""
    return i.which < len(RIGHT)


ADVICE = ("Compare with a tolerance, since some right code divides by a spread with a very small number added. Or your own expected numbers are "
          "wrong: the mean and the variance run over all response tokens of the batch, the variance is divided by their number, not by one less.")
BEHIND = len(RIGHT) + WHITENING  # from this number on, what is wrong leaves mean and spread as they should be

FIND_THE_ADVANTAGE = Check(
    name="find-the-advantage", title="A test that finds the wrong advantage", minutes=35, difficulty=3,
    function="is_right", arguments=("advantages",), call=put_to_the_test, compared="the verdict",
    task="a test that says True to right code and False to each planted bug.",
    hints=(
        "First law: over the response tokens of the whole batch the mean is 0 and the variance 1, and elsewhere all is 0. Take rewards whose "
        "advantages have a mean far from 0 and a spread far from 1, or some bugs change nothing.",
        "Every batch can be given that mean and that spread, with wrong numbers in it. So you need advantages that you know by hand. Two answers of two "
        "tokens each, all values 0 but one, a λ of one half: write down the four numbers, then make them white with a pocket calculator or "
        "with four lines of your own.",
        "Second law: what stands off the response must not matter. Call it twice, with other numbers in the prompt and in the padding. Third law: a "
        "change in the second answer's rewards changes the first answer's numbers only by one factor and one shift."),
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
        M("the mean and the spread alone",
          "Mean 0 and variance 1 say that the numbers were made white. They do not say that they were the advantages before that.",
          lambda i: np.array(right(i) or i.which >= BEHIND))))
