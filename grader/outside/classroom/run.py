"""A run: marks a class in a pool, keeps each submission in the journal, writes tables and pages."""

from __future__ import annotations

import os
import secrets
import signal
import sys
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from . import marking
from .collect import Found, class_digest, collect, in_shard
from .journal import FILE, Journal, header_of, read_header
from .pages import SUMMARY, write_pages
from .plain import Refused, expect, plain
from .pool import Pool
from .records import Record, Settings, checks_digest, notebook_name
from .tables import CSV, JSON, Grades, grades_csv, grades_json, write
from .worker import digest


@dataclass(frozen=True)
class Wish:
    """What `grade` was asked for; seed None: drawn anew, or the one of the run that is resumed."""

    places: tuple[Path, ...]
    chapter: int
    out: Path
    seed: int | None = None
    only: tuple[str, ...] = ()
    timeout: float | None = None
    jobs: int = 1
    resume: bool = False
    unsafe: bool = False
    shard: tuple[int, int] | None = None


class Interrupted(Exception):
    """The run was ended from outside by Ctrl-C, or by a scheduler's SIGTERM."""


def grade(wish: Wish) -> int:
    """Mark, write and tell; returns how many submissions the grader itself broke on."""
    grades, failed = marked(wish)
    write_out(grades, wish.out)
    tell(grades, wish.out)
    return failed


def marked(wish: Wish) -> tuple[Grades, int]:
    """The grades of the class, each mark kept in OUT's journal; and on how many the grader itself broke."""
    expect(not wish.shard or wish.seed is not None, "--seed", "not given",
           "shards need the same one: give each the same number, such as --seed 7")
    found = collect(wish.places, notebook_name(wish.chapter))
    mine = [f for f in found if in_shard(f.id, wish.shard)]
    isolation = say_isolation(wish.unsafe)
    before = ready_folder(wish)
    seed = wish.seed if wish.seed is not None else before.get("seed")
    seed = secrets.randbelow(2**53) if seed is None else seed
    settings = Settings(wish.chapter, seed, wish.only, wish.timeout, checks_digest(wish.chapter))
    journal = Journal(wish.out, header_of(settings, isolation.kind == "none", wish.shard))
    try:
        failed = mark_all(mine, settings, wish, journal)
    finally:
        journal.close()
    for id, why in failed:
        print(f"grader: it broke on {plain(id)}; its marks are 0 until you run this again with --resume:\n"
              f"{plain(why, keep=chr(10)).rstrip()}", file=sys.stderr)
    records = tuple(journal.records[f.id] for f in mine)
    return Grades(settings, class_digest(f.id for f in found), isolation.kind == "none", records), len(failed)


def mark_all(
    mine: Sequence[Found], settings: Settings, wish: Wish, journal: Journal
) -> list[tuple[str, str]]:
    """Mark what the journal does not hold yet; (id, why) of what the grader broke on."""
    left = [f for f in mine if f.id not in journal.records or is_another(f, journal.records[f.id])]
    done_before, again = len(mine) - len(left), sum(f.id in journal.records for f in left)
    if done_before or again:
        print(
            f"{done_before} of {len(mine)} were graded before and are kept"
            + (f"; {again} were handed in anew since, and are graded again." if again else "."),
            file=sys.stderr,
        )
    failed: list[tuple[str, str]] = []
    try:
        with (ended_kindly(), Pool(wish.jobs, settings, wish.unsafe) as pool,
              tqdm(total=len(mine), initial=done_before, desc="grading", unit="submission", file=sys.stderr,
                   mininterval=0.5 if sys.stderr.isatty() else 30, dynamic_ncols=sys.stderr.isatty()) as bar):
            for done in pool.run(left):
                journal.add(done.record, done.seconds, bool(done.failed))
                if done.failed:
                    failed.append((done.record.id, done.failed))
                bar.update()
    except (KeyboardInterrupt, Interrupted):
        kept = sum(f.id in journal.records for f in mine)           # none is lost, none is graded twice
        raise Interrupted(f"stopped: {kept} of {len(mine)} submissions are graded and kept in "
                          f"{wish.out / FILE}. Run the same command with --resume to go on.") from None
    return failed


def is_another(found: Found, record: Record) -> bool:
    """True where a submission is no longer what was graded."""
    return (digest(found.path) if found.path else "") != record.sha256


@contextmanager
def ended_kindly():
    """SIGTERM, which schedulers send, ends a run as Ctrl-C does."""
    def stop(*_):
        raise Interrupted
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def say_isolation(unsafe: bool) -> marking.Isolation:
    """Say what isolation is in force. Refused where there is none and nobody said --unsafe."""
    isolation = marking.isolation(unsafe)
    expect(
        not unsafe or os.name == "posix",
        "--unsafe",
        "given",
        "on Windows nothing can be run even so: use a Linux container or WSL, as grader/README.md says",
    )
    if unsafe:
        print(
            "grader: WARNING: --unsafe. The submissions' code runs as you, with your files and your network. "
            "It can read the answers, change its own marks and delete your files.",
            file=sys.stderr,
        )
        return isolation
    for line in isolation.missing:
        print(f"grader: {line}", file=sys.stderr)
    if isolation.kind == "none":
        raise Refused(
            "no isolation can be had here, so nothing was run. The lines above say what is missing. "
            "Only for notebooks that you trust: --unsafe"
        )
    print(f"Isolation: {isolation.kind}.", *isolation.holds, sep="\n  ", file=sys.stderr)
    return isolation


def ready_folder(wish: Wish) -> dict:
    """Make --out; the settings of the run that it holds, {} for none. Refused if it holds other things."""
    out = wish.out
    for place in wish.places:
        inside = os.path.isdir(place) and Path(os.path.realpath(out)).is_relative_to(os.path.realpath(place))
        expect(not inside, "--out", out, f"it lies in {place}, and would be taken for a submission; "
                                         "name a folder outside")
    make_folder(out, "--out")
    before = read_header(out)
    if before is None:
        expect(not any(out.iterdir()), "--out", out,
               "it holds other files. Name a new folder, or an empty one")
        return {}
    expect(
        wish.resume,
        "--out",
        out,
        "it holds another run. Give --resume to go on with it, or name a new folder",
    )
    return before


def make_folder(folder: Path, argument: str) -> None:
    """A folder that can be written to, made if it is not there; Refused if it cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise Refused(f"{argument} is {folder}: it is a file, or lies in one. Name a folder") from None
    except OSError as error:
        raise Refused(f"{argument} is {folder}: it cannot be made ({error.strerror}). "
                      "Name a folder that you may write to") from None
    expect(os.access(folder, os.W_OK), argument, folder, "it cannot be written to. Name another folder")


def write_out(grades: Grades, out: Path) -> None:
    """grades.csv, grades.json, a page for each student and the summary."""
    write_pages(grades, out)
    write(out / CSV, grades_csv(grades))
    write(out / JSON, grades_json(grades))


def counted(n: int, noun: str) -> str:
    """1 submission, 2 submissions."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def tell(grades: Grades, out: Path) -> None:
    """What a run ends with."""
    records = grades.records
    mean = sum(r.total for r in records) / len(records) if records else 0.0
    troubled, flagged = sum(bool(r.trouble) for r in records), sum(bool(r.flags) for r in records)
    print(
        f"{counted(len(records), 'submission')}, {mean:.2f} of {grades.out_of} points in the mean; "
        f"{troubled} could not be read, {flagged} flagged. Seed {grades.settings.seed}."
    )
    print(f"Read {out / SUMMARY}; the marks are in {out / CSV} and {out / JSON}.")
