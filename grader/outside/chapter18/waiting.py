"""who-waits: when each step of a plan starts and ends with w workers, and ways to get it wrong."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..judge import Case, Check, Misconception as M
from .path import level_of, when_done


def draw_work(rng, k, kind="plain"):
    """needs (K, K) of earlier steps, seconds (K,) in halves, workers ().

    kind "plain": two or three workers, and all ways below to choose another step, to wait for rounds or to
    keep a place come to something else. "queue": two steps wait for a worker, and the one that comes later
    in the plan has waited longer. "one": one worker. "many": a worker for each step. "apart": no step needs
    another. "gap": a worker is free, and the plan's next step waits for a reply; a later one need not.
    """
    if kind == "queue":
        slow, quick = 3 + k % 2 + 0.5, 1.0
        needs = np.zeros((5, 5), bool)
        needs[2, 1] = True
        return {"needs": needs, "seconds": np.array([slow, quick, 2.0, 1.5, 1.0 + k / 2], np.float32),
                "workers": np.array(2)} if k < 2 else drawn_until(rng, 6 + k % 2, 2, lambda *given: not same(
                    schedule(*given), schedule(*given, choose=longest_waiting)))
    if kind == "gap":
        return drawn_until(rng, 4 + k, 2, lambda *given: not same(
            schedule(*given), in_strict_order(*given)) and not same(schedule(*given), kept_places(*given)))
    K = 3 + k if kind != "plain" else 4 + k // 2
    workers = {"one": 1, "many": K}.get(kind, 2 + (k > 3))
    if kind != "plain":
        return drawn_until(rng, K, workers, lambda needs, *_: needs.any() or kind == "apart",
                           0 if kind == "apart" else 0.4)
    return drawn_until(rng, K, workers, lambda *given: not any(
        same(schedule(*given), other(*given)) for other in (rounds, reserved, fixed_workers, unlimited)))


def drawn_until(rng, K, workers, suits: Callable, share=0.4):
    """A plan of K steps that suits, given needs, seconds and workers."""
    while True:
        needs = np.tril(rng.random((K, K)) < share, -1)
        seconds = (rng.integers(1, 9, K) / 2).astype(np.float32)
        if suits(needs, seconds.astype(float), workers):
            return {"needs": needs, "seconds": seconds, "workers": np.array(workers)}


def same(a, b):
    """Whether two tables of times are equal."""
    return bool(np.array_equal(a, b))


# --- ways to hand out work ------------------------------------------------------------------------


def earliest_in_plan(ready, since, seconds):
    """Of the steps that could start, the plan's first."""
    return min(ready)


def latest_in_plan(ready, since, seconds):
    """Of the steps that could start, the plan's last."""
    return max(ready)


def longest_waiting(ready, since, seconds):
    """The one that could start since the earliest time, the plan's first of equals."""
    return min(ready, key=lambda k: (since[k], k))


def quickest(ready, since, seconds):
    """The one that takes the fewest seconds."""
    return min(ready, key=lambda k: (seconds[k], k))


def slowest(ready, since, seconds):
    """The one that takes the most seconds."""
    return min(ready, key=lambda k: (-seconds[k], k))


def schedule(needs, seconds, workers, choose=earliest_in_plan, enough=all, blocked=None):
    """Start and end of each step, (2, K): a free worker takes a step whose inputs are there.

    From one end of a step to the next; at each moment, all that ends comes first. choose: which of the steps
    that could start does. enough: of whether each input is there, if that will do. blocked: of a step and
    who has started, whether it must wait all the same.
    """
    K = len(seconds)
    start, end, since = np.full(K, np.inf), np.full(K, np.inf), {}
    now = 0.0
    while np.isinf(start).any():
        while True:
            there = end <= now
            ready = [k for k in range(K) if np.isinf(start[k])
                     and (not needs[k].any() or enough(there[needs[k]].tolist()))]
            since |= {k: now for k in ready if k not in since}
            ready = [k for k in ready if not (blocked and blocked(k, start))]
            busy = int((np.isfinite(start) & ~there).sum())
            if not ready or busy >= workers:
                break
            k = choose(ready, since, seconds)
            start[k], end[k] = now, now + seconds[k]
        later = end[(end > now) & np.isfinite(end)]
        now = later.min() if len(later) else now
    return np.stack([start, end])


