"""A batch scored in pieces beside the batch scored whole: scores, F, gradients and steps; and in bfloat16."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from conftest import Tiny, difference
from loops import PAIRS, adamw, draw_pairs, run, weights
from minillm.batch import Batch, batch_packed, batch_pairs
from minillm.engine.together import together
from minillm.identity import surrogate
from minillm.logprob import all_logprobs, answer_logprobs, logprobs
from minillm.methods import supervised
from minillm.train import Settings


def answers(model, batch):
    return answer_logprobs(logprobs(model, batch), batch.response_mask)


def two(model, batch):
    """Two objectives: log p of each token, and a number an answer."""
    return {"tokens": logprobs(model, batch, 0.7), "answers": answers(model, batch)}


SCORES = {"(B, T)": logprobs, "(B,)": answers, "(B, T, V)": all_logprobs, "dict": two}


def gradients(scores, batch, model):
    """Of the surrogate with an F that differs from row to row, by autograd."""
    if isinstance(scores, dict):
        F = {name: torch.linspace(-1, 2, len(s), dtype=torch.float64) for name, s in scores.items()}
    else:
        F = torch.linspace(-1, 2, len(scores), dtype=torch.float64)
    value = surrogate(F, scores, batch.response_mask, batch.divide_by)
    return torch.autograd.grad(value, list(model.parameters()))


def batches():
    targets = batch_pairs(PAIRS)
    targets.targets = (targets.tokens + 1) % 3
    holes = batch_pairs([([1], [2, 1, 0]), ([2, 1], [0, 1, 2])])
    holes.response_mask[0, 2] = False
    packed = batch_packed([[pair] for pair in PAIRS], 6)
    return {"pairs": batch_pairs(PAIRS), "targets": targets, "holes": holes, "packed": packed}


BATCHES = batches()


@pytest.mark.parametrize("pieces", [2, 3, 4, 9])
@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize("kind", BATCHES)
def test_in_pieces_it_is_the_plain_score(kind, name, pieces):
    """Scores and every weight's gradient, in float64; more pieces than rows are too many, and add nothing."""
    model, batch, score = Tiny(4), BATCHES[kind], SCORES[name]
    plain, parted = score(model, batch), together(score, model, batch, pieces)
    assert isinstance(parted, dict) == isinstance(plain, dict)
    for whole, ours in zip(*(s.values() if isinstance(s, dict) else [s] for s in (plain, parted))):
        torch.testing.assert_close(ours, whole, rtol=1e-12, atol=1e-12)
        assert ours.requires_grad and ours.dtype == whole.dtype
    assert difference(gradients(parted, batch, model), gradients(plain, batch, model)) < 1e-12


@pytest.mark.parametrize("name", SCORES)
def test_whole_and_alone_it_is_the_score_itself(name):
    """One piece in one process: what `score` returns, and nothing about it."""
    model, found = Tiny(4), []

    def score(model, batch):
        found.append((SCORES[name](model, batch), batch))
        return found[-1][0]

    batch = batch_pairs(PAIRS)
    assert together(score, model, batch) is found[0][0] and found[0][1] is batch and len(found) == 1


def test_a_piece_is_scored_alone_and_again_backwards():
    """Three pieces of four rows: at most two rows at once, forwards; and once more in the backward pass."""
    model, batch, seen = Tiny(4), batch_pairs(PAIRS), []

    def score(model, part):
        seen.append(len(part.tokens))
        return logprobs(model, part)

    scores = together(score, model, batch, 3)
    assert seen == [1, 1, 2]
    scores.sum().backward()
    assert sorted(seen) == [1, 1, 1, 1, 2, 2]


def test_a_piece_has_the_fields_of_its_rows():
    """What has an entry a row is cut with it; choices, which name rows of the whole, are not."""
    batch, seen = batch_pairs(PAIRS), []
    batch.rewards, batch.better = torch.arange(4.0), torch.tensor([0, 1, 2, 3])

    def score(model, part):
        seen.append((part.rewards.tolist(), part.better.tolist()))
        return logprobs(model, part)

    together(score, Tiny(4), batch, 2)
    assert seen == [([0, 1], [0, 1, 2, 3]), ([2, 3], [0, 1, 2, 3])]


