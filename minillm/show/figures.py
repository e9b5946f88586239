"""Matplotlib in one style. What a figure shows is drawn in the chapters."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path

from matplotlib import style
from matplotlib.figure import Figure

style.use(Path(__file__).parent / "style.mplstyle")  # from here on, every figure of this process
BLUE, VERMILION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
ORANGE, SKY, BLACK = "#E69F00", "#56B4E9", "#000000"


def new_figure(width: float = 7.0, height: float = 4.0, **subplots):
    """(figure, axes) in the house style, of a size in inches; it needs no window."""
    figure = Figure(figsize=(width, height))
    return figure, figure.subplots(**subplots)


def svg(figure: Figure, alt: str) -> str:
    """The figure as inline SVG whose alternative text is `alt`, for a page that needs no other file."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg"):]
    text = re.sub(r'(width|height)="[\d.]+pt" ?', "", text, count=2)
    return text.replace("<svg", f'<svg role="img" aria-label="{escape(alt, quote=True)}"', 1)


class Picture:
    """A figure as a notebook shows it: an image with its alternative text, and a sentence below it."""

    def __init__(self, figure: Figure, alt: str, caption: str = ""):
        self.alt, self.caption = alt, caption
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=160, metadata={"Software": None})
        self.png = buffer.getvalue()
        self.inches = figure.get_figwidth()

    def __repr__(self) -> str:
        return f"Figure: {self.alt}"

    def _repr_html_(self) -> str:
        data = base64.b64encode(self.png).decode()
        alt = escape(self.alt, quote=True)
        below = ""
        if self.caption:
            below = f'<figcaption style="max-width: 45em">{escape(self.caption)}</figcaption>'
        return (f'<figure style="margin: 0.5em 0"><img alt="{alt}" src="data:image/png;base64,{data}" '
                f'style="width: {self.inches * 100:.0f}px; max-width: 100%">{below}</figure>')


def line(x: Sequence[float], y: Sequence[float], xlabel: str, ylabel: str) -> Figure:
    """One curve with its axes named."""
    figure, axes = new_figure(7, 3)
    axes.plot(x, y)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    return figure


def smooth(values: Sequence[float], share: float = 0.03) -> list[float]:
    """Each value replaced by the mean of those around it, over a share of the run."""
    half = max(1, int(len(values) * share / 2))
    windows = [values[max(0, i - half):i + half + 1] for i in range(len(values))]
    return [sum(w) / len(w) for w in windows]
