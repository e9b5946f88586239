"""Bad input to every public function: a ValueError in one line that names the argument, its value and the
remedy. No silent wrong number.

The cases are one list a function; the last test holds that no public function is left out.
"""

from __future__ import annotations

import ast
import importlib
import math
import random
from pathlib import Path

import pytest
import torch

import minillm
from conftest import Tiny
from minillm import (
    expect,
    hub,
    identity,
    logprob,
    readable,
    returns,
    rope,
    sample,
    tokenizer,
    train,
    transformer,
)
from minillm.adapt import lora, quantize
from minillm.hub import adapters, families
from minillm.batch import Batch
from minillm.methods import (
    critic,
    dagger,
    distill,
    dpo,
    grpo,
    ipo,
    kto,
    ppo,
    reinforce,
    reward_model,
    self_training,
    supervised,
)
from minillm.tokenizer import Tokenizer
from minillm.worlds import own, questions, sums, town

NAN, INF = math.nan, math.inf
MODEL = Tiny(vocab_size=5)
BROKEN = Tiny(vocab_size=5)
with torch.no_grad():
    BROKEN.norm.weight[0] = NAN
WORDS = Tokenizer.train(["the cat sat"], 270)
TALKER = Tiny(vocab_size=WORDS.vocab_size, context=12)
RNG = random.Random(0)


def generator():
    return torch.Generator().manual_seed(0)


def f(*values):
    return torch.tensor(values, dtype=torch.float64)


def i(*values):
    return torch.tensor(values)


MASK = torch.tensor([[False, True, True], [False, True, False]])
NONE = torch.tensor([[False, True, True], [False, False, False]])
LOGP = f([0.0, -1.0, -2.0], [0.0, -3.0, 0.0])
LOGITS = torch.zeros(2, 3, 5, dtype=torch.float64)
TEACHER = -torch.ones(2, 6, dtype=torch.float64)
LOGP_NAN = f([0.0, NAN, -2.0], [0.0, -3.0, 0.0])
TOKENS = i([1, 2, 0], [1, 0, 0])
EVEN = f(0.5, 0.5).log().requires_grad_()
TWO = f([0.5, 0.5], [0.25, 0.75]).log().requires_grad_()
THETA = f(0.0, 0.0).requires_grad_()


def loop(coefficient=lambda batch, logp: torch.ones(2), model=None, **fields):
    """train for one step on a batch of these fields."""
    batch = Batch(**({"tokens": TOKENS, "response_mask": MASK} | fields))
    return train.train(
        model or Tiny(vocab_size=5), lambda step: batch, coefficient, train.Settings(1), progress=False
    )


def wide(value):
    map = torch.nn.Linear(2, 2)
    torch.nn.init.constant_(map.weight, value)
    return map


def a_sum():
    return sums.Sums(0).question("sum2", [12, 13])


