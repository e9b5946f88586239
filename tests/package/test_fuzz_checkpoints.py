"""Broken checkpoint folders, by hand and by chance: each is refused by file and field, or changes nothing.

A mutation is "broken" and must be refused; or "harmless": it must load, and give the logits (and ids) of
the folder that was not touched; or "either" (flipped bits, whose meaning nobody knows beforehand), which must
do one of the two; or "text", a tokenizer that may be another, but under which texts come back. What
legitimately gives another model, as another theta does, is not among them. A case has 10 seconds of a core
and 1 GB, and leaves the folder, and a model that is offered adapters, as they were.

This file is also the worker that runs the cases, in a process of its own:
one that is ended by a case is started again behind it.
"""

from __future__ import annotations

import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from conftest import liven
from minillm import hub
from minillm.hub.adapters import load_adapters, save_adapters
from minillm.adapt.lora import adapters, add_lora
from minillm.tokenizer import Tokenizer
from minillm.transformer import GPT2, QWEN3, Config, Family, Transformer

SECONDS, BYTES = 10, 2**30
PATIENCE = 120  # seconds by the clock, for what waits and does not compute; the machine may be a busy one
TEXTS = ["the baker lives on Elm Street.", "7+8=15", "Ada Moss is a baker."]
WEIGHTS, INDEX, TOKENS = "model.safetensors", "model.safetensors.index.json", "tokenizer.json"
ADAPTER, ADAPTER_CONFIG = "adapter_model.safetensors", "adapter_config.json"
IDS = torch.randint(290, (2, 12), generator=torch.Generator().manual_seed(0))


@dataclass
class Case:
    """One mutation: `change` is done to a copy of the folder `base`; a refusal names one of `fields`."""

    label: str
    base: str
    kind: str
    change: object
    fields: tuple[str, ...] = ()
    dtype: torch.dtype = torch.float32


# --- the folders that are mutated -------------------------------------------------------------------------

YARN = {
    "rope_type": "yarn",
    "factor": 4.0,
    "original_max_position_embeddings": 32,
    "attention_factor": 0.1 * math.log(4) + 1,
    "beta_fast": 32,
    "beta_slow": 1,
    "truncate": True,
}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
SHAPES = {
    "llama": {},
    "untied": {"tied": False, "n_kv_heads": 4},
    "yarn": {"rope_scaling": YARN},
    "llama 3": {"rope_scaling": LLAMA3},
    "smollm 3": {"family": Family(unrotated=(3,)), "n_layers": 4, "rope_theta": 2e6},
    "qwen 3": {"family": QWEN3, "head_width": 8},
    "gpt2": {"family": GPT2, "n_kv_heads": 4, "d_ff": 64, "norm_eps": 1e-5},
    "shards": {},
}
# Keys that a real file may hold and ours does not, at the values that change nothing.
EXTRA = {
    "architectures": ["any"],
    "hidden_act": "silu",
    "layer_types": ["full_attention"] * 2,
    "partial_rotary_factor": 1.0,
    "quantization_config": None,
    "use_sliding_window": False,
    "attention_bias": False,
    "mlp_bias": False,
    "use_cache": True,
    "initializer_range": 0.02,
}
EXTRA_SMOLLM = {"no_rope_layer_interval": 4}
EXTRA_GPT2 = {
    "activation_function": "gelu_new",
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "add_cross_attention": False,
    "resid_pdrop": 0.1,
}


def make(root: Path) -> None:
    """Write every folder that is mutated: models of 290 tokens and width 16, and adapters of the first."""
    tokenizer = Tokenizer.train(TEXTS * 4, 290)
    for name, shape in SHAPES.items():
        usual = dict(
            vocab_size=tokenizer.vocab_size,
            d_model=16,
            n_layers=2,
            n_heads=4,
            n_kv_heads=2,
            d_ff=24,
            context=32,
            norm_eps=1e-6,
        )
        model = liven(Transformer(Config(**usual | shape)))
        hub.save(model, tokenizer, root / name, 4_000 if name == "shards" else 10**9)
        written = json.loads((root / name / "config.json").read_text(encoding="utf-8"))
        extra = EXTRA_GPT2 if name == "gpt2" else EXTRA | (EXTRA_SMOLLM if name == "smollm 3" else {})
        (root / name / "config.json").write_text(json.dumps(extra | written), encoding="utf-8")
        if name == "llama":
            model = add_lora(model, 2, 3.0)
            with torch.no_grad():
                for part in adapters(model).values():
                    part.B.copy_(torch.randn(part.B.shape, generator=torch.Generator().manual_seed(1)) / 10)
            save_adapters(model, root / "adapter")
            written = json.loads((root / "adapter" / ADAPTER_CONFIG).read_text(encoding="utf-8"))
            more = {
                "layers_to_transform": None,
                "layers_pattern": None,
                "exclude_modules": None,
                "init_lora_weights": True,
                "loftq_config": {},
            }
            (root / "adapter" / ADAPTER_CONFIG).write_text(json.dumps(written | more), encoding="utf-8")


