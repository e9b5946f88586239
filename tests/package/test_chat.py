"""`make chat`: what the model reads, what is shown of its answer and when, and that nothing it writes can
steer a terminal.
"""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import ColorDepth, DummyOutput
from prompt_toolkit.output.vt100 import Vt100_Output

from conftest import Tiny
from minillm import hub
from minillm.acting import transcript
from minillm.acting.transcript import Transcript
from minillm.chat import __main__ as chat
from minillm.chat import conversation as module
from minillm.chat.conversation import Conversation, Reader
from minillm.chat.screen import LABELS, STYLES, Pipe, Terminal, harmless, one_line_of_json
from minillm.sample import ask, sample
from minillm.tokenizer import Tokenizer
from minillm.worlds.own import read_questions

ROOT = Path(__file__).resolve().parents[2]
WORDS = Tokenizer.train(["What is 47+38? double(47) 85 error: It is 85. Hello."], 300)
STEERING = "a\x1b[2Jb\x07c\rd\u202ee\x9bf\u2066g\x00"


def model(context=96):
    return Tiny(vocab_size=WORDS.vocab_size, dtype=torch.float32, context=context)


def conversation(context=96, **how):
    return Conversation(model(context), WORDS, **how)


def double(number: str) -> str:
    """Twice a number.

    Args:
        number: such as 47
    """
    return str(2 * int(number))


def scripted(monkeypatch, script):
    """`stream` that writes what script(prompt) gives: ids, and functions that are called when their turn
    comes."""
    def stream(model, prompt, most, *, end, **how):
        ends = end if isinstance(end, tuple) else (end,)
        for token in script(list(prompt))[:most]:
            yield (token() if callable(token) else token), -1.0
            if token in ends:
                return

    for place in (transcript, module):
        monkeypatch.setattr(place, "stream", stream)


def said(text):
    return [*WORDS.encode(text), WORDS.end]


def stop():
    raise KeyboardInterrupt


class Fake:
    """A terminal that keeps what it is told, and writes lines that were thought of before."""

    def __init__(self, *written):
        self.written, self.parts, self.notes = written, [], []

    def lines(self):
        yield from self.written

    def hearing(self):
        return Terminal.hearing(self)

    def say(self, kind, text):
        if self.parts and self.parts[-1][0] == kind:
            text = self.parts.pop()[1] + text
        self.parts.append((kind, text))

    def end(self):
        self.parts.append(("end", ""))

    def note(self, text):
        self.notes.append(text)


# --- what is read ---------------------------------------------------------------------------------


def test_the_conversation_so_far_is_the_prompt(monkeypatch):
    """Two turns by hand: [USER] q [ASSISTANT] a [END] [USER] q [ASSISTANT]."""
    scripted(monkeypatch, lambda prompt: said("It is 85."))
    talk = conversation()
    chat.talk(talk, Fake("What is 47+38?", "Hello."))
    first = WORDS.prompt("What is 47+38?") + WORDS.response("It is 85.")
    assert talk.past == [first, WORDS.prompt("Hello.") + WORDS.response("It is 85.")]
    assert talk.prompt("Hello.") == (first + talk.past[1] + WORDS.prompt("Hello."), 0)


@pytest.mark.parametrize("turns", [0, 1, 2, 5])
def test_so_many_turns_are_read_and_no_more(turns):
    talk = conversation(turns=turns)
    talk.past = [[1, i, 0] for i in range(3)]
    prompt, cut = talk.prompt("Hello.")
    assert prompt == [i for turn in [[1, 0, 0], [1, 1, 0], [1, 2, 0]][max(0, 3 - turns):] for i in turn] + \
        WORDS.prompt("Hello.") and cut == 0


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 40), max_size=8), st.integers(1, 60), st.integers(1, 93))
def test_the_oldest_turns_give_way(lengths, length, tokens):
    """The prompt is the newest turns, whole, as many as leave the answer its room; the question always."""
    talk = conversation(tokens=tokens)
    talk.past = [[i + 9] * n for i, n in enumerate(lengths)]
    question = "".join(WORDS.decode([i + 20]) for i in range(length))
    asked = WORDS.prompt(question)
    if len(asked) >= 96:
        with pytest.raises(ValueError, match="the question is .* the context is 96: ask a shorter one"):
            talk.prompt(question)
        return
    prompt, cut = talk.prompt(question)
    kept = len(lengths) - cut
    assert prompt == [i for turn in talk.past for i in turn] + asked and len(talk.past) == kept
    assert kept == 0 or len(prompt) + tokens <= 96
    assert cut == 0 or sum(lengths[cut - 1:]) + len(asked) + tokens > 96


