"""The benchmarks' harness: pairs are taken in turn, ratios and
the table say what was measured, both sides are the same model.
"""

from __future__ import annotations

import copy
import json
import sys
from dataclasses import replace

import pytest
import torch

from benchmarks import __main__ as command
from benchmarks import adapters, methods, nanogpt, peers, process, shakespeare, speed
from benchmarks.pairs import Results, Row, describe_machine, in_turn, number, table, write
from benchmarks.parts import command as long_runs
from benchmarks.parts import run_missing
from minillm.transformer import Config, Transformer

SMALL = Config(d_model=32, n_layers=1, n_heads=2, n_kv_heads=1, d_ff=32, context=64)
HAMLET = "To be, or not to be, that is the question:\n" * 400


def row(ours, theirs, goal=1.5, at_least=True):
    return Row("generation", "a thing", "tokens/s", ours, theirs, ("this", "that"), goal, at_least)


def test_sides_are_taken_in_turn_after_one_round_to_warm_up():
    order = []
    found = in_turn(
        {name: lambda name=name: order.append(name) or float(len(order)) for name in "ab"}, 3, lambda: None
    )
    assert "".join(order) == "ab" + "ab" + "ba" + "ab"
    assert found == {"a": [3.0, 6.0, 7.0], "b": [4.0, 5.0, 8.0]}


def test_the_ratio_is_of_medians_and_its_spread_is_of_pairs():
    """Medians 20 and 10; pairs 30/10, 20/10, 10/40."""
    r = row([30.0, 20.0, 10.0], [10.0, 10.0, 40.0])
    assert r.value == 2 and r.extremes == (0.25, 3) and r.met
    assert not row([10.0], [10.0], 1.5).met
    assert row([1.0], [10.0], 0.1, at_least=False).met and not row([2.0], [10.0], 0.1, at_least=False).met


def test_a_goal_on_the_difference_and_on_the_worst_run():
    r = replace(row([30.0, 20.0, 10.0], [10.0, 10.0, 40.0], 10.0, at_least=False), compare="difference")
    assert r.value == 10 and r.extremes == (-30, 20) and r.met
    r = replace(r, compare="worst", goal=29.0)
    assert r.value == 30 and not r.met and replace(r, goal=30.0).met and replace(r, at_least=True).value == 10


@pytest.mark.parametrize(
    "value, text",
    [
        (12345.6, "12,300"),
        (299.4, "299"),
        (45.67, "45.7"),
        (4.567, "4.57"),
        (0.4721, "0.472"),
        (0.01234, "0.0123"),
        (0.0, "0"),
    ],
)
def test_numbers_have_three_figures(value, text):
    assert number(value) == text


def test_the_table_names_what_was_measured_and_where(tmp_path):
    results = Results(
        describe_machine(1), [row([30.0, 20.0, 10.0], [10.0, 10.0, 40.0])], ["shakespeare: no text"]
    )
    text = table(results)
    assert (
        "| a thing | tokens/s | 20.0 (10.0 to 30.0) | 10.0 (10.0 to 40.0) "
        "| **2** × (0.25 to 3) | ≥ 1.5 | yes |"
        in text
    )
    assert (
        "minillm: this. Beside it: that." in text
        and "Not run: shakespeare" in text
        and torch.__version__ in text
    )
    write(results, tmp_path)
    kept = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert kept["rows"][0]["value"] == 2 and text in (tmp_path / "results.md").read_text(encoding="utf-8")


def test_the_peer_has_the_same_weights():
    pytest.importorskip("transformers")
    model = speed.policy_of(SMALL)
    llama, ids = speed.llama_of(model), speed.random_ids(3, 20)
    with torch.no_grad():
        theirs, ours = llama(ids).logits, model(ids)
    assert torch.allclose(ours, theirs, atol=1e-4) and ours.std() > 0.1


def test_both_sides_generate_the_same_number_of_tokens():
    pytest.importorskip("transformers")
    model = speed.policy_of(SMALL)
    llama, prompts = speed.llama_of(model), speed.random_ids(2, 8).tolist()
    for n, temperature in ((1, 0.0), (3, 1.0)):
        ours = speed.our_generation(model, prompts, n, temperature, 5)()
        theirs = speed.their_generation(llama, prompts, n, temperature, None, 5)()
        assert ours.tokens.shape == theirs.shape == (2 * n, 13) and int(ours.response_mask.sum()) == 2 * n * 5
        if temperature == 0:
            assert torch.equal(ours.tokens, theirs)


