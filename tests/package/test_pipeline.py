"""The preference stages: what they draw and compare, and that
each pulls where its F says, on a model small enough for seconds.
"""

from __future__ import annotations

import copy
import json
import random
import re
from dataclasses import replace
from functools import partial

import pytest
import torch
from safetensors.torch import load_file

from minillm import hub
from minillm.journey import pipeline, stages
from minillm import recipes
from minillm.journey.__main__ import write_summary
from minillm.journey.pipeline import travel_town
from minillm.recipes.compare import PERSON, Ranked, K, compare, comparisons_of
from minillm.recipes.evaluate import interval, put_aside, weigh
from minillm.recipes.imitate import asked, demonstrations
from minillm.recipes.learn_reward import gaps, learn_reward
from minillm.recipes.ppo import climb
from minillm.recipes.prefer import prefer
from minillm.journey.quiz import Quiz
from minillm.journey.stages import SCALES, Journey
from minillm.batch import batch_pairs
from minillm.logprob import answer_logprobs, logprobs
from minillm.methods import dpo
from minillm.worlds.sums import Sums
from minillm.worlds.town import Town

TOWN, RATES = Town(0), {"lr": 1e-3, "muon_lr": 0.003}
FEWER = {"imitate": {"rows": 8}, "learn_reward": {"rows": 4}, "prefer": {"rows": 6},
         "climb": {"answers": 8, "rows": 8}}


def shrink(patch, every=4):
    """The journey's preference stages on a few rows a step, and on one question of each `every`.

    They do all that they do at full size; only how good the numbers are is lost.
    """
    for name, rows in FEWER.items():
        patch.setattr(pipeline, name, partial(getattr(pipeline, name), **rows))
    patch.setattr(pipeline, "asked", lambda *which: asked(*which)[::every])


@pytest.fixture(scope="module")
def shipped():
    return hub.load("tuned")


@pytest.fixture(scope="module")
def ranked(shipped):
    return compare(
        *shipped,
        asked(TOWN, False, random.Random(0))[:48],
        [PERSON],
        random.Random(0),
        torch.Generator().manual_seed(0),
    )


def test_no_question_is_on_both_sides():
    training, held = ({q.key for q in asked(TOWN, side, random.Random(1))} for side in (False, True))
    assert len(training) > 100 and len(held) > 40 and not training & held


def test_demonstrations_are_seeded(shipped):
    first, again, other = (
        demonstrations(TOWN, shipped[1], random.Random(seed), each=1) for seed in (2, 2, 3)
    )
    assert first == again != other


def test_comparisons_hold_answers_that_differ(ranked):
    assert len(ranked) > 30
    for r in ranked:
        assert 2 <= len({tuple(y) for y in r.answers}) == len(r.answers) <= K


def test_every_pair_of_a_ranking():
    assert comparisons_of([Ranked(None, [1], [[2], [3], [4]])]) == [
        ([1], [2], [3]),
        ([1], [2], [4]),
        ([1], [3], [4]),
    ]


def test_a_person_without_noise_ranks_by_gold(shipped):
    from minillm.worlds.judgements import Person, gold

    found = compare(
        *shipped,
        asked(TOWN, False, random.Random(0))[:24],
        [Person(0)],
        random.Random(0),
        torch.Generator().manual_seed(0),
    )
    for r in found:
        worth = [gold(r.question, shipped[1].read_response(y)) for y in r.answers]
        assert worth == sorted(worth, reverse=True)


def test_the_reward_model_learns_the_choices(shipped, ranked):
    """From ½ on the pairs that it reads, six prompts a step, to three quarters and more."""
    some = ranked[:16]
    pairs = comparisons_of(some)
    first, _ = learn_reward(shipped[0], some, 1, {"lr": 1e-9, "muon_lr": 0}, 0, rows=1, progress=False)
    assert (gaps(first, pairs).abs() < 1e-3).all()
    learned, rows = learn_reward(
        shipped[0], some, 16, {"lr": 1e-2, "muon_lr": 0.01}, 0, rows=6, progress=False
    )
    assert (gaps(learned, pairs) > 0).float().mean() > 0.75
    assert rows[-1]["loss"] < rows[0]["loss"] == pytest.approx(0.6931, abs=1e-3)


