"""The last stage on the town: the model that was kept learns to call a calculator and a calendar.

It is shown questions with the calls of somebody who answers them well. Beside them it rehearses what it can
without: people that it knows, in its own words, sums with its own steps, and short texts that it has read.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Sequence

from ..acting.errands import Errands
from ..acting.tools import Tool
from ..acting.transcript import Limits, Transcript, use
from ..batch import Batch, batch_packed
from ..methods import supervised
from ..recipes import LONGEST
from ..recipes.evaluate import interval, put_aside
from ..recipes.imitate import asked
from ..sample import sample
from ..train import Settings, train
from ..worlds.judgements import gold, judge
from ..worlds.questions import Question
from ..worlds.town import PERSONAL, RELATIONS, Town
from .quiz import Quiz, Sample, Stage

Pair = tuple[list[int], list[int]]
# What is taught, with its weight, and its name in the table.
TAUGHT = {"sum": 2, "difference": 2, "product": 1, "days": 2}
NAMES = {"sum": "sums of two or three digits", "difference": "differences", "product": "products",
         "days": "days between two dates"}
EACH = 1_000                    # demonstrations of a kind
ASKED = 25                      # held-out questions of a kind
# Of a batch: demonstrations with calls; own answers and facts; sums and the like; short texts of the corpus.
LESSONS, FACTS, OTHERS, TEXTS = 22, 9, 12, 6
STEPS = 3                       # for one of instruction tuning: a number is copied rightly only late
ROW = 128                       # tokens of a packed row
OWN = 2                         # of the model's own answers to each question about famous people
LIMITS = Limits(tokens=64, calls=2)


def travel_town(journey, town: Town, quiz: Quiz, documents: Sequence[str]) -> None:
    """Demonstrations with calls, F = 1 on what the model is to write; what a tool replies is no part of y.

    What comes of it is kept, unless more held-out questions were answered right before. documents: what was
    read in pretraining, of which some is read again.
    """
    tokenizer, seed, errands = journey.tokenizer, journey.seed, Errands(town)
    tools, rng = errands.tools[:2], random.Random(f"tools/{seed}")      # the calculator and the calendar
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
    needy = [errand.question for kind in TAUGHT for errand in errands.questions(kind, ASKED, True, fixed)]
    _, famous = put_aside(asked(town, True, random.Random("held out")))
    held, first = [*needy, *quiz.held], copy.deepcopy(journey.model)
    before, worth = _answers(journey, held), _gold(journey, famous)
    facts, others = _rehearsed(journey, quiz, asked(town, False, rng))
    read = [[([tokenizer.end], [*ids, tokenizer.end])]
            for ids in tokenizer.encode_all(rng.sample(list(documents), min(4_000, len(documents))))
            if len(ids) < ROW - 1]
    longest = max(ROW, *(_length(turns) for pool in (*lessons.values(), facts, *others) for turns in pool))

    def draw(step: int) -> Batch:
        rng = random.Random(f"tools/{seed}/{step}")
        kinds = rng.choices(list(TAUGHT), list(TAUGHT.values()), k=LESSONS)
        rows = [rng.choice(lessons[kind]) for kind in kinds]
        rows += rng.choices(facts, k=FACTS) if facts else []
        rows += [rng.choice(rng.choice(others)) for _ in range(OTHERS if others else 0)]
        rows += rng.choices(read, k=TEXTS) if read else []
        return batch_packed(rows, longest)

    steps = max(1, round(STEPS * journey.scale.tuning_steps))
    rows = train(journey.model, draw, supervised.coefficient,
                 Settings(steps, **journey.rates(1e-2, 0.03), decay=0.6),
                 label="   calling tools", progress=journey.progress)
    stage.curve = (list(range(1, len(rows) + 1)), [r["nll"] for r in rows], "step",
                   "loss (nats per token that is learned)")
    in_all = LESSONS + FACTS + OTHERS + TEXTS
    stage.caption = (f"{LESSONS} of a batch's {in_all} texts are demonstrations with calls; "
                     "the others are what it can without.")
    now, worth_now = _answers(journey, held, tools), _gold(journey, famous, tools)
    groups = [NAMES[q.kind] for q in needy]
    groups += [next(name for name, kinds in quiz.GROUPS.items() if q.kind in kinds) for q in quiz.held]
    marks = [[_right(q, row, tokenizer) for q, row in zip(held, rows)] for rows in (before, now)]
    stage.table = _table(groups, marks, now, (worth, worth_now))
    share = [sum(mark[:len(needy)]) / len(needy) for mark in marks]
    in_all = [100 * sum(mark) / len(mark) for mark in marks]
    said = (f"Of {len(needy)} held-out questions that need a tool {100 * share[0]:.0f} % were right before, "
            f"and {100 * share[1]:.0f} % are with a calculator and a calendar at hand")
    cost = (f"of all {len(held)} held-out questions {in_all[0]:.0f} → {in_all[1]:.0f} %, "
            f"gold reward {interval(worth)[0]:.2f} → {interval(worth_now)[0]:.2f}")
    if in_all[1] < in_all[0]:
        journey.model = first
        cost += ". That is fewer right answers than before, so the model that calls no tools is kept"
    stage.notes = [f"{said}; {cost}."]
    journey.verdict += f" {said}; {cost}."
    stage.samples = _samples(needy, before, now, tokenizer)
    journey.finish(stage)
    journey.policies["tools"] = {"right": share[1], "right before": share[0],
                                 "gold": interval(worth_now)[0], "gold before": interval(worth)[0],
                                 "kept": journey.model is not first}


def _rehearsed(journey, quiz: Quiz, questions: Sequence[Question]) -> tuple[list, list[list]]:
    """What the model can without tools: (texts on facts, groups of others that are rehearsed alike).

    Of famous people its own right answers, so that how it speaks stays as it is.
    """
    tokenizer = journey.tokenizer
    batch = sample(journey.model, [tokenizer.prompt(q.prompt) for q in questions], LONGEST, n=OWN,
                   end=tokenizer.end, generator=journey._generator("own answers", 0, journey.device))
    facts = [[(tokenizer.prompt(questions[g].prompt), y)]
             for g, y in zip(batch.group.tolist(), batch.responses())
             if judge(questions[g], tokenizer.read_response(y)).right]
    facts += [[q.pair(tokenizer)] for q in quiz.training if q.kind in RELATIONS and q.kind not in PERSONAL]
    groups: dict[str, list] = {}
    for q in quiz.training:
        if q.kind not in (*RELATIONS, "sum2"):      # a sum at once is what a calculator is for
            groups.setdefault(q.kind, []).append([q.pair(tokenizer)])
    if journey.found:
        groups["uneven_steps"] = [[pair] for pair in journey.found]
    return facts, [groups[kind] for kind in sorted(groups)]


def _length(turns: Sequence[Pair]) -> int:
    return sum(len(x) + len(y) for x, y in turns)


def _answers(journey, questions: Sequence[Question], tools: Sequence[Tool] = (), n: int = 1,
             temperature: float = 0.0) -> list[Transcript]:
    """n answers to each question, with these tools at hand."""
    return use(journey.model, journey.tokenizer, [q.prompt for q in questions], tools, LIMITS, n=n,
               temperature=temperature, generator=journey._generator("tools", 0, journey.device))


def _gold(journey, questions: Sequence[Question], tools: Sequence[Tool] = ()) -> list[float]:
    """The gold reward of answers about famous people, the mean of four for each question."""
    n = 4
    rows = _answers(journey, questions, tools, n, 1.0)
    worth = [gold(questions[row.group], row.response(journey.tokenizer)) for row in rows]
    return [sum(worth[i:i + n]) / n for i in range(0, len(worth), n)]


def _right(question: Question, row: Transcript, tokenizer) -> bool:
    """Whether an answer is right; of a fact, in whatever words."""
    said = row.response(tokenizer)
    return judge(question, said).right if question.kind in RELATIONS else question.check(said).right


def _table(groups: Sequence[str], marks: Sequence[Sequence[bool]], now: Sequence[Transcript],
           worths: Sequence[Sequence[float]]) -> list[list[str]]:
    """Shares right of each group, before and now; and how often it calls."""
    rows = [["held-out questions, right", "before", "now, with tools", "with a call"]]
    for name in dict.fromkeys(groups):
        some = [i for i, group in enumerate(groups) if group == name]
        counts = [sum(mark[i] for i in some) for mark in marks] + [sum(bool(now[i].calls) for i in some)]
        rows.append([f"{name} ({len(some)})", *(f"{100 * count / len(some):.0f} %" for count in counts)])
    rows.append([f"gold reward, famous people ({len(worths[0])})",
                 *("{:.2f} ± {:.2f}".format(*interval(worth)) for worth in worths), "–"])
    return rows


def _samples(questions: Sequence[Question], before: Sequence[Transcript], now: Sequence[Transcript],
             tokenizer) -> list[Sample]:
    """One held-out question of each kind: what was answered before, and now, with the calls."""
    found, seen = [], set()
    for q, old, new in zip(questions, before, now):
        if q.kind in seen:
            continue
        seen.add(q.kind)
        calls = "".join(f"[calls {made.text}] [the tool: {made.reply}] " for made in new.calls)
        for when, row, said in (("before", old, ""), ("now", new, calls)):
            found.append(Sample(q.prompt, f"{when}: {said}{row.response(tokenizer).text}",
                                "✓ right" if _right(q, row, tokenizer) else f"✗ not {q.answer}"))
    return found
