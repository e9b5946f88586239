"""find-the-hole: verifiers of the game of 24, right in six ways and wrong in eighteen, for a learner's test.

Each takes four numbers and a text, and says True or False. None runs the text: what is written by a model is
read, and never executed.
"""

from __future__ import annotations

import ast
import operator
import re
from collections import Counter
from collections.abc import Callable, Sequence
from fractions import Fraction

from minillm.expect import expect, expect_whole
from minillm.worlds import countdown

from ..planted import finds_planted

LONGEST = 60        # characters
TARGET = 24


def handed_out(inside: Callable[..., bool]) -> Callable[..., bool]:
    """The function as a learner's test gets it: one name, signature and set of checks for all code."""

    def verifier(numbers: Sequence[int], text: str) -> bool:
        """Whether a text makes 24 of four numbers, each used once: so it claims."""
        expect(isinstance(numbers, list | tuple) and len(numbers) == 4, "numbers", numbers,
               "give a list of four whole numbers")
        for number in numbers:
            expect_whole(1, 14, numbers=number)
        expect(isinstance(text, str), "text", type(text).__name__, "give a str")
        expect(len(text) <= LONGEST, "text", f"of {len(text)} characters", f"give {LONGEST} at most")
        return inside(list(numbers), text)

    return verifier


# --- reading --------------------------------------------------------------------------------------

TOKEN = re.compile(r"[1-9][0-9]*|[-+*/()]")
SIGNS = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}


class Unread(Exception):
    """The text is no expression."""


def tokens_of(text, token=TOKEN):
    """The parts of a text; Unread where it holds anything else."""
    found = token.findall(text)
    if "".join(found) != text:
        raise Unread
    return found


def read(text, *, signs=SIGNS, token=TOKEN, levels=("+-", "*/"), from_the_left=True, minus=False,
         to_the_end=True):
    """(the value, the numbers used) of an expression: brackets first, then × and ÷, then + and −.

    levels: the signs, what binds least first; those of one level are done from_the_left. minus: it may come
    before a number or a bracket. to_the_end False: IndexError where a text breaks off.
    """
    left, used = tokens_of(text, token)[::-1], []           # the next one is the last

    def following():
        if not left and to_the_end:
            raise Unread
        return left.pop()

    def atom():
        part = following()
        if part == "(":
            value = chained(levels)
            if following() != ")":
                raise Unread
            return value
        if part == "-" and minus:
            return -atom()
        if not part.isdigit():
            raise Unread
        used.append(int(part))
        return Fraction(used[-1])

    def chained(levels):
        if not levels:
            return atom()
        value = chained(levels[1:])
        while left and left[-1] in levels[0]:
            sign = left.pop()
            value = signs[sign](value, chained(levels[1:] if from_the_left else levels))
        return value

    value = chained(levels)
    if left:
        raise Unread
    return value, used


def guarded(verdict):
    """A verifier that says False where reading or reckoning fails."""
    def verifier(numbers, text):
        try:
            return bool(verdict(numbers, text))
        except (Unread, ZeroDivisionError):
            return False
    verifier.__name__, verifier.__doc__ = verdict.__name__, verdict.__doc__
    return verifier


def each_once(numbers, used):
    """Whether the numbers used are the given ones, each as often as it is given."""
    return Counter(numbers) == Counter(used)


def by_rules(numbers, text, *, fits=each_once, hits=lambda value: value == TARGET, **how):
    """A verdict of `read`: whether the numbers used fit, and whether the value hits."""
    value, used = read(text, **how)
    return fits(numbers, used) and hits(value)


# --- right ----------------------------------------------------------------------------------------


@guarded
def by_descent(numbers, text):
    """A function for each level of the grammar, in fractions."""
    return by_rules(numbers, text)


def by_the_package(numbers, text):
    """minillm's own."""
    return countdown.makes_target(countdown.Puzzle(tuple(numbers)), text)


