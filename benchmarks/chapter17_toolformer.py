"""Chapter 17's runs of Toolformer's filter: calls that a model tries in texts, which stay, what they teach.

It takes about six minutes a seed on one core and writes benchmarks/results/chapter17_toolformer.json:

    python -m benchmarks.chapter17_toolformer                   # what is not kept yet, of all seeds
    python -m benchmarks.chapter17_toolformer --seeds 20 --parts filtered --again

The course's base model cannot be prompted with examples, as the paper's is. So a maker of calls is the base
tuned on texts into which a rule has put calls without any thought: one to a text, before its total or before
some later number, each as often, of the two numbers before it. So half of its calls are good for nothing.
From the maker three models go on, for equally many steps on the same texts: without calls, with a call
wherever the maker tried one, and with the calls that the filter kept. (The paper, too, tunes the model that
made the calls.) In all of this a row in four is one of the town's own texts, and nobody calls there.

Settings were chosen on seed 0; the seeds here chose nothing. The makers are kept in build/chapter17, and made
again where they are not there.
"""

from __future__ import annotations

import copy
import random
import re
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from minillm import hub
from minillm.acting import toolformer
from minillm.acting.calculator import calculator
from minillm.acting.tools import run
from minillm.acting.toolformer import Candidate
from minillm.acting.transcript import Limits, Transcript, use
from minillm.batch import Batch, batch_pairs, batch_turns
from minillm.logprob import all_logprobs, logprobs
from minillm.methods import supervised
from minillm.train import Settings, train
from minillm.worlds.totals import Told, Totals
from minillm.worlds.town import Town

from .parts import command, run_missing

RESULTS = Path(__file__).parent / "results" / "chapter17_toolformer.json"
MODELS = Path(__file__).parents[1] / "build" / "chapter17"
SEEDS = (20, 21, 22)
MAKER = {"steps": 400, "texts": 3000, "weight": 10.0, "rates": {"lr": 1e-2, "muon_lr": 0.02}}
TRIED = {"texts": 500, "k": 5, "m": 3, "tau_s": 0.05}
TAUS, TAU = (0.2, 0.5, 1.0, 2.0), 0.5
TUNED = {"steps": 100, "rates": {"lr": 3e-3, "muon_lr": 0.0075}}
ROWS, PLAIN = 32, 12                            # texts a step, and of the town's own, in which nobody calls
SHORT = 70                                      # tokens of these at most
TESTED = 150                                    # held-out texts
ONE = Limits(tokens=40, calls=1)
BASE, TOKENIZER = hub.load("base")
TOWN = Town(0)
TOTALS = Totals(TOWN)


# --- texts, and calls by a rule -------------------------------------------------------------------


def ids_of(told: Told) -> list[int]:
    """A text with its end."""
    return [*TOKENIZER.encode(told.text), TOKENIZER.end]


def numbers(told: Told) -> list[tuple[int, str]]:
    """Each number of a text and its place: the blank before it is a token of its own."""
    return [(len(TOKENIZER.encode(told.text[:found.start() - 1])), found[0])
            for found in re.finditer(r"\d+", told.text)]


def place_of(told: Told) -> int:
    """Where the total is."""
    return len(TOKENIZER.encode(told.text[:told.at - 1]))


def by_rule(told: Told, rng: random.Random) -> Transcript:
    """A text with one call of its last two numbers, before the total or before a later number."""
    found = numbers(told)
    at = next(i for i, (place, _) in enumerate(found) if place == place_of(told))
    if rng.random() < 0.5 and at + 1 < len(found):
        at = rng.randrange(at + 1, len(found))
    made = run([calculator], f"calculator({found[at - 2][1]}+{found[at - 1][1]})")
    return toolformer.annotate(TOKENIZER, ids_of(told), [Candidate(0, found[at][0], made, 1.0)])


def heavy_calls(batch: Batch, logp: Tensor) -> Tensor:
    """F for the maker: more on what stands in a call, or it learns to copy numbers last of all."""
    opened = (batch.tokens == TOKENIZER.call).cumsum(1) - (batch.tokens == TOKENIZER.call_end).cumsum(1)
    inside = (opened > 0) & (batch.tokens != TOKENIZER.call)
    return torch.where(inside, MAKER["weight"], 1.0)


