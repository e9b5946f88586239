"""Toolformer: losses against a loop over tokens, places and what stays against lists, texts with their calls.

The loop asks the readable model for each token by itself, one text at a time, without padding or a mask.
"""

from __future__ import annotations

import random
import re
from fractions import Fraction
from itertools import product

import pytest
import torch

from conftest import Tiny
from minillm.acting import toolformer
from minillm.acting.calculator import calculator
from minillm.acting.tools import run
from minillm.acting.toolformer import (
    Candidate, Losses, annotate, best, candidates, kept, losses, p_call, places, weights, written
)
from minillm.acting.transcript import demonstrate
from minillm.batch import batch_pairs, batch_turns
from minillm.logprob import logprobs
from minillm.tokenizer import Tokenizer
from minillm.worlds.totals import HIGH, LOW, Totals
from minillm.worlds.town import Town

WORDS = Tokenizer.train(["Ada has 28 and 34. They have 62. calculator(28+34)"], 290)
MODEL = Tiny(vocab_size=WORDS.vocab_size, context=96)
TEXTS = [[*WORDS.encode(text), WORDS.end] for text in ("Ada has 28 and 34. They have 62.", "Ada has 5.")]
TOTALS = Totals(Town(0, people=3))


def tried(*cases):
    """Candidates of (text, place, expression)."""
    return [Candidate(n, i, run([calculator], f"calculator({sum_})"), 0.5) for n, i, sum_ in cases]


def slow(before, token, forbid):
    """−log p of a token, or of it among those that are not [CALL]."""
    p = MODEL.after(before).detach().softmax(-1)
    return -torch.log(p[token] / (1 - p[WORDS.call] if forbid else 1))


# --- weights, places ------------------------------------------------------------------------------


def test_weights_are_the_papers():
    """w~_t = max(0, 1 − 0.2 t), over the sum for t = 0, 1, 2, …, in exact fractions: 5, 4, 3, 2, 1 of 15."""
    raw = [max(Fraction(0), 1 - Fraction(t, 5)) for t in range(100)]
    for T in (1, 3, 5, 9):
        assert weights(T).tolist() == pytest.approx([float(w / sum(raw)) for w in raw[:T]], abs=1e-15)
    assert weights(7).mul(15).tolist() == pytest.approx([5, 4, 3, 2, 1, 0, 0])
    assert float(weights(3).sum()) == pytest.approx(12 / 15)    # the rest of a short text is not made up for


def test_p_call_is_the_models():
    """At each place of texts of unequal lengths, beside the readable model."""
    found = p_call(MODEL, WORDS, TEXTS)
    assert [len(p) for p in found] == [len(text) for text in TEXTS]
    for text, p in zip(TEXTS, found):
        for i in range(len(text)):
            exact = MODEL.after([WORDS.end, *text[:i]]).detach().softmax(-1)[WORDS.call]
            assert float(p[i]) == pytest.approx(float(exact), rel=1e-10)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_places_by_listing(k):
    """All p of three values at four places: no place outside beats one inside, and the earlier wins a tie."""
    for p in product([0.0, 0.05, 0.3], repeat=4):
        found = places(torch.tensor(p), k, tau_s=0.04)
        ranked = sorted((i for i in range(4) if p[i] > 0.04), key=lambda i: (-p[i], i))
        assert found == sorted(ranked[:k])
    assert places(torch.tensor([0.3, 0.2]), 2, tau_s=0.2) == [0]       # above, not at


