"""Chapter 17's runs with tools and without: who calls when, what a call is worth, what a wrong reply does.

It takes about 6 minutes a seed on one core and writes benchmarks/results/chapter17_with.json:

    python -m benchmarks.chapter17_with                         # the seeds that are not kept yet
    python -m benchmarks.chapter17_with --seeds 20 --again

From the same base model, the same questions in the same order, as many steps: `caller` learns from
demonstrations with calls, `at once` from the answers alone. Settings were chosen on seed 0; the seeds here
chose nothing. The models are kept in build/chapter17 (`begun` is the caller after BEGUN steps, for
chapter17_rl). Seed 20's caller is the one that comes with the course (`python -m minillm.checkpoints
--caller`).
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path


from minillm import hub
from minillm.acting.calculator import calculator
from minillm.acting.errands import (ASKED, LIMITS, SETTINGS, SHARES, TOOL, Errand, Errands, right, tally,
                                    teach)
from minillm.acting.toolbox import calendar, search
from minillm.acting.tools import Tool
from minillm.acting.transcript import Transcript, use
from minillm.worlds.town import Town

from .parts import command, run_missing

RESULTS = Path(__file__).parent / "results" / "chapter17_with.json"
MODELS = Path(__file__).parents[1] / "build" / "chapter17"
SEEDS = (20, 21, 22)
BEGUN = 400                                     # of the caller's steps
TESTED, SHOWN = 100, 3                          # held-out questions of a kind; transcripts kept of each
WORLD = Errands()
_, TOKENIZER = hub.load("base")


# --- tools that lie -------------------------------------------------------------------------------


def lying(errands: Errands) -> list[Tool]:
    """The same tools, each a little wrong: one more, a day later, what is said of somebody else."""
    true_calculator, true_calendar = calculator, calendar(errands.town)

    def off_by_one(expression: str) -> str:
        """The exact value of a sum of numbers.

        Args:
            expression: such as (47+38)*2
        """
        return true_calculator(f"({expression})+1")

    def a_day_later(date: str) -> str:
        """What comes some days later, how many days lie between.

        Args:
            date: such as 12 March + 30; 12 March to 3 May
        """
        said = true_calendar(date)
        days = re.fullmatch(r"(\d+) days?", said)
        return f"{int(days[1]) + 1} days" if days else true_calendar(f"{said} + 1")

    off_by_one.__name__, a_day_later.__name__ = "calculator", "calendar"
    return [off_by_one, a_day_later, search(somebody_elses(errands.town), most=1)]


def somebody_elses(town: Town) -> list[str]:
    """The town's records, with the values of each relation moved on to the next that differs."""
    lines = []
    for relation in dict.fromkeys(fact.relation for fact in town.facts):
        facts = [fact for fact in town.facts if fact.relation == relation]
        values = [fact.value for fact in facts]
        for i, fact in enumerate(facts):
            others = values[i + 1:] + values[:i]
            lines.append(f"{fact.key}: {next(v for v in others if v != fact.value)}")
    return lines


def said_by_tool(errand: Errand, row: Transcript) -> str | None:
    """The answer that the last reply asks for: the question's own, with the reply's value in place of the
    true one. None where no call came to a reply."""
    if not row.calls or not row.calls[-1].ok:
        return None
    value = row.calls[-1].reply.rpartition(": ")[2]
    return errand.question.response.replace(errand.question.answer, value)


# --- models and their tests -----------------------------------------------------------------------


def learned(seed: int, calls: bool) -> tuple[object, dict]:
    """A model from base after all steps, kept in MODELS; and what its training took."""
    model, _ = hub.load("base")
    tokens = []

    def watch(batch, *_) -> dict:
        if calls and len(tokens) == BEGUN:
            hub.save(model, TOKENIZER, MODELS / f"begun{seed}")
        tokens.append(int((batch.sequence >= 0).sum()))
        return {}

    name, begun = "caller" if calls else "at once", time.perf_counter()
    teach(model, TOKENIZER, WORLD, seed, calls=calls, watch=watch, label=f"{name} {seed}")
    hub.save(model, TOKENIZER, MODELS / f"{name.replace(' ', '_')}{seed}")
    return model, {"seconds": round(time.perf_counter() - begun), "tokens read": sum(tokens)}


