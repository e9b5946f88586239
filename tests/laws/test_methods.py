"""Each method's F and loss as functions of numbers, and its draw, by hand and by behaviour.

F is minus the slope of the loss, for every method; that it climbs the method's objective is held in the other
files of this folder.
"""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from conftest import Table, Tiny, random, seeded, tensor
from minillm.batch import Batch, batch_pairs
from minillm.identity import surrogate
from minillm.logprob import logprobs
from minillm.methods import critic, dagger, distill, dpo, grpo, ipo, kto, ppo, reinforce, reward_model
from minillm.methods import self_training, simpo, supervised

PROMPTS = [[1, 2], [3]]
MASK = torch.tensor([[False, True, True], [False, False, True]])
LOGP = tensor([-9.0, -1.0, -2.0], [-9.0, -9.0, -4.0])


def batch_of(mask, **fields):
    """A batch whose tokens do not matter."""
    return Batch(torch.ones(mask.shape, dtype=torch.long), mask, **fields)


def small_model(seed=0):
    return Tiny(seed, torch.float32, vocab_size=6, d_model=16, context=16)


# --- F is minus the slope of the loss, on the quantities of each paper ------------------------------

WIDE = torch.linspace(-8, 8, 33, dtype=torch.float64)       # gaps, margins, log p
OLD, REF = random(40, seed=1), random(40, seed=2)
LOG_P = OLD + torch.linspace(-0.975, 1.025, 40, dtype=torch.float64)  # ρ from 0.38 to 2.8, on no kink
A = torch.where(torch.arange(40) % 2 == 0, 1.0, -1.0) * (0.5 + random(40, seed=3).abs())  # never 0: a kink
KEEP = torch.arange(33) % 3 != 0
UP = torch.arange(33) % 2 == 0
TEACHER = random(7, 5, seed=4).log_softmax(-1)
GOAL = random(40, seed=5)


def of_ratio(function, **settings):
    """A function of ρ and A as one of log p."""
    return lambda logp: function((logp - OLD).exp(), A, **settings)


def of_grpo(function, **settings):
    """The same with the log-ratio to a reference, which follows log p as well."""
    return lambda logp: function((logp - OLD).exp(), A, log_ratio=logp - REF, **settings)


def of(module, *arguments, **settings):
    """(loss, F) of a module as functions of their first argument."""
    return tuple(lambda first, f=f: f(first, *arguments, **settings) for f in (module.loss, module.F))


PPO, OPEN = {"clip": 0.2}, {"clip": math.inf}
HIGH, KL = {"clip": 0.2, "clip_high": 0.6}, {"clip": 0.2, "beta": 0.3}
GIVEN = (random(33, seed=6), 0.4, 0.7, random(33, seed=7))  # R, b, β, log p/p_ref
KTO = {"beta": 0.5, "up": 1.5, "down": 0.7}
# name: (where, loss, F, an F that is wrong)
SLOPES = {
    "supervised": (WIDE, *of(supervised), lambda logp: -torch.ones_like(logp)),
    "dagger": (WIDE, *of(dagger), lambda logp: torch.ones_like(logp) / len(logp)),
    "self_training": (WIDE, lambda logp: self_training.loss(logp, KEEP),
                      lambda _: self_training.F(KEEP), lambda _: self_training.F(~KEEP)),
    "distill": (random(7, 5, seed=8), lambda logp: distill.loss(logp, TEACHER, 1.7),
                lambda _: distill.F(TEACHER, 1.7), lambda _: distill.F(TEACHER, 1.7) / 1.7),
    "reinforce": (WIDE, lambda logp: reinforce.loss(logp, *GIVEN),
                  lambda _: reinforce.F(*GIVEN), lambda _: reinforce.F(*GIVEN[:2], -0.7, GIVEN[3])),
    "ppo": (LOG_P, of_ratio(ppo.loss, **PPO), of_ratio(ppo.F, **PPO),
            of_ratio(ppo.F, **OPEN)),
    "ppo, not clipped": (LOG_P, of_ratio(ppo.loss, **OPEN), of_ratio(ppo.F, **OPEN), of_ratio(ppo.F, **PPO)),
    "grpo": (LOG_P, of_grpo(grpo.loss, **KL), of_grpo(grpo.F, **KL), of_ratio(grpo.F, **PPO)),
    "grpo, the upper clip apart": (LOG_P, of_ratio(grpo.loss, **HIGH), of_ratio(grpo.F, **HIGH),
                                   of_ratio(grpo.F, **PPO)),
    "critic": (LOG_P, *of(critic, GOAL), lambda V: V - GOAL),
    "critic, clipped": (LOG_P, *of(critic, GOAL, OLD, 0.3), lambda V: critic.F(V, GOAL)),
    "reward_model": (WIDE, *of(reward_model), lambda gap: torch.sigmoid(gap)),
    "dpo": (WIDE, *of(dpo, beta=0.7), lambda h: 0.7 * torch.sigmoid(0.7 * h)),
    "dpo, smoothed": (WIDE, *of(dpo, beta=0.7, smoothing=0.2), lambda h: dpo.F(h, 0.7)),
    "ipo": (WIDE, *of(ipo, beta=0.7), lambda h: ipo.F(h, 0.7) / 2),
    "kto": (WIDE, *of(kto, 0.9, UP, **KTO), lambda r: kto.F(r, 0.9, ~UP, **KTO)),
    "simpo": (WIDE, *of(simpo, beta=2.0, gamma=1.2), lambda delta: simpo.F(delta, 2.0, -1.2)),
}


