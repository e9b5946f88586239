"""The loop: a step by hand, rates, plain `ascend` beside `train`, what is learned, other scores than
log-probs.
"""

from __future__ import annotations

import itertools
import math
from functools import partial

import pytest
import torch

from conftest import Tiny
from loops import PAIRS, adamw, draw_pairs, run, stop, table, timeless, weights
from minillm.batch import Batch, batch_pairs
from minillm.identity import surrogate
from minillm.logprob import logprobs
from minillm.methods import critic, dagger, dpo, ppo, reinforce, reward_model, self_training, supervised
from minillm.sample import sample
from minillm.train import Run, Settings, ascend, make_optimizers


def gradient_of_ascent(model, batch, F):
    """(1/B) Σ F ∇ log p, plainly by autograd, with none of the loop's parts but the log-probabilities."""
    logp = logprobs(model, batch).sum(1)
    return torch.autograd.grad((F * logp).mean(), list(model.parameters()))


# --- a step by hand -----------------------------------------------------------------------------------------


def test_the_first_step_of_adamw_by_hand():
    """After one step m̂ = g and v̂ = g², so θ moves by lr·g/(|g| + 1e-8), up the surrogate; decay takes
    lr·wd·θ before.
    """
    model, batch = table(), batch_pairs(PAIRS)
    F = torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.float64)
    before, (g,) = model.theta.detach().clone(), gradient_of_ascent(model, batch, F)
    run(model, lambda step: batch, lambda batch, logp: F, adamw(1, weight_decay=0.01))
    expected = before * (1 - 0.1 * 0.01) + 0.1 * g / (g.abs() + 1e-8)
    assert torch.allclose(model.theta.detach(), expected, rtol=0, atol=1e-14)
    assert (g != 0).any() and (g == 0).any()


def test_the_second_step_of_adamw_by_hand():
    """m = 0.9·0.1·g1 + 0.1·g2 over 1 − 0.9² = 0.19; v = 0.95·0.05·g1² + 0.05·g2² over 1 − 0.95² = 0.0975:
    betas 0.9 and 0.95.
    """
    model, twin = table(), table()
    (g1,) = gradient_of_ascent(twin, draw_pairs(0), 1.0)
    run(twin, draw_pairs, supervised.coefficient, adamw(1))
    after_one, (g2,) = twin.theta.detach().clone(), gradient_of_ascent(twin, draw_pairs(1), 1.0)
    run(model, draw_pairs, supervised.coefficient, adamw(2))
    m, v = (0.09 * g1 + 0.1 * g2) / 0.19, (0.0475 * g1**2 + 0.05 * g2**2) / 0.0975
    assert torch.allclose(model.theta.detach(), after_one + 0.1 * m / (v.sqrt() + 1e-8), rtol=0, atol=1e-12)


def test_the_gradient_is_cut_to_its_norm():
    """Clip at 1e-9, far under AdamW's eps = 1e-8: steps shrink to lr·g'/(|g'| + eps), g' of norm 1e-9; the
    row tells the norm before.
    """
    model, batch = table(), batch_pairs(PAIRS)
    before, (g,) = model.theta.detach().clone(), gradient_of_ascent(model, batch, 1.0)
    rows = run(model, lambda step: batch, supervised.coefficient, adamw(1, clip=1e-9))
    cut = g * 1e-9 / (g.norm() + 1e-6)  # PyTorch adds 1e-6 to the norm
    assert torch.allclose(
        model.theta.detach() - before, 0.1 * cut / (cut.abs() + 1e-8), rtol=1e-6, atol=1e-15
    )
    assert rows[0]["grad_norm"] == pytest.approx(g.norm().item())


def test_a_step_goes_up():
    """One plain step on each pair raises its log p; with F = −1 it lowers it."""
    for F, sign in ((1.0, 1), (-1.0, -1)):
        for pair in PAIRS:
            model, batch = table(), batch_pairs([pair])
            before = logprobs(model, batch).sum().item()
            run(model, lambda step: batch, lambda b, logp: torch.tensor([F]), adamw(1, lr=0.01))
            assert sign * (logprobs(model, batch).sum().item() - before) > 0


