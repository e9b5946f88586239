"""The check of find-the-bug: a learner's test is put to right and to wrong code. It leaves out that code: see grader/planted.py."""

from __future__ import annotations

import numpy as np

from ..judge import Case, Check, Misconception as M
from ..planted import RIGHT, WRONG, put_to_the_test


def right(i):
    """True if code number `which`, of shape (), is right code."""
    return i.which < len(RIGHT)


ADVICE = ("Compare with a tolerance; let logits[b, t] follow from tokens 0 to t of the row alone, the same in all rows that begin so; mark "
          "all of y, its end token too, and none of the prompt; list each y once, those that were cut at full length as well.")
LAST = len(RIGHT) + len(WRONG) - 1  # the temperature, which leaves the sum at one

FIND_THE_BUG = Check(
    name="find-the-bug", title="A test that finds the bug", minutes=30, difficulty=3,
    function="is_right", arguments=("answer_logprob",), call=put_to_the_test, compared="the verdict",
    task="a test that says True to right code and False to each planted bug.",
    hints=(
        "Make a policy so small that you can list all it can say: two words and an end, answers of at most three tokens. every_answer "
        "lists them; batch_pairs makes tokens and response_mask of them. For logits, draw one table (V, V) from a fixed seed and take "
        "table[tokens]: the next token then depends on this one, and on nothing that comes later.",
        "First law: exp of answer_logprob, summed over all answers to one prompt, is 1 but for rounding. Which bugs it sees depends on "
        "the policy. Try a prompt of one token and one of two; a table that is constant, one that is normalised, one that is neither.",
        "The sum is 1 for every distribution, also for one that is not yours. Second law: for one answer you know the probability "
        "without any sum over tokens. The answer [0] is the end at once, a single step from the prompt's last token: the softmax of that "
        "token's row of the table has its probability. answer_logprob must say the same."),
    expected=lambda i: np.array(right(i), bool),
    cases=(
        Case(f"saying True to right code, however it is written. {ADVICE}", lambda rng, k: {"which": np.array(k)}, draws=len(RIGHT)),
        *(Case(f"saying False to code in which {bug}. It shows on {shows}; a loose tolerance hides it.",
               lambda rng, k, n=n: {"which": np.array(len(RIGHT) + n)}, draws=1)
          for n, (bug, shows, _) in enumerate(WRONG))),
    misconceptions=(
        M("it lets everything through", "It says True to right code and to every planted bug. What would code have to do to be told False?",
          lambda i: np.array(True)),
        M("it turns everything away", f"It says False to right code too. {ADVICE}", lambda i: np.array(False)),
        M("one law where two are needed",
          "Σ p(y|x) = 1 says that these are the probabilities of some policy. It does not say that it is the policy of these logits, and "
          "one of the planted bugs scores another policy faultlessly.",
          lambda i: np.array(right(i) or i.which == LAST))))
