"""The laws, by listing every y in float64: Σ p(y) = 1, and each F against its loss and against its objective.

Three gradients must agree: F through the identity, autograd of the loss as the paper prints it, and finite
differences of the objective that the method says it climbs, computed apart from the package. Then bugs are
planted, and the same laws must see them.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
import torch

from conftest import LONGEST, PROMPTS, Tiny, V, difference, gradients_of, make_policy, numeric_gradient
from conftest import planted, random, relative_error, seeded, slow_logp, tensor
from minillm.batch import Batch, batch_pairs
from minillm.identity import every_answer, exact_gradient, expectation, surrogate
from minillm.logprob import answer_logprobs, logprobs
from minillm.methods import dagger, reinforce, self_training, supervised

ANSWERS = every_answer(V, LONGEST)
X, N = len(PROMPTS), len(ANSWERS)
ROUNDING = 1e-12  # two float64 routes through the same few hundred operations
FINITE = 1e-8     # finite differences: `numeric_gradient` checks that they have converged to it


def listing(**fields):
    """Every (x, y) as one batch, prompt by prompt: rows x·N … x·N + N − 1 answer PROMPTS[x]."""
    return replace(batch_pairs([(x, y) for x in PROMPTS for y in ANSWERS]), **fields)


def log_p(policy, batch, **settings):
    """log p(y|x) of each row by the package, (B,)."""
    return answer_logprobs(logprobs(policy, batch, **settings), batch.response_mask)


def listed_logp(policy, **settings):
    """log p of every answer to every prompt by the package, (X, N)."""
    return log_p(policy, listing(), **settings).view(X, N)


def through_surrogate(policy, F, q, batch=None):
    """Gradient of the surrogate over the listing, F weighed by q(y|x): the mean is then the expectation."""
    batch = batch or listing()
    weight = (q.flatten() * N).view(-1, *[1] * (F.ndim - 1))
    return gradients_of(surrogate(F * weight, logprobs(policy, batch), batch.response_mask), policy)


def through_loss(policy, loss, q):
    """Minus the gradient of E_q[loss], the loss given as a function of log p(y|x), (X·N,)."""
    return gradients_of(-(loss(log_p(policy, listing())) * q.flatten()).sum() / X, policy)


def every_plant_is_seen(policy, F, q, slopes, batch=None):
    """Each bug of `planted` in F is off by more than a twentieth of the largest slope."""
    batch = batch or listing()
    for bug, wrong in planted(F, batch).items():
        assert relative_error(through_surrogate(policy, wrong, q, batch), slopes) > 0.05, bug


def rewards(seed=3):
    """A reward for each (x, y): no two alike, of both signs."""
    return random(X, N, seed=seed)


def data_distribution(seed=4):
    """Somebody else's q(y|x): not the policy's, and zero on some answers."""
    q = torch.rand(X, N, dtype=torch.float64, generator=seeded(seed))
    q[0, 2] = q[1, 9] = 0
    return q / q.sum(1, keepdim=True)


# --- the listing ----------------------------------------------------------------------------------


@pytest.mark.parametrize("vocab_size, longest, end", [(2, 1, 0), (2, 4, 1), (3, 3, 0), (4, 2, 2), (5, 3, 4)])
def test_every_answer_is_every_text_cut_after_its_first_end(vocab_size, longest, end):
    """Cut each of the V^L texts after its first end token: what is left, without repeats, is the listing."""
    texts = product(range(vocab_size), repeat=longest)
    cut = {text[:text.index(end) + 1] if end in text else text for text in texts}
    listed = [tuple(y) for y in every_answer(vocab_size, longest, end)]
    assert len(listed) == len(set(listed)) and set(listed) == cut


@pytest.mark.parametrize("longest", [1, 2, 4])
@pytest.mark.parametrize("end", [0, 2])
def test_the_probabilities_of_all_answers_sum_to_one(longest, end):
    """Σ_y p(y|x) = 1 for each prompt, by the package's log p, for a transformer whose end token is any id."""
    answers, policy = every_answer(V, longest, end), Tiny(seed=5)
    for prompt in PROMPTS:
        p = log_p(policy, batch_pairs([(prompt, y) for y in answers])).exp()
        assert abs(p.sum().item() - 1) < ROUNDING


