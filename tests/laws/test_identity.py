"""The identity's own file: the surrogate by hand, what the listing weighs, and the table of methods."""

from __future__ import annotations

import importlib
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import minillm
from conftest import gradients_of, make_policy, random, seeded, tensor
from minillm import METHODS, table
from minillm.batch import batch_pairs
from minillm.identity import every_answer, exact_gradient, expectation, surrogate
from minillm.logprob import answer_logprobs, logprobs


def gradient_on_logprobs(coefficient, mask, divide_by=None, fill=0.5):
    """What the surrogate's gradient is in each log-probability."""
    logp = torch.full(mask.shape, fill, dtype=torch.float64, requires_grad=True)
    surrogate(coefficient, logp, mask, divide_by).backward()
    return logp.grad


MASK = torch.tensor([[False, True, True, True], [False, True, False, False]])


def test_one_f_an_answer_by_hand():
    """F = (3, −2) over two rows: each response token of row 0 gets 3/2, of row 1 −2/2.

    A sum over tokens, a mean over rows.
    """
    grad = gradient_on_logprobs(torch.tensor([3.0, -2.0]), MASK)
    assert grad.tolist() == [[0, 1.5, 1.5, 1.5], [0, -1, 0, 0]]


def test_one_f_a_token_by_hand():
    """F (2, 4): the same, token by token; what stands off the response is not counted."""
    F = torch.tensor([[9.0, 1.0, -4.0, 2.0], [9.0, 6.0, 9.0, 9.0]])
    assert gradient_on_logprobs(F, MASK).tolist() == [[0, 0.5, -2, 1], [0, 3, 0, 0]]


def test_divide_by_is_what_the_sum_is_divided_by():
    """Every token a pair: 4 of them, so each token gets F/4 and not F/2."""
    grad = gradient_on_logprobs(torch.ones(2), MASK, divide_by=4)
    assert grad.tolist() == [[0, 0.25, 0.25, 0.25], [0, 0.25, 0, 0]]


def test_one_score_an_answer_by_hand():
    """Scores (B,), a reward in place of log p: F/B each, or F/divide_by; tokens are not counted."""
    scores = tensor(0.5, -7.0).requires_grad_()
    for divide_by, wanted in ((None, [1.5, -1]), (4, [0.75, -0.5])):
        value = surrogate(tensor(3.0, -2.0), scores, MASK, divide_by)
        assert value.item() == pytest.approx((3 * 0.5 + 2 * 7) / (divide_by or 2))
        assert torch.autograd.grad(value, scores)[0].tolist() == wanted


def test_every_next_token_is_its_sum_written_out():
    """Scores (B, T, V) with F (B,), (B, T) and (B, T, V): plain loops, NaN where the mask is False."""
    for shape in ((2,), (2, 4), (2, 4, 5)):
        F, scores = random(*shape, seed=1), random(2, 4, 5, seed=2)
        scores[~MASK] = math.nan
        if len(shape) > 1:
            F[~MASK] = math.nan
        scores.requires_grad_()
        total, by_hand = 0.0, torch.zeros(2, 4, 5, dtype=torch.float64)
        for b, t in MASK.nonzero().tolist():
            for v in range(5):
                here = F[(b, t, v)[:len(shape)]]
                by_hand[b, t, v] = here / 3
                total = total + float(here * scores[b, t, v].detach()) / 3
        value = surrogate(F, scores, MASK, divide_by=3)
        assert value.item() == pytest.approx(total, abs=1e-12)
        assert torch.allclose(torch.autograd.grad(value, scores)[0], by_hand, rtol=0, atol=1e-15)


def test_of_several_objectives_it_is_the_sum_written_out():
    """A dict of scores (B, T), (B,) and (B, T, V), each with its own F: one mask and one divisor for all."""
    shapes = {"policy": (2, 4), "reward": (2,), "teacher": (2, 4, 5)}
    F = {name: random(*shape, seed=i) for i, (name, shape) in enumerate(shapes.items())}
    scores = {name: random(*shape, seed=9 + i) for i, (name, shape) in enumerate(shapes.items())}
    places = MASK.nonzero().tolist()
    terms = {name: F[name] * scores[name] for name in shapes}
    total = sum(float(terms["policy"][b, t]) for b, t in places)
    total += sum(float(terms["reward"][b]) for b in range(2))
    total += sum(float(terms["teacher"][b, t, v]) for b, t in places for v in range(5))
    for score in scores.values():
        score.requires_grad_()
    for divide_by in (None, 7):
        n = divide_by or 2
        value = surrogate(F, scores, MASK, divide_by)
        assert value.item() == pytest.approx(total / n, abs=1e-12)
        for name, score in scores.items():
            (together,) = torch.autograd.grad(value, score, retain_graph=True)
            (alone,) = torch.autograd.grad(surrogate(F[name], score, MASK, divide_by), score)
            assert torch.equal(together, alone) and together.abs().max() > 0
            inside = torch.ones(2, dtype=torch.bool) if score.ndim == 1 else MASK
            assert torch.allclose(together[inside], F[name][inside] / n)
            assert together[~inside].eq(0).all()


def test_the_sign_is_that_of_ascent():
    """A step along the surrogate's gradient makes an answer with F > 0 likelier, with F < 0 less likely."""
    policy = make_policy("table")
    batch = batch_pairs([([1], [2, 0]), ([2, 1], [1, 1, 0])])
    before = answer_logprobs(logprobs(policy, batch), batch.response_mask)
    value = surrogate(tensor(1.0, -1.0), logprobs(policy, batch), batch.response_mask)
    (grad,) = gradients_of(value, policy)
    with torch.no_grad():
        policy.theta += 0.01 * grad
    after = answer_logprobs(logprobs(policy, batch), batch.response_mask)
    assert after[0] > before[0] and after[1] < before[1]


