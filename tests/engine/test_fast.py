"""The fast paths beside the plain ones: the product by oneDNN, and the decoder of one new token a row, held
equal to what they stand in for.
"""

from __future__ import annotations

import copy
import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

from minillm.engine import products as fast
from minillm.engine.decoding import LARGEST, Decoder, attend, fits
from minillm.engine.products import SMALL, Linear, attention, linear
from minillm.sample import sample
from minillm.transformer import GPT2, QWEN2, QWEN3, Cache, Config, Family, Transformer

# a machine without 512-bit instructions has one path
WIDE = pytest.mark.parametrize("wide", [False, True] if fast.WIDE else [False])


def tensors(shape, out, bias, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(*shape, generator=g, requires_grad=True)
    w = torch.randn(out, shape[-1], generator=g, requires_grad=True)
    return x, w, torch.randn(out, generator=g, requires_grad=True) if bias else None


# --- the product --------------------------------------------------------------------------------------------


@WIDE
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    "shape, out", [((2, 9, 128), 352), ((40, 96), 512), ((3, 1, 256), 900), ((1, 2, 3, 512), 128)], ids=str
)
def test_the_product_and_its_gradients(monkeypatch, wide, bias, shape, out):
    """Values and all gradients against torch's in float64: rounding in float32 grows with √D, about 1e-6 of
    the largest entry.
    """
    monkeypatch.setattr(fast, "WIDE", wide)
    monkeypatch.setattr(fast, "SMALL", 0)
    args = [a for a in tensors(shape, out, bias) if a is not None]
    exact = [a.detach().double().requires_grad_() for a in args]
    weight = torch.randn(*shape[:-1], out, generator=torch.Generator().manual_seed(1))
    y, wanted = linear(*args), F.linear(*exact)
    assert y.dtype == torch.float32 and y.shape == wanted.shape
    torch.testing.assert_close(y.double(), wanted, atol=1e-5 * float(wanted.detach().abs().max()), rtol=0)
    grads = torch.autograd.grad((y * weight).sum(), args)
    for g, e in zip(grads, torch.autograd.grad((wanted * weight).sum(), exact)):
        torch.testing.assert_close(g.double(), e, atol=1e-5 * float(e.abs().max()), rtol=0)


def test_second_derivatives(monkeypatch):
    """A gradient of a gradient, as penalties and Hessians take it."""
    monkeypatch.setattr(fast, "SMALL", 0)
    x, w, _ = tensors((5, 16), 24, False)
    outcomes = []
    for f in (linear, F.linear):
        g = torch.autograd.grad(f(x, w).tanh().sum(), w, create_graph=True)[0]
        outcomes.append(torch.autograd.grad(g.square().sum(), (x, w)))
    for a, b in zip(*outcomes):
        torch.testing.assert_close(a, b, atol=1e-4 * float(b.abs().max()), rtol=0)


def test_what_the_fast_path_leaves_alone(monkeypatch):
    """Other precisions, frozen weights, views, autocast, vmap and compiled code give what torch gives."""
    monkeypatch.setattr(fast, "SMALL", 0)
    x, w, b = tensors((6, 32), 40, True)
    for dtype in (torch.float64, torch.bfloat16):
        assert torch.equal(
            linear(x.to(dtype), w.to(dtype), b.to(dtype)), F.linear(x.to(dtype), w.to(dtype), b.to(dtype))
        )
    frozen = linear(x, w.detach(), None)
    assert torch.autograd.grad(frozen.sum(), x)[0].shape == x.shape
    assert not linear(x.detach(), w.detach()).requires_grad
    # neither lies in order
    torch.testing.assert_close(linear(x.t()[:, :6].t(), w.t().contiguous().t(), b), F.linear(x, w, b))
    with torch.autocast("cpu", torch.bfloat16):
        assert linear(x, w, b).dtype == torch.bfloat16
    stacked = torch.stack([x.detach(), 2 * x.detach()])
    torch.testing.assert_close(
        torch.func.vmap(lambda v: linear(v, w.detach()))(stacked), F.linear(stacked, w.detach())
    )
    torch.testing.assert_close(
        torch.func.grad(lambda v: linear(v, w.detach()).square().sum())(x.detach()),
        torch.autograd.grad(F.linear(x, w.detach()).square().sum(), x)[0],
    )


def test_small_products_take_the_plain_path(monkeypatch):
    called = []
    monkeypatch.setattr(fast, "product", lambda *a: called.append(a) or F.linear(*a))
    linear(torch.randn(4, 32), torch.randn(32, 32))
    assert not called and 4 * 32 * 32 < SMALL
    if fast.WIDE:
        linear(torch.randn(64, 128), torch.randn(64, 128))
        assert called