# --- losses and what stays ------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", [False, True])
@pytest.mark.parametrize("forbid", [False, True])
def test_losses_against_a_loop_over_tokens(prefix, forbid):
    """L+ and the two of L−, token by token, at the beginning, within a text, and near its end."""
    some = tried((0, 0, "1+1"), (0, 9, "28+34"), (1, 3, "5+5"), (0, len(TEXTS[0]) - 2, "2*31"),
                 (1, len(TEXTS[1]) - 1, "7"))
    found = losses(MODEL, WORDS, TEXTS, some, prefix, forbid)
    for n, c in enumerate(some):
        text, e = TEXTS[c.text], [WORDS.call, *WORDS.encode(c.made.text), WORDS.call_end, WORDS.reply]
        whole = [*e, *WORDS.encode(c.made.reply), WORDS.reply_end]
        for call, one in zip((whole, [], [*e, WORDS.reply_end]), found):
            total = 0.0
            for j in range(c.place, len(text)):
                w = max(0.0, 1 - 0.2 * (j - c.place)) / 3
                x = [*call, *text[:j]] if prefix else [*text[:c.place], *call, *text[c.place:j]]
                total += w * float(slow([WORDS.end, *x], text[j], forbid))
            assert float(one[n]) == pytest.approx(total, rel=1e-10)


def test_losses_of_many_rows_are_those_of_each(monkeypatch):
    """However the rows are cut into passes."""
    some = tried(*((n % 2, 1 + n % 5, f"{n}+3") for n in range(9)))
    found = losses(MODEL, WORDS, TEXTS, some)
    monkeypatch.setattr(toolformer, "ROWS", 4)
    for one, other in zip(found, losses(MODEL, WORDS, TEXTS, some)):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=0)
    alone = losses(MODEL, WORDS, TEXTS, some[3:4])
    assert float(alone.gain[0]) == pytest.approx(float(found.gain[3]), rel=1e-10)


def test_a_sure_call_costs_nothing_where_calls_are_forbidden():
    """A model that writes [CALL] with p = 1 has finite losses, and they are those of one that never does."""
    class Sure(Tiny):
        push = 0.0

        def logits(self, hidden):
            said = super().logits(hidden)
            bias = torch.zeros_like(said)
            bias[..., WORDS.call] = self.push
            return said + bias

    model = Sure(vocab_size=WORDS.vocab_size, context=96)
    some, found = tried((0, 9, "28+34")), []
    for model.push in (500.0, -500.0):
        found.append(losses(model, WORDS, TEXTS, some))
        assert torch.stack(list(found[-1])).isfinite().all()
    torch.testing.assert_close(torch.stack(list(found[0])), torch.stack(list(found[1])))
    model.push = 500.0
    assert float(losses(model, WORDS, TEXTS, some, forbid=False).nothing) > 100


def test_what_stays_by_cases():
    """The reply has to beat both: doing nothing, and the call with an empty reply. At tau_f exactly, it does.
    """
    rows = [(0.5, 2.0, 2.5, True),      # better than both, by 1.5
            (0.5, 2.0, 0.6, False),     # the call alone helps as much: its reply is worth 0.1
            (0.5, 0.6, 2.0, False),     # the text is as likely without
            (1.0, 2.0, 2.0, True),      # by 1 exactly
            (3.0, 2.0, 2.0, False)]     # the reply misleads
    found = Losses(*torch.tensor([row[:3] for row in rows], dtype=torch.float64).T)
    assert kept(found, 1.0).tolist() == [row[3] for row in rows]
    assert found.gain.tolist() == pytest.approx([1.5, 0.1, 0.1, 1.0, -1.0])
    for tau in (-2.0, 0.1, 0.5, 1.2):
        wanted = [nothing - plus >= tau and empty - plus >= tau for plus, nothing, empty, _ in rows]
        assert kept(found, tau).tolist() == wanted


# --- calls that are tried -------------------------------------------------------------------------


