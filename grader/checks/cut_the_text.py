"""The check of cut-the-text: a learner's test is put to right and to wrong code. It leaves out that code: see grader/planted_rows.py."""

from __future__ import annotations

import numpy as np

from ..judge import Case, Check, Misconception as M
from ..planted_rows import CODES, RIGHT, WRONG, filled_by_columns, mask_too_early, put_to_the_test


def right(i):
    """True if code number `which`, of shape (), is right code."""
    return i.which < len(RIGHT)


def counts_agree(i):
    """True for the codes that score each id as often as it comes, whatever stands before it."""
    return right(i) or CODES[int(i.which)] in (mask_too_early, filled_by_columns)


ADVICE = ("How long rows overlap, whether the last is padded, in which order they come and whether two documents share one is nobody's concern. "
          "That every token and every end is scored once, with its own neighbour before it, is.")

CUT_THE_TEXT = Check(
    name="cut-the-text", title="A test that misses no end", minutes=30, difficulty=3,
    function="is_right", arguments=("cut",), call=put_to_the_test, compared="the verdict",
    task="a test that says True to right code and False to each planted bug.",
    hints=(
        "tokens[response_mask] are all ids that are scored. From the documents alone you know how many there must be: each of their tokens, "
        "and one end for each document. Which bugs does that number miss? Which does it see only on some corpora?",
        "Choose a corpus on which things happen: several documents, one longer than a row, one shorter, a last row that is not full. Let the "
        "ids differ, so that you see which of them was lost. Then ask not how many are scored, but how often each is.",
        "Two bugs score every id as often as it should be, and each with a wrong token before it. So count pairs: the token at t − 1 and the "
        "scored token at t. From the documents you know these pairs too: before a document's first token stands an end."),
    expected=lambda i: np.array(right(i), bool),
    cases=(
        Case(f"saying True to right code, however it cuts. {ADVICE}", lambda rng, k: {"which": np.array(k)}, draws=len(RIGHT)),
        *(Case(f"saying False to code in which {bug}. It shows on {shows}.",
               lambda rng, k, n=n: {"which": np.array(len(RIGHT) + n)}, draws=1)
          for n, (bug, shows, _) in enumerate(WRONG))),
    misconceptions=(
        M("it lets everything through", "It says True to right code and to every planted bug. What would code have to do to be told False?",
          lambda i: np.array(True)),
        M("it turns everything away", f"It says False to right code too. {ADVICE}", lambda i: np.array(False)),
        M("counted, and not looked at",
          "Each id is scored as often as it should be, and that was counted. With which token before it was not: a model learns p(token | what "
          "stands before), and two of the planted bugs change what stands before.",
          lambda i: np.array(counts_agree(i)))))