def test_what_is_no_longer_read_is_said(monkeypatch):
    scripted(monkeypatch, lambda prompt: said("It is 85."))
    screen, talk = Fake(*["What is 47+38?"] * 6, "x" * 100), conversation(tokens=20)
    chat.talk(talk, screen)
    assert screen.notes[0] == "the context is 96 tokens: from here on the model does not read the oldest turn"
    assert screen.notes[-1].startswith("not asked: the question is 102 tokens long")
    assert len([part for part in screen.parts if part[0] == "answer"]) == 6


def test_a_tokenizer_without_marks_goes_on_with_the_text(monkeypatch):
    bare = Tokenizer(Tokenizer.train(["a b"], 270).backend)
    bare.user = bare.assistant = bare.call = bare.end = None
    talk = Conversation(Tiny(vocab_size=270, dtype=torch.float32, context=40), bare, tools=[double], tokens=3)
    screen = Fake("Once", "upon", "/tools")
    chat.talk(talk, screen, [double])
    assert len(talk.past) == 2 and talk.past[0][:len(bare.encode("Once"))] == bare.encode("Once")
    assert talk.past[1][:len(bare.encode("\nupon"))] == bare.encode("\nupon")
    assert [len(turn) for turn in talk.past] == [len(bare.encode(t)) + 3 for t in ("Once", "\nupon")]
    assert screen.notes[-1].endswith("so there are no tools")


# --- what is shown --------------------------------------------------------------------------------


IDS = st.one_of(st.sampled_from(range(9)), st.integers(9, WORDS.vocab_size - 1))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(IDS, st.booleans()), max_size=40))
def test_pieces_joined_are_the_text(tokens):
    """Of each stretch between two marks; and nothing that was shown is taken back."""
    reader, stretches = Reader(WORDS), [["answer", [], ""]]
    kinds = {WORDS.think: "thought", WORDS.call: "call", WORDS.reply: "reply"}
    pieces = []
    for token, by_model in tokens:
        pieces += [(len(stretches) - 1, *piece) for piece in reader.read(token, by_model)]
        if token in reader.marks:
            kind = kinds.get(token, "answer")
            stretches.append(["made up" if kind == "reply" and by_model else kind, [], ""])
        else:
            stretches[-1][1].append(token)
    pieces += [(len(stretches) - 1, *piece) for piece in reader.close()]
    for number, kind, text in pieces:
        assert kind == stretches[number][0]
        stretches[number][2] += text
    for kind, ids, text in stretches:
        assert text == WORDS.decode(ids, specials=True)


def test_a_character_is_held_until_it_is_whole():
    reader = Reader(WORDS)
    ids = WORDS.encode("日x")
    assert len(ids) == 4
    assert [[p.text for p in reader.read(i)] for i in ids] == [[], [], ["日"], ["x"]]


def test_an_answer_is_shown_token_by_token(monkeypatch):
    """Each piece is on the screen before the next token is drawn."""
    screen, seen = Fake("Hello."), []
    a, b = WORDS.encode("a"), WORDS.encode("b")
    scripted(monkeypatch, lambda prompt: [*a, lambda: seen.append(list(screen.parts)) or b[0], WORDS.end])
    chat.talk(conversation(), screen)
    assert seen == [[("answer", "a")]] and screen.parts == [("answer", "ab"), ("end", "")]


