"""Chapter 17's runs on calls learned from rewards: the mask of replies, and a price for each call.

It takes about 4 minutes a seed on one core and writes benchmarks/results/chapter17_rl.json:

    python -m benchmarks.chapter17_with                         # first: it leaves the caller of each seed
    python -m benchmarks.chapter17_rl                           # the seeds that are not kept yet

Each way begins with the seed's caller. It looks up nearly everybody whom no lesson asked about, those among
them whom it knows as well, and it answers for some of whom it knows nothing. Per draw it answers 16 questions
8 times, with tools; the reward is 1 for a right answer. What is learned so is whether to call: how to write
a call takes more examples than these draws hold (from `begun`, the caller after 400 steps, 20 to 25 draws
left the share of right answers where it was).

    masked      the tools' tokens are no y: F = 0 on them
    replies     the tools' tokens counted into y, as if the model had drawn them
    priced      masked, and a call costs PRICE

Of the famous people whom no lesson asked about, some are asked here, and the others in the test alone.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from minillm import hub
from minillm.acting.errands import LIMITS, Errand, right, tally
from minillm.acting.transcript import Transcript, batch_transcripts, use
from minillm.batch import Batch
from minillm.logprob import logprobs
from minillm.methods import grpo
from minillm.train import Settings, train

from .chapter17_with import MODELS, SEEDS, TOKENIZER, WORLD, answers, shown
from .parts import command, run_missing

RESULTS = Path(__file__).parent / "results" / "chapter17_rl.json"
DRAWS, N = 20, 8
ASKED = {"stranger": 6, "unasked": 6, "sum": 2, "digits": 2}        # of a draw
SETTINGS = Settings(DRAWS, lr=1e-3, muon_lr=2e-3, warmup=0.0, decay=0.3)
PRICE = 0.2
TESTED, KINDS = 60, ("sum", "never", "once", "known", "famous", "unasked", "digits")
WAYS = {"masked": {}, "replies": {"replies": True}, "priced": {"price": PRICE}}


def unasked(here: bool) -> list[Errand]:
    """Questions about famous people of no lesson: of those who are asked here, or of the others."""
    people = sorted({fact.subject for fact in WORLD.facts["unasked", True]})
    some = set(people[::2] if here else people[1::2])
    return [errand for errand in WORLD.questions("unasked", 250, True, random.Random("unasked"))
            if errand.question.key.split(",")[0] in some]


def drawn(model, errands: list[Errand], generator: torch.Generator) -> list[Transcript]:
    """N transcripts for each errand, by those tools that it is for; group: the number of the errand."""
    rows = []
    for tools in (WORLD.tools, WORLD.elsewhere):
        some = [i for i, errand in enumerate(errands) if errand.tools is tools]
        if some:
            found = use(model, TOKENIZER, [errands[i].question.prompt for i in some], list(tools), LIMITS,
                        n=N, temperature=1.0, generator=generator)
            for row in found:
                row.group = some[row.group]
            rows += found
    return rows


def drawing(model, seed: int, log: list[dict], replies: bool = False,
            price: float = 0.0) -> Callable[[int], Batch]:
    """A draw for `train`; log: what each came to."""
    rng = random.Random(f"rl/{seed}")
    pools = {kind: WORLD.questions(kind, 400, False, rng) for kind in ASKED if kind != "unasked"}
    pools["unasked"] = unasked(True)

    def draw(step: int) -> Batch:
        rng = random.Random(f"rl/{seed}/{step}")
        errands = [errand for kind, n in ASKED.items() for errand in rng.sample(pools[kind], n)]
        model.eval()
        rows = drawn(model, errands, torch.Generator().manual_seed(rng.getrandbits(62)))
        won = torch.tensor([float(right(errands[row.group].question, row, TOKENIZER)) for row in rows])
        calls = torch.tensor([float(len(row.calls)) for row in rows])
        whole = batch_transcripts(rows, replies=True)
        with torch.no_grad():
            logp = logprobs(model, whole)                                           # (B, T)
        batch = whole if replies else batch_transcripts(rows)
        by_tool = whole.response_mask & ~batch_transcripts(rows).response_mask
        if replies:
            # Who takes the tool's tokens for the model's own scores the whole text when it was drawn.
            batch.logprobs = torch.where(by_tool, logp, batch.logprobs)
        batch.rewards = won - price * calls
        batch.advantages = grpo.advantages(batch.rewards, batch.group, divide=False)
        fine = sum(made.ok for row in rows for made in row.calls)
        log.append({"right": float(won.mean()), "calls": float(calls.mean()),
                    "log p of a tool's token": float(logp[by_tool].mean()),
                    "calls ok": fine / max(1.0, float(calls.sum())),
                    "tokens": sum(sum(row.response_mask) for row in rows) / len(rows)})
        model.train()
        return batch

    return draw


def tested(model, seed: int) -> dict:
    """Greedy answers to held-out questions of each kind, log p of what tools said, and some transcripts."""
    rng, kept = random.Random(f"rl tested/{seed}"), {"tally": {}, "shown": {}}
    by_tool, count = 0.0, 0
    for kind in KINDS:
        errands = (unasked(False) if kind == "unasked" else WORLD.questions(kind, TESTED, True, rng))[:TESTED]
        rows = answers(model, errands, WORLD.tools)
        kept["tally"] |= tally(errands, rows, TOKENIZER)
        kept["shown"][kind] = shown(errands, rows, lambda errand, row: True, 2)
        whole, mine = batch_transcripts(rows, replies=True), batch_transcripts(rows)
        some = whole.response_mask & ~mine.response_mask
        with torch.no_grad():
            by_tool, count = by_tool + float(logprobs(model, whole)[some].sum()), count + int(some.sum())
    kept["log p of a tool's token"] = by_tool / max(1, count)
    return kept


def before(seed: int) -> dict:
    """The seed's caller, as it is."""
    return tested(hub.load(MODELS / f"caller{seed}")[0], seed)


def way(seed: int, name: str) -> dict:
    """One of WAYS, from the seed's caller."""
    model, _ = hub.load(MODELS / f"caller{seed}")
    log: list[dict] = []
    begun = time.perf_counter()
    rows = train(model, drawing(model, seed, log, **WAYS[name]), partial(grpo.coefficient, average=None),
                 SETTINGS, label=f"{name} {seed}")
    for mark, row in zip(log, rows):
        mark["grad_norm"] = row["grad_norm"]
    return tested(model, seed) | {"draws": log, "seconds": round(time.perf_counter() - begun)}


PARTS = {"before": before} | {name: partial(way, name=name) for name in WAYS}


def main() -> None:
    """Run the parts that are missing, and keep each as soon as it is done."""
    settings = {"train": vars(SETTINGS), "asked": ASKED, "n": N, "price": PRICE, "tested": TESTED}
    run_missing(command(__doc__, RESULTS, SEEDS, PARTS).parse_args(), PARTS, settings)


if __name__ == "__main__":
    main()
