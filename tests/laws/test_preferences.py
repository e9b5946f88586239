"""DPO, IPO, KTO and the reward model: F, the paper's loss and finite differences agree, with every pair of answers listed.

Then where each ends: DPO at π* ∝ π_ref·exp(r/β), IPO at its own closed form. And what shipped bugs would do to each.
"""

from __future__ import annotations

import math

import pytest
import torch

from conftest import PROMPTS, Tiny, V, difference, gradients_of, make_policy, numeric_gradient, relative_error, slow_logp
from minillm.identity import every_answer, surrogate
from minillm.batch import Batch, batch_pairs
from minillm.logprob import answer_logprobs, logprobs
from minillm.methods import dpo, ipo, kto, reward_model
from minillm.returns import margin
from minillm.train import Settings, train

ANSWERS = every_answer(V, 2)
X, N = len(PROMPTS), len(ANSWERS)
LENGTH = torch.tensor([len(y) for y in ANSWERS], dtype=torch.float64)
FIRST, SECOND = torch.cartesian_prod(torch.arange(N), torch.arange(N)).T       # every ordered pair of answers, N² of them
ROUNDING, FINITE = 1e-12, 1e-8
BETA = 0.7


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


def random(*shape, seed):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(params=["table", "transformer"])
def policy(request):
    return make_policy(request.param, longest=2)


def reference_listing(seed=7):
    """log p_ref of every answer to every prompt, (X, N): another policy of the same kind."""
    return slow_logp(make_policy("table", seed, longest=2), PROMPTS, ANSWERS).detach()


def chances(seed=9, r=None):
    """How often each (x, chosen, rejected) is in the data, (X, N²), summing to one a prompt: even draws, Bradley–Terry's choice."""
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


def by_F_and_by_loss(policy, method, weight, **settings):
    """(gradient by F through the surrogate, by autograd of the paper's loss), each pair weighed by its chance (X, N²)."""
    batch = every_pair()
    logp = logprobs(policy, batch)
    F = method.coefficient(logp, batch.response_mask, batch.reference, **settings)
    assert F.shape == (2 * batch.divide_by,) and not F.requires_grad
    by_F = gradients_of(surrogate(F * weight.flatten().repeat(2) * N**2, logp, batch.response_mask, divide_by=batch.divide_by), policy)
    loss = method.loss(logp, batch.response_mask, batch.reference, **settings)
    assert loss.shape == (batch.divide_by,)
    return by_F, gradients_of(-(loss * weight.flatten()).sum() / X, policy)


def slow_margin(policy, average=False):
    """h of every pair, (X, N²), from the slow log p: Σ over tokens, or the mean."""
    ratio = (slow_logp(policy, PROMPTS, ANSWERS) - reference_listing()) / (LENGTH if average else 1)
    return ratio[:, FIRST] - ratio[:, SECOND]


# --- DPO and IPO: three gradients -----------------------------------------------------------------


def dpo_objective(h, smoothing=0.0):
    """Mean log-likelihood of the label, some of them turned: written with exp, not with the package's logsigmoid."""
    p = 1 / (1 + (-BETA * h).exp())
    return (1 - smoothing) * p.log() + smoothing * (1 - p).log()


@pytest.mark.parametrize("settings", [{}, {"smoothing": 0.2}, {"average": True}], ids=str)
def test_dpo_climbs_the_likelihood_of_the_choice(policy, settings):
    weight = chances()
    by_F, by_loss = by_F_and_by_loss(policy, dpo, weight, beta=BETA, **settings)
    assert difference(by_F, by_loss) < ROUNDING
    average, smoothing = settings.get("average", False), settings.get("smoothing", 0.0)
    slopes = numeric_gradient(lambda: (weight * dpo_objective(slow_margin(policy, average), smoothing)).sum() / X,
                              policy.parameters())
    assert relative_error(by_F, slopes) < FINITE


@pytest.mark.parametrize("average", [False, True])
def test_ipo_draws_h_to_its_goal(policy, average):
    weight = chances()
    by_F, by_loss = by_F_and_by_loss(policy, ipo, weight, beta=BETA, average=average)
    assert difference(by_F, by_loss) < ROUNDING
    slopes = numeric_gradient(lambda: -(weight * (slow_margin(policy, average) - 1 / (2 * BETA)) ** 2).sum() / X, policy.parameters())
    assert relative_error(by_F, slopes) < FINITE


