"""Two processes against one: the same batch gives the same weights to rounding, whole or sharded, and a state
moves between them.

All cases for two processes run in one launch of torchrun (gloo),
`many_processes.py`; the same function runs them here alone.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import many_processes
from conftest import Tiny
from minillm.engine import parallel

HERE = Path(__file__).parent
ENVIRONMENT = os.environ | {
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": os.pathsep.join(
        [str(HERE.parents[1]), str(HERE.parent), os.environ.get("PYTHONPATH", "")]
    ),
}
HOW = ("data", "shard")


def rounding(case):
    """How far weights may be apart after five steps.

    Seen: 3e-16; in float32 6e-7, where AdamW divides by small gradients; with Muon, which rounds the gradient
    to bfloat16, 4e-4: a number at the edge of two falls to the other side.
    """
    return 1e-12 if case.get("dtype") != "float32" else 2e-3 if case.get("muon") else 1e-5


# What differs between runs that must end alike: who does the work. What is held fixed in each: F compares
# rows and sees log p.
ALIKE = {
    "adamw": {},
    "muon": {"muon": True},
    "per token": {"per_token": True},
    "fewer rows than processes": {"B": 1, "per_token": True, "muon": True},
    "one row more": {"B": 3},
    "on policy": {"on_policy": True, "muon": True},
    "float32": {"dtype": "float32"},
    "muon, float32": {"dtype": "float32", "muon": True},
}
FAILS = {
    "reward": "NonFinite: step 2: coefficient is nan in row 0 of the batch",
    "draw": "ValueError: draw is another batch in another process at step 2: draw from generators",
    "rows": "ValueError: draw is another batch in another process at step 2: draw from generators",
}


def torchrun(*arguments):
    """Two processes of many_processes.py, in a process group of their own. No port is fixed."""
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        str(HERE / "many_processes.py"),
        *map(str, arguments),
    ]
    return subprocess.Popen(
        command,
        cwd=HERE,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def read(folder, name):
    """Weights and metrics (or errors) that a run kept."""
    return load_file(folder / f"{name}.safetensors"), json.loads(
        (folder / f"{name}.json").read_text(encoding="utf-8")
    )


def alone(folder, name, **case):
    """The same run in this process."""
    many_processes.run(name, folder, how="none", **case)
    return read(folder, name)


def apart(some, others):
    """The largest difference of two sets of weights."""
    assert some.keys() == others.keys()
    return max(float((some[key] - others[key]).detach().abs().max()) for key in some)


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """The folder in which two processes have run every case,
    after one process has stopped half-way for them to go on.
    """
    folder = tmp_path_factory.mktemp("two")
    cases = []
    for how in HOW:
        for name, case in ALIKE.items():
            cases += [{"name": f"{name}, {how}, {n}", "how": how, "pieces": n} | case for n in (1, 3)]
        for spoil in FAILS:
            cases.append({"name": f"{spoil}, {how}", "how": how, "spoil": spoil})
        alone(folder, "stopped", muon=True, steps=6, stop_at=3, state=str(folder / f"one to two, {how}"))
        cases.append(
            {
                "name": f"one to two, {how}",
                "how": how,
                "muon": True,
                "steps": 6,
                "state": str(folder / f"one to two, {how}"),
            }
        )
        cases.append(
            {
                "name": f"stopped, {how}",
                "how": how,
                "muon": True,
                "steps": 6,
                "stop_at": 3,
                "state": str(folder / f"two to one, {how}"),
            }
        )
        cases.append({"name": f"bf16, {how}", "how": how, "dtype": "float32", "bf16": True})
    cases.append(
        {
            "name": "long",
            "how": "shard",
            "muon": True,
            "steps": 100_000,
            "state": str(folder / "long"),
            "save_every": 5,
        }
    )
    process = torchrun(folder, *map(json.dumps, cases))
    try:
        deadline = time.monotonic() + 150
        while (
            process.poll() is None
            and time.monotonic() < deadline
            and not (folder / "long" / "state.safetensors").exists()
        ):
            time.sleep(0.05)
        with suppress(ProcessLookupError):
            # As a terminal does: to torchrun and both processes at once.
            os.killpg(process.pid, signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert (folder / "long" / "state.safetensors").exists(), output[-3000:]
    (folder / "output").write_text(output, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """case -> what one process ends with, each run once."""
    folder, kept = tmp_path_factory.mktemp("one"), {}

    def get(**case):
        key = json.dumps(case)
        if key not in kept:
            kept[key] = alone(folder, "one", **case)
        return kept[key]
    return get


@pytest.mark.parametrize("pieces", [1, 3])
@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("name", ALIKE)
def test_two_processes_end_where_one_does(both, one, name, how, pieces):
    """Five steps, each of which moves the weights by 0.01 or
    so: they agree to rounding, and so do the metrics.
    """
    case = ALIKE[name]
    weights, rows = one(**case)
    theirs, their_rows = read(both, f"{name}, {how}, {pieces}")
    start = dict(
        Tiny(0, getattr(torch, case.get("dtype", "float64")), vocab_size=5, n_layers=2).named_parameters()
    )
    assert apart(weights, theirs) < rounding(case) and apart(weights, start) > 1e-2
    assert len(rows) == len(their_rows) == 5
    for mine, other in zip(rows, their_rows):
        assert mine == pytest.approx(other, rel=100 * rounding(case), abs=100 * rounding(case))


@pytest.mark.parametrize("name", ALIKE)
def test_pieces_end_where_the_whole_does(one, tmp_path, name):
    """pieces in one process: 3 pieces of 5 rows, and more pieces than rows."""
    case = ALIKE[name]
    whole, _ = one(**case)
    for n in (3, 7):
        parts, _ = alone(tmp_path, "parts", **case, pieces=n)
        assert apart(whole, parts) < rounding(case)


@pytest.mark.parametrize("how", HOW)
def test_a_state_of_one_process_goes_on_in_two(both, one, how):
    weights, _ = one(muon=True, steps=6)
    theirs, their_rows = read(both, f"one to two, {how}")
    assert apart(weights, theirs) < 1e-12 and len(their_rows) == 6


@pytest.mark.parametrize("how", HOW)
def test_a_state_of_two_processes_goes_on_in_one_and_ctrl_c_reaches_both(both, one, tmp_path, how):
    """Ctrl-C came to the second process alone: both stopped at
    one step, the state is whole, and one process ends it.
    """
    assert read(both, f"stopped, {how}")[1] == ["KeyboardInterrupt: "] * 2
    assert "Stopped after 3 of 6 steps; kept in" in (both / "output").read_text(encoding="utf-8")
    state = tmp_path / "state"
    shutil.copytree(both / f"two to one, {how}", state)
    assert len((state / "metrics.jsonl").read_text(encoding="utf-8").splitlines()) == 3
    weights, _ = one(muon=True, steps=6)
    resumed, rows = alone(tmp_path, "resumed", muon=True, steps=6, state=str(state), seed=9)
    assert apart(weights, resumed) < 1e-12 and [row["step"] for row in rows] == list(range(6))


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("spoil", FAILS)
def test_all_processes_stop_alike(both, spoil, how):
    """A NaN in one row, another batch in one process, a row
    fewer: the same error in both, and nobody waits for the other.
    """
    errors = read(both, f"{spoil}, {how}")[1]
    assert len(errors) == 2 and all(error.startswith(FAILS[spoil]) for error in errors), errors


@pytest.mark.parametrize("how", HOW)
def test_bf16_in_two_processes(both, one, how):
    """Products over other rows round otherwise in bfloat16 (8 bits), and AdamW's first steps have the
    gradient's sign alone.

    So single weights differ by a whole step; after five, all weights together are within a fifth of the way
    that they went (seen: 0.004 to 0.11).
    """
    weights, rows = one(dtype="float32", bf16=True)
    theirs, their_rows = read(both, f"bf16, {how}")
    start = {
        key: p.detach() for key, p in Tiny(0, torch.float32, vocab_size=5, n_layers=2).named_parameters()
    }
    flat, their_flat, start = (
        torch.cat([w[key].flatten() for key in start]) for w in (weights, theirs, start)
    )
    assert (flat - their_flat).norm() < 0.2 * (flat - start).norm()
    assert [row["nll"] for row in rows] == pytest.approx([row["nll"] for row in their_rows], rel=0.02)


def test_ctrl_c_at_torchrun(both):
    """Torchrun hears it, too, and sends it on once more: the
    run still stops at a whole step and says how to go on.
    """
    steps = len((both / "long" / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    kept = both / "long"
    said = f"Stopped after {steps} of 100000 steps; kept in {kept}. Run the same command again to go on."
    assert steps >= 5 and said in (both / "output").read_text(encoding="utf-8")
    assert not (both / "long" / "unfinished").exists()


def test_torchrun_without_start_is_refused(monkeypatch, tmp_path):
    """Two processes that know nothing of one another would write over each other's state."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="WORLD_SIZE is 2: call minillm.engine.parallel.start"):
        alone(tmp_path, "one")


