"""DPO, IPO, SimPO, KTO and the reward model: F, the paper's loss and finite differences agree.

Every pair of answers is listed. Then where each ends: DPO at π* ∝ π_ref·exp(r/β), IPO and SimPO at forms of
their own. And what shipped bugs would do to each.
"""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from conftest import PROMPTS, Tiny, V, difference, gradients_of, make_policy, numeric_gradient, planted
from conftest import random, relative_error, seeded, slow_logp, tensor
from minillm.batch import Batch, batch_pairs
from minillm.identity import every_answer, surrogate
from minillm.logprob import answer_logprobs, logprobs
from minillm.methods import dpo, ipo, kto, reward_model, simpo
from minillm.returns import margin
from minillm.train import Settings, train

ANSWERS = every_answer(V, 2)
X, N = len(PROMPTS), len(ANSWERS)
LENGTH = torch.tensor([len(y) for y in ANSWERS], dtype=torch.float64)
FIRST, SECOND = torch.cartesian_prod(torch.arange(N), torch.arange(N)).T  # every ordered pair of answers
ROUNDING, FINITE = 1e-12, 1e-8
BETA = 0.7


@pytest.fixture(params=["table", "transformer"])
def policy(request):
    return make_policy(request.param, longest=2)


def reference_listing(seed=7):
    """log p_ref of every answer to every prompt, (X, N): another policy of the same kind."""
    return slow_logp(make_policy("table", seed, longest=2), PROMPTS, ANSWERS).detach()


def chances(seed=9, r=None):
    """How often each (x, chosen, rejected) is in the data, (X, N²), summing to one a prompt.

    Even draws, Bradley–Terry's choice.
    """
    r = random(X, N, seed=seed) if r is None else r
    p = torch.sigmoid(r[:, FIRST] - r[:, SECOND])
    return p / p.sum(1, keepdim=True)


def every_pair():
    """The batch of all (x, chosen, rejected): X·N² chosen rows, then the rejected ones."""
    def rows(which):
        return [(x, ANSWERS[i]) for x in PROMPTS for i in which.tolist()]
    batch = batch_pairs(rows(FIRST) + rows(SECOND))
    reference = reference_listing()
    batch.reference = torch.cat([reference[:, FIRST].flatten(), reference[:, SECOND].flatten()])
    batch.divide_by = X * N**2
    return batch


def paper_margin(logp, batch, average, reference):
    """h of each pair, (B,), from log-probs with gradient: sums over tokens or means, less p_ref's or not."""
    answers = (logp * batch.response_mask).sum(1)
    answers = answers - batch.reference if reference else answers
    answers = answers / batch.response_mask.sum(1) if average else answers
    half = len(answers) // 2
    return answers[:half] - answers[half:]


def by_F_and_by_loss(policy, method, weight, average=False, **settings):
    """(gradient by F through the surrogate, by autograd of the paper's loss, that of each bug planted in F).

    Each pair is weighed by its chance (X, N²). SimPO's margin is of means, and has no reference.
    """
    batch = every_pair()
    logp = logprobs(policy, batch)
    how = settings if method is simpo else settings | {"average": average}
    F = method.coefficient(batch, logp.detach(), **how)
    assert F.shape == (2 * batch.divide_by,) and not F.requires_grad
    weight_of_rows = weight.flatten().repeat(2)

    def gradient(F):
        weights = weight_of_rows.view(-1, *[1] * (F.ndim - 1)) * N**2
        return gradients_of(surrogate(F * weights, logp, batch.response_mask, batch.divide_by), policy)

    h = paper_margin(logp, batch, average or method is simpo, method is not simpo)
    losses = method.loss(h, **settings)
    assert losses.shape == (batch.divide_by,)
    by_loss = gradients_of(-(losses * weight.flatten()).sum() / X, policy)
    chosen = torch.arange(len(F)) < batch.divide_by
    bugs = planted(F, batch) | {"the rejected is left out": F * chosen, "the rejected is pushed up": F.abs()}
    return gradient(F), by_loss, {bug: gradient(wrong) for bug, wrong in bugs.items()}