def test_the_divisor_is_handed_on():
    """A window of 5 tokens holds 4 pairs: the gradient is a quarter of the sum's, so the norm that the row
    tells is, too.
    """
    model = Tiny(vocab_size=3)
    tokens, mask = torch.tensor([[1, 2, 1, 0, 2]]), torch.tensor([[False, True, True, True, True]])
    whole = run(
        Tiny(vocab_size=3),
        lambda step: Batch(tokens=tokens, response_mask=mask),
        supervised.coefficient,
        adamw(1),
    )
    parts = run(
        model,
        lambda step: Batch(tokens=tokens, response_mask=mask, divide_by=4),
        supervised.coefficient,
        adamw(1),
    )
    assert whole[0]["grad_norm"] == pytest.approx(4 * parts[0]["grad_norm"])


def test_targets_are_scored_in_place_of_tokens():
    """nll is that of the expert's tokens, and training raises their probability, not that of the
    model's own.
    """
    model, batch = table(), batch_pairs([([1], [1, 2, 0])])
    batch.targets = torch.tensor([[1, 2, 0, 1]])
    wanted = [
        model.after(text).log_softmax(-1)[y].item() for text, y in (((1,), 2), ((1, 1), 0), ((1, 1, 2), 1))
    ]
    rows = run(model, lambda step: batch, dagger.coefficient, adamw(100))
    assert rows[0]["nll"] == pytest.approx(-sum(wanted) / 3)
    assert rows[-1]["nll"] < 0.01
    assert [int(model.after(text).argmax()) for text in ((1,), (1, 1), (1, 1, 2))] == [2, 0, 1]


def test_another_score_is_taken_in_place_of_logprobs():
    """nll at temperature 0.5 is that of logprobs at temperature 0.5."""
    batch = batch_pairs(PAIRS)
    rows = run(
        table(),
        lambda step: batch,
        supervised.coefficient,
        adamw(1),
        score=partial(logprobs, temperature=0.5),
    )
    expected = logprobs(table(), batch, temperature=0.5).sum().item() / -9
    assert rows[0]["nll"] == pytest.approx(expected)


def test_the_coefficient_sees_logprobs_without_a_gradient():
    seen = []

    def coefficient(batch, logp):
        seen.append((logp.requires_grad, tuple(logp.shape)))
        return torch.ones(len(logp))

    run(table(), lambda step: batch_pairs(PAIRS), coefficient, adamw(2))
    assert seen == [(False, (4, 4))] * 2


def test_a_row_of_metrics_by_hand():
    """Two rows of 2 and 4 tokens: nll is the mean over the 1 + 3 response tokens; F's mean leaves out what is
    off the response.
    """
    model, batch = table(), batch_pairs([([1], [0]), ([1], [2, 1, 0])])
    nll = (
        -sum(
            model.after(t).log_softmax(-1)[y].item()
            for t, y in (((1,), 0), ((1,), 2), ((1, 2), 1), ((1, 2, 1), 0))
        )
        / 4
    )
    row = run(model, lambda step: batch, lambda b, logp: torch.tensor([3.0, 1.0]), adamw(1))[0]
    assert (
        row["step"] == 0
        and row["nll"] == pytest.approx(nll)
        and row["F"] == 2
        and row["rate"] == 1
        and row["tokens"] == 8
    )
    assert set(row) == {"step", "nll", "F", "grad_norm", "rate", "tokens", "seconds"}
    row = run(table(), lambda step: batch, lambda b, logp: 2 * dagger.coefficient(b), adamw(1))[0]
    assert row["F"] == 2  # and not 2·4/8


# --- rates --------------------------------------------------------------------------------------------------


