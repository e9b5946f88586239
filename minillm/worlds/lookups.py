"""Questions about a town that take two to five look-ups, each with a plan and with a way step by step.

A call is a text, such as record(Ada Moss, age). In a plan #1 stands for the reply of the first line. Kinds,
with the calls that a plan has, and how many of them must wait for one another:

    older       how many years older A is than B                                3 calls, 2 deep
    ages        how old two or three people are together                     3 or 4 calls, 2 deep
    prices      what two or three wares of a shop cost together              3 or 4 calls, 2 deep
    mothers     how many years older the mother of A is than that of B          5 calls, 3 deep
    two hops    such as the pet of A's mother                                   2 calls, 2 deep
    three hops  such as the pet of A's mother's best friend                     3 calls, 3 deep
    job         what the older of A and B works as: a plan asks for both jobs   5 calls, 2 deep

And `one`, a question about one fact, to begin with. An answer is the value alone: "16", "rabbit".
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from ..expect import expect
from .questions import Question, held_out
from .town import PERSONAL, RELATIONS, SHOPS, SOME, WARES, Fact, Town
from .two_hop import CALLED

KINDS = ("older", "ages", "prices", "mothers", "two hops", "three hops", "job")
CHAINS = ("two hops", "three hops")
ONE = "one"
HELD_OUT = 0.25                 # share of the people, and of the baskets of wares, that nobody asked for
LAST = ("job", "street", "pet", "age", "food")                  # what the last hop may ask for


@dataclass(frozen=True)
class Lookup:
    """A question; plan: its calls, #n for the reply of the nth; steps: (thought, call) one at a time."""

    question: Question
    plan: tuple[str, ...]
    steps: tuple[tuple[str, str], ...]