def slow_margin(policy, average=False, reference=True):
    """h of every pair, (X, N²), from the slow log p: Σ over tokens, or the mean; less p_ref's, or not."""
    answers = slow_logp(policy, PROMPTS, ANSWERS) - (reference_listing() if reference else 0)
    answers = answers / (LENGTH if average else 1)
    return answers[:, FIRST] - answers[:, SECOND]


# --- DPO, IPO and SimPO: three gradients ------------------------------------------------------------


def dpo_objective(h, smoothing=0.0):
    """Mean log-likelihood of the label, some of them turned: with exp, not the package's logsigmoid."""
    p = 1 / (1 + (-BETA * h).exp())
    return (1 - smoothing) * p.log() + smoothing * (1 - p).log()


def disagreements(policy, gradients, objective):
    """Which of F, the loss and differences of an objective's mean over comparisons, (X, N²), do not agree;
    and the bugs that the differences do not see."""
    by_F, by_loss, bugs = gradients
    slopes = numeric_gradient(lambda: (chances() * objective()).sum() / X, policy.parameters())
    unseen = [f"unseen: {bug}" for bug, wrong in bugs.items() if not relative_error(wrong, slopes) > 0.05]
    return unseen + [f"{name}: {error}" for name, error, most in (
        ("F and the loss", difference(by_F, by_loss), ROUNDING),
        ("F and differences", relative_error(by_F, slopes), FINITE)) if not error < most]


@pytest.mark.parametrize("settings", [{}, {"smoothing": 0.2}, {"average": True}], ids=str)
def test_dpo_climbs_the_likelihood_of_the_choice(policy, settings):
    average, smoothing = settings.get("average", False), settings.get("smoothing", 0.0)
    gradients = by_F_and_by_loss(policy, dpo, chances(), beta=BETA, **settings)
    assert not disagreements(policy, gradients,
                             lambda: dpo_objective(slow_margin(policy, average), smoothing))


@pytest.mark.parametrize("average", [False, True])
def test_ipo_draws_h_to_its_goal(policy, average):
    gradients = by_F_and_by_loss(policy, ipo, chances(), beta=BETA, average=average)
    assert not disagreements(policy, gradients,
                             lambda: -(slow_margin(policy, average) - 1 / (2 * BETA)) ** 2)


@pytest.mark.parametrize("gamma", [0.0, 1.3])
def test_simpo_climbs_the_likelihood_of_a_choice_won_by_a_margin(policy, gamma):
    """Meng et al. 2024, eq. 6: Σ log σ(β·(log p(w)/|w| − log p(l)/|l|) − γ), written with exp."""
    def objective():
        return -(1 + (gamma - 2.5 * slow_margin(policy, True, reference=False)).exp()).log()

    gradients = by_F_and_by_loss(policy, simpo, chances(), beta=2.5, gamma=gamma)
    assert not disagreements(policy, gradients, objective)


def test_simpos_own_errors_are_seen(policy):
    """Sums for means, a reference subtracted, γ left out or turned, β left out: each as a loss."""
    batch, weight = every_pair(), chances().flatten()
    logp = logprobs(policy, batch)

    def gradient(beta=2.5, gamma=1.3, average=True, reference=False):
        losses = simpo.loss(paper_margin(logp, batch, average, reference), beta, gamma)
        return gradients_of(-(losses * weight).sum() / X, policy)

    right = by_F_and_by_loss(policy, simpo, chances(), beta=2.5, gamma=1.3)[0]
    assert difference(gradient(), right) < ROUNDING
    for bug in ({"average": False}, {"reference": True}, {"gamma": 0.0}, {"gamma": -1.3}, {"beta": 1.0}):
        assert difference(gradient(**bug), right) > 0.05, bug


def test_simpo_by_hand():
    """Means −1.5 and −4: Δ = 2.5. β = 2, γ = 1: F = 2·σ(1 − 5), by 2 tokens and by 1; loss log(1 + e⁻⁴).

    The reference is not read.
    """
    batch = hand(reference=torch.full((2,), math.nan, dtype=torch.float64))
    F = simpo.coefficient(batch, HAND)
    assert F.tolist() == pytest.approx([0.01798621, -0.03597242], abs=1e-8)
    assert simpo.loss(tensor(2.5)).tolist() == pytest.approx([math.log(1 + math.exp(-4))])
    assert simpo.F(tensor(0.5), 2.0, 1.0).tolist() == [1]                            # β·σ(0)
    with pytest.raises(ValueError, match="beta is 0"):
        simpo.coefficient(batch, HAND, beta=0)