def test_both_sides_train_on_the_same_batches_to_the_same_loss():
    """One step of AdamW from the same weights: the losses before and after agree."""
    pytest.importorskip("transformers")
    assert speed.our_training(SMALL, 2, 16, 1)() > 0 and speed.their_training(SMALL, 2, 16, 1)() > 0
    model = Transformer(SMALL)
    llama, ids = speed.llama_of(model), speed.random_ids(4, 16)
    theirs = llama(input_ids=ids, labels=ids).loss
    ours = -model(ids)[:, :-1].log_softmax(-1).gather(-1, ids[:, 1:, None]).mean()
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_nanogpts_model_and_rate_are_the_published_ones():
    model = nanogpt.GPT2(65, 0)
    inner = sum(
        p.numel() for name, p in model.named_parameters() if p.ndim == 2 and name.startswith("blocks.")
    )
    assert (
        inner == 4 * 12 * 128**2
        and sum(p.numel() for p in model.parameters()) == inner + 65 * 128 + 64 * 128 + 9 * 128
    )
    assert (
        nanogpt.rate(99) == pytest.approx(1e-3 * 100 / 101)
        and nanogpt.rate(100) == 1e-3
        and nanogpt.rate(2000) == pytest.approx(1e-4)
    )
    assert nanogpt.rate(1050) == pytest.approx((1e-3 + 1e-4) / 2)
    logits = model(torch.arange(64)[None])
    changed = model(torch.cat([torch.arange(63), torch.tensor([0])])[None])
    assert torch.allclose(logits[:, :-1], changed[:, :-1], atol=1e-6) and not torch.allclose(
        logits[:, -1], changed[:, -1]
    )


def test_held_out_loss_is_the_mean_over_windows():
    """A model that gives every character the same score: log 65 wherever the windows fall."""
    class Even(torch.nn.Module):
        def forward(self, tokens):
            return torch.zeros(*tokens.shape, 65)
    assert shakespeare.held_out(Even(), torch.randint(65, (1000,))) == pytest.approx(4.174387, abs=1e-5)


def test_shakespeare_runs_both_recipes_on_a_text(tmp_path, monkeypatch):
    path = tmp_path / "input.txt"
    path.write_text(HAMLET, encoding="utf-8")
    for side in ("ours", "theirs"):
        recipe = shakespeare.RECIPES[side]
        monkeypatch.setitem(
            shakespeare.RECIPES, side, lambda ids, V, seed, recipe=recipe: recipe(ids, V, seed, steps=2)
        )
    results = Results({})
    shakespeare.shakespeare(results, path, lambda: None, seeds=(0,))
    assert [r.part for r in results.rows] == ["shakespeare"] * 3
    loss, used, took = results.rows
    assert used.theirs == [2 * 12 * 64] and took.ours[0] > 0 and 0 < loss.ours[0] < 10


def test_a_missing_text_is_a_row_not_run(tmp_path):
    results = Results({})
    shakespeare.shakespeare(results, None, lambda: None)
    assert not results.rows and "--text FILE" in results.missing[0]


@pytest.mark.parametrize(
    "content, said", [(b"too short", "9 characters long"), (b"\xff" * 20_000, "not UTF-8")]
)
def test_a_text_that_cannot_serve_is_named_at_once(content, said, tmp_path, capsys):
    path = tmp_path / "input.txt"
    path.write_bytes(content)
    with pytest.raises(SystemExit) as stop:
        command.main(["--text", str(path)])
    assert stop.value.code == 2 and said in capsys.readouterr().err


def test_full_logprobs_are_the_packages():
    from minillm.batch import Batch
    from minillm.logprob import logprobs
    model, ids = Transformer(SMALL), speed.random_ids(2, 9)
    assert torch.allclose(process.full_logprobs(model, ids), logprobs(model, Batch(ids))[:, 1:], atol=1e-5)


