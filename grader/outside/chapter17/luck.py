"""The check of chapter 17 on runs that are kept because they ended right: whose they are, and how much of
them is luck."""

from __future__ import annotations

import numpy as np

from ..judge import Case, Check, Misconception as M


def draw_questions(rng, k, kind="plain"):
    """true, lucky (Q,), n (): chances in hundredths. kind "never": of one question, or two, no run is kept.

    kind "no luck": lucky is 0 for some, and for all where k is even; "luck alone": for one question no run is
    right on true steps.
    """
    Q = 2 + k % 3 + (kind != "plain")
    while True:
        true, lucky = rng.integers(3, 60, Q) / 100, rng.integers(2, 36, Q) / 100
        if kind == "never":
            gone = rng.permutation(Q)[:1 + (Q > 3 and k % 2)]
            true[gone] = lucky[gone] = 0
        elif kind == "no luck":
            lucky[rng.permutation(Q)[:Q if k % 2 == 0 else 1]] = 0
        elif kind == "luck alone":
            true[rng.integers(Q)] = 0
        right = true + lucky
        # sums that are no 1, and questions that can be told apart
        if abs(right.sum() - 1) > 0.1 and abs(true.sum() - 1) > 0.1 and np.ptp(right) > 0.1 and (
                np.ptp(true - lucky) > 0.1):
            return {"true": true.astype(np.float32), "lucky": lucky.astype(np.float32),
                    "n": np.array(4 + 2 * k)}


def ratio(a, b):
    """a/b, and 0 where b is 0."""
    return np.divide(a, b, out=np.zeros(np.broadcast(a, b).shape), where=np.asarray(b) != 0)


def right(i):
    """The chance that a run is kept: (Q,)."""
    return i.true + i.lucky


def three(i, share=None, luck=None, weight=None):
    """The share of each question, the share of luck in it, the weight of a run: (3, Q)."""
    r = right(i)
    return np.stack([ratio(r, r.sum()) if share is None else np.broadcast_to(share, r.shape),
                     ratio(i.lucky, r) if luck is None else luck,
                     ratio(1, len(r) * i.n * r) if weight is None else np.broadcast_to(weight, r.shape)])


def weighted(i, o):
    """The expected total weight of each question: (Q,)."""
    return i.n * right(i) * o.result[2]