HAND = tensor([-9.0, -1.0, -2.0], [-9.0, -9.0, -4.0])


def hand(**fields):
    """One comparison: a chosen answer of two tokens, a rejected one of one."""
    mask = torch.tensor([[False, True, True], [False, False, True]])
    return Batch(torch.ones(2, 3, dtype=torch.long), mask, divide_by=1, **fields)


def test_dpo_and_ipo_by_hand():
    """Sums −3, −4, the reference's −4, −2: h = 1 − (−2) = 3. β = 1/3: βh = 1, F = σ(−1)/3.

    IPO's goal is 1.5, F = 2·(1.5 − 3).
    """
    batch, beta = hand(reference=tensor(-4.0, -2.0)), 1 / 3
    h, size = margin(batch, HAND)
    assert h.tolist() == [3] and size.tolist() == [1, 1]
    F = dpo.coefficient(batch, HAND, beta)
    assert F.tolist() == pytest.approx([0.26894142 / 3, -0.26894142 / 3], abs=1e-8)
    assert dpo.loss(h, beta).tolist() == pytest.approx([math.log(1 + math.exp(-1))])
    assert ipo.coefficient(batch, HAND, beta).tolist() == pytest.approx([-3, 3])
    assert ipo.loss(h, beta).tolist() == pytest.approx([2.25])
    # means: (−3 + 4)/2 − (−4 + 2)/1 = 2.5, and F is divided by 2 tokens and by 1
    assert ipo.coefficient(batch, HAND, beta, average=True).tolist() == pytest.approx([-1, 2])


def test_no_gradient_flows_through_the_reference_or_through_F():
    logp, reference = HAND.clone().requires_grad_(), tensor(-1.0, -1.0).requires_grad_()
    batch = hand(reference=reference)
    h, _ = margin(batch, logp)
    for method in (dpo, ipo):
        assert not method.coefficient(batch, logp.detach()).requires_grad
        value, leaves = method.loss(h).sum(), [logp, reference]
        through, none = torch.autograd.grad(value, leaves, allow_unused=True, retain_graph=True)
        assert through.abs().max() > 0 and none is None


# --- where they end -------------------------------------------------------------------------------


def at(target, answers=ANSWERS, longest=2):
    """A table whose log p of every answer is `target` (X, N).

    Each token's probability is the share of the answers that go on with it.
    """
    policy, p = make_policy("table", longest=longest), target.exp()
    with torch.no_grad():
        for x, prompt in enumerate(PROMPTS):
            for text, row in policy.row.items():
                if text[:len(prompt)] == tuple(prompt):
                    written = list(text[len(prompt):])
                    begins = [[y[:len(written) + 1] == [*written, v] for y in answers] for v in range(V)]
                    policy.theta[row] = (torch.tensor(begins) * p[x]).sum(1).log()       # (V,)
    assert torch.allclose(slow_logp(policy, PROMPTS, answers), target, atol=1e-12)
    return policy


def test_dpo_rests_at_the_optimum_of_rlhf_and_nowhere_near():
    """Choices by Bradley–Terry with reward r: the gradient is 0 at π* ∝ π_ref·exp(r/β)."""
    r = random(X, N, seed=9)
    best = (reference_listing() + r / BETA).log_softmax(-1)
    weight = chances(r=r)
    still = by_F_and_by_loss(at(best), dpo, weight, beta=BETA)[0]
    moving = by_F_and_by_loss(at(reference_listing()), dpo, weight, beta=BETA)[0]
    assert max(float(g.abs().max()) for g in still) < 1e-12 < 1e-3 < max(float(g.abs().max()) for g in moving)
    too_near = at((reference_listing() + r).log_softmax(-1))                    # exp(r), not exp(r/β)
    away = by_F_and_by_loss(too_near, dpo, weight, beta=BETA)[0]
    assert max(float(g.abs().max()) for g in away) > 1e-3


