"""Tools by listing: a reply's tokens are no choice of the policy, so they have no place in its gradient.

Every transcript of a small policy with a tool is listed: what the policy writes up to a call, what the tool
writes back (by chance, too), what the policy writes then. The objective is the sum of p · q · R over all of
them, where p is of the policy's tokens alone, and q is of the tool's.
"""

from __future__ import annotations

import pytest
import torch

from conftest import Table, Tiny, difference, gradients_of, numeric_gradient, random, relative_error
from minillm.acting.transcript import Transcript, batch_transcripts
from minillm.identity import surrogate
from minillm.logprob import logprobs
from minillm.methods import reinforce

PROMPT = [1, 2]
V, END, CALL_END = 4, 0, 3
LONGEST = 3                     # tokens of the policy
FINITE, ROUNDING = 1e-8, 1e-12


def fixed(ids):
    """A tool that answers in one way: two tokens after a call of the word 1, one after any other."""
    return [(1.0, [2, 1] if ids[-2:-1] == [1] else [1])]


def by_chance(ids):
    """A tool that answers in one of two ways: a search whose records change, a person."""
    return [(0.3, [1]), (0.7, [2, 2])]


def listed(tool):
    """Every transcript with its q, the chance that the tool says what it says there."""
    def go_on(ids, mask, q):
        if ids and mask[-1] and ids[-1] == END:
            yield Transcript(PROMPT, ids, mask, [0.0] * len(ids), stopped="end"), q
        elif sum(mask) == LONGEST:
            yield Transcript(PROMPT, ids, mask, [0.0] * len(ids), stopped="tokens"), q
        elif ids and mask[-1] and ids[-1] == CALL_END:
            for chance, reply in tool(ids):
                yield from go_on(ids + reply, mask + [False] * len(reply), q * chance)
        else:
            for token in range(V):
                yield from go_on(ids + [token], mask + [True], q)

    found = list(go_on([], [], 1.0))
    return [row for row, _ in found], torch.tensor([q for _, q in found], dtype=torch.float64)


def slow_logp(policy, rows, replies=False):
    """log p of the policy's tokens of each transcript, (N,), from its own `after`; replies: of all tokens."""
    seen = {}

    def of(row, t):
        text = (*row.prompt, *row.ids[:t])
        if text not in seen:
            seen[text] = policy.after(text).log_softmax(-1)
        return seen[text][row.ids[t]]

    return torch.stack([sum(of(row, t) for t, mine in enumerate(row.response_mask) if mine or replies)
                        for row in rows])


@pytest.fixture(params=["table", "transformer"])
def policy(request):
    """A policy whose contexts hold the longest transcript: a call, its reply, another, its reply, a word."""
    if request.param == "table":
        return Table([PROMPT], V, 2 * LONGEST + 1, seed=3)
    return Tiny(seed=5, vocab_size=V, context=16)      # which calls as its first token in 36 %


@pytest.fixture(params=[fixed, by_chance], ids=["a tool that is fixed", "a tool by chance"])
def world(request):
    """(rows, q, R) of every transcript."""
    rows, q = listed(request.param)
    return rows, q, random(len(rows), seed=5)


def estimated(policy, rows, weight, replies):
    """What `surrogate` gives over all transcripts, each weighed as often as it is drawn: F·∇ log p."""
    batch = batch_transcripts(rows, replies)
    return gradients_of(surrogate(weight, logprobs(policy, batch), batch.response_mask, 1), policy)


def test_all_transcripts_together_are_certain(policy, world):
    """Σ p·q = 1, with the tool's tokens at q: with p of all tokens it is less."""
    rows, q, _ = world
    assert float((slow_logp(policy, rows).exp() * q).sum().detach()) == pytest.approx(1, abs=1e-12)
    assert float((slow_logp(policy, rows, replies=True).exp() * q).sum().detach()) < 0.9


