"""Real checkpoints: what `transformers` makes and what this package makes of it are the same function, there
and back, for every family.
"""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
import transformers

from minillm import hub
from minillm.hub.families import read_config
from minillm.readable import readable_logits
from minillm.sample import sample
from minillm.transformer import GPT2, LLAMA, QWEN2, QWEN3, Config, Family, Transformer

transformers.logging.set_verbosity_error()

SIZE = dict(
    vocab_size=97,
    hidden_size=48,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    intermediate_size=80,
    # Weights so large that a forgotten bias or scale is seen.
    max_position_embeddings=64,
    initializer_range=0.2,
)
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}
MADE = {
    "gpt2": (
        "GPT2",
        dict(vocab_size=97, n_embd=48, n_layer=3, n_head=4, n_positions=64, initializer_range=0.2),
    ),
    "gpt2, wider inside": (
        "GPT2",
        dict(
            vocab_size=97, n_embd=48, n_layer=2, n_head=3, n_inner=100, n_positions=64, initializer_range=0.2
        ),
    ),
    "gpt2, untied": (
        "GPT2",
        dict(
            vocab_size=97,
            n_embd=48,
            n_layer=2,
            n_head=4,
            n_positions=64,
            initializer_range=0.2,
            tie_word_embeddings=False,
        ),
    ),
    "llama": ("Llama", SIZE),
    "llama, tied": ("Llama", SIZE | dict(tie_word_embeddings=True)),
    "llama, biases": ("Llama", SIZE | dict(attention_bias=True, mlp_bias=True)),
    "llama, wide heads": ("Llama", SIZE | dict(head_dim=20)),
    "llama, all heads": ("Llama", SIZE | dict(num_key_value_heads=4)),
    "llama 3": ("Llama", SIZE | dict(rope_parameters=LLAMA3 | {"rope_theta": 500.0})),
    "llama, linear": (
        "Llama",
        SIZE | dict(rope_parameters={"rope_type": "linear", "factor": 3.0, "rope_theta": 1e4}),
    ),
    "llama, dynamic": (
        "Llama",
        SIZE | dict(rope_parameters={"rope_type": "dynamic", "factor": 3.0, "rope_theta": 1e4}),
    ),
    "smollm": (
        "Llama",
        SIZE
        | dict(tie_word_embeddings=True, num_attention_heads=3, num_key_value_heads=1, rms_norm_eps=1e-5),
    ),
    "smollm 3": (
        "SmolLM3",
        SIZE | dict(no_rope_layers=[1, 0, 1], pad_token_id=0, bos_token_id=1, eos_token_id=2),
    ),
    "smollm 3, every second": (
        "SmolLM3",
        SIZE | dict(no_rope_layer_interval=2, pad_token_id=0, bos_token_id=1, eos_token_id=2),
    ),
    "qwen2": ("Qwen2", SIZE | dict(rope_parameters={"rope_type": "default", "rope_theta": 1e6})),
    "qwen2, tied": ("Qwen2", SIZE | dict(tie_word_embeddings=True)),
    "qwen2, yarn": ("Qwen2", SIZE | dict(rope_parameters=YARN | {"rope_theta": 1e4})),
    "qwen3": ("Qwen3", SIZE | dict(head_dim=16)),
    "qwen3, biases": ("Qwen3", SIZE | dict(head_dim=16, attention_bias=True, tie_word_embeddings=True)),
    "qwen3, yarn": (
        "Qwen3",
        SIZE | dict(head_dim=16, rope_parameters=YARN | {"rope_theta": 1e4, "attention_factor": 1.3}),
    ),
}


def make(name):
    """A model of `transformers`, every weight and bias random: its
    own start leaves biases 0 and norms 1, which hides mistakes.
    """
    family, settings = MADE[name]
    torch.manual_seed(len(name))
    config = getattr(transformers, f"{family}Config")(**settings)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for key, p in model.named_parameters():
            if p.ndim == 1:
                p.copy_(torch.randn_like(p) * 0.3 + (0.0 if key.endswith("bias") else 1.0))
    return model


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """name -> (their model, its folder), each made once."""
    kept = {}

    def get(name):
        if name not in kept:
            folder = tmp_path_factory.mktemp("model")
            model = make(name)
            model.save_pretrained(folder)
            kept[name] = model, folder
        return kept[name]
    return get