def test_dpo_and_ipo_by_hand():
    """Sums −3, −4, the reference's −4, −2: h = 1 − (−2) = 3. β = 1/3: βh = 1, F = σ(−1)/3; IPO's goal is 1.5, F = 2·(1.5 − 3)."""
    mask = torch.tensor([[False, True, True], [False, False, True]])
    logp, reference = tensor([-9.0, -1.0, -2.0], [-9.0, -9.0, -4.0]), tensor(-4.0, -2.0)
    F = dpo.coefficient(logp, mask, reference, beta=1 / 3)
    assert F.tolist() == pytest.approx([0.26894142 / 3, -0.26894142 / 3], abs=1e-8)
    assert dpo.loss(logp, mask, reference, beta=1 / 3).tolist() == pytest.approx([math.log(1 + math.exp(-1))])
    assert ipo.coefficient(logp, mask, reference, beta=1 / 3).tolist() == pytest.approx([-3, 3])
    assert ipo.loss(logp, mask, reference, beta=1 / 3).tolist() == pytest.approx([2.25])
    # means: (−3 + 4)/2 − (−4 + 2)/1 = 2.5, and F is divided by 2 tokens and by 1
    assert ipo.coefficient(logp, mask, reference, beta=1 / 3, average=True).tolist() == pytest.approx([-1, 2])


def test_no_gradient_flows_through_the_reference_or_through_F():
    mask = torch.tensor([[False, True], [False, True]])
    logp, reference = tensor([0.0, -1.0], [0.0, -2.0]).requires_grad_(), tensor(-1.0, -1.0).requires_grad_()
    for method in (dpo, ipo):
        assert not method.coefficient(logp, mask, reference).requires_grad
        assert torch.autograd.grad(method.loss(logp, mask, reference).sum(), [logp, reference], allow_unused=True)[1] is None


# --- where they end -------------------------------------------------------------------------------


def at(target, answers=ANSWERS, longest=2):
    """A table whose log p of every answer is `target` (X, N): each token's probability is the share of the answers that go on with it."""
    policy, p = make_policy("table", longest=longest), target.exp()
    with torch.no_grad():
        for x, prompt in enumerate(PROMPTS):
            for text, row in policy.row.items():
                if text[:len(prompt)] == tuple(prompt):
                    written = list(text[len(prompt):])
                    begins = torch.tensor([[y[:len(written) + 1] == [*written, v] for y in answers] for v in range(V)])  # (V, N)
                    policy.theta[row] = (begins * p[x]).sum(1).log()
    assert torch.allclose(slow_logp(policy, PROMPTS, answers), target, atol=1e-12)
    return policy


def test_dpo_rests_at_the_optimum_of_rlhf_and_nowhere_near():
    """Choices by Bradley–Terry with reward r: the gradient is 0 at π* ∝ π_ref·exp(r/β), whatever answers are compared."""
    r = random(X, N, seed=9)
    best = (reference_listing() + r / BETA).log_softmax(-1)
    weight = chances(r=r)
    still = by_F_and_by_loss(at(best), dpo, weight, beta=BETA)[0]
    moving = by_F_and_by_loss(at(reference_listing()), dpo, weight, beta=BETA)[0]
    assert max(float(g.abs().max()) for g in still) < 1e-12 < 1e-3 < max(float(g.abs().max()) for g in moving)
    away = by_F_and_by_loss(at((reference_listing() + r).log_softmax(-1)), dpo, weight, beta=BETA)[0]  # exp(r), not exp(r/β)
    assert max(float(g.abs().max()) for g in away) > 1e-3


def test_ipo_rests_where_its_paper_says():
    """π* ∝ π_ref·exp(E_y'[p(y ≻ y')]/β), y' drawn as the data's answers are (Azar et al. 2023, eq. 7 with Ψ the identity)."""
    r = random(X, N, seed=9)
    wins = torch.sigmoid(r[:, :, None] - r[:, None, :]).mean(-1)                # (X, N)
    still = by_F_and_by_loss(at((reference_listing() + wins / BETA).log_softmax(-1)), ipo, chances(r=r), beta=BETA)[0]
    assert max(float(g.abs().max()) for g in still) < 1e-12


