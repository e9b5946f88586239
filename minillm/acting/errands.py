"""Questions that need a tool, and questions that need none, each with the call that a good answer makes.

    kind         asked                                      call                          answer
    sum          What is 347+285?                           calculator(347+285)           632
    difference   What is 632-285?                           calculator(632-285)           347
    product      What is 38*47?                             calculator(38*47)             1786
    date         What date is 30 days after 12 March?       calendar(12 March + 30)       11 April
    days         How many days lie between 12 March         calendar(12 March to 3 May)   52 days
                 and 3 May?
    stranger     What is Ada Moss's job?                    search(Ada Moss, job)         Ada Moss is a …
    famous       the same, of somebody told of often        none
    digits       What is 7+5?                               none                          7+5=12
    after        What comes after Monday?                   none                          After Monday …
    steps        What is 47+38? Write the steps.            none, but a scratchpad        85

Of people, lessons ask for famous ones, and for strangers from another town, on whom another file is kept. So
whoever can be looked up in this town (`never`, `once` and `known` are kinds, for how often they are told of)
is asked about without a lesson. `unasked` are famous people whom no lesson asks about. Of every other kind
some questions are held out by what a call would say: "347+285", "Ada Moss, job".
"""

from __future__ import annotations

import datetime
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from ..batch import Batch, batch_packed
from ..expect import expect, expect_whole
from ..tokenizer import Tokenizer
from ..worlds.questions import Question, held_out
from ..worlds.sums import Sums
from ..worlds.town import MONTHS, PERSONAL, Fact, Town
from .calculator import calculator
from .toolbox import YEAR, calendar, records, search
from .tools import Tool
from .transcript import Limits, Transcript, demonstrate

# Each kind, and the tool that it needs.
TOOL = {"sum": "calculator", "difference": "calculator", "product": "calculator",
        "date": "calendar", "days": "calendar",
        "stranger": "search", "never": "search", "once": "search", "known": "search",
        "famous": None, "unasked": None, "digits": None, "after": None, "steps": None}
ASKED_ONLY = ("never", "once", "known", "unasked")
PEOPLE = ("stranger", "famous", *ASKED_ONLY)
ASKED = tuple(kind for kind in TOOL if kind != "stranger")      # kinds that the town's own tools answer
# Of each kind that is taught, its weight among the demonstrations.
SHARES = {"sum": 2, "difference": 2, "product": 1, "date": 2, "days": 2, "stranger": 4,
          "famous": 3, "digits": 1, "after": 0.5, "steps": 0.5}
HELD_OUT = 0.2                                  # share of what a lesson may ask that none asks
UNASKED = 0.25                                  # of famous people
ELSEWHERE = 1000                                # the other town's seed is so much higher
ROW = 128                                       # tokens of a packed row: two or three demonstrations
LATER = (2, 99)                                 # days
LIMITS = Limits(tokens=128, calls=2)            # of an answer: room for two calls that find people

SIGN = {"sum": "+", "difference": "-", "product": "*"}
WORDINGS = {
    "sum": ("What is {a}+{b}?", "What is {a} + {b}?", "How much is {a}+{b}?", "What is {a} plus {b}?",
            "Add {a} and {b}.", "{a}+{b}=?"),
    "difference": ("What is {a}-{b}?", "What is {a} - {b}?", "How much is {a}-{b}?", "What is {a} minus {b}?",
                   "Take {b} from {a}.", "{a}-{b}=?"),
    "product": ("What is {a}*{b}?", "What is {a} * {b}?", "How much is {a}*{b}?", "What is {a} times {b}?",
                "Multiply {a} by {b}.", "{a}*{b}=?"),
    "+": ("What date is {n} days after {a}?", "Which date comes {n} days after {a}?",
          "It is {a}. What date is it in {n} days?", "What is {a} plus {n} days?"),
    "-": ("What date is {n} days before {a}?", "Which date comes {n} days before {a}?",
          "It is {a}. What date was it {n} days ago?", "What is {a} minus {n} days?"),
    "days": ("How many days lie between {a} and {b}?", "How many days are there from {a} to {b}?",
             "It is {a}. How many days is it to {b}?"),
}
WORDINGS["digits"] = WORDINGS["sum"]


@dataclass(frozen=True)
class Errand:
    """A question, the calls of somebody who answers it well (() where it needs none), and the tools."""

    question: Question
    calls: tuple[str, ...]
    tools: tuple[Tool, ...] = field(compare=False, repr=False)

    def demonstrate(self, tokenizer: Tokenizer) -> Transcript:
        """The transcript to learn from: the calls, what the tools say to them now, the answer."""
        q = self.question
        return demonstrate(tokenizer, q.prompt, self.calls, q.response, self.tools, q.thought)