def test_the_probabilities_sum_to_one_in_float32():
    """1e-5: float32 keeps 7 digits, and 15 numbers are added."""
    p = listed_logp(Tiny(dtype=torch.float32)).exp()
    assert torch.allclose(p.sum(1), torch.ones(X), atol=1e-5)


def test_without_the_end_token_they_do_not_and_the_listing_is_refused(policy):
    """Drop the end token from each closed answer's log p: the sum passes 1, and the listing is refused."""
    batch = listing()
    closed = torch.tensor([y[-1] == 0 for y in ANSWERS]).repeat(X)
    last = batch.response_mask.long().cumsum(1).argmax(1)
    mask = batch.response_mask.clone()
    mask[closed, last[closed]] = False
    some = Batch(batch.tokens[1:N], mask[1:N])               # row 0 is the end alone: nothing is left of it
    logp = torch.cat([tensor(0.0), logprobs(policy, some).sum(-1)])                 # log 1
    assert logp.exp().sum().item() > 1.5
    with pytest.raises(ValueError, match="each with its end token"):
        exact_gradient(logp, torch.ones(N, dtype=torch.float64), policy.parameters())


def test_the_packages_log_p_is_the_slow_one(policy):
    """Padded rows, one gather and a mask give what one text at a time gives."""
    assert torch.allclose(listed_logp(policy), slow_logp(policy, PROMPTS, ANSWERS), rtol=0, atol=ROUNDING)


def test_expectation_is_the_sum_over_the_listing(policy):
    """Of the length of y: Σ p(y)·|y|, added up in plain Python."""
    lengths = tensor(*[float(len(y)) for y in ANSWERS])
    slow = slow_logp(policy, PROMPTS, ANSWERS).detach().exp()
    by_hand = [sum(float(slow[x, i]) * len(y) for i, y in enumerate(ANSWERS)) for x in range(X)]
    assert torch.allclose(expectation(listed_logp(policy), lengths), tensor(*by_hand), atol=ROUNDING)


def test_expectation_of_log_p_counts_nothing_for_answers_that_are_never_drawn():
    """p = (1/2, 1/2, 0): E[log p] = −log 2; the third answer's 0 · (−∞) adds nothing."""
    logp = tensor(0.5, 0.5, 0.0).log()
    assert float(expectation(logp, logp)) == pytest.approx(-0.6931471805599453)


def test_the_mean_of_the_score_is_zero(policy):
    """E[∇ log p] = ∇ Σ p = ∇ 1 = 0: with F = 1 on the policy's own answers nothing moves."""
    one = torch.ones(X, N, dtype=torch.float64)
    grads = exact_gradient(listed_logp(policy), one, policy.parameters())
    assert max(float(g.abs().max()) for g in grads) < ROUNDING


# --- each method: F through the identity, the paper's loss, the objective -------------------------


def test_supervised_climbs_the_datas_log_likelihood(policy):
    """q is data, F = 1: the objective is E_data[log p(y|x)]."""
    q = data_distribution()
    F = supervised.coefficient(listing()).double()
    by_F = exact_gradient(listed_logp(policy), F.view(X, N), policy.parameters(), q=q)
    assert difference(through_surrogate(policy, F, q), by_F) < ROUNDING
    assert difference(through_loss(policy, supervised.loss, q), by_F) < ROUNDING

    def objective():
        return (q * slow_logp(policy, PROMPTS, ANSWERS)).sum() / X

    slopes = numeric_gradient(objective, policy.parameters())
    assert relative_error(by_F, slopes) < FINITE
    every_plant_is_seen(policy, F, q, slopes)


def test_the_mean_over_tokens_is_supervised_learning_where_each_token_is_a_pair(policy):
    """divide_by = number of response tokens: the objective is the mean log p of a token of any row."""
    batch = batch_pairs([([1], [2, 1, 0]), ([2, 1], [0]), ([1], [1, 0])])
    F = supervised.coefficient(batch).double()

    def gradient(divide_by):
        return gradients_of(surrogate(F, logprobs(policy, batch), batch.response_mask, divide_by), policy)

    def objective():
        one = slow_logp(policy, [[1]], [[2, 1, 0], [1, 0]]).sum() + slow_logp(policy, [[2, 1]], [[0]]).sum()
        return one / 6  # 3 + 1 + 2 tokens

    slopes = numeric_gradient(objective, policy.parameters())
    assert relative_error(gradient(6), slopes) < FINITE
    assert relative_error(gradient(None), slopes) > 0.5  # over the three rows