def asked(seed: int, n: int = TESTED) -> dict[str, list[Errand]]:
    """Held-out questions of every kind; fewer where there are no more."""
    rng = random.Random(f"tested/{seed}")
    return {kind: WORLD.questions(kind, n, True, rng) for kind in ASKED}


def answers(model, errands: Sequence[Errand], tools: Sequence[Tool]) -> list[Transcript]:
    """Greedy."""
    return use(model, TOKENIZER, [errand.question.prompt for errand in errands], list(tools), LIMITS)


def shown(errands: Sequence[Errand], rows: Sequence[Transcript], want: Callable[[Errand, Transcript], bool],
          n: int = SHOWN) -> list[dict]:
    """The first few transcripts of which something holds, whole."""
    some = [(errand, row) for errand, row in zip(errands, rows) if want(errand, row)][:n]
    return [{"asked": errand.question.prompt, "wrote": row.text(TOKENIZER),
             "answer": errand.question.response,
             "right": right(errand.question, row, TOKENIZER)} for errand, row in some]


def tested(model, tests: dict[str, list[Errand]], tools: Sequence[Tool]) -> dict:
    """The tally of each kind; transcripts: some that are right, and some that are wrong."""
    kept: dict = {"tally": {}, "right": {}, "wrong": {}}
    for kind, errands in tests.items():
        rows = answers(model, errands, tools)
        kept["tally"] |= tally(errands, rows, TOKENIZER)
        for name, wanted in (("right", True), ("wrong", False)):
            kept[name][kind] = shown(errands, rows,
                                     lambda e, row: right(e.question, row, TOKENIZER) == wanted)
        if kind in ("famous", "unasked"):
            kept.setdefault("called for", {})[kind] = shown(errands, rows, lambda _, row: bool(row.calls))
        if kind in ("never", "once"):
            kept.setdefault("not called for", {})[kind] = shown(errands, rows, lambda _, row: not row.calls)
    return kept


def lied_to(model, tests: dict[str, list[Errand]]) -> dict:
    """With tools that lie. believed: of the answers behind a reply, the share that says what it said; kept
    right: the share that is right all the same."""
    kept: dict = {"tally": {}, "shown": {}}
    for kind, errands in tests.items():
        rows = answers(model, errands, lying(WORLD))
        heard = [(errand, row, said_by_tool(errand, row)) for errand, row in zip(errands, rows)]
        heard = [(e, row, said) for e, row, said in heard if said is not None and said != e.question.response]
        texts = [row.response(TOKENIZER).text for _, row, _ in heard]
        believed = sum(text == lie for text, (_, _, lie) in zip(texts, heard))
        true = sum(text == e.question.response for text, (e, _, _) in zip(texts, heard))
        kept["tally"] |= tally(errands, rows, TOKENIZER)
        kept["tally"][kind] |= {
            "heard a lie": len(heard), "believed": believed / max(1, len(heard)),
            "right all the same": true / max(1, len(heard))}
        kept["shown"][kind] = shown(errands, rows, lambda _, row: bool(row.calls))
    return kept


def caller(seed: int) -> dict:
    """The model that learns calls: with tools, without, and with tools that lie."""
    tests, (model, took) = asked(seed), learned(seed, True)
    return took | {"with": tested(model, tests, WORLD.tools), "off": tested(model, tests, []),
                   "lies": lied_to(model, tests)}


def at_once(seed: int) -> dict:
    """The model that learns answers alone."""
    model, took = learned(seed, False)
    return took | {"with": tested(model, asked(seed), [])}


PARTS = {"caller": caller, "at once": at_once}


def main() -> None:
    """Run the seeds that are missing, and keep each as soon as it is done."""
    settings = {"train": vars(SETTINGS), "shares": SHARES, "tested": TESTED,
                "tool": TOOL}
    run_missing(command(__doc__, RESULTS, SEEDS, PARTS).parse_args(), PARTS, settings)


if __name__ == "__main__":
    main()
