"""Chapter 17's runs on ReAct: four ways to answer, prompted, tuned on few, on many; runs kept that end right.

It takes about nine minutes a seed on one core and writes benchmarks/results/chapter17_react.json:

    python -m benchmarks.chapter17_react                        # what is not kept yet, of all seeds
    python -m benchmarks.chapter17_react --seeds 20 --parts kept --again

Everything starts from the shipped `caller`. It has read the town (each fact of famous people 200 times, the
mayors of all years 100 times, of some people nothing), and it learned to answer questions that take one call,
or none. It has seen no question that takes two facts, no thought about one, and no second call.
Settings were chosen on seed 0; the seeds here chose nothing. What is held out: all questions that begin with
a quarter of the people and years.
"""

from __future__ import annotations

import copy
import random
import time
from collections import Counter
from functools import cache, partial
from pathlib import Path

import torch

from minillm import hub
from minillm.acting import react
from minillm.acting.react import WAYS, Lookup
from minillm.acting.toolbox import records, search
from minillm.acting.tools import within
from minillm.acting.transcript import Limits, Transcript, use
from minillm.batch import batch_packed
from minillm.methods import supervised
from minillm.train import Settings, train
from minillm.worlds.town import Town

from .parts import command, run_missing

RESULTS = Path(__file__).parent / "results" / "chapter17_react.json"
MODELS = Path(__file__).parents[1] / "build" / "chapter17_react"
SEEDS = (20, 21, 22)
TOWN = Town(0)
TRUTH = react.known(TOWN)
MOST = 1                                        # records in a reply, as in the caller's lessons
LIMITS = Limits(tokens=220, calls=4, reply=48)
FAILS = "two hops, search fails"                # a reply holds another record than the one asked for
# Of every hundred demonstrations, and of every hundred questions that a model draws runs for.
SHARES = {"two hops, told": 70, "two hops, never told": 30}
FEW, MANY, ASKED, DRAWN = 100, 700, 120, 8
SHARES_ASKED = {"two hops, told": 40, "two hops, never told": 40, FAILS: 20}
TESTED = {"two hops, told": 60, "two hops, never told": 60, FAILS: 20}
A_STEP = 16                                     # demonstrations
ROW = 240                                       # tokens of a packed row
TUNED = {"few": {"steps": 100}, "many": {"steps": 300}}
BEGIN = "many"                                  # who draws the runs that are kept
RATES = {"lr": 1e-2, "muon_lr": 0.02, "decay": 0.9}
AGAIN = {"steps": 60, "lr": 3e-3, "muon_lr": 0.0075, "decay": 0.9}
SHOTS = {"standard": 4, "think": 2, "act": 1, "react": 1}   # all that the context has room for
CALLER, TOKENIZER = hub.load("caller")
SEARCH = search(records(TOWN), MOST)
TOOLS = [within(float("inf"))(cache(SEARCH))]   # each query is looked up once


def kind(lookup: Lookup) -> str:
    """How the results are sorted: by what is asked, whether memory may serve, and whether the search does."""
    return f"{lookup.kind}, {'told' if lookup.told else 'never told'}" if answerable(lookup) else FAILS


# --- questions and demonstrations -----------------------------------------------------------------


@cache
def answerable(lookup: Lookup) -> bool:
    """Whether the search finds both facts."""
    return react.answerable(lookup, TOOLS)


@cache
def pools(held: bool, seed: int) -> dict[str, list[Lookup]]:
    """All questions on one side of the split by kind, shuffled."""
    rng, found = random.Random(f"react/{seed}/{held}"), {}
    for told in (True, False):
        for some in react.lookups(TOWN, held, rng, told, wordings=1 if held else 6).values():
            for one in some:
                found.setdefault(kind(one), []).append(one)
    return found