def test_thoughts_calls_and_replies_have_kinds_of_their_own(monkeypatch):
    def script(prompt):
        if WORDS.reply_end in prompt:
            return [WORDS.reply, *WORDS.encode("9"), WORDS.reply_end, *said("It is 94.")]
        thought = [WORDS.think, *WORDS.encode("twice 47"), WORDS.think_end]
        return [*thought, WORDS.call, *WORDS.encode("double(47)"), WORDS.call_end]

    scripted(monkeypatch, script)
    screen = Fake("What?")
    chat.talk(conversation(tools=[double], tokens=80), screen)
    assert screen.parts == [("thought", "twice 47"), ("call", "double(47)"), ("reply", "94"),
                            ("made up", "9"), ("answer", "It is 94."), ("end", "")]


def test_no_kind_is_told_by_its_colour_alone():
    assert len(set(LABELS.values())) == len(LABELS) == len(set(STYLES[kind] for kind in LABELS))


@pytest.mark.parametrize("tokens, why", [(5, "stopped after 5 tokens"),
                                         (93, "the context of 96 tokens is full")])
def test_why_an_answer_stopped_is_said(monkeypatch, tokens, why):
    scripted(monkeypatch, lambda prompt: [20] * 200)
    for tools in (None, [double]):
        screen = Fake("Hello.")
        talk = conversation(tokens=tokens, tools=tools)
        chat.talk(talk, screen)
        assert why in screen.notes[0]
        assert talk.past[0][-1] == WORDS.end and talk.past[0].count(20) == min(
            tokens, 96 - len(WORDS.prompt("Hello.")))


def test_an_empty_answer_is_said(monkeypatch):
    scripted(monkeypatch, lambda prompt: [WORDS.end])
    screen = Fake("Hello.")
    chat.talk(conversation(), screen)
    assert screen.parts == [("end", "")] and screen.notes == ["an empty answer"]


def test_without_a_script_an_answer_is_the_one_that_sample_gives():
    mine = model()
    for seed in range(4):
        generators = [torch.Generator().manual_seed(seed) for _ in range(2)]
        talk = Conversation(mine, WORDS, tokens=20, temperature=1.0, generator=generators[0])
        screen = Fake("Hello.")
        chat.talk(talk, screen)
        batch = sample(mine, [WORDS.prompt("Hello.")], 20, end=WORDS.end, generator=generators[1])
        ids = WORDS.prompt("Hello.") + batch.responses()[0]
        assert talk.past[0] == ids + ([] if ids[-1] == WORDS.end else [WORDS.end])


# --- tools ----------------------------------------------------------------------------------------


def test_tools_are_turned_on_and_off(monkeypatch):
    """Off: what the model writes as a call stays text, no tool runs, and the model goes on by itself."""
    def script(prompt):
        if WORDS.reply_end in prompt:
            return said("It is 94.")
        return [WORDS.call, *WORDS.encode("double(47)"), WORDS.call_end, *said("I say 3.")]

    scripted(monkeypatch, script)
    screen = Fake("What?", "/tools", "What?", "/tools on", "/tools on", "/tools off", "/tools maybe", "/new",
                  "What?")
    file = io.StringIO()
    chat.talk(conversation(context=200, tools=[double], turns=0), screen, [double], file)
    call, end = ("call", "double(47)"), ("end", "")
    off = [call, ("answer", "I say 3."), end]
    assert screen.parts == [call, ("reply", "94"), ("answer", "It is 94."), end, *off, *off]
    on = "tools are on: double"
    assert screen.notes[:4] == ["tools are off", on, on, "tools are off"]
    turns = [json.loads(line) for line in file.getvalue().splitlines()]
    assert [(turn["answer"], len(turn["calls"])) for turn in turns] == [
        ("It is 94.", 1), ("I say 3.", 0), ("I say 3.", 0)]
    assert screen.notes[4].startswith("there is no /tools maybe") and "forgotten" in screen.notes[5]


def test_a_notebook_lasts_as_long_as_the_conversation(monkeypatch):
    def script(prompt):
        if prompt[-1] == WORDS.reply_end:
            return said("done")
        first = WORDS.prompt("Keep it.") == prompt[-len(WORDS.prompt("Keep it.")):]
        return [WORDS.call, *WORDS.encode("write(a lamp)" if first else "read()"), WORDS.call_end]

    scripted(monkeypatch, script)
    screen, tools = Fake("Keep it.", "Read it."), chat.town_tools()
    chat.talk(conversation(context=200, turns=0, tools=tools), screen, tools)
    assert [text for kind, text in screen.parts if kind == "reply"] == ["written", "a lamp"]