def in_strict_order(needs, seconds, workers):
    """No step starts before the plan's step before it has started."""
    return schedule(needs, seconds, workers, blocked=lambda k, start: bool(np.isinf(start[:k]).any()))


def in_turn(needs, seconds, workers, inputs=True, fixed=False):
    """In the plan's order each step takes the worker that is free first, or worker k mod w.

    The worker is its own from then on, while it waits for the step's inputs too.
    """
    free, start, end = [0.0] * int(workers), [], []
    for k, own in enumerate(seconds):
        who = k % len(free) if fixed else int(np.argmin(free))
        begins = max([free[who], *(end[j] for j in np.flatnonzero(needs[k]) if inputs)])
        start.append(begins)
        end.append(begins + own)
        free[who] = end[-1]
    return np.array([start, end])


def reserved(needs, seconds, workers):
    """A worker waits with its step for the step's inputs."""
    return in_turn(needs, seconds, workers)


def fixed_workers(needs, seconds, workers):
    """Step k is worker k mod w's."""
    return in_turn(needs, seconds, workers, fixed=True)


def kept_places(needs, seconds, workers):
    """In the plan's order each step gets the first time at which a worker is free for all of it."""
    start, end = [], []
    for k, own in enumerate(seconds):
        earliest = max([0.0, *(end[j] for j in np.flatnonzero(needs[k]))])
        for begins in sorted({earliest, *(t for t in end if t > earliest)}):
            moments = [begins, *(t for t in start if begins < t < begins + own)]
            if all(sum(a <= t < b for a, b in zip(start, end)) < workers for t in moments):
                break
        start.append(begins)
        end.append(begins + own)
    return np.array([start, end])


def rounds(needs, seconds, workers):
    """As many as there are workers start together, and the next ones when all of them have ended."""
    K = len(seconds)
    start, end, now = np.full(K, np.inf), np.full(K, np.inf), 0.0
    while np.isinf(start).any():
        ready = [k for k in range(K) if np.isinf(start[k]) and (end[needs[k]] <= now).all()][:int(workers)]
        start[ready] = now
        end[ready] = now + seconds[ready]
        now = end[ready].max()
    return np.stack([start, end])


def unlimited(needs, seconds, workers):
    """With a worker for each."""
    end = when_done(needs, seconds)
    return np.stack([end - seconds, end])


def level_by_level(needs, seconds, workers):
    """No step of a level starts before all of the level before have ended."""
    level = level_of(needs)
    return schedule(needs | (level[:, None] > level[None]), seconds, workers)


def after_one_another(needs, seconds, workers):
    """One worker."""
    return schedule(needs, seconds, 1)


def table(i, how=schedule, **other):
    """The table of an input by one of the ways above."""
    return how(i.needs.astype(bool), i.seconds, int(i.workers), **other)


# --- laws -----------------------------------------------------------------------------------------


def inputs_there(i, o):
    """Whether no step starts before all that it needs has ended."""
    start, end = o.result
    return all((end[row] <= start[k] + 1e-3).all() for k, row in enumerate(i.needs.astype(bool)))


def running(result, t):
    """How many run just after time t."""
    return int(((result[0] <= t + 1e-3) & (result[1] > t + 1e-3)).sum())


def never_too_many(i, o):
    """Whether at no moment more steps run than there are workers."""
    return all(running(o.result, t) <= i.workers for t in o.result[0])


def nobody_idle(i, o):
    """Whether all workers are busy at each moment at which a step could start and has not."""
    start, end = o.result
    for k, row in enumerate(i.needs.astype(bool)):
        since = end[row].max(initial=0.0)
        moments = [since, *(t for t in end if since < t)]
        if any(t < start[k] - 1e-3 and running(o.result, t) < i.workers for t in moments):
            return False
    return True


def plan_goes_first(i, o):
    """Whether no step starts while an earlier one of the plan could and does not."""
    start, end = o.result
    since = [end[row].max(initial=0.0) for row in i.needs.astype(bool)]
    return not any(since[j] <= start[k] + 1e-3 and start[j] > start[k] + 1e-3
                   for k in range(len(start)) for j in range(k))