LUCK_IN_THE_FILTER = Check(
    name="luck-in-the-filter", title="Luck in the filter", minutes=20, difficulty=2,
    function="what_is_kept", arguments=("true", "lucky", "n"), compared="the table",
    learned="You have what a filter by outcome does to data: easy questions take most of it, and the hard "
            "ones bring the luck. Weights give each question its share again, and its luck with it.",
    task="in row 0 each question's share of all runs that are kept, in row 1 the share of luck in these, in "
         "row 2 the weight of each such run.",
    hints=(
        "Write the chance first that one run of question i is kept: it ends right in one of two ways. With n "
        "runs, how many are kept on average? From these Q numbers all three rows follow.",
        "Row 0: such a number, divided by what all Q sum to. Row 1 asks only about runs that are kept: how "
        "many of them are lucky? It is a chance given that the run was kept.",
        "Row 2: how many kept runs of question i there are on average, times the weight of each, is to be "
        "1/Q. Solve for the weight. Where nothing is ever kept, 0/0 is NaN: write 0 there, by torch.where "
        "or a clamp."),
    expected=three,
    cases=(
        Case("row 0: the question of whose runs more are kept has more of the data, and all shares make 1.",
             draw_questions,
             lambda i, o: abs(o.result[0].sum() - 1) < 1e-3 and bool(
                 (np.argsort(o.result[0]) == np.argsort(right(i))).all()), draws=4),
        Case("rows 0 and 1: share times luck, added up, is the part of luck in all that is kept.",
             draw_questions,
             lambda i, o: abs((o.result[0] * o.result[1]).sum() - i.lucky.sum() / right(i).sum()) < 1e-3,
             draws=4),
        Case("row 1: where no run is lucky, no luck is kept.",
             lambda rng, k: draw_questions(rng, k, "no luck"),
             lambda i, o: bool((np.abs(o.result[1][i.lucky == 0]) < 1e-3).all()), draws=4),
        Case("row 1: where no run is right on true steps, all that is kept is luck.",
             lambda rng, k: draw_questions(rng, k, "luck alone"),
             lambda i, o: bool((np.abs(o.result[1][i.true == 0] - 1) < 1e-3).all()), draws=4,
             nan="A question of which no run is right on true steps has luck all the same: divide by what is "
                 "kept."),
        Case("row 2: the weights of a question's kept runs sum to 1/Q on average.", draw_questions,
             lambda i, o: bool((np.abs(weighted(i, o) - 1 / len(i.true)) < 1e-3).all()), draws=4),
        Case("a question of which nothing is ever kept has 0 in all rows, and no other gets its share of the "
             "weight.", lambda rng, k: draw_questions(rng, k, "never"),
             lambda i, o: bool((np.abs(o.result[:, right(i) == 0]) < 1e-3).all()) and bool(
                 (np.abs(weighted(i, o)[right(i) > 0] - 1 / len(i.true)) < 1e-3).all()), draws=4,
             nan="Of one question nothing is ever kept. Its share is 0, it has no luck to speak of, and no "
                 "weight can bring it back: write 0.")),
    misconceptions=(
        M("questions for runs",
          "In row 0 all questions have the same share. They were asked equally often; that is not how often "
          "their runs are kept.",
          lambda i: three(i, share=1 / len(i.true))),
        M("questions for runs",
          "In row 0 all questions of which something is kept have the same share. What is counted is runs.",
          lambda i: three(i, share=ratio(right(i) > 0, (right(i) > 0).sum()))),
        M("chances for shares",
          "Row 0 holds chances. A share says how much of all that is kept belongs to a question: they sum to "
          "1.",
          lambda i: three(i, share=right(i))),
        M("counts for shares",
          "Row 0 holds how many runs are kept. A share is of all that is kept: they sum to 1.",
          lambda i: three(i, share=i.n * right(i))),
        M("a mean over questions",
          "In row 0 the chance was divided by the number of questions. Divide by what is kept of all.",
          lambda i: three(i, share=right(i) / len(i.true))),
        M("lucky runs are not kept",
          "In row 0 only runs on true steps are counted. The filter does not see the steps: what ends right "
          "is kept.",
          lambda i: three(i, share=ratio(i.true, i.true.sum()))),
        M("the luck of all runs",
          "Row 1 is how often a run is lucky, of all that are drawn. It asks about those that are kept.",
          lambda i: three(i, luck=i.lucky)),
        M("the luck of all runs",
          "Row 1 is a question's lucky runs as a part of everything that is kept. It asks about this "
          "question's runs.",
          lambda i: three(i, luck=ratio(i.lucky, right(i).sum()))),
        M("luck over truth",
          "Row 1 is lucky/true. Of all the kept runs, the lucky ones are a smaller part.",
          lambda i: three(i, luck=ratio(i.lucky, i.true))),
        M("truth for luck",
          "Row 1 is the part of the kept runs that is right on true steps. The other part is asked for.",
          lambda i: three(i, luck=ratio(i.true, right(i)))),
        M("each question's luck is that of all",
          "Row 1 is the part of luck in everything that is kept. Questions differ: that is the point.",
          lambda i: three(i, luck=np.full(len(i.true), i.lucky.sum() / right(i).sum()))),
        M("divided by n alone",
          "The weight was divided by how many runs were drawn, and not by how many are kept: a question of "
          "which few are kept still has less.",
          lambda i: three(i, weight=1 / (len(i.true) * i.n))),
        M("divided by n alone",
          "The weight was divided by how many runs were drawn, and not by how many are kept: a question of "
          "which few are kept still has less.",
          lambda i: three(i, weight=ratio(1.0 * (right(i) > 0), len(i.true) * i.n))),
        M("n left out",
          "The weight is right for one run of each question. Of n runs, n times as many are kept.",
          lambda i: three(i, weight=ratio(1, len(i.true) * right(i)))),
        M("Q left out",
          "Each question's kept runs have the weight 1 together. All questions together are to have 1.",
          lambda i: three(i, weight=ratio(1, i.n * right(i)))),
        M("what is lost is shared out",
          "The share of questions of which nothing is kept went to the others. Each is to have 1/Q, as if "
          "all had been kept: what is missing is missing.",
          lambda i: three(i, weight=ratio(1, (right(i) > 0).sum() * i.n * right(i)))),
        M("weighted by true runs",
          "The weight was made for the runs on true steps alone. Whoever weights cannot tell them from the "
          "lucky ones.",
          lambda i: three(i, weight=ratio(1, len(i.true) * i.n * i.true))),
        M("the share for the weight",
          "Row 2 gives most weight to what there is most of. It is to make up for that.",
          lambda i: three(i, weight=ratio(right(i), right(i).sum())))))
