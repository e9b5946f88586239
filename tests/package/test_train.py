"""The loop: a step by hand, a stopped run that goes on as if it had not been, a NaN that is named, a state
that is not its own.
"""

from __future__ import annotations

import json
import math

import pytest
import torch
from safetensors.torch import save_file

from conftest import Table, Tiny
from minillm.batch import Batch, batch_pairs
from minillm.logprob import logprobs
from minillm.methods import critic, dagger, ppo, reinforce, reward_model, self_training, supervised
from minillm.sample import sample
from minillm.train import NonFinite, Settings, make_optimizers, train

PAIRS = [([1], [2, 1, 0]), ([2, 1], [0]), ([1], [1, 2, 2]), ([2, 1], [1, 0])]


def one(batch, logp):
    """F = 1."""
    return supervised.coefficient(batch.response_mask)


def adamw(steps, **others):
    """AdamW alone at one rate, no schedule, no clipping."""
    return Settings(
        **({"steps": steps, "lr": 0.1, "muon_lr": 0, "warmup": 0, "decay": 0, "clip": 1e9} | others)
    )


def table():
    return Table([[1], [2, 1]], 3, 3, seed=0)


class Stop(Exception):
    """Something that a draw may raise."""


def run(model, draw, coefficient, settings, stopped=False, **others):
    """train without a bar; None where it is to be stopped by Stop."""
    if not stopped:
        return train(model, draw, coefficient, settings, progress=False, **others)
    with pytest.raises(Stop):
        train(model, draw, coefficient, settings, progress=False, **others)


def stop():
    raise Stop


def draw_pairs(step):
    """Two pairs, others at each step, chosen by the step's number alone."""
    return batch_pairs([PAIRS[step % 4], PAIRS[(step * step + 1) % 4]])


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


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
    run(twin, draw_pairs, one, adamw(1))
    after_one, (g2,) = twin.theta.detach().clone(), gradient_of_ascent(twin, draw_pairs(1), 1.0)
    run(model, draw_pairs, one, adamw(2))
    m, v = (0.09 * g1 + 0.1 * g2) / 0.19, (0.0475 * g1**2 + 0.05 * g2**2) / 0.0975
    assert torch.allclose(model.theta.detach(), after_one + 0.1 * m / (v.sqrt() + 1e-8), rtol=0, atol=1e-12)


def test_the_gradient_is_cut_to_its_norm():
    """Clip at 1e-9, far under AdamW's eps = 1e-8: steps shrink to lr·g'/(|g'| + eps), g' of norm 1e-9; the
    row tells the norm before.
    """
    model, batch = table(), batch_pairs(PAIRS)
    before, (g,) = model.theta.detach().clone(), gradient_of_ascent(model, batch, 1.0)
    rows = run(model, lambda step: batch, one, adamw(1, clip=1e-9))
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


def test_pairs_are_handed_on():
    """A window of 5 tokens holds 4 pairs: the gradient is a quarter of the sum's, so the norm that the row
    tells is, too.
    """
    model = Tiny(vocab_size=3)
    tokens, mask = torch.tensor([[1, 2, 1, 0, 2]]), torch.tensor([[False, True, True, True, True]])
    whole = run(Tiny(vocab_size=3), lambda step: Batch(tokens=tokens, response_mask=mask), one, adamw(1))
    parts = run(model, lambda step: Batch(tokens=tokens, response_mask=mask, pairs=4), one, adamw(1))
    assert whole[0]["grad_norm"] == pytest.approx(4 * parts[0]["grad_norm"])


def test_targets_are_scored_in_place_of_tokens():
    """nll is that of the expert's tokens, and training raises their probability, not that of the model's own."""
    model, batch = table(), batch_pairs([([1], [1, 2, 0])])
    batch.targets = torch.tensor([[1, 2, 0, 1]])
    wanted = [
        model.after(text).log_softmax(-1)[y].item() for text, y in (((1,), 2), ((1, 1), 0), ((1, 1, 2), 1))
    ]
    rows = run(model, lambda step: batch, lambda b, logp: dagger.coefficient(b.response_mask), adamw(100))
    assert rows[0]["nll"] == pytest.approx(-sum(wanted) / 3)
    assert rows[-1]["nll"] < 0.01
    assert [int(model.after(text).argmax()) for text in ((1,), (1, 1), (1, 1, 2))] == [2, 0, 1]


