"""Chapter 16's two hops: answered at once, with a chain and by self-ask, by models of three sizes.

It takes about nine minutes a seed on one core of a busy machine, and writes to benchmarks/results:

    python -m benchmarks.chapter16_hops                              # what is not kept yet, of all seeds
    python -m benchmarks.chapter16_hops --seeds 20 --parts 64 --again

A part is a width, or `patient`. Each model begins with random weights, reads texts about forty people, and
is then tuned three times from the same weights: on single questions and on two-hop questions in one of three
formats. Steps and questions are the same for each way; tokens are not, for a chain is longer than an answer
(`patient` is the control). Settings were chosen on seed 0; the seeds here chose nothing.
Source of the measure and of self-ask: Press et al. 2023.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from tqdm import tqdm

from minillm import hub
from minillm.batch import Batch, batch_windows
from minillm.methods import supervised
from minillm.recipes.imitate import packed
from minillm.thinking.scratchpad import at_once, right, think
from minillm.thinking.self_ask import Gap, asking, gap, hops_alone, read_exchanges, self_ask
from minillm.tokenizer import Response
from minillm.train import Settings, train
from minillm.transformer import Config, Transformer
from minillm.worlds import two_hop
from minillm.worlds.questions import Question
from minillm.worlds.town import FAME, PERSONAL, RELATIONS, SOME, Fact, Town, sentence
from minillm.worlds.two_hop import TwoHop

RESULTS = Path(__file__).parent / "results" / "chapter16_hops.json"
SEEDS = (20, 21, 22)
WIDTHS = (32, 64, 96)
FAMES = tuple(FAME)                             # here all are told alike
PEOPLE = 10                                     # of each fame: forty
TELLINGS = 150                                  # of every fact
READ = {"steps": 360, "lr": 1e-2, "muon_lr": 0.02}      # 8 rows of 256 tokens: the texts about once
TUNE = {"steps": 200, "lr": 1e-2, "muon_lr": 0.02, "decay": 0.9}
ROWS = 48                                       # questions a step, half of them single, half of two hops
PATIENT, LONGER = 64, 3                         # the width of the part `patient`; its steps, in TUNE's
SEEN = 140                                      # questions of the training side that are asked again
WAYS = ("at once", "chain", "self-ask")
_, TOKENIZER = hub.load("base")


def small_town(seed: int) -> Town:
    """Forty people, and no facts but theirs: everybody's mother and friend is one of them.

    No mayors: one stays for some years, so a model could answer for a neighbouring year that it has seen.
    """
    town = Town(seed, people=PEOPLE)
    town.facts = [fact for fact in town.facts if fact.relation in PERSONAL]
    return town


def reader(town: Town, width: int, seed: int) -> tuple[Transformer, float]:
    """A model that has read the town's texts, and its last loss in nats a token."""
    documents = town.corpus(random.Random(f"texts/{seed}"), dict.fromkeys(FAMES, TELLINGS)).documents
    ids = torch.tensor([i for d in TOKENIZER.encode_all(documents) for i in (*d, TOKENIZER.end)])
    model = Transformer(Config(d_model=width, d_ff=11 * width // 4), seed)
    rows = train(model, lambda step: batch_windows(ids, 8, 256, torch.Generator().manual_seed(step)),
                 supervised.coefficient, Settings(**READ), progress=False)
    return model, rows[-1]["nll"]


def written(q: TwoHop, way: str, town: Town, rng: random.Random) -> Question:
    """The question with what people wrote for it, in one of WAYS."""
    if way == "self-ask":
        return asking(q, town, rng)
    return q.question if way == "chain" else at_once(q.question)


def tune(model, way: str, town: Town, seed: int, **how) -> tuple[Transformer, int]:
    """(a copy, tuned on single questions about every fact and on two hops of the training side; the tokens
    that it read)."""
    model, rng = copy.deepcopy(model), random.Random(f"questions/{seed}")
    singles = [town.question(fact, rng) for fact in town.facts for _ in range(3)]
    double = [q for _ in range(3) for q in two_hop.questions(town, False, rng, FAMES)]

    def draw(step: int) -> Batch:
        rng = random.Random(f"tune/{seed}/{step}")
        one, two = rng.choices(singles, k=ROWS // 2), rng.choices(double, k=ROWS // 2)
        return packed([q.pair(TOKENIZER) for q in (*one, *(written(q, way, town, rng) for q in two))])

    rows = train(model, draw, supervised.coefficient, Settings(**TUNE | how), progress=False)
    return model, rows[-1]["tokens"]


def wordings(fact: Fact) -> set[str]:
    """Every way to ask for it."""
    return {asked.format(s=fact.subject) for asked in RELATIONS[fact.relation].asked}


def told(fact: Fact) -> str:
    """The sentence that answers each of them."""
    return sentence(RELATIONS[fact.relation].answered, fact.subject, fact.value)


def records(town: Town) -> Callable[[list[str]], list[str]]:
    """Who answers follow-ups from the town's records: an oracle."""
    known = {asked: told(fact) for fact in town.facts for asked in wordings(fact)}
    return lambda asked: [known.get(question, "Nobody knows.") for question in asked]


def fault(q: TwoHop, way: str, y: Response) -> str:
    """Where an answer goes wrong first; "right" where the answer is."""
    if right(q.question, y):
        return "right"
    first, second = q.facts
    last = ending(q, y)
    if way == "at once":
        return last
    if way == "chain":
        said = y.thought or ""
        steps = [("first fact", said.startswith(told(first))), ("second fact", said == q.question.thought)]
    else:
        said = [*read_exchanges(y.thought), ("", ""), ("", "")]
        steps = [("first follow-up", said[0][0] in wordings(first)),
                 ("first answer", said[0][1] == told(first)),
                 ("second follow-up", said[1][0] in wordings(second)),
                 ("second answer", said[1][1] == told(second))]
    return next((name for name, fine in steps if not fine), f"ending: {last}")


def ending(q: TwoHop, y: Response) -> str:
    """How a wrong answer is wrong: about another person, with another value, or of no such form."""
    value = re.escape(RELATIONS[q.facts[1].relation].answered.format(s="\1", v=q.question.answer))
    if y.ended and re.fullmatch(value.replace("\1", SOME), y.text):
        return "another person"
    form = q.question.check(y._replace(thought=q.question.thought)).form
    return "another value" if form else "another form"


def answer(model, way: str, asked: Sequence[TwoHop], other=None) -> list[Response]:
    """Greedily. other: who answers the follow-ups of self-ask, in place of the model."""
    questions = [q.question for q in asked]
    if way == "self-ask":
        return self_ask(model, TOKENIZER, questions, answer=other)
    return think(model, TOKENIZER, questions, 80)


def shown(found: Gap) -> dict:
    """For the file."""
    return {"both": found.both, "wrong": found.wrong, "share": found.share}


def examine(model, way: str, town: Town, asked: Sequence[TwoHop], seed: int) -> tuple[dict, list, list]:
    """(what is kept of one way on these questions, the answers, whether both hops are right alone)."""
    first, second = hops_alone(model, TOKENIZER, asked, town, random.Random(f"alone/{seed}"))
    ys, both = answer(model, way, asked), [a and b for a, b in zip(first, second)]
    marks = [right(q.question, y) for q, y in zip(asked, ys)]
    n = len(asked)
    kept = {"questions": n, "first hop": sum(first) / n, "second hop": sum(second) / n,
            "two hops": sum(marks) / n, "gap": shown(gap(first, second, marks)),
            "first fault": dict(Counter(fault(q, way, y) for q, y, b in zip(asked, ys, both) if b))}
    if way == "self-ask":
        marks = [right(q.question, y) for q, y in zip(asked, answer(model, way, asked, records(town)))]
        kept |= {"two hops, records answer": sum(marks) / n,
                 "gap, records answer": shown(gap(first, second, marks))}
    return kept, ys, both


def transcripts(asked: Sequence[TwoHop], said: dict[str, list[Response]], n: int = 3) -> list[dict]:
    """Questions that are wrong at once and right by self-ask, with what each way wrote."""
    found = []
    for i, q in enumerate(asked):
        ys = {way: said[way][i] for way in WAYS}
        if right(q.question, ys["self-ask"]) and not right(q.question, ys["at once"]):
            found.append({"question": q.question.prompt, "right": q.question.response,
                          **{way: {"thought": y.thought, "answer": y.text} for way, y in ys.items()}})
    return found[:n]


def sides(town: Town, seed: int) -> tuple[list[TwoHop], list[TwoHop]]:
    """(two hops that are held out, those of the training side), each in one wording."""
    return tuple(two_hop.questions(town, held, random.Random(f"{name}/{seed}"), FAMES)
                 for held, name in ((True, "new"), (False, "seen")))


def hops(width: int, seed: int) -> dict:
    """One width: what each of three tunings of one model knows, and what it puts together.

    new: two hops that are held out; seen: some of the training side, a part of them in new wordings.
    met: of the new ones, whether the second fact stood in a question of two hops of the training side.
    """
    town = small_town(seed)
    new, seen = sides(town, seed)
    composed = {q.facts[1].key for q in seen}
    model, loss = reader(town, width, seed)
    kept, said = {"weights": model.count_parameters(), "nats a token": round(loss, 4)}, {}
    for way in WAYS:
        policy, tokens = tune(model, way, town, seed)
        found, ys, both = examine(policy, way, town, new, seed)
        said[way] = ys
        for name, met in (("met", True), ("not met", False)):
            some = [(q, y) for q, y, b in zip(new, ys, both) if b and (q.facts[1].key in composed) == met]
            found[name] = shown(Gap(len(some), sum(not right(q.question, y) for q, y in some)))
        kept[way] = {"tokens read": tokens, "new": found,
                     "seen": examine(policy, way, town, seen[:SEEN], seed)[0]}
    return kept | {"transcripts": transcripts(new, said)}


def patient(seed: int) -> dict:
    """At once, after LONGER times as many steps, at one width: is time what it lacks?"""
    town = small_town(seed)
    new, seen = sides(town, seed)
    model, _ = reader(town, PATIENT, seed)
    policy, tokens = tune(model, "at once", town, seed, steps=LONGER * TUNE["steps"])
    return {"tokens read": tokens, "new": examine(policy, "at once", town, new, seed)[0],
            "seen": examine(policy, "at once", town, seen[:SEEN], seed)[0]}


RUN = {**{str(width): partial(hops, width) for width in WIDTHS}, "patient": patient}


def main() -> None:
    """Run what is not kept yet, and keep it after each part."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--parts", nargs="+", choices=RUN, default=list(RUN))
    parser.add_argument("--again", action="store_true", help="run what is kept already, too")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    kept = json.loads(args.out.read_text(encoding="utf-8")) if args.out.exists() else {"seeds": {}}
    kept["settings"] = {"people": 4 * PEOPLE, "tellings": TELLINGS, "read": READ, "tune": TUNE, "rows": ROWS,
                        "patient": [PATIENT, LONGER], "torch": torch.__version__}
    jobs = [(part, seed) for seed in args.seeds for part in args.parts
            if args.again or part not in kept["seeds"].get(str(seed), {})]
    for part, seed in tqdm(jobs, "chapter 16, two hops"):
        kept["seeds"].setdefault(str(seed), {})[part] = RUN[part](seed)
        args.out.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