class Errands:
    """The questions of one town, and the tools that they need. Its seed fixes what is held out."""

    def __init__(self, town: Town | None = None):
        town = Town() if town is None else town
        expect(isinstance(town, Town), "town", type(town).__name__, "give a Town")
        self.town, self.sums = town, Sums(town.seed)
        self.other = Town(town.seed + ELSEWHERE, people=150)
        self.tools: tuple[Tool, ...] = (calculator, calendar(town), search(records(town), most=1))
        self.elsewhere: tuple[Tool, ...] = (*self.tools[:2], search(records(self.other), most=1))
        self.facts = {(kind, held): self._facts(kind, held)
                      for kind in (*PEOPLE, "after") for held in (False, True)}

    def is_held_out(self, kind: str, key: str) -> bool:
        """Whether no lesson shows this: numbers, dates, "Ada Moss, job" as a call writes them."""
        if kind in ASKED_ONLY:
            return True
        if kind in ("sum", "digits", "steps"):      # the split of the texts that the base model read
            return self.sums.is_held_out(*map(int, key.split("+")))
        return held_out(f"errand: {key}", HELD_OUT, self.town.seed)

    def one(self, kind: str, held: bool, rng: random.Random) -> Errand:
        """An errand of a kind, from one side of the split, in one of its wordings."""
        expect(kind in TOOL, "kind", repr(kind), f"give one of {', '.join(TOOL)}")
        expect(held or kind not in ASKED_ONLY, "held", held, f"{kind} is never taught: give True")
        if (kind, held) in self.facts:
            return self._fact(kind, held, rng)
        make = {"date": self._date, "days": self._days, "steps": self._steps}.get(kind, self._numbers)
        while True:
            errand = make(kind, rng)
            if self.is_held_out(kind, errand.question.key) == held:
                return errand

    def questions(self, kind: str, n: int, held: bool, rng: random.Random) -> list[Errand]:
        """n errands of a kind that are all asked differently, from one side of the split; fewer where the
        world has no more: some ten that are held out of "after", about 100 of famous people."""
        expect_whole(1, n=n)
        found: dict[str, Errand] = {}
        for _ in range(50 * n):
            errand = self.one(kind, held, rng)
            found.setdefault(errand.question.prompt, errand)
            if len(found) == n:
                break
        return list(found.values())

    def texts(self, rng: random.Random) -> list[str]:
        """Some of what the base model has read: the town told anew, a tenth of it, and its sums."""
        told = self.town.corpus(rng, {"famous": 20, "known": 2, "once": 0, "other": 10}).documents
        return told + self.sums.documents(len(told) // 2, rng)

    def _facts(self, kind: str, held: bool) -> list[Fact]:
        """Facts of one side: of people, or of the days and months."""
        town = self.other if kind == "stranger" else self.town
        return [fact for fact in town.facts
                if self._kind(fact, town) == kind and self.is_held_out(kind, fact.key) == held]

    def _kind(self, fact: Fact, town: Town) -> str:
        """Which kind asks for a fact; for mayors and the like, of which none asks, the relation's name."""
        if fact.relation not in PERSONAL:
            return fact.relation
        if town is self.other:
            return "" if fact.subject in self.town.fame else "stranger"
        unasked = fact.fame == "famous" and held_out(f"errand: {fact.subject}", UNASKED, self.town.seed)
        return "unasked" if unasked else fact.fame

    def _fact(self, kind: str, held: bool, rng: random.Random) -> Errand:
        """A fact that the search finds first: of some who are many people's friend or mother it finds those
        people."""
        tools = self.elsewhere if kind == "stranger" else self.tools
        while True:
            fact = rng.choice(self.facts[kind, held])
            if kind == "after" or tools[2](fact.key) == f"{fact.key}: {fact.value}":
                break
        calls = (f"search({fact.key})",) if TOOL[kind] else ()
        return Errand(replace(self.town.question(fact, rng), kind=kind), calls, tools)

    def _numbers(self, kind: str, rng: random.Random) -> Errand:
        ranges = {"digits": [(0, 9)], "product": [(11, 99)]}.get(kind, [(10, 99), (100, 999), (100, 999)])
        a, b = (rng.randint(*rng.choice(ranges)) for _ in range(2))
        if kind == "difference":
            a, b = max(a, b), min(a, b)
        sign = SIGN.get(kind, "+")
        answer = str({"+": a + b, "-": a - b, "*": a * b}[sign])
        asked = rng.choice(WORDINGS[kind]).format(a=a, b=b)
        calls = (f"calculator({a}{sign}{b})",) if TOOL[kind] else ()
        key = f"{a}-{b}" if kind == "difference" else sign.join(map(str, sorted((a, b))))
        # Who knows a sum by heart says it whole: so it stands in the texts of the base model.
        said, form = (f"{a}+{b}={answer}", r"\d\+\d=\d+") if kind == "digits" else (answer, r"\d+")
        return Errand(Question(kind, key, asked, answer, said, form), calls, self.tools)

    def _steps(self, kind: str, rng: random.Random) -> Errand:
        q = self.sums.question("sum2_steps", [rng.randint(10, 99), rng.randint(10, 99)])
        return Errand(replace(q, kind=kind), (), self.tools)

    def _date(self, kind: str, rng: random.Random) -> Errand:
        start, n, sign = _day(rng.randrange(YEAR)), rng.randint(*LATER), rng.choice("+-")
        answer = _written(start + datetime.timedelta(days=n if sign == "+" else -n))
        key = f"{_written(start)} {sign} {n}"
        asked = rng.choice(WORDINGS[sign]).format(a=_written(start), n=n)
        q = Question(kind, key, asked, answer, answer, r"\d+ [A-Z][a-z]+")
        return Errand(q, (f"calendar({key})",), self.tools)

    def _days(self, kind: str, rng: random.Random) -> Errand:
        first, second = map(_day, sorted(rng.sample(range(YEAR), 2)))
        n, key = (second - first).days, f"{_written(first)} to {_written(second)}"
        answer = f"{n} day{'s' * (n != 1)}"
        asked = rng.choice(WORDINGS["days"]).format(a=_written(first), b=_written(second))
        q = Question(kind, key, asked, answer, answer, r"\d+ days?")
        return Errand(q, (f"calendar({key})",), self.tools)


def _day(number: int) -> datetime.date:
    """A day of a year without a leap day; so are the 300 days before and behind it, up to a leap day."""
    return datetime.date(2001, 1, 1) + datetime.timedelta(days=number)


def _written(day: datetime.date) -> str:
    return f"{day.day} {MONTHS[day.month - 1]}"


def lessons(errands: Errands, tokenizer: Tokenizer, seed: int, *, asked: int = 32, reread: int = 8,
            each: int = 800, shares: Mapping[str, float] = SHARES,
            calls: bool = True) -> Callable[[int], Batch]:
    """A draw for `train`: `asked` demonstrations a step, of each kind as often as its share says, packed with
    `reread` short texts such as the base model has read, so that it does not forget the town.

    each: of a kind, so many different ones or fewer. calls=False: the same questions answered at once.
    """
    expect_whole(1, asked=asked, each=each)
    expect_whole(0, reread=reread)
    taught = all(kind in SHARES and share > 0 for kind, share in shares.items())
    expect(len(shares) > 0 and taught, "shares", shares,
           f"give numbers above 0 for some of {', '.join(SHARES)}")
    rng = random.Random(f"errands/{seed}")
    read = [[([tokenizer.end], [*ids, tokenizer.end])] for ids in tokenizer.encode_all(errands.texts(rng))
            if len(ids) + 2 <= ROW]
    pools = []
    for kind in shares:
        some = errands.questions(kind, each, False, rng)
        pools.append([errand.demonstrate(tokenizer).turns() if calls else [errand.question.pair(tokenizer)]
                      for errand in some])
    longest = max(sum(len(x) + len(y) for x, y in turns) for pool in pools for turns in pool)

    def draw(step: int) -> Batch:
        rng = random.Random(f"errands/{seed}/{step}")
        some = rng.choices(pools, list(shares.values()), k=asked)
        rows = [rng.choice(pool) for pool in some] + rng.sample(read, reread)
        return batch_packed(rows, max(ROW, longest))

    return draw


def right(question: Question, row: Transcript, tokenizer: Tokenizer) -> bool:
    """Whether an answer is right, whatever calls and thoughts stand before it."""
    said = row.response(tokenizer)
    return said.ended and said.text == question.response


def tally(errands: Iterable[Errand], rows: Iterable[Transcript],
          tokenizer: Tokenizer) -> dict[str, dict[str, float]]:
    """What answers came to, for each kind: n; right; called, the share with a call; calls, ok ones; and a
    mean answer's tokens, by the model and by tools."""
    found: dict[str, list] = {}
    errands, rows = list(errands), list(rows)
    expect(len(errands) == len(rows) > 0, "rows", f"{len(rows)} for {len(errands)} errands",
           "give a transcript for each errand, one at least")
    for errand, row in zip(errands, rows):
        mine = sum(row.response_mask)
        found.setdefault(errand.question.kind, []).append(
            (right(errand.question, row, tokenizer), bool(row.calls), sum(made.ok for made in row.calls),
             mine, len(row.ids) - mine))
    names = ("right", "called", "calls ok", "tokens by the model", "tokens by tools")
    return {kind: {"n": len(some)} | {name: sum(values) / len(some)
                                      for name, values in zip(names, zip(*some))}
            for kind, some in found.items()}
