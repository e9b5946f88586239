"""Train the shipped base model again, tune copies of it, and write down what they reach: `make checkpoints`.

The recipe is the journey's pretraining, longer and on three tellings of the same town. No seed is picked:
the base model is seed 0's, whatever comes of it; the tuned copies, one for each of three seeds, are measured
and thrown away. `tuned` is kept beside it: the base model after it imitated careless people, from which the
chapters on preferences start. `caller` is the base model after demonstrations with calls (chapter 17).
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import os
import platform
import random
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import torch

from .. import hub
from ..acting import errands
from ..acting.transcript import use
from ..recipes import evaluate, imitate
from ..journey.quiz import TOWN, Quiz, town_data
from ..journey.stages import SCALES, Journey
from ..batch import batch_windows
from ..methods import supervised
from ..sample import ask
from ..tokenizer import END, Tokenizer
from ..train import Settings, train
from ..transformer import Transformer
from ..worlds.questions import score
from ..worlds.sums import Sums
from ..worlds.town import PERSONAL, Town

TELLINGS = 3
SUMS = 8_000  # short texts about numbers, a telling
STEPS = 3_000
SETTINGS = Settings(STEPS, lr=1e-2, muon_lr=0.02)
LESSONS = 2_400  # steps of the caller
GOALS = {"famous facts": 0.95, "sums with steps": 0.90, "form": 0.99}  # what later chapters stand on


def measure(journey: Journey) -> dict[str, float]:
    """Shares right on held-out questions, answered greedily, by a model that has been tuned on questions."""
    rng = random.Random("measure")
    facts = [q for q in Town(TOWN).questions(True, rng, fames=("famous",), wordings=3) if q.kind in PERSONAL]
    groups = {"famous facts": facts,
              "other facts": Town(TOWN).questions(True, rng, fames=("other",), wordings=3)}
    for name, kind, n in (("sums with steps", "sum2_steps", 300),
                          ("sums at once", "sum2", 300),
                          ("chains with steps", "chain_steps", 80),
                          ("comparisons", "compare", 200)):
        groups[name] = Sums(TOWN).questions(kind, n, True, rng)
    shares, questions, responses = {}, [], []
    for name, group in groups.items():
        answers = ask(journey.model, journey.tokenizer, [q.prompt for q in group], 48)
        shares[name] = score(group, answers)["all"]["right"]
        questions, responses = questions + group, responses + answers
    shares["form"] = score(questions, responses)["all"]["form"]
    return {name: round(value, 4) for name, value in shares.items()} | {"questions": len(questions)}


def tuned(model: Transformer, tokenizer: Tokenizer, quiz: Quiz, seed: int, progress: bool = False) -> Journey:
    """A copy of the model after the journey's instruction tuning."""
    journey = Journey(SCALES["cpu"], seed, progress)
    journey.model, journey.tokenizer = copy.deepcopy(model).to(journey.device), tokenizer
    journey.tune(quiz)
    return journey


def imitated(steps: int = 400) -> int:
    """Tune the base model on careless people's answers, keep it as `tuned`, and write down its scores."""
    begun, (model, tokenizer) = time.perf_counter(), hub.load("base")
    demos = imitate.demonstrations(Town(TOWN), tokenizer, random.Random("careless"))
    imitate.imitate(model, demos, steps, imitate.RATES, seed=0, label="imitation")
    hub.save(model, tokenizer, hub.SHIPPED["tuned"])
    write_tuned({"what": "the base model, tuned on answers by careless people",
                 "steps": steps,
                 "demonstrations": len(demos),
                 **imitate.CARELESS,
                 "seconds": round(time.perf_counter() - begun),
                 "torch": torch.__version__})
    return 0


