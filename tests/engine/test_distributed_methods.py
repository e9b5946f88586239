"""PPO (with its critic and minibatches), DPO, GRPO and the reward model on two processes against one: the
same global batches, the same weights.

`python test_distributed_methods.py FOLDER` is what torchrun starts, in two processes; it runs every case and
keeps its weights and metrics.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file

from conftest import Tiny
from minillm.engine import parallel
from minillm.adapt.lora import add_lora, reference as without_adapters
from minillm.methods import critic, dpo, grpo, ppo, reward_model
from minillm.train import Settings, train

HERE = Path(__file__).parent
SHAPE = {"vocab_size": 5, "n_layers": 2}
PROMPTS = [[1, 2], [3, 4], [4], [2, 2, 1]]
PAIRS = [
    ([1, 2], [3, 0], [4, 4, 0]),
    ([3], [1, 1, 1, 0], [2, 0]),
    ([4, 1], [0], [3, 3, 0]),
    ([2, 2], [4, 0], [1, 0]),
    ([1], [2, 3, 0], [0]),
]


def rewards(batch):
    """For each 3 in an answer one, less a fifth for each token:
    whoever sees other answers gets another reward.
    """
    answer = batch.tokens.where(batch.response_mask, 0)
    return (answer == 3).sum(1).double() - 0.2 * batch.response_mask.sum(1)


def dpo_case(model, whole):
    """`whole` is what a sharded model is drawn from within; DPO draws nothing."""
    kept = (
        dpo.reference_logprobs(
            Tiny(7, **SHAPE), [(x, w) for x, w, _ in PAIRS] + [(x, l) for x, _, l in PAIRS]
        )
        .view(2, -1)
        .T
    )

    def draw(step):
        # 6 rows: over 2 processes × 3 pieces one each, and pairs of them torn apart.
        some = [(step + i) % len(PAIRS) for i in range(3)]
        return dpo.draw([PAIRS[i] for i in some], kept[some])

    return (
        model,
        draw,
        partial(dpo.coefficient, beta=0.3),
        {},
    )


def ppo_case(model, whole, other=None):
    """8 answers, two passes in minibatches of 3, 3 and 2; value clip, KL in the reward."""
    both, other = critic.PolicyAndCritic(model), Tiny(7, **SHAPE) if other is None else other
    both.critic.double()

    def draw(step):
        g = torch.Generator().manual_seed(step)
        with whole():
            batch = ppo.draw(model, both.critic, other, PROMPTS, rewards, 4, beta=0.1, n=2, generator=g)
        yield from ppo.minibatches(batch, 3, 2, g)

    def coefficient(batch, scores):
        return {"policy": ppo.coefficient(batch, scores["policy"]),
                "critic": 0.5 * critic.coefficient(batch, scores["critic"], clip=0.2)}

    def watch(batch, scores, coefficient):
        return {"reward": float(batch.rewards.mean())}

    return both, draw, coefficient, {"score": critic.PolicyAndCritic.score, "watch": watch}


def adapters_case(model, whole):
    """PPO whose reference is the same trunk with its adapters off."""
    add_lora(model, rank=2, seed=parallel.rank())
    return ppo_case(model, whole, without_adapters(model))


def grpo_case(model, whole):
    def draw(step):
        with whole():
            return grpo.draw(
                model,
                PROMPTS,
                rewards,
                4,
                n=3,
                reference=Tiny(7, **SHAPE),
                generator=torch.Generator().manual_seed(step),
            )

    return (
        model,
        draw,
        partial(grpo.coefficient, beta=0.1),
        {},
    )


def reward_case(model, whole):
    def draw(step):
        return reward_model.draw([(x, [w, l, [step % 5, 0]]) for x, w, l in PAIRS[step % 3:step % 3 + 2]])
    return reward_model.RewardModel(model), draw, reward_model.coefficient, {"score": reward_model.score}


CASES = {
    "dpo": dpo_case,
    "ppo": ppo_case,
    "ppo with adapters": adapters_case,
    "grpo": grpo_case,
    "reward model": reward_case,
}
SHARDED = ("dpo", "grpo")  # the others put a head beside the trunk: `shard` takes a Transformer
# Sharded in pieces alone: what sharding does to a whole batch is no matter of the method.
RUNS = [(name, "data", n) for name in CASES for n in (1, 3)] + [(name, "shard", 3) for name in SHARDED]


def run(name, folder, how="none", pieces=1):
    """One run of 12 steps; process 0 keeps its weights and metrics."""
    trunk = Tiny(0 if how == "none" else parallel.rank(), **SHAPE)  # unlike until they are made alike
    if how == "shard":
        parallel.shard(trunk)
    model, draw, coefficient, scoring = CASES[name](
        trunk, (lambda: parallel.gathered(trunk)) if how == "shard" else nullcontext
    )
    rows = train(
        model,
        draw,
        coefficient,
        Settings(12, lr=0.01, muon_lr=0, warmup=0, decay=0),
        pieces=pieces,
        progress=False,
        **scoring,
    )
    weights = {key: parallel.full(p.detach()).contiguous() for key, p in model.named_parameters()}
    if parallel.rank() == 0:
        save_file(weights, folder / f"{name}, {how}, {pieces}.safetensors")
        (folder / f"{name}, {how}, {pieces}.json").write_text(
            json.dumps([{k: v for k, v in row.items() if k != "seconds"} for row in rows]), encoding="utf-8"
        )


def read(folder, name):
    return load_file(folder / f"{name}.safetensors"), json.loads(
        (folder / f"{name}.json").read_text(encoding="utf-8")
    )


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """The folder in which two processes have run every case."""
    folder = tmp_path_factory.mktemp("methods")
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(
            [str(HERE.parents[1]), str(HERE.parent), os.environ.get("PYTHONPATH", "")]
        ),
    }
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        str(Path(__file__)),
        str(folder),
    ]
    process = subprocess.Popen(
        command,
        cwd=HERE,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=240)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, output[-3000:]
    return folder


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """name -> what one process ends with, each run once."""
    folder, kept = tmp_path_factory.mktemp("alone"), {}

    def get(name):
        if name not in kept:
            run(name, folder)
            kept[name] = read(folder, f"{name}, none, 1")
        return kept[name]
    return get


@pytest.mark.parametrize("name, how, pieces", RUNS)
def test_two_processes_end_where_one_does(both, alone, name, how, pieces):
    """Twelve steps in float64: weights to 1e-12, metrics to 1e-10, and the run has moved the weights."""
    weights, rows = alone(name)
    theirs, their_rows = read(both, f"{name}, {how}, {pieces}")
    start = CASES[name](Tiny(0, **SHAPE), nullcontext)[0].state_dict()
    assert weights.keys() == theirs.keys()
    assert max(float((weights[key] - theirs[key]).abs().max()) for key in weights) < 1e-12
    assert max(float((weights[key] - start[key]).abs().max()) for key in weights) > 1e-2
    assert len(rows) == len(their_rows) == 12
    for mine, other in zip(rows, their_rows):
        assert mine == pytest.approx(other, rel=1e-10, abs=1e-10)


if __name__ == "__main__":
    torch.set_num_threads(1)
    parallel.start()
    for case in RUNS:
        run(case[0], Path(sys.argv[1]), *case[1:])
    dist.destroy_process_group()
