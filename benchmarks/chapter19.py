"""Chapter 19's runs: when to look, what came back, and how much of it to read.

It takes about six minutes a seed on one core and writes benchmarks/results/chapter19.json:

    python -m benchmarks.chapter19                              # what is not kept yet, of all seeds
    python -m benchmarks.chapter19 --seeds 21 --parts ways --again

The course's `caller` has read how the town was in 2020, and it can call a search and copy a reply. Each seed
tunes it into a `reader`, in three lessons: whether a record is about the query, and what it says; whole
demonstrations, with good and bad replies; and then also whether an answer is of use. `trusting` sees whole
demonstrations, and each reply holds the right record, alone or with others. What becomes of the town is drawn
anew for each demonstration; it is fixed for the test, and no fact that is asked about there was asked about
in training. Settings were chosen on seed 0, and one was changed after a look at seed 21; the seeds here chose
nothing. Models are kept in build/chapter19, and made again where they are not there.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

from minillm import hub
from minillm.acting import retrieval
from minillm.batch import batch_packed
from minillm.methods import supervised
from minillm.train import Settings, train
from minillm.worlds import changing
from minillm.worlds.changing import CHANGE, FIRST, NOW, RECORD, UNKNOWN, VALUES, Dated, History, marks
from minillm.worlds.town import HE, LAST, SHE, Fact, Town

from .parts import command, run_missing

RESULTS = Path(__file__).parent / "results" / "chapter19.json"
MODELS = Path(__file__).parents[1] / "build" / "chapter19"
SEEDS = (22, 23, 24)
STEPS = {"reader": 450, "trusting": 120}
# Of the reader's steps, where a lesson ends: is a record about the query; reading; everything.
RELEVANT, READING = 200, 285
# A step: demonstrations, and pieces of some: relevance with an answer; the word on looking.
ROWS = {"relevant": (3, 58, 8), "reading": (24, 14, 14), "all": (28, 8, 16)}
REREAD, ROW = 4, 192                            # a step: the town's texts; tokens of a packed row
RATES = {"lr": 1e-2, "muon_lr": 0.02, "decay": 0.7}
FOLLOW, LOOKS = 0.6, 0.75                       # those that look as one should; of the others, who looks
# What a reply holds: several records with the right one among them; a version of the fact, maybe an old one;
# the right one; another fact of the same person; nothing.
REPLIES = {"reader": (0.35, 0.35, 0.0, 0.2, 0.1), "trusting": (0.5, 0.0, 0.5, 0.0, 0.0)}
WRONG = 0.12                                    # of answers, those that are there to be judged
PREMISE = 0.2                                   # of questions, those that take something for granted
MOST = 3                                        # records that a search gives back
TESTED = 2                                      # facts of each famous person that only the test asks about
PEOPLE = 10                                     # of whom nothing was told, in the test
CALLER, TOKENIZER = hub.load("caller")
TOWN = Town(0)
EVERYONE = [f"{first} {last}" for first in SHE + HE for last in LAST]


# --- what they learn from -------------------------------------------------------------------------


def famous(seed: int) -> tuple[list[Fact], list[Fact]]:
    """(famous people's facts to learn from, those for the test): of each person some."""
    learned, tested = [], []
    for name in sorted(name for name, fame in TOWN.fame.items() if fame == "famous"):
        facts = facts_of([name])
        random.Random(f"famous/{seed}/{name}").shuffle(facts)
        tested += facts[:TESTED]
        learned += facts[TESTED:]
    return learned, tested


def facts_of(names: Sequence[str]) -> list[Fact]:
    """Those that may change, and who their mother is."""
    return [fact for fact in TOWN.facts if fact.subject in set(names) and fact.relation in CHANGE]


def some_value(relation: str, rng: random.Random) -> str:
    """Any value of a relation."""
    return rng.choice([n for n in EVERYONE if n.split()[0] in SHE] if relation == "mother"
                      else VALUES[relation])


def other_fact(question: Dated, rng: random.Random) -> str:
    """A record of the same person and another relation."""
    relation = rng.choice([r for r in CHANGE if r != question.history.relation])
    return of(question.history.subject, relation, rng)


def namesake(question: Dated, rng: random.Random) -> str:
    """A record of the same relation, of somebody with one of the names."""
    names = set(question.history.subject.split())
    return of(rng.choice([n for n in EVERYONE if len(names & set(n.split())) == 1]),
              question.history.relation, rng)


def stranger(question: Dated, rng: random.Random) -> str:
    """A record of the same relation, of somebody with other names."""
    names = set(question.history.subject.split())
    return of(rng.choice([n for n in EVERYONE if not names & set(n.split())]), question.history.relation, rng)


def of(name: str, relation: str, rng: random.Random) -> str:
    """One of somebody's records, with years as all records have them."""
    fact = Fact(name, relation, some_value(relation, rng), "")
    return rng.choice(changing.history(fact, rng).records())


BESIDE = {"another fact": other_fact, "a namesake": namesake, "a stranger": stranger}


def a_reply(question: Dated, shares: tuple, rng: random.Random) -> list[str]:
    """Lines that a search gives back, the newest last: see REPLIES."""
    records = question.history.records()
    kind, = rng.choices(("several", "version", "right", "none", "nothing"), shares)
    if kind == "several":
        lines = records[-MOST:]
        lines += [other_fact(question, rng) for _ in range(rng.randint(0, MOST - len(lines)))]
        return by_year(lines, rng)
    if kind == "none":
        return [other_fact(question, rng)]
    return {"version": [rng.choice(records)], "right": records[-1:], "nothing": []}[kind]


def by_year(lines: list[str], rng: random.Random) -> list[str]:
    """The newest last; of one year, in any order."""
    return sorted(rng.sample(lines, len(lines)), key=lambda line: int(RECORD.fullmatch(line)[3]))


def another(question: Dated, answer: str, lines: list[str], rng: random.Random) -> str:
    """A wrong answer of the right form: another value, or another year."""
    relation = question.history.relation
    value, year = question.history.at(rng.choice([FIRST, NOW]))
    given = question.read(lines)
    if given is not None and rng.random() < 0.4:
        year = rng.choice([y for y in range(FIRST, NOW + 1) if y != int(given[-6:-2])])
        value = next(RECORD.fullmatch(line)[2] for line in lines if question.read([line]) == given)
    else:
        value = some_value(relation, rng)
    said = question.says(value, year)
    return said if said != answer else UNKNOWN


def ask(history: History, rng: random.Random) -> Dated:
    """What is so now, or since when something is so, which may not be so."""
    if history.relation == "mother" or rng.random() > PREMISE:
        return changing.ask_now(history)
    values = [history.at()[0], history.versions[0][1], rng.choice(VALUES[history.relation])]
    return changing.ask_since(history, rng.choice(values))


def demonstration(facts: list[Fact], shares: tuple, rng: random.Random) -> list:
    """One transcript of the curator's, as (x, y) for its turns.

    Some look where one should, and the word after "look" is learned. The others look by chance, and it is
    not: so both are learned of every question, an answer from memory and one from a reply.
    """
    question = ask(changing.history(rng.choice(facts), rng), rng)
    should = question.memory != question.response
    follows = rng.random() < FOLLOW
    looks = should if follows else rng.random() < LOOKS
    look = should if follows else None
    if not looks:
        return retrieval.demonstrate(TOKENIZER, question.prompt, question.memory, look=look,
                                     useful=not should).turns()
    lines = a_reply(question, shares, rng)
    said = question.read(lines)
    answer, judged = said or question.memory, rng.random() < WRONG
    if judged:
        answer = another(question, answer, lines, rng)
    return retrieval.demonstrate(
        TOKENIZER, question.prompt, answer, look=look, query=question.query, reply="\n".join(lines),
        relevant=said is not None, supported=said is not None and not judged,
        useful=marks(question, answer).strict, judged=judged).turns()


def relevance(facts: list[Fact], rng: random.Random) -> list:
    """A piece of a demonstration with one record: is it about the query? If so, the answer too.

    Years are equally likely here: with most of them 2020 a model may learn to say that, and not to read.
    """
    fact, about = rng.choice(facts), rng.random() < 0.5
    relation = fact.relation if about else rng.choice([r for r in CHANGE if r != fact.relation])
    line = changing.record(rng.randint(FIRST, NOW), fact.subject, relation, some_value(relation, rng))
    question = changing.ask_now(changing.history(fact, rng))
    row = retrieval.demonstrate(TOKENIZER, question.prompt, "", query=question.query, reply=line, useful=True)
    *before, (x, _) = row.turns()
    said = f"{retrieval.YES}. {question.read([line])}" if about else f"{retrieval.NO}."
    return [([i for turn in before for part in turn for i in part] + x,
             TOKENIZER.encode(f"{retrieval.RELEVANT}{said}"))]


def looking(facts: list[Fact], rng: random.Random) -> list:
    """The first word of a demonstration that looks where one should."""
    question = ask(changing.history(rng.choice(facts), rng), rng)
    word = retrieval.NO if question.memory == question.response else retrieval.YES
    return [(TOKENIZER.prompt(question.prompt), TOKENIZER.encode(f"{retrieval.LOOK}{word}."))]


def without_useful(turns: list) -> list:
    """Without the last judgement, of which only the chance can be learned."""
    *before, (x, y) = turns
    for word in (retrieval.YES, retrieval.NO):
        said = [*TOKENIZER.encode(f"{retrieval.USEFUL}{word}."), TOKENIZER.end]
        if y[-len(said):] == said:
            return [*before, (x, y[:-len(said)])]
    raise ValueError("a demonstration ends with what it says of its use")


def learned(seed: int, name: str):
    """A model, kept or made now; a run that was stopped goes on."""
    folder = MODELS / f"{name}{seed}"
    if (folder / "model.safetensors").is_file():
        return hub.load(folder)[0]
    model = hub.load("caller")[0]
    new = changing.newcomers(TOWN, 500, random.Random(f"newcomers/{seed}"))
    old = famous(seed)[0]
    # The town's texts go on, so that what they tell of 2020 is not forgotten.
    times = {"famous": 20, "known": 2, "once": 0, "other": 0}
    texts = TOWN.corpus(random.Random(f"texts/{seed}"), times).documents

    def draw(step: int):
        rng = random.Random(f"{name}/{seed}/{step}")
        lesson = ("all" if name == "trusting" or step >= READING
                  else "reading" if step >= RELEVANT else "relevant")
        pools = (new, old) if lesson == "all" else (new, new, old)
        shown, judged, looked = ROWS[lesson]
        rows = [demonstration(pools[i % len(pools)], REPLIES[name], rng) for i in range(shown)]
        rows = rows if lesson == "all" else list(map(without_useful, rows))
        if name == "reader":
            rows += [relevance(pools[i % len(pools)], rng) for i in range(judged)]
            rows += [looking((new, old)[i % 2], rng) for i in range(looked)]
        rows += [[([TOKENIZER.end], TOKENIZER.response(text))] for text in rng.sample(texts, REREAD)]
        longest = max(sum(len(x) + len(y) for x, y in row) for row in rows)
        return batch_packed(rows, max(ROW, longest))

    train(model, draw, supervised.coefficient, Settings(STEPS[name], **RATES), label=f"{name} {seed}",
          folder=folder / "run")
    hub.save(model, TOKENIZER, folder)
    return model


# --- the test -------------------------------------------------------------------------------------


@cache
def test_town(seed: int) -> dict[str, History]:
    """What has become of everybody by now."""
    rng = random.Random(f"town/{seed}")
    return {fact.key: changing.history(fact, rng) for fact in facts_of(TOWN.fame)}


@cache
def register(seed: int) -> list[str]:
    """All records, in no order."""
    return changing.register(list(test_town(seed).values()), random.Random(f"register/{seed}"))


@cache
def asked(seed: int) -> list[tuple[str, Dated]]:
    """(group, question) about the famous and about people whom no text tells of: of now, with a premise."""
    rng, town = random.Random(f"asked/{seed}"), test_town(seed)
    names = sorted(name for name, told in TOWN.fame.items() if told == "never")
    groups = {"famous": famous(seed)[1], "never": facts_of(rng.sample(names, PEOPLE))}
    found = []
    for group, facts in groups.items():
        for history in (town[fact.key] for fact in facts):
            found.append((group, changing.ask_now(history)))
            if history.relation in VALUES:
                true = history.at()[0]
                false = rng.choice([value for value in VALUES[history.relation] if value != true])
                found.append((group, changing.ask_since(history, rng.choice([true, false]))))
    return found


def of_now(seed: int) -> list[tuple[str, Dated]]:
    """Those without a premise."""
    return [(group, q) for group, q in asked(seed) if q.premise is None]


def some_of_now(seed: int) -> list[Dated]:
    """Half of these, of both groups."""
    return [q for _, q in of_now(seed)][::2]


def kind_of(group: str, question: Dated) -> str:
    """What the figures tell apart."""
    if group == "never":
        return "never told"
    return "famous, changed" if question.changed else "famous, unchanged"


def numbers(question: Dated, reading: retrieval.Reading) -> list:
    """A reading for the file: strict, relaxed, tokens, p of relevant, supported and useful, and p of a token
    of the answer."""
    relaxed, strict = marks(question, reading.answer)
    three = reading.relevant, reading.supported, reading.useful
    judged = [None if p is None else round(p, 3) for p in three]
    return [int(strict), int(relaxed), reading.cost, *judged,
            round(math.exp(reading.logp / reading.tokens), 3)]


def ways(seed: int) -> dict:
    """Never and always looking, each of three records read by itself; p(look); RAG.

    Of each question: what it gives to never look; every record that came back, its year and its numbers, best
    first as the search has them; which of the answers RAG's sum over the records takes.
    """
    model, questions = learned(seed, "reader"), asked(seed)
    prompts = [q.prompt for _, q in questions]
    retrieve = retrieval.retriever(register(seed), MOST)
    never = retrieval.recall(model, TOKENIZER, prompts)
    always = retrieval.answer(model, TOKENIZER, prompts, retrieve, -1.0, apart=True)
    found = []
    for (group, q), a, b in zip(questions, never, always):
        found.append({                          # one of each name; the file says the names once
            "kind": kind_of(group, q), "relation": q.history.relation,
            "asks": "now" if q.premise is None else "a false premise" if q.false else "a true premise",
            "look": round(b.p_look, 3), "never": numbers(q, a),
            "readings": [numbers(q, r) for r in b.readings], "query": int(b.readings[0].query == q.query),
            "holds": [int(q.read([r.passage]) == q.response) for r in b.readings],
            "years": [int(RECORD.fullmatch(r.passage)[3]) if r.passage else None for r in b.readings],
            "rag": by_rag(model, q, b.readings, retrieve)})
    return {"names": list(found[0]), "rows": [list(row.values()) for row in found],
            "transcripts": [in_words(q, a, b) for (_, q), a, b in list(zip(questions, never, always))[::18]]}


def by_rag(model, question: Dated, readings: list, retrieve) -> int:
    """Whether the answer with the largest Σ_z p(z|x) p(y|x, z) is right, on the strict score."""
    scores = {found.text: found.score for found in retrieve(readings[0].query)}
    passages = [r.passage for r in readings]
    answers = list(dict.fromkeys(r.answer for r in readings))
    table = retrieval.after_each(model, TOKENIZER, question.prompt, readings[0].query, passages, answers)
    p = retrieval.marginal(retrieval.prior([scores.get(z, 0.0) for z in passages]), table)
    return int(marks(question, answers[p.index(max(p))]).strict)


def in_words(question: Dated, never: retrieval.Reading, always: retrieval.Answered) -> dict:
    """For the chapter to print."""
    return {"question": question.prompt, "right": question.response, "never": never.answer,
            "look": round(always.p_look, 2), "query": always.readings[0].query, "takes": always.answer,
            "readings": [[r.passage, r.answer, *numbers(question, r)[3:6]] for r in always.readings]}


# What may come back for a question. None where there is none of it.
CAME: dict[str, Callable[[Dated, random.Random], list[str] | None]] = {
    "the right record": lambda q, rng: q.history.records()[-1:],
    "an outdated one": lambda q, rng: (
        [rng.choice(q.history.records()[:-1])] if q.history.versions[1:] else None),
    **{name: lambda q, rng, make=make: [make(q, rng)] for name, make in BESIDE.items()},
    "nothing": lambda q, rng: [],
}


def came_back(seed: int) -> dict:
    """What each of the two readers makes of a right record, an outdated one, another's, and nothing.

    A list for each, of rows: what was said, and p of relevant, supported and useful.
    """
    kept: dict = {"transcripts": []}
    for name in STEPS:
        model, rng = learned(seed, name), random.Random(f"planted/{seed}")
        for what, make in CAME.items():
            cases = [(q, lines) for q in some_of_now(seed) if (lines := make(q, rng)) is not None]
            readings = read_all(model, cases)
            rows = [[said(q, lines, r.answer), *(round(p, 2) for p in (r.relevant, r.supported, r.useful))]
                    for (q, lines), r in zip(cases, readings)]
            kept.setdefault(name, {})[what] = rows
            kept["transcripts"] += [
                {"model": name, "came": what, "question": q.prompt, "reply": lines, "answer": r.answer,
                 "right": q.response, "p": row[1:]}
                for (q, lines), r, row in list(zip(cases, readings, rows))[3::24]]
    return kept


def read_all(model, cases: list[tuple[Dated, list[str]]]) -> list[retrieval.Reading]:
    """Of each question and its lines."""
    return retrieval.read(model, TOKENIZER, [q.prompt for q, _ in cases], [q.query for q, _ in cases],
                          ["\n".join(lines) for _, lines in cases])


def said(question: Dated, lines: list[str], answer: str) -> str:
    """What an answer is: right; else what memory says; that it does not know; a value of the reply; other."""
    values = [RECORD.fullmatch(line)[2] for line in lines]
    return ("right" if answer == question.response else "unknown" if answer == UNKNOWN
            else "memory" if answer == question.memory
            else "repeats" if any(value in answer for value in values) else "other")


def evidence(seed: int) -> dict:
    """All in one reply: how many records, and in which order. Of each way: questions, how many are right on
    the strict score and on the relaxed one, how many replies hold the right record, and tokens."""
    model, rng = learned(seed, "reader"), random.Random(f"evidence/{seed}")
    retrieve = retrieval.retriever(register(seed), 5)
    ways: dict[str, list] = {}
    for _, q in of_now(seed):
        found = [z.text for z in retrieve(q.query)]
        for k in (1, 2, 3, 5):
            for order, lines in orders(by_year(found[:k], rng), rng).items():
                if k > 1 or order == "newest last":
                    ways.setdefault(f"{k}, {order}", []).append((q, lines))
        versions = q.history.records()[-MOST:]
        if len(versions) > 1:
            for order, lines in orders(versions, rng).items():
                ways.setdefault(f"versions, {order}", []).append((q, lines))
    kept = {}
    for name, cases in ways.items():
        readings = read_all(model, cases)
        both = [marks(q, r.answer) for (q, _), r in zip(cases, readings)]
        kept[name] = {"n": len(cases), "strict": sum(m.strict for m in both),
                      "relaxed": sum(m.relaxed for m in both),
                      "holds": sum(q.read(lines) == q.response for q, lines in cases),
                      "tokens": sum(r.cost for r in readings)}
    return kept


def orders(lines: list[str], rng: random.Random) -> dict[str, list[str]]:
    """Lines that come with the newest last, in three orders."""
    return {"newest last": lines, "newest first": lines[::-1], "any order": rng.sample(lines, len(lines))}


PARTS: dict[str, Callable[[int], dict]] = {part.__name__: part for part in (ways, evidence, came_back)}


def main() -> None:
    """Run the parts that are missing, and keep each as soon as it is done."""
    settings = {"steps": STEPS, "lessons end": [RELEVANT, READING], "rows": ROWS, "reread": REREAD,
                "rates": RATES, "follow": FOLLOW, "looks": LOOKS, "replies": REPLIES, "wrong": WRONG,
                "premise": PREMISE, "tested": TESTED, "people": PEOPLE, "most": MOST}
    run_missing(command(__doc__, RESULTS, SEEDS, PARTS).parse_args(), PARTS, settings)


if __name__ == "__main__":
    main()