@guarded
def by_a_tree(numbers, text):
    """Python's own parser, whose tree is walked and never run."""
    signs = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}
    used = []

    def value(node):
        if isinstance(node, ast.BinOp) and type(node.op) in signs:
            return SIGNS[signs[type(node.op)]](value(node.left), value(node.right))
        if isinstance(node, ast.Constant) and type(node.value) is int:
            used.append(node.value)
            return Fraction(node.value)
        raise Unread

    tokens_of(text)
    try:
        tree = ast.parse(text, mode="eval").body
    except SyntaxError:
        return False
    return value(tree) == TARGET and each_once(numbers, used)


@guarded
def by_two_stacks(numbers, text):
    """One stack of values and one of signs; what binds as tightly or tighter is done first."""
    order = {"+": 1, "-": 1, "*": 2, "/": 2}
    values, signs, used, begins = [], [], [], True

    def reduce():
        b, a = values.pop(), values.pop()
        values.append(SIGNS[signs.pop()](a, b))

    for token in tokens_of(text):
        if begins != (token.isdigit() or token == "("):
            return False
        if token.isdigit():
            used.append(int(token))
            values.append(Fraction(used[-1]))
            begins = False
        elif token == "(":
            signs.append(token)
        elif token == ")":
            while signs and signs[-1] != "(":
                reduce()
            if not signs:
                return False
            signs.pop()
        else:
            while signs and signs[-1] != "(" and order[signs[-1]] >= order[token]:
                reduce()
            signs.append(token)
            begins = True
    if begins or "(" in signs:
        return False
    while signs:
        reduce()
    return values == [TARGET] and each_once(numbers, used)


@guarded
def by_rewriting(numbers, text):
    """The innermost bracket becomes a number, until none is left; pairs (above, below) of whole numbers."""
    def flat(parts):
        in_turn = all(part in SIGNS if n % 2 else isinstance(part, tuple) for n, part in enumerate(parts))
        if len(parts) % 2 == 0 or not in_turn:
            raise Unread
        for level in ("*/", "+-"):
            n = 1
            while n < len(parts):
                (a, b), sign, (c, d) = parts[n - 1:n + 2]
                if sign in level:
                    parts[n - 1:n + 2] = [{"*": (a * c, b * d), "/": (a * d, b * c),
                                           "+": (a * d + c * b, b * d), "-": (a * d - c * b, b * d)}[sign]]
                    if not parts[n - 1][1]:
                        raise Unread
                else:
                    n += 2
        return parts[0]

    tokens = tokens_of(text)
    used = [int(token) for token in tokens if token.isdigit()]
    parts = [(int(token), 1) if token.isdigit() else token for token in tokens]
    while ")" in parts:
        end = parts.index(")")
        start = max((n for n in range(end) if parts[n] == "("), default=None)
        if start is None:
            return False
        parts[start:end + 1] = [flat(parts[start + 1:end])]
    above, below = flat(parts)
    return above == TARGET * below and sorted(used) == sorted(numbers)


@guarded
def in_floats(numbers, text):
    """Floats with a tolerance: of four numbers up to 13 no other value comes closer to 24 than 0.08."""
    exact, used = read(text)
    return abs(float(exact) - TARGET) < 1e-6 and each_once(numbers, used)


RIGHT = (by_descent, by_the_package, by_a_tree, by_two_stacks, by_rewriting, in_floats)


# --- wrong ----------------------------------------------------------------------------------------


@guarded
def more_often(numbers, text):
    """A number may be used more often than it is given."""
    return by_rules(numbers, text, fits=lambda given, used: not Counter(given) - Counter(used)
                    and set(used) <= set(given))


@guarded
def left_unused(numbers, text):
    """Not all numbers need be used."""
    return by_rules(numbers, text, fits=lambda given, used: not Counter(used) - Counter(given))


@guarded
def with_another(numbers, text):
    """Numbers that are not given may be used beside those that are, which are used once each."""
    return by_rules(numbers, text, fits=lambda given, used: Counter(given) == Counter(
        n for n in used if n in given))