def climb(method, beta, r_gap, steps):
    """h after gradient steps on one choice that is never contradicted: a table, one prompt, two answers."""
    policy = make_policy("table", longest=2)
    batch = dpo.draw([(PROMPTS[0], [1, 0], [2, 2])], reference_listing()[:1, :2])
    for _ in range(steps):
        logp = logprobs(policy, batch)
        F = method.coefficient(logp, batch.response_mask, batch.reference, beta=beta)
        grads = gradients_of(surrogate(F, logp, batch.response_mask, divide_by=1), policy)
        with torch.no_grad():
            policy.theta += r_gap * grads[0]
    logp = logprobs(policy, batch).detach()
    return float(margin(answer_logprobs(logp, batch.response_mask), batch.reference))


def test_a_choice_never_contradicted_pushes_dpo_on_and_stops_ipo():
    """β = 0.5: IPO ends at h = 1/(2β) = 1; DPO's h goes on growing."""
    assert climb(ipo, 0.5, 0.05, 300) == pytest.approx(1, abs=1e-6)
    assert climb(dpo, 0.5, 2.0, 2000) > climb(dpo, 0.5, 2.0, 1000) > 5


# --- planted bugs ---------------------------------------------------------------------------------


def planted_margin(policy, planted):
    """h of every pair with a bug in it, with gradient: what a loss built on it would see."""
    batch = every_pair()
    logp, mask = logprobs(policy, batch), batch.response_mask
    if planted == "the end token is dropped":
        mask = mask & (batch.tokens != 0)
    if planted == "the first token is cut":
        mask = mask & (mask.long().cumsum(1) > 1)
    answers = (logp * mask).sum(1)
    if planted == "a mean for a sum":
        answers = answers / batch.response_mask.sum(1)
    ratio = answers - batch.reference
    if planted == "the reference is forgotten":
        ratio = answers
    chosen, rejected = ratio.chunk(2)
    return (rejected - chosen if planted == "chosen and rejected are turned" else chosen - rejected).view(X, -1)


@pytest.mark.parametrize("planted", ["nothing", "the end token is dropped", "the first token is cut", "a mean for a sum",
                                     "the reference is forgotten", "chosen and rejected are turned"])
def test_a_wrong_h_is_seen(policy, planted):
    weight = chances()
    slopes = numeric_gradient(lambda: (weight * dpo_objective(slow_margin(policy))).sum() / X, policy.parameters())
    grads = gradients_of((weight * dpo_objective(planted_margin(policy, planted))).sum() / X, policy)
    assert relative_error(grads, slopes) < FINITE if planted == "nothing" else relative_error(grads, slopes) > 0.05


def test_an_F_that_is_not_detached_is_refused_and_would_count_the_gradient_twice():
    """∇(F · log p) = F ∇ log p + log p ∇F: the surrogate refuses such an F, and rightly."""
    policy, batch = make_policy("table", longest=2), every_pair()
    logp = logprobs(policy, batch)
    h = margin(answer_logprobs(logp, batch.response_mask), batch.reference)
    F = BETA * torch.sigmoid(-BETA * h)
    F = torch.cat([F, -F])
    with pytest.raises(ValueError, match="detach it"):
        surrogate(F, logp, batch.response_mask, divide_by=batch.divide_by)
    wrong = gradients_of((F * answer_logprobs(logp, batch.response_mask)).sum() / batch.divide_by, policy)
    right = gradients_of(-dpo.loss(logp, batch.response_mask, batch.reference, BETA).mean(), policy)
    assert difference(wrong, right) > 0.1


# --- KTO ------------------------------------------------------------------------------------------


def thumbs_batch(policy_seed=0):
    """Examples of both prompts and thumbs, with their mismatched rows and p_ref of all."""
    examples = [(PROMPTS[k % 2], ANSWERS[(3 * k + 1) % N], k % 3 != 0) for k in range(9)]
    batch = kto.draw(examples)
    reference = make_policy("table", 7, longest=2)
    batch.reference = answer_logprobs(logprobs(reference, batch), batch.response_mask).detach()
    return examples, batch


