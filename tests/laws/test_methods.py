"""Each method's F and draw, by hand and by behaviour. That F is the right one is held in test_laws."""

from __future__ import annotations

import pytest
import torch

from conftest import Tiny, Table
from minillm.identity import surrogate
from minillm.batch import batch_pairs
from minillm.logprob import logprobs
from minillm.methods import dagger, reinforce, self_training, supervised

PROMPTS = [[1, 2], [3]]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def small_model(seed=0):
    return Tiny(seed, torch.float32, vocab_size=6, d_model=16, context=16)


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


# --- supervised -----------------------------------------------------------------------------------------------------------------


def test_supervised_is_one_for_each_answer_and_its_loss_a_sum():
    """Token log-probs −1, −2 and −4: F = 1, 1; losses 1 + 2 = 3 and 4, not their means."""
    mask = torch.tensor([[False, True, True], [False, False, True]])
    logp = tensor([-9.0, -1.0, -2.0], [-9.0, -9.0, -4.0])
    assert supervised.coefficient(mask).tolist() == [1, 1]
    assert supervised.loss(logp, mask).tolist() == [3, 4]


# --- self-training --------------------------------------------------------------------------------------------------------------


def test_a_filter_is_one_or_zero():
    keep = torch.tensor([True, False, True])
    mask = torch.tensor([[False, True]] * 3)
    assert self_training.coefficient(keep).tolist() == [1, 0, 1]
    assert self_training.loss(tensor([0.0, -1.0], [0.0, -2.0], [0.0, -3.0]), mask, keep).tolist() == [1, 0, 3]


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
    expected = [ended and len(a) % 2 == 0 for a, ended in zip(answers, batch.ended.tolist())]
    assert batch.keep.dtype == torch.bool and batch.keep.tolist() == expected
    assert seen == [(g, a) for g, a, ended in zip(batch.group.tolist(), answers, batch.ended.tolist()) if ended]
    assert any(expected) and not all(batch.ended) and 0 < len(seen) < 40
    surrogate(self_training.coefficient(batch.keep), logprobs(small_model(), batch.tokens, batch.response_mask), batch.response_mask)


def test_expert_iteration_never_keeps_a_text_that_was_cut():
    """A judge that likes everything, one token: only answers that are the end itself are kept."""
    batch = self_training.expert_iteration(small_model(2), PROMPTS, lambda i, y: True, 1, n=30, generator=seeded(3))
    assert batch.keep.tolist() == batch.ended.tolist() and 0 < int(batch.keep.sum()) < 60


# --- dagger ---------------------------------------------------------------------------------------------------------------------


def test_dagger_is_one_for_each_visited_token():
    mask = torch.tensor([[False, True, True], [False, False, True]])
    assert dagger.coefficient(mask).tolist() == [[0, 1, 1], [0, 0, 1]]
    assert dagger.loss(tensor([-9.0, -1.0, -2.0], [-9.0, -9.0, -4.0]), mask).tolist() == [[0, 1, 2], [0, 0, 4]]


def test_the_expert_is_asked_at_each_visited_place_about_the_models_own_text():
    """Its tokens are targets and no context: the tokens stay the model's, prompts and padding keep theirs."""
    asked = []

    def expert(text):
        asked.append(text)
        return (sum(text) + len(text)) % 6

    batch = dagger.visit(small_model(1), PROMPTS, expert, 5, generator=seeded(0))
    again = dagger.visit(small_model(1), PROMPTS, lambda text: 0, 5, generator=seeded(0))
    assert torch.equal(batch.tokens, again.tokens)
    places = [(b, t) for b in range(2) for t in range(batch.tokens.shape[1]) if batch.response_mask[b, t]]
    assert asked == [batch.tokens[b, :t].tolist() for b, t in places]
    assert [int(batch.targets[b, t]) for b, t in places] == [(sum(text) + len(text)) % 6 for text in asked]
    assert torch.equal(batch.targets[~batch.response_mask], batch.tokens[~batch.response_mask])
    assert not torch.equal(batch.targets, batch.tokens)


