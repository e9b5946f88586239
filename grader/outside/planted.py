"""`finds_planted`: the check of a learner's test, which passes right code and stops at each planted bug."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache

import numpy as np

from ..inside.driver import as_verdict, time_limit
from .judge import Case, Check, Misconception

SECONDS = 3  # a test on made-up inputs needs milliseconds


def finds_planted(
    *,
    argument: str,
    handed_out: Callable[[Callable], Callable],
    right: tuple[Callable, ...],
    wrong: tuple[tuple[str, str, Callable], ...],
    advice: str,
    half: tuple[str, str, Iterable[Callable]],
    right_is: str | tuple[str, ...] = "however it is written",
    hides: str = "",
    **facts,
) -> Check:
    """The check of a test `is_right(argument)`: True is wanted for all of `right`, False for all of `wrong`.

    wrong is a table with a row for each planted bug: what is wrong, on what it shows, the code. handed_out
    makes of a row's code what the test is given: the same name, signature, docstring and argument checks
    for each. advice goes to a test that turns right code away. half is the test that does half the work:
    its name, what it does not see, and the wrong code that it lets through. right_is describes right code:
    one phrase for all of it, or one for each, which makes each a case of its own. hides ends the sentence
    on where a bug shows. facts are the other fields of Check: name, title, minutes, difficulty, hints.
    """
    codes = (*right, *(code for _, _, code in wrong))
    let_through = {codes.index(code) for code in half[2]}

    def put_to_the_test(function, arguments, inputs):
        """A driver: what the learner's test says of code number `which`."""
        which = int(inputs["which"])
        kind = "right code" if which < len(right) else f"code in which {wrong[which - len(right)][0]}"
        too_long = (f"It has no answer after {SECONDS:g} seconds, on {kind}. "
                    "Does a loop of it wait for something that never comes?")
        with time_limit(SECONDS, too_long):
            return {"result": as_verdict(function(handed_out(sealed(codes[which]))))}

    def is_right(i):
        """True if code number `which`, of shape (), is right code."""
        return i.which < len(right)

    def asked(law, first, n=1):
        """A case that puts codes number first, first + 1, … to the test."""
        return Case(law, lambda rng, k: {"which": np.array(first + k)}, draws=n)

    if isinstance(right_is, str):
        to_pass = [asked(f"saying True to right code, {right_is}. {advice}", 0, len(right))]
    else:
        to_pass = [asked(f"saying True to right code, here written {how}. {advice}", n)
                   for n, how in enumerate(right_is)]
    to_stop = [asked(f"saying False to code in which {bug}. It shows on {shows}{hides}.", n)
               for n, (bug, shows, _) in enumerate(wrong, len(right))]
    return Check(
        function="is_right", arguments=(argument,), compared="the verdict",
        call=put_to_the_test, shuffled=True,
        task="a test that says True to right code and False to each planted bug.",
        expected=lambda i: np.array(is_right(i), bool),
        cases=(*to_pass, *to_stop),
        misconceptions=(
            Misconception(
                "it lets everything through",
                "It says True to right code and to every planted bug. "
                "What would code have to do to be told False?",
                lambda i: np.array(True)),
            Misconception(
                "it turns everything away",
                f"It says False to right code too. {advice}",
                lambda i: np.array(False)),
            Misconception(*half[:2], lambda i: np.array(is_right(i) or int(i.which) in let_through))),
        **facts)


# The test is the learner's own code, and a name such as `end_dropped` would tell it all. So every code comes
# in one wrapper, whose own name, signature, source, file and line are the same each time, and what the
# wrapper holds in its closure shows nothing of itself: a cache of size 0 is a plain call in C, without
# attributes once its copy of the names is thrown away. The order is drawn anew for each check, so counting
# calls does not help either. This keeps honest people honest. It does not stop a test that walks the stack's
# frames, traces calls, reads the traceback of an error that it provokes, asks the garbage collector, or
# imports this package and compares results: nothing in one process can. A class's grader keeps this folder in
# another process than the test's.
def sealed(code: Callable) -> Callable:
    """A callable that does what code does and shows neither its name nor what it is made of."""
    shut = lru_cache(maxsize=0)(code)
    vars(shut).clear()
    return shut
