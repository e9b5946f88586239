"""Positions as rotations: how fast each pair of numbers turns, at longer contexts too, and the turn itself.

It leaves out scalings that change with the length of the text, and those of single families (longrope).
Sources: Su et al. 2021 (RoPE); Chen et al. 2023 (linear); Peng et al. 2023 (YaRN); Llama Team 2024,
"The Llama 3 herd" (llama3).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .expect import expect

# What each scaling must say.
NEEDED = {"default": (),
          "dynamic": ("factor",),
          "linear": ("factor",),
          "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
          "yarn": ("factor", "original_max_position_embeddings")}
MAY = {"yarn": ("attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim")}  # and may say
LARGEST = 1e12  # of a scaling's numbers: more is a slip, and squares of it would leave the floats


def rotations(config) -> tuple[Tensor, Tensor]:
    """cos and sin of position · frequency, each (context, E/2) in float32.

    Pair i turns by theta^(−2i/E) radians a token. config: a Config of transformer.py. Its rope_scaling is as
    in a Hugging Face config.json, with a "rope_type" (see NEEDED) and numbers.
    """
    frequency, size = frequencies(config.d_head, config.rope_theta, config.rope_scaling)
    # On the CPU and in double whatever the default is: an angle of thousands of radians leaves float32 few
    # digits.
    angle = torch.outer(torch.arange(config.context, dtype=torch.float64, device="cpu"), frequency)
    return (angle.cos() * size).float(), (angle.sin() * size).float()


def frequencies(d_head: int, theta: float, scaling: dict | None = None) -> tuple[Tensor, float]:
    """(radians a token of each pair, (E/2,) in float64; the factor by which YaRN lengthens queries and keys).

    The factor is 1 for the others. Raises ValueError for a theta up to 1, an unknown type and a number that
    is missing or out of range.
    """
    right = _number(theta) and 1 < theta <= LARGEST
    expect(right, "rope_theta", theta, f"give a number over 1, at most {LARGEST:.0e}")
    frequency = theta ** (-torch.arange(0, d_head, 2, dtype=torch.float64, device="cpu") / d_head)  # (E/2,)
    scaling = scaling or {}
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    known = isinstance(kind, str) and kind in NEEDED
    expect(known, "rope_type", repr(kind), f"this package knows {', '.join(NEEDED)}")
    said = [name for name in MAY.get(kind, ()) if scaling.get(name) is not None]
    for name in (*NEEDED[kind], *said):
        value = scaling.get(name)
        right = _number(value) and 1 / LARGEST <= value <= LARGEST
        expect(right, f"rope_scaling: {name}", value, f"{kind} needs a positive number up to {LARGEST:.0e}")
    truncate = scaling.get("truncate", True)
    expect(isinstance(truncate, bool), "rope_scaling: truncate", repr(truncate), "give true or false")
    # Dynamic begins to stretch past the context, where these models do not go.
    if kind in ("default", "dynamic"):
        return frequency, 1.0
    slow = frequency / scaling["factor"]                             # every position counts 1/factor
    if kind == "linear":
        return slow, 1.0
    trained = scaling["original_max_position_embeddings"]
    turns = trained * frequency / (2 * math.pi)                      # (E/2,) full turns within that context
    if kind == "llama3":  # pairs of few turns are slowed, those of many kept, with a ramp between
        low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
        expect(high > low, "rope_scaling: high_freq_factor", high, f"give more than low_freq_factor = {low}")
        keep = ((turns - low) / (high - low)).clamp(0, 1)
        return keep * frequency + (1 - keep) * slow, 1.0

    def pair_of(turns: float) -> float:
        """Which pair, as a real number, makes so many turns."""
        return d_head * math.log(trained / (turns * 2 * math.pi)) / (2 * math.log(theta))

    first, last = pair_of(scaling.get("beta_fast") or 32), pair_of(scaling.get("beta_slow") or 1)
    if truncate:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, d_head - 1)
    last += 0.001 * (first == last)                                  # no division by zero
    pair = torch.arange(d_head // 2, dtype=torch.float64, device="cpu")
    ramp = ((pair - first) / (last - first)).clamp(0, 1)
    return (1 - ramp) * frequency + ramp * slow, _longer(scaling)


def _number(value) -> bool:
    """Whether it is a number; True is none here, though Python counts with it."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _longer(scaling: dict) -> float:
    """YaRN's temperature on attention, as a factor on cos and sin (Peng et al. 2023, eq. 22)."""
    def longer(weight: float) -> float:
        return 0.1 * weight * math.log(scaling["factor"]) + 1.0 if scaling["factor"] > 1 else 1.0

    if scaling.get("attention_factor") is not None:
        return float(scaling["attention_factor"])
    if scaling.get("mscale") and scaling.get("mscale_all_dim"):
        return longer(scaling["mscale"]) / longer(scaling["mscale_all_dim"])
    return longer(1.0)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the pairs (x_i, x_{i+E/2}) of x (..., T, E) by their position's angle.

    Su et al. 2021, eq. 34, with Llama's pairing.
    """
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)
