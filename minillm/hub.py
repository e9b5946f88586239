"""Models in and out of folders in Hugging Face's form: config.json, model.safetensors, tokenizer.json. Nothing is unpickled.

It writes and reads the shape that the package itself has, Llama's with tied embeddings. Left out: other families, shards and
rope scaling.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from .expect import expect
from .tokenizer import END, Tokenizer
from .transformer import Config, Transformer

BASE = Path(__file__).parent / "checkpoints" / "base"
CONFIG = {"vocab_size": "vocab_size", "hidden_size": "d_model", "num_hidden_layers": "n_layers", "num_attention_heads": "n_heads",
          "num_key_value_heads": "n_kv_heads", "intermediate_size": "d_ff", "max_position_embeddings": "context",
          "rope_theta": "rope_theta", "rms_norm_eps": "norm_eps"}  # theirs: ours
NAMES = {"norm1": "input_layernorm", "norm2": "post_attention_layernorm", "attention.q": "self_attn.q_proj",
         "attention.k": "self_attn.k_proj", "attention.v": "self_attn.v_proj", "attention.o": "self_attn.o_proj",
         "gate": "mlp.gate_proj", "up": "mlp.up_proj", "down": "mlp.down_proj"}  # ours: theirs, inside a block


def save(model: Transformer, tokenizer: Tokenizer, folder: str | os.PathLike) -> None:
    """Write config.json, model.safetensors (float32) and tokenizer.json; `transformers` reads them as a Llama."""
    expect(tokenizer.vocab_size == model.config.vocab_size, "tokenizer", f"of {tokenizer.vocab_size} tokens", f"the model has {model.config.vocab_size}")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    config = {theirs: getattr(model.config, ours) for theirs, ours in CONFIG.items()}
    config |= {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "head_dim": model.config.d_head, "hidden_act": "silu",
               "tie_word_embeddings": True, "attention_bias": False, "mlp_bias": False, "bos_token_id": END, "eos_token_id": END,
               "torch_dtype": "float32"}
    tensors = {their_name(name): p.detach().float().cpu().contiguous() for name, p in model.named_parameters()}
    for name, write in (("config.json", lambda path: path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")),
                        ("model.safetensors", lambda path: save_file(tensors, path, {"format": "pt"})),
                        ("tokenizer.json", tokenizer.save)):
        beside = folder / f"{name}.part"
        write(beside)
        beside.chmod(0o644)  # the writer of safetensors leaves files that only their owner can read
        os.replace(beside, folder / name)


def load(folder: str | os.PathLike = "base", device: torch.device | str = "cpu") -> tuple[Transformer, Tokenizer]:
    """(model, tokenizer) from a folder that `save` wrote; "base" is the model that is shipped with the package.

    Raises FileNotFoundError naming a missing file, ValueError naming what is not as it must be.
    """
    path = BASE if str(folder) == "base" else Path(folder)
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        if not (path / name).is_file():
            raise FileNotFoundError(f"{path / name} is not there: name a folder with config.json, model.safetensors and tokenizer.json, or \"base\"")
    try:
        written = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path / 'config.json'} is not JSON: {error}") from None
    expect(isinstance(written, dict), str(path / "config.json"), type(written).__name__, "give an object, as `save` writes it")
    written = {"hidden_act": "silu", "rope_scaling": None} | written
    for key, wanted in (("model_type", "llama"), ("tie_word_embeddings", True), ("hidden_act", "silu"), ("rope_scaling", None)):
        expect(written.get(key) == wanted, f"{path / 'config.json'}: {key}", written.get(key), f"this package reads {wanted}")
    missing = [key for key in CONFIG if key not in written]
    expect(not missing, str(path / "config.json"), f"without {', '.join(missing)}", "give a complete configuration")
    try:
        model = Transformer(Config(**{ours: written[theirs] for theirs, ours in CONFIG.items()}))
    except ValueError as error:
        raise ValueError(f"{path / 'config.json'}: {error}") from None
    tokenizer = Tokenizer.load(path / "tokenizer.json")
    expect(tokenizer.vocab_size == model.config.vocab_size, str(path / "tokenizer.json"), f"of {tokenizer.vocab_size} tokens",
           f"config.json says {model.config.vocab_size}")
    weights = path / "model.safetensors"
    own = {their_name(name): p for name, p in model.named_parameters()}
    try:
        with safe_open(weights, "pt") as file:
            names = set(file.keys())
            expect(names == set(own), str(weights), f"with other tensors: {sorted(names ^ set(own))[:4]}", "give the weights of this configuration")
            for name, p in own.items():
                tensor = file.get_tensor(name)
                expect(tensor.is_floating_point() and bool(tensor.isfinite().all()), f"{weights}: {name}", "not made of finite numbers", "give weights that were trained without a NaN")
                expect(tensor.shape == p.shape, f"{weights}: {name}", f"of shape {tuple(tensor.shape)}", f"the configuration asks for {tuple(p.shape)}")
                with torch.no_grad():
                    p.copy_(tensor)
    except SafetensorError as error:
        raise ValueError(f"{weights} is damaged: {error}") from None
    return model.to(device).eval(), tokenizer


def their_name(name: str) -> str:
    """blocks.0.attention.q.weight -> model.layers.0.self_attn.q_proj.weight."""
    if name.startswith("blocks."):
        _, layer, inner = name.split(".", 2)
        return f"model.layers.{layer}.{NAMES[inner.removesuffix('.weight')]}.weight"
    return {"embed.weight": "model.embed_tokens.weight", "norm.weight": "model.norm.weight"}[name]