def test_scoring_settings_are_handed_on():
    """nll at temperature 0.5 is that of logprobs at temperature 0.5."""
    batch = batch_pairs(PAIRS)
    rows = run(table(), lambda step: batch, one, adamw(1), scoring={"temperature": 0.5})
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
    row = run(table(), lambda step: batch, lambda b, logp: 2 * dagger.coefficient(b.response_mask), adamw(1))[
        0
    ]
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
    run(model, lambda step: batch if step == 0 else stop(), one, adamw(4, warmup=0.5), stopped=True)
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
    run(model, draw_pairs, one, Settings(3))
    assert torch.equal(model.embed.weight, frozen) and not torch.equal(model.blocks[0].up.weight, free)


# --- stopped, and gone on -----------------------------------------------------------------------------------


def timeless(rows):
    """Metrics without the clock."""
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


class Interrupted:
    """A draw that raises at a step, once, and notes the steps that it was asked for."""

    def __init__(self, at, error):
        self.at, self.error, self.asked = at, error, []

    def __call__(self, step):
        self.asked.append(step)
        if step == self.at:
            self.at = None
            raise self.error
        return draw_pairs(step)


@pytest.mark.parametrize(
    "settings",
    [Settings(9, save_every=2), adamw(9, save_every=2, weight_decay=0.1, decay=0.5)],
    ids=["muon", "adamw"],
)
@pytest.mark.parametrize(
    "at, error, from_step",
    [
        pytest.param(5, Stop(), 4, id="error"),
        pytest.param(5, KeyboardInterrupt(), 5, id="ctrl-c"),
        pytest.param(0, KeyboardInterrupt(), 0, id="ctrl-c at once"),
        pytest.param(1, Stop(), 0, id="error before the first checkpoint"),
        pytest.param(8, KeyboardInterrupt(), 8, id="ctrl-c in the last step"),
    ],
)
def test_a_stopped_run_goes_on_bit_for_bit(tmp_path, capsys, settings, at, error, from_step):
    """Ctrl-C keeps the step that was done last; any other error leaves the last checkpoint.

    The new process is a new model object.
    """
    unbroken = Tiny(seed=1, dtype=torch.float32)
    rows = run(unbroken, draw_pairs, one, settings, folder=tmp_path / "unbroken")
    draw = Interrupted(at, error)
    with pytest.raises(type(error)):
        run(Tiny(seed=1, dtype=torch.float32), draw, one, settings, folder=tmp_path / "broken")
    assert draw.asked == list(range(at + 1))
    resumed = Tiny(seed=2, dtype=torch.float32)
    if from_step == 0 and not (tmp_path / "broken" / "state.safetensors").exists():
        # nothing was kept: the run begins again from its own first weights
        resumed = Tiny(seed=1, dtype=torch.float32)
    draw.asked = []
    again = run(resumed, draw, one, settings, folder=tmp_path / "broken")
    assert draw.asked == list(range(from_step, 9))
    assert torch.equal(weights(resumed), weights(unbroken))
    assert timeless(again) == timeless(rows)
    assert (f"Stopped after {from_step} of 9 steps" in capsys.readouterr().out) == isinstance(
        error, KeyboardInterrupt
    )


