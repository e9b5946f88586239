"""Votes, scratchpads and cups: against every subset, every chain and every reordering, listed.

What a vote of k gives is compared with all votes of k; what an outcome is paid, with the texts themselves.
"""

from __future__ import annotations

import math
import random
from fractions import Fraction
from itertools import combinations, permutations
from math import comb

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import PROMPTS, difference, gradients_of, make_policy, slow_logp
from minillm import hub
from minillm.batch import batch_pairs
from minillm.identity import every_answer, exact_gradient
from minillm.logprob import logprobs
from minillm.methods import grpo, self_training
from minillm.thinking import scratchpad, steps, tree, vote
from minillm.tokenizer import Response, Tokenizer
from minillm.transformer import Config, Transformer
from minillm.worlds import countdown, cups
from minillm.worlds.questions import Question

# --- votes ----------------------------------------------------------------------------------------

ANSWERS = st.lists(st.sampled_from(["1", "2", "3", None]), min_size=1, max_size=6)


def by_listing(answers, k, wins):
    """The share of all draws of k, in every order, of which wins(answers drawn) is true."""
    draws = list(permutations(answers, k))
    return sum(wins(list(drawn)) for drawn in draws) / len(draws)


def test_the_vote_by_hand():
    """Three say 7, two say 4, one says nothing; the two that say 4 weigh more together."""
    answers = ["4", None, "7", "7", "4", "7"]
    assert vote.majority(answers) == "7"
    assert vote.majority(answers, [2.0, 9.0, 1.0, 1.0, 2.0, 1.5]) == "4"
    assert vote.majority(answers, [0.0, 9.0, 1.0, 0.0, 0.0, 0.0]) == "7"


def test_of_equals_the_first_seen():
    assert vote.majority(["2", "1", "1", "2"]) == "2"
    assert vote.majority([None, "1", "2"], [9.0, 0.5, 0.5]) == "1"
    assert vote.majority(["3", "1"], [0.0, 0.0]) == "3"
    assert vote.best_of_n(["5", "4", "6"], [0.1, 0.7, 0.7]) == "4"


@pytest.mark.parametrize("answers", [[], [None], [None, None]])
def test_where_nobody_answers_the_vote_is_none(answers):
    scores = [1.0] * len(answers)
    assert vote.majority(answers) is vote.majority(answers, scores) is vote.best_of_n(answers, scores) is None


def test_none_has_no_vote_however_it_is_scored():
    assert vote.majority([None, None, None, "0"]) == "0"
    assert vote.best_of_n([None, "0", None], [5.0, -3.0, 4.0]) == "0"
    # An answer may be a number, 0 too.
    assert vote.majority([0, None, None]) == vote.best_of_n([0, 1, None], [2.0, 1.0, 3.0]) == 0


@given(ANSWERS, st.randoms())
def test_weights_of_one_are_a_plain_vote(answers, rng):
    assert vote.majority(answers, [1.0] * len(answers)) == vote.majority(answers)
    repeated = [rng.randint(0, 3) for _ in answers]  # a weight of 3 is three who say so, side by side
    heard = [a for a, times in zip(answers, repeated) for _ in range(times)]
    if any(a is not None for a in heard):
        assert vote.majority(answers, repeated) in {
            a for a in heard if a and heard.count(a) == max(heard.count(b) for b in heard if b)}


def test_chains_weigh_what_their_probability_says():
    """e^−2 and a quarter of it; at the same number of nats a token, the same weight."""
    assert vote.chain_weights([-2.0, -2.0 - math.log(4)]) == pytest.approx([1.0, 0.25])
    assert vote.chain_weights([-2.0, -6.0, -4.0], [1, 3, 1]) == pytest.approx([1.0, 1.0, math.exp(-2)])
    far = vote.chain_weights([-2000.0, -2001.0])
    assert far == pytest.approx([1.0, math.exp(-1)])
    assert vote.majority(["a", "b", "b"], vote.chain_weights([-1.0, -3.0, -3.0])) == "a"
    assert vote.majority(["a", "b", "b"], vote.chain_weights([-1.0, -3.0, -3.0], [1, 3, 3])) == "b"


