"""Killed, interrupted, out of disk, not allowed to write: a run that goes on ends as one that was never
stopped.

`killed.py` forks runs and kills them by SIGKILL; the
defects that it can plant show that these tests can fail.
"""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from conftest import Tiny
from killed import KILLS, STEPS, careless, coefficient
from minillm.engine import resume
from minillm.batch import batch_pairs
from minillm.train import Settings, make_optimizers, train

HERE = Path(__file__).parent
SETTINGS = Settings(9, lr=0.01, muon_lr=0.01, save_every=2)


DEFECTS = ["in place", "no optimiser", "no generators"]


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """killed.py's folder, and its report."""
    folder = tmp_path_factory.mktemp("killed")
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(
            [str(HERE.parents[1]), str(HERE.parent), os.environ.get("PYTHONPATH", "")]
        ),
    }
    run = subprocess.run(
        [sys.executable, HERE / "killed.py", folder, "none", *DEFECTS],
        capture_output=True,
        text=True,
        timeout=250,
        cwd=HERE,
        env=environment,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    return folder, json.loads(run.stdout)


def metrics(folder):
    """metrics.jsonl without the clock."""
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


def same(some, others):
    """True where two states hold the same tensors, bit for bit."""
    return some.keys() == others.keys() and all(torch.equal(some[key], others[key]) for key in some)


def runs(folder, defect):
    """The runs that were killed, in order."""
    return sorted((folder / defect).iterdir(), key=lambda path: int(path.name))


def test_killed_at_any_moment_it_ends_bit_for_bit(killed):
    """24 times kill -9, most of them in the middle of a write.

    Weights, both optimisers' states, generators and metrics are those of a run that nobody stopped.
    """
    folder, report = killed[0], killed[1]["none"]
    assert report["code"] == 0 and report["error"] == ""
    assert report["kills"] == KILLS >= 20 and report["middle"] >= 5, report
    for kept in report["kept"]:
        assert kept == sorted(kept), "a checkpoint that was there is gone"
    assert max(map(max, report["kept"])) > 0
    unbroken = load_file(folder / "unbroken" / "state.safetensors")
    assert any(name.startswith("optimizer.1.") for name in unbroken)
    for place in runs(folder, "none"):
        assert same(unbroken, load_file(place / "state.safetensors"))
        rows = metrics(place)
        assert rows == metrics(folder / "unbroken") and [row["step"] for row in rows] == list(range(STEPS))
        assert sorted(path.name for path in place.iterdir()) == ["metrics.jsonl", "state.safetensors"]


@pytest.mark.parametrize("defect", DEFECTS)
def test_killing_finds_a_planted_defect(killed, defect):
    """Writing into the file itself, or keeping too little: the run breaks, or ends elsewhere."""
    folder, report = killed[0], killed[1][defect]

    def ended(place):
        found = load_file(place / "state.safetensors")
        return {name: t for name, t in found.items() if name.startswith("model.")}

    assert report["code"] or not all(
        same(ended(folder / "unbroken"), ended(place)) for place in runs(folder, defect)
    ), report


def drawn_from_a_global_generator(at=None, error=KeyboardInterrupt):
    """`careless` draws, interrupted in the middle of a draw:
    when some of its numbers have been taken, and some have not.
    """
    def draw(step):
        batch = careless(step)
        if step == at:
            raise error
        return batch
    return draw


def model(seed=0):
    return Tiny(seed, torch.float32, vocab_size=40, context=16)


def run(folder, draw=None, seed=0, settings=SETTINGS, **others):
    """A run from seeded generators; the model that it trained."""
    torch.manual_seed(7)
    random.seed(7)
    trained = model(seed)
    train(
        trained,
        draw or drawn_from_a_global_generator(),
        coefficient,
        settings,
        progress=False,
        folder=folder,
        **others,
    )
    return trained


def weights(trained):
    return torch.cat([p.detach().flatten() for p in trained.parameters()])


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """draw -> (weights, the generators' next numbers) after a run that nobody stopped, each run once."""
    kept = {}

    def get(draw):
        if draw not in kept:
            trained = run(tmp_path_factory.mktemp("unbroken"), draw)
            kept[draw] = weights(trained), (torch.rand(1).item(), random.gauss(0, 1))
        return kept[draw]
    return get


@pytest.mark.parametrize("at", [0, 1, 2, 5, 8])
def test_ctrl_c_within_a_draw_keeps_the_generators_of_the_step_before(tmp_path, unbroken, at):
    """A draw that was cut short has taken numbers, PyTorch's and Python's; the state's generators have not.

    At the first step and the last, before the first checkpoint, right behind one, and a step further.
    """
    whole, after = unbroken(careless)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "broken", drawn_from_a_global_generator(at))
    assert torch.equal(weights(run(tmp_path / "broken")), whole)
    assert (torch.rand(1).item(), random.gauss(0, 1)) == after  # and what comes after training goes on, too


