"""Marks one submission: draws inputs, has the student's code answer them in a sandbox, and judges the arrays.

    mark(read("ada.ipynb"), 13, seed_of(2024, "ada"), available())

Nothing that a student's process says is believed but arrays, for inputs that were drawn here.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import numpy as np

from ..inside.driver import Complaint
from ..inside.frames import (ANSWER, COMPLAINT, ENDED, INPUT, OPEN, READY, RELAY, RUN, SPEC, Bad, Gone, Pipe,
                             decode)
from ..inside.shortcuts import PRYING
from . import CHAPTERS
from .judge import Check, Trial, Verdict, judge, plan
from .sandbox import ALL, Failed, Isolation, Process, Refused, start, usage
from .submission import Submission, master

LEAST = 5.0             # CPU seconds for an exercise, where its solution takes less than a tenth of that
SECONDS: dict[str, float] = {}          # what a solution takes, where it is more than half a second
STILL = 8.0             # wall seconds that all processes sleep while they are waited for
LOOK = 0.3              # wall seconds between two looks at a sandbox
MEMORY = 5 << 30        # bytes of all processes of a sandbox together
PROCESSES = 200
LAST_RESORT = 40        # wall seconds for each CPU second, at least ten minutes: a machine that stands still
RESTARTS = 3            # of one exercise, whose process has ended before its inputs did
RELAYS = 20_000         # calls and replies of one exercise
TEXT = 4_000            # characters of feedback
NUMBERS = 1 << 16       # in one array that comes back; no check asks for a hundredth of it


@dataclass(frozen=True)
class Mark:
    """What one exercise is worth. text is for the student, flags are for the teacher, seconds are CPU."""

    exercise: str
    points: float                       # 0 to 1
    reason: str                         # "right", a misconception's name, "a law", "stub", "out of time", …
    text: str
    held: tuple[bool, ...]
    flags: tuple[str, ...]
    seed: int
    seconds: float = field(default=0.0, compare=False)


def seed_of(master_seed: int, submission_id: str) -> int:
    """The seed of a submission's inputs, 0 to 2**63 − 1: the same on every machine."""
    text = f"{master_seed}:{submission_id}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 1


def names(chapter: int) -> tuple[str, ...]:
    """The exercises of a chapter with their functions, as submission.read takes them."""
    return tuple(f"{check.name}:{check.function}" for check in CHAPTERS[chapter])


def mark(submission: Submission, chapter: int, seed: int, isolation: Isolation,
         timeout: float | None = None, only: list[str] | None = None) -> list[Mark]:
    """A mark for each exercise of a chapter, in its order. Failed where the sandbox itself fails.

    timeout is CPU seconds for each exercise, in place of ten times what the solution takes.
    """
    if chapter not in CHAPTERS:
        known = ", ".join(map(str, CHAPTERS))
        raise ValueError(f"chapter is {chapter!r}: chapters with exercises are {known}")
    if isolation.kind == "none" and not isolation.unsafe:
        raise Refused("there is no isolation here, so nothing is marked. " + " ".join(isolation.missing))
    checks = [check for check in CHAPTERS[chapter] if only is None or check.name in only]
    written = [check for check in checks if check.name in submission.cells]
    marks: dict[str, Mark] = {}
    with Worker(isolation, chapter, 2 * len(written) * (1 + RESTARTS)) as worker:
        for check in checks:
            if check in written:
                try:
                    marks[check.name] = mark_one(worker, check, submission, seed, timeout)
                except (Failed, Refused):
                    raise
                except Exception as error:      # a hole in the grader: one mark is lost, and not the batch
                    worker.stop()
                    told = f"the grader itself raised {type(error).__name__}: mark this by hand"
                    marks[check.name] = Mark(check.name, 0.0, "not judged", f"{check.name}: not judged.", (),
                                             (told,), seed)
            else:
                text = f"{check.name}: there is no cell of this exercise in the notebook."
                marks[check.name] = Mark(check.name, 0.0, "not there", text, (), (), seed)
    return [marks[check.name] for check in checks]