def test_alone_everything_is_as_it_was():
    """Outside of torchrun: one process, no group, all rows, no copy."""
    model = Tiny()
    weight = model.embed.weight
    assert parallel.start("cpu") == torch.device("cpu") and (parallel.rank(), parallel.size()) == (0, 1)
    assert parallel.shard(model) is model and model.embed.weight is weight and not parallel.is_sharded(model)
    with parallel.gathered(model):
        assert parallel.full(weight) is weight
    assert parallel.pieces(5) == [(slice(0, 5), True)]


@pytest.mark.parametrize("B", range(1, 9))
@pytest.mark.parametrize("size, pieces", [(1, 1), (1, 3), (2, 1), (2, 3), (5, 2)])
def test_pieces_hold_each_row_once(monkeypatch, B, size, pieces):
    """Over all processes; each has as many pieces as the others, and none is empty."""
    monkeypatch.setattr(parallel, "size", lambda: size)
    seen = []
    for r in range(size):
        monkeypatch.setattr(parallel, "rank", lambda: r)
        mine = parallel.pieces(B, pieces)
        assert len(mine) == pieces and all(rows.stop > rows.start for rows, _ in mine)
        seen += [i for rows, counts in mine if counts for i in range(rows.start, rows.stop)]
    assert sorted(seen) == list(range(B))
