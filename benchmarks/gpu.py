"""What a card makes of the package, in ten minutes: `python -m benchmarks.gpu`, or `make bench SCALE=gpu`.

Training's share of what the card can multiply, decoding's share of what its memory can move, a step of GRPO
beside trl, and the main job at SCALE=gpu. What the card can do is measured here, by one large product and one
large copy: a data sheet promises more. --small runs all of it on a small model, on a CPU too, to see that it
runs.

MFU counts 6 FLOP for each weight and token and 12·L·D·T for attention (Chowdhery et al. 2022, appendix B), of
which the causal mask leaves half undone.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from tqdm.auto import tqdm

from minillm.batch import batch_windows
from minillm.methods import grpo, supervised
from minillm.sample import sample
from minillm.train import Settings, train
from minillm.transformer import Config, Transformer

from . import peers
from .methods import NEW, PROMPT, odd
from .pairs import Results, Row, describe_machine, in_turn, line, seconds, write
from .process import ROOT

GPT2 = Config(vocab_size=50_304, d_model=768, n_layers=12, n_heads=12, n_kv_heads=12, d_ff=2048, context=1024)
SMALL = Config(vocab_size=512, context=128)


def wait(device: torch.device) -> None:
    """Until the card has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def product_of(device: torch.device, n: int, dtype: torch.dtype) -> Callable[[], float]:
    """() -> GFLOP/s of one product of two matrices n × n, the best of ten."""
    a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))

    def run() -> float:
        best = min(seconds(lambda: (a @ b, wait(device))) for _ in range(10))
        return 2 * n**3 / best / 1e9
    return run


def copy_of(device: torch.device, size: int) -> Callable[[], float]:
    """() -> GB/s of copying `size` bytes, each read once and written once, the best of ten."""
    a = torch.zeros(size, dtype=torch.uint8, device=device)
    b = torch.empty_like(a)

    def run() -> float:
        return 2 * size / 1e9 / min(seconds(lambda: (b.copy_(a), wait(device))) for _ in range(10))
    return run


def training(config: Config, device: torch.device, rows: int, steps: int,
             compile: bool) -> Callable[[], float]:
    """() -> GFLOP/s of training in bf16, the first two steps not counted."""
    model = Transformer(config).to(device)
    N, T = model.count_parameters(), config.context
    flops = (6 * N + 12 * config.n_layers * config.d_model * T) * rows * (T - 1)
    ids = torch.randint(config.vocab_size, (20 * T,), generator=torch.Generator().manual_seed(0))

    def run() -> float:
        generator = torch.Generator().manual_seed(0)
        done = train(model, lambda step: batch_windows(ids, rows, T, generator), supervised.coefficient,
                     Settings(steps, lr=1e-4, muon_lr=0), progress=False, bf16=True, compile=compile)
        return flops / 1e9 * (steps - 2) / (done[-1]["seconds"] - done[1]["seconds"])
    return run


def decoding(config: Config, device: torch.device, rows: int, new: int) -> Callable[[], float]:
    """() -> GB/s that writing one token a row must read: all weights once, and each row's keys and
    values."""
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    model = Transformer(config).to(device, dtype)
    prompts = torch.randint(1, config.vocab_size, (rows, 32)).tolist()
    size = torch.empty((), dtype=dtype).element_size()
    per_place = 2 * config.n_layers * config.n_kv_heads * config.d_head * rows
    moved = size * (model.count_parameters() + per_place * (32 + new / 2))

    def spent(count: int) -> float:
        return seconds(lambda: (sample(model, prompts, count, end=None, temperature=0), wait(device)))

    def run() -> float:
        return moved / 1e9 * new / (spent(new + 1) - spent(1))
    return run


def grpo_step(config: Config, device: torch.device, prompts: list[list[int]], n: int,
              steps: int) -> Callable[[], float]:
    """() -> steps of GRPO a second, one step a draw, bf16."""
    model = Transformer(config).to(device)
    generator = torch.Generator(device).manual_seed(0)

    def draw(step: int):
        return grpo.draw(model, prompts, odd, NEW, n=n, end=None, generator=generator)

    def run() -> float:
        done = train(model, draw, grpo.coefficient, Settings(1 + steps, lr=1e-5, muon_lr=0), progress=False,
                     bf16=True)
        return steps / (done[-1]["seconds"] - done[0]["seconds"])
    return run