def test_what_falls_out_in_the_first_pass_falls_out_in_the_second():
    """A piece that is scored again draws the same random numbers: gradients are of the scores that F saw."""
    model, batch, drawn = Tiny(4), batch_pairs(PAIRS), []

    def score(model, part):
        keep = torch.rand(part.tokens.shape) < 0.5
        drawn.append(keep)
        return logprobs(model, part) * keep

    together(score, model, batch, 2).sum().backward()
    assert len(drawn) == 4
    firsts, seconds = drawn[:2], drawn[2:]
    assert all(any(torch.equal(a, b) for b in firsts) for a in seconds)


@pytest.mark.parametrize("name", ["(B, T)", "(B,)", "dict"])
def test_steps_in_pieces_are_the_steps_of_the_whole(name):
    """F is asked once a step and sees all rows; weights after five steps to 1e-10 (AdamW divides by √v)."""
    ends = []
    for pieces in (1, 3):
        model, seen = Tiny(4), []

        def F(batch, scores):
            several = isinstance(scores, dict)
            seen.append([len(s) for s in (scores.values() if several else [scores])])
            ones = torch.ones(len(batch.tokens), dtype=torch.float64)
            return {key: ones for key in scores} if several else ones

        draw = lambda step: batch_pairs(PAIRS)  # noqa: E731
        rows = run(model, draw, F, adamw(5, lr=0.01), score=SCORES[name], pieces=pieces)
        assert seen == [[4, 4] if name == "dict" else [4]] * 5
        ends.append((weights(model), [row["grad_norm"] for row in rows]))
    assert torch.allclose(ends[0][0], ends[1][0], rtol=0, atol=1e-10)
    assert ends[0][1] == pytest.approx(ends[1][1], rel=1e-10)


def test_bf16_learns_as_float32_does():
    """Matrix products in bfloat16: other numbers, the weights still float32, and over three seeds the loss
    ends within 0.02 nats.
    """
    batch = batch_pairs([PAIRS[0], PAIRS[1], PAIRS[3]])
    for seed in range(3):
        ends = []
        for bf16 in (False, True):
            model = Tiny(seed, torch.float32, d_model=32)
            rows = run(model, lambda step: batch, supervised.coefficient, Settings(60, lr=0.02), bf16=bf16)
            ends.append(rows[-1]["nll"])
            assert rows[-1]["nll"] < 0.5 * rows[0]["nll"]
            assert all(p.dtype == torch.float32 for p in model.parameters())
        assert ends[0] != ends[1] and abs(ends[0] - ends[1]) < 0.02
    with pytest.raises(ValueError, match="bf16 is True: it is for weights in float32"):
        run(Tiny(), draw_pairs, supervised.coefficient, Settings(1), bf16=True)


@pytest.mark.parametrize("pieces", [0, 1.5, -1])
def test_pieces_are_whole_numbers(pieces):
    with pytest.raises(ValueError, match=f"pieces is {pieces}: give a whole number from 1"):
        run(Tiny(), draw_pairs, supervised.coefficient, Settings(1), pieces=pieces)


def test_bf16_is_what_autocast_gives():
    """The same numbers as the plain score under autocast; without the flag, those of float32."""
    model, batch = Tiny(0, torch.float32, d_model=32), batch_pairs(PAIRS)
    with torch.autocast("cpu", torch.bfloat16):
        short = logprobs(model, batch)
    assert torch.equal(together(logprobs, model, batch, bf16=True), short)
    assert torch.equal(together(logprobs, model, batch), logprobs(model, batch))
    assert not torch.equal(short, logprobs(model, batch)) and short.dtype == torch.float32
    pieces = together(partial(logprobs, temperature=0.7), model, batch, 2, bf16=True)
    assert pieces.dtype == torch.float32 and isinstance(batch, Batch)
