"""Two sides of a pair timed in turn, and the rows of the table."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median


@dataclass
class Row:
    """One comparison. ours and theirs are measurements taken in turn, in `unit`;
    goal bounds what `compare` makes of them."""

    part: str                       # training, generation, ...
    what: str
    unit: str
    ours: list[float]
    theirs: list[float]
    sides: tuple[str, str]          # what each side ran
    goal: float
    at_least: bool = True           # False: the value is to be at most the goal
    # Ours / theirs; "difference": ours - theirs; "worst": ours alone, in its worst run.
    compare: str = "ratio"
    note: str = ""

    def _of(self, ours: float, theirs: float) -> float:
        return {"ratio": ours / theirs, "difference": ours - theirs, "worst": ours}[self.compare]

    @property
    def value(self) -> float:
        """What the goal is held against: the comparison of the medians, or the worst of ours."""
        if self.compare == "worst":
            return min(self.ours) if self.at_least else max(self.ours)
        return self._of(median(self.ours), median(self.theirs))

    @property
    def extremes(self) -> tuple[float, float]:
        """The least and the largest value of a pair taken together."""
        each = [self._of(ours, theirs) for ours, theirs in zip(self.ours, self.theirs)]
        return min(each), max(each)

    @property
    def met(self) -> bool:
        return self.value >= self.goal if self.at_least else self.value <= self.goal


@dataclass
class Results:
    """Rows, what could not be run, and where it was run."""

    machine: dict
    rows: list[Row] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    curves: list[dict] = field(default_factory=list)


def in_turn(sides: dict[str, Callable[[], float]], repeats: int,
            tick: Callable[[], None]) -> dict[str, list[float]]:
    """Each side once to warm up, then all sides in turn, `repeats` times: what each returned.

    Noise of minutes meets them alike.

    Every second round goes backwards, so that no side always follows the same other one.
    """
    for run in sides.values():
        run()
        tick()
    measured: dict[str, list[float]] = {name: [] for name in sides}
    for i in range(repeats):
        for name in (list(sides) if i % 2 == 0 else reversed(list(sides))):
            measured[name].append(sides[name]())
            tick()
    return measured


def seconds(work: Callable[[], object]) -> float:
    """How long it took, by the wall's clock."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def describe_machine(threads: int) -> dict:
    """CPU, cores, threads, memory, load and versions, as text that can be printed."""
    name = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
        flags = next((line.split(":", 1)[1].split() for line in lines if line.startswith("flags")), [])
        has = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in flags]
        name += f" ({', '.join(has)})" if has else ""
    versions = {"python": platform.python_version()}
    for package in ("torch", "transformers", "trl", "peft", "one-gradient"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    load = f"{os.getloadavg()[0]:.2f}" if hasattr(os, "getloadavg") else "not known"
    return {"cpu": name,
            "cores": os.cpu_count(),
            "threads": threads,
            "load before": load,
            "system": f"{platform.system()} {platform.machine()}",
            "date": time.strftime("%Y-%m-%d"),
            **versions}


def number(value: float) -> str:
    """Three figures: 12345.6 -> 12,300; 4.567 -> 4.57; 0.01234 -> 0.0123."""
    size = abs(value)
    if size < 1:
        return f"{value:.3g}"
    places = 0 if size >= 100 else 1 if size >= 10 else 2
    return f"{float(f'{value:.3g}'):,.{places}f}"


def spread(values: list[float]) -> str:
    """median (minimum to maximum)."""
    return f"{number(median(values))} ({number(min(values))} to {number(max(values))})"


def line(row: Row) -> str:
    """The row as a line of the table."""
    low, high = row.extremes
    after = {"ratio": " ×", "difference": f" {row.unit} more", "worst": f" {row.unit}"}[row.compare]
    value = f"**{row.value:.{4 if row.compare == 'worst' else 3}g}**{after} ({low:.3g} to {high:.3g})"
    goal, met = f"{'≥' if row.at_least else '≤'} {row.goal:g}", "yes" if row.met else "no"
    cells = (row.what, row.unit, spread(row.ours), spread(row.theirs), value, goal, met)
    return f"| {' | '.join(cells)} |"


def table(results: Results) -> str:
    """The rows as a Markdown table, what each side ran below it, and the machine."""
    lines = ["| what | unit | minillm | beside it | compared | goal | met |", "|---|---|---|---|---|---|---|"]
    lines += map(line, results.rows)
    lines += ["",
              "Medians (minimum to maximum). Compared: × is the ratio of the medians "
              "and \"more\" their difference, in brackets the least and the largest of a pair taken in turn; "
              "anything else is the worst run of minillm.",
              ""]
    for row in results.rows:
        lines.append(
            f"- {row.what}: {len(row.ours)} pairs. minillm: {row.sides[0]}. Beside it: {row.sides[1]}." + (
                f" {row.note}" if row.note else ""))
    lines += [f"- Not run: {text}" for text in results.missing]
    lines += ["", ", ".join(f"{key} {value}" for key, value in results.machine.items()) + "."]
    return "\n".join(lines) + "\n"


def write(results: Results, folder: Path) -> None:
    """results.md and results.json into the folder; each is written beside and then renamed."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [asdict(row) | {"value": row.value, "met": row.met} for row in results.rows]
    kept = {"machine": results.machine, "rows": rows, "curves": results.curves, "missing": results.missing}
    picture = ""
    if results.curves:
        picture = ("\n![Milliseconds a new token against tokens in the context, a line a model.]"
                   "(cost_per_token.png)\n\nWhat a new token costs as the context grows, batch 1: medians, "
                   "and bands over the middle half of the measurements.\n")
    for name, text in (("results.json", json.dumps(kept, indent=1, ensure_ascii=False) + "\n"),
                       ("results.md",
                        "# Speed beside peers\n\nWritten by `make bench`.\n\n" + table(results) + picture)):
        beside = folder / f"{name}.part"
        beside.write_text(text, encoding="utf-8")
        os.replace(beside, folder / name)


def need_transformers():
    """The module `transformers`, kept off the network, or an ImportError that says how to get it."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    try:
        import transformers
    except ImportError:
        raise ImportError(f"transformers is not installed: {sys.executable} -m pip install "
                          "--requirement benchmarks/requirements.txt") from None
    transformers.utils.logging.disable_progress_bar()
    return transformers