@guarded
def equals_once(numbers, text):
    """A number that is given twice is used once, and no more: sets are compared."""
    return by_rules(numbers, text, fits=lambda given, used: set(given) == set(used)
                    and len(used) == len(set(used)) or each_once(given, used))


@guarded
def digits_alone(numbers, text):
    """The digits of the text are compared with those of the numbers."""
    return by_rules(numbers, text, fits=lambda given, used: Counter("".join(map(str, given))) == Counter(
        "".join(map(str, used))))


@guarded
def equal_floats(numbers, text):
    """Floats, and a ==."""
    floats = {"+": lambda a, b: float(a) + float(b), "-": lambda a, b: float(a) - float(b),
              "*": lambda a, b: float(a) * float(b), "/": lambda a, b: float(a) / float(b)}
    return by_rules(numbers, text, signs=floats)


@guarded
def about_24(numbers, text):
    """The value is rounded to a whole number at the end."""
    return by_rules(numbers, text, hits=lambda value: round(value) == TARGET)


@guarded
def whole_division(numbers, text):
    """Each quotient is rounded down."""
    return by_rules(numbers, text, signs={**SIGNS, "/": operator.floordiv})


@guarded
def left_to_right(numbers, text):
    """Signs are done in the order in which they come."""
    return by_rules(numbers, text, levels=("+-*/",))


@guarded
def from_the_right(numbers, text):
    """a−b−c is read as a−(b−c), and a/b/c as a/(b/c)."""
    return by_rules(numbers, text, from_the_left=False)


@guarded
def brackets_ignored(numbers, text):
    """Brackets are taken out of a text that has them right."""
    read(text)
    return by_rules(numbers, re.sub(r"[()]", "", text))


@guarded
def sign_ignored(numbers, text):
    """−24 is as good as 24."""
    return by_rules(numbers, text, hits=lambda value: abs(value) == TARGET)


@guarded
def contains_24(numbers, text):
    """Any text that holds "24" is taken as well."""
    return "24" in text or by_rules(numbers, text)


@guarded
def as_written(numbers, text):
    """What is written behind a "=" is believed."""
    expression, is_there, result = text.partition("=")
    if not is_there:
        return by_rules(numbers, text)
    _, used = read(expression)
    return each_once(numbers, used) and result == str(TARGET)


@guarded
def with_a_minus(numbers, text):
    """A minus may come before a number or a bracket."""
    return by_rules(numbers, text, minus=True)


@guarded
def with_powers(numbers, text):
    """** is a power."""
    def power(a, b):
        large = b.denominator > 1 or abs(b) * max(a.numerator, a.denominator, key=abs).bit_length() > 999
        if large or (not a and b < 0):
            raise Unread
        return Fraction(a ** b.numerator)

    if "^" in text:
        raise Unread
    return by_rules(numbers, text.replace("**", "^"), token=re.compile(r"[1-9][0-9]*|[-+*/()^]"),
                    signs={**SIGNS, "^": power}, levels=("+-", "*/", "^"))


@guarded
def with_spaces(numbers, text):
    """Spaces are taken out first."""
    return by_rules(numbers, text.replace(" ", ""))


def divides_by_0(numbers, text):
    """ZeroDivisionError where something is divided by 0."""
    try:
        return by_rules(numbers, text)
    except Unread:
        return False


@guarded
def breaks_off(numbers, text):
    """IndexError where the text ends too early."""
    return by_rules(numbers, text, to_the_end=False)


NUMBERS = "each of the four numbers is used exactly once, and no other number is used"
VALUE = ("the value is worked out as in school, and exactly: brackets first, then × and ÷, then + and −, "
         "and from left to right where two bind equally")
IS_24 = "the value is 24: nothing near it, and nothing like it"
FORM = ("the text is an expression of numbers, + − * / and brackets, and of nothing else; any other text is "
        "False, whatever it says")
ANSWERS = "to every text the answer is True or False, and nothing is raised"