@cache
def plain() -> list[Transcript]:
    """Texts as the base has read them."""
    texts = TOWN.corpus(random.Random("plain"), {"famous": 10, "known": 2, "once": 0, "other": 5}).documents
    ids = [[*TOKENIZER.encode(text), TOKENIZER.end] for text in texts]
    return [toolformer.annotate(TOKENIZER, text) for text in ids if len(text) <= SHORT]


def learn(model, rows: list[Transcript], F, how: dict, label: str) -> None:
    """Train a model, in place, on texts, and on the town's own, or it forgets them."""
    def draw(step: int) -> Batch:
        rng = random.Random(f"{label}/{step}")
        return batch_turns([row.turns() for row in rng.choices(rows, k=ROWS) + rng.choices(plain(), k=PLAIN)])

    train(model, draw, F, Settings(how["steps"], decay=0.9, **how["rates"]), label=label)


def maker(seed: int):
    """The model that tries calls, kept or made now."""
    folder = MODELS / f"maker{seed}"
    if (folder / "model.safetensors").is_file():
        return hub.load(folder)[0]
    rng, model = random.Random(f"maker/{seed}"), copy.deepcopy(BASE)
    rows = [by_rule(told, rng) for told in TOTALS.texts(MAKER["texts"], False, rng)]
    learn(model, rows, heavy_calls, MAKER, f"maker {seed}")
    hub.save(model, TOKENIZER, folder)
    return model


# --- the filter -----------------------------------------------------------------------------------


def kind(told: Told, c: Candidate) -> str:
    """What a call is good for, as only the writer of the texts knows."""
    if not c.made.ok:
        return "error"
    if c.place != place_of(told):
        return "elsewhere"
    return "total" if c.made.reply == told.total else "wrong numbers"


def shown(told: Told, c: Candidate, found: toolformer.Losses, i: int) -> dict:
    """A row of the chapter's table."""
    ids = TOKENIZER.encode(told.text)
    return {"before": TOKENIZER.decode(ids[:c.place]), "after": TOKENIZER.decode(ids[c.place:]),
            "call": c.made.text, "reply": c.made.reply, "kind": kind(told, c), "p": round(c.p, 3),
            "L+": round(float(found.reply[i]), 3), "nothing": round(float(found.nothing[i]), 3),
            "no reply": round(float(found.no_reply[i]), 3), "gain": round(float(found.gain[i]), 3)}


@cache
def tried(seed: int) -> tuple[list[Told], list[Candidate], toolformer.Losses, list[str]]:
    """Texts, the calls that were tried in them, their losses, and the calls that came to an error."""
    told = TOTALS.texts(TRIED["texts"], False, random.Random(f"tried/{seed}"))
    texts, model = [ids_of(t) for t in told], maker(seed)
    how = {k: TRIED[k] for k in ("k", "m", "tau_s")}
    found = toolformer.candidates(model, TOKENIZER, texts, [calculator], **how,
                                  generator=torch.Generator().manual_seed(seed))
    good = [c for c in found if c.made.ok]
    errors = [c.made.text + " -> " + c.made.reply for c in found if not c.made.ok]
    return told, good, toolformer.losses(model, TOKENIZER, texts, good), errors


def table(told: list[Told], calls: list[Candidate], found: toolformer.Losses) -> dict:
    """By kind: how many, how many stay at each tau_f, and the mean of each loss."""
    kinds, kept = [kind(told[c.text], c) for c in calls], {}
    for name in ("total", "wrong numbers", "elsewhere"):
        j = [i for i, k in enumerate(kinds) if k == name]
        if j:
            kept[name] = {"tried": len(j), "kept": {tau: int((found.gain[j] >= tau).sum()) for tau in TAUS},
                          "L+": float(found.reply[j].mean()), "nothing": float(found.nothing[j].mean()),
                          "no reply": float(found.no_reply[j].mean()),
                          # were L− the loss without a call alone
                          "kept without the empty reply": {
                              tau: int((found.nothing[j] - found.reply[j] >= tau).sum()) for tau in TAUS}}
    return kept