def test_ipo_rests_where_its_paper_says():
    """π* ∝ π_ref·exp(E_y'[p(y ≻ y')]/β), y' drawn as the data's answers are.

    Azar et al. 2023, eq. 7 with Ψ the identity.
    """
    r = random(X, N, seed=9)
    wins = torch.sigmoid(r[:, :, None] - r[:, None, :]).mean(-1)                # (X, N)
    best = at((reference_listing() + wins / BETA).log_softmax(-1))
    still = by_F_and_by_loss(best, ipo, chances(r=r), beta=BETA)[0]
    assert max(float(g.abs().max()) for g in still) < 1e-12


def test_simpo_rests_where_a_tokens_mean_log_p_is_the_reward():
    """Choices by Bradley–Terry, γ = 0: log p(y)/|y| = r(y)/β + c, c by bisection so that Σ p = 1.

    With γ above 0 the same policy is pushed on.
    """
    r, beta = random(X, N, seed=9), 2.5
    low, high = torch.full((X, 1), -20.0, dtype=torch.float64), torch.full((X, 1), 20.0, dtype=torch.float64)
    for _ in range(200):
        c = (low + high) / 2
        over = (LENGTH * (r / beta + c)).exp().sum(1, keepdim=True) > 1
        low, high = torch.where(over, low, c), torch.where(over, c, high)
    best = at(LENGTH * (r / beta + (low + high) / 2))
    still = by_F_and_by_loss(best, simpo, chances(r=r), beta=beta, gamma=0.0)[0]
    assert max(float(g.abs().max()) for g in still) < 1e-12
    moving = by_F_and_by_loss(best, simpo, chances(r=r), beta=beta, gamma=1.0)[0]
    assert max(float(g.abs().max()) for g in moving) > 1e-3


def climb(method, rate, steps, **settings):
    """h before each of some gradient steps on one choice that is never contradicted: a table, one prompt."""
    policy, path = make_policy("table", longest=2), []
    batch = dpo.draw([(PROMPTS[0], [1, 0], [2, 2])], reference_listing()[:1, :2])
    for _ in range(steps):
        logp = logprobs(policy, batch)
        path.append(float(margin(batch, logp.detach())[0]))
        F = method.coefficient(batch, logp.detach(), **settings)
        (grad,) = gradients_of(surrogate(F, logp, batch.response_mask, batch.divide_by), policy)
        with torch.no_grad():
            policy.theta += rate * grad
    return path


def test_a_choice_never_contradicted_pushes_dpo_and_simpo_on_and_stops_ipo():
    """β = 0.5: IPO ends at h = 1/(2β) = 1; DPO's h goes on growing, and SimPO's."""
    assert climb(ipo, 0.1, 150, beta=0.5)[-1] == pytest.approx(1, abs=1e-6)
    for method in (dpo, simpo):
        path = climb(method, 4.0, 400, beta=0.5)
        assert path[-1] > path[200] + 0.1 and path[200] > 5


# --- planted bugs ---------------------------------------------------------------------------------


def planted_margin(policy, bug):
    """h of every pair with a bug in it, with gradient: what a loss built on it would see."""
    batch = every_pair()
    logp, mask = logprobs(policy, batch), batch.response_mask
    if bug == "the end token is dropped":
        mask = mask & (batch.tokens != 0)
    if bug == "the first token is cut":
        mask = mask & (mask.long().cumsum(1) > 1)
    answers = (logp * mask).sum(1)
    if bug == "a mean for a sum":
        answers = answers / batch.response_mask.sum(1)
    ratio = answers - batch.reference
    if bug == "the reference is forgotten":
        ratio = answers
    chosen, rejected = ratio.chunk(2)
    return (rejected - chosen if bug == "chosen and rejected are turned" else chosen - rejected).view(X, -1)


def test_a_wrong_h_is_seen(policy):
    weight = chances()

    def objective(h):
        return (weight * dpo_objective(h)).sum() / X

    slopes = numeric_gradient(lambda: objective(slow_margin(policy)), policy.parameters())
    assert relative_error(gradients_of(objective(planted_margin(policy, "nothing")), policy), slopes) < FINITE
    for bug in ("the end token is dropped", "the first token is cut", "a mean for a sum",
                "the reference is forgotten", "chosen and rejected are turned"):
        grads = gradients_of(objective(planted_margin(policy, bug)), policy)
        assert relative_error(grads, slopes) > 0.05, bug


