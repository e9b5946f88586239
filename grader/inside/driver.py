"""Calls a learner's function on one input, and turns what comes back into arrays or into a complaint.

respond(driver, function, …) calls function through a driver: `call` where tensors go in and a tensor comes
out, `follow_gradient` where a gradient is judged, and others where code is handed over to be tested.
"""

from __future__ import annotations

import inspect
import linecache
import random
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .shortcuts import Without, found_in, pries, watched

Arrays = dict[str, np.ndarray]
SECONDS = 20  # for one call of a learner's function


@dataclass(frozen=True)
class Complaint:
    """What came in place of a result: a name for it, and a sentence for the learner."""

    name: str
    sentence: str


class Unfit(Exception):
    """Raised by a driver when what came back cannot be judged: Unfit(name, sentence)."""


class TooLong(BaseException):
    """Raised in a learner's function that runs for too long.

    It is no Exception, so that an `except Exception` of the learner's lets it through.
    """


def respond(
    driver: Callable[..., Arrays],
    function: Callable,
    signature: str,
    arguments: tuple[str, ...],
    inputs: Arrays,
    without: tuple[Without, ...] = (),
) -> Arrays | Complaint:
    """What a function gives back for one input, or the complaint that stands for what it raised or used.

    Random numbers start the same on every call: see own_random_numbers_kept.
    """
    met: list[str] = []
    answer = respond_freely(driver, watched(function, without, met), function, signature, arguments, inputs)
    used = pries(function) or found_in(function, without) or next(iter(met), None)
    stub = isinstance(answer, Complaint) and answer.name == "stub"
    return Complaint("shortcut", used) if used and not stub else answer


def respond_freely(
    driver: Callable[..., Arrays],
    called: Callable,
    function: Callable,
    signature: str,
    arguments: tuple[str, ...],
    inputs: Arrays,
    seconds: float | None = None,
) -> Arrays | Complaint:
    """As respond, for what may use anything; `called` stands for function, which errors are told of.

    seconds: SECONDS unless said; infinite where somebody else looks at the clock.
    """
    seconds = SECONDS if seconds is None else seconds
    too_long = (f"It had not come to an end after {seconds:g} seconds, and was stopped. "
                "Does a loop in it ever end?")
    try:
        torch.random.default_generator.manual_seed(0)
        np.random.seed(0)
        random.seed(0)
        with torch.enable_grad(), time_limit(seconds, too_long):
            return driver(called, arguments, inputs)
    except Unfit as unfit:
        return Complaint(*unfit.args)
    except NotImplementedError as error:
        if error.args in ((), ("your turn",)):  # PyTorch raises this kind too, with other words
            return Complaint("stub", "not written yet. "
                             "Put your code in the place of the line that raises NotImplementedError.")
        return Complaint("raised", describe(error, function, signature))
    except TooLong as error:
        return Complaint("endless", describe(error, function, signature))
    except (Exception, SystemExit) as error:
        return Complaint("raised", describe(error, function, signature))


def call(function: Callable, arguments: tuple[str, ...], inputs: Arrays,
         read: Callable | None = None) -> Arrays:
    """The driver of most exercises: tensors in, one tensor out, and the inputs as they are after the call."""
    given = {name: torch.from_numpy(inputs[name].copy()) for name in arguments}
    result = (read or as_array)(function(*given.values()))
    return {"result": result, **{f"after_{name}": tensor.detach().numpy() for name, tensor in given.items()}}


def call_for_verdict(function: Callable, arguments: tuple[str, ...], inputs: Arrays) -> Arrays:
    """As `call`, for a function that says True or False."""
    return call(function, arguments, inputs, as_verdict)


def call_by_hand(function: Callable, arguments: tuple[str, ...], inputs: Arrays) -> Arrays:
    """As `call`, with autograd switched off: for what is to be derived by hand."""
    with torch.no_grad():
        try:
            return call(function, arguments, inputs)
        except RuntimeError as error:
            if "does not require grad" in str(error):
                raise Unfit("autograd",
                            "It asks autograd for the gradient. "
                            "This one is by hand, and runs with autograd off.") from None
            raise


def follow_gradient(function: Callable, arguments: tuple[str, ...], inputs: Arrays) -> Arrays:
    """The driver of a surrogate: the gradient of the number that it returns.

    `result` is that gradient in logprobs (B, T). Where the input `slope` is not 0, coefficient is computed
    from logprobs, and `through_F` is the gradient in it: (B,), or (1,) where none flows.
    """
    theta = torch.from_numpy(inputs["logprobs"].copy()).requires_grad_()
    logprobs = theta * 1                                             # as a model gives them: not a leaf
    response_mask = torch.from_numpy(inputs["response_mask"].copy())
    coefficient = torch.from_numpy(inputs["coefficient"].copy())
    if inputs["slope"].any():                                        # the same numbers, now with a gradient
        answer = theta.where(response_mask, 0.0).sum(1)
        coefficient = coefficient + torch.from_numpy(inputs["slope"]) * (answer - answer.detach())
    value = function(coefficient, logprobs, response_mask)
    expect_number_with_gradient(value)
    sources = [theta, coefficient] if coefficient.requires_grad else [theta]
    try:
        gradient, *through_F = torch.autograd.grad(value, sources, allow_unused=True)
    except RuntimeError as error:
        if "second time" in str(error):
            raise Unfit("backward called",
                        "It calls backward() itself. Return the number; "
                        "whoever calls it takes the gradient.") from None
        raise
    if gradient is None:
        raise Unfit("no gradient",
                    "The number that it returns does not depend on "
                    "logprobs, so nothing could be learned from it.")
    flows = bool(through_F) and through_F[0] is not None
    return {
        "result": as_array(gradient),
        "through_F": as_array(through_F[0]) if flows else np.zeros(1),
        "after_coefficient": coefficient.detach().numpy(),
        "after_logprobs": logprobs.detach().numpy(),
        "after_response_mask": response_mask.detach().numpy(),
    }