# function -> [(what is wrong, the call, what the message must say: argument, value, remedy)]
CASES = {
    "expect.expect": [
        ("false", lambda: expect.expect(False, "size", 3, "give 4"), r"^size is 3: give 4$"),
    ],
    "expect.expect_field": [
        (
            "a word for a flag",
            lambda: expect.expect_field({"tied": "false"}, "tied", bool, place="c.json"),
            "c.json: tied is 'false': give true or false",
        ),
        (
            "true for a number",
            lambda: expect.expect_field({"n": True}, "n", int, low=1),
            "n is True: give a whole number from 1",
        ),
        (
            "too large",
            lambda: expect.expect_field({"n": 9}, "n", int, low=1, high=8),
            "n is 9: give a whole number from 1 to 8",
        ),
        ("NaN", lambda: expect.expect_field({"x": NAN}, "x", float, low=0), "x is nan: give a number from 0"),
        ("missing", lambda: expect.expect_field({}, "x", str), "x is missing: give a text"),
        (
            "one in place of several",
            lambda: expect.expect_field({"x": "q"}, "x", [str]),
            "x is 'q': give a list, each a text",
        ),
    ],
    "expect.expect_folder": [
        ("empty", lambda: expect.expect_folder(""), "folder is '': name a folder"),
        ("a number", lambda: expect.expect_folder(3), "folder is '3'|folder is 3"),
    ],
    "expect.expect_tensor": [
        (
            "no tensor",
            lambda: expect.expect_tensor("x", [1], "B", "float"),
            r"x is list: give a torch tensor of shape \(B\)",
        ),
        (
            "rank",
            lambda: expect.expect_tensor("x", f(1.0), "B T", "float"),
            r"x is of shape \(1,\): give shape \(B, T\)",
        ),
        (
            "dtype",
            lambda: expect.expect_tensor("x", i(1), "B", "float"),
            r"x is of dtype torch.int64: give a float tensor",
        ),
        (
            "bool for integer",
            lambda: expect.expect_tensor("x", torch.tensor([True]), "B", "integer"),
            "x is of dtype torch.bool: give a integer",
        ),
        (
            "size",
            lambda: expect.expect_tensor("x", f(1.0, 2.0), "B", "float", B=3),
            r"x is of shape \(2,\): its B must be 3",
        ),
        (
            "empty",
            lambda: expect.expect_tensor("x", torch.zeros(0), "B", "float"),
            r"x is empty, of shape \(0,\)",
        ),
    ],
    "expect.expect_finite": [
        ("NaN", lambda: expect.expect_finite("x", f([1.0, 2.0], [3.0, NAN])), r"^x\[1, 1\] is nan: find"),
        ("inf", lambda: expect.expect_finite("x", f(-INF)), r"x\[0\] is -inf"),
    ],
    "expect.expect_numbers": [
        ("NaN", lambda: expect.expect_numbers("x", f(-INF, NAN)), r"x\[1\] is nan"),
    ],
    "expect.expect_some_response": [
        (
            "an empty row",
            lambda: expect.expect_some_response(NONE),
            r"response_mask\[1\] is False everywhere: drop",
        ),
    ],
    "identity.surrogate": [
        (
            "rank of logprobs",
            lambda: identity.surrogate(f(1.0, 1.0), f(1.0, 1.0), MASK),
            r"logprobs is of shape \(2,\): give shape \(B, T\)",
        ),
        (
            "integer logprobs",
            lambda: identity.surrogate(f(1.0, 1.0), TOKENS, MASK),
            "logprobs is of dtype torch.int64",
        ),
        (
            "empty",
            lambda: identity.surrogate(torch.ones(0), torch.ones(0, 3), torch.ones(0, 3, dtype=torch.bool)),
            "logprobs is empty",
        ),
        (
            "shape of the mask",
            lambda: identity.surrogate(f(1.0, 1.0), LOGP, MASK[:, 1:]),
            r"response_mask is of shape \(2, 2\)",
        ),
        (
            "float mask",
            lambda: identity.surrogate(f(1.0, 1.0), LOGP, MASK.double()),
            "response_mask is of dtype torch.float64: give a bool",
        ),
        (
            "all-masked row",
            lambda: identity.surrogate(f(1.0, 1.0), LOGP, NONE),
            r"response_mask\[1\] is False everywhere",
        ),
        ("a float F", lambda: identity.surrogate(1.0, LOGP, MASK), "coefficient is float: give a tensor"),
        (
            "one F too many",
            lambda: identity.surrogate(f(1.0, 1.0, 1.0), LOGP, MASK),
            r"coefficient is of shape \(3,\)",
        ),
        (
            "F (1, T) that would broadcast",
            lambda: identity.surrogate(torch.ones(1, 3), LOGP, MASK),
            r"coefficient is of shape \(1, 3\)",
        ),
        (
            "F (B, 1) that would broadcast",
            lambda: identity.surrogate(torch.ones(2, 1), LOGP, MASK),
            r"coefficient is of shape \(2, 1\)",
        ),
        (
            "a bool F",
            lambda: identity.surrogate(torch.tensor([True, False]), LOGP, MASK),
            "coefficient is of dtype torch.bool: give a float",
        ),
        (
            "F with a graph",
            lambda: identity.surrogate(f(1.0, 1.0).requires_grad_(), LOGP, MASK),
            "coefficient is part of the graph: detach it",
        ),
        ("NaN F", lambda: identity.surrogate(f(1.0, NAN), LOGP, MASK), r"coefficient\[1, 1\] is nan"),
        ("infinite F", lambda: identity.surrogate(f(INF, 1.0), LOGP, MASK), r"coefficient\[0, 1\] is inf"),
        ("NaN log p", lambda: identity.surrogate(f(1.0, 1.0), LOGP_NAN, MASK), r"logprobs\[0, 1\] is nan"),
        (
            "no pairs",
            lambda: identity.surrogate(f(1.0, 1.0), LOGP, MASK, pairs=0),
            "pairs is 0: give how many",
        ),
    ],
    "identity.every_answer": [
        ("one token", lambda: identity.every_answer(1, 2), "vocab_size is 1: give at least 2"),
        ("a float", lambda: identity.every_answer(3.0, 2), "vocab_size is 3.0"),
        ("no length", lambda: identity.every_answer(3, 0), "longest is 0"),
        ("end outside", lambda: identity.every_answer(3, 2, 3), "end is 3: ids run from 0 to 2"),
        ("end between ids", lambda: identity.every_answer(3, 2, 0.5), "end is 0.5"),
        ("negative end", lambda: identity.every_answer(3, 2, -1), "end is -1"),
        (
            "too many",
            lambda: identity.every_answer(50, 9),
            r"vocab_size, longest is \(50, 9\): that lists .* take fewer",
        ),
    ],
    "identity.expectation": [
        ("no tensor", lambda: identity.expectation([0.5, 0.5], f(1.0, 1.0)), "logp is list"),
        ("integers", lambda: identity.expectation(i(0, 0), f(1.0, 1.0)), "logp is of dtype torch.int64"),
        (
            "a number",
            lambda: identity.expectation(torch.tensor(0.0), f(1.0)),
            r"logp is of dtype torch.float32 and shape \(\)",
        ),
        (
            "probabilities for their logs",
            lambda: identity.expectation(f(0.5, 0.5), f(1.0, 1.0)),
            "logp is a listing whose probabilities sum to .*list every answer once",
        ),
        ("a missing answer", lambda: identity.expectation(f(0.5, 0.4).log(), f(1.0, 1.0)), r"sum to \[0.9"),
        ("NaN", lambda: identity.expectation(f(0.0, NAN), f(1.0, 1.0)), r"sum to \[nan\]"),
        (
            "value of another size",
            lambda: identity.expectation(EVEN, f(1.0)),
            r"value is of shape \(1,\): give one for each of the 2",
        ),
        ("value no tensor", lambda: identity.expectation(EVEN, 2.0), "value is float"),
    ],
    "identity.exact_gradient": [
        (
            "a missing answer",
            lambda: identity.exact_gradient(f(0.5, 0.4).log(), f(1.0, 1.0), [THETA]),
            "logp is a listing",
        ),
        (
            "no graph",
            lambda: identity.exact_gradient(EVEN.detach(), f(1.0, 1.0), [THETA]),
            "logp is without a gradient",
        ),
        (
            "F of another shape",
            lambda: identity.exact_gradient(EVEN, f(1.0), [EVEN]),
            r"coefficient is of shape \(1,\): give \(2,\)",
        ),
        ("F a number", lambda: identity.exact_gradient(EVEN, 1.0, [EVEN]), "coefficient is float"),
        (
            "F with a graph",
            lambda: identity.exact_gradient(EVEN, f(1.0, 1.0).requires_grad_(), [EVEN]),
            "coefficient is part of the graph",
        ),
        ("NaN F", lambda: identity.exact_gradient(EVEN, f(1.0, NAN), [EVEN]), r"coefficient\[1\] is nan"),
        (
            "q of another shape",
            lambda: identity.exact_gradient(EVEN, f(1.0, 1.0), [EVEN], q=f([0.5, 0.5])),
            r"q is of shape \(1, 2\)",
        ),
        (
            "NaN q",
            lambda: identity.exact_gradient(EVEN, f(1.0, 1.0), [EVEN], q=f(1.0, NAN)),
            r"q\[1\] is nan",
        ),
        (
            "negative q",
            lambda: identity.exact_gradient(EVEN, f(1.0, 1.0), [EVEN], q=f(1.5, -0.5)),
            "q is as low as -0.5",
        ),
        (
            "d for one prompt",
            lambda: identity.exact_gradient(EVEN, f(1.0, 1.0), [EVEN], d=f(1.0)),
            r"d is of shape \(1,\)",
        ),
        (
            "d of another size",
            lambda: identity.exact_gradient(TWO, f([1.0, 1.0], [1.0, 1.0]), [TWO], d=f(0.5, 0.3, 0.2)),
            r"d is of shape \(3,\)",
        ),
        (
            "NaN d",
            lambda: identity.exact_gradient(TWO, f([1.0, 1.0], [1.0, 1.0]), [TWO], d=f(0.5, NAN)),
            r"d\[1\] is nan",
        ),
        (
            "negative d",
            lambda: identity.exact_gradient(TWO, f([1.0, 1.0], [1.0, 1.0]), [TWO], d=f(1.5, -0.5)),
            "d is as low as -0.5",
        ),
        (
            "one tensor for a list, whose rows have no gradient",
            lambda: identity.exact_gradient(THETA.log_softmax(-1), f(1.0, 1.0), THETA),
            r"parameters is one tensor: give a list",
        ),
        (
            "a frozen parameter",
            lambda: identity.exact_gradient(EVEN, f(1.0, 1.0), [f(1.0)]),
            "parameters is without a gradient",
        ),
    ],
    "logprob.batch_pairs": [
        ("none", lambda: logprob.batch_pairs([]), "pairs is empty"),
        (
            "no prompt",
            lambda: logprob.batch_pairs([([1], [2]), ([], [1])]),
            r"pairs\[1\] is without a prompt: begin it",
        ),
        (
            "no response",
            lambda: logprob.batch_pairs([([1], [])]),
            r"pairs\[0\] is without a response: give at least the end",
        ),
        ("rank", lambda: logprob.batch_pairs([(1, 2)]), r"pairs\[0\] is \(1, 2\): give two lists"),
        ("floats", lambda: logprob.batch_pairs([([1.7], [2])]), r"pairs is with the token 1.7\d*: give ids"),
    ],
    "logprob.warp": [
        ("temperature", lambda: logprob.warp(LOGP, -1), "temperature is -1: give 0"),
        ("NaN temperature", lambda: logprob.warp(LOGP, NAN), "temperature is nan"),
        ("top_k", lambda: logprob.warp(LOGP, top_k=0), "top_k is 0"),
        ("half a top_k", lambda: logprob.warp(LOGP, top_k=1.5), "top_k is 1.5"),
        ("top_p", lambda: logprob.warp(LOGP, top_p=0), "top_p is 0"),
        ("top_p above 1", lambda: logprob.warp(LOGP, top_p=1.1), "top_p is 1.1"),
        ("NaN top_p", lambda: logprob.warp(LOGP, top_p=NAN), "top_p is nan"),
        ("NaN", lambda: logprob.warp(LOGP_NAN), r"logits.*\[0\] is nan"),
        ("NaN, greedy", lambda: logprob.warp(LOGP_NAN, 0), r"logits.*\[0\] is nan"),
        (
            "a row without a token",
            lambda: logprob.warp(f([0.0, 1.0], [-INF, -INF])),
            r"logits.*\[1\] is -inf",
        ),
        ("infinite", lambda: logprob.warp(f(INF, 0.0)), "logits.* is inf"),
        ("integers", lambda: logprob.warp(TOKENS), "logits is .*give a float tensor"),
        ("a list", lambda: logprob.warp([0.0]), "logits is list"),
        ("a temperature that overflows", lambda: logprob.warp(torch.ones(3), 1e-42), "is inf"),
    ],
    "logprob.logprobs": [
        (
            "sequence",
            lambda: logprob.logprobs(MODEL, TOKENS, MASK, sequence=TOKENS[:1]),
            "sequence is of shape .* its B must be 2",
        ),
        (
            "sequence kind",
            lambda: logprob.logprobs(MODEL, TOKENS, MASK, sequence=MASK),
            "sequence is of dtype",
        ),
        (
            "first of its sequence",
            lambda: logprob.logprobs(MODEL, TOKENS, MASK, sequence=i([0, 0, 1], [2, 2, 2])),
            "response_mask is True on the first token of a seq",
        ),
        (
            "rank",
            lambda: logprob.logprobs(MODEL, TOKENS[0], MASK[0]),
            r"tokens is of shape \(3,\): give shape \(B, T\)",
        ),
        ("floats", lambda: logprob.logprobs(MODEL, TOKENS.double(), MASK), "tokens is of dtype"),
        ("empty", lambda: logprob.logprobs(MODEL, TOKENS[:0], MASK[:0]), "tokens is empty"),
        (
            "token outside",
            lambda: logprob.logprobs(MODEL, TOKENS + 3, MASK),
            "tokens is from 3 to 5: ids run from 0 to 4",
        ),
        ("negative token", lambda: logprob.logprobs(MODEL, TOKENS - 1, MASK), "tokens is from -1 to 1"),
        (
            "too long",
            lambda: logprob.logprobs(MODEL, torch.ones(1, 9, dtype=torch.long)),
            "tokens is 9 long: the model's context is 8",
        ),
        (
            "shape of the mask",
            lambda: logprob.logprobs(MODEL, TOKENS, MASK[:1]),
            r"response_mask is of shape \(1, 3\)",
        ),
        ("integer mask", lambda: logprob.logprobs(MODEL, TOKENS, MASK.long()), "response_mask is of dtype"),
        (
            "all-masked row",
            lambda: logprob.logprobs(MODEL, TOKENS, NONE),
            r"response_mask\[1\] is False everywhere",
        ),
        (
            "the first token",
            lambda: logprob.logprobs(MODEL, TOKENS, ~MASK),
            r"response_mask\[:, 0\] is True: the first token has no context",
        ),
        (
            "one token and no mask",
            lambda: logprob.logprobs(MODEL, TOKENS[:, :1]),
            "tokens is of shape .*give at least two",
        ),
        (
            "shape of targets",
            lambda: logprob.logprobs(MODEL, TOKENS, MASK, targets=TOKENS[:, 1:]),
            r"targets is of shape \(2, 2\)",
        ),
        (
            "target outside",
            lambda: logprob.logprobs(MODEL, TOKENS, MASK, targets=TOKENS + 4),
            "targets is from 4 to 6: ids run",
        ),
        ("NaN weights, warped", lambda: logprob.logprobs(BROKEN, TOKENS, MASK, top_k=2), "logits.* is nan"),
        ("temperature", lambda: logprob.logprobs(MODEL, TOKENS, MASK, temperature=-1), "temperature is -1"),
    ],
    "logprob.answer_logprobs": [
        ("rank", lambda: logprob.answer_logprobs(LOGP[0], MASK[0]), "logprobs is of shape"),
        ("mask", lambda: logprob.answer_logprobs(LOGP, MASK.T), r"response_mask is of shape \(3, 2\)"),
        ("all-masked row", lambda: logprob.answer_logprobs(LOGP, NONE), r"response_mask\[1\] is False"),
        ("NaN", lambda: logprob.answer_logprobs(LOGP_NAN, MASK), r"logprobs\[0, 1\] is nan"),
    ],
    "logprob.logprobs_of_logits": [
        (
            "rank",
            lambda: logprob.logprobs_of_logits(LOGP, TOKENS, MASK),
            r"logits is of shape \(2, 3\): give shape \(B, T, V\)",
        ),
        (
            "whole numbers",
            lambda: logprob.logprobs_of_logits(LOGITS.long(), TOKENS, MASK),
            "logits is of dtype torch.int64",
        ),
        (
            "shifted before",
            lambda: logprob.logprobs_of_logits(LOGITS[:, :-1], TOKENS, MASK),
            "tokens is of shape .* its T must be 2",
        ),
        (
            "token outside",
            lambda: logprob.logprobs_of_logits(LOGITS[..., :2], TOKENS, MASK),
            "from 0 to 2: ids run from 0 to 1",
        ),
        (
            "shape of the mask",
            lambda: logprob.logprobs_of_logits(LOGITS, TOKENS, MASK[:1]),
            r"response_mask is of shape \(1, 3\)",
        ),
        (
            "all-masked row",
            lambda: logprob.logprobs_of_logits(LOGITS, TOKENS, NONE),
            r"response_mask\[1\] is False everywhere",
        ),
        (
            "the first token",
            lambda: logprob.logprobs_of_logits(LOGITS, TOKENS, ~MASK),
            r"response_mask\[:, 0\] is True",
        ),
    ],
    "logprob.entropy": [
        ("a list", lambda: logprob.entropy([0.0]), "logits is list: give a float tensor"),
        ("whole numbers", lambda: logprob.entropy(TOKENS), "logits is .*give a float tensor"),
        ("NaN", lambda: logprob.entropy(LOGP_NAN), r"logits.*\[0\] is nan"),
        ("no token allowed", lambda: logprob.entropy(f([0.0, 1.0], [-INF, -INF])), r"logits.*\[1\] is -inf"),
    ],
    "logprob.masked_mean": [
        ("rank", lambda: logprob.masked_mean(LOGP[0], MASK[0]), r"values is of shape \(3,\): give shape"),
        ("whole numbers", lambda: logprob.masked_mean(TOKENS, MASK), "values is of dtype torch.int64"),
        ("shape of the mask", lambda: logprob.masked_mean(LOGP, MASK[:1]), r"response_mask is of shape \(1"),
        ("a row without a response", lambda: logprob.masked_mean(LOGP, NONE), r"response_mask\[1\] is False"),
        ("the same, by rows", lambda: logprob.masked_mean(LOGP, NONE, 1), r"response_mask\[1\] is False"),
        ("NaN", lambda: logprob.masked_mean(LOGP_NAN, MASK), r"values\[0, 1\] is nan"),
        ("axis", lambda: logprob.masked_mean(LOGP, MASK, axis=0), "axis is 0: give 1 for each row's mean"),
    ],
    "logprob.batch_turns": [
        ("none", lambda: logprob.batch_turns([]), "conversations is empty"),
        (
            "no turns",
            lambda: logprob.batch_turns([[([1], [2])], []]),
            r"conversations\[1\] is empty: give at least one \(prompt",
        ),
        (
            "no prompt",
            lambda: logprob.batch_turns([[([1], [2]), ([], [1])]]),
            r"conversations\[0\] is without a prompt: begin it",
        ),
        (
            "no response",
            lambda: logprob.batch_turns([[([1], [])]]),
            r"conversations\[0\] is without a response",
        ),
    ],
    "logprob.batch_packed": [
        ("none", lambda: logprob.batch_packed([], 8), "conversations is empty"),
        (
            "too long",
            lambda: logprob.batch_packed([[([1], [2])], [([1, 1], [2])]], 2),
            r"length is 2: conversations\[1\] has 3 tokens: give as many",
        ),
        ("no response", lambda: logprob.batch_packed([[([1], [])]], 8), "without a response"),
        ("half a length", lambda: logprob.batch_packed([[([1], [2])]], 2.5), "length is 2.5"),
    ],
    "logprob.all_logprobs": [
        ("rank", lambda: logprob.all_logprobs(MODEL, TOKENS[0], MASK), "tokens is of shape"),
        ("mask", lambda: logprob.all_logprobs(MODEL, TOKENS, TOKENS), "response_mask is of dtype"),
        (
            "shape",
            lambda: logprob.all_logprobs(MODEL, TOKENS, MASK[:1]),
            "tokens is of shape .* its B must be 1",
        ),
        (
            "no response",
            lambda: logprob.all_logprobs(MODEL, TOKENS, NONE),
            r"response_mask\[1\] is False everywhere",
        ),
        ("first", lambda: logprob.all_logprobs(MODEL, TOKENS, ~MASK), r"response_mask\[:, 0\] is True"),
        ("weights", lambda: logprob.all_logprobs(BROKEN, TOKENS, MASK), "is nan"),
        (
            "temperature",
            lambda: logprob.all_logprobs(MODEL, TOKENS, MASK, temperature=-1),
            "temperature is -1",
        ),
        (
            "sequence",
            lambda: logprob.all_logprobs(MODEL, TOKENS, MASK, sequence=TOKENS[:1]),
            "sequence is of shape",
        ),
    ],
    "logprob.batch_windows": [
        ("rank", lambda: logprob.batch_windows(TOKENS, 1, 2, generator()), "ids is of shape"),
        ("empty", lambda: logprob.batch_windows(TOKENS[0, :0], 1, 2, generator()), "ids is empty"),
        ("too long", lambda: logprob.batch_windows(TOKENS[0], 1, 4, generator()), "length is 4: give 2 to 3"),
        ("too short", lambda: logprob.batch_windows(TOKENS[0], 1, 1, generator()), "length is 1"),
        ("no rows", lambda: logprob.batch_windows(TOKENS[0], 0, 2, generator()), "rows is 0"),
        ("half a row", lambda: logprob.batch_windows(TOKENS[0], 1.5, 2, generator()), "rows is 1.5"),
    ],
    "logprob.text_nats": [
        ("rank", lambda: logprob.text_nats(MODEL, TOKENS, 4), "ids is of shape"),
        ("one token", lambda: logprob.text_nats(MODEL, i(1), 4), "ids is 1 long"),
        ("no length", lambda: logprob.text_nats(MODEL, i(1, 2, 3), 1), "length is 1: give 2"),
        ("negative rows", lambda: logprob.text_nats(MODEL, i(1, 2, 3), 2, rows=-1), "rows is -1"),
        ("token outside", lambda: logprob.text_nats(MODEL, i(1, 7), 4), "from 1 to 7: ids run"),
        (
            "longer than the context",
            lambda: logprob.text_nats(MODEL, torch.ones(30, dtype=torch.long), 20),
            "context is 8",
        ),
    ],
    "sample.sample": [
        ("none", lambda: sample.sample(MODEL, [], 3), "prompts is empty"),
        ("an empty one", lambda: sample.sample(MODEL, [[1], []], 3), r"prompts\[1\] is empty: begin it"),
        ("rank", lambda: sample.sample(MODEL, [1, 2], 3), r"prompts\[0\] is 1: give a list"),
        ("floats", lambda: sample.sample(MODEL, [[1.5]], 3), r"prompts\[0\] is \[1.5\]: give ids"),
        (
            "token outside",
            lambda: sample.sample(MODEL, [[1], [5, 1]], 3),
            "tokens is from .* to 5: ids run from 0 to 4",
        ),
        ("negative token", lambda: sample.sample(MODEL, [[-1]], 3), "from -1"),
        ("no tokens", lambda: sample.sample(MODEL, [[1]], 0), "max_new_tokens is 0"),
        ("half a token", lambda: sample.sample(MODEL, [[1]], 1.5), "max_new_tokens is 1.5"),
        (
            "too many",
            lambda: sample.sample(MODEL, [[1], [1, 2, 3]], 6),
            "max_new_tokens is 6: the longest prompt has 3 tokens and the context is 8: ask for at most 5",
        ),
        ("no answers", lambda: sample.sample(MODEL, [[1]], 3, n=0), "n is 0"),
        ("end outside", lambda: sample.sample(MODEL, [[1]], 3, end=5), "end is 5: ids run"),
        ("end between ids", lambda: sample.sample(MODEL, [[1]], 3, end=0.5), "end is 0.5"),
        ("temperature", lambda: sample.sample(MODEL, [[1]], 3, temperature=-0.1), "temperature is -0.1"),
        ("top_k", lambda: sample.sample(MODEL, [[1]], 3, top_k=-1), "top_k is -1"),
        ("top_p", lambda: sample.sample(MODEL, [[1]], 3, top_p=2), "top_p is 2"),
        ("NaN weights", lambda: sample.sample(BROKEN, [[1]], 3), "logits.* is nan"),
        ("NaN weights, greedy", lambda: sample.sample(BROKEN, [[1]], 3, temperature=0), "logits.* is nan"),
    ],
    "sample.draw": [
        ("rank", lambda: sample.draw(f(0.0)), "logp is of shape"),
        ("NaN", lambda: sample.draw(f([0.0, -1.0], [NAN, -1.0])), r"logp.*\[1\] is nan"),
        ("nothing to draw", lambda: sample.draw(f([-INF, -INF])), "is -inf"),
    ],
    "sample.ask": [
        (
            "too long",
            lambda: sample.ask(TALKER, WORDS, ["the cat " * 30]),
            "questions is up to .* tokens long: the context is 12",
        ),
        ("no text", lambda: sample.ask(TALKER, WORDS, [7]), "text is int"),
    ],
    "transformer.Config": [
        ("zero", lambda: transformer.Config(n_layers=0), "n_layers is 0: give a positive integer"),
        ("a float", lambda: transformer.Config(d_model=64.0), "d_model is 64.0"),
        ("heads", lambda: transformer.Config(n_heads=3), "n_heads is 3: d_model = 128 must split"),
        ("odd heads", lambda: transformer.Config(d_model=12, n_heads=4), "n_heads is 4: .*even"),
        (
            "keys' heads",
            lambda: transformer.Config(n_kv_heads=3),
            "n_kv_heads is 3: it must divide n_heads = 4",
        ),
        ("theta", lambda: transformer.Config(rope_theta=0), "rope_theta is 0"),
        ("eps", lambda: transformer.Config(norm_eps=NAN), "norm_eps is nan"),
        ("wide heads", lambda: transformer.Config(head_width=0), "head_width is 0"),
        (
            "odd heads of their own",
            lambda: transformer.Config(head_width=5),
            "n_heads is 4: a head of width 5 has no pairs to rotate",
        ),
        (
            "scaling",
            lambda: transformer.Config(rope_scaling={"rope_type": "stretch"}),
            "rope_type is 'stretch'",
        ),
    ],
    "transformer.Cache": [
        (
            "pad of other rows",
            lambda: transformer.Cache(MODEL, 3, 8, i(0, 0)),
            r"pad is of shape \(2,\): its B must be 3",
        ),
    ],
    "transformer.Transformer": [
        (
            "packed and cached",
            lambda: MODEL.hidden(TOKENS, transformer.Cache(MODEL, 2, 8, i(0, 0)), TOKENS),
            "cache is given with sequence",
        ),
        ("rank", lambda: MODEL(TOKENS[0]), "tokens is of shape"),
        ("floats", lambda: MODEL(TOKENS.double()), "tokens is of dtype"),
        ("bools", lambda: MODEL(MASK), "tokens is of dtype torch.bool"),
        ("empty", lambda: MODEL(TOKENS[:, :0]), "tokens is empty"),
        ("outside", lambda: MODEL(TOKENS + 3), "from 3 to 5"),
        ("negative", lambda: MODEL(TOKENS - 1), "from -1 to 1"),
        ("too long", lambda: MODEL(torch.zeros(1, 9, dtype=torch.long)), "9 long"),
    ],
    "rope.frequencies": [
        (
            "a type",
            lambda: rope.frequencies(8, 1e4, {"rope_type": "longrope"}),
            "rope_type is 'longrope': this package knows default",
        ),
        (
            "no factor",
            lambda: rope.frequencies(8, 1e4, {"rope_type": "linear"}),
            "rope_scaling: factor is None: linear needs a positive number",
        ),
        (
            "a factor of 0",
            lambda: rope.frequencies(8, 1e4, {"type": "dynamic", "factor": 0}),
            "rope_scaling: factor is 0",
        ),
        (
            "no ramp",
            lambda: rope.frequencies(
                8,
                1e4,
                {
                    "rope_type": "llama3",
                    "factor": 8,
                    "low_freq_factor": 4,
                    "high_freq_factor": 1,
                    "original_max_position_embeddings": 64,
                },
            ),
            "high_freq_factor is 1: give more than low_freq_factor = 4",
        ),
    ],
    "transformer.Family": [
        ("norm", lambda: transformer.Family(norm="batch"), "norm is 'batch': give 'rms' or 'layer'"),
        ("inner", lambda: transformer.Family(inner="relu"), "inner is 'relu'"),
        ("positions", lambda: transformer.Family(positions="alibi"), "positions is 'alibi'"),
        ("bias", lambda: transformer.Family(bias=("w",)), r"bias is \('w',\): give some of q, k"),
    ],
    "readable.expect_tokens": [
        (
            "too long behind others",
            lambda: readable.expect_tokens(TOKENS, MODEL.config, 7),
            "tokens is .* long: the model's context is 8",
        ),
    ],
    "readable.readable_logits": [
        ("rank", lambda: transformer.readable_logits(MODEL, TOKENS[0]), "tokens is of shape"),
        (
            "negative, which an index would take from the end",
            lambda: transformer.readable_logits(MODEL, TOKENS - 1),
            "from -1 to 1",
        ),
        ("outside", lambda: transformer.readable_logits(MODEL, TOKENS + 3), "from 3 to 5"),
        (
            "too long",
            lambda: transformer.readable_logits(MODEL, torch.zeros(1, 9, dtype=torch.long)),
            "9 long",
        ),
    ],
    "transformer.device_and_dtype": [
        (
            "no such device",
            lambda: transformer.device_and_dtype("abacus"),
            "device is 'abacus': this machine has .*cpu",
        ),
        (
            "integers",
            lambda: transformer.device_and_dtype("cpu", torch.int64),
            "dtype is torch.int64: give a float",
        ),
    ],
    "tokenizer.Tokenizer": [
        ("too small", lambda: Tokenizer.train(["a"], 264), "vocab_size is 264: give at least 265"),
        ("a float", lambda: Tokenizer.train(["a"], 300.0), "vocab_size is 300.0"),
        ("no text", lambda: Tokenizer.train([b"a"], 300), "text is bytes: give a str"),
        (
            "a lone surrogate in the corpus",
            lambda: Tokenizer.train(["ab\udc80"], 300),
            r"text\[2\] is a lone surrogate .*read the file as UTF-8",
        ),
        ("encode no text", lambda: WORDS.encode(None), "text is NoneType: give a str"),
        ("encode a lone surrogate", lambda: WORDS.encode("a\ud800"), r"text\[1\] is a lone surrogate"),
        ("encode_all of one text", lambda: WORDS.encode_all("abc"), "texts is one text: give a list"),
        ("encode_all no text", lambda: WORDS.encode_all(["a", 1]), "text is int"),
        ("decode outside", lambda: WORDS.decode([10, 270]), "id is 270: ids run from 0 to 269"),
        ("decode negative", lambda: WORDS.decode([-1]), "id is -1"),
        ("decode floats", lambda: WORDS.decode([10.5]), "ids hold .*float"),
        ("decode a float tensor", lambda: WORDS.decode(f(10.0)), "ids hold"),
        ("decode a text", lambda: WORDS.decode("abc"), "ids hold .*str"),
        ("a prompt that is no text", lambda: WORDS.prompt(3), "text is int"),
        ("a response that is no text", lambda: WORDS.response(None), "text is NoneType"),
        ("a thought that is no text", lambda: WORDS.response("a", 3), "text is int"),
        ("read_response outside", lambda: WORDS.read_response([999, 0]), "id is 999"),
    ],
    "tokenizer.learn_merges": [
        ("a negative count", lambda: tokenizer.learn_merges(["ab"], -1), "count is -1"),
        (
            "a letter that is no byte's",
            lambda: tokenizer.learn_merges(["a b"], 1),
            r"chunks is with \[' '\]: give bytes as printable",
        ),
    ],
    "train.Settings": [
        ("no steps", lambda: train.Settings(0), "steps is 0"),
        ("half a step", lambda: train.Settings(1.5), "steps is 1.5"),
        ("no rate", lambda: train.Settings(5, lr=0), "lr is 0"),
        ("NaN rate", lambda: train.Settings(5, lr=NAN), "lr is nan"),
        ("negative Muon", lambda: train.Settings(5, muon_lr=-1), "muon_lr is -1"),
        ("shares", lambda: train.Settings(5, warmup=0.5, decay=0.6), r"warmup, decay is \(0.5, 0.6\)"),
        ("negative share", lambda: train.Settings(5, warmup=-0.1), "warmup, decay"),
        ("clip", lambda: train.Settings(5, clip=0), "clip is 0"),
        ("save_every", lambda: train.Settings(5, save_every=0), "save_every is 0"),
        ("weight decay", lambda: train.Settings(5, weight_decay=-0.1), "weight_decay is -0.1"),
    ],
    "train.train": [
        ("a float F", lambda: loop(lambda batch, logp: 1.0), "coefficient is float: return a tensor"),
        ("F of another shape", lambda: loop(lambda batch, logp: torch.ones(3)), "coefficient is of shape"),
        ("all-masked row", lambda: loop(response_mask=NONE), r"response_mask\[1\] is False"),
        ("empty", lambda: loop(tokens=TOKENS[:0], response_mask=MASK[:0]), "tokens is empty"),
        ("token outside", lambda: loop(tokens=TOKENS + 3), "from 3 to 5"),
        ("targets outside", lambda: loop(targets=TOKENS + 4), "targets is from 4"),
        ("no pairs", lambda: loop(pairs=0), "pairs is 0"),
        ("all frozen", lambda: loop(model=Tiny(vocab_size=5).requires_grad_(False)), "model is frozen whole"),
    ],
    "train.make_optimizers": [
        (
            "all frozen",
            lambda: train.make_optimizers(Tiny().requires_grad_(False), train.Settings(1)),
            "model is frozen whole",
        ),
    ],
    "hub.add_marks": [
        (
            "no tokenizer",
            lambda: hub.add_marks(MODEL, None),
            "tokenizer is NoneType: give the tokenizer that was loaded with the model",
        ),
    ],
    "families.their_config": [
        (
            "nobody's",
            lambda: families.their_config(transformer.Config(family=transformer.Family(inner="gelu"))),
            "family is .*only the shapes of gpt2",
        ),
        (
            "grouped queries in GPT-2",
            lambda: families.their_config(transformer.Config(family=transformer.GPT2)),
            "config is with 2 keys' heads",
        ),
    ],
    "hub.save": [
        ("shards", lambda: hub.save(MODEL, None, "/nonexistent", 0), "shard_bytes is 0"),
        (
            "a tokenizer of another size",
            lambda: hub.save(MODEL, WORDS, "/nonexistent"),
            "tokenizer is of 270 tokens: the model has 5",
        ),
    ],
    "supervised.coefficient": [
        ("rank", lambda: supervised.coefficient(MASK[0]), "response_mask is of shape"),
        ("dtype", lambda: supervised.coefficient(LOGP), "response_mask is of dtype"),
        ("empty", lambda: supervised.coefficient(MASK[:0]), "response_mask is empty"),
    ],
    "supervised.loss": [
        ("all-masked row", lambda: supervised.loss(LOGP, NONE), r"response_mask\[1\]"),
        ("NaN", lambda: supervised.loss(LOGP_NAN, MASK), "is nan"),
        ("shape", lambda: supervised.loss(LOGP, MASK[:1]), "response_mask is of shape"),
    ],
    "distill.coefficient": [
        ("kind", lambda: distill.coefficient(LOGP), "response_mask is of dtype"),
        ("rows", lambda: distill.coefficient(MASK, TEACHER[:1]), "teacher is of shape .* its B must be 2"),
        (
            "columns",
            lambda: distill.coefficient(MASK, TEACHER[:, :5]),
            r"teacher is of shape \(2, 5\): give V columns for each of the 3 places",
        ),
        ("nan", lambda: distill.coefficient(MASK, TEACHER.log()), r"teacher\[0, 0\] is nan"),
        ("temperature", lambda: distill.coefficient(MASK, TEACHER, 0), "temperature is 0: give more than 0"),
    ],
    "distill.loss": [
        ("shape", lambda: distill.loss(LOGP, MASK, TEACHER), "logprobs is of shape .* its S must be 6"),
        ("rows", lambda: distill.loss(LOGP, MASK, TEACHER[:1]), "teacher is of shape"),
        ("temperature", lambda: distill.loss(TEACHER, MASK, TEACHER, -1), "temperature is -1"),
        ("no teacher", lambda: distill.loss(LOGP_NAN, MASK), r"logprobs\[0, 1\] is nan"),
    ],
    "distill.ask_teacher": [
        (
            "greedy",
            lambda: distill.ask_teacher(MODEL, Batch(tokens=TOKENS, response_mask=MASK), 0),
            "temperature is 0: give more than 0",
        ),
        (
            "mask",
            lambda: distill.ask_teacher(MODEL, Batch(tokens=TOKENS, response_mask=NONE)),
            r"response_mask\[1\] is False",
        ),
    ],
    "self_training.coefficient": [
        (
            "numbers for verdicts",
            lambda: self_training.coefficient(f(1.0, 0.3)),
            "keep is of dtype torch.float64: give a bool",
        ),
        ("rank", lambda: self_training.coefficient(MASK), "keep is of shape"),
        ("empty", lambda: self_training.coefficient(MASK[0, :0]), "keep is empty"),
    ],
    "self_training.best_of_n": [
        ("NaN", lambda: self_training.best_of_n(f(1.0, NAN), i(0, 0)), r"rewards\[1\] is nan"),
        ("group size", lambda: self_training.best_of_n(f(1.0, 2.0), i(0, 0, 1)), "group is of shape"),
        ("float group", lambda: self_training.best_of_n(f(1.0), f(0.0)), "group is of dtype"),
        ("integer rewards", lambda: self_training.best_of_n(i(1, 2), i(0, 0)), "rewards is of dtype"),
    ],
    "self_training.loss": [
        (
            "keep of another size",
            lambda: self_training.loss(LOGP, MASK, torch.tensor([True])),
            "keep is of shape",
        ),
        (
            "keep that would broadcast",
            lambda: self_training.loss(LOGP, MASK, MASK[:, :1]),
            "keep is of shape",
        ),
        ("NaN", lambda: self_training.loss(LOGP_NAN, MASK, MASK[:, 1]), "is nan"),
    ],
    "self_training.expert_iteration": [
        (
            "greedy",
            lambda: self_training.expert_iteration(MODEL, [[1]], lambda g, y: True, 3, temperature=0),
            "temperature is 0: give more than 0",
        ),
        ("none", lambda: self_training.expert_iteration(MODEL, [], lambda g, y: True, 3), "prompts is empty"),
    ],
    "dagger.coefficient": [
        ("dtype", lambda: dagger.coefficient(LOGP), "response_mask is of dtype"),
        ("rank", lambda: dagger.coefficient(MASK[0]), "response_mask is of shape"),
    ],
    "dagger.loss": [
        ("shape", lambda: dagger.loss(LOGP, MASK[:, :2]), "response_mask is of shape"),
        ("NaN", lambda: dagger.loss(LOGP_NAN, MASK), r"logprobs\[0, 1\] is nan"),
    ],
    "dagger.visit": [
        (
            "an expert outside",
            lambda: dagger.visit(MODEL, [[1]], lambda text: 5, 3),
            "expert's token is 5: ids run from 0 to 4",
        ),
        (
            "an expert that says no id",
            lambda: dagger.visit(MODEL, [[1]], lambda text: None, 3),
            "expert's token is None",
        ),
        ("none", lambda: dagger.visit(MODEL, [], lambda text: 1, 3), "prompts is empty"),
    ],
    "reinforce.coefficient": [
        ("NaN", lambda: reinforce.coefficient(f(1.0, NAN)), r"rewards\[1\] is nan"),
        ("rank", lambda: reinforce.coefficient(LOGP[None]), "rewards is of shape"),
        (
            "a baseline an answer for rewards a token",
            lambda: reinforce.coefficient(LOGP, f(1.0, 2.0)),
            r"baseline is of shape \(2,\)",
        ),
        (
            "a log-ratio a token for rewards an answer",
            lambda: reinforce.coefficient(f(1.0, 2.0), 0.0, 0.1, LOGP),
            "log_ratio is of shape",
        ),
        ("NaN beta", lambda: reinforce.coefficient(f(1.0), beta=NAN), "beta is nan"),
        ("integers", lambda: reinforce.coefficient(i(1, 0)), "rewards is of dtype"),
        ("empty", lambda: reinforce.coefficient(f()), "rewards is empty"),
        (
            "a baseline that would broadcast",
            lambda: reinforce.coefficient(f(1.0, 2.0), f([1.0], [2.0])),
            r"baseline is of shape \(2, 1\)",
        ),
        ("baseline size", lambda: reinforce.coefficient(f(1.0, 2.0), f(1.0)), "baseline is of shape"),
        ("NaN baseline", lambda: reinforce.coefficient(f(1.0), f(NAN)), r"baseline\[0\] is nan"),
        ("NaN number", lambda: reinforce.coefficient(f(1.0), NAN), "baseline is nan"),
        (
            "NaN tensor of no rank",
            lambda: reinforce.coefficient(f(1.0), torch.tensor(NAN)),
            "baseline is nan",
        ),
    ],
    "reinforce.leave_one_out": [
        (
            "a group of one",
            lambda: reinforce.leave_one_out(f(1.0, 2.0, 3.0), i(0, 0, 4)),
            r"group is \[4\], with one answer each: draw at least two",
        ),
        ("NaN", lambda: reinforce.leave_one_out(f(1.0, NAN), i(0, 0)), r"rewards\[1\] is nan"),
        ("size", lambda: reinforce.leave_one_out(f(1.0, 2.0), i(0)), "group is of shape"),
        ("float group", lambda: reinforce.leave_one_out(f(1.0, 2.0), f(0.0, 0.0)), "group is of dtype"),
    ],
    "reinforce.loss": [
        (
            "rewards of another size",
            lambda: reinforce.loss(LOGP, MASK, f(1.0, 2.0, 3.0)),
            "rewards is of shape",
        ),
        (
            "a baseline that would broadcast",
            lambda: reinforce.loss(LOGP, MASK, f(1.0, 2.0), f([1.0], [2.0])),
            "baseline is of shape",
        ),
        ("NaN reward", lambda: reinforce.loss(LOGP, MASK, f(1.0, NAN)), r"rewards\[1\] is nan"),
        ("NaN log p", lambda: reinforce.loss(LOGP_NAN, MASK, f(1.0, 2.0)), "is nan"),
        ("all-masked row", lambda: reinforce.loss(LOGP, NONE, f(1.0, 2.0)), r"response_mask\[1\]"),
    ],
    "returns.last_token": [
        ("dtype", lambda: returns.last_token(LOGP), "response_mask is of dtype"),
        ("all-masked row", lambda: returns.last_token(NONE), r"response_mask\[1\] is False everywhere"),
    ],
    "returns.place_rewards": [
        ("size", lambda: returns.place_rewards(f(1.0), MASK), "rewards is of shape"),
        ("NaN", lambda: returns.place_rewards(f(1.0, NAN), MASK), r"rewards\[1\] is nan"),
    ],
    "returns.log_ratio": [
        (
            "shape of the reference",
            lambda: returns.log_ratio(LOGP, LOGP[:, 1:], MASK),
            r"reference is of shape \(2, 2\)",
        ),
        ("an answer's sum", lambda: returns.log_ratio(LOGP, f(1.0, 2.0), MASK), "reference is of shape"),
        ("none", lambda: returns.log_ratio(LOGP, None, MASK), "reference is NoneType: give a torch tensor"),
        ("NaN", lambda: returns.log_ratio(LOGP_NAN, LOGP, MASK), r"\(logprobs − reference\)\[0, 1\] is nan"),
    ],
    "returns.kl": [
        ("kind", lambda: returns.kl(LOGP, LOGP, MASK, "k4"), "kind is 'k4': give 'k1', 'k2' or 'k3'"),
    ],
    "returns.kl_coefficient": [
        (
            "k1",
            lambda: returns.kl_coefficient(LOGP, LOGP, MASK, "k1"),
            "kind is 'k1': give 'k2' or 'k3'; k1 belongs into the reward",
        ),
    ],
    "returns.rewards_with_kl": [
        (
            "beta",
            lambda: returns.rewards_with_kl(f(1.0, 2.0), LOGP, LOGP, MASK, -1.0),
            "beta is -1.0: give 0 or more",
        ),
        (
            "rewards a token",
            lambda: returns.rewards_with_kl(LOGP, LOGP, LOGP, MASK, 1.0),
            "rewards is of shape",
        ),
    ],
    "returns.gae": [
        ("shape", lambda: returns.gae(LOGP, LOGP[:, :2], MASK), "values is of shape"),
        ("lam", lambda: returns.gae(LOGP, LOGP, MASK, 1.0, 1.5), "lam is 1.5: give a number from 0 to 1"),
        ("gamma", lambda: returns.gae(LOGP, LOGP, MASK, NAN), "gamma is nan"),
        ("NaN", lambda: returns.gae(LOGP_NAN, LOGP, MASK), r"rewards\[0, 1\] is nan"),
    ],
    "returns.reward_to_go": [
        ("an answer's rewards", lambda: returns.reward_to_go(f(1.0, 2.0), MASK), "rewards is of shape"),
    ],
    "returns.whiten": [
        ("NaN", lambda: returns.whiten(LOGP_NAN, MASK), r"advantages\[0\] is nan"),
        ("dtype", lambda: returns.whiten(TOKENS, MASK), "advantages is of dtype"),
    ],
    "returns.adapt_beta": [
        ("beta 0", lambda: returns.adapt_beta(0.0, 1.0, 1.0), "beta is 0.0: give a positive number"),
        ("target", lambda: returns.adapt_beta(0.1, 1.0, 0.0), "target is 0.0"),
        ("NaN", lambda: returns.adapt_beta(0.1, NAN, 1.0), "kl is nan"),
    ],
    "returns.margin": [
        (
            "odd",
            lambda: returns.margin(f(1.0, 2.0, 3.0), f(1.0, 2.0, 3.0)),
            "logprobs is of 3 rows: give the chosen answers, then the rejected",
        ),
        ("size", lambda: returns.margin(f(1.0, 2.0), f(1.0)), "reference is of shape"),
        ("tokens", lambda: returns.margin(LOGP, LOGP), "logprobs is of shape"),
        ("inf", lambda: returns.margin(f(1.0, 2.0), f(1.0, -INF)), r"reference\[1\] is -inf"),
    ],
    "returns.expect_aligned": [
        ("shape", lambda: returns.expect_aligned(MASK, values=LOGP[:, :2]), "values is of shape"),
    ],
    "dpo.coefficient": [
        (
            "beta",
            lambda: dpo.coefficient(LOGP, MASK, f(1.0, 2.0), 0.0),
            "beta is 0.0: give a positive number",
        ),
        (
            "smoothing",
            lambda: dpo.coefficient(LOGP, MASK, f(1.0, 2.0), smoothing=0.5),
            "smoothing is 0.5: give the share",
        ),
        ("a reference a token", lambda: dpo.coefficient(LOGP, MASK, LOGP), "reference is of shape"),
        ("odd", lambda: dpo.coefficient(LOGP[:1], MASK[:1], f(1.0)), "logprobs is of 1 rows"),
        ("NaN", lambda: dpo.coefficient(LOGP_NAN, MASK, f(1.0, 2.0)), "is nan"),
    ],
    "dpo.loss": [
        ("reference size", lambda: dpo.loss(LOGP, MASK, f(1.0)), "reference is of shape"),
        ("all-masked row", lambda: dpo.loss(LOGP, NONE, f(1.0, 2.0)), r"response_mask\[1\]"),
    ],
    "dpo.reference_logprobs": [
        ("none", lambda: dpo.reference_logprobs(MODEL, []), "pairs is empty"),
        ("rows", lambda: dpo.reference_logprobs(MODEL, [([1], [2])], 0), "rows is 0: give 1 or more"),
        ("no prompt", lambda: dpo.reference_logprobs(MODEL, [([], [2])]), r"pairs\[0\] is without a prompt"),
    ],
    "dpo.draw": [
        ("none", lambda: dpo.draw([], f()), "comparisons is empty"),
        ("reference", lambda: dpo.draw([([1], [2], [3])], f([1.0])), "reference is of shape"),
    ],
    "ipo.coefficient": [
        (
            "beta",
            lambda: ipo.coefficient(LOGP, MASK, f(1.0, 2.0), -1.0),
            "beta is -1.0: give a positive number",
        ),
        ("odd", lambda: ipo.coefficient(LOGP[:1], MASK[:1], f(1.0)), "logprobs is of 1 rows"),
    ],
    "ipo.loss": [
        ("reference size", lambda: ipo.loss(LOGP, MASK, f(1.0)), "reference is of shape"),
    ],
    "kto.coefficient": [
        (
            "thumbs as numbers",
            lambda: kto.coefficient(LOGP, MASK, f(1.0, 2.0), f(1.0)),
            "thumbs is of dtype torch.float64: give a bool",
        ),
        (
            "a thumb for each row",
            lambda: kto.coefficient(LOGP, MASK, f(1.0, 2.0), MASK[:, 1]),
            "thumbs is of shape",
        ),
        (
            "no mismatched rows",
            lambda: kto.coefficient(LOGP[:1], MASK[:1], f(1.0), MASK[:1, 1]),
            "logprobs is of 1 rows: give the answers and then",
        ),
        (
            "weights",
            lambda: kto.coefficient(LOGP, MASK, f(1.0, 2.0), MASK[:1, 1], down=-1.0),
            r"up, down is \(1.0, -1.0\)",
        ),
        ("beta", lambda: kto.coefficient(LOGP, MASK, f(1.0, 2.0), MASK[:1, 1], beta=0), "beta is 0"),
    ],
    "kto.loss": [
        ("reference", lambda: kto.loss(LOGP, MASK, f(1.0, NAN), MASK[:1, 1]), r"reference\[1\] is nan"),
    ],
    "kto.draw": [
        ("one", lambda: kto.draw([([1], [2], True)]), "examples is 1 long: give at least two"),
    ],
    "reward_model.coefficient": [
        (
            "rewards a token",
            lambda: reward_model.coefficient(LOGP, i(0), i(1), f(1.0)),
            "rewards is of shape",
        ),
        (
            "a row outside",
            lambda: reward_model.coefficient(f(1.0, 2.0), i(0), i(2), f(1.0)),
            "worse is 2 to 2: the batch has 2 rows",
        ),
        (
            "one too few",
            lambda: reward_model.coefficient(f(1.0, 2.0), i(0), i(1, 0), f(1.0)),
            "worse is of shape",
        ),
        (
            "a margin that would broadcast",
            lambda: reward_model.coefficient(f(1.0, 2.0), i(0, 1), i(1, 0), f(1.0, 1.0), f([1.0], [2.0])),
            "margin is of another shape",
        ),
        ("NaN", lambda: reward_model.coefficient(f(1.0, NAN), i(0), i(1), f(1.0)), r"rewards\[1\] is nan"),
    ],
    "reward_model.loss": [
        (
            "bool rows",
            lambda: reward_model.loss(f(1.0, 2.0), MASK[0, :1], i(1), f(1.0)),
            "better is of dtype",
        ),
    ],
    "reward_model.draw": [
        ("none", lambda: reward_model.draw([]), "pairs is empty"),
        (
            "one answer",
            lambda: reward_model.draw([([1], [[2]])]),
            r"rankings\[0\] is of 1 answers: give two or more",
        ),
    ],
    "reward_model.calibration": [
        ("bins", lambda: reward_model.calibration(f(1.0), 0), "bins is 0"),
        ("NaN", lambda: reward_model.calibration(f(NAN)), r"gaps\[0\] is nan"),
    ],
    "critic.coefficient": [
        ("shape", lambda: critic.coefficient(LOGP, MASK, LOGP, LOGP[:, :2]), "goals is of shape"),
        (
            "clip",
            lambda: critic.coefficient(LOGP, MASK, LOGP, LOGP, 0.0),
            "clip is 0.0: give a positive number",
        ),
    ],
    "critic.loss": [
        ("shape", lambda: critic.loss(LOGP, MASK, LOGP[:1], LOGP), "old_values is of shape"),
    ],
    "ppo.coefficient": [
        (
            "advantages an answer",
            lambda: ppo.coefficient(LOGP, MASK, LOGP, f(1.0, 2.0)),
            "advantages is of shape",
        ),
        (
            "clip",
            lambda: ppo.coefficient(LOGP, MASK, LOGP, LOGP, 0.0),
            "clip is 0.0: give a positive number, or inf",
        ),
        ("old", lambda: ppo.coefficient(LOGP, MASK, LOGP[:, 1:], LOGP), "old is of shape"),
        ("NaN", lambda: ppo.coefficient(LOGP_NAN, MASK, LOGP, LOGP), r"\[0, 1\] is nan"),
    ],
    "ppo.loss": [
        ("all-masked row", lambda: ppo.loss(LOGP, NONE, LOGP, LOGP), r"response_mask\[1\]"),
    ],
    "ppo.draw": [
        (
            "beta",
            lambda: ppo.draw(MODEL, critic.Critic(8).double(), MODEL, [[1]], lambda b: f(1.0), 3, beta=-1.0),
            "beta is -1.0",
        ),
        (
            "a reward too many",
            lambda: ppo.draw(MODEL, critic.Critic(8).double(), MODEL, [[1]], lambda b: f(1.0, 2.0), 3),
            "rewards is of shape",
        ),
        (
            "none",
            lambda: ppo.draw(MODEL, critic.Critic(8).double(), MODEL, [], lambda b: f(1.0), 3),
            "prompts is empty",
        ),
    ],
    "ppo.minibatches": [
        ("rows", lambda: next(ppo.minibatches(Batch(tokens=TOKENS), 3, 1)), "rows is 3: give 1 to 2"),
        ("passes", lambda: next(ppo.minibatches(Batch(tokens=TOKENS), 1, 0)), "passes is 0"),
    ],
    "grpo.advantages": [
        (
            "a group of one",
            lambda: grpo.advantages(f(1.0, 2.0, 3.0), i(0, 0, 4)),
            r"group is \[4\], with one answer each",
        ),
        ("NaN", lambda: grpo.advantages(f(1.0, NAN), i(0, 0)), r"rewards\[1\] is nan"),
        ("no eps", lambda: grpo.advantages(f(1.0, 1.0), i(0, 0), eps=0.0), "eps is 0.0: give a small"),
        ("NaN eps", lambda: grpo.advantages(f(1.0, 1.0), i(0, 0), eps=NAN), "eps is nan"),
    ],
    "grpo.coefficient": [
        ("advantages a token", lambda: grpo.coefficient(LOGP, MASK, LOGP, LOGP), "advantages is of shape"),
        (
            "no reference",
            lambda: grpo.coefficient(LOGP, MASK, LOGP, f(1.0, 2.0), beta=0.1),
            "reference is NoneType",
        ),
        (
            "clip",
            lambda: grpo.coefficient(LOGP, MASK, LOGP, f(1.0, 2.0), clip_high=-1.0),
            r"clip, clip_high is \(0.2, -1.0\)",
        ),
        (
            "a group too few",
            lambda: grpo.coefficient(LOGP, MASK, LOGP, f(1.0, 2.0), group=i(0)),
            r"group is of shape \(1,\)",
        ),
        (
            "two divisors",
            lambda: grpo.coefficient(LOGP, MASK, LOGP, f(1.0, 2.0), average=False, group=i(0, 0)),
            "average is False: leave it out with group",
        ),
    ],
    "grpo.loss": [
        ("old", lambda: grpo.loss(LOGP, MASK, LOGP[:1], f(1.0, 2.0)), "old is of shape"),
        (
            "a group of floats",
            lambda: grpo.loss(LOGP, MASK, LOGP, f(1.0, 2.0), group=f(0.0, 0.0)),
            "group is of dtype",
        ),
    ],
    "grpo.draw": [
        (
            "one answer each",
            lambda: grpo.draw(MODEL, [[1]], lambda b: f(1.0), 3, n=1),
            "with one answer each",
        ),
        ("eps", lambda: grpo.draw(MODEL, [[1]], lambda b: f(1.0, 2.0), 3, n=2, eps=-1.0), "eps is -1.0"),
    ],
    "questions.held_out": [
        ("all", lambda: questions.held_out("a", 1, 0), "share is 1: give a share"),
        ("negative", lambda: questions.held_out("a", -0.1, 0), "share is -0.1"),
        ("NaN", lambda: questions.held_out("a", NAN, 0), "share is nan"),
    ],
    "questions.score": [
        ("none", lambda: questions.score([], []), "questions is empty"),
        (
            "an answer too few",
            lambda: questions.score([a_sum(), a_sum()], [None]),
            "responses is 1 for 2 questions",
        ),
    ],
    "sums.column_steps": [
        ("negative", lambda: sums.column_steps(3, -4), r"a, b is \(3, -4\)"),
        ("a float", lambda: sums.column_steps(3.5, 4), r"a, b is \(3.5, 4\)"),
    ],
    "sums.chain_steps": [
        ("one number", lambda: sums.chain_steps([3]), r"numbers is \[3\]"),
        ("none", lambda: sums.chain_steps([]), r"numbers is \[\]"),
    ],
    "sums.Sums": [
        ("kind", lambda: sums.Sums().question("product", [1, 2]), "kind is 'product': give one of sum2"),
        (
            "three for two, of which one would be left out",
            lambda: sums.Sums().question("compare", [1, 2, 3]),
            r"numbers is \[1, 2, 3\]: give 2 whole",
        ),
        ("two for three", lambda: sums.Sums().question("chain_steps", [1, 2]), "give 3 whole"),
        (
            "equals, of which none is larger",
            lambda: sums.Sums().question("compare", [7, 7]),
            r"numbers is \[7, 7\]: give two that differ",
        ),
        ("negative", lambda: sums.Sums().question("sum2", [1, -2]), r"numbers is \[1, -2\]"),
        ("no questions", lambda: sums.Sums().questions("sum2", 0, True, RNG), "n is 0"),
        ("kind of questions", lambda: sums.Sums().questions("x", 1, True, RNG), "kind is 'x'"),
        ("negative documents", lambda: sums.Sums().documents(-1, RNG), "n is -1"),
    ],
    "town.Town": [
        ("nobody", lambda: town.Town(people=0), "people is 0"),
        ("too many", lambda: town.Town(people=151), "people is 151: give 1 to 150"),
        ("half", lambda: town.Town(people=1.5), "people is 1.5"),
        (
            "an unknown fame",
            lambda: town.Town(people=1).corpus(RNG, {"infamous": 3}),
            r"times is \['infamous'\]: its keys are famous",
        ),
        (
            "negative times",
            lambda: town.Town(people=1).corpus(RNG, {"famous": -1}),
            "times is .*-1.*: give whole",
        ),
        ("half a time", lambda: town.Town(people=1).corpus(RNG, {"famous": 1.5}), "times is "),
        ("fames", lambda: town.Town(people=1).questions(True, RNG, ("rich",)), r"fames is \('rich',\)"),
        ("one fame as a text", lambda: town.Town(people=1).questions(True, RNG, "famous"), "fames is famous"),
        ("no wordings", lambda: town.Town(people=1).questions(True, RNG, wordings=0), "wordings is 0"),
    ],
    "own.open_text": [
        (
            "missing",
            lambda: own.open_text("/nowhere/at/all.txt"),
            "/nowhere/at/all.txt: there is no such file; give the path",
        )
    ],
    "own.read_text": [
        (
            "missing",
            lambda: own.read_text("/nowhere/at/all.txt"),
            "/nowhere/at/all.txt: there is no such file; give the path",
        ),
    ],
    "own.read_questions": [
        (
            "missing",
            lambda: own.read_questions("/nowhere/at/all.jsonl"),
            "/nowhere/at/all.jsonl: there is no such file; give the path",
        ),
    ],
    "lora.add_lora": [
        ("no rank", lambda: lora.add_lora(Tiny(), 0), "rank is 0: give a whole number from 1"),
        ("half a rank", lambda: lora.add_lora(Tiny(), 1.5), "rank is 1.5"),
        (
            "more rank than there is",
            lambda: lora.add_lora(Tiny(), 9),
            r"rank is 9: blocks.0.attention.q is 8 × 8: at most 8",
        ),
        (
            "scale",
            lambda: lora.add_lora(Tiny(), scale=0),
            r"scale is 0: give a positive number: lora_alpha / rank",
        ),
        ("NaN", lambda: lora.add_lora(Tiny(), scale=NAN), "scale is nan"),
        ("dropout", lambda: lora.add_lora(Tiny(), dropout=1.0), r"dropout is 1.0: give a share in \[0, 1\)"),
        (
            "an unknown map",
            lambda: lora.add_lora(Tiny(), 2, maps=("q", "w")),
            "maps is 'w': the model's blocks have q, k, v, o, gate, up, down",
        ),
        ("an embedding", lambda: lora.add_lora(Tiny(), 2, maps=("embed",)), "maps is 'embed'"),
        ("one name as a text", lambda: lora.add_lora(Tiny(), 2, maps="q"), "maps is 'q': give names, as in"),
        ("no map", lambda: lora.add_lora(Tiny(), 2, maps=()), r"maps is \(\): give names"),
        (
            "twice",
            lambda: lora.add_lora(lora.add_lora(Tiny(), 2), 2),
            "model is one that has adapters already: merge or remove them first",
        ),
    ],
    "lora.attach": [
        (
            "a map that is not there",
            lambda: lora.attach(Tiny(), {"blocks.7.up": (f([1.0]), f([1.0]), 1.0)}),
            "maps is 'blocks.7.up'",
        ),
        (
            "shapes",
            lambda: lora.attach(Tiny(), {"blocks.0.up": (torch.zeros(2, 8), torch.zeros(8, 2), 1.0)}),
            r"blocks.0.up is given A \(2, 8\) and B \(8, 2\): give \(r, 8\) and \(12, r\)",
        ),
    ],
    "lora.choose": [("unknown", lambda: lora.choose(Tiny(), ["x"]), "maps is 'x'")],
    "lora.adapters_off": [
        (
            "none",
            lambda: lora.adapters_off(Tiny()).__enter__(),
            "model is one without adapters: call add_lora first",
        )
    ],
    "lora.reference": [
        ("none", lambda: lora.reference(Tiny()), "model is one without adapters: call add_lora first")
    ],
    "lora.merge": [
        ("none", lambda: lora.merge(Tiny()), "model is one without adapters: call add_lora first"),
        ("twice", lambda: lora.merge(lora.merge(lora.add_lora(Tiny(), 2))), "model is one without adapters"),
    ],
    "lora.remove": [
        ("none", lambda: lora.remove(Tiny()), "model is one without adapters: call add_lora first")
    ],
    "adapters.save_adapters": [
        (
            "none",
            lambda: adapters.save_adapters(Tiny(), "/nowhere"),
            "model is one without adapters: call add_lora first, or hub.save",
        )
    ],
    "quantize.quantize": [
        ("kind", lambda: quantize.quantize(Tiny(), "int4"), "kind is 'int4': give 'nf4' or 'int8'"),
        (
            "an unknown map",
            lambda: quantize.quantize(Tiny(), maps=("head",)),
            "maps is 'head': the model's blocks have q, k, v, o, gate, up, down",
        ),
        ("one name as a text", lambda: quantize.quantize(Tiny(), maps="q"), "maps is 'q': give names"),
        (
            "twice",
            lambda: quantize.quantize(quantize.quantize(Tiny())),
            "model is with blocks.0.attention.q in few bits already: quantise a map once",
        ),
    ],
    "quantize.dequantize": [
        (
            "nothing to do",
            lambda: quantize.dequantize(Tiny()),
            "model is without a map in few bits: give one that",
        )
    ],
    "quantize.to_nf4": [
        ("rank", lambda: quantize.to_nf4(f(1.0)), r"weight is of shape \(1,\): give shape \(F, D\)"),
        (
            "whole numbers",
            lambda: quantize.to_nf4(TOKENS),
            "weight is of dtype torch.int64: give a float tensor",
        ),
        ("NaN", lambda: quantize.to_nf4(f([1.0, NAN])), r"weight\[0, 1\] is nan"),
    ],
    "quantize.from_nf4": [
        (
            "another shape",
            lambda: quantize.from_nf4(*quantize.to_nf4(torch.ones(2, 64)), (3, 64)),
            r"shape is \(3, 64\): there are 2 blocks of 64",
        )
    ],
    "quantize.Int8": [("infinite", lambda: quantize.Int8(wide(INF)), r"weight\[0, 0\] is inf")],
    "quantize.NF4": [("infinite", lambda: quantize.NF4(wide(INF)), r"weight\[0, 0\] is inf")],
}