def test_the_filter_climbs_the_probability_of_being_kept(policy):
    """The model makes y, F = 1[kept]: the objective is P(kept) = Σ p(y|x)·1[kept], and nothing is frozen."""
    keep = rewards() > 0.3
    F = self_training.coefficient(listing(keep=keep.flatten())).double()
    logp = listed_logp(policy)
    q = logp.detach().exp()
    by_F = exact_gradient(logp, F.view(X, N), policy.parameters())
    assert difference(through_surrogate(policy, F, q), by_F) < ROUNDING
    by_loss = through_loss(policy, lambda logp: self_training.loss(logp, keep.flatten()), q)
    assert difference(by_loss, by_F) < ROUNDING

    def objective():
        return (slow_logp(policy, PROMPTS, ANSWERS).exp() * keep).sum() / X

    slopes = numeric_gradient(objective, policy.parameters())
    assert relative_error(by_F, slopes) < FINITE
    every_plant_is_seen(policy, F, q, slopes)


@pytest.mark.parametrize("n", [2, 3])
def test_best_of_n_climbs_log_p_under_the_best_of_n_distribution(n):
    """List every n-tuple of answers. The objective is Σ_y q_n(y) log p(y), with q_n frozen.

    q_n from the reward's distribution alone: the best of n has reward r with probability
    P(R ≤ r)^n − P(R < r)^n, and given that, it is an answer drawn from p among those of reward r.
    Some rewards are equal, so that ties are in it.
    """
    policy, prompt, answers = make_policy("table", longest=2), [2, 1], every_answer(V, 2)
    R = tensor(1.0, -2.0, 0.5, 1.0, 0.5, 3.0, -2.0)
    p = slow_logp(policy, [prompt], answers)[0].detach().exp()
    tuples = list(product(range(len(answers)), repeat=n))
    chosen = torch.tensor(tuples).flatten()                                     # (tuples · n,)
    group = torch.arange(len(tuples)).repeat_interleave(n)
    keep = self_training.best_of_n(R[chosen], group)
    assert keep.view(-1, n).sum(1).eq(1).all()                                  # one of each group
    chance = p[chosen].view(-1, n).prod(1).repeat_interleave(n)                 # Π p(y_i) of its tuple
    batch = batch_pairs([(prompt, y) for y in answers])
    logp = logprobs(policy, batch)[chosen]
    every = replace(batch.rows(chosen), keep=keep)
    F = self_training.coefficient(every).double()
    # The mean is over tuples·n rows, and a tuple keeps one of its n: the expectation is n times that mean.
    by_F = gradients_of(surrogate(F * chance * len(tuples) * n, logp, every.response_mask), policy)
    losses = self_training.loss(answer_logprobs(logp, every.response_mask), keep)
    assert difference(by_F, gradients_of(-(losses * chance).sum(), policy)) < ROUNDING

    at_most = (p * (R[None] <= R[:, None])).sum(1)
    below = (p * (R[None] < R[:, None])).sum(1)
    q_n = p / (at_most - below) * (at_most**n - below**n)
    assert float(q_n.sum()) == pytest.approx(1, abs=ROUNDING)

    def objective():
        return (q_n * slow_logp(policy, [prompt], answers)[0]).sum()

    slopes = numeric_gradient(objective, policy.parameters())
    assert relative_error(by_F, slopes) < FINITE