# --- mutations of JSON ------------------------------------------------------------------------------------

MISSING = object()
POOL = {
    "missing": MISSING,
    "null": None,
    "true": True,
    "false": False,
    "a word": "x",
    "no word": "",
    "a number as a word": "1",
    "negative": -1,
    "zero": 0,
    "a half": 0.5,
    "huge": 10**9,
    "beyond int64": 10**30,
    "beyond float32": 1e300,
    "nan": math.nan,
    "inf": math.inf,
    "-inf": -math.inf,
    "empty list": [],
    "list": [1],
    "list of words": ["1", "0"],
    "nested list": [[1], [[2]]],
    "empty object": {},
    "object": {"a": 1},
    "nested object": {"a": {"b": {"c": [None]}}},
}
ALL = tuple(POOL)
# Of a key that nobody reads, one value of each kind says as much as all. That each value can be read as JSON
# is said at the key of tomorrow.
FEW = {name: POOL[name] for name in ("missing", "null", "negative", "nan", "a word", "nested object")}
UNSET = ("missing", "null")
# What changes nothing, by key; a pair (base, key) speaks of one folder. What is not here must be refused.
NOTHING = {
    **{
        key: ALL
        for key in (
            "architectures",
            "bos_token_id",
            "pad_token_id",
            "dtype",
            "torch_dtype",
            "use_cache",
            "initializer_range",
            "resid_pdrop",
        )
    },
    **{
        key: UNSET
        for key in (
            "rms_norm_eps",
            "layer_norm_epsilon",
            "n_inner",
            "head_dim",
            "hidden_act",
            "activation_function",
            "partial_rotary_factor",
            "quantization_config",
            "rope_theta",
            "no_rope_layers",
        )
    },
    "no_rope_layer_interval": (*UNSET, "huge"),
    ("qwen 3", "mlp_bias"): (*UNSET, "false", "true"),
    **{
        key: (*UNSET, "false")
        for key in (
            "use_sliding_window",
            "attention_bias",
            "mlp_bias",
            "scale_attn_by_inverse_layer_idx",
            "add_cross_attention",
        )
    },
    "scale_attn_weights": (*UNSET, "true"),
    "layer_types": (*UNSET, "empty list"),
    "eos_token_id": (*UNSET, "zero", "list"),
    "rope_scaling": (*UNSET, "empty object"),
    "rope_parameters": (*UNSET, "empty object", "object"),
    "tie_word_embeddings": ("true",),
    ("untied", "tie_word_embeddings"): (*UNSET, "false"),
    ("gpt2", "tie_word_embeddings"): (*UNSET, "true"),
    ("smollm 3", "tie_word_embeddings"): (*UNSET, "true"),
    ("untied", "num_key_value_heads"): UNSET,
    ("qwen 3", "head_dim"): (),
    ("yarn", "rope_parameters"): (*UNSET, "empty object"),
    ("llama 3", "rope_parameters"): (*UNSET, "empty object"),
}
# Inside rope_parameters and, in files before transformers 5, rope_scaling.
NOTHING_IN_ROPE = {
    "rope_theta": UNSET,
    "attention_factor": UNSET,
    "beta_fast": UNSET,
    "beta_slow": UNSET,
    "truncate": ("missing", "true"),
    "original_max_position_embeddings": ("missing",),
}
ANOTHER = {"rms_norm_eps": ("a half",), "layer_norm_epsilon": ("a half",)}  # legitimately another model
ANOTHER_IN_ROPE = dict.fromkeys(
    (
        "factor",
        "attention_factor",
        "beta_fast",
        "beta_slow",
        "low_freq_factor",
        "high_freq_factor",
        "original_max_position_embeddings",
        "rope_theta",
    ),
    ("a half", "huge"),
) | {"truncate": ("false",)}
NOTHING_IN_ADAPTER = {
    **{
        key: ALL
        for key in (
            "task_type",
            "base_model_name_or_path",
            "inference_mode",
            "fan_in_fan_out",
            "loftq_config",
        )
    },
    **{key: (*UNSET, "empty object") for key in ("rank_pattern", "alpha_pattern")},
    **{key: (*UNSET, "false", "empty list", "empty object") for key in ("use_dora", "modules_to_save")},
    "bias": UNSET,
    "use_rslora": (*UNSET, "false"),
    "lora_dropout": (*UNSET, "zero", "a half"),
    "init_lora_weights": (*UNSET, "true", "false"),
    "layers_pattern": (*UNSET, "a word", "no word", "a number as a word", "empty list", "list of words"),
    "layers_to_transform": (*UNSET, "empty list"),
    "exclude_modules": (*UNSET, "empty list", "list of words"),
}
ANOTHER_IN_ADAPTER = {"use_rslora": ("true",), "lora_alpha": ("a half",)}
# A key that the weights contradict may be refused by the tensor that it asks for.
BY_SHAPE = {
    "tie_word_embeddings",
    "attention_bias",
    "mlp_bias",
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "intermediate_size",
    "head_dim",
    "n_embd",
    "n_layer",
    "n_head",
    "n_inner",
    "n_positions",
}


