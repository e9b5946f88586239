"""A NaN is met before the step: it is named, with the step, the row and the cause; and where all numbers are
finite nothing is changed.
"""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch

from conftest import Tiny
from loops import adamw, draw_pairs, run, table, weights
from minillm.logprob import logprobs
from minillm.methods import supervised
from minillm.engine.finite import finite
from minillm.train import NonFinite, Run, ascend


# --- NaN ----------------------------------------------------------------------------------------------------


def fails(model, coefficient, settings, draw=draw_pairs):
    """The NonFinite of a run, and the weights as they were when it stepped last."""
    kept = []

    def watched(step):
        kept.append(weights(model))
        return draw(step)

    with pytest.raises(NonFinite) as error:
        run(model, watched, coefficient, settings)
    assert torch.equal(weights(model), kept[-1]) or bool(kept[-1].isnan().any())
    assert not model.training and all(p.grad is None for p in model.parameters())
    return error.value


def test_a_reward_that_is_not_a_number_is_named():
    """F of row 1 is NaN at step 2: step, row, batch, cause, and the weights of the step before."""

    def coefficient(batch, logp):
        F = torch.ones(2)
        if len(rows) == 2:
            F[1] = math.nan
        rows.append(1)
        return F

    rows = []
    error = fails(table(), coefficient, adamw(5))
    assert error.step == 2 and error.batch.tokens.tolist() == draw_pairs(2).tokens.tolist()
    assert str(error).startswith(
        "step 2: coefficient is nan in row 1 of the batch (tokens (2, "
    ) and "a reward" in str(error)


def test_weights_that_are_broken_already_are_named():
    model = Tiny(dtype=torch.float32)
    with torch.no_grad():
        model.blocks[0].up.weight[0, 0] = math.nan
    error = fails(model, supervised.coefficient, adamw(5))
    assert error.step == 0 and "logprobs is nan" in str(error) and "broken already" in str(error)


def test_a_token_of_probability_zero_is_named():
    """Scored under top-k = 1 a token that was not drawn under it: log p = −inf."""
    with pytest.raises(NonFinite, match="step 0: logprobs is -inf in row .* probability 0"):
        run(Tiny(), draw_pairs, supervised.coefficient, adamw(5), score=partial(logprobs, top_k=1))


def test_a_gradient_that_overflows_is_named():
    """F = 1e38 in float32: every number that goes in is finite, the gradient's norm is not."""
    error = fails(Tiny(dtype=torch.float32), lambda batch, logp: torch.full((2,), 1e38), adamw(5))
    assert error.step == 0 and "step 0: gradient is" in str(error) and "lower lr" in str(error)


def test_a_run_that_blew_up_is_told_so():
    """Norms near 1 for five steps, 1e6 in the sixth, then weights that are no numbers: the message names the
    norm that grew.
    """
    model = Tiny(dtype=torch.float32)

    def draw(step):
        if step == 6:
            with torch.no_grad():
                model.embed.weight.mul_(math.nan)
        batch = draw_pairs(step)
        batch.baseline = 1e6 if step == 5 else 1.0
        return batch

    with pytest.raises(NonFinite, match="step 6: logprobs is nan.*norm grew to .*e\\+0.*lengthen warmup"):
        run(model, draw, lambda batch, logp: torch.full((2,), batch.baseline), adamw(9, lr=1e-6))


def test_a_wrong_f_is_refused_before_any_step():
    """A coefficient of the wrong shape, or one with the graph in it: surrogate's own ValueError, the weights
    untouched.
    """
    model = table()
    before = model.theta.detach().clone()
    with pytest.raises(ValueError, match="coefficient is of shape"):
        run(model, draw_pairs, lambda batch, logp: torch.ones(3), adamw(1))
    with pytest.raises(ValueError, match="coefficient is part of the graph"):
        run(model, draw_pairs, lambda batch, logp: model.theta.sum().expand(2), adamw(1))
    assert torch.equal(model.theta, before)


# --- it does nothing to the numbers -------------------------------------------------------------------------


def test_finite_numbers_pass_as_they_are():
    """F's own result, for tensors and for dicts of them; and F is asked once."""
    for scores in (torch.ones(2, 3), {"a": torch.ones(2), "b": torch.zeros(2, 3)}):
        asked, found = [], object()
        wrapped = finite(lambda batch, given: asked.append((batch, given)) or found, None)
        assert wrapped("batch", scores) is found and asked == [("batch", scores)]


def test_one_of_two_scores_is_named():
    """Two objectives: NaN in the second one's F, then in its scores."""
    ones = torch.ones(2)
    state = Run(table(), adamw(1))
    bad = torch.tensor([1.0, math.nan])
    with pytest.raises(NonFinite, match="step 0: coefficient is nan in row 1"):
        finite(lambda batch, given: {"a": ones, "b": bad}, state)(draw_pairs(0), {"a": ones, "b": ones})
    with pytest.raises(NonFinite, match="step 0: logprobs is nan in row 1"):
        finite(lambda batch, given: {"a": ones, "b": ones}, state)(draw_pairs(0), {"a": ones, "b": bad})


def test_guarded_it_takes_the_steps_of_the_plain_loop():
    guarded, plain = Tiny(seed=1), Tiny(seed=1)
    run(guarded, draw_pairs, supervised.coefficient, adamw(3))
    list(ascend(plain, draw_pairs, supervised.coefficient, adamw(3)))
    assert torch.equal(weights(guarded), weights(plain))


def test_the_plain_loop_stops_at_a_gradient_that_is_no_number():
    """Nobody guards F there, and the weights stay those of the step before."""
    model = Tiny(dtype=torch.float32)
    before = weights(model)
    with pytest.raises(NonFinite, match="step 0: gradient is"):
        list(ascend(model, draw_pairs, lambda batch, logp: torch.full((2,), 1e38), adamw(3)))
    assert torch.equal(weights(model), before)
