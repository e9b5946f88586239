"""log p(y|x) written right in five ways and wrong in nine: what the exercise find-the-bug puts before a learner's test.

Each takes logits (B, T, V), tokens (B, T), response_mask (B, T) and gives (B,); logits[b, t] predict tokens[b, t + 1]. Several of
the wrong ones have shipped in well-known libraries. It leaves out the test that tells them apart: that is the exercise.
A grader of strangers' code keeps this module away from them, and lets their answer_logprob ask for each result from outside.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from minillm.expect import expect, expect_some_response, expect_tensor

from .driver import Unfit, a, as_array


def handed_out(inside: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """The function as the learner's test gets it: the same name, signature and argument checks, whatever is inside."""

    def answer_logprob(logits: Tensor, tokens: Tensor, response_mask: Tensor) -> Tensor:
        """log p(y|x) of each row, (B,): so it claims."""
        expect_tensor("tokens", tokens, "B T", "integer")
        B, T = tokens.shape
        expect_tensor("logits", logits, "B T V", "float", B=B, T=T)
        expect_tensor("response_mask", response_mask, "B T", "bool", B=B, T=T)
        expect_some_response(response_mask)
        expect(not response_mask[:, 0].any(), "response_mask[:, 0]", "True", "the first token has no context: begin x with a token")
        low, high, V = int(tokens.min()), int(tokens.max()), logits.shape[-1]
        expect(0 <= low and high < V, "tokens", f"from {low} to {high}", f"ids run from 0 to {V - 1}")
        return inside(logits, tokens.long(), response_mask)

    return answer_logprob


def each_token(logits: Tensor, tokens: Tensor) -> Tensor:
    """log p of tokens 1, 2, …, each from the logits before it: (B, T, V), (B, T) -> (B, T − 1)."""
    return logits.log_softmax(-1)[:, :-1].gather(-1, tokens[:, 1:, None])[..., 0]


def total(logprobs: Tensor, mask: Tensor) -> Tensor:
    """The sum of each row where the mask is True: (B, T), (B, T) -> (B,)."""
    return logprobs.where(mask, 0.0).sum(1)


# right code


def vectorised(logits, tokens, response_mask):
    """log p of every token, summed over those of y: (B,)."""
    return total(each_token(logits, tokens), response_mask[:, 1:])


def by_logsumexp(logits, tokens, response_mask):
    """Each chosen logit minus the logsumexp of all, summed over y: (B,)."""
    chosen = logits[:, :-1].gather(-1, tokens[:, 1:, None])[..., 0] - logits[:, :-1].logsumexp(-1)
    return total(chosen, response_mask[:, 1:])


def in_a_loop(logits, tokens, response_mask):
    """The log of one probability after another, row by row: (B,)."""
    p = logits.softmax(-1)
    rows = [sum(p[b, t - 1, tokens[b, t]].log() for t in response_mask[b].nonzero()[:, 0].tolist()) for b in range(len(tokens))]
    return torch.stack(rows)


def in_float64(logits, tokens, response_mask):
    """vectorised in float64, rounded at the end: (B,)."""
    return vectorised(logits.double(), tokens, response_mask).to(logits.dtype)


def by_cross_entropy(logits, tokens, response_mask):
    """Minus PyTorch's cross-entropy, with what is not y left out: (B,)."""
    targets = tokens.masked_fill(~response_mask, -100)[:, 1:]  # cross_entropy leaves out −100
    return -torch.nn.functional.cross_entropy(logits[:, :-1].transpose(1, 2), targets, ignore_index=-100, reduction="none").sum(1)


RIGHT = (vectorised, by_logsumexp, in_a_loop, in_float64, by_cross_entropy)


# wrong code


def end_dropped(logits, tokens, response_mask):
    """Without the last token of y: (B,)."""
    following = torch.nn.functional.pad(response_mask[:, 1:], (0, 1))
    return vectorised(logits, tokens, response_mask & following)


def cut_at_the_wrong_end(logits, tokens, response_mask):
    """The mask loses its last place where it should lose its first: (B,)."""
    return total(each_token(logits, tokens), response_mask[:, :-1])


def one_too_early(logits, tokens, response_mask):
    """The mask lies one place too early: (B,)."""
    return total(each_token(logits, tokens)[:, :-1], response_mask[:, 2:])


def same_position(logits, tokens, response_mask):
    """tokens[b, t] is scored by logits[b, t]: (B,)."""
    return total(logits.log_softmax(-1).gather(-1, tokens[..., None])[..., 0], response_mask)


def mean_for_sum(logits, tokens, response_mask):
    """The mean over y's tokens: (B,)."""
    return vectorised(logits, tokens, response_mask) / response_mask.sum(1)


def prompt_scored(logits, tokens, response_mask):
    """The mask begins at the start of the row: (B,)."""
    to_the_end_of_y = response_mask.flip(1).cumsum(1).flip(1) > 0
    return vectorised(logits, tokens, to_the_end_of_y)


def padding_scored(logits, tokens, response_mask):
    """The mask goes on to the end of the row: (B,)."""
    return vectorised(logits, tokens, response_mask.cumsum(1) > 0)


def unnormalised(logits, tokens, response_mask):
    """The sum of y's logits: (B,)."""
    return total(logits[:, :-1].gather(-1, tokens[:, 1:, None])[..., 0], response_mask[:, 1:])


def temperature_left_in(logits, tokens, response_mask):
    """vectorised at temperature 0.7: (B,)."""
    return vectorised(logits / 0.7, tokens, response_mask)


# (what is wrong, on what it shows, the code)
WRONG = (
    ("the end token of each answer is left out", "any policy, once every y is listed", end_dropped),
    ("the first token of y is left out, and the place after its last is scored", "any policy, once every y is listed", cut_at_the_wrong_end),
    ("the prompt's last token is scored and the last of y is not, the mask lying one place too early",
     "any policy that is not uniform, once every y is listed", one_too_early),
    ("each token is scored by the logits at its own place, not by those before it", "logits that depend on the token they stand at",
     same_position),
    ("the mean over tokens stands for their sum", "answers of two tokens or more", mean_for_sum),
    ("the prompt's tokens are scored too", "a prompt of two tokens or more, since its first is never scored", prompt_scored),
    ("padding is scored too", "answers of unequal length in one batch", padding_scored),
    ("logits stand for log-probabilities", "logits that are not normalised already", unnormalised),
    ("the logits are divided by 0.7 first, the temperature of some sampler", "one answer whose probability you know by other means",
     temperature_left_in),
)

CODES = (*RIGHT, *(code for _, _, code in WRONG))


def put_to_the_test(function, arguments, inputs):
    """A driver: what the learner's test says of code number `which`, which comes under the same name each time."""
    return read_verdict(function(handed_out(CODES[int(inputs["which"])])))


def read_verdict(verdict) -> dict[str, np.ndarray]:
    """What a learner's test says, True or False, as an array; Unfit for anything else."""
    if verdict is None:
        raise Unfit("None", "It returns None. Does it end with a `return`?")
    if isinstance(verdict, Tensor | np.ndarray):
        said = as_array(verdict)
        if said.dtype != bool or said.size != 1:
            raise Unfit("type", f"It returns a tensor of {verdict.dtype} and shape {tuple(said.shape)}; wanted is True or False.")
        return {"result": said.reshape(())}
    if not isinstance(verdict, bool | np.bool_):
        raise Unfit("type", f"It returns {a(type(verdict).__name__)}; wanted is True or False.")
    return {"result": np.array(bool(verdict))}
