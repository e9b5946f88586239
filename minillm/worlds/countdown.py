"""Countdown and the game of 24: numbers, a target, and an exact solver. Checking is easier than making.

A step takes two of the numbers left and puts one in their place, by +, −, × or ÷. In the game of 24 all
numbers must be used, and fractions may be made; in Countdown some may stay unused, and every step gives a
positive whole number. Nothing is ever negative: who makes −v of some numbers makes v of them, by taking each
difference the other way round. As text a step also says what is left: "8-2=6 [4 6 6]".
Sources: Yao et al. 2023 (the game of 24 for language models, steps that say what is left); Gandhi et al. 2024
(Countdown for small models).
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from itertools import combinations_with_replacement, product
from typing import NamedTuple

from ..expect import expect, expect_whole
from ..tokenizer import Response
from .questions import Question, held_out

Number = int | Fraction             # whole numbers are ints: they are quicker, and equal to their fraction
Left = tuple[Number, ...]           # the numbers left, from small to large
KINDS = ("24", "countdown")
HELD_OUT = 0.25                     # share of the puzzles that no training text shows
STOP = "]"                          # with which the text of every step ends
LONGEST = 1000                      # characters: nothing longer is read
REMEMBERED = 4096                   # sets of numbers whose values are kept


class Step(NamedTuple):
    """a sign b = result. str(Step(8, "/", Fraction(1, 3), 24)) is "8/(1/3)=24"."""

    a: Number
    sign: str
    b: Number
    result: Number

    def __str__(self) -> str:
        a, b = (str(n) if n == int(n) else f"({n})" for n in (self.a, self.b))
        return f"{a}{self.sign}{b}={self.result}"


@dataclass(frozen=True)
class Puzzle:
    """Two to six whole numbers and a target, by the rules of a kind: "24" or "countdown".

    Puzzle((4, 6, 8, 2), 24). ValueError for other numbers than 1 to 999, or another target than 1 to 9999.
    """

    numbers: tuple[int, ...]
    target: int = 24
    kind: str = "24"

    def __post_init__(self):
        expect(self.kind in KINDS, "kind", repr(self.kind), f"give one of {', '.join(KINDS)}")
        fits = isinstance(self.numbers, tuple) and 2 <= len(self.numbers) <= 6
        expect(fits, "numbers", self.numbers, "give a tuple of two to six")
        for number in self.numbers:
            expect_whole(1, 1000, numbers=number)
        expect_whole(1, 10_000, target=self.target)

    @property
    def prompt(self) -> str:
        return f"{_listed(self.numbers)}: {self.target}"

    @property
    def key(self) -> str:
        """The same for every order of the numbers."""
        return f"{_listed(sorted(self.numbers))}: {self.target}"

    @property
    def whole(self) -> bool:
        """Whether each step must give a positive whole number."""
        return self.kind == "countdown"

    def solved_by(self, left: Sequence[Number]) -> bool:
        """Whether these numbers left are a solution: the target alone, or in Countdown among others."""
        return self.target in left and (self.kind == "countdown" or len(left) == 1)


def read_prompt(prompt: str, kind: str = "24") -> Puzzle:
    """The puzzle of a prompt: read_prompt("4 6 8 2: 24") -> Puzzle((4, 6, 8, 2), 24)."""
    form = re.fullmatch(r"([0-9]{1,3}(?: [0-9]{1,3})+): ([0-9]{1,4})", prompt)
    expect(form is not None, "prompt", repr(prompt), 'give numbers and a target: "4 6 8 2: 24"')
    return Puzzle(tuple(map(int, form[1].split())), int(form[2]), kind)


# --- what can be made -----------------------------------------------------------------------------


def steps(left: Sequence[Number], whole: bool = False) -> list[Step]:
    """Every step that may be taken with the numbers left, each once; the larger number first in + and ×.

    [str(s) for s in steps((2, 3))] -> ["3+2=5", "3-2=1", "3*2=6", "3/2=3/2", "2/3=2/3"].
    """
    left = sorted(left)
    pairs = dict.fromkeys((left[j], left[i]) for i in range(len(left)) for j in range(i + 1, len(left)))
    return [step for a, b in pairs for step in _between(a, b, whole)]


def after(left: Sequence[Number], step: Step) -> Left:
    """The numbers left after a step: after((2, 4, 6, 8), Step(8, "-", 2, 6)) -> (4, 6, 6)."""
    rest = list(left)
    for number in (step.a, step.b):
        expect(number in rest, "step", step, f"{number} is not among {_listed(left)}")
        rest.remove(number)
    return tuple(sorted([*rest, step.result]))


def step_text(step: Step, left: Sequence[Number]) -> str:
    """A step, and what is left after it: "8-2=6 [4 6 6]"."""
    return f"{step} [{_listed(left)}{STOP}"


def chain(puzzle: Puzzle, taken: Sequence[Step]) -> str:
    """The text of steps taken one after the other: "8-2=6 [4 6 6] 6-4=2 [2 6] …"."""
    texts, left = [], tuple(sorted(puzzle.numbers))
    for step in taken:
        left = after(left, step)
        texts.append(step_text(step, left))
    return " ".join(texts)


def alive(puzzle: Puzzle, left: Sequence[Number] | None = None) -> bool:
    """Whether the numbers left can still make the target; None: those of the puzzle. Exact.

    alive(Puzzle((4, 6, 8, 2)), (4, 4, 8)) -> True: 4·4 + 8 is 24. (4, 6, 6), after 8−2, is dead.
    """
    return any(_reaches(part, puzzle.target, puzzle.whole) for part in _parts(puzzle, left))


solvable = alive                    # a puzzle is solvable if all of its numbers, left, are alive


def solve(puzzle: Puzzle, left: Sequence[Number] | None = None) -> list[tuple[Step, ...]]:
    """All solutions from the numbers left, each as steps in an order in which they can be taken.

    Up to order: two that take the same steps in another order are one, and so are two that differ only in
    which of two equal numbers they take. Each step serves: what is made is used. A target that is there
    already is the solution (). The shortest come first, of these the ones that make the fewest fractions.
    [chain(p, s) for s in solve(p)] of Puzzle((3, 3, 8, 8)) -> ["8/3=8/3 [8/3 3 8] 3-(8/3)=1/3 [1/3 8] …"].
    """
    # The steps say which numbers they take, so no solution comes of two parts.
    found = [taken for part in _parts(puzzle, left) for taken in _ways(part, puzzle.target, puzzle.whole)]
    return sorted(found, key=lambda taken: (len(taken), _fractions(taken), taken))


def _fractions(taken: Sequence[Step]) -> int:
    """How many of the steps make a number that is not whole."""
    return sum(step.result.denominator > 1 for step in taken)


def _parts(puzzle: Puzzle, left: Sequence[Number] | None) -> list[Left]:
    """The sets of numbers of which all are to be used: one in the game of 24, any in Countdown."""
    left = tuple(sorted(puzzle.numbers if left is None else left))
    if puzzle.kind == "24":
        return [left]
    chosen = product((False, True), repeat=len(left))
    return sorted({tuple(n for n, c in zip(left, take) if c) for take in chosen if any(take)},
                  key=lambda part: (len(part), part))


def _between(a: Number, b: Number, whole: bool) -> Iterator[Step]:
    """The steps that take a and b, a ≥ b."""
    yield Step(a, "+", b, _plain(a + b))
    if a > b or not whole:
        yield Step(a, "-", b, _plain(a - b))
    yield Step(a, "*", b, _plain(a * b))
    if b and not (whole and a % b):
        yield Step(a, "/", b, _plain(Fraction(a) / b))
    if a > b and not whole:
        yield Step(b, "/", a, _plain(Fraction(b) / a))


def _plain(n: Number) -> Number:
    """The same number, an int where it is whole."""
    return n.numerator if n.denominator == 1 else n


@lru_cache(REMEMBERED)
def _splits(numbers: Left) -> tuple[tuple[Left, Left], ...]:
    """Every way to put numbers on two heaps, neither of them empty; which is which does not matter."""
    first, *others = numbers
    heaps = {}
    for take in product((True, False), repeat=len(others)):
        one = (first, *(n for n, t in zip(others, take) if t))
        other = tuple(n for n, t in zip(others, take) if not t)
        if other:
            heaps[min((one, other), (other, one))] = None
    return tuple(heaps)


@lru_cache(REMEMBERED)
def _values(numbers: Left, whole: bool) -> frozenset[Number]:
    """All that can be made of numbers if every one is used."""
    if len(numbers) == 1:
        return frozenset(numbers)
    heaps = ((_values(one, whole), _values(other, whole)) for one, other in _splits(numbers))
    return frozenset(step.result for some, more in heaps for a, b in product(some, more)
                     for step in _between(max(a, b), min(a, b), whole))


def _last_steps(numbers: Left, value: Number,
                whole: bool) -> Iterator[tuple[tuple[Left, Number], tuple[Left, Number], Step]]:
    """Every last step to a value when all the numbers are used: (a heap, what was made of it) twice, and the
    step. What the second heap must give is worked out from what the first one gave."""
    for one, other in _splits(numbers):
        if len(one) > len(other):
            one, other = other, one
        there = _values(other, whole)
        for a in _values(one, whole):
            for b in there if a == value == 0 else map(_plain, _partners(a, value) & there):
                for step in _between(max(a, b), min(a, b), whole):
                    if step.result == value:
                        yield (one, a), (other, b), step


def _partners(a: Number, value: Number) -> set[Number]:
    """Every b of which some step with a gives the value; that of 0·b = 0 apart, where b is anything."""
    partners = {value - a, a - value, value + a, value * a}
    if a:
        partners.add(Fraction(value) / a)
    if value:
        partners.add(Fraction(a) / value)
    return partners


def _reaches(numbers: Left, value: int, whole: bool) -> bool:
    """Whether a value can be made if every number is used."""
    if len(numbers) == 1:
        return numbers[0] == value
    return next(_last_steps(numbers, value, whole), None) is not None


def _ways(numbers: Left, value: Number, whole: bool) -> list[tuple[Step, ...]]:
    """Each way to make a value of all the numbers, as steps; the same steps in several orders are one."""
    if len(numbers) == 1:
        return [()] if numbers[0] == value else []
    ways: dict[tuple[Step, ...], tuple[Step, ...]] = {}
    for one, other, step in _last_steps(numbers, value, whole):
        for first, second in product(_ways(*one, whole), _ways(*other, whole)):
            taken = (*first, *second, step)
            key = tuple(sorted(taken))
            ways[key] = min(taken, ways.get(key, taken))    # the same one, whatever the order of a set
    return list(ways.values())


# --- what others wrote ----------------------------------------------------------------------------

WHOLE = r"(?:0|[1-9][0-9]{0,17})"     # 999 to the sixth has 18 digits
NUMBER = rf"{WHOLE}(?:/[1-9][0-9]{{0,17}})?"
OPERAND = rf"{WHOLE}|\({NUMBER}\)"
STEP = re.compile(rf"({OPERAND})([-+*/])({OPERAND})=(-?{NUMBER}) \[({NUMBER}(?: {NUMBER})*)\]")


class Checked(NamedTuple):
    """What a written chain holds: its right steps, what they leave, and the first wrong one.

    wrong: its number, from 0, None if all are right; why: what is wrong with it, for people.
    """

    solved: bool
    taken: tuple[Step, ...]
    left: Left
    wrong: int | None
    why: str


def check(puzzle: Puzzle, text: str) -> Checked:
    """Read a chain step by step; it never raises for a text, however strange, and never runs it.

    check(Puzzle((4, 6, 8, 2)), "8-2=7 [4 6 7]") -> wrong 0, why "8-2 is 6, not 7". An empty text has no step.
    """
    expect(isinstance(text, str), "text", type(text).__name__, "give a str")
    taken, left, at = [], tuple(sorted(puzzle.numbers)), 0

    def found(why: str = "") -> Checked:
        solved = not why and puzzle.solved_by(left)
        return Checked(solved, tuple(taken), left, len(taken) if why else None, why)

    if len(text) > LONGEST:
        return found(f"the text has more than {LONGEST} characters")
    while at < len(text):
        form = STEP.match(text, at + (text[at] == " " and at > 0))
        if form is None or (at > 0 and text[at] != " "):
            return found('a step has the form "8-2=6 [4 6 6]", and one space before the next')
        step = Step(_number(form[1]), form[2], _number(form[3]), _number(form[4]))
        why = _mistake(step, left, puzzle.whole)
        if why:
            return found(why)
        rest = after(left, step)
        if tuple(sorted(map(_number, form[5].split()))) != rest:
            return found(f"{_listed(rest)} are left, not {form[5]}")
        taken.append(step)
        left, at = rest, form.end()
    return found()


def died(puzzle: Puzzle, text: str) -> int | None:
    """The number of the first step, from 0, after which there is no solution, or that is wrong itself.

    None: the chain is alive to its end. ValueError for a puzzle that has no solution at all.
    """
    expect(alive(puzzle), "puzzle", puzzle.prompt, "give one that has a solution")
    checked = check(puzzle, text)
    left = tuple(sorted(puzzle.numbers))
    for i, step in enumerate(checked.taken):
        left = after(left, step)
        if not alive(puzzle, left):
            return i
    return checked.wrong


def _mistake(step: Step, left: Left, whole: bool) -> str:
    """What is wrong with a step, "" if nothing is."""
    a, sign, b, said = step
    missing = Counter((a, b)) - Counter(left)
    if missing:
        return f"there is no {next(iter(missing))} left for it: {_listed(left)}"
    if sign == "/" and not b:
        return "nothing can be divided by 0"
    true = _computed(a, sign, b)
    if true != said:
        return f"{str(step).split('=')[0]} is {true}, not {said}"
    if true < 0:
        return f"{true} is negative: take the difference the other way round"
    if whole and (true.denominator > 1 or not true):
        return f"{true} is not a positive whole number"
    return ""


def _computed(a: Number, sign: str, b: Number) -> Number:
    """a sign b; ZeroDivisionError for a/0."""
    if sign == "/":
        return _plain(Fraction(a) / b)
    return _plain({"+": a + b, "-": a - b, "*": a * b}[sign])


def _number(text: str) -> Number:
    """"8", "8/3", "(8/3)" or "-8", as STEP lets them through."""
    return _plain(Fraction(text.strip("()")))


def _listed(numbers: Sequence[Number]) -> str:
    return " ".join(map(str, numbers))


# --- questions ------------------------------------------------------------------------------------

LONGEST_ANSWER = 60
TOKEN = re.compile(r"[1-9][0-9]{0,2}|[-+*/()]")


def expression(taken: Sequence[Step], target: int) -> str:
    """The steps as one expression: "(8-2)*4" for the steps 8-2=6 and 6*4=24. What does not serve is left out.

    With brackets only where they change the value. The steps must be right, and end at the target.
    """
    made: list[tuple[Number, str, str]] = []                # (a value, how it was made, its last sign)
    for step in taken:
        written = []
        for number, second in ((step.a, False), (step.b, True)):
            at = next((i for i in reversed(range(len(made))) if made[i][0] == number), None)
            _, text, sign = (number, str(number), "") if at is None else made.pop(at)
            loose = sign in ("+", "-") and step.sign in ("*", "/")
            turned = second and sign and step.sign in ("-", "/") and (sign in "+-") == (step.sign == "-")
            written.append(f"({text})" if loose or turned else text)
        made.append((step.result, step.sign.join(written), step.sign))
    ends = [text for value, text, _ in made if value == target]
    expect(len(ends) > 0, "taken", [str(step) for step in taken], f"give steps that make {target}")
    return ends[-1]


def makes_target(puzzle: Puzzle, text: str) -> bool:
    """Whether an expression makes the target of the puzzle's numbers, by its rules: exact, for any text.

    Here a difference may be negative on the way in the game of 24: 3-9+30 is 24, as everybody reads it.
    """
    expect(isinstance(text, str), "text", type(text).__name__, "give a str")
    tokens = TOKEN.findall(text)
    if len(text) > LONGEST_ANSWER or "".join(tokens) != text:
        return False
    tokens = [*reversed(tokens)]                            # the next one is the last
    used: list[int] = []

    def atom() -> Number:
        token = tokens.pop()
        if token == "(":
            value = sums()
            if tokens.pop() != ")":
                raise ValueError
            return value
        used.append(int(token))                             # ValueError for a sign
        return used[-1]

    def chained(part, signs: str) -> Number:
        value = part()
        while tokens and tokens[-1] in signs:
            sign, other = tokens.pop(), part()
            value = _computed(value, sign, other)
            if puzzle.whole and (value <= 0 or value.denominator > 1):
                raise ValueError
        return value

    def products() -> Number:
        return chained(atom, "*/")

    def sums() -> Number:
        return chained(products, "+-")

    try:
        value = sums()
    except (ValueError, IndexError, ZeroDivisionError):     # no expression, or no step of these rules
        return False
    enough = Counter(used) <= Counter(puzzle.numbers)
    return not tokens and value == puzzle.target and enough and (
        puzzle.whole or len(used) == len(puzzle.numbers))


def question(puzzle: Puzzle, rng: random.Random) -> Question:
    """A puzzle as a question: the scratchpad is one of its shortest solutions, without fractions where that
    is possible, and the answer is the expression.

    Many answers are right: `right` knows them all, `Question.check` only the one that is shown.
    ValueError for a puzzle without a solution.
    """
    solutions = solve(puzzle)
    expect(len(solutions) > 0, "puzzle", puzzle.prompt, "give one that has a solution")

    def rank(taken: tuple[Step, ...]) -> tuple[int, int]:
        return len(taken), _fractions(taken)

    taken = rng.choice([s for s in solutions if rank(s) == rank(solutions[0])])
    expect(len(taken) > 0, "puzzle", puzzle.prompt, "give a target that is not among the numbers")
    answer = expression(taken, puzzle.target)
    return Question(puzzle.kind, puzzle.key, puzzle.prompt, answer, answer, r"[0-9+*/()-]+",
                    chain(puzzle, taken))


def right(asked: Question, response: Response) -> bool:
    """Whether a response ends with an expression that makes the target, whatever its scratchpad says."""
    return response.ended and makes_target(read_prompt(asked.prompt, asked.kind), response.text)


def play(puzzle: Puzzle, rng: random.Random) -> Question:
    """A game by somebody who does not look ahead: any step that makes a positive whole number, down to one.

    The answer is the expression of what came out. In the game of 24 that is 24 in about one game of 50.
    """
    taken, left = [], tuple(sorted(puzzle.numbers))
    while len(left) > 1:
        taken.append(rng.choice(steps(left, whole=True)))
        left = after(left, taken[-1])
    made = expression(taken, left[0])
    return Question(puzzle.kind, puzzle.key, puzzle.prompt, made, made, r"[0-9+*/()-]+", chain(puzzle, taken))


def judging(puzzle: Puzzle, left: Sequence[Number]) -> Question:
    """For who judges: "4 6 6: 24?" is answered "yes" where the numbers left can still make the target."""
    said = "yes" if alive(puzzle, left) else "no"
    return Question(f"alive, {puzzle.kind}", puzzle.key, f"{_listed(left)}: {puzzle.target}?", said, said,
                    "yes|no")


def is_held_out(puzzle: Puzzle, seed: int = 0) -> bool:
    """Whether no training text may show this puzzle, in any order of its numbers."""
    return held_out(puzzle.key, HELD_OUT, seed)


def hands(held: bool, highest: int = 13, seed: int = 0) -> list[Puzzle]:
    """Every hand of four numbers up to `highest` that can make 24, from one side of the split; sorted."""
    expect_whole(1, 100, highest=highest)
    every = (Puzzle(hand) for hand in combinations_with_replacement(range(1, highest + 1), 4))
    return [puzzle for puzzle in every if is_held_out(puzzle, seed) == held and alive(puzzle)]


def shuffled(puzzle: Puzzle, rng: random.Random) -> Puzzle:
    """The same puzzle with its numbers in another order."""
    return replace(puzzle, numbers=tuple(rng.sample(puzzle.numbers, len(puzzle.numbers))))


def draw(rng: random.Random, kind: str = "24", size: int = 4, highest: int = 13,
         targets: tuple[int, int] = (10, 99)) -> Puzzle:
    """A puzzle with a solution: `size` numbers from 1 to `highest`, any order as likely.

    In Countdown the target is drawn from `targets`, and is none of the numbers; in the game of 24 it is 24.
    """
    expect(kind in KINDS, "kind", repr(kind), f"give one of {', '.join(KINDS)}")
    expect_whole(2, 7, size=size)
    expect_whole(2, 1000, highest=highest)
    expect_whole(1, 10_000, lowest=targets[0])
    expect_whole(targets[0], 10_000, largest=targets[1])
    for _ in range(10_000):
        numbers = tuple(rng.randint(1, highest) for _ in range(size))
        puzzle = Puzzle(numbers, 24 if kind == "24" else rng.randint(*targets), kind)
        if puzzle.target not in numbers and alive(puzzle):
            return puzzle
    raise ValueError(f"targets is {targets}: {size} numbers up to {highest} hardly ever make one of them")


def questions(n: int, held: bool, rng: random.Random, seed: int = 0, **how) -> list[Question]:
    """n questions from one side of the split that `seed` fixes, drawn as `draw` does (how: its arguments).

    The held-out ones are all different. ValueError where there are fewer of them.
    """
    expect_whole(1, n=n)
    drawn: list[Question] = []
    seen: set[str] = set()
    for _ in range(100 * n + 1000):
        puzzle = draw(rng, **how)
        if is_held_out(puzzle, seed) != held or (held and puzzle.key in seen):
            continue
        seen.add(puzzle.key)
        drawn.append(question(puzzle, rng))
        if len(drawn) == n:
            return drawn
    raise ValueError(f"n is {n}: only {len(drawn)} were found on this side of the split")
