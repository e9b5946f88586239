"""Errands: each answer by a second way, the split, what a demonstration and a lesson hold, the counting."""

from __future__ import annotations

import random

import pytest
import torch

from minillm import hub
from minillm.acting import tools
from minillm.acting.errands import (ASKED, ASKED_ONLY, LIMITS, PEOPLE, SHARES, TOOL, Errands, lessons, right,
                                    tally)

WORLD = Errands()
_, TOKENIZER = hub.load("base")
EACH = 60


@pytest.fixture(scope="module")
def some():
    """Errands of every kind and both sides: (kind, held) -> a list."""
    rng = random.Random(3)
    return {(kind, held): [] if kind in ASKED_ONLY and not held else WORLD.questions(kind, EACH, held, rng)
            for kind in TOOL for held in (False, True)}


@pytest.mark.parametrize("kind", TOOL)
def test_the_call_gives_the_answer(some, kind):
    """The answer is computed without the tool; the tool's reply is the answer, or holds the record of it."""
    for errand in some[kind, False] + some[kind, True]:
        assert bool(errand.calls) == (TOOL[kind] is not None)
        for call in errand.calls:
            made = tools.run(errand.tools, call)
            assert made.ok and made.call.name == TOOL[kind]
            q = errand.question
            said = f"{q.key}: {q.answer}" if TOOL[kind] == "search" else q.answer
            assert said in made.reply.split("\n")


@pytest.mark.parametrize("kind", ("sum", "difference", "product", "digits"))
def test_the_numbers_of_a_question_are_those_of_its_answer(some, kind):
    """Read from the question's words again: both numbers stand in it, and the answer is theirs."""
    import re
    for errand in some[kind, False] + some[kind, True]:
        a, b = map(int, re.findall(r"\d+", errand.question.prompt))
        answers = {"sum": a + b, "digits": a + b, "product": a * b, "difference": abs(a - b)}
        assert errand.question.answer == str(answers[kind])


@pytest.mark.parametrize("kind", TOOL)
def test_the_sides_share_nothing(some, kind):
    """No key on both sides; all held-out questions are asked differently."""
    shown, held = ({e.question.key for e in some[kind, side]} for side in (False, True))
    assert held and not shown & held and bool(shown) == (kind not in ASKED_ONLY)
    prompts = [e.question.prompt for e in some[kind, True]]
    assert len(set(prompts)) == len(prompts)
    assert len(prompts) == EACH or kind == "after"


def test_nobody_of_the_town_is_looked_up_in_a_lesson():
    """People who are told of never, once or now and then are in no lesson, and no stranger is of the town."""
    names = {side: {kind: {fact.subject for fact in WORLD.facts[kind, side]} for kind in PEOPLE}
             for side in (False, True)}
    for kind in ASKED_ONLY[:3]:
        assert not names[False][kind] and len(names[True][kind]) == 40
        assert all(WORLD.town.fame[name] == kind for name in names[True][kind])
    famous, unasked = names[False]["famous"] | names[True]["famous"], names[True]["unasked"]
    assert not famous & unasked and len(famous | unasked) == 40 and len(unasked) >= 8
    assert all(WORLD.town.fame[name] == "famous" for name in famous | unasked)
    assert not (names[False]["stranger"] | names[True]["stranger"]) & set(WORLD.town.fame)
    assert len(names[False]["stranger"]) > 300


def test_a_demonstration_is_right_and_counted(some):
    """Its own tally: all right, a call exactly where one is needed, no token of a tool elsewhere."""
    for (kind, _), errands in some.items():
        if not errands:
            continue
        rows = [errand.demonstrate(TOKENIZER) for errand in errands]
        assert all(len(row.ids) <= LIMITS.tokens for row in rows)
        counted = tally(errands, rows, TOKENIZER)
        assert list(counted) == [kind]
        found, needs = counted[kind], float(TOOL[kind] is not None)
        assert found["n"] == len(errands) and found["right"] == 1
        assert found["called"] == found["calls ok"] == needs
        assert (found["tokens by tools"] > 0) == needs
        tokens = sum(len(row.ids) for row in rows) / len(rows)
        assert found["tokens by the model"] + found["tokens by tools"] == pytest.approx(tokens)


def test_right_looks_at_the_answer_alone(some):
    errand = some["sum", True][0]
    row = errand.demonstrate(TOKENIZER)
    assert right(errand.question, row, TOKENIZER)
    row.ids[-1] = TOKENIZER.call                        # it never ends
    assert not right(errand.question, row, TOKENIZER)
    other = some["sum", True][1].demonstrate(TOKENIZER)
    assert not right(errand.question, other, TOKENIZER)


def test_lessons_mask_what_tools_wrote():
    """No token between [REPLY] and [/REPLY], marks and all, and none of a prompt is True."""
    draw = lessons(WORLD, TOKENIZER, seed=1, asked=12, each=10, shares={"sum": 1, "stranger": 1, "digits": 1})
    batch = draw(0)
    for tokens, mask in zip(batch.tokens.tolist(), batch.response_mask.tolist()):
        mine = True
        for token, scored in zip(tokens, mask):
            if token in (TOKENIZER.user, TOKENIZER.reply):
                mine = False
            assert not scored or mine
            if token in (TOKENIZER.assistant, TOKENIZER.reply_end):
                mine = True
    assert bool((batch.tokens == TOKENIZER.reply).any())
    assert torch.equal(batch.tokens, draw(0).tokens) and not torch.equal(batch.tokens, draw(1).tokens)


def test_lessons_without_calls_answer_at_once():
    batch = lessons(WORLD, TOKENIZER, seed=1, asked=12, each=10, calls=False)(0)
    marks = (TOKENIZER.call, TOKENIZER.call_end, TOKENIZER.reply, TOKENIZER.reply_end)
    assert not any(bool((batch.tokens == mark).any()) for mark in marks)


@pytest.mark.parametrize("ask, named", [
    (lambda: Errands("Ada"), "town is str"),
    (lambda: WORLD.one("poem", False, random.Random(0)), "kind is 'poem'"),
    (lambda: WORLD.questions("sum", 0, False, random.Random(0)), "n is 0"),
    (lambda: lessons(WORLD, TOKENIZER, 0, asked=0), "asked is 0"),
    (lambda: lessons(WORLD, TOKENIZER, 0, each=-1), "each is -1"),
    (lambda: lessons(WORLD, TOKENIZER, 0, shares={}), "shares is {}"),
    (lambda: lessons(WORLD, TOKENIZER, 0, shares={"known": 1}), "shares is {'known': 1}"),
    (lambda: WORLD.one("once", False, random.Random(0)), "held is False"),
    (lambda: tally([], [], TOKENIZER), "rows is 0 for 0"),
])
def test_bad_input_is_refused(ask, named):
    with pytest.raises(ValueError, match=named):
        ask()


def test_kinds_are_named_once():
    assert set(TOOL) == set(SHARES) | set(ASKED_ONLY) == set(ASKED) | {"stranger"}
