"""What test_resume runs: training in forked processes that are killed by SIGKILL, then gone on with.

They are killed at random and in the middle of writes.

python killed.py FOLDER DEFECT...: FOLDER/unbroken is a run that nobody stopped; then for each defect ("none",
or one that the test must see) FOLDER/DEFECT/0 is one that was killed again and again and, where it ended
before it was killed often enough, FOLDER/DEFECT/1 the next. Prints JSON, by defect: kills, how many of them
in the middle of a write, for each run the steps that survived each, and how the last run ended. One process
imports torch; every run is a fork of it.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
import time
from pathlib import Path

import torch
from safetensors.torch import save
from tqdm import tqdm

from conftest import Tiny
from minillm.engine import resume
from minillm.batch import batch_pairs
from minillm.train import Settings, train

STEPS, KILLS = 40, 24
SETTINGS = Settings(STEPS, lr=0.01, muon_lr=0.01, save_every=1)


def careless(step):
    """A batch that is not seeded by the step: PyTorch's and Python's global generators make it.

    Their state must be kept, too.
    """
    return batch_pairs(
        [([1, 2], torch.randint(1, 40, (random.randint(2, 6),)).tolist() + [0]) for _ in range(4)]
    )


def coefficient(batch, logp):
    """F from the global generator as well, half of them by way of a normal (Python keeps every second one).
    """
    return torch.rand(len(logp)) + abs(random.gauss(0, 1))


def model():
    """1.3 MB of weights, 4 MB of state: a checkpoint takes about as long as a step."""
    return Tiny(0, torch.float32, vocab_size=40, d_model=128, n_layers=2, d_ff=352, context=16)


def in_place(path, fill):
    """Defect: the file itself is written, piece by piece, as `torch.save(state, path)` would."""
    copy, marker = path.parent / "copy", path.parent / resume.UNFINISHED
    fill(copy)
    marker.mkdir(exist_ok=True)  # for `kill` to see
    with open(path, "wb") as file:
        for i in range(0, copy.stat().st_size, 1 << 16):
            file.write(copy.read_bytes()[i:i + (1 << 16)])
            file.flush()
            time.sleep(0.0003)
    marker.rmdir()


def no_optimiser(tensors, path, metadata):
    """Defect: only weights and generators are kept."""
    path.write_bytes(
        save({name: t for name, t in tensors.items() if not name.startswith("optimizer")}, metadata)
    )


def plant(name):
    """Break this process's `resume`."""
    if name == "in place":
        resume.write = in_place
    elif name == "no optimiser":
        resume.save_file = no_optimiser
    elif name == "no generators":
        resume._restore = lambda *state: None


def child(folder, defect="none"):
    """Fork a run. 0 at its end, 3 where it raised."""
    pid = os.fork()
    if pid == 0:
        code = 3
        try:
            plant(defect)
            torch.manual_seed(7)
            random.seed(7)
            train(model(), careless, coefficient, SETTINGS, progress=False, folder=folder)
            code = 0
        except Exception as error:
            (folder / "error").write_text(f"{type(error).__name__}: {error}", encoding="utf-8")
        finally:
            os._exit(code)
    return pid


def kill(pid, folder, chance):
    """SIGKILL after a random while or, two times in three, when a
    new file is seen half-way. (killed, in the middle of a write).
    """
    if chance.random() < 1 / 3:
        time.sleep(chance.uniform(0, 0.08))
    else:
        skip, before, deadline = chance.randrange(5), False, time.monotonic() + 3
        while time.monotonic() < deadline:
            inside = (folder / resume.UNFINISHED).exists()
            skip -= inside and not before  # let some writes pass, so that the run gets on
            if skip < 0 or os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                break
            before = inside
            time.sleep(0.0002)
        time.sleep(chance.uniform(0, 0.003))
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    return os.WIFSIGNALED(status), (folder / resume.UNFINISHED).exists()


def steps_kept(folder):
    """How many steps the state holds; 0 without one."""
    try:
        with resume.safe_open(folder / "state.safetensors", "pt") as file:
            return int(file.metadata()["steps"])
    except (FileNotFoundError, resume.SafetensorError):
        return 0


def kill_again_and_again(folder, defect, kills):
    """Kill so many times, let what was killed last end, and report.

    A run that has ended is followed by another.
    """
    chance = random.Random(0)
    report = {"kills": 0, "middle": 0, "kept": [], "code": 0, "error": ""}
    while report["kills"] < kills and report["code"] == 0:
        place, kept = folder / str(len(report["kept"])), []
        place.mkdir(parents=True)
        report["kept"].append(kept)
        while report["kills"] < kills and not (place / "error").exists() and (not kept or kept[-1] < STEPS):
            died, half = kill(child(place, defect), place, chance)
            report["kills"] += died
            report["middle"] += half
            kept.append(steps_kept(place))
        _, status = os.waitpid(child(place, defect), 0)
        report["code"] = os.waitstatus_to_exitcode(status)
        if (place / "error").exists():
            report["error"] = (place / "error").read_text(encoding="utf-8")
    return report


def main(folder, *defects):
    """Unbroken, then killed for each defect."""
    torch.set_num_threads(1)
    # tqdm's own lock is one for all forks: a run that is killed while it holds it would stop the others for
    # ever.
    tqdm.monitor_interval = 0
    tqdm.set_lock(threading.RLock())
    folder = Path(folder)
    (folder / "unbroken").mkdir()
    # What PyTorch imports when it is first used, once for all forks.
    train(model(), careless, coefficient, Settings(1), progress=False)
    os.waitpid(child(folder / "unbroken"), 0)
    kills = {defect: KILLS if defect == "none" else KILLS // 3 for defect in defects}
    print(
        json.dumps(
            {defect: kill_again_and_again(folder / defect, defect, kills[defect]) for defect in defects}
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
