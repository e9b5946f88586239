"""A pool of marking processes: hands each a submission at a time and yields what comes back.

A process that dies or hangs is replaced, and its submission tried once more: one submission stops no batch.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from .collect import Found
from .records import Record, Settings, from_json, nothing_read

ROOT = Path(__file__).resolve().parents[3]
PATIENCE = 3600.0       # wall seconds for one submission: the sandbox's own limits end long before


class NotReady(RuntimeError):
    """Raised where the processes that mark cannot be started."""


@dataclass
class Done:
    """One submission's record; failed says why the grader itself broke on it, or is empty."""

    record: Record
    seconds: float = 0.0            # of CPU, that the student's code took
    failed: str = ""


@dataclass
class Worker:
    """One marking process and what it has in hand."""

    process: subprocess.Popen
    begun: float
    job: Found | None = None
    ready: bool = False
    read: bytearray = field(default_factory=bytearray)


class Pool:
    """Marking processes, to be used in a `with`: they are ended on the way out, however that is."""

    def __init__(self, jobs: int, settings: Settings, unsafe: bool) -> None:
        self.settings, self.unsafe = settings, unsafe
        self.selector = selectors.DefaultSelector()
        self.workers: list[Worker] = []
        self.jobs = jobs

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_) -> None:
        self.end(*self.workers)
        self.selector.close()

    def start(self) -> None:
        """One more process."""
        command = [sys.executable, "-P", "-m", "grader.outside.classroom.worker"]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(
            [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]), "PYTHONUTF8": "1"}
        environment.setdefault("OMP_NUM_THREADS", "1")
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment,
                                   start_new_session=True)
        worker = Worker(process, time.monotonic())
        first = {"parent": os.getpid(), "settings": asdict(self.settings), "unsafe": self.unsafe}
        self.workers.append(worker)
        self.selector.register(process.stdout, selectors.EVENT_READ, worker)
        self.send(worker, first)

    def send(self, worker: Worker, message: dict) -> None:
        """One line to a process; where it is dead, that is seen when it is read from."""
        with suppress(BrokenPipeError):
            worker.process.stdin.write(json.dumps(message).encode("ascii") + b"\n")
            worker.process.stdin.flush()

    def end(self, *workers: Worker) -> None:
        """End processes with all that they started: asked first, and killed where that does not help."""
        for worker in workers:
            with suppress(KeyError):
                self.selector.unregister(worker.process.stdout)
            self.workers.remove(worker)
            worker.process.terminate()
        for worker in workers:
            with suppress(subprocess.TimeoutExpired):
                worker.process.wait(timeout=5)
            with suppress(ProcessLookupError, PermissionError, AttributeError):
                os.killpg(worker.process.pid, signal.SIGKILL)
            worker.process.kill()
            worker.process.wait()
            with suppress(OSError):
                worker.process.stdin.close()
            worker.process.stdout.close()

    def run(self, found: Iterable[Found]) -> Iterator[Done]:
        """Mark all; what is done comes in the order in which it is done."""
        left, tries = deque(found), {}
        for _ in range(min(self.jobs, len(left))):
            self.start()
        while left or any(worker.job for worker in self.workers):
            for worker in self.workers:
                if worker.ready and worker.job is None and left:
                    self.give(worker, left.popleft())
            for worker, line in self.wait():
                if line is None:
                    yield from self.lost(worker, left, tries)
                elif not worker.ready:
                    worker.ready = True
                else:
                    yield self.came(worker, line)

    def give(self, worker: Worker, job: Found) -> None:
        """One submission to one process."""
        worker.job, worker.begun = job, time.monotonic()
        self.send(worker, {"id": job.id, "path": str(job.path) if job.path else None, "trouble": job.trouble})

    def wait(self) -> Iterator[tuple[Worker, dict | None]]:
        """(process, its next line) as they come; None for the line where the process is gone or hangs."""
        for key, _ in self.selector.select(timeout=5):
            worker = key.data
            content = os.read(worker.process.stdout.fileno(), 1 << 20)
            if not content:
                yield worker, None
                continue
            worker.read += content
            if worker.read.endswith(b"\n"):             # one line at a time: each answers a job
                line, worker.read = bytes(worker.read), bytearray()
                yield worker, json.loads(line)
        for worker in list(self.workers):
            if (worker.job or not worker.ready) and time.monotonic() - worker.begun > PATIENCE:
                yield worker, None

    def came(self, worker: Worker, line: dict) -> Done:
        """What a process answered."""
        job, worker.job = worker.job, None
        if "error" in line:
            return self.broke(job, line["error"])
        return Done(from_json(line["record"]), line["seconds"])

    def lost(self, worker: Worker, left: deque, tries: dict) -> Iterator[Done]:
        """A process is gone: another takes its place. Its submission is put back once, then given up."""
        job, ready = worker.job, worker.ready
        self.end(worker)
        if not ready:
            raise NotReady("a marking process ended before it was ready. What it printed is above")
        self.start()
        if job is None:
            return
        tries[job.id] = tries.get(job.id, 0) + 1
        if tries[job.id] > 1:
            yield self.broke(job, "the process that marks ended twice on this submission")
        else:
            left.append(job)

    def broke(self, job: Found, why: str) -> Done:
        """The record of a submission on which the grader itself broke."""
        from .marking import seed_of
        seed = seed_of(self.settings.seed, job.id)
        return Done(
            nothing_read(self.settings, job.id, seed, "the grader broke on it; tell your teacher"), 0.0, why
        )