def test_the_rate_by_hand():
    """10 steps, a fifth up and a half down: 1/2, 1, level, then 5/5 at step 5 down to 1/5 at step 9."""
    rates = [Settings(10, warmup=0.2, decay=0.5).rate(step) for step in range(10)]
    assert rates == pytest.approx([0.5, 1, 1, 1, 1, 1, 0.8, 0.6, 0.4, 0.2])


def test_the_rate_never_leaves_its_bounds_and_the_default_reaches_almost_zero():
    for settings in (
        Settings(1),
        Settings(7),
        Settings(500),
        Settings(500, warmup=0, decay=0),
        Settings(50, warmup=0.3, decay=0.7),
    ):
        rates = [settings.rate(step) for step in range(settings.steps)]
        assert all(0 < r <= 1 for r in rates) and max(rates) > 0.95
        peak = rates.index(max(rates))
        assert rates[: peak + 1] == sorted(rates[: peak + 1]) and rates[peak:] == sorted(
            rates[peak:], reverse=True
        )
    assert Settings(500).rate(499) < 0.003


def test_rates_reach_the_optimiser():
    """AdamW's first step moves each weight by lr·rate (|g| far above eps): half of lr = 0.1 when the warm-up
    has two steps.
    """
    model, batch = table(), batch_pairs(PAIRS)
    before = model.theta.detach().clone()
    run(
        model,
        lambda step: batch if step == 0 else stop(),
        supervised.coefficient,
        adamw(4, warmup=0.5),
        stopped=True,
    )
    moved = (model.theta.detach() - before).abs()
    assert moved.max().item() == pytest.approx(0.05, rel=1e-5)


def test_muon_has_the_matrices_in_the_blocks_and_adamw_all_else():
    """Each trained weight in one optimiser and one only; frozen ones in none; with muon_lr = 0 all are
    AdamW's.
    """
    model = Tiny(vocab_size=5)
    model.blocks[0].gate.weight.requires_grad_(False)
    adam, muon = make_optimizers(model, Settings(5, lr=0.3, muon_lr=0.2, weight_decay=0.1))
    names = {id(p): name for name, p in model.named_parameters()}
    in_adam, in_muon = ([names[id(p)] for g in o.param_groups for p in g["params"]] for o in (adam, muon))
    assert sorted(in_adam + in_muon) == sorted(n for n in names.values() if n != "blocks.0.gate.weight")
    assert in_muon and all(n.startswith("blocks.") and "norm" not in n for n in in_muon)
    assert "embed.weight" in in_adam and "blocks.1.norm2.weight" in in_adam
    assert isinstance(adam, torch.optim.AdamW) and isinstance(muon, torch.optim.Muon)
    assert [(o.param_groups[0]["lr"], o.param_groups[0]["weight_decay"]) for o in (adam, muon)] == [
        (0.3, 0.1),
        (0.2, 0.1),
    ]
    (alone,) = make_optimizers(model, Settings(5, muon_lr=0))
    assert isinstance(alone, torch.optim.AdamW) and len(alone.param_groups[0]["params"]) == len(names) - 1


def test_frozen_weights_stay():
    model = Tiny(vocab_size=3)
    model.embed.weight.requires_grad_(False)
    frozen, free = model.embed.weight.clone(), model.blocks[0].up.weight.detach().clone()
    run(model, draw_pairs, supervised.coefficient, Settings(3))
    assert torch.equal(model.embed.weight, frozen) and not torch.equal(model.blocks[0].up.weight, free)


# --- the plain loop -----------------------------------------------------------------------------------------


def by_hand(model, draw, F, settings, score=logprobs):
    """The loop written out: draw, score, F, the surrogate's gradient, its norm cut, a step of each
    optimiser.
    """
    optimizers, step = make_optimizers(model.train(), settings), 0
    while step < settings.steps:
        for batch in itertools.islice(draw(step), settings.steps - step):
            logp = score(model, batch)
            inside = logp.detach() if torch.is_tensor(logp) else {k: v.detach() for k, v in logp.items()}
            coefficient = F(batch, inside)
            (-surrogate(coefficient, logp, batch.response_mask, batch.divide_by)).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
            for optimizer in optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = group["peak"] * settings.rate(step)
                optimizer.step()
                optimizer.zero_grad()
            step += 1


