"""The last stage on the town: the model that was kept learns to call a calculator, a calendar and a search.

It is shown questions with the calls of somebody who answers them well. Beside them it rehearses what it can
without: people that it knows, in its own words, and sums with its own steps.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Sequence

from ..acting.errands import LIMITS, ROW, Errands
from ..acting.tools import Tool
from ..acting.transcript import Transcript, use
from ..batch import Batch, batch_packed
from ..methods import supervised
from ..recipes import LONGEST
from ..recipes.evaluate import interval, put_aside
from ..recipes.imitate import RATES, asked
from ..sample import sample
from ..train import Settings, train
from ..worlds.judgements import gold, judge
from ..worlds.questions import Question
from ..worlds.town import PERSONAL, RELATIONS, Town
from .quiz import Quiz, Sample, Stage

Pair = tuple[list[int], list[int]]
# What is taught, with its weight; of people, those of another town, on whom another file is kept.
TAUGHT = {"sum": 2, "difference": 2, "product": 1, "date": 2, "days": 2, "stranger": 4}
# What is asked afterwards: `n` questions of each. Of people, those of whom this model has hardly read.
ASKED = {"sum": "sums of two or three digits", "difference": "differences", "product": "products",
         "date": "dates some days off", "days": "days between two dates",
         "never": "people never read of", "once": "people read of once"}
FACTS = ("facts", ASKED["never"], ASKED["once"])
EACH = 250              # demonstrations of a kind
LESSONS, REHEARSED = 24, 16     # of each in a batch
STEPS = 2               # for one of instruction tuning: an answer that is copied from a reply comes late
OWN = 2                 # of the model's own answers to each question about famous people, to rehearse
ANSWERS = 4             # to each held-out question about famous people, for the gold reward


def travel_town(journey, town: Town, quiz: Quiz, n: int = 40) -> None:
    """Demonstrations with calls, F = 1 on what the model is to write; what a tool writes is no part of y.

    What comes of it is kept, unless more held-out questions were answered right before. n: held-out
    questions of each kind that needs a tool.
    """
    tokenizer, seed, errands = journey.tokenizer, journey.seed, Errands(town)
    tools, rng = errands.tools, random.Random(f"tools/{seed}")
    lessons = {kind: [errand.demonstrate(tokenizer).turns()
                      for errand in errands.questions(kind, EACH, False, rng)] for kind in TAUGHT}
    longest = max(_length(turns) for pool in lessons.values() for turns in pool)
    if longest > journey.model.config.context:
        print(f"\nNo calls are taught: one with its reply has up to {longest} tokens, "
              f"and the context is {journey.model.config.context}.")
        return
    stage = journey.begin(Stage("calling tools", "questions (data)", "calls and answers (data)",
                                "1; what a tool replies is no part of y"))
    fixed = random.Random("held out, tools")        # the same questions whatever the seed
    needy = [(name, errand.question) for kind, name in ASKED.items()
             for errand in errands.questions(kind, n, True, fixed)]
    groups = [next(name for name, kinds in quiz.GROUPS.items() if q.kind in kinds) for q in quiz.held]
    asked_for = needy + list(zip(groups, quiz.held))
    held, first = [q for _, q in asked_for], copy.deepcopy(journey.model)
    _, famous = put_aside(asked(town, True, random.Random("held out")))
    before, worth = _answers(journey, held), _gold(journey, famous)

    rehearsed = _rehearsed(journey, quiz, asked(town, False, rng))
    longest = max(longest, *(_length(turns) for pool in rehearsed for turns in pool))

    def draw(step: int) -> Batch:
        rng = random.Random(f"tools/{seed}/{step}")
        kinds = rng.choices(list(TAUGHT), list(TAUGHT.values()), k=LESSONS)
        rows = [rng.choice(lessons[kind]) for kind in kinds]
        rows += [rng.choice(rng.choice(rehearsed)) for _ in range(REHEARSED if rehearsed else 0)]
        return batch_packed(rows, max(ROW, longest))

    rows = train(journey.model, draw, supervised.coefficient,
                 Settings(STEPS * journey.scale.tuning_steps, **journey.rates(**RATES), decay=0.9),
                 label="   calling tools", progress=journey.progress)
    stage.curve = (list(range(1, len(rows) + 1)), [r["nll"] for r in rows], "step",
                   "loss (nats per token of calls and answers)")
    demos = sum(map(len, lessons.values()))
    stage.caption = (f"{LESSONS} of a batch's {LESSONS + REHEARSED} are demonstrations with calls, "
                     f"of {demos:,}; the others are what it can without.")
    alone, now = _answers(journey, held), _answers(journey, held, tools)
    worths = worth, _gold(journey, famous), _gold(journey, famous, tools)
    marks = [[_right(*which, row, tokenizer) for which, row in zip(asked_for, rows)]
             for rows in (before, alone, now)]
    stage.table = _table([name for name, _ in asked_for], marks, now, worths)
    share = [sum(mark[:len(needy)]) / len(needy) for mark in marks]
    said = (f"Of {len(needy)} held-out questions that need a tool {100 * share[0]:.0f} % were right before, "
            f"and {100 * share[2]:.0f} % are now")
    if sum(marks[2]) >= sum(marks[0]):
        stage.notes = [f"{said}; {100 * share[1]:.0f} % where its tools are turned off."]
        journey.verdict += f" {said}: it calls a calculator, a calendar and a search."
    else:
        journey.model = first
        stage.notes = [f"{said}. Of all held-out questions fewer are right than before, "
                       "so the model from before is kept."]
        journey.verdict += f" {said}, at the cost of other questions: so the one that calls no tools is kept."
    stage.samples = _samples(needy, before, now, tokenizer)
    journey.finish(stage)
    journey.policies["tools"] = {"right": share[2], "right before": share[0], "right without": share[1],
                                 "gold": interval(worths[2])[0], "gold before": interval(worths[0])[0],
                                 "kept": journey.model is not first}


def _rehearsed(journey, quiz: Quiz, questions: Sequence[Question]) -> list[list[list[Pair]]]:
    """What the model can without tools, in groups that are rehearsed alike.

    Of famous people its own right answers, as often as all else, so that how it speaks stays as it is.
    """
    tokenizer = journey.tokenizer
    batch = sample(journey.model, [tokenizer.prompt(q.prompt) for q in questions], LONGEST, n=OWN,
                   end=tokenizer.end, generator=journey._generator("own answers", 0, journey.device))
    own = [[(tokenizer.prompt(questions[g].prompt), y)]
           for g, y in zip(batch.group.tolist(), batch.responses())
           if judge(questions[g], tokenizer.read_response(y)).right]
    rest: dict[str, list] = {}
    for q in quiz.training:
        if q.kind not in (*PERSONAL, "sum2"):       # a sum at once is what a calculator is for
            rest.setdefault("facts" if q.kind in RELATIONS else q.kind, []).append([q.pair(tokenizer)])
    if journey.found:
        rest["uneven_steps"] = [[pair] for pair in journey.found]
    groups = [rest[kind] for kind in sorted(rest)]
    return groups + [own] * max(1, len(groups)) if own else groups


def _length(turns: Sequence[Pair]) -> int:
    return sum(len(x) + len(y) for x, y in turns)


def _answers(journey, questions: Sequence[Question], tools: Sequence[Tool] | None = None, n: int = 1,
             temperature: float = 0.0) -> list[Transcript]:
    """n answers to each question; without tools, what reads like a call is not made."""
    tokenizer, generator = journey.tokenizer, journey._generator("tools", 0, journey.device)
    if tools is not None:
        return use(journey.model, tokenizer, [q.prompt for q in questions], tools, LIMITS, n=n,
                   temperature=temperature, generator=generator)
    rows = []
    for i in range(0, len(questions), 64):
        prompts = [tokenizer.prompt(q.prompt) for q in questions[i:i + 64]]
        room = min(48, journey.model.config.context - max(map(len, prompts)))
        batch = sample(journey.model, prompts, room, n=n, temperature=temperature, end=tokenizer.end,
                       generator=generator)
        for g, y in zip(batch.group.tolist(), batch.responses()):
            rows.append(Transcript(prompts[g], group=i + g))
            rows[-1].append(y, True)
    return rows


def _gold(journey, questions: Sequence[Question], tools: Sequence[Tool] | None = None) -> list[float]:
    """The gold reward of answers about famous people, the mean of ANSWERS for each question."""
    rows = _answers(journey, questions, tools, ANSWERS, 1.0)
    worth = [gold(questions[row.group], row.response(journey.tokenizer)) for row in rows]
    return [sum(worth[i:i + ANSWERS]) / ANSWERS for i in range(0, len(worth), ANSWERS)]


def _right(group: str, question: Question, row: Transcript, tokenizer) -> bool:
    """Whether an answer is right; of a fact, in whatever words."""
    said = row.response(tokenizer)
    return judge(question, said).right if group in FACTS else question.check(said).right


def _table(groups: Sequence[str], marks: Sequence[Sequence[bool]], now: Sequence[Transcript],
           worths: Sequence[Sequence[float]]) -> list[list[str]]:
    """Shares right of each group: before, now with tools turned off, now; and how often it calls."""
    rows = [["held-out questions, right", "before", "now, tools off", "now", "with a call"]]
    for name in dict.fromkeys(groups):
        some = [i for i, group in enumerate(groups) if group == name]
        counts = [sum(mark[i] for i in some) for mark in marks] + [sum(bool(now[i].calls) for i in some)]
        rows.append([f"{name} ({len(some)})", *(f"{100 * count / len(some):.0f} %" for count in counts)])
    rows.append([f"gold reward, famous people ({len(worths[0])})",
                 *("{:.2f} ± {:.2f}".format(*interval(worth)) for worth in worths), "–"])
    return rows


def _samples(questions: Sequence[tuple[str, Question]], before: Sequence[Transcript],
             now: Sequence[Transcript], tokenizer) -> list[Sample]:
    """One held-out question of each group: what was answered before, and now, with the calls."""
    found, seen = [], set()
    for (group, q), old, new in zip(questions, before, now):
        if group in seen:
            continue
        seen.add(group)
        calls = "".join(f"[calls {made.text}] [the tool: {made.reply}] " for made in new.calls)
        for when, row, said in (("before", old, ""), ("now", new, calls)):
            right = _right(group, q, row, tokenizer)
            found.append(Sample(q.prompt, f"{when}: {said}{row.response(tokenizer).text}",
                                "✓ right" if right else f"✗ not {q.answer}"))
    return found