def test_numbers_off_the_response_reach_neither_value_nor_gradient():
    """NaN in F and −∞ in log p where the mask is False: a finite gradient, 0 there.

    Such are 0/0 of padding, and a token that top-k forbids.
    """
    F = torch.tensor([[math.nan, 1.0, 1.0, 1.0], [math.inf, 1.0, math.nan, -math.inf]])
    logp = torch.full((2, 4), -1.0, requires_grad=True)
    hidden = logp.masked_fill(~MASK, -math.inf)
    value = surrogate(F, hidden, MASK)
    assert value.item() == -2  # four tokens of −1, two rows
    for through in (logp, hidden):
        (grad,) = torch.autograd.grad(value, through, retain_graph=True)
        assert grad.tolist() == [[0, 0.5, 0.5, 0.5], [0, 0.5, 0, 0]]


def test_a_coefficient_of_float32_on_logprobs_of_float64_stays_exact():
    """The laws run in float64, while some F are float32 ones: the gradient is float64's."""
    grad = gradient_on_logprobs(torch.tensor([1.0, 1.0], dtype=torch.float32), MASK)
    assert grad.dtype == torch.float64 and grad.sum().item() == 2


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 5), st.integers(1, 6), st.integers(0, 10**6))
def test_the_surrogate_is_linear_in_f(rows, length, seed):
    """surrogate(F + 2G) = surrogate(F) + 2 surrogate(G), on any mask that holds a token a row."""
    generator = seeded(seed)
    mask = torch.rand(rows, length, generator=generator) < 0.6
    mask[:, -1] = True
    logp, F, G = torch.randn(3, rows, length, dtype=torch.float64, generator=generator)
    whole = surrogate(F + 2 * G, logp, mask)
    parts = surrogate(F, logp, mask) + 2 * surrogate(G, logp, mask)
    assert whole.item() == pytest.approx(parts.item(), abs=1e-12)


def test_the_docstrings_listing():
    assert every_answer(3, 2) == [[0], [1, 0], [2, 0], [1, 1], [1, 2], [2, 1], [2, 2]]


def test_an_expectation_by_hand():
    """p = (1/2, 1/4, 1/4) on (2, 4, −8): 1 + 1 − 2 = 0; two prompts at once give two numbers."""
    logp = torch.tensor([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25]], dtype=torch.float64).log()
    assert expectation(logp, tensor(2.0, 4.0, -8.0)).tolist() == pytest.approx([0, 0.5])


def test_an_exact_gradient_by_hand():
    """Softmax over θ = 0 of two answers, F = (1, 0): ∇ E = p·(F − E F) = (1/4, −1/4).

    Of data q = (1, 0) with F = 1 it is ∇ log p(0) = (1/2, −1/2).
    """
    theta = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    F = torch.tensor([1.0, 0.0], dtype=torch.float64)
    (own,) = exact_gradient(theta.log_softmax(-1), F, [theta])
    assert own.tolist() == [0.25, -0.25]
    (data,) = exact_gradient(theta.log_softmax(-1), torch.ones(2, dtype=torch.float64), [theta], q=F)
    assert data.tolist() == [0.5, -0.5]


def test_prompts_share_the_gradient_evenly():
    """Two prompts, the second with F = 0: the mean over prompts halves the first's gradient."""
    theta = torch.zeros(2, 2, dtype=torch.float64, requires_grad=True)
    (grad,) = exact_gradient(theta.log_softmax(-1), tensor([1.0, 0.0], [0.0, 0.0]), [theta])
    assert grad.tolist() == [[0.125, -0.125], [0, 0]]


def test_a_parameter_that_does_not_matter_gets_zeros():
    theta, other = torch.zeros(2, requires_grad=True), torch.ones(3, requires_grad=True)
    grads = exact_gradient(theta.log_softmax(-1), torch.tensor([1.0, 0.0]), [theta, other])
    assert grads[1].tolist() == [0, 0, 0]


def test_an_answer_that_is_never_drawn_may_have_any_f_and_probability_zero():
    """q = (1, 0), log p = (0, −∞), F = (1, NaN): the second adds nothing and spoils nothing."""
    theta = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    logp = (theta + torch.tensor([0.0, -math.inf], dtype=torch.float64)).log_softmax(-1)
    F, q = torch.tensor([[1.0, math.nan], [1.0, 0.0]], dtype=torch.float64)
    (grad,) = exact_gradient(logp, F, [theta], q=q)
    assert grad.tolist() == [0, 0]


# --- the table ------------------------------------------------------------------------------------


def test_every_method_of_the_table_that_has_a_module_has_its_parts():
    """F, loss and coefficient, each with a docstring; and each file in methods/ has a row."""
    files = {path.stem for path in (Path(minillm.__file__).parent / "methods").glob("*.py")} - {"__init__"}
    assert {m.module for m in METHODS if m.module} == files
    for name in files:
        module = importlib.import_module(f"minillm.methods.{name}")
        assert module.F.__doc__ and module.loss.__doc__ and module.coefficient.__doc__


def test_the_table_is_nineteen_rows_of_six_columns():
    """As the course's, and SimPO: 19 methods, each named once. A row of the Markdown has as many cells as its
    head.

    A | inside a cell is escaped.
    """
    lines = table().split("\n")
    assert len(METHODS) == len({m.name for m in METHODS}) == 19 and len(lines) == 21
    assert {line.replace("\\|", "").count("|") for line in lines} == {7}
    for method, line in zip(METHODS, lines[2:]):
        assert method.name in line
        assert (f"methods/{method.module}.py" if method.module else "to come") in line
        assert 1 <= method.chapter <= 22