def filtered(seed: int) -> dict:
    """Calls that were tried, kept by tau_f and kind; the same with the call before the whole text."""
    told, calls, found, errors = tried(seed)
    kinds = [kind(told[c.text], c) for c in calls]
    rows = [i for name, n in (("total", 4), ("wrong numbers", 2), ("elsewhere", 4))
            for i in [i for i, k in enumerate(kinds) if k == name][:n]]
    elsewhere = [i for i, k in enumerate(kinds) if k == "elsewhere" and found.gain[i] >= TAU]
    some, model, texts = calls[:600], maker(seed), [ids_of(t) for t in told]
    other: dict[str, dict] = {"in place": {}, "in place, a call may follow": {"forbid": False},
                              "before the text": {"prefix": True},
                              "before the text, a call may follow": {"prefix": True, "forbid": False}}
    return {"texts": len(told), "places": len({(c.text, c.place) for c in calls}),
            "calls": len(calls), "errors": len(errors), "some errors": errors[:5],
            "kept": table(told, calls, found),
            "of the first 600": {
                name: table(told, some, toolformer.losses(model, TOKENIZER, texts, some, **how))
                for name, how in other.items()},
            "rows": [shown(told[calls[i].text], calls[i], found, i) for i in rows],
            "kept elsewhere": [shown(told[calls[i].text], calls[i], found, i) for i in elsewhere[:8]]}


# --- three models, and what they do ---------------------------------------------------------------


@torch.no_grad()
def where(model, told: list[Told]) -> dict:
    """By kind of place: how often a call is the most probable next token, among the first ten, and its p."""
    seen: dict[str, list] = {"total": [], "another number": [], "no number": []}
    for k in range(0, len(told), 50):
        batch = batch_pairs([([TOKENIZER.end], ids_of(t)) for t in told[k:k + 50]])
        logp = all_logprobs(model, batch)                                                   # (B, T, V)
        rank = (logp > logp[..., TOKENIZER.call, None]).sum(-1)                             # (B, T)
        for b, t in enumerate(told[k:k + 50]):
            with_number = {place for place, _ in numbers(t)}
            for i in range(int(batch.response_mask[b].sum())):
                name = "total" if i == place_of(t) else "another number" if i in with_number else "no number"
                seen[name].append((float(rank[b, i + 1] == 0), float(rank[b, i + 1] < 10),
                                   float(logp[b, i + 1, TOKENIZER.call].exp())))
    return {name: dict(zip(("first", "of ten", "p"), torch.tensor(v).mean(0).tolist())) | {"places": len(v)}
            for name, v in seen.items()}


def nats(model, rows: list[tuple[list[int], list[int]]]) -> Tensor:
    """−log p of each y, (N,)."""
    with torch.no_grad():
        return torch.cat([-logprobs(model, batch_pairs(rows[k:k + 64])).sum(1)
                          for k in range(0, len(rows), 64)])


def told_on(model, told: list[Told], places: list[int], said: list[str], tools: bool) -> dict:
    """Of numbers at places: nats a digit and share written right, greedily, with tools or without."""
    prompts = [[TOKENIZER.end, *ids_of(t)[:place]] for t, place in zip(told, places)]
    rows = use(model, TOKENIZER, prompts, [calculator], Limits(ONE.tokens, 1 if tools else 0))
    called = [bool(row.calls) and row.calls[0].start == 0 for row in rows]
    befores = [p + (row.ids[:row.calls[0].end] if tools and c else [])
               for p, row, c in zip(prompts, rows, called)]
    scored = [(before + TOKENIZER.encode(" "), TOKENIZER.encode(number))
              for before, number in zip(befores, said)]
    cost, digits = nats(model, scored), sum(len(y) for _, y in scored)
    texts = [row.response(TOKENIZER).text for row in rows]
    right = [(re.match(r" (\d+)", text) or [0, ""])[1] == number for text, number in zip(texts, said)]
    return {"nats a digit": float(cost.sum()) / digits, "right": sum(right) / len(right),
            "called": sum(called) / len(called),
            "texts": [TOKENIZER.decode(p[1:]) + " ||| " + row.text(TOKENIZER)
                      for p, row in zip(prompts[:4], rows)]}


