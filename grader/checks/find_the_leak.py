"""The check of find-the-leak: a learner's test is put to right and to wrong masks. It leaves out that code: see grader/planted_masks.py."""

from __future__ import annotations

import numpy as np

from ..judge import Case, Check, Misconception as M
from ..planted_masks import HARMLESS, RIGHT, WRITTEN, WRONG, put_to_the_test


def right(i):
    """True if code number `which`, of shape (), is right code."""
    return i.which < len(RIGHT)


ADVICE = ("Compare with a tolerance; count from the end where there are fewer queries than keys: query t stands at place S − T + t, and sees "
          "that place too. Or your own expected numbers are wrong: are they divided by √E?")
LEAKS = len(RIGHT) + len(WRONG) - HARMLESS  # from this number on, the wrong code lets nothing of the future through

FIND_THE_LEAK = Check(
    name="find-the-leak", title="A test that finds wrong masks", minutes=30, difficulty=3,
    function="is_right", arguments=("attention",), call=put_to_the_test, compared="the verdict",
    task="a test that says True to right code and False to each planted bug.",
    hints=(
        "First law: the future changes nothing. Call the function; change keys and values from some place on; call it again. Which rows of "
        "the result must be the same, and which need not? Make the change a large one, and take a batch of two.",
        "Four of the bugs let nothing of the future through: they leave out some of the past, or weigh it wrongly. So you need outputs that "
        "you know without the function. With queries of zeros all scores are 0: what is the softmax then, and what does a row of the result "
        "hold? Do it once with as many queries as keys, and once with fewer.",
        "With zeros for queries no one can see whether scores were divided by √E. Make one query and two keys so that the scores, after the "
        "division, are numbers whose exp you know, and write down the weights."),
    expected=lambda i: np.array(right(i), bool),
    cases=(
        *(Case(f"saying True to right code, here written {how}. {ADVICE}", lambda rng, k, n=n: {"which": np.array(n)}, draws=1)
          for n, how in enumerate(WRITTEN)),
        *(Case(f"saying False to code in which {bug}. It shows on {shows}; a loose tolerance hides it.",
               lambda rng, k, n=n: {"which": np.array(len(RIGHT) + n)}, draws=1)
          for n, (bug, shows, _) in enumerate(WRONG))),
    misconceptions=(
        M("it lets everything through", "It says True to right code and to every planted bug. What would code have to do to be told False?",
          lambda i: np.array(True)),
        M("it turns everything away", f"It says False to right code too. {ADVICE}", lambda i: np.array(False)),
        M("the future alone",
          "It finds everything that looks into the future, and nothing else. A place that does not see all of its past, or weighs it "
          "wrongly, is wrong too: hold some outputs against what you know by hand.",
          lambda i: np.array(right(i) or i.which >= LEAKS))))
