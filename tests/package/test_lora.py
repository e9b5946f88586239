"""Low-rank adapters: what they compute, what they leave alone, that merging and switching off leave no trace,
and their files.

The comparison with the library that people use is in test_peers.py.
"""

from __future__ import annotations

import copy
import json
import math

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from conftest import Tiny, liven
from minillm import hub
from minillm.engine import folded
from minillm.hub.adapters import load_adapters, save_adapters
from minillm.engine.decoding import fits
from minillm.engine.products import Linear
from minillm.batch import batch_pairs
from minillm.logprob import answer_logprobs, logprobs
from minillm.adapt.lora import LoRA, adapters, adapters_off, add_lora, attach, merge, reference, remove
from minillm.methods import dpo, supervised
from minillm.adapt.quantize import NF4, quantize
from minillm.readable import readable_logits
from minillm.sample import sample
from minillm.train import Settings, train
from minillm.transformer import GPT2, LLAMA, MAPS, QWEN2, QWEN3, Config, Transformer

TOKENS = torch.tensor([[1, 2, 0, 4, 3, 1], [2, 4, 4, 1, 0, 2]])
SHAPE = {"vocab_size": 5, "d_model": 16, "d_ff": 24, "context": 16}


def base(seed=0, dtype=torch.float64, **shape):
    return Tiny(seed, dtype, **(SHAPE | shape))


def adapted(seed=0, dtype=torch.float64, **settings):
    """A model whose adapters have learned something: B is not 0."""
    model = add_lora(base(seed, dtype), **({"rank": 3, "scale": 1.5} | settings))
    return stir(model)


def stir(model, seed=7):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for part in adapters(model).values():
            part.B.copy_(0.3 * torch.randn(part.B.shape, generator=generator, dtype=torch.float64))
    return model


def close(a, b, atol=1e-12):
    torch.testing.assert_close(a, b, atol=atol, rtol=0)


# --- what is computed ---------------------------------------------------------------------------------------


def test_training_begins_at_the_model_itself():
    """B = 0, so every output is the base's bit for bit."""
    assert torch.equal(add_lora(base())(TOKENS), base()(TOKENS))


@pytest.mark.parametrize("rows", [1, 64])  # too few to fold W + s·BA, and enough
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("stored", [False, True])
def test_one_map_by_hand(rows, bias, stored):
    """x·Wᵀ + b + s·(x·Aᵀ)·Bᵀ, and the gradients of x, A, B and b: by the rule, spelled out, in both ways to
    compute it.
    """
    generator = torch.Generator().manual_seed(rows)
    draw = lambda *shape: torch.randn(*shape, dtype=torch.float64, generator=generator)  # noqa: E731
    plain = Linear(12, 20, bias=bias).double().requires_grad_(False)
    part = LoRA(NF4(plain) if stored else plain, draw(3, 12), draw(20, 3), 0.7)
    x, g = draw(2, rows, 12).requires_grad_(), draw(2, rows, 20)
    assert folded.fits(part, x) == (rows == 64)
    if bias:
        plain.bias.requires_grad_(True)
    W, A, B = part.base.weight, part.A.detach(), part.B.detach()
    wanted = x.detach() @ W.t() + 0.7 * x.detach() @ A.t() @ B.t() + (plain.bias.detach() if bias else 0)
    out = part(x)
    close(out.detach(), wanted)
    inputs = [x, part.A, part.B] + ([plain.bias] if bias else [])
    found = torch.autograd.grad((out * g).sum(), inputs)
    flat_x, flat_g = x.detach().flatten(0, 1), g.flatten(0, 1)
    by_hand = [
        g @ (W + 0.7 * B @ A),
        0.7 * B.t() @ flat_g.t() @ flat_x,
        0.7 * flat_g.t() @ flat_x @ A.t(),
        flat_g.sum(0),
    ]
    for a, b in zip(found, by_hand):
        close(a, b)


def test_second_derivatives():
    """A gradient of a gradient, of the folded product."""
    part = adapters(adapted())["blocks.0.up"]
    x = torch.randn(40, 16, dtype=torch.float64, requires_grad=True)
    assert folded.fits(part, x)
    assert torch.autograd.gradgradcheck(
        lambda x, A, B: folded._Folded.apply(x, A, B, None, part.base, 0.7), (x[:3], part.A, part.B)
    )