def test_a_chain_is_judged_by_its_steps():
    """0.9·0.5 is less than 0.6·0.8; the weakest step of both chains says so too, and not for a long one."""
    assert vote.chain_score([0.9, 0.5]) == pytest.approx(0.45)
    assert vote.chain_score([0.9, 0.5], by="min") == 0.5
    long, short = [0.9] * 9, [0.7]
    answers = ["long", "short"]
    assert vote.best_of_n(answers, [vote.chain_score(s) for s in (long, short)]) == "short"
    assert vote.best_of_n(answers, [vote.chain_score(s, "min") for s in (long, short)]) == "long"


def test_an_answer_that_was_cut_is_none():
    assert vote.answer_of(Response("5", "12>1", True)) == "5"
    assert vote.answer_of(Response("5", "12>1", False)) is None


# --- pass@k ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", range(1, 8))
def test_pass_at_k_is_the_share_of_subsets_with_a_right_one(n):
    for c in range(n + 1):
        for k in range(1, n + 1):
            chosen = list(combinations([True] * c + [False] * (n - c), k))
            assert vote.pass_at_k(n, c, k) == pytest.approx(sum(map(any, chosen)) / len(chosen), abs=1e-15)


@pytest.mark.parametrize("p", [Fraction(1, 10), Fraction(1, 2), Fraction(4, 5)])
def test_pass_at_k_is_right_on_average(p):
    """Over c ~ Binomial(n, p) its mean is 1 − (1 − p)^k, which 1 − (1 − c/n)^k is not."""
    n, k = 6, 3
    chances = [comb(n, c) * p**c * (1 - p)**(n - c) for c in range(n + 1)]
    mean = sum(float(q) * vote.pass_at_k(n, c, k) for c, q in enumerate(chances))
    biased = sum(q * (1 - (1 - Fraction(c, n))**k) for c, q in enumerate(chances))
    assert mean == pytest.approx(float(1 - (1 - p)**k), abs=1e-14)
    assert float(biased) < mean - 0.005


def test_pass_at_k_keeps_its_digits():
    """Of 10,000 answers; and where it is small: one right among a million is found by 2 with 2/1,000,000."""
    assert vote.pass_at_k(10_000, 5_000, 2) == pytest.approx(1 - 0.5 * 4999 / 9999, abs=1e-15)
    assert vote.pass_at_k(10_000, 3, 9_998) == 1
    assert vote.pass_at_k(1_000_000, 1, 2) == pytest.approx(2e-6, rel=1e-14)


# --- votes of k -----------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(ANSWERS)
def test_the_curve_is_all_votes_counted(answers):
    """Every draw of k in every order, put to `majority`."""
    curve = vote.vote_curve(answers, "2")
    assert len(curve) == len(answers)
    for k, chance in enumerate(curve, 1):
        listed = by_listing(answers, k, lambda drawn: vote.majority(drawn) == "2")
        assert chance == pytest.approx(listed, abs=1e-12)


def test_the_curve_by_hand():
    """A vote of one is the share right; one of two is right where both are, and in half of the ties."""
    assert vote.vote_curve(["7", "4", "7"], "7") == pytest.approx([2 / 3, 2 / 3, 1.0])
    assert vote.vote_curve(["4", "7", "4"], "7") == pytest.approx([1 / 3, 1 / 3, 0.0])
    assert vote.vote_curve(["7", None], "7") == [0.5, 1.0]
    assert vote.vote_curve(["4", None], "7") == [0.0, 0.0]


def test_a_vote_of_many_is_quick_and_exact():
    """64 answers, 40 % right and the rest spread thin: the vote rises to certainty."""
    answers = ["7"] * 26 + [str(10 + i) for i in range(19)] * 2
    curve = vote.vote_curve(answers, "7")
    assert curve[0] == pytest.approx(26 / 64) and curve[-1] == pytest.approx(1.0)
    assert curve[9] > 0.9 and max(curve) <= 1 + 1e-12