def tokens(rows=3, length=40):
    return torch.randint(97, (rows, length), generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("name", MADE)
def test_logits_are_theirs(made, name):
    """Equal to 1e-5 of the largest logit, on 40 tokens: rounding
    in float32 through three layers is about 1e-6 of it.
    """
    theirs, folder = made(name)
    ours = hub.load_model(folder)
    with torch.no_grad():
        wanted = theirs(tokens()).logits
        scale = max(1.0, float(wanted.abs().max()))
        torch.testing.assert_close(ours(tokens()), wanted, atol=1e-5 * scale, rtol=0)
        torch.testing.assert_close(readable_logits(ours, tokens()), wanted, atol=1e-5 * scale, rtol=0)


@pytest.mark.parametrize("name", MADE)
def test_shapes_are_known_before_there_is_a_model(made, name):
    """By arithmetic, each as the Transformer has it: files are held to them before memory is taken."""
    ours = hub.load_model(made(name)[1])
    shapes = {key: hub.folders._shape(ours.config, key) for key, _ in ours.named_parameters()}
    assert shapes == {key: tuple(p.shape) for key, p in ours.named_parameters()}


@pytest.mark.parametrize("activation", [
    "gelu_new", "gelu_fast", "gelu_pytorch_tanh", "gelu_python_tanh", "gelu_accurate"])
def test_every_gelu_by_tanh_is_theirs(activation, made, tmp_path):
    """One function under five names; the exact one, by erf, is refused by name."""
    config = transformers.GPT2Config(**MADE["gpt2"][1], activation_function=activation)
    theirs = transformers.AutoModelForCausalLM.from_config(config).eval()
    theirs.save_pretrained(tmp_path)
    with torch.no_grad():
        ours, wanted = hub.load_model(tmp_path)(tokens()), theirs(tokens()).logits
        torch.testing.assert_close(ours, wanted, atol=1e-5 * float(wanted.abs().max()), rtol=0)
    written = json.loads((tmp_path / "config.json").read_text()) | {"activation_function": "gelu"}
    (tmp_path / "config.json").write_text(json.dumps(written))
    with pytest.raises(ValueError, match="activation_function is 'gelu': .*not the exact GELU by erf"):
        hub.load_model(tmp_path)


@pytest.mark.parametrize("name", MADE)
def test_greedy_answers_are_theirs(made, name):
    """Token for token, 24 of them, with the cache; three prompts at once."""
    theirs, folder = made(name)
    ours, prompts = hub.load_model(folder), tokens(3, 12)
    wanted = theirs.generate(
        prompts,
        attention_mask=torch.ones_like(prompts),
        max_new_tokens=24,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
    )
    batch = sample(ours, prompts.tolist(), 24, temperature=0, end=None)
    assert batch.tokens.tolist() == wanted.tolist()


@pytest.mark.parametrize("name", MADE)
def test_prompts_of_unequal_length_do_not_touch_one_another(made, name):
    """Greedy answers with padding at the left equal those of each
    prompt alone, learned positions and unrotated layers too.
    """
    ours = hub.load_model(made(name)[1])
    prompts = [tokens()[i, :n].tolist() for i, n in enumerate((3, 11, 7))]
    together = sample(ours, prompts, 12, temperature=0, end=None)
    for i, prompt in enumerate(prompts):
        alone = sample(ours, [prompt], 12, temperature=0, end=None)
        assert (
            together.tokens[i][together.response_mask[i]].tolist()
            == alone.tokens[0][alone.response_mask[0]].tolist()
        )


@pytest.mark.parametrize("shard_bytes", [10**9, 20_000])
@pytest.mark.parametrize("name", MADE)
def test_what_is_written_loads_there(made, name, shard_bytes, tmp_path):
    """Our file, one or in shards, read by AutoModelForCausalLM: the
    same class, no weight missing or left over, the same logits.
    """
    theirs, folder = made(name)
    hub.save(hub.load_model(folder), None, tmp_path, shard_bytes)
    assert (len(list(tmp_path.glob("*.safetensors"))) > 1) == (shard_bytes == 20_000)
    again, report = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert type(again) is type(theirs)
    assert not report["missing_keys"] and not report["unexpected_keys"] and not report["mismatched_keys"]
    with torch.no_grad():
        torch.testing.assert_close(again.eval()(tokens()).logits, theirs(tokens()).logits, atol=0, rtol=0)
    ours, more = hub.load_model(folder), hub.load_model(tmp_path)
    assert ours.config == more.config
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), more.parameters()))


