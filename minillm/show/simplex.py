"""A policy over three answers as a point in a triangle, and the widget of chapter 1 that moves it.

The widget knows nothing of methods: it is given a function that takes the exact step of a choice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

import ipywidgets as widgets
import torch
from torch import Tensor

from .figures import BLACK, BLUE, VERMILION, new_figure, svg

CORNERS = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.5, 0.866]])  # of the first, second and third answer


def place(p: Tensor) -> Tensor:
    """Probabilities (..., 3) to a point in the triangle (..., 2): the corners' mean, weighted by p."""
    return p.to(CORNERS) @ CORNERS


def triangle(axes, names: Sequence[str], title: str = "") -> None:
    """Draw the simplex of three answers, each corner named: there p of that answer is 1."""
    ring = torch.cat([CORNERS, CORNERS[:1]])
    axes.plot(ring[:, 0], ring[:, 1], color="#888888", linewidth=1, linestyle="-")
    for (x, y), name, (dx, dy) in zip(CORNERS.tolist(), names, ((-0.04, -0.19), (0.04, -0.19), (0, 0.07))):
        axes.text(x + dx, y + dy, name, ha="center")
    axes.set(xlim=(-0.2, 1.2), ylim=(-0.22, 1.02), aspect="equal")
    axes.set_axis_off()
    if title:
        axes.set_title(title)


def path(axes, points: Tensor, color: str = BLUE, linestyle="-") -> None:
    """A policy's way: points (N, 3) from its start (hollow) to its end (full)."""
    at = place(points)
    axes.plot(at[:, 0], at[:, 1], color=color, linestyle=linestyle)
    axes.plot(*at[0].tolist(), marker="o", markersize=7, markerfacecolor="white", color=color)
    axes.plot(*at[-1].tolist(), marker="o", markersize=8, color=color)


class PolicyWidget(widgets.VBox):
    """Choose who makes x, who makes y and F; take exact steps; watch p(·|x) move.

    Everything it shows can be read as text too.

    step(logits (2, 3), x, y, F) -> (the next logits, None), or (the same logits, why there is no such step).
    name(x, y, F) -> what the field calls that choice. marks: {label: p (3,)}, points drawn in every triangle.
    """

    def __init__(self, start: Tensor, prompts: Sequence[str], answers: Sequence[str], x: Sequence[str],
                 y: Sequence[str], F: Sequence[str], step: Callable, name: Callable,
                 marks: dict[str, Tensor] | None = None):
        self.begin, self.prompts, self.answers = start, prompts, answers
        self.take, self.name_of, self.marks = step, name, marks or {}
        wide = {"layout": widgets.Layout(width="30em"), "style": {"description_width": "9em"}}
        self.x = widgets.Dropdown(options=x, description="who makes x", **wide)
        self.y = widgets.Dropdown(options=y, description="who makes y", **wide)
        self.F = widgets.Dropdown(options=F, description="F", **wide)
        one, many = widgets.Button(description="1 step"), widgets.Button(description="50 steps")
        again = widgets.Button(description="start again")
        self.figure, self.readout = widgets.HTML(), widgets.HTML()
        one.on_click(lambda _: self.steps(1))
        many.on_click(lambda _: self.steps(50))
        again.on_click(lambda _: self.reset())
        for chooser in (self.x, self.y, self.F):
            chooser.observe(lambda _: self.draw(), "value")
        buttons = widgets.HBox([one, many, again])
        super().__init__([self.x, self.y, self.F, buttons, self.figure, self.readout])
        self.reset()

    def reset(self) -> None:
        """Back to the start."""
        self.logits, self.trace, self.problem = self.begin.clone(), [self.begin.softmax(-1)], ""
        self.draw()

    def steps(self, n: int) -> None:
        """Take n steps under the present choice."""
        for _ in range(n):
            self.logits, problem = self.take(self.logits, self.x.value, self.y.value, self.F.value)
            self.problem = problem or ""
            if problem:
                break
            self.trace.append(self.logits.softmax(-1))
        self.draw()

    def text(self) -> str:
        """The present state in words and numbers."""
        rows = [f"p(·|{prompt}): " + ", ".join(f"{a} {v:.3f}" for a, v in zip(self.answers, p.tolist()))
                for prompt, p in zip(self.prompts, self.logits.softmax(-1))]
        choice = self.name_of(self.x.value, self.y.value, self.F.value)
        rows.insert(0, f"This is {choice}. Steps taken: {len(self.trace) - 1}.")
        return "\n".join(rows + ([self.problem] if self.problem else []))

    def draw(self) -> None:
        """Show the state again, as a picture and as text."""
        figure, axes = new_figure(7.5, 3.3, ncols=len(self.prompts))
        trace = torch.stack(self.trace)                                             # (steps + 1, X, 3)
        for i, (panel, prompt) in enumerate(zip(axes, self.prompts)):
            triangle(panel, self.answers, prompt)
            path(panel, trace[:, i], color=BLUE)
            for label, p in self.marks.items():
                panel.plot(*place(p).tolist(), marker="x", markersize=8, color=VERMILION)
                panel.annotate(label, place(p).tolist(), textcoords="offset points", xytext=(8, -4),
                               color=BLACK, fontsize=9)
        self.figure.value = svg(figure, self.text())
        self.readout.value = ('<div role="status" style="white-space: pre-wrap; line-height: 1.4">'
                              f"{escape(self.text())}</div>")

    def __repr__(self) -> str:
        return "Widget (run the cell to use it).\n" + self.text()
