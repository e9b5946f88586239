"""Rewards for steps, with every y listed: F from exact V of each state is the policy gradient, less noisy.

y has up to four tokens of three; token 1 ends a step, token 0 ends y. V of a state is the mean reward of all
y that begin so, computed from the list. In float64, relative 1e-8.
"""

from __future__ import annotations

import pytest
import torch

from conftest import PROMPTS, V, difference, gradients_of, make_policy, slow_logp
from minillm.batch import batch_pairs
from minillm.identity import every_answer, expectation, surrogate
from minillm.logprob import logprobs
from minillm.methods import ppo
from minillm.thinking.steps import begun, step_advantages, step_of

LONGEST, STOP = 4, 1
YS = every_answer(V, LONGEST)
X = PROMPTS[1]
BATCH = batch_pairs([(X, y) for y in YS])
R = torch.tensor([float(y[0] == 2 and 1 in y) + 0.5 * (y[-1] == 0) for y in YS], dtype=torch.float64)


@pytest.fixture(params=["table", "transformer"])
def policy(request):
    return make_policy(request.param, longest=LONGEST)


def listed(policy):
    return slow_logp(policy, [X], YS)[0]


def starts(y):
    """y before its first step, and after each, by hand."""
    return [(), *(tuple(y[:t + 1]) for t in range(len(y)) if y[t] == STOP)]


def exact_values(policy):
    """Of each y: V of each of its states, the mean reward of all y that begin so."""
    p = listed(policy).detach().exp()

    def worth(start):
        inside = torch.tensor([tuple(y[:len(start)]) == start for y in YS])
        return float((p * R)[inside].sum() / p[inside].sum())

    return [[worth(s) for s in starts(y)] for y in YS]


def push(policy, F):
    """Σ_y p(y) Σ_t F_t ∇ log p(y_t|…), with F (N, T)."""
    weight = F * listed(policy).detach().exp()[:, None] * len(YS)
    return gradients_of(surrogate(weight, logprobs(policy, BATCH), BATCH.response_mask), policy)


def noise(policy, F):
    """The trace of the gradient's covariance over y ~ p: E|g|² − |E g|²."""
    p, logp = listed(policy).detach().exp(), logprobs(policy, BATCH)
    squares = 0.0
    for i, share in enumerate(p):
        g = torch.autograd.grad((F[i] * logp[i].where(BATCH.response_mask[i], 0.0)).sum(),
                                list(policy.parameters()), retain_graph=True)
        squares += float(share) * sum(float((part**2).sum()) for part in g)
    return squares - sum(float((part**2).sum()) for part in push(policy, F))


def test_steps_are_counted_as_by_hand():
    batch = batch_pairs([([2, 1], [2, 1, 1, 2]), ([1], [2, 0])])
    assert step_of(batch, STOP).tolist() == [[-1, -1, 0, 0, 1, 2], [-1, 0, 0, -1, -1, -1]]
    assert begun("a] b] c", "]") == ["", "a]", "a] b]"] and begun("", "]") == [""]


def test_by_hand():
    """V 0.5 → 0.8 → 0.2, and right in the end: the second step has nearly lost it."""
    step = torch.tensor([[-1, 0, 0, 1, 2, 2]])
    F = step_advantages([[0.5, 0.8, 0.2]], torch.tensor([1.0], dtype=torch.float64), step)
    assert torch.allclose(F, torch.tensor([[0, 0.3, 0.3, -0.6, 0.8, 0.8]], dtype=torch.float64))
    F = step_advantages([[0.5, 0.8, 0.2]], torch.tensor([1.0], dtype=torch.float64), step, lam=1.0)
    assert torch.allclose(F, torch.tensor([[0, 0.5, 0.5, 0.2, 0.8, 0.8]], dtype=torch.float64))


def test_where_nothing_follows_the_last_step_its_value_is_the_outcome():
    F = step_advantages([[0.5, 0.8]], torch.tensor([1.0]), torch.tensor([[-1, 0, 0]]))
    assert F.tolist() == [[0.0, 0.5, 0.5]]


