"""Stands where mark() and its sandbox will be, with their signatures: a plain subprocess, no isolation."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import time
from dataclasses import dataclass

from .. import CHAPTERS

RUN = """
import json, sys
from grader.outside import CHAPTERS, notebook
from grader.outside.judge import plan, judge
job = json.loads(sys.stdin.read())
check = next(c for c in CHAPTERS[job["chapter"]] if c.name == job["name"])
space = {}
out = sys.stdout
sys.stdout = sys.stderr
try:
    exec(compile(job["imports"], "imports", "exec"), space)
    exec(compile(job["source"], job["name"], "exec"), space)
    function = space[check.function]
except BaseException as error:
    out.write(json.dumps({"reason": "crashed", "text": repr(error), "held": [False] * len(check.cases)}))
    sys.exit(0)
trials = plan(check, job["seed"])
v = judge(check, trials, notebook.ask(check, trials, function, job["seed"]))
out.write(json.dumps({"reason": v.reason, "text": v.text, "held": v.held}))
"""


class Broken(Exception):
    pass


@dataclass(frozen=True)
class Isolation:
    kind: str
    missing: tuple = ()
    holds: tuple = ()


@dataclass(frozen=True)
class Submission:
    path: object
    cells: dict
    warnings: tuple = ()


@dataclass(frozen=True)
class Mark:
    exercise: str
    points: float
    reason: str
    text: str
    held: tuple
    flags: tuple
    seed: int
    seconds: float


def available():
    return Isolation("none", ("bubblewrap is not looked for yet",))


def read(path):
    try:
        notebook = json.loads(open(path, "rb").read())
        sources = ["".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "code"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise Broken(f"it is no notebook that can be read ({type(error).__name__})") from None
    cells = {m[1]: s for s in sources if (m := re.match(r"# exercise: (\S+)", s))}
    return Submission(path, cells, ())


def seed_of(master_seed, submission_id):
    text = f"{master_seed}:{submission_id}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.sha256(text).digest()[:6], "big")


def mark(submission, chapter, seed, isolation, timeout=None, only=None):
    marks = []
    for check in CHAPTERS[chapter]:
        if only and check.name not in only:
            continue
        none = (False,) * len(check.cases)
        if check.name not in submission.cells:
            marks.append(Mark(check.name, 0.0, "not there", f"{check.name}: no cell of that name.", none, (), seed, 0.0))
            continue
        job = {"chapter": chapter, "name": check.name, "source": submission.cells[check.name], "seed": seed,
               "imports": "import torch\nfrom minillm.batch import batch_pairs\nfrom grader import check, hint, status"}
        begun = time.time()
        try:
            done = subprocess.run([sys.executable, "-c", RUN], input=json.dumps(job), capture_output=True, text=True,
                                  timeout=timeout or 60)
            said = json.loads(done.stdout)
        except (subprocess.TimeoutExpired, ValueError) as error:
            said = {"reason": "crashed", "text": type(error).__name__, "held": none}
        held = tuple(said["held"])
        points = sum(held) / len(held) if held[0] else 0.0
        marks.append(Mark(check.name, points, said["reason"], said["text"], held, (), seed, time.time() - begun))
    return marks