class Lookups:
    """Questions about the people of a town that nobody was told of, and about its shops.

    told: names to leave out, such as those whose facts a model has read.
    """

    def __init__(self, town: Town, told: frozenset[str] | set[str] = frozenset()):
        self.town = town
        self.facts = {(fact.subject, fact.relation): fact.value for fact in town.facts}
        names = [name for name in town.fame if name not in told]
        self.people = {held: [name for name in names if self.is_held_out(name) == held]
                       for held in (False, True)}
        enough = min(map(len, self.people.values())) >= 3
        expect(enough, "town", f"with {len(town.fame)} people", "give one with more who are not told of")

    def is_held_out(self, name: str) -> bool:
        """Whether no training text may ask for a person of this name, or for these wares together: the same
        in every town."""
        return held_out(f"look up: {name}", HELD_OUT, 0)

    def draw(self, kind: str, held: bool, rng: random.Random) -> Lookup:
        """A question of a kind, about people (or wares of a shop) on one side of the split."""
        expect(kind in (*KINDS, ONE), "kind", repr(kind), f"give one of {', '.join((*KINDS, ONE))}")
        make = {ONE: self._one, "older": self._older, "ages": self._ages, "prices": self._prices,
                "mothers": self._mothers, "two hops": self._hops, "three hops": self._hops,
                "job": self._job}[kind]
        return make(kind, held, rng)

    def questions(self, n: int, held: bool, rng: random.Random,
                  kinds: tuple[str, ...] = KINDS) -> list[Lookup]:
        """n questions of each kind, all different."""
        found: dict[str, Lookup] = {}
        for kind in kinds:
            some: dict[str, Lookup] = {}
            for _ in range(200 * n):
                if len(some) == n:
                    break
                one = self.draw(kind, held, rng)
                some[one.question.prompt] = one
            expect(len(some) == n, "n", n, f"there are only {len(some)} of kind {kind!r}")
            found |= some
        return list(found.values())

    def _people(self, n: int, held: bool, rng: random.Random) -> list[str]:
        return rng.sample(self.people[held], n)

    def _by_age(self, a: str, b: str, of=lambda name: name) -> tuple[str, str, int, int] | None:
        """The two, the older first, and the ages that count; None where they are less than two years apart.
        """
        ages = {name: int(self.facts[of(name), "age"]) for name in (a, b)}
        if abs(ages[a] - ages[b]) < 2:                      # "1 years older" is no English
            return None
        a, b = sorted((a, b), key=lambda name: -ages[name])
        return a, b, ages[a], ages[b]

    def _one(self, kind: str, held: bool, rng: random.Random) -> Lookup:
        (name,) = self._people(1, held, rng)
        relation = rng.choice((*PERSONAL, "age", "age"))     # most kinds reckon with ages
        asked = self.town.question(Fact(name, relation, self.facts[name, relation], ""), rng).prompt
        thought, call = _step(name, relation)
        return Lookup(_question(kind, asked, self.facts[name, relation]), (call,), ((thought, call),))

    def _older(self, kind: str, held: bool, rng: random.Random) -> Lookup:
        found = None
        while found is None:
            found = self._by_age(*self._people(2, held, rng))
        a, b, one, two = found
        return _lookup(kind, f"How many years older is {a} than {b}?", one - two, [(a, "age"), (b, "age")],
                       [one, two], "-")

    def _ages(self, kind: str, held: bool, rng: random.Random) -> Lookup:
        names = self._people(rng.choice((2, 3)), held, rng)
        ages = [int(self.facts[name, "age"]) for name in names]
        return _lookup(kind, f"How old are {_listed(names)} together?", sum(ages),
                       [(name, "age") for name in names], ages, "+")

    def _prices(self, kind: str, held: bool, rng: random.Random) -> Lookup:
        while True:
            shop, wares = rng.choice(SHOPS), rng.sample(WARES, rng.choice((2, 3)))
            if self.is_held_out(f"{shop}: {', '.join(sorted(wares))}") == held:
                break
        things = [f"a {ware} in {shop}" for ware in wares]
        prices = [int(self.facts[thing, "price"]) for thing in things]
        asked = f"What do {_listed([f'a {ware}' for ware in wares])} cost in {shop}?"
        return _lookup(kind, asked, sum(prices), [(thing, "price") for thing in things], prices, "+")

    def _mothers(self, kind: str, held: bool, rng: random.Random) -> Lookup:
        found = None
        while found is None:
            found = self._by_age(*self._people(2, held, rng), of=lambda name: self.facts[name, "mother"])
        a, b, one, two = found
        plan, steps = [], []
        for name in (a, b):
            mother = self.facts[name, "mother"]
            plan += [f"record({name}, mother)", f"record(#{len(plan) + 1}, age)"]
            steps += [_step(name, "mother"), _step(mother, "age")]
        plan.append("calculator(#2-#4)")
        steps.append(("Now the difference.", f"calculator({one}-{two})"))
        asked = f"How many years older is the mother of {a} than the mother of {b}?"
        return Lookup(_question(kind, asked, one - two), tuple(plan), tuple(steps))

    def _hops(self, kind: str, held: bool, rng: random.Random) -> Lookup:
        (name,) = self._people(1, held, rng)
        called, plan, steps, asked = name, [], [], name
        for _ in range(1 if kind == "two hops" else 2):
            relation = rng.choice(("mother", "friend"))
            plan.append(f"record({f'#{len(plan)}' if plan else name}, {relation})")
            steps.append(_step(asked, relation))
            called, asked = CALLED[relation].format(s=called), self.facts[asked, relation]
        relation = rng.choice(LAST)
        plan.append(f"record(#{len(plan)}, {relation})")
        steps.append(_step(asked, relation))
        wording = rng.choice([words for words in RELATIONS[relation].asked if "{s}'s" not in words])
        question = _question(kind, wording.format(s=called), self.facts[asked, relation])
        return Lookup(question, tuple(plan), tuple(steps))

    def _job(self, kind: str, held: bool, rng: random.Random) -> Lookup:
        found = None
        while found is None:
            found = self._by_age(*self._people(2, held, rng))
        a, *_ = found
        x, y = rng.sample(found[:2], 2)
        question = _question(kind, f"What is the job of the older of {x} and {y}?", self.facts[a, "job"])
        plan = [f"record({name}, {what})" for what in ("age", "job") for name in (x, y)]
        ages = "-".join(self.facts[name, "age"] for name in (x, y))         # below 0 where y is older
        difference = ("Now the difference.", f"calculator({ages})")
        steps = (_step(x, "age"), _step(y, "age"), difference, _step(a, "job"))
        return Lookup(question, (*plan, "calculator(#1-#2)"), steps)


def _step(subject: str, relation: str) -> tuple[str, str]:
    return f"I need the {relation} of {subject}.", f"record({subject}, {relation})"


def _lookup(kind: str, asked: str, answer: int, keys: list[tuple[str, str]], values: list[int],
            sign: str) -> Lookup:
    """Look some numbers up, then reckon with them."""
    steps = [_step(*key) for key in keys]
    last = "Now the difference." if sign == "-" else "Now the sum."
    plan = [call for _, call in steps] + [f"calculator({sign.join(f'#{i + 1}' for i in range(len(keys)))})"]
    steps.append((last, f"calculator({sign.join(map(str, values))})"))
    return Lookup(_question(kind, asked, answer), tuple(plan), tuple(steps))


def _question(kind: str, asked: str, answer: int | str) -> Question:
    """The right response is the value alone."""
    return Question(kind, asked, asked, str(answer), str(answer), SOME)


def _listed(words: list[str]) -> str:
    return ", ".join(words[:-1]) + " and " + words[-1]
