"""The transformer: its two paths agree, the cache changes nothing, no token sees a later one, positions turn
as they should.
"""

from __future__ import annotations

import math

import pytest
import torch

from conftest import Tiny, liven
from minillm.transformer import GPT2, QWEN2, QWEN3, Attention, Block, Cache, Config, Family, Transformer
from minillm.transformer import device_and_dtype, readable_logits, rotate, rotations

SHAPES = {
    "MHA": dict(n_heads=4, n_kv_heads=4),
    "GQA": dict(n_heads=4, n_kv_heads=2),
    "MQA": dict(n_heads=4, n_kv_heads=1),
}
ROUNDING = 1e-12  # float64, two orders of the same sums


@pytest.fixture(params=SHAPES.values(), ids=SHAPES)
def model(request):
    """Multi-head, grouped and multi-query attention, in float64."""
    return Tiny(vocab_size=11, d_model=16, d_ff=20, n_layers=3, context=24, **request.param)


def some_tokens(rows, length, vocab_size=11, seed=0):
    return torch.randint(vocab_size, (rows, length), generator=torch.Generator().manual_seed(seed))


def close(some, others, tolerance=ROUNDING):
    """Equal, measured against the largest number."""
    return float((some - others).detach().abs().max()) <= tolerance * float(others.detach().abs().max())


# --- two paths ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, 2, 13, 24])
def test_the_readable_path_gives_the_numbers_of_the_fast_one(model, length):
    tokens = some_tokens(3, length)
    assert close(model(tokens), readable_logits(model, tokens))


def test_the_readable_path_gives_the_same_gradients(model):
    """Σ of squared logits, differentiated through both paths, for every weight."""
    tokens = some_tokens(2, 9)
    fast = torch.autograd.grad(model(tokens).square().sum(), list(model.parameters()))
    plain = torch.autograd.grad(readable_logits(model, tokens).square().sum(), list(model.parameters()))
    assert all(close(f, p, 1e-10) for f, p in zip(fast, plain))  # a gradient is a longer sum than a logit


def test_the_two_paths_agree_in_float32():
    """2e-5 of the largest logit: float32 keeps 7 digits, and three layers add some thousand products."""
    model = Tiny(
        vocab_size=11, d_model=16, n_layers=3, context=24, n_heads=4, n_kv_heads=2, dtype=torch.float32
    )
    tokens = some_tokens(3, 24)
    assert close(model(tokens), readable_logits(model, tokens), 2e-5)


def test_int32_tokens_are_tokens(model):
    tokens = some_tokens(2, 5)
    assert torch.equal(model(tokens.int()), model(tokens))


# --- a part alone -------------------------------------------------------------------------------------------


