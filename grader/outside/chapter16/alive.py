"""dead-or-alive: whether the numbers left can still make 24, in exact fractions, and ways to get it wrong.

What is wanted comes from all ways to put the numbers on two heaps; the solution takes steps one at a time.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from itertools import combinations, product

import numpy as np

from ...inside.driver import call_for_verdict
from ...inside.shortcuts import Without
from ..judge import Case, Check, Misconception as M

TARGET = 24


@lru_cache(None)
def values(numbers):
    """All that can be made if every number is used once, as a set: of each heap, and of a step with both."""
    if len(numbers) == 1:
        return frozenset(map(Fraction, numbers))
    found = set()
    for size in range(1, len(numbers) // 2 + 1):
        for heap in combinations(range(len(numbers)), size):
            others = tuple(n for i, n in enumerate(numbers) if i not in heap)
            for a, b in product(values(tuple(numbers[i] for i in heap)), values(others)):
                found |= set(all_steps(a, b))
    return frozenset(found)


def through(a, b):
    """[a/b], or [] where b is 0."""
    return [a / b] if b else []


def all_steps(a, b):
    """What two numbers may become: six results, fewer where one is 0."""
    return [a + b, a - b, b - a, a * b, *through(a, b), *through(b, a)]


def one_minus(a, b):
    """As all_steps, the difference in one order alone."""
    return [a + b, a - b, a * b, *through(a, b), *through(b, a)]


def one_way(a, b):
    """As all_steps, difference and quotient in one order alone."""
    return [a + b, a - b, a * b, *through(a, b)]


def larger_by_smaller(a, b):
    """As all_steps, the larger less the smaller, and the larger divided by the smaller."""
    a, b = max(a, b), min(a, b)
    return [a + b, a - b, a * b, *through(a, b)]


def whole_quotients(a, b):
    """As all_steps, with quotients rounded down."""
    return [a + b, a - b, b - a, a * b, *[x // y for x, y in ((a, b), (b, a)) if y]]


def quotients_that_come_out(a, b):
    """As all_steps, without quotients that are not whole."""
    return [result for result in all_steps(a, b) if result == int(result)]


def none_with_a_zero(a, b):
    """As all_steps, nothing at all where one number is 0."""
    return all_steps(a, b) if a and b else []


def newest_last(left, i, j, result):
    """What is left after a step with places i and j, its result at the end."""
    return (*(n for k, n in enumerate(left) if k not in (i, j)), result)


def newest_first(left, i, j, result):
    """As newest_last, its result at the beginning."""
    return (result, *newest_last(left, i, j, result)[:-1])


def in_its_place(left, i, j, result):
    """As newest_last, its result where the first of the two was."""
    return (*left[:i], result, *(n for k, n in enumerate(left) if k > i and k != j))


def equals_taken(left, i, j, result):
    """As newest_last, with every number gone that equals one of the two."""
    return (*(n for n in left if n not in (left[i], left[j])), result)


def is_24(left):
    """Whether the last number is 24."""
    return left[0] == TARGET


def holds_24(left):
    """Whether 24 is among what is left."""
    return TARGET in left


def rounds_to_24(left):
    """Whether the last number is 24 when it is rounded."""
    return round(left[0]) == TARGET


def is_about_24(left):
    """Whether the last number is within a tenth of 24."""
    return abs(left[0] - TARGET) < 0.1


@lru_cache(200_000)
def searched(left, steps=all_steps, after=newest_last, neighbours=False, done=is_24, early=False,
             kind=Fraction):
    """Whether some end of a walk over all steps is `done`.

    neighbours: a step takes two that are side by side. early: `done` is asked of all that is left on the way.
    kind: that of the numbers; 3.0 and 3 would be one for the cache.
    """
    if len(left) == 1 or (early and done(left)):
        return bool(done(left))
    pairs = [(i, j) for i, j in combinations(range(len(left)), 2) if j == i + 1 or not neighbours]
    return any(searched(after(left, i, j, result), steps, after, neighbours, done, early, kind)
               for i, j in pairs for result in steps(left[i], left[j]))


def folded(left, steps):
    """Whether 24 can be made by taking the numbers, in any order, to what was made so far."""
    def go(value, rest):
        if not rest:
            return value == TARGET
        return any(go(result, rest[:i] + rest[i + 1:]) for i, n in enumerate(rest)
                   for result in steps(value, n))
    return any(go(n, left[:i] + left[i + 1:]) for i, n in enumerate(left))


def row(numbers, kind=Fraction):
    """The numbers in the order of the row, as a tuple of one kind."""
    return tuple(kind(int(n)) for n in numbers)


def is_alive(numbers):
    """What is wanted of a row of numbers."""
    return TARGET in values(tuple(sorted(row(numbers))))


def search(kind=Fraction, **how):
    """A belief: what a search that is done in such a way says of an input."""
    return lambda i: np.array(searched(row(i.numbers, kind), kind=kind, **how))


# Alive, and not by always going on with the newest result; not without a quotient of the smaller by the
# larger; not in most orders of the row, if its numbers keep their places; not without a fraction. Dead, and a
# part of them makes 24; the nearest to it is 0.1 away or less; rounding quotients down makes it.
TWO_HEAPS = ((1, 3, 5, 7), (1, 1, 4, 9), (2, 2, 5, 7), (3, 5, 6, 13), (5, 5, 8, 8), (6, 6, 7, 11),
             (7, 8, 8, 10), (5, 7, 8, 10))
BOTH_WAYS = ((1, 5, 5, 5), (2, 4, 10, 10), (1, 3, 4, 6), (2, 2, 13, 13), (4, 4, 7, 7), (1, 6, 6, 8))
APART = ((2, 5, 10, 12), (2, 7, 8, 9), (3, 9, 11, 13), (5, 7, 9, 10), (4, 7, 8, 11), (3, 4, 7, 8))
BY_FRACTIONS = ((3, 3, 7, 7), (2, 5, 5, 10), (1, 4, 5, 6), (5, 5, 7, 11), (2, 3, 5, 12))
USED_UP = ((1, 5, 11, 13), (2, 3, 9, 11), (1, 4, 7, 10), (2, 2, 10, 12), (1, 7, 11, 12), (2, 4, 7, 13))
PAIRS, THREES = ((24, 2), (24, 5), (24, 7)), ((4, 6, 7), (4, 6, 9), (4, 6, 11))
NEAR = ((4, 7, 7, 12), (4, 5, 9, 11), (1, 10, 11, 13))
ROUNDED = ((1, 1, 4, 13), (2, 2, 8, 11), (1, 5, 12, 13))
WITH_0 = ((0, 4, 6), (0, 1, 3, 8), (0, 3, 3, 7), (0, 2, 4, 10), (0, 5, 5, 7), (0, 1, 2, 9))
EQUALS = ((8, 8, 8), (1, 1, 1, 8), (3, 3, 3, 3), (2, 3, 3, 4), (2, 2, 2, 6), (1, 4, 4, 4))


def in_some_order(rng, numbers):
    """The input of these numbers."""
    return {"numbers": rng.permutation(numbers).astype(np.int64)}


def pick(rng, pool):
    """One of a pool."""
    return pool[int(rng.integers(len(pool)))]


def draw_single(rng, k):
    """One number: 24, or another one."""
    return in_some_order(rng, [TARGET if k % 2 == 0 else int(rng.choice([0, 6, 12, 23, 25]))])


def draw_unused(rng, k):
    """Some of the numbers make 24, all of them do not."""
    return in_some_order(rng, pick(rng, (PAIRS, THREES, USED_UP)[min(k, 2)]))


def draw_apart(rng, k):
    """A row that brackets alone do not solve. It is mixed until its numbers must change places."""
    numbers = ((2, 5, 14), (3, 5, 9))[k] if k < 2 else pick(rng, APART)
    while True:
        given = in_some_order(rng, numbers)
        if not searched(row(given["numbers"]), after=in_its_place, neighbours=True):
            return given


def draw_heaps(rng, k):
    """The last step takes two results."""
    return in_some_order(rng, pick(rng, TWO_HEAPS))


def draw_both_ways(rng, k):
    """n and 24 + n, or n and 24·n, in both orders."""
    n = int(rng.integers(2, 9))
    pair = [n, TARGET + n if k % 2 == 0 else TARGET * n]
    return {"numbers": np.array(pair if k < 2 else pair[::-1])}


def draw_fractions(rng, k):
    """Alive by way of a fraction alone, or dead with something near 24."""
    if k < 2:
        return {"numbers": np.array([7, 169] if k else [5, 119])}
    pools = (BY_FRACTIONS, BOTH_WAYS, NEAR, ROUNDED)
    return in_some_order(rng, (3, 3, 8, 8) if k == 2 else pick(rng, pools[k % 4]))


def draw_zeros(rng, k):
    """A 0 among the numbers, or two equal ones that make it."""
    return in_some_order(rng, (0, TARGET) if k == 0 else (0, 0) if k == 1 else pick(rng, WITH_0))


def draw_equals(rng, k):
    """Equal numbers."""
    return in_some_order(rng, EQUALS[0] if k == 0 else pick(rng, EQUALS))


DEAD_OR_ALIVE = Check(
    name="dead-or-alive", title="Dead or alive", minutes=10, difficulty=1,
    function="can_make_24", arguments=("numbers",), kind="bool", compared="the verdict",
    call=call_for_verdict,
    without=(Without(("minillm.worlds.countdown.alive", "minillm.worlds.countdown.solve"),
                     "Try every step, and ask the same of what is left."),),
    learned="You have a judge that is never wrong: it says of any state whether a solution can still be "
            "reached. What a model learns can be compared with it.",
    task="True if all of the numbers, each used once, can make 24 by steps of +, −, × and ÷, exactly.",
    hints=(
        "When is the answer clear at once? When one number is left. With more, take two of them away, put "
        "one in their place, and you have the same question with one number less.",
        "combinations(range(len(left)), 2) gives the places of every two. Take them out by their places: two "
        "numbers may be equal. Two numbers a and b make up to six results.",
        "a − b and b − a are two results, and so are a/b and b/a, where what is divided by is not 0. "
        "Fraction(8) / 3 is exact; 8 / 3 is not. any(…) is True as soon as one of the ways leads to 24."),
    expected=lambda i: np.array(is_alive(i.numbers)),
    cases=(
        Case("a single number is alive if it is 24, and dead if not.", draw_single,
             lambda i, o: bool(o.result) == (i.numbers[0] == TARGET), draws=4),
        Case("n and 24 + n are alive, and so are n and 24·n, whichever comes first.", draw_both_ways,
             lambda i, o: bool(o.result), draws=4),
        Case("where some of the numbers make 24 and all of them do not, they are dead.", draw_unused,
             lambda i, o: not o.result, draws=5),
        Case("a step takes any two numbers, be they neighbours in the row or not.", draw_apart),
        Case("a step may take two results.", draw_heaps, draws=5),
        Case("24 is made exactly, and fractions may be made on the way.", draw_fractions, draws=14),
        Case("0 is a number like others, and nothing is divided by it.", draw_zeros, draws=5),
        Case("of equal numbers each is one, and is used once.", draw_equals, draws=6)),
    misconceptions=(
        M("floats compared exactly",
          "It reckons in floats. 8/3 is not 8/3 there, and what should be 24 comes out a little beside it. "
          "Fractions are exact.",
          search(kind=float)),
        M("floats compared exactly",
          "It reckons in floats. 8/3 is not 8/3 there, and what should be 24 comes out a little beside it. "
          "Fractions are exact.",
          search(kind=np.float32)),
        M("near 24 is taken for 24",
          "Something near 24 was taken for 24. Exact fractions need no tolerance.",
          search(done=rounds_to_24)),
        M("near 24 is taken for 24",
          "Something near 24 was taken for 24. Exact fractions need no tolerance.",
          search(done=is_about_24)),
        M("no fractions on the way",
          "Divisions that do not come out are left out here. In the game of 24 a fraction may be made on the "
          "way.",
          search(steps=quotients_that_come_out)),
        M("quotients rounded down",
          "Quotients are rounded to whole numbers. // throws away what is left over.",
          search(steps=whole_quotients)),
        M("one way round",
          "Of two numbers, difference and quotient are taken in one order alone, that of the row.",
          search(steps=one_way)),
        M("one way round",
          "Of two numbers, difference and quotient are taken in one order alone, that of the row.",
          search(steps=one_way, after=newest_first)),
        M("a difference one way round",
          "Of two numbers, the difference is taken in one order alone, that of the row.",
          search(steps=one_minus)),
        M("a difference one way round",
          "Of two numbers, the difference is taken in one order alone, that of the row.",
          search(steps=one_minus, after=newest_first)),
        M("always the larger by the smaller",
          "The larger is always divided by the smaller. The other way round gives a fraction, and it may be "
          "needed.",
          search(steps=larger_by_smaller)),
        M("numbers left over",
          "It says True as soon as 24 is among what is left. All numbers must be used.",
          search(done=holds_24, early=True)),
        M("neighbours alone",
          "Here a step takes two numbers that are side by side. Any two may be the next.",
          search(after=in_its_place, neighbours=True)),
        M("no step with two results",
          "Each step goes on with the newest result. A solution may make two results first, and then one of "
          "both.",
          lambda i: np.array(folded(row(i.numbers), all_steps))),
        M("no step with two results",
          "Each step goes on with the newest result. A solution may make two results first, and then one of "
          "both.",
          lambda i: np.array(folded(row(i.numbers), one_way))),
        M("equal numbers taken away together",
          "Where a number is used, all that equal it are gone too. Take numbers away by their places, not by "
          "their values.",
          search(after=equals_taken)),
        M("nothing with a 0",
          "Two numbers of which one is 0 are passed over altogether. Only a division by it is impossible.",
          search(steps=none_with_a_zero)),
        M("a single number is never 24",
          "A single number is dead here. 24 alone is a solution: it is where every solution ends.",
          lambda i: np.array(is_alive(i.numbers) and len(i.numbers) > 1)),
        M("dead for alive",
          "True and False are exchanged.",
          lambda i: np.array(not is_alive(i.numbers)))))
