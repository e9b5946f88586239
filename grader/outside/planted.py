"""`finds_planted`: the check of a learner's test, which passes right code and stops at each planted bug."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from itertools import chain, combinations

import numpy as np

from ..inside.driver import tell, time_limit
from .judge import Case, Check, Misconception

SECONDS = 3  # a test on made-up inputs needs milliseconds


def finds_planted(
    *,
    argument: str,
    handed_out: Callable[[Callable], Callable],
    right: tuple[Callable, ...],
    wrong: tuple[tuple, ...],
    advice: str,
    half: tuple[str, str, Iterable[Callable]],
    or_not: Iterable[Callable] = (),
    differ: str = "",
    right_is: str | tuple[str, ...] = "however it is written",
    hides: str = "",
    **facts,
) -> Check:
    """The check of a test `is_right(argument)`: True is wanted for all of `right`, False for all of `wrong`.

    wrong is a table with a row for each planted bug: what is wrong, on what it shows, the code, and the law
    of right code that sees it. A bug that the test lets through is told of in steps, one at each failing
    check: the law, then on what it shows, then what is wrong. (In a row of three, without a law, the first
    step is left out.) handed_out makes of a row's code what the test is given: the same name, signature,
    docstring and argument checks for each. advice goes to a test that turns all right code away, and differ,
    which says how right codes differ, to one that turns some of it away. half is the test that does half the
    work: its name, what it does not see, and the wrong code that it lets through; of or_not it may let
    through any, as its inputs are. right_is describes right code: one phrase for all of it, or one for each,
    which makes each a case of its own. hides ends the sentence on where a bug shows. facts are the other
    fields of Check: name, title, minutes, difficulty, hints.
    """
    codes = (*right, *(row[2] for row in wrong))
    let_through = {codes.index(code) for code in half[2]}
    perhaps = [codes.index(code) for code in or_not]
    sets = [let_through.union(some)
            for some in chain(*(combinations(perhaps, n) for n in range(len(perhaps) + 1)))]

    def put_to_the_test(function, arguments, inputs):
        """A driver: what the learner's test says of code number `which`."""
        with time_limit(SECONDS, too_long(int(inputs["which"]))):
            return tell(function, planted(int(inputs["which"])))

    def planted(which):
        """Code number `which`, as the test gets it."""
        return handed_out(sealed(codes[which]))

    def too_long(which):
        """What is said of a test that does not end on code number `which`."""
        kind = "right" if which < len(right) else "wrong"
        return (f"It has no answer after {SECONDS:g} seconds, on {kind} code. "
                "Does a loop of it wait for something that never comes?")

    def is_right(i):
        """True if code number `which`, of shape (), is right code."""
        return i.which < len(right)

    def judged_rightly(i, o):
        """True if the test says of code number `which` what is true of it."""
        return bool(o.result) == bool(is_right(i))

    def asked(law, first, n=1, steps=()):
        """A case that puts codes number first, first + 1, … to the test."""
        return Case(law, lambda rng, k: {"which": np.array(first + k)}, judged_rightly, draws=n, steps=steps)

    def to_stop(n, bug, shows, code, law=None):
        """The case of one planted bug."""
        steps = (f"Your test says True to a wrong code. It shows on {shows}{hides}.",)
        if law:
            steps = (f"Your test says True to a wrong code. This law of right code is missing in your test, "
                     f"or is "
                     f"tried in too few circumstances: “{law}”.",
                     f"Your test still says True to a wrong code. It breaks this law: “{law}”. "
                     f"It shows on {shows}{hides}.")
        said = f"saying False to code in which {bug}. It shows on {shows}{hides}."
        return asked(said, n, steps=steps)

    def advise(outcomes):
        """What goes to a test that turns right code away: all of it, or some."""
        of_right = [o.right for o in outcomes if is_right(o.inputs)]
        if all(of_right):
            return ""
        if any(of_right) and differ:
            return (f"It says True to {sum(of_right)} of the {len(right)} right ones, and False to the "
                    f"others. "
                    f"{differ}")
        return advice

    if isinstance(right_is, str):
        to_pass = [asked(f"saying True to right code, {right_is}.", 0, len(right))]
    else:
        to_pass = [asked(f"saying True to right code, here written {how}.", n)
                   for n, how in enumerate(right_is)]
    return Check(
        function="is_right", arguments=(argument,), compared="the verdict",
        call=put_to_the_test, shuffled=True, planted=planted, advise=advise,
        task="a test that says True to right code and False to each planted bug.",
        expected=lambda i: np.array(is_right(i), bool),
        cases=(*to_pass, *(to_stop(n, *row) for n, row in enumerate(wrong, len(right)))),
        misconceptions=(
            Misconception(
                "it lets everything through",
                "It says True to right code and to every planted bug. What would code have to do to be told "
                "False?",
                lambda i: np.array(True)),
            Misconception(
                "it turns everything away",
                f"It says False to right code too. {advice}",
                lambda i: np.array(False)),
            *(Misconception(*half[:2], lambda i, some=some: np.array(is_right(i) or int(i.which) in some))
              for some in sets)),
        **facts)


# The test is the learner's own code, and a name such as `end_dropped` would tell it all. So every code comes
# in one wrapper, whose own name, signature, source, file and line are the same each time, and what the
# wrapper holds in its closure shows nothing of itself: a cache of size 0 is a plain call in C, without
# attributes once its copy of the names is thrown away. The order is drawn anew for each check, so counting
# calls does not help either. A test that names frames, closures, tracebacks or the garbage collector in its
# own code is refused (grader/inside/shortcuts.py). This keeps honest people honest. It does not stop a test
# that comes by them in a roundabout way, imports this package and compares results, or overwrites its
# functions: nothing in one process can. A class's grader keeps this folder in another process.
def sealed(code: Callable) -> Callable:
    """A callable that does what code does and shows neither its name nor what it is made of."""
    shut = lru_cache(maxsize=0)(code)
    vars(shut).clear()
    return shut
