"""Attention patterns by head and layer over a sentence that is typed: the widget of chapter 2.

Everything that the picture shows can be read as text too.
"""

from __future__ import annotations

from html import escape

import ipywidgets as widgets
import torch
from torch import Tensor

from ..readable import readable_logits
from .figures import new_figure, svg

LONGEST = 48  # tokens: more could not be read in the picture


def shown(name: str) -> str:
    """A token's text with its spaces and line ends made visible: " a" -> "␣a"."""
    return name.replace(" ", "␣").replace("\n", "⏎")


class AttentionWidget(widgets.VBox):
    """Type a text, choose a layer and a head, see whom each token looks at.

    model: a Transformer; tokenizer: its Tokenizer; layer and head are where it begins, counted from 0. An end
    token is put in front of the text, as in the corpus.
    """

    def __init__(self, model, tokenizer, text: str, layer: int = 0, head: int = 0):
        self.model, self.tokenizer, c = model, tokenizer, model.config
        wide = {"layout": widgets.Layout(width="46em"), "style": {"description_width": "5em"}}
        self.text_box = widgets.Textarea(
            value=text, description="text", continuous_update=False, rows=2, **wide)
        style = {"button_width": "3em", "description_width": "5em"}
        self.layer = widgets.ToggleButtons(
            options=range(c.n_layers), value=layer, description="layer", style=style)
        self.head = widgets.ToggleButtons(
            options=range(c.n_heads), value=head, description="head", style=style)
        self.figure, self.readout = widgets.HTML(), widgets.HTML()
        self.text_box.observe(lambda _: self.read(), "value")
        for chooser in (self.layer, self.head):
            chooser.observe(lambda _: self.draw(), "value")
        super().__init__([self.text_box, self.layer, self.head, self.figure, self.readout])
        self.read()

    @torch.no_grad()
    def read(self) -> None:
        """Run the model on the typed text."""
        ids = [0, *self.tokenizer.encode(self.text_box.value)]
        room = min(LONGEST, self.model.config.context)
        self.cut = len(ids) - room
        ids = ids[:room]
        self.names = [shown(self.tokenizer.decode([i], specials=True)) for i in ids]
        seen: list[dict] = []
        tokens = torch.tensor([ids], device=self.model.embed.weight.device)            # (1, T)
        p = readable_logits(self.model, tokens, seen)[0, -1].softmax(-1)               # (V,)
        patterns = [layer["pattern"][0] for layer in seen]
        self.patterns = torch.stack(patterns).float().cpu()                            # (layers, H, T, T)
        best = int(p.argmax())
        self.following = f"{shown(self.tokenizer.decode([best], specials=True))} ({p[best]:.2f})"
        self.draw()

    @property
    def pattern(self) -> Tensor:
        """(T, S): the weights of the chosen head, a row for each token that looks."""
        return self.patterns[self.layer.value, self.head.value]

    def text(self) -> str:
        """The chosen head's pattern in words: whom each token looks at most, and how far back on average."""
        pattern, T = self.pattern, len(self.names)
        back = (pattern * (torch.arange(T)[:, None] - torch.arange(T))).sum(-1).mean()
        lines = [f"Layer {self.layer.value}, head {self.head.value}. {T} token{'s' * (T != 1)}; "
                 f"on average it looks {back:.1f} places back. Likeliest next token: {self.following}."]
        if self.cut > 0:
            lines.append(f"The last {self.cut} tokens of your text are left out: {T} are shown.")
        weights, places = pattern.max(-1)
        looks = [f"{name} → {self.names[s]} {w:.2f}"
                 for name, s, w in zip(self.names, places.tolist(), weights.tolist())]
        lines.append("Each token looks most at: " + ", ".join(looks) + ".")
        return "\n".join(lines)

    def draw(self) -> None:
        """Show the chosen head again, as a picture and as text."""
        side = 2.2 + 0.2 * len(self.names)
        figure, axes = new_figure(side, side)
        axes.imshow(self.pattern.numpy(), cmap="Blues", vmin=0, vmax=1)
        axes.set_xticks(range(len(self.names)), self.names, rotation=90, fontsize=10)
        axes.set_yticks(range(len(self.names)), self.names, fontsize=10)
        axes.set(xlabel="looked at", ylabel="looking")
        axes.grid(False)
        self.figure.value = f'<div style="max-width: {side * 90:.0f}px">{svg(figure, self.text())}</div>'
        self.readout.value = (
            '<div role="status" style="white-space: pre-wrap; line-height: 1.4; max-width: 46em">'
            f"{escape(self.text())}</div>")

    def __repr__(self) -> str:
        return "Widget (run the cell to use it).\n" + self.text()