@pytest.mark.skipif(sys.platform == "win32", reason="the part does not run there")
def test_memory_is_counted_from_what_the_child_itself_held():
    """4 x 256 tokens: all logits are 125 MiB, and cross-entropy holds two such.

    A parent that holds 400 MiB more changes nothing.
    """
    held = torch.ones(100 * 2**20)  # a child that began with its parent's peak would seem to need nothing
    found = json.loads(process.child("-m", "benchmarks.process", "full", "forward", "4"))["bytes"] / 2**20
    assert held.sum() > 0 and 200 < found < 350


def test_import_brings_in_nothing_that_should_stay_out():
    names = process.child("-c", process.IMPORT.format("minillm")).splitlines()[1].split()
    assert "minillm" in names and not set(process.STAY_OUT) & set(names)


@pytest.mark.parametrize(
    "words, said",
    [
        (["--repeats", "0"], "--repeats is 0"),
        (["--text", "nowhere.txt"], "--text"),
        (["--only", "speed"], "--only"),
    ],
)
def test_bad_arguments_are_named(words, said, capsys):
    with pytest.raises(SystemExit) as stop:
        command.main(words)
    assert stop.value.code == 2 and said in capsys.readouterr().err


def test_the_command_keeps_what_was_finished(tmp_path, monkeypatch, capsys):
    def finished(results, repeats, tick):
        results.rows.append(row([3.0], [1.0]))

    def stopped(results, repeats, tick):
        raise KeyboardInterrupt
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # the command sets it, and here it is put back
    monkeypatch.setattr(command, "PARTS", {"training": finished, "generation": stopped})
    assert command.main(["--quiet", "--out", str(tmp_path), "--threads", "1"]) == 130
    assert "| a thing |" in capsys.readouterr().out and "stopped by the keyboard" in (
        tmp_path / "results.md"
    ).read_text(encoding="utf-8")


def test_the_curve_is_drawn(tmp_path):
    speed.draw_curves(
        Results(
            {},
            curves=[
                {
                    "label": "minillm",
                    "lengths": [32, 64, 128, 256, 512],
                    "milliseconds": [[1.0, 2.0, 1.5]] * 5,
                }
            ],
        ),
        tmp_path,
    )
    assert (tmp_path / "cost_per_token.png").read_bytes().startswith(b"\x89PNG")


# --- whole steps of methods ---------------------------------------------------------------------------------


def test_a_step_is_measured_from_the_end_of_the_first_to_the_end_of_the_last(monkeypatch):
    """Steps that end after 1, 2, 3, … seconds: with two updates a
    step, three measured steps take 6 of 8 updates, 2 seconds each.
    """
    monkeypatch.setattr(
        methods,
        "train",
        lambda model, draw, coefficient, settings, **_: [{"seconds": 1.0 + i} for i in range(settings.steps)],
    )
    assert (
        methods.steps_of(None, None, None, 3, each=2)() == 2 and methods.steps_of(None, None, None, 4)() == 1
    )


def test_seconds_a_step_become_steps_a_second():
    r = methods.faster(Row("dpo", "a step", "s", [0.5, 0.25], [1.0, 1.0], ("this", "that"), 1.5))
    assert r.ours == [2, 4] and r.theirs == [1, 1] and r.unit == "steps/s" and r.met


def test_the_words_are_the_ids():
    pytest.importorskip("transformers")
    ids = speed.random_ids(3, 32).tolist()
    for end in (0, peers.V + 1):
        read = peers.tokenizer(end)
        assert (
            read([peers.words(row) for row in ids])["input_ids"] == ids
            and read.eos_token_id == end
            and read.pad_token_id == peers.V
        )


def test_both_sides_of_dpo_end_at_the_same_weights(tmp_path, monkeypatch):
    """Three steps on the same eight comparisons from the same
    weights, the rate so high that they move by 1e-2.
    """
    pytest.importorskip("trl")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path))
    model, pairs = Transformer(SMALL), methods.comparisons(8, 10, 6)
    start = copy.deepcopy(model)
    trainer = peers.dpo(model, pairs, 8, 3, 5e-3, 0.1)
    assert peers.timed(trainer)() > 0
    assert methods.our_dpo(model, pairs, 8, 2, lr=5e-3)() > 0
    ids = speed.random_ids(3, 20)
    with torch.no_grad():
        ours, theirs, before = model(ids), trainer.model(ids).logits, start(ids)
    assert (ours - theirs).abs().max() < 1e-3 < 0.1 < (ours - before).abs().max()