@pytest.mark.parametrize("lift", [-4.0, 4.0])
def test_kto_climbs_its_value_with_the_reference_point_held(policy, lift):
    """z from the shifted pairs, max(0, mean of r), by plain loops; then a constant. `lift` moves the mean, so that z > 0 once and 0 once."""
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
    settings = {"beta": BETA, "up": 1.5, "down": 0.5}
    F = kto.coefficient(logp, batch.response_mask, batch.reference, batch.thumbs, **settings)
    by_F = gradients_of(surrogate(F, logp, batch.response_mask, divide_by=batch.divide_by), policy)
    loss = kto.loss(logp, batch.response_mask, batch.reference, batch.thumbs, **settings)
    assert difference(by_F, gradients_of(-loss.mean(), policy)) < ROUNDING
    assert relative_error(by_F, numeric_gradient(objective, policy.parameters(), directions=4)) < FINITE
    assert F[9:].eq(0).all() and (F[:9] > 0).tolist() == [up for _, _, up in examples]
    if lift > 0:  # a reference point that carries a gradient is another gradient
        a, m = (answer_logprobs(logp, batch.response_mask) - batch.reference).chunk(2)
        u = BETA * (a - m.mean().clamp(min=0)) * torch.where(batch.thumbs, 1.0, -1.0)
        flowing = gradients_of((torch.where(batch.thumbs, 1.5, 0.5) * torch.sigmoid(u)).mean(), policy)
        assert difference(flowing, by_F) > 0.05


def test_kto_by_hand():
    """r = 2 (up), −1 (down); mismatched r = 1, 2: z = 1.5. u = β·0.5 and β·2.5 with β = 1: F = σ'(0.5), −2·σ'(2.5), 0, 0."""
    mask = torch.tensor([[False, True]] * 4)
    logp = tensor([0.0, -1.0], [0.0, -3.0], [0.0, -2.0], [0.0, -1.0])
    reference, thumbs = tensor(-3.0, -2.0, -3.0, -3.0), torch.tensor([True, False])
    F = kto.coefficient(logp, mask, reference, thumbs, beta=1.0, down=2.0)
    assert F.tolist() == pytest.approx([0.23500371, -2 * 0.07010372, 0, 0], abs=1e-8)
    losses = kto.loss(logp, mask, reference, thumbs, beta=1.0, down=2.0)
    assert losses.tolist() == pytest.approx([1 - 0.62245933, 2 * (1 - 0.92414182)], abs=1e-8)


def test_kto_never_takes_a_negative_reference_point():
    """Mismatched r = −5: z = 0, not −5. u = β·r: F = σ'(2)."""
    mask = torch.tensor([[False, True]] * 2)
    F = kto.coefficient(tensor([0.0, -1.0], [0.0, -6.0]), mask, tensor(-3.0, -1.0), torch.tensor([True]), beta=1.0)
    assert F.tolist() == pytest.approx([0.10499359, 0], abs=1e-8)


def test_ktos_mismatched_rows_are_the_next_ones_answer():
    batch = kto.draw([([1], [5, 0], True), ([2, 2], [6, 6, 0], False), ([3], [7, 0], True)])
    rows = [row[mask].tolist() for row, mask in zip(batch.tokens, batch.response_mask)]
    assert rows == [[5, 0], [6, 6, 0], [7, 0], [6, 6, 0], [7, 0], [5, 0]]
    assert batch.tokens[3].tolist() == [1, 6, 6, 0, 0] and batch.thumbs.tolist() == [True, False, True] and batch.divide_by == 3


# --- draws ----------------------------------------------------------------------------------------


def test_dpos_batch_by_hand():
    """Two comparisons: chosen rows first, their reference log-probs too."""
    batch = dpo.draw([([7], [8, 0], [9, 9, 0]), ([6, 6], [5], [4, 0])], tensor([-1.0, -2.0], [-3.0, -4.0]))
    assert [row[mask].tolist() for row, mask in zip(batch.tokens, batch.response_mask)] == [[8, 0], [5], [9, 9, 0], [4, 0]]
    assert batch.reference.tolist() == [-1, -3, -2, -4] and batch.divide_by == 2


