"""Runs of a model and its tools as bars on a clock, one run below the other; and a plan as a graph.

A call's tool is told by hatch and label as well as by colour.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..acting.compiler import Bar
from ..acting.rewoo import Step
from ..expect import expect
from .figures import BLACK, BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILION, Picture, new_figure

MODEL = (SKY, "")
LOOKS = ((ORANGE, "///"), (GREEN, "..."), (PURPLE, "xx"), (BLUE, "\\\\\\"))     # of the tools, by first use
ROW = 0.27                      # inches a lane


def lanes(bars: Sequence[Bar]) -> list[int]:
    """Of each bar the line that it is drawn on: what the model does on line 0, each call on one of its own.
    """
    calls = iter(range(1, len(bars) + 1))
    return [0 if bar.kind == "model" else next(calls) for bar in bars]


def at_once(bars: Sequence[Bar]) -> int:
    """How many calls are under way at once, at most. One that ends when another begins is over."""
    calls = [bar for bar in bars if bar.kind != "model"]
    return max((sum(one.start <= bar.start < one.end for one in calls) for bar in calls), default=0)


def draw(runs: Mapping[str, Sequence[Bar]], width: float = 10.0) -> Picture:
    """Runs by name, each a list of bars as `compiler.timeline` gives it, on one clock in seconds.

    An arrow leads from a call to a later one that needs its reply. A call that failed has a red edge and a
    cross. ValueError for no runs, or a run without bars.
    """
    expect(len(runs) > 0, "runs", "empty", "give at least one")
    for name, bars in runs.items():
        expect(len(bars) > 0, f"runs[{name!r}]", "empty", "give its bars: compiler.timeline makes them")
    ends = max(bar.end for bars in runs.values() for bar in bars)
    looks = _looks(runs)
    height = sum(max(lanes(bars)) + 2.3 for bars in runs.values())
    figure, axes = new_figure(width, ROW * height + 1.1)
    top, shown = 0.0, set()
    for name, bars in runs.items():
        axes.text(0, top + 0.4, f"{name}: {max(bar.end for bar in bars):.2f} s", fontsize=11, weight="bold",
                  va="center")
        rows = [top + 1.2 + lane for lane in lanes(bars)]
        at = {bar.number: (bar, y) for bar, y in zip(bars, rows) if bar.number is not None}
        for bar, y in zip(bars, rows):
            colour, hatch = looks[bar.kind]
            axes.barh(y, bar.end - bar.start, left=bar.start, height=0.62, facecolor=colour, hatch=hatch,
                      edgecolor=BLACK if bar.ok else VERMILION, linewidth=0.8 if bar.ok else 2.2, zorder=2,
                      label=None if bar.kind in shown else bar.kind)
            shown.add(bar.kind)
            _write(axes, bar, y, ends)
            for n in bar.needs:
                if n in at:
                    one, row = at[n]
                    axes.annotate("", (bar.start, y), (one.end, row), zorder=3, arrowprops={
                        "arrowstyle": "->", "color": BLACK, "linewidth": 1.1, "shrinkA": 0, "shrinkB": 0})
        top = max(rows) + 1.1
    axes.set(xlim=(0, ends * 1.02), ylim=(top, -0.2), xlabel="seconds on the computed clock")
    axes.set_yticks([])
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_visible(False)
    figure.legend(loc="outside lower center", ncols=len(looks))
    below = "Bars are stretches of time. An arrow leads to a call that needs the reply."
    return Picture(figure, alt(runs), below)


def text(runs: Mapping[str, Sequence[Bar]]) -> str:
    """The same as lines of text: when each thing began and ended."""
    lines = []
    for name, bars in runs.items():
        lines.append(f"{name}: {max(bar.end for bar in bars):.2f} s")
        for bar in bars:
            label = bar.label if bar.number is None else f"#{bar.number} {bar.label}"
            lines.append(f"  {bar.start:6.2f} to {bar.end:6.2f}  {label}{'' if bar.ok else ', failed'}")
    return "\n".join(lines)


def alt(runs: Mapping[str, Sequence[Bar]]) -> str:
    """The runs in words: how long each took, and how many calls were under way at once."""
    parts = []
    for name, bars in runs.items():
        calls = [bar for bar in bars if bar.kind != "model"]
        failed = sum(not bar.ok for bar in calls)
        lost = f", {failed} of them failed" if failed else ""
        parts.append(f"{name} takes {max(bar.end for bar in bars):.2f} seconds with {len(calls)} "
                     f"call{'s' * (len(calls) != 1)}{lost}, at most {at_once(bars)} at once")
    return f"Bars on a clock. {'; '.join(parts)}."


def mermaid(steps: Sequence[Step]) -> str:
    """A plan as a Mermaid graph, for a text that shows it: an arrow from each step to those that need it."""
    lines = ["flowchart LR"]
    lines += [f'    s{step.number}["#35;{step.number} {step.text.replace("#", "#35;")}"]' for step in steps]
    lines += [f"    s{n} --> s{step.number}" for step in steps for n in step.needs]
    return "\n".join(lines)


def _looks(runs: Mapping[str, Sequence[Bar]]) -> dict[str, tuple[str, str]]:
    kinds = list(dict.fromkeys(bar.kind for bars in runs.values() for bar in bars if bar.kind != "model"))
    expect(len(kinds) <= len(LOOKS), "runs", f"with {len(kinds)} tools", f"draw at most {len(LOOKS)}")
    return {"model": MODEL} | dict(zip(kinds, LOOKS))


def _write(axes, bar: Bar, y: float, ends: float) -> None:
    """What a bar says: the model's within it, a call's on the side where there is more room."""
    label = bar.label if bar.number is None else f"#{bar.number} {bar.label}"
    how = {"fontsize": 9, "va": "center", "zorder": 4,
           "bbox": {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.6}}
    if bar.kind == "model":
        axes.text((bar.start + bar.end) / 2, y, label, ha="center", **how)
    elif bar.end < ends * 0.6:
        axes.text(bar.end + ends / 100, y, label + ("" if bar.ok else " × failed"), ha="left", **how)
    else:
        axes.text(bar.start - ends / 100, y, label + ("" if bar.ok else " × failed"), ha="right", **how)