def put(path: Path, keys: tuple[str, ...], value):
    """A change that sets one key, or one inside another, of a JSON file, or takes it out."""

    def change(folder: Path) -> None:
        written = inner = json.loads((folder / path).read_text(encoding="utf-8"))
        for key in keys[:-1]:
            inner = inner[key]
        if value is MISSING:
            inner.pop(keys[-1], None)
        else:
            inner[keys[-1]] = value
        (folder / path).write_text(json.dumps(written), encoding="utf-8")

    return change


def both(*changes):
    """One change after another."""

    def change(folder: Path) -> None:
        for each in changes:
            each(folder)

    return change


def config_cases(root: Path):
    """Every key of every configuration, with every value of the pool."""
    for base in SHAPES:
        if base == "shards":
            continue
        written = json.loads((root / base / "config.json").read_text(encoding="utf-8"))
        for key in [*written, "a_key_of_tomorrow"]:
            harmless = NOTHING.get((base, key), NOTHING.get(key, ()))
            if key in ("a_key_of_tomorrow", "saved_by"):
                harmless = ALL
            if base != "llama" and harmless == ALL or base in ("yarn", "llama 3") and "rope" not in key:
                continue  # once is enough
            unread = harmless == ALL and key != "a_key_of_tomorrow"
            for name, value in (FEW if unread else POOL).items():
                if name not in ANOTHER.get(key, ()):
                    fields = (key, WEIGHTS) if key in BY_SHAPE else (key,)
                    kind = "harmless" if name in harmless else "broken"
                    yield Case(f"{base}: {key} {name}", base, kind, put("config.json", (key,), value), fields)
        if base in (
            "yarn",
            "llama 3",
            "llama",
        ):  # the spelling before transformers 5, alone, and the new one, alone
            for place, other in (("rope_parameters", "rope_scaling"), ("rope_scaling", "rope_parameters")):
                rope = written[place]
                if rope is None:
                    continue
                alone = put("config.json", (other,), MISSING)
                if place == "rope_parameters":
                    alone = both(alone, put("config.json", ("rope_theta",), MISSING))
                for key in rope:
                    for name, value in POOL.items():
                        if name in ANOTHER_IN_ROPE.get(key, ()) and not (
                            key == "rope_theta" and name == "a half"
                        ):
                            continue
                        harmless = NOTHING_IN_ROPE.get(key, ())
                        if base == "llama":
                            harmless = UNSET if key == "rope_type" else harmless
                        kind = "harmless" if name in harmless else "broken"
                        yield Case(
                            f"{base}: {place}.{key} {name}",
                            base,
                            kind,
                            both(alone, put("config.json", (place, key), value)),
                            (key,),
                        )


def more_config_cases():
    """What takes more than one value, or a value of its own."""
    deep = [1]
    for _ in range(400):
        deep = [deep]

    def one(label, base, kind, key, value, *fields):
        return Case(f"{base}: {label}", base, kind, put("config.json", (key,), value), fields or (key,))

    for base in ("llama", "smollm 3"):
        yield one("a million layers", base, "broken", "num_hidden_layers", 10**6)
        yield one(
            "ten thousand layers",
            base,
            "broken",
            "num_hidden_layers",
            10**4,
            "number of layers",
            "no_rope_layers",
        )
        yield one("a wide head", base, "broken", "head_dim", 10**9, WEIGHTS)
        yield one("a deep list", base, "harmless", "a_key_of_tomorrow", deep)
    yield one("a million layers", "gpt2", "broken", "n_layer", 10**6)
    yield one("exact GELU", "gpt2", "broken", "activation_function", "gelu")
    yield one("exact GELU", "llama", "broken", "hidden_act", "gelu")
    for name in ("gelu_fast", "gelu_pytorch_tanh", "gelu_python_tanh"):
        yield one(name, "gpt2", "harmless", "activation_function", name)
    yield one("swish", "llama", "harmless", "hidden_act", "swish")
    yield one("a list of a type", "llama", "broken", "model_type", ["llama"])
    yield one("a flag as a word", "llama", "broken", "tie_word_embeddings", "false")
    yield one("a flag as a word", "untied", "broken", "tie_word_embeddings", "false")
    yield one("a flag as a number", "untied", "broken", "attention_bias", 0)
    yield one("layers as words", "smollm 3", "broken", "no_rope_layers", ["1", "1", "1", "0"])
    yield one("layers as flags", "smollm 3", "broken", "no_rope_layers", [True, True, True, False])
    yield one("layers too many", "smollm 3", "broken", "no_rope_layers", [1, 1, 1, 0, 1])
    yield one("interval 0", "smollm 3", "broken", "no_rope_layer_interval", 0)
    yield one("ends as a list", "llama", "harmless", "eos_token_id", [0, 5])
    yield one("an end beyond", "llama", "broken", "eos_token_id", [0, 290])
    yield one("another theta beside", "llama", "broken", "rope_theta", 5e5)
    yield one("a scaling beside", "llama", "broken", "rope_scaling", {"type": "linear", "factor": 2.0})
    yield one(
        "half a head",
        "llama",
        "broken",
        "rope_parameters",
        {"rope_theta": 1e4, "partial_rotary_factor": 0.5},
        "partial_rotary_factor",
    )
    yield one("sliding windows", "llama", "broken", "layer_types", ["full_attention", "sliding_attention"])


