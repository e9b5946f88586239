"""Causal attention written right in five ways and wrong in ten: what the exercise find-the-leak puts before a learner's test.

Each takes q (B, H, T, E) and k, v (B, H, S, E), the queries being those of the last T of S tokens, and gives (B, H, T, E). It leaves out
the test that tells them apart: that is the exercise. A grader of strangers' code keeps this module away from them.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from minillm.expect import expect, expect_tensor

from .planted import read_verdict


def handed_out(inside: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """The function as the learner's test gets it: the same name, signature and argument checks, whatever is inside."""

    def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """What each of the last T places gets from the S places, (B, H, T, E): so it claims."""
        expect_tensor("q", q, "B H T E", "float")
        B, H, T, E = q.shape
        expect_tensor("k", k, "B H S E", "float", B=B, H=H, E=E)
        S = k.shape[2]
        expect_tensor("v", v, "B H S E", "float", B=B, H=H, S=S, E=E)
        expect(S >= T, "k", f"of {S} places", f"there are {T} queries: each is one of the S places")
        return inside(q, k, v)

    return attention


def past(q: Tensor, k: Tensor, later: int = 0) -> Tensor:
    """(T, S), True where place s is not after the query's own place, S − T + t, moved on by `later`."""
    T, S = q.shape[2], k.shape[2]
    return torch.ones(T, S, dtype=torch.bool).tril(S - T + later)


def scores(q: Tensor, k: Tensor) -> Tensor:
    """q·k / √E: (B, H, T, S)."""
    return torch.einsum("bhte,bhse->bhts", q, k) / math.sqrt(q.shape[-1])


def mixed(score: Tensor, v: Tensor) -> Tensor:
    """Values weighed by the softmax of their scores: (B, H, T, S), (B, H, S, E) -> (B, H, T, E)."""
    return torch.einsum("bhts,bhse->bhte", score.softmax(-1), v)


# right code


def by_einsum(q, k, v):
    """Scores, −∞ on the future, softmax, mix: (B, H, T, E)."""
    return mixed(scores(q, k).masked_fill(~past(q, k), -torch.inf), v)


def fused(q, k, v):
    """PyTorch's own, with the mask given: (B, H, T, E)."""
    return F.scaled_dot_product_attention(q, k, v, attn_mask=past(q, k))


def place_by_place(q, k, v):
    """One query after another, each with the keys up to its own place and no mask at all: (B, H, T, E)."""
    first = k.shape[2] - q.shape[2]
    return torch.cat([mixed(scores(q[:, :, t:t + 1], k[:, :, :first + t + 1]), v[:, :, :first + t + 1]) for t in range(q.shape[2])], dim=2)


def in_float64(q, k, v):
    """by_einsum in float64, rounded at the end: (B, H, T, E)."""
    return by_einsum(q.double(), k.double(), v.double()).to(q.dtype)


def by_an_added_mask(q, k, v):
    """A large negative number is added to the future's scores: (B, H, T, E)."""
    return mixed(scores(q, k) + torch.where(past(q, k), 0.0, -1e9), v)


RIGHT = (by_einsum, fused, place_by_place, in_float64, by_an_added_mask)
WRITTEN = ("with einsum, −∞ and softmax", "with PyTorch's scaled_dot_product_attention", "one query after another, without a mask",
           "in float64 and rounded at the end", "with −1e9 added to the future's scores")  # how each of RIGHT is


# wrong code


def one_too_late(q, k, v):
    """Each place sees the one after it: (B, H, T, E)."""
    return mixed(scores(q, k).masked_fill(~past(q, k, 1), -torch.inf), v)


def turned_over(q, k, v):
    """Each place sees itself and what comes after: (B, H, T, E)."""
    T, S = q.shape[2], k.shape[2]
    return mixed(scores(q, k).masked_fill(torch.ones(T, S, dtype=torch.bool).tril(S - T - 1), -torch.inf), v)


def from_the_top_left(q, k, v):
    """Query t sees keys 0 to t, as if it were the first T places that ask: (B, H, T, E)."""
    T, S = q.shape[2], k.shape[2]
    return mixed(scores(q, k).masked_fill(~torch.ones(T, S, dtype=torch.bool).tril(), -torch.inf), v)


def after_the_softmax(q, k, v):
    """The weights of the future are set to 0 after the softmax: (B, H, T, E)."""
    return torch.einsum("bhts,bhse->bhte", scores(q, k).softmax(-1) * past(q, k), v)


def zero_for_minus_infinity(q, k, v):
    """The scores of the future are set to 0: (B, H, T, E)."""
    return mixed(scores(q, k) * past(q, k), v)


def lowered_by_ten(q, k, v):
    """The scores of the future are lowered by 10: (B, H, T, E)."""
    return mixed(scores(q, k) - 10.0 * ~past(q, k), v)


def first_row_only(q, k, v):
    """Only the first row of the batch has a mask: (B, H, T, E)."""
    return torch.cat([by_einsum(q[:1], k[:1], v[:1]), mixed(scores(q, k), v)[1:]])


def without_itself(q, k, v):
    """Each place sees what came before it, and not itself; a first place, which has nothing before it, does: (B, H, T, E)."""
    seen = past(q, k, -1)
    seen[:, 0] = True
    return mixed(scores(q, k).masked_fill(~seen, -torch.inf), v)


def near_ones_only(q, k, v):
    """Each place sees itself and the two before it: (B, H, T, E)."""
    return mixed(scores(q, k).masked_fill(~past(q, k) | past(q, k, -3), -torch.inf), v)


def without_the_root(q, k, v):
    """The scores are not divided by √E: (B, H, T, E)."""
    return by_einsum(q * math.sqrt(q.shape[-1]), k, v)


# (what is wrong, on what it shows, the code). The last four let nothing of the future through.
WRONG = (
    ("each place sees the place after it too", "any text of two tokens or more", one_too_late),
    ("each place sees itself and what follows, not what came before", "any text of two tokens or more", turned_over),
    ("the weights of the future are set to 0 after the softmax, and the rest no longer sum to one", "keys of the future that change, "
     "or values that are all alike", after_the_softmax),
    ("the scores of the future are set to 0, whose exp is 1", "any text of two tokens or more", zero_for_minus_infinity),
    ("the scores of the future are lowered, and not by enough", "a key of the future that has a very large score", lowered_by_ten),
    ("only the first row of the batch is masked", "a batch of two", first_row_only),
    ("the mask begins at the first key though the queries are those of the last places", "more keys than queries, as with a cache",
     from_the_top_left),
    ("a place does not see itself", "a value that changes where a query stands", without_itself),
    ("a place sees only itself and the two before it", "a text of four tokens or more", near_ones_only),
    ("the scores are not divided by the root of E", "one weight that you know by hand, with E above 1", without_the_root),
)
HARMLESS = 4  # so many of them, at the end, let nothing of the future through

CODES = (*RIGHT, *(code for _, _, code in WRONG))


def put_to_the_test(function, arguments, inputs):
    """A driver: what the learner's test says of code number `which`, which comes under the same name each time."""
    return read_verdict(function(handed_out(CODES[int(inputs["which"])])))