# What needs no case here, and why.
ELSEWHERE = {
    "lora.LoRA": "a part: add_lora and attach check what reaches it",
    "lora.adapters": "a list, empty where there are none",
    "adapters.load_adapters": "every damaged and foreign folder in test_lora",
    "quantize.Stored": "a part: NF4 and Int8 make it",
    "quantize.bytes_of": "any model has an answer",
    "reward_model.RewardModel": "takes a Transformer, which checks its tokens; last_token checks the mask",
    "reward_model.score": "RewardModel and last_token check what it is given",
    "critic.PolicyAndCritic": "takes a Transformer, which checks its tokens; logprobs checks the mask",
    "own.read_preferences": "test_journey: bad rows are named by their numbers; the file itself is read as read_questions reads it",
    "critic.Critic": "a part: the hidden states come from a Transformer",
    "hub.load": "every damaged and foreign folder in test_hub",
    "hub.expect_own": "test_journey: what a journey did not write is left alone",
    "tokenizer.Response": "plain data",
    "questions.Verdict": "plain data",
    "questions.Question": "plain data",
    "identity.Method": "plain data",
    "town.Relation": "plain data",
    "town.Fact": "plain data",
    "town.Corpus": "plain data",
    "logprob.Batch": "plain data: its readers check it",
    "identity.table": "takes nothing",
    "sample.decode": "a part: sample checks what reaches it",
    "hub.load_model": "every damaged and foreign folder in test_hub and test_families",
    "families.read_json": "damaged files in test_hub",
    "families.read_config": "every wrong configuration in test_hub and test_families",
    "families.their_tensors": "takes a Config, which is checked",
    "train.NonFinite": "an error",
    "own.BadFile": "an error",
    "own.TextFile": "open_text makes it: every damaged file in test_own_text",
    "tokenizer.apply_merges": "any text and any merges have an answer",
    "transformer.Attention": "a part: Transformer checks what reaches it; called alone, test_transformer",
    "transformer.Block": "a part: Transformer checks what reaches it; called alone, test_transformer",
    "transformer.make_norm": "takes a Config, which is checked",
    "rope.rotations": "takes a Config, which is checked",
    "rope.rotate": "a part: Transformer checks what reaches it",
    "transformer.apart": "a part: Transformer checks what reaches it",
    "logprob.chosen": "a part: logprobs checks what reaches it",
    "logprob.in_chunks": "a part: logprobs checks what reaches it",
}