# --- Ctrl-C ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("tools", [None, [double]], ids=["off", "on"])
def test_ctrl_c_stops_an_answer_and_not_the_program(monkeypatch, tools):
    """Before the first token, in the middle and in a thought: what was written stays, closed, and the next
    question is answered."""
    for written, kind in (("", None), ("It is", "answer"), (None, "thought")):
        begun = [WORDS.think, *WORDS.encode("so")] if written is None else WORDS.encode(written)
        scripted(monkeypatch, lambda prompt: said("Hello.") if prompt.count(WORDS.user) == 2 else
                 [*begun, stop, *WORDS.encode("never")])
        screen, talk, file = Fake("What?", "Again?"), conversation(tools=tools), io.StringIO()
        chat.talk(talk, screen, transcript=file)
        expected = {"answer": [("answer", "It is")], "thought": [("thought", "so")], None: []}[kind]
        assert screen.parts == [*expected, ("end", ""), ("answer", "Hello."), ("end", "")]
        assert screen.notes == ["stopped"]
        assert talk.past[0] == WORDS.prompt("What?") + begun + [WORDS.end]
        assert [json.loads(line)["stopped"] for line in file.getvalue().splitlines()] == ["person", "end"]


def test_ctrl_c_stops_a_tool(monkeypatch):
    def waits(what: str) -> str:
        """Waits.

        Args:
            what: anything
        """
        os.kill(os.getpid(), signal.SIGINT)     # as the key does, while the tool is waited for
        time.sleep(1)
        return "late"

    waits.seconds = 5
    scripted(monkeypatch, lambda prompt: [WORDS.call, *WORDS.encode("waits(x)"), WORDS.call_end])
    screen = Fake("What?")
    chat.talk(conversation(tools=[waits]), screen)
    assert screen.parts == [("call", "waits(x)"), ("end", "")] and screen.notes == ["stopped"]


def test_a_second_ctrl_c_a_moment_too_late_does_nothing(monkeypatch):
    """Between answers it does nothing; and when the conversation is over it is what it was."""
    before = signal.getsignal(signal.SIGINT)
    with create_pipe_input() as keys:
        terminal = Terminal(keys, DummyOutput())
        keys.send_text("one\rtwo\r\x04")
        for line in terminal.lines():
            os.kill(os.getpid(), signal.SIGINT)
            with pytest.raises(KeyboardInterrupt), terminal.hearing():
                os.kill(os.getpid(), signal.SIGINT)
                signal.getitimer(signal.ITIMER_REAL)    # a signal is heard between two calls
    assert line == "two" and signal.getsignal(signal.SIGINT) == before


# --- a terminal -----------------------------------------------------------------------------------


def test_history_ctrl_c_and_ctrl_d():
    """Up brings back the last line, Ctrl-C throws a line away, Ctrl-D ends."""
    with create_pipe_input() as keys:
        terminal = Terminal(keys, DummyOutput())
        keys.send_text("one\r")
        lines = terminal.lines()
        assert next(lines) == "one"
        keys.send_text("half\x03")
        threading.Timer(0.5, keys.send_text, ["\x1b[A!\r"]).start()     # history is loaded beside the prompt
        assert next(lines) == "one!"
        keys.send_text("\x04")
        assert list(lines) == []


class Screen(io.StringIO):
    """What a terminal is sent."""

    def fileno(self):
        return 1


def test_nothing_that_a_model_writes_steers_the_terminal():
    """Its text has no code in it; the only ones are those of our own styles."""
    sent = Screen()
    size = lambda: (24, 80)  # noqa: E731
    output = Vt100_Output(sent, size, term="xterm", default_color_depth=ColorDepth.DEPTH_8_BIT)
    with create_pipe_input() as keys:
        terminal = Terminal(keys, output)
        for kind in LABELS:
            terminal.say(kind, STEERING)
        terminal.note(STEERING)
        terminal.say("answer", "5\n  tool: 6")
    written = sent.getvalue()
    assert "5\r\n         tool: 6" in written           # no line of an answer begins as a label does
    shown = r"a\x1b[2Jb\x07c\rd\u202ee\x9bf\u2066g\x00"
    assert written.count(shown) == len(LABELS) + 1
    rest = written.replace(shown, "")
    assert not set(rest) & set("\x07\x00\x9b\u202e\u2066") and "\x1b[2J" not in written
    assert all(label in rest for label in LABELS.values())