# --- mutations of weights ---------------------------------------------------------------------------------


def tensors(file: str, edit):
    """A change of the tensors of a file, by their names."""

    def change(folder: Path) -> None:
        held = load_file(folder / file)
        edit(held)
        save_file({name: t.contiguous() for name, t in held.items()}, folder / file, {"format": "pt"})

    return change


def data(file: str, edit):
    """A change of the bytes of a file."""

    def change(folder: Path) -> None:
        (folder / file).write_bytes(edit((folder / file).read_bytes()))

    return change


def instead(file: str, put_there):
    """Something else where a file was."""

    def change(folder: Path) -> None:
        (folder / file).unlink()
        put_there(folder / file)

    return change


def strange_files(base: str, files: tuple[str, ...]):
    """Every kind of thing that is no readable file, in the place of each."""
    things = {
        "nothing": lambda p: None,
        "a folder": Path.mkdir,
        "empty": Path.touch,
        "a loop": lambda p: p.symlink_to(p),
        "zeros": lambda p: p.write_bytes(bytes(100)),
        "ones": lambda p: p.write_bytes(b"\xff" * 100),
        "a list": lambda p: p.write_text("[1]"),
        "nested": lambda p: p.write_text("[" * 10**5),
        "digits": lambda p: p.write_text('{"a": ' + "9" * 10**5 + "}"),
        "no UTF-8": lambda p: p.write_bytes(b'{"a": "\xe9"}'),
    }
    if hasattr(os, "mkfifo"):
        things["a FIFO"] = os.mkfifo
    for file in files:
        for name, thing in things.items():
            yield Case(
                f"{base}: {file} is {name}", base, "broken", instead(file, thing), (file, "nor its index")
            )


def tensor_cases(base: str, file: str, root: Path, rng: random.Random, count: int):
    """Tensors of other shapes, dtypes, numbers, too many, too few; files cut short and with flipped bits."""
    names = sorted(load_file(root / base / file))
    for name in rng.sample(names, min(count, len(names))):

        def of(label, kind, edit, *fields, dtype=torch.float32, name=name):
            return Case(
                f"{base}: {file}: {name} {label}", base, kind, tensors(file, edit), (*fields, name), dtype
            )

        def spoil(value, name=name):
            return lambda t: t[name].view(-1)[rng.randrange(t[name].numel()) :][:1].fill_(value)

        def swap(f, name=name):
            return lambda t: t.update({name: f(t[name])})

        inner = (
            name.removeprefix("base_model.model.").rpartition(".lora")[0] or name
        )  # an adapter is named by its map
        yield of("nan", "broken", spoil(math.nan), inner)
        yield of("inf", "broken", spoil(-math.inf), inner)
        yield of("1e300 in float64", "broken", swap(lambda t: t.double() * 1e300), inner)
        yield (
            of("70000 for float16", "broken", spoil(7e4), inner, dtype=torch.float16)
            if base != "adapter"
            else None
        )
        yield of("in float64", "harmless", swap(lambda t: t.double()))
        for dtype in (torch.int32, torch.int8, torch.bool):
            yield of(f"in {dtype}", "broken", swap(lambda t, dtype=dtype: t.to(dtype)), inner)
        for label, f in {
            "flat": lambda t: t.flatten() if t.ndim > 1 else t[None],
            "a row more": lambda t: torch.cat([t, t[:1]]),
            "a row less": lambda t: t[:-1],
            "empty": lambda t: t[:0],
            "one number": lambda t: t.sum(),
            "of rank 3": lambda t: t[None, None],
        }.items():
            yield of(label, "broken", swap(f), inner, "adapter_config.json")
        yield of("gone", "broken", lambda t, name=name: t.pop(name), inner)
        yield of(
            "under another name", "broken", lambda t, name=name: t.update({name + "s": t.pop(name)}), inner
        )
    yield Case(
        f"{base}: {file}: one too many",
        base,
        "broken",
        tensors(file, lambda t: t.update(ghost=torch.ones(2))),
        ("ghost",),
    )
    yield Case(f"{base}: {file}: none", base, "broken", tensors(file, dict.clear), (file,))
    size = (root / base / file).stat().st_size
    header = int.from_bytes((root / base / file).read_bytes()[:8], "little")
    for cut in (0, 1, 7, 8, 9, header, header + 8, size - 1, *(rng.randrange(size) for _ in range(count))):
        yield Case(
            f"{base}: {file}: cut after {cut}",
            base,
            "broken",
            data(file, lambda b, cut=cut: b[:cut]),
            (file,),
        )
    yield Case(f"{base}: {file}: too long", base, "broken", data(file, lambda b: b + b"\0"), (file,))
    for length in (0, 1, header - 1, header + 1, 2**27, 2**63 - 1, 2**64 - 1):
        yield Case(
            f"{base}: {file}: header of {length}",
            base,
            "broken",
            data(file, lambda b, n=length: n.to_bytes(8, "little") + b[8:]),
            (file,),
        )
    for _ in range(8 * count):
        place, bit = rng.randrange(8 + header), 1 << rng.randrange(8)
        yield Case(
            f"{base}: {file}: bit {bit} of byte {place}",
            base,
            "either",
            data(file, lambda b, i=place, bit=bit: b[:i] + bytes([b[i] ^ bit]) + b[i + 1 :]),
            (file,),
        )


