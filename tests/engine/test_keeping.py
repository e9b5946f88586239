"""A run that survives a kill: a stopped run goes on as if it had not been, a state that is not its own is
refused, and what is kept changes no number.
"""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file

from conftest import Tiny
from loops import Stop, adamw, draw_pairs, run, stop, table, timeless, weights
from minillm.engine.muon import Muon
from minillm.methods import supervised
from minillm.train import Settings, ascend


# --- stopped, and gone on -----------------------------------------------------------------------------------


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
    rows = run(unbroken, draw_pairs, supervised.coefficient, settings, folder=tmp_path / "unbroken")
    draw = Interrupted(at, error)
    with pytest.raises(type(error)):
        run(
            Tiny(seed=1, dtype=torch.float32),
            draw,
            supervised.coefficient,
            settings,
            folder=tmp_path / "broken",
        )
    assert draw.asked == list(range(at + 1))
    resumed = Tiny(seed=2, dtype=torch.float32)
    if from_step == 0 and not (tmp_path / "broken" / "state.safetensors").exists():
        # nothing was kept: the run begins again from its own first weights
        resumed = Tiny(seed=1, dtype=torch.float32)
    draw.asked = []
    again = run(resumed, draw, supervised.coefficient, settings, folder=tmp_path / "broken")
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
    run(unbroken, draw_pairs, supervised.coefficient, settings)
    optimizer, calls = {"Muon": Muon, "AdamW": torch.optim.AdamW}[kind], []
    real = optimizer.step

    def interrupted(self, *rest):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(self, *rest)

    monkeypatch.setattr(optimizer, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(Tiny(seed=1, dtype=torch.float32), draw_pairs, supervised.coefficient, settings, folder=tmp_path)
    resumed = Tiny(seed=3, dtype=torch.float32)
    run(resumed, draw_pairs, supervised.coefficient, settings, folder=tmp_path)
    assert torch.equal(weights(resumed), weights(unbroken))
    assert "last checkpoint" in capsys.readouterr().out


def test_a_disk_that_fills_up_leaves_the_last_state(tmp_path, monkeypatch):
    """The second save fails half-way: the first one's file is whole, and the run goes on from it."""
    settings, saves = adamw(6, save_every=2), []
    unbroken = table()
    run(unbroken, draw_pairs, supervised.coefficient, settings)

    def failing(tensors, path, metadata):
        saves.append(path)
        if len(saves) == 2:
            path.write_bytes(b"half a file")
            raise OSError(28, "No space left on device")
        return save_file(tensors, path, metadata)

    monkeypatch.setattr("minillm.engine.resume.save_file", failing)
    with pytest.raises(OSError, match="No space"):
        run(table(), draw_pairs, supervised.coefficient, settings, folder=tmp_path)
    resumed = table()
    assert len(run(resumed, draw_pairs, supervised.coefficient, settings, folder=tmp_path)) == 6
    assert torch.equal(resumed.theta, unbroken.theta)


def test_a_finished_run_is_not_run_again(tmp_path):
    model, again, asked = table(), table(), []
    rows = run(model, draw_pairs, supervised.coefficient, adamw(3), folder=tmp_path)
    assert (
        run(again, lambda step: asked.append(step), supervised.coefficient, adamw(3), folder=tmp_path) == rows
    )
    assert not asked and torch.equal(again.theta, model.theta)


def test_metrics_are_kept_one_json_object_a_line(tmp_path):
    rows = run(table(), draw_pairs, supervised.coefficient, adamw(5), folder=tmp_path)
    assert [
        json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    ] == rows
    # no .part is left
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.jsonl", "state.safetensors"]


def test_afterwards_the_model_is_in_eval_mode_and_holds_no_gradients():
    model = table()
    run(model, draw_pairs, supervised.coefficient, adamw(2))
    assert not model.training and model.theta.grad is None
    run(model, lambda step: stop(), supervised.coefficient, adamw(2), stopped=True)
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
    run(table(), draw_pairs, supervised.coefficient, adamw(2), folder=tmp_path)
    spoil(tmp_path / "state.safetensors", how)
    model = table()
    before = model.theta.detach().clone()
    with pytest.raises(ValueError, match="state.safetensors.*delete it") as error:
        run(model, draw_pairs, supervised.coefficient, adamw(2), folder=tmp_path)
    assert "\n" not in str(error.value) and torch.equal(model.theta, before)


def test_a_run_with_other_settings_or_another_model_is_refused(tmp_path):
    run(table(), draw_pairs, supervised.coefficient, adamw(2), folder=tmp_path)
    with pytest.raises(ValueError, match=r"folder is .*other settings: name a new folder"):
        run(table(), draw_pairs, supervised.coefficient, adamw(3), folder=tmp_path)
    with pytest.raises(ValueError, match=r"folder is .*another shape: name a new folder"):
        run(Tiny(), draw_pairs, supervised.coefficient, adamw(2), folder=tmp_path)


# --- it does nothing to the numbers -------------------------------------------------------------------------


@pytest.mark.parametrize("folder", [False, True])
def test_kept_it_takes_the_steps_of_the_plain_loop(tmp_path, folder):
    """Bit for bit: weights and rows of `train` with a folder and without are those of `ascend`."""
    kept, plain = Tiny(seed=1, dtype=torch.float32), Tiny(seed=1, dtype=torch.float32)
    settings = Settings(5, save_every=2)
    rows = run(kept, draw_pairs, supervised.coefficient, settings, folder=tmp_path if folder else None)
    assert timeless(rows) == timeless(ascend(plain, draw_pairs, supervised.coefficient, settings))
    assert torch.equal(weights(kept), weights(plain))
