"""The command `python -m minillm.chat`: talk to a model, in a terminal or in a pipe."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

import torch

from .. import hub
from ..acting.calculator import calculator
from ..acting.toolbox import calendar, notebook, records, search
from ..acting.tools import Tool
from ..acting.transcript import Transcript
from ..transformer import device_and_dtype
from ..worlds.town import Town
from .conversation import Conversation
from .screen import Pipe, Terminal, harmless, one_line_of_json

KEPT = Path("build/journey")        # where `make journey` leaves its model
HELP = """/tools [on|off] whether the model may call tools; /new forgets all that was said; /help.
Ctrl-C stops an answer, Ctrl-D ends, the arrow keys bring back what you wrote.
Models of the town know: What pet does Ned Lake have? What is 47+38? Write the steps.
`caller` calls tools for: What is 34*85? How many days are there from 2 May to 9 June?"""
ALONE = ("this model learned from single questions, so each of yours is asked alone; "
         "with --turns=N (TURNS=N) it reads N earlier turns too")
CONTINUES = ("this model's tokenizer has no marks of who speaks, so it goes on with your text; "
             "there are no tools and no thoughts")
WHY = {"tokens": "stopped after {0.tokens} tokens; for longer answers: --tokens=N (TOKENS=N)",
       "context": "stopped: the context of {0.model.config.context} tokens is full",
       "seconds": "stopped: out of time", "person": "stopped"}


def town_tools() -> list[Tool]:
    """The course's tools, for the town of its models: calculator, calendar, search and a notebook."""
    town = Town()
    return [calculator, calendar(town), search(records(town), most=1), *notebook()]


def talk(conversation: Conversation, screen: Terminal | Pipe, tools: Sequence[Tool] = (),
         transcript: TextIO | None = None) -> None:
    """Ask what each line of a screen asks, until there are no more.

    tools: what "/tools on" turns on. transcript: a file that takes a line of JSON for each turn, when the
    turn is over.
    KeyboardInterrupt ends an answer in a terminal, and is raised in a pipe.
    """
    for line in screen.lines():
        question = line.strip().encode("utf-8", "replace").decode()
        if question.startswith("/"):
            screen.note(obey(question, conversation, tools))
        elif question:
            try:
                prompt, cut = conversation.prompt(question)
            except ValueError as error:
                screen.note(f"not asked: {error}")
                continue
            if cut:
                context = conversation.model.config.context
                screen.note(f"the context is {context} tokens: from here on the model "
                            f"does not read the oldest {'turn' if cut == 1 else f'{cut} turns'}")
            row, stopped = answered(conversation, screen, prompt)
            conversation.keep(question, row)
            if transcript is not None and not written(transcript, question, row, stopped, conversation):
                screen.note("the transcript cannot be written any more; it ends with the turn before")
                transcript = None


def answered(conversation: Conversation, screen: Terminal | Pipe,
             prompt: list[int]) -> tuple[Transcript, str]:
    """Show an answer while it is written. The transcript, and why it stopped: "person" after Ctrl-C."""
    reader, row, shown = conversation.reader(prompt), Transcript(prompt), False
    try:
        with screen.hearing():
            for row in conversation.answer(prompt):
                for piece in reader.follow(row):
                    screen.say(*piece)
                    shown = True
        stopped = row.stopped
    except KeyboardInterrupt:
        if isinstance(screen, Pipe):
            raise
        stopped = "person"
    for piece in reader.close():
        screen.say(*piece)
        shown = True
    screen.end()
    if stopped != "end":
        screen.note(WHY[stopped].format(conversation))
    elif not shown:
        screen.note("an empty answer")
    return row, stopped


def obey(command: str, conversation: Conversation, tools: Sequence[Tool]) -> str:
    """Do what a line that begins with / says; what came of it, in words."""
    word, _, rest = command.partition(" ")
    if word == "/new":
        conversation.past = []
        return "all that was said is forgotten"
    if word == "/tools" and rest.strip() in ("", "on", "off"):
        if not tools:
            return "there are no tools"
        if not conversation.calls:
            return "this model has no marks of calls that are known here, so there are no tools"
        on = rest.strip() == "on" or not rest.strip() and conversation.tools is None
        conversation.tools = list(tools) if on else None
        names = ", ".join(tool.__name__ for tool in tools)
        return f"tools are on: {names}" if on else "tools are off"
    if word == "/help":
        return HELP
    return f"there is no {command}. {HELP}"