def test_dpo_widens_the_margin_and_leaves_the_reference_alone(shipped, ranked):
    model, pairs, before = (
        copy.deepcopy(shipped[0]),
        comparisons_of(ranked)[:24],
        {k: v.clone() for k, v in shipped[0].state_dict().items()},
    )
    rows = prefer(model, shipped[0], pairs, 8, RATES, 0, progress=False)
    assert rows[-1]["loss"] < rows[0]["loss"] == pytest.approx(0.6931, abs=1e-3)
    there, here = (
        dpo.reference_logprobs(m, [(x, w) for x, w, _ in pairs] + [(x, l) for x, _, l in pairs])
        for m in (shipped[0], model)
    )
    assert float((here - there)[:24].mean()) > float((here - there)[24:].mean())
    assert all(torch.equal(v, before[k]) for k, v in shipped[0].state_dict().items())


def test_ppo_raises_the_reward_that_it_is_given(shipped):
    """A reward for short answers, known exactly: −|y|/10.

    Eight draws shorten what is written, and the KL that is paid for is reported.
    """
    model, tokenizer = copy.deepcopy(shipped[0]), shipped[1]
    prompts = [tokenizer.prompt(q.prompt) for q in asked(TOWN, False, random.Random(0))[:48]]
    rows = climb(model, shipped[0], lambda batch: -batch.response_mask.sum(1) / 10, prompts, 8, RATES, 0,
                     tokenizer.end, answers=32, rows=16, beta=0.01, progress=False)
    rows = [row for row in rows if "reward" in row]  # a draw's first minibatch
    assert len(rows) == 8 and rows[-1]["tokens written"] < rows[0]["tokens written"] - 3
    assert rows[-1]["reward"] > rows[0]["reward"] + 0.3
    assert rows[0]["kl"] == pytest.approx(0, abs=1e-3) and rows[-1]["kl"] > 0.1


def test_ppo_goes_on_after_a_kill_in_the_middle_of_a_draw(shipped, tmp_path):
    """Policy, critic and both optimisers end bit for bit where
    an unbroken run ends: a draw's minibatches are drawn again.
    """
    tokenizer = shipped[1]
    prompts = [tokenizer.prompt(q.prompt) for q in asked(TOWN, False, random.Random(0))[:8]]

    def ppo(folder, die=None):
        calls = []

        def reward(batch):
            calls.append(1)
            return -batch.response_mask.sum(1) / 10

        model, real = copy.deepcopy(shipped[0]), torch.optim.AdamW.step

        def step(self, *rest):  # a draw is four steps: the third of the second draw never comes
            calls.append("step")
            if die and calls.count("step") == 7:
                raise SystemExit
            return real(self, *rest)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.optim.AdamW, "step", step)
            climb(
                model,
                shipped[0],
                reward,
                prompts,
                3,
                RATES | {"save_every": 1},
                0,
                tokenizer.end,
                answers=8,
                rows=4,
                beta=0.1,
                progress=False,
                folder=folder,
            )
        return model

    unbroken = ppo(tmp_path / "unbroken")
    with pytest.raises(SystemExit):
        ppo(tmp_path / "broken", die=True)
    resumed = ppo(tmp_path / "broken")
    assert all(torch.equal(a, b) for a, b in zip(unbroken.parameters(), resumed.parameters()))
    states = [load_file(tmp_path / which / "state.safetensors") for which in ("unbroken", "broken")]
    assert states[0].keys() == states[1].keys()
    assert all(
        torch.equal(states[0][key], states[1][key]) for key in states[0] if not key.startswith("generator")
    )


