"""Chapter 17's widget: who answers a call, how the model goes on behind it, and what its numbers say.

No browser: `ToolByHand` is what the widget does and says, and its buttons are pressed from here.
"""

from __future__ import annotations

import math

import pytest
import torch

from conftest import Tiny
from minillm.acting import transcript
from minillm.acting.calculator import calculator
from minillm.acting.toolbox import notebook
from minillm.acting.transcript import Limits, use
from minillm.show import tools as shown
from minillm.show.tools import ToolByHand, ToolWidget, Turn, holds
from minillm.tokenizer import Tokenizer

WORDS = Tokenizer.train(["What is 47+38? calculator(47+38) 85 It is 85. error: write(a) read()"], 300)
MODEL = Tiny(vocab_size=WORDS.vocab_size, dtype=torch.float32, context=96)
SUM = [WORDS.call, *WORDS.encode("calculator(47+38)"), WORDS.call_end]


def said(text):
    return [*WORDS.encode(text), WORDS.end]


def scripted(monkeypatch, script):
    """Both streams write what script(the text so far, as ids) gives; each token has log p = 0."""
    def stream(model, prompt, most, *, end, **how):
        for token in script(list(prompt))[:most]:
            yield token, 0.0
            if token in end:
                return

    monkeypatch.setattr(transcript, "stream", stream)
    monkeypatch.setattr(shown, "stream", stream)


def repeats(prompt):
    """A model that calls once, and then says what it was told."""
    if WORDS.reply_end not in prompt:
        return SUM
    start = len(prompt) - 1 - prompt[::-1].index(WORDS.reply)
    return said(f"It is {WORDS.decode(prompt[start + 1:-1])}.")


@pytest.fixture
def game(monkeypatch):
    scripted(monkeypatch, repeats)
    return ToolByHand(MODEL, WORDS, [calculator])


def slow_log_p(context, words):
    """Token by token from the model's own logits."""
    total = 0.0
    for token in words:
        with torch.no_grad():
            total += float(MODEL(torch.tensor([context]))[0, -1].double().log_softmax(-1)[token])
        context = [*context, token]
    return total


# what the reader does


def test_it_stops_at_the_call_and_goes_on_with_what_was_said(game):
    assert game.now() == "Ask it something." and game.waiting is None
    game.ask("What is 47+38?")
    assert game.waiting == "calculator(47+38)" and game.turns == [] and torch.is_grad_enabled()
    assert game.now().endswith("It calls calculator(47+38), and waits. You are the tool: what do you say?")
    assert "85" not in game.now()                           # guess first
    game.say("90")
    assert game.waiting is None and game.now().endswith("It is 90.<|end|>\nIt has ended.")
    turn, = game.turns
    assert (turn.call, turn.said, turn.tool) == ("calculator(47+38)", "90", "85")
    assert (turn.words, turn.other, turn.believed) == ("It is 90.<|end|>", "It is 85.<|end|>", "yes")


def test_its_numbers_are_the_models_own(game):
    """p of both texts behind both replies, against the logits token by token."""
    game.ask("What is 47+38?")
    game.say("90")
    before = WORDS.prompt("What is 47+38?") + SUM
    behind = [before + [WORDS.reply, *WORDS.encode(reply), WORDS.reply_end] for reply in ("90", "85")]
    for words, logp in zip(("It is 90.", "It is 85."), game.turns[0].logp):
        assert logp == pytest.approx([slow_log_p(context, said(words)) for context in behind], abs=1e-4)
    lines = game.turns_text().split("\n")
    p = [["below 1e-09" if x < math.log(1e-9) else f"{math.exp(x):.2g}" for x in row]
         for row in game.turns[0].logp]
    assert lines == [
        "1. calculator(47+38)", "    you said: 90", "    the tool says: 85",
        "    it went on: It is 90.<|end|>", "    behind the tool's reply: It is 85.<|end|>",
        "    did it believe you? yes: it goes on with what you said",
        f"    p of its words: {p[0][0]} behind your reply, {p[0][1]} behind the tool's",
        f"    p of the other words: {p[1][0]} behind your reply, {p[1][1]} behind the tool's"]


def test_the_true_tool_may_answer(game):
    game.ask("What is 47+38?")
    game.let_the_tool()
    turn, = game.turns
    assert turn.believed == "same" and turn.words == turn.other and turn.said == turn.tool == "85"
    assert turn.logp[0][0] == turn.logp[0][1]
    assert game.turns_text().count("p of") == 1


@pytest.mark.parametrize("answer, verdict", [
    (lambda prompt: said("It is 85."), "no"), (lambda prompt: said("Well."), "no"),
    (lambda prompt: said("It is 85, truly." if WORDS.encode("90")[0] in prompt[-5:] else "It is 85."),
     "doubts"),
    (lambda prompt: said("It is 90 or 85." if WORDS.encode("90")[0] in prompt[-5:] else "It is 85."),
     "other")])
