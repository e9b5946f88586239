"""Argument checks: an error names the argument, its value and the remedy. It leaves out type conversion:
nothing is mended in silence."""

from __future__ import annotations

import math
import os
from pathlib import Path

import torch

KINDS = {
    "float": lambda t: t.is_floating_point(),
    "integer": lambda t: t.dtype in (torch.int64, torch.int32),
    "bool": lambda t: t.dtype == torch.bool,
}


def expect(ok: bool, argument: str, value, remedy: str) -> None:
    """Raise ValueError("argument is value: remedy") unless ok."""
    if not ok:
        raise ValueError(f"{argument} is {value}: {remedy}")


def expect_tensor(argument: str, tensor, shape: str, kind: str, **sizes: int) -> None:
    """Hold a tensor to a shape in letters ("B T") and a kind; `sizes` fixes letters: B=4.

    Raises ValueError for a wrong type, rank, kind or size, and for an empty tensor.
    """
    letters = shape.split()
    wanted = "(" + ", ".join(letters) + ")"
    expect(isinstance(tensor, torch.Tensor), argument, type(tensor).__name__,
           f"give a torch tensor of shape {wanted}")
    expect(tensor.ndim == len(letters), argument, f"of shape {tuple(tensor.shape)}", f"give shape {wanted}")
    expect(KINDS[kind](tensor), argument, f"of dtype {tensor.dtype}", f"give a {kind} tensor")
    expect(tensor.numel() > 0, argument, f"empty, of shape {tuple(tensor.shape)}",
           "give at least one row and one token")
    for letter, size in zip(letters, tensor.shape):
        if letter in sizes:
            expect(size == sizes[letter], argument, f"of shape {tuple(tensor.shape)}",
                   f"its {letter} must be {sizes[letter]}, as in the other arguments")


def expect_finite(argument: str, tensor: torch.Tensor) -> None:
    """Raise ValueError where a value is NaN or infinite, naming the first place."""
    if not torch.isfinite(tensor).all():
        place = tuple((~torch.isfinite(tensor)).nonzero()[0].tolist())
        remedy = "find what made it non-finite before you use it"
        raise ValueError(f"{argument}{list(place)} is {tensor[place].item()}: {remedy}")


def expect_numbers(argument: str, tensor: torch.Tensor) -> None:
    """Raise ValueError where a value is NaN, naming the first place. −inf, the log of 0, may stand."""
    expect_finite(argument, tensor.where(~tensor.isinf(), 0.0))


def expect_some_response(response_mask: torch.Tensor) -> None:
    """Raise ValueError for a row in which no token is True: it would count in the mean and teach nothing."""
    empty = (~response_mask.any(dim=1)).nonzero().flatten()
    if len(empty):
        remedy = "drop rows that hold no response token"
        raise ValueError(f"response_mask[{empty[0].item()}] is False everywhere: {remedy}")


def expect_aligned(response_mask: torch.Tensor, **tensors: torch.Tensor) -> tuple[int, int]:
    """Hold named float tensors to the shape (B, T) of response_mask, which must have a True in each row;
    returns B and T."""
    expect_tensor("response_mask", response_mask, "B T", "bool")
    expect_some_response(response_mask)
    B, T = response_mask.shape
    for name, tensor in tensors.items():
        expect_tensor(name, tensor, "B T", "float", B=B, T=T)
    return B, T


WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", dict: "an object"}
ABSENT = object()


def expect_field(written: dict, key: str, kind, default=ABSENT, low: float = -math.inf,
                 high: float = math.inf, place: str = ""):
    """What an object of a JSON file says under a key, held to a kind and, a number, to low ≤ it ≤ high.

    kind: int, float (a whole number is one too), bool, str or dict; [kind] for a list of them, each held to
    the same. JSON's true is no number, and "true" is no bool. default: stands for a key that is missing or
    null; without one the key must be there. place: the file, for the message.
    Raises ValueError that names file, key, value and what to give.
    """
    value = written.get(key)
    if value is None and default is not ABSENT:
        return default
    several = isinstance(kind, list)
    one = kind[0] if several else kind
    items = value if several and isinstance(value, list) else [value]
    right = isinstance(value, list) == several and all(_is(item, one, low, high) for item in items)
    wanted = ("a list, each " if several else "") + WORDS[one]
    wanted += f" from {low:.10g}" if low > -math.inf else ""
    wanted += f" to {high:.10g}" if high < math.inf else ""
    there = "missing" if value is None else _short(value)
    expect(right, f"{place}: {key}" if place else key, there, f"give {wanted}")
    return value


def _is(value, kind: type, low: float, high: float) -> bool:
    if kind not in (int, float):
        return isinstance(value, kind)
    number = isinstance(value, (int, float) if kind is float else int) and not isinstance(value, bool)
    return number and low <= value <= high  # NaN is in no range


def _short(value) -> str:
    """A value as Python writes it, cut where it would fill a screen."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def expect_folder(folder: str | os.PathLike) -> Path:
    """The path of a folder. "" is refused: it would be the folder that one happens to stand in."""
    named = isinstance(folder, (str, os.PathLike)) and os.fspath(folder) != ""
    expect(named, "folder", repr(folder), 'name a folder; "." is the one you are in')
    return Path(folder)
