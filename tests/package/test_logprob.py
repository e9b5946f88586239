"""log p(y|x): the shift, the gather and the mask, by hand; the distributions that are drawn from; windows of
a long text.
"""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import PROMPTS, Table, Tiny, V
from minillm.batch import Batch, batch_pairs
from minillm.logprob import answer_logprobs, entropy, logprobs
from minillm.logprob import logprobs_of_logits, masked_mean, text_nats, warp

INF = math.inf


class Walk(torch.nn.Module):
    """p(next | last token) alone, from a table of logits: what can be checked with a pencil."""

    def __init__(self, probabilities):
        super().__init__()
        self.table = torch.nn.Parameter(torch.tensor(probabilities, dtype=torch.float64).log())
        self.config = type("Config", (), {"vocab_size": len(probabilities)})

    def hidden(self, tokens):
        return self.table[tokens]

    def logits(self, hidden):
        return hidden


WALK = Walk([[0.5, 0.25, 0.25], [0.125, 0.125, 0.75], [0.25, 0.5, 0.25]])


# --- by hand ------------------------------------------------------------------------------------------------


def test_a_row_by_hand():
    """Prompt [1, 2], response [1, 2, 0]: p(1|2) = 1/2, p(2|1) = 3/4, p(0|2) = 1/4; their product is 3/32.

    Prompt and padding: 0.
    """
    batch = batch_pairs([([1, 2], [1, 2, 0]), ([0], [2])])
    logp = logprobs(WALK, batch)
    assert torch.allclose(
        logp.detach().exp(), torch.tensor([[1, 1, 0.5, 0.75, 0.25], [1, 0.25, 1, 1, 1]], dtype=torch.float64)
    )
    assert (logp[~batch.response_mask] == 0).all()
    whole = answer_logprobs(logp, batch.response_mask)
    assert whole.detach().exp().tolist() == pytest.approx([3 / 32, 1 / 4])


def test_the_end_token_belongs_to_the_answer():
    """[1, 0] and [1] differ by p(0|1) = 1/8."""
    batch = batch_pairs([([2], [1, 0]), ([2], [1])])
    whole = answer_logprobs(logprobs(WALK, batch), batch.response_mask).detach().exp()
    assert (whole[0] / whole[1]).item() == pytest.approx(1 / 8)


def test_without_a_mask_all_but_the_first_token_are_scored():
    """[1, 2, 1, 1]: 0, then p(2|1) = 3/4, p(1|2) = 1/2, p(1|1) = 1/8."""
    logp = logprobs(WALK, Batch(torch.tensor([[1, 2, 1, 1]]))).detach().exp()
    assert logp[0].tolist() == pytest.approx([1, 3 / 4, 1 / 2, 1 / 8])


def test_targets_are_scored_in_the_place_of_the_tokens():
    """Context from tokens [2, 1, 2], scored 0 after 2 and 2 after 2, 1: p(0|2) = 1/4, p(0|1) = 1/8."""
    tokens, mask = torch.tensor([[2, 1, 2]]), torch.tensor([[False, True, True]])
    batch = Batch(tokens, mask, targets=torch.tensor([[0, 0, 0]]))
    logp = logprobs(WALK, batch).detach().exp()
    assert logp[0].tolist() == pytest.approx([1, 1 / 4, 1 / 8])


def test_a_mask_with_holes_scores_what_it_marks():
    """Tokens that a tool wrote are context and not scored: only places 1 and 3 of [0, 1, 2, 0]."""
    mask = torch.tensor([[False, True, False, True]])
    logp = logprobs(WALK, Batch(torch.tensor([[0, 1, 2, 0]]), mask)).detach().exp()
    assert logp[0].tolist() == pytest.approx([1, 1 / 4, 1, 1 / 4])


def test_only_what_it_needs_is_read():
    """A table that holds NaN wherever no log-probability depends on it: inside the prompt, after the end, on
    padding.
    """
    policy = Table(PROMPTS, V, 3, seed=1)
    batch = batch_pairs([([1], [0]), ([2, 1], [1, 2, 1]), ([1], [2, 0])])
    logp = logprobs(policy, batch)
    assert logp.isfinite().all()
    logp.sum().backward()
    assert policy.theta.grad.isfinite().all()