def mark_one(worker: Worker, check: Check, submission: Submission, seed: int,
             timeout: float | None) -> Mark:
    """One exercise: by its own cell alone; where that lacks a name, with the cells above it as well."""
    stub = master(worker.chapter).stubs.get(check.name, "")
    own = submission.cells[check.name]
    if own.split() == stub.split():
        return Mark(check.name, 0.0, "stub", f"{check.name}: not written yet.", (), (), seed)
    order = [each.name for each in CHAPTERS[worker.chapter]]
    above = order[:order.index(check.name)]
    before = [submission.cells[name] for name in above if name in submission.cells]
    limit = timeout or max(LEAST, 10 * SECONDS.get(check.name, 0.0))
    first = Conversation(worker, check, [own], seed, limit).mark()
    if first.points == 1 or not before or "NameError" not in first.text:
        return first
    second = Conversation(worker, check, [*before, own], seed, limit).mark()
    return second if second.points > first.points else first


# --- the sandbox's side ---------------------------------------------------------------------------


class Worker:
    """The sandbox of one submission. It is started when it is needed, and again where it has been lost."""

    def __init__(self, isolation: Isolation, chapter: int, lines: int):
        self.isolation, self.chapter, self.lines = isolation, chapter, min(lines, 80)
        self.process: Process | None = None
        self.pipes: list[Pipe] = []
        self.line = None
        self.next = 0
        self.told: dict | None = None       # what became of the process that was forked last

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_) -> None:
        self.stop()

    def stop(self) -> None:
        """End the sandbox and all that runs in it."""
        if self.process:
            self.process.kill()
            self.process = None
        for pipe in [*self.pipes, *([self.line] if self.line else [])]:
            pipe.close()
        self.pipes, self.line, self.next = [], None, 0

    def start(self) -> None:
        """Start the sandbox, and wait until its first process is ready."""
        ours, theirs = [], []
        for _ in range(1 + self.lines):
            (their_read, our_write), (our_read, their_write) = os.pipe(), os.pipe()
            ours.append((our_read, our_write))
            theirs += [their_read, their_write]
        self.line, *self.pipes = (Pipe(*pair) for pair in ours)
        try:
            self.process = start(self.isolation, "{course}/grader/inside/worker.py", "{course}",
                                 *map(str, theirs), fds=tuple(theirs))
        except BaseException:
            self.stop()
            raise
        finally:
            for end in theirs:
                os.close(end)
        self.line.idle = Patience(self.process, 120.0)
        try:
            self.line.send(SPEC, {"setup": list(master(self.chapter).setup),
                                  "alone": self.isolation.kind != "none"})
            kind, _ = self.line.receive()
            assert kind == READY
        except (Gone, Bad, Idle, AssertionError) as error:
            code = self.process.popen.poll()
            self.stop()
            raise Failed(f"the sandbox's Python did not get ready (exit code {code}, {error}): can other "
                         "users read the course's folder and Python's?") from None

    def fork(self, spec: dict) -> Pipe:
        """A fresh process for one exercise, and the line to it."""
        if self.process is None or self.process.popen.poll() is not None or self.next >= len(self.pipes):
            self.stop()
            self.start()
        pipe, self.told = self.pipes[self.next], None
        try:
            self.line.idle = Patience(self.process, 30.0)
            self.line.send(RUN, {**spec, "line": self.next})
        except (Gone, Idle):
            self.stop()
            return self.fork(spec)
        self.next += 1
        return pipe

    def ended(self) -> dict | None:
        """What became of the process of an exercise, if it has ended; None while it runs."""
        if self.told is None and self.line is None:
            self.told = LOST
        if self.told is None:
            try:
                if not self.line.pending():
                    return None
                self.line.idle = Patience(self.process, 10.0)
                kind, told = self.line.receive()
                if kind != ENDED or not isinstance(told, dict):
                    raise Bad("not an end")
                self.told = told
            except (Gone, Bad, Idle):
                self.stop()
                self.told = LOST
        return self.told

    def settle(self, pipe: Pipe) -> dict:
        """Close an exercise's line, and wait until its process is gone; the sandbox is lost if it stays."""
        pipe.close()
        patience = Patience(self.process, 5.0) if self.process else None
        while self.ended() is None:
            time.sleep(0.002)
            try:
                patience()
            except Idle:
                self.stop()
        if not self.told.get("clean"):
            self.stop()                     # something was written, which the next one must not find
        return self.told


