"""θ in few bits: frozen weights kept as NF4 (4.13 bits each) or int8, and brought back for each product.

A stored map is no parameter: gradients pass through it to its input, and low-rank adapters train over it
(QLoRA). Nothing of the weight in floats is kept between forward and backward: it is made twice.

Sources: Dettmers et al. 2023 (QLoRA: NF4, double quantisation; the levels are the table of its appendix E);
Dettmers et al. 2022 (LLM.int8(): one scale for each row).
"""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..expect import expect, expect_finite, expect_tensor
from ..engine.products import Linear, linear

BLOCK = 64       # weights that share a scale
OUTER = 256      # scales that share a scale
# Quantiles of a normal distribution, 8 below 0 and 9 above it of which 0 is both, divided by the largest:
# -1, 0 and 1 are exact.
LEVELS = (-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
          -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
          0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
          0.7229568362236023, 1.0)
FP8_LARGEST = 448.0  # of float8 with 4 bits of exponent and 3 of fraction


@functools.cache
def _tables(device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """What unpacking needs on a device.

    Midpoints between levels (15,); the two levels of each byte, as one number of 64 bits (256,); what each
    byte is in float8 (256,).
    """
    levels, byte = torch.tensor(LEVELS), torch.arange(256, dtype=torch.uint8)
    midpoints = (levels[1:] + levels[:-1]) / 2
    pairs = torch.stack([levels[byte.int() >> 4], levels[byte.int() & 15]], 1).view(torch.int64)[:, 0]
    fp8 = byte.view(torch.float8_e4m3fn).float()
    return tuple(table.to(device) for table in (midpoints, pairs, fp8))


def to_nf4(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A matrix in NF4: (codes, scales, outer), all bytes (uint8).

    The N numbers of `weight`, row by row, in blocks of 64: each is divided by the largest |number| of its
    block and rounded to the nearest level, the lower of two that are as near. codes (⌈N/64⌉·32,): two to
    a byte, the first in the upper half. scales (⌈N/64⌉,): the blocks' largest, less their mean, in
    float8, 256 of them to an outer scale. outer: these outer scales and the mean, float32 as bytes, so
    that a model's .to(dtype) does not round them.
    """
    expect_tensor("weight", weight, "F D", "float")
    expect_finite("weight", weight)
    midpoints = _tables(weight.device)[0]
    flat = weight.detach().float().flatten()
    blocks = F.pad(flat, (0, -len(flat) % BLOCK)).view(-1, BLOCK)                       # (N/64, 64)
    largest = blocks.abs().amax(1)                                                      # (N/64,)
    codes = torch.bucketize(blocks / largest.where(largest > 0, 1.0)[:, None], midpoints).byte()
    mean = largest.mean()
    off = F.pad(largest - mean, (0, -len(largest) % OUTER)).view(-1, OUTER)             # (N/64/256, 256)
    outer = off.abs().amax(1) / FP8_LARGEST
    scales = (off / outer.where(outer > 0, 1.0)[:, None]).to(torch.float8_e4m3fn).view(torch.uint8)
    packed = (codes[:, ::2] << 4 | codes[:, 1::2]).flatten()                            # (⌈N/64⌉·32,)
    outer = torch.cat([outer, mean[None]]).view(torch.uint8)
    return packed, scales.flatten()[:len(largest)].clone(), outer


def from_nf4(codes: Tensor, scales: Tensor, outer: Tensor, shape: tuple[int, ...]) -> Tensor:
    """What `to_nf4` kept, as a float32 tensor of this shape: level · (mean + outer scale · scale)."""
    blocks, N = len(scales), torch.Size(shape).numel()
    fits = len(codes) == BLOCK // 2 * blocks and BLOCK * (blocks - 1) < N <= BLOCK * blocks
    expect(fits, "shape", tuple(shape), f"there are {blocks} blocks of {BLOCK} numbers")
    _, pairs, fp8 = _tables(codes.device)
    outer, mean = outer.view(torch.float32).split([len(outer) // 4 - 1, 1])
    scale = outer.repeat_interleave(OUTER)[:blocks] * fp8[scales.int()] + mean          # (N/64,)
    levels = pairs[codes.int()].view(torch.float32).view(blocks, BLOCK)                 # (N/64, 64)
    return levels.mul_(scale[:, None]).flatten()[:N].view(shape)


class Stored(nn.Module):
    """A frozen linear map whose weight (F, D) is kept in few bits; NF4 and Int8 say how.

    The bias, if there is one, stays as it was.
    """

    def __init__(self, map: nn.Linear):
        super().__init__()
        self.in_features, self.out_features, self.bias = map.in_features, map.out_features, map.bias
        # Goes with .to(dtype): the type of `weight`.
        self.register_buffer("like", map.weight.detach().new_empty(0), persistent=False)

    @property
    def weight(self) -> Tensor:  # (F, D), in the model's type
        return self.unpacked().to(self.like.dtype)

    def forward(self, x: Tensor) -> Tensor:  # (..., D) -> (..., F)
        out = _Product.apply(x, self)
        return out if self.bias is None else out + self.bias.to(out.dtype)


class NF4(Stored):
    """Half a byte a number, and a byte for each block of 64: 0.516 bytes."""

    def __init__(self, map: nn.Linear):
        super().__init__(map)
        for name, tensor in zip(("codes", "scales", "outer"), to_nf4(map.weight)):
            self.register_buffer(name, tensor)

    def unpacked(self) -> Tensor:
        """The weight in float32, (F, D)."""
        return from_nf4(self.codes, self.scales, self.outer, (self.out_features, self.in_features))


class Int8(Stored):
    """A byte a number, and a float32 for each row.

    The codes run from −127 to 127, and are times the row's largest |number| / 127.
    """

    def __init__(self, map: nn.Linear):
        super().__init__(map)
        weight = map.weight.detach().float()
        expect_finite("weight", weight)
        scale = weight.abs().amax(1, keepdim=True) / 127                                # (F, 1)
        self.register_buffer("codes", (weight / scale.where(scale > 0, 1.0)).round().to(torch.int8))
        # (F, 4) bytes, so that .to(dtype) does not round them.
        self.register_buffer("scales", scale.view(torch.uint8))

    def unpacked(self) -> Tensor:
        """The weight in float32, (F, D)."""
        return self.codes.float() * self.scales.view(torch.float32)


class _Product(torch.autograd.Function):
    """x·Wᵀ that keeps nothing for the backward pass: g·W is taken with W unpacked once more."""

    @staticmethod
    def forward(ctx, x, stored):
        ctx.stored = stored
        return linear(x, stored.unpacked().to(x.dtype))

    @staticmethod
    def backward(ctx, g):
        return linear(g, ctx.stored.unpacked().to(g.dtype).t()), None


KINDS = {"nf4": NF4, "int8": Int8}


def quantize(model: nn.Module, kind: str = "nf4",
             maps: tuple[str, ...] = ("q", "k", "v", "o", "gate", "up", "down")) -> nn.Module:
    """Keep the linear maps of model.blocks with these names in few bits, in place. Returns the model.

    kind: "nf4" or "int8".
    maps: last names ("q") or whole ones ("blocks.0.attention.q"); a map that has an adapter keeps it.
    Embeddings, norms and biases stay as they are, and are not frozen: `add_lora` does that. The rounding
    is not undone by `dequantize`.
    """
    expect(kind in KINDS, "kind", repr(kind), f"give {' or '.join(map(repr, KINDS))}")
    expect(not isinstance(maps, str) and len(maps) > 0, "maps", repr(maps), 'give names, as in ("q", "v")')
    there = {name.removesuffix(".base"): (name, part) for name, part in model.named_modules()
             if name.startswith("blocks.") and isinstance(part, (nn.Linear, Stored))}
    chosen = {}
    known = ", ".join(dict.fromkeys(name.split(".")[-1] for name in there)) or "no linear map"
    for wanted in maps:
        hits = [name for name in there if name == wanted or name.endswith(f".{wanted}")]
        expect(hits, "maps", repr(wanted), f"the model's blocks have {known}")
        chosen |= {name: there[name] for name in hits}
    stored = [name for name, (_, part) in chosen.items() if isinstance(part, Stored)]
    expect(not stored, "model", f"with {stored[0] if stored else ''} in few bits already",
           "quantise a map once")
    for place, part in chosen.values():
        _put(model, place, KINDS[kind](part).train(part.training))
    return model


def dequantize(model: nn.Module) -> nn.Module:
    """Make every stored map a plain one again, in place: the same numbers, rounded as they are.

    Returns the model.
    """
    stored = [(name, part) for name, part in model.named_modules() if isinstance(part, Stored)]
    expect(stored, "model", "without a map in few bits", "give one that `quantize` has changed")
    for place, part in stored:
        with torch.device("meta"):
            plain = Linear(part.in_features, part.out_features, bias=False)
        plain.weight, plain.bias = nn.Parameter(part.weight), part.bias
        _put(model, place, plain.train(part.training))
    return model


def bytes_of(model: nn.Module) -> int:
    """Bytes of a model's state: its parameters, each once, and the buffers that are kept with it."""
    return sum(t.nbytes for t in {t.data_ptr(): t for t in model.state_dict().values()}.values())


def _put(model: nn.Module, place: str, part: nn.Module) -> None:
    setattr(model.get_submodule(place.rpartition(".")[0]), place.rpartition(".")[2], part)