def test_padding_and_neighbours_change_nothing():
    """A row alone, and the same row beside a longer one."""
    model = Tiny(vocab_size=7)
    alone, beside = (
        batch_pairs([([1, 2], [3, 0])]),
        batch_pairs([([1, 2], [3, 0]), ([1], [4, 5, 6, 2, 1, 0])]),
    )
    one = logprobs(model, alone)
    two = logprobs(model, beside)
    assert torch.allclose(one[0], two[0, :4], rtol=0, atol=1e-12)
    assert (two[0, 4:] == 0).all()


def test_an_answers_log_p_is_a_sum_even_where_a_masked_place_is_not_a_number():
    """−1 and −2 inside, NaN and −∞ outside: −3, and a gradient of 1, 1 and 0."""
    logp = torch.tensor([[math.nan, -1.0, -2.0, -INF]], requires_grad=True)
    whole = answer_logprobs(logp, torch.tensor([[False, True, True, False]]))
    whole.sum().backward()
    assert whole.item() == -3 and logp.grad.tolist() == [[0, 1, 1, 0]]


# --- from logits, and for the log ---------------------------------------------------------------------------


def test_logits_are_scored_as_their_model_is():
    """Holes in the mask, padding, no mask: values and every weight's gradient are those of `logprobs`."""
    model = Tiny(vocab_size=11)
    batch = batch_pairs([([1, 2], [3, 4, 0]), ([5], [6, 7, 8, 9, 0]), ([1, 1, 1], [2])])
    batch.response_mask[1, 3] = False  # a tool wrote this one
    for mask in (batch.response_mask, None):
        whole = logprobs(model, Batch(batch.tokens, mask))
        apart = logprobs_of_logits(model(batch.tokens), batch.tokens, mask)
        assert torch.allclose(apart, whole, rtol=0, atol=1e-12) and (apart == 0).equal(whole == 0)
        weight = torch.linspace(-1, 2, whole.numel(), dtype=torch.float64).view_as(whole)
        weights = list(model.parameters())
        for a, b in zip(*(torch.autograd.grad((weight * x).sum(), weights) for x in (apart, whole))):
            assert torch.allclose(a, b, rtol=0, atol=1e-12 * max(1.0, float(b.abs().max())))


def test_logits_by_hand():
    """Odds 1 : 3, then 7 : 1, for tokens 0 and 1; [1, 0] behind a 0: 3/4, 7/8. The last place is not read."""
    logits = torch.tensor([[[1.0, 3], [7, 1], [math.nan, math.nan]]]).log()
    found = logprobs_of_logits(logits, torch.tensor([[0, 1, 0]])).exp()
    assert found[0].tolist() == pytest.approx([1, 3 / 4, 7 / 8])
    assert logprobs_of_logits(logits[:, :2].half(), torch.tensor([[0, 1]])).dtype == torch.float32
    warped = logprobs_of_logits(warp(logits[:, :2], 0.5), torch.tensor([[0, 1]])).exp()
    assert warped[0].tolist() == pytest.approx([1, 9 / 10])  # 3² of 1² + 3²


def test_entropy_by_hand():
    """Four alike: log 4. One sure: 0. A half, two quarters, one forbidden: 1.5 log 2, with its gradient."""
    assert entropy(torch.zeros(4)).item() == pytest.approx(math.log(4))
    logits = torch.tensor([[[0.5, 0.25, 0.25, 0], [0, 1, 0, 0]]], dtype=torch.float64).log().requires_grad_()
    H = entropy(5 + logits)
    assert H.shape == (1, 2) and H[0].tolist() == pytest.approx([1.5 * math.log(2), 0])
    H.sum().backward()
    assert logits.grad.isfinite().all()
    # dH/dz = −p·(log p + H): −½·(−log 2 + 1.5 log 2) on the half
    assert logits.grad[0, 0].tolist() == pytest.approx([x * math.log(2) for x in (-0.25, 0.125, 0.125, 0)])


def test_entropy_is_of_what_comes_behind_a_place():
    """The docstring's mean over a response, [1, 2] behind [2]: of the walk's rows 2 and 1."""
    batch = batch_pairs([([2], [1, 2])])
    H = [-(row.exp() * row).sum().item() for row in WALK.table.detach()]
    mean = masked_mean(entropy(WALK.table[batch.tokens])[:, :-1], batch.response_mask[:, 1:])
    assert mean.item() == pytest.approx((H[2] + H[1]) / 2)