def test_reference_logprobs_are_the_slow_ones_whatever_the_rows():
    reference = Tiny(3)
    answers = [(x, y) for x in PROMPTS for y in ANSWERS]
    slow = slow_logp(reference, PROMPTS, ANSWERS).flatten()
    for rows in (1, 5, 64):
        found = dpo.reference_logprobs(reference, answers, rows)
        assert torch.allclose(found, slow, atol=ROUNDING) and not found.requires_grad


@pytest.mark.parametrize("name", ["dpo", "ipo", "kto"])
def test_the_one_loop_trains_each(name):
    """Twenty steps of `train` with the method's two functions: the chosen answer's share of what it is compared with grows."""
    policy, reference = (Tiny(1, torch.float32, vocab_size=6, context=8) for _ in range(2))
    data = [([1, k], [2, 0], [3, 0]) for k in range(1, 6)]

    def ref(rows):
        return dpo.reference_logprobs(reference, rows)

    if name == "kto":
        batch = kto.draw([(x, y, up) for x, w, l in data for y, up in ((w, True), (l, False))])
        batch.reference = answer_logprobs(logprobs(reference, batch), batch.response_mask).detach()
        F = lambda b, logp: kto.coefficient(logp, b.response_mask, b.reference, b.thumbs)  # noqa: E731
    else:
        batch = dpo.draw(data, torch.stack([ref([(x, w) for x, w, _ in data]), ref([(x, l) for x, _, l in data])], 1))
        method = {"dpo": dpo, "ipo": ipo}[name]
        F = lambda b, logp: method.coefficient(logp, b.response_mask, b.reference)         # noqa: E731
    compared = dpo.draw(data, torch.zeros(5, 2))

    def gap():
        with torch.no_grad():
            logp = logprobs(policy, compared)
            return float(margin(answer_logprobs(logp, compared.response_mask), torch.zeros(10)).mean())

    before = gap()
    rows = train(policy, lambda step: Batch(**vars(batch)), F, Settings(20, lr=3e-3, muon_lr=0), progress=False)
    assert len(rows) == 20 and gap() > before + 0.5


# --- the reward model -----------------------------------------------------------------------------


def model_and_batch(seed=0):
    """A reward model in float64 and rankings of 3, 2 and 4 answers."""
    model = reward_model.RewardModel(Tiny(seed))
    with torch.no_grad():
        model.head.copy_(random(8, seed=seed))
    return model, reward_model.draw([([1], [[2, 0], [0], [1, 1]]), ([2, 1], [[1, 0], [2, 2]]), ([1], [[0], [1, 0], [2, 0], [2, 1]])])


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
    each = (batch.better, batch.worse, batch.weight.double())
    assert model(batch.tokens, batch.response_mask).eq(0).all()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    for _ in range(60):
        r = model(batch.tokens, batch.response_mask)[:, None]
        (-surrogate(reward_model.coefficient(r[:, 0], *each), r, torch.ones(5, 1, dtype=torch.bool), batch.divide_by)).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert (reward_model.loss(model(batch.tokens, batch.response_mask).detach(), *each) / each[2] < 0.3).all()


def test_rankings_by_hand():
    """3, 2 and 4 answers: 3 + 1 + 6 choices, weights 1/3, 1, 1/6; each answer stands in the batch once."""
    _, batch = model_and_batch()
    assert batch.tokens.shape[0] == 9 and batch.divide_by == 3
    choices = list(zip(batch.better.tolist(), batch.worse.tolist()))
    assert choices == [(0, 1), (0, 2), (1, 2), (3, 4), (5, 6), (5, 7), (5, 8), (6, 7), (6, 8), (7, 8)]
    assert batch.weight.tolist() == pytest.approx([1 / 3] * 3 + [1] + [1 / 6] * 6)