WHO_WAITS = Check(
    name="who-waits", title="Who waits for a worker", minutes=20, difficulty=3,
    function="who_waits", arguments=("needs", "seconds", "workers"), compared="the times",
    learned="You have a runner of plans on a clock of your own. What it says of seconds is exact, and needs "
            "no waiting.",
    task="in row 0 when each step starts, in row 1 when it has ended; whenever a worker is free and inputs "
         "are there, the plan's first step that could start does.",
    hints=(
        "Do it as a clock would. At each moment three things happen, in this order: steps end, their "
        "replies arrive, and free workers take new steps. Then go to the next moment at which a step ends.",
        "Which steps could start now? Those that have not started, and of whose inputs all have ended. As "
        "long as one is left and fewer than `workers` are running, start the one that comes first in the "
        "plan.",
        "Keep start and end of each step, infinity at first. Running are those with start ≤ now < end. The "
        "next moment is the smallest end that is later than now. Stop when every step has started."),
    expected=table,
    cases=(
        Case("no step starts before all that it needs has ended.", draw_work, inputs_there),
        Case("at no moment do more steps run than there are workers.",
             lambda rng, k: draw_work(rng, k, "apart"), never_too_many, draws=4),
        Case("one worker takes the steps in the plan's order, without a pause.",
             lambda rng, k: draw_work(rng, k, "one"),
             lambda i, o: same(o.result[1], i.seconds.cumsum()), draws=4),
        Case("with a worker for each step, a step starts when the last of what it needs has ended.",
             lambda rng, k: draw_work(rng, k, "many"),
             lambda i, o: same(o.result, table(i, unlimited)), draws=4),
        Case("no worker is idle while a step could start, be it late in the plan.",
             lambda rng, k: draw_work(rng, k, "gap"), nobody_idle, draws=5),
        Case("of two steps that could start, the plan's first one does, whoever has waited longer.",
             lambda rng, k: draw_work(rng, k, "queue"), plan_goes_first, draws=5)),
    misconceptions=(
        M("inputs ignored",
          "Steps start as soon as a worker is free, whether their inputs are there or not.",
          lambda i: table(i, in_turn, inputs=False)),
        M("the first input that is there",
          "A step starts here as soon as one of its inputs is there. It needs all of them.",
          lambda i: table(i, enough=any)),
        M("unlimited workers",
          "All start as soon as their inputs are there, however many are running. There are only so many "
          "workers.",
          lambda i: table(i, unlimited)),
        M("a worker waits for inputs",
          "Each step takes a worker in its turn, and keeps it while it waits for its inputs. Meanwhile a "
          "later step could have run.",
          lambda i: table(i, reserved)),
        M("a worker for each place in the plan",
          "Steps are dealt out in turn, and wait for their own worker while another is free.",
          lambda i: table(i, fixed_workers)),
        M("strictly in order",
          "A step waits here until all steps before it have started. One that has its inputs may go first "
          "where others still wait for theirs.",
          lambda i: table(i, in_strict_order)),
        M("a place kept for a step that waits",
          "A worker was kept idle for a step whose inputs were not there yet. A free worker takes what it "
          "can get: it does not know how long anything will take.",
          lambda i: table(i, kept_places)),
        M("in rounds",
          "The next steps start when all of a round have ended. A worker who is done takes the next step at "
          "once.",
          lambda i: table(i, rounds)),
        M("level by level",
          "All steps of a level wait for all of the level before. A step waits for what it needs, and for "
          "nothing else.",
          lambda i: table(i, level_by_level)),
        M("whoever has waited longest",
          "Of two steps that could start, the one that has waited longer does. The task says: the one that "
          "comes first in the plan.",
          lambda i: table(i, choose=longest_waiting)),
        M("the plan's last first",
          "Of two steps that could start, the one that comes later in the plan does.",
          lambda i: table(i, choose=latest_in_plan)),
        M("the quickest first",
          "Of two steps that could start, the quicker one does. Nobody knows beforehand which that is.",
          lambda i: table(i, choose=quickest)),
        M("the slowest first",
          "Of two steps that could start, the slower one does. Nobody knows beforehand which that is.",
          lambda i: table(i, choose=slowest)),
        M("one after another",
          "This is the work of one worker.",
          lambda i: table(i, after_one_another)),
        M("one worker too many",
          "This is right with one worker more. Is a ≤ where a < should be?",
          lambda i: schedule(i.needs.astype(bool), i.seconds, i.workers + 1)),
        M("seconds for the end",
          "Row 1 says how long each step takes. It should say when it has ended.",
          lambda i: np.stack([table(i)[0], i.seconds])),
        M("rows exchanged",
          "The rows are exchanged. Row 0 is when steps start.",
          lambda i: table(i)[::-1])))
