"""What a check is, and how an answer to it is judged from arrays alone.

The steps need not share a process: `plan` draws inputs, and `judge` knows what was wanted; between them,
`respond` calls the learner's function on one input and hands back arrays (grader/inside/driver.py). What was
wanted never goes where that function runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from textwrap import fill
from types import SimpleNamespace

import numpy as np

from ..inside.driver import Complaint, call
from ..inside.shortcuts import Without

# float32 keeps seven digits. A result here is some dozen operations on numbers of size 10, and logits may be
# of size 100: up to two digits are lost, and one more is left for luck. Misconceptions differ from what is
# right by 1e-2 or more (a test holds that).
TOLERANCE = 1e-4
NAMING = 1e-3  # a misconception is recognised more loosely: an epsilon of the learner's own must not hide it

Arrays = dict[str, np.ndarray]
Fields = SimpleNamespace  # the same arrays by name: i.theta for an input, o.result for an output


@dataclass(frozen=True)
class Misconception:
    """What a learner might believe. `gives` computes what a function written in that belief returns."""

    name: str
    why: str                                  # one or two sentences: what was done, and why it matters
    gives: Callable[[Fields], np.ndarray]     # inputs -> result; ValueError where shapes would not meet


@dataclass(frozen=True)
class Case:
    """One law, and inputs on which breaking it shows."""

    law: str
    draw: Callable[[np.random.Generator, int], Arrays]        # the k-th input; the first are smallest
    holds: Callable[[Fields, Fields], bool] | None = None     # (inputs, outputs): is the law itself kept?
    draws: int = 6
    note: str = ""                                            # what the printed input cannot show
    nan: str = ""                                             # said where the result is not finite
    any_size: bool = False              # holds can be asked of a result that is too long or too short
    steps: tuple[str, ...] = ()         # said in the law's place when it fails the first time, the second …


@dataclass(frozen=True)
class Check:
    """One exercise: how it is called, what is wanted, and the ways in which it goes wrong."""

    name: str
    title: str
    minutes: int
    difficulty: int                           # 1 to 3
    function: str                             # as the exercise names it
    arguments: tuple[str, ...]                # in order; inputs by other names are the driver's
    task: str                                 # what is asked, in a sentence
    hints: tuple[str, ...]
    cases: tuple[Case, ...]
    expected: Callable[[Fields], np.ndarray]
    misconceptions: tuple[Misconception, ...]
    compared: str = "the result"              # what is compared with `expected`
    kind: str = "number"                      # what the task asks for: "number" (any), "integer" or "bool"
    call: Callable[..., Arrays] = call        # the driver: (function, arguments, inputs) -> outputs
    shuffled: bool = False                    # asked in an order that is drawn anew each time
    planted: Callable[[int], Callable] | None = None    # number -> code that a learner's test is handed
    without: tuple[Without, ...] = ()         # what the answer must not call (grader/inside/shortcuts.py)
    learned: str = ""                         # "You have …": what a passing check says, in one sentence
    advise: Callable[[list[Outcome]], str] = lambda outcomes: ""    # said behind the law that fails
    shown: Callable[[Trial, Fields | None], list[str]] | None = None    # lines of an input that is no tensors


@dataclass(frozen=True)
class Trial:
    """One input drawn for one case."""

    case: Case
    inputs: Arrays

    @property
    def size(self) -> int:
        return sum(array.size for array in self.inputs.values())


@dataclass(frozen=True)
class Verdict:
    """What is said of a function.

    reason is a misconception's name, "a law", "the numbers", or what else went wrong; text is for the
    learner; held says which cases held; law is the law that the text is about, where there is one.
    """

    passed: bool
    reason: str
    text: str
    held: tuple[bool, ...]
    law: str = ""


@dataclass(frozen=True)
class Outcome:
    """A trial with what came back: outputs, or a complaint in their place."""

    trial: Trial
    inputs: Fields
    outputs: Fields | None
    complaint: Complaint | None
    wanted: np.ndarray
    right: bool


def plan(check: Check, seed: int = 0) -> list[Trial]:
    """The inputs of a check, drawn afresh for each seed."""
    return [Trial(case, case.draw(np.random.default_rng([seed, c, k]), k))
            for c, case in enumerate(check.cases) for k in range(case.draws)]


def judge(
    check: Check, trials: Sequence[Trial], answers: Sequence[Arrays | Complaint],
    told: Mapping[str, int] | None = None,
) -> Verdict:
    """The verdict on a function from what it gave back for each trial.

    told says how often each law was told of before, and so which of a case's steps is due; without it, all is
    said at once.
    """
    outcomes = [compare(check, trial, answer) for trial, answer in zip(trials, answers, strict=True)]
    held = tuple(all(o.right for o in outcomes if o.trial.case is case) for case in check.cases)
    failed = sorted((o for o in outcomes if not o.right), key=lambda o: o.trial.size)
    if not failed:
        text = f"{check.name}: right, on {len(trials)} inputs in {len(held)} cases."
        text += f"\n{fill(check.learned, 96)}" if check.learned else ""
        return Verdict(True, "right", text, held)
    for name in ("stub", "shortcut"):
        said = next((o.complaint.sentence for o in failed if o.complaint and o.complaint.name == name), None)
        if said:
            return Verdict(False, name, fill(f"{check.name}: {said}", 96), held)
    reason, sentence, shown = recognise(check, outcomes, failed) or explain(check, outcomes, failed, told)
    lines = [f"{check.name}: not yet.", sentence, *show(check, shown),
             f"Right so far: {sum(held)} of {len(held)} cases."]
    lines = [line for text in lines for line in text.split("\n")]
    text = "\n".join(line if line.startswith("    ") else fill(line, 96) for line in lines)
    return Verdict(False, reason, text, held, shown.trial.case.law if reason == "a law" else "")


def compare(check: Check, trial: Trial, answer: Arrays | Complaint) -> Outcome:
    """One answer compared with what was wanted."""
    inputs = Fields(**{name: widen(array) for name, array in trial.inputs.items()})
    with np.errstate(all="ignore"):
        wanted = np.asarray(check.expected(inputs), float)
    if isinstance(answer, Complaint):
        return Outcome(trial, inputs, None, answer, wanted, False)
    outputs = Fields(**{name: widen(array) for name, array in answer.items()})
    complaint = None
    if outputs.result.shape == wanted.shape and not np.isfinite(outputs.result).all():
        complaint = Complaint("not finite", not_finite(check, trial, outputs.result))
        return Outcome(trial, inputs, None, complaint, wanted, False)
    if check.kind != "number" and answer["result"].dtype.kind not in KINDS[check.kind][0]:
        complaint = Complaint("dtype", f"{sentence_case(check.compared)} is of dtype "
                                       f"{answer['result'].dtype}. "
                                       f"The task asks for {KINDS[check.kind][1]}.")
    kept = [name for name in check.arguments if f"after_{name}" in answer]
    changed = [name for name in kept
               if not np.array_equal(answer[f"after_{name}"], trial.inputs[name], equal_nan=True)]
    if changed:
        complaint = Complaint("input changed",
                              f"It changes its input {' and '.join(changed)} in place. The caller goes on "
                              "using that: work on a copy, or make a new tensor.")
    right = complaint is None and close(outputs.result, wanted)
    return Outcome(trial, inputs, outputs, complaint, wanted, right)


KINDS = {"integer": ("iu", "whole numbers, such as torch.long"),
         "bool": ("b", "True and False, a tensor of dtype torch.bool: what it marks is then used as an "
                       "index")}


def not_finite(check: Check, trial: Trial, result: np.ndarray) -> str:
    """What is said of a result that holds NaN or infinity."""
    strange = ~np.isfinite(result)
    found = np.isnan(result[strange][0])
    text = f"{sentence_case(check.compared)} holds {'NaN' if found else 'infinity'}{first(strange)}. "
    if trial.case.nan:
        return text + trial.case.nan
    if any(not np.isfinite(array).all() for array in trial.inputs.values()):
        return text + ("The input holds numbers that are not finite, where they mean nothing. To multiply "
                       "them by 0 does not take them out: that is NaN. Pick what counts, by where or by an "
                       "index.")
    return text + ("NaN comes from 0/0, from infinity minus infinity, from 0 times infinity, or from the log "
                   "or "
                   "root of a number below 0." if found
                   else "Infinity comes from a division by zero, a log of zero, or an exp that overflows.")


def recognise(
    check: Check, outcomes: list[Outcome], failed: list[Outcome]
) -> tuple[str, str, Outcome] | None:
    """(name, sentence, trial to show) of the misconception that explains all that came back, or None."""
    wrong = [o for o in failed if o.outputs is not None and not close(o.outputs.result, o.wanted)]
    if not wrong:
        return None
    for sign in (1, -1) if any(m.name == "sign turned" for m in check.misconceptions) else (1,):
        for m in check.misconceptions:
            if all(explains(m, o, sign) for o in outcomes):
                name, why = m.name, m.why
                if sign == -1:
                    name, why = f"{name}, and the sign turned", f"{why} And the sign is turned."
                return name, f"It looks like this: {name}.\n{why}", wrong[0]
    return None


def explains(m: Misconception, o: Outcome, sign: int) -> bool:
    """True if this is what the misconception gives here; one whose shapes do not meet must have raised.

    NaN says nothing.
    """
    if o.outputs is not None:
        return close(sign * o.outputs.result, believed(m, o.inputs), NAMING)
    raised = o.complaint.name == "raised" and believed(m, o.inputs).size == 0
    return raised or o.complaint.name == "not finite"


def believed(m: Misconception, inputs: Fields) -> np.ndarray:
    """What a function in this belief returns; an empty array where it would raise."""
    with np.errstate(all="ignore"):
        try:
            return np.asarray(m.gives(inputs), float)
        except ValueError:
            return np.zeros(0)


def explain(
    check: Check, outcomes: list[Outcome], failed: list[Outcome], told: Mapping[str, int] | None = None
) -> tuple[str, str, Outcome]:
    """(reason, sentence, trial to show) where no misconception fits.

    The reason is what was raised, a dtype, a shape, a broken law, or the numbers. Nothing is guessed: a law
    is called broken only where its own test says so.
    """
    stopped = [o for o in failed if o.complaint and o.complaint.name in ("raised", "endless")]
    smallest = (stopped or failed)[0]
    if smallest.complaint:
        return smallest.complaint.name, smallest.complaint.sentence, smallest
    if all(o.outputs is not None and o.outputs.result.ndim == 2 and close(o.outputs.result.T, o.wanted)
           for o in failed):
        sentence = f"The numbers are right, but the two axes of {check.compared} are swapped."
        return "axes swapped", sentence, smallest
    lengths = [o for o in failed if o.trial.case.any_size and broken(o)]
    if lengths:
        return "a law", f"What fails: {lengths[0].trial.case.law}", lengths[0]
    if smallest.outputs.result.shape != smallest.wanted.shape:
        return "shape", f"The shape of {check.compared} is not the one that is wanted.", smallest
    # a single number is a multiple of any other
    several = max((np.abs(o.wanted) > 1e-2).sum() for o in failed) > 2
    if several and all(o.outputs is not None and multiple(o.outputs.result, o.wanted) for o in failed):
        sentence = ("The numbers stand in the right proportions, but are too large or too small by a factor: "
                    "look at what you divide by.")
        return "a factor", sentence, smallest
    for case in check.cases:
        for o in failed:
            if o.trial.case is case and broken(o):
                times = len(case.steps) if told is None else told.get(case.law, 0)
                sentence = case.steps[times] if times < len(case.steps) else f"What fails: {case.law}"
                return "a law", " ".join([sentence, check.advise(outcomes)]).strip(), o
    sentence = f"The numbers differ on the smallest input. What is asked: {check.task}"
    case = smallest.trial.case
    if any(o.right for o in outcomes) and all(o.trial.case is case for o in failed):
        sentence = ("The numbers are right in all cases but one. Look at the smallest input. "
                    f"It was drawn to try this: {case.law}")
    return "the numbers", sentence, smallest


def broken(o: Outcome) -> bool:
    """True if this trial's own law is seen to be broken: a wrong number alone does not say so."""
    if o.outputs is None or close(o.outputs.result, o.wanted):
        return False
    if o.outputs.result.shape != o.wanted.shape and not (
            o.trial.case.any_size and o.outputs.result.ndim == o.wanted.ndim):
        return False
    with np.errstate(all="ignore"):
        return o.trial.case.holds is not None and not o.trial.case.holds(o.inputs, o.outputs)


