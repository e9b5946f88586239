"""critical-path: seconds of a plan with as many workers as it wants, and one call after another."""

from __future__ import annotations

import numpy as np

from ..judge import Case, Check, Misconception as M


def draw_path(rng, k, kind="plain"):
    """needs (K, K), which earlier steps each step needs, seconds (K,) in halves, planning () in halves.

    kind "plain": neither the chain with the most steps, nor the last step, nor what waits for whole levels
    tells the end. "chain": each step needs the one before it. "apart": no step needs another. "pair": one
    step needs two, of which the slower comes first in half of the draws.
    """
    K = {"pair": 3}.get(kind, 2 + k if kind != "plain" else 4 + k // 2)
    planning = np.float32(rng.integers(2, 9) / 2)
    while True:
        needs = np.tril(rng.random((K, K)) < 0.45, -1)
        seconds = (rng.permutation(np.arange(1, 14))[:K] / 2).astype(np.float32)
        if kind == "chain":
            needs = np.eye(K, k=-1, dtype=bool)
        elif kind == "apart":
            needs[:] = False
        elif kind == "pair":
            needs[:] = False
            needs[2, :2] = True
            seconds[:2] = np.sort(seconds[:2])[::1 if k % 2 else -1]
        i = {"needs": needs, "seconds": seconds, "planning": planning}
        if kind != "plain" or telling(needs, seconds.astype(float)):
            return {name: np.array(value) for name, value in i.items()}


def telling(needs, seconds):
    """Whether the usual shortcuts all come to another end than the plan does."""
    chains = {(len(chain), sum(seconds[chain])) for chain in all_chains(needs)}
    longest = {end for steps, end in chains if steps == max(chains)[0]}
    last = max(end for _, end in chains)
    ends = when_done(needs, seconds)
    return len(longest) == 1 and last not in longest and ends[-1] < last < by_levels(needs, seconds)


def all_chains(needs):
    """Each chain of a plan: a list of steps, each of which needs the one before it in the list."""
    chains = []
    for k in range(len(needs)):
        chains += [[k]] + [[*chain, k] for chain in chains if needs[k, chain[-1]]]
    return chains


def when_done(needs, seconds, over=max, inputs=lambda row: row):
    """When each step has ended, if all that it needs must have ended first: (K,).

    over: what is made of its inputs' ends. inputs: of its row of needs, those that count.
    """
    ends = []
    for row, own in zip(needs.astype(bool), seconds):
        before = [ends[j] for j in np.flatnonzero(inputs(row))]
        ends.append(own + (over(before) if before else 0))
    return np.array(ends)


def level_of(needs):
    """How many steps the longest chain to each step has before it: (K,)."""
    return when_done(needs, np.ones(len(needs))).astype(int) - 1


def by_levels(needs, seconds):
    """The end where each level waits for all of the level before."""
    level = level_of(needs)
    return sum(seconds[level == n].max() for n in set(level))


def most_steps(needs, seconds):
    """The seconds of the chain with the most steps."""
    return sum(seconds[max(all_chains(needs), key=lambda chain: (len(chain), sum(seconds[chain])))])


def first_alone(row):
    """The first of a row that is True."""
    return row & (row.cumsum() == 1)


def last_alone(row):
    """The last of a row that is True."""
    return first_alone(row[::-1])[::-1]


def both(i, end=None, sum_=None, planning=None, first=1, second=1):
    """The two seconds, (2,), and ways to get them wrong.

    end, sum_: of needs and seconds. planning: in the place of the planner's. first, second: how often it is
    spent in each.
    """
    needs, seconds = i.needs.astype(bool), i.seconds
    planning = i.planning if planning is None else planning
    end = when_done(needs, seconds).max() if end is None else end(needs, seconds)
    return np.array([end + first * planning, seconds.sum() + second * planning])


def believed_end(end):
    """What is given where the first number is the end by another rule."""
    return lambda i: both(i, end)


CRITICAL_PATH = Check(
    name="critical-path", title="How long a plan takes", minutes=15, difficulty=2,
    function="plan_seconds", arguments=("needs", "seconds", "planning"), compared="the seconds",
    learned="You have the bound of every clever runner: with any number of workers a plan takes its slowest "
            "chain, and the planner's time before it.",
    task="the seconds from the question to the last reply, first with unlimited workers, then with one call "
         "after another; the plan is written before the first call.",
    hints=(
        "When does a step start, if workers are free? When the last of what it needs has ended. When has it "
        "ended? Its own seconds later.",
        "Go through the steps in the plan's order: all that step k needs comes before it, so their ends are "
        "known. Keep the ends in a list. max([...], default=0) is 0 where nothing is needed.",
        "The plan is done when its last reply is there, of whichever step that is. The planner writes once, "
        "before all of it, in both numbers."),
    expected=both,
    cases=(
        Case("a step starts when all that it needs has ended, and the plan is done when all of its steps "
             "are.", draw_path),
        Case("where each step needs the one before it, workers save nothing: both numbers are equal.",
             lambda rng, k: draw_path(rng, k, "chain"),
             lambda i, o: abs(o.result[0] - o.result[1]) < 1e-3, draws=4),
        Case("where no step needs another, all run at once, and the slowest says when the plan is done.",
             lambda rng, k: draw_path(rng, k, "apart"),
             lambda i, o: abs(o.result[0] - i.planning - i.seconds.max()) < 1e-3, draws=4),
        Case("a step that needs two waits for the slower one.", lambda rng, k: draw_path(rng, k, "pair"),
             lambda i, o: abs(o.result[0] - i.planning - i.seconds[:2].max() - i.seconds[2]) < 1e-3,
             draws=4),
        Case("one call after another takes the planner's time and the sum of all seconds.",
             lambda rng, k: draw_path(rng, k + 2),
             lambda i, o: abs(o.result[1] - i.planning - i.seconds.sum()) < 1e-3, draws=4)),
    misconceptions=(
        M("the sum for the longest chain",
          "With unlimited workers the calls are still made one after another here. Those that do not need "
          "one another run at the same time.",
          believed_end(lambda needs, seconds: seconds.sum())),
        M("the slowest step alone",
          "The first number is the slowest step's. A step that needs another one starts after it.",
          believed_end(lambda needs, seconds: seconds.max())),
        M("the chain with the most steps",
          "The chain with the most steps was taken. A chain of two slow steps may end after one of four "
          "quick ones.",
          believed_end(most_steps)),
        M("levels wait for one another",
          "All steps of a level wait for all of the level before. A step waits for what it needs, and for "
          "nothing else.",
          believed_end(by_levels)),
        M("the last step's end",
          "This is when the plan's last step has ended. Another one may end later.",
          believed_end(lambda needs, seconds: when_done(needs, seconds)[-1])),
        M("inputs one after another",
          "The ends of all that a step needs were added up. It waits for the latest of them.",
          believed_end(lambda needs, seconds: when_done(needs, seconds, sum).max())),
        M("the first input that is there",
          "A step starts here as soon as one of its inputs is there. It needs all of them.",
          believed_end(lambda needs, seconds: when_done(needs, seconds, min).max())),
        M("one input alone",
          "Of what a step needs, only the first step of the plan was looked at. It waits for all of them.",
          believed_end(lambda needs, seconds: when_done(needs, seconds, inputs=first_alone).max())),
        M("one input alone",
          "Of what a step needs, only the last step of the plan was looked at. It waits for all of them.",
          believed_end(lambda needs, seconds: when_done(needs, seconds, inputs=last_alone).max())),
        M("inputs' own seconds",
          "A step waits here for its inputs' own seconds, as if they had started at once. They may have "
          "waited too.",
          believed_end(lambda needs, seconds: max(
              own + seconds[row].max(initial=0) for row, own in zip(needs, seconds)))),
        M("when the last step starts",
          "This is when the last step starts. Its reply comes its own seconds later.",
          believed_end(lambda needs, seconds: (when_done(needs, seconds) - seconds).max())),
        M("without the planner",
          "The planner's own time is missing. Nothing can be called before there is a plan.",
          lambda i: both(i, planning=0.0)),
        M("without the planner",
          "The planner's own time is missing in the first number. Nothing can be called before there is a "
          "plan.",
          lambda i: both(i, first=0)),
        M("without the planner",
          "The planner's own time is missing in the second number. The same plan is carried out, by one "
          "worker.",
          lambda i: both(i, second=0)),
        M("the planner before each step",
          "The planner's time was spent before each step. It writes the whole plan at once.",
          lambda i: both(i, first=len(i.seconds), second=len(i.seconds))),
        M("the planner before each step",
          "One after another, the planner's time was spent before each step. It writes the whole plan at "
          "once.",
          lambda i: both(i, second=len(i.seconds))),
        M("order swapped",
          "The two numbers are in the opposite order.",
          lambda i: both(i)[::-1])))
