"""Compares what the committed notebooks print with what they printed at another commit, times apart."""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from difflib import SequenceMatcher
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NUMBER = r"\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?"
UNIT = r"(?:s|ms|µs|min|minutes?|hours?|(?:milli)?seconds?)\b"
TIMED = re.compile(r"milliseconds|seconds\b|per second|/s\b|it/s|s/it|by the clock")  # a table of times, a rate


def masked(text: str) -> str:
    """The text without its times and addresses: "17 ms, loss 2.5" -> "# ms, loss 2.5"."""
    text = re.sub(r"0x[0-9a-f]{6,}", "#", text)
    if TIMED.search(text):
        return re.sub(r"\s*#\s*", " # ", re.sub(NUMBER, "#", text))  # columns are as wide as their numbers
    return re.sub(rf"\s*{NUMBER}(\s?{UNIT})", r" #\1", text)


def prints(notebook: str) -> list[tuple[str, str]]:
    """(name of the cell, its text) of each cell of code that printed something: streams, and text/plain of what it shows."""
    said = []
    for number, cell in enumerate(json.loads(notebook)["cells"]):
        texts = [out.get("text") or out.get("data", {}).get("text/plain", "") for out in cell.get("outputs", [])]
        text = "".join("".join(part) for part in texts)
        if text:
            said.append((f"cell {number}", text))
    return said


def compare(old: list[tuple[str, str]], new: list[tuple[str, str]], label: str) -> tuple[int, int]:
    """Print what differs; (equal, differing). Cells are paired by what they print, so one more or one less moves no other."""
    before, after = ([masked(text) for _, text in side] for side in (old, new))
    equal = differing = 0
    for what, i, j, k, m in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if what == "equal":
            equal += j - i
            continue
        for n in range(max(j - i, m - k)):
            was, now = (side[start + n] if start + n < end else ("no cell", "") for side, start, end in ((old, i, j), (new, k, m)))
            lines = [masked(text).splitlines() for text in (was[1], now[1])]
            changed = [(a, b) for a, b in zip(*[side + [""] * (max(map(len, lines)) - len(side)) for side in lines]) if a != b]
            print(f"{label}: {was[0]} then, {now[0]} now", *(f"  - {a}\n  + {b}" for a, b in changed), sep="\n")
            differing += 1
    return equal, differing


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("commit", help="what is compared with: a commit, a branch, HEAD~1")
    parser.add_argument("notebook", nargs="*", help="only these: chapters/01_one_gradient.ipynb; all, if none is named")
    args = parser.parse_args(argv)
    found = sorted(path for folder in ("chapters", "solutions") for path in (ROOT / folder).glob("*.ipynb"))
    totals = [0, 0]
    for path in [Path(name).resolve() for name in args.notebook] or found:
        name = path.relative_to(ROOT).as_posix()
        old = subprocess.run(["git", "show", f"{args.commit}:{name}"], cwd=ROOT, capture_output=True, encoding="utf-8")
        if old.returncode:
            print(f"{name}: {old.stderr.strip()}")
            totals[1] += 1
            continue
        counts = compare(prints(old.stdout), prints(path.read_text(encoding="utf-8")), name)
        print(f"{name}: {counts[0]} equal, {counts[1]} differ")
        totals = [total + count for total, count in zip(totals, counts)]
    print(f"{sum(totals)} cells compared, {totals[0]} equal, {totals[1]} differ")
    return 1 if totals[1] else 0


if __name__ == "__main__":
    sys.exit(main())