@pytest.mark.parametrize("kind", ["AdamW", "Muon"])
def test_ctrl_c_in_the_middle_of_an_update_keeps_no_half_step(tmp_path, monkeypatch, capsys, kind):
    """Ctrl-C may come between two optimisers.

    Weights half a step on, saved as a whole step, would go on wrong without a word.
    """
    settings = Settings(6, save_every=2)
    unbroken = Tiny(seed=1, dtype=torch.float32)
    run(unbroken, draw_pairs, one, settings)
    optimizer, calls = getattr(torch.optim, kind), []
    real = optimizer.step

    def interrupted(self, *rest):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(self, *rest)

    monkeypatch.setattr(optimizer, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(Tiny(seed=1, dtype=torch.float32), draw_pairs, one, settings, folder=tmp_path)
    resumed = Tiny(seed=3, dtype=torch.float32)
    run(resumed, draw_pairs, one, settings, folder=tmp_path)
    assert torch.equal(weights(resumed), weights(unbroken))
    assert "last checkpoint" in capsys.readouterr().out


def test_a_disk_that_fills_up_leaves_the_last_state(tmp_path, monkeypatch):
    """The second save fails half-way: the first one's file is whole, and the run goes on from it."""
    settings, saves = adamw(6, save_every=2), []
    unbroken = table()
    run(unbroken, draw_pairs, one, settings)

    def failing(tensors, path, metadata):
        saves.append(path)
        if len(saves) == 2:
            path.write_bytes(b"half a file")
            raise OSError(28, "No space left on device")
        return save_file(tensors, path, metadata)

    monkeypatch.setattr("minillm.engine.resume.save_file", failing)
    with pytest.raises(OSError, match="No space"):
        run(table(), draw_pairs, one, settings, folder=tmp_path)
    resumed = table()
    assert len(run(resumed, draw_pairs, one, settings, folder=tmp_path)) == 6
    assert torch.equal(resumed.theta, unbroken.theta)


def test_a_finished_run_is_not_run_again(tmp_path):
    model, again, asked = table(), table(), []
    rows = run(model, draw_pairs, one, adamw(3), folder=tmp_path)
    assert run(again, lambda step: asked.append(step), one, adamw(3), folder=tmp_path) == rows
    assert not asked and torch.equal(again.theta, model.theta)


def test_metrics_are_kept_one_json_object_a_line(tmp_path):
    rows = run(table(), draw_pairs, one, adamw(5), folder=tmp_path)
    assert [
        json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    ] == rows
    # no .part is left
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.jsonl", "state.safetensors"]


def test_afterwards_the_model_is_in_eval_mode_and_holds_no_gradients():
    model = table()
    run(model, draw_pairs, one, adamw(2))
    assert not model.training and model.theta.grad is None
    run(model, lambda step: stop(), one, adamw(2), stopped=True)
    assert not model.training and model.theta.grad is None


# --- states that are not its own ----------------------------------------------------------------------------


def spoil(path, how):
    """One way in which a state file can be wrong."""
    data = path.read_bytes()
    if how == "empty":
        path.write_bytes(b"")
    elif how == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif how == "cut by one byte":
        path.write_bytes(data[:-1])
    elif how == "garbage":
        path.write_bytes(b"\x93 this is not a safetensors file " * 40)
    elif how == "a folder":
        path.unlink()
        path.mkdir()
    elif how == "foreign":
        save_file({"theta": torch.zeros(2)}, path)
    elif how == "foreign, with metadata":
        save_file({"theta": torch.zeros(2)}, path, {"format": "pt"})
    elif how == "metadata that is no JSON":
        save_file({"theta": torch.zeros(2)}, path, {"settings": "{", "metrics": "["})


@pytest.mark.parametrize(
    "how",
    [
        "empty",
        "cut",
        "cut by one byte",
        "garbage",
        "a folder",
        "foreign",
        "foreign, with metadata",
        "metadata that is no JSON",
    ],
)
def test_a_damaged_or_foreign_state_is_named(tmp_path, how):
    """A ValueError of one line that names the file and says what to do; the model is as it was."""
    run(table(), draw_pairs, one, adamw(2), folder=tmp_path)
    spoil(tmp_path / "state.safetensors", how)
    model = table()
    before = model.theta.detach().clone()
    with pytest.raises(ValueError, match="state.safetensors.*delete it") as error:
        run(model, draw_pairs, one, adamw(2), folder=tmp_path)
    assert "\n" not in str(error.value) and torch.equal(model.theta, before)


def test_a_run_with_other_settings_or_another_model_is_refused(tmp_path):
    run(table(), draw_pairs, one, adamw(2), folder=tmp_path)
    with pytest.raises(ValueError, match=r"folder is .*other settings: name a new folder"):
        run(table(), draw_pairs, one, adamw(3), folder=tmp_path)
    with pytest.raises(ValueError, match=r"folder is .*another shape: name a new folder"):
        run(Tiny(), draw_pairs, one, adamw(2), folder=tmp_path)


# --- NaN ----------------------------------------------------------------------------------------------------


def fails(model, coefficient, settings, draw=draw_pairs):
    """The NonFinite of a run, and the weights as they were when it stepped last."""
    kept = []

    def watched(step):
        kept.append(weights(model))
        return draw(step)

    with pytest.raises(NonFinite) as error:
        run(model, watched, coefficient, settings)
    assert torch.equal(weights(model), kept[-1]) or bool(kept[-1].isnan().any())
    assert not model.training and all(p.grad is None for p in model.parameters())
    return error.value


def test_a_reward_that_is_not_a_number_is_named():
    """F of row 1 is NaN at step 2: step, row, batch, cause, and the weights of the step before."""

    def coefficient(batch, logp):
        F = torch.ones(2)
        if len(rows) == 2:
            F[1] = math.nan
        rows.append(1)
        return F

    rows = []
    error = fails(table(), coefficient, adamw(5))
    assert error.step == 2 and error.batch.tokens.tolist() == draw_pairs(2).tokens.tolist()
    assert str(error).startswith(
        "step 2: coefficient is nan in row 1 of the batch (tokens (2, "
    ) and "a reward" in str(error)


def test_weights_that_are_broken_already_are_named():
    model = Tiny(dtype=torch.float32)
    with torch.no_grad():
        model.blocks[0].up.weight[0, 0] = math.nan
    error = fails(model, one, adamw(5))
    assert error.step == 0 and "logprobs is nan" in str(error) and "broken already" in str(error)


def test_a_token_of_probability_zero_is_named():
    """Scored under top-k = 1 a token that was not drawn under it: log p = −inf."""
    with pytest.raises(NonFinite, match="step 0: logprobs is -inf in row .* probability 0"):
        run(Tiny(), draw_pairs, one, adamw(5), scoring={"top_k": 1})


def test_a_gradient_that_overflows_is_named():
    """F = 1e38 in float32: every number that goes in is finite, the gradient's norm is not."""
    error = fails(Tiny(dtype=torch.float32), lambda batch, logp: torch.full((2,), 1e38), adamw(5))
    assert error.step == 0 and "step 0: gradient is" in str(error) and "lower lr" in str(error)


def test_a_run_that_blew_up_is_told_so():
    """Norms near 1 for five steps, 1e6 in the sixth, then weights that are no numbers: the message names the
    norm that grew.
    """
    model = Tiny(dtype=torch.float32)

    def draw(step):
        if step == 6:
            with torch.no_grad():
                model.embed.weight.mul_(math.nan)
        batch = draw_pairs(step)
        batch.scale = 1e6 if step == 5 else 1.0
        return batch

    with pytest.raises(NonFinite, match="step 6: logprobs is nan.*norm grew to .*e\\+0.*lengthen warmup"):
        run(model, draw, lambda batch, logp: torch.full((2,), batch.scale), adamw(9, lr=1e-6))


def test_a_wrong_f_is_refused_before_any_step():
    """A coefficient of the wrong shape, or one with the graph in it: surrogate's own ValueError, the weights
    untouched.
    """
    model = table()
    before = model.theta.detach().clone()
    with pytest.raises(ValueError, match="coefficient is of shape"):
        run(model, draw_pairs, lambda batch, logp: torch.ones(3), adamw(1))
    with pytest.raises(ValueError, match="coefficient is part of the graph"):
        run(model, draw_pairs, lambda batch, logp: model.theta.sum().expand(2), adamw(1))
    assert torch.equal(model.theta, before)


# --- it learns ----------------------------------------------------------------------------------------------


def test_it_learns_pairs_by_heart():
    """One answer to [1], two to [2, 1]: at best 2·log 2 nats over 6 tokens, 0.231 a token; 150 steps come
    within 2 %, and not below.
    """
    model, batch = Tiny(dtype=torch.float32), batch_pairs([PAIRS[0], PAIRS[1], PAIRS[3]])
    best = 2 * math.log(2) / 6
    rows = run(model, lambda step: batch, one, Settings(150, lr=0.02))
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
        return batch

    def coefficient(batch, logp):
        if method == "expert iteration":
            return self_training.coefficient(batch.keep)
        return reinforce.coefficient(batch.rewards, reinforce.leave_one_out(batch.rewards, batch.group))

    def chance():
        return min(model(torch.tensor([p]))[0, -1].softmax(-1)[2].item() for p in prompts)

    before = chance()
    run(model, draw, coefficient, adamw(40, lr=0.02))
    assert before < 0.5 and chance() > 0.9


# --- how the work is done -----------------------------------------------------------------------------------


def test_bf16_learns_as_float32_does():
    """Matrix products in bfloat16: other numbers, the weights still float32, and over three seeds the loss
    ends within 0.02 nats.
    """
    batch = batch_pairs([PAIRS[0], PAIRS[1], PAIRS[3]])
    for seed in range(3):
        ends = []
        for bf16 in (False, True):
            model = Tiny(seed, torch.float32, d_model=32)
            rows = run(model, lambda step: batch, one, Settings(60, lr=0.02, bf16=bf16))
            ends.append(rows[-1]["nll"])
            assert rows[-1]["nll"] < 0.5 * rows[0]["nll"] and all(
                p.dtype == torch.float32 for p in model.parameters()
            )
        assert ends[0] != ends[1] and abs(ends[0] - ends[1]) < 0.02
    with pytest.raises(ValueError, match="bf16 is True: it is for weights in float32"):
        run(Tiny(), draw_pairs, one, Settings(1, bf16=True))


@pytest.mark.parametrize("accumulate", [0, 1.5, -1])
def test_pieces_are_whole_numbers(accumulate):
    with pytest.raises(ValueError, match=f"accumulate is {accumulate}: give 1"):
        run(Tiny(), draw_pairs, one, Settings(1), accumulate=accumulate)


def with_backend(monkeypatch, backend):
    """torch.compile with another backend: the real one takes half a minute and a C compiler."""
    real, asked = torch.compile, []
    monkeypatch.setattr(
        torch, "compile", lambda function: asked.append(function) or real(function, backend=backend)
    )
    return asked


def test_compiled_it_ends_where_it_would_have(monkeypatch, capsys):
    """PyTorch's graph of the model, forwards and backwards, in place of the model: float64, 1e-12.

    What samples stays uncompiled.
    """
    asked = with_backend(monkeypatch, "aot_eager")
    plain, compiled = Tiny(n_layers=1), Tiny(n_layers=1)
    rows = run(plain, draw_pairs, one, Settings(3))
    again = run(compiled, draw_pairs, one, Settings(3), compile=True)
    assert asked == [compiled.hidden] and torch.allclose(
        weights(plain), weights(compiled), rtol=0, atol=1e-12
    )
    assert [row["nll"] for row in rows] == pytest.approx([row["nll"] for row in again], abs=1e-12)
    assert capsys.readouterr().out == "" and type(compiled) is Tiny


def broken_backend(graph, inputs):
    raise AssertionError("no compiler here\nand a long story")


@pytest.mark.parametrize("how", ["the backend fails", "torch.compile refuses"])
def test_where_compiling_fails_one_line_says_so(monkeypatch, capsys, how):
    """The run goes on as if it had not been asked for: the same weights, bit for bit."""
    if how == "the backend fails":
        with_backend(monkeypatch, broken_backend)
    else:
        monkeypatch.setattr(torch, "compile", lambda function: 1 // 0)
    plain, compiled = Tiny(n_layers=1), Tiny(n_layers=1)
    run(plain, draw_pairs, one, Settings(3))
    run(compiled, draw_pairs, one, Settings(3), compile=True)
    said = capsys.readouterr()
    assert (
        said.out.startswith("torch.compile failed, so training goes on without it: ")
        and said.out.count("\n") == 1
        and said.err == ""
    )
    assert torch.equal(weights(plain), weights(compiled))


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


def stepped(model, draw, coefficient, score, **others):
    """The change of the weights by one plain-gradient-like step: AdamW's first step hides sizes, so the
    gradients are kept instead.
    """
    kept = {}

    def keep(step):
        return draw(step)

    hooks = [
        p.register_hook(lambda g, n=n: kept.__setitem__(n, kept.get(n, 0) + g))
        for n, p in model.named_parameters()
    ]
    rows = train(model, keep, coefficient, adamw(1), progress=False, score=score, **others)
    for hook in hooks:
        hook.remove()
    return kept, rows


@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_reward_model_by_its_score(accumulate):
    """F on r, placed on the last token, is the gradient of the paper's loss by autograd; in pieces too."""
    model, batch = heads(reward_model.RewardModel), reward_model.draw(RANKINGS)
    rewards = model(batch.tokens, batch.response_mask)
    (reward_model.loss(rewards, batch.better, batch.worse, batch.weight).sum() / batch.pairs).backward()
    expected = {n: p.grad.clone() for n, p in model.named_parameters()}
    model.zero_grad()
    found, rows = stepped(
        model,
        lambda step: batch,
        lambda b, scores: reward_model.coefficient(scores.sum(1), b.better, b.worse, b.weight),
        reward_model.score,
        accumulate=accumulate,
    )
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("into", [False, True])
def test_policy_and_critic_by_one_score(accumulate, into):
    """[log p | V] with [ρ·A | goal − V] is the sum of both papers' gradients; the critic's reaches the trunk
    only where a flag says so.
    """
    model, batch = (
        heads(lambda trunk: critic.PolicyAndCritic(trunk, critic_into_trunk=into), 1),
        batch_pairs(PAIRS),
    )
    mask, g = batch.response_mask, torch.Generator().manual_seed(2)
    draw = lambda: torch.randn(mask.shape, generator=g, dtype=torch.float64) * mask  # noqa: E731
    with torch.no_grad():
        logp, values = model.score(batch.tokens, mask).chunk(2, 1)
    batch.old, batch.advantages, batch.goals, batch.values = (
        logp + 0.2 * draw(),
        draw(),
        draw(),
        values + 0.1 * draw(),
    )
    batch.pairs = int(mask.sum())
    logp, values = model.score(batch.tokens, mask).chunk(2, 1)
    policys = ppo.loss(logp, mask, batch.old, batch.advantages).sum() / batch.pairs
    named = dict(model.named_parameters())
    expected = dict(
        zip(named, torch.autograd.grad(policys, named.values(), retain_graph=True, materialize_grads=True))
    )
    hidden = model.trunk.hidden(
        batch.tokens
    )  # the critic's loss written out again, with or without the way into the trunk
    values = model.critic(hidden if into else hidden.detach(), mask)
    critics = critic.loss(values, mask, batch.values, batch.goals, 0.2).sum() / batch.pairs
    for n, g in zip(named, torch.autograd.grad(critics, named.values(), materialize_grads=True)):
        assert into or n.startswith("critic.") or not g.any()
        expected[n] = expected[n] + g
    model.zero_grad()

    def coefficient(b, scores):
        logp, values = scores.chunk(2, 1)
        return torch.cat(
            [
                ppo.coefficient(logp, b.response_mask, b.old, b.advantages),
                critic.coefficient(values, b.response_mask, b.values, b.goals, 0.2),
            ],
            1,
        )

    found, rows = stepped(
        model, lambda step: batch, coefficient, critic.PolicyAndCritic.score, accumulate=accumulate
    )
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-10, atol=1e-12)
    assert rows[0]["nll"] == pytest.approx(-float(logp.detach().sum()) / batch.pairs)


def test_a_batch_may_bring_metrics():
    batch = batch_pairs(PAIRS)
    batch.metrics = {"reward": 3.5}
    assert train(table(), lambda step: batch, one, adamw(1), progress=False)[0]["reward"] == 3.5


def test_a_score_of_another_width_is_refused():
    batch = batch_pairs(PAIRS)
    with pytest.raises(
        ValueError, match=r"score is \(4, 3\): return a tensor \(B, 4\), or a multiple of 4 columns"
    ):
        train(
            table(),
            lambda step: batch,
            one,
            adamw(1),
            progress=False,
            score=lambda model, tokens, mask: torch.zeros(4, 3),
        )
    with pytest.raises(ValueError, match="score is given with scoring or compile"):
        train(
            table(),
            lambda step: batch,
            one,
            adamw(1),
            progress=False,
            score=lambda model, tokens, mask: torch.zeros(4, 4),
            scoring={"top_k": 2},
        )