@pytest.mark.parametrize("name", ["gpt2", "llama", "qwen3"])
def test_their_shards_are_read(made, name, tmp_path):
    theirs, folder = made(name)
    theirs.save_pretrained(tmp_path, max_shard_size="30KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    for p, q in zip(hub.load_model(folder).parameters(), hub.load_model(tmp_path).parameters()):
        assert torch.equal(p, q)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_a_model_saved_without_its_head_is_read(made, name, tmp_path):
    """AutoModel's files have no prefix before the names.

    A tied model needs nothing else; an untied one lacks its head, by name.
    """
    theirs, folder = made(name)
    theirs.base_model.save_pretrained(tmp_path)
    if name == "gpt2":
        assert torch.equal(hub.load_model(tmp_path).embed.weight, hub.load_model(folder).embed.weight)
    else:
        with pytest.raises(ValueError, match="without lm_head.weight"):
            hub.load_model(tmp_path)


def test_tables_that_older_files_hold_are_passed_over(made, tmp_path):
    """The first GPT-2 files keep each layer's causal mask beside the weights."""
    from safetensors.torch import load_file, save_file
    _, folder = made("gpt2")
    tensors = {
        name.removeprefix("transformer."): t for name, t in load_file(folder / "model.safetensors").items()
    }
    tensors["h.0.attn.bias"] = torch.ones(1, 1, 64, 64)
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    assert torch.equal(hub.load_model(tmp_path).embed.weight, hub.load_model(folder).embed.weight)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_another_precision(made, dtype, tmp_path):
    """Weights come in the asked dtype, are written in it, and come back the same."""
    ours = hub.load_model(made("qwen2")[1], dtype=dtype)
    assert {p.dtype for p in ours.parameters()} == {dtype}
    hub.save(ours, None, tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["torch_dtype"] == str(dtype).removeprefix(
        "torch."
    )
    again = hub.load_model(tmp_path, dtype=dtype)
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), again.parameters()))


@pytest.mark.parametrize("name", ["gpt2", "llama 3"])
def test_a_shorter_context(made, name):
    """The same logits on what fits, and an error past it."""
    _, folder = made(name)
    short, full = hub.load_model(folder, context=16), hub.load_model(folder)
    assert short.config.context == 16
    torch.testing.assert_close(short(tokens(2, 16)), full(tokens(2, 16)))
    with pytest.raises(ValueError, match="context is 16"):
        short(tokens(2, 17))


