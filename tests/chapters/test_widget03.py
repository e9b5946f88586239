"""Chapter 3's widget, sampling's knobs: its numbers, and its work in a real headless browser.

JupyterLab opens a notebook of the widget alone: the whole chapter trains for more than a minute.
"""

from __future__ import annotations

import re

import nbformat
import pytest
import torch

from minillm import hub
from minillm.batch import Batch
from minillm.logprob import logprobs, warp
from minillm.show.sampling import SHOWN, SamplingWidget, entropy, shown
from minillm.tokenizer import END
from test_widget import FAILED, lab, page, pytestmark as needs_a_browser  # noqa: F401  (fixtures)

BEGINNINGS = ["She", "Which pet", "47+38="]


@pytest.fixture(scope="module")
def base():
    return hub.load("base")


@pytest.fixture
def widget(base):
    return SamplingWidget(*base, BEGINNINGS)


def numbers(text):
    """(kept, held, bits before, bits after) of what the widget says."""
    kept, held = re.search(r"Tokens kept: (\d+) of \d+; the model gave them ([\d.]+)", text).groups()
    before, after = re.search(r"Entropy: ([\d.]+) bits as the model says, ([\d.]+) bits", text).groups()
    return int(kept), float(held), float(before), float(after)


# the numbers


def test_entropy_by_hand():
    """Four alike tokens are 2 bits, one sure token is 0, and a half and two quarters are 1.5."""
    for p, bits in (([0.25] * 4, 2.0), ([1.0, 0.0], 0.0), ([0.5, 0.25, 0.25, 0.0], 1.5)):
        assert entropy(torch.tensor(p, dtype=torch.float64).log()) == pytest.approx(bits)


def test_tokens_are_shown_so_that_they_can_be_told_apart(base):
    names = [shown(base[1], k) for k in range(base[1].vocab_size)]
    assert names[END] == "<|end|>" and "⏎" in names and "␣the" in names
    assert not any("\n" in name or " " in name for name in names)


def test_knobs_up_change_nothing(widget):
    kept, held, before, after = numbers(widget.text())
    assert kept == widget.tokenizer.vocab_size and held == 1 and before == after
    assert widget.knobs() == {"temperature": 1.0, "top_k": None, "top_p": None}


@pytest.mark.parametrize("knob, value",
                         [("temperature", 0.5), ("temperature", 0.0), ("top_k", 3), ("top_p", 0.6)])
def test_each_knob_is_warp(widget, base, knob, value):
    """What is shown is warp of the logits after the beginning, and the counts are the distribution's own."""
    getattr(widget, knob).value = value
    x = torch.tensor([[END, *base[1].encode("She")]])
    with torch.no_grad():
        wanted = warp(base[0](x)[0, -1], **{knob: value})
    assert torch.allclose(widget.after.exp(), wanted.exp(), atol=1e-5)
    kept, held, before, after = numbers(widget.text())
    assert kept == int((wanted > -torch.inf).sum()) and after < before
    assert (kept, after) == (1, 0.0) if value == 0 else kept > 1
    if knob == "top_p":
        assert held >= value


def test_a_new_beginning_is_read_and_forgets_what_was_written(widget):
    before = widget.before.clone()
    widget.write()
    assert "1. She" in widget.text()
    widget.beginning.value = "Which pet"
    assert not torch.allclose(before, widget.before) and "1. " not in widget.text()


def test_writing_on_gives_other_texts_and_the_same_ones_again(widget):
    for _ in range(3):
        widget.write()
    first = list(widget.written)
    assert len(set(first)) > 1
    widget.reset()
    for _ in range(3):
        widget.write()
    assert widget.written == first


def test_what_is_written_may_be_long_or_empty(widget):
    """A beginning longer than the context is cut at its start; an empty one is the end token alone."""
    for text in ("", "Ada has a cat. " * 200):
        widget.beginning.value = text
        widget.write()
        assert len(widget.x) + 24 <= widget.model.config.context and numbers(widget.text())[0] > 0


def test_the_widget_outside_of_jupyter_is_its_text_and_a_picture(widget):
    assert repr(widget).startswith("Widget (run the cell") and "Tokens kept" in repr(widget)
    svg = widget.figure.value
    assert 'role="img"' in svg and "Tokens kept" in svg and "Entropy" in svg
    assert SHOWN < widget.tokenizer.vocab_size


def test_scoring_needs_no_widget(base):
    """The shown probability of the likeliest token is exp of logprobs under the same knobs."""
    widget = SamplingWidget(*base, BEGINNINGS)
    widget.top_p.value = 0.8
    k = int(widget.after.argmax())
    tokens = torch.tensor([[*widget.x, k]])
    mask = torch.tensor([[False] * len(widget.x) + [True]])
    with torch.no_grad():
        scored = float(logprobs(base[0], Batch(tokens, mask), top_p=0.8)[0, -1])
        assert scored == pytest.approx(float(widget.after[k]), abs=1e-4)


# in the browser


@pytest.fixture(scope="module")
def notebook(tmp_path_factory):
    """A notebook of one cell: the widget."""
    path = tmp_path_factory.mktemp("notebook") / "widget.ipynb"
    code = ("import torch\n"
            "torch.set_num_threads(1)\n"
            "from minillm import hub\n"
            "from minillm.show.sampling import SamplingWidget\n"
            f"SamplingWidget(*hub.load('base'), {BEGINNINGS!r})")
    cells = [nbformat.v4.new_code_cell(code)]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)
    return path


def readout(page) -> str:
    return page.locator("[role=status]", has_text="Tokens kept").inner_text()


def type_into(page, label: str, value: str) -> None:
    """Type into the text box of a knob, and press Enter.

    A slider's number is a text too, to be clicked and overwritten.
    """
    row = page.locator(".widget-inline-hbox", has=page.get_by_text(label, exact=True))
    box = row.locator(".widget-readout, input").last
    box.click()
    page.keyboard.press("Control+A")
    page.keyboard.type(value)
    page.keyboard.press("Enter")


class TestInTheBrowser:
    pytestmark = needs_a_browser

    def test_a_typed_number_turns_the_knob(self, page):
        assert numbers(readout(page))[0] == 512
        type_into(page, "top-k", "3")
        page.get_by_text("Tokens kept: 3 of 512").wait_for()
        kept, held, before, after = numbers(readout(page))
        assert kept == 3 and held < 1 and after < before

    def test_another_beginning_and_a_text(self, page):
        page.get_by_role("button", name="start again").click()
        page.get_by_text("Tokens kept: 512 of 512").wait_for()
        type_into(page, "beginning", "47+38=")
        page.get_by_text("after “47+38=”").or_(page.get_by_text("Likeliest now: 8")).first.wait_for()
        page.get_by_role("button", name="write on").click()
        page.get_by_text("1. 47+38=").wait_for()
        # 47+38 is 8…, whatever the knobs were before.
        assert numbers(readout(page))[0] == 512 and "Likeliest now: 8" in readout(page)

    def test_the_picture_has_its_text_and_no_cell_failed(self, page):
        label = page.locator("svg[role=img]").first.get_attribute("aria-label")
        assert "Tokens kept" in label and "Entropy" in label
        assert page.locator(FAILED).count() == 0