def test_a_finished_run_leaves_the_generators_where_it_ended(tmp_path):
    run(tmp_path)
    after = torch.rand(1).item(), random.gauss(0, 1)
    run(tmp_path)
    assert (torch.rand(1).item(), random.gauss(0, 1)) == after


def test_buffers_are_kept(tmp_path):
    """What a model counts or averages beside its weights belongs
    to its state; cos and sin, which it makes itself, do not.
    """
    class Counting(Tiny):
        def __init__(self, seed):
            super().__init__(seed, torch.float32)
            self.register_buffer("seen", torch.zeros(1))

        def hidden(self, tokens, cache=None):
            self.seen += tokens.numel()
            return super().hidden(tokens, cache) * (1 + 1e-4 * self.seen)

    def go(folder, stop=None):
        counting = Counting(seed=0)
        with pytest.raises(ZeroDivisionError) if stop else open(os.devnull):
            train(
                counting,
                lambda step: batch_pairs([([1], [2, 0])]) if step != stop else 1 // 0,
                lambda batch, logp: torch.ones(1),
                Settings(6, save_every=2),
                progress=False,
                folder=folder,
            )
        return counting

    whole = go(tmp_path / "whole")
    go(tmp_path / "broken", stop=4)
    again = go(tmp_path / "broken")
    assert torch.equal(whole.seen, again.seen) and torch.equal(weights(whole), weights(again))
    assert "model.seen" in load_file(
        tmp_path / "whole" / "state.safetensors"
    ) and "model.cos" not in load_file(tmp_path / "whole" / "state.safetensors")


def in_child(work):
    """Fork, and the exit code of work(): for what must not happen to this process."""
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            code = work()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_real_ctrl_c(tmp_path, unbroken):
    """SIGINT, as a terminal sends it, in the middle of the run: it
    says how to go on, the same command goes on, and ends the same.
    """
    said = tmp_path / "said"

    def work():
        sys.stdout = open(said, "w", encoding="utf-8")
        try:
            run(
                tmp_path / "broken",
                lambda step: (careless(step), step == 5 and os.kill(os.getpid(), signal.SIGINT))[0],
            )
        except KeyboardInterrupt:
            sys.stdout.close()
            return 0
        return 1

    assert in_child(work) == 0
    assert (
        f"Stopped after 5 of 9 steps; kept in {tmp_path / 'broken'}. Run the same command again"
        in said.read_text(encoding="utf-8")
    )
    assert torch.equal(weights(run(tmp_path / "broken")), unbroken(careless)[0])


def several(step, at=None, error=SystemExit):
    """A draw of three batches, made when they are asked for;
    `error` comes before batch number `at` of the run.
    """
    whole = [careless(step) for _ in range(3)]
    for i, batch in enumerate(whole):
        if step + i == at:
            raise error
        yield batch


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize("at", [0, 1, 3, 5, 7])
def test_a_draw_of_several_batches_goes_on_bit_for_bit(tmp_path, unbroken, at, error):
    """Killed before its first, second or third batch: the draw is made again.

    The state is that of the last draw that was used up.
    """
    whole, _ = unbroken(several)
    with pytest.raises(error):
        run(tmp_path / "broken", lambda step: several(step, at, error))
    asked = []
    resumed = run(tmp_path / "broken", lambda step: asked.append(step) or several(step))
    assert asked == list(range(at - at % 3, 9, 3))
    assert torch.equal(weights(resumed), whole)


@pytest.mark.parametrize("presses", [1, 2])
def test_ctrl_c_in_the_middle_of_a_draw(tmp_path, unbroken, presses):
    """Pressed once, the draw is used up and kept; pressed
    twice, it stops at once, and the draw before it stands.
    """
    said = tmp_path / "said"

    def pressed(step):
        for i, batch in enumerate(several(step)):
            if step == 3 and i == 1:
                for _ in range(presses):
                    os.kill(os.getpid(), signal.SIGINT)
            yield batch

    def work():
        sys.stdout = open(said, "w", encoding="utf-8")
        try:
            run(tmp_path / "broken", pressed)
        except KeyboardInterrupt:
            sys.stdout.close()
            return 0
        return 1

    assert in_child(work) == 0
    what = (
        "Stopped after 6 of 9 steps; kept in"
        if presses == 1
        else "Stopped after 4 of 9 steps; in the middle of a draw"
    )
    assert what in said.read_text(encoding="utf-8")
    assert torch.equal(weights(run(tmp_path / "broken", several)), unbroken(several)[0])