def test_an_F_that_is_not_detached_is_refused_and_would_count_the_gradient_twice():
    """∇(F · log p) = F ∇ log p + log p ∇F: the surrogate refuses such an F, and rightly."""
    policy, batch = make_policy("table", longest=2), every_pair()
    logp = logprobs(policy, batch)
    h, _ = margin(batch, logp)
    F = BETA * torch.sigmoid(-BETA * h)
    F = torch.cat([F, -F])
    with pytest.raises(ValueError, match="detach it"):
        surrogate(F, logp, batch.response_mask, batch.divide_by)
    wrong = gradients_of((F * answer_logprobs(logp, batch.response_mask)).sum() / batch.divide_by, policy)
    right = gradients_of(-dpo.loss(h, BETA).mean(), policy)
    assert difference(wrong, right) > 0.1


# --- KTO ------------------------------------------------------------------------------------------


def thumbs_batch():
    """Examples of both prompts and thumbs, with their mismatched rows and p_ref of all."""
    examples = [(PROMPTS[k % 2], ANSWERS[(3 * k + 1) % N], k % 3 != 0) for k in range(9)]
    batch = kto.draw(examples)
    reference = make_policy("table", 7, longest=2)
    batch.reference = answer_logprobs(logprobs(reference, batch), batch.response_mask).detach()
    return examples, batch


@pytest.mark.parametrize("lift", [-4.0, 4.0])
def test_kto_climbs_its_value_with_the_reference_point_held(policy, lift):
    """z from the shifted pairs, max(0, mean of r), by plain loops; then a constant.

    `lift` moves the mean, so that z > 0 once and 0 once.
    """
    examples, batch = thumbs_batch()
    batch.reference = batch.reference - lift
    answers, reference = [list(y) for _, y, _ in examples], batch.reference
    where = {tuple(x): i for i, x in enumerate(PROMPTS)}

    def r(i, shift):
        x, y = where[tuple(examples[i][0])], ANSWERS.index(answers[(i + shift) % 9])
        return slow_logp(policy, [PROMPTS[x]], [ANSWERS[y]])[0, 0] - reference[i + 9 * shift]

    z = max(0.0, sum(float(r(i, 1).detach()) for i in range(9)) / 9)
    assert (z > 0) == (lift > 0) and (z > 3 or z == 0)

    def objective():
        value = 0.0
        for i, (_, _, up) in enumerate(examples):
            value = value + (1.5 if up else 0.5) / (1 + torch.exp(-BETA * (r(i, 0) - z) * (1 if up else -1)))
        return value / 9

    logp = logprobs(policy, batch)
    F = kto.coefficient(batch, logp.detach(), beta=BETA, up=1.5, down=0.5)

    def gradient(F):
        return gradients_of(surrogate(F, logp, batch.response_mask, batch.divide_by), policy)

    by_F = gradient(F)
    ratio = (logp * batch.response_mask).sum(1) - batch.reference
    losses = kto.loss(ratio[:9], z, batch.thumbs, BETA, 1.5, 0.5)
    assert losses.shape == (9,) and not F.requires_grad
    assert difference(by_F, gradients_of(-losses.mean(), policy)) < ROUNDING
    slopes = numeric_gradient(objective, policy.parameters(), directions=4)
    assert relative_error(by_F, slopes) < FINITE
    bugs = planted(F, batch) | {"a thumb's sign is lost": F.abs(), "mismatched rows count": F + F.roll(9)}
    for bug, wrong in bugs.items():
        assert relative_error(gradient(wrong), slopes) > 0.02, bug
    assert F[9:].eq(0).all() and (F[:9] > 0).tolist() == [up for _, _, up in examples]
    if lift > 0:  # a reference point that carries a gradient is another gradient
        a, m = ratio.chunk(2)
        u = BETA * (a - m.mean().clamp(min=0)) * torch.where(batch.thumbs, 1.0, -1.0)
        flowing = gradients_of((torch.where(batch.thumbs, 1.5, 0.5) * torch.sigmoid(u)).mean(), policy)
        assert difference(flowing, by_F) > 0.05


