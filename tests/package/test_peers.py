"""DPO, IPO, KTO, the reward model and GRPO beside trl's trainers: the same log-probs in, the same loss and
gradient out; LoRA beside peft.

trl is no part of the course's environment (it is for benchmarks), so these tests
are left out where it is not installed. Each trainer's own method computes the
loss, on a stand-in for `self` that holds its settings. Written for trl 1.16.
"""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace

import pytest
import torch

from conftest import Tiny, liven
from minillm import hub, returns
from minillm.hub.adapters import load_adapters, save_adapters
from minillm.identity import surrogate
from minillm.batch import batch_pairs
from minillm.logprob import answer_logprobs
from minillm.adapt.lora import adapters, add_lora, merge
from minillm.methods import dpo, grpo, ipo, kto, reward_model
from minillm.adapt.quantize import LEVELS, from_nf4, to_nf4
from minillm.transformer import GPT2, LLAMA, MAPS, QWEN3, Config, Transformer

trl = pytest.importorskip("trl", reason="trl is not installed here; it is only compared with")

BETA = 0.3
PAIRS = [
    ([1, 2], [3, 0]),
    ([4, 1], [5, 5, 5, 0]),
    ([2, 2], [0]),
    ([3, 1], [6, 6, 0]),
    ([1, 1], [4, 0]),
    ([2, 5], [7, 7, 7, 7]),
]


def random(*shape, seed):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def leaf(batch, seed):
    """Log-probs (B, T) of any size, 0 off the response, to be given to both."""
    return (-random(*batch.tokens.shape, seed=seed).abs()).where(batch.response_mask, 0.0).requires_grad_()


def trainer(**settings):
    """What a trainer's loss reads of `self`: its settings, one process, a place for metrics."""
    same = lambda x, **_: x  # noqa: E731
    accelerator = SimpleNamespace(
        device=torch.device("cpu"), gather=same, gather_for_metrics=same, reduce=same, num_processes=1
    )
    return SimpleNamespace(
        model=SimpleNamespace(training=True),
        accelerator=accelerator,
        _metrics={"train": defaultdict(list)},
        aux_loss_enabled=False,
        precompute_ref_logps=True,
        current_gradient_accumulation_steps=1,
        _total_train_tokens=0,
        _tp_size=1,
        beta=BETA,
        **settings,
    )


def scored(logp, labels):
    """What trl's fused head would return: log-probs of tokens 1 … T − 1, 0 where trl's labels are −100."""
    nothing = torch.zeros_like(logp[:, 1:])
    return SimpleNamespace(
        log_probs=logp[:, 1:].where(labels[:, 1:] != -100, 0.0),
        entropy=nothing,
        mean_logits=nothing,
        is_top1=nothing.bool(),
    )


def gradients(their_loss, logp, F, mask, pairs):
    """(theirs, ours): the gradient of their scalar, and of −surrogate of our F, in the log-probs."""
    theirs = torch.autograd.grad(their_loss, logp, retain_graph=True)[0]
    return theirs, torch.autograd.grad(-surrogate(F, logp, mask, pairs), logp)[0]


def same(a, b):
    return torch.allclose(a, b, rtol=1e-10, atol=1e-12)


# --- DPO and IPO --------------------------------------------------------------------------------------------


def trl_dpo(batch, logp, reference, kind):
    inputs = {
        "input_ids": batch.tokens,
        "attention_mask": torch.ones_like(batch.tokens),
        "completion_mask": batch.response_mask.long(),
        "ref_chosen_logps": reference[:3],
        "ref_rejected_logps": reference[3:],
    }
    me = trainer(
        ld_alpha=None,
        f_divergence_type="reverse_kl",
        loss_types=[kind],
        loss_weights=[1.0],
        label_smoothing=0.0,
        use_weighting=False,
    )
    return trl.DPOTrainer._compute_loss(me, lambda labels, **_: scored(logp, labels), inputs, False)


@pytest.mark.parametrize(
    "kind, method, average", [("sigmoid", dpo, False), ("sigmoid_norm", dpo, True), ("ipo", ipo, True)]
)
def test_dpo_and_ipo(kind, method, average):
    """trl's "sigmoid" is the paper's DPO. Its "ipo" takes the mean over tokens where the paper's eq.

    17 sums: here average=True.
    """
    batch, reference = batch_pairs(PAIRS), -random(6, seed=2).abs()
    logp = leaf(batch, 1)
    theirs = trl_dpo(batch, logp, reference, kind)
    batch.reference = reference
    h, _ = returns.margin(batch, logp, average)
    assert same(theirs, method.loss(h, BETA).mean())
    F = method.coefficient(batch, logp.detach(), beta=BETA, average=average)
    assert same(*gradients(theirs, logp, F, batch.response_mask, 3))
    if kind == "ipo":
        summed = ipo.coefficient(batch, logp.detach(), BETA)
        a, b = gradients(theirs, logp, summed, batch.response_mask, 3)
        assert not same(a, b)