@pytest.mark.parametrize("name", SLOPES)
def test_F_is_minus_the_slope_of_the_loss(name):
    """By autograd to 1e-12 and by differences to 1e-8, in float64, away from kinks; a wrong F is seen.

    dρ/d log p = ρ, so F of a ratio is the slope in log p.
    """
    where, loss, F, wrong = SLOPES[name]
    leaf = where.clone().requires_grad_()
    value = loss(leaf)
    slope = torch.autograd.grad(value.sum(), leaf)[0]
    here = F(where)
    assert here.shape == where.shape and torch.isfinite(here).all() and torch.isfinite(value).all()
    assert value.shape == where.shape[:1]  # unreduced
    assert torch.allclose(here.double(), -slope, rtol=1e-12, atol=1e-12)

    def difference(step):
        if name == "distill":  # a place's loss is a sum over next tokens: one of them is moved at a time
            moves = step * torch.eye(5, dtype=torch.float64)
            columns = [loss(where + move) - loss(where - move) for move in moves]
            return torch.stack(columns, -1) / (2 * step)
        return (loss(where + step) - loss(where - step)) / (2 * step)

    extrapolated = (4 * difference(1e-3) - difference(2e-3)) / 3
    assert torch.allclose(here.double(), -extrapolated, rtol=0, atol=1e-8)
    assert (wrong(where).double() + slope).abs().max() > 0.05


def test_no_quantity_of_the_slopes_stands_near_a_kink():
    """Ratios from the clips, values from old ± clip and from where clipped and free ones miss alike."""
    ratio = (LOG_P - OLD).exp()
    assert all((ratio - kink).abs().min() > 4e-3 for kink in (0.8, 1.2, 1.6))
    moved = LOG_P - OLD
    assert ((moved.abs() - 0.3).abs() > 4e-3).all()
    edge = OLD + moved.clamp(-0.3, 0.3)
    beyond = moved.abs() > 0.3
    alike = ((LOG_P - GOAL).abs() - (edge - GOAL).abs())[beyond]
    assert (alike.abs() > 4e-3).all() and alike.min() < 0 < alike.max()


def test_the_log_ratio_gives_reinforce_its_value_and_no_gradient():
    """F holds β·log p/p_ref of the very log p that it multiplies, and the loss's slope is −F all the same."""
    logp = WIDE.clone().requires_grad_()
    R, reference = GIVEN[0], GIVEN[3]
    slope = torch.autograd.grad(reinforce.loss(logp, R, 0.4, 0.7, logp - reference).sum(), logp)[0]
    assert torch.allclose(slope, -reinforce.F(R, 0.4, 0.7, WIDE - reference), rtol=0, atol=1e-12)


