"""How fast a class is graded: submissions a minute, seconds for one, and peak memory, with real sandboxes.

    python -m benchmarks.grading                    # 24 submissions of chapter 13, two at a time

Every submission is the solutions', since that is what computes longest. No peer runs here.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

from .pairs import describe_machine

ROOT = Path(__file__).resolve().parents[1]


def peak_memory(process: subprocess.Popen, found: dict) -> None:
    """Watch a process and all below it until it ends; found["memory"] is the largest sum of bytes seen.

    Pages that several processes share are parted among them (PSS).
    """
    top = psutil.Process(process.pid)
    while process.poll() is None:
        total = 0
        try:
            for each in [top, *top.children(recursive=True)]:
                try:
                    total += each.memory_full_info().pss
                except psutil.Error:
                    pass
        except psutil.Error:
            break
        found["memory"] = max(found.get("memory", 0), total)
        time.sleep(0.25)


def seconds_of(*code: str) -> float:
    """The least wall seconds of three fresh Pythons that run this code."""
    times = []
    for _ in range(3):
        begun = time.perf_counter()
        subprocess.run([sys.executable, *code], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - begun)
    return min(times)


def measure(chapter: int, submissions: int, jobs: int) -> dict:
    """Grade so many copies of a chapter's solutions; what it took."""
    solution = next((ROOT / "solutions").glob(f"{chapter:02d}_*.ipynb"))
    with tempfile.TemporaryDirectory() as folder:
        for n in range(submissions):
            place = Path(folder) / "in" / f"student{n:03d}"
            place.mkdir(parents=True)
            shutil.copyfile(solution, place / solution.name)
        begun, found = time.perf_counter(), {}
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "grader",
                "grade",
                f"{folder}/in",
                "--chapter",
                str(chapter),
                "--seed",
                "1",
                "--jobs",
                str(jobs),
                "--out",
                f"{folder}/out",
            ],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
        )
        watch = threading.Thread(target=peak_memory, args=(process, found))
        watch.start()
        code = process.wait()
        wall = time.perf_counter() - begun
        watch.join()
        grades = json.loads(Path(folder, "out", "grades.json").read_text("utf-8"))
    assert code == 0 and all(one["total"] == grades["out_of"] for one in grades["submissions"]), (
        "not all right"
    )
    torch = seconds_of("-c", "import torch") - seconds_of("-c", "pass")
    start = seconds_of("-m", "grader", "--help")
    return {"chapter": chapter, "exercises": grades["out_of"], "submissions": submissions, "jobs": jobs,
            "wall seconds": round(wall, 1), "a minute": round(60 * submissions / wall, 1),
            "seconds a submission and job": round((wall - start) * jobs / submissions, 2),
            "seconds of importing torch": round(torch, 2), "peak memory, GB": round(found["memory"] / 1e9, 2)}


def main(argv: list[str] | None = None) -> int:
    """The command: prints what was measured, and keeps it in --out."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.grading", description=__doc__.splitlines()[0])
    parser.add_argument("--chapter", type=int, default=13)
    parser.add_argument("--submissions", type=int, default=24)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="keep the numbers there too")
    args = parser.parse_args(argv)
    for name in ("submissions", "jobs"):
        if getattr(args, name) < 1:
            parser.error(f"--{name} is {getattr(args, name)}: give 1 or more")
    result = {**measure(args.chapter, args.submissions, args.jobs), "machine": describe_machine(1)}
    for name, value in result.items():
        print(f"{name}: {value}")
    if args.out:
        args.out.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
