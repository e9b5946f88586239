"""Marks honest and hostile cells as whoever runs it, and prints what came of it as JSON: test_sandbox.py."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[3])]

import ideas  # noqa: E402
from classroom import EXERCISES, FUNCTIONS, HONEST, ISOLATION, marked  # noqa: E402
from grader.outside import mark as marking  # noqa: E402

TRIED = ("the process above killed", "everybody killed", "a fork bomb", "memory of the process above",
         "lines of other exercises", "network by every family", "calls that are refused", "more rights",
         "the process above traced", "other processes read", "the course sought from where it is",
         "secrets of the system", "written outside", "a full disk", "someone left behind", "sleep")


def main() -> None:
    """Say which isolation holds, then one mark for each of TRIED, four in a submission."""
    marking.STILL = 1.5
    told = {"kind": ISOLATION.kind, "missing": ISOLATION.missing, "uid": os.getuid()}
    told |= {"marks": {}, "honest": []}
    if ISOLATION.kind != "none":
        told["honest"] += [m.points for m in marked(HONEST).values()]
        for first in range(0, len(TRIED), 4):
            group = dict(zip(EXERCISES, TRIED[first:first + 4]))
            sources = {place: ideas.START + ideas.IN_CELLS[name].replace("FUNCTION", FUNCTIONS[place])
                       for place, name in group.items()}
            found = marked(HONEST | sources, str(first), 1.0)
            told["marks"] |= {name: (found[place].points, found[place].text) for place, name in group.items()}
            told["honest"].append(found[EXERCISES[4]].points)
        marking.finish()
    print(json.dumps(told))


if __name__ == "__main__":
    main()