FAMILIES = {
    "Llama": Family(),
    "Qwen2": QWEN2,
    "Qwen3": QWEN3,
    "GPT-2": GPT2,
    "a layer without positions": Family(unrotated=(1,)),
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("scaling", [None, YARN], ids=["plain", "yarn"])
@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_a_part_called_alone_gives_what_the_whole_computes_inside(family, scaling, dtype):
    """What goes into each block and attention as the whole model reads, given to it alone: the same bits."""
    shape = {"vocab_size": 11, "d_model": 16, "n_heads": 4, "n_kv_heads": 2, "n_layers": 2, "d_ff": 20}
    model = liven(Transformer(Config(**shape, context=24, family=family, rope_scaling=scaling)).to(dtype))
    seen = []
    for block in model.blocks:
        for part in (block, block.attention):
            part.register_forward_hook(lambda part, given, out: seen.append((part, given[0], out)))
    for length in (1, 9, 24):
        seen.clear()
        model(some_tokens(2, length))
        inside = list(seen)
        assert len(inside) == 4
        assert all(torch.equal(part(x), out) for part, x, out in inside)


def test_a_part_can_be_made_and_called_without_a_model():
    """Twelve tokens: the shape stays, what is later changes nothing before, and one more is too many."""
    config = Config(d_model=16, n_heads=4, n_kv_heads=2, d_ff=20, context=12)
    x = torch.randn(2, 12, 16, generator=torch.Generator().manual_seed(0))
    for part in (Attention(config, 0), Block(config, 0)):
        assert part(x).shape == x.shape and torch.allclose(part(x)[:, :7], part(x[:, :7]), atol=1e-6)
        assert (part(x)[:, 1:] - part(x.flip(1)).flip(1)[:, 1:]).abs().max() > 1e-3
        with pytest.raises(ValueError, match="x is 13 long: the context is 12"):
            part(torch.zeros(1, 13, 16))
        with pytest.raises(ValueError, match="cos is None beside a cache: give"):
            part(x, cache=Cache(Transformer(config), 2, 12, torch.zeros(2, dtype=torch.long)))


# --- who sees whom ------------------------------------------------------------------------------------------


def test_a_later_token_changes_no_earlier_logit(model):
    """Change token t: logits before t are bit for bit the same, those at t and after are not."""
    tokens = some_tokens(1, 12)
    before = model(tokens)
    for t in range(12):
        changed = tokens.clone()
        changed[0, t] = (changed[0, t] + 1) % 11
        after = model(changed)
        assert torch.equal(after[:, :t], before[:, :t])
        assert (after[:, t:] - before[:, t:]).abs().amax(-1).min() > 1e-6  # every place from t on has seen it


def test_rows_do_not_see_each_other(model):
    tokens = some_tokens(4, 8)
    assert all(close(model(tokens[i : i + 1]), model(tokens)[i : i + 1]) for i in range(4))


def test_the_order_of_the_past_matters(model):
    """Without positions, swapping two earlier tokens would leave the last logits as they are (in one layer):
    it must not.
    """
    tokens = torch.tensor([[1, 2, 3, 4], [2, 1, 3, 4]])
    logits = model(tokens)[:, -1]
    assert (logits[0] - logits[1]).abs().max() > 1e-3


def test_grouped_heads_are_full_attention_with_copied_keys():
    """H = 4, K = 2: query heads 0, 1 read keys' head 0, heads 2, 3 read head 1.

    Copy each head's weights twice: the same function.
    """
    shape = dict(vocab_size=11, d_model=16, d_ff=20, n_layers=2, context=12, n_heads=4)
    grouped, full = Tiny(n_kv_heads=2, **shape), Tiny(n_kv_heads=4, seed=9, **shape)
    weights = grouped.state_dict()
    for name in weights:
        if name.endswith(("attention.k.weight", "attention.v.weight")):
            # E = 4
            weights[name] = torch.cat(
                [weights[name][:4], weights[name][:4], weights[name][4:], weights[name][4:]]
            )
    full.load_state_dict(weights)
    tokens = some_tokens(2, 10)
    assert close(full(tokens), grouped(tokens))


# --- positions ----------------------------------------------------------------------------------------------


def test_the_first_pair_turns_by_one_radian_a_token():
    """Heads of width E = 4, theta = 100: the pairs are (0, 2) and (1, 3), turning by 1 and by 100^(−1/2) =
    0.1 a token.
    """
    cos, sin = rotations(Config(d_model=8, n_heads=2, n_kv_heads=1, context=4, rope_theta=100.0))
    x = torch.tensor([1.0, 0.0, 0.0, 2.0]).expand(1, 1, 4, 4)
    turned = rotate(x, cos, sin)[0, 0]
    for t in range(4):
        # (1, 0) turns to (cos t, sin t) on places 0 and 2; (0, 2) turns to (−2 sin 0.1t, 2 cos 0.1t) on
        # places 1 and 3
        by_hand = torch.tensor([math.cos(t), -2 * math.sin(0.1 * t), math.sin(t), 2 * math.cos(0.1 * t)])
        assert torch.allclose(turned[t], by_hand, atol=1e-6)  # float32 angles


def test_a_score_depends_on_the_distance_alone():
    """q at m times k at n is the same for all m, n of one difference m − n, and turning keeps lengths."""
    cos, sin = rotations(Config(d_model=8, n_heads=1, n_kv_heads=1, context=32))
    q, k = torch.randn(2, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    qs, ks = (rotate(v.expand(1, 1, 32, 8), cos, sin)[0, 0] for v in (q, k))
    scores = qs @ ks.T
    for distance in (0, 1, 5, 20):
        diagonal = scores.diagonal(-distance)
        # the table of angles is kept in float32
        assert (diagonal - diagonal[0]).abs().max() < 1e-5
    # and it does depend on the distance
    assert (scores[:, 0] - scores[0, 0]).abs()[1:].max() > 0.1
    assert torch.allclose(qs.norm(dim=1), q.norm().expand(32), atol=1e-5)


# --- the cache ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "chunks", [(12,), (1,) * 12, (5, 7), (5, 1, 1, 1, 4), (1, 11), (3, 3, 3, 3)], ids=str
)
def test_reading_through_the_cache_is_reading_at_once(model, chunks):
    """A prompt read whole, token by token, in pieces of any size: the same hidden states."""
    tokens = some_tokens(3, 12)
    cache = Cache(model, 3, 12, torch.zeros(3, dtype=torch.long))
    parts = [model.hidden(part, cache) for part in tokens.split(chunks, dim=1)]
    assert close(torch.cat(parts, dim=1), model.hidden(tokens))
    assert cache.length == 12


@pytest.mark.parametrize("chunks", [(6, 1, 1, 1), (6, 3), (9,), (2, 4, 1, 2)], ids=str)
def test_rows_padded_at_the_left_give_what_they_give_alone(model, chunks):
    """Lengths 9, 6, 1 and 4 aligned at the right: each row's real places equal its own reading, whatever the
    padding holds.
    """
    lengths = [9, 6, 1, 4]
    rows = [some_tokens(1, n, seed=n) for n in lengths]
    for filler in (0, 7):
        padded = torch.full((4, 9), filler)
        for row, tokens in zip(padded, rows):
            row[9 - tokens.shape[1] :] = tokens[0]
        cache = Cache(model, 4, 9, torch.tensor([9 - n for n in lengths]))
        hidden = torch.cat([model.hidden(part, cache) for part in padded.split(chunks, dim=1)], dim=1)
        assert hidden.isfinite().all()
        for i, (tokens, n) in enumerate(zip(rows, lengths)):
            assert close(hidden[i : i + 1, 9 - n :], model.hidden(tokens))


def test_selected_rows_go_on_as_themselves(model):
    """Rows 2, 0, 0 of a cache: copies go their own ways, and each equals its text read from the start."""
    lengths, tails = [5, 3, 4], [[1, 2, 3], [4, 5, 6], [6, 5, 4]]
    rows = [some_tokens(1, n, seed=n)[0].tolist() for n in lengths]
    padded = torch.tensor([[0] * (5 - len(r)) + r for r in rows])
    cache = Cache(model, 3, 8, torch.tensor([0, 2, 1]))
    model.hidden(padded, cache)
    cache.select(torch.tensor([2, 0, 0]))
    steps = torch.cat([model.hidden(torch.tensor(tails)[:, t : t + 1], cache) for t in range(3)], dim=1)
    for i, source in enumerate([2, 0, 0]):
        assert close(steps[i : i + 1], model.hidden(torch.tensor([rows[source] + tails[i]]))[:, -3:])
    cache.select(torch.tensor([1]))
    assert cache.padded is False and cache.k[0].shape[0] == 1


def test_a_full_cache_takes_no_more(model):
    """One place too few: an error, and not a token that cannot see itself."""
    cache = Cache(model, 2, 4, torch.zeros(2, dtype=torch.long))
    model.hidden(some_tokens(2, 4), cache)
    with pytest.raises(ValueError, match="tokens .*cache"):
        model.hidden(some_tokens(2, 1), cache)


@pytest.mark.parametrize("rows", [1, 3])
def test_a_cache_of_other_rows_is_refused(model, rows):
    """One row for a cache of two would be read by both."""
    cache = Cache(model, 2, 8, torch.zeros(2, dtype=torch.long))
    model.hidden(some_tokens(2, 4), cache)
    with pytest.raises(ValueError, match="tokens .*cache"):
        model.hidden(some_tokens(rows, 1), cache)


# --- weights ------------------------------------------------------------------------------------------------


def test_one_seed_is_one_model_and_it_leaves_the_global_generator_out():
    torch.manual_seed(1)
    first = Transformer(Config(), seed=3).state_dict()
    torch.manual_seed(2)
    again, other = Transformer(Config(), seed=3).state_dict(), Transformer(Config(), seed=4).state_dict()
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert not any(
        torch.equal(first[k], other[k])
        for k in first
        if not k.endswith(("norm.weight", "norm1.weight", "norm2.weight"))
    )


def test_the_course_models_size_by_hand():
    """Embedding 512·128 = 65,536. A block: q and o 2·128² = 32,768, k and v 2·128·64 = 16,384, SwiGLU
    3·128·352 = 135,168, norms 256:
    184,576. Four blocks 738,304, the last norm 128. Together 803,968: the tied embedding counts once.
    """
    assert Transformer(Config()).count_parameters() == 65_536 + 4 * 184_576 + 128 == 803_968


def test_an_untrained_model_knows_nothing():
    """Its loss is that of even odds, log 512 = 6.24 nats, to 2 %: the first weights are small."""
    model = Transformer(Config())
    logp = model(some_tokens(4, 64, vocab_size=512)).log_softmax(-1).detach()
    assert -float(logp.mean()) == pytest.approx(math.log(512), rel=0.02)


def test_every_weight_matters(model):
    """Each number of each tensor has a gradient that is not zero somewhere: nothing is built and left out."""
    grads = torch.autograd.grad(model(some_tokens(4, 20)).square().sum(), list(model.parameters()))
    for (name, _), g in zip(model.named_parameters(), grads):
        assert (g != 0).float().mean() > 0.99, name


def test_a_models_scale_does_not_reach_through_the_first_norm():
    """RMSNorm divides by the size: embeddings twice as large give, in the blocks, the same queries (1e-4: eps
    is 1e-5).
    """
    model = liven(
        Transformer(Config(vocab_size=11, d_model=16, n_heads=2, n_kv_heads=1, n_layers=1, d_ff=8, context=8))
    )
    norm, x = model.blocks[0].norm1, torch.randn(5, 16, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(norm(2 * x), norm(x), rtol=1e-4)
    assert torch.allclose((norm(x) / norm.weight).square().mean(-1), torch.ones(5), atol=1e-4)


def test_device_and_dtype_are_as_asked():
    assert device_and_dtype("cpu") == (torch.device("cpu"), torch.float32)
    assert device_and_dtype("cpu", torch.bfloat16)[1] == torch.bfloat16
    assert device_and_dtype()[0].type in ("cuda", "mps", "cpu")