def test_daggers_log_probs_are_of_the_experts_token_after_the_models_text():
    """A table: the target 2 after the visited texts (1) and (1, 1), read off the table itself."""
    policy = Table([[1]], 3, 2, seed=0)
    batch = batch_pairs([([1], [1, 0])])
    logp = logprobs(policy, batch.tokens, batch.response_mask, targets=torch.tensor([[1, 2, 2]]))
    by_table = [policy.after((1,)).log_softmax(-1)[2], policy.after((1, 1)).log_softmax(-1)[2]]
    assert torch.allclose(logp[0, 1:], torch.stack(by_table), atol=1e-14)
    assert dagger.loss(logp, batch.response_mask).sum().item() == pytest.approx(-sum(by_table).item())


# --- reinforce ------------------------------------------------------------------------------------------------------------------


def test_reinforce_by_hand():
    """R = (1, 0, 3): less 0.5, and less (1, 1, 2); nothing flows through it."""
    R = tensor(1.0, 0.0, 3.0)
    assert reinforce.coefficient(R).tolist() == [1, 0, 3]
    assert reinforce.coefficient(R, 0.5).tolist() == [0.5, -0.5, 2.5]
    value = tensor(1.0, 1.0, 2.0).requires_grad_()
    F = reinforce.coefficient(R, value)
    assert F.tolist() == [0, -1, 1] and not F.requires_grad


def test_reinforces_loss_by_hand():
    """−(R − b)·log p: −(1 − 0.5)·(−3) = 1.5 and −(0 − 0.5)·(−4) = −2."""
    mask = torch.tensor([[False, True, True], [False, False, True]])
    logp = tensor([-9.0, -1.0, -2.0], [-9.0, -9.0, -4.0])
    assert reinforce.loss(logp, mask, tensor(1.0, 0.0), 0.5).tolist() == [1.5, -2]


def test_leave_one_out_by_hand():
    """Group 4 has rewards 1, 2, 6, in any order among the rows: the others' means are 4, 3.5 and 1.5. Group 9 has 0 and 5: 5 and 0."""
    rewards, group = tensor(1.0, 0.0, 2.0, 6.0, 5.0), torch.tensor([4, 9, 4, 4, 9])
    assert reinforce.leave_one_out(rewards, group).tolist() == [4, 5, 3.5, 1.5, 0]


def test_leave_one_out_does_not_see_its_own_reward():
    rewards, group = torch.randn(6, dtype=torch.float64, generator=seeded()), torch.tensor([0, 0, 0, 1, 1, 1])
    before = reinforce.leave_one_out(rewards, group)
    for i in range(6):
        changed = rewards.clone()
        changed[i] += 100
        after = reinforce.leave_one_out(changed, group)
        assert after[i].item() == pytest.approx(before[i].item(), abs=1e-12)
        assert sum(abs(float(a - b)) > 1 for a, b in zip(after, before)) == 2  # the two others of its group


def test_a_baseline_lowers_the_variance_where_rewards_stand_far_from_zero():
    """Rewards near 10: with b = 10 the estimate's spread over 2,000 draws of 8 answers falls by far more than tenfold."""
    policy = Table([[1]], 3, 2, seed=1)
    answers = [[0], [1, 0], [2, 0], [1, 1], [1, 2], [2, 1], [2, 2]]
    batch = batch_pairs([([1], y) for y in answers])
    logp = logprobs(policy, batch.tokens, batch.response_mask).sum(1)
    rows = torch.stack([torch.autograd.grad(l, policy.theta, retain_graph=True)[0].flatten() for l in logp])  # ∇ log p of each y
    R = 10 + 0.1 * torch.randn(7, dtype=torch.float64, generator=seeded(2))
    drawn = torch.multinomial(logp.detach().exp(), 2_000 * 8, replacement=True, generator=seeded(3)).view(2_000, 8)
    spread = [((reinforce.coefficient(R, b)[drawn][..., None] * rows[drawn]).mean(1)).var(0).sum().item() for b in (0.0, 10.0)]
    assert spread[1] < spread[0] / 100