def test_dagger_climbs_the_experts_log_likelihood_under_frozen_visits(policy):
    """The model's visits, frozen, make x, and the expert y: Σ_y p_frozen(y) Σ_t log p(e(y_<t) | x, y_<t)."""
    def expert(text):
        return (2 * sum(text) + len(text)) % V

    targets = listing().tokens.clone()
    for row, corrected, mask in zip(listing().tokens.tolist(), targets, listing().response_mask):
        for t in mask.nonzero()[:, 0].tolist():
            corrected[t] = expert(row[:t])
    batch = listing(targets=targets)
    assert (targets != batch.tokens).any()
    frozen = slow_logp(policy, PROMPTS, ANSWERS).detach().exp()
    F = dagger.coefficient(batch).double()
    by_F = through_surrogate(policy, F, frozen, batch)
    losses = dagger.loss(logprobs(policy, batch)) * batch.response_mask                  # (X·N, T)
    by_loss = gradients_of(-(losses.sum(1) * frozen.flatten()).sum() / X, policy)
    assert difference(by_F, by_loss) < ROUNDING

    visits = {}                                                                          # text: how often
    for x, prompt in enumerate(PROMPTS):
        for i, y in enumerate(ANSWERS):
            for t in range(len(y)):
                text = (*prompt, *y[:t])
                visits[text] = visits.get(text, 0.0) + frozen[x, i]

    def objective():
        return sum(f * policy.after(x).log_softmax(-1)[expert(x)] for x, f in visits.items()) / X

    slopes = numeric_gradient(objective, policy.parameters(), directions=4)
    assert relative_error(by_F, slopes) < FINITE
    every_plant_is_seen(policy, F, frozen, slopes, batch)
    without_the_expert = through_surrogate(policy, F, frozen)
    assert relative_error(without_the_expert, slopes) > 0.05


BASELINES = {"none": 0.0, "a number": 0.7, "one a prompt": tensor(-1.5, 2.0).repeat_interleave(N)}


@pytest.mark.parametrize("baseline", BASELINES.values(), ids=BASELINES)
def test_reinforce_climbs_the_expected_reward_whatever_the_baseline(policy, baseline):
    """The model makes y, F = R − b: the objective is E_p[R], without b."""
    R = rewards()
    logp = listed_logp(policy)
    F = reinforce.coefficient(listing(rewards=R.flatten(), baseline=baseline), logprobs(policy, listing()))
    q = logp.detach().exp()
    by_F = exact_gradient(logp, F.view(X, N), policy.parameters())
    assert difference(through_surrogate(policy, F, q), by_F) < ROUNDING
    by_loss = through_loss(policy, lambda logp: reinforce.loss(logp, R.flatten(), baseline), q)
    assert difference(by_loss, by_F) < ROUNDING
    slopes = reward_slopes(policy, R)
    assert relative_error(by_F, slopes) < FINITE
    every_plant_is_seen(policy, F, q, slopes)


def test_who_makes_x_weighs_the_prompts(policy):
    """Prompts drawn with d = (0.3, 0.7): the objective is Σ d(x) E_p[R(x, y)]; d even gives the plain one."""
    R, d = rewards(), tensor(0.3, 0.7)
    by_F = exact_gradient(listed_logp(policy), R, policy.parameters(), d=d)

    def objective():
        return (d * (slow_logp(policy, PROMPTS, ANSWERS).exp() * R).sum(1)).sum()

    assert relative_error(by_F, numeric_gradient(objective, policy.parameters())) < FINITE
    even = exact_gradient(listed_logp(policy), R, policy.parameters(), d=tensor(*[1 / X] * X))
    assert difference(even, exact_gradient(listed_logp(policy), R, policy.parameters())) < ROUNDING


@pytest.mark.parametrize("n", [2, 3])
def test_leave_one_out_keeps_the_mean_of_the_gradient(n):
    """List every group of n answers: the surrogate's gradient, expected over groups, is that of E[R]."""
    by_groups, exact = group_gradients(n, reinforce.leave_one_out)
    assert difference(by_groups, exact) < ROUNDING


def test_a_baseline_with_the_answers_own_reward_in_it_shrinks_the_gradient():
    """The group's mean, itself included, takes (n − 1)/n of the gradient: with n = 3, by 2/3. It is seen."""
    def group_mean(rewards, group):
        return rewards.view(-1, 3).mean(1).repeat_interleave(3)

    by_groups, exact = group_gradients(3, group_mean)
    assert difference(by_groups, exact) > 0.3
    assert difference([1.5 * g for g in by_groups], exact) < ROUNDING


def group_gradients(n, baseline):
    """(the gradient expected over every group of n answers to one prompt, the exact gradient of E[R])."""
    policy, prompt, answers = make_policy("table", longest=2), [1], every_answer(V, 2)
    R = random(len(answers), seed=8)
    tuples = list(product(range(len(answers)), repeat=n))
    chosen = torch.tensor(tuples).flatten()
    group = torch.arange(len(tuples)).repeat_interleave(n)
    batch = batch_pairs([(prompt, y) for y in answers])
    logp = logprobs(policy, batch)
    full = answer_logprobs(logp, batch.response_mask)
    chance = full.detach().exp()[chosen].view(-1, n).prod(1).repeat_interleave(n)
    every = replace(batch.rows(chosen), rewards=R[chosen], baseline=baseline(R[chosen], group))
    F = reinforce.coefficient(every, logp[chosen])
    by_groups = gradients_of(surrogate(F * chance * len(tuples), logp[chosen], every.response_mask), policy)
    return by_groups, exact_gradient(full, R, policy.parameters())


