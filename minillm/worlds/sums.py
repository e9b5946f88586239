"""Sums with exact answers, straight away or step by step, of whole numbers that are 0 or more.

Kinds: sum2 (two two-digit numbers, answered at once), sum2_steps (the same, with the steps written),
sum3_steps (three-digit numbers), chain_steps (three numbers from 2 to 9, one after the other), compare
(which of two numbers is larger). And uneven_steps, which no text shows (`Sums.uneven`).
"""

from __future__ import annotations

import random
import re

from ..expect import expect
from .questions import Question, held_out

KINDS = ("sum2", "sum2_steps", "sum3_steps", "chain_steps", "compare")
NAMES = "Ada Bea Cleo Dora Abel Ben Carl Dan".split()  # who speak in the dialogues
HELD_OUT = 0.2  # share of the number pairs that no training text shows


def column_steps(a: int, b: int) -> str:
    """The school way, ones first, the carry last: column_steps(47, 38) -> "7+8=15 4+3+1=8"."""
    whole = isinstance(a, int) and isinstance(b, int) and a >= 0 and b >= 0
    expect(whole, "a, b", (a, b), "give whole numbers, 0 or more")
    steps, carry = [], 0
    for i in range(max(len(str(a)), len(str(b)))):
        x, y = a // 10**i % 10, b // 10**i % 10
        total = x + y + carry
        steps.append(f"{x}+{y}{'+1' if carry else ''}={total}")
        carry = total // 10
    return " ".join(steps)


def chain_steps(numbers: list[int]) -> str:
    """Running totals: chain_steps([7, 8, 5]) -> "7+8=15 15+5=20"."""
    expect(len(numbers) >= 2, "numbers", numbers, "give two or more")
    steps, total = [], numbers[0]
    for number in numbers[1:]:
        steps.append(f"{total}+{number}={total + number}")
        total += number
    return " ".join(steps)


def adding(n_steps: int, rng: random.Random, any_order: bool = False) -> Question:
    """A sum of n_steps + 1 digits from 1 to 9, with its running totals: "7+8+5=?", "7+8=15 15+5=20", "20".

    any_order: the chain adds the digits in an order of its own, as each person does.
    """
    expect(isinstance(n_steps, int) and n_steps >= 1, "n_steps", n_steps, "give 1 or more")
    numbers = [rng.randint(1, 9) for _ in range(n_steps + 1)]
    text, answer = "+".join(map(str, numbers)), str(sum(numbers))
    added = rng.sample(numbers, len(numbers)) if any_order else numbers
    return Question("sum", "+".join(map(str, sorted(numbers))), f"{text}=?", answer, answer, r"\d+",
                    chain_steps(added))


def steps_are_true(thought: str) -> bool:
    """Whether each step is a true sum: "8+9=17 2+1=3" is, "8+9=17 1+2+1=3" is not. Without a step, no."""
    steps = re.findall(r"(\d+(?:\+\d+)+)=(\d+)", thought)
    return bool(steps) and all(sum(map(int, left.split("+"))) == int(total) for left, total in steps)


