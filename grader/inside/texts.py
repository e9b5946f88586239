"""Texts go between calling and judging as arrays of bytes, and a step of a plan as a row of whole numbers.

So a check of a function of texts draws, sends and compares arrays like any other.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .driver import Arrays, Unfit, a

NUMBERS = 16        # places of a row for what a step needs; 0 where there are fewer
LETTERS = 200       # and for its text
WEIGHT = 10         # of a number beside a letter's, so that a number is never near to the next one


def as_bytes(texts: list[str]) -> np.ndarray:
    """A list of texts of one line each as one array of bytes (N,): each ends with a line break."""
    return np.frombuffer("".join(f"{text}\n" for text in texts).encode(), np.uint8).copy()


def as_texts(array: np.ndarray) -> list[str]:
    """The list of texts that as_bytes made an array of."""
    return bytes(np.asarray(array).astype(np.uint8)).decode().split("\n")[:-1]


def as_row(numbers: list[int], text: str) -> np.ndarray:
    """A step: the numbers of what it needs, then its text in code points, (NUMBERS + LETTERS,)."""
    row = np.zeros(NUMBERS + LETTERS, np.int64)
    row[:len(numbers)] = WEIGHT * np.array(numbers, int)
    row[NUMBERS:NUMBERS + len(text)] = list(map(ord, text))
    return row


def read_row(row: np.ndarray) -> tuple[list[int], str]:
    """The numbers and the text of a row."""
    row = np.asarray(row).astype(int)
    numbers = row[:NUMBERS][row[:NUMBERS] != 0] // WEIGHT
    return numbers.tolist(), "".join(map(chr, row[NUMBERS:][row[NUMBERS:] != 0]))


def as_rows(result: object) -> np.ndarray:
    """A list of pairs (list of numbers, text) as rows, (K, NUMBERS + LETTERS); Unfit for anything else."""
    wanted = "wanted is a list with a pair for each step: a list of whole numbers, and a text"
    if result is None:
        raise Unfit("None", "It returns None. Does it end with a `return`?")
    if not isinstance(result, list | tuple):
        raise Unfit("type", f"It returns {a(type(result).__name__)}, which cannot be read as steps; "
                            f"{wanted}.")
    rows = []
    for pair in result:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise Unfit("type", f"A step of what it returns is {a(type(pair).__name__)}; {wanted}.")
        numbers, text = pair
        whole = isinstance(numbers, list | tuple) and all(
            isinstance(n, int | np.integer) and not isinstance(n, bool) and 0 <= n < 10**6 for n in numbers)
        if not whole or not isinstance(text, str):
            raise Unfit("type", f"A step of what it returns is a pair of {a(type(numbers).__name__)} and "
                                f"{a(type(text).__name__)}; {wanted}.")
        if len(numbers) > NUMBERS or len(text) > LETTERS:
            raise Unfit("length", f"A step of what it returns has {len(numbers)} numbers and "
                                  f"{len(text)} letters: far more than any step of the plan.")
        rows.append(as_row(list(numbers), text))
    return np.array(rows).reshape(len(rows), NUMBERS + LETTERS)


def call_for_steps(function: Callable, arguments: tuple[str, ...], inputs: Arrays) -> Arrays:
    """A driver: lists of texts go in, and a list of pairs (numbers, text) comes out."""
    given = {name: as_texts(inputs[name]) for name in arguments}
    result = as_rows(function(*given.values()))
    for name, texts in given.items():
        if not all(isinstance(text, str) and "\n" not in text for text in texts):
            raise Unfit("input changed", f"It changes its input {name} in place. Work on a copy.")
    return {"result": result, **{f"after_{name}": as_bytes(texts) for name, texts in given.items()}}
