"""What test_distributed runs under torchrun, in two processes: many small runs in one launch, each kept as a
safetensors file.

python many_processes.py FOLDER CASE...: a case is a line of JSON (see `run`); process 0 writes
FOLDER/<name>.safetensors (the weights) and FOLDER/<name>.json (the metrics, or each process's error).
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import save_file

from conftest import Tiny
from minillm.engine import parallel
from minillm.batch import Batch
from minillm.sample import sample
from minillm.train import NonFinite, Settings, train


def draw(step, B=5, other=0):
    """B rows of 2 to 8 tokens with responses of 1 to 7, and
    rewards, from the step's number alone. `other` spoils the seed.
    """
    g = torch.Generator().manual_seed(step + 1000 * other)
    tokens = torch.randint(5, (B, 8), generator=g)
    begin = torch.randint(1, 5, (B, 1), generator=g)
    end = begin + torch.randint(1, 4, (B, 1), generator=g)
    place = torch.arange(8)
    return Batch(
        tokens=tokens,
        response_mask=(place >= begin) & (place < end),
        targets=tokens.flip(1),
        rewards=torch.randn(B, generator=g).double(),
    )


def group_coefficient(batch, logp):
    """F that compares rows and looks at log p: whoever sees a part of the batch alone gets another F."""
    answer = logp.sum(1)
    return (batch.rewards - batch.rewards.mean()) / batch.rewards.std(correction=0).clamp(min=0.1) - 0.1 * (
        answer - answer.mean()
    )


def token_coefficient(batch, logp):
    """F for each token, with log p in it."""
    return (1 + logp.exp()) * batch.response_mask


def answers(model, step):
    """Answers that the model itself draws; whole in each process while it does."""
    with parallel.gathered(model):
        batch = sample(model, [[1, 2], [3], [4, 4]], 4, n=2, generator=torch.Generator().manual_seed(step))
    first = batch.tokens[torch.arange(6), batch.response_mask.long().argmax(1)]
    batch.rewards = (first == 2).double() + torch.arange(6) % 2
    return batch


def run(
    name,
    folder,
    *,
    how="data",
    muon=False,
    pieces=1,
    B=5,
    steps=5,
    dtype="float64",
    per_token=False,
    state=None,
    stop_at=None,
    spoil=None,
    on_policy=False,
    bf16=False,
    compile=False,
    save_every=100,
    seed=0,
):
    """One run by its case. how: none (as in one process), data or shard."""
    dtype = getattr(torch, dtype)
    # Unlike until they are made alike.
    model = Tiny(seed if how == "none" else seed + parallel.rank(), dtype, vocab_size=5, n_layers=2)
    if how == "shard":
        parallel.shard(model)
    settings = Settings(
        steps,
        lr=0.01,
        muon_lr=0.02 if muon else 0,
        weight_decay=0.1,
        clip=1.0,
        save_every=save_every,
    )

    def batch(step):
        if stop_at == step and parallel.rank() == parallel.size() - 1:
            os.kill(os.getpid(), signal.SIGINT)
        if spoil == "draw" and step == 2:
            return draw(step, B, other=parallel.rank())
        found = answers(model, step) if on_policy else draw(step, B)
        if spoil == "rows" and step == 2 and parallel.rank() == 1:
            found.response_mask = found.response_mask[:-1]
            found.tokens, found.targets = found.tokens[:-1], found.targets[:-1]
        found.rewards = found.rewards.to(dtype)
        if spoil == "reward" and step == 2:
            found.rewards[-1] = torch.nan
        return found

    coefficient = token_coefficient if per_token else group_coefficient
    try:
        rows = train(
            model,
            batch,
            coefficient,
            settings,
            progress=False,
            folder=state,
            pieces=pieces,
            compile=compile,
            bf16=bf16,
        )
        result = [{k: v for k, v in row.items() if k != "seconds"} for row in rows]
    except (NonFinite, ValueError, KeyboardInterrupt) as error:
        mine = f"{type(error).__name__}: {error}"
        result = [mine] * parallel.size()
        if dist.is_initialized():
            dist.all_gather_object(result, mine)
    weights = {key: parallel.full(p.detach()).contiguous() for key, p in model.named_parameters()}
    if parallel.rank() == 0:
        save_file(weights, folder / f"{name}.safetensors")
        (folder / f"{name}.json").write_text(json.dumps(result), encoding="utf-8")


def main(arguments):
    """Every case that the command line names, one after the other."""
    torch.set_num_threads(1)
    folder = Path(arguments[0])
    parallel.start()
    for case in map(json.loads, arguments[1:]):
        run(folder=folder, **case)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1:])
