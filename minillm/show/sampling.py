"""Temperature, top-k and top-p: a next-token distribution before and after, and the widget of chapter 3.

The knobs are `minillm.logprob.warp`; this file only draws.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

import ipywidgets as widgets
import torch
from torch import Tensor

from ..logprob import warp
from ..sample import sample
from ..tokenizer import END
from .figures import BLUE, SKY, new_figure, svg

SHOWN = 14      # tokens with a bar of their own
WRITTEN = 24    # tokens that "write on" draws at most


def entropy(logp: Tensor) -> float:
    """−Σ p log2 p in bits, of log-probabilities (V,); what has probability 0 adds nothing."""
    p = logp.exp()
    return float(-(p * logp.where(p > 0, 0.0)).sum()) / math.log(2)


def shown(tokenizer, token: int) -> str:
    """A token as people can tell it from its neighbours: ␣ a space, ⏎ a new line, a mark by its name."""
    text = tokenizer.decode([token], specials=True)
    return text.replace(" ", "␣").replace("\n", "⏎")


def bars(axes, before: Tensor, after: Tensor, names: Sequence[str], title: str = "") -> None:
    """Two log-distributions (V,) over the tokens likeliest before: light bars before, dark ones after."""
    order = before.argsort(descending=True)[:SHOWN].tolist()
    place = list(range(len(order)))
    left, right = [x - 0.2 for x in place], [x + 0.2 for x in place]
    axes.bar(left, before.exp()[order], width=0.4, color=SKY, label="as the model says")
    axes.bar(right, after.exp()[order], width=0.4, color=BLUE, hatch="//", edgecolor="white",
             label="as it is drawn from")
    axes.set_xticks(place, [names[k] for k in order], rotation=60, ha="right")
    axes.set(ylabel="probability", ylim=(0, 1.02))
    axes.set_title(title)


class SamplingWidget(widgets.VBox):
    """Choose or type a beginning, turn temperature, top-k and top-p, watch p(next token).

    Everything it shows can be read as text too.

    model, tokenizer: as `hub.load` gives them. beginnings: texts to choose from; another may be typed.
    "write on" draws a continuation under the same knobs, each press another one, the same in every session.
    """

    def __init__(self, model, tokenizer, beginnings: Sequence[str]):
        self.model, self.tokenizer = model, tokenizer
        V = tokenizer.vocab_size
        self.names = [shown(tokenizer, k) for k in range(V)]
        usual = {"continuous_update": False, "layout": widgets.Layout(width="34em"),
                 "style": {"description_width": "9em"}}
        self.beginning = widgets.Combobox(
            value=beginnings[0], options=tuple(beginnings), description="beginning", **usual)
        self.temperature = widgets.FloatSlider(
            value=1.0, min=0.0, max=2.0, step=0.1, description="temperature", **usual)
        self.top_k = widgets.IntSlider(value=V, min=1, max=V, description="top-k", **usual)
        self.top_p = widgets.FloatSlider(
            value=1.0, min=0.05, max=1.0, step=0.05, description="top-p", **usual)
        write, again = widgets.Button(description="write on"), widgets.Button(description="start again")
        self.figure, self.readout = widgets.HTML(), widgets.HTML()
        for knob in (self.beginning, self.temperature, self.top_k, self.top_p):
            knob.observe(lambda _: self.turn(), "value")
        write.on_click(lambda _: self.write())
        again.on_click(lambda _: self.reset())
        buttons = widgets.HBox([write, again])
        super().__init__([self.beginning, self.temperature, self.top_k, self.top_p, buttons, self.figure,
                          self.readout])
        self.turn()

    def knobs(self) -> dict:
        """What `warp` and `sample` take; a knob that is turned all the way up is off."""
        V = self.tokenizer.vocab_size
        return {"temperature": self.temperature.value,
                "top_k": None if self.top_k.value >= V else self.top_k.value,
                "top_p": None if self.top_p.value >= 1 else self.top_p.value}

    def reset(self) -> None:
        """The knobs back to where they change nothing."""
        self.temperature.value, self.top_k.value, self.top_p.value = 1.0, self.tokenizer.vocab_size, 1.0
        self.turn()

    @torch.no_grad()
    def turn(self) -> None:
        """Compute the two distributions again and show them."""
        room = self.model.config.context - WRITTEN
        self.x = [END, *self.tokenizer.encode(self.beginning.value)][-room:]
        last = self.model.hidden(torch.tensor([self.x]))[:, -1]                             # (1, D)
        logits = self.model.logits(last)[0]                                                 # (V,)
        self.before, self.after = warp(logits), warp(logits, **self.knobs())
        self.written: list[str] = []
        self.draw()

    def write(self) -> None:
        """Draw one more continuation under the knobs; the last four are shown."""
        generator = torch.Generator().manual_seed(len(self.written))
        batch = sample(self.model, [self.x], WRITTEN, generator=generator, **self.knobs())
        text = self.tokenizer.decode(batch.tokens[0][batch.response_mask[0]].tolist(), specials=True)
        self.written.append(text.replace("\n", " ⏎ "))
        self.draw()

    def text(self) -> str:
        """The present state in words and numbers."""
        kept = int((self.after > -math.inf).sum())
        held = float(self.before.exp()[self.after > -math.inf].sum())
        best = self.after.argsort(descending=True)[:5].tolist()
        likeliest = ", ".join(f"{self.names[k]} {float(self.after[k].exp()):.3f}"
                              for k in best if self.after[k] > -math.inf)
        before, after = entropy(self.before), entropy(self.after) + 0.0
        rows = [f"Tokens kept: {kept} of {len(self.names)}; "
                f"the model gave them {held:.3f} of the probability.",
                f"Entropy: {before:.2f} bits as the model says, {after:.2f} bits as it is drawn from.",
                f"Likeliest now: {likeliest}."]
        written = [f"{n}. {self.beginning.value}{text}" for n, text in enumerate(self.written, 1)]
        return "\n".join(rows + written[:3] + written[3:][-1:])

    def draw(self) -> None:
        """Show the state again, as a picture and as text."""
        figure, axes = new_figure(7.5, 3.4)
        bars(axes, self.before, self.after, self.names, f"after “{self.beginning.value[-40:]}”")
        axes.legend()
        self.figure.value = svg(figure, self.text())
        self.readout.value = ('<div role="status" style="white-space: pre-wrap; line-height: 1.4">'
                              f"{escape(self.text())}</div>")

    def __repr__(self) -> str:
        return "Widget (run the cell to use it).\n" + self.text()