# --- planted bugs: each of these has shipped somewhere, and the law of REINFORCE must see it ------


def dropped_end(logp, mask, tokens):
    """log p(y) without the end token."""
    return (logp * (mask & (tokens != 0))).sum(-1)


def mean_over_tokens(logp, mask, tokens):
    """The mean where the equation sums."""
    return (logp * mask).sum(-1) / mask.sum(-1)


def first_token_cut(logp, mask, tokens):
    """A mask trimmed at the wrong end: y's first token is not scored."""
    keep = mask & (mask.long().cumsum(1) > 1)
    return (logp * keep).sum(-1)


def only_the_last(logp, mask, tokens):
    """Only the last token of y is scored."""
    keep = mask & (mask.long().cumsum(1) == mask.sum(1, keepdim=True))
    return (logp * keep).sum(-1)


def test_a_wrong_log_p_is_seen(policy):
    """F = R over log p(y) with a planted bug: off by more than a tenth of the largest slope.

    That is ten million times the tolerance.
    """
    R, batch = rewards(), listing()
    q = slow_logp(policy, PROMPTS, ANSWERS).detach().exp()
    logp, slopes = logprobs(policy, batch), reward_slopes(policy, R)
    for bug in (dropped_end, mean_over_tokens, first_token_cut, only_the_last):
        wrong = bug(logp, batch.response_mask, batch.tokens)
        assert relative_error(gradients_of((wrong * (R * q).flatten()).sum() / X, policy), slopes) > 0.1, bug


def test_reading_one_place_late_is_seen():
    """log p(y_t) read from the state after y_t in place of the one before it."""
    policy, R, batch = make_policy("transformer"), rewards(), listing()
    q = slow_logp(policy, PROMPTS, ANSWERS).detach().exp()
    late = policy(batch.tokens).log_softmax(-1).gather(-1, batch.tokens[..., None])[..., 0]
    wrong = gradients_of(((late * batch.response_mask).sum(-1) * (R * q).flatten()).sum() / X, policy)
    assert relative_error(wrong, reward_slopes(policy, R)) > 0.1


@pytest.mark.parametrize("settings", [{"temperature": 0.5}, {"top_k": 2}], ids=str)
def test_scoring_under_other_settings_than_those_that_drew_is_seen(settings):
    """y ~ p at some settings, ∇ log p at none: not the gradient of E[R] under what was drawn."""
    policy, R = make_policy("transformer"), rewards()
    q = listed_logp(policy, **settings).detach().exp()
    ones = torch.ones(X, dtype=torch.float64)
    assert torch.allclose(q.sum(1), ones, atol=ROUNDING)                       # with −∞ where top-k forbids

    def objective():
        return (listed_logp(policy, **settings).exp() * R).sum() / X

    slopes = numeric_gradient(objective, policy.parameters())
    right = exact_gradient(listed_logp(policy, **settings), R, policy.parameters())
    assert relative_error(right, slopes) < FINITE
    wrong = exact_gradient(listed_logp(policy), R, policy.parameters(), q=q)
    assert relative_error(wrong, slopes) > 0.05


def test_a_turned_sign_and_an_f_of_the_wrong_answer_are_seen(policy):
    """−R, and R of the neighbouring answer: both are far from the objective's slope, R itself is not."""
    R = rewards()
    slopes, logp = reward_slopes(policy, R), listed_logp(policy)
    assert relative_error(exact_gradient(logp, R, policy.parameters()), slopes) < FINITE
    assert relative_error(exact_gradient(logp, -R, policy.parameters()), slopes) > 1
    assert relative_error(exact_gradient(logp, R.roll(1, dims=1), policy.parameters()), slopes) > 0.1


def reward_slopes(policy, R):
    """Finite differences of E_p[R]."""
    def objective():
        return (slow_logp(policy, PROMPTS, ANSWERS).exp() * R).sum() / X

    return numeric_gradient(objective, policy.parameters())
