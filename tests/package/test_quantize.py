"""Maps in few bits: the levels and the rounding are the paper's, bytes are counted, gradients pass to the
input, and adapters train over it.
"""

from __future__ import annotations

import copy

import pytest
import torch

from conftest import Tiny
from minillm.engine.decoding import fits
from minillm.engine.products import Linear
from minillm.batch import batch_pairs
from minillm.logprob import logprobs
from minillm.adapt.lora import add_lora
from minillm.adapt.quantize import (
    BLOCK,
    LEVELS,
    NF4,
    Int8,
    Stored,
    bytes_of,
    dequantize,
    from_nf4,
    quantize,
    to_nf4,
)
from minillm.methods import supervised
from minillm.sample import sample
from minillm.train import Settings, train

TOKENS = torch.tensor([[1, 2, 0, 4, 3, 1], [2, 4, 4, 1, 0, 2]])
# Appendix E of Dettmers et al. 2023, which bitsandbytes also has.
PUBLISHED = [
    -1.0,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0.0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1.0,
]


def matrix(F=96, D=200, seed=0, scale=0.05):
    return scale * torch.randn(F, D, generator=torch.Generator().manual_seed(seed))


def base(dtype=torch.float64):
    return Tiny(0, dtype, vocab_size=5, d_model=16, d_ff=24, context=16)


# --- the levels, the rounding, the packing ------------------------------------------------------------------


def test_the_levels_are_the_papers():
    assert list(LEVELS) == PUBLISHED


def test_the_levels_are_quantiles_of_a_normal_distribution():
    """Even steps of probability from 1/2 up to δ: 8 of them give the levels above 0, 7 those below; then
    divided by the largest.

    δ = 1 − (1/30 + 1/32)/2: the mean of the outermost half bins of 15 and of 16 levels. To float32's rounding
    in the published table.
    """
    delta = 1 - (1 / 30 + 1 / 32) / 2
    above, below = (
        torch.special.ndtri(torch.linspace(0.5, delta, n, dtype=torch.float64))[1:] for n in (9, 8)
    )
    levels = torch.cat([-below.flip(0), torch.zeros(1, dtype=torch.float64), above]) / above[-1]
    torch.testing.assert_close(levels, torch.tensor(PUBLISHED, dtype=torch.float64), atol=3e-7, rtol=0)


def codes_of(packed):
    """Two codes of 0 to 15 from each byte, the upper half first."""
    return torch.stack([packed >> 4, packed & 15], 1).flatten().long()


@pytest.mark.parametrize("seed", range(3))
def test_each_number_goes_to_the_nearest_level(seed):
    """All 16 distances, block by block, without the midpoints that the code uses."""
    w = matrix(seed=seed)
    codes, scales, outer = to_nf4(w)
    blocks = w.flatten().view(-1, BLOCK)
    share = blocks / blocks.abs().amax(1, keepdim=True)
    wanted = (share[..., None] - torch.tensor(PUBLISHED)).abs().argmin(-1).flatten()
    assert torch.equal(codes_of(codes), wanted)
    assert codes.dtype == scales.dtype == outer.dtype == torch.uint8 and len(codes) == w.numel() // 2


def test_one_block_by_hand():
    """The largest is 2: 2 → 1.0 (15), −2 → −1.0 (0), 0 → 7, 0.3 → 0.15, next to 0.1609 (9), −0.19 → −0.095,
    next to −0.0911 (6).

    One block, so its scale is the mean of scales, exactly; two codes to a byte, the first in the upper half.
    """
    w = torch.zeros(1, 64)
    w[0, :5] = torch.tensor([2.0, -2.0, 0.0, 0.3, -0.19])
    codes, scales, outer = to_nf4(w)
    assert codes[:3].tolist() == [15 * 16 + 0, 7 * 16 + 9, 6 * 16 + 7] and (codes[3:] == 7 * 16 + 7).all()
    assert outer.view(torch.float32).tolist() == [0.0, 2.0] and scales.tolist() == [0]
    back = from_nf4(codes, scales, outer, (1, 64))
    torch.testing.assert_close(
        back[0, :5],
        2 * torch.tensor([1.0, -1.0, 0.0, 0.16093020141124725, -0.09105003625154495]),
        atol=0,
        rtol=0,
    )


