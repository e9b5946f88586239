"""Scoring with torch.compile: it ends where it would have without; where it fails one line says so."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch._dynamo

from conftest import Tiny
from loops import PAIRS, draw_pairs, run, weights
from minillm.batch import batch_packed, batch_pairs
from minillm.logprob import logprobs
from minillm.methods import reward_model, supervised
from minillm.train import Settings


def with_backend(monkeypatch, backend):
    """torch.compile with another backend: the real one takes half a minute and a C compiler."""
    torch._dynamo.reset()  # graphs of other tests would count against its limit
    real, asked = torch.compile, []
    monkeypatch.setattr(
        torch,
        "compile",
        lambda function, **how: asked.append(function) or real(function, backend=backend, **how),
    )
    return asked


def test_compiled_it_ends_where_it_would_have(monkeypatch, capsys):
    """PyTorch's graph of the model, forwards and backwards, in place of the model: float64, 1e-12.

    What samples stays uncompiled.
    """
    asked = with_backend(monkeypatch, "aot_eager")
    plain, compiled = Tiny(n_layers=1), Tiny(n_layers=1)
    rows = run(plain, draw_pairs, supervised.coefficient, Settings(3))
    again = run(compiled, draw_pairs, supervised.coefficient, Settings(3), compile=True)
    assert asked == [compiled.hidden]
    assert torch.allclose(weights(plain), weights(compiled), rtol=0, atol=1e-12)
    assert [row["nll"] for row in rows] == pytest.approx([row["nll"] for row in again], abs=1e-12)
    assert capsys.readouterr().out == "" and type(compiled) is Tiny


def broken_backend(graph, inputs):
    raise AssertionError("no compiler here\nand a long story")


@pytest.mark.parametrize("how", ["the backend fails", "torch.compile refuses"])
def test_where_compiling_fails_one_line_says_so(monkeypatch, capsys, how):
    """The run goes on as if it had not been asked for: the same weights, bit for bit."""
    if how == "the backend fails":
        with_backend(monkeypatch, broken_backend)
    else:
        monkeypatch.setattr(torch, "compile", lambda function, **how: 1 // 0)
    plain, compiled = Tiny(n_layers=1), Tiny(n_layers=1)
    run(plain, draw_pairs, supervised.coefficient, Settings(3))
    run(compiled, draw_pairs, supervised.coefficient, Settings(3), compile=True)
    said = capsys.readouterr()
    assert said.out.startswith("torch.compile failed, so training goes on without it: ")
    assert said.out.count("\n") == 1 and said.err == ""
    assert torch.equal(weights(plain), weights(compiled))


@pytest.mark.parametrize("rows, pieces", [(7, 3)])
def test_compiled_in_pieces(monkeypatch, capsys, rows, pieces):
    """Each piece is scored by the compiled model, and again in the backward pass; pieces may differ by
    a row.
    """
    asked = with_backend(monkeypatch, "aot_eager")

    def draw(step):
        return batch_pairs([PAIRS[(step + i) % 4] for i in range(rows)])

    plain, compiled = Tiny(n_layers=1), Tiny(n_layers=1)
    run(plain, draw, supervised.coefficient, Settings(3))
    run(compiled, draw, supervised.coefficient, Settings(3), compile=True, pieces=pieces)
    assert asked == [compiled.hidden] and capsys.readouterr().out == ""
    assert torch.allclose(weights(plain), weights(compiled), rtol=0, atol=1e-12)


def test_compiled_with_a_score_of_its_own_and_packed_rows(monkeypatch, capsys):
    """A temperature, and rows that hold several texts."""
    with_backend(monkeypatch, "aot_eager")
    draw = lambda step: batch_packed([[pair] for pair in PAIRS], 6)  # noqa: E731
    plain, compiled = Tiny(n_layers=1), Tiny(n_layers=1)
    score = partial(logprobs, temperature=0.7)
    run(plain, draw, supervised.coefficient, Settings(2), score=score)
    run(compiled, draw, supervised.coefficient, Settings(2), score=score, compile=True)
    assert capsys.readouterr().out == ""
    assert torch.allclose(weights(plain), weights(compiled), rtol=0, atol=1e-12)


def test_a_model_without_hidden_states_is_trained_uncompiled(capsys):
    """A reward model scores answers by itself: a line says that compiling failed, and the steps are the
    same.
    """
    rankings = [([1], [[2, 1, 0], [0]]), ([2, 1], [[1, 0], [2, 0]])]
    ends = []
    for flag in (False, True):
        judge = reward_model.RewardModel(Tiny(n_layers=1)).double()
        run(
            judge,
            lambda step: reward_model.draw(rankings),
            reward_model.coefficient,
            Settings(2),
            score=reward_model.score,
            compile=flag,
        )
        ends.append(weights(judge))
    said = capsys.readouterr().out
    assert said.startswith("torch.compile failed, so training goes on without it") and said.count("\n") == 1
    assert torch.equal(*ends)