def show(check: Check, o: Outcome) -> list[str]:
    """The input, ready to be pasted, and where the result is wrong: never the number wanted."""
    if check.shown is not None:
        return ["The smallest input that shows it:", *check.shown(o.trial, o.outputs)]
    names = [name for name in check.arguments if name in o.trial.inputs]
    if not names:
        return []
    lines = ["The smallest input that shows it:"]
    if any(not np.isfinite(o.trial.inputs[name]).all() for name in names):
        lines.append("    from torch import inf, nan")
    lines += [f"    {name} = torch.tensor({round_list(o.trial.inputs[name])})" for name in names]
    lines += [f"    # {o.trial.case.note}"] * bool(o.trial.case.note)
    if o.outputs is not None:
        got, wanted = o.outputs.result, o.wanted
        if got.shape != wanted.shape:
            lines.append(f"Shape of {check.compared}: {got.shape}; wanted: {wanted.shape}.")
        elif not close(got, wanted):
            off = np.abs(got - wanted) > TOLERANCE * scale(wanted)
            lines += [f"Shape of {check.compared}: {got.shape}, as wanted.",
                      f"Wrong in {off.sum()} of {off.size} places, the first{first(off)}."]
    return lines


def close(got: np.ndarray, wanted: np.ndarray, tolerance: float = TOLERANCE) -> bool:
    """Equal but for rounding. Shapes must agree; NaN is close to nothing."""
    wanted = np.asarray(wanted, float)
    return got.shape == wanted.shape and bool((np.abs(got - wanted) <= tolerance * scale(wanted)).all())