# (what is wrong, on what it shows, the code, the law that sees it)
WRONG = (
    ("a number may be used more often than it is given",
     "an expression of 24 with all four numbers, one of them twice", more_often, NUMBERS),
    ("a number may be left unused", "an expression of 24 with fewer than the four numbers", left_unused,
     NUMBERS),
    ("numbers that are not given may be used too",
     "an expression of 24 with all four numbers and another one", with_another, NUMBERS),
    ("digits are compared in place of numbers, so that 1 and 2 make 12",
     "an expression of 24 in which two of the numbers are written side by side as one", digits_alone,
     NUMBERS),
    ("floats are compared by ==", "a right answer in which a division does not come out in floats",
     equal_floats, VALUE),
    ("a quotient is rounded down to a whole number", "a division that does not come out", whole_division,
     VALUE),
    ("signs are done in the order in which they come", "a sum with a product after it, without brackets",
     left_to_right, VALUE),
    ("a-b-c is read as a-(b-c), and a/b/c as a/(b/c)",
     "two differences or two quotients in a row, without brackets", from_the_right, VALUE),
    ("brackets are ignored", "brackets that change the value", brackets_ignored, VALUE),
    ("the value is rounded to a whole number before it is compared",
     "four numbers that make something within a half of 24", about_24, IS_24),
    ("the sign of the value is lost", "an expression of −24", sign_ignored, IS_24),
    ('any text that contains "24" is taken', "a text in which 24 is written and not made", contains_24, FORM),
    ('what is written after a "=" is believed', "an expression of another value, then =24", as_written, FORM),
    ("a minus may come before a number or a bracket", "an expression of 24 that has such a minus",
     with_a_minus, FORM),
    ("** is taken for a power", "an expression that makes 24 by a power", with_powers, FORM),
    ("spaces are taken out before the text is read", "an expression of 24 with a space in it", with_spaces,
     FORM),
    ("a division by 0 raises", "an expression in which something is divided by 0", divides_by_0, ANSWERS),
    ("a text that ends too early raises", "an empty text, or one that breaks off", breaks_off, ANSWERS),
)

# these take all that is right: they show on what is not
HOLES = (more_often, left_unused, with_another, digits_alone, about_24, sign_ignored, contains_24, as_written,
         with_a_minus, with_powers, with_spaces, divides_by_0, breaks_off)

FIND_THE_HOLE = finds_planted(
    name="find-the-hole", title="A test that finds the hole", minutes=30, difficulty=3,
    argument="verifier", handed_out=handed_out, right=RIGHT, wrong=WRONG,
    hides="; a second mistake in the same text hides it",
    advice=("Then a text of yours is not what you take it for. All four numbers are used, each once. "
            "Brackets may stand where they are not needed, and what is made on the way may be a fraction or "
            "below 0. A space, a = or a minus before a bracket make a text False. Right code raises only "
            "where numbers or text are not as the task says."),
    learned=("You have a test of what pays a model. Whoever learns from a verifier finds its holes: now you "
             "find them first."),
    hints=(
        "Make a table of numbers, text and truth, and go through it. Put the call into a try: what raises "
        "is wrong too. Begin with two right texts, one of them with fractions on the way, and a wrong one.",
        "Which of its numbers may a text use, and how often? There are four ways to get that wrong. Write a "
        "text for each that makes 24 all the same: one number unused, one used twice, one that is not there, "
        "two written side by side.",
        "Then its form. For each sign that is not allowed (a space, =, **, a minus at the start) write a "
        "text that would be right if it were. Last what is worked out: a product after a sum, two "
        "differences in a row, brackets that matter and others that do not, −24, something near 24, a "
        "division by 0, and a text that stops in the middle."),
    half=("only right answers are tried",
          "Texts that are right are tried, and none that a hole would let in. What pays for a wrong answer "
          "is never seen so.",
          HOLES),
    or_not=(equal_floats, whole_division, left_to_right, from_the_right))