@pytest.mark.parametrize("said, call", [
    ("weights is 1 for 2", lambda: vote.majority(["1", "2"], [1.0])),
    ("weights is [1.0, -1.0]", lambda: vote.majority(["1", "2"], [1.0, -1.0])),
    ("weights is [nan]", lambda: vote.majority(["1"], [math.nan])),
    ("scores is 3 for 2", lambda: vote.best_of_n(["1", "2"], [1.0, 2.0, 3.0])),
    ("logp is empty", lambda: vote.chain_weights([])),
    ("logp is [-inf]", lambda: vote.chain_weights([-math.inf])),
    ("lengths is 0", lambda: vote.chain_weights([-1.0], [0])),
    ("lengths is 2 for 1", lambda: vote.chain_weights([-1.0], [1, 2])),
    ("steps is empty", lambda: vote.chain_score([])),
    ("steps is [1.5]", lambda: vote.chain_score([1.5])),
    ("by is 'mean'", lambda: vote.chain_score([0.5], "mean")),
    ("n is 0", lambda: vote.pass_at_k(0, 0, 1)),
    ("c is 5", lambda: vote.pass_at_k(4, 5, 1)),
    ("k is 5", lambda: vote.pass_at_k(4, 1, 5)),
    ("k is 0", lambda: vote.pass_at_k(4, 1, 0)),
    ("answers is empty", lambda: vote.vote_curve([], "1")),
    ("right is None", lambda: vote.vote_curve(["1"], None)),
])
def test_bad_votes_are_refused(said, call):
    with pytest.raises(ValueError) as error:
        call()
    assert said in str(error.value)


# --- cups -----------------------------------------------------------------------------------------

SWAP = st.permutations(range(1, 6)).map(lambda p: (p[0], p[1]))
SWAPS = st.lists(SWAP, min_size=1, max_size=9)


@given(st.integers(1, 5), SWAPS)
def test_the_ball_goes_where_the_permutation_says(start, swaps):
    """Against five cups in a row, of which one holds the ball, whose contents are exchanged."""
    table, places = [cup == start for cup in range(1, 6)], []
    for a, b in swaps:
        table[a - 1], table[b - 1] = table[b - 1], table[a - 1]
        places.append(table.index(True) + 1)
    assert cups.moves(start, swaps) == places
    asked = cups.question(start, swaps)
    assert asked.answer == asked.response == str(places[-1])
    steps = asked.thought.split()
    assert steps == [f"{a}{b}>{at}" for (a, b), at in zip(swaps, places)]
    assert asked.prompt == f"{start}: " + " ".join(step[:2] for step in steps)


def test_swaps_do_not_commute():
    assert cups.moves(1, [(1, 2), (2, 3)]) == [2, 3] and cups.moves(1, [(2, 3), (1, 2)]) == [1, 2]
    assert cups.moves(2, [(1, 2), (3, 4), (1, 5)]) == [1, 1, 5]


def test_draws_are_even_and_come_again():
    """Every start and each of the twenty ordered pairs about as often; the same seed, the same question."""
    rng = random.Random(0)
    asked = [cups.draw(4, rng) for _ in range(2000)]
    swaps = [s for q in asked for s in q.prompt.split()[1:]]
    for told, kinds in ((swaps, 20), ([q.prompt[0] for q in asked], 5)):
        assert len(set(told)) == kinds
        most = max(abs(told.count(kind) / len(told) - 1 / kinds) for kind in set(told))
        assert most < 5 * math.sqrt((1 / kinds) / len(told))
    assert cups.draw(3, random.Random(5)) == cups.draw(3, random.Random(5))
    assert len(cups.draw(7, rng).thought.split()) == 7


@pytest.mark.parametrize("start, swaps", [
    (0, [(1, 2)]), (6, [(1, 2)]), (1.0, [(1, 2)]), (1, [(1, 6)]), (1, [(0, 2)]), (1, [(3, 3)]), (1, []),
    (1, [(1, 2, 3)])])
def test_what_is_no_cup_is_refused(start, swaps):
    with pytest.raises(ValueError, match="swaps"):
        cups.question(start, swaps)


# --- scratchpads: all chains listed ---------------------------------------------------------------

LISTED = every_answer(3, 3)


def answer_in(y):
    """The last token before the end; None where the chain was cut or holds nothing."""
    return y[-2] if y[-1] == 0 and len(y) > 1 else None


SAYS = [answer_in(y) for y in LISTED]