class Sums:
    """Questions about numbers. `seed` fixes which pairs are held out, in either order of their numbers."""

    def __init__(self, seed: int = 0):
        self.seed = seed

    def is_held_out(self, *numbers: int) -> bool:
        """Whether no training text may show these numbers together, in any order."""
        return held_out("+".join(map(str, sorted(numbers))), HELD_OUT, self.seed)

    def question(self, kind: str, numbers: list[int]) -> Question:
        """The question of a kind about given numbers."""
        expect(kind in KINDS, "kind", repr(kind), f"give one of {', '.join(KINDS)}")
        wanted = 3 if kind == "chain_steps" else 2
        whole = len(numbers) == wanted and all(isinstance(n, int) and n >= 0 for n in numbers)
        expect(whole, "numbers", numbers, f"give {wanted} whole numbers, 0 or more")
        differ = kind != "compare" or numbers[0] != numbers[1]
        expect(differ, "numbers", numbers, "give two that differ: one must be larger")
        key, text = "+".join(map(str, sorted(numbers))), "+".join(map(str, numbers))
        if kind == "compare":
            answer = str(max(numbers))
            asked = f"Which is larger, {numbers[0]} or {numbers[1]}?"
            return Question(kind, key, asked, answer, answer, r"\d+")
        answer = str(sum(numbers))
        if kind == "sum2":
            return Question(kind, key, f"What is {text}?", answer, answer, r"\d+")
        thought = chain_steps(numbers) if kind == "chain_steps" else column_steps(*numbers)
        return Question(kind, key, f"What is {text}? Write the steps.", answer, answer, r"\d+", thought)

    def questions(self, kind: str, n: int, held: bool, rng: random.Random) -> list[Question]:
        """n questions of a kind, drawn from one side of the split; the held-out ones are all different."""
        expect(isinstance(n, int) and n >= 1, "n", n, "give 1 or more")
        questions: list[Question] = []
        seen: set[str] = set()
        for _ in range(1000 * n):
            numbers = self._numbers(kind, rng)
            if self.is_held_out(*numbers) != held or (held and str(numbers) in seen):
                continue
            seen.add(str(numbers))
            questions.append(self.question(kind, numbers))
            if len(questions) == n:
                return questions
        raise ValueError(
            f"n is {n}: the world has only {len(questions)} different held-out questions of kind {kind!r}")

    def uneven(self, held: bool) -> list[Question]:
        """Every question, on one side of the split, about a number of one digit and one of two, in this
        order, with the steps asked for.

        No text shows how such a sum is done: the documents add two digits to two digits, or up to three
        single ones. So a model that does them has found its own steps.
        """
        pairs = [(b, a) for a in range(20, 100) for b in range(2, 10) if self.is_held_out(a, b) == held]
        return [Question("uneven_steps", f"{b}+{a}", f"What is {b}+{a}? Write the steps.", str(a + b),
                         str(a + b), r"\d+", column_steps(b, a)) for b, a in pairs]

    def documents(self, n: int, rng: random.Random) -> list[str]:
        """n short texts for pretraining, half of them dialogues; none is about a held-out pair."""
        expect(isinstance(n, int) and n >= 0, "n", n, "give 0 or more")
        texts = []
        for _ in range(n):
            lines = rng.randint(2, 5)
            if rng.random() < 0.5:
                texts.append(" ".join(self._fact(rng) for _ in range(lines)))
            else:
                a, b = rng.sample(NAMES, 2)
                exchanges = [self._exchange(rng) for _ in range(lines)]
                texts.append("\n".join(f"{a}: {asked}\n{b}: {answered}" for asked, answered in exchanges))
        return texts

    def _numbers(self, kind: str, rng: random.Random) -> list[int]:
        expect(kind in KINDS, "kind", repr(kind), f"give one of {', '.join(KINDS)}")
        if kind == "chain_steps":  # from 2: the carry in column_steps, "4+3+1=8", would show a held-out 3+4+1
            return [rng.randint(2, 9) for _ in range(3)]
        low, high = (100, 999) if kind == "sum3_steps" else (10, 99)
        numbers = [rng.randint(low, high), rng.randint(low, high)]
        if kind == "compare" and numbers[0] == numbers[1]:
            return self._numbers(kind, rng)
        return numbers

    def _drawn(self, rng: random.Random) -> Question:
        """A question that may be shown, of the kinds that the texts hold."""
        kind = rng.choices(("sum2", "sum2_steps", "chain_steps", "compare"), (4, 5, 2, 2))[0]
        numbers = self._numbers(kind, rng)
        while self.is_held_out(*numbers):
            numbers = self._numbers(kind, rng)
        return self.question(kind, numbers)

    def _fact(self, rng: random.Random) -> str:
        """"47+38: 7+8=15 4+3+1=8 so 85." or the like."""
        if rng.random() < 0.1:
            a, b = rng.randint(0, 9), rng.randint(0, 9)
            return f"{a}+{b}={a + b}."
        q = self._drawn(rng)
        numbers = re.findall(r"\d+", q.prompt)
        if q.kind == "compare":
            return f"{q.answer} is larger than {min(map(int, numbers))}."
        terms = "+".join(numbers)
        return f"{terms}={q.answer}." if q.thought is None else f"{terms}: {q.thought} so {q.answer}."

    def _exchange(self, rng: random.Random) -> tuple[str, str]:
        q = self._drawn(rng)
        return q.prompt, f"{q.answer}." if q.thought is None else f"{q.thought} so {q.answer}."