FAMILIES = {"llama": LLAMA, "qwen2": QWEN2, "qwen3": QWEN3, "gpt2": GPT2, "unrotated": Family(unrotated=(0,))}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_of_our_own_making_goes_there_and_back(family, tmp_path):
    """A model that this package drew: written, read by transformers, the same logits to 1e-5."""
    c = Config(
        vocab_size=61,
        d_model=32,
        n_layers=2,
        n_heads=4,
        n_kv_heads=4 if family == "gpt2" else 2,
        d_ff=48,
        context=32,
        family=FAMILIES[family],
        tied=family != "qwen2",
    )
    model = Transformer(c, seed=3).eval()
    hub.save(model, None, tmp_path)
    assert read_config(tmp_path / "config.json") == c
    ids = torch.randint(61, (2, 20), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(
            transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval()(ids).logits,
            model(ids),
            atol=1e-5,
            rtol=0,
        )


def test_a_family_that_is_nobodys_is_refused_before_anything_is_written(tmp_path):
    model = Transformer(
        Config(
            vocab_size=61,
            d_model=32,
            n_layers=2,
            n_heads=4,
            n_kv_heads=2,
            d_ff=48,
            context=32,
            family=Family(bias=("q",)),
        )
    )
    with pytest.raises(ValueError, match="family is .*only the shapes of"):
        hub.save(model, None, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_saving_in_fewer_files_leaves_no_old_shard(made, tmp_path):
    ours = hub.load_model(made("llama")[1])
    hub.save(ours, None, tmp_path, 20_000)
    hub.save(ours, None, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    hub.save(ours, None, tmp_path, 20_000)
    assert not (tmp_path / "model.safetensors").exists() and hub.load_model(tmp_path)


# --- what cannot be read is named ---------------------------------------------------------------------------


@pytest.fixture
def sharded(made, tmp_path):
    made("llama")[0].save_pretrained(tmp_path, max_shard_size="30KB")
    return tmp_path


def test_a_missing_shard_is_named(sharded):
    lost = sorted(sharded.glob("*.safetensors"))[1]
    lost.unlink()
    with pytest.raises(FileNotFoundError, match=lost.name):
        hub.load_model(sharded)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_a_truncated_shard_is_named(sharded, share):
    cut = sorted(sharded.glob("*.safetensors"))[1]
    data = cut.read_bytes()
    cut.write_bytes(data[:int(len(data) * share)])
    with pytest.raises(ValueError, match=f"{cut.name} is damaged or cut short"):
        hub.load_model(sharded)


@pytest.mark.parametrize("file", ["../elsewhere.safetensors", "/etc/passwd", "..", ""])
def test_an_index_that_points_out_of_the_folder_is_refused(sharded, file):
    index = sharded / "model.safetensors.index.json"
    written = json.loads(index.read_text())
    written["weight_map"]["lm_head.weight"] = file
    index.write_text(json.dumps(written))
    with pytest.raises(ValueError, match="a shard lies in the folder itself"):
        hub.load_model(sharded)


def test_an_index_that_names_a_tensor_that_no_shard_holds(sharded):
    index = sharded / "model.safetensors.index.json"
    written = json.loads(index.read_text())
    written["weight_map"]["model.layers.9.ghost"] = sorted(sharded.glob("*.safetensors"))[0].name
    index.write_text(json.dumps(written))
    with pytest.raises(ValueError, match="model.layers.9.ghost"):
        hub.load_model(sharded)


def test_a_pickle_is_not_opened(made, tmp_path):
    theirs, folder = made("llama")
    torch.save(theirs.state_dict(), tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    with pytest.raises(FileNotFoundError, match="pytorch_model.bin is a pickle"):
        hub.load_model(tmp_path)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"model_type": "mamba"}, "model_type is 'mamba': this package reads gpt2, llama"),
        ({"model_type": None}, "model_type is None"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"layer_types": ["full_attention", "sliding_attention", "full_attention"]}, "sliding windows"),
        (
            {"rope_parameters": {"rope_type": "longrope", "factor": 2.0}},
            "rope_type is 'longrope': this package knows default, dynamic",
        ),
        ({"rope_parameters": {"rope_type": "linear"}}, "rope_scaling: factor is None"),
        ({"rope_parameters": {"full_attention": {"rope_type": "default"}}}, "give one object"),
        ({"num_hidden_layers": None}, "num_hidden_layers is missing"),
        ({"num_hidden_layers": 2}, "with model.layers.2"),
        ({"num_hidden_layers": 4}, r"without model.layers.3.*and 5 more"),
        (
            {"hidden_size": 64, "head_dim": 12},
            r"model.embed_tokens.weight is of shape \(97, 48\): the configuration asks for \(97, 64\)",
        ),
        ({"vocab_size": 10**9}, "model.embed_tokens.weight is of shape"),
        ({"max_position_embeddings": 10**12}, "max_position_embeddings is 1000000000000"),
        ({"attention_bias": True}, "without model.layers.0.self_attn.k_proj.bias"),
    ],
)
def test_what_is_wrong_in_a_configuration_is_named(made, tmp_path, change, message):
    _, folder = made("llama")
    written = json.loads((folder / "config.json").read_text()) | change
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "config.json").write_text(json.dumps(written))
    with pytest.raises(ValueError, match=message):
        hub.load_model(tmp_path)


# --- tokenizers from elsewhere, and the journey on such a checkpoint ----------------------------------------


WORDS = [
    "Ada Moss is a baker.",
    "  two  spaces\nand lines",
    "Who was the mayor in 1926?",
    "naïve – 日本",
    "7+8=15",
] * 3


def byte_level():
    """GPT-2's kind: bytes as letters, one special token, the end of a text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    t = Tokenizer(models.BPE())
    t.pre_tokenizer, t.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    t.train_from_iterator(
        WORDS,
        trainers.BpeTrainer(
            vocab_size=330,
            special_tokens=["<|endoftext|>"],
            show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        ),
    )
    return t, 0


def sentence_piece():
    """Llama 2's kind: spaces as ▁, one put before every text,
    bytes where a letter is unknown; the end is id 2.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, trainers
    t = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    t.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    t.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    t.train_from_iterator(
        WORDS,
        trainers.BpeTrainer(
            vocab_size=340,
            special_tokens=["<unk>", "<s>", "</s>"] + [f"<0x{i:02X}>" for i in range(256)],
            show_progress=False,
        ),
    )
    return t, 2


@pytest.fixture(params=[byte_level, sentence_piece], ids=lambda f: f.__name__)
def foreign(request, tmp_path):
    """(folder, their tokenizer, its end): a checkpoint as others save it, its embedding padded to 350 ids,
    none of the course's marks.
    """
    t, end = request.param()
    config = transformers.LlamaConfig(
        **SIZE | dict(vocab_size=350, max_position_embeddings=256), bos_token_id=1, eos_token_id=[end, 5]
    )
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "theirs")
    t.save(str(tmp_path / "theirs" / "tokenizer.json"))
    return tmp_path / "theirs", t, end


