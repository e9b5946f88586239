"""The check of chapter 16 on one level of a search: which children are kept, and which are given up."""

from __future__ import annotations

import numpy as np

from ...inside.shortcuts import Without
from ..judge import Case, Check, Misconception as M


def draw_level(rng, k, kind="plain"):
    """parents, values (C,) in quarters, solved (C,) bool, beam (). Children of a parent stand side by side.

    kind "plain": no solution, no two values equal. "solved": one solution is worth less than all others, one
    more than most. "ties": the last place in the beam is one of equals, of which three or more are there.
    "few": fewer children that are no solutions than the beam has places. "one parent": the best all have one
    parent, and it is not the first.
    """
    size = [2 + k % 3, 3, *[2] * (k // 3)]
    parents = np.repeat(np.arange(len(size)), size)
    C = len(parents)
    beam = 2 + k // 3
    values = rng.permutation(np.arange(C) - C // 2) / 4
    solved = np.zeros(C, bool)
    if kind == "one parent":
        ranked = np.sort(values)
        values[parents == 1] = rng.permutation(ranked[-3:])
        values[parents != 1] = rng.permutation(ranked[:-3])
        beam = 2 + k % 2
    elif kind == "ties":
        values = rng.permutation(np.array([3, 2, *[1] * (C - 3), -1])) / 4
        beam = 3 if C < 7 else 4
    elif kind in ("solved", "few"):
        low, high = values.argmin(), values.argsort()[-2]
        solved[[low, high]] = True
        beam = 2 if kind == "solved" else C - 1 + k
    return {"parents": parents.astype(np.int64), "values": values.astype(np.float32), "solved": solved,
            "beam": np.array(beam)}


def best(i, values=None, among=None, beam=None, last=False):
    """The `beam` best of those among, the first of equals or the last: (C,) bool."""
    values = i.values if values is None else values
    places = np.flatnonzero(~i.solved if among is None else among)
    beam = int(i.beam) if beam is None else int(beam)
    order = np.argsort(-values[places][::-1] if last else -values[places], kind="stable")
    order = len(places) - 1 - order if last else order
    kept = np.zeros(len(values), bool)
    kept[places[order[:max(0, beam)]]] = True
    return kept


def kept(i, **how):
    """What is wanted, and ways to get it wrong: the solutions and the best of the others, (C,) bool."""
    return i.solved | best(i, **how)


def everybody(i):
    """All children, solutions among them: (C,) bool."""
    return np.ones(len(i.values), bool)


def from_the_last_place(i, enough):
    """Those of whom enough(value, value in the beam's last place) is true, and the solutions: (C,) bool."""
    ranked = np.sort(i.values[~i.solved])[::-1]
    if not len(ranked):
        return i.solved.copy()
    return i.solved | enough(i.values, ranked[min(int(i.beam), len(ranked)) - 1])


def of_each_parent(i):
    """A beam for the children of each parent: (C,) bool."""
    return np.logical_or.reduce([kept(i, among=~i.solved & (i.parents == p)) for p in np.unique(i.parents)])


def in_one_ranking(i, value):
    """The `beam` best of all children, where a solution is worth `value`: (C,) bool."""
    return best(i, np.where(i.solved, value, i.values), everybody(i))


def nothing_better_lost(i, o):
    """Whether no child that is given up is worth more than one that is kept, solutions aside."""
    lost, there = (i.values[~i.solved & mask] for mask in (~o.result, o.result))
    return not len(lost) or not len(there) or bool(lost.max() <= there.min())


ONE_LEVEL = Check(
    name="one-level", title="One level of a search", minutes=15, difficulty=2,
    function="one_level", arguments=("parents", "values", "solved", "beam"), kind="bool",
    compared="what is kept",
    without=(Without(("minillm.thinking.tree.breadth_first",), "Rank the level's children yourself."),),
    learned="You have the step that makes a search of many chains: a level is judged as a whole, and all but "
            "the best are given up.",
    task="True on every solution, and on the beam best of all other children of the level, the first of "
         "equals.",
    hints=(
        "Leave the solutions aside first. Of the others, which `beam` have the largest values? Who their "
        "parents are does not matter.",
        "torch.sort and torch.argsort with descending=True and stable=True leave equals in the order in "
        "which they came. topk promises nothing about equals, and raises where there are fewer than beam.",
        "Make a tensor of False, (C,). Write True at the first `beam` places of the order, among those that "
        "are no solutions. Then | solved."),
    expected=kept,
    cases=(
        Case("of the children that are no solutions, no one that is given up is worth more than one that is "
             "kept.", draw_level, nothing_better_lost),
        Case("a solution is never given up, whatever it is worth.",
             lambda rng, k: draw_level(rng, k, "solved"), lambda i, o: bool(o.result[i.solved].all()),
             draws=4),
        Case("beside the solutions exactly `beam` others are kept: a solution takes no place.",
             lambda rng, k: draw_level(rng, k, "solved"),
             lambda i, o: int((o.result & ~i.solved).sum()) == int(i.beam), draws=4),
        Case("where the beam has more places than there are children, all are kept.",
             lambda rng, k: draw_level(rng, k, "few"), lambda i, o: bool(o.result.all()), draws=4),
        Case("of equals, the one that was proposed first is kept, and the beam stays as wide as it is.",
             lambda rng, k: draw_level(rng, k, "ties"),
             lambda i, o: bool((np.diff(o.result[i.values == np.median(i.values)].astype(int)) <= 0).all()
                               and o.result.sum() == i.beam), draws=4),
        Case("the level has one beam: the best may all be children of one parent.",
             lambda rng, k: draw_level(rng, k, "one parent"),
             lambda i, o: not o.result[i.parents != 1].any(), draws=4)),
    misconceptions=(
        M("the worst for the best",
          "The children with the smallest values were kept. argsort goes from small to large if nothing else "
          "is said.",
          lambda i: kept(i, values=-i.values)),
        M("a solution given up",
          "A solution was ranked like the others, and was lost where its value is low. A value is a guess; "
          "that something is a solution is known.",
          lambda i: best(i, among=everybody(i))),
        M("a solution takes a place",
          "A solution took a place in the beam, and another child was given up for it.",
          lambda i: kept(i, among=everybody(i))),
        M("a solution takes a place",
          "A solution took a place in the beam, and another child was given up for it.",
          lambda i: kept(i, beam=i.beam - i.solved.sum())),
        M("a solution takes a place",
          "A solution took a place in the beam, and another child was given up for it. Is it worth 0 here, "
          "where all others are worth less?",
          lambda i: i.solved | in_one_ranking(i, 0.0)),
        M("the others dropped",
          "Where there is a solution, nothing else was kept. The others are kept as if there were none.",
          lambda i: i.solved.copy() if i.solved.any() else kept(i)),
        M("ties to the last",
          "Of equals the last was kept. A sort that is turned round afterwards does that. The one that was "
          "proposed first should stay.",
          lambda i: kept(i, last=True)),
        M("all equals kept",
          "All children that are worth as much as the last one in the beam were kept, so that there are "
          "more than the beam has places.",
          lambda i: from_the_last_place(i, np.greater_equal)),
        M("the last place left empty",
          "What is worth exactly as much as the last one in the beam was given up. Is a > where a ≥ should "
          "be, or is a count one short?",
          lambda i: from_the_last_place(i, np.greater)),
        M("a beam for each parent",
          "The best of each parent's children were kept. The beam is for the level: a parent whose children "
          "are all poor may have none.",
          of_each_parent),
        M("the first for the best",
          "The children that were proposed first were kept, whatever they are worth.",
          lambda i: kept(i, values=np.zeros(len(i.values)))),
        M("size for value",
          "Children were ranked by the size of their values, without the sign. Values may be below 0, as "
          "log p is.",
          lambda i: kept(i, values=np.abs(i.values))),
        M("given up for kept",
          "True and False are exchanged: this marks what is given up.",
          lambda i: ~kept(i))))
