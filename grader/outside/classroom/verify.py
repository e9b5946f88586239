"""Proves the checks: solutions pass in the sandbox, wrong answers fail by name, other right ones pass.

The wrong and the right answers are the tables of tests/grader, so this needs a clone of the course with its
development requirements. They are ours, and run in this process.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

from tqdm import tqdm

from .. import CHAPTERS, notebook
from ..judge import Check, Verdict, judge, plan
from . import marking
from .plain import expect
from .records import GRADER, Settings, checks_digest, notebook_name
from .run import say_isolation
from .worker import graded

TABLES = GRADER.parent / "tests" / "grader"
UNNAMED = {"a law", "the numbers"}      # reasons that a table may have in a law's words


@dataclass
class Proof:
    """What was tried of one check, and what did not hold."""

    check: Check
    tried: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def note(self, kind: str, holds: bool, fault: str) -> None:
        """One more trial of a kind."""
        self.tried[kind] = self.tried.get(kind, 0) + 1
        if not holds:
            self.faults.append(f"{self.check.name}: {fault}")


def verify(chapters: tuple[int, ...], only: tuple[str, ...], unsafe: bool, seeds: int) -> int:
    """Try all of it and print a line a check; how many faults were found."""
    expect((GRADER.parent / "solutions").is_dir(), "this copy", GRADER.parent,
           "it has no solutions. Run this from a clone of the course")
    isolation = say_isolation(unsafe)
    wanted = [c for n in chapters for c in CHAPTERS[n] if not only or c.name in only]
    proofs, missing = {check.name: Proof(check) for check in wanted}, []
    with tqdm(total=len(wanted), desc="verifying", unit="check", file=sys.stderr) as bar:
        for chapter in chapters:
            own = {c.name: proofs[c.name] for c in CHAPTERS[chapter] if c.name in proofs}
            if not own:
                continue
            in_sandbox(chapter, own, isolation, seeds)
            try:
                by_tables(tables_of(chapter), own)
            except ImportError as error:
                missing.append(f"chapter {chapter}: {error}")
            bar.update(len(own))
    marking.finish()
    print(f"{'exercise':<24}{'solution':>9}{'stub':>6}{'wrong':>7}{'right':>7}  faults")
    for proof in proofs.values():
        print(f"{proof.check.name:<24}" + "".join(f"{proof.tried.get(kind, 0):>{width}}" for kind, width in (
            ("solution", 9), ("stub", 6), ("wrong", 7), ("right", 7))) + f"  {len(proof.faults) or 'none'}")
    faults = [fault for proof in proofs.values() for fault in proof.faults]
    for line in faults:
        print(f"✗ {line}")
    for line in missing:
        print(
            f"Not tried: the wrong and right answers of {line}. "
            "They need a clone of the course with `make setup`."
        )
    print(f"{len(proofs)} checks, {sum(sum(p.tried.values()) for p in proofs.values())} answers tried, "
          f"{len(faults)} faults.")
    return len(faults)


def in_sandbox(chapter: int, proofs: dict[str, Proof], isolation: marking.Isolation, seeds: int) -> None:
    """The chapter's solutions get every point, and its stubs none, as students' notebooks do."""
    name, names = notebook_name(chapter), tuple(proofs)
    for folder, kind in (("solutions", "solution"), ("exercises", "stub")):
        for seed in range(seeds if kind == "solution" else 1):
            settings = Settings(chapter, seed, names, None, checks_digest(chapter))
            with tempfile.TemporaryDirectory() as temporary:
                path = Path(temporary) / name
                path.write_bytes((GRADER.parent / folder / name).read_bytes())
                record, _ = graded(kind, path, "", settings, isolation)
            for mark in record.marks:
                holds = mark.points == (1 if kind == "solution" else 0)
                holds = holds and mark.reason == ("right" if kind == "solution" else "stub")
                said = " ".join(mark.text.split())
                proofs[mark.exercise].note(
                    kind, holds, f"the {kind} gets {mark.points:g} ({mark.reason}), seed {seed}: {said}"
                )


def tables_of(chapter: int) -> ModuleType:
    """The test file of a chapter, with the tables WRONG and RIGHT; ImportError where it cannot be had."""
    if str(TABLES) not in sys.path:
        sys.path.insert(0, str(TABLES))
    name = f"test_chapter{chapter:02d}"
    module = importlib.import_module(name)
    if Path(module.__file__ or "").parent != TABLES:
        raise ImportError(f"another {name} was found, {module.__file__}")
    return module


def by_tables(tables: ModuleType, proofs: dict[str, Proof]) -> None:
    """Each wrong answer fails with the reason that the table gives, and each right one passes."""
    for name, proof in proofs.items():
        for n, (reason, function) in enumerate(tables.WRONG.get(name, ())):
            said = verdict(proof.check, function)
            proof.note("wrong", not said.passed and named(reason, said),
                       f"wrong answer {n} should fail by “{reason}”, and is told “{said.reason}”")
        for n, function in enumerate(tables.RIGHT.get(name, ())):
            said = verdict(proof.check, function)
            proof.note("right", said.passed, f"right answer {n} fails: {said.reason}")
        for kind, enough in (("wrong", 5), ("right", 2)):
            if proof.tried.get(kind, 0) < enough:
                proof.faults.append(f"{name}: {proof.tried.get(kind, 0)} {kind} answers; {enough} are wanted")


def verdict(check: Check, function: Callable) -> Verdict:
    """What is said of a function in this process."""
    trials = plan(check)
    return judge(check, trials, notebook.ask(check, trials, function, 0))


def named(reason: str, said: Verdict) -> bool:
    """True if a verdict gives this reason; a law may be named by its words."""
    return (reason == said.reason or {reason, said.reason} <= UNNAMED
            or (said.reason in UNNAMED and reason in " ".join(said.text.split())))
