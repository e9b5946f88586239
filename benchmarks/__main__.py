"""The command `python -m benchmarks`: reads its arguments, runs the parts, keeps the table. It leaves out what a part measures."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import torch
from tqdm.auto import tqdm

from . import process, shakespeare, speed
from .pairs import Results, describe_machine, table, write

HERE = Path(__file__).parent
PARTS = {"training": speed.training, "generation": speed.generation, "context": speed.context, "memory": process.memory,
         "imports": process.imports, "shakespeare": None}


def main(argv: list[str] | None = None) -> int:
    """The command. Returns 0; 2 for input that cannot be used; 130 after Ctrl-C, with the finished rows kept."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Speed beside peers, in pairs timed in turn; one table.")
    parser.add_argument("--only", choices=list(PARTS), action="append", metavar="NAME", help=f"run one part: {', '.join(PARTS)}; may be given again")
    parser.add_argument("--repeats", type=int, default=5, help="pairs a row (default 5; shakespeare: a seed a pair, 3)")
    parser.add_argument("--text", type=Path, metavar="FILE", help="tinyshakespeare, for the row of that name; nothing is downloaded")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help=f"threads of PyTorch (default {torch.get_num_threads()})")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="where results go (default benchmarks/results; with --only build/bench)")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    args = parser.parse_args(argv)
    for name in ("repeats", "threads"):
        if getattr(args, name) < 1:
            parser.error(f"--{name} is {getattr(args, name)}: give 1 or more")
    if args.text is not None:
        try:
            shakespeare.read(args.text)  # now, not after ten minutes
        except (OSError, ValueError) as error:
            parser.error(f"--text: {error}")
    folder = args.out or (HERE.parent / "build" / "bench" if args.only else HERE / "results")
    torch.set_num_threads(args.threads)
    os.environ["OMP_NUM_THREADS"] = str(args.threads)  # for the processes that are started from here
    results, code = Results(describe_machine(args.threads)), 0
    names = [name for name in PARTS if not args.only or name in args.only]
    for name in names:
        with tqdm(desc=name, unit="run", disable=args.quiet, file=sys.stderr) as bar:
            try:
                if name == "shakespeare":
                    shakespeare.shakespeare(results, args.text, bar.update)
                else:
                    PARTS[name](results, args.repeats, bar.update)
            except ImportError as error:
                results.missing.append(f"{name}: {error}")
            except subprocess.CalledProcessError as error:  # 6 GB of memory are needed
                results.missing.append(f"{name}: a process ended with {error.returncode}: {(error.stderr.strip().splitlines() or ['killed?'])[-1]}")
            except KeyboardInterrupt:
                results.missing.append(f"{name}, and what comes after it: stopped by the keyboard")
                code = 130
        write(results, folder)  # after each part: what is finished stays
        if results.curves:
            speed.draw_curves(results, folder)
        if code:
            break
    print(table(results))
    print(f"Kept in {folder}")
    return code


if __name__ == "__main__":
    sys.exit(main())