@pytest.mark.parametrize("text", ["a b\tc\nd", "Grüße, 日本\u3000語, می\u200cخواهم, 👩\u200d🔬, \u00a0«"])
def test_what_people_write_stays_as_it_is(text):
    assert harmless(text) == text


@given(st.text())
def test_harmless_text_has_no_codes(text):
    shown = harmless(text)
    assert all(c.isprintable() or c in "\n\t\u200c\u200d" or c.isspace() for c in shown)
    assert not set(shown) & set("\x1b\r\x00\x7f\x9b\u202e\u2028\u2029\x85")


@given(st.text())
def test_a_line_of_json_reads_back_and_has_no_codes(text):
    line = one_line_of_json({"answer": text})
    assert json.loads(line) == {"answer": text} and "\n" not in line and harmless(line) == line


# --- the transcript -------------------------------------------------------------------------------


def test_the_transcript_is_written_as_it_goes_and_can_be_learned_from(monkeypatch, tmp_path):
    def script(prompt):
        if WORDS.reply_end in prompt:
            return said("It is 94.")
        thought = [WORDS.think, *WORDS.encode("twice"), WORDS.think_end]
        return [*thought, WORDS.call, *WORDS.encode("double(47)"), WORDS.call_end]

    scripted(monkeypatch, script)
    path = tmp_path / "said.jsonl"
    path.write_text('{"question": "before", "answer": "there"}\n')
    lines = []

    class Watching(Fake):
        def lines(self):
            for line in self.written:
                lines.append(path.read_text().count("\n"))
                yield line

    with path.open("a", encoding="utf-8") as file:
        talk = conversation(context=200, tools=[double], turns=0, tokens=90)
        chat.talk(talk, Watching("One?", "Two?", "/new"), transcript=file)
    assert lines == [1, 2, 3]
    turn = json.loads(path.read_text().splitlines()[1])
    assert turn == {"question": "One?", "answer": "It is 94.", "thought": "twice", "stopped": "end",
                    "calls": [{"call": "double(47)", "reply": "94", "ok": True}]}
    assert read_questions(path) == [("before", "there"), ("One?", "It is 94."), ("Two?", "It is 94.")]


def test_a_full_disk_ends_the_transcript_and_not_the_conversation(monkeypatch):
    class Full(io.StringIO):
        def write(self, text):
            raise OSError(28, "No space left on device")

    scripted(monkeypatch, lambda prompt: said("Hello."))
    screen = Fake("One?", "Two?")
    chat.talk(conversation(), screen, transcript=Full())
    assert [note.split(" can")[0] for note in screen.notes] == ["the transcript"]
    assert screen.parts.count(("answer", "Hello.")) == 2


# --- a pipe, and the command ----------------------------------------------------------------------


def test_a_pipe_keeps_answers_apart_from_all_else(capsys):
    pipe = Pipe()
    for kind, text in (("thought", "so\x1b"), ("answer", "a\x1b"), ("call", "f("), ("call", "x)"),
                       ("answer", "b")):
        pipe.say(kind, text)
    pipe.end()
    pipe.note("well")
    pipe.end()
    out, err = capsys.readouterr()
    assert out == "a\\x1bb\n\n" and err == "thinks: so\\x1b\ncalls: f(x)\n(well)\n"


def test_ctrl_c_in_a_pipe_ends_the_program(monkeypatch, capsys):
    scripted(monkeypatch, lambda prompt: [*WORDS.encode("It"), stop])
    monkeypatch.setattr(hub, "load", lambda *_: (model(), WORDS))
    monkeypatch.setattr(sys, "stdin", io.StringIO("What?\nAgain?\n"))
    assert chat.main(["--from=x", "--tools=off"]) == 130
    assert capsys.readouterr().out == "It"