def comparisons(step):
    """Two choices, with the reference's log-probs of the two answers to each."""
    pairs = [([1], [2, 1, 0], [0]), ([2, 1], [1, 0], [1, 2, 2]), ([1], [2, 0], [1, 1, 0])]
    reference = torch.tensor([[-2.0, -1.0], [-3.0, -2.5]])
    return dpo.draw([pairs[step % 3], pairs[(step + 1) % 3]], reference)


def passes(step):
    """Three minibatches of one draw, each with another divisor."""
    for i in range(3):
        batch = draw_pairs(step + i)
        batch.divide_by = 3 + i
        yield batch


def halves(batch, scores):
    """Two objectives with one F each, a number an answer and a number a token."""
    return {"warm": torch.full((2,), 0.5), "cold": batch.response_mask / 4.0}


def warm_and_cold(model, batch):
    return {"warm": logprobs(model, batch, 2.0), "cold": logprobs(model, batch, 0.5)}


LOOPS = {
    "supervised": (draw_pairs, supervised.coefficient, logprobs),
    "dpo": (comparisons, partial(dpo.coefficient, beta=0.3), logprobs),
    "passes": (passes, lambda batch, logp: -logp, logprobs),
    "at a temperature": (draw_pairs, supervised.coefficient, partial(logprobs, temperature=0.7)),
    "two objectives": (draw_pairs, halves, warm_and_cold),
}


@pytest.mark.parametrize(
    "settings", [Settings(7, clip=0.5), adamw(7, weight_decay=0.1)], ids=["muon", "adamw"]
)
@pytest.mark.parametrize("name", LOOPS)
def test_train_is_ascend_is_the_loop_by_hand(name, settings):
    """The weights are equal to the bit, and so are the rows, which `ascend` yields one a step."""
    draw, F, score = LOOPS[name]
    make = lambda: Tiny(seed=1, dtype=torch.float32)  # noqa: E731
    trained, plain, hand = make(), make(), make()
    rows = run(trained, draw, F, settings, score=score)
    yielded = list(ascend(plain, draw, F, settings, score))
    by_hand(hand, draw, F, settings, score)
    assert torch.equal(weights(trained), weights(plain)) and torch.equal(weights(plain), weights(hand))
    assert timeless(rows) == timeless(yielded) and len(rows) == 7
    assert not torch.equal(weights(make()), weights(hand))


def test_ascend_takes_a_step_when_it_is_asked_for_a_row():
    """A generator: nothing is drawn before the first row is wanted, and no step is taken ahead."""
    model, asked = table(), []
    rows = ascend(
        model, lambda step: asked.append(step) or draw_pairs(step), supervised.coefficient, adamw(5)
    )
    before = weights(model)
    assert not asked and torch.equal(weights(model), before)
    assert next(rows)["step"] == 0 and asked == [0] and not torch.equal(weights(model), before)
    after = weights(model)
    assert next(rows)["step"] == 1 and asked == [0, 1] and not torch.equal(weights(model), after)


def test_a_run_can_be_given_to_ascend_and_goes_on():
    """Three steps of six, then the rest of the same run: the weights of six steps at once."""
    whole, parted = Tiny(seed=2), Tiny(seed=2)
    list(ascend(whole, draw_pairs, supervised.coefficient, Settings(6)))
    going = Run(parted, Settings(6))
    list(itertools.islice(ascend(parted, draw_pairs, supervised.coefficient, Settings(6), run=going), 3))
    assert going.step == 3
    rest = list(ascend(parted, draw_pairs, supervised.coefficient, Settings(6), run=going))
    assert [row["step"] for row in rest] == [3, 4, 5] and torch.equal(weights(parted), weights(whole))


