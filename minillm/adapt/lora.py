"""θ + scale·BA: low-rank adapters beside frozen linear maps. hub.adapters reads and writes their files.

A map's weight W (F, D) stays as it is, and what is learned is B·A with A (r, D) and B (F, r), r small: F·D
numbers become r·(F + D). B begins at 0, so training begins at the model itself. With the adapters off the
model is the one it was: the reference of DPO and PPO, without a second copy of it.
Source: Hu et al. 2021 (LoRA). `scale` is its α/r; Kalajdzievski 2023 (rsLoRA) argues for α/√r.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..engine import folded
from ..engine.products import Linear, linear
from ..expect import expect

MAPS = ("q", "k", "v", "o", "gate", "up", "down")


class LoRA(nn.Module):
    """A linear map and its adapter. `base` is the map itself (plain, or in few bits); `weight` is what it now
    multiplies by."""

    def __init__(self, base: nn.Module, A: Tensor, B: Tensor, scale: float, dropout: float = 0.0):
        super().__init__()
        self.base, self.scale, self.dropout, self.on = base, scale, dropout, True
        self.in_features, self.out_features = base.in_features, base.out_features
        self.A, self.B = nn.Parameter(A), nn.Parameter(B)

    @property
    def bias(self) -> Tensor | None:
        return self.base.bias

    @property
    def weight(self) -> Tensor:  # (F, D)
        base = self.base.weight
        return base + (self.scale * self.B @ self.A).to(base.dtype) if self.on else base

    def forward(self, x: Tensor) -> Tensor:  # (..., D) -> (..., F)
        if not self.on:
            return self.base(x)
        # What is drawn, or scored as a reference, is without dropout.
        drop = self.dropout > 0 and self.training and torch.is_grad_enabled()
        if not drop and folded.fits(self, x):
            return folded.product(self, x)
        out, x = self.base(x), x.to(self.A.dtype)
        h = linear(F.dropout(x, self.dropout) if drop else x, self.A)           # (..., r)
        return out + linear(h, self.scale * self.B).to(out.dtype)


def add_lora(model: nn.Module, rank: int = 8, scale: float = 2.0, maps: tuple[str, ...] = MAPS,
             dropout: float = 0.0, seed: int = 0) -> nn.Module:
    """Freeze the model and give the linear maps of model.blocks with these names an adapter each, in place.
    Returns the model.

    maps: last names ("q") or whole ones ("blocks.0.attention.q"). A is uniform within ±1/√D, drawn from
    `seed`; B is 0. scale: what BA is multiplied by, PEFT's lora_alpha / r. dropout: share of an adapter's
    inputs that training leaves out. Adapters are float32 where the weights are shorter. Settings(muon_lr=0)
    trains them by AdamW; Muon, at a rate of its own, came level and no further.
    """
    whole = isinstance(rank, int) and not isinstance(rank, bool)
    expect(whole and rank >= 1, "rank", rank, "give a whole number from 1")
    expect(isinstance(scale, (int, float)) and 0 < scale < math.inf, "scale", scale,
           "give a positive number: lora_alpha / rank")
    expect(isinstance(dropout, (int, float)) and 0 <= dropout < 1, "dropout", dropout,
           "give a share in [0, 1)")
    generator = torch.Generator().manual_seed(seed)
    chosen = choose(model, maps)
    for name, base in chosen.items():
        widest = min(base.in_features, base.out_features)
        expect(rank <= widest, "rank", rank,
               f"{name} is {base.out_features} × {base.in_features}: at most {widest}")
    tensors = {}
    for name, base in chosen.items():
        A = torch.empty(rank, base.in_features).uniform_(-1, 1, generator=generator)
        tensors[name] = A / math.sqrt(base.in_features), torch.zeros(base.out_features, rank), scale
    return attach(model, tensors, dropout)


def choose(model: nn.Module, maps) -> dict[str, nn.Module]:
    """The linear maps of model.blocks that these names mean, by their whole names. ValueError for a name that
    none has, and for adapters."""
    expect(not isinstance(maps, str) and len(maps) > 0, "maps", repr(maps), 'give names, as in ("q", "v")')
    expect(not adapters(model), "model", "one that has adapters already",
           "merge or remove them first, or load the model anew")
    there = {name: part for name, part in model.named_modules()
             if name.startswith("blocks.") and hasattr(part, "in_features")}
    known = ", ".join(dict.fromkeys(name.split(".")[-1] for name in there))
    wished: dict[str, nn.Module] = {}
    for wanted in maps:
        hits = {name: part for name, part in there.items() if name == wanted or name.endswith(f".{wanted}")}
        expect(hits, "maps", repr(wanted), f"the model's blocks have {known or 'no linear map'}")
        wished |= hits
    return {name: there[name] for name in there if name in wished}


def attach(model: nn.Module, tensors: dict[str, tuple[Tensor, Tensor, float]],
           dropout: float = 0.0) -> nn.Module:
    """Freeze the model and give maps, by their whole names, adapters (A (r, D), B (F, r), scale) that exist.
    Returns the model."""
    for name, base in choose(model, list(tensors)).items():
        A, B, scale = tensors[name]
        D, F = base.in_features, base.out_features
        fits = A.ndim == B.ndim == 2 and (A.shape[1], *B.shape) == (D, F, len(A))
        expect(fits, name, f"given A {tuple(A.shape)} and B {tuple(B.shape)}", f"give (r, {D}) and ({F}, r)")
    model.requires_grad_(False)
    for name, base in choose(model, list(tensors)).items():
        A, B, scale = tensors[name]
        like = getattr(base, "like", None)
        like = base.weight if like is None else like
        dtype = torch.promote_types(like.dtype, torch.float32)
        A, B = A.to(like.device, dtype), B.to(like.device, dtype)
        _put(model, name, LoRA(base, A, B, scale, dropout).train(model.training))
    return model


def adapters(model: nn.Module) -> dict[str, LoRA]:
    """The maps that have an adapter, by their names in the model."""
    return {name: part for name, part in model.named_modules() if isinstance(part, LoRA)}


@contextmanager
def adapters_off(model: nn.Module) -> Iterator[None]:
    """Within it the model is the one that the adapters were added to: the reference. ValueError for a model
    without adapters."""
    parts = list(_adapted(model).values())
    before = [part.on for part in parts]
    for part in parts:
        part.on = False
    try:
        yield
    finally:
        for part, on in zip(parts, before):
            part.on = on


def reference(model: nn.Module) -> SimpleNamespace:
    """The model with its adapters off, as `logprobs` and the methods take a reference: the same weights, no
    second copy of them."""
    _adapted(model)

    def hidden(*tokens, **others) -> Tensor:
        with adapters_off(model):
            return model.hidden(*tokens, **others)

    return SimpleNamespace(hidden=hidden, logits=model.logits, config=model.config, embed=model.embed)


@torch.no_grad()
def merge(model: nn.Module) -> nn.Module:
    """Add scale·BA to each weight and take the adapters away, in place: plain maps again, all weights
    trainable. Returns the model.

    A map in few bits comes back as a plain one: W + scale·BA has no place among its levels.
    ValueError where a sum is not finite: the model is then as it was.
    """
    for name, part in _adapted(model).items():
        expect(bool(_sum(part).isfinite().all()), f"{name}: W + scale·BA", "not finite",
               "look at the adapter's numbers: it, or its scale, is broken")
    for name, part in _adapted(model).items():
        plain = part.base
        if not isinstance(plain, nn.Linear):
            with torch.device("meta"):
                plain = Linear(part.in_features, part.out_features, bias=False)
            plain.weight, plain.bias = nn.Parameter(part.base.weight), part.bias
            plain.train(part.training)
        plain.weight.copy_(_sum(part))
        _put(model, name, plain)
    return model.requires_grad_(True)


def _sum(part: LoRA) -> Tensor:
    """W + scale·BA, as engine.folded has it, in the dtype of W."""
    exact = torch.promote_types(part.A.dtype, torch.float32)
    W = part.base.weight
    return torch.addmm(W.to(exact), part.B.to(exact), part.A.to(exact), alpha=part.scale).to(W.dtype)


def remove(model: nn.Module) -> nn.Module:
    """Take the adapters away unmerged, in place: the model that they were added to, all weights trainable.
    Returns the model."""
    for name, part in _adapted(model).items():
        _put(model, name, part.base)
    return model.requires_grad_(True)


def _adapted(model: nn.Module) -> dict[str, LoRA]:
    parts = adapters(model)
    expect(parts, "model", "one without adapters", "call add_lora first")
    return parts


def _put(model: nn.Module, place: str, part: nn.Module) -> None:
    setattr(model.get_submodule(place.rpartition(".")[0]), place.rpartition(".")[2], part)