def test_a_tie_goes_to_the_lower_level():
    levels = torch.tensor(PUBLISHED)
    middle = (levels[1:] + levels[:-1]) / 2
    w = torch.cat([middle, torch.ones(1), torch.zeros(48)])[None]
    assert codes_of(to_nf4(w)[0])[:15].tolist() == list(range(15))


@pytest.mark.parametrize("shape", [(4, 64), (300, 128), (3, 50), (1, 1), (7, 9)], ids=str)
def test_double_quantisation(shape):
    """Scales less their mean, in float8 (e4m3) by 256, against the arithmetic one number at a time; shapes
    that fill no block, too.
    """
    w = matrix(*shape, seed=1)
    codes, scales, outer = to_nf4(w)
    flat = w.flatten().tolist()
    largest = torch.tensor([max(abs(v) for v in flat[i : i + 64]) for i in range(0, len(flat), 64)])
    mean = largest.mean()
    kept = []
    for i in range(0, len(largest), 256):
        off = largest[i : i + 256] - mean
        step = float(off.abs().max()) / 448 or 1.0
        kept += [
            float(torch.tensor(v / step).to(torch.float8_e4m3fn)) * step + float(mean) for v in off.tolist()
        ]
    scale = torch.tensor(kept)
    levels = torch.tensor(PUBLISHED)[codes_of(codes)][: w.numel()]
    wanted = (levels * scale.repeat_interleave(64)[: w.numel()]).view(shape)
    torch.testing.assert_close(
        from_nf4(codes, scales, outer, shape), wanted, atol=1e-6 * float(w.abs().max()), rtol=0
    )
    assert len(scales) == -(-w.numel() // 64) and len(outer) == 4 * (-(-len(scales) // 256) + 1)


def test_how_far_off_it_is():
    """Half the widest gap between levels (0.152) of each block's largest, and the little that float8 adds; 9
    % of the weights' size on average.
    """
    w = matrix(256, 256)
    error = from_nf4(*to_nf4(w), w.shape) - w
    largest = w.view(-1, 64).abs().amax(1, keepdim=True)
    assert (error.view(-1, 64).abs() <= 0.17 * largest).all()
    assert 0.085 < float(error.square().mean().sqrt() / w.square().mean().sqrt()) < 0.1
    codes = Int8(linear(w))
    assert ((codes.unpacked() - w).abs() <= 0.501 / 127 * w.abs().amax(1, keepdim=True)).all()


def linear(w, bias=False):
    map = Linear(w.shape[1], w.shape[0], bias=bias)
    with torch.no_grad():
        map.weight.copy_(w)
    return map


def test_rows_of_zeros():
    for kind in (NF4, Int8):
        assert torch.equal(kind(linear(torch.zeros(3, 70))).weight, torch.zeros(3, 70))
    w = matrix(4, 64)
    w[2] = 0
    assert not NF4(linear(w)).weight[2].any() and not Int8(linear(w)).weight[2].any()


# --- the maps -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind, most", [(NF4, 0.53), (Int8, 1.04)])
def test_bytes_of_a_parameter(kind, most):
    """Counted, not computed: what the map holds, over what the weight had. The course's own shapes."""
    for F, D in ((128, 128), (352, 128), (128, 352), (64, 128), (1056, 384)):
        part = kind(linear(matrix(F, D)))
        held = sum(t.untyped_storage().nbytes() for t in (*part.parameters(), *part.buffers()))
        assert held == bytes_of(part) <= most * F * D


@pytest.mark.parametrize("kind", [NF4, Int8])
@pytest.mark.parametrize("bias", [False, True])
def test_the_product_and_its_gradient(kind, bias):
    """x·Wᵀ + b of the W that is kept; the gradient of x is g·W, there is none of W, and the bias learns where
    it is left to.
    """
    plain = linear(matrix(24, 40).double(), bias).double()
    part = kind(plain)
    assert part.weight.dtype == torch.float64 and not any(
        "weight" in name for name, _ in part.named_parameters()
    )
    x = torch.randn(3, 5, 40, dtype=torch.float64, requires_grad=True)
    wanted = x @ part.weight.t() + (plain.bias if bias else 0)
    out = part(x)
    torch.testing.assert_close(out, wanted)
    for a, b in zip(
        torch.autograd.grad(out.sin().sum(), [x, *part.parameters()]),
        torch.autograd.grad(wanted.sin().sum(), [x, *part.parameters()]),
    ):
        torch.testing.assert_close(a, b)


def test_nothing_of_the_weight_is_kept_for_the_backward_pass():
    part, kept = NF4(linear(matrix(24, 40))), []
    x = torch.randn(64, 40, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        part(x)
    assert not kept


@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_other_types_do_not_round_what_is_kept(kind):
    """.bfloat16() and .double() change in what type a weight is given, not which numbers are kept."""
    model = quantize(base(torch.float32), kind)
    part = model.blocks[0].up
    before = part.unpacked()
    assert part.weight.dtype == torch.float32
    model.bfloat16()
    assert (
        part.weight.dtype == torch.bfloat16
        and torch.equal(part.weight, before.bfloat16())
        and model(TOKENS).dtype == torch.bfloat16
    )
    model.double()
    assert torch.equal(part.weight, before.double())
    model.float()
    with torch.autocast("cpu", torch.bfloat16):
        x = torch.randn(8, 16, requires_grad=True)
        out = part(x)
    assert out.dtype == torch.bfloat16
    out.float().sum().backward()
    assert x.grad.dtype == torch.float32


@pytest.mark.parametrize("kind, cls", [("nf4", NF4), ("int8", Int8)])
def test_a_model_in_few_bits(kind, cls):
    """All maps of the blocks, or some; the rest is as it was; what is drawn is what is scored; it goes
    through state_dict, copies, and back.
    """
    model = quantize(base(), kind)
    assert sum(isinstance(part, cls) for part in model.modules()) == 14 and model.embed.weight.requires_grad
    assert not any(isinstance(part, torch.nn.Linear) for part in model.blocks.modules())
    some = quantize(base(), kind, ("q", "blocks.1.down"))
    assert [name for name, part in some.named_modules() if isinstance(part, Stored)] == [
        "blocks.0.attention.q",
        "blocks.1.attention.q",
        "blocks.1.down",
    ]
    assert fits(model)
    drawn = sample(model, [[1], [2, 3]], 8, n=4, end=None, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(logprobs(model, drawn), drawn.logprobs)
    out = model(TOKENS)
    torch.testing.assert_close(dequantize(copy.deepcopy(model))(TOKENS), out)
    assert list(dequantize(copy.deepcopy(model)).state_dict()) == list(base().state_dict())
    other = quantize(Tiny(5, torch.float64, vocab_size=5, d_model=16, d_ff=24, context=16), kind)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(TOKENS), out)


def test_bytes_of_a_model():
    """The embedding, tied or not, counts once; tables that are made anew do not count."""
    model = base(torch.float32)
    assert bytes_of(model) == 4 * model.count_parameters()
    small = quantize(base(torch.float32))
    maps = sum(m.in_features * m.out_features for m in small.modules() if isinstance(m, NF4))
    assert bytes_of(small) == 4 * small.count_parameters() + sum(
        bytes_of(m) for m in small.modules() if isinstance(m, NF4)
    )
    assert bytes_of(small) < bytes_of(model) - 3 * maps


@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_adapters_train_over_it(kind):
    """QLoRA: the loss falls, and what is kept in few bits does not move."""
    model = add_lora(quantize(base(torch.float32), kind), 4)
    kept = {name: t.clone() for name, t in model.named_buffers()}
    batch = batch_pairs([([1, 2], [3, 3, 0]), ([2], [4, 0])])
    rows = train(
        model,
        lambda step: batch,
        supervised.coefficient,
        Settings(30, lr=0.02, muon_lr=0.0),
        progress=False,
    )
    assert rows[-1]["nll"] < 0.5 * rows[0]["nll"]
    assert all(torch.equal(t, kept[name]) for name, t in model.named_buffers())


def test_a_model_with_adapters_may_be_put_in_few_bits():
    """The adapters stay, and stand over the rounded maps."""
    model = quantize(add_lora(base(), 2), maps=("q",))
    assert isinstance(model.blocks[0].attention.q.base, NF4) and model(TOKENS).isfinite().all()
