"""strict-and-relaxed: two scores of answers that consist of statements, each true for some years."""

from __future__ import annotations

import numpy as np

from ..judge import Case, Check, Misconception as M

STILL = 9999        # until, of what is true to this day


def draw_answers(rng, k, kind="plain"):
    """since, until (A, S) years, main, said (A, S) bool, asked (A,) years.

    A statement is true from since to the year before until; both are 0 for what was never true, and in
    padding, where said is False. kind "plain": main and extra statements, true, outdated, not yet true and
    never true. "change": the year asked is that in which a statement became true, or ceased to be. "past":
    what is true to this day is not what was true in the year asked. "empty": one answer says nothing, and
    one has extras alone. "several": two main statements, of which one is true or both are.
    """
    year = int(rng.integers(2005, 2021))

    def true():
        return year - int(rng.integers(1, 6)), year + int(rng.integers(2, 6))

    def old():
        return year - int(rng.integers(6, 9)), year - int(rng.integers(2, 5))

    def later():
        return year + int(rng.integers(2, 4)), STILL

    now, never = (year - int(rng.integers(1, 6)), STILL), (0, 0)
    if kind == "change":
        rows = [[(year, STILL), (year, year + 3)][k % 2:][:1], [(year - 4, year)],
                [true(), (year, STILL)], [true(), (year - 3, year)], [(year, year + 1)]]
        mains = [1, 1, 1, 1, 1]
    elif kind == "past":
        rows, mains = [[(year - 2, year + 2)], [later()], [true(), later()], [true(), old()]], [1, 1, 1, 1]
    elif kind == "empty":
        rows, mains = [[], [true()], [true()], [true(), true()]], [0, 0, 1, 0]
    elif kind == "several":
        rows = [[true(), never], [true(), true()], [old(), true()], [true(), true(), never],
                [never, true(), true()]]
        mains = [2, 2, 2, 2, 2]
    else:
        rows = [[true(), never], [never, true()], [now], [true(), old(), now], [now, now, true()], [old()],
                [true(), later()], [later(), true(), now]]
        mains = [1] * len(rows)
        kept = [0, 1, 2] if k < 2 else range(len(rows))
        rows, mains = [rows[n] for n in kept], [mains[n] for n in kept]
    rows, mains, asked = list(rows), list(mains), [year] * len(rows)
    if kind in ("plain", "past"):              # the same statements, asked of another year
        rows, mains, asked = [*rows, [(year - 1, year + 2)], [(year - 1, year + 2), (year - 1, STILL)]], [
            *mains, 1, 1], [*asked, year + 7, year + 7]
    order = rng.permutation(len(rows))
    S = max(map(len, rows))
    since, until = (np.array([[s[part] for s in rows[n]] + [0] * (S - len(rows[n])) for n in order])
                    for part in (0, 1))
    said = np.array([[s < len(rows[n]) for s in range(S)] for n in order])
    main = np.array([[s < mains[n] for s in range(S)] for n in order]) & said
    turn = rng.permutation(S) if k % 2 and kind != "empty" else np.arange(S)
    return {"since": since[:, turn].astype(np.int64), "until": until[:, turn].astype(np.int64),
            "main": main[:, turn], "said": said[:, turn], "asked": np.array(asked, np.int64)[order]}


def valid(i, asked=None):
    """Which statements are true in the year asked: (A, S)."""
    asked = i.asked if asked is None else asked
    return (i.since <= asked[:, None]) & (asked[:, None] < i.until)


def two_scores(i, true=None, strict=None, relaxed=None, needed=True):
    """Strict and relaxed: (2, A) bool, and ways to get them wrong.

    true (A, S): which statements count as true. strict, relaxed: of true, a row each. needed: without a main
    statement an answer is wrong.
    """
    true = valid(i) if true is None else true
    there = i.main.any(1) if needed else True
    return np.stack([
        (true | ~i.said).all(1) & there if strict is None else strict(true),
        (true | ~i.main).all(1) & there if relaxed is None else relaxed(true)])


def by_statement(how):
    """A belief: other statements count as true."""
    return lambda i: two_scores(i, how(i))


