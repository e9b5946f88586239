"""How GPT-2, Llama, Qwen2, Qwen3 and SmolLM spell a Config and its tensors in Hugging Face's form.

What this package has no code for is refused by name. The files are read and written in folders.py.
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

from ..expect import expect
from .fields import ABSENT, expect_field
from ..transformer import GPT2, LLAMA, MAPS, QWEN2, QWEN3, Config, Family

# model_type: architecture, tied unless it says so
TYPES = {
    "gpt2": ("GPT2LMHeadModel", True),
    "llama": ("LlamaForCausalLM", False),
    "qwen2": ("Qwen2ForCausalLM", False),
    "qwen3": ("Qwen3ForCausalLM", False),
    "smollm3": ("SmolLM3ForCausalLM", True),
}
# theirs: ours
SIZES = {
    "vocab_size": "vocab_size",
    "hidden_size": "d_model",
    "num_hidden_layers": "n_layers",
    "num_attention_heads": "n_heads",
    "num_key_value_heads": "n_kv_heads",
    "intermediate_size": "d_ff",
    "max_position_embeddings": "context",
    "rms_norm_eps": "norm_eps",
}
GPT2_SIZES = {
    "vocab_size": "vocab_size",
    "n_embd": "d_model",
    "n_layer": "n_layers",
    "n_head": "n_heads",
    "n_inner": "d_ff",
    "n_positions": "context",
    "layer_norm_epsilon": "norm_eps",
}
# ours: theirs, inside a block
NAMES = {
    "norm1": "input_layernorm",
    "norm2": "post_attention_layernorm",
    "attention.q": "self_attn.q_proj",
    "attention.k": "self_attn.k_proj",
    "attention.v": "self_attn.v_proj",
    "attention.o": "self_attn.o_proj",
    "attention.q_norm": "self_attn.q_norm",
    "attention.k_norm": "self_attn.k_norm",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}
GPT2_NAMES = {
    "norm1": "ln_1",
    "norm2": "ln_2",
    "attention.o": "attn.c_proj",
    "up": "mlp.c_fc",
    "down": "mlp.c_proj",
}
LONGEST = 2**22  # places: a table of rotations longer than that is a slip, not a model
LARGEST = 2**31 - 1  # of any other size; what the files hold is compared before anything is made
DEEPEST = 10_000  # layers
# The values that this package computes; the same stand where a file is silent.
FLAGS = {"scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False, "add_cross_attention": False,
         "use_sliding_window": False}
SILU = ("silu", "swish")
# All of them write GELU with tanh, in other orders. "gelu" itself is the exact one, by erf: another function.
GELU = ("gelu_new", "gelu_pytorch_tanh", "gelu_fast", "gelu_python_tanh", "gelu_accurate")
FILE = 2**26  # bytes: the largest index that is in use has a thirtieth of it


def read_json(path: Path) -> dict:
    """The object in a JSON file. ValueError if it holds something else, or more than FILE bytes."""
    expect(path.stat().st_size <= FILE, str(path), f"of {path.stat().st_size} bytes", f"give at most {FILE}")
    try:
        written = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    expect(isinstance(written, dict), str(path), type(written).__name__, "give an object")
    return written


def read_config(path: Path) -> Config:
    """The Config of a config.json. ValueError naming a key that this package cannot follow, and its value."""
    written = read_json(path)
    field = partial(expect_field, written, place=str(path))
    kind = field("model_type", str, None)
    expect(kind in TYPES, f"{path}: model_type", repr(kind), f"this package reads {', '.join(TYPES)}")
    _expect_computable(written, path)
    theta, scaling = _rope(written, path, {"smollm3": 2e6}.get(kind, 1e4))
    if kind == "gpt2":
        names, head = GPT2_SIZES, None
        usual = {"n_inner": 4 * field("n_embd", int, low=1, high=LARGEST), "layer_norm_epsilon": 1e-5}
    else:
        names = SIZES
        head = field("head_dim", int, {"qwen3": 128}.get(kind), low=1, high=LARGEST)
        heads = field("num_attention_heads", int, low=1, high=LARGEST)
        usual = {"num_key_value_heads": heads, "rms_norm_eps": 1e-6}
    most = {"context": LONGEST, "n_layers": DEEPEST}
    sizes = {}
    for theirs, ours in names.items():
        if ours == "norm_eps":
            sizes[ours] = field(theirs, float, usual[theirs], low=1e-30, high=1)
        else:
            sizes[ours] = field(theirs, int, usual.get(theirs, ABSENT), low=1, high=most.get(ours, LARGEST))
    sizes.setdefault("n_kv_heads", sizes["n_heads"])
    if scaling["rope_type"] in ("llama3", "yarn"):
        scaling.setdefault("original_max_position_embeddings", sizes["context"])
    tied = field("tie_word_embeddings", bool, TYPES[kind][1])
    family = _family(kind, written, path, sizes["n_layers"])
    scaling = None if scaling == {"rope_type": "default"} else scaling
    try:
        config = Config(**sizes, head_width=head, tied=tied, family=family, rope_theta=theta,
                        rope_scaling=scaling)
    except ValueError as error:  # of two keys that do not fit one another: named as the file names them
        ours, _, rest = str(error).partition(" is ")
        theirs = {ours: theirs for theirs, ours in names.items()}
        raise ValueError(f"{path}: {theirs.get(ours, ours)} is {rest}") from None
    usual_width = head is not None and head * config.n_heads == config.d_model
    return replace(config, head_width=None) if usual_width else config


def _expect_computable(written: dict, path: Path) -> None:
    """Refuse, not pass over, what would change the numbers and is not built here."""
    field = partial(expect_field, written, place=str(path))
    for key, computed in FLAGS.items():
        same = field(key, bool, computed) == computed
        expect(same, f"{path}: {key}", not computed, f"this package computes {computed}")
    for key, computed, usual in (("hidden_act", SILU, "silu"), ("activation_function", GELU, "gelu_new")):
        name, wanted = field(key, str, usual), " or ".join(map(repr, computed))
        erf = ", not the exact GELU by erf" if name in ("gelu", "gelu_python") and computed is GELU else ""
        expect(name in computed, f"{path}: {key}", repr(name), f"this package computes {wanted}{erf}")
    share = field("partial_rotary_factor", float, 1.0)
    expect(share == 1, f"{path}: partial_rotary_factor", share, "this package rotates whole heads")
    bits = written.get("quantization_config")
    expect(bits is None, f"{path}: quantization_config", "given", "this package reads plain floats")
    types = field("layer_types", [str], [])
    expect(all(name == "full_attention" for name in types), f"{path}: layer_types", "with sliding windows",
           "this package lets every token see all before it")


def _rope(written: dict, path: Path, usual: float) -> tuple[float, dict]:
    """(theta, scaling): of rope_parameters or, before transformers 5, of rope_theta and rope_scaling.

    A file may hold both spellings, as ours do, where they say the same.
    """
    scaling_of, thetas = {}, {}
    for key in ("rope_parameters", "rope_scaling"):
        place = f"{path}: {key}"
        rope = expect_field(written, key, dict, {}, place=str(path))
        nested = [name for name, value in rope.items() if isinstance(value, dict)]
        expect(not nested, place, f"with {nested[:3]}", "give one object with rope_type, for all layers")
        thetas[key] = expect_field(rope, "rope_theta", float, None, low=1, place=place)
        share = expect_field(rope, "partial_rotary_factor", float, 1.0, place=place)
        expect(share == 1, f"{place}: partial_rotary_factor", share, "this package rotates whole heads")
        kind = expect_field(rope, "type", str, None, place=place)
        kind = expect_field(rope, "rope_type", str, kind, place=place)
        whole = kind is not None or "factor" not in rope
        expect(whole, f"{place}: rope_type", "missing", "say what the factor is of")
        rest = {name: said for name, said in rope.items() if name not in ("type", "rope_type", "rope_theta")}
        if rope:
            scaling_of[key] = {"rope_type": "default" if kind is None else kind} | rest
    thetas["rope_theta"] = expect_field(written, "rope_theta", float, None, low=1, place=str(path))
    said = {key: theta for key, theta in thetas.items() if theta is not None}
    expect(len(set(said.values())) <= 1, f"{path}: rope_theta", said, "let every key say the same")
    scalings = list(scaling_of.values())
    same = len(scalings) < 2 or scalings[0] == scalings[1]
    other = written.get("rope_scaling")
    expect(same, f"{path}: rope_scaling", other, "rope_parameters says another: take one out")
    return next(iter(said.values()), usual), dict(scalings[0]) if scalings else {"rope_type": "default"}


def _family(kind: str, written: dict, path: Path, n_layers: int) -> Family:
    """Which maps add a bias, which layers are not rotated, …"""
    field = partial(expect_field, written, place=str(path))
    attention, inner = field("attention_bias", bool, False), field("mlp_bias", bool, False)
    every = field("no_rope_layer_interval", int, 4, low=1, high=LARGEST)
    rotated = field("no_rope_layers", [int], None, low=0, high=1)
    if kind == "gpt2":
        return GPT2
    bias = ("q", "k", "v") if kind == "qwen2" else ("q", "k", "v", "o") * attention
    bias += ("gate", "up", "down") * (inner and kind in ("llama", "smollm3"))
    unrotated: tuple[int, ...] = ()
    if kind == "smollm3":
        rotated = [(layer + 1) % every for layer in range(n_layers)] if rotated is None else rotated
        expect(len(rotated) == n_layers, f"{path}: no_rope_layers", f"of {len(rotated)} layers",
               f"num_hidden_layers is {n_layers}: give 1 or 0 for each")
        unrotated = tuple(layer for layer in range(n_layers) if not rotated[layer])
    return replace(QWEN3 if kind == "qwen3" else LLAMA, bias=bias, unrotated=unrotated)


def their_config(config: Config) -> dict:
    """config.json of a Config. ValueError for a Family that none of theirs is."""
    family = config.family
    if family == GPT2:
        sizes = {theirs: getattr(config, ours) for theirs, ours in GPT2_SIZES.items()}
        grouped = config.n_kv_heads != config.n_heads or config.head_width is not None
        heads = f"with {config.n_kv_heads} keys' heads"
        expect(not grouped, "config", heads, "GPT-2 has as many as queries'")
        return {
            "architectures": ["GPT2LMHeadModel"],
            "model_type": "gpt2",
            "activation_function": "gelu_new",
            "tie_word_embeddings": config.tied,
        } | sizes
    if family.qk_norm:
        kind = "qwen3"
    elif family.unrotated:
        kind = "smollm3"
    else:
        kind = "qwen2" if family.bias == QWEN2.bias else "llama"
    attention, inner = "o" in family.bias, "gate" in family.bias
    wanted = ("q", "k", "v", "o") * attention + ("gate", "up", "down") * inner
    rms = (family.norm, family.inner, family.positions) == (LLAMA.norm, LLAMA.inner, LLAMA.positions)
    biases = kind == "qwen2" or set(family.bias) == set(wanted)
    known = rms and biases and not (kind == "qwen3" and (inner or family.unrotated))
    expect(known, "family", family, f"only the shapes of {', '.join(TYPES)} can be written")
    scaling = config.rope_scaling or {"rope_type": "default"}
    written = {
        "architectures": [TYPES[kind][0]],
        "model_type": kind,
        "head_dim": config.d_head,
        "hidden_act": "silu",
        "tie_word_embeddings": config.tied,
        "attention_bias": attention,
        "mlp_bias": inner,
        "rope_theta": config.rope_theta,
        "rope_scaling": config.rope_scaling,
        "rope_parameters": scaling | {"rope_theta": config.rope_theta},
    }
    if kind == "smollm3":
        written["no_rope_layers"] = [int(i not in family.unrotated) for i in range(config.n_layers)]
    return written | {theirs: getattr(config, ours) for theirs, ours in SIZES.items()}


def their_tensors(config: Config) -> dict[str, tuple[tuple[str, ...], bool]]:
    """Their tensor's name: the names of ours that it joins, and whether it is stored transposed."""
    maps = [m for m in MAPS if m != "gate" or config.family.inner == "swiglu"]
    inside = [("attention." if m in "qkvo" else "") + m for m in maps] + ["norm1", "norm2"]
    inside += ["attention.q_norm", "attention.k_norm"] if config.family.qk_norm else []
    theirs: dict[str, tuple[tuple[str, ...], bool]] = {}
    gpt2 = config.family == GPT2
    theirs["transformer.wte.weight" if gpt2 else "model.embed_tokens.weight"] = (("embed.weight",), False)
    if gpt2:
        theirs["transformer.wpe.weight"] = (("places.weight",), False)
    for layer in range(config.n_layers):
        for name in inside:
            part = "norm" if "norm" in name else name.split(".")[-1]
            for kind in ("weight", "bias"):
                ours = f"blocks.{layer}.{name}.{kind}"
                if kind == "bias" and part not in config.family.bias:
                    continue
                if not gpt2:
                    theirs[f"model.layers.{layer}.{NAMES[name]}.{kind}"] = ((ours,), False)
                elif name in GPT2_NAMES:
                    transposed = kind == "weight" and part != "norm"
                    theirs[f"transformer.h.{layer}.{GPT2_NAMES[name]}.{kind}"] = ((ours,), transposed)
        for kind in ("weight", "bias") if gpt2 else ():
            joined = tuple(f"blocks.{layer}.attention.{m}.{kind}" for m in "qkv")
            theirs[f"transformer.h.{layer}.attn.c_attn.{kind}"] = (joined, kind == "weight")
    for kind in ("weight", "bias") if gpt2 else ("weight",):
        theirs[f"transformer.ln_f.{kind}" if gpt2 else "model.norm.weight"] = ((f"norm.{kind}",), False)
    if not config.tied:
        theirs["lm_head.weight"] = (("head.weight",), False)
    return theirs