def test_smoothing_is_trls_loss_on_labels_some_of_which_are_turned():
    """(1 − ε)·L(w, l) + ε·L(l, w). trl's "sigmoid" itself has left smoothing out."""
    batch, reference = batch_pairs(PAIRS), -random(6, seed=2).abs()
    logp = leaf(batch, 1)
    turned = batch_pairs(PAIRS[3:] + PAIRS[:3])
    theirs = 0.9 * trl_dpo(batch, logp, reference, "sigmoid") + 0.1 * trl_dpo(
        turned, logp.roll(3, 0), reference.roll(3), "sigmoid"
    )
    batch.reference = reference
    h, _ = returns.margin(batch, logp)
    assert same(theirs, dpo.loss(h, BETA, smoothing=0.1).mean())
    F = dpo.coefficient(batch, logp.detach(), BETA, 0.1)
    assert same(*gradients(theirs, logp, F, batch.response_mask, 3))


# --- KTO ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lift", [-5.0, 5.0])
def test_kto(lift):
    """As the paper: z from prompts with the next answer, cut at 0 (lift −5) or not (lift 5), no gradient;
    weights for either thumb.
    """
    thumbs = [True, False, True, True, False, True]
    batch = kto.draw([(x, y, up) for (x, y), up in zip(PAIRS, thumbs)])
    logp = leaf(batch, 3)
    reference = answer_logprobs(logp, batch.response_mask).detach() + random(12, seed=4) - lift
    me = trainer(calculate_KL=True, loss_type="kto", desirable_weight=1.5, undesirable_weight=0.5)
    me._compute_kl_logps = lambda model, inputs: trl.KTOTrainer._compute_kl_logps(me, model, inputs)

    def model(input_ids, labels, **_):
        return scored(logp[:6] if torch.equal(input_ids, batch.tokens[:6]) else logp[6:], labels)

    ones, mask = torch.ones_like(batch.tokens[:6]), batch.response_mask.long()
    inputs = {
        "input_ids": batch.tokens[:6],
        "attention_mask": ones,
        "completion_mask": mask[:6],
        "label": torch.tensor(thumbs),
        "KL_input_ids": batch.tokens[6:],
        "KL_attention_mask": ones,
        "KL_completion_mask": mask[6:],
        "ref_logps": reference[:6],
        "ref_KL_logps": reference[6:],
    }
    theirs = trl.KTOTrainer._compute_loss(me, model, inputs, False)
    z = me._metrics["train"]["kl"][0]
    assert z > 4 if lift > 0 else z == 0
    settings = {"beta": BETA, "up": 1.5, "down": 0.5}
    batch.reference = reference
    r, point = kto.ratio_and_point(batch, logp)
    assert same(theirs, kto.loss(r, point, batch.thumbs, **settings).mean())
    F = kto.coefficient(batch, logp.detach(), **settings)
    assert same(*gradients(theirs, logp, F, batch.response_mask, 6))


# --- the reward model ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("margins", [False, True])
def test_reward_model(margins):
    """Pairs, with a margin or without. trl has no rankings of K: each of its pairs counts alike."""
    r, m = random(6, seed=5).requires_grad_(), random(3, seed=6).abs()
    me = trainer(args=SimpleNamespace(center_rewards_coefficient=None))
    inputs = {"attention_mask": torch.ones(6, 4, dtype=torch.long)} | ({"margin": m} if margins else {})
    theirs = trl.RewardTrainer.compute_loss(me, lambda **_: SimpleNamespace(logits=r[:, None]), inputs)
    batch = batch_pairs(PAIRS)
    batch.better, batch.worse = torch.arange(3), torch.arange(3, 6)
    batch.weight, margin = torch.ones(3, dtype=torch.float64), m if margins else 0.0
    assert same(theirs, reward_model.loss(reward_model.gaps(batch, r, margin)).mean())
    F = reward_model.coefficient(batch, r.detach(), margin)
    assert same(torch.autograd.grad(theirs, r)[0], -F / 3)