LOST = {"code": -9, "seconds": 0.0, "clean": False}      # of a process that went with its sandbox


class Idle(Exception):
    """Raised where nothing is done: Idle(what is said of it)."""


class Patience:
    """Called while a sandbox is waited for. Raises Idle where it sleeps, grows too large, or takes for ever.

    limit is CPU seconds of all its processes together, from now on.
    """

    def __init__(self, process: Process, limit: float):
        self.process, self.limit = process, limit
        self.begun = self.seen_at = time.monotonic()
        self.slept = 0.0                    # seconds asleep, less those awake
        first = usage(process)
        self.before = first.seconds if first else 0.0

    def rest(self) -> None:
        """It had nothing to do until now."""
        self.slept, self.seen_at = 0.0, time.monotonic()

    def __call__(self, may_sleep: bool = False) -> None:
        now = time.monotonic()
        if self.process.popen.poll() is not None:
            raise Idle("crashed")
        if now < self.seen_at + LOOK:
            return
        since, self.seen_at = now - self.seen_at, now
        seen = usage(self.process)
        if seen is not None:
            if seen.memory > MEMORY:
                raise Idle("out of memory")
            if seen.seconds - self.before > self.limit or seen.processes > PROCESSES:
                raise Idle("out of time")
            self.slept = max(0.0, self.slept + (since if seen.asleep else -since))
            if self.slept > STILL and not may_sleep:
                raise Idle("asleep")
        if now - self.begun > max(600.0, LAST_RESORT * self.limit):
            raise Idle("out of time")


# --- one exercise ---------------------------------------------------------------------------------

SAID = {
    "out of time": ("endless",
                    "It had used up its {limit:g} seconds of computing, and was stopped. Does a loop in it "
                    "ever end?"),
    "asleep": ("endless", "It waited for something that never came, and was stopped."),
    "out of memory": ("out of memory", "It asked for more memory than there is, and was stopped."),
    "broken off": ("crashed",
                   "The code that it was handed could not stand what it was given: too much, or too large."),
    "crashed": ("crashed", "Its process came to an end before it gave an answer."),
    "forged": ("forged", "What its process sent is no answer to the input that was given."),
}


# what a driver may say in place of a result (grader/inside)
COMPLAINTS = {"stub", "raised", "endless", "None", "type", "dtype", "shape", "length", "not finite",
              "autograd", "no gradient", "backward called", "input changed", "not defined"}