def scale(wanted: np.ndarray) -> float:
    """What a tolerance is multiplied by: the largest absolute value of an array, and 1 at least."""
    return max(1.0, float(np.abs(wanted).max(initial=0.0)))


def multiple(got: np.ndarray, wanted: np.ndarray) -> bool:
    """True if got is a positive number times wanted."""
    if got.shape != wanted.shape:
        return False
    factor = float((got * wanted).sum() / max((wanted * wanted).sum(), 1e-12))
    return factor > 1e-3 and close(got, factor * wanted)


def widen(array: np.ndarray) -> np.ndarray:
    """float64, so that judging adds no rounding of its own; masks stay masks."""
    return array if array.dtype == bool else np.asarray(array, np.float64)


def first(where: np.ndarray) -> str:
    """' at [0, 2]': the first True; '' for a single number."""
    return f" at {np.argwhere(where)[0].tolist()}" if where.ndim else ""


def round_list(array: np.ndarray):
    """Nested lists that read as they were drawn: 0.1, not 0.10000000149."""
    return array.tolist() if array.dtype.kind in "bi" else np.round(array.astype(np.float64), 4).tolist()


def sentence_case(text: str) -> str:
    """The text with a capital at its start; a symbol of one letter stays as it is."""
    return text[0].upper() + text[1:] if len(text) > 1 else text
