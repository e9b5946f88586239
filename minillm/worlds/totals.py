"""Short texts in which two amounts are told and then their total, among the town's other facts.

    Ben has 28 pears and Ada has 34. They have 62 pears. Tom Reed is 51 years old.

A calculator can say the total, if it is asked for these two numbers. It can say none of the others.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from ..expect import expect
from .questions import held_out
from .town import HE, RELATIONS, SHE, Fact, Town, sentence

GOODS = "coins pears cups dogs books lamps".split()
AMOUNTS = ("{p} has {a} {goods} and {q} has {b}.", "{p} has {a} {goods}. {q} has {b}.")
TOTALS = ("The sum is {t} {goods}.", "In all that is {t} {goods}.", "They have {t} {goods}.")
OTHER = "{r} has {c} {goods}."              # an amount that is no total
NUMBERED = ("age", "price")                 # facts with a number
LOW, HIGH = 11, 99                          # of an amount
HELD_OUT = 0.2                              # share of the pairs of amounts that no training text shows


@dataclass(frozen=True)
class Told:
    """A text and where its total is: text[at:] begins with total, the sum of the two terms."""

    text: str
    terms: tuple[int, int]
    at: int

    @property
    def total(self) -> str:
        return str(sum(self.terms))


class Totals:
    """Texts with a total, about one town. `seed` fixes which pairs of amounts are held out, in any order."""

    def __init__(self, town: Town, seed: int = 0):
        self.seed = seed
        told = [fact for fact in town.facts if town.fame.get(fact.subject) != "never"]
        self.numbered = [fact for fact in told if fact.relation in NUMBERED]
        self.wordy = [fact for fact in told if fact.relation not in (*NUMBERED, "mayor")]

    def is_held_out(self, a: int, b: int) -> bool:
        """Whether no training text may show these two amounts together."""
        return held_out(f"{min(a, b)}+{max(a, b)}", HELD_OUT, self.seed)

    def texts(self, n: int, held: bool, rng: random.Random) -> list[Told]:
        """n texts with amounts from one side of the split."""
        expect(isinstance(n, int) and n >= 1, "n", n, "give 1 or more")
        return [self._text(held, rng) for _ in range(n)]

    def _text(self, held: bool, rng: random.Random) -> Told:
        """Perhaps a fact; two amounts; their total; then another amount or a fact with a number, in any
        order, or both."""
        a, b = self._pair(held, rng)
        p, q, r = rng.sample(SHE + HE, 3)
        words = {"p": p, "q": q, "r": r, "a": a, "b": b, "goods": rng.choice(GOODS)}
        words["c"] = rng.randint(LOW, HIGH)
        before = [_tell(rng.choice(self.wordy), rng)] if rng.random() < 0.3 else []
        before.append(rng.choice(AMOUNTS).format(**words))
        after = [_tell(rng.choice(self.numbered), rng)]
        if rng.random() < 0.5:
            after.append(OTHER.format(**words))
        rng.shuffle(after)
        begun = " ".join(before) + " "
        total = rng.choice(TOTALS)
        at = len(begun) + total.index("{t}")
        return Told(begun + " ".join([total.format(t=a + b, **words), *after]), (a, b), at)

    def _pair(self, held: bool, rng: random.Random) -> tuple[int, int]:
        while True:
            a, b = rng.randint(LOW, HIGH), rng.randint(LOW, HIGH)
            if self.is_held_out(a, b) == held:
                return a, b


def _tell(fact: Fact, rng: random.Random) -> str:
    return sentence(rng.choice(RELATIONS[fact.relation].told), fact.subject, fact.value)