class Conversation:
    """The exchange on one exercise: an input goes in, an answer comes out, one after another."""

    def __init__(self, worker: Worker, check: Check, cells: list[str], seed: int, limit: float):
        self.worker, self.check, self.cells, self.seed, self.limit = worker, check, cells, seed, limit
        self.flags: list[str] = []
        self.seconds = 0.0
        self.relays = 0
        self.over = False               # nothing more is asked

    def mark(self) -> Mark:
        """Ask for all inputs, and judge what came back."""
        check, trials = self.check, plan(self.check, self.seed)
        order = list(range(len(trials)))
        if check.shuffled:
            order = np.random.default_rng(self.seed).permutation(len(trials)).tolist()
        answers: dict[int, dict | Complaint] = {}
        starts = 0
        with planted_code(self.worker.isolation, check) as code:
            while len(answers) < len(trials):
                left = [n for n in order if n not in answers]
                starts += 1
                why = self.ask(left, trials, answers, code)
                if why is None:
                    continue
                n = next(n for n in order if n not in answers)
                answers[n] = why
                plain = check.planted is not None or trials[n].case is check.cases[0]
                if plain or starts > RESTARTS or self.over:     # without the plain case nothing counts
                    answers |= {n: why for n in order if n not in answers}
        return self.judged(trials, [answers[n] for n in range(len(trials))])

    def ask(self, left: list[int], trials: list[Trial], answers: dict,
            code: Planted | None) -> Complaint | None:
        """Ask a fresh process for the inputs that are left, in order; what ended it, or None."""
        check = self.check
        spec = {"cells": self.cells, "function": check.function, "arguments": list(check.arguments),
                "driver": f"{check.call.__module__}:{check.call.__name__}", "planted": code is not None,
                "without": [list(each.names) for each in check.without], "seconds": self.limit}
        pipe = self.worker.fork(spec)
        patience = self.patience = Patience(self.worker.process, 2 * self.limit + 5)

        def idle():
            patience()
            told = self.worker.ended()
            if told is not None:
                raise Ended(told)

        pipe.idle = idle
        try:
            flags = self.first(pipe)
            if isinstance(flags, Complaint):
                answers.update((n, flags) for n in left)
                return None
            self.flags += flags
            for n in left:
                if pipe.pending():
                    raise Bad("an answer to no input")
                answers[n] = self.one(pipe, trials[n], code)
            return None
        except Ended as ended:
            return self.told(ended.told)
        except Gone:
            try:
                return self.told(self.wait_for_end(patience))
            except Idle as what:
                return self.given_up(str(what))
        except Idle as what:
            return self.given_up(str(what))
        except Bad:
            self.over = True
            return self.complaint("forged")
        finally:
            if code:
                code.close()
            self.seconds += float(self.worker.settle(pipe).get("seconds", 0.0)) if pipe else 0.0

    def given_up(self, what: str) -> Complaint:
        """Nothing more is asked, and the sandbox is ended."""
        self.over = True
        self.worker.stop()
        return self.complaint(what)

    def wait_for_end(self, patience: Patience) -> dict:
        """What became of a process that has closed its line."""
        while (told := self.worker.ended()) is None:
            time.sleep(0.002)
            patience()
        return told

    def first(self, pipe: Pipe) -> list[str] | Complaint:
        """What a process says once its cells have run: flags, or that there is no function."""
        kind, before = pipe.receive()       # sent before any of the student's code runs
        if kind != READY:
            raise Bad("not ready")
        self.flags += self.seen(before)
        kind, after = pipe.receive()
        if kind == COMPLAINT:
            return self.as_complaint(after)
        if kind != READY:
            raise Bad("not ready")
        return self.seen(after)

    def seen(self, told: object) -> list[str]:
        """Flags from lines and names: the names must be known ones, so that nobody writes to the teacher."""
        if not isinstance(told, list) or not all(isinstance(x, tuple) and len(x) == 2 for x in told):
            raise Bad("no flags")
        forbidden = {name for each in self.check.without for name in each.names}
        flags = []
        for line, name in told[:20]:
            place = f"line {line}: " if type(line) is int and 0 < line < 10 ** 5 else ""
            if isinstance(name, str) and name in forbidden:
                flags.append(f"{place}it uses {name}, which the task asks to do without")
            elif isinstance(name, str) and name in PRYING:
                flags.append(f"{place}it looks behind what it is given, with {name}")
        return flags

    def one(self, pipe: Pipe, trial: Trial, code: Planted | None) -> dict | Complaint:
        """The answer to one input."""
        inputs = dict(trial.inputs)
        if code:
            code.open(int(inputs.pop("which")), 2 * self.limit)
        self.patience.rest()
        pipe.send(INPUT, inputs)
        while True:
            kind, raw = pipe.receive_raw()
            if kind == RELAY and code:
                self.relays += 1
                if self.relays > RELAYS:
                    self.over = True
                    return self.complaint("out of time")
                back = code.relay(raw, lambda: self.patience(may_sleep=True))
                self.patience.rest()
                pipe.send_raw(RELAY, back)
                continue
            value = decode(raw)
            if kind == COMPLAINT:
                return self.as_complaint(value)
            if kind != ANSWER:
                raise Bad("no answer")
            return arrays(value)

    def told(self, told: dict) -> Complaint:
        """The complaint on a process that ended: killed by the clock, or by something else."""
        if told.get("code") in (-24, -9) and float(told.get("seconds", 0)) >= self.limit - 0.5:
            self.over = True
            return self.complaint("out of time")
        return self.complaint("crashed")

    def complaint(self, what: str) -> Complaint:
        """One of SAID, filled in."""
        name, sentence = SAID.get(what, SAID["crashed"])
        return Complaint(name, sentence.format(limit=self.limit))

    def as_complaint(self, value: object) -> Complaint:
        """What a process said in place of a result. It is the student's: only its words are taken."""
        if not isinstance(value, tuple) or len(value) != 2 or not all(isinstance(w, str) for w in value):
            raise Bad("no complaint")
        return Complaint(value[0] if value[0] in COMPLAINTS else "raised", clean(value[1], 2000))

    def judged(self, trials: list[Trial], answers: list[dict | Complaint]) -> Mark:
        """The mark on what came back."""
        check = self.check
        try:
            verdict = judge(check, trials, answers, {})
            points = worth(check, trials, verdict, answers)
        except Exception as error:      # arrays of strange shapes, in a law of some check
            said = f"{check.name}: not yet. What it returns cannot be judged."
            verdict = Verdict(False, "strange", said, ())
            self.flags.append(f"judging raised {type(error).__name__}")
            points = 0.0
        if self.over and verdict.reason == "endless":
            verdict = replace(verdict, reason="out of time")
        placed = {flag.partition(": ")[2] for flag in self.flags}
        flags = tuple(dict.fromkeys(flag for flag in self.flags if flag not in placed))
        return Mark(check.name, points, clean(verdict.reason, 120), clean(verdict.text, TEXT), verdict.held,
                    flags, self.seed, round(self.seconds, 3))


