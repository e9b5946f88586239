"""log p of the chosen token in little memory beside its plain twin: values, gradients, gradients of
gradients,
in one piece and in chunks; and how many logits exist at once.
"""

from __future__ import annotations

import pytest
import torch

from conftest import Tiny
from minillm.batch import Batch, batch_pairs
from minillm.engine import fused
from minillm.engine.fused import chosen_logprobs
from minillm.logprob import logprobs, of_chosen, warp

EXACT = {torch.float64: 1e-12, torch.float32: 1e-6}  # float32 keeps 7 digits


def by_hand(logits, y):
    return logits.log_softmax(-1).gather(-1, y[:, None])[:, 0]


def some_logits(dtype, rows=9, V=7):
    """Logits far from even and near to it, with the ids that are asked for."""
    g = torch.Generator().manual_seed(0)
    logits = torch.randn(rows, V, dtype=torch.float64, generator=g)
    logits[rows // 2 :] *= 30
    return logits.to(dtype), torch.randint(V, (rows,), generator=g)


# --- beside the plain twin ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", EXACT, ids=str)
def test_it_is_its_plain_twin(dtype):
    """Values and gradients, with a weight for each row; without a gradient too."""
    logits, y = some_logits(dtype)
    weight = torch.linspace(-2, 3, len(y), dtype=dtype)
    found = []
    for f in (fused.chosen, of_chosen):
        z = logits.clone().requires_grad_()
        value = f(z, y)
        found.append((value.detach(), torch.autograd.grad((weight * value).sum(), z)[0]))
        assert value.dtype == dtype
        torch.testing.assert_close(f(logits, y), value.detach(), atol=0, rtol=0)
    for ours, twins in zip(*found):
        torch.testing.assert_close(ours, twins, atol=EXACT[dtype] * 30, rtol=EXACT[dtype])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_short_types_are_scored_in_float32(dtype):
    logits, y = some_logits(dtype)
    assert fused.chosen(logits, y).dtype == torch.float32
    torch.testing.assert_close(fused.chosen(logits, y), by_hand(logits.float(), y), atol=1e-5, rtol=1e-6)


def test_it_goes_through_torchs_own_transforms():
    """torch.func.grad, vmap and a Hessian take the plain path, and give what autograd gives."""
    logits, y = some_logits(torch.float64)
    total = lambda z: fused.chosen(z, y).sum()  # noqa: E731
    z = logits.clone().requires_grad_()
    wanted = torch.autograd.grad(by_hand(z, y).sum(), z)[0]
    torch.testing.assert_close(torch.func.grad(total)(logits), wanted, atol=1e-12, rtol=1e-12)
    alone = torch.func.vmap(lambda row, i: fused.chosen(row[None], i[None])[0])(logits, y)
    torch.testing.assert_close(alone, by_hand(logits, y), atol=1e-12, rtol=1e-12)
    hessian = torch.func.hessian(lambda z: fused.chosen(z, y[:2]).square().sum())(logits[:2])
    plain = torch.func.hessian(lambda z: by_hand(z, y[:2]).square().sum())(logits[:2])
    torch.testing.assert_close(hessian, plain, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("dtype", EXACT, ids=str)
@pytest.mark.parametrize("held", [1, 11, 3 * 11, 1000 * 11])
@pytest.mark.parametrize("how", [None, {"temperature": 0.7}], ids=["as it is", "warped"])
def test_in_chunks_it_is_its_plain_twin(dtype, held, how):
    """From hidden states: values, the gradients of the states and of every weight of the map."""
    model = Tiny(vocab_size=11, dtype=dtype)
    g = torch.Generator().manual_seed(3)
    states = torch.randn(8, 8, dtype=torch.float64, generator=g).to(dtype).requires_grad_()
    y, weight = torch.randint(11, (8,), generator=g), torch.linspace(-1, 2, 8, dtype=dtype)
    plain = None if how is None else lambda logits, y: of_chosen(logits, y, **how)
    ours = chosen_logprobs(model, states, y, plain, held)
    twins = of_chosen(model.logits(states), y, **(how or {}))
    torch.testing.assert_close(ours, twins, atol=10 * EXACT[dtype], rtol=EXACT[dtype])
    sources = (states, model.embed.weight)
    gradients = [torch.autograd.grad((weight * value).sum(), sources) for value in (ours, twins)]
    for a, b in zip(*gradients):
        torch.testing.assert_close(a, b, atol=EXACT[dtype] * max(1.0, float(b.abs().max())), rtol=0)
    with torch.no_grad():
        torch.testing.assert_close(chosen_logprobs(model, states, y, plain, held), ours.detach())


def test_the_gradient_that_keeps_little_is_the_gradient():
    """First and second derivatives of log softmax at y against autograd's own and the plain twin's, in
    float64;
    one logit is −inf, as a forbidden token's.
    """
    g = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 7, dtype=torch.float64, generator=g)
    logits[1, 2] = -torch.inf
    y, weight = torch.tensor([0, 3, 6, 2, 2]), torch.randn(5, dtype=torch.float64, generator=g)
    logits[3:] *= 50  # far from even
    found = []
    for f in (fused.chosen, of_chosen, by_hand):
        z = logits.clone().requires_grad_()
        value = f(z, y)
        first = torch.autograd.grad((weight * value).sum(), z, retain_graph=True)[0]
        again = torch.autograd.grad((weight * value).sum(), z, create_graph=True)[0]
        second = torch.autograd.grad(again[[0, 2, 3, 4]].square().sum(), z)[0]
        found.append((value.detach(), first, again.detach(), second[[0, 2, 3, 4]]))
    for ours, twins, by_hands in zip(*found):
        torch.testing.assert_close(ours, by_hands, atol=1e-12, rtol=1e-12)
        torch.testing.assert_close(ours, twins, atol=1e-12, rtol=1e-12)


# --- in chunks ----------------------------------------------------------------------------------------------


class Watched(Tiny):
    """A Tiny that writes down how many rows of logits it was asked for."""

    def logits(self, hidden):
        out = super().logits(hidden)
        self.asked.append(out.numel() // out.shape[-1])
        return out


SCORING = [{}, {"temperature": 0.7}, {"temperature": 1.3, "top_k": 5}, {"top_p": 0.8}]


@pytest.mark.parametrize("scoring", SCORING, ids=str)
@pytest.mark.parametrize("rows", [1, 3, 7, 1000])
def test_chunked_is_plain_forward_and_backward(rows, scoring):
    """Some rows of logits at a time, against all of them by log_softmax: values and every weight's gradient
    to 1e-6, in float32.
    """
    model = Tiny(vocab_size=11, dtype=torch.float32)
    batch = batch_pairs([([1, 2], [3, 4, 0]), ([5], [6, 7, 8, 9, 0]), ([1, 1, 1], [2])])
    plain = (
        warp(model(batch.tokens)[:, :-1], **scoring)
        if scoring
        else model(batch.tokens)[:, :-1].log_softmax(-1)
    )
    plain = plain.gather(-1, batch.tokens[:, 1:, None])[..., 0]
    # a token that top-k forbids has no gradient
    mask = batch.response_mask[:, 1:] & plain.isfinite()
    batch.response_mask[:, 1:] = mask
    keep = batch.response_mask.any(1)
    chunked = logprobs(model, Batch(batch.tokens[keep], batch.response_mask[keep]), held=11 * rows, **scoring)
    assert torch.allclose(chunked[:, 1:][mask[keep]], plain[mask], rtol=0, atol=1e-6)
    weight = torch.linspace(-1, 2, int(mask.sum()))
    by_chunks = torch.autograd.grad((chunked[:, 1:][mask[keep]] * weight).sum(), list(model.parameters()))
    by_plain = torch.autograd.grad((plain[mask] * weight).sum(), list(model.parameters()))
    for c, p in zip(by_chunks, by_plain):
        assert torch.allclose(c, p, rtol=0, atol=1e-6 * max(1.0, float(p.abs().max())))


@pytest.mark.parametrize("held", [1, 11, 3 * 11, 4 * 11 + 10])
def test_no_more_logits_are_held_than_asked(held):
    """Rows in each call, forward and again backward: at most held/V (one at the least); and the graph between
    keeps no logits.

    What autograd keeps for the backward pass is seen by `saved_tensors_hooks`: nothing kept may be V = 11
    wide (no other tensor here is), so between the passes no logits exist at all.
    """
    model = Watched(vocab_size=11, d_model=8, d_ff=12)
    batch = batch_pairs([([1, 2], [3, 4, 0]), ([5], [6, 7, 8, 9, 0])])  # 8 scored tokens
    most, kept = max(1, held // 11), []

    def keep(tensor):
        kept.append(tuple(tensor.shape))
        return tensor

    model.asked = []
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        logp = logprobs(model, batch, held=held)
    assert max(model.asked) <= most and sum(model.asked) == 8
    assert kept and not [shape for shape in kept if shape[-1:] == (11,)]
    # The watch can see them: not in chunks, (8, 11) is kept.
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        logprobs(model, batch)
    assert (8, 11) in kept
    model.asked = []
    logp.sum().backward()
    assert max(model.asked) <= most and sum(model.asked) == 8  # computed again, once
    model.asked = []
    with torch.no_grad():
        logprobs(model, batch, held=held)
    assert max(model.asked) <= most and sum(model.asked) == 8


def test_only_scored_places_cost_logits():
    """Prompts and padding are never turned into logits: 2 scored tokens, 2 rows."""
    model = Watched(vocab_size=11)
    model.asked = []
    batch = batch_pairs([([1, 2, 3, 4, 5, 6], [7]), ([1], [2])])
    logprobs(model, batch)
    assert sum(model.asked) == 2
