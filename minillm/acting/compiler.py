"""LLMCompiler: a plan is a graph of calls, and each call starts as soon as its inputs are there.

    #1 = record(Ada Moss, age)      ──┐
    #2 = record(Ben Reed, age)      ──┴──> #3 = calculator(#1-#2)

Which value a step gets depends on names alone, never on the order in which replies arrive. A step that fails
ends itself and those that need it; the others go on, and a new plan is made for what failed. One rule starts
calls in threads (`execute`) and on a clock that is only computed (`schedule`), so seconds can be exact.
Source: Kim et al. 2024 (LLMCompiler): planner, task fetching unit, executor, replanning.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch

from ..expect import expect, expect_whole
from ..tokenizer import Tokenizer
from .rewoo import Planned, Round, Step, Tools, answered, make
from .tools import SECONDS, Made, Tool
from .transcript import Transcript

WORKERS = 8                     # calls that run at once


class Span(NamedTuple):
    """When something began and ended, in seconds."""

    start: float
    end: float


# --- a clock that is only computed ----------------------------------------------------------------


def schedule(steps: Sequence[Step], seconds: Mapping[int, float], ready: Mapping[int, float] | None = None,
             workers: int | None = None) -> dict[int, Span]:
    """When each step starts and ends: as soon as its inputs are there and a worker is free; where several
    could start, the earlier line first.

    seconds: of each step's call. ready: before which a step cannot start, such as when its line was written;
    0 if not given. workers: how many calls run at once; None: as many as there are steps. A step that needs a
    number which is not among `steps` has it already.
    """
    _expect_seconds("seconds", seconds, steps)
    ready = {step.number: 0.0 for step in steps} if ready is None else ready
    _expect_seconds("ready", ready, steps)
    workers = max(1, len(steps)) if workers is None else workers
    expect_whole(1, workers=workers)
    numbers = {step.number for step in steps}
    spans: dict[int, Span] = {}
    waiting, now = list(steps), 0.0
    while waiting:
        busy = sum(span.end > now for span in spans.values())
        starts = [step for step in waiting if ready[step.number] <= now and all(
            n not in numbers or n in spans and spans[n].end <= now for n in step.needs)]
        for step in starts[:workers - busy]:
            spans[step.number] = Span(now, now + seconds[step.number])
            waiting.remove(step)
        if not starts[:workers - busy]:                     # nothing starts now: on to the next event
            later = [span.end for span in spans.values()] + [ready[step.number] for step in waiting]
            later = [t for t in later if t > now]
            expect(len(later) > 0, "steps", "a circle", "read_plan reads none")
            now = min(later)
    return {step.number: spans[step.number] for step in steps}


def critical_path(steps: Sequence[Step], seconds: Mapping[int, float]) -> tuple[float, list[int]]:
    """(seconds, the steps) of the longest way through the graph: no number of workers is faster."""
    _expect_seconds("seconds", seconds, steps)
    longest: dict[int, tuple[float, list[int]]] = {}
    for step in steps:
        before = max((longest[n] for n in step.needs if n in longest), key=lambda way: way[0],
                     default=(0.0, []))
        longest[step.number] = before[0] + seconds[step.number], [*before[1], step.number]
    return max(longest.values(), key=lambda way: way[0], default=(0.0, []))


def _expect_seconds(name: str, values: Mapping[int, float], steps: Sequence[Step]) -> None:
    for step in steps:
        expect(step.number in values, name, f"without #{step.number}", "give a number for each step")
        value = values[step.number]
        fits = isinstance(value, (int, float)) and 0 <= value < math.inf
        expect(fits, f"{name}[{step.number}]", value, "give a number, 0 or more")


# --- threads --------------------------------------------------------------------------------------


def execute(steps: Sequence[Step], tools: dict[str, Tool], before: Mapping[int, Made] | None = None,
            seconds: float = SECONDS, *, workers: int = WORKERS,
            watch: Callable[[int, Span], None] | None = None) -> dict[int, Made]:
    """Every step's call, at most `workers` at once, in threads; results by number, in the plan's order.

    The thread that calls this function alone writes down what came back, so nothing is shared but the tools.
    A call that hangs is abandoned after its seconds (see `tools.run`), and its step has failed. before:
    results that are already there. watch(number, span): told when a step ended, in seconds from the start.
    """
    expect_whole(1, workers=workers)
    made, waiting, running, begun = dict(before or {}), list(steps), {}, time.monotonic()

    def timed(step: Step, known: dict[int, Made]) -> tuple[Made, Span]:
        start = time.monotonic() - begun
        return make(step, known, tools, seconds), Span(start, time.monotonic() - begun)

    with ThreadPoolExecutor(workers, thread_name_prefix="plan") as pool:
        while waiting or running:
            for step in [s for s in waiting if all(n in made for n in s.needs)][:workers - len(running)]:
                known = {n: made[n] for n in step.needs}
                running[pool.submit(timed, step, known)] = step
                waiting.remove(step)
            expect(len(running) > 0, "steps", "in need of what no step gives", "give a plan of read_plan")
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                step = running.pop(future)
                made[step.number], span = future.result()
                if watch is not None:
                    watch(step.number, span)
    return {step.number: made[step.number] for step in steps}


@torch.no_grad()
def compiled(model, tokenizer: Tokenizer, questions: Sequence[str], tools: Tools, *, replans: int = 2,
             workers: int = WORKERS, room: int = 128, answer_room: int = 64,
             seconds: float = SECONDS) -> list[Planned]:
    """A plan for each question, its calls side by side, a new plan for what failed, and an answer; greedy.

    replans: how often the model may plan again; it then sees what came back so far. Other arguments as in
    `rewoo.rewoo`. With replans=0 the answers are those of `rewoo`; only the clock differs.
    """
    return answered(model, tokenizer, questions, tools, partial(execute, workers=workers), replans, room,
                    answer_room, seconds)


# --- what a run costs -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Clock:
    """Seconds of a written token, and of a call of each tool. What the model reads takes no time here."""

    tools: Mapping[str, float]
    token: float = 0.02

    def of(self, made: Made) -> float:
        """Seconds of a call that was made; 0 of one that was not."""
        return self.tools[made.call.name] if made.call is not None else 0.0


class Bar(NamedTuple):
    """A stretch of a run: what was done ("model" or a tool's name), when, and of calls the number and needs.
    """

    label: str
    kind: str
    start: float
    end: float
    number: int | None = None
    needs: tuple[int, ...] = ()
    ok: bool = True


def timeline(run: Planned, clock: Clock, parallel: bool = True, workers: int | None = None) -> list[Bar]:
    """What happens when, on the clock. The last bar ends when the answer is there.

    parallel: a step may start when its line is written and its inputs are there (LLMCompiler); otherwise the
    calls come one after another, when the whole plan is written (ReWOO). A new plan waits for all calls.
    """
    bars, now = [], 0.0
    for number, one in enumerate(run.rounds):
        end = now + clock.token * one.written
        bars.append(Bar("plan" if number == 0 else "plan again", "model", now, end))
        spans = _spans(one, clock, now, end, parallel, workers)
        for step in one.steps:
            if step.number in spans:
                made = one.made[step.number]
                bars.append(Bar(made.text, made.call.name, *spans[step.number], step.number, step.needs,
                                made.ok))
        now = max([end, *(span.end for span in spans.values())])
    return bars + [Bar("answer", "model", now, now + clock.token * run.solver[1])]


def _spans(one: Round, clock: Clock, start: float, written: float, parallel: bool,
           workers: int | None) -> dict[int, Span]:
    steps = [step for step in one.steps if one.made[step.number].call is not None]
    seconds = {step.number: clock.of(one.made[step.number]) for step in steps}
    ready = {step.number: start + clock.token * one.ends[step.number] if parallel else written
             for step in steps}
    return schedule(steps, seconds, ready, workers if parallel else 1)


def timeline_of(row: Transcript, clock: Clock) -> list[Bar]:
    """The same for a transcript: the model writes, waits for its call, and writes on (ReAct)."""
    bars, now, number = [], 0.0, 0
    for (_, wrote), made in zip(stretches(row), [*row.calls, None]):
        end = now + clock.token * wrote
        bars.append(Bar("think" if made else "answer", "model", now, end))
        now = end
        if made is not None:
            number += 1
            end = now + clock.of(made)
            bars.append(Bar(made.text, made.call.name if made.call else "none", now, end, number, (),
                            made.ok))
            now = end
    return bars


def stretches(row: Transcript) -> list[tuple[int, int]]:
    """(tokens read, tokens written) each time that the model of a transcript wrote: up to a call, or to the
    end. Without a cache all that stands before is read again each time."""
    found, before, wrote = [], len(row.prompt), 0
    for t, mine in enumerate(row.response_mask):
        if mine and (t == 0 or not row.response_mask[t - 1]):
            before, wrote = len(row.prompt) + t, 0
        wrote += mine
        if mine and (t + 1 == len(row.ids) or not row.response_mask[t + 1]):
            found.append((before, wrote))
    return found


def tokens_read(run: Planned | Transcript, cache: bool) -> int:
    """Tokens that the model reads for an answer, those that it wrote itself in the same text apart.

    cache: keys and values of what was read are kept between the calls of one text, so only what is new is
    read. Otherwise each request reads its whole prompt, as a service that is asked anew each time does.
    """
    if isinstance(run, Planned):                    # each request is a text of its own
        return sum(read for read, _ in run.requests)
    if cache:
        return len(run.prompt) + len(run.ids) - sum(run.response_mask)
    return sum(read for read, _ in stretches(run))