@torch.no_grad()
def town_nats(model, seed: int, n: int = 150) -> dict:
    """Nats a token of the town's own texts, in which nobody calls: as it is, and with calls forbidden."""
    times = {"famous": 3, "known": 1, "once": 0, "other": 1}
    texts = TOWN.corpus(random.Random(f"town/{seed}"), times).documents
    total, forbidden, count = 0.0, 0.0, 0
    for k in range(0, n, 50):
        some = [[*TOKENIZER.encode(text), TOKENIZER.end][:200] for text in texts[k:k + 50]]
        batch = batch_pairs([([TOKENIZER.end], ids) for ids in some])
        logp, mask = all_logprobs(model, batch), batch.response_mask                        # (B, T, V)
        own = logp.gather(-1, batch.tokens[..., None])[..., 0][mask]                        # (N,)
        none = torch.log1p(-logp[..., TOKENIZER.call][mask].exp())                          # log p(no call)
        total, count = total - float(own.sum()), count + len(own)
        forbidden -= float((own - none).sum())
    return {"nats a token": total / count, "calls forbidden": forbidden / count, "tokens": count}


def free(model, seed: int, n: int = 48) -> dict:
    """Texts that a model writes by itself, with tools: where it calls, and whether its totals are right."""
    rows = use(model, TOKENIZER, [[TOKENIZER.end]], [calculator], Limits(tokens=130, calls=6), n=n,
               temperature=1.0, generator=torch.Generator().manual_seed(seed))
    before, elsewhere, totals, right = 0, 0, 0, 0
    for row in rows:
        text = row.response(TOKENIZER).text
        found = re.search(r"has (\d+) \w+(?: and|\.) \w+ has (\d+)\. (?:The sum is|In all that is|They have) "
                          r"(\d+)", text)
        totals += bool(found)
        right += bool(found) and int(found[1]) + int(found[2]) == int(found[3])
        for made in row.calls:
            begun = TOKENIZER.decode(row.ids[:made.start])
            due = re.search(r"(The sum is|In all that is|They have)$", begun)
            before, elsewhere = before + bool(due), elsewhere + (not due)
    return {"texts": n, "with a total": totals, "right": right, "calls before a total": before,
            "calls elsewhere": elsewhere, "some": [row.text(TOKENIZER) for row in rows[:6]]}


def measured(model, seed: int) -> dict:
    """All that is asked of a model."""
    told = TOTALS.texts(TESTED, True, random.Random(f"tested/{seed}"))
    later = [next(n for n in numbers(t) if n[0] > place_of(t)) for t in told]
    sums = [place_of(t) for t in told], [t.total for t in told]
    others = [place for place, _ in later], [number for _, number in later]
    return {"where": where(model, told),
            "totals": told_on(model, told, *sums, tools=True),
            "totals without tools": told_on(model, told, *sums, tools=False),
            "other numbers": told_on(model, told, *others, tools=True),
            "other numbers without tools": told_on(model, told, *others, tools=False),
            "town": town_nats(model, seed), "free": free(model, seed)}


def tuned(seed: int) -> dict:
    """The maker, and the three models that go on from it."""
    told, calls, found, _ = tried(seed)
    stay = toolformer.kept(found, TAU).tolist()
    first = toolformer.best(calls, -torch.arange(len(calls), dtype=torch.float))    # whichever came first
    good = toolformer.best([c for c, yes in zip(calls, stay) if yes], found.gain[torch.tensor(stay)])
    lessons = {"no calls": [], "all calls": first, "kept calls": good}
    kept = {"the maker": measured(maker(seed), seed)}
    for name, some in lessons.items():
        model = copy.deepcopy(maker(seed))
        of: dict[int, list[Candidate]] = {}
        for c in some:
            of.setdefault(c.text, []).append(c)
        rows = [toolformer.annotate(TOKENIZER, ids_of(t), of.get(n, ())) for n, t in enumerate(told)]
        learn(model, rows, supervised.coefficient, TUNED, f"{name} {seed}")
        kept[name] = measured(model, seed) | {"calls": len(some), "texts with one": len(of)}
    kept["base"] = {"town": town_nats(BASE, seed)}
    return kept


PARTS = {part.__name__: part for part in (filtered, tuned)}


def main() -> None:
    """Run the parts that are missing, and keep each as soon as it is done."""
    settings = {"maker": MAKER, "tried": TRIED, "tau_f": TAU, "tuned": TUNED, "rows": ROWS,
                "plain rows": PLAIN,
                "held-out texts": TESTED}
    run_missing(command(__doc__, RESULTS, SEEDS, PARTS).parse_args(), PARTS, settings)


if __name__ == "__main__":
    main()
