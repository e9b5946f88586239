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
    batch,
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
from minillm.acting import calculator, toolbox, tools, transcript
from minillm.adapt import lora, quantize
from minillm.hub import adapters, families, fields
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
    simpo,
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
TEACHER = -torch.ones(2, 3, 5, dtype=torch.float64)
LOGP_NAN = f([0.0, NAN, -2.0], [0.0, -3.0, 0.0])
TOKENS = i([1, 2, 0], [1, 0, 0])
EVEN = f(0.5, 0.5).log().requires_grad_()
TWO = f([0.5, 0.5], [0.25, 0.75]).log().requires_grad_()
THETA = f(0.0, 0.0).requires_grad_()


def some(**fields):
    """A batch of two rows with these fields."""
    return Batch(TOKENS, MASK, **fields)


def alone(**fields):
    """A batch of one row: half a pair."""
    return Batch(TOKENS[:1], MASK[:1], **fields)


def chosen(better=i(0), worse=i(1), weight=f(1.0)):
    """A batch with one choice."""
    return some(better=better, worse=worse, weight=weight)


def grouped(**fields):
    """A batch as GRPO takes it."""
    return some(logprobs=LOGP, advantages=f(1.0, 2.0), **fields)


COMPARED = some(reference=f(1.0, 2.0))
THUMBED = some(reference=f(1.0, 2.0), thumbs=MASK[:1, 1])


def one(batch, logp):
    """F = 1."""
    return torch.ones(2)


def twice(text: str) -> str:
    """A tool that says a text twice."""
    return text + text


def bare(text: str) -> str:
    return text


def untyped(text):
    """A tool that does not say what it takes."""


def starred(*texts: str):
    """A tool that takes any number of texts."""


def of_dicts(table: dict):
    """A tool that takes what no small model writes."""


def unknown(text: "Nowhere"):  # noqa: F821
    """A tool of a type that is not there."""


def answered(**how):
    """use with a model and a tokenizer that go together."""
    return transcript.use(*[TALKER, WORDS, how.pop("questions", ["the"]), how.pop("tools", [twice])], **how)


def loop(F=one, model=None, how={}, **fields):
    """train for one step on a batch of these fields."""
    batch = Batch(**({"tokens": TOKENS, "response_mask": MASK} | fields))
    model = model or Tiny(vocab_size=5)
    return train.train(model, lambda step: batch, F, train.Settings(1), progress=False, **how)


def plain(F, draw=lambda step: some(), model=None):
    """ascend for one step."""
    return list(train.ascend(model or Tiny(vocab_size=5), draw, F, train.Settings(1)))