def test_a_tokenizer_from_elsewhere(foreign):
    """The same ids as the library's, the same text back; the end
    is the configuration's; a prompt needs marks, and says so.
    """
    folder, theirs, end = foreign
    model, tokenizer = hub.load(folder)
    assert tokenizer.end == end and tokenizer.vocab_size == model.config.vocab_size == 350
    # The last is longer than the pieces in which our own texts are encoded.
    for text in WORDS + [" ".join(WORDS) * 300]:
        assert tokenizer.encode(text) == theirs.encode(text, add_special_tokens=False).ids
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert end not in tokenizer.encode("a text that spells <|endoftext|> and </s>")
    with pytest.raises(ValueError, match="call hub.add_marks"):
        tokenizer.prompt("who?")
    with pytest.raises(ValueError, match="call hub.add_marks"):
        tokenizer.response("Ada")


def test_marks_are_added_behind_the_ids(foreign, tmp_path):
    """Old ids keep their vectors and logits; new ones are near the mean; saved and loaded, all is as it was;
    a second call does nothing.
    """
    folder, theirs, end = foreign
    model, tokenizer = hub.load(folder)
    old, (plain, _) = theirs.get_vocab_size(), hub.load(folder)
    hub.add_marks(model, tokenizer)
    assert model.config.vocab_size == max(350, old + 8) == tokenizer.vocab_size
    assert torch.equal(model.embed.weight[:old], plain.embed.weight[:old])
    ids = torch.randint(old, (2, 9), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(model(ids)[..., :old], plain(ids)[..., :old])
    x, y = tokenizer.prompt("Who was the mayor in 1926?"), tokenizer.response("Ada Moss.", "7+8=15")
    assert min(x[0], x[-1], y[0]) >= old and y[-1] == end
    assert tokenizer.read_response(y) == ("Ada Moss.", "7+8=15", True)
    hub.save(model, tokenizer, tmp_path / "ours")
    again, same = hub.load(tmp_path / "ours")
    assert (same.prompt("Who?"), same.response("Ada", "b"), same.end) == (
        tokenizer.prompt("Who?"),
        tokenizer.response("Ada", "b"),
        end,
    )
    before = again.embed.weight
    hub.add_marks(again, same)
    assert again.embed.weight is before and torch.equal(before, model.embed.weight)
    with torch.no_grad():
        wanted = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours")(ids).logits
    torch.testing.assert_close(again(ids), wanted, atol=1e-5, rtol=0)


def test_a_journey_from_a_checkpoint_from_elsewhere(foreign, tmp_path, capsys, monkeypatch):
    """FROM=FOLDER: the later stages run, and what they leave is read by transformers and by the next journey.

    A model that knows nothing never ends an answer: few questions and few rows are asked of it.
    """
    from minillm.journey import stages
    from minillm.journey.__main__ import main
    from minillm.journey.quiz import Quiz, town_data
    from minillm.worlds.sums import Sums
    from test_pipeline import shrink
    whole, some = Quiz.__init__, Sums.questions
    monkeypatch.setattr(
        Quiz, "__init__", lambda self, training, held, *rest: whole(self, training[:200], held[::20], *rest)
    )
    monkeypatch.setattr(stages, "town_data", lambda texts, questions, rng: town_data(0, 200, rng))
    monkeypatch.setattr(Sums, "questions", lambda self, kind, n, *rest: some(self, kind, min(n, 20), *rest))
    monkeypatch.setitem(stages.SCALES, "cpu", replace(stages.SCALES["cpu"], draws=2, rounds=1, chains=1))
    monkeypatch.setattr(stages.chains, "held_out", lambda sums: sums.uneven(held=True)[::20])
    shrink(monkeypatch, every=12)
    for start in (foreign[0], tmp_path / "out" / "journey"):
        assert main(["--from", str(start), "--steps", "2", "--quiet", "--out", str(tmp_path / "out")]) == 0
        printed = capsys.readouterr().out
        assert "instruction tuning" in printed and "self-training" in printed
    model, _ = hub.load(tmp_path / "out" / "journey")
    wanted = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out" / "journey")
    torch.testing.assert_close(model(tokens(1, 9)), wanted(tokens(1, 9)).logits, atol=1e-5, rtol=0)