def test_kto_by_hand():
    """r = 2 (up), −1 (down); mismatched r = 1, 2: z = 1.5. u = β·0.5 and β·2.5 with β = 1.

    F = σ'(0.5), −2·σ'(2.5), 0, 0.
    """
    mask = torch.tensor([[False, True]] * 4)
    logp = tensor([0.0, -1.0], [0.0, -3.0], [0.0, -2.0], [0.0, -1.0])
    batch = Batch(torch.ones(4, 2, dtype=torch.long), mask, reference=tensor(-3.0, -2.0, -3.0, -3.0),
                  thumbs=torch.tensor([True, False]))
    r, z = kto.ratio_and_point(batch, logp)
    assert r.tolist() == [2, -1] and float(z) == 1.5
    F = kto.coefficient(batch, logp, beta=1.0, down=2.0)
    assert F.tolist() == pytest.approx([0.23500371, -2 * 0.07010372, 0, 0], abs=1e-8)
    losses = kto.loss(r, z, batch.thumbs, beta=1.0, down=2.0)
    assert losses.tolist() == pytest.approx([1 - 0.62245933, 2 * (1 - 0.92414182)], abs=1e-8)


def test_kto_never_takes_a_negative_reference_point():
    """Mismatched r = −5: z = 0, not −5. u = β·r: F = σ'(2)."""
    tokens, thumbs = torch.ones(2, 2, dtype=torch.long), torch.tensor([True])
    batch = Batch(tokens, reference=tensor(-3.0, -1.0), thumbs=thumbs)
    F = kto.coefficient(batch, tensor([0.0, -1.0], [0.0, -6.0]), beta=1.0)
    assert F.tolist() == pytest.approx([0.10499359, 0], abs=1e-8)


def test_ktos_mismatched_rows_are_the_next_ones_answer():
    batch = kto.draw([([1], [5, 0], True), ([2, 2], [6, 6, 0], False), ([3], [7, 0], True)])
    rows = [row[mask].tolist() for row, mask in zip(batch.tokens, batch.response_mask)]
    assert rows == [[5, 0], [6, 6, 0], [7, 0], [6, 6, 0], [7, 0], [5, 0]]
    assert batch.tokens[3].tolist() == [1, 6, 6, 0, 0]
    assert batch.thumbs.tolist() == [True, False, True] and batch.divide_by == 3


# --- draws ----------------------------------------------------------------------------------------


def test_dpos_batch_by_hand():
    """Two comparisons: chosen rows first, their reference log-probs too; none is given, none is there."""
    comparisons = [([7], [8, 0], [9, 9, 0]), ([6, 6], [5], [4, 0])]
    batch = dpo.draw(comparisons, tensor([-1.0, -2.0], [-3.0, -4.0]))
    rows = [row[mask].tolist() for row, mask in zip(batch.tokens, batch.response_mask)]
    assert rows == [[8, 0], [5], [9, 9, 0], [4, 0]]
    assert batch.reference.tolist() == [-1, -3, -2, -4] and batch.divide_by == 2
    assert dpo.draw(comparisons).reference is None


def test_reference_logprobs_are_the_slow_ones_whatever_the_rows():
    reference = Tiny(3)
    answers = [(x, y) for x in PROMPTS for y in ANSWERS]
    slow = slow_logp(reference, PROMPTS, ANSWERS).flatten()
    for rows in (1, 5, 64):
        found = dpo.reference_logprobs(reference, answers, rows)
        assert torch.allclose(found, slow, atol=ROUNDING) and not found.requires_grad


@pytest.mark.parametrize("name", ["dpo", "ipo", "simpo", "kto"])
def test_the_one_loop_trains_each(name):
    """Twenty steps of `train` with the method's coefficient as it is: chosen answers gain on the others."""
    policy, reference = (Tiny(1, torch.float32, vocab_size=6, context=8) for _ in range(2))
    data = [([1, k], [2, 0], [3, 0]) for k in range(1, 6)]
    compared = dpo.draw(data)
    answers = [(x, w) for x, w, _ in data] + [(x, l) for x, _, l in data]
    compared.reference = dpo.reference_logprobs(reference, answers)
    batch = compared
    if name == "kto":
        batch = kto.draw([(x, y, up) for x, w, l in data for y, up in ((w, True), (l, False))])
        batch.reference = answer_logprobs(logprobs(reference, batch), batch.response_mask).detach()

    def gap():
        with torch.no_grad():
            return float(margin(compared, logprobs(policy, compared))[0].mean())

    F = {"dpo": dpo, "ipo": ipo, "simpo": simpo, "kto": kto}[name].coefficient
    before = gap()
    rows = train(policy, lambda step: batch, F, Settings(20, lr=3e-3, muon_lr=0), progress=False)
    assert len(rows) == 20 and gap() > before + 0.5