def test_a_draw_without_a_batch_is_refused(tmp_path):
    with pytest.raises(
        ValueError, match="draw is without a batch at step 0: give a Batch, or an iterable of one or more"
    ):
        run(None, lambda step: iter(()))


def test_a_full_disk_is_an_error_that_loses_nothing(tmp_path, unbroken):
    """The system refuses to write beyond 100 kB (as a full disk does beyond its end) from step 5 on: the
    state after step 4 stands.

    The error names the folder, the place needed and the remedy;
    nothing half-written is left; the run goes on from step 4.
    """
    said = tmp_path / "said"

    def work():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

        def draw(step):
            if step == 5:
                resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))
            return careless(step)

        try:
            run(tmp_path / "full", draw)
        except OSError as error:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            said.write_text(str(error), encoding="utf-8")
            return 0
        return 1

    assert in_child(work) == 0
    message = said.read_text(encoding="utf-8")
    for part in (
        f"{tmp_path / 'full'} did not take the checkpoint after step 6",
        "its last checkpoint stands",
        "Make room for 0.0",
        "MB",
        "same command again",
    ):
        assert part in message, message
    assert sorted(path.name for path in (tmp_path / "full").iterdir()) == [
        "metrics.jsonl",
        "state.safetensors",
    ]
    asked = []
    again = run(tmp_path / "full", lambda step: asked.append(step) or careless(step))
    assert asked == [4, 5, 6, 7, 8] and torch.equal(weights(again), unbroken(careless)[0])


def no_step(step):
    raise AssertionError("a step was taken")


@pytest.mark.parametrize("folder", ["file/run", "file"])
def test_a_folder_that_cannot_be_made_is_named_before_any_step(tmp_path, folder):
    (tmp_path / "file").write_text("not a folder", encoding="utf-8")
    with pytest.raises(OSError, match=f"{folder} cannot be written .*: name a folder of your own") as error:
        run(tmp_path / folder, no_step)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("there", ["nothing", "a state"])