# --- GRPO and RLOO ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["grpo", "dr_grpo", "dapo"])
@pytest.mark.parametrize("beta", [0.0, 0.2])
def test_grpo(kind, beta):
    """Two groups of three, ratios beyond both clips, an upper clip
    of its own. trl's "grpo" has the paper's 1/|y|, the others don't.
    """
    batch = batch_pairs(PAIRS)
    mask, logp = batch.response_mask, leaf(batch, 7)
    old = (logp.detach() + random(*mask.shape, seed=8)).where(mask, 0.0)
    reference = (logp.detach() + random(*mask.shape, seed=9)).where(mask, 0.0)
    A = grpo.advantages(random(6, seed=10), torch.tensor([0, 0, 0, 1, 1, 1]))
    me = trainer(
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        importance_sampling_level="token",
        loss_type=kind,
        epsilon_low=0.2,
        epsilon_high=0.3,
        use_vllm=False,
        max_completion_length=10,
        _entropy_bonus_enabled=False,
        args=SimpleNamespace(use_bias_correction_kl=False, delta=None, steps_per_generation=1),
    )
    me.beta = beta
    nothing = torch.zeros_like(logp[:, 2:])
    me._get_per_token_logps_and_entropies = lambda *_, **__: (logp[:, 2:], nothing, None)
    inputs = {"prompt_ids": batch.tokens[:, :2], "prompt_mask": torch.ones(6, 2, dtype=torch.long),
              "completion_ids": batch.tokens[:, 2:],
              "completion_mask": mask[:, 2:].long(), "advantages": A, "old_per_token_logps": old[:, 2:],
              "ref_per_token_logps": reference[:, 2:], "num_items_in_batch": mask.sum()}
    theirs = trl.GRPOTrainer._compute_loss(me, None, inputs)
    pairs = {"grpo": 6, "dr_grpo": 6 * 10, "dapo": int(mask.sum())}[kind]
    batch.logprobs, batch.advantages, batch.reference = old, A, reference
    ratio, log_ratio = returns.log_ratio(logp, old, mask).exp(), returns.log_ratio(logp, reference, mask)
    losses = grpo.loss(ratio, A[:, None], clip_high=0.3, beta=beta, log_ratio=log_ratio).where(mask, 0.0)
    size = mask.sum(1, keepdim=True) if kind == "grpo" else 1
    assert same(theirs, (losses / size).sum() / pairs)
    how = {"clip_high": 0.3, "beta": beta, "average": "answer" if kind == "grpo" else None}
    F = grpo.coefficient(batch, logp.detach(), **how)
    assert same(*gradients(theirs, logp, F, mask, pairs))
    ratio = returns.log_ratio(logp.detach(), old, mask).exp()
    assert ((ratio > 1.3) & (A[:, None] > 0) & mask).any() and ((ratio < 0.8) & (A[:, None] < 0) & mask).any()


def test_rloo_on_fresh_samples():
    """trl's ratio is the whole answer's; where the answers are
    fresh it is 1, and F is R less the others' mean on every token.
    """
    batch = batch_pairs(PAIRS)
    mask, logp = batch.response_mask, leaf(batch, 7)
    A = grpo.advantages(
        random(6, seed=10), torch.tensor([0, 0, 0, 1, 1, 1]), divide=False, leave_one_out=True
    )
    me = trainer(epsilon_low=0.2, epsilon_high=0.2)
    me._get_per_token_logps_and_entropies = lambda *_, **__: (
        logp[:, 2:],
        torch.zeros_like(logp[:, 2:]),
        None,
    )
    inputs = {
        "prompt_ids": batch.tokens[:, :2],
        "prompt_mask": torch.ones(6, 2, dtype=torch.long),
        "completion_ids": batch.tokens[:, 2:],
        "completion_mask": mask[:, 2:].long(),
        "advantages": A,
        "old_logps": logp.detach().sum(1),
    }
    theirs = trl.RLOOTrainer._compute_loss(me, None, inputs)
    batch.logprobs, batch.advantages = logp.detach(), A
    F = grpo.coefficient(batch, logp.detach(), clip=torch.inf, average=None)
    assert same(*gradients(theirs, logp, F, mask, 6))


# --- LoRA and NF4 -------------------------------------------------------------------------------------------


