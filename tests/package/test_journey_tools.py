"""The journey's last stage, with calls: what it shows, rehearses and keeps; nothing it asks was taught."""

from __future__ import annotations

import copy
import random
from dataclasses import replace

import pytest
import torch

from minillm import hub
from minillm.acting.errands import Errands
from minillm.acting.tools import Made
from minillm.acting.transcript import Transcript
from minillm.journey import stages, tools
from minillm.journey.quiz import Quiz
from minillm.journey.stages import SCALES, SECONDS, Journey
from minillm.recipes.imitate import asked
from minillm.worlds.sums import Sums
from minillm.worlds.town import Town

TOWN = Town(0)
DOCUMENTS = TOWN.corpus(random.Random(0)).documents[:50]


def small(steps=2):
    """A journey that has come to its last stage, a few questions long."""
    journey = Journey(replace(SCALES["cpu"], tuning_steps=steps), 0, progress=False)
    journey.model, journey.tokenizer = hub.load("tuned")
    journey.verdict = "Kept."
    sums, rng = Sums(0), random.Random(0)
    training = TOWN.questions(False, rng, ("famous", "other"))[:40]
    for kind in ("sum2", "sum2_steps", "compare"):
        training += sums.questions(kind, 10, False, rng)
    held = TOWN.questions(True, rng)[:10] + sums.questions("sum2_steps", 10, True, rng)
    journey.found = [q.pair(journey.tokenizer) for q in sums.uneven(held=False)[:5]]
    return journey, Quiz(training, held)


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(tools, "EACH", 8)
    monkeypatch.setattr(tools, "ASKED", 3)
    monkeypatch.setattr(tools, "asked", lambda *which: asked(*which)[::8])


def test_the_stage_says_what_came_of_it(few, capsys):
    journey, quiz = small()
    tools.travel_town(journey, TOWN, quiz, DOCUMENTS)
    stage, = journey.stages
    assert stage.name == "calling tools" == list(SECONDS)[-1] and "no part of y" in stage.F
    rows = {row[0]: row[1:] for row in stage.table}
    assert len(rows) == 1 + len(tools.TAUGHT) + 2 + 1 and "facts (10)" in rows
    assert all(len(row) == 4 for row in stage.table) and "sums of two or three digits (3)" in rows
    said = journey.policies["tools"]
    assert set(said) == {"right", "right before", "gold", "gold before", "kept"}
    assert journey.verdict.startswith("Kept. Of 12 held-out questions that need a tool")
    assert "gold reward" in journey.verdict
    assert [s.answered.partition(":")[0] for s in stage.samples] == ["before", "now"] * len(tools.TAUGHT)
    assert "calling tools" in capsys.readouterr().out and len(stage.curve[0]) == 2 * tools.STEPS


@pytest.mark.parametrize("better", [True, False])
def test_the_better_one_is_kept(few, monkeypatch, better):
    """By the share of all held-out questions that are right, tools at hand."""
    journey, quiz = small(1)
    monkeypatch.setattr(tools, "ASKED", 1)
    first = copy.deepcopy(journey.model.state_dict())
    asked_of = []
    real = tools._answers

    def answers(journey, questions, tools=(), *rest):
        asked_of.append(real(journey, questions, tools, *rest))
        return asked_of[-1]

    monkeypatch.setattr(tools, "_answers", answers)
    monkeypatch.setattr(tools, "_right", lambda q, row, tokenizer: (row in asked_of[0]) != better)
    tools.travel_town(journey, TOWN, quiz, DOCUMENTS)
    same = all(torch.equal(first[name], weight) for name, weight in journey.model.state_dict().items())
    assert same != better and journey.policies["tools"]["kept"] == better
    assert ("is kept" in journey.verdict) != better


