"""The check of find-the-penalty: a learner's test is put to right and to wrong payments. It leaves out that code: see grader/planted_paid.py."""

from __future__ import annotations

import numpy as np

from ..judge import Case, Check, Misconception as M
from ..planted_paid import BLIND, RIGHT, WRONG, put_to_the_test


def right(i):
    """True if code number `which`, of shape (), is right code."""
    return i.which < len(RIGHT)


ADVICE = ("Compare with a tolerance. Or your own expected numbers are wrong: the KL of a token is paid as −β·log p/p_ref, R is added on the last "
          "token where response_mask is True, and both meet there.")
FIRST_BLIND = len(RIGHT) + len(WRONG) - BLIND  # from this number on, the mean over answers comes out right

FIND_THE_PENALTY = Check(
    name="find-the-penalty", title="A test that finds the wrong penalty", minutes=25, difficulty=2,
    function="is_right", arguments=("paid",), call=put_to_the_test, compared="the verdict",
    task="a test that says True to right code and False to each planted bug.",
    hints=(
        "No policy is needed to see most of them: logprobs and reference are numbers that you may make up. Take one answer of two tokens, with a "
        "log-ratio above 0 on one and below 0 on the other, and write down by hand what each token is paid.",
        "A batch of one row hides the padding. Take two answers of different lengths, and put numbers that are not alike where response_mask is "
        "False: they must not matter. What is paid there is 0.",
        "Two estimates of a KL may agree in the mean, and in a log-ratio that you happened to choose. Take one that is far from 0, such as 2, "
        "and compare every place of the result."),
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
        M("the mean alone",
          "What an answer is paid in the mean comes out as E[R] − β·KL, and that is all that it asks. k3 has that mean too, and another gradient; and "
          "a sum over the tokens of y does not see which of them is paid, nor what is paid behind them.",
          lambda i: np.array(right(i) or i.which >= FIRST_BLIND))))
