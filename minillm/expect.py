"""Argument checks: an error names the argument, its value and the remedy. It leaves out type conversion: nothing is mended in silence."""

from __future__ import annotations

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
    expect(isinstance(tensor, torch.Tensor), argument, type(tensor).__name__, f"give a torch tensor of shape {wanted}")
    expect(tensor.ndim == len(letters), argument, f"of shape {tuple(tensor.shape)}", f"give shape {wanted}")
    expect(KINDS[kind](tensor), argument, f"of dtype {tensor.dtype}", f"give a {kind} tensor")
    expect(tensor.numel() > 0, argument, f"empty, of shape {tuple(tensor.shape)}", "give at least one row and one token")
    for letter, size in zip(letters, tensor.shape):
        if letter in sizes:
            expect(size == sizes[letter], argument, f"of shape {tuple(tensor.shape)}",
                   f"its {letter} must be {sizes[letter]}, as in the other arguments")


def expect_finite(argument: str, tensor: torch.Tensor) -> None:
    """Raise ValueError where a value is NaN or infinite, naming the first place."""
    if not torch.isfinite(tensor).all():
        place = tuple((~torch.isfinite(tensor)).nonzero()[0].tolist())
        raise ValueError(f"{argument}{list(place)} is {tensor[place].item()}: find what made it non-finite before you use it")


def expect_numbers(argument: str, tensor: torch.Tensor) -> None:
    """Raise ValueError where a value is NaN, naming the first place. −inf, the log of 0, may stand."""
    expect_finite(argument, tensor.where(~tensor.isinf(), 0.0))


def expect_some_response(response_mask: torch.Tensor) -> None:
    """Raise ValueError for a row in which no token is True: it would count in the mean and teach nothing."""
    empty = (~response_mask.any(dim=1)).nonzero().flatten()
    if len(empty):
        raise ValueError(f"response_mask[{empty[0].item()}] is False everywhere: drop rows that hold no response token")