def test_in_a_pipe(tmp_path):
    """One start: questions in, an answer a line out, each the one that `ask` gives; nothing else on stdout,
    no codes, and a transcript."""
    file = tmp_path / "said.jsonl"
    file.write_text('{"question": "before", "answer": "there"}\n')
    questions = ["What pet does Ned Lake have?", "Where does Ned Lake live?"]
    run = subprocess.run(
        [sys.executable, "-m", "minillm.chat", "--from=tuned", f"--transcript={file}", "--tokens=40"],
        input=f"{questions[0]}\n\n/tools off\n{questions[1]}", capture_output=True, text=True, timeout=120,
        cwd=ROOT, encoding="utf-8")
    tuned, tokenizer = hub.load("tuned")
    answers = [y.text for y in ask(tuned, tokenizer, questions, 40)]
    assert run.returncode == 0 and run.stdout.splitlines() == answers
    assert run.stderr == "(tools are off)\n"
    assert read_questions(file) == [("before", "there"), *zip(questions, answers)]


@pytest.mark.parametrize("arguments, said", [
    (["--from=nowhere"], "nowhere"),
    (["--from="], "--from is empty"),
    (["--tokens=300"], "tokens is 300: give a whole number from 1 to 253"),
    (["--turns=-1"], "turns is -1"),
    (["--temperature=-1"], "temperature is -1.0"),
    (["--temperature=nan"], "temperature is nan"),
    (["--seed=-1"], "--seed is -1"),
    (["--tools=some"], "--tools"),
    (["--transcript=nowhere/at/all"], "nowhere/at/all"),
    (["--what"], "--what"),
])
def test_what_cannot_be_used_is_named_in_a_line(arguments, said, capsys):
    try:
        code = chat.main(arguments if arguments[0].startswith("--from") else ["--from=tuned", *arguments])
    except SystemExit as end:
        code = end.code
    out, err = capsys.readouterr()
    assert code == 2 and out == "" and err.count("\n") == 1 and err.startswith("chat: ") and said in err


def test_a_context_too_short_for_a_question_is_named(tmp_path, capsys):
    tiny = Tiny(vocab_size=WORDS.vocab_size, dtype=torch.float32, context=3)
    hub.save(tiny, WORDS, tmp_path)
    assert chat.main([f"--from={tmp_path}"]) == 2
    assert capsys.readouterr().err == "chat: model is one with a context of 3 tokens: " \
                                      "give a model that reads 4 or more\n"


def test_help_says_what_the_keys_do(capsys):
    with pytest.raises(SystemExit) as end:
        chat.main(["--help"])
    said = capsys.readouterr().out
    assert end.value.code == 0
    assert all(word in said for word in ("Ctrl-C", "Ctrl-D", "/tools", "--transcript"))


def test_a_model_of_this_package_is_asked_each_question_alone(monkeypatch):
    """It learned from single questions; another model reads the conversation. --turns has the last word."""
    seen = []
    monkeypatch.setattr(chat, "talk", lambda conversation, *rest: seen.append(conversation.turns))
    monkeypatch.setattr(hub, "load", lambda *_: (model(), WORDS))
    elsewhere = Tokenizer(WORDS.backend)
    elsewhere.own = False
    chat.main(["--from=x"])
    chat.main(["--from=x", "--turns=3"])
    monkeypatch.setattr(hub, "load", lambda *_: (model(), elsewhere))
    chat.main(["--from=x"])
    assert seen == [0, 3, None]


def test_the_model_that_a_journey_kept_comes_first(monkeypatch, tmp_path):
    loaded = []
    monkeypatch.setattr(hub, "load", lambda folder, *_: loaded.append(folder) or (model(), WORDS))
    monkeypatch.setattr(chat, "talk", lambda *_: None)
    monkeypatch.chdir(tmp_path)
    chat.main([])
    (tmp_path / "build" / "journey").mkdir(parents=True)
    (tmp_path / "build" / "journey" / "config.json").touch()
    chat.main([])
    assert loaded == ["caller", os.path.join("build", "journey")]


def test_a_transcript_without_a_token_can_be_kept():
    talk = conversation()
    talk.keep("Hello.", Transcript([1]))
    assert talk.past == [WORDS.prompt("Hello.") + [WORDS.end]]