def test_without_the_replies_it_is_the_policy_gradient(policy, world):
    rows, q, R = world
    p = slow_logp(policy, rows).exp().detach()
    found = estimated(policy, rows, p * q * R, replies=False)
    slopes = numeric_gradient(lambda: (slow_logp(policy, rows).exp() * q * R).sum(), policy.parameters())
    assert relative_error(found, slopes) < FINITE


def test_with_the_replies_it_is_not(policy, world):
    """It is off by more than a tenth of the largest number in the gradient, which is the objective's own."""
    rows, q, R = world
    objective = (slow_logp(policy, rows).exp() * q * R).sum()
    p = slow_logp(policy, rows).exp().detach()
    known = gradients_of(objective, policy)
    assert difference(estimated(policy, rows, p * q * R, replies=False), known) < 1e-10
    assert difference(estimated(policy, rows, p * q * R, replies=True), known) > 0.1


def test_the_score_has_mean_zero_only_without_the_replies(policy, world):
    """E[∇ log p] = 0: why a baseline costs nothing. With the replies a constant reward would teach."""
    rows, q, _ = world
    p = slow_logp(policy, rows).exp().detach()
    inside, outside = (estimated(policy, rows, p * q, replies) for replies in (False, True))
    assert max(float(g.abs().max()) for g in inside) < 1e-12
    assert max(float(g.abs().max()) for g in outside) > 1e-2


def test_in_supervised_learning_the_replies_are_another_objective(policy, world):
    """Weights that do not depend on θ: each mask is the gradient of its own likelihood, and they differ."""
    rows, q, _ = world
    weight = random(len(rows), seed=7).softmax(0) * q
    found = {}
    for replies in (False, True):
        found[replies] = estimated(policy, rows, weight, replies)
        known = gradients_of((weight * slow_logp(policy, _whole(rows), replies)).sum(), policy)
        assert difference(found[replies], known) < ROUNDING
    assert difference(found[True], found[False]) > 0.1


def _whole(rows):
    """The same without a last reply: nothing comes behind it, and no batch holds it."""
    def cut(row):
        end = max(t for t, mine in enumerate(row.response_mask) if mine) + 1
        return Transcript(row.prompt, row.ids[:end], row.response_mask[:end])
    return [cut(row) for row in rows]


def test_reinforce_takes_transcripts_as_they_are(policy, world):
    """Its coefficient on such a batch: the same gradient with a baseline, to rounding."""
    rows, q, R = world
    batch = batch_transcripts(rows)
    p = slow_logp(policy, rows).exp().detach()
    batch.rewards, batch.baseline = R, 0.7
    logp = logprobs(policy, batch)
    F = reinforce.coefficient(batch, logp.detach())
    weight = p * q * F if F.ndim == 1 else (p * q)[:, None] * F
    found = gradients_of(surrogate(weight, logp, batch.response_mask, 1), policy)
    known = gradients_of((slow_logp(policy, rows).exp() * q * R).sum(), policy)
    assert difference(found, known) < 1e-10


@pytest.mark.parametrize("bug", ["the call's end mark is left out", "the reply's last token counts"])
def test_a_mask_that_is_off_by_one_is_seen(policy, world, bug):
    """The two ways in which a mask slips: each moves the gradient."""
    rows, q, R = world
    batch = batch_transcripts(rows)
    p = slow_logp(policy, rows).exp().detach()
    mine = batch.response_mask
    before = torch.roll(mine, -1, 1)                # True where the next token is the policy's
    inside = torch.zeros_like(mine)
    for b, row in enumerate(_whole(rows)):
        inside[b, len(PROMPT):len(PROMPT) + len(row.ids)] = True
    if bug == "the reply's last token counts":
        batch.response_mask = mine | inside & before
    else:
        batch.response_mask = mine & ~((batch.tokens == CALL_END) & torch.roll(inside & ~mine, -1, 1))
    assert not torch.equal(batch.response_mask, mine)
    found = gradients_of(surrogate(p * q * R, logprobs(policy, batch), batch.response_mask, 1), policy)
    known = gradients_of((slow_logp(policy, rows).exp() * q * R).sum(), policy)
    assert difference(found, known) > 1e-2