def test_a_read_only_folder_is_named_before_any_step(there):
    """Seen by somebody who is not root, for whom the system holds to the permissions."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "run"
        os.chmod(place, 0o755)
        folder.mkdir()
        if there == "a state":
            run(folder, settings=Settings(1, lr=0.01, muon_lr=0.01))
        for path in folder.iterdir():
            os.chmod(path, 0o444)
        os.chmod(folder, 0o555)

        def work():
            if os.geteuid() == 0:
                os.setuid(65534)
            try:
                run(
                    folder,
                    no_step,
                    settings=Settings(1, lr=0.01, muon_lr=0.01) if there == "a state" else SETTINGS,
                )
            except OSError as error:
                return (
                    0
                    if f"{folder} cannot be written" in str(error)
                    and "name a folder of your own" in str(error)
                    else 2
                )
            return 1

        code = in_child(work)
        os.chmod(folder, 0o755)
        assert code == 0


def one_step(folder, draw=None):
    return run(folder, draw, settings=Settings(1, lr=0.01, muon_lr=0.01))


def contents(folder):
    """Every name below a folder, and its bytes."""
    found = folder.rglob("*")
    return {path.relative_to(folder): path.read_bytes() if path.is_file() else None for path in found}


def test_what_a_killed_run_left_is_cleared_away(tmp_path):
    """A half-written file, of whatever name; and a folder that a kill left before it was marked."""
    one_step(tmp_path)
    before = contents(tmp_path)
    for left in ({resume.MARK: b"", ".tmpAbCdEf": before[Path("state.safetensors")][:1000]}, {}):
        (tmp_path / resume.UNFINISHED).mkdir()
        for name, data in left.items():
            (tmp_path / resume.UNFINISHED / name).write_bytes(data)
        one_step(tmp_path, no_step)
        assert contents(tmp_path) == before


THEIRS = {  # what lies in the folder of a new run, and what the error says
    "metrics": ({"metrics.jsonl": b'{"loss": 1}\n'},
                "metrics.jsonl is there, and no state.safetensors that goes with it: move"),
    "a folder for metrics": ({"metrics.jsonl/mine": b"1"}, "metrics.jsonl is there, and no"),
    "a folder of our name": ({f"{resume.UNFINISHED}/thesis.tex": b"1"},
                             "not of this package's making: move it away"),
    "a folder in a folder": ({f"{resume.UNFINISHED}/{resume.MARK}": b"", f"{resume.UNFINISHED}/a/b": b"1"},
                             "not of this package's making"),
}


@pytest.mark.parametrize("case", THEIRS)
def test_the_learners_own_files_are_left_as_they_are(tmp_path, case):
    files, said = THEIRS[case]
    for name, data in ({"unfinished/thesis.tex": b"my thesis"} | files).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=said) as error:
        run(tmp_path, no_step)
    assert contents(tmp_path) == before and "\n" not in str(error.value)


def test_a_folder_called_unfinished_is_nobodys_business(tmp_path):
    (tmp_path / "unfinished").mkdir()
    (tmp_path / "unfinished" / "thesis.tex").write_text("my thesis")
    one_step(tmp_path)
    assert (tmp_path / "unfinished" / "thesis.tex").read_text() == "my thesis"


@pytest.mark.parametrize("change", [lambda s: s + s, lambda s: s.replace("nll", "loss"), lambda s: "1\n"])
def test_other_metrics_beside_a_state_are_refused(tmp_path, change):
    """What is not the beginning of the lines that the state holds was written by somebody else."""
    one_step(tmp_path)
    (tmp_path / "metrics.jsonl").write_text(change((tmp_path / "metrics.jsonl").read_text()))
    before = contents(tmp_path)
    with pytest.raises(ValueError, match="metrics.jsonl is not of the 1 steps that state.safetensors holds"):
        one_step(tmp_path, no_step)
    assert contents(tmp_path) == before


def test_a_run_that_trains_other_weights_is_refused(tmp_path):
    """One weight is frozen; the next of its shape would take its momentum, were names not compared."""
    one_step(tmp_path)
    frozen = model()
    frozen.blocks[0].up.weight.requires_grad_(False)
    with pytest.raises(ValueError, match="it keeps a run that trains other weights: name a new folder"):
        settings = Settings(1, lr=0.01, muon_lr=0.01)
        train(frozen, no_step, coefficient, settings, progress=False, folder=tmp_path)


def test_room_is_looked_for_before_any_step(tmp_path, monkeypatch):
    """What is asked for is what is then written, and a little more."""
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=100_000))
    with pytest.raises(OSError, match=r"run has room for 0.1 MB and a checkpoint takes 0.1 MB: make room"):
        run(tmp_path / "run", no_step)
    assert not (tmp_path / "run").exists()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1_000_000))
    trained = run(tmp_path / "run")
    written = (tmp_path / "run" / "state.safetensors").stat().st_size
    asked = resume._bytes(trained, make_optimizers(trained, SETTINGS), 9)
    assert written <= asked <= written + 110_000
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=0))
    run(tmp_path / "run", no_step)  # it has ended: nothing is to be written but the few metrics


def test_metrics_that_a_kill_left_behind_are_mended(tmp_path):
    """Killed between the two files: the state is a step ahead of
    metrics.jsonl, and the next start writes the lines that it holds.
    """
    run(tmp_path)
    path = tmp_path / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8")
    path.write_text("".join(lines.splitlines(keepends=True)[:-2]), encoding="utf-8")
    run(tmp_path, no_step)
    assert path.read_text(encoding="utf-8") == lines


def test_a_file_is_flushed_before_it_is_renamed(tmp_path, monkeypatch):
    """Against a power cut, which no test can make: first the
    bytes reach the disk, then the name, then the folder.
    """
    done = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, real=real, name=name: done.append(name) or real(*a))
    resume.write(tmp_path / "file", lambda path: path.write_text("new", encoding="utf-8"))
    assert done == ["fsync", "replace", "fsync"] and (tmp_path / "file").read_text(encoding="utf-8") == "new"


def test_how_the_work_is_done_may_change_between_runs(tmp_path, unbroken):
    """pieces is no setting: a run stopped with 1 piece goes on
    with 3, and ends where it would have, to rounding. A rate is one.
    """
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "broken", drawn_from_a_global_generator(5))
    resumed = run(tmp_path / "broken", pieces=3)
    assert torch.allclose(weights(resumed), unbroken(careless)[0], atol=2e-3)
    with pytest.raises(ValueError, match="other settings"):
        run(tmp_path / "broken", settings=Settings(9, lr=0.02, muon_lr=0.01, save_every=2))