@pytest.mark.parametrize("loop", [run, lambda *given: list(ascend(*given))], ids=["train", "ascend"])
def test_a_draw_without_a_batch_is_refused(loop):
    """And is not asked again for ever."""
    with pytest.raises(ValueError, match="draw is without a batch at step 0: give a Batch, or an iterable"):
        loop(table(), lambda step: [], supervised.coefficient, adamw(2))


# --- it learns ----------------------------------------------------------------------------------------------


def test_it_learns_pairs_by_heart():
    """One answer to [1], two to [2, 1]: at best 2·log 2 nats over 6 tokens, 0.231 a token; 150 steps come
    within 2 %, and not below.
    """
    model, batch = Tiny(dtype=torch.float32), batch_pairs([PAIRS[0], PAIRS[1], PAIRS[3]])
    best = 2 * math.log(2) / 6
    rows = run(model, lambda step: batch, supervised.coefficient, Settings(150, lr=0.02))
    assert best - 1e-6 < rows[-1]["nll"] < 1.02 * best
    first = model(torch.tensor([[2, 1]]))[0, -1].softmax(-1)
    assert first.tolist() == pytest.approx([0.5, 0.5, 0], abs=0.02)


@pytest.mark.parametrize("method", ["reinforce", "expert iteration"])
def test_it_learns_from_its_own_answers(method):
    """The reward is to answer 2 with its first token.

    From its own samples alone the model comes to do so: P from 0.2 or so to > 0.9.
    """
    model = Tiny(seed=3, dtype=torch.float32)
    prompts = [[1], [2, 1]]

    def draw(step):
        generator = torch.Generator().manual_seed(step)
        if method == "expert iteration":
            return self_training.expert_iteration(
                model, prompts, lambda i, y: y[0] == 2, 4, n=16, generator=generator
            )
        batch = sample(model, prompts, 4, n=16, generator=generator)
        first = batch.tokens[torch.arange(32), batch.response_mask.long().argmax(1)]
        batch.rewards = (first == 2).float()
        batch.baseline = reinforce.leave_one_out(batch.rewards, batch.group)
        return batch

    def coefficient(batch, logp):
        if method == "expert iteration":
            return self_training.coefficient(batch)
        return reinforce.coefficient(batch, logp)

    def chance():
        return min(model(torch.tensor([p]))[0, -1].softmax(-1)[2].item() for p in prompts)

    before = chance()
    run(model, draw, coefficient, adamw(40, lr=0.02))
    assert before < 0.5 and chance() > 0.9


# --- other scores than log-probs ----------------------------------------------------------------------------


RANKINGS = [([1], [[2, 1, 0], [0], [1, 2, 2]]), ([2, 1], [[1, 0], [2, 0]])]


def heads(make, seed=0):
    """A small trunk in float64 with a head that is not 0."""
    torch.manual_seed(seed)
    model = make(Tiny(seed)).double()
    for name, p in model.named_parameters():
        if "head" in name:
            torch.nn.init.normal_(p.data)
    return model


def stepped(model, batch, F, score, **others):
    """The gradients of one step (AdamW's first step hides their sizes), and its row."""
    kept = {}
    hooks = [
        p.register_hook(lambda g, n=n: kept.__setitem__(n, kept.get(n, 0) + g))
        for n, p in model.named_parameters()
    ]
    (row,) = run(model, lambda step: batch, F, adamw(1), score=score, **others)
    for hook in hooks:
        hook.remove()
    return kept, row