def test_a_model_that_does_not_believe(monkeypatch, answer, verdict):
    scripted(monkeypatch, lambda prompt: answer(prompt) if WORDS.reply_end in prompt else SUM)
    game = ToolByHand(MODEL, WORDS, [calculator])
    game.ask("What is 47+38?")
    game.say("90")
    assert game.turns[0].believed == verdict
    assert ("p of the other words" in game.turns_text()) == (verdict != "no")


def test_a_reply_is_held_as_whole_words():
    assert holds("It is 85.<|end|>", " 85 ") and holds("85<|end|>", "85") and holds("a (b) c", "(b)")
    assert not holds("It is 853.", "85") and not holds("It is 85.", "") and not holds("", "85")


def test_each_call_is_asked_for_in_turn(monkeypatch):
    """Two calls; the words of a turn end with the next call; the notebook's own pages are kept beside it."""
    calls = [f"{name}" for name in ("write(a)", "read()")]

    def script(prompt):
        done = prompt.count(WORDS.reply_end)
        return [WORDS.call, *WORDS.encode(calls[done]), WORDS.call_end] if done < 2 else repeats(prompt)

    scripted(monkeypatch, script)
    game = ToolByHand(MODEL, WORDS, notebook)
    for _ in range(2):                                      # a new question has a new notebook
        game.ask("a?")
        assert game.waiting == "write(a)"
        game.let_the_tool()
        assert game.waiting == "read()" and game.turns[0].words == "<|call|>read()<|/call|>"
        game.say("b")
        assert [turn.tool for turn in game.turns] == ["written", "a"]
        assert game.turns[1].words == "It is b.<|end|>"
        assert game.turns_text().startswith("1. write(a)") and "\n2. read()" in game.turns_text()


def test_what_is_no_call_gets_its_error_without_the_reader(monkeypatch):
    """A name that is not there, and a call for which none is left: as in any transcript."""
    bad = [WORDS.call, *WORDS.encode("clock(85)"), WORDS.call_end]
    scripted(monkeypatch, lambda prompt: bad if WORDS.reply_end not in prompt else repeats(prompt))
    game = ToolByHand(MODEL, WORDS, [calculator])
    game.ask("When?")
    assert game.waiting is None and game.turns == [] and "error: tool is 'clock'" in game.now()
    scripted(monkeypatch, lambda prompt: SUM if prompt.count(WORDS.reply_end) < 2 else said("85"))
    game = ToolByHand(MODEL, WORDS, [calculator], Limits(calls=1, reply=20))
    game.ask("What?")
    game.say("90")
    assert game.waiting is None and "error: no calls are" in game.now()
    assert game.turns[0].words == "<|call|>calculator(47+38)<|/call|>"


def test_no_room_for_a_reply(monkeypatch):
    """The call is not answered, and the text says why."""
    scripted(monkeypatch, repeats)
    game = ToolByHand(MODEL, WORDS, [calculator], Limits(tokens=len(SUM) + 3))
    game.ask("What is 47+38?")
    game.say("90")
    assert game.turns == [] and game.waiting is None and game.now().endswith("all the tokens that it may.")


@pytest.mark.parametrize("tokens", range(4, 12))
def test_little_room_behind_a_reply(monkeypatch, tokens):
    """A reply of the reader's and one of the tool's are cut alike; what has no room has no number."""
    scripted(monkeypatch, repeats)
    game = ToolByHand(MODEL, WORDS, [calculator], Limits(tokens=len(SUM) + tokens, reply=3))
    game.ask("What is 47+38?")
    game.say("9000000")
    turn, = game.turns
    assert len(game.row.ids) <= len(SUM) + tokens and "behind your reply" in game.turns_text()
    assert (turn.logp[0][0] is None) == (turn.words == "")


def test_a_long_reply_is_cut_as_the_transcript_cuts_it(game):
    game.ask("What is 47+38?")
    game.say("85" * 60)
    made = game.row.calls[0]
    assert game.row.ids[made.start:made.end] == SUM + transcript.reply_ids(WORDS, "85" * 60, 48)
    assert game.turns[0].logp[0][1] is None or game.turns[0].logp[0][1] < 0


def test_bad_input():
    for act, message in ((lambda g: g.say("85"), "reply is '85': there is no call to answer"),
                         (lambda g: g.let_the_tool(), "the tool is asked: there is no call"),
                         (lambda g: g.ask(" "), "question is ' ': give a text"),
                         (lambda g: g.ask(["a"]), r"question is \['a'\]: give a text"),
                         (lambda g: g.say(85), "reply is int: give a text")):
        with pytest.raises(ValueError, match=message):
            act(ToolByHand(MODEL, WORDS, [calculator]))
    with pytest.raises(ValueError, match="limits is 3"):
        ToolByHand(MODEL, WORDS, [calculator], 3)
    with pytest.raises(ValueError, match="without a docstring"):
        ToolByHand(MODEL, WORDS, [nameless])


