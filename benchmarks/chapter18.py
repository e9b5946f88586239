"""Chapter 18's runs: ReAct, ReWOO and a compiler of calls on questions that take two to five look-ups.

It takes about six minutes a seed on one core and writes benchmarks/results/chapter18.json:

    python -m benchmarks.chapter18                              # what is not kept yet, of all seeds
    python -m benchmarks.chapter18 --seeds 20 --parts ways --again

Chapter 17's caller learns all roles, on questions about people in towns that it was told nothing of: step by
step (ReAct), planner, solver. In the last lesson calls fail: step by step such a call is made once more, the
planner plans again, and a solver that lacks something says so. What is tested: another town, and names that
no lesson asked about. Settings were chosen on seed 0; the seeds here chose nothing.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial, wraps
from pathlib import Path

from minillm import hub
from minillm.acting import compiler, rewoo, toolbox
from minillm.acting.calculator import calculator
from minillm.acting.compiler import Clock
from minillm.acting.rewoo import Planned
from minillm.acting.tools import Made, run, within
from minillm.acting.transcript import Limits, Transcript, use
from minillm.batch import batch_packed
from minillm.methods import supervised
from minillm.tokenizer import Response
from minillm.train import Settings, train
from minillm.transformer import Transformer
from minillm.worlds.lookups import Lookup, Lookups
from minillm.worlds.town import Town

from .parts import command, run_missing

RESULTS = Path(__file__).parent / "results" / "chapter18.json"
MODELS = Path(__file__).parents[1] / "build" / "chapter18"
SEEDS = (20, 21, 22)
CONTEXT = 512                   # the caller's is 256: a transcript with calls made again is longer
TAUGHT = ("older", "ages", "two hops")
NEW = ("three ages", "three hops")      # longer than anything in the lessons


@dataclass(frozen=True)
class Lesson:
    """A stretch of tuning. shares: of the roles; rows: demonstrations of a step; fails: the share of
    demonstrations with calls that fail."""

    kinds: tuple[str, ...]
    steps: int
    rows: int
    shares: dict[str, float]
    lr: float
    muon_lr: float
    decay: float
    fails: float = 0.0


# One after another, each begun from the one before. Some teach a single thing: mixed with all else, nothing
# of it was learned in as many steps.
LESSONS = {
    "plans": Lesson(("older",), 40, 24, {"plan": 1.0}, 1e-2, 0.02, 0.3),
    "steps": Lesson(("older",), 120, 24, {"react": 1.0}, 5e-3, 0.015, 0.3),
    "roles": Lesson(("older", "two hops"), 120, 24, {"react": 0.4, "plan": 0.3, "solve": 0.3}, 5e-3, 0.01,
                    0.5),
    "kinds": Lesson(TAUGHT, 440, 16, {"react": 0.4, "plan": 0.3, "solve": 0.3}, 4e-3, 0.01, 0.5),
    "failing": Lesson(TAUGHT, 560, 16, {"react": 0.35, "plan": 0.15, "solve": 0.2, "again": 0.3}, 4e-3, 0.01,
                      0.7, 0.3),
}
ROW = 192                       # tokens of a packed row, or of the longest demonstration
TOWNS = range(2, 42)            # that demonstrations are of: nobody can learn all their facts by heart
LEARNED = 0.3                   # the chance of each call to fail, in demonstrations with failures
TESTED = 30                     # held-out questions of each kind
CHANCES = (0.0, 0.1, 0.3)       # that a call fails
LIMITS = Limits(tokens=470, calls=16)
ROOM, ANSWER = 128, 64          # tokens of a plan; of an answer
REPLANS = 2
TOKEN, RECORD, CALCULATOR = 0.02, 0.5, 0.05     # seconds of a written token, and of a call of each tool
CLOCK = Clock({"record": RECORD, "calculator": CALCULATOR}, TOKEN)
WAITS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)  # other seconds of a record
CLOCKS = {"usual": CLOCK, "calls alone": replace(CLOCK, token=0.0)} | {
    str(wait): Clock({"record": wait, "calculator": CALCULATOR}, TOKEN) for wait in WAITS}
CANNOT = "I cannot say."
ONCE_MORE = "Once more."
_, TOKENIZER = hub.load("base")
TOWN = Town(1, 100)             # which is tested: not the town that the base model has read of
TOLD = {name for name, fame in Town(0).fame.items() if fame != "never"}
LOOKUPS = Lookups(TOWN, TOLD)


@cache
def tools_of(town: int) -> tuple:
    """What answers in a town. Both answer at once, so no thread is needed for a call."""
    at_once = within(float("inf"))
    return at_once(toolbox.record(toolbox.records(Town(town, 100)))), at_once(calculator)


def failing(town: int, chance: float, seed: str) -> dict:
    """The same, of which each call fails with this chance."""
    return {tool.__name__: toolbox.unreliable(tool, chance, seed) for tool in tools_of(town)}


def questions(lookups: Lookups, n: int, held: bool, rng: random.Random,
              kinds: Sequence[str]) -> list[Lookup]:
    """n of each kind, all different. "ages" asks for two people, "three ages" for three."""
    found: list[Lookup] = []
    for kind in kinds:
        some: dict[str, Lookup] = {}
        while len(some) < n:
            one = lookups.draw("ages" if kind == "three ages" else kind, held, rng)
            if "ages" not in kind or (len(one.plan) == 4) == (kind == "three ages"):
                some[one.question.prompt] = replace(one, question=replace(one.question, kind=kind))
        found += some.values()
    return found


# --- what they read -------------------------------------------------------------------------------


def react(lookup: Lookup, tools: dict) -> Transcript:
    """A transcript as a person would write it: a thought, a call, a reply, and once more where it failed."""
    row = Transcript(TOKENIZER.prompt(lookup.question.prompt), stopped="end")
    row.append([TOKENIZER.think], by_model=True)
    for thought, call in lookup.steps:
        made = None
        while made is None or not made.ok:
            row.append(TOKENIZER.encode(ONCE_MORE if made else thought), by_model=True)
            start, made = len(row.ids), run(tools, call)
            row.append([TOKENIZER.call, *TOKENIZER.encode(call), TOKENIZER.call_end], by_model=True)
            row.append([TOKENIZER.reply, *TOKENIZER.encode(made.reply), TOKENIZER.reply_end], by_model=False)
            row.calls.append(replace(made, start=start, end=len(row.ids)))
    row.append([TOKENIZER.think_end, *TOKENIZER.response(lookup.question.response)], by_model=True)
    return row


def planned(lookup: Lookup, tools: dict, replans: int) -> Planned:
    """A run as a person would write it: a plan, plans for what failed, and an answer."""
    plans, run_ = [rewoo.plan_text(lookup.plan)], Planned(lookup.question.prompt)
    name = {n: n for n in range(1, len(lookup.plan) + 1)}       # of each line of the first plan, the last try
    while plans[-1]:
        new = rewoo.read_plan(plans[-1], tools, known=run_.made)
        if run_.rounds:
            failed = [n for n in name if not run_.made[name[n]].ok]
            name |= dict(zip(failed, (step.number for step in new)))
        made = rewoo.work(new, tools, run_.made)
        run_.rounds.append(rewoo.Round(plans[-1], new, made, 0, 0, {}))
        plans.append(rewoo.again(new, made) if len(run_.rounds) <= replans else "")
    enough = run_.made[name[len(name)]].ok              # in all these kinds the last line has the answer
    run_.answer = Response(lookup.question.response if enough else CANNOT, None, True)
    return run_


def demonstrations(name: str, seed: int) -> list:
    """What a lesson is drawn from: each as turns [(x, y), …], one of each question, about as many as are
    drawn; none about who is held out."""
    lesson, found = LESSONS[name], []
    of_a_kind = lesson.steps * lesson.rows // (len(TOWNS) * len(lesson.kinds)) + 1
    roles, shares = list(lesson.shares), list(lesson.shares.values())
    for town in TOWNS:
        rng, asked = random.Random(f"{name}/{seed}/{town}"), Lookups(Town(town, 100), TOLD)
        for i, lookup in enumerate(questions(asked, of_a_kind, False, rng, lesson.kinds)):
            [role] = rng.choices(roles, shares)
            fails = role == "again" or rng.random() < lesson.fails
            tools = failing(town, LEARNED if fails else 0.0, f"{seed}/{i}")
            found += demonstration(role, lookup, tools, rng.choice((0, REPLANS)))
    return [turns for turns in found if size(turns) <= CONTEXT]


def demonstration(role: str, lookup: Lookup, tools: dict, replans: int) -> list[list]:
    """As turns; none where the planner is to plan again and nothing failed."""
    if role == "react":
        return [react(lookup, tools).turns()]
    whole = planned(lookup, tools, REPLANS if role == "again" else replans)
    plan, *more, answer = rewoo.pairs(TOKENIZER, whole)
    return {"plan": [[plan]], "solve": [[answer]], "again": [[pair] for pair in more]}[role]


def size(turns: list) -> int:
    """Tokens of a demonstration."""
    return sum(len(x) + len(y) for x, y in turns)


def tuned(name: str, seed: int) -> Transformer:
    """A model after a lesson, and after all lessons before it; kept, or made now. The first begins from
    chapter 17's caller, with a longer context."""
    folder, names, lesson = MODELS / f"{name}{seed}", list(LESSONS), LESSONS[name]
    if (folder / "model.safetensors").is_file():
        return hub.load(folder)[0]
    if name == names[0]:
        caller, _ = hub.load("caller")
        model = Transformer(replace(caller.config, context=CONTEXT), seed)
        model.load_state_dict(caller.state_dict())
    else:
        model = tuned(names[names.index(name) - 1], seed)
    pool = demonstrations(name, seed)

    def draw(step: int):
        some = random.Random(f"{name}/{seed}/{step}").choices(pool, k=lesson.rows)
        return batch_packed(some, max(ROW, *(size(turns) for turns in some)))

    settings = Settings(lesson.steps, lr=lesson.lr, muon_lr=lesson.muon_lr, decay=lesson.decay)
    train(model, draw, supervised.coefficient, settings, label=f"{name} {seed}")
    hub.save(model, TOKENIZER, folder)
    return model


