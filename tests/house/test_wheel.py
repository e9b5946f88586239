"""What is installed is what is here: the wheel, built and installed elsewhere, has all that it needs.

Both shipped models answer, and the journey begins.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "--quiet"]
ASK = """
import minillm
from minillm import hub
from minillm.sample import sample
assert minillm.__file__.startswith({place!r}), minillm.__file__
for name in ("base", "tuned"):
    model, tokenizer = hub.load(name)
    prompt = tokenizer.prompt("What is 7+8?")
    batch = sample(model, [prompt], 12, temperature=0, end=tokenizer.end)
    answer = tokenizer.read_response(batch.tokens[0][batch.response_mask[0]].tolist())
    print(name, repr(answer.text))
    assert answer.text.strip()
hub.load("player")
import runpy
import sys
sys.argv = ["journey", "--help"]
runpy.run_module("minillm.journey", run_name="__main__")  # as -m does; PyTorch is imported once for both
"""


def run(command, cwd, **settings):
    """What a command prints; a failure with all that it said."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, **settings)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder into which the wheel was installed. It is built from a copy: a build leaves things behind."""
    folder = tmp_path_factory.mktemp("wheel")
    elsewhere = ("tests", "chapters", "exercises", "solutions", "benchmarks")
    unwanted = shutil.ignore_patterns(".*", "build", "*.egg-info", "__pycache__", *elsewhere)
    shutil.copytree(ROOT, folder / "tree", ignore=unwanted)
    offline = os.environ | {"PIP_NO_INDEX": "1"}
    build = [*PIP, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder)]
    run([*build, str(folder / "tree")], folder, env=offline)
    wheel, = folder.glob("*.whl")
    run([*PIP, "install", "--no-deps", "--target", str(folder / "place"), str(wheel)], folder, env=offline)
    return folder / "place"


def in_it(installed, cwd, *arguments):
    """What a Python prints that sees what was installed and, started elsewhere with -P, not this folder."""
    env = os.environ | {"PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"}
    return run([sys.executable, "-P", *arguments], cwd, env=env)


def test_it_holds_every_file_that_the_package_reads(installed):
    """Each file under minillm/ that is no code is in it, byte for byte."""
    def kept(root):
        found = [p for p in root.rglob("*") if p.is_file() and p.suffix not in (".py", ".pyc")]
        return {p.relative_to(root): p.read_bytes() for p in found}

    assert kept(installed / "minillm") == kept(ROOT / "minillm")


def test_both_shipped_models_answer_and_the_journey_says_what_it_takes(installed, tmp_path):
    printed = in_it(installed, tmp_path, "-c", ASK.format(place=str(installed)))
    assert printed.startswith("base ") and "\ntuned " in printed and "--from" in printed