STRICT_AND_RELAXED = Check(
    name="strict-and-relaxed", title="Strict and relaxed", minutes=15, difficulty=2,
    function="two_scores", arguments=("since", "until", "main", "said", "asked"), kind="bool",
    compared="the scores",
    learned="You have two scores for facts that change: one that forgives what an answer says beside the "
            "point, and one that does not.",
    task="row 0 is True where an answer has a main statement and all that it says is true in the year asked; "
         "row 1 is True where it has a main statement and all of its main statements are.",
    hints=(
        "First which statements are true in the year of their own question: (A, S). asked[:, None] fits it "
        "to the table. In the year `until` a statement is no longer true.",
        "Strict: nothing that is said is untrue. (true | ~said).all(1) leaves padding out. Relaxed: the same "
        "with main.",
        "What does all(1) give for an answer that says nothing? And for one without a main statement? Both "
        "rows need main.any(1) too."),
    expected=two_scores,
    cases=(
        Case("strict looks at all that an answer says, relaxed at its main statements alone.", draw_answers),
        Case("what is strictly right is right by the relaxed score too.", draw_answers,
             lambda i, o: not (o.result[0].astype(bool) & ~o.result[1].astype(bool)).any(), draws=6),
        Case("the year of the question decides, not the newest.",
             lambda rng, k: draw_answers(rng, k, "past"), draws=5),
        Case("a statement is true from the year since on, and no longer in the year until.",
             lambda rng, k: draw_answers(rng, k, "change"), draws=5),
        Case("an answer without a main statement is wrong by both scores.",
             lambda rng, k: draw_answers(rng, k, "empty"),
             lambda i, o: not o.result[:, ~i.main.any(1)].any(), draws=5),
        Case("of several main statements all must be true.",
             lambda rng, k: draw_answers(rng, k, "several"),
             lambda i, o: not o.result[1][(i.main & ~valid(i)).any(1)].any(), draws=5)),
    misconceptions=(
        M("the newest for the year asked",
          "What is true to this day was taken for right. The question names a year: another value may be "
          "right in it.",
          by_statement(lambda i: i.until == STILL)),
        M("once true is true",
          "What was true at some time counts as right. In the year asked it may be outdated, or not yet "
          "true.",
          by_statement(lambda i: i.until > i.since)),
        M("the year of the change with the old value",
          "In the year until a statement counts as true here. That is the year in which it changed.",
          by_statement(lambda i: (i.since <= i.asked[:, None]) & (i.asked[:, None] <= i.until)
                       & (i.since > 0))),
        M("not yet true in its first year",
          "In the year since a statement does not count as true here. It is true from that year on.",
          by_statement(lambda i: (i.since < i.asked[:, None]) & (i.asked[:, None] < i.until))),
        M("future statements too",
          "Only the end of a statement was looked at. It may not have begun in the year asked.",
          by_statement(lambda i: i.asked[:, None] < i.until)),
        M("outdated statements too",
          "Only the beginning of a statement was looked at. It may be outdated in the year asked.",
          by_statement(lambda i: (i.since <= i.asked[:, None]) & (i.since > 0))),
        M("one year for all",
          "All answers were judged by the year of the first question.",
          by_statement(lambda i: valid(i, np.broadcast_to(i.asked[:1], i.asked.shape)))),
        M("any for all",
          "One true statement is enough here, in both scores. All must be true.",
          lambda i: two_scores(i, strict=lambda true: (true & i.said).any(1) & i.main.any(1),
                               relaxed=lambda true: (true & i.main).any(1))),
        M("any for all",
          "For the relaxed score one true main statement is enough here. All must be true.",
          lambda i: two_scores(i, relaxed=lambda true: (true & i.main).any(1))),
        M("any for all",
          "For the relaxed score one true statement is enough here, main or not.",
          lambda i: two_scores(i, relaxed=lambda true: (true & i.said).any(1))),
        M("nothing said is right",
          "all(…) of nothing is True. An answer that does not answer is wrong.",
          lambda i: two_scores(i, needed=False)),
        M("nothing said is right",
          "all(…) of nothing is True. An answer without a main statement is wrong strictly too.",
          lambda i: two_scores(i, strict=lambda true: (true | ~i.said).all(1))),
        M("nothing said is right",
          "all(…) of nothing is True. An answer of extras alone does not answer the question.",
          lambda i: two_scores(i, strict=lambda true: (true | ~i.said).all(1) & i.said.any(1))),
        M("nothing said is right",
          "all(…) of nothing is True. An answer of extras alone does not answer the question.",
          lambda i: two_scores(i, strict=lambda true: (true | ~i.said).all(1) & i.said.any(1),
                               relaxed=lambda true: (true | ~i.main).all(1) & i.said.any(1))),
        M("both strict",
          "Both rows look at all that is said. The relaxed score forgives what an answer says beside the "
          "point.",
          lambda i: np.stack([two_scores(i)[0]] * 2)),
        M("both relaxed",
          "Both rows look at main statements alone. Strictly, nothing that is said may be untrue.",
          lambda i: np.stack([two_scores(i)[1]] * 2)),
        M("padding counted as a statement",
          "Padding was taken for a statement that is not true. It is nothing that anybody said.",
          lambda i: two_scores(i, strict=lambda true: true.all(1) & i.main.any(1))),
        M("most for all",
          "Relaxed was taken to mean: more than half of the statements are true. It means the main ones.",
          lambda i: two_scores(i, relaxed=lambda true: 2 * (true & i.said).sum(1) > i.said.sum(1))),
        M("rows exchanged",
          "The rows are exchanged. Row 0 is the strict score.",
          lambda i: two_scores(i)[::-1]),
        M("wrong for right",
          "True and False are exchanged.",
          lambda i: ~two_scores(i))))