# --- what they do ---------------------------------------------------------------------------------


@cache
def tested(seed: int, kinds: tuple[str, ...] = TAUGHT) -> tuple[Lookup, ...]:
    """Held-out questions."""
    return tuple(questions(LOOKUPS, TESTED, True, random.Random(f"tested/{seed}"), kinds))


def kits(chance: float, seed: int, counted: list[list]) -> Callable[[], list]:
    """Tools for one question after another: the same failures for every way of working. Each call leaves a
    mark in the question's list of `counted`."""
    def count(tool, marks: list):
        @wraps(tool)
        def same(*arguments, **named):
            marks.append(tool.__name__)
            return tool(*arguments, **named)
        return same

    def make() -> list:
        counted.append([])
        tools = failing(TOWN.seed, chance, f"{seed}/{len(counted)}")
        return [count(tool, counted[-1]) for tool in tools.values()]

    return make


def by_steps(model, asked: Sequence[Lookup], seed: int, chance: float) -> list[dict]:
    """ReAct: what came of each question."""
    counted: list[list] = []
    rows = use(model, TOKENIZER, [q.question.prompt for q in asked], kits(chance, seed, counted), LIMITS)
    found = []
    for lookup, row, calls in zip(asked, rows, counted):
        bars, cached = partial(compiler.timeline_of, row), compiler.tokens_read(row, cache=True)
        one = measured(lookup, row.response(TOKENIZER), calls, compiler.stretches(row), cached, bars)
        found.append(one | {"text": row.text(TOKENIZER), "bars": [rounded(bar) for bar in bars(CLOCK)]})
    return found


