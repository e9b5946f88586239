"""The preference stages: what they draw and compare, and that each pulls where its F says, on a model small enough for seconds."""

from __future__ import annotations

import copy
import random

import pytest
import torch

from minillm import hub
from minillm.journey import preferences
from minillm.journey.preferences import PERSON, Ranked, asked, compare, demonstrations, gaps, interval, learn_reward, pairs_of, prefer, reinforce
from minillm.logprob import answer_logprobs, batch_pairs, logprobs
from minillm.methods import dpo
from minillm.worlds.town import Town

TOWN, RATES = Town(0), {"lr": 1e-3, "muon_lr": 0.003}


@pytest.fixture(scope="module")
def shipped():
    return hub.load("tuned")


@pytest.fixture(scope="module")
def ranked(shipped):
    return compare(*shipped, asked(TOWN, False, random.Random(0))[:48], [PERSON], random.Random(0), torch.Generator().manual_seed(0))


def test_no_question_is_on_both_sides():
    training, held = ({q.key for q in asked(TOWN, side, random.Random(1))} for side in (False, True))
    assert len(training) > 100 and len(held) > 40 and not training & held


def test_demonstrations_are_seeded(shipped):
    first, again, other = (demonstrations(TOWN, shipped[1], random.Random(seed), each=1) for seed in (2, 2, 3))
    assert first == again != other


def test_comparisons_hold_answers_that_differ(ranked):
    assert len(ranked) > 30
    for r in ranked:
        assert 2 <= len({tuple(y) for y in r.answers}) == len(r.answers) <= preferences.K


def test_every_pair_of_a_ranking():
    assert pairs_of([Ranked(None, [1], [[2], [3], [4]])]) == [([1], [2], [3]), ([1], [2], [4]), ([1], [3], [4])]


def test_a_person_without_noise_ranks_by_gold(shipped):
    from minillm.worlds.judgements import Person, gold
    found = compare(*shipped, asked(TOWN, False, random.Random(0))[:24], [Person(0)], random.Random(0), torch.Generator().manual_seed(0))
    for r in found:
        worth = [gold(r.question, shipped[1].read_response(y)) for y in r.answers]
        assert worth == sorted(worth, reverse=True)


def test_the_reward_model_learns_the_choices(shipped, ranked):
    """From ½ on the pairs that it reads, twelve prompts a step, to three quarters and more; another seed reads in another order."""
    pairs = pairs_of(ranked)
    assert (gaps(learn_reward(shipped[0], ranked, 1, {"lr": 1e-9, "muon_lr": 0}, 0, progress=False)[0], pairs).abs() < 1e-3).all()
    learned, rows = learn_reward(shipped[0], ranked, 24, {"lr": 1e-2, "muon_lr": 0.01}, 0, progress=False)
    assert (gaps(learned, pairs) > 0).float().mean() > 0.75 and rows[-1]["loss"] < rows[0]["loss"] == pytest.approx(0.6931, abs=1e-3)


def test_dpo_widens_the_margin_and_leaves_the_reference_alone(shipped, ranked):
    model, pairs, before = copy.deepcopy(shipped[0]), pairs_of(ranked)[:24], {k: v.clone() for k, v in shipped[0].state_dict().items()}
    rows = prefer(model, shipped[0], pairs, 8, RATES, 0, progress=False)
    assert rows[-1]["loss"] < rows[0]["loss"] == pytest.approx(0.6931, abs=1e-3)
    there, here = (dpo.reference_logprobs(m, [(x, w) for x, w, _ in pairs] + [(x, l) for x, _, l in pairs]) for m in (shipped[0], model))
    assert float((here - there)[:24].mean()) > float((here - there)[24:].mean())
    assert all(torch.equal(v, before[k]) for k, v in shipped[0].state_dict().items())


def test_ppo_raises_the_reward_that_it_is_given(shipped):
    """A reward for short answers, known exactly: −|y|/10. Eight draws shorten what is written, and the KL that is paid for is reported."""
    model, tokenizer = copy.deepcopy(shipped[0]), shipped[1]
    prompts = [tokenizer.prompt(q.prompt) for q in asked(TOWN, False, random.Random(0))[:48]]
    rows = reinforce(model, shipped[0], lambda batch: -batch.response_mask.sum(1) / 10, prompts, 8, RATES, 0, tokenizer.end, beta=0.01, progress=False)
    assert rows[-1]["tokens written"] < rows[0]["tokens written"] - 3 and rows[-1]["reward"] > rows[0]["reward"] + 0.3
    assert rows[0]["kl"] == pytest.approx(0, abs=1e-3) and rows[-1]["kl"] > 0.1


def test_the_first_minibatch_is_on_policy(shipped, ranked):
    """What sampling wrote down is what scoring finds: ρ = 1 before the first step."""
    tokenizer = shipped[1]
    from minillm.sample import sample
    batch = sample(shipped[0], [r.prompt for r in ranked[:8]], 24, end=tokenizer.end, generator=torch.Generator().manual_seed(1))
    again = logprobs(shipped[0], batch.tokens, batch.response_mask)
    torch.testing.assert_close(batch.logprobs, again, rtol=0, atol=2e-4)  # cached against whole, float32
    pairs = batch_pairs([(r.prompt, r.answers[0]) for r in ranked[:3]])
    assert torch.equal(answer_logprobs(logprobs(shipped[0], pairs.tokens, pairs.response_mask), pairs.response_mask),
                       dpo.reference_logprobs(shipped[0], [(r.prompt, r.answers[0]) for r in ranked[:3]]))


def test_intervals():
    """Two values 0 and 2: mean 1, standard deviation √2, standard error 1."""
    assert interval([0.0, 2.0]) == (1.0, 1.96) and interval([3.0]) == (3.0, 0.0)