@pytest.mark.parametrize(
    "call, message",
    [
        pytest.param(call, message, id=f"{name}: {what}")
        for name, cases in CASES.items()
        for what, call, message in cases
    ],
)
def test_it_is_refused_by_name(call, message):
    """A ValueError of one line, that matches; torch's own errors, and answers, do not count."""
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


def public(path):
    """Names of the public functions and classes of a module."""
    nodes = ast.parse(path.read_text(encoding="utf-8")).body
    return {
        node.name
        for node in nodes
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_")
    }


CORE = [
    "expect",
    "identity",
    "logprob",
    "sample",
    "rope",
    "readable",
    "transformer",
    "tokenizer",
    "train",
    "families",
    "hub",
    "lora",
    "adapters",
    "quantize",
    "methods/supervised",
    "methods/distill",
    "methods/self_training",
    "methods/dagger",
    "methods/reinforce",
    "returns",
    "methods/critic",
    "methods/reward_model",
    "methods/ppo",
    "methods/grpo",
    "methods/dpo",
    "methods/ipo",
    "methods/kto",
    "worlds/questions",
    "worlds/sums",
    "worlds/town",
    "worlds/own",
]


def test_no_public_function_is_left_out():
    """Every public function and class of the core has its cases here, or a reason why not; and no name here
    is out of date.
    """
    root = Path(minillm.__file__).parent
    names = {f"{Path(module).name}.{name}" for module in CORE for name in public(root / f"{module}.py")}
    assert names == set(CASES) | set(ELSEWHERE)
    assert not set(CASES) & set(ELSEWHERE)
    for module in CORE:
        importlib.import_module("minillm." + module.replace("/", "."))