def by_plan(model, asked: Sequence[Lookup], seed: int, chance: float, way: str) -> list[dict]:
    """The same for ReWOO (one call after another), the compiler (side by side, planned again where one
    failed), and "stubborn", which is ReWOO with calls side by side and a worker that makes a call again."""
    counted: list[list] = []
    worker, replans = {"rewoo": (rewoo.work, 0), "compiler": (compiler.execute, REPLANS),
                       "stubborn": (stubborn, 0)}[way]
    runs = rewoo.answered(model, TOKENIZER, [q.question.prompt for q in asked], kits(chance, seed, counted),
                          worker, replans, ROOM, ANSWER, 2.0)
    found = []
    for lookup, one, calls in zip(asked, runs, counted):
        bars = partial(compiler.timeline, one, parallel=way != "rewoo")
        lines, error = [step.text for step in one.rounds[0].steps], one.rounds[0].error
        plan = "unreadable" if error else "as a person's" if lines == list(lookup.plan) else "another"
        row = measured(lookup, one.answer, calls, one.requests, compiler.tokens_read(one, cache=True), bars)
        found.append(row | {"plan": plan, "rounds": len(one.rounds), "plans": [r.text for r in one.rounds],
                            "evidence": one.evidence, "answer": one.answer.text, "error": error})
    return found