def test_kto_takes_no_gradient_through_its_reference_point_from_a_batch():
    """z is computed from log-probs that carry a gradient, and has none."""
    mask = torch.tensor([[False, True]] * 4)
    logp = tensor([0.0, -1.0], [0.0, -3.0], [0.0, -2.0], [0.0, -1.0]).requires_grad_()
    batch = batch_of(mask, reference=tensor(-3.0, -2.0, -3.0, -3.0), thumbs=torch.tensor([True, False]))
    r, z = kto.ratio_and_point(batch, logp)
    assert r.requires_grad and not z.requires_grad and float(z) == 1.5


# --- supervised -------------------------------------------------------------------------------------


def test_supervised_is_one_for_each_answer_and_its_loss_a_sum():
    """Token log-probs −1, −2 and −4: F = 1, 1; losses 1 + 2 = 3 and 4, not their means."""
    assert supervised.coefficient(batch_of(MASK)).tolist() == [1, 1]
    assert supervised.coefficient(batch_of(MASK), LOGP).tolist() == [1, 1]
    assert supervised.loss((LOGP * MASK).sum(1)).tolist() == [3, 4]


# --- self-training ----------------------------------------------------------------------------------


def test_a_filter_is_one_or_zero():
    keep = torch.tensor([True, False, True])
    batch = batch_of(torch.tensor([[False, True]] * 3), keep=keep)
    assert self_training.coefficient(batch).tolist() == [1, 0, 1]
    assert self_training.loss(tensor(-1.0, -2.0, -3.0), keep).tolist() == [1, 0, 3]


def test_the_best_of_each_group_by_hand():
    """Groups out of order, a tie in group 5 (the first is kept), a group of one, all rewards negative."""
    rewards = tensor(-3.0, -1.0, -2.0, -1.0, -9.0, -2.5)
    group = torch.tensor([7, 5, 7, 5, 2, 7])
    assert self_training.best_of_n(rewards, group).tolist() == [False, True, True, False, True, False]


def test_expert_iteration_keeps_what_the_judge_keeps_and_ended():
    """The judge sees the number of the prompt and the ids of the answer, and only answers that ended."""
    seen = []

    def judge(i, answer):
        seen.append((i, answer))
        return len(answer) % 2 == 0

    batch = self_training.expert_iteration(small_model(), PROMPTS, judge, 8, n=20, generator=seeded(1))
    answers = [row[mask].tolist() for row, mask in zip(batch.tokens, batch.response_mask)]
    ended, group = batch.ended.tolist(), batch.group.tolist()
    expected = [e and len(a) % 2 == 0 for a, e in zip(answers, ended)]
    assert batch.keep.dtype == torch.bool and batch.keep.tolist() == expected
    assert seen == [(g, a) for g, a, e in zip(group, answers, ended) if e]
    assert any(expected) and not all(ended) and 0 < len(seen) < 40
    surrogate(self_training.coefficient(batch), logprobs(small_model(), batch), batch.response_mask)


def test_expert_iteration_never_keeps_a_text_that_was_cut():
    """A judge that likes everything, one token: only answers that are the end itself are kept."""
    model, generator = small_model(2), seeded(3)
    batch = self_training.expert_iteration(model, PROMPTS, lambda i, y: True, 1, n=30, generator=generator)
    assert batch.keep.tolist() == batch.ended.tolist() and 0 < int(batch.keep.sum()) < 60


# --- dagger -----------------------------------------------------------------------------------------


def test_dagger_is_one_for_each_visited_token():
    assert dagger.coefficient(batch_of(MASK)).tolist() == [[0, 1, 1], [0, 0, 1]]
    assert dagger.loss(LOGP)[MASK].tolist() == [1, 2, 4]


def test_the_expert_is_asked_at_each_visited_place_about_the_models_own_text():
    """Its tokens are targets and no context: the tokens stay the model's, prompts and padding keep theirs.

    Every visited place is a pair: divide_by counts them.
    """
    asked = []

    def expert(text):
        asked.append(text)
        return (sum(text) + len(text)) % 6

    batch = dagger.visit(small_model(1), PROMPTS, expert, 5, generator=seeded(0))
    again = dagger.visit(small_model(1), PROMPTS, lambda text: 0, 5, generator=seeded(0))
    assert torch.equal(batch.tokens, again.tokens)
    places = batch.response_mask.nonzero().tolist()
    assert batch.divide_by == len(places)
    assert asked == [batch.tokens[b, :t].tolist() for b, t in places]
    assert [int(batch.targets[b, t]) for b, t in places] == [(sum(text) + len(text)) % 6 for text in asked]
    assert torch.equal(batch.targets[~batch.response_mask], batch.tokens[~batch.response_mask])
    assert not torch.equal(batch.targets, batch.tokens)