def written(file: TextIO, question: str, row: Transcript, stopped: str, conversation: Conversation) -> bool:
    """A turn as a line of JSON behind those that a file holds; whether the disk took it.

    {"question": …, "answer": … without calls and thoughts, "thought": … or null, "calls": [{"call": …,
    "reply": …, "ok": …}], "stopped": "end", "tokens", "context" or "person"}. A call that was written while
    tools were off was not made, and is not in it.
    """
    reader = conversation.reader(row.prompt)
    parts = reader.follow(row) + reader.close()
    thought = "".join(part.text for part in parts if part.kind == "thought")
    turn = {"question": question, "answer": "".join(part.text for part in parts if part.kind == "answer"),
            "thought": thought or None,
            "calls": [{"call": made.text, "reply": made.reply, "ok": made.ok} for made in row.calls],
            "stopped": stopped}
    try:
        file.write(one_line_of_json(turn) + "\n")
        file.flush()
    except OSError:
        return False
    return True


def main(argv: list[str] | None = None) -> int:
    """The command.

    Returns 0 at the end of what was asked; 2 for input that cannot be used; 130 after Ctrl-C in a pipe, or
    before there was a model.
    """
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="replace")
    if sys.stdin is None:               # it was closed
        sys.stdin = open(os.devnull, encoding="utf-8")
    args = read_arguments(argv)
    file = None
    try:
        start = args.start or (str(KEPT) if (KEPT / "config.json").is_file() else "caller")
        device, _ = device_and_dtype()
        model, tokenizer = hub.load(start, device)
        template = None if tokenizer.own else hub.load_template(start, tokenizer)
        generator = torch.Generator(device).manual_seed(args.seed)
        conversation = Conversation(model, tokenizer, turns=args.turns, tokens=args.tokens,
                                    temperature=args.temperature, generator=generator, template=template)
        if args.transcript:
            file = open(args.transcript, "a", encoding="utf-8")
        tools = town_tools() if conversation.calls else []
        conversation.tools = tools if tools and args.tools == "on" else None
        if args.turns is None and tokenizer.own:
            conversation.turns = 0
        screen = Terminal() if at_a_terminal() else Pipe()
        weights = f"{model.count_parameters() / 1e6:.1f} M weights, context {model.config.context}"
        screen.welcome(f"{start}: {weights}; {obey('/tools ' + args.tools, conversation, tools)}.\n{HELP}")
        if not conversation.speaks:
            screen.welcome(CONTINUES)
        elif conversation.turns == 0 and args.turns is None:
            screen.welcome(ALONE)
        talk(conversation, screen, tools, file)
    except BrokenPipeError:             # who read the answers has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError) as error:
        print(f"chat: {harmless(' '.join(str(error).split()))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    finally:
        if file is not None:
            file.close()
    return 0


def at_a_terminal() -> bool:
    """Whether a person sits at both ends, and the terminal can do more than print."""
    return sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def read_arguments(argv: list[str] | None) -> argparse.Namespace:
    """The command line. Ends the program, with 2, for one that is wrong."""
    parser = argparse.ArgumentParser(
        prog="chat", formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Talk to a model. " + HELP,
        epilog="In a pipe: a question a line on stdin, the answers on stdout; thoughts, calls and notes "
               "go to stderr, and Ctrl-C ends the program.")
    parser.error = lambda message: parser.exit(2, f"chat: {' '.join(message.split())} (see --help)\n")
    parser.add_argument("--from", dest="start", metavar="base|tuned|caller|FOLDER",
                        help=f"a shipped model, or a checkpoint's folder (default: {KEPT}, where a "
                             "journey has left one, else caller)")
    parser.add_argument("--tools", choices=("on", "off"), default="on",
                        help="whether the model may call the course's tools (default on)")
    parser.add_argument("--transcript", metavar="FILE.jsonl",
                        help="write each turn behind what the file holds, a line of JSON when it is "
                             "over: question, answer, thought, calls, why it stopped")
    parser.add_argument("--turns", type=int, metavar="N",
                        help="earlier turns that the model reads with a question (default: all that the "
                             "context takes; 0 for models of this package: they learn from single questions)")
    parser.add_argument("--tokens", type=int, metavar="N",
                        help="the longest answer (default: half of the context, 1024 at most)")
    parser.add_argument("--temperature", type=float, default=0.0, metavar="T",
                        help="0: always the likeliest token (default); 1: drawn as the model says")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn (default 0)")
    args = parser.parse_args(argv)
    if not 0 <= args.seed < 2**63:
        parser.error(f"--seed is {args.seed}: give a whole number from 0 to 2**63 - 1")
    for name, value in (("from", args.start), ("transcript", args.transcript)):
        if value == "":
            parser.error(f"--{name} is empty: give a value, or leave --{name} out")
    return args


if __name__ == "__main__":
    sys.exit(main())