@pytest.mark.parametrize("bf16", [False, True])
def test_both_sides_of_grpo_write_as_many_tokens(monkeypatch, bf16):
    pytest.importorskip("trl")
    drawn = []
    monkeypatch.setattr(
        methods.grpo, "draw", lambda *a, draw=methods.grpo.draw, **k: drawn.append(draw(*a, **k)) or drawn[-1]
    )
    prompts = speed.random_ids(2, 10).tolist()
    assert methods.our_grpo(SMALL, prompts, 4, 1, bf16)() > 0
    assert [int(batch.response_mask.sum()) for batch in drawn] == [2 * 4 * methods.NEW] * 2
    trainer = peers.grpo(Transformer(SMALL), prompts, 4, methods.NEW, 2, bf16, 1e-5, None)
    lengths = []
    monkeypatch.setattr(
        trainer,
        "reward_funcs",
        [
            lambda completion_ids, **_: (
                lengths.extend(map(len, completion_ids)) or [float(ids[0] % 2) for ids in completion_ids]
            )
        ],
    )
    assert peers.timed(trainer)() > 0 and lengths == [methods.NEW] * 16


def test_both_sides_of_lora_train_as_many_numbers():
    pytest.importorskip("peft")
    ours, theirs = adapters_of(Transformer(SMALL)), peers.lora(Transformer(SMALL), 8, 2.0)
    count = [sum(p.numel() for p in model.parameters() if p.requires_grad) for model in (ours, theirs)]
    assert count[0] == count[1] > 0


def adapters_of(model):
    from minillm.adapt.lora import add_lora
    return add_lora(model, adapters.RANK, adapters.SCALE)


@pytest.mark.parametrize("with_adapters", [False, True])
def test_our_side_of_ppo_takes_its_four_passes(monkeypatch, with_adapters):
    drawn = []
    monkeypatch.setattr(
        methods.ppo, "draw", lambda *a, draw=methods.ppo.draw, **k: drawn.append(draw(*a, **k)) or drawn[-1]
    )
    assert methods.our_ppo(SMALL, speed.random_ids(4, 10).tolist(), 4, 1, with_adapters)() > 0
    assert len(drawn) == 2 and int(drawn[0].response_mask.sum()) == 4 * methods.NEW


def test_ppo_without_its_library_is_a_row_not_run(tmp_path, monkeypatch):
    pytest.importorskip("transformers")
    monkeypatch.setenv("TRL_WITH_PPO", str(tmp_path))
    with pytest.raises(ImportError, match="pip install --no-deps --target .* trl==1.12.0"):
        methods.ppo_rows(Results({}), 1, lambda: None)


def test_parts_are_chosen_by_how_their_names_begin(tmp_path, monkeypatch, capsys):
    called = []
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(
        command,
        "PARTS",
        {
            name: lambda *_, name=name: called.append(name)
            for name in ("grpo-4x128", "grpo-6x384", "dpo-4x128", "start")
        },
    )
    assert (
        command.main(
            ["--quiet", "--out", str(tmp_path), "--threads", "1", "--only", "grpo", "--only", "start"]
        )
        == 0
    )
    assert called == ["grpo-4x128", "grpo-6x384", "start"]


def test_long_runs_are_kept_part_by_part(tmp_path):
    """What is kept is not run again, unless it is asked for; a part that breaks loses nothing before it."""
    ran = []
    parts = {"one": lambda seed: ran.append(("one", seed)) or {"seed": seed}, "two": lambda seed: 1 / 0}
    out = str(tmp_path / "kept.json")

    def go(*arguments):
        run_missing(long_runs("", tmp_path / "kept.json", (20, 21), parts).parse_args(arguments), parts,
                    {"steps": 3})
        return json.loads((tmp_path / "kept.json").read_text(encoding="utf-8"))

    with pytest.raises(ZeroDivisionError):
        go("--out", out)
    assert go("--parts", "one")["seeds"] == {"20": {"one": {"seed": 20}}, "21": {"one": {"seed": 21}}}
    assert ran == [("one", 20), ("one", 21)]
    assert go("--parts", "one", "--seeds", "21", "--again")["settings"]["steps"] == 3 and len(ran) == 3