@pytest.mark.parametrize("kind", ["table", "transformer"])
def test_the_marginal_is_a_sum_over_chains(kind):
    """p(answer) against a plain sum of probabilities, and its gradient against finite sums: it is that of
    log p(chain, answer), on average over the chains that lead to the answer."""
    policy = make_policy(kind)
    x = PROMPTS[1]
    (slow,) = slow_logp(policy, [x], LISTED)
    batch = batch_pairs([(x, y) for y in LISTED])
    logp = logprobs(policy, batch).where(batch.response_mask, 0.0).sum(1)
    found = scratchpad.marginal(logp, SAYS)
    assert set(found) == {None, 1, 2}
    assert sum(v.exp().item() for v in found.values()) == pytest.approx(1, abs=1e-12)
    p = slow.detach().exp()
    for answer in (1, 2, None):
        leads = torch.tensor([said == answer for said in SAYS])
        assert found[answer].exp().item() == pytest.approx(p[leads].sum().item(), abs=1e-12)
        given_answer = torch.where(leads, p, 0.0) / p[leads].sum()
        wanted = exact_gradient(slow, torch.ones_like(p), list(policy.parameters()), q=given_answer)
        assert difference(gradients_of(found[answer], policy), wanted) < 1e-8
    # The best chain alone is another number.
    assert found[1].item() - max(v.item() for v, said in zip(slow, SAYS) if said == 1) > 0.05


def test_the_marginal_takes_listings_alone():
    logp = torch.tensor([0.5, 0.5]).log()
    with pytest.raises(ValueError, match="answers is 1 for 2 y"):
        scratchpad.marginal(logp, ["1"])
    with pytest.raises(ValueError, match="sum to"):
        scratchpad.marginal(logp[:1], ["1"])


@pytest.mark.parametrize("kind", ["table", "transformer"])
def test_outcomes_alone_climb_the_chance_of_a_right_answer(kind):
    """∇ P(right) by autograd through the sum over chains is the line with F = 1[right], on the whole y."""
    policy = make_policy(kind)
    logp = slow_logp(policy, PROMPTS, LISTED)
    is_right = torch.tensor([said == 2 for said in SAYS])
    wanted = gradients_of(logp.exp()[:, is_right].sum(1).mean(), policy)
    F = self_training.F(is_right).to(logp).expand_as(logp)
    assert difference(exact_gradient(logp, F, list(policy.parameters())), wanted) < 1e-8
    # With any number taken off it is the same.
    assert difference(exact_gradient(logp, F - 0.7, list(policy.parameters())), wanted) < 1e-8


# --- scratchpads: what is drawn -------------------------------------------------------------------


@pytest.fixture(scope="module")
def small():
    """A model that was never trained, and a tokenizer that knows bytes alone, or almost."""
    tokenizer = Tokenizer.train("12>1 34>1 15>5 2: 12 34 15", 270)
    config = Config(vocab_size=tokenizer.vocab_size, d_model=16, n_layers=1, n_heads=2, n_kv_heads=1, d_ff=24,
                    context=96)
    model = Transformer(config, 0)
    return model, tokenizer


def asked_of(n, swaps=2, seed=0):
    rng = random.Random(seed)
    return [cups.draw(swaps, rng) for _ in range(n)]


def test_at_once_and_few_shot(small):
    _, tokenizer = small
    first, second, third = asked_of(3)
    plain = scratchpad.at_once(first)
    assert plain.thought is None and plain.response == first.response and plain.prompt == first.prompt
    shown = scratchpad.few_shot(tokenizer, [first, second], third.prompt)
    said = (tokenizer.prompt(first.prompt) + tokenizer.response(first.response, first.thought)
            + tokenizer.prompt(second.prompt) + tokenizer.response(second.response, second.thought)
            + tokenizer.prompt(third.prompt))
    assert shown == said
    assert scratchpad.few_shot(tokenizer, [], third.prompt) == tokenizer.prompt(third.prompt)


def test_right_looks_at_the_answer_alone():
    question = cups.question(2, [(1, 2), (3, 4)])
    assert scratchpad.right(question, Response("1", "nonsense", True))
    assert scratchpad.right(question, Response("1", None, True))
    assert not scratchpad.right(question, Response("1", question.thought, False))
    assert not scratchpad.right(question, Response("2", question.thought, True))


def greedy(model, ids, room, end):
    """What a model writes behind ids, a whole forward pass for each token."""
    written = []
    for _ in range(room):
        written.append(int(model(torch.tensor([ids + written]))[0, -1].argmax()))
        if written[-1] == end:
            break
    return written


