"""The check of find-the-reward: a learner's test is put to right and to wrong losses. It leaves out that code: see "
  "grader/planted_rewards.py."""

from __future__ import annotations

import numpy as np

from ..judge import Case, Check, Misconception as M
from ..planted_rewards import RIGHT, WELL_READ, WRITTEN, WRONG, put_to_the_test


def right(i):
    """True if code number `which`, of shape (), is right code."""
    return i.which < len(RIGHT)


ADVICE = ("Compare with a tolerance. Or your own expected number is wrong: first the mean over the choices of a prompt, then the mean "
          "over "
          "prompts, and the reward is read at the last token where response_mask is True.")
READS_ELSEWHERE = len(RIGHT) + len(WRONG) - WELL_READ  # from this number on, the wrong code reads the reward where it belongs

FIND_THE_REWARD = Check(
    name="find-the-reward", title="A test that finds wrong rewards", minutes=30, difficulty=3,
    function="is_right", arguments=("loss",), call=put_to_the_test, compared="the verdict",
    task="a test that says True to right code and False to each planted bug.",
    hints=(
        "Take D = 1 and a head of 1, so that hidden[b, t, 0] is the reward at that place. Fill all places with different numbers, and "
        "only "
        "then put the rewards that you want where they are to be read. Let responses begin and end at different places.",
        "Choose rewards whose differences are multiples of log 3: σ(log 3) is 3/4, σ(2 log 3) is 9/10, and σ(−log 3) is 1/4. Then you "
        "can "
        "write the result down. Do not let all rewards lie evenly around 0.",
        "One prompt is not enough: a mean over prompts, a sum over prompts and a mean over choices are then the same. Take a ranking "
        "of "
        "three answers, which makes three choices, and a prompt with a single choice."),
    expected=lambda i: np.array(right(i), bool),
    cases=(
        *(Case(f"saying True to right code, here written {how}. {ADVICE}", lambda rng, k, n=n: {"which": np.array(n)}, draws=1)
          for n, how in enumerate(WRITTEN)),
        *(Case(f"saying False to code in which {bug}. It shows on {shows}; a loose tolerance hides it.",
               lambda rng, k, n=n: {"which": np.array(len(RIGHT) + n)}, draws=1)
          for n, (bug, shows, _) in enumerate(WRONG))),
    misconceptions=(
        M("it lets everything through", "It says True to right code and to every planted bug. What would code have to do to be told "
                                        "False?",
          lambda i: np.array(True)),
        M("it turns everything away", f"It says False to right code too. {ADVICE}", lambda i: np.array(False)),
        M("the place alone",
          "It finds every reward that is read at the wrong place, and nothing else. What is done with the rewards can be wrong too: "
          "hold the "
          "result against a number that you know by hand.",
          lambda i: np.array(right(i) or i.which >= READS_ELSEWHERE))))
