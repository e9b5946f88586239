"""Made-up classes for the tests of the class's tools: notebooks to hand in, and marks without a sandbox."""

from __future__ import annotations

import json
import re
from pathlib import Path

from grader.outside import CHAPTERS
from grader.outside.classroom import pool, run
from grader.outside.classroom.records import Given, Record, nothing_read
from grader.outside.mark import seed_of
from grader.outside.sandbox import Isolation, available

ROOT = Path(__file__).resolve().parents[2]
UNSAFE = ["--unsafe"] if available().kind == "none" else []     # where there is no sandbox, these tests trust
SOLVED = json.loads((ROOT / "solutions" / "13_dpo.ipynb").read_text("utf-8"))
STUBS = json.loads((ROOT / "exercises" / "13_dpo.ipynb").read_text("utf-8"))
EXERCISES = [check.name for check in CHAPTERS[13]]


def source(cell):
    """A cell's text, whether it is kept as lines or as one."""
    return "".join(cell["source"])


def solved(**instead):
    """The solutions of chapter 13. instead: an exercise, with _ for -, to what its cell has instead."""
    notebook = json.loads(json.dumps(SOLVED))
    for cell in notebook["cells"]:
        name = re.match(r"# exercise: (\S+)\n", source(cell))
        if name and name[1].replace("-", "_") in instead:
            cell["source"] = f"# exercise: {name[1]}\n" + instead[name[1].replace("-", "_")]
    return notebook


def save(path, notebook):
    """Write a notebook; the folders above it are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(notebook), "utf-8")
    return path


def fake_marks(chapter, id, seed, only=()):
    """Marks that hang on the seed alone."""
    given = []
    for n, check in enumerate(CHAPTERS[chapter]):
        if not only or check.name in only:
            held = tuple((seed >> (n + k)) & 1 == 1 for k in range(len(check.cases)))
            points = round(sum(held) / len(held), 4) if held[0] else 0.0
            belief = check.misconceptions[seed % len(check.misconceptions)].name
            flags = ("calls minillm.methods at line 3",) if seed % 7 == 0 else ()
            given.append(
                Given(
                    check.name, points, "right" if points == 1 else belief, f"{check.name}: {id}", held, flags
                )
            )
    return tuple(given)


class FakePool:
    """Stands for the pool: made-up marks at once. In `broken`, the ids on which the grader breaks."""

    broken: set[str] = set()
    graded: list[str] = []

    def __init__(self, jobs, settings, unsafe):
        self.settings = settings

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def run(self, found):
        for f in reversed(list(found)):                 # in another order than they are written in
            seed = seed_of(self.settings.seed, f.id)
            FakePool.graded.append(f.id)
            if f.id in self.broken:
                yield pool.Done(
                    nothing_read(self.settings, f.id, seed, "the grader broke on it"), 0.0, "made up"
                )
            elif f.path is None:
                yield pool.Done(nothing_read(self.settings, f.id, seed, f.trouble))
            else:
                marks = fake_marks(self.settings.chapter, f.id, seed, self.settings.only)
                yield pool.Done(Record(f.id, seed, run.digest(f.path), "", (), marks), 0.5)


def use_fakes(monkeypatch):
    """Have `grade` take made-up marks, and believe that there is a sandbox."""
    monkeypatch.setattr(run, "Pool", FakePool)
    monkeypatch.setattr(run.marking, "isolation", lambda unsafe: Isolation("none" if unsafe else "root"))
    monkeypatch.setattr(FakePool, "broken", set())
    monkeypatch.setattr(FakePool, "graded", [])


def files_under(folder):
    """name -> bytes of all files under a folder."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
