"""LoRA's step and its peak memory beside peft's; the time from `python` to a first step of DPO beside trl's.

Each of these is also one measurement in a fresh process: `python -m benchmarks.adapters memory
minillm|peft` prints bytes as JSON; `python -m benchmarks.adapters start minillm|trl FOLDER` ends after
one step of DPO on the model and the tokenizer in FOLDER.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from .pairs import Results, Row, in_turn
from .process import ROOT, child, peak

RANK, SCALE = 8, 2.0
ROWS, LENGTH = 8, 256
PAIRS = [("What is seven and five?", " Twelve.", " I do not know."),
         ("Who is the mayor?", " It is in the book of the town.", " Nobody."),
         ("Where does she live?", " In the street behind the mill.", " She is a baker."),
         ("What does he eat?", " Soup, every day.", " Twelve.")] * 2


def our_step(model, steps: int) -> Callable[[], float]:
    """() -> seconds a step of LoRA by the package's own loop, F = 1 on all tokens."""
    import torch

    from minillm.batch import batch_windows
    from minillm.adapt.lora import add_lora
    from minillm.methods.supervised import coefficient

    from .methods import steps_of
    from .speed import random_ids
    ids, generator = random_ids(1, 100_000)[0], torch.Generator().manual_seed(0)
    return steps_of(add_lora(model, RANK, SCALE), lambda step: batch_windows(ids, ROWS, LENGTH, generator),
                    coefficient, steps)


def their_step(model, steps: int) -> Callable[[], float]:
    """The same steps in a plain loop around peft's model."""
    import torch

    from minillm.batch import batch_windows

    from . import peers
    from .methods import LR
    from .pairs import seconds
    from .speed import random_ids
    theirs, ids = peers.lora(model, RANK, SCALE).train(), random_ids(1, 100_000)[0]
    generator = torch.Generator().manual_seed(0)
    learned = [p for p in theirs.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=LR, betas=(0.9, 0.95), weight_decay=0.0)

    def work():
        for _ in range(steps):
            tokens = batch_windows(ids, ROWS, LENGTH, generator).tokens
            theirs(input_ids=tokens, labels=tokens, use_cache=False).loss.backward()
            torch.nn.utils.clip_grad_norm_(learned, 1.0)
            optimizer.step()
            optimizer.zero_grad()
    return lambda: seconds(work) / steps


def lora_row(name: str, results: Results, repeats: int, tick: Callable[[], None]) -> None:
    """Steps a second of LoRA on 8 × 256 tokens."""
    from . import peers
    from .methods import faster
    from .speed import SHAPES, policy_of
    steps = 8 if SHAPES[name].d_model < 256 else 2
    measured = in_turn({"ours": our_step(policy_of(SHAPES[name]), steps),
                        "theirs": their_step(policy_of(SHAPES[name]), steps)},
                       repeats, tick)
    conditions = f"rank {RANK} on all seven maps, {ROWS} × {LENGTH} tokens, all scored, AdamW, float32"
    results.rows.append(
        faster(Row("lora", f"LoRA step, {name}", "s", measured["ours"], measured["theirs"],
                   (f"add_lora and train, {conditions}",
                    f"peft {peers.version_of('peft')} around LlamaForCausalLM, a plain loop, {conditions}"),
                   1.0)))


def lora_bytes(side: str, shape: str) -> int:
    """Peak bytes of three steps, above what the process held when the model and the batch's makers stood."""
    import torch

    from .speed import SHAPES, policy_of
    torch.set_num_threads(1)
    run = {"minillm": our_step, "peft": their_step}[side](policy_of(SHAPES[shape]), 2)
    # The first of a process imports PyTorch's compiler: 60 MiB.
    torch.optim.AdamW([torch.zeros(1, requires_grad=True)])
    before = held()
    run()
    return peak() - before


def held() -> int:
    """Bytes that this process holds in memory now; where the system does not say, its peak so far."""
    status = Path("/proc/self/status")
    if status.exists():
        return next(int(line.split()[1]) * 1024
                    for line in status.read_text(encoding="utf-8").splitlines()
                    if line.startswith("VmRSS"))
    return peak()


