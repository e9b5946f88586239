"""The shipped base model is what its scores say: small enough to ship, and good enough for later chapters.

Those are about methods, and not about a model that knows nothing.
"""

from __future__ import annotations

import json
import random
from dataclasses import replace

import pytest
import torch

from minillm import hub
from minillm.checkpoints import __main__ as checkpoints
from minillm.checkpoints.__main__ import GOALS, measure, tuned
from minillm.journey.quiz import town_data
from minillm.journey.stages import SCALES


@pytest.fixture(scope="module")
def record() -> dict:
    return json.loads((hub.BASE / "scores.json").read_text(encoding="utf-8"))


def test_size():
    assert (hub.BASE / "model.safetensors").stat().st_size <= 4 * 2**20


def test_the_record_says_what_it_took(record):
    model, tokenizer = hub.load("base")
    assert record["parameters"] == model.count_parameters()
    assert record["config"]["vocab_size"] == tokenizer.vocab_size == 512
    assert record["tokens_read"] > 1e6 and record["seconds"] > 0 and record["machine"] and record["torch"]


def test_every_seed_in_the_record_reaches_the_goals(record):
    seeds = record["after_instruction_tuning"]["held_out"]
    assert len(seeds) >= 3
    for found in seeds.values():
        assert all(found[name] >= goal for name, goal in GOALS.items()), found


def test_shipped_weights_can_be_tuned(monkeypatch):
    """Tune a copy with a seed that the record does not hold, half as long, and ask the held-out questions.

    Half the steps get most of the way. By two seeds: facts 0.91 and 0.99, sums 0.91 and 0.95, form 0.99 and
    1.00. A quarter of them, or other weights, do not: 0.31, 0.13 and 0.89.
    """
    scale = SCALES["cpu"]
    monkeypatch.setitem(checkpoints.SCALES, "cpu", replace(scale, tuning_steps=scale.tuning_steps // 2))
    _, _, quiz = town_data(0, scale.questions, random.Random(0))  # no text beside the questions
    found = measure(tuned(*hub.load("base"), quiz, seed=3))
    assert all(found[name] >= 0.8 * goal for name, goal in GOALS.items()), found


def test_the_tuned_model_answers_as_its_record_says():
    """Two other answers to each held-out question: each measure is the record's.

    Within twice the sum of the two 95 % intervals.
    """
    from minillm.recipes.evaluate import interval, weigh
    from minillm.recipes.imitate import asked
    from minillm.worlds.town import Town

    record = json.loads((hub.SHIPPED["tuned"] / "scores.json").read_text(encoding="utf-8"))
    assert (hub.SHIPPED["tuned"] / "model.safetensors").stat().st_size <= 4 * 2**20
    model, tokenizer = hub.load("tuned")
    found = weigh(model, model, None, tokenizer, asked(Town(0), True, random.Random("again")), seed=1, n=2)
    found = {name: interval(values) for name, values in found.items()}
    for name, kept in record["held_out"].items():
        mean, half = found[name]
        assert abs(mean - kept["mean"]) <= 2 * (half + kept["half of the 95 % interval"]) + 1e-6, name
    # What the chapters on preferences stand on: able, and careless.
    assert found["right"][0] > 0.6 and 0.1 < found["courteous"][0] < 0.8


def test_the_player_plays_as_its_record_says():
    """Its chains from 100 held-out hands, eight each, and its verdicts on 200 numbers left, drawn anew.

    Within 0.03 of the record for chains (two intervals of 95 % at 4 %), 0.1 for verdicts.
    """
    from minillm.thinking import tree
    from minillm.thinking.scratchpad import think
    from minillm.worlds import countdown
    from minillm.worlds.questions import Question

    folder, rng = hub.SHIPPED["player"], random.Random("again")
    record = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
    assert (folder / "model.safetensors").stat().st_size <= 4 * 2**20
    player, tokenizer = hub.load("player")
    hands = [countdown.shuffled(hand, rng) for hand in rng.sample(countdown.hands(True), 100)]
    asked = [Question("24", hand.key, hand.prompt, "", "", "", "") for hand in hands]
    drawn = think(player, tokenizer, asked, 80, n=8, temperature=1.0,
                  generator=torch.Generator().manual_seed(1))
    solved = [countdown.check(hands[i // 8], y.thought or "").solved for i, y in enumerate(drawn)]
    assert abs(sum(solved) / len(solved) - record["one chain"]) < 0.03
    judge = tree.judge(player, tokenizer, lambda left: f"{' '.join(map(str, left))}: 24?",
                       {"yes": 1.0, "no": 0.0})
    lefts = {True: [], False: []}
    while min(map(len, lefts.values())) < 100:
        hand = rng.choice(hands)
        left = tuple(sorted(hand.numbers))
        for _ in range(2):
            left = countdown.after(left, rng.choice(countdown.steps(left, whole=True)))
        if len(lefts[countdown.alive(hand, left)]) < 100:
            lefts[countdown.alive(hand, left)].append(left)
    right = [(said.value > 0.5) == alive for alive, some in lefts.items() for said in judge(some)]
    assert abs(sum(right) / len(right) - record["judges right"]["2 left"]) < 0.1


def test_the_caller_answers_as_its_record_says():
    """60 other held-out questions of each kind: right and called are the record's, within two intervals of
    95 %, which at 60 and 100 questions are 0.3 at most."""
    from minillm.acting.errands import LIMITS, Errands, tally
    from minillm.acting.transcript import use

    folder, rng, world = hub.SHIPPED["caller"], random.Random("again"), Errands()
    record = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
    assert (folder / "model.safetensors").stat().st_size <= 4 * 2**20
    caller, tokenizer = hub.load("caller")
    for kind in ("sum", "date", "never", "unasked", "digits"):
        some = world.questions(kind, 60, True, rng)
        rows = use(caller, tokenizer, [e.question.prompt for e in some], list(world.tools), LIMITS)
        found = tally(some, rows, tokenizer)[kind]
        for name in ("right", "called"):
            p, n = record["held_out"][kind][name], 60 * 100 / 160
            assert abs(found[name] - p) <= 2 * 1.96 * (max(p * (1 - p), 0.02) / n) ** 0.5, (kind, name)