def write_tuned(record: dict) -> None:
    """Score the shipped `tuned`, four answers to each held-out question; keep the record beside it."""
    model, tokenizer = hub.load("tuned")
    held = imitate.asked(Town(TOWN), True, random.Random("held"))
    weighed = evaluate.weigh(model, model, None, tokenizer, held, seed=0, n=4)
    del weighed["KL (nats)"]  # to itself
    record["questions"], record["answers to each"], record["held_out"] = len(held), 4, {}
    for name, values in weighed.items():
        mean, half = evaluate.interval(values)
        record["held_out"][name] = {"mean": round(mean, 3), "half of the 95 % interval": round(half, 3)}
    (hub.SHIPPED["tuned"] / "scores.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print(f"Kept in {hub.SHIPPED['tuned']}: {record['held_out']}")


def taught(seed: int = 20) -> int:
    """Teach the base model to call tools, keep it as `caller`, and write down its scores. The seed is the
    first that chapter 17 reports on: no seed is picked. It has more lessons than the models of that chapter's
    table."""
    begun, (model, tokenizer) = time.perf_counter(), hub.load("base")
    settings = replace(errands.SETTINGS, steps=LESSONS)
    errands.teach(model, tokenizer, errands.Errands(), seed, settings=settings, label="calls")
    hub.save(model, tokenizer, hub.SHIPPED["caller"])
    write_caller({"what": "the base model, tuned on demonstrations with calls of tools",
                  "seed": seed,
                  "settings": asdict(settings),
                  "seconds": round(time.perf_counter() - begun),
                  "torch": torch.__version__})
    return 0


def write_caller(record: dict) -> None:
    """Score the shipped `caller` on 100 held-out questions of each kind; keep the record beside it."""
    (model, tokenizer), world, rng = hub.load("caller"), errands.Errands(), random.Random("caller")
    record["held_out"] = {}
    for kind in errands.ASKED:
        some = world.questions(kind, 100, True, rng)
        rows = use(model, tokenizer, [e.question.prompt for e in some], list(world.tools), errands.LIMITS)
        found = errands.tally(some, rows, tokenizer)[kind]
        record["held_out"][kind] = {name: round(found[name], 3) for name in ("n", "right", "called")}
    (hub.SHIPPED["caller"] / "scores.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print(f"Kept in {hub.SHIPPED['caller']}: {record['held_out']}")


def main() -> int:
    """The command. Returns 1 when a tuned copy misses a goal."""
    parser = argparse.ArgumentParser(
        prog="python -m minillm.checkpoints",
        description="Train the shipped base model again (about 10 minutes on two cores).")
    parser.add_argument("--out", type=Path, default=hub.BASE, metavar="FOLDER",
                        help="where the model goes (default: the package's own)")
    parser.add_argument("--work", type=Path, default=Path("build/checkpoints"), metavar="FOLDER",
                        help="where a stopped run is kept, to go on from")
    parser.add_argument("--measure", action="store_true", help="only measure the model that is there")
    parser.add_argument("--tuned", action="store_true",
                        help="only tune the base model that is there, for the chapters on preferences")
    parser.add_argument("--caller", action="store_true",
                        help="only teach the base model that is there to call tools, for chapter 17")
    args = parser.parse_args()
    if args.caller and args.measure:
        write_caller(json.loads((hub.SHIPPED["caller"] / "scores.json").read_text(encoding="utf-8")))
        return 0
    if args.caller:
        return taught()
    if args.tuned and args.measure:
        write_tuned(json.loads((hub.SHIPPED["tuned"] / "scores.json").read_text(encoding="utf-8")))
        return 0
    if args.tuned:
        return imitated()
    scale, config = SCALES["cpu"], SCALES["cpu"].config
    documents, _, quiz = town_data(SUMS * TELLINGS, scale.questions, random.Random("base"), TELLINGS)
    if args.measure:
        model, tokenizer = hub.load(args.out)
        record = json.loads((args.out / "scores.json").read_text(encoding="utf-8"))
    else:
        tokenizer = Tokenizer.train(documents, config.vocab_size)
        ids = torch.tensor([i for d in tokenizer.encode_all(documents) for i in (*d, END)])
        # A run goes on from its own corpus, not from another's.
        folder = args.work / hashlib.sha256(ids.numpy().tobytes()).hexdigest()[:12]
        journey = Journey(scale, seed=0)
        model = Transformer(config, seed=0).to(journey.device)
        rows = train(model,
                     lambda step: batch_windows(ids, scale.rows, config.context,
                                                torch.Generator().manual_seed(step)),
                     supervised.coefficient, SETTINGS,
                     label="base model", folder=folder)
        hub.save(model, tokenizer, args.out)
        record = {
            "what": "pretraining on the town and its sums",
            "parameters": model.count_parameters(),
            "config": asdict(config),
            "settings": asdict(SETTINGS),
            "corpus_tokens": len(ids),
            "tokens_read": rows[-1]["tokens"],
            "seconds": round(rows[-1]["seconds"]),
            "last_loss_nats_per_token": round(sum(r["nll"] for r in rows[-50:]) / 50, 4),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads",
            "torch": torch.__version__}
    seeds = {}
    for seed in range(3):
        begun = time.perf_counter()
        scores = measure(tuned(model, tokenizer, quiz, seed, progress=True))
        seeds[str(seed)] = scores | {"seconds": round(time.perf_counter() - begun)}
        print(f"after instruction tuning, seed {seed}: {seeds[str(seed)]}", flush=True)
    record["after_instruction_tuning"] = {"steps": scale.tuning_steps,
                                          "questions": len(quiz.training),
                                          "held_out": seeds}
    beside = args.out / "scores.json.part"
    beside.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    os.replace(beside, args.out / "scores.json")
    missed = [(name, seed) for name, goal in GOALS.items() for seed, scores in seeds.items()
              if scores[name] < goal]
    reached = f"Goals missed: {missed}" if missed else "Every goal is reached by every seed."
    print(f"Kept in {args.out}. {reached}")
    if not args.measure and args.out == hub.BASE:
        imitated()
        taught()
    return 1 if missed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