def test_nothing_that_is_asked_was_taught(few, monkeypatch):
    """Neither of the questions with tools, nor of the quiz, nor those that gold is measured on."""
    journey, quiz = small()
    texts, gold = [], []

    def seen(model, draw, *rest, **how):
        for step in range(12):
            batch = draw(step)
            texts.append(journey.tokenizer.decode(batch.tokens.flatten().tolist(), specials=True))
        return [{"nll": 1.0}]

    real = tools._gold
    monkeypatch.setattr(tools, "train", seen)
    monkeypatch.setattr(tools, "_gold", lambda journey, questions, *rest:
                        gold.extend(questions) or real(journey, questions, *rest))
    errands, fixed = Errands(TOWN), random.Random("held out, tools")
    needy = [e.question for kind in tools.TAUGHT for e in errands.questions(kind, 3, True, fixed)]
    tools.travel_town(journey, TOWN, quiz, DOCUMENTS)
    text = "\n".join(texts)
    assert text.count("<|call|>") > 100 and len(gold) > 10 and "<|user|>What is" in text
    assert not [q.prompt for q in needy + quiz.held + gold if f"<|user|>{q.prompt}<|assistant|>" in text]
    at_once = [q.prompt for q in quiz.training if q.kind == "sum2"]     # a calculator's work from here on
    assert at_once and not [prompt for prompt in at_once if f"<|user|>{prompt}<|assistant|>" in text]


def test_what_is_rehearsed(few):
    """Its own right answers about people; other facts; each kind of sum apart, none that is calculated."""
    journey, quiz = small()
    questions = asked(TOWN, False, random.Random(0))[:30]
    facts, others = tools._rehearsed(journey, quiz, questions)
    prompts = {tuple(journey.tokenizer.prompt(q.prompt)) for q in (*questions, *quiz.training)}
    assert len(facts) > 10 and all(tuple(x) in prompts for (x, _), in facts)
    shown = [journey.tokenizer.decode(x) for group in others for (x, _), in group]
    at_once = [q.prompt for q in quiz.training if q.kind == "sum2"]
    assert len(others) == 3 and at_once and not set(shown) & set(at_once)
    assert [[pair] for pair in journey.found] in others


def test_a_context_too_short_for_a_call_is_said(few, capsys):
    journey, quiz = small()
    journey.model.config = replace(journey.model.config, context=40)
    before = journey.model
    tools.travel_town(journey, TOWN, quiz, DOCUMENTS)
    assert "No calls are taught" in capsys.readouterr().out
    assert journey.stages == [] and journey.model is before and journey.verdict == "Kept."


def test_a_sample_shows_the_call_and_its_reply(few):
    tokenizer = hub.load("tuned")[1]
    errand = Errands(TOWN).questions("sum", 1, True, random.Random(0))[0]
    now = errand.demonstrate(tokenizer)
    before = Transcript(now.prompt)
    before.append(tokenizer.response("12"), True)
    assert isinstance(now.calls[0], Made)
    old, new = tools._samples([errand.question], [before], [now], tokenizer)
    call, = errand.calls
    q = errand.question
    assert (old.answered, old.verdict) == ("before: 12", f"✗ not {q.answer}")
    assert new.answered == f"now: [calls {call}] [the tool: {q.answer}] {q.answer}" and "✓" in new.verdict


def test_the_journey_on_the_town_ends_with_it(monkeypatch):
    came = []
    for name in ("instruct", "self_train", "load"):
        monkeypatch.setattr(Journey, name, lambda self, *_, name=name: came.append(name))
    monkeypatch.setattr(stages.chains, "travel_town", lambda *_: came.append("chains"))
    monkeypatch.setattr(stages.pipeline, "travel_town", lambda *_: came.append("preferences"))
    monkeypatch.setattr(stages.tools, "travel_town", lambda *_: came.append("tools"))
    stages.travel_town(Journey(SCALES["cpu"], 0, False), "base")
    assert came == ["load", "instruct", "self_train", "chains", "preferences", "tools"]