# --- the reward model -----------------------------------------------------------------------------


def model_and_batch(seed=0):
    """A reward model in float64 and rankings of 3, 2 and 4 answers."""
    model = reward_model.RewardModel(Tiny(seed))
    with torch.no_grad():
        model.head.copy_(random(8, seed=seed))
    rankings = [([1], [[2, 0], [0], [1, 1]]),
                ([2, 1], [[1, 0], [2, 2]]),
                ([1], [[0], [1, 0], [2, 0], [2, 1]])]
    return model, reward_model.draw(rankings)


def test_the_reward_is_read_at_the_last_token_of_the_answer_padded_or_not():
    model, batch = model_and_batch()
    r = model(batch.tokens, batch.response_mask).detach()
    for row, mask, value in zip(batch.tokens, batch.response_mask, r):
        text = row[:int(mask.nonzero()[-1]) + 1][None]
        assert float(value) == pytest.approx((model.trunk.hidden(text)[0, -1] @ model.head).item(), abs=1e-12)


def test_a_fresh_reward_model_has_no_opinion_and_learns():
    """All r are 0 at first; 60 steps by hand on two rankings and every choice is likely."""
    model = reward_model.RewardModel(Tiny(0))
    batch = reward_model.draw([([1], [[2, 0], [0], [1, 1]]), ([2, 1], [[1, 0], [2, 2]])])
    assert reward_model.score(model, batch).eq(0).all()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    for _ in range(60):
        r = reward_model.score(model, batch)
        F = reward_model.coefficient(batch, r.detach())
        (-surrogate(F, r, batch.response_mask, batch.divide_by)).backward()
        optimizer.step()
        optimizer.zero_grad()
    gaps = reward_model.gaps(batch, reward_model.score(model, batch).detach())
    assert gaps.shape == (4,) and (reward_model.loss(gaps) < 0.3).all()


def test_rankings_by_hand():
    """3, 2 and 4 answers: 3 + 1 + 6 choices, weights 1/3, 1, 1/6; each answer stands in the batch once."""
    _, batch = model_and_batch()
    assert batch.tokens.shape[0] == 9 and batch.divide_by == 3
    choices = list(zip(batch.better.tolist(), batch.worse.tolist()))
    assert choices == [(0, 1), (0, 2), (1, 2), (3, 4), (5, 6), (5, 7), (5, 8), (6, 7), (6, 8), (7, 8)]
    assert batch.weight.tolist() == pytest.approx([1 / 3] * 3 + [1] + [1 / 6] * 6)


