"""Facts that change: the town after 2020, told in dated records, and questions about now or about a year.

The town's texts tell how things were at the end of 2020. After that some facts never change, some change
slowly, some fast. A register holds a record for each version of a fact, older ones beside newer ones.
The kinds of facts, questions with a false premise, and the strict and the relaxed score are those of FreshQA
(Vu et al. 2023).
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..expect import expect, expect_whole
from .town import FOODS, HE, JOBS, LAST, PETS, RELATIONS, SHE, STREETS, Fact, Town, sentence

FIRST, NOW = 2020, 2025                         # the year that the texts tell of; today
# The chance that a fact changes in a year: never, slow, fast.
CHANGE = {"mother": 0.0, "job": 0.08, "food": 0.08, "street": 0.3, "pet": 0.3}
VALUES = {"job": JOBS, "food": FOODS, "street": STREETS, "pet": PETS}
ASKED = {
    "mother": "Who is {s}'s mother?",
    "job": "What is {s}'s job now?",
    "food": "What does {s} like to eat best now?",
    "street": "Where does {s} live now?",
    "pet": "What pet does {s} have now?",
}
ASKED_OF = {                                    # of a year
    "job": "What was {s}'s job in {y}?",
    "food": "What did {s} like to eat best in {y}?",
    "street": "Where did {s} live in {y}?",
    "pet": "What pet did {s} have in {y}?",
}
ASKED_SINCE = {                                 # with a premise, which may be false
    "job": "Since when is {s} a {v}?",
    "food": "Since when does {s} like {v} best?",
    "street": "Since when does {s} live on {v}?",
    "pet": "Since when does {s} have a {v}?",
}
ANSWERED_OF = {
    "job": "In {y} {s} was a {v}.",
    "food": "In {y} {s} liked {v} best.",
    "street": "In {y} {s} lived on {v}.",
    "pet": "In {y} {s} had a {v}.",
}
UNKNOWN = "I do not know."
DATED = re.compile(r"(.*) \(([0-9]{4})\)\.")
RECORD = re.compile(r"([^:]*): (.*) \(([0-9]{4})\)")


@dataclass(frozen=True)
class History:
    """All versions of a fact, oldest first: ((2020, "Oak Street"), (2023, "Elm Street")).

    fame: how often the town's texts tell it as it was in 2020 ("famous", …, "never").
    """

    subject: str
    relation: str
    versions: tuple[tuple[int, str], ...]
    fame: str

    @property
    def key(self) -> str:
        return f"{self.subject}, {self.relation}"

    def at(self, year: int = NOW) -> tuple[str, int]:
        """(the value in that year, the year of the record that says it). ValueError before the first one."""
        known = [version for version in self.versions if version[0] <= year]
        expect(bool(known), "year", year, f"the first record of {self.key} is of {self.versions[0][0]}")
        since, value = known[-1]
        return value, since

    def records(self) -> list[str]:
        """A line for each version, oldest first: "Ada Moss, street: Elm Street (2023)"."""
        return [record(year, self.subject, self.relation, value) for year, value in self.versions]


def record(year: int, subject: str, relation: str, value: str) -> str:
    """A line of the register: "Ada Moss, street: Elm Street (2023)"."""
    return f"{subject}, {relation}: {value} ({year})"


def history(fact: Fact, rng: random.Random, change: Mapping[str, float] = CHANGE,
            now: int = NOW) -> History:
    """What may become of a fact after 2020: in each year it changes with its relation's chance.

    The new value is another one of the relation's values. ValueError for a fact of another relation.
    """
    expect(fact.relation in change, "fact", fact.key, f"give one of {', '.join(change)}")
    expect_whole(FIRST, now=now)
    chance = change[fact.relation]
    expect(0 <= chance <= 1, "change", chance, "give chances from 0 to 1")
    versions = [(FIRST, fact.value)]
    for year in range(FIRST + 1, now + 1):
        if rng.random() < chance:
            others = [value for value in VALUES[fact.relation] if value != versions[-1][1]]
            versions.append((year, rng.choice(others)))
    return History(fact.subject, fact.relation, tuple(versions), fact.fame)


def newcomers(town: Town, n: int, rng: random.Random) -> list[Fact]:
    """The facts of n people of whom no text of the town tells anything: names that the town does not use."""
    free = [name for name in (f"{first} {last}" for first in SHE + HE for last in LAST)
            if name not in town.fame]
    expect_whole(1, len(free) + 1, n=n)
    mothers = [name for name in town.fame if name.split()[0] in SHE]
    facts = []
    for name in rng.sample(free, n):
        for relation in CHANGE:
            value = rng.choice(mothers if relation == "mother" else VALUES[relation])
            facts.append(Fact(name, relation, value, "newcomer"))
    return facts


def register(histories: Sequence[History], rng: random.Random) -> list[str]:
    """All records of all histories, in no order: as they were filed."""
    lines = [line for one in histories for line in one.records()]
    rng.shuffle(lines)
    return lines


# --- questions ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Dated:
    """A question about a fact that may change. year: what it asks of; NOW where it says "now".

    premise: the value that a question "Since when …?" takes for granted, None for another question.
    """

    history: History
    prompt: str
    year: int = NOW
    premise: str | None = None

    @property
    def false(self) -> bool:
        """Whether it takes for granted what is not so."""
        return self.premise is not None and self.premise != self.history.at(self.year)[0]

    @property
    def changed(self) -> bool:
        """Whether the town's texts, which tell of 2020, give a value that was not right in this year."""
        return self.history.at(self.year)[0] != self.history.versions[0][1]

    @property
    def query(self) -> str:
        """What to look for: "Ada Moss, street"."""
        return self.history.key

    def says(self, value: str, year: int) -> str:
        """An answer, and the year of the record that it rests on: "Ada Moss lives on Elm Street (2023)."."""
        relation, subject = self.history.relation, self.history.subject
        if self.year == NOW or relation not in ANSWERED_OF:
            told = sentence(RELATIONS[relation].answered, subject, value)
        else:
            told = ANSWERED_OF[relation].format(s=subject, v=value, y=self.year)
        return f"{told[:-1]} ({year})."

    @property
    def response(self) -> str:
        """The right answer."""
        return self.says(*self.history.at(self.year))

    @property
    def memory(self) -> str:
        """What somebody says who has read the town's texts, and nothing since."""
        year, value = self.history.versions[0]
        return UNKNOWN if self.history.fame in ("never", "newcomer") else self.says(value, year)

    def fits(self, line: str) -> bool:
        """Whether a record is about this person and this relation, and not of a later year."""
        form = RECORD.fullmatch(line)
        return form is not None and form[1] == self.history.key and int(form[3]) <= self.year

    def read(self, lines: Sequence[str]) -> str | None:
        """What the newest record that fits says, as an answer; None where none fits."""
        fitting = [RECORD.fullmatch(line) for line in lines if self.fits(line)]
        if not fitting:
            return None
        newest = max(fitting, key=lambda form: int(form[3]))
        return self.says(newest[2], int(newest[3]))


