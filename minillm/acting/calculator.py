"""The calculator: a parser of sums, with exact fractions. It never runs what it reads.

    sum     := product (("+" | "-") product)*
    product := signed (("*" | "/") signed)*
    signed  := ("-" | "+")* power
    power   := atom ("^" signed)?                  so −2^2 is −4, and 2^3^2 is 2^9
    atom    := number | "(" sum ")"

Limits: how long a text, how deep its brackets and powers, how large an exponent and any number on the way.
"""

from __future__ import annotations

import re
from fractions import Fraction

from ..expect import expect
from .tools import shown

LONGEST = 200                   # characters
DEEPEST = 30                    # brackets within brackets, powers of powers
LARGEST_EXPONENT = 1000
BITS = 2000                     # of a numerator or denominator: about 600 digits
SAME = str.maketrans({"×": "*", "÷": "/", "−": "-"})
TOKEN = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?|\*\*|[-+*/^()])")


def calculator(expression: str) -> str:
    """The exact value of a sum of numbers, with + - * / ^ and brackets.

    Args:
        expression: such as (47+38)*2 or 1/3+1/6
    """
    fits = isinstance(expression, str) and len(expression) <= LONGEST
    known = f"{len(expression)} characters long" if isinstance(expression, str) else shown(expression)
    expect(fits, "expression", known, f"give a text of at most {LONGEST} characters")
    tokens = _tokens(expression)
    value, i = _sum(tokens, 0, 0)
    if i < len(tokens):
        raise ValueError(f"expression is one with {shown(tokens[i])} too much: "
                         "write a sign between two numbers, and close what was opened")
    return _text(value, decimal="." in expression)


def _tokens(expression: str) -> list[str]:
    """Numbers and signs. What people write behind a sum, "=" or "=?", is left out."""
    text = re.sub(r"\s*=\s*\??\s*\Z", "", expression.translate(SAME)).rstrip()
    tokens, i = [], 0
    while i < len(text):
        token = TOKEN.match(text, i)
        expect(token is not None, "expression", f"one with {shown(text[i:].lstrip()[:1])}",
               "write numbers, + - * / ^ and brackets")
        tokens.append("^" if token[1] == "**" else token[1])
        i = token.end()
    expect(len(tokens) > 0, "expression", shown(expression), "write a sum, such as 47+38")
    return tokens


# Each of these reads from tokens[i] on, and gives (its value, where it stopped).


def _sum(tokens: list[str], i: int, depth: int) -> tuple[Fraction, int]:
    value, i = _product(tokens, i, depth)
    while i < len(tokens) and tokens[i] in "+-":
        other, stop = _product(tokens, i + 1, depth)
        value = _small(value + other if tokens[i] == "+" else value - other)
        i = stop
    return value, i


def _product(tokens: list[str], i: int, depth: int) -> tuple[Fraction, int]:
    value, i = _signed(tokens, i, depth)
    while i < len(tokens) and tokens[i] in "*/":
        other, stop = _signed(tokens, i + 1, depth)
        if tokens[i] == "/":
            expect(other != 0, "expression", "one that divides by 0", "divide by another number")
        value = _small(value * other if tokens[i] == "*" else value / other)
        i = stop
    return value, i


def _signed(tokens: list[str], i: int, depth: int) -> tuple[Fraction, int]:
    minus = False
    while i < len(tokens) and tokens[i] in "+-":
        minus ^= tokens[i] == "-"
        i += 1
    value, i = _power(tokens, i, depth)
    return (-value if minus else value), i


def _power(tokens: list[str], i: int, depth: int) -> tuple[Fraction, int]:
    expect(depth <= DEEPEST, "expression", f"nested deeper than {DEEPEST}", "write it with fewer brackets")
    base, i = _atom(tokens, i, depth)
    if i == len(tokens) or tokens[i] != "^":
        return base, i
    exponent, i = _signed(tokens, i + 1, depth + 1)
    whole = exponent.denominator == 1 and abs(exponent) <= LARGEST_EXPONENT
    expect(whole, "exponent", _text(exponent), f"give a whole number up to {LARGEST_EXPONENT}")
    expect(base != 0 or exponent >= 0, "expression", "one that divides by 0", "divide by another number")
    _expect_small(abs(int(exponent)) * (_bits(base) - 1))  # before it is computed
    return _small(base ** int(exponent)), i


def _atom(tokens: list[str], i: int, depth: int) -> tuple[Fraction, int]:
    expect(i < len(tokens), "expression", "one that ends too early", "write a number at its end")
    if tokens[i] == "(":
        value, i = _sum(tokens, i + 1, depth + 1)
        expect(i < len(tokens) and tokens[i] == ")", "expression", "one with an open bracket", "close it")
        return value, i + 1
    expect(tokens[i][0].isdigit(), "expression", f"one with {shown(tokens[i])} in place of a number",
           "write a number there")
    return _small(Fraction(tokens[i])), i + 1


def _bits(value: Fraction) -> int:
    return max(value.numerator.bit_length(), value.denominator.bit_length())


def _small(value: Fraction) -> Fraction:
    _expect_small(_bits(value))
    return value


def _expect_small(bits: int) -> None:
    expect(bits <= BITS, "expression", "one with a number of more than 600 digits", "use smaller numbers")


def _text(value: Fraction, decimal: bool = False) -> str:
    """7, 7/2, or 3.5 where the question had a decimal point and the answer ends."""
    rest, twos, fives = value.denominator, 0, 0
    while rest % 2 == 0:
        rest, twos = rest // 2, twos + 1
    while rest % 5 == 0:
        rest, fives = rest // 5, fives + 1
    places = max(twos, fives)
    if rest != 1 or places == 0 or not decimal:
        return str(value)
    digits = str(abs(value.numerator) * 10**places // value.denominator).zfill(places + 1)
    return f"{'-' if value < 0 else ''}{digits[:-places]}.{digits[-places:]}"