def test_daggers_log_probs_are_of_the_experts_token_after_the_models_text():
    """A table: the target 2 after the visited texts (1) and (1, 1), read off the table itself."""
    policy = Table([[1]], 3, 2, seed=0)
    batch = replace(batch_pairs([([1], [1, 0])]), targets=torch.tensor([[1, 2, 2]]))
    logp = logprobs(policy, batch)
    by_table = [policy.after((1,)).log_softmax(-1)[2], policy.after((1, 1)).log_softmax(-1)[2]]
    assert torch.allclose(logp[0, 1:], torch.stack(by_table), atol=1e-14)
    losses = dagger.loss(logp) * batch.response_mask
    assert losses.sum().item() == pytest.approx(-sum(by_table).item())


# --- reinforce --------------------------------------------------------------------------------------


def test_reinforce_by_hand():
    """R = (1, 0, 3): less 0.5, and less (1, 1, 2); nothing flows through it."""
    mask, logp = torch.tensor([[False, True]] * 3), random(3, 2, seed=1)
    batch = batch_of(mask, rewards=tensor(1.0, 0.0, 3.0))
    assert reinforce.coefficient(batch, logp).tolist() == [1, 0, 3]
    assert reinforce.coefficient(replace(batch, baseline=0.5), logp).tolist() == [0.5, -0.5, 2.5]
    value = tensor(1.0, 1.0, 2.0).requires_grad_()
    F = reinforce.coefficient(replace(batch, baseline=value), logp.requires_grad_())
    assert F.tolist() == [0, -1, 1] and not F.requires_grad


def test_reinforces_loss_by_hand():
    """−(R − b)·log p: −(1 − 0.5)·(−3) = 1.5 and −(0 − 0.5)·(−4) = −2."""
    assert reinforce.loss(tensor(-3.0, -4.0), tensor(1.0, 0.0), 0.5).tolist() == [1.5, -2]


def test_leave_one_out_by_hand():
    """Group 4 has rewards 1, 2, 6, in any order among the rows: the others' means are 4, 3.5 and 1.5.

    Group 9 has 0 and 5: 5 and 0.
    """
    rewards, group = tensor(1.0, 0.0, 2.0, 6.0, 5.0), torch.tensor([4, 9, 4, 4, 9])
    assert reinforce.leave_one_out(rewards, group).tolist() == [4, 5, 3.5, 1.5, 0]


def test_leave_one_out_does_not_see_its_own_reward():
    rewards, group = random(6, seed=0), torch.tensor([0, 0, 0, 1, 1, 1])
    before = reinforce.leave_one_out(rewards, group)
    for i in range(6):
        changed = rewards.clone()
        changed[i] += 100
        after = reinforce.leave_one_out(changed, group)
        assert after[i].item() == pytest.approx(before[i].item(), abs=1e-12)
        assert int(((after - before).abs() > 1).sum()) == 2  # the two others of its group


def test_a_baseline_lowers_the_variance_where_rewards_stand_far_from_zero():
    """Rewards near 10: b = 10 makes the estimate's spread over 2,000 draws of 8 answers a hundredth."""
    policy = Table([[1]], 3, 2, seed=1)
    answers = [[0], [1, 0], [2, 0], [1, 1], [1, 2], [2, 1], [2, 2]]
    batch = batch_pairs([([1], y) for y in answers])
    tokens = logprobs(policy, batch)
    logp = tokens.sum(1)
    grads = [torch.autograd.grad(l, policy.theta, retain_graph=True)[0].flatten() for l in logp]
    rows = torch.stack(grads)                                                       # ∇ log p of each y
    R = 10 + 0.1 * random(7, seed=2)
    p = logp.detach().exp()
    drawn = torch.multinomial(p, 2_000 * 8, replacement=True, generator=seeded(3)).view(2_000, 8)

    def spread(b):
        F = reinforce.coefficient(replace(batch, rewards=R, baseline=b), tokens)
        return (F[drawn][..., None] * rows[drawn]).mean(1).var(0).sum().item()

    assert spread(10.0) < spread(0.0) / 100
