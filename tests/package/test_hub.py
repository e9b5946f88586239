"""Folders in Hugging Face's form:
bit for bit back, in the names that others expect, and a clear word where a file is not right.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from conftest import Tiny
from minillm import hub
from minillm.sample import sample
from minillm.tokenizer import Tokenizer
from minillm.transformer import Config

TEXTS = ["the baker lives on Elm Street.", "7+8=15", "Ada Moss is a baker."] * 4
TOKENIZER = Tokenizer.train(TEXTS, 290)


def model_of(**shape):
    usual = {"vocab_size": TOKENIZER.vocab_size,
             "d_model": 16,
             "n_heads": 4,
             "n_kv_heads": 2,
             "d_ff": 20,
             "context": 32}
    return Tiny(3, torch.float32, **(usual | shape))


@pytest.fixture
def folder(tmp_path):
    hub.save(model_of(), TOKENIZER, tmp_path / "model")
    return tmp_path / "model"


def edit(folder, **changes):
    """config.json with some keys changed; None takes a key out."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8")) | changes
    (folder / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v != "out"}),
                                        encoding="utf-8")


# --- there and back -------------------------------------------------------------------------------


@pytest.mark.parametrize("shape",
                         [{}, {"n_kv_heads": 4}, {"n_kv_heads": 1, "n_layers": 3},
                          {"rope_theta": 500.0, "norm_eps": 1e-6, "context": 48}],
                         ids=str)
def test_saved_and_loaded_gives_the_same_bits(tmp_path, shape):
    """Logits equal bit for bit, the configuration too, the tokenizer's ids too; and it says so twice."""
    model = model_of(**shape)
    hub.save(model, TOKENIZER, tmp_path / "a" / "new folder")
    loaded, tokenizer = hub.load(tmp_path / "a" / "new folder")
    tokens = torch.randint(TOKENIZER.vocab_size, (3, 20), generator=torch.Generator().manual_seed(0))
    assert loaded.config == model.config and not loaded.training
    assert torch.equal(loaded(tokens), model(tokens))
    assert [tokenizer.encode(t) for t in TEXTS] == [TOKENIZER.encode(t) for t in TEXTS]
    prompts = [tokenizer.prompt("who?"), tokenizer.prompt("7+8")]
    assert torch.equal(sample(loaded, prompts, 5, temperature=0).tokens,
                       sample(model, prompts, 5, temperature=0).tokens)
    hub.save(loaded, tokenizer, tmp_path / "b")
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        assert (tmp_path / "b" / name).read_bytes() == (tmp_path / "a" / "new folder" / name).read_bytes()


def test_saving_over_a_model_replaces_it_and_leaves_nothing_else(folder):
    hub.save(model_of(n_layers=1), TOKENIZER, folder)
    assert hub.load(folder)[0].config.n_layers == 1
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json", "model.safetensors", "tokenizer.json"]


def test_a_save_that_fails_leaves_the_old_model_whole(folder, monkeypatch):
    """The disk is full while the weights are written: the folder still loads, with the old weights."""
    before = (folder / "model.safetensors").read_bytes()

    def full(tensors, path, metadata):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(hub.folders, "save_file", full)
    with pytest.raises(OSError, match="No space"):
        hub.save(Tiny(9, torch.float32, **vars(hub.load(folder)[0].config)), TOKENIZER, folder)
    assert (folder / "model.safetensors").read_bytes() == before
    hub.load(folder)


def test_weights_in_half_precision_are_read_as_they_are(folder):
    """bfloat16 on disk becomes float32 in memory, each value exactly; float64 is rounded to float32."""
    tensors = load_file(folder / "model.safetensors")
    save_file({k: v.bfloat16() for k, v in tensors.items()}, folder / "model.safetensors")
    loaded, _ = hub.load(folder)
    assert loaded.embed.weight.dtype == torch.float32
    assert torch.equal(loaded.embed.weight, tensors["model.embed_tokens.weight"].bfloat16().float())


# --- as others read it ----------------------------------------------------------------------------