def test_masked_mean_by_hand():
    """1, 2 and 6: 3 over all, 1.5 and 6 of the rows. What is masked out may be NaN, and gets no gradient."""
    values = torch.tensor([[1, 2, math.nan], [6, -INF, 9]], requires_grad=True)
    mask = torch.tensor([[True, True, False], [True, False, False]])
    assert masked_mean(values, mask).item() == 3 and masked_mean(values, mask, axis=1).tolist() == [1.5, 6]
    masked_mean(values, mask).backward()
    assert torch.allclose(values.grad, mask / 3)


# --- the distribution that is drawn from --------------------------------------------------------------------


def odds(**settings):
    """warp on probabilities (0.4, 0.3, 0.2, 0.1), as probabilities."""
    return warp(torch.tensor([[0.4, 0.3, 0.2, 0.1]], dtype=torch.float64).log(), **settings).exp()[0].tolist()


@pytest.mark.parametrize(
    "settings, by_hand",
    [
        ({}, [0.4, 0.3, 0.2, 0.1]),
        ({"temperature": 0.5}, [16 / 30, 9 / 30, 4 / 30, 1 / 30]),  # p² and 16 + 9 + 4 + 1 = 30
        ({"temperature": 0}, [1, 0, 0, 0]),
        ({"top_k": 1}, [1, 0, 0, 0]),
        ({"top_k": 2}, [4 / 7, 3 / 7, 0, 0]),
        ({"top_k": 4}, [0.4, 0.3, 0.2, 0.1]),
        ({"top_k": 99}, [0.4, 0.3, 0.2, 0.1]),
        ({"top_p": 1.0}, [0.4, 0.3, 0.2, 0.1]),
        ({"top_p": 1e-9}, [1, 0, 0, 0]),  # never fewer than one
        ({"top_p": 0.39}, [1, 0, 0, 0]),
        ({"top_p": 0.41}, [4 / 7, 3 / 7, 0, 0]),  # 0.4 is not enough
        ({"top_p": 0.69}, [4 / 7, 3 / 7, 0, 0]),
        ({"top_p": 0.71}, [4 / 9, 3 / 9, 2 / 9, 0]),
        # temperature first: 16/30 = 0.53 < 0.6 < 25/30
        ({"temperature": 0.5, "top_p": 0.6}, [16 / 25, 9 / 25, 0, 0]),
        # top-k first: 4/7 = 0.57 alone holds 0.5
        ({"top_k": 2, "top_p": 0.5}, [1, 0, 0, 0]),
        ({"top_k": 3, "top_p": 0.5}, [4 / 7, 3 / 7, 0, 0]),  # 4/9 = 0.44 does not
    ],
    ids=str,
)
def test_warp_by_hand(settings, by_hand):
    assert odds(**settings) == pytest.approx(by_hand, abs=1e-12)


SCORING = [{}, {"temperature": 0.7}, {"temperature": 1.3, "top_k": 5}, {"top_p": 0.8}]


def test_equal_logits():
    """Greedy takes the first of equals; top-k keeps the equals of its k-th."""
    logits = torch.tensor([1.0, 2.0, 2.0, 0.0])
    assert warp(logits, 0).exp().tolist() == [0, 1, 0, 0]
    assert warp(logits, top_k=1).exp().tolist() == pytest.approx([0, 0.5, 0.5, 0])


def test_a_share_that_is_met_exactly_is_enough():
    """Four equal logits are 1/4 each, exactly: at top_p = 1/4 one of them holds it, at 1/2 two, at 3/4
    three.
    """
    for kept in (1, 2, 3):
        assert (warp(torch.zeros(4), top_p=kept / 4).exp() > 0).sum() == kept