@pytest.mark.parametrize("margins", [False, True])
def test_the_reward_model_climbs_the_likelihood_of_the_choices(margins):
    """F on ∇r, F = 1 on ∇ log p(choice), autograd of the loss, and differences of Σ log p(choice), each in plain loops."""
    model, batch = model_and_batch()
    parameters = list(model.parameters())
    m = random(10, seed=1).abs() if margins else torch.zeros(10, dtype=torch.float64)
    choices, weight = list(zip(batch.better.tolist(), batch.worse.tolist())), batch.weight.double()

    def reward(i):
        text = batch.tokens[i][:int(batch.response_mask[i].nonzero()[-1]) + 1][None]
        return model.trunk.hidden(text)[0, -1] @ model.head

    def objective():
        r = [reward(i) for i in range(9)]
        return sum(w * -torch.log(1 + torch.exp(-(r[i] - r[j] - k))) for (i, j), w, k in zip(choices, weight, m)) / 3

    r = model(batch.tokens, batch.response_mask)
    each = (batch.better, batch.worse, weight, m if margins else 0.0)
    F = reward_model.coefficient(r, *each)
    one = torch.ones(9, 1, dtype=torch.bool)
    by_F = gradients_of(surrogate(F, r[:, None], one, divide_by=3), model)  # r stands where log p stands
    loss = reward_model.loss(r, *each)
    assert loss.shape == (10,) and F.shape == (9,) and not F.requires_grad
    by_loss = gradients_of(-loss.sum() / 3, model)
    choice = torch.nn.functional.logsigmoid(r[batch.better] - r[batch.worse] - m)[:, None]
    by_one = gradients_of(surrogate(weight, choice, torch.ones(10, 1, dtype=torch.bool), divide_by=3), model)
    assert difference(by_F, by_loss) < ROUNDING and difference(by_F, by_one) < ROUNDING
    assert relative_error(by_F, numeric_gradient(objective, parameters)) < FINITE


def test_a_margin_asks_for_more():
    """r = 2 and 0 with m = 2: p = σ(0) = 1/2, F = ±1/2; with m = 0, p = σ(2)."""
    rows, w = (torch.tensor([0]), torch.tensor([1])), tensor(1.0)
    assert reward_model.coefficient(tensor(2.0, 0.0), *rows, w, 2.0).tolist() == [0.5, -0.5]
    assert reward_model.coefficient(tensor(2.0, 0.0), *rows, w).tolist() == pytest.approx([0.11920292, -0.11920292])


def test_rewards_are_learned_up_to_a_constant():
    """Choices by Bradley–Terry, every pair with its chance: at r + 3 the gradient is 0, at 2·r it is not."""
    r = random(N, seed=2)
    p = torch.sigmoid(r[FIRST] - r[SECOND])
    assert float(reward_model.coefficient(r + 3, FIRST, SECOND, p).abs().max()) < 1e-12
    assert float(reward_model.coefficient(2 * r, FIRST, SECOND, p).abs().max()) > 0.1


def test_calibration_by_hand():
    """Gaps 0.1, −0.1 (says σ(0.1), right once of two), 5 (says 0.993, right), 0 (half right, says 1/2)."""
    says, right, count = reward_model.calibration(tensor(0.1, -0.1, 5.0, 0.0), bins=2)
    assert count.tolist() == [3, 1] and right.tolist() == pytest.approx([0.5, 1])
    assert says.tolist() == pytest.approx([(2 * 0.52497919 + 0.5) / 3, 0.99330715])


def test_a_person_with_the_models_own_doubts_finds_it_calibrated():
    """Gaps from a normal, choices drawn with σ(gap): says and is agree within 4 standard errors in each of five bins; at 3·gap they don't."""
    for seed in range(3):
        gap = 1.5 * random(40_000, seed=seed)
        turned = torch.rand(40_000, dtype=torch.float64, generator=torch.Generator().manual_seed(50 + seed)) > gap.sigmoid()
        held = torch.where(turned, -gap, gap)                                   # r_chosen − r_rejected
        says, right, count = reward_model.calibration(held)
        assert ((says - right).abs() < 4 * (says * (1 - says) / count).sqrt()).all()
        says, right, count = reward_model.calibration(3 * held)
        assert float((says - right)[-1]) > 0.05