def mixed(pool: dict[str, list[Lookup]], n: int, shares: dict[str, int]) -> list[Lookup]:
    """n of them in their shares, or as many as there are."""
    return [one for name, share in shares.items() for one in pool[name][:n * share // 100]]


@cache
def demonstrated(seed: int) -> dict[str, list[Lookup]]:
    """What people demonstrate: only questions that the search can answer. The few are among the many."""
    return {size: mixed(pools(False, seed), n, SHARES) for size, n in (("few", FEW), ("many", MANY))}


def new_questions(seed: int) -> list[Lookup]:
    """Questions of training that no demonstration holds; some that no search answers."""
    shown = {one.question.prompt for one in demonstrated(seed)["many"]}
    pool = {name: [one for one in some if one.question.prompt not in shown]
            for name, some in pools(False, seed).items()}
    return mixed(pool, ASKED, SHARES_ASKED)


def tested(seed: int) -> list[Lookup]:
    """Held-out questions."""
    return [one for name, n in TESTED.items() for one in pools(True, seed)[name][:n]]


def demonstrations(asked: list[Lookup], way: str) -> list[Transcript]:
    """One of each question that a demonstration can answer."""
    return [react.demonstration(TOKENIZER, one, way, TOOLS, LIMITS.reply) for one in asked if answerable(one)]


def tuned(model, rows: list[Transcript], seed: int, label: str, **settings):
    """A copy that has learned from transcripts, F = 1 on what the model is to write and 0 on replies."""
    model = copy.deepcopy(model)

    def draw(step: int):
        some = random.Random(f"{label}/{seed}/{step}").choices(rows, k=A_STEP)
        return batch_packed([row.turns() for row in some], ROW)

    train(model, draw, supervised.coefficient, Settings(**settings), label=f"{label} {seed}")
    return model


# --- what is measured -----------------------------------------------------------------------------


def measured(model, asked: list[Lookup], prompts: list[list[int]] | None = None) -> dict:
    """By kind: how many are right, and by luck; the first fault of those that are not; calls and tokens."""
    if prompts is None:
        prompts = [TOKENIZER.prompt(one.question.prompt) for one in asked]
    rows = use(model, TOKENIZER, prompts, TOOLS, LIMITS)
    found: dict[str, dict] = {}
    for one, row in zip(asked, rows):
        right, fault = react.right(one, row, TOKENIZER), react.fault(one, row, TOKENIZER, TRUTH)
        mine = sum(row.response_mask)
        for name in (kind(one), "all"):
            counted = found.setdefault(name, {"n": 0, "right": 0, "lucky": 0, "faults": Counter(), "calls": 0,
                                              "written": 0, "replies": 0})
            counted["n"] += 1
            counted["right"] += right
            counted["lucky"] += right and fault is not None
            counted["calls"] += len(row.calls)
            counted["written"] += mine
            counted["replies"] += len(row.ids) - mine
            if not right:
                counted["faults"][fault] += 1
    return found | {"transcripts": shown(asked, rows)}


def shown(asked: list[Lookup], rows: list[Transcript]) -> list[dict]:
    """Whole transcripts: the first two questions of each kind, and the first wrong one of each fault."""
    seen, kinds, chosen = set(), Counter(), []
    for one, row in zip(asked, rows):
        right, fault = react.right(one, row, TOKENIZER), react.fault(one, row, TOKENIZER, TRUTH)
        new = (right, fault) not in seen and fault is not None
        if kinds[kind(one)] < 2 or new:
            chosen.append({"kind": kind(one), "question": one.question.prompt, "right": right, "fault": fault,
                           "transcript": row.text(TOKENIZER), "answer": one.question.response})
        seen.add((right, fault))
        kinds[kind(one)] += 1
    return chosen


# --- four ways ------------------------------------------------------------------------------------


def prompted(seed: int) -> dict:
    """Before any tuning on the ways: examples before the question, as many as there is room for."""
    model, found = CALLER, {}
    pool = demonstrated(seed)["few"]
    for way in WAYS:
        rows = sorted(demonstrations(pool, way), key=lambda row: len(row.prompt) + len(row.ids))[:SHOTS[way]]
        asked = tested(seed)
        prompts = [react.few_shot(rows, TOKENIZER.prompt(one.question.prompt)) for one in asked]
        found[way] = measured(model, asked, prompts) | {
            "examples": len(rows), "tokens of a prompt": sum(map(len, prompts)) / len(prompts)}
    return found


def learned(seed: int, way: str, size: str):
    """The caller, tuned on demonstrations of one way; kept where it is needed again."""
    folder = MODELS / f"{way}, {size}, {seed}"
    if (folder / "model.safetensors").is_file():
        return hub.load(folder)[0]
    rows = demonstrations(demonstrated(seed)[size], way)
    model = tuned(CALLER, rows, seed, f"{way}, {size}", **RATES, **TUNED[size])
    if (way, size) == ("react", BEGIN):
        hub.save(model, TOKENIZER, folder)
    return model


def way(seed: int, way: str, size: str) -> dict:
    """One way, tuned on few or on many."""
    begun = time.perf_counter()
    model = learned(seed, way, size)
    seconds = time.perf_counter() - begun
    return measured(model, tested(seed)) | {"demonstrations": len(demonstrated(seed)[size]),
                                            "seconds": round(seconds, 1)}


# --- runs that ended right ------------------------------------------------------------------------


def drawn_by(model, seed: int) -> list[react.Drawn]:
    """Its runs of new questions."""
    return react.bootstrap(model, TOKENIZER, new_questions(seed), TOOLS, TRUTH, LIMITS, n=DRAWN,
                           generator=torch.Generator().manual_seed(seed))


def filtered(drawn: list[react.Drawn]) -> dict:
    """What the filter made of the questions: by kind, by each fact's relation, by the number of calls."""
    by = {"kind": kind, "first fact": lambda one: one.facts[0].relation,
          "second fact": lambda one: one.facts[1].relation}
    found: dict = {name: {k: b._asdict() for k, b in react.bias(drawn, of).items()}
                   for name, of in by.items()}
    for name, some in (("calls of all", drawn), ("calls of kept", [d for d in drawn if d.right])):
        found[name] = Counter(len(d.row.calls) for d in some)
    found["luck"] = Counter(d.fault for d in drawn if d.lucky)
    found["faults"] = Counter(d.fault for d in drawn if not d.right)
    found["kept of a question"] = Counter(Counter(d.group for d in drawn if d.right).values())
    found["lucky runs"] = [{"question": d.lookup.question.prompt, "fault": d.fault, "kind": kind(d.lookup),
                            "transcript": d.row.text(TOKENIZER)} for d in drawn if d.lucky][:12]
    return found


def kept(seed: int) -> dict:
    """From a model of ReAct demonstrations: what it draws, what is kept, what it learns from that."""
    first = learned(seed, "react", BEGIN)
    drawn, rng = drawn_by(first, seed), random.Random(f"kept/{seed}")
    lessons = {"kept": react.kept(drawn), "equal": react.kept(drawn, each=DRAWN, rng=rng),
               "true": react.kept(drawn, true_only=True),
               "demonstrated": demonstrations(new_questions(seed), "react"),
               "again": demonstrations(demonstrated(seed)[BEGIN], "react")}
    found = {"filter": filtered(drawn), "before": measured(first, tested(seed))}
    for name, rows in lessons.items():
        found[name] = {"rows": len(rows)}
        if rows:                                # of nothing kept, nothing is learned
            found[name] |= measured(tuned(first, rows, seed, name, **AGAIN), tested(seed))
    return found


PARTS = {"prompted": prompted}
PARTS |= {f"{name}, {size}": partial(way, way=name, size=size) for size in TUNED for name in WAYS}
PARTS["kept"] = kept


def main() -> None:
    """Run the parts that are missing, and keep each as soon as it is done."""
    settings = {"most": MOST, "limits": vars(LIMITS), "shares": SHARES, "few": FEW, "many": MANY,
                "asked": ASKED, "drawn": DRAWN, "tested": TESTED, "a step": A_STEP, "tuned": TUNED,
                "rates": RATES, "again": AGAIN}
    run_missing(command(__doc__, RESULTS, SEEDS, PARTS).parse_args(), PARTS, settings)


if __name__ == "__main__":
    main()