@pytest.mark.parametrize("lam", [0.0, 0.5, 1.0])
def test_with_exact_values_it_climbs_the_expected_reward(policy, lam):
    """Whatever λ: V after a step is the mean of what comes, so no step's push changes on average."""
    climbs = gradients_of(expectation(listed(policy), R), policy)
    F = step_advantages(exact_values(policy), R, step_of(BATCH, STOP), lam)
    assert difference(push(policy, F), climbs) < 1e-8


def test_with_wrong_values_only_the_outcome_is_unbiased(policy):
    """λ = 1 takes V as a baseline alone, and any V will do. λ = 0 believes it, and goes where it says."""
    climbs = gradients_of(expectation(listed(policy), R), policy)
    wrong = [[0.3 * len(s) for s in starts(y)] for y in YS]
    step = step_of(BATCH, STOP)
    assert difference(push(policy, step_advantages(wrong, R, step, 1.0)), climbs) < 1e-8
    assert difference(push(policy, step_advantages(wrong, R, step, 0.0)), climbs) > 0.05


def test_the_value_of_a_step_in_place_of_its_change_is_another_objective(policy):
    """F = V after the step: it pays for being where one was already, and no baseline is taken off."""
    climbs = gradients_of(expectation(listed(policy), R), policy)
    F = torch.zeros_like(logprobs(policy, BATCH).detach())
    for row, (values, reward, numbers) in enumerate(zip(exact_values(policy), R, step_of(BATCH, STOP))):
        for s in range(int(numbers.max()) + 1):
            F[row, numbers == s] = values[s + 1] if s + 1 < len(values) else float(reward)
    # What V before the step adds is a baseline: as a mean it is 0, so this is unbiased, and only noisy …
    assert difference(push(policy, F), climbs) < 1e-8
    assert noise(policy, F) > 1.5 * noise(policy, step_advantages(exact_values(policy), R,
                                                                  step_of(BATCH, STOP)))


def test_the_sum_of_values_pays_for_steps(policy):
    """R = Σ V of the states on the way, as a reward of the whole: it climbs something else than E[R]."""
    total = torch.tensor([sum(v[1:]) + float(r) for v, r in zip(exact_values(policy), R)],
                         dtype=torch.float64)
    climbs = gradients_of(expectation(listed(policy), R), policy)
    F = total[:, None].where(BATCH.response_mask, 0.0)
    assert difference(push(policy, F), climbs) > 0.05
    assert difference(push(policy, F), gradients_of(expectation(listed(policy), total), policy)) < 1e-8


def test_there_is_less_noise(policy):
    """The variance of the gradient of one y, exactly: the outcome less its mean, and the steps."""
    b = float(expectation(listed(policy).detach(), R))
    outcome = (R - b)[:, None].where(BATCH.response_mask, 0.0)
    steps = step_advantages(exact_values(policy), R, step_of(BATCH, STOP))
    assert noise(policy, steps) < noise(policy, outcome)


def test_the_packages_coefficient_takes_them_as_they_are(policy):
    """On fresh samples ρ = 1: ppo.coefficient gives the advantages back."""
    batch = batch_pairs([(X, y) for y in YS])
    batch.logprobs = logprobs(policy, batch).detach()
    batch.advantages = step_advantages(exact_values(policy), R, step_of(batch, STOP))
    assert torch.equal(ppo.coefficient(batch, batch.logprobs), batch.advantages)


def test_bad_input():
    step = torch.tensor([[-1, 0, 1]])
    with pytest.raises(ValueError, match="values"):
        step_advantages([], torch.tensor([1.0]), step)
    with pytest.raises(ValueError, match=r"values\[0\]"):
        step_advantages([[0.5]], torch.tensor([1.0]), step)
    with pytest.raises(ValueError, match="lam"):
        step_advantages([[0.5, 0.5]], torch.tensor([1.0]), step, lam=2)
    with pytest.raises(ValueError, match="rewards"):
        step_advantages([[0.5, 0.5]], torch.tensor([1.0, 2.0]), step)
