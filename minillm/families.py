"""How GPT-2, Llama, Qwen2, Qwen3 and SmolLM spell a Config and its tensors in Hugging Face's form.

It leaves out files (hub.py reads and writes them) and what this package has no code for, which is refused by name.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from .expect import expect
from .transformer import GPT2, LLAMA, MAPS, QWEN2, QWEN3, Config, Family

TYPES = {"gpt2": ("GPT2LMHeadModel", True), "llama": ("LlamaForCausalLM", False), "qwen2": ("Qwen2ForCausalLM", False),
         "qwen3": ("Qwen3ForCausalLM", False), "smollm3": ("SmolLM3ForCausalLM", True)}  # model_type: architecture, tied unless it says so
SIZES = {"vocab_size": "vocab_size", "hidden_size": "d_model", "num_hidden_layers": "n_layers", "num_attention_heads": "n_heads",
         "num_key_value_heads": "n_kv_heads", "intermediate_size": "d_ff", "max_position_embeddings": "context", "rms_norm_eps": "norm_eps"}
GPT2_SIZES = {"vocab_size": "vocab_size", "n_embd": "d_model", "n_layer": "n_layers", "n_head": "n_heads", "n_inner": "d_ff",
              "n_positions": "context", "layer_norm_epsilon": "norm_eps"}  # theirs: ours
NAMES = {"norm1": "input_layernorm", "norm2": "post_attention_layernorm", "attention.q": "self_attn.q_proj",
         "attention.k": "self_attn.k_proj", "attention.v": "self_attn.v_proj", "attention.o": "self_attn.o_proj",
         "attention.q_norm": "self_attn.q_norm", "attention.k_norm": "self_attn.k_norm",
         "gate": "mlp.gate_proj", "up": "mlp.up_proj", "down": "mlp.down_proj"}  # ours: theirs, inside a block
GPT2_NAMES = {"norm1": "ln_1", "norm2": "ln_2", "attention.o": "attn.c_proj", "up": "mlp.c_fc", "down": "mlp.c_proj"}
LONGEST = 2**22  # places: a table of rotations longer than that is a slip, not a model


def read_json(path: Path) -> dict:
    """The object in a JSON file. ValueError if it holds something else."""
    try:
        written = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    expect(isinstance(written, dict), str(path), type(written).__name__, "give an object")
    return written


def read_config(path: Path) -> Config:
    """The Config of a config.json. ValueError naming the key that this package cannot follow."""
    written = read_json(path)
    kind = written.get("model_type")
    expect(kind in TYPES, f"{path}: model_type", repr(kind), f"this package reads {', '.join(TYPES)}")
    # What would change the numbers and is not built here is refused, not passed over.
    for key, wanted in {"scale_attn_weights": (True,), "scale_attn_by_inverse_layer_idx": (False,), "add_cross_attention": (False,),
                        "quantization_config": (None,), "hidden_act": ("silu",), "partial_rotary_factor": (None, 1.0),
                        "activation_function": ("gelu_new", "gelu_pytorch_tanh")}.items():
        expect(written.get(key, wanted[0]) in wanted, f"{path}: {key}", repr(written.get(key)), f"this package reads {' or '.join(map(repr, wanted))}")
    types = written.get("layer_types") or []
    expect(isinstance(types, list) and set(types) <= {"full_attention"} and not written.get("use_sliding_window"), f"{path}: layer_types",
           "with sliding windows", "this package lets every token see all before it")
    sizes = GPT2_SIZES if kind == "gpt2" else SIZES
    known = {theirs: written.get(theirs) for theirs in sizes}
    if kind == "gpt2":
        known |= {"n_inner": known["n_inner"] or 4 * (known["n_embd"] or 0), "layer_norm_epsilon": written.get("layer_norm_epsilon", 1e-5)}
    else:
        known |= {"num_key_value_heads": known["num_key_value_heads"] or known["num_attention_heads"], "rms_norm_eps": written.get("rms_norm_eps", 1e-6)}
    missing = [theirs for theirs, value in known.items() if not value]
    expect(not missing, str(path), f"without {', '.join(missing)}", "give a complete configuration")
    rope = written.get("rope_parameters") or written.get("rope_scaling") or {}
    expect(isinstance(rope, dict) and not any(isinstance(v, dict) for v in rope.values()), f"{path}: rope_parameters", rope, "give one object with rope_type")
    scaling = {"rope_type": rope.get("type", "default")} | {k: v for k, v in rope.items() if k not in ("type", "rope_theta")}
    if scaling["rope_type"] in ("llama3", "yarn"):
        scaling.setdefault("original_max_position_embeddings", known.get("max_position_embeddings"))
    theta = rope.get("rope_theta", written.get("rope_theta")) or {"smollm3": 2e6}.get(kind, 1e4)
    try:
        config = Config(**{ours: known[theirs] for theirs, ours in sizes.items()}, **({"n_kv_heads": known["n_head"]} if kind == "gpt2" else {}), rope_theta=theta,
                        head_width=written.get("head_dim") or {"qwen3": 128}.get(kind), tied=bool(written.get("tie_word_embeddings", TYPES[kind][1])),
                        rope_scaling=None if scaling == {"rope_type": "default"} else scaling, family=_family(kind, written, known))
        expect(config.context <= LONGEST, "context", config.context, f"at most {LONGEST} places")
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from None
    return replace(config, head_width=None) if config.head_width and config.head_width * config.n_heads == config.d_model else config


def _family(kind: str, written: dict, known: dict) -> Family:
    """Which maps add a bias, which layers are not rotated, …"""
    if kind == "gpt2":
        return GPT2
    bias = ("q", "k", "v") if kind == "qwen2" else (("q", "k", "v", "o") if written.get("attention_bias") else ())
    bias += ("gate", "up", "down") if written.get("mlp_bias") and kind in ("llama", "smollm3") else ()
    unrotated: tuple[int, ...] = ()
    if kind == "smollm3":
        every, layers = written.get("no_rope_layer_interval", 4), range(known["num_hidden_layers"])
        rotated = written.get("no_rope_layers") or [(i + 1) % every for i in layers]
        unrotated = tuple(i for i in layers if not rotated[i])
    return replace(QWEN3 if kind == "qwen3" else LLAMA, bias=bias, unrotated=unrotated)


def their_config(config: Config) -> dict:
    """config.json of a Config. ValueError for a Family that none of theirs is."""
    family = config.family
    if family == GPT2:
        sizes = {theirs: getattr(config, ours) for theirs, ours in GPT2_SIZES.items()}
        expect(config.n_kv_heads == config.n_heads and config.head_width is None, "config", f"with {config.n_kv_heads} keys' heads", "GPT-2 has as many as queries'")
        return {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "activation_function": "gelu_new", "tie_word_embeddings": config.tied} | sizes
    kind = "qwen3" if family.qk_norm else "smollm3" if family.unrotated else "qwen2" if family.bias == QWEN2.bias else "llama"
    attention, inner = "o" in family.bias, "gate" in family.bias
    wanted = ("q", "k", "v", "o") * attention + ("gate", "up", "down") * inner
    rms = (family.norm, family.inner, family.positions) == (LLAMA.norm, LLAMA.inner, LLAMA.positions)
    expect(rms and (kind == "qwen2" or set(family.bias) == set(wanted)) and not (kind == "qwen3" and (inner or family.unrotated)), "family", family,
           f"only the shapes of {', '.join(TYPES)} can be written")
    scaling = config.rope_scaling or {"rope_type": "default"}
    written = {"architectures": [TYPES[kind][0]], "model_type": kind, "head_dim": config.d_head, "hidden_act": "silu", "tie_word_embeddings": config.tied,
               "attention_bias": attention, "mlp_bias": inner, "rope_theta": config.rope_theta, "rope_scaling": config.rope_scaling,
               "rope_parameters": scaling | {"rope_theta": config.rope_theta}}
    if kind == "smollm3":
        written["no_rope_layers"] = [int(i not in family.unrotated) for i in range(config.n_layers)]
    return written | {theirs: getattr(config, ours) for theirs, ours in SIZES.items()}


def their_tensors(config: Config) -> dict[str, tuple[tuple[str, ...], bool]]:
    """Their tensor's name: the names of ours that it joins, and whether it is stored transposed (GPT-2's maps are)."""
    maps = [m for m in MAPS if m != "gate" or config.family.inner == "swiglu"]
    inside = [("attention." if m in "qkvo" else "") + m for m in maps] + ["norm1", "norm2"]
    inside += ["attention.q_norm", "attention.k_norm"] if config.family.qk_norm else []
    found: dict[str, tuple[tuple[str, ...], bool]] = {}
    gpt2 = config.family == GPT2
    found["transformer.wte.weight" if gpt2 else "model.embed_tokens.weight"] = (("embed.weight",), False)
    if gpt2:
        found["transformer.wpe.weight"] = (("places.weight",), False)
    for layer in range(config.n_layers):
        for name in inside:
            for kind in ("weight", "bias"):
                ours = f"blocks.{layer}.{name}.{kind}"
                if kind == "bias" and (name.split(".")[-1] if "norm" not in name else "norm") not in config.family.bias:
                    continue
                if not gpt2:
                    found[f"model.layers.{layer}.{NAMES[name]}.{kind}"] = ((ours,), False)
                elif name in GPT2_NAMES:
                    found[f"transformer.h.{layer}.{GPT2_NAMES[name]}.{kind}"] = ((ours,), kind == "weight" and "norm" not in name)
        for kind in ("weight", "bias") if gpt2 else ():
            found[f"transformer.h.{layer}.attn.c_attn.{kind}"] = (tuple(f"blocks.{layer}.attention.{m}.{kind}" for m in "qkv"), kind == "weight")
    for kind in ("weight", "bias") if gpt2 else ("weight",):
        found[f"transformer.ln_f.{kind}" if gpt2 else "model.norm.weight"] = ((f"norm.{kind}",), False)
    if not config.tied:
        found["lm_head.weight"] = (("head.weight",), False)
    return found