def test_a_standardised_judge_orders_as_before(shipped, ranked):
    """Mean 0 and variance 1 over the answers given; every difference
    is the old one over the old deviation (float32: 1e-4).
    """
    learned, _ = learn_reward(shipped[0], ranked, 3, {"lr": 1e-2, "muon_lr": 0.01}, 0, rows=4, progress=False)
    pairs = comparisons_of(ranked)[:40]
    batch = batch_pairs([(x, w) for x, w, _ in pairs] + [(x, l) for x, _, l in pairs])
    with torch.no_grad():
        before = learned(batch.tokens, batch.response_mask)
        learned.standardise(batch.tokens, batch.response_mask)
        learned.standardise(batch.tokens, batch.response_mask)  # twice is once
        after = learned(batch.tokens, batch.response_mask)
    assert float(after.mean()) == pytest.approx(0, abs=1e-5) and float(after.std()) == pytest.approx(
        1, abs=1e-5
    )
    torch.testing.assert_close(after, (before - before.mean()) / before.std(), rtol=0, atol=1e-4)
    with pytest.raises(
        ValueError, match="tokens is answers that all get one reward: give two or more that differ"
    ):
        learned.standardise(batch.tokens[:1].repeat(3, 1), batch.response_mask[:1].repeat(3, 1))


def test_questions_put_aside_are_of_other_facts():
    """To choose by and to report on: no fact on both sides,
    none lost, and the same whatever the seed of a run.
    """
    held = asked(TOWN, True, random.Random("held out"))
    choosing, reported = put_aside(held)
    assert len(choosing) + len(reported) == len(held) and not {q.key for q in choosing} & {
        q.key for q in reported
    }
    assert len(choosing) > 40 and len(reported) > 80
    again = put_aside(asked(TOWN, True, random.Random(5)))
    assert {q.key for q in again[0]} == {q.key for q in choosing}


def test_questions_to_choose_by_are_in_no_quiz(monkeypatch):
    """The journey's quiz, which every stage reports, asks none of the facts that choose the policy."""
    seen = []
    monkeypatch.setattr(Journey, "load", lambda self, folder: None)
    monkeypatch.setattr(Journey, "instruct", lambda self, quiz: seen.append(quiz))
    monkeypatch.setattr(Journey, "self_train", lambda self, quiz, sums: None)
    monkeypatch.setattr(stages.chains, "travel_town", lambda *_: None)
    monkeypatch.setattr(stages.pipeline, "travel_town", lambda *_: None)
    monkeypatch.setattr(stages.tools, "travel_town", lambda *_: None)
    stages.travel_town(Journey(SCALES["cpu"], 0, False), "base")
    choosing, reported = put_aside(asked(TOWN, True, random.Random("held out")))
    keys = {q.key for q in seen[0].held}
    assert not keys & {q.key for q in choosing} and keys & {q.key for q in reported}


def test_several_answers_to_a_question_are_averaged(shipped):
    """A number for each question: the mean over its answers, so
    three answers to one question are not three questions.
    """
    questions = asked(TOWN, True, random.Random("held out"))[:6]
    found = weigh(*(shipped[0],) * 2, None, shipped[1], questions, 0, n=3)
    assert {len(values) for values in found.values()} == {6}
    assert all(round(3 * value) == pytest.approx(3 * value) for value in found["right"])
    assert all(abs(value) < 1e-3 for value in found["KL (nats)"])


@pytest.fixture(scope="module")
def travelled(shipped):
    """The preference stages, small; enough to see every cell of the last table filled."""
    journey = Journey(replace(SCALES["cpu"], tuning_steps=8, draws=4), seed=0, progress=False)
    journey.model, journey.tokenizer = copy.deepcopy(shipped[0]), shipped[1]
    training, held = (Sums(0).questions("compare", 40, side, random.Random(0)) for side in (False, True))
    journey.considered = []  # the policies that were weighed on the questions to choose by, in order

    def weighing(policy, reference, learned, tokenizer, questions, *rest):
        if len(questions) == len(choosing):
            journey.considered.append(copy.deepcopy(policy))
        return weigh(policy, reference, learned, tokenizer, questions, *rest)

    with pytest.MonkeyPatch.context() as patch:
        shrink(patch)
        choosing, reported = put_aside(pipeline.asked(TOWN, True, random.Random("held out")))
        assert len(choosing) != len(reported)
        patch.setattr(pipeline, "weigh", weighing)
        travel_town(journey, TOWN, Quiz(training, held[:20]))
    return journey