@pytest.mark.parametrize("close", [True, False])
def test_a_thought_that_is_put_in(small, close, monkeypatch):
    """The model goes on behind it, and what is read back holds both; more questions than are asked at once.
    """
    model, tokenizer = small
    monkeypatch.setattr(scratchpad, "ROWS", 2)
    questions = asked_of(5, seed=1)
    thoughts = ["", "12>1", *(q.thought for q in questions[2:])]
    found = scratchpad.think(model, tokenizer, questions, room=6, thoughts=thoughts, close=close)
    for question, thought, response in zip(questions, thoughts, found, strict=True):
        begun = [tokenizer.think, *tokenizer.encode(thought)] + [tokenizer.think_end] * close
        with torch.no_grad():
            wrote = greedy(model, tokenizer.prompt(question.prompt) + begun, 6, tokenizer.end)
        assert response == tokenizer.read_response(begun + wrote)
        assert response.thought == thought if close else response.thought.startswith(thought)


def test_thinking_freely_in_order(small, monkeypatch):
    """n to each, in order, more questions than are asked at once; greedy ones are all the same."""
    model, tokenizer = small
    questions = asked_of(5, seed=2)
    alone = [scratchpad.think(model, tokenizer, [q], room=5)[0] for q in questions]
    monkeypatch.setattr(scratchpad, "ROWS", 2)
    assert scratchpad.think(model, tokenizer, questions, room=5) == alone
    twice = scratchpad.think(model, tokenizer, questions, room=5, n=2, thoughts=["5"] * 5)
    assert twice[::2] == twice[1::2] and len(twice) == 10
    warm = [scratchpad.think(model, tokenizer, questions, room=5, n=3, temperature=1.0,
                             generator=torch.Generator().manual_seed(7)) for _ in range(2)]
    assert warm[0] == warm[1] and len(set(warm[0][:3])) > 1
    with pytest.raises(ValueError, match="thoughts is 2 for 5 questions"):
        scratchpad.think(model, tokenizer, questions, thoughts=["5", "5"])


def by_parity(question, response):
    """Right in half of the cases, for a model that knows nothing: the text's length and the place are even
    together or odd together."""
    return (len(response.text) + int(question.answer)) % 2 == 0


@pytest.fixture(scope="module")
def drawn(small):
    model, tokenizer = small
    questions = asked_of(12, seed=3)
    draw = scratchpad.outcomes(model, tokenizer, questions, room=8, asked=6, n=5, right=by_parity, seed=4)
    return questions, draw, draw(0)