class Ended(Exception):
    """Raised where the process that is waited for has ended: Ended(what is told of it)."""

    def __init__(self, told: dict):
        self.told = told


def worth(check: Check, trials: list[Trial], verdict: Verdict, answers: list) -> float:
    """Points from 0 to 1: the share of cases that held, and 0 unless the plain one did, which is the first.

    Of a test that is to find planted code: the share of wrong code that is found, and 0 unless all right code
    passes.
    """
    if verdict.passed:
        return 1.0
    held = list(verdict.held)
    if check.planted is not None:
        right = {id(t.case) for t in trials if bool(check.expected(fields(t)))}
        if not all(h for h, case in zip(held, check.cases) if id(case) in right):
            return 0.0
        held = [h for h, case in zip(held, check.cases) if id(case) not in right]
    elif not held or not held[0]:
        return 0.0
    return round(sum(held) / len(held), 4) if held else 0.0


def fields(trial: Trial):
    """A trial's inputs by name."""
    return SimpleNamespace(**trial.inputs)


def arrays(value: object) -> dict:
    """What came back as an answer; Bad where it is none."""
    if not isinstance(value, dict) or not isinstance(value.get("result"), np.ndarray):
        raise Bad("no arrays")
    for name, array in value.items():
        fits = isinstance(name, str) and isinstance(array, np.ndarray) and array.dtype.kind in "biuf"
        if not fits or array.size > NUMBERS:
            raise Bad("no array of numbers")
    return value


