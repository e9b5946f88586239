"""GAE and then whitening, right in five ways and wrong in twelve: what the exercise find-the-advantage puts before a learner's test.

Several of the wrong ones have shipped in well-known libraries. It leaves out the test that tells them apart: that is the exercise.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from minillm import returns
from minillm.expect import expect

from .planted import read_verdict
from .planted_paid import expect_places


def handed_out(inside: Callable) -> Callable:
    """The function as the learner's test gets it: the same name, signature and argument checks, whatever is inside."""

    def advantages(rewards: Tensor, values: Tensor, response_mask: Tensor, lam: float) -> Tensor:
        """GAE with γ = 1 and λ = lam, then mean 0 and variance 1 over all response tokens; (B, T), 0 off the response: so it claims."""
        expect_places(response_mask, rewards=rewards, values=values)
        expect(0 <= lam <= 1, "lam", lam, "give a number from 0 to 1")
        expect(int(response_mask.sum()) > 1, "response_mask", "True on one token alone", "give two or more: one has no spread")
        return inside(rewards, values, response_mask, float(lam))

    return advantages


def walk(rewards: Tensor, values: Tensor, mask: Tensor, lam: float, beyond: bool = False) -> Tensor:
    """GAE with γ = 1, token by token from behind. beyond: after the last token V is read from the next column."""
    out = torch.zeros_like(values)
    for b, row in enumerate(mask):
        places, ahead = row.nonzero()[:, 0].tolist(), 0.0
        after = values[b, places[-1] + 1] if beyond and places[-1] + 1 < len(row) else 0.0
        for t in reversed(places):
            ahead = rewards[b, t] + after - values[b, t] + lam * ahead
            out[b, t], after = ahead, values[b, t]
    return out


def white(A: Tensor, mask: Tensor) -> Tensor:
    """Mean 0, variance 1 where the mask is True, 0 elsewhere."""
    inside = A[mask]
    return torch.where(mask, (A - inside.mean()) / inside.std(correction=0).clamp(min=1e-8), 0.0)


def packages(rewards, values, mask, lam):
    """minillm's own."""
    return returns.whiten(returns.gae(rewards, values, mask, 1.0, lam), mask)


def by_walking(rewards, values, mask, lam):
    """One token after another."""
    return white(walk(rewards, values, mask, lam), mask)


def in_float64(rewards, values, mask, lam):
    """by_walking in float64, rounded at the end."""
    return by_walking(rewards.double(), values.double(), mask, lam).to(values.dtype)


def by_its_sum(rewards, values, mask, lam):
    """Σ_l λ^l δ_{t+l}, each answer taken out of its row first."""
    out = torch.zeros_like(values)
    for b, row in enumerate(mask):
        r, V = rewards[b, row], values[b, row]
        delta = r + torch.cat([V[1:], V.new_zeros(1)]) - V
        n = torch.arange(len(V))
        power = torch.where(n >= n[:, None], torch.tensor(lam, dtype=V.dtype) ** (n - n[:, None]).clamp(min=0), 0.0)
        out[b, row] = power @ delta
    return white(out, mask)


def unbiased(rewards, values, mask, lam):
    """The same, with the variance taken by hand."""
    A = walk(rewards, values, mask, lam)
    n = mask.sum()
    mean = A.where(mask, 0.0).sum() / n
    return torch.where(mask, (A - mean) * ((A - mean).square().where(mask, 0.0).sum() / n).rsqrt(), 0.0)


RIGHT = (packages, by_walking, in_float64, by_its_sum, unbiased)


def mean_added_back(rewards, values, mask, lam):
    """(A − mean)/std + mean."""
    A = walk(rewards, values, mask, lam)
    return torch.where(mask, white(A, mask) + A[mask].mean(), 0.0)


def divided_alone(rewards, values, mask, lam):
    """A/std."""
    A = walk(rewards, values, mask, lam)
    return torch.where(mask, A / A[mask].std(correction=0), 0.0)


def by_the_variance(rewards, values, mask, lam):
    """(A − mean)/variance."""
    A = walk(rewards, values, mask, lam)
    return torch.where(mask, (A - A[mask].mean()) / A[mask].var(correction=0), 0.0)


def white_with_the_padding(rewards, values, mask, lam):
    """Mean and spread over every place."""
    A = walk(rewards, values, mask, lam)
    return torch.where(mask, (A - A.mean()) / A.std(correction=0), 0.0)


def not_white(rewards, values, mask, lam):
    """A."""
    return walk(rewards, values, mask, lam)


def white_row_by_row(rewards, values, mask, lam):
    """Mean and spread of each row."""
    A = walk(rewards, values, mask, lam)
    return torch.cat([white(a[None], m[None]) for a, m in zip(A, mask)])


def beyond_the_end(rewards, values, mask, lam):
    """V after the last token is what stands there."""
    return white(walk(rewards, values, mask, lam, beyond=True), mask)


def into_the_next_answer(rewards, values, mask, lam):
    """All answers as one long one."""
    out = torch.zeros_like(values)
    one = torch.ones(1, int(mask.sum()), dtype=torch.bool)
    out[mask] = walk(rewards[mask][None], values[mask][None], one, lam)[0]
    return white(out, mask)


def lambda_forgotten(rewards, values, mask, lam):
    """λ = 1."""
    return white(walk(rewards, values, mask, 1.0), mask)


def one_token_late(rewards, values, mask, lam):
    """V of the text with token t in it."""
    later = torch.where(mask.roll(-1, 1), values.roll(-1, 1), 0.0)
    return white(walk(rewards, later, mask, lam), mask)


def values_not_taken_off(rewards, values, mask, lam):
    """V = 0."""
    return white(walk(rewards, torch.zeros_like(values), mask, lam), mask)


def off_the_response(rewards, values, mask, lam):
    """The white numbers everywhere."""
    A = walk(rewards, values, mask, lam)
    return (A - A[mask].mean()) / A[mask].std(correction=0)


# (what is wrong, on what it shows, the code). The first five have another mean or another spread.
WRONG = (
    ("the mean is added back after the division", "advantages whose mean is far from zero", mean_added_back),
    ("the standard deviation is divided out and the mean is left in", "advantages whose mean is far from zero", divided_alone),
    ("the variance is divided out where the standard deviation should be", "advantages whose spread is far from one", by_the_variance),
    ("the zeros of prompt and padding count in the mean and the spread", "any batch with a prompt or padding", white_with_the_padding),
    ("nothing is made white at all", "any batch", not_white),
    ("each answer is made white by itself, so that a good and a bad one come out alike", "two answers of which one did better on every token",
     white_row_by_row),
    ("the walk reads V behind the end of the answer, from the padding", "an answer shorter than its row, and a V that is not zero behind it",
     beyond_the_end),
    ("the walk runs on from the end of one answer into the next row", "two answers, the second one with a large V or reward", into_the_next_answer),
    ("λ is not used: the sum runs to the end undamped", "a λ below one, and a surprise late in the answer", lambda_forgotten),
    ("V is read one token late: of the text with this token in it", "values that differ from token to token", one_token_late),
    ("no V is taken off", "values that differ from token to token", values_not_taken_off),
    ("what stands off the response is not 0", "any batch with a prompt or padding, when all places are looked at", off_the_response),
)
WHITENING = 5  # so many at the beginning
CODES = (*RIGHT, *(code for _, _, code in WRONG))


def put_to_the_test(function, arguments, inputs):
    """A driver: what the learner's test says of code number `which`."""
    return read_verdict(function(handed_out(CODES[int(inputs["which"])])))