def test_outcomes_are_what_the_texts_say(small, drawn):
    """Rewards from each row's own text and its own question; group counts the prompts; keep is 1 where right;
    the advantages are GRPO's."""
    _, tokenizer = small
    questions, _, batch = drawn
    by_prompt = {tuple(tokenizer.prompt(q.prompt)): q for q in questions}
    assert batch.group.tolist() == [i // 5 for i in range(30)]
    rewards, prompts = [], []
    for row, mask in zip(batch.tokens, batch.response_mask):
        start = int(mask.int().argmax())
        prompts.append(tuple(row[:start].tolist()))
        rewards.append(float(by_parity(by_prompt[prompts[-1]], tokenizer.read_response(row[mask].tolist()))))
    assert batch.rewards.tolist() == rewards and 0 < sum(rewards) < 30
    assert batch.keep.tolist() == [r == 1 for r in rewards]
    assert len(set(prompts)) == 6 and all(len(set(prompts[i:i + 5])) == 1 for i in range(0, 30, 5))
    assert torch.equal(batch.advantages, grpo.advantages(batch.rewards, batch.group))
    # the two methods differ in F alone, on the same batch
    kept = self_training.coefficient(batch)
    assert torch.equal(kept, batch.rewards)
    F = grpo.coefficient(batch, batch.logprobs, average=None)
    assert torch.allclose(F, torch.where(batch.response_mask, batch.advantages[:, None], 0.0))


def test_a_step_draws_the_same_again_and_another_step_another(drawn):
    _, draw, batch = drawn
    again, other = draw(0), draw(1)
    for name in ("tokens", "rewards", "keep", "advantages", "logprobs", "group"):
        assert torch.equal(getattr(again, name), getattr(batch, name)), name
    assert other.tokens.shape != batch.tokens.shape or not torch.equal(other.tokens, batch.tokens)


def test_how_goes_to_the_advantages(small):
    model, tokenizer = small
    draw = scratchpad.outcomes(model, tokenizer, asked_of(4), 8, asked=4, n=4, right=by_parity, divide=False,
                               leave_one_out=True)
    batch = draw(3)
    assert torch.equal(batch.advantages, grpo.advantages(batch.rewards, batch.group, False, True))


def test_what_one_watches(drawn):
    """By hand, over the rows of the draw."""
    _, _, batch = drawn
    shown = scratchpad.watch(batch, batch.logprobs, batch.advantages)
    groups = [batch.rewards[batch.group == g] for g in range(6)]
    lengths = batch.response_mask.sum(1).float()
    assert shown["right"] == pytest.approx(batch.rewards.mean().item())
    assert shown["solved"] == pytest.approx(sum(bool(r.any()) for r in groups) / 6)
    assert shown["tokens"] == pytest.approx(lengths.mean().item())
    assert shown["entropy"] == pytest.approx(
        -batch.logprobs[batch.response_mask].sum().item() / lengths.sum().item())


@pytest.mark.parametrize("said, how", [
    ("asked is 5", {"asked": 5}), ("n is 1", {"n": 1}), ("temperature is 0", {"temperature": 0})])
def test_bad_draws_are_refused(small, said, how):
    with pytest.raises(ValueError, match=said):
        scratchpad.outcomes(*small, asked_of(4), **{"asked": 2} | how)


# --- rewards for steps: the draw (its mathematics is in tests/laws/test_steps.py) -------------------


def player_draw(**how):
    """A draw of the shipped player, with 12 chains from three held-out hands."""
    player, tokenizer = hub.load("player")
    asked = [Question("24", p.key, p.prompt, "", "", "", "") for p in countdown.hands(True)[:3]]
    values = how.pop("value", lambda states: [0.25] * len(states))
    draw = steps.judged(player, tokenizer, asked, values, 80, stop="]", asked=3, n=4,
                        right=lambda q, y: True, **how)
    return draw(0), tokenizer


@pytest.mark.parametrize("lam", [0.0, 1.0])
def test_a_judge_that_says_the_same_of_all_leaves_the_outcome(lam):
    """V = 0.25 everywhere, R = 1: by λ = 1 each token has 0.75, by λ = 0 the last step and what follows."""
    batch, tokenizer = player_draw(lam=lam)
    mask = batch.response_mask
    stop = tokenizer.encode("]")[0]
    assert batch.advantages.shape == mask.shape and batch.divide_by == len(mask) == 12
    assert not batch.advantages[~mask].any()
    for F, tokens, own in zip(batch.advantages, batch.tokens, mask):
        stops = [i for i, t in enumerate(tokens.tolist()) if own[i] and t == stop]
        last = stops[-2] if len(stops) > 1 else -1          # where the last but one step ends
        for i in own.nonzero()[:, 0].tolist():
            assert F[i] == (0.75 if lam or i > last else 0.0)


def test_each_state_is_asked_about_once_and_with_its_hand():
    """The judge gets (prompt, scratchpad): the hand as it was asked, and whole steps."""
    seen = []

    def value(states):
        seen.extend(states)
        return [tree.Judged(0.5)] * len(states)

    batch, _ = player_draw(value=value)
    assert len(seen) == len(set(seen))
    assert {x for x, _ in seen} == {p.prompt for p in countdown.hands(True)[:3]}
    assert all(z == "" or z.endswith("]") for _, z in seen)
    assert sum(z == "" for _, z in seen) == 3
    assert max(z.count("]") for _, z in seen) == 2          # three steps: the third is worth the outcome


def test_continuations_are_counted_for_their_own_state():
    """Only continuations of the second hand are called right: 0, 1, 0, whatever the batch."""
    player, tokenizer = hub.load("player")
    hands = [p.prompt for p in countdown.hands(True)[:3]]
    value = steps.continued(player, tokenizer, lambda x, y: x == hands[1], n=3, room=8)
    assert value([(x, "") for x in hands]) == [0.0, 1.0, 0.0]
    read = []

    def told(x, y):
        read.append(y.thought)
        return False

    steps.continued(player, tokenizer, told, n=2, room=8)([(hands[0], "1+1=2")])
    assert len(read) == 2 and all(thought.startswith("1+1=2") for thought in read)


def test_a_stop_of_several_tokens_is_refused():
    with pytest.raises(ValueError, match="stop"):
        player, tokenizer = hub.load("player")
        steps.judged(player, tokenizer, [], None, stop="]]]")
