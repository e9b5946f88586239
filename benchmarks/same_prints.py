"""Compares what the notebooks print with what they printed at another commit, times apart."""

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
UNIT = r"(?:ms|µs|s|min|minutes?|(?:milli)?seconds?)\b"
TIMED = r"(?<!\d )\b(?:milli)?seconds\b|per second|/s\b|s/it|by the clock"  # heads a table of times or rates


def masked(text: str) -> str:
    """The text without its times: "2.5 nats, 17 ms" -> "2.5 nats, # ms". A table of times keeps no number."""
    if re.search(TIMED, text):
        return re.sub(r" *# *", " # ", re.sub(NUMBER, "#", text))  # columns are as wide as their numbers
    return re.sub(rf" *{NUMBER}( ?{UNIT})", r" #\1", text)


def prints(notebook: str) -> list[tuple[str, str]]:
    """(name, text) of each cell that printed something: its streams, and text/plain of what it shows."""
    said = []
    for number, cell in enumerate(json.loads(notebook)["cells"]):
        outs = cell.get("outputs", [])
        parts = [out.get("text") or out.get("data", {}).get("text/plain", "") for out in outs]
        text = masked("".join("".join(part) for part in parts))
        said += [(f"cell {number}", text)] if text else []
    return said


def compare(old: list[tuple[str, str]], new: list[tuple[str, str]], label: str) -> tuple[int, int]:
    """Prints what differs; (equal, differing). Cells are matched by their text: a new one moves no other."""
    equal = differing = 0
    cells = SequenceMatcher(None, [text for _, text in old], [text for _, text in new], autojunk=False)
    for what, i, j, k, m in cells.get_opcodes():
        equal += j - i if what == "equal" else 0
        for n in range(max(j - i, m - k) if what != "equal" else 0):
            was = old[i + n] if i + n < j else ("no cell", "")
            now = new[k + n] if k + n < m else ("no cell", "")
            print(f"{label}: {was[0]} then, {now[0]} now")
            lines = was[1].splitlines(), now[1].splitlines()
            for change, a, b, c, d in SequenceMatcher(None, *lines, autojunk=False).get_opcodes():
                if change != "equal":
                    gone = [f"  - {line}" for line in lines[0][a:b]]
                    print("\n".join(gone + [f"  + {line}" for line in lines[1][c:d]]))
            differing += 1
    return equal, differing


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("commit", help="what is compared with: a commit, a branch, HEAD~1")
    parser.add_argument("notebook", nargs="*", help="chapters/01_one_gradient.ipynb …; all, if none is named")
    args = parser.parse_args(argv)
    totals = [0, 0]
    found = sorted(ROOT.glob("chapters/*.ipynb")) + sorted(ROOT.glob("solutions/*.ipynb"))
    for path in map(Path, args.notebook or found):
        name = path.resolve().relative_to(ROOT).as_posix()
        show = ["git", "show", f"{args.commit}:{name}"]
        old = subprocess.run(show, cwd=ROOT, capture_output=True, encoding="utf-8")
        if old.returncode:
            parser.error(old.stderr.strip())
        counts = compare(prints(old.stdout), prints(path.read_text(encoding="utf-8")), name)
        print(f"{name}: {counts[0]} equal, {counts[1]} differ")
        totals = [total + count for total, count in zip(totals, counts)]
    print(f"{sum(totals)} cells compared: {totals[0]} equal, {totals[1]} differ")
    return 1 if totals[1] else 0


if __name__ == "__main__":
    sys.exit(main())