class Marks(NamedTuple):
    """relaxed: the main statement is right. strict: so is the year that stands behind it."""

    relaxed: bool
    strict: bool


def marks(question: Dated, text: str) -> Marks:
    """Both scores of an answer (Vu et al. 2023, section 2): relaxed looks at the main statement alone.

    "Ada Moss lives on Elm Street (2021)." is right on the relaxed score where she has lived there since
    2023, and wrong on the strict one.
    """
    strict = text == question.response
    form, right = DATED.fullmatch(text), DATED.fullmatch(question.response)
    return Marks(strict or (form is not None and form[1] == right[1]), strict)


def ask_now(history: History) -> Dated:
    """What is so now."""
    return Dated(history, ASKED[history.relation].format(s=history.subject))


def ask_of(history: History, year: int) -> Dated:
    """What was so in a year after 2020 and before now. ValueError for what never changes: it has no year."""
    expect(history.relation in ASKED_OF, "history", history.key, "ask ask_now: it never changes")
    expect_whole(FIRST, NOW, year=year)
    return Dated(history, ASKED_OF[history.relation].format(s=history.subject, y=year), year)


def ask_since(history: History, value: str) -> Dated:
    """Since when it is so, where it may not be so at all: then the right answer says what is."""
    expect(history.relation in ASKED_SINCE, "history", history.key, "ask ask_now: it never changes")
    expect(value in VALUES[history.relation], "value", repr(value), f"give a {history.relation}")
    return Dated(history, ASKED_SINCE[history.relation].format(s=history.subject, v=value), NOW, value)


def ask_any(history: History, rng: random.Random) -> Dated:
    """A question about it: half of them of now, a third of a year, the others with a premise."""
    kind = rng.random()
    if kind < 0.5 or history.relation not in ASKED_OF:
        return ask_now(history)
    if kind < 0.83:
        return ask_of(history, rng.randint(FIRST + 1, NOW - 1))
    value = rng.choice([history.at()[0], history.versions[0][1], rng.choice(VALUES[history.relation])])
    return ask_since(history, value)