def clean(text: str, most: int) -> str:
    """Text of a stranger's for a page or a table: no control characters, and not for ever."""
    text = text[:most + 1]
    text = "".join(c if c.isprintable() or c == "\n" else " " for c in text)
    return text if len(text) <= most else text[:most] + " …"


# --- planted code ---------------------------------------------------------------------------------


class Planted:
    """The process in which planted code runs. It is kept from submission to submission: no student's code
    runs in it, and each exercise gets a fork of its own."""

    def __init__(self, isolation: Isolation):
        self.isolation = isolation
        self.process: Process | None = None
        self.line: Pipe | None = None
        self.name = ""
        self.running = False
        self.taken = False

    def begin(self, name: str) -> None:
        """The next code is of this exercise."""
        self.name = name
        if self.process is None or self.process.popen.poll() is not None:
            self.stop()
            (their_read, our_write), (our_read, their_write) = os.pipe(), os.pipe()
            try:
                self.process = start(self.isolation, "{course}/grader/outside/answering.py", "{course}",
                                     str(their_read), str(their_write), fds=(their_read, their_write),
                                     sees=ALL)
            finally:
                os.close(their_read)
                os.close(their_write)
            self.line = Pipe(our_read, our_write, idle=None)
            self.line.idle = Patience(self.process, 120.0)
            try:
                kind, _ = self.line.receive()
                assert kind == READY
            except (Gone, Bad, Idle, AssertionError) as error:
                self.stop()
                raise Failed(f"the process for planted code did not get ready ({error})") from None

    def open(self, which: int, limit: float) -> None:
        """From here on, calls go to code number which; limit is CPU seconds for all that it does."""
        for attempt in (1, 2):              # it may have been ended by what the code before was given
            try:
                if not self.running:
                    self.begin(self.name)
                    self.line.send(RUN, (self.name, limit))
                    self.running = True
                self.line.idle = self.patience = Patience(self.process, limit + 5)
                return self.line.send(OPEN, which)
            except (Gone, Idle):
                self.stop()
        raise Failed("the process for planted code does not take orders")

    def relay(self, raw: bytes, meanwhile: Callable[[], None]) -> bytes:
        """Hand on a call or a reply, and give back what comes: a reply or a call.

        meanwhile keeps an eye on the student's own sandbox, and may raise Idle.
        """
        def idle():
            meanwhile()
            try:
                self.patience()
            except Idle:
                raise Gone("planted code takes too long") from None

        self.line.idle = idle
        try:
            self.line.send_raw(RELAY, raw)
            kind, back = self.line.receive_raw()
        except (Gone, Bad):
            self.stop()
            kind = None
        except Idle:
            self.stop()
            raise
        if kind == RELAY:
            return back
        self.running = False
        raise Idle("broken off")

    def close(self) -> None:
        """End the fork of this exercise."""
        if self.running and self.process is not None:
            try:
                self.line.idle = Patience(self.process, 10.0)
                self.line.send(ENDED, None)
                while self.line.receive_raw()[0] != ENDED:
                    pass
            except (Gone, Bad, Idle):
                self.stop()
        self.running = False

    def stop(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.kill()
        if self.line is not None:
            self.line.close()
        self.process, self.line, self.running = None, None, False


_own = threading.local()


@contextmanager
def planted_code(isolation: Isolation, check: Check) -> Callable:
    """The process for a check's planted code, one for each thread; None where there is none."""
    if check.planted is None:
        yield None
        return
    planted = getattr(_own, "planted", None)
    if planted is None or planted.isolation != isolation or planted.pid != os.getpid():
        planted = _own.planted = Planted(isolation)
        planted.pid = os.getpid()
    planted.begin(check.name)
    try:
        yield planted
    finally:
        planted.close()


def finish() -> None:
    """End what is kept between submissions; call it when there are no more."""
    planted = getattr(_own, "planted", None)
    if planted is not None and planted.pid == os.getpid():
        planted.stop()
    _own.planted = None