def test_calls_are_read_made_and_counted_once(monkeypatch):
    """Of five that were drawn at a place: two the same, one that errs, one not closed, one that is none."""
    drawn = [[*WORDS.encode("calculator(28+34)"), WORDS.call_end]] * 2 + [
        [*WORDS.encode("calculator(28+"), WORDS.call_end], WORDS.encode("calculator(28+34)"),
        [*WORDS.encode("have 62"), WORDS.end]]

    def sample(model, prompts, most, *, n, end, generator):
        assert n == 5 and set(end) == {WORDS.call_end, WORDS.end} and generator is None
        assert all(prompt[0] == WORDS.end and prompt[-1] == WORDS.call for prompt in prompts)
        batch = batch_pairs([(prompt, ids) for prompt in prompts for ids in drawn])
        batch.group = torch.arange(len(prompts)).repeat_interleave(n)
        asked.extend(prompts)
        return batch

    asked: list = []
    monkeypatch.setattr(toolformer, "sample", sample)
    found = candidates(MODEL, WORDS, TEXTS, [calculator], k=2, m=5, tau_s=0.0)
    p = p_call(MODEL, WORDS, TEXTS)
    wanted = [(n, i) for n in range(2) for i in places(p[n], 2, 0.0)]
    assert [prompt[1:-1] for prompt in asked] == [TEXTS[n][:i] for n, i in wanted]
    assert [(c.text, c.place, c.made.text, c.made.ok) for c in found] == [
        (n, i, text, ok) for n, i in wanted for text, ok in (("calculator(28+34)", True),
                                                             ("calculator(28+", False))]
    assert found[0].made.reply == "62" and found[1].made.reply.startswith("error:")
    assert [c.p for c in found] == [float(p[c.text][c.place]) for c in found]


def test_the_same_seed_tries_the_same():
    """By a model that knows nothing: whatever it writes, nothing is raised."""
    found = [candidates(MODEL, WORDS, TEXTS, [calculator], k=3, m=8, tau_s=0.0, longest=6,
                        generator=torch.Generator().manual_seed(4)) for _ in range(2)]
    assert [(c.place, c.made.text) for c in found[0]] == [(c.place, c.made.text) for c in found[1]]
    assert candidates(MODEL, WORDS, TEXTS, [calculator], tau_s=0.999) == []


# --- texts with their calls -----------------------------------------------------------------------


def test_a_text_with_calls_in_their_places():
    """Without calls and replies it is the text; y leaves the replies out; a call says where it stands."""
    some = tried((0, 9, "28+34"), (0, 0, "1+1"), (0, 4, "2*3"))
    row = annotate(WORDS, TEXTS[0], some)
    whole = list(TEXTS[0])
    for c in sorted(some, key=lambda c: -c.place):
        whole[c.place:c.place] = written(WORDS, c.made)
    assert row.ids == whole and row.prompt == [WORDS.end]
    assert row.response(WORDS).text == "Ada has 28 and 34. They have 62."
    assert [made.text for made in row.calls] == ["calculator(1+1)", "calculator(2*3)", "calculator(28+34)"]
    replies = [row.ids[made.start:made.end] for made in row.calls]
    assert [WORDS.decode(ids, specials=True) for ids in replies] == [
        f"<|call|>{made.text}<|/call|><|reply|>{made.reply}<|/reply|>" for made in row.calls]
    not_mine = [WORDS.decode([token]) for token, mine in zip(row.ids, row.response_mask) if not mine]
    assert "".join(not_mine) == "2662"
    assert row.response_mask.count(False) == 4 + 2 * 3                          # two marks a reply


def test_y_is_what_a_person_would_have_written():
    """A call at the beginning: the mask, the layout and log p are those of `demonstrate`."""
    text = WORDS.encode("They have 62.")
    row = annotate(WORDS, [*text, WORDS.end], tried((0, 0, "28+34")))
    other = demonstrate(WORDS, "?", ["calculator(28+34)"], "They have 62.", [calculator])
    assert (row.ids, row.response_mask) == (other.ids, other.response_mask)
    batch = batch_turns([row.turns()])
    logp = logprobs(MODEL, batch)[0]
    before = [WORDS.end]
    for token, mine, found in zip(row.ids, row.response_mask, logp[1:].tolist()):
        assert found == pytest.approx(-float(slow(before, token, False)) if mine else 0.0, rel=1e-10)
        before.append(token)