def test_the_files_are_a_llama_with_tied_embeddings(folder):
    """Names, shapes and keys as Llama's:
    one layer listed in full, by hand, for D = 16, H = 4, K = 2, F = 20."""
    with safe_open(folder / "model.safetensors", "pt") as file:
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}
        assert file.metadata() == {"format": "pt"}
    V = TOKENIZER.vocab_size
    assert shapes["model.embed_tokens.weight"] == (V, 16) and shapes["model.norm.weight"] == (16,)
    assert "lm_head.weight" not in shapes and len(shapes) == 2 + 2 * 9
    layer = {name.removeprefix("model.layers.1."): shape
             for name, shape in shapes.items()
             if name.startswith("model.layers.1.")}
    assert layer == {"input_layernorm.weight": (16,),
                     "post_attention_layernorm.weight": (16,),
                     "self_attn.q_proj.weight": (16, 16),
                     "self_attn.k_proj.weight": (8, 16),
                     "self_attn.v_proj.weight": (8, 16),
                     "self_attn.o_proj.weight": (16, 16),
                     "mlp.gate_proj.weight": (20, 16),
                     "mlp.up_proj.weight": (20, 16),
                     "mlp.down_proj.weight": (16, 20)}
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert config["model_type"] == "llama"
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["tie_word_embeddings"] is True
    sizes = {"hidden_size": 16,
             "num_hidden_layers": 2,
             "num_attention_heads": 4,
             "num_key_value_heads": 2,
             "intermediate_size": 20,
             "max_position_embeddings": 32,
             "head_dim": 4,
             "vocab_size": V}
    assert {key: config[key] for key in sizes} == sizes
    assert config["eos_token_id"] == 0
    assert config["attention_bias"] is False
    assert config["hidden_act"] == "silu"


def test_each_weight_goes_under_its_own_name(folder):
    """Values, not shapes alone: gate and up, q and o,
    the two norms of a block are of equal shapes and easily swapped."""
    model, tensors = model_of(), load_file(folder / "model.safetensors")
    block = model.blocks[1]
    ours = {"mlp.gate_proj": block.gate,
            "mlp.up_proj": block.up,
            "mlp.down_proj": block.down,
            "self_attn.q_proj": block.attention.q,
            "self_attn.k_proj": block.attention.k,
            "self_attn.v_proj": block.attention.v,
            "self_attn.o_proj": block.attention.o,
            "input_layernorm": block.norm1,
            "post_attention_layernorm": block.norm2}
    for theirs, layer in ours.items():
        assert torch.equal(tensors[f"model.layers.1.{theirs}.weight"], layer.weight)
    assert torch.equal(tensors["model.norm.weight"], model.norm.weight)


# --- folders that are not right -------------------------------------------------------------------


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=name):
        hub.load(folder)
    (folder / name).mkdir()
    with pytest.raises(FileNotFoundError, match=name):
        hub.load(folder)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        hub.load(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
@pytest.mark.parametrize("data", [b"", b"{", b"[1, 2]", b"\xff\xfe\x00garbage", b"null", b"\x00" * 100],
                         ids=ascii)
def test_a_damaged_file_is_named(folder, name, data):
    """Empty, cut, of another kind, not even text: one ValueError that names the file by its path."""
    (folder / name).write_bytes(data)
    with pytest.raises(ValueError, match=str(folder / name)):
        hub.load(folder)


@pytest.mark.parametrize("keep", [0.3, 0.999])
def test_weights_that_were_cut_are_named(folder, keep):
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[:int(len(data) * keep)])
    with pytest.raises(ValueError, match="model.safetensors is damaged"):
        hub.load(folder)