def test_the_order_of_the_vocabulary_does_not_matter():
    """Shuffle the logits, warp, shuffle back: the same distribution (top-p sorts, and must put back)."""
    logits = torch.randn(5, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    order = torch.randperm(9, generator=torch.Generator().manual_seed(1))
    for how in SCORING:
        assert torch.allclose(warp(logits[:, order], **how), warp(logits, **how)[:, order])


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.floats(-20, 20), min_size=1, max_size=12),
    st.floats(0.05, 5),
    st.none() | st.integers(1, 14),
    st.none() | st.floats(0.01, 1),
)
def test_warp_is_always_a_distribution_on_the_likeliest_tokens(logits, temperature, top_k, top_p):
    """It sums to one, keeps the order, keeps at least top_p of what top-k left, and not one token more than
    it must.
    """
    logits = torch.tensor(logits, dtype=torch.float64)
    p = warp(logits, temperature, top_k, top_p).exp()
    assert p.sum().item() == pytest.approx(1)
    kept, wide = p > 0, warp(logits, temperature, top_k).exp()
    assert kept.any()
    assert kept.all() or wide[kept].min() >= wide[~kept].max()
    if top_p is not None:
        # rounding of a sum of twelve
        assert wide[kept].sum() >= top_p - 1e-9
        assert wide[kept].sum() - wide[kept].min() < top_p + 1e-9
    if top_k is not None and top_p is None:
        # a share below 1e-308 is zero
        assert kept.sum() >= min(top_k, len(logits)) - (wide == 0).sum()


def test_half_precision_is_scored_in_float32():
    """bfloat16 keeps 8 bits: a softmax in it would miss 1 by 1e-2; in float32 it is 1 to 1e-6, of the rounded
    logits.
    """
    logits = torch.randn(4, 300, generator=torch.Generator().manual_seed(0)).bfloat16()
    assert warp(logits).dtype == torch.float32
    assert torch.allclose(warp(logits).exp().sum(-1), torch.ones(4), atol=1e-6)


# --- a long text --------------------------------------------------------------------------------------------


def test_a_short_text_by_hand():
    """1, 2, 0, 1 on the table above: 3/4 · 1/4 · 1/4, in nats, the first token free."""
    nats = text_nats(WALK, torch.tensor([1, 2, 0, 1]), length=16)
    assert nats == pytest.approx(-math.log(3 / 64))


@pytest.mark.parametrize("size", [2, 3, 5, 8, 9, 16, 17, 31, 50])
@pytest.mark.parametrize("length", [2, 3, 4, 7, 8, 50, 80])
def test_each_token_is_scored_once_with_enough_before_it(size, length):
    """Tokens that are their own places: every place but the first is scored once, with at least length/2
    before it where there is.
    """
    seen = []

    def watch(model, batch):
        for row, marks in zip(batch.tokens, batch.response_mask):
            seen.extend((int(row[t]), t) for t in marks.nonzero()[:, 0])
        return torch.zeros(batch.tokens.shape)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("minillm.logprob.logprobs", watch)
        text_nats(None, torch.arange(size), length, rows=3)
    assert sorted(place for place, _ in seen) == list(range(1, size))
    for place, before in seen:
        assert min(place, length // 2) <= before <= length - 1


def test_a_long_text_costs_what_its_transitions_cost():
    """A walk needs one token of context, so any window length gives the same sum: that of −log p of all 199
    transitions.
    """
    ids = torch.randint(3, (200,), generator=torch.Generator().manual_seed(0))
    p = [[0.5, 0.25, 0.25], [0.125, 0.125, 0.75], [0.25, 0.5, 0.25]]
    by_hand = -sum(math.log(p[a][b]) for a, b in zip(ids.tolist(), ids.tolist()[1:]))
    for length, rows in ((2, 32), (7, 1), (64, 2), (200, 32), (500, 32)):
        assert text_nats(WALK, ids, length, rows) == pytest.approx(by_hand, rel=1e-12)


def test_a_text_that_fits_is_read_with_all_of_its_context():
    """For a transformer: one window, equal to the sum of log_softmax over the whole text."""
    model, ids = (
        Tiny(vocab_size=9, context=24),
        torch.randint(9, (20,), generator=torch.Generator().manual_seed(0)),
    )
    plain = -model(ids[None])[0, :-1].log_softmax(-1).gather(-1, ids[1:, None]).sum()
    assert text_nats(model, ids, 24) == pytest.approx(plain.item(), rel=1e-12)
    assert text_nats(model, ids, 12) != pytest.approx(plain.item(), rel=1e-6)  # less context, another number