def journey(small: bool) -> float:
    """Seconds of the main job, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "minillm.journey", "--quiet", "--out", folder]
        command += ["--steps", "2"] if small else ["--scale", "gpu"]
        return seconds(lambda: subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL))


def main(argv: list[str] | None = None) -> int:
    """The command. Returns 0; 2 for a machine without a card, unless --small."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.split("\n")[0])
    parser.add_argument("--small", action="store_true",
                        help="a small model, on the CPU where there is no card")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each side of a row (default 3)")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="where results go (default benchmarks/results/gpu; with --small build/bench/gpu)",
    )
    args = parser.parse_args(argv)
    if args.repeats < 1:
        parser.error(f"--repeats is {args.repeats}: give 1 or more")
    if not (torch.cuda.is_available() or args.small):
        parser.error("no CUDA card is here: --small runs the same on the CPU, on a small model")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    folder = args.out or (
        ROOT / "build" / "bench" / "gpu" if args.small else Path(__file__).parent / "results" / "gpu"
    )
    config, rows, steps, n, size = (SMALL, 4, 6, 256, 2**24) if args.small else (GPT2, 16, 22, 8192, 2**31)
    machine = describe_machine(torch.get_num_threads())
    if device.type == "cuda":
        machine["card"] = torch.cuda.get_device_name()
    results = Results(machine)
    begun, name = (
        time.perf_counter(),
        f"{Transformer(config, seed=None).count_parameters() / 1e6:.0f} M parameters",
    )

    def add(row: Row) -> None:
        results.rows.append(row)
        write(results, folder)
        print(line(row), flush=True)

    with tqdm(desc="card", unit="run", file=sys.stderr) as bar:
        peak = product_of(device, n, torch.bfloat16)
        for compile in (False, True):
            sides = {"ours": training(config, device, rows, steps, compile), "theirs": peak}
            found = in_turn(sides, args.repeats, bar.update)
            kind = "compiled" if compile else "as it stands"
            add(Row("mfu", f"training, {name}, bf16, {kind}", "GFLOP/s", found["ours"], found["theirs"],
                    (f"train, {rows} × {config.context} tokens a step, AdamW, compile={compile}",
                     f"one product of matrices {n} × {n} in bf16"), 0.4))
        for batch in (1, 64):
            sides = {"ours": decoding(config, device, batch, 64), "theirs": copy_of(device, size)}
            found = in_turn(sides, args.repeats, bar.update)
            add(
                Row(
                    "decode",
                    f"decoding, {name}, batch {batch}",
                    "GB/s",
                    found["ours"],
                    found["theirs"],
                    (
                        "sample, greedy, weights and cache in bf16 on a card",
                        f"a copy of {size / 2**20:.0f} MiB",
                    ),
                    0.5,
                )
            )
        small = Config(d_model=384, n_layers=6, n_heads=6, n_kv_heads=2, d_ff=1024)
        shape = Config() if args.small else small
        prompts = torch.randint(1, 512, (8, PROMPT), generator=torch.Generator().manual_seed(0)).tolist()
        ours = grpo_step(shape, device, prompts, 8, 2 if args.small else 8)
        try:
            trainer = peers.grpo(Transformer(shape), prompts, 8, NEW, 3 if args.small else 9, True, 1e-5,
                                 None)
            timed = peers.timed(trainer)
            found = in_turn({"ours": ours, "theirs": lambda: 1 / timed()}, args.repeats, bar.update)
            add(Row("grpo", "GRPO step, bf16", "steps/s", found["ours"], found["theirs"],
                    ("grpo.draw and train, 8 prompts × 8 answers × (32 + 32) tokens",
                     f"trl {peers.version_of('trl')}, GRPOTrainer, the same"), 1.4))
        except ImportError as error:
            alone = in_turn({"ours": ours}, args.repeats, bar.update)["ours"]
            results.missing.append(
                f"GRPO beside trl: {error}. Alone: {sorted(alone)[len(alone) // 2]:.3g} steps/s"
            )
        took = journey(args.small)
        bar.update()
        add(
            Row(
                "journey",
                "the main job, SCALE=gpu" if not args.small else "the main job, cut short",
                "s",
                [took],
                [240.0],
                ("python -m minillm.journey", "four minutes"),
                1.0,
                at_least=False,
            )
        )
    minutes = (time.perf_counter() - begun) / 60
    print(f"All of it took {minutes:.1f} minutes; it is kept in {os.path.relpath(folder)}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