def worked(model, seed=11):
    """The adapters of ours or of peft's, B drawn so that they matter."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            if name.endswith((".B", "lora_B.default.weight")):
                p.copy_(
                    0.2
                    * torch.randn(
                        p.shape,
                        dtype=torch.float64,
                        generator=torch.Generator().manual_seed(seed + p.numel()),
                    )
                )
    return model


@pytest.mark.parametrize(
    "maps, dropout", [(MAPS, 0.0), (("q", "v"), 0.0), (MAPS, 0.3)], ids=["all", "q and v", "dropout"]
)
def test_lora_on_our_own_model(maps, dropout):
    """peft's layers around our model's maps, with our first weights: the same outputs and gradients, to
    1e-12, dropout's draws too.
    """
    peft = pytest.importorskip("peft", reason="peft is not installed here; it is only compared with")
    shape = {"vocab_size": 40, "d_model": 32, "d_ff": 48, "context": 32}
    ours, theirs = worked(add_lora(Tiny(**shape), 4, 1.5, maps, dropout)), Tiny(**shape)
    peft.inject_adapter_in_model(
        peft.LoraConfig(r=4, lora_alpha=6, target_modules=list(maps), lora_dropout=dropout), theirs
    )
    own = dict(ours.named_parameters())
    with torch.no_grad():
        for name, p in theirs.named_parameters():
            if ".lora_" in name:
                p.copy_(
                    own[name.replace(".lora_A.default.weight", ".A").replace(".lora_B.default.weight", ".B")]
                )
    tokens = torch.randint(0, 40, (4, 30), generator=torch.Generator().manual_seed(0))
    gradient = {}
    for name, model in (("ours", ours), ("theirs", theirs.double().train())):
        torch.manual_seed(3)
        out = model(tokens)
        out.sin().sum().backward()
        gradient[name] = (out.detach(), [p.grad for p in model.parameters() if p.grad is not None])
    assert len(gradient["ours"][1]) == len(gradient["theirs"][1]) == 2 * len(adapters(ours))
    for a, b in zip(
        *(torch.cat([out.flatten(), *(g.flatten() for g in grads)]) for out, grads in gradient.values())
    ):
        assert abs(a - b) <= 1e-12 * max(1, abs(b))


@pytest.mark.parametrize(
    "family, maps",
    [(LLAMA, MAPS), (QWEN3, ("q", "blocks.1.down")), (GPT2, ("q", "k", "v", "o", "up", "down"))],
    ids=["llama", "qwen3", "gpt2"],
)
def test_loras_files_and_merging(tmp_path, family, maps):
    """What we write peft reads onto transformers' model, and what peft writes we read; the outputs are the
    same, and merged as well.

    To 1e-6 of the largest logit: transformers keeps its table of rotations in float32.
    """
    peft = pytest.importorskip("peft", reason="peft is not installed here; it is only compared with")
    transformers = pytest.importorskip("transformers")
    config = Config(
        vocab_size=40,
        d_model=32,
        n_layers=2,
        n_heads=4,
        n_kv_heads=4 if family is GPT2 else 2,
        d_ff=48,
        context=32,
        family=family,
    )
    tokens = torch.randint(0, 40, (4, 30), generator=torch.Generator().manual_seed(0))
    base = liven(Transformer(config).double())
    hub.save(base, None, tmp_path / "base")
    ours = worked(add_lora(base, 4, 1.5, maps))
    save_adapters(ours, tmp_path / "ours")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.float64)
    theirs = peft.PeftModel.from_pretrained(theirs, tmp_path / "ours", autocast_adapter_dtype=False).eval()
    wanted = ours(tokens)
    atol = 1e-6 * float(wanted.detach().abs().max())
    torch.testing.assert_close(theirs(tokens).logits, wanted, atol=atol, rtol=0)
    theirs.save_pretrained(tmp_path / "theirs")
    again = load_adapters(hub.load_model(tmp_path / "base", dtype=torch.float64), tmp_path / "theirs")
    torch.testing.assert_close(again(tokens), wanted, atol=1e-12, rtol=0)
    torch.testing.assert_close(merge(again)(tokens), wanted, atol=1e-12, rtol=0)
    torch.testing.assert_close(theirs.merge_and_unload()(tokens).logits, wanted, atol=atol, rtol=0)


def test_nf4s_codes(seed=0):
    """bitsandbytes packs the same bytes, where it runs on this
    machine's processor; scales without the second quantisation, too.
    """
    functional = pytest.importorskip(
        "bitsandbytes.functional", reason="bitsandbytes is not installed here; it is only compared with"
    )
    for shape in ((96, 128), (352, 128), (64, 64)):
        w = 0.05 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
        packed, state = functional.quantize_4bit(w, quant_type="nf4", blocksize=64)
        codes, scales, outer = to_nf4(w)
        assert torch.equal(packed.flatten(), codes) and state.code.tolist() == list(LEVELS)
        once, twice = functional.dequantize_4bit(packed, state), from_nf4(codes, scales, outer, shape)
        assert float((once - twice).norm() / once.norm()) < 0.01  # float8 for its own table of 8 bits