@pytest.mark.parametrize("pieces", [1, 3])
def test_a_reward_model_by_its_score(pieces):
    """F on r of each answer is the gradient of the paper's loss by autograd; in pieces too."""
    model, batch = heads(reward_model.RewardModel), reward_model.draw(RANKINGS)
    rewards = model(batch.tokens, batch.response_mask)
    losses = batch.weight * reward_model.loss(rewards[batch.better] - rewards[batch.worse])
    (losses.sum() / batch.divide_by).backward()
    expected = {n: p.grad.clone() for n, p in model.named_parameters()}
    model.zero_grad()
    found, row = stepped(model, batch, reward_model.coefficient, reward_model.score, pieces=pieces)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-10, atol=1e-12)
    assert row["score"] == pytest.approx(float(rewards.detach().mean())) and "nll" not in row


@pytest.mark.parametrize("pieces", [1, 2])
@pytest.mark.parametrize("into", [False, True])
def test_policy_and_critic_by_one_score(pieces, into):
    """log p with ρ·A and V with goal − V: the sum of both papers' gradients; the critic's reaches the trunk
    only where a flag says so.
    """
    model = heads(lambda trunk: critic.PolicyAndCritic(trunk, critic_into_trunk=into), 1)
    batch, g = batch_pairs(PAIRS), torch.Generator().manual_seed(2)
    mask, named = batch.response_mask, dict(model.named_parameters())
    draw = lambda: torch.randn(mask.shape, generator=g, dtype=torch.float64) * mask  # noqa: E731
    with torch.no_grad():
        first = model.score(batch)
    batch.logprobs, batch.values = first["policy"] + 0.2 * draw(), first["critic"] + 0.1 * draw()
    batch.advantages, batch.goals = draw(), draw()
    batch.divide_by = int(mask.sum())
    logp = logprobs(model.trunk, batch)
    policys = ppo.loss((logp - batch.logprobs).exp(), batch.advantages)[mask].sum() / batch.divide_by
    gradients = torch.autograd.grad(policys, named.values(), retain_graph=True, materialize_grads=True)
    expected = dict(zip(named, gradients))
    # The critic's loss written out again, with or without the way into the trunk.
    hidden = model.trunk.hidden(batch.tokens)
    values = model.critic(hidden if into else hidden.detach(), mask)
    critics = critic.loss(values, batch.goals, batch.values, 0.2)[mask].sum() / batch.divide_by
    for n, g in zip(named, torch.autograd.grad(critics, named.values(), materialize_grads=True)):
        assert into or n.startswith("critic.") or not g.any()
        expected[n] = expected[n] + g
    model.zero_grad()

    def F(b, scores):
        return {
            "policy": ppo.coefficient(b, scores["policy"]),
            "critic": critic.coefficient(b, scores["critic"], clip=0.2),
        }

    found, row = stepped(model, batch, F, critic.PolicyAndCritic.score, pieces=pieces)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-10, atol=1e-12)
    assert row["nll"] == pytest.approx(-float(logp.detach().sum()) / batch.divide_by)


def test_what_is_watched_stands_in_the_row():
    """watch is given the batch, the scores without a gradient, and F of them."""
    seen = []

    def watch(batch, scores, coefficient):
        seen.append((len(batch.tokens), scores.requires_grad, tuple(scores.shape), coefficient.tolist()))
        return {"reward": 3.5, "half": float(coefficient.mean()) / 2}

    rows = run(table(), lambda step: batch_pairs(PAIRS), supervised.coefficient, adamw(2), watch=watch)
    assert [(row["reward"], row["half"]) for row in rows] == [(3.5, 0.5)] * 2
    assert seen == [(4, False, (4, 4), [1.0] * 4)] * 2


def test_a_score_of_another_shape_is_refused():
    """Before any step: the weights are as they were."""
    batch = batch_pairs(PAIRS)
    for shape, message in (
        ((4, 3), r"logprobs is of shape \(4, 3\): its T must be 4"),
        ((3,), r"logprobs is of shape \(3,\): its B must be 4"),
    ):
        model = table()
        before = weights(model)
        with pytest.raises(ValueError, match=message):
            run(
                model,
                lambda step: batch,
                supervised.coefficient,
                adamw(1),
                score=lambda *_: torch.zeros(shape),
            )
        assert torch.equal(weights(model), before)