def nameless(text: str):
    return text


def test_who_says_what_the_tool_says_gets_its_transcript(monkeypatch):
    """As `stream_use` with the true tool, whether the reader types it or lets the tool reply."""
    scripted(monkeypatch, lambda prompt: SUM if prompt.count(WORDS.reply_end) < 2 else repeats(prompt))
    *_, row = transcript.stream_use(MODEL, WORDS, "What is 47+38?", [calculator])
    game = ToolByHand(MODEL, WORDS, [calculator])
    for replies in (("85", None), (None, "85")):
        game.ask("What is 47+38?")
        for reply in replies:
            game.let_the_tool() if reply is None else game.say(reply)
        assert (game.row.ids, game.row.response_mask, game.row.stopped) == (
            row.ids, row.response_mask, row.stopped)
        assert [made.reply for made in game.row.calls] == ["85", "85"] and len(game.turns) == 2


# with a model


def eager(seed):
    """Weights at random, and the marks of a call stand out."""
    model = Tiny(seed, vocab_size=WORDS.vocab_size, dtype=torch.float32, context=96)
    with torch.no_grad():
        model.embed.weight[[WORDS.call_end, WORDS.end]] *= 1.6
    return model


@pytest.mark.parametrize("temperature", [0.0, 1.2])
def test_calls_that_cannot_be_read_go_on_as_in_use(temperature):
    """Random weights write no call that can be read, so errors come back and nobody is asked."""
    for seed in range(8):
        model, limits = eager(seed), Limits(tokens=40, calls=2, reply=8)
        game = ToolByHand(model, WORDS, [calculator], limits, temperature=temperature, seed=seed)
        game.ask("What is 47+38?")
        assert game.waiting is None
        row, = use(model, WORDS, ["What is 47+38?"], [calculator], limits, temperature=temperature,
                   generator=torch.Generator().manual_seed(seed))
        assert (game.row.ids, game.row.response_mask, game.row.stopped) == (
            row.ids, row.response_mask, row.stopped)


# the widget


def test_its_buttons(monkeypatch):
    scripted(monkeypatch, repeats)
    widget = ToolWidget(MODEL, WORDS, [calculator], "What is 47+38?")
    assert "You are the tool" in widget.blocks["now"].value and not widget.say.disabled
    assert "85" not in widget.text()
    widget.reply.value = "90"
    widget.say.click()
    assert widget.reply.value == "" and widget.say.disabled and widget.tool.disabled and widget.reply.disabled
    assert "It is 90.&lt;|end|&gt;" in widget.blocks["now"].value
    assert "did it believe you? yes" in widget.blocks["what came of your replies"].value
    widget.ask.click()
    assert "You are the tool" in widget.text() and "believe" not in widget.text() and not widget.say.disabled
    widget.tool.click()
    assert "nothing to believe" in widget.text() and "nothing to believe" in repr(widget)


def test_an_error_is_shown_and_goes_away(monkeypatch):
    scripted(monkeypatch, repeats)
    widget = ToolWidget(MODEL, WORDS, [calculator], "What is 47+38?")
    widget.question.value = "What is 47+38? " * 20
    widget.ask.click()
    assert "That did not work: questions[0] is" in widget.text() and widget.say.disabled
    widget.question.value = "What is 47+38?"
    widget.ask.click()
    assert "did not work" not in widget.text() and not widget.say.disabled


def test_what_the_reader_sees_can_be_heard(monkeypatch):
    """What happens is announced when it changes; the other block has its name; no mark is lost as HTML."""
    scripted(monkeypatch, repeats)
    widget = ToolWidget(MODEL, WORDS, [calculator], "What is <b>47+38</b>?")
    assert widget.blocks["now"].value.startswith('<div role="status"')
    assert 'aria-label="what came of your replies"' in widget.blocks["what came of your replies"].value
    assert "&lt;b&gt;47+38" in widget.blocks["now"].value and "<b>47+38" not in widget.blocks["now"].value


def test_a_turn_without_numbers_says_so():
    turn = Turn("calculator(1)", "2", "1", "", "", ((None, None), (None, None)))
    assert turn.believed == "no" and shown._p(None) == "unknown" and shown._p(math.log(0.25)) == "0.25"
    assert shown._p(-math.inf) == shown._p(-30.0) == "below 1e-09" and shown._p(-20.0) == "2.1e-09"