def other_weight_cases():
    """Tensors that older or other files hold beside the weights."""
    head = "model.embed_tokens.weight"
    for label, kind, edit in (
        (
            "its embedding as the head, too",
            "harmless",
            lambda t: t.update({"lm_head.weight": t[head].clone()}),
        ),
        ("another head", "broken", lambda t: t.update({"lm_head.weight": t[head] + 1})),
        (
            "old tables",
            "harmless",
            lambda t: t.update({"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(2)}),
        ),
    ):
        yield Case(f"llama: {label}", "llama", kind, tensors(WEIGHTS, edit), ("tie_word_embeddings",))


def index_cases(root: Path):
    """The list of shards."""
    where = json.loads((root / "shards" / INDEX).read_text(encoding="utf-8"))["weight_map"]
    first, *_, last = sorted(set(where.values()))
    inside = next(name for name, file in where.items() if file == first)
    beside = next(name for name, file in where.items() if list(where.values()).count(file) > 1)
    for key, harmless in (("metadata", ALL), ("weight_map", ())):
        for name, value in POOL.items():
            kind = "harmless" if name in harmless else "broken"
            yield Case(f"shards: {key} {name}", "shards", kind, put(INDEX, (key,), value), (key,))
    for file in (
        "../shard",
        "/etc/passwd",
        "..",
        ".",
        "",
        "sub/shard",
        "no.safetensors",
        "config.json",
        last,
        3,
        None,
        [first],
        "\0",
        "a" * 5000,
    ):
        yield Case(
            f"shards: {inside} in {str(file)[:20]!r}",
            "shards",
            "broken",
            put(INDEX, ("weight_map", inside), file),
            (INDEX, "config.json"),
        )
    yield Case(
        "shards: a tensor of no shard",
        "shards",
        "broken",
        put(INDEX, ("weight_map", "ghost"), first),
        ("ghost",),
    )
    yield Case(
        "shards: a tensor that is not listed",
        "shards",
        "harmless",
        put(INDEX, ("weight_map", beside), MISSING),
    )
    twice = tensors(
        last, lambda t: t.update({inside: torch.zeros_like(load_file(root / "shards" / first)[inside])})
    )
    yield Case("shards: a tensor twice, and listed in the right place", "shards", "harmless", twice)
    for file in (first, last):
        yield from strange_files("shards", (file,))


# --- mutations of tokenizer.json --------------------------------------------------------------------------


def token_cases(root: Path):
    """Settings of somebody else's, ids, what text comes back."""
    written = json.loads((root / "llama" / TOKENS).read_text(encoding="utf-8"))
    vocab, added = written["model"]["vocab"], written["added_tokens"]
    last = max(vocab, key=vocab.get)
    long = {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}
    pad = {
        "strategy": {"Fixed": 10**12},
        "direction": "Left",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "x",
    }

    def one(label, kind, *keys_and_value):
        *keys, value = keys_and_value
        return Case(f"tokenizer: {label}", "llama", kind, put(TOKENS, tuple(keys), value), (TOKENS,))

    yield one("truncation", "harmless", "truncation", long)
    yield one("padding", "harmless", "padding", pad)
    yield one("padding to the longest", "harmless", "padding", pad | {"strategy": "BatchLongest"})
    yield one("dropout", "harmless", "model", "dropout", 0.5)
    yield one("no decoder", "broken", "decoder", None)
    yield one("another decoder", "broken", "decoder", {"type": "Fuse"})
    yield one("no pre-tokenizer", "broken", "pre_tokenizer", None)
    yield one(
        "no spaces", "broken", "normalizer", {"type": "Replace", "pattern": {"String": " "}, "content": ""}
    )
    yield one("a prefix of words", "broken", "model", "continuing_subword_prefix", "##")
    yield one(
        "a token that was moved",
        "broken",
        "added_tokens",
        [*added, added[0] | {"content": "new", "id": 7000}],
    )
    yield one("a mark of another id", "broken", "added_tokens", [added[0] | {"id": 100}, *added[1:]])
    for value in (290, 10**6, 2**32 - 1, 2**32, -1, vocab["a"], "7", None, 1.5):
        yield one(f"the last id {value}", "broken", "model", "vocab", last, value)
    shared = sorted(vocab, key=vocab.get)[-2]
    yield one("two late tokens of one id", "broken", "model", "vocab", last, vocab[shared])
    for letter in "Qe~0":
        yield one(f"without {letter}", "broken", "model", "vocab", letter, MISSING)
    yield one("a merge of nothing", "broken", "model", "merges", [["zz", "q"]])
    for keys in [(key,) for key in written] + [("model", key) for key in written["model"]]:
        for name, value in POOL.items():
            yield one(f"{'.'.join(keys)} {name}", "text" if keys[-1] == "merges" else "either", *keys, value)


def token_bytes(root: Path, rng: random.Random, count: int):
    """tokenizer.json with flipped bits, and cut short."""
    size = (root / "llama" / TOKENS).stat().st_size
    for _ in range(4 * count):
        place, bit = rng.randrange(size), 1 << rng.randrange(8)
        yield Case(
            f"tokenizer: bit {bit} of byte {place}",
            "llama",
            "text",
            data(TOKENS, lambda b, i=place, bit=bit: b[:i] + bytes([b[i] ^ bit]) + b[i + 1 :]),
            (TOKENS,),
        )
    for cut in (0, 1, size - 2, *(rng.randrange(size - 2) for _ in range(count))):
        yield Case(
            f"tokenizer: cut after {cut}",
            "llama",
            "broken",
            data(TOKENS, lambda b, cut=cut: b[:cut]),
            (TOKENS,),
        )


# --- mutations of adapters --------------------------------------------------------------------------------


def adapter_cases(root: Path):
    """Every key of adapter_config.json, and what it promises."""
    written = json.loads((root / "adapter" / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    for key in [*written, "a_key_of_tomorrow"]:
        harmless = ALL if key in ("a_key_of_tomorrow", "saved_by") else NOTHING_IN_ADAPTER.get(key, ())
        unread = harmless == ALL and key != "a_key_of_tomorrow"
        for name, value in (FEW if unread else POOL).items():
            if name not in ANOTHER_IN_ADAPTER.get(key, ()):
                fields = (
                    (key,) if key not in ("r", "layers_to_transform") else (key, "rank", "target_modules")
                )
                kind = "harmless" if name in harmless else "broken"
                yield Case(
                    f"adapter: {key} {name}", "adapter", kind, put(ADAPTER_CONFIG, (key,), value), fields
                )

    def one(label, kind, key, value, *fields):
        return Case(
            f"adapter: {label}",
            "adapter",
            kind,
            put(ADAPTER_CONFIG, (key,), value),
            fields or (key, "target_modules"),
        )

    targets, whole = written["target_modules"], "model.layers.0.self_attn.q_proj"
    for value in (math.nan, math.inf, 0, -3, 1e300, True, "6", None, [6], 10**9):
        yield one(f"alpha_pattern {value}", "broken", "alpha_pattern", {"q_proj": value})
        yield one(f"alpha_pattern of one map {value}", "broken", "alpha_pattern", {whole: value})
    yield one(
        "the same alpha by a pattern", "harmless", "alpha_pattern", {"^" + whole: written["lora_alpha"]}
    )
    for value in (3, 0, -1, 2.0, True, "2", None, [2], 10**9):
        yield one(
            f"rank_pattern {value}", "broken", "rank_pattern", {"q_proj": value}, "rank", "rank_pattern"
        )
    yield one("a pattern of nothing", "broken", "alpha_pattern", {"q_prj": 6})
    yield one("a pattern that is a regular expression", "broken", "alpha_pattern", {"(a+)+": 6})
    for value in (
        "x",
        ["x"],
        targets[1:],
        [*targets, "x"],
        "q_proj",
        [*targets[1:], whole],
        ["(a+)+$"],
        [None],
        [targets],
    ):
        yield one(f"target_modules {value}", "broken", "target_modules", value)
    yield one("all linear maps", "harmless", "target_modules", "all-linear")
    for value in (0, 1, [0], [1], [0, 1, 2], [-1], ["0"], [True], [0.0], "0"):
        yield one(f"layers_to_transform {value}", "broken", "layers_to_transform", value)
    yield one("all layers", "harmless", "layers_to_transform", [0, 1])
    yield one("left out", "broken", "exclude_modules", ["q_proj"])
    yield one("DoRA", "broken", "use_dora", True)

    def without(part):
        return tensors(ADAPTER, lambda t: [t.pop(name) for name in list(t) if part in name])

    for part in ("layers.1", "layers.0", "q_proj", "down_proj", "layers.1.mlp", "lora_B"):
        yield Case(f"adapter: without {part}", "adapter", "broken", without(part), (part, "lora_A", "q_proj"))
    for label, text in (
        ("nan", "[NaN]"),
        ("object", "{}"),
        ("a word", '"x"'),
        ("deep", "[" * 5000),
        ("words", '["1"]'),
        ("huge", "[1e400]"),
        ("null", "null"),
    ):

        def rename(folder, text=text):
            save_file(load_file(folder / ADAPTER), folder / ADAPTER, {"base": text})

        yield Case(f"adapter: a base of {label}", "adapter", "broken", rename, (ADAPTER,))


def mixed_cases(root: Path, rng: random.Random, count: int):
    """Several keys at once, each of a random value, at least one of them broken."""

    def value(depth=3):
        kinds = [
            lambda: rng.choice(list(POOL.values())[1:]),
            lambda: rng.randrange(-(2**40), 0),
            lambda: -rng.random() * 10 ** rng.randrange(-300, 300),
        ]
        if depth:
            kinds += [
                lambda: [value(depth - 1) for _ in range(rng.randrange(4))],
                lambda: {f"k{i}": value(depth - 1) for i in range(rng.randrange(4))},
            ]
        return rng.choice(kinds)()

    singles = [case for case in config_cases(root) if case.kind == "broken"]
    for i in range(count):
        case = rng.choice(singles)
        free = [key for key, harmless in NOTHING.items() if harmless == ALL]
        noise = [put("config.json", (rng.choice(free),), value()) for _ in range(3)]
        yield Case(
            f"{case.label}, among noise {i}", case.base, "broken", both(*noise, case.change), case.fields
        )
        base = rng.choice([name for name in SHAPES if name != "shards"])
        written = json.loads((root / base / "config.json").read_text(encoding="utf-8"))
        key = rng.choice([key for key in written if key in BY_SHAPE or key == "model_type" or "eps" in key])
        odd = rng.choice(
            [
                -rng.randrange(1, 2**60),
                -rng.random(),
                [value()],
                {"k": value()},
                "".join(chr(rng.randrange(32, 1000)) for _ in range(9)),
            ]
        )
        yield Case(f"{base}: {key} {str(odd)[:40]}", base, "broken", put("config.json", (key,), odd), (key,))


def cases(root: Path, seed: int, fresh: bool) -> list[Case]:
    """By a fixed seed, all that is spelled out and some by chance; by a fresh one, more by chance."""
    rng = random.Random(seed)
    count = 6 if fresh else 3
    chance = [
        *tensor_cases("llama", WEIGHTS, root, rng, count),
        *tensor_cases("adapter", ADAPTER, root, rng, count),
        *token_bytes(root, rng, 5 * count),
        *mixed_cases(root, rng, 10 * count),
    ]
    single = list(config_cases(root))
    own = [case for case in single if case.base == "llama"]
    listed = [
        *own,
        *more_config_cases(),
        *other_weight_cases(),
        *index_cases(root),
        *token_cases(root),
        *adapter_cases(root),
        *strange_files("llama", ("config.json", WEIGHTS, TOKENS)),
        *strange_files("adapter", (ADAPTER, ADAPTER_CONFIG)),
        *strange_files("shards", (INDEX,)),
    ]
    others = rng.sample([case for case in single if case.base != "llama"], 300)
    return [case for case in chance + others + ([] if fresh else listed) if case]


# --- the worker -------------------------------------------------------------------------------------------


def held(folder: Path) -> dict:
    """What a folder holds: bytes by name; of what is no file, its kind."""
    return {
        p.name: p.read_bytes() if p.is_file() and not p.is_symlink() else p.lstat().st_mode
        for p in folder.iterdir()
    }


class Reader:
    """Reads a mutated folder, and knows what the untouched one gave."""

    def __init__(self, root: Path):
        self.root = root
        self.model, tokenizer = hub.load(root / "llama")
        self.ids = [tokenizer.encode(text) for text in TEXTS]
        self.logits = {name: hub.load_model(root / name)(IDS).detach() for name in SHAPES}
        self.before = {name: p.clone() for name, p in self.model.state_dict().items()}
        self.plain = None  # a model that refused adapters and is as it was: the next are offered to it

    def problem(self, case: Case) -> str | None:
        """None, or what is wrong with how the package took it."""
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / "folder"
            shutil.copytree(self.root / case.base, folder)
            case.change(folder)
            there = held(folder)
            try:
                same = self.adapted(folder) if case.base == "adapter" else self.loaded(folder, case)
            except (ValueError, FileNotFoundError) as error:
                message = str(error)
                if case.kind == "harmless":
                    return f"was refused: {message}"
                named = (
                    str(folder) in message
                    and any(field in message for field in case.fields)
                    and "\n" not in message
                    and len(message) < 1000
                )
                if not named:
                    return f"was refused in words that name no file and field: {message[:300]!r}"
            except BaseException as error:
                return f"raised {type(error).__name__}: {str(error)[:300]}"
            else:
                if case.kind == "broken":
                    return "was taken in silence" + ("" if same else ", and gives another model")
                if not same:
                    return "was taken, and gives something else"
            return None if held(folder) == there else "changed the user's files"

    def loaded(self, folder: Path, case: Case) -> bool:
        model, tokenizer = hub.load(folder, dtype=case.dtype)
        if (
            case.kind == "text"
        ):  # other tokens may be right ones; what may not be is a text that does not come back
            return all(tokenizer.decode(tokenizer.encode(text)) == text for text in TEXTS)
        return (
            torch.equal(model(IDS), self.logits[case.base])
            and [tokenizer.encode(text) for text in TEXTS] == tokenizer.encode_all(TEXTS) == self.ids
        )

    def adapted(self, folder: Path) -> bool:
        """Adapters onto a model; one that refuses them is as it was."""
        model, self.plain = self.plain or hub.load_model(self.root / "llama"), None
        try:
            logits = load_adapters(model, folder).eval()(IDS)
        except BaseException:
            own = model.state_dict()
            assert list(own) == list(self.before) and all(
                torch.equal(own[name], p) for name, p in self.before.items()
            ), "the model was changed"
            assert all(p.requires_grad for p in model.parameters()), "the model was frozen"
            self.plain = model
            raise
        if "adapter" not in self.logits:
            fresh = load_adapters(hub.load_model(self.root / "llama"), self.root / "adapter").eval()
            self.logits["adapter"] = fresh(IDS).detach()
        return torch.equal(logits, self.logits["adapter"])


def work(root: Path, seed: int, fresh: bool, first: int) -> None:
    """Run the cases from `first` on, a line of JSON each; limited in memory, and killed by the clock."""
    torch.set_num_threads(1)
    reader = Reader(root)
    try:
        import resource

        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + BYTES, size + BYTES))
    except (ImportError, OSError, ValueError):
        pass  # not this system's
    todo = cases(root, seed, fresh)
    for i, case in enumerate(todo[first:], first):
        if hasattr(signal, "setitimer"):
            signal.setitimer(
                signal.ITIMER_REAL, SECONDS
            )  # no handler: it ends the process, whatever it is in
        print(json.dumps([i, case.label]), flush=True)
        problem = reader.problem(case)
        print(json.dumps([i, case.label, problem]), flush=True)
    print(json.dumps(len(todo)), flush=True)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    make(folder)
    return folder


@pytest.mark.timeout(900)
@pytest.mark.parametrize("fresh", [False, True], ids=["by heart", "by chance"])
def test_every_broken_folder_is_refused_and_every_harmless_one_is_read(root, fresh):
    """FUZZ_SEED=n runs the second one again as it was."""
    seed = int(os.environ.get("FUZZ_SEED") or time.time_ns() % 10**6) if fresh else 0
    print(f"seed {seed}: FUZZ_SEED={seed} runs it again")
    problems, first, total, started = [], 0, None, 0
    tests = Path(__file__).parents[1]
    paths = filter(None, [str(tests.parent), str(tests), os.environ.get("PYTHONPATH")])
    env = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1", "RUST_BACKTRACE": "0"}
    while total is None:
        command = [sys.executable, __file__, str(root), str(seed), str(int(fresh)), str(first)]
        run = subprocess.run(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        lines = [json.loads(line) for line in run.stdout.splitlines()]
        problems += [
            f"{line[1]}: {line[2]}" for line in lines if isinstance(line, list) and len(line) == 3 and line[2]
        ]
        if lines and isinstance(lines[-1], int):
            total = lines[-1]
        else:
            assert lines and len(lines[-1]) == 2, (
                f"seed {seed}: the worker did not begin: {run.stderr[-2000:]}"
            )
            problems.append(
                f"{lines[-1][1]}: ended its process with {run.returncode} "
                f"(-27: {SECONDS} s of computing, -14: {PATIENCE} s of waiting) {run.stderr[-200:]}"
            )
            first, started = lines[-1][0] + 1, started + 1
            assert started < 20, f"seed {seed}: {problems}"
    print(f"{total} cases")
    assert total > 300 and not problems, f"seed {seed}, {len(problems)} of {total}:\n" + "\n".join(problems)


if __name__ == "__main__":
    work(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "1", int(sys.argv[4]))