def expect_number_with_gradient(value: object) -> None:
    """Unfit unless value is a finite number, of shape (), that carries a gradient."""
    number = as_array(value)
    if not isinstance(value, Tensor) or not value.requires_grad:
        raise Unfit("no gradient",
                    "The number that it returns carries no gradient, so nothing could be "
                    "learned from it. detach(), item(), no_grad() and torch.tensor() cut the "
                    "graph: keep logprobs out of them.")
    if value.shape != ():
        raise Unfit("shape",
                    f"It returns shape {tuple(value.shape)}; "
                    "wanted is a single number, of shape ().")
    if not np.isfinite(number):
        raise Unfit("not finite",
                    "The number that it returns is NaN or infinite. What is left out should count as 0.")


def as_array(result: object) -> np.ndarray:
    """A plain array of a result, or Unfit. Subclasses and their operators are left behind."""
    if result is None:
        raise Unfit("None", "It returns None. Does it end with a `return`?")
    if isinstance(result, Tensor):
        if result.dtype in (torch.float16, torch.bfloat16):
            raise Unfit("dtype",
                        f"It returns {str(result.dtype).removeprefix('torch.')}, which keeps two or "
                        "three digits: compute in float32.")
        try:
            result = result.detach().cpu().resolve_conj().resolve_neg().numpy()
        except (RuntimeError, TypeError, AttributeError):
            raise Unfit("type",
                        "It returns a tensor of a kind that cannot be read "
                        "as plain numbers: return a dense tensor.") from None
    if not isinstance(result, np.ndarray) or result.dtype.kind not in "biuf":
        kind = f"an array of {result.dtype}" if isinstance(result, np.ndarray) else a(type(result).__name__)
        raise Unfit("type", f"It returns {kind}; wanted is a tensor of numbers.")
    return np.array(result)


def tell(function: Callable, code: Callable) -> Arrays:
    """The driver of a learner's test: what it says of planted code."""
    try:
        return {"result": as_verdict(function(code))}
    except AssertionError:
        raise Unfit("raised", "It raises AssertionError. A test that finds wrong code returns False: "
                              "write a `return` in the place of the `assert`.") from None


def as_verdict(verdict: object) -> np.ndarray:
    """What a learner's test says, True or False, as a bool array of shape (); Unfit for anything else."""
    if verdict is None:
        raise Unfit("None", "It returns None. Does it end with a `return`?")
    if isinstance(verdict, Tensor | np.ndarray):
        said = as_array(verdict)
        if said.dtype != bool or said.size != 1:
            raise Unfit("type",
                        f"It returns a tensor of {verdict.dtype} and shape "
                        f"{tuple(said.shape)}; wanted is True or False.")
        return said.reshape(())
    if not isinstance(verdict, bool | np.bool_):
        raise Unfit("type", f"It returns {a(type(verdict).__name__)}; wanted is True or False.")
    return np.array(bool(verdict))


@contextmanager
def own_random_numbers_kept() -> Iterator[None]:
    """Afterwards, the learner's own random numbers go on where they stood."""
    torch_state, numpy_state, python_state = torch.get_rng_state(), np.random.get_state(), random.getstate()
    try:
        yield
    finally:
        torch.set_rng_state(torch_state)
        np.random.set_state(numpy_state)
        random.setstate(python_state)


@contextmanager
def time_limit(seconds: float, said: str) -> Iterator[None]:
    """Raise TooLong(said) after so many seconds.

    Where the system has no such clock, and in other threads than the main one, there is no limit.
    """
    has_clock = hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread()
    if not has_clock or seconds == float("inf"):
        yield
        return

    def stop(*_):
        raise TooLong(said)

    before = signal.signal(signal.SIGALRM, stop)
    # again each second: a bare `except` may catch the first
    left = signal.setitimer(signal.ITIMER_REAL, seconds, 1)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before or signal.SIG_DFL)
        # whoever had set one, a test runner say, has it back
        signal.setitimer(signal.ITIMER_REAL, *left)


def describe(error: BaseException, function: Callable, signature: str) -> str:
    """What was raised and in which line of the learner's own code."""
    said = " ".join(str(error).split())
    said = said if len(said) <= 300 else said[:300] + " …"
    text = f"It raises {type(error).__name__}" + (f": {said}" if said else "")
    text = said if isinstance(error, TooLong) else text
    code = getattr(inspect.unwrap(function), "__code__", None)
    numbers = [number for frame, number in traceback.walk_tb(error.__traceback__)
               if code and frame.f_code.co_filename == code.co_filename]
    if numbers:
        line = linecache.getline(code.co_filename, numbers[-1]).strip()
        text += f"\nat line {numbers[-1]}:\n    {line}" if line else ""
    return f"{text}\nIt is called as {signature}."


def a(noun: str) -> str:
    """The noun with its article: an int, a tuple."""
    return f"{'an' if noun[0].lower() in 'aeiou' else 'a'} {noun}"
