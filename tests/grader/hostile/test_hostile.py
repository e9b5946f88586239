"""Nothing gets marks for what it did not solve: each idea alone, in a sandbox that honest cells share."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import ideas
from classroom import (CHAPTER, EXERCISES, FUNCTIONS, HONEST, ISOLATION, ROOT, SEED, marked, needs_isolation,
                       running)
from grader.outside import mark as marking
from grader.outside.mark import Worker, finish, mark_one, seed_of
from grader.outside.notebook import ALL
from grader.outside.submission import Submission

pytestmark = needs_isolation
PLACES = EXERCISES[:4]
PLANTED = EXERCISES[4]
NAMES = list(ideas.IN_CELLS)


@pytest.fixture(scope="module")
def worker():
    """One sandbox for all: it is started anew whenever an idea has harmed it."""
    still, marking.STILL = marking.STILL, 1.5
    with Worker(ISOLATION, CHAPTER, 80) as worker:
        yield worker
    finish()
    marking.STILL = still
    assert running() == []


def one(worker, exercise, source, who="somebody", timeout=1.0):
    """The mark of one exercise, whose cell this is, among honest ones."""
    return mark_one(worker, ALL[exercise], Submission(who, HONEST | {exercise: source}), seed_of(SEED, who),
                    timeout)


def marks_of(worker, exercise, code):
    """The mark of a hostile cell, and that of the next honest exercise. Its words are plain ones."""
    mark = one(worker, exercise, ideas.START + code.replace("FUNCTION", FUNCTIONS[exercise]))
    assert "It raises Found" not in mark.text, mark.text
    assert not any(word in flag for flag in mark.flags for word in ("full marks", "<", "=1"))
    assert mark.text.isprintable() or set(c for c in mark.text if not c.isprintable()) == {"\n"}
    neighbour = one(worker, "reference-point", HONEST["reference-point"], timeout=5.0)
    assert neighbour.reason == "right" and not neighbour.flags, neighbour
    return mark, neighbour


@pytest.mark.parametrize("name", NAMES)
def test_an_idea_gets_nothing(worker, name):
    mark, neighbour = marks_of(worker, PLACES[NAMES.index(name) % len(PLACES)], ideas.IN_CELLS[name])
    assert (mark.points, neighbour.points) == (0, 1) and mark.reason != "right", mark


@pytest.mark.parametrize("name", list(ideas.PEEKS))
def test_a_test_that_peeks_gets_nothing(worker, name):
    mark, neighbour = marks_of(worker, PLANTED, ideas.PEEKS[name])
    assert (mark.points, neighbour.points) == (0, 1) and mark.reason != "right", mark


def test_there_are_eighty():
    assert len(ideas.IN_CELLS) + len(ideas.PEEKS) >= 120


def seen_outside():
    """What a submission could have written to: names and times of the course's files, and of /tmp."""
    roots = [ROOT / name for name in ("grader", "minillm", "solutions", "exercises", "tests")]
    files = {path: path.stat().st_mtime_ns for root in roots for path in root.rglob("*")
             if "__pycache__" not in path.parts and path.is_file()}
    return files, {path.name for path in Path("/dev/shm").iterdir()}


def test_a_class_with_wreckers_ends_and_its_neighbours_keep_their_marks():
    """Two at a time, as a grader with two jobs does; each wrecker has four such cells and an honest one."""
    wrecks = ["everybody killed", "the process above stopped", "a fork bomb", "os._exit in the cell",
              "a full disk", "someone left behind", "a loop that ignores signals", "garbage"]
    before, others = seen_outside(), set(running())
    alone = marked(HONEST, "neighbour")
    submissions = [("neighbour", HONEST)]
    for first in range(0, len(wrecks), 4):
        group = dict(zip(PLACES, wrecks[first:first + 4]))
        submissions.append((f"wrecker {first}", HONEST | {
            place: ideas.START + ideas.IN_CELLS[name].replace("FUNCTION", FUNCTIONS[place])
            for place, name in group.items()}))
    submissions.append(("neighbour", HONEST))

    def of(each):
        try:
            return marked(each[1], each[0], None if each[0] == "neighbour" else 1.0)
        finally:
            finish()

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(of, submissions))
    finish()
    assert found[0] == found[-1] == alone and all(m.points == 1 for m in alone.values())
    for marks in found[1:-1]:
        assert [marks[name].points for name in EXERCISES] == [0, 0, 0, 0, 1], marks
    assert set(running()) <= others                 # of which the sandbox of the tests above is one
    assert seen_outside() == before