def test_the_best_call_of_a_place():
    """One for each place of each text, the first of equal ones, in order."""
    some = tried((1, 2, "1"), (0, 5, "2"), (0, 5, "3"), (0, 1, "4"), (1, 2, "5"))
    assert best(some, torch.tensor([0.5, 0.1, 0.7, -1.0, 0.5])) == [some[3], some[2], some[0]]
    assert best([], torch.zeros(0)) == []
    annotate(WORDS, TEXTS[0], [c for c in best(some, torch.zeros(5)) if c.text == 0])


# --- the texts of the chapter ---------------------------------------------------------------------


def test_totals_are_right_and_where_they_are_said_to_be():
    """Amounts, total and place, read from the text by itself; no pair of amounts is on both sides."""
    pairs = {False: set(), True: set()}
    for held in pairs:
        for told in TOTALS.texts(400, held, random.Random(1)):
            found = re.search(r"has (\d+) \w+(?: and|\.) \w+ has (\d+)\. [A-Za-z ]+ (\d+) ", told.text)
            a, b, total = map(int, found.groups())
            assert (a, b) == told.terms and a + b == total and told.total == str(total)
            assert found.start(3) == told.at and LOW <= min(a, b) <= max(a, b) <= HIGH
            assert len(re.findall(r"\d+", told.text)) >= 4                      # another number comes later
            pairs[held].add(frozenset((a, b)))
            assert TOTALS.is_held_out(a, b) == TOTALS.is_held_out(b, a) == held
    assert not pairs[False] & pairs[True]
    assert TOTALS.texts(3, True, random.Random(5)) == TOTALS.texts(3, True, random.Random(5))


# --- what cannot be used --------------------------------------------------------------------------


@pytest.mark.parametrize("wrong, says", [
    (lambda: weights(0), "T is 0"),
    (lambda: places(torch.zeros(2, 2)), "p is of shape"),
    (lambda: places(torch.zeros(3), k=0), "k is 0"),
    (lambda: p_call(MODEL, WORDS, "a text"), "give a list of ids"),
    (lambda: p_call(MODEL, WORDS, []), "give a list of ids"),
    (lambda: p_call(MODEL, WORDS, ["a text"]), r"texts\[0\] is a text: give its ids"),
    (lambda: p_call(MODEL, WORDS, [TEXTS[0], []]), r"texts\[1\] is empty: leave it out"),
    (lambda: p_call(MODEL, WORDS, [[WORDS.call]]), r"texts\[0\] is one with a call"),
    (lambda: candidates(MODEL, WORDS, TEXTS, [calculator], m=0), "m is 0"),
    (lambda: candidates(MODEL, WORDS, TEXTS, calculator), "give a list of functions"),
    (lambda: losses(MODEL, WORDS, TEXTS, []), "tried is empty"),
    (lambda: losses(MODEL, WORDS, TEXTS, tried((2, 0, "1"))), r"tried\[0\] is of text 2, place 0"),
    (lambda: losses(MODEL, WORDS, TEXTS, tried((0, 0, "1"), (1, 99, "1"))), r"tried\[1\] is of text 1"),
    (lambda: best(tried((0, 0, "1")), torch.zeros(2)), "gain is of shape"),
    (lambda: annotate(WORDS, TEXTS[0], tried((0, 3, "1"), (0, 3, "2"))), "with one at place 3"),
    (lambda: annotate(WORDS, TEXTS[0], tried((0, 999, "1"))), "with one at place 999"),
    (lambda: annotate(WORDS, TEXTS[0], tried((0, 2, "1+"))), "came to an error"),
    (lambda: TOTALS.texts(0, True, random.Random(0)), "n is 0"),
])
def test_bad_input_is_named(wrong, says):
    with pytest.raises(ValueError, match=says):
        wrong()