def test_what_is_kept_is_the_best_of_what_was_considered(travelled):
    """By learned reward − β·KL on the questions to choose by; the model that is kept has its weights."""
    last = travelled.stages[-1]
    name, *_ = travelled.verdict.removeprefix("Kept: ").split(". ")
    values = {
        who: float(value.replace("−", "-"))
        for who, value in re.findall(r"(imitation|PPO after \d+ draws|DPO) (−?\d+\.\d+)", last.notes[1])
    }
    assert set(values) == {"imitation", "DPO", *(f"PPO after {n} draws" for n in range(1, 5))}
    assert values[name] == max(values.values()) and travelled.policies["kept"]["name"] == name
    policy = travelled.considered[list(values).index(name)]
    assert all(torch.equal(a, b) for a, b in zip(policy.parameters(), travelled.model.parameters()))
    others = [other for other in travelled.considered if other is not policy]
    assert not any(torch.equal(policy.embed.weight, other.embed.weight) for other in others)


def test_the_last_table_compares_them_all(travelled):
    header, *rows = travelled.stages[-1].table
    assert header[1:] == ["before imitation", "imitation", "PPO", "DPO", "kept"]
    cells = {row[0]: row[1:] for row in rows}
    assert {
        "gold reward",
        "learned reward",
        f"learned reward − {recipes.BETA}·KL",
        "KL (nats)",
        "right",
    } <= set(cells)
    assert all(
        cell == "–" for name, row in cells.items() for cell in row[:1] if "learned" in name or "KL" in name
    )
    assert "–" not in [cell for row in cells.values() for cell in row[1:]]


def test_it_says_who_is_ahead(travelled):
    """PPO less DPO with its interval, and a word that fits them."""
    note = next(note for note in travelled.stages[-1].notes if note.startswith("PPO less DPO"))
    found = re.findall(r"(gold reward|right) ([+−]\d+\.\d+) ± (\d+\.\d+) \(([^)]+)\)", note)
    assert [name for name, *_ in found] == ["gold reward", "right"]
    for _, mean, half, said in found:
        mean, half = float(mean.replace("−", "-")), float(half)
        if abs(abs(mean) - half) > 0.011:  # both are rounded to 0.01
            assert said == (
                "no difference shows" if abs(mean) < half else "PPO is ahead" if mean > 0 else "DPO is ahead"
            )


def test_the_summary_holds_what_the_page_shows(travelled, tmp_path):
    write_summary(travelled, tmp_path / "summary.json", "On the town.")
    summary = json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))
    assert [s["name"] for s in summary["stages"]] == [s.name for s in travelled.stages]
    assert all(
        {"name", "x", "y", "F", "seconds", "scores", "table", "notes", "samples", "curve"} <= set(s)
        and s["seconds"] > 0
        for s in summary["stages"]
    )
    for who in ("imitation", "ppo", "dpo", "kept"):
        assert {"gold", "right", "kl"} <= set(summary[who]) and 0 <= summary[who]["right"] <= 1
    assert abs(summary["imitation"]["kl"]) < 1e-3 and summary["verdict"] == travelled.verdict


def test_the_first_minibatch_is_on_policy(shipped, ranked):
    """What sampling wrote down is what scoring finds: ρ = 1 before the first step."""
    tokenizer = shipped[1]
    from minillm.sample import sample

    batch = sample(
        shipped[0],
        [r.prompt for r in ranked[:8]],
        24,
        end=tokenizer.end,
        generator=torch.Generator().manual_seed(1),
    )
    again = logprobs(shipped[0], batch)
    torch.testing.assert_close(batch.logprobs, again, rtol=0, atol=2e-4)  # cached against whole, float32
    pairs = batch_pairs([(r.prompt, r.answers[0]) for r in ranked[:3]])
    assert torch.equal(
        answer_logprobs(logprobs(shipped[0], pairs), pairs.response_mask),
        dpo.reference_logprobs(shipped[0], [(r.prompt, r.answers[0]) for r in ranked[:3]]),
    )


def test_intervals():
    """Two values 0 and 2: mean 1, standard deviation √2, standard error 1."""
    assert interval([0.0, 2.0]) == (1.0, 1.96) and interval([3.0]) == (3.0, 0.0)