@pytest.mark.parametrize("change, told",
                         [({"model_type": "bert"}, "model_type is 'bert'"),
                          ({"model_type": "out"}, "model_type is None"),
                          ({"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
                          ({"rope_parameters": {"rope_type": "linear"}}, "factor is None"),
                          ({"hidden_size": "out"}, "hidden_size is missing"),
                          ({"hidden_size": "sixteen"}, "hidden_size is 'sixteen'"),
                          ({"hidden_size": -16}, "hidden_size is -16"),
                          ({"hidden_size": 16.5}, "hidden_size is 16.5"),
                          ({"num_attention_heads": 3, "head_dim": None}, "num_attention_heads is 3"),
                          ({"eos_token_id": 10**6}, "eos_token_id is 1000000"),
                          ({"eos_token_id": "end"}, "eos_token_id is 'end'"),
                          ({"num_key_value_heads": 3}, "num_key_value_heads is 3"),
                          ({"rope_parameters": {"rope_theta": "fast"}}, "rope_theta is 'fast'"),
                          ({"rope_parameters": {"rope_theta": -1}}, "rope_theta is -1"),
                          ({"rms_norm_eps": "small"}, "rms_norm_eps is 'small'")],
                         ids=str)
def test_a_configuration_that_this_package_does_not_read_is_named(folder, change, told):
    """Each would otherwise load and compute something else, or fail far away:
    the file, the key, its value."""
    edit(folder, **change)
    with pytest.raises(ValueError, match=f"config.json.*{told}"):
        hub.load(folder)


@pytest.mark.parametrize("change",
                         [{"hidden_size": 32}, {"num_hidden_layers": 3}, {"num_hidden_layers": 1},
                          {"intermediate_size": 24}, {"num_key_value_heads": 4}, {"num_key_value_heads": 1},
                          {"num_attention_heads": 6}, {"tie_word_embeddings": False}],
                         ids=str)
def test_weights_of_another_configuration_are_named(folder, change):
    edit(folder, **change)
    with pytest.raises(ValueError, match="model.safetensors"):
        hub.load(folder)


def test_a_tokenizer_of_another_size_or_kind_is_named(folder, tmp_path):
    """One with more tokens than the model is refused; one with fewer is how real checkpoints are padded."""
    Tokenizer.train(TEXTS * 9 + ["Bo and Cy and Di"] * 9, 310).save(folder / "tokenizer.json")
    with pytest.raises(ValueError, match="tokenizer.json: vocab is of 3[01]. tokens: config.json says 290"):
        hub.load(folder)
    Tokenizer.train(TEXTS, 280).save(folder / "tokenizer.json")
    model, tokenizer = hub.load(folder)
    assert tokenizer.vocab_size == model.config.vocab_size == 290 and tokenizer.decode([285]) == ""


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_named(folder, value):
    """One NaN among the weights would answer every question with one token, in silence."""
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.0.mlp.up_proj.weight"][0, 0] = value
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(ValueError, match="mlp.up_proj.weight is not made of finite numbers"):
        hub.load(folder)


def test_nothing_is_unpickled(folder):
    """A pickle under the name of the weights is refused as damaged and never run."""
    import pickle

    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("it was unpickled",))

    (folder / "model.safetensors").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(ValueError, match="model.safetensors is damaged"):
        hub.load(folder)


def test_a_folder_may_have_spaces_and_be_a_string(tmp_path):
    model = model_of()
    hub.save(model, TOKENIZER, str(tmp_path / "my model, first"))
    shutil.move(tmp_path / "my model, first", tmp_path / "ma modèle")
    loaded, _ = hub.load(str(tmp_path / "ma modèle"))
    assert loaded.config == replace(model.config) == Config(**vars(model.config))


@pytest.mark.parametrize("read", [
    hub.load, hub.load_model, lambda folder: hub.save(model_of(), TOKENIZER, folder),
], ids=["load", "load_model", "save"])
@pytest.mark.parametrize("folder", ["", None, 3], ids=repr)
def test_an_empty_name_is_not_the_folder_one_stands_in(read, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="folder is .*: name a folder"):
        read(folder)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_weights_that_are_no_numbers_are_not_written(folder, value):
    """Of whatever step they come: the folder keeps what it had, byte for byte, and a new one is not made."""
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    model = model_of()
    with torch.no_grad():
        model.blocks[1].down.weight[3, 2] = value
    for place in (folder, folder.parent / "new"):
        with pytest.raises(ValueError, match="model: blocks.1.down.weight is not made of finite numbers"):
            hub.save(model, TOKENIZER, place)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert not (folder.parent / "new").exists()


def test_what_is_finite_on_disk_must_be_finite_in_memory(folder):
    """70000 is no float16: refused there, read in float32; 1e300 is no float32."""
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"][0] = 7e4
    save_file(tensors, folder / "model.safetensors")
    assert hub.load_model(folder).norm.weight[0] == 7e4
    with pytest.raises(ValueError, match="model.norm.weight is not made of finite numbers in torch.float16"):
        hub.load_model(folder, dtype=torch.float16)


def test_what_a_tokenizer_says_of_length_is_not_obeyed(folder):
    """Truncation to 2 and padding to 100: a text of 18 words has its own ids, alone and among others."""
    from tokenizers import Tokenizer as Backend
    backend = Backend.from_file(str(folder / "tokenizer.json"))
    backend.enable_truncation(2)
    backend.enable_padding(length=100)
    backend.save(str(folder / "tokenizer.json"))
    tokenizer = hub.load(folder)[1]
    long = "the baker lives on Elm Street. " * 3
    assert tokenizer.encode(long) == TOKENIZER.encode(long)
    assert tokenizer.encode_all([long, "7+8"]) == TOKENIZER.encode_all([long, "7+8"])