def test_a_model_is_the_same_function_with_either_product(monkeypatch):
    """Logits and every gradient of the course's model: float32 rounding, 1e-4 of the largest gradient."""
    model, tokens = (
        Transformer(Config()),
        torch.randint(512, (4, 64), generator=torch.Generator().manual_seed(0)),
    )
    assert all(isinstance(m, Linear) for m in model.modules() if isinstance(m, torch.nn.Linear))
    found = []
    for wide in (fast.WIDE, False):
        monkeypatch.setattr(fast, "WIDE", wide)
        logits = model(tokens)
        found.append(
            (
                logits.detach(),
                torch.autograd.grad(logits.logsumexp(-1).square().mean(), list(model.parameters())),
            )
        )
    torch.testing.assert_close(found[0][0], found[1][0], atol=1e-5, rtol=0)
    for a, b in zip(found[0][1], found[1][1]):
        torch.testing.assert_close(a, b, atol=1e-4 * float(b.abs().max()), rtol=0)


def test_the_environment_switches_the_private_product_off():
    """MINILLM_PRODUCTS=plain, in a process of its own: no call of oneDNN, and torch's own bits."""
    script = """
import torch
from minillm.engine import products

def forbidden(*_):
    raise AssertionError("the private product was called")

products.product = products.packed = forbidden
assert products.WIDE is False
x, w = torch.randn(64, 128, requires_grad=True), torch.randn(256, 128, requires_grad=True)
y = products.linear(x, w)
assert torch.equal(y, torch.nn.functional.linear(x, w))
y.sum().backward()
from minillm.sample import sample
from minillm.transformer import Config, Transformer
sample(Transformer(Config()), [[3, 4]] * 4, 3, temperature=0, end=None)
print("plain")
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"MINILLM_PRODUCTS": "plain", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and done.stdout.split() == ["plain"], done.stderr


# --- attention ----------------------------------------------------------------------------------------------


def by_einsum(q, k, v, mask):
    """softmax(q·kᵀ/√E)·v, each key's head copied for its queries' heads; mask True where a query sees a
    key.
    """
    k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], 1) for x in (k, v))
    score = torch.einsum("bhte,bhse->bhts", q, k) / q.shape[-1] ** 0.5
    return torch.einsum("bhts,bhse->bhte", score.masked_fill(~mask, -torch.inf).softmax(-1), v)


def queries_keys_values(heads, keys, T, S, dtype):
    g = torch.Generator().manual_seed(heads + T)
    shapes = (2, heads, T, 8), (2, keys, S, 8), (2, keys, S, 8)
    return [
        torch.randn(shape, generator=g, dtype=torch.float64).to(dtype).requires_grad_() for shape in shapes
    ]


ROUNDING = {torch.float64: 1e-12, torch.float32: 1e-5}


@pytest.mark.parametrize("dtype", ROUNDING, ids=str)
@pytest.mark.parametrize("heads, keys", [(4, 4), (4, 2), (4, 1)])
@pytest.mark.parametrize("how", ["causal", "one new token", "behind others", "a mask for each row"])
def test_attention_is_the_einsum(how, heads, keys, dtype):
    """Values and the gradients of queries, keys and values, with each mask that the model hands it."""
    T, S = {
        "causal": (7, 7),
        "one new token": (1, 9),
        "behind others": (3, 9),
        "a mask for each row": (6, 6),
    }[how]
    q, k, v = queries_keys_values(heads, keys, T, S, dtype)
    seen = torch.ones(T, S, dtype=torch.bool).tril(S - T)
    mask = seen if how == "behind others" else None
    if how == "a mask for each row":
        hidden = torch.arange(S) < torch.tensor([0, 2])[:, None]  # the second row begins with two of padding
        own = torch.eye(T, dtype=torch.bool)
        mask = seen = ((seen & ~hidden[:, None]) | own)[:, None]
    ours, wanted = attention(q, k, v, mask), by_einsum(q, k, v, seen)
    torch.testing.assert_close(ours, wanted, atol=ROUNDING[dtype], rtol=ROUNDING[dtype])
    weight = torch.linspace(-1, 1, ours.numel(), dtype=dtype).view_as(ours)
    gradients = [torch.autograd.grad((weight * out).sum(), (q, k, v)) for out in (ours, wanted)]
    for a, b in zip(*gradients):
        torch.testing.assert_close(a, b, atol=10 * ROUNDING[dtype], rtol=ROUNDING[dtype])


def test_attention_is_in_float32_under_a_cpus_autocast():
    """Short products backwards are slow there: what comes in short is computed, and comes out, in float32."""
    q, k, v = queries_keys_values(4, 2, 7, 7, torch.float32)
    seen = torch.ones(7, 7, dtype=torch.bool).tril()
    with torch.autocast("cpu", torch.bfloat16):
        out = attention(q.bfloat16(), k.bfloat16(), v.bfloat16())
    assert out.dtype == torch.float32
    rounded = (x.bfloat16().float() for x in (q, k, v))
    torch.testing.assert_close(out, by_einsum(*rounded, seen), atol=1e-5, rtol=1e-5)


# --- the decoder --------------------------------------------------------------------------------------------


SHAPES = {
    "llama": {},
    "one key's head": {"n_kv_heads": 1},
    "all heads": {"n_kv_heads": 4},
    "qwen2": {"family": QWEN2},
    "qwen3": {"family": QWEN3, "head_width": 12},
    "gpt2": {"family": GPT2, "n_kv_heads": 4},
    "unrotated": {"family": Family(unrotated=(1,))},
    "untied": {"tied": False},
    "biases": {"family": Family(bias=("q", "k", "v", "o", "gate", "up", "down"))},
    "yarn": {"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8}},
}


def livened(dtype, **shape):
    """A model whose every weight matters, norms and biases too."""
    model = (
        Transformer(
            Config(
                **{
                    "vocab_size": 50,
                    "d_model": 32,
                    "n_layers": 3,
                    "n_heads": 4,
                    "n_kv_heads": 2,
                    "d_ff": 40,
                    "context": 48,
                }
                | shape
            )
        )
        .to(dtype)
        .eval()
    )
    g = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn(p.shape, generator=g, dtype=torch.float64).to(dtype) * 0.2)
    return model


def both(model, rows, pads, steps=6):
    """The hidden states of a few new tokens behind prompts of unequal length: by Transformer.hidden, and by
    the Decoder.
    """
    V = model.config.vocab_size
    read = torch.randint(V, (rows, 9), generator=torch.Generator().manual_seed(1))
    new = torch.randint(V, (steps, rows), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        plain = Cache(model, rows, 9 + steps, pads)
        model.hidden(read, plain)
        quick = copy.deepcopy(plain)
        decoder = Decoder(model, quick)
        for token in new:
            yield model.hidden(token[:, None], plain)[:, 0], decoder.hidden(token)
        assert quick.length == plain.length == 9 + steps


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("rows", [1, 3, 12])
@pytest.mark.parametrize("name", SHAPES)
def test_the_decoder_is_the_model(name, rows, padded):
    """In float64, to rounding: every family, few rows and many (attention is another code for many), with
    padding and without.
    """
    model = livened(torch.float64, **SHAPES[name])
    for wanted, got in both(
        model, rows, torch.arange(rows) % 5 if padded else torch.zeros(rows, dtype=torch.long)
    ):
        torch.testing.assert_close(got, wanted, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("dtype, share", [(torch.float32, 1e-5), (torch.bfloat16, 0.06)])
@pytest.mark.parametrize("rows", [1, 16])
def test_the_decoder_in_the_precisions_that_people_use(dtype, share, rows):
    """Large enough for the laid-out product; bfloat16 has 8 bits, and three layers of it differ by some of
    their roundings.
    """
    model = livened(dtype, d_model=128, d_ff=352, n_heads=4)
    for wanted, got in both(model, rows, torch.arange(rows) % 3):
        torch.testing.assert_close(got, wanted, atol=share * float(wanted.abs().max()), rtol=0)


def test_attend_is_attention():
    """The plain products for many rows against PyTorch's kernel, with a mask that hides each row's own
    padding.
    """
    g = torch.Generator().manual_seed(0)
    q, k, v = (
        torch.randn(9, 2, 3, 8, generator=g),
        torch.randn(9, 2, 11, 8, generator=g),
        torch.randn(9, 2, 11, 8, generator=g),
    )
    mask = (torch.arange(11) >= torch.arange(9)[:, None])[:, None, None]
    for m in (None, mask):
        torch.testing.assert_close(attend(q, k, v, m), F.scaled_dot_product_attention(q, k, v, attn_mask=m))


def test_a_model_that_somebody_changed_is_not_copied():
    """Hooks, other classes, a map with a part put in, a shared or sharded weight's type: the plain path
    then.
    """
    model = livened(torch.float32)
    assert fits(model) and LARGEST >= 10**8
    handle = model.blocks[1].register_forward_hook(lambda *a: None)
    assert not fits(model)
    handle.remove()
    assert fits(model)
    changed = copy.deepcopy(model)
    changed.blocks[0].attention.q = torch.nn.Sequential(changed.blocks[0].attention.q)
    assert not fits(changed)
    changed = copy.deepcopy(model)
    changed.blocks[2].up = type("Adapted", (Linear,), {})(32, 40, bias=False)
    assert not fits(changed)
    assert not fits(torch.nn.Linear(2, 2))


def test_a_hook_is_heard_while_sampling():
    """A hook that turns the last block off changes what is drawn, and is called at every step."""
    model, calls = livened(torch.float32), []
    plain = sample(model, [[3, 4], [5]], 6, temperature=0, end=None).tokens
    model.blocks[2].register_forward_hook(lambda module, args, out: calls.append(1) or args[0])
    assert not torch.equal(sample(model, [[3, 4], [5]], 6, temperature=0, end=None).tokens, plain)
    assert len(calls) == 6


def test_weights_that_moved_are_seen_at_the_next_call():
    """Nothing is kept between calls, whichever way the weights were changed."""
    model = livened(torch.float32)
    first = sample(model, [[3, 4]], 8, temperature=0, end=None).tokens
    model.embed.weight.data.mul_(-1)  # .data goes past PyTorch's version counter
    model.blocks[0].up.weight.data.mul_(-2)
    assert not torch.equal(sample(model, [[3, 4]], 8, temperature=0, end=None).tokens, first)
