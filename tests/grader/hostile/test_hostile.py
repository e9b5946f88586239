"""Nothing gets marks for what it did not solve: each idea alone, in a sandbox that honest cells share."""

from __future__ import annotations

import pytest

import ideas
from classroom import CHAPTER, EXERCISES, FUNCTIONS, HONEST, ISOLATION, SEED, needs_isolation, running
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


def gets_nothing(worker, exercise, code):
    """Zero, and the next honest exercise has all of its points, as ever."""
    mark = one(worker, exercise, ideas.START + code.replace("FUNCTION", FUNCTIONS[exercise]))
    assert mark.points == 0 and mark.reason != "right", mark
    assert "It raises Found" not in mark.text, mark.text
    assert not any(word in flag for flag in mark.flags for word in ("full marks", "<", "=1"))
    assert mark.text.isprintable() or set(c for c in mark.text if not c.isprintable()) == {"\n"}
    neighbour = one(worker, "reference-point", HONEST["reference-point"], timeout=5.0)
    assert neighbour.points == 1 and neighbour.reason == "right" and not neighbour.flags, neighbour


@pytest.mark.parametrize("name", NAMES)
def test_an_idea_gets_nothing(worker, name):
    gets_nothing(worker, PLACES[NAMES.index(name) % len(PLACES)], ideas.IN_CELLS[name])


@pytest.mark.parametrize("name", list(ideas.PEEKS))
def test_a_test_that_peeks_gets_nothing(worker, name):
    gets_nothing(worker, PLANTED, ideas.PEEKS[name])


def test_there_are_eighty():
    assert len(ideas.IN_CELLS) + len(ideas.PEEKS) >= 120