@pytest.mark.parametrize("family", [LLAMA, QWEN2, QWEN3, GPT2], ids=["llama", "qwen2", "qwen3", "gpt2"])
def test_every_reader_of_a_map_sees_the_adapter(family):
    """The fast path, the readable one, and each token drawn by the decoder's own copy: one distribution."""
    model = liven(
        Transformer(
            Config(n_layers=2, n_heads=2, n_kv_heads=2 if family is GPT2 else 1, family=family, **SHAPE)
        ).double()
    )
    before = model(TOKENS)
    stir(add_lora(model, 3, maps=[m for m in MAPS if m != "gate" or family is not GPT2]))
    assert (model(TOKENS) - before).abs().max() > 0.1
    close(model(TOKENS), readable_logits(model, TOKENS), 1e-10)
    assert fits(model)
    drawn = sample(model, [[1], [2, 3]], 8, n=4, end=None, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        close(logprobs(model, drawn), drawn.logprobs, 1e-10)


def test_over_few_bits_too():
    """The same over NF4: the copy that the decoder makes is of W + s·BA as it is unpacked."""
    model = stir(add_lora(quantize(base()), 3))
    assert fits(model) and all(isinstance(part.base, NF4) for part in adapters(model).values())
    close(model(TOKENS), readable_logits(model, TOKENS), 1e-10)
    drawn = sample(model, [[1], [2, 3]], 8, n=4, end=None, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        close(logprobs(model, drawn), drawn.logprobs, 1e-10)


def test_a_large_model_in_few_bits_is_not_copied_as_floats(monkeypatch):
    from minillm.engine import decoding as module

    model = quantize(base())
    monkeypatch.setattr(module, "LARGEST", sum(p.numel() for p in model.parameters()) + 1)
    assert not fits(model)


def test_dropout():
    """It falls on the adapter's input alone, in training, where a gradient is taken; what is drawn or scored
    without one has none of it.
    """
    model = adapted(dropout=0.5)
    still = model.eval()(TOKENS)
    model.train()
    torch.manual_seed(0)
    assert not torch.equal(model(TOKENS), model(TOKENS))
    with torch.no_grad():
        close(model(TOKENS), still)
    with adapters_off(model):
        assert torch.equal(model(TOKENS), base()(TOKENS))
    part = adapters(model)["blocks.1.down"]
    x = torch.randn(50, 24, dtype=torch.float64)
    torch.manual_seed(1)
    out = part(x)
    torch.manual_seed(1)
    close(out, F.linear(x, part.base.weight) + 1.5 * F.dropout(x, 0.5) @ part.A.t() @ part.B.t())


# --- what is trained ----------------------------------------------------------------------------------------


def test_only_the_adapters_learn():
    """r·(F + D) numbers a map, float by float; the base has no gradient and does not move."""
    model = adapted()
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert all(name.endswith((".A", ".B")) for name in trained)
    assert sum(p.numel() for p in trained.values()) == sum(
        3 * (m.in_features + m.out_features) for m in adapters(model).values()
    )
    model(TOKENS).square().sum().backward()
    assert all((p.grad is not None) == p.requires_grad for p in model.parameters())


@pytest.mark.parametrize(
    "maps, count",
    [
        (("q",), 2),
        (("q", "v"), 4),
        (("blocks.1.down",), 1),
        (("down", "blocks.0.attention.o", "down"), 3),
        (MAPS, 14),
    ],
    ids=str,
)
def test_any_subset_of_maps(maps, count):
    model = add_lora(base(), 2, maps=maps)
    assert len(adapters(model)) == count
    assert all(name.split(".")[-1] in {m.split(".")[-1] for m in maps} for name in adapters(model))


def test_the_first_weights():
    """A is uniform within ±1/√D whatever the rank (Kaiming's rule with a = √5, as PEFT draws it), B is 0, and
    the seed decides.
    """
    A = torch.cat(
        [
            part.A.detach().flatten() * math.sqrt(part.in_features)
            for part in adapters(add_lora(base(d_model=64, d_ff=64), 16)).values()
        ]
    )
    assert A.abs().max() <= 1 and abs(float(A.square().mean()) - 1 / 3) < 0.01
    one, two, other = (add_lora(base(), seed=s).state_dict() for s in (0, 0, 1))
    assert all(torch.equal(one[k], two[k]) for k in one) and any(
        not torch.equal(one[k], other[k]) for k in one if k.endswith(".A")
    )


def test_it_keeps_the_input_alone():
    """What the graph holds of a LoRA step: no copy of a weight, no h, and each map's input once, though three
    maps read it.
    """
    model = stir(add_lora(base(dtype=torch.float32, d_model=32, d_ff=48), 3))
    attention = model.blocks[0].attention
    x = torch.randn(4, 64, 32).requires_grad_()
    own = {p.untyped_storage().data_ptr() for p in model.parameters()} | {x.untyped_storage().data_ptr()}
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        for part in (attention.q, attention.k, attention.v):
            assert folded.fits(part, x)
            part(x)
    assert kept and all(t.untyped_storage().data_ptr() in own for t in kept)


def test_short_types():
    """A base in bfloat16 has its adapters in float32, and an update too small for bfloat16's steps still
    counts.
    """
    model = add_lora(base(dtype=torch.bfloat16), 2)
    part = adapters(model)["blocks.0.attention.q"]
    assert part.A.dtype == part.B.dtype == torch.float32 and part.base.weight.dtype == torch.bfloat16
    assert model(TOKENS).dtype == torch.bfloat16
    nn_ = LoRA(
        Linear(8, 8, bias=False).bfloat16().requires_grad_(False),
        torch.full((1, 8), 1e-3),
        torch.full((8, 1), 1e-3),
        1.0,
    )
    with torch.no_grad():
        nn_.base.weight.zero_()
        assert torch.equal(
            nn_(torch.ones(100, 8, dtype=torch.bfloat16)), torch.full((100, 8), 8e-6).bfloat16()
        )
        nn_.base.weight.fill_(1.0)
        assert torch.equal(nn_.weight, nn_.base.weight)  # as one matrix, it would be lost
    model = add_lora(base(dtype=torch.float32), 2).train()
    with torch.autocast("cpu", torch.bfloat16):
        out = model(TOKENS)
    assert out.dtype == torch.bfloat16
    out.float().sum().backward()
    assert adapters(model)["blocks.0.up"].B.grad.dtype == torch.float32


# --- off, merged, removed -----------------------------------------------------------------------------------


def test_off_it_is_the_base():
    """Bit for bit; on again afterwards, after an error too, and within another `adapters_off`."""
    model = adapted()
    on = model(TOKENS)
    with adapters_off(model):
        assert torch.equal(model(TOKENS), base()(TOKENS))
        with adapters_off(model):
            pass
        assert torch.equal(model(TOKENS), base()(TOKENS))
        drawn = sample(model, [[1]], 8, n=3, end=None, generator=torch.Generator().manual_seed(0))
    again = sample(base(), [[1]], 8, n=3, end=None, generator=torch.Generator().manual_seed(0))
    assert torch.equal(drawn.tokens, again.tokens) and torch.equal(drawn.logprobs, again.logprobs)
    assert torch.equal(model(TOKENS), on)
    with pytest.raises(ZeroDivisionError), adapters_off(model):
        1 / 0
    assert torch.equal(model(TOKENS), on)


def test_off_it_is_the_reference_of_dpo():
    """F and the gradient of DPO with the reference scored by the adapters' own base equal those with a second
    copy.
    """
    model, second = adapted(), base()
    batch = batch_pairs([([1], [2, 3, 0]), ([2, 1], [4, 0]), ([1], [3, 0]), ([2, 1], [1, 1, 0])])
    logp = logprobs(model, batch)
    with torch.no_grad():
        with adapters_off(model):
            mine = answer_logprobs(logprobs(model, batch), batch.response_mask)
        view = answer_logprobs(logprobs(reference(model), batch), batch.response_mask)
        theirs = answer_logprobs(logprobs(second, batch), batch.response_mask)
    assert (
        torch.equal(mine, theirs)
        and torch.equal(view, theirs)
        and all(part.on for part in adapters(model).values())
    )
    batch.reference = mine
    by_its_base = dpo.coefficient(batch, logp, 0.5)
    batch.reference = theirs
    assert torch.equal(by_its_base, dpo.coefficient(batch, logp, 0.5))


@pytest.mark.parametrize("dtype, atol", [(torch.float64, 1e-13), (torch.float32, 1e-6)])
def test_merged_it_leaves_no_trace(dtype, atol):
    """The same outputs, of a model with the base's own modules, names and trainable weights: whatever is fast
    or slow there is so here.
    """
    model = adapted(dtype=dtype)
    before, plain = model(TOKENS), base(dtype=dtype)
    scale = float(before.detach().abs().max())
    assert merge(model) is model and not adapters(model)
    close(model(TOKENS), before, atol * scale)
    assert [(n, type(m), m.training) for n, m in model.named_modules()] == [
        (n, type(m), m.training) for n, m in plain.named_modules()
    ]
    assert list(model.state_dict()) == list(plain.state_dict())
    assert all(p.requires_grad and type(p) is torch.nn.Parameter for p in model.parameters())


def test_a_merge_that_would_not_be_finite_is_refused_and_changes_nothing():
    """The last map's scale overflows: no map is merged, and the model is bit for bit the one before."""
    model = add_lora(base())
    before, parts = model(TOKENS), adapters(model)
    last = list(parts.values())[-1]
    with torch.no_grad():
        last.B.fill_(1e200)
        last.A.fill_(1e200)
    with pytest.raises(ValueError, match=r"W \+ scale·BA is not finite: look at the adapter's numbers"):
        merge(model)
    with torch.no_grad():
        last.B.zero_()
    assert list(adapters(model)) == list(parts) and torch.equal(model(TOKENS), before)


def test_merged_from_few_bits_it_is_plain():
    model = stir(add_lora(quantize(base(), maps=("q", "up")), 2, maps=("q", "o")))
    before = model(TOKENS)
    close(merge(model)(TOKENS), before)
    kinds = {
        name: type(part)
        for name, part in model.named_modules()
        if name in ("blocks.0.attention.q", "blocks.0.attention.o", "blocks.0.up")
    }
    assert kinds == {"blocks.0.attention.q": Linear, "blocks.0.attention.o": Linear, "blocks.0.up": NF4}


def test_removed_it_is_the_base():
    model = remove(adapted())
    assert (
        not adapters(model)
        and torch.equal(model(TOKENS), base()(TOKENS))
        and all(p.requires_grad for p in model.parameters())
    )


def test_copies_and_other_types():
    """A deep copy has adapters of its own; .float() and back goes through all of it."""
    model = adapted()
    other = copy.deepcopy(model)
    with torch.no_grad():
        adapters(other)["blocks.0.up"].B.zero_()
    assert not torch.equal(model(TOKENS), other(TOKENS))
    close(model.float()(TOKENS).double(), adapted()(TOKENS), 1e-3)


# --- with the loop ------------------------------------------------------------------------------------------


def learn(model, folder=None, stop=None, steps=6):
    def draw(step):
        if step == stop:
            raise KeyboardInterrupt
        return batch_pairs([([1, 2], [3, 3, 0]), ([2], [4, 0])])

    return train(
        model,
        draw,
        supervised.coefficient,
        Settings(steps, lr=0.02, muon_lr=0.0, save_every=2),
        progress=False,
        folder=folder,
    )


@pytest.mark.parametrize("stored", [False, True])
def test_a_run_that_was_stopped_goes_on(tmp_path, stored):
    """The loop trains the adapters alone, over floats and over few bits; a stopped run ends bit for bit as
    one that was not.
    """
    make = lambda: add_lora(quantize(base()) if stored else base(), 3, dropout=0.1)  # noqa: E731
    torch.manual_seed(3)
    unbroken = make()
    rows = learn(unbroken)
    assert rows[-1]["nll"] < 0.9 * rows[0]["nll"]
    torch.manual_seed(3)
    with pytest.raises(KeyboardInterrupt):
        learn(make(), tmp_path, stop=3)
    torch.manual_seed(5)
    again = make()
    learn(again, tmp_path)
    a, b = unbroken.state_dict(), again.state_dict()
    assert list(a) == list(b) and all(torch.equal(a[k], b[k]) for k in a)
    with adapters_off(again):
        assert torch.equal(again(TOKENS), (quantize(base()) if stored else base())(TOKENS))


# --- files --------------------------------------------------------------------------------------------------


def family_model(family, seed=0):
    return liven(
        Transformer(
            Config(n_layers=2, n_heads=2, n_kv_heads=2 if family is GPT2 else 1, family=family, **SHAPE), seed
        ).double(),
        seed,
    )


@pytest.mark.parametrize(
    "family, maps",
    [
        (LLAMA, MAPS),
        (LLAMA, ("q", "blocks.1.down")),
        (QWEN3, ("k", "gate")),
        (GPT2, ("q", "v", "o", "up")),
        (GPT2, ("down",)),
    ],
    ids=["llama", "some", "qwen3", "gpt2", "gpt2 down"],
)
def test_files_go_round(tmp_path, family, maps):
    """Adapters alone, in a few kB: read into a fresh base they give the same outputs; the base is not in the
    file.
    """
    model = stir(add_lora(family_model(family), 2, 3.0, maps, dropout=0.1)).eval()
    save_adapters(model, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    assert all(
        name.startswith("base_model.model.") and name.endswith((".lora_A.weight", ".lora_B.weight"))
        for name in tensors
    )
    again = load_adapters(family_model(family).eval(), tmp_path)
    close(again(TOKENS), model(TOKENS))
    assert all(part.dropout == 0.1 for part in adapters(again).values())
    assert [n for n, p in again.named_parameters() if p.requires_grad] == [
        f"{n}.{k}" for n in adapters(again) for k in "AB"
    ]
    if family is LLAMA and maps is MAPS:
        assert "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight" in tensors
        config = json.loads((tmp_path / "adapter_config.json").read_text())
        assert config["r"] == 2 and config["lora_alpha"] == 6.0
        assert set(config["target_modules"]) == {
            "q_proj",
            "k_proj",
            "v_proj",
            "o_proj",
            "gate_proj",
            "up_proj",
            "down_proj",
        }


def test_maps_of_several_ranks_and_scales(tmp_path):
    model = base()
    g = torch.Generator().manual_seed(0)
    shapes = {"blocks.0.attention.q": (2, 0.5), "blocks.1.attention.q": (4, 0.5), "blocks.0.up": (2, 3.0)}
    attach(
        model,
        {
            n: (
                torch.randn(r, 16, generator=g),
                torch.randn(model.get_submodule(n).out_features, r, generator=g),
                s,
            )
            for n, (r, s) in shapes.items()
        },
    )
    save_adapters(model, tmp_path)
    again = load_adapters(base(), tmp_path)
    assert {n: (len(part.A), part.scale) for n, part in adapters(again).items()} == shapes
    close(again(TOKENS), model(TOKENS))


def test_a_base_in_few_bits_takes_the_same_adapters(tmp_path):
    """Trained over NF4, used over floats, or the other way round: it is the same base."""
    save_adapters(adapted(), tmp_path)
    assert load_adapters(quantize(base()), tmp_path)(TOKENS).isfinite().all()
    assert load_adapters(base(dtype=torch.bfloat16), tmp_path)(TOKENS).isfinite().all()


def edit(folder, **changes):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def rewrite(folder, change):
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


ONE = "base_model.model.model.layers.0.self_attn.q_proj"
DAMAGES = [
    (
        "cut short",
        lambda d: (d / "adapter_model.safetensors").write_bytes(
            (d / "adapter_model.safetensors").read_bytes()[:90]
        ),
        "is damaged or cut short",
    ),
    ("no JSON", lambda d: (d / "adapter_config.json").write_text("{"), "is not JSON"),
    ("another method", lambda d: edit(d, peft_type="IA3"), "peft_type is 'IA3': this package reads LORA"),
    ("DoRA", lambda d: edit(d, use_dora=True), "use_dora is True: this package has plain LoRA alone"),
    ("biases", lambda d: edit(d, bias="all"), "bias is 'all': this package reads \"none\""),
    ("heads", lambda d: edit(d, modules_to_save=["lm_head"]), "modules_to_save is "),
    ("a first base of its own", lambda d: edit(d, init_lora_weights="pissa"), "init_lora_weights is 'pissa'"),
    (
        "half of the layers",
        lambda d: rewrite(d, lambda t: [t.pop(n) for n in list(t) if "layers.1" in n]),
        "without an adapter of model.layers.1.self_attn.q_proj.* and 4 more: target_modules and layers_to",
    ),
    ("targets of nothing", lambda d: edit(d, target_modules=["x"]), r"target_modules is naming \['x'\]"),
    ("a target fewer", lambda d: edit(d, target_modules=["q_proj"]), "with an adapter of .*: target_modules"),
    ("one layer", lambda d: edit(d, layers_to_transform=[0]), "with an adapter of model.layers.1"),
    ("truth by a word", lambda d: edit(d, use_rslora="false"), "use_rslora is 'false': give true or false"),
    ("an alpha of one map", lambda d: edit(d, alpha_pattern={"q_proj": math.nan}), "pattern: q_proj is nan"),
    ("no alpha", lambda d: edit(d, lora_alpha=None), "lora_alpha is missing: give a number from"),
    (
        "a rank that is not the file's",
        lambda d: edit(d, r=5),
        "proj is of rank 3: adapter_config.json says another",
    ),
    (
        "a pattern that is no name",
        lambda d: edit(d, alpha_pattern={"q.*": 3}),
        r"alpha_pattern is with \['q\.\*'\]",
    ),
    ("dropout", lambda d: edit(d, lora_dropout=1.5), "lora_dropout is 1.5"),
    (
        "a NaN",
        lambda d: rewrite(d, lambda t: t[f"{ONE}.lora_A.weight"].view(-1)[:1].fill_(math.nan)),
        "q_proj is not made of finite numbers",
    ),
    (
        "half of one",
        lambda d: rewrite(d, lambda t: t.pop(f"{ONE}.lora_B.weight")),
        "with one half of the adapter of .*q_proj: give lora_A and lora_B",
    ),
    ("none", lambda d: rewrite(d, lambda t: t.clear()), "is empty: give adapters"),
    (
        "of an embedding",
        lambda d: rewrite(
            d, lambda t: t.update({"base_model.model.model.embed_tokens.lora_embedding_A": torch.zeros(2, 2)})
        ),
        "lora_embedding_A: this package reads lora_A and lora_B",
    ),
    (
        "a layer too many",
        lambda d: rewrite(
            d, lambda t: t.update({f"{ONE.replace('0', '7')}.lora_A.weight": torch.zeros(2, 16)})
        ),
        "with an adapter of model.layers.7.self_attn.q_proj: this model has maps such as",
    ),
    (
        "integers",
        lambda d: rewrite(
            d, lambda t: t.update({f"{ONE}.lora_A.weight": torch.zeros(3, 16, dtype=torch.long)})
        ),
        "not made of finite numbers",
    ),
]


@pytest.mark.parametrize("what, damage, message", DAMAGES, ids=[d[0] for d in DAMAGES])
def test_a_file_that_is_not_right_is_refused(tmp_path, what, damage, message):
    save_adapters(adapted(), tmp_path)
    damage(tmp_path)
    model = base()
    with pytest.raises(ValueError, match=message) as error:
        load_adapters(model, tmp_path)
    assert (
        "\n" not in str(error.value)
        and not adapters(model)
        and all(p.requires_grad for p in model.parameters())
    )


@pytest.mark.parametrize(
    "other, message",
    [
        (lambda: base(d_model=8), r"of shapes \(3, 24\) and \(16, 3\): this model asks for \(r, 24\)"),
        (lambda: family_model(GPT2), "load the base that it was made for"),
        (lambda: base(seed=1), "made for another base: load the model whose adapters these are"),
        (lambda: adapted(), "one that has adapters already"),
    ],
    ids=["another shape", "another family", "other weights", "one with adapters"],
)
def test_adapters_of_another_base_are_refused(tmp_path, other, message):
    save_adapters(adapted(), tmp_path)
    with pytest.raises(ValueError, match=message):
        load_adapters(other(), tmp_path)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(
        FileNotFoundError,
        match="adapter_config.json is not there: name a folder that save_adapters, or PEFT, wrote",
    ):
        load_adapters(base(), tmp_path)
    save_adapters(adapted(), tmp_path)
    (tmp_path / "adapter_model.safetensors").rename(tmp_path / "adapter_model.bin")
    with pytest.raises(FileNotFoundError, match="adapter_model.bin is a pickle, which can run code"):
        load_adapters(base(), tmp_path)


@pytest.mark.parametrize("make", [adapted, lambda: quantize(base())])
def test_a_whole_model_is_not_written_without_its_adapters(tmp_path, make):
    with pytest.raises(ValueError, match="model is without blocks.0.attention.q.weight: merge its adapters"):
        hub.save(make(), None, tmp_path)


def test_adapters_that_are_no_numbers_are_not_written(tmp_path):
    model = adapted()
    with torch.no_grad():
        adapters(model)["blocks.0.up"].B[0, 0] = math.nan
    with pytest.raises(ValueError, match="up_proj.lora_B.weight is not made of finite numbers"):
        save_adapters(model, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    for call in (save_adapters, load_adapters):
        with pytest.raises(ValueError, match="folder is ''"):
            call(adapted(), "")
