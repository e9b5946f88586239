"""Adapters, without their base, in and out of folders in PEFT's form.

The files are adapter_config.json and adapter_model.safetensors.
Adapters of embeddings and heads, DoRA and other relatives are refused by name. Nothing is unpickled.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections import Counter
from functools import partial
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..expect import expect
from .fields import ABSENT, expect_field, expect_folder
from .families import read_json, their_tensors
from ..adapt.lora import adapters, attach

PREFIX = "base_model.model."
_LEAST, _MOST = 1e-6, 1e6  # of a rank and of alpha: more is a slip
CHANGES = (
    "use_dora", "modules_to_save", "layer_replication", "trainable_token_indices", "target_parameters",
    "lora_bias", "alora_invocation_tokens", "use_qalora", "use_bdlora", "kasa_config", "velora_config",
    "arrow_config", "monteclora_config")


def save_adapters(model, folder: str | os.PathLike) -> None:
    """Write the adapters of a model, and nothing of its base, so that load_adapters and PEFT read them.

    GPT-2 keeps q, k and v in one map: theirs are joined to one adapter, whose rank is the sum of theirs.
    Raises ValueError, before a file is touched, for a model without adapters and for what is not finite.
    """
    folder = expect_folder(folder)
    parts = adapters(model)
    expect(parts, "model", "one without adapters", "call add_lora first, or hub.save for the whole model")
    tensors: dict[str, Tensor] = {}
    rank, alpha = {}, {}
    for theirs, maps in _their_maps(model).items():
        halves = [parts.get(name) for name in maps]
        if not any(halves):
            continue
        scale = {part.scale for part in halves if part}
        expect(len(scale) == 1, theirs, f"made of maps with scales {sorted(scale)}",
               "give maps that are kept as one the same scale")
        wide = [model.get_submodule(name) for name in maps]
        A = torch.cat([part.A.detach() for part in halves if part])
        B = torch.block_diag(*(part.B.detach() if part else torch.zeros(w.out_features, 0).to(A)
                               for part, w in zip(halves, wide)))
        tensors[f"{PREFIX}{theirs}.lora_A.weight"] = A.cpu().contiguous()
        tensors[f"{PREFIX}{theirs}.lora_B.weight"] = B.cpu().contiguous()
        rank[theirs], alpha[theirs] = len(A), scale.pop() * len(A)
    usual, strength = (Counter(values.values()).most_common(1)[0][0] for values in (rank, alpha))
    short = sorted({name.rpartition(".")[2] for name in rank})
    all_of = [name for name in _their_maps(model) if name.rpartition(".")[2] in short]
    for name, tensor in tensors.items():
        finite = bool(tensor.isfinite().all())
        expect(finite, f"model: {name}", "not made of finite numbers", "save them from before they were lost")
    strange = {name: a for name, a in alpha.items() if not _LEAST <= a <= _MOST}
    expect(not strange, "model", f"of scale times rank {strange}", f"give from {_LEAST:g} to {_MOST:g}")
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": None,
        "r": usual,
        "lora_alpha": strength,
        "lora_dropout": next(iter(parts.values())).dropout,
        "target_modules": short if len(all_of) == len(rank) else sorted(rank),
        "rank_pattern": {name: r for name, r in rank.items() if r != usual},
        "bias": "none",
        "use_rslora": False,
        "use_dora": False,
        "alpha_pattern": {name: a for name, a in alpha.items() if a != strength},
        "inference_mode": True,
        "fan_in_fan_out": any(name.startswith("transformer.") for name in rank),
        "modules_to_save": None,
    }
    text = json.dumps(config, indent=2) + "\n"
    about = {"format": "pt", "base": json.dumps(_probe(model))}
    folder.mkdir(parents=True, exist_ok=True)
    for name, write in (
            ("adapter_model.safetensors", lambda path: save_file(tensors, path, about)),
            ("adapter_config.json", lambda path: path.write_text(text, encoding="utf-8"))):
        beside = folder / f"{name}.part"
        write(beside)
        beside.chmod(0o644)
        os.replace(beside, folder / name)


def load_adapters(model, folder: str | os.PathLike):
    """Give a model the adapters of a folder, and freeze the rest, in place. Returns the model.

    Raises FileNotFoundError for a missing file, ValueError for a damaged one, for what is not LoRA on the
    blocks' linear maps, for files that hold less or more than their configuration says, for adapters of
    another shape, family or base, and for weights that would not be finite with them. (Which base is known of
    adapters that save_adapters wrote.) The model is then as it was.
    """
    path = expect_folder(folder) / "adapter_model.safetensors"
    for file in (path.with_name("adapter_config.json"), path):
        if not file.is_file():
            pickled = path.with_name("adapter_model.bin").is_file() and file == path
            if pickled:
                remedy = (": adapter_model.bin is a pickle, which can run code when it is opened; "
                          "convert it to safetensors")
            else:
                remedy = ": name a folder that save_adapters, or PEFT, wrote"
            raise FileNotFoundError(f"{file} is not there{remedy}")
    config, there, tensors = _read_config(path.with_name("adapter_config.json")), _their_maps(model), {}
    promised = _promised(config, list(there), path.with_name("adapter_config.json"))
    try:
        with safe_open(path, "pt") as file:
            base = (file.metadata() or {}).get("base")
            _expect_headers(file, path, config, model, there, promised)
            for theirs in promised:
                pair = (file.get_tensor(f"{PREFIX}{theirs}.lora_{half}.weight").clone() for half in "AB")
                tensors |= _parts(model, theirs, there[theirs], *pair, config, path)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is damaged or cut short ({error}): fetch it again") from None
    if base is not None:
        _expect_base(base, model, path)
    return attach(model, tensors, config["lora_dropout"])


def _expect_headers(file, path: Path, config: dict, model, there: dict, promised: list[str]) -> None:
    """Raise ValueError unless a file has lora_A and lora_B of each promised map, and nothing else."""
    halves: dict[str, str] = {}
    for name in file.keys():
        match = re.fullmatch(re.escape(PREFIX) + r"(.+)\.lora_([AB])\.weight", name)
        expect(match, str(path), f"with {name}", "this package reads lora_A and lora_B of linear maps")
        halves[match[1]] = halves.get(match[1], "") + match[2]
    expect(halves, str(path), "empty", "give adapters")
    for theirs, letters in halves.items():
        expect(theirs in there, str(path), f"with an adapter of {theirs}",
               f"this model has maps such as {next(iter(there))}: load the base that it was made for")
        half = f"with one half of the adapter of {theirs}"
        expect(len(letters) == 2, str(path), half, "give lora_A and lora_B")
        shapes = [tuple(file.get_slice(f"{PREFIX}{theirs}.lora_{half}.weight").get_shape()) for half in "AB"]
        maps = [model.get_submodule(name) for name in there[theirs]]
        wide, high = maps[0].in_features, sum(m.out_features for m in maps)
        A, B = shapes
        fits = len(A) == len(B) == 2 and A[0] == B[1] and (A[1], B[0]) == (wide, high)
        expect(fits, f"{path}: {theirs}", f"of shapes {A} and {B}",
               f"this model asks for (r, {wide}) and ({high}, r): load the base that it was made for")
        said = _of(config["rank_pattern"], theirs, config["r"]) == A[0]
        expect(said, f"{path}: {theirs}", f"of rank {A[0]}", "adapter_config.json says another")
    lacking, strange = [t for t in promised if t not in halves], [t for t in halves if t not in promised]
    for what, names in (("without", lacking), ("with", strange)):
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        expect(not names, str(path), f"{what} an adapter of {', '.join(names[:3])}{more}",
               "target_modules and layers_to_transform of adapter_config.json say otherwise")


def _parts(model, theirs: str, ours: tuple[str, ...], A: Tensor, B: Tensor, config: dict, path: Path) -> dict:
    """(A, its rows of B, scale), as `attach` takes it, for each of our maps that one of theirs joins.

    ValueError unless these, and W + scale·BA, are finite.
    """
    place = f"{path}: {theirs}"
    finite = all(half.is_floating_point() and bool(half.isfinite().all()) for half in (A, B))
    expect(finite, place, "not made of finite numbers", "give adapters that were trained without a NaN")
    r, parts = len(A), {}
    alpha = _of(config["alpha_pattern"], theirs, config["lora_alpha"])
    scale = alpha / (math.sqrt(r) if config["use_rslora"] else r)
    maps = [model.get_submodule(name) for name in ours]
    for name, base, rows in zip(ours, maps, B.split([m.out_features for m in maps])):
        parts[name] = A.clone(), rows.clone(), scale
        # In the dtype that `attach` gives them, where what is finite in float64 may be infinite.
        weight = base.weight.detach()
        dtype = torch.promote_types(weight.dtype, torch.float32)
        whole = (weight.cpu().to(dtype) + scale * rows.to(dtype) @ A.to(dtype)).to(weight.dtype)
        finite = bool(whole.isfinite().all())
        expect(finite, place, f"with the base, times {scale:g}, not finite in {weight.dtype}",
               "give adapters of the size of the weights")
    return parts


def _read_config(path: Path) -> dict:
    """adapter_config.json, what this package cannot follow refused, and what it leaves out filled in."""
    config = read_json(path)
    field = partial(expect_field, config, place=str(path))
    kind, bias = field("peft_type", str), field("bias", str, "none")
    expect(kind == "LORA", f"{path}: peft_type", repr(kind), "this package reads LORA")
    expect(bias == "none", f"{path}: bias", repr(bias), 'this package reads "none": biases stay frozen')
    for key in CHANGES:
        value = config.get(key)
        off = value is None or value is False or isinstance(value, (list, dict)) and not value
        expect(off, f"{path}: {key}", repr(value)[:80], "this package has plain LoRA alone")
    first = config.get("init_lora_weights")
    known = first is None or isinstance(first, bool) or first in ("gaussian", "eva", "orthogonal")
    expect(known, f"{path}: init_lora_weights", repr(first)[:80], "its base is not the model's own weights")
    rank, alpha = {"kind": int, "low": 1, "high": _MOST}, {"kind": float, "low": _LEAST, "high": _MOST}
    for key, limits in (("rank_pattern", rank), ("alpha_pattern", alpha)):
        pattern = field(key, dict, {})
        odd = [name for name in pattern if not re.fullmatch(r"\^?[\w.]+", name)]
        remedy = "give whole names of maps, or their ends: patterns are not read"
        expect(not odd, f"{path}: {key}", f"with {odd}", remedy)
        inside = partial(expect_field, pattern, place=f"{path}: {key}", **limits)
        config[key] = {name.removeprefix("^"): inside(name) for name in pattern}
    config["r"], config["lora_alpha"] = field("r", **rank), field("lora_alpha", **alpha)
    config["use_rslora"] = field("use_rslora", bool, False)
    config["lora_dropout"] = field("lora_dropout", float, 0.0, low=0, high=0.999)
    return config


def _promised(config: dict, there: list[str], path: Path) -> list[str]:
    """Which of their maps adapter_config.json says that it adapts, as PEFT reads it."""
    field = partial(expect_field, config, place=str(path))

    def hit(theirs: str, name: str) -> bool:
        return theirs == name or theirs.endswith(f".{name}")

    def several(key: str, kind: type, default=ABSENT, **limits) -> list:
        """A list, or the one thing that stands in its place."""
        one = not isinstance(config.get(key), list)
        given = field(key, kind if one else [kind], default, **limits)
        return [given] if one and given is not default else given

    every = config.get("target_modules") == "all-linear"
    targets = [name.rpartition(".")[2] for name in there] if every else field("target_modules", [str])
    left_out = field("exclude_modules", [str], [])
    place = {name: re.search(r"(\w+)\.(\d+)\.", name).groups() for name in there}  # stack and layer
    deep = max(int(layer) for _, layer in place.values())
    layers = several("layers_to_transform", int, [], low=0, high=deep)
    stacks = several("layers_pattern", str, [])
    named = {"target_modules": targets} | {key: config[key] for key in ("rank_pattern", "alpha_pattern")}
    for key, names in named.items():
        lost = [name for name in names if not any(hit(theirs, name) for theirs in there)]
        expect(not lost, f"{path}: {key}", f"naming {lost[:3]}",
               f"this model has maps such as {there[0]}: load the base that it was made for")
    promised = []
    for theirs in there:
        stack, layer = place[theirs]
        within = not layers or int(layer) in layers and (not stacks or stack in stacks)
        wanted = theirs in targets or within and any(hit(theirs, name) for name in targets)
        if wanted and not any(hit(theirs, name) for name in left_out):
            promised.append(theirs)
    expect(promised, f"{path}: target_modules", str(targets)[:60], "nothing is left: name maps of this model")
    return promised


def _of(pattern: dict, name: str, otherwise: float) -> float:
    """The value that a pattern gives a map: by its whole name, or by how its name ends."""
    fitting = (value for key, value in pattern.items() if name == key or name.endswith(f".{key}"))
    return next(fitting, otherwise)


def _their_maps(model) -> dict[str, tuple[str, ...]]:
    """Their linear maps inside the blocks, each with the maps of ours that it joins."""
    maps = {theirs.removesuffix(".weight"): tuple(name.removesuffix(".weight") for name in ours)
            for theirs, (ours, _) in their_tensors(model.config).items()
            if theirs.endswith(".weight") and ours[0].startswith("blocks.")}
    return {theirs: ours for theirs, ours in maps.items() if "norm" not in ours[0].rpartition(".")[2]}


def _probe(model) -> list[float]:
    """32 numbers of the embedding, by which a base is known again in any precision."""
    weight = model.embed.weight.detach().flatten()
    return weight[:: max(1, len(weight) // 32)][:32].float().cpu().tolist()


def _expect_base(written: str, model, path: Path) -> None:
    own = torch.tensor(_probe(model))
    try:
        numbers = json.loads(written)
        expect_field({"base": numbers}, "base", [float])
        theirs = torch.tensor(numbers, dtype=torch.float32)
    except (ValueError, OverflowError, RecursionError) as error:
        reason = f"its base is {written[:40]!r}: {error}"
        raise ValueError(f"{path} is damaged ({reason}): fetch it again") from None
    same = theirs.shape == own.shape and float((theirs - own).abs().max()) <= 0.02 * float(own.abs().max())
    remedy = "load the model whose adapters these are: its weights are not this one's"
    expect(same, str(path), "made for another base", remedy)