def lora_memory(results: Results, repeats: int, tick: Callable[[], None]) -> None:
    """Peak memory of LoRA's step, each in a fresh process,
    with the allocator that a process has unless told otherwise."""
    from . import peers
    from .pairs import need_transformers
    if sys.platform == "win32":
        results.missing.append("lora-memory: Windows tells a process nothing that this part can read")
        return
    need_transformers()
    name = "6 × 384"

    def mebibytes(side: str) -> float:
        said = child("-m", "benchmarks.adapters", "memory", side, name)
        return json.loads(said.splitlines()[-1]) / 2**20

    sides = {side: lambda side=side: mebibytes(side) for side in ("minillm", "peft")}
    measured = in_turn(sides, min(repeats, 3), tick)
    conditions = (f"rank {RANK} on all seven maps, {ROWS} × {LENGTH} tokens, AdamW, float32, one thread, "
                  "above what stood before the first step")
    results.rows.append(
        Row("lora", f"LoRA step, {name}, peak memory", "MiB", measured["minillm"], measured["peft"],
            (f"add_lora and train, {conditions}",
             f"peft {peers.version_of('peft')}, a plain loop, {conditions}"),
            0.9, at_least=False))


def first_step(side: str, folder: str) -> None:
    """One step of DPO on eight pairs of sentences, from a folder with a model, as a script would have it."""
    if side == "minillm":
        from minillm import hub
        from minillm.methods import dpo
        from minillm.train import Settings, train
        model, tokenizer = hub.load(folder)
        pairs = [[tokenizer.encode(text) for text in pair] for pair in PAIRS]
        pairs = [(x, w + [tokenizer.end], l + [tokenizer.end]) for x, w, l in pairs]
        both = [(x, w) for x, w, _ in pairs] + [(x, l) for x, _, l in pairs]
        kept = dpo.reference_logprobs(model, both).view(2, -1).T
        train(model, lambda step: dpo.draw(pairs, kept),
              dpo.coefficient,
              Settings(1, lr=1e-5, muon_lr=0), progress=False)
        return
    from . import peers
    peers.need_trl()
    import datasets
    import torch
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast
    from trl import DPOConfig, DPOTrainer
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=f"{folder}/tokenizer.json")
    tokenizer.eos_token = tokenizer.pad_token = tokenizer.convert_ids_to_tokens(0)
    data = datasets.Dataset.from_list([dict(zip(("prompt", "chosen", "rejected"), pair)) for pair in PAIRS])
    args = DPOConfig(**peers.same(False, 1e-5), per_device_train_batch_size=len(PAIRS), max_steps=1)
    DPOTrainer(LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32), args=args, train_dataset=data,
               processing_class=tokenizer).train()


def start(results: Results, repeats: int, tick: Callable[[], None]) -> None:
    """Seconds from starting python to the end of the first step of DPO on the shipped model."""
    from minillm import hub

    from . import peers
    peers.need_trl()
    with tempfile.TemporaryDirectory() as folder:
        hub.save(*hub.load("base"), folder)

        def run(side: str) -> float:
            begun = time.time()
            done = subprocess.run([sys.executable, "-m", "benchmarks.adapters", "start", side, folder],
                                  cwd=ROOT, check=True, capture_output=True, text=True)
            # When the step had ended, before the process had.
            return float(done.stdout.splitlines()[-1]) - begun
        measured = in_turn({side: lambda side=side: run(side) for side in ("minillm", "trl")}, repeats, tick)
    sides = ("hub.load of the shipped model, 8 pairs of sentences, dpo and train, a fresh process",
             f"trl {peers.version_of('trl')}: from_pretrained of the same folder, "
             "DPOTrainer with its defaults, a fresh process")
    results.rows.append(Row("start", "from python to the first DPO step", "s", measured["minillm"],
                            measured["trl"], sides, 0.5, at_least=False))


if __name__ == "__main__":
    if sys.argv[1] == "memory":
        print(json.dumps(lora_bytes(*sys.argv[2:])))
    else:
        first_step(*sys.argv[2:])
        print(time.time())