def rises(F, logprobs=LOGP, mask=MASK):
    """The surrogate: what a method lets through is held here, before any step."""
    return identity.surrogate(F, logprobs, mask)


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
    "fields.expect_field": [
        (
            "a word for a flag",
            lambda: fields.expect_field({"tied": "false"}, "tied", bool, place="c.json"),
            "c.json: tied is 'false': give true or false",
        ),
        (
            "true for a number",
            lambda: fields.expect_field({"n": True}, "n", int, low=1),
            "n is True: give a whole number from 1",
        ),
        (
            "too large",
            lambda: fields.expect_field({"n": 9}, "n", int, low=1, high=8),
            "n is 9: give a whole number from 1 to 8",
        ),
        ("NaN", lambda: fields.expect_field({"x": NAN}, "x", float, low=0), "x is nan: give a number from 0"),
        ("missing", lambda: fields.expect_field({}, "x", str), "x is missing: give a text"),
        (
            "one in place of several",
            lambda: fields.expect_field({"x": "q"}, "x", [str]),
            "x is 'q': give a list, each a text",
        ),
    ],
    "fields.expect_folder": [
        ("empty", lambda: fields.expect_folder(""), "folder is '': name a folder"),
        ("a number", lambda: fields.expect_folder(3), "folder is '3'|folder is 3"),
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
            lambda: rises(f(1.0, 1.0), LOGP[None, None]),
            r"logprobs is of shape \(1, 1, 2, 3\): give shape \(B, T, V\)",
        ),
        ("no tensor", lambda: rises(f(1.0, 1.0), [0.0]), "logprobs is list: give a tensor"),
        ("integer logprobs", lambda: rises(f(1.0, 1.0), TOKENS), "logprobs is of dtype torch.int64"),
        (
            "another B",
            lambda: rises(f(1.0, 1.0), LOGP[:1]),
            r"logprobs is of shape \(1, 3\): its B must be 2",
        ),
        (
            "empty",
            lambda: rises(torch.ones(0), torch.ones(0, 3), torch.ones(0, 3, dtype=torch.bool)),
            "is empty",
        ),
        (
            "shape of the mask",
            lambda: rises(f(1.0, 1.0), LOGP, MASK[:, 1:]),
            r"logprobs is of shape \(2, 3\): its T must be 2",
        ),
        (
            "float mask",
            lambda: rises(f(1.0, 1.0), LOGP, MASK.double()),
            "response_mask is of dtype torch.float64: give a bool",
        ),
        ("all-masked row", lambda: rises(f(1.0, 1.0), LOGP, NONE), r"response_mask\[1\] is False everywhere"),
        (
            "all-masked row of answers",
            lambda: rises(f(1.0, 1.0), f(1.0, 1.0), NONE),
            r"response_mask\[1\] is F",
        ),
        ("a float F", lambda: rises(1.0), "coefficient is float: give a tensor"),
        ("one F too many", lambda: rises(f(1.0, 1.0, 1.0)), r"coefficient is of shape \(3,\)"),
        (
            "F (1, T) that would broadcast",
            lambda: rises(torch.ones(1, 3)),
            r"coefficient is of shape \(1, 3\)",
        ),
        (
            "F (B, 1) that would broadcast",
            lambda: rises(torch.ones(2, 1)),
            r"coefficient is of shape \(2, 1\)",
        ),
        (
            "F a token for scores an answer",
            lambda: rises(LOGP, f(1.0, 1.0)),
            r"coefficient is of shape \(2, 3\): logprobs are \(2,\): give as many",
        ),
        (
            "F (B, T, 1) that would broadcast",
            lambda: rises(torch.ones(2, 3, 1), LOGITS),
            r"coefficient is of shape \(2, 3, 1\): logprobs are \(2, 3, 5\)",
        ),
        (
            "a bool F",
            lambda: rises(torch.tensor([True, False])),
            "coefficient is of dtype torch.bool: give a float",
        ),
        (
            "F with a graph",
            lambda: rises(f(1.0, 1.0).requires_grad_()),
            "coefficient is part of the graph: detach it",
        ),
        ("NaN F", lambda: rises(f(1.0, NAN)), r"coefficient\[1\] is nan"),
        ("NaN F of a token", lambda: rises(LOGP_NAN), r"coefficient\[0, 1\] is nan"),
        ("infinite F", lambda: rises(f(INF, 1.0)), r"coefficient\[0\] is inf"),
        ("NaN log p", lambda: rises(f(1.0, 1.0), LOGP_NAN), r"logprobs\[0, 1\] is nan"),
        ("NaN score of an answer", lambda: rises(f(1.0, 1.0), f(1.0, NAN)), r"logprobs\[1\] is nan"),
        (
            "NaN in one of two",
            lambda: rises({"a": f(1.0, 1.0), "b": f(1.0, NAN)}, {"a": LOGP, "b": LOGP}),
            r"coefficient\[1\] is nan",
        ),
        (
            "no pairs",
            lambda: identity.surrogate(f(1.0, 1.0), LOGP, MASK, divide_by=0),
            "divide_by is 0: give how many",
        ),
    ],
    "identity.every_answer": [
        ("one token", lambda: identity.every_answer(1, 2), "vocab_size is 1: give a whole number from 2"),
        ("a float", lambda: identity.every_answer(3.0, 2), "vocab_size is 3.0"),
        ("no length", lambda: identity.every_answer(3, 0), "longest is 0"),
        ("end outside", lambda: identity.every_answer(3, 2, 3), "end is 3: give a whole number from 0 to 2"),
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
        ("integers", lambda: identity.expectation(i(0, 0), f(1.0, 1.0)), r"logp is \(2,\): give log p"),
        (
            "a number",
            lambda: identity.expectation(torch.tensor(0.0), f(1.0)),
            r"logp is \(\): give log p of every answer",
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
            r"value is of shape \(1,\): give one for each of logp",
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
            r"coefficient is of shape \(1,\): give one for each",
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
    "batch.Batch": [
        ("rank", lambda: Batch(TOKENS[0]), r"tokens is of shape \(3,\): give shape \(B, T\)"),
        ("floats", lambda: Batch(TOKENS.double(), MASK), "tokens is of dtype"),
        ("empty", lambda: Batch(TOKENS[:0], MASK[:0]), "tokens is empty"),
        ("shape of the mask", lambda: Batch(TOKENS, MASK[:1]), r"response_mask is of shape \(1, 3\)"),
        ("integer mask", lambda: Batch(TOKENS, MASK.long()), "response_mask is of dtype"),
        ("all-masked row", lambda: Batch(TOKENS, NONE), r"response_mask\[1\] is False everywhere"),
        (
            "the first token",
            lambda: Batch(TOKENS, ~MASK),
            r"response_mask\[:, 0\] is True: the first token has no context",
        ),
        ("one token and no mask", lambda: Batch(TOKENS[:, :1]), "tokens is of shape .*give at least two"),
        ("shape of targets", lambda: some(targets=TOKENS[:, 1:]), r"targets is of shape \(2, 2\)"),
        ("sequence", lambda: some(sequence=TOKENS[:1]), "sequence is of shape .* its B must be 2"),
        ("sequence kind", lambda: some(sequence=MASK), "sequence is of dtype"),
        (
            "first of its sequence",
            lambda: some(sequence=i([0, 0, 1], [2, 2, 2])),
            "response_mask is True on the first token of a seq",
        ),
        ("needed and missing", lambda: some().needs(keep="B bool"), r"batch.keep is missing: give a bool"),
        (
            "needed in another shape",
            lambda: some(rewards=LOGP).needs(rewards="B float"),
            "batch.rewards is of shape",
        ),
        (
            "needed in one number",
            lambda: some(weight=f(1.0), better=i(0, 1)).needs(weight="P float", better="P integer"),
            r"batch.better is of shape \(2,\): its P must be 1",
        ),
    ],
    "batch.batch_pairs": [
        ("none", lambda: batch.batch_pairs([]), "pairs is empty"),
        (
            "no prompt",
            lambda: batch.batch_pairs([([1], [2]), ([], [1])]),
            r"pairs\[1\] is without a prompt: begin it",
        ),
        (
            "no response",
            lambda: batch.batch_pairs([([1], [])]),
            r"pairs\[0\] is without a response: give at least the end",
        ),
        ("rank", lambda: batch.batch_pairs([(1, 2)]), r"pairs\[0\] is \(1, 2\): give two lists"),
        ("floats", lambda: batch.batch_pairs([([1.7], [2])]), r"pairs is with the token 1.7\d*: give ids"),
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
            "token outside",
            lambda: logprob.logprobs(MODEL, Batch(TOKENS + 3, MASK)),
            "tokens is from 3 to 5: ids run from 0 to 4",
        ),
        (
            "negative token",
            lambda: logprob.logprobs(MODEL, Batch(TOKENS - 1, MASK)),
            "tokens is from -1 to 1",
        ),
        (
            "too long",
            lambda: logprob.logprobs(MODEL, Batch(torch.ones(1, 9, dtype=torch.long))),
            "tokens is 9 long: the model's context is 8",
        ),
        (
            "target outside",
            lambda: logprob.logprobs(MODEL, some(targets=TOKENS + 4)),
            "targets is from 4 to 6: ids run",
        ),
        ("NaN weights, warped", lambda: logprob.logprobs(BROKEN, some(), top_k=2), "logits.* is nan"),
        ("temperature", lambda: logprob.logprobs(MODEL, some(), temperature=-1), "temperature is -1"),
        ("top_p", lambda: logprob.logprobs(MODEL, some(), top_p=2), "top_p is 2"),
    ],
    "logprob.states_before": [
        (
            "token outside",
            lambda: logprob.states_before(MODEL, Batch(TOKENS + 3, MASK)),
            "from 3 to 5: ids run",
        ),
    ],
    "logprob.of_chosen": [
        ("temperature", lambda: logprob.of_chosen(LOGP, i(0, 0), temperature=-1), "temperature is -1"),
        ("NaN", lambda: logprob.of_chosen(LOGP_NAN, i(0, 0)), r"logits.*\[0\] is nan"),
    ],
    "logprob.answer_logprobs": [
        ("rank", lambda: logprob.answer_logprobs(LOGP[0], MASK), "logprobs is of shape"),
        ("rank of the mask", lambda: logprob.answer_logprobs(LOGP, MASK[0]), "response_mask is of shape"),
        (
            "mask",
            lambda: logprob.answer_logprobs(LOGP, MASK[:, 1:]),
            r"logprobs is of shape \(2, 3\): its T must",
        ),
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
        ("rank", lambda: logprob.masked_mean(LOGP[0], MASK), r"values is of shape \(3,\): give shape"),
        ("whole numbers", lambda: logprob.masked_mean(TOKENS, MASK), "values is of dtype torch.int64"),
        (
            "shape of the mask",
            lambda: logprob.masked_mean(LOGP, MASK[:1]),
            r"values is of shape \(2, 3\): its B must be 1",
        ),
        ("a row without a response", lambda: logprob.masked_mean(LOGP, NONE), r"response_mask\[1\] is False"),
        ("the same, by rows", lambda: logprob.masked_mean(LOGP, NONE, 1), r"response_mask\[1\] is False"),
        ("NaN", lambda: logprob.masked_mean(LOGP_NAN, MASK), r"values\[0, 1\] is nan"),
        ("axis", lambda: logprob.masked_mean(LOGP, MASK, axis=0), "axis is 0: give 1 for each row's mean"),
    ],
    "batch.batch_turns": [
        ("none", lambda: batch.batch_turns([]), "conversations is empty"),
        (
            "no turns",
            lambda: batch.batch_turns([[([1], [2])], []]),
            r"conversations\[1\] is empty: give at least one \(prompt",
        ),
        (
            "no prompt",
            lambda: batch.batch_turns([[([1], [2]), ([], [1])]]),
            r"conversations\[0\] is without a prompt: begin it",
        ),
        (
            "no response",
            lambda: batch.batch_turns([[([1], [])]]),
            r"conversations\[0\] is without a response",
        ),
    ],
    "batch.batch_packed": [
        ("none", lambda: batch.batch_packed([], 8), "conversations is empty"),
        (
            "too long",
            lambda: batch.batch_packed([[([1], [2])], [([1, 1], [2])]], 2),
            r"length is 2: conversations\[1\] has 3 tokens: give as many",
        ),
        ("no response", lambda: batch.batch_packed([[([1], [])]], 8), "without a response"),
        ("half a length", lambda: batch.batch_packed([[([1], [2])]], 2.5), "length is 2.5"),
    ],
    "logprob.all_logprobs": [
        (
            "token outside",
            lambda: logprob.all_logprobs(MODEL, Batch(TOKENS + 3, MASK)),
            "from 3 to 5: ids run",
        ),
        ("weights", lambda: logprob.all_logprobs(BROKEN, some()), "is nan"),
        ("temperature", lambda: logprob.all_logprobs(MODEL, some(), temperature=-1), "temperature is -1"),
    ],
    "batch.batch_windows": [
        ("rank", lambda: batch.batch_windows(TOKENS, 1, 2, generator()), "ids is of shape"),
        ("empty", lambda: batch.batch_windows(TOKENS[0, :0], 1, 2, generator()), "ids is empty"),
        (
            "too long",
            lambda: batch.batch_windows(TOKENS[0], 1, 4, generator()),
            "length is 4: give a whole number from 2 to 3",
        ),
        ("too short", lambda: batch.batch_windows(TOKENS[0], 1, 1, generator()), "length is 1"),
        ("no rows", lambda: batch.batch_windows(TOKENS[0], 0, 2, generator()), "rows is 0"),
        ("half a row", lambda: batch.batch_windows(TOKENS[0], 1.5, 2, generator()), "rows is 1.5"),
    ],
    "logprob.text_nats": [
        ("rank", lambda: logprob.text_nats(MODEL, TOKENS, 4), "ids is of shape"),
        ("one token", lambda: logprob.text_nats(MODEL, i(1), 4), "ids is 1 long"),
        (
            "no length",
            lambda: logprob.text_nats(MODEL, i(1, 2, 3), 1),
            "length is 1: give a whole number from 2",
        ),
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
        (
            "end outside",
            lambda: sample.sample(MODEL, [[1]], 3, end=5),
            "end is 5: give a whole number from 0",
        ),
        ("end between ids", lambda: sample.sample(MODEL, [[1]], 3, end=0.5), "end is 0.5"),
        ("one end of two outside", lambda: sample.sample(MODEL, [[1]], 3, end=(0, 5)), "end is 5"),
        ("temperature", lambda: sample.sample(MODEL, [[1]], 3, temperature=-0.1), "temperature is -0.1"),
        ("top_k", lambda: sample.sample(MODEL, [[1]], 3, top_k=-1), "top_k is -1"),
        ("top_p", lambda: sample.sample(MODEL, [[1]], 3, top_p=2), "top_p is 2"),
        ("NaN weights", lambda: sample.sample(BROKEN, [[1]], 3), "logits.* is nan"),
        ("NaN weights, greedy", lambda: sample.sample(BROKEN, [[1]], 3, temperature=0), "logits.* is nan"),
    ],
    "sample.stream": [
        ("an empty one", lambda: list(sample.stream(MODEL, [], 3)), r"prompts\[0\] is empty: begin it"),
        ("floats", lambda: list(sample.stream(MODEL, [1.5], 3)), r"prompts\[0\] is \[1.5\]: give ids"),
        ("too many", lambda: list(sample.stream(MODEL, [1], 8)), "max_new_tokens is 8: .* at most 7"),
        ("end outside", lambda: list(sample.stream(MODEL, [1], 3, end=5)), "end is 5"),
        ("temperature", lambda: list(sample.stream(MODEL, [1], 3, temperature=-1)), "temperature is -1"),
        ("NaN weights", lambda: list(sample.stream(BROKEN, [1], 3)), "logits.* is nan"),
    ],
    "sample.next_token": [
        ("temperature", lambda: sample.next_token(LOGP, -1), "temperature is -1"),
        ("NaN", lambda: sample.next_token(LOGP_NAN), r"logits.*\[0\] is nan"),
        ("NaN, greedy", lambda: sample.next_token(LOGP_NAN, 0), r"logits.*\[0\] is nan"),
    ],
    "sample.read": [
        ("floats", lambda: sample.read(MODEL, [[1.5]], 3), r"prompts\[0\] is \[1.5\]: give ids"),
        ("token outside", lambda: sample.read(MODEL, [[7]], 3), "ids run from 0 to 4"),
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
        ("zero", lambda: transformer.Config(n_layers=0), "n_layers is 0: give a whole number from 1"),
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
        ("a float F", lambda: loop(lambda batch, logp: 1.0), "coefficient is float: give a tensor"),
        ("F of another shape", lambda: loop(lambda batch, logp: torch.ones(3)), "coefficient is of shape"),
        ("all-masked row", lambda: loop(response_mask=NONE), r"response_mask\[1\] is False"),
        ("empty", lambda: loop(tokens=TOKENS[:0], response_mask=MASK[:0]), "tokens is empty"),
        ("token outside", lambda: loop(tokens=TOKENS + 3), "from 3 to 5"),
        ("targets outside", lambda: loop(targets=TOKENS + 4), "targets is from 4"),
        ("no pairs", lambda: loop(divide_by=0), "divide_by is 0"),
        ("all frozen", lambda: loop(model=Tiny(vocab_size=5).requires_grad_(False)), "model is frozen whole"),
        ("no pieces", lambda: loop(how={"pieces": 0}), "pieces is 0: give a whole number from 1"),
        ("half a piece", lambda: loop(how={"pieces": 1.5}), "pieces is 1.5: give a whole number from 1"),
        ("bf16 of float64", lambda: loop(how={"bf16": True}), "bf16 is True: it is for weights in float32"),
        (
            "no batch",
            lambda: train.train(MODEL, lambda step: [], one, train.Settings(1), progress=False),
            "draw is without a batch at step 0",
        ),
    ],
    "train.ascend": [
        ("a float F", lambda: plain(lambda batch, logp: 1.0), "coefficient is float: give a tensor"),
        ("F of another shape", lambda: plain(lambda batch, logp: torch.ones(3)), "coefficient is of shape"),
        (
            "F with a graph",
            lambda: plain(lambda batch, logp: f(1.0, 1.0).requires_grad_()),
            "part of the graph",
        ),
        ("no batch", lambda: plain(one, lambda step: []), "draw is without a batch at step 0"),
        ("all frozen", lambda: plain(one, model=Tiny().requires_grad_(False)), "model is frozen whole"),
    ],
    "train.Run": [
        (
            "all frozen",
            lambda: train.Run(Tiny().requires_grad_(False), train.Settings(1)),
            "model is frozen whole",
        ),
    ],
    "train.make_optimizers": [
        (
            "all frozen",
            lambda: train.make_optimizers(Tiny().requires_grad_(False), train.Settings(1)),
            "model is frozen whole",
        ),
    ],
    "folders.add_marks": [
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
    "folders.save": [
        ("shards", lambda: hub.save(MODEL, None, "/nonexistent", 0), "shard_bytes is 0"),
        (
            "a tokenizer of another size",
            lambda: hub.save(MODEL, WORDS, "/nonexistent"),
            "tokenizer is of 270 tokens: the model has 5",
        ),
    ],
    "distill.coefficient": [
        ("kind", lambda: distill.coefficient(some(teacher=TOKENS[..., None])), "batch.teacher is of dtype"),
        ("rank", lambda: distill.coefficient(some(teacher=LOGP)), r"batch.teacher is of shape \(2, 3\)"),
        (
            "rows",
            lambda: distill.coefficient(some(teacher=TEACHER[:1])),
            "batch.teacher is of shape .* its B must be 2",
        ),
        (
            "places",
            lambda: distill.coefficient(some(teacher=TEACHER[:, :2])),
            "batch.teacher is of shape .* its T must be 3",
        ),
        ("nan", lambda: distill.coefficient(some(teacher=TEACHER.log())), r"batch.teacher\[0, 0, 0\] is nan"),
        (
            "temperature",
            lambda: distill.coefficient(some(teacher=TEACHER), temperature=0),
            "temperature is 0: give a positive number",
        ),
        (
            "another V than is scored",
            lambda: rises(distill.coefficient(some(teacher=TEACHER[..., :4])), LOGITS),
            r"coefficient is of shape \(2, 3, 4\): logprobs are",
        ),
    ],
    "distill.ask_teacher": [
        ("greedy", lambda: distill.ask_teacher(MODEL, some(), 0), "temperature is 0: give a positive number"),
        ("weights", lambda: distill.ask_teacher(BROKEN, some()), "is nan"),
    ],
    "self_training.coefficient": [
        (
            "numbers for verdicts",
            lambda: self_training.coefficient(some(keep=f(1.0, 0.3))),
            "batch.keep is of dtype torch.float64: give a bool",
        ),
        ("rank", lambda: self_training.coefficient(some(keep=MASK)), "batch.keep is of shape"),
        ("one too few", lambda: self_training.coefficient(some(keep=MASK[:1, 0])), "batch.keep is of shape"),
        ("none", lambda: self_training.coefficient(some()), "batch.keep is missing: give a bool tensor"),
    ],
    "self_training.best_of_n": [
        ("NaN", lambda: self_training.best_of_n(f(1.0, NAN), i(0, 0)), r"rewards\[1\] is nan"),
        ("group size", lambda: self_training.best_of_n(f(1.0, 2.0), i(0, 0, 1)), "group is of shape"),
        ("float group", lambda: self_training.best_of_n(f(1.0), f(0.0)), "group is of dtype"),
        ("integer rewards", lambda: self_training.best_of_n(i(1, 2), i(0, 0)), "rewards is of dtype"),
    ],
    "self_training.expert_iteration": [
        (
            "greedy",
            lambda: self_training.expert_iteration(MODEL, [[1]], lambda g, y: True, 3, temperature=0),
            "temperature is 0: give more than 0",
        ),
        ("none", lambda: self_training.expert_iteration(MODEL, [], lambda g, y: True, 3), "prompts is empty"),
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
        (
            "none",
            lambda: reinforce.coefficient(some(), LOGP),
            "batch.rewards is missing: give a float tensor",
        ),
        ("NaN", lambda: reinforce.coefficient(some(rewards=f(1.0, NAN)), LOGP), r"batch.rewards\[1\] is nan"),
        ("rank", lambda: reinforce.coefficient(some(rewards=LOGP[None]), LOGP), "batch.rewards is of shape"),
        (
            "one too few",
            lambda: reinforce.coefficient(some(rewards=f(1.0)), LOGP),
            "batch.rewards is of shape",
        ),
        (
            "places",
            lambda: reinforce.coefficient(some(rewards=LOGP[:, 1:]), LOGP),
            "batch.rewards is of shape",
        ),
        ("integers", lambda: reinforce.coefficient(some(rewards=i(1, 0)), LOGP), "batch.rewards is of dtype"),
        ("empty", lambda: reinforce.coefficient(some(rewards=f()), LOGP), "batch.rewards is empty"),
        (
            "negative beta",
            lambda: reinforce.coefficient(some(rewards=f(1.0, 2.0)), LOGP, -1.0),
            "beta is -1.0",
        ),
        ("NaN beta", lambda: reinforce.coefficient(some(rewards=f(1.0, 2.0)), LOGP, NAN), "beta is nan"),
        (
            "no reference",
            lambda: reinforce.coefficient(some(rewards=f(1.0, 2.0)), LOGP, 0.1),
            "reference is NoneType",
        ),
        (
            "a reference an answer",
            lambda: reinforce.coefficient(some(rewards=f(1.0, 2.0), reference=f(1.0, 2.0)), LOGP, 0.1),
            "reference is of shape",
        ),
        (
            "a baseline that would broadcast",
            lambda: rises(reinforce.coefficient(some(rewards=f(1.0, 2.0), baseline=f([1.0], [2.0])), LOGP)),
            " is of shape",
        ),
        (
            "NaN baseline",
            lambda: rises(reinforce.coefficient(some(rewards=f(1.0, 2.0), baseline=f(1.0, NAN)), LOGP)),
            r"\[1\] is nan",
        ),
        (
            "NaN number",
            lambda: rises(reinforce.coefficient(some(rewards=f(1.0, 2.0), baseline=NAN), LOGP)),
            " is nan",
        ),
    ],
    "reinforce.leave_one_out": [
        (
            "a group of one",
            lambda: reinforce.leave_one_out(f(1.0, 2.0, 3.0), i(0, 0, 4)),
            r"group is \[4\], with one answer each: draw at least 2",
        ),
        ("NaN", lambda: reinforce.leave_one_out(f(1.0, NAN), i(0, 0)), r"rewards\[1\] is nan"),
        ("size", lambda: reinforce.leave_one_out(f(1.0, 2.0), i(0)), "group is of shape"),
        ("float group", lambda: reinforce.leave_one_out(f(1.0, 2.0), f(0.0, 0.0)), "group is of dtype"),
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
            lambda: returns.margin(alone(reference=f(1.0)), LOGP[:1]),
            "logprobs is of 1 rows: give the chosen answers, then the rejected",
        ),
        ("none", lambda: returns.margin(some(), LOGP), "batch.reference is missing: give a float"),
        ("size", lambda: returns.margin(some(reference=f(1.0)), LOGP), "batch.reference is of shape"),
        ("tokens", lambda: returns.margin(some(reference=LOGP), LOGP), "batch.reference is of shape"),
        ("answers", lambda: returns.margin(some(reference=f(1.0, 2.0)), f(1.0, 2.0)), "logprobs is of shape"),
        ("inf", lambda: returns.margin(some(reference=f(1.0, -INF)), LOGP), r"batch.reference\[1\] is -inf"),
    ],
    "expect.expect_aligned": [
        ("shape", lambda: expect.expect_aligned(MASK, values=LOGP[:, :2]), "values is of shape"),
    ],
    "dpo.coefficient": [
        ("beta", lambda: dpo.coefficient(COMPARED, LOGP, 0.0), "beta is 0.0: give a positive number"),
        (
            "smoothing",
            lambda: dpo.coefficient(COMPARED, LOGP, smoothing=0.5),
            "smoothing is 0.5: give the share",
        ),
        ("a reference a token", lambda: dpo.coefficient(some(reference=LOGP), LOGP), "reference is of shape"),
        ("no reference", lambda: dpo.coefficient(some(), LOGP), "batch.reference is missing"),
        ("reference size", lambda: dpo.coefficient(some(reference=f(1.0)), LOGP), "reference is of shape"),
        ("odd", lambda: dpo.coefficient(alone(reference=f(1.0)), LOGP[:1]), "logprobs is of 1 rows"),
        ("NaN", lambda: dpo.coefficient(COMPARED, LOGP_NAN), r"logprobs\[0, 1\] is nan"),
    ],
    "dpo.reference_logprobs": [
        ("none", lambda: dpo.reference_logprobs(MODEL, []), "pairs is empty"),
        (
            "rows",
            lambda: dpo.reference_logprobs(MODEL, [([1], [2])], 0),
            "rows is 0: give a whole number from 1",
        ),
        ("no prompt", lambda: dpo.reference_logprobs(MODEL, [([], [2])]), r"pairs\[0\] is without a prompt"),
    ],
    "dpo.draw": [
        ("none", lambda: dpo.draw([], f()), "comparisons is empty"),
        ("reference", lambda: dpo.draw([([1], [2], [3])], f([1.0])), "reference is of shape"),
    ],
    "ipo.coefficient": [
        ("beta", lambda: ipo.coefficient(COMPARED, LOGP, -1.0), "beta is -1.0: give a positive number"),
        ("odd", lambda: ipo.coefficient(alone(reference=f(1.0)), LOGP[:1]), "logprobs is of 1 rows"),
        ("reference size", lambda: ipo.coefficient(some(reference=f(1.0)), LOGP), "reference is of shape"),
    ],
    "simpo.coefficient": [
        ("beta", lambda: simpo.coefficient(some(), LOGP, 0.0), "beta is 0.0: give a positive number"),
        ("NaN", lambda: simpo.coefficient(some(), LOGP_NAN), r"logprobs\[0, 1\] is nan"),
        ("places", lambda: simpo.coefficient(some(), LOGP[:, 1:]), "logprobs is of shape"),
    ],
    "kto.coefficient": [
        ("beta", lambda: kto.coefficient(THUMBED, LOGP, beta=0), "beta is 0"),
        ("weights", lambda: kto.coefficient(THUMBED, LOGP, down=-1.0), r"up, down is \(1.0, -1.0\)"),
        (
            "no thumbs",
            lambda: kto.coefficient(COMPARED, LOGP),
            "batch.thumbs is NoneType: give a torch tensor",
        ),
    ],
    "kto.ratio_and_point": [
        (
            "thumbs as numbers",
            lambda: kto.ratio_and_point(some(reference=f(1.0, 2.0), thumbs=f(1.0)), LOGP),
            "batch.thumbs is of dtype torch.float64: give a bool",
        ),
        (
            "a thumb for each row",
            lambda: kto.ratio_and_point(some(reference=f(1.0, 2.0), thumbs=MASK[:, 1]), LOGP),
            "batch.thumbs is of shape",
        ),
        (
            "no mismatched rows",
            lambda: kto.ratio_and_point(alone(reference=f(1.0), thumbs=MASK[:1, 1]), LOGP[:1]),
            "logprobs is of 1 rows: give the answers and then",
        ),
        (
            "no reference",
            lambda: kto.ratio_and_point(some(thumbs=MASK[:1, 1]), LOGP),
            "batch.reference is missing",
        ),
        (
            "reference",
            lambda: kto.ratio_and_point(some(reference=f(1.0, NAN), thumbs=MASK[:1, 1]), LOGP),
            r"batch.reference\[1\] is nan",
        ),
    ],
    "kto.draw": [
        ("one", lambda: kto.draw([([1], [2], True)]), "examples is 1 long: give at least two"),
    ],
    "reward_model.coefficient": [
        ("NaN", lambda: rises(reward_model.coefficient(chosen(), f(1.0, NAN)), f(1.0, NAN)), r"\[1\] is nan"),
        (
            "NaN, of F alone",
            lambda: rises(reward_model.coefficient(chosen(), f(1.0, NAN)), f(1.0, 2.0)),
            r"coefficient\[0\] is nan",
        ),
    ],
    "reward_model.gaps": [
        (
            "no weight",
            lambda: reward_model.gaps(some(better=i(0), worse=i(1)), f(1.0, 2.0)),
            "batch.weight is missing",
        ),
        ("rewards a token", lambda: reward_model.gaps(chosen(), LOGP), "rewards is of shape"),
        ("a reward too few", lambda: reward_model.gaps(chosen(), f(1.0)), "rewards is of shape"),
        (
            "a row outside",
            lambda: reward_model.gaps(chosen(worse=i(2)), f(1.0, 2.0)),
            "batch.better, batch.worse is 0 to 2: the batch has 2 rows",
        ),
        (
            "one too few",
            lambda: reward_model.gaps(chosen(worse=i(1, 0)), f(1.0, 2.0)),
            "batch.worse is of shape",
        ),
        (
            "a weight too few",
            lambda: reward_model.gaps(chosen(weight=f(1.0, 1.0)), f(1.0, 2.0)),
            "is of shape",
        ),
        (
            "bool rows",
            lambda: reward_model.gaps(chosen(better=MASK[0, :1]), f(1.0, 2.0)),
            "batch.better is of dtype",
        ),
        (
            "a margin that would broadcast",
            lambda: reward_model.gaps(chosen(i(0, 1), i(1, 0), f(1.0, 1.0)), f(1.0, 2.0), f([1.0], [2.0])),
            "margin is of another shape",
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
        (
            "shape",
            lambda: critic.coefficient(some(values=LOGP, goals=LOGP[:, :2]), LOGP),
            "batch.goals is of shape",
        ),
        (
            "old values",
            lambda: critic.coefficient(some(values=LOGP[:1], goals=LOGP), LOGP),
            "batch.values is of shape",
        ),
        (
            "no goals",
            lambda: critic.coefficient(some(values=LOGP), LOGP),
            "batch.goals is missing: give a float",
        ),
        (
            "clip",
            lambda: critic.coefficient(some(values=LOGP, goals=LOGP), LOGP, 0.0),
            "clip is 0.0: give a positive number",
        ),
    ],
    "ppo.coefficient": [
        (
            "advantages an answer",
            lambda: ppo.coefficient(some(logprobs=LOGP, advantages=f(1.0, 2.0)), LOGP),
            "batch.advantages is of shape",
        ),
        (
            "clip",
            lambda: ppo.coefficient(some(logprobs=LOGP, advantages=LOGP), LOGP, 0.0),
            "clip is 0.0: give a positive number",
        ),
        (
            "old",
            lambda: ppo.coefficient(some(logprobs=LOGP[:, 1:], advantages=LOGP), LOGP),
            "batch.logprobs is of shape",
        ),
        ("not drawn", lambda: ppo.coefficient(some(advantages=LOGP), LOGP), "batch.logprobs is missing"),
        ("NaN", lambda: ppo.coefficient(some(logprobs=LOGP, advantages=LOGP), LOGP_NAN), r"\[0, 1\] is nan"),
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
        (
            "rows",
            lambda: next(ppo.minibatches(Batch(tokens=TOKENS), 3, 1)),
            "rows is 3: give a whole number from 1 to 2",
        ),
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
        (
            "advantages a token",
            lambda: grpo.coefficient(some(logprobs=LOGP, advantages=LOGP), LOGP),
            "batch.advantages is of shape",
        ),
        (
            "old",
            lambda: grpo.coefficient(some(logprobs=LOGP[:1], advantages=f(1.0, 2.0)), LOGP),
            "batch.logprobs is of shape",
        ),
        ("no reference", lambda: grpo.coefficient(grouped(), LOGP, beta=0.1), "reference is NoneType"),
        (
            "clip",
            lambda: grpo.coefficient(grouped(), LOGP, clip_high=-1.0),
            r"clip_high is -1.0",
        ),
        ("no group", lambda: grpo.coefficient(grouped(), LOGP, average="prompt"), "batch.group is missing"),
        (
            "a group too few",
            lambda: grpo.coefficient(grouped(group=i(0)), LOGP, average="prompt"),
            r"batch.group is of shape \(1,\)",
        ),
        (
            "a group of floats",
            lambda: grpo.coefficient(grouped(group=f(0.0, 0.0)), LOGP, average="prompt"),
            "batch.group is of dtype",
        ),
        (
            "a flag for a mean",
            lambda: grpo.coefficient(grouped(), LOGP, average=False),
            "average is False: give 'answer', 'prompt' or None",
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
    "sums.adding": [
        ("none", lambda: sums.adding(0, random.Random(0)), "n_steps is 0: give 1 or more"),
        ("a float", lambda: sums.adding(2.0, random.Random(0)), "n_steps is 2.0: give 1 or more"),
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
    "tools.schema": [
        ("a name", lambda: tools.schema("twice"), "tool is twice: give a function"),
        ("no name", lambda: tools.schema(lambda text: text), "tool is called '<lambda>'"),
        ("no docstring", lambda: tools.schema(bare), "bare is without a docstring: say in its first line"),
        ("no type", lambda: tools.schema(untyped), "untyped: text is without a type: give one, such as str"),
        ("a star", lambda: tools.schema(starred), r"starred: texts is \*texts"),
        ("a dict", lambda: tools.schema(of_dicts), "of_dicts: table is of type <class 'dict'>: give str"),
        ("a type that is not there", lambda: tools.schema(unknown), "unknown is a function of unknown types"),
    ],
    "tools.by_name": [
        ("a function", lambda: tools.by_name(twice), "tools is <function twice.*: give a list of functions"),
        ("twice", lambda: tools.by_name([twice, twice]), "tools is with twice twice"),
        ("a name", lambda: tools.by_name(["twice"]), "tool is twice: give a function"),
    ],
    "tools.read_call": [
        ("a number", lambda: tools.read_call(3, [twice]), "call is int: give a text"),
        ("no call", lambda: tools.read_call("a", [twice]), r"call is 'a': write it as name\(argument\)"),
        ("no such tool", lambda: tools.read_call("a(b)", [twice]), "tool is 'a': there are twice"),
        ("no tools", lambda: tools.read_call("a(b)", []), "tool is 'a': there are none"),
    ],
    "tools.within": [("no time", lambda: tools.within(0), "seconds is 0: give a positive number")],
    "tools.run": [
        ("no time", lambda: tools.run([twice], "twice(a)", 0), "seconds is 0"),
        ("no room", lambda: tools.run([twice], "twice(a)", longest=0), "longest is 0"),
        ("no tool", lambda: tools.run([bare], "bare(a)"), "bare is without a docstring"),
    ],
    "calculator.calculator": [
        ("a number", lambda: calculator.calculator(3), "expression is 3: give a text"),
        ("no sum", lambda: calculator.calculator("a"), "expression is one with 'a': write numbers"),
    ],
    "toolbox.calendar": [
        ("today", lambda: toolbox.calendar(town.Town(people=1), "soon"), "today is 'soon': give one"),
        ("no date", lambda: toolbox.calendar(town.Town(people=1))("soon"), "date is 'soon'"),
        ("a number", lambda: toolbox.calendar(town.Town(people=1))(3), "date is 3: give a text"),
        ("nothing", lambda: toolbox.calendar(town.Town(people=1))(" "), "date is empty: write something"),
    ],
    "toolbox.search": [
        ("one text", lambda: toolbox.search("a b"), "documents is 'a b': give a list of texts"),
        ("numbers", lambda: toolbox.search([1]), r"documents is \[1\]: give a list of texts"),
        ("no words", lambda: toolbox.search(["?"]), "documents is without a word"),
        ("none", lambda: toolbox.search(["a"], most=0), "most is 0"),
        ("a long question", lambda: toolbox.search(["a"])("b" * 501), "question is 501 characters long"),
    ],
    "toolbox.record": [
        ("one text", lambda: toolbox.record("a: b"), "documents is 'a: b': give a list of texts"),
        ("nobody", lambda: toolbox.record(["Ada, job: baker"])("Ben, job"), "question is 'Ben, job': noth"),
    ],
    "toolbox.unreliable": [
        ("above 1", lambda: toolbox.unreliable(toolbox.notebook()[1], 1.5, 0), r"chance is 1.5: give one in"),
        ("a word", lambda: toolbox.unreliable(toolbox.notebook()[1], "often", 0), "chance is often"),
    ],
    "toolbox.ask_model": [
        ("no room", lambda: toolbox.ask_model(TALKER, WORDS, 0), "max_new_tokens is 0"),
        ("too long", lambda: toolbox.ask_model(TALKER, WORDS)("dog " * 9), "the context is 12"),
    ],
    "transcript.Limits": [
        ("no tokens", lambda: transcript.Limits(tokens=0), "tokens is 0: give a whole number from 1"),
        ("no reply", lambda: transcript.Limits(reply=0), "reply is 0"),
        ("negative calls", lambda: transcript.Limits(calls=-1), "calls is -1"),
        ("no time", lambda: transcript.Limits(seconds=0), "seconds is 0"),
        ("no time for all", lambda: transcript.Limits(total=0), "total is 0"),
    ],
    "transcript.use": [
        ("one question", lambda: answered(questions="the"), "questions is one text: give a list"),
        ("none", lambda: answered(questions=[]), "questions is empty"),
        ("a long one", lambda: answered(questions=[[1] * 12]),
         r"questions\[0\] is 12 tokens long: give 1 to 11"),
        ("an empty prompt", lambda: answered(questions=[[]]), r"questions\[0\] is 0 tokens long"),
        ("no answer", lambda: answered(n=0), "n is 0"),
        ("limits", lambda: answered(limits=3), "limits is 3: give Limits"),
        ("a tool", lambda: answered(tools=[bare]), "bare is without a docstring"),
        ("no list", lambda: answered(tools=twice), r"tools is a function of text: give a list of functions"),
        ("a name", lambda: answered(tools="twice"), "tools is 'twice': give a list of functions"),
        ("temperature", lambda: answered(temperature=-1.0), "temperature is -1.0"),
    ],
    "transcript.stream_use": [
        ("no question", lambda: list(transcript.stream_use(TALKER, WORDS, [], [twice])),
         r"questions\[0\] is 0 tokens long"),
        ("no limits", lambda: list(transcript.stream_use(TALKER, WORDS, "the", [twice], 5)), "limits is 5"),
        ("no list of tools", lambda: list(transcript.stream_use(TALKER, WORDS, "the", twice)),
         "tools is a function of"),
    ],
    "transcript.demonstrate": [
        ("a call that fails", lambda: transcript.demonstrate(WORDS, "the", ["a"], "sat", [twice]),
         "calls: a is error: call is 'a'.*: give one that its tool answers"),
        ("no reply", lambda: transcript.demonstrate(WORDS, "the", ["twice(a)"], "sat", [twice], reply=0),
         "reply is 0"),
    ],
    "transcript.batch_transcripts": [
        ("none", lambda: transcript.batch_transcripts([]), "transcripts is empty"),
        ("nothing written", lambda: transcript.batch_transcripts([transcript.Transcript([1])]),
         r"transcripts\[0\] is one in which the model wrote nothing: leave it out"),
        ("unequal", lambda: transcript.batch_transcripts([transcript.Transcript([1], [2], [True])]),
         r"transcripts\[0\] is one with unequal lengths"),
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
    "tools.Call": "plain data",
    "tools.Made": "plain data",
    "tools.call_text": "of a Call that read_call made, and its tool",
    "tools.to_json": "of a Call that read_call made",
    "tools.to_mcp": "of a Call that read_call made",
    "tools.shown": "any value has an answer",
    "toolbox.records": "takes a Town",
    "toolbox.ranked": "all that search refuses, above",
    "toolbox.notebook": "takes nothing; what is written into it, in test_tools",
    "toolbox.ask_person": "takes a function; what it is asked, in test_tools",
    "transcript.Transcript": "plain data: batch_transcripts checks it",
    "transcript.Form": "plain data: marks or json_form makes it",
    "transcript.marks": "a tokenizer without marks in test_tools",
    "transcript.last_call": "of a transcript whose call was just closed",
    "transcript.reply_ids": "any text has an answer",
    "json_calls.json_form": "bad forms in test_templates",
    "json_calls.calls_in": "any text has an answer",
    "json_calls.as_messages": "any text has an answer",
    "json_calls.to_text": "any name has an answer",
    "templates.ChatTemplate": "bad messages and hostile templates in test_templates",
    "templates.load_template": "bad folders in test_templates",
    "lora.LoRA": "a part: add_lora and attach check what reaches it",
    "lora.adapters": "a list, empty where there are none",
    "adapters.load_adapters": "every damaged and foreign folder in test_lora",
    "quantize.Stored": "a part: NF4 and Int8 make it",
    "quantize.bytes_of": "any model has an answer",
    "reward_model.RewardModel": "takes a Transformer, which checks its tokens; last_token checks the mask",
    "reward_model.score": "RewardModel and last_token check what it is given",
    "critic.PolicyAndCritic": "takes a Transformer, which checks its tokens; logprobs checks the mask",
    "own.read_preferences": "test_journey: bad rows are named; the file is read as read_questions reads it",
    "own.read_task": "test_chains: bad rows are named; the file is read as read_questions reads it",
    "town.sentence": "fills a template of the town's own",
    "sums.steps_are_true": "any text has an answer",
    "critic.Critic": "a part: the hidden states come from a Transformer",
    "folders.load": "every damaged and foreign folder in test_hub",
    "folders.expect_own": "test_journey: what a journey did not write is left alone",
    "tokenizer.Response": "plain data",
    "questions.Verdict": "plain data",
    "questions.Question": "plain data",
    "methods.Method": "plain data",
    "town.Relation": "plain data",
    "town.Fact": "plain data",
    "town.Corpus": "plain data",
    "methods.table": "takes nothing",
    "sample.decode": "a part: sample checks what reaches it",
    "folders.load_model": "every damaged and foreign folder in test_hub and test_families",
    "families.read_json": "damaged files in test_hub",
    "families.read_config": "every wrong configuration in test_hub and test_families",
    "families.their_tensors": "takes a Config, which is checked",
    "finite.NonFinite": "an error",
    "own.BadFile": "an error",
    "own.TextFile": "open_text makes it: every damaged file in test_own_text",
    "tokenizer.apply_merges": "any text and any merges have an answer",
    "transformer.Attention": "a part: Transformer checks what reaches it; called alone, test_transformer",
    "transformer.Block": "a part: Transformer checks what reaches it; called alone, test_transformer",
    "transformer.make_norm": "takes a Config, which is checked",
    "rope.rotations": "takes a Config, which is checked",
    "rope.rotate": "a part: Transformer checks what reaches it",
    "transformer.apart": "a part: Transformer checks what reaches it",
    "supervised.coefficient": "of a Batch, which is checked when it is made",
    "dagger.coefficient": "of a Batch, which is checked when it is made",
    "train.numbers": "takes any scores",
    "train.means": "a part: Run.update gives it what surrogate has checked",
    "fused.chosen": "a part: logprobs checks what reaches it",
    "fused.chosen_logprobs": "a part: logprobs checks what reaches it",
    "together.together": "a part: train checks pieces and bf16, score its batch",
    "finite.finite": "it is the check: every NaN in test_finite",
    "finite.expect_finite_norm": "it is the check: a gradient that overflows in test_finite",
    "keeping.keeping": "every damaged and foreign state in test_keeping and test_resume",
    "compiled.compiled": "what fails to compile is trained uncompiled: test_compiled",
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
    *("batch", "expect", "identity", "logprob", "returns", "sample", "train"),
    *("rope", "readable", "transformer", "tokenizer"),
    *("engine/fused", "engine/together", "engine/finite", "engine/keeping", "engine/compiled"),
    *("adapt/lora", "adapt/quantize", "hub/folders", "hub/adapters", "hub/families", "hub/fields",
      "hub/templates", "methods/__init__"),
    *("methods/supervised", "methods/distill", "methods/self_training", "methods/dagger"),
    *("methods/reinforce", "methods/critic", "methods/ppo", "methods/grpo", "methods/reward_model"),
    *("methods/dpo", "methods/ipo", "methods/simpo", "methods/kto"),
    *("worlds/questions", "worlds/sums", "worlds/town", "worlds/own"),
    *("acting/tools", "acting/calculator", "acting/toolbox", "acting/transcript", "acting/json_calls"),
]
# A method's F and loss are formulas of its paper on any numbers: `coefficient` checks what reaches them, and
# the surrogate what comes out.
FORMULAS = {"F", "loss"}


def named(module):
    """module.name of all that is public in a file of the package and needs a check.

    The checks themselves are told by the cases of those who call them.
    """
    found = public(Path(minillm.__file__).parent / f"{module}.py")
    found -= FORMULAS if module.startswith("methods/") else set()
    if module == "expect":
        found = {name for name in found if f"expect.{name}" in CASES}
    return {f"{Path(module.removesuffix('/__init__')).name}.{name}" for name in found}


def test_no_public_function_is_left_out():
    """Every public function and class of the core has its cases here, or a reason why not; and no name here
    is out of date.
    """
    names = set().union(*map(named, CORE))
    assert names == set(CASES) | set(ELSEWHERE)
    assert not set(CASES) & set(ELSEWHERE)
    for module in CORE:
        importlib.import_module("minillm." + module.removesuffix("/__init__").replace("/", "."))
