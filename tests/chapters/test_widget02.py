"""Chapter 2's widget, attention by layer and head: its numbers, and its work in a real headless browser.

JupyterLab opens a notebook of the widget alone: the whole chapter trains for a minute.
"""

from __future__ import annotations

import re

import nbformat
import pytest
import torch

from minillm import hub
from minillm.readable import readable_logits
from minillm.show.attention import LONGEST, AttentionWidget
from test_widget import FAILED, lab, page, pytestmark as needs_a_browser  # noqa: F401  (fixtures)

TEXT = "Bea: What is 47+38? Write the steps.\nBen: 7+"


@pytest.fixture(scope="module")
def base():
    return hub.load("base")


@pytest.fixture
def widget(base):
    return AttentionWidget(*base, TEXT, layer=3, head=3)


def looks(text):
    """[(token, looked at, weight)] of what the widget says."""
    line = next(line for line in text.split("\n") if line.startswith("Each token looks most at: "))
    return [(a, b, float(w)) for a, b, w in re.findall(r"(\S+) → (\S+) (\d\.\d\d)[,.]", line)]


# the numbers


def test_what_it_says_is_what_the_model_does(base, widget):
    """Every head's strongest weight, from the readable path,
    and the likeliest next token from the fast one."""
    model, tokenizer = base
    ids, seen = [0, *tokenizer.encode(TEXT)], []
    readable_logits(model, torch.tensor([ids]), seen)
    for layer, head in ((0, 0), (1, 3), (3, 3)):
        widget.layer.value, widget.head.value = layer, head
        weights, places = seen[layer]["pattern"][0, head].detach().max(-1)
        said = looks(widget.text())
        expected = [(widget.names[s], pytest.approx(float(w), abs=0.0051)) for s, w in zip(places, weights)]
        assert [(b, w) for _, b, w in said] == expected
        assert f"Layer {layer}, head {head}." in widget.text() and len(said) == len(ids)
    best = int(model(torch.tensor([ids]))[0, -1].argmax())
    assert f"Likeliest next token: {tokenizer.decode([best])} (" in widget.text()


def test_the_head_of_the_chapter_finds_the_digit(widget):
    assert looks(widget.text())[-1] == ("+", "8", pytest.approx(1.0, abs=0.01))


def test_a_new_text_is_read_and_a_long_one_is_cut_and_says_so(widget):
    widget.text_box.value = "Bea: What is 57+39? Write the steps.\nBen: 7+"
    assert looks(widget.text())[-1][:2] == ("+", "9")
    widget.text_box.value = "She keeps a cat. " * 40
    assert f"{LONGEST} are shown" in widget.text() and widget.pattern.shape == (LONGEST, LONGEST)
    widget.text_box.value = ""
    assert widget.pattern.tolist() == [[1.0]] and "1 token;" in widget.text()


def test_each_row_sums_to_one_and_looks_back(widget):
    assert torch.allclose(widget.patterns.sum(-1), torch.ones(()), atol=1e-5)
    assert not widget.patterns.triu(1).any()


def test_picture_and_text_say_the_same_and_nothing_typed_becomes_markup(widget):
    widget.text_box.value = "<b>7</b> & \"8\""
    assert "<b>" not in widget.readout.value.split(">", 1)[1] and "<b>" not in widget.figure.value
    assert "aria-label=" in widget.figure.value and "Layer 3, head 3" in widget.figure.value
    assert repr(widget).startswith("Widget (run the cell")


# in the browser


@pytest.fixture(scope="module")
def notebook(tmp_path_factory):
    """A notebook of one cell: the widget."""
    file = tmp_path_factory.mktemp("widget") / "widget.ipynb"
    source = ("from minillm import hub\n"
              "from minillm.show.attention import AttentionWidget\n"
              "model, tokenizer = hub.load('base')\n"
              f"AttentionWidget(model, tokenizer, {TEXT!r}, layer=3, head=3)")
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    made.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    nbformat.write(made, file)
    return file


def readout(page) -> str:
    return page.locator("[role=status]", has_text="Each token looks most at").inner_text()


def press(page, label: str, option: str) -> None:
    buttons = page.locator(".widget-toggle-buttons", has=page.get_by_text(label, exact=True))
    buttons.get_by_role("button", name=option, exact=True).click()


class TestInTheBrowser:
    pytestmark = needs_a_browser

    def test_the_knobs_turn(self, page):
        page.get_by_text("Layer 3, head 3.").wait_for()
        assert "+ → 8 1.00" in readout(page)
        press(page, "layer", "0")
        page.get_by_text("Layer 0, head 3.").wait_for()
        press(page, "head", "1")
        page.get_by_text("Layer 0, head 1.").wait_for()

    def test_another_text_is_read(self, page):
        for label in ("layer", "head"):
            press(page, label, "3")
        page.get_by_text("Layer 3, head 3.").wait_for()
        box = page.locator(".widget-textarea textarea")
        box.fill("Bea: What is 57+39? Write the steps.\nBen: 7+")
        box.blur()
        page.locator("[role=status]", has_text="+ → 9").wait_for()
        # The second text's digit, and not the first's any more.
        assert "+ → 9" in readout(page) and "+ → 8 1.00" not in readout(page)

    def test_the_picture_has_its_text(self, page):
        label = page.locator("svg[role=img]").first.get_attribute("aria-label")
        assert "Layer" in label and "Each token looks most at" in label
        assert page.locator(FAILED).count() == 0
