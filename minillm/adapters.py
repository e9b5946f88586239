"""Adapters in and out of folders in PEFT's form: adapter_config.json and adapter_model.safetensors, without the base model.

Left out: adapters of embeddings and heads, DoRA and other relatives, which are refused by name. Nothing is unpickled.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections import Counter
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .expect import expect
from .families import read_json, their_tensors
from .lora import adapters, attach

PREFIX = "base_model.model."
CHANGES = ("use_dora", "modules_to_save", "layer_replication", "trainable_token_indices", "target_parameters", "lora_bias",
           "alora_invocation_tokens", "use_qalora", "use_bdlora", "kasa_config", "velora_config", "arrow_config", "monteclora_config")


def save_adapters(model, folder: str | os.PathLike) -> None:
    """Write the adapters of a model, and nothing of its base, so that load_adapters and PEFT read them.

    GPT-2 keeps q, k and v in one map: theirs are joined to one adapter of as many ranks as they have together.
    """
    parts = adapters(model)
    expect(parts, "model", "one without adapters", "call add_lora first, or hub.save for the whole model")
    tensors: dict[str, Tensor] = {}
    rank, alpha = {}, {}
    for theirs, maps in _their_maps(model).items():
        found = [parts.get(name) for name in maps]
        if not any(found):
            continue
        scale = {part.scale for part in found if part}
        expect(len(scale) == 1, theirs, f"made of maps with scales {sorted(scale)}", "give maps that are kept as one the same scale")
        wide = [model.get_submodule(name) for name in maps]
        A = torch.cat([part.A.detach() for part in found if part])
        B = torch.block_diag(*(part.B.detach() if part else torch.zeros(w.out_features, 0).to(A) for part, w in zip(found, wide)))
        tensors |= {f"{PREFIX}{theirs}.lora_A.weight": A.cpu().contiguous(), f"{PREFIX}{theirs}.lora_B.weight": B.cpu().contiguous()}
        rank[theirs], alpha[theirs] = len(A), scale.pop() * len(A)
    usual, strength = (Counter(values.values()).most_common(1)[0][0] for values in (rank, alpha))
    short = sorted({name.rpartition(".")[2] for name in rank})
    all_of = [name for name in _their_maps(model) if name.rpartition(".")[2] in short]
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": None, "r": usual, "lora_alpha": strength,
              "lora_dropout": next(iter(parts.values())).dropout, "target_modules": short if len(all_of) == len(rank) else sorted(rank),
              "rank_pattern": {name: r for name, r in rank.items() if r != usual}, "bias": "none", "use_rslora": False, "use_dora": False,
              "alpha_pattern": {name: a for name, a in alpha.items() if a != strength}, "inference_mode": True,
              "fan_in_fan_out": any(name.startswith("transformer.") for name in rank), "modules_to_save": None}
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, write in (("adapter_model.safetensors", lambda path: save_file(tensors, path, {"format": "pt", "base": json.dumps(_probe(model))})),
                        ("adapter_config.json", lambda path: path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8"))):
        beside = folder / f"{name}.part"
        write(beside)
        beside.chmod(0o644)
        os.replace(beside, folder / name)


def load_adapters(model, folder: str | os.PathLike):
    """Give a model the adapters of a folder, and freeze the rest, in place. Returns the model.

    Raises FileNotFoundError for a missing file, ValueError for a damaged one, for what is not LoRA on the blocks' linear maps, and
    for adapters of another shape, family or base. (Which base is known of adapters that save_adapters wrote.)
    """
    path = Path(folder) / "adapter_model.safetensors"
    for file in (path.with_name("adapter_config.json"), path):
        if not file.is_file():
            pickled = path.with_name("adapter_model.bin").is_file() and file == path
            raise FileNotFoundError(f"{file} is not there" + (": adapter_model.bin is a pickle, which can run code when it is opened; convert it "
                                                              "to safetensors" if pickled else ": name a folder that save_adapters, or PEFT, wrote"))
    config = _read_config(path.with_name("adapter_config.json"))
    read: dict[str, dict[str, Tensor]] = {}
    try:
        with safe_open(path, "pt") as file:
            base = (file.metadata() or {}).get("base")
            for name in file.keys():
                match = re.fullmatch(re.escape(PREFIX) + r"(.+)\.lora_([AB])\.weight", name)
                expect(match, str(path), f"with {name}", "this package reads lora_A and lora_B of linear maps")
                read.setdefault(match[1], {})[match[2]] = file.get_tensor(name).clone()
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is damaged or cut short ({error}): fetch it again") from None
    expect(read, str(path), "empty", "give adapters")
    there, tensors = _their_maps(model), {}
    for theirs, pair in read.items():
        expect(theirs in there, str(path), f"with an adapter of {theirs}", f"this model has maps such as {next(iter(there))}: load the base that it was made for")
        expect(set(pair) == {"A", "B"}, str(path), f"with one half of the adapter of {theirs}", "give lora_A and lora_B")
        A, B = pair["A"], pair["B"]
        expect(A.is_floating_point() and B.is_floating_point() and A.isfinite().all() and B.isfinite().all(), f"{path}: {theirs}",
               "not made of finite numbers", "give adapters that were trained without a NaN")
        maps = [model.get_submodule(name) for name in there[theirs]]
        wanted = (maps[0].in_features, sum(m.out_features for m in maps))
        expect(A.ndim == B.ndim == 2 and A.shape[0] == B.shape[1] and (A.shape[1], B.shape[0]) == wanted, f"{path}: {theirs}",
               f"of shapes {tuple(A.shape)} and {tuple(B.shape)}", f"this model asks for (r, {wanted[0]}) and ({wanted[1]}, r): load the base that it was made for")
        r = len(A)
        expect(_of(config["rank_pattern"], theirs, config["r"]) == r, f"{path}: {theirs}", f"of rank {r}", "adapter_config.json says another")
        scale = _of(config["alpha_pattern"], theirs, config["lora_alpha"]) / (math.sqrt(r) if config.get("use_rslora") else r)
        for name, rows in zip(there[theirs], B.split([m.out_features for m in maps])):
            tensors[name] = A.clone(), rows.clone(), scale
    if base is not None:
        _expect_base(base, model, path)
    return attach(model, tensors, config.get("lora_dropout") or 0.0)


def _read_config(path: Path) -> dict:
    """adapter_config.json, what this package cannot follow refused."""
    config = read_json(path)
    expect(config.get("peft_type") == "LORA", f"{path}: peft_type", repr(config.get("peft_type")), "this package reads LORA")
    expect(config.get("bias", "none") == "none", f"{path}: bias", repr(config.get("bias")), 'this package reads "none": biases stay frozen')
    for key in CHANGES:
        expect(not config.get(key), f"{path}: {key}", repr(config.get(key)), "this package has plain LoRA alone")
    first = config.get("init_lora_weights")
    expect(first in (None, True, False, "gaussian", "eva", "orthogonal"), f"{path}: init_lora_weights", repr(first), "its base is not the model's own weights")
    for key in ("rank_pattern", "alpha_pattern"):
        config[key] = config.get(key) or {}
        expect(isinstance(config[key], dict) and all(isinstance(v, (int, float)) for v in config[key].values()), f"{path}: {key}", config[key], "give numbers by maps")
        config[key] = {name.removeprefix("^"): value for name, value in config[key].items()}
        odd = [name for name in config[key] if not re.fullmatch(r"[\w.]+", name)]
        expect(not odd, f"{path}: {key}", f"with {odd}", "give whole names of maps, or their ends: patterns are not read")
    for key in ("r", "lora_alpha"):
        value = config.get(key)
        expect(isinstance(value, (int, float)) and 0 < value < math.inf, f"{path}: {key}", repr(value), "give a positive number")
    dropout = config.get("lora_dropout") or 0.0
    expect(isinstance(dropout, (int, float)) and 0 <= dropout < 1, f"{path}: lora_dropout", repr(dropout), "give a share in [0, 1)")
    return config


def _of(pattern: dict, name: str, otherwise: float) -> float:
    """The value that a pattern gives a map: by its whole name, or by how its name ends."""
    return next((value for key, value in pattern.items() if name == key or name.endswith(f".{key}")), otherwise)


def _their_maps(model) -> dict[str, tuple[str, ...]]:
    """Their linear maps inside the blocks, each with the maps of ours that it joins."""
    maps = {theirs.removesuffix(".weight"): tuple(name.removesuffix(".weight") for name in ours)
            for theirs, (ours, _) in their_tensors(model.config).items() if theirs.endswith(".weight") and ours[0].startswith("blocks.")}
    return {theirs: ours for theirs, ours in maps.items() if "norm" not in ours[0].rpartition(".")[2]}


def _probe(model) -> list[float]:
    """32 numbers of the embedding, by which a base is known again in any precision."""
    weight = model.embed.weight.detach().flatten()
    return weight[:: max(1, len(weight) // 32)][:32].float().cpu().tolist()


def _expect_base(written: str, model, path: Path) -> None:
    own = torch.tensor(_probe(model))
    try:
        theirs = torch.tensor(json.loads(written), dtype=torch.float32)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is damaged (its base is {written[:40]!r}: {error}): fetch it again") from None
    same = theirs.shape == own.shape and float((theirs - own).abs().max()) <= 0.02 * float(own.abs().max())
    expect(same, str(path), "made for another base", "load the model whose adapters these are: its weights are not this one's")