@pytest.mark.parametrize("margins", [False, True])
def test_the_reward_model_climbs_the_likelihood_of_the_choices(margins):
    """F on ∇r, F = 1 on ∇ log p(choice), autograd of the loss, differences by plain loops."""
    model, batch = model_and_batch()
    parameters = list(model.parameters())
    m = random(10, seed=1).abs() if margins else torch.zeros(10, dtype=torch.float64)
    choices, weight = list(zip(batch.better.tolist(), batch.worse.tolist())), batch.weight.double()

    def reward(i):
        text = batch.tokens[i][:int(batch.response_mask[i].nonzero()[-1]) + 1][None]
        return model.trunk.hidden(text)[0, -1] @ model.head

    def objective():
        r = [reward(i) for i in range(9)]
        likelihood = 0.0
        for (i, j), w, k in zip(choices, weight, m):
            likelihood = likelihood - w * torch.log(1 + torch.exp(-(r[i] - r[j] - k)))
        return likelihood / 3

    r = reward_model.score(model, batch)
    F = reward_model.coefficient(batch, r.detach(), m if margins else 0.0)

    def gradient(F, scores=r):  # r stands where log p does
        return gradients_of(surrogate(F, scores, batch.response_mask, divide_by=3), model)

    by_F = gradient(F)
    gap = r[batch.better] - r[batch.worse] - m
    losses = weight * reward_model.loss(gap)
    assert losses.shape == (10,) and F.shape == (9,) and not F.requires_grad
    by_loss = gradients_of(-losses.sum() / 3, model)
    one_choice_a_row = torch.ones(10, 1, dtype=torch.bool)
    choice = torch.nn.functional.logsigmoid(gap)
    by_one = gradients_of(surrogate(weight, choice, one_choice_a_row, divide_by=3), model)
    assert difference(by_F, by_loss) < ROUNDING and difference(by_F, by_one) < ROUNDING
    slopes = numeric_gradient(objective, parameters)
    assert relative_error(by_F, slopes) < FINITE
    turned = replace(batch, better=batch.worse, worse=batch.better)
    unweighed = replace(batch, weight=torch.ones(10))
    mask = batch.response_mask
    first = mask & (mask.long().cumsum(1) == 1)
    early = model(batch.tokens, first)
    bugs = {"the sign is turned": gradient(-F),
            "better and worse are turned": gradient(reward_model.coefficient(turned, r.detach())),
            "a prompt's weight is forgotten": gradient(reward_model.coefficient(unweighed, r.detach())),
            "the worse answer is left out": gradient(F.clamp(min=0)),
            "r is read too early": gradient(reward_model.coefficient(batch, early.detach()), early),
            "a mean for a sum": gradient(F / batch.response_mask.sum(1))}
    for bug, wrong in bugs.items():
        assert relative_error(wrong, slopes) > 0.05, bug


def test_a_margin_asks_for_more():
    """r = 2 and 0 with m = 2: p = σ(0) = 1/2, F = ±1/2; with m = 0, p = σ(2)."""
    batch = replace(hand(), better=torch.tensor([0]), worse=torch.tensor([1]), weight=tensor(1.0))
    assert reward_model.coefficient(batch, tensor(2.0, 0.0), 2.0).tolist() == [0.5, -0.5]
    F = reward_model.coefficient(batch, tensor(2.0, 0.0))
    assert F.tolist() == pytest.approx([0.11920292, -0.11920292])


def test_rewards_are_learned_up_to_a_constant():
    """Choices by Bradley–Terry, every pair with its chance: at r + 3 the gradient is 0, at 2·r it is not."""
    r = random(N, seed=2)
    p = torch.sigmoid(r[FIRST] - r[SECOND])
    batch = replace(batch_pairs([([1], y) for y in ANSWERS]), better=FIRST, worse=SECOND, weight=p)
    assert float(reward_model.coefficient(batch, r + 3).abs().max()) < 1e-12
    assert float(reward_model.coefficient(batch, 2 * r).abs().max()) > 0.1


def test_calibration_by_hand():
    """Gaps 0.1, −0.1 (says σ(0.1), right once of two), 5 (says 0.993, right), 0 (half right, says 1/2)."""
    says, right, count = reward_model.calibration(tensor(0.1, -0.1, 5.0, 0.0), bins=2)
    assert count.tolist() == [3, 1] and right.tolist() == pytest.approx([0.5, 1])
    assert says.tolist() == pytest.approx([(2 * 0.52497919 + 0.5) / 3, 0.99330715])


def test_a_person_with_the_models_own_doubts_finds_it_calibrated():
    """Gaps from a normal, choices drawn with σ(gap): says and is agree within 4 standard errors in each bin.

    At 3·gap they don't.
    """
    for seed in range(3):
        gap = 1.5 * random(40_000, seed=seed)
        turned = torch.rand(40_000, dtype=torch.float64, generator=seeded(50 + seed)) > gap.sigmoid()
        held = torch.where(turned, -gap, gap)                                   # r_chosen − r_rejected
        says, right, count = reward_model.calibration(held)
        assert ((says - right).abs() < 4 * (says * (1 - says) / count).sqrt()).all()
        says, right, count = reward_model.calibration(3 * held)
        assert float((says - right)[-1]) > 0.05
