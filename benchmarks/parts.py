"""The command of a chapter's long runs: parts for seeds, each kept as soon as it is done."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from tqdm import tqdm


def command(doc: str, results: Path, seeds: Sequence[int],
            parts: Mapping[str, Callable[[int], dict]]) -> argparse.ArgumentParser:
    """--seeds, --parts, --again and --out. doc: the script's own text, for --help."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", nargs="+", type=int, default=seeds)
    parser.add_argument("--parts", nargs="+", choices=parts, default=parts)
    parser.add_argument("--again", action="store_true", help="also what is kept already")
    parser.add_argument("--out", type=Path, default=results)
    return parser


def run_missing(chosen: argparse.Namespace, parts: Mapping[str, Callable[[int], dict]],
                settings: Mapping) -> None:
    """Run what is missing, with one thread. A part is a function of the seed.

    In chosen.out: {"settings": …, "seeds": {"20": {a part's name: what it gave}}}.
    """
    torch.set_num_threads(1)
    kept = json.loads(chosen.out.read_text(encoding="utf-8")) if chosen.out.exists() else {}
    kept["settings"] = {**settings, "torch": torch.__version__}
    for seed in tqdm(chosen.seeds, desc="seeds"):
        for part in tqdm(chosen.parts, desc=f"seed {seed}", leave=False):
            done = kept.setdefault("seeds", {}).setdefault(str(seed), {})
            if part not in done or chosen.again:
                done[part] = parts[part](seed)
                chosen.out.write_text(json.dumps(kept) + "\n", encoding="utf-8")
