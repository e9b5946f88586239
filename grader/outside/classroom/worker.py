"""A process of the pool: reads a job a line, marks one submission, answers a line. JSON both ways.

It is the trusted side of a mark: it knows the answers, and starts the sandbox in which strangers' code runs.
It ends when whoever started it does.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import stat
import sys
import traceback
from hashlib import sha256
from pathlib import Path

from . import marking
from .records import Given, Record, Settings, nothing_read, settings_from_json, to_json

LARGEST = 100_000_000       # bytes of a notebook that are read for its digest


def digest(path: Path) -> str:
    """The digest of a regular file, opened without following links or waiting; "" where it cannot be had."""
    try:
        with open(path, "rb", opener=lambda p, f: os.open(p, f | getattr(os, "O_NOFOLLOW", 0)
                                                          | getattr(os, "O_NONBLOCK", 0))) as file:
            return (
                sha256(file.read(LARGEST)).hexdigest()
                if stat.S_ISREG(os.fstat(file.fileno()).st_mode)
                else ""
            )
    except OSError:
        return ""


def graded(id: str, path: Path | None, trouble: str, settings: Settings, isolation) -> tuple[Record, float]:
    """The record of one submission and the CPU seconds that its code took."""
    seed = marking.seed_of(settings.seed, id)
    if path is None:
        return nothing_read(settings, id, seed, trouble), 0.0
    known = digest(path)
    try:
        submission = marking.read(path, settings.chapter)
    except marking.Broken as broken:
        return nothing_read(settings, id, seed, str(broken).rstrip("."), known), 0.0
    except OSError as error:            # it was there when the class was listed
        return nothing_read(settings, id, seed, f"it cannot be opened: {error.strerror}", known), 0.0
    marks = marking.mark(submission, settings.chapter, seed, isolation, settings.timeout,
                         list(settings.only) or None)
    kept = tuple(Given(m.exercise, round(float(m.points), 4), m.reason, m.text, tuple(map(bool, m.held)),
                       tuple(m.flags)) for m in marks)
    record = Record(id, seed, known, "", tuple(submission.warnings), kept)
    return record, sum(m.seconds for m in marks)


def end_with(parent: int) -> None:
    """Have the system end this process when the pool's does, however that ends (Linux); its sandboxes too."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)      # PR_SET_PDEATHSIG
        if os.getppid() != parent:
            sys.exit(0)


def main() -> None:
    """Answer jobs until the input ends. What is printed meanwhile goes to stderr."""
    start = json.loads(sys.stdin.readline())
    end_with(start["parent"])
    answers = os.fdopen(os.dup(1), "w", encoding="ascii", buffering=1)
    os.dup2(2, 1)
    settings, isolation = settings_from_json(start["settings"]), marking.isolation(start["unsafe"])
    answers.write("{}\n")
    try:
        for line in sys.stdin:
            job = json.loads(line)
            path = Path(job["path"]) if job["path"] is not None else None
            try:
                record, seconds = graded(job["id"], path, job["trouble"], settings, isolation)
                answer = {"record": to_json(record), "seconds": round(seconds, 3)}
            except Exception:
                answer = {"error": traceback.format_exc(limit=-4)}
            answers.write(json.dumps(answer) + "\n")
    finally:
        marking.finish()


if __name__ == "__main__":
    main()
