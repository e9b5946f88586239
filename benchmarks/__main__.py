"""The command `python -m benchmarks`: reads its arguments, runs the parts, keeps the table."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import torch
from tqdm.auto import tqdm

from . import adapters, methods, process, shakespeare, speed
from .pairs import Results, describe_machine, line, table, write

HERE = Path(__file__).parent
PARTS = {"training": speed.training,
         "generation": speed.generation,
         "context": speed.context,
         "tree": speed.tree_of_thoughts,
         "memory": process.memory,
         "imports": process.imports,
         "grpo-4x128": partial(methods.grpo_row, "4 × 128", False, 1.4),
         "grpo-4x128-bf16": partial(methods.grpo_row, "4 × 128", True, 1.8),
         "grpo-6x384": partial(methods.grpo_row, "6 × 384", False, 1.4),
         "grpo-6x384-bf16": partial(methods.grpo_row, "6 × 384", True, 1.8),
         "ppo": methods.ppo_rows,
         "dpo-4x128": partial(methods.dpo_row, "4 × 128", 1.5),
         "dpo-6x384": partial(methods.dpo_row, "6 × 384", 1.0),
         "lora-4x128": partial(adapters.lora_row, "4 × 128"),
         "lora-6x384": partial(adapters.lora_row, "6 × 384"),
         "lora-memory": adapters.lora_memory,
         "start": adapters.start,
         "shakespeare": None}


def main(argv: list[str] | None = None) -> int:
    """The command.

    Returns 0; 2 for input that cannot be used; 130 after Ctrl-C, with the finished rows kept.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks",
                                     description="Speed beside peers, in pairs timed in turn; one table.")
    parser.add_argument("--only", action="append", metavar="NAME",
                        help=f"run the parts that begin so: {', '.join(PARTS)}; may be given again")
    parser.add_argument("--repeats", type=int, default=5,
                        help="pairs a row (default 5; shakespeare: a seed a pair, 3)")
    parser.add_argument("--text", type=Path, metavar="FILE",
                        help="tinyshakespeare, for the row of that name; nothing is downloaded")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(),
                        help=f"threads of PyTorch (default {torch.get_num_threads()})")
    parser.add_argument("--out", type=Path, metavar="FOLDER",
                        help="where results go (default benchmarks/results; with --only build/bench)")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    args = parser.parse_args(argv)
    for name in ("repeats", "threads"):
        if getattr(args, name) < 1:
            parser.error(f"--{name} is {getattr(args, name)}: give 1 or more")
    for start in args.only or []:
        if not start or not any(name.startswith(start) for name in PARTS):
            parser.error(f"--only is {start!r}, with which no part begins: give some of {', '.join(PARTS)}")
    if args.text is not None:
        try:
            shakespeare.read(args.text)  # now, not after ten minutes
        except (OSError, ValueError) as error:
            parser.error(f"--text: {error}")
    folder = args.out or (HERE.parent / "build" / "bench" if args.only else HERE / "results")
    torch.set_num_threads(args.threads)
    os.environ["OMP_NUM_THREADS"] = str(args.threads)  # for the processes that are started from here
    results, code = Results(describe_machine(args.threads)), 0
    names = [name for name in PARTS if not args.only or any(name.startswith(start) for start in args.only)]
    for name in names:
        before = len(results.rows)
        with tqdm(desc=name, unit="run", disable=args.quiet, file=sys.stderr) as bar:
            try:
                if name == "shakespeare":
                    shakespeare.shakespeare(results, args.text, bar.update)
                else:
                    PARTS[name](results, args.repeats, bar.update)
            except ImportError as error:
                results.missing.append(f"{name}: {error}")
            except subprocess.CalledProcessError as error:  # 6 GB of memory are needed
                last = (error.stderr.strip().splitlines() or ["killed?"])[-1]
                results.missing.append(f"{name}: a process ended with {error.returncode}: {last}")
            except KeyboardInterrupt:
                results.missing.append(f"{name}, and what comes after it: stopped by the keyboard")
                code = 130
        write(results, folder)  # after each part: what is finished stays
        for row in results.rows[before:]:
            print(line(row), flush=True)
        if results.curves:
            speed.draw_curves(results, folder)
        if code:
            break
    print(table(results))
    print(f"Kept in {folder}")
    return code


if __name__ == "__main__":
    sys.exit(main())