def measured(lookup: Lookup, answer: Response, calls: list, requests: list[tuple[int, int]], cached: int,
             bars: Callable) -> dict:
    """A row of numbers. mark: right, cannot (it says so), lines (of a plan in place of an answer), or wrong;
    read: tokens, each request read whole; cached: only what is new is read; seconds: until the answer is
    there, on each clock."""
    said = Response(answer.text, None, answer.ended)
    mark = "cannot" if answer.text == CANNOT else "lines" if answer.text.startswith("#") else "wrong"
    return {"kind": lookup.question.kind, "asked": lookup.question.prompt,
            "mark": "right" if lookup.question.check(said).right else mark,
            "calls": len(calls), "requests": len(requests), "read": sum(r for r, _ in requests),
            "written": sum(w for _, w in requests), "cached": cached, "each": requests,
            "seconds": {name: max(bar.end for bar in bars(clock)) for name, clock in CLOCKS.items()}}


def rounded(bar: compiler.Bar) -> compiler.Bar:
    """The same, short in a file."""
    return bar._replace(start=round(bar.start, 3), end=round(bar.end, 3))


def stubborn(steps: list, tools: dict, before: dict | None = None, seconds: float = 2.0) -> dict[int, Made]:
    """A worker that makes a failed call again, twice at most, without asking anybody."""
    made, known = {}, dict(before or {})
    for _ in range(3):
        rest = [step for step in steps if step.number not in made or not made[step.number].ok]
        good = {number: one for number, one in (known | made).items() if one.ok}
        made |= compiler.execute(rest, tools, good, seconds) if rest else {}
    return made


SUMS = ("calls", "requests", "read", "written", "cached")


def tally(rows: list[dict], most: int = 1) -> dict:
    """By kind: how many questions, the sum of each number over them, how many of each mark and plan; and
    `most` whole runs of each kind that went well, that were planned again, and that went wrong."""
    found: dict = {}
    for row in rows:
        one = found.setdefault(row["kind"], {"n": 0, "marks": {}, "plans": {}, "rounds": {},
                                             **dict.fromkeys(SUMS, 0), "seconds": dict.fromkeys(CLOCKS, 0.0)})
        one["n"] += 1
        for name in SUMS:
            one[name] += row[name]
        for name, value in row["seconds"].items():
            one["seconds"][name] = round(one["seconds"][name] + value, 4)
        for name, key in (("marks", "mark"), ("plans", "plan"), ("rounds", "rounds")):
            if key in row:
                one[name][str(row[key])] = one[name].get(str(row[key]), 0) + 1
    chosen: dict[tuple, list] = {}
    for row in rows:
        chosen.setdefault((row["kind"], row["mark"], row.get("rounds", 1) > 1), []).append(row)
    whole = [row | {"seconds": row["seconds"]["usual"]} for some in chosen.values() for row in some[:most]]
    return {"tally": found, "shown": whole}


def ways(seed: int) -> dict:
    """All ways, at each chance of a failure; and without failures, questions that are longer than those of
    the lessons."""
    model, asked, kept = tuned("failing", seed), tested(seed), {}
    for chance in CHANCES:
        most = 1 if chance else 2
        kept[f"react {chance}"] = tally(by_steps(model, asked, seed, chance), most)
        for way in ("rewoo", "compiler"):
            kept[f"{way} {chance}"] = tally(by_plan(model, asked, seed, chance, way), most)
        kept[f"stubborn {chance}"] = tally(by_plan(model, asked, seed, chance, "stubborn"), 0)
    longer = tested(seed, NEW)
    kept["react, longer"] = tally(by_steps(model, longer, seed, 0.0))
    kept["rewoo, longer"] = tally(by_plan(model, longer, seed, 0.0, "rewoo"))
    return kept


def unwarned(seed: int) -> dict:
    """ReAct and ReWOO of the model before its last lesson: it has seen no call fail."""
    model, asked, kept = tuned("kinds", seed), tested(seed), {}
    for chance in (CHANCES[0], CHANCES[-1]):
        kept[f"react {chance}"] = tally(by_steps(model, asked, seed, chance))
        kept[f"rewoo {chance}"] = tally(by_plan(model, asked, seed, chance, "rewoo"))
    return kept


PARTS = {"ways": ways, "unwarned": unwarned}


def main() -> None:
    """Run the parts that are missing, and keep each as soon as it is done."""
    settings = {"lessons": {name: vars(lesson) for name, lesson in LESSONS.items()}, "tested": TESTED,
                "chances": CHANCES, "token": TOKEN, "tools": dict(CLOCK.tools), "replans": REPLANS}
    run_missing(command(__doc__, RESULTS, SEEDS, PARTS).parse_args(), PARTS, settings)


if __name__ == "__main__":
    main()
