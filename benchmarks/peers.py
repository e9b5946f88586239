"""trl's trainers and peft as a fair peer: all but training switched off, and a clock around their steps.

trl reads text, so a tokenizer whose words are ids is made for it: both sides see the same tokens. GRPO
and DPO are written for trl 1.16, PPO for trl 1.12, the last version that has it; that one lies in a
folder of its own, see `trl_with_ppo`.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import torch

from minillm import hub
from minillm.transformer import Transformer

from .pairs import need_transformers

ROOT = Path(__file__).resolve().parents[1]
PPO_FOLDER = ROOT / "build" / "trl-1.12"
# Words w0 … w511; beyond them a padding and, where answers are never to end, an end that no model can write.
V = 512


def need_trl():
    """The module `trl`, or an ImportError that says how to get it. What it caches goes to build/."""
    need_transformers()
    os.environ.setdefault("HF_DATASETS_CACHE", str(ROOT / "build" / "bench" / "datasets"))
    os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    try:
        import datasets
        import trl
    except ImportError as error:
        raise ImportError(f"{error.name} is not installed: {sys.executable} -m pip install "
                          "--requirement benchmarks/requirements.txt") from None
    datasets.disable_progress_bars()
    return trl


def ppo_folder() -> Path:
    """Where trl 1.12 lies: build/trl-1.12, or $TRL_WITH_PPO. ImportError where it does not."""
    folder = Path(os.environ.get("TRL_WITH_PPO", PPO_FOLDER))
    if not (folder / "trl" / "experimental" / "ppo").is_dir():
        raise ImportError(f"trl 1.12 is not in {folder}: {sys.executable} -m pip install --no-deps "
                          f"--target {PPO_FOLDER} trl==1.12.0")
    return folder


def version_of(package: str) -> str:
    """The installed version of a peer."""
    return version(package)


def words(ids: list[int]) -> str:
    """Ids as the text that `tokenizer` reads back."""
    return " ".join(f"w{i}" for i in ids)


def tokenizer(end: int):
    """A tokenizer of words that are ids.

    end: the id of its end token, 0, or V + 1 for one that is never written.
    """
    transformers = need_transformers()
    from tokenizers import Tokenizer, models, pre_tokenizers
    vocabulary = {f"w{i}": i for i in range(V)} | {"<pad>": V, "<end>": V + 1}
    inner = Tokenizer(models.WordLevel(vocabulary, "w0"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", eos_token="<end>" if end > V else f"w{end}",
        padding_side="left")


def saved(model: Transformer, folder: str, kind: str = "LlamaForCausalLM", **how):
    """transformers' model of a kind with our weights, which never ends an answer by itself."""
    transformers = need_transformers()
    hub.save(model, None, folder)
    theirs = getattr(transformers, kind).from_pretrained(
        folder, attn_implementation="sdpa", dtype=torch.float32, **how)
    if theirs.can_generate():
        theirs.generation_config.eos_token_id = None
    return theirs


def same(bf16: bool, lr: float) -> dict:
    """The arguments that make a trainer's step ours:
    AdamW with our betas, one rate, gradients cut to norm 1, no log, no file, no recomputing."""
    return {"output_dir": str(ROOT / "build" / "bench" / "trl"),
            "use_cpu": not torch.cuda.is_available(),
            "bf16": bf16,
            "report_to": "none",
            "logging_strategy": "no",
            "save_strategy": "no",
            "eval_strategy": "no",
            "disable_tqdm": True,
            "gradient_checkpointing": False,
            "learning_rate": lr,
            "adam_beta1": 0.9,
            "adam_beta2": 0.95,
            "weight_decay": 0.0,
            "max_grad_norm": 1.0,
            "lr_scheduler_type": "constant",
            "logging_nan_inf_filter": False,
            "dataloader_pin_memory": False,
            "seed": 0}


def timed(trainer) -> Callable[[], float]:
    """() -> seconds a step, from the end of the first to the end of the last:
    what a run begins with is not counted."""
    from transformers import PrinterCallback, TrainerCallback

    class Clock(TrainerCallback):
        def __init__(self):
            self.ends: list[float] = []

        def on_step_end(self, *args, **kwargs):
            self.ends.append(time.perf_counter())

    clock = Clock()
    trainer.add_callback(clock)
    trainer.remove_callback(PrinterCallback)

    def run() -> float:
        clock.ends.clear()
        trainer.train()
        return (clock.ends[-1] - clock.ends[0]) / (len(clock.ends) - 1)
    return run


def grpo(model: Transformer, prompts: list[list[int]], n: int, new: int, steps: int, bf16: bool, lr: float,
         cache: str | None):
    """trl's GRPOTrainer: n answers of `new` tokens to each prompt a step, one step a draw, no KL;
    the reward is the share of odd ids."""
    trl = need_trl()
    import datasets

    def reward(completion_ids, **_):
        return [sum(i % 2 for i in ids) / len(ids) for ids in completion_ids]

    args = trl.GRPOConfig(**same(bf16, lr), per_device_train_batch_size=len(prompts) * n, num_generations=n,
                          max_completion_length=new, max_steps=steps, temperature=1.0, top_k=0, top_p=1.0,
                          beta=0.0, num_iterations=1, loss_type="grpo", scale_rewards="group", epsilon=0.2,
                          cache_implementation=cache)
    data = datasets.Dataset.from_dict({"prompt": [words(prompt) for prompt in prompts] * steps})
    with tempfile.TemporaryDirectory() as folder:
        return trl.GRPOTrainer(saved(model, folder), reward, args=args, train_dataset=data,
                               processing_class=tokenizer(V + 1))


def dpo(model: Transformer, pairs: list[tuple[list[int], list[int], list[int]]], rows: int, steps: int,
        lr: float, beta: float):
    """trl's DPOTrainer: `rows` comparisons a step,
    the reference's log-probs computed before the first and kept. Answers end with id 0."""
    trl = need_trl()
    import datasets
    args = trl.DPOConfig(**same(False, lr), per_device_train_batch_size=rows, max_steps=steps, beta=beta,
                         precompute_ref_log_probs=True, max_length=None)
    columns = {"prompt": [words(x) for x, _, _ in pairs]}
    for name, i in (("chosen", 1), ("rejected", 2)):
        columns[name] = [" " + words(pair[i]) for pair in pairs]
    with tempfile.TemporaryDirectory() as folder:
        return trl.DPOTrainer(saved(model, folder), args=args,
                              train_dataset=datasets.Dataset.from_dict(columns),
                              processing_class=tokenizer(0))


def ppo(model: Transformer, prompts: list[list[int]], new: int, passes: int, steps: int, lr: float,
        beta: float):
    """trl 1.12's PPOTrainer: one answer a prompt, `passes` over all of them as one minibatch; policy,
    reference, value and reward model are four networks of one shape, of which the first and the third are
    trained.
    """
    need_trl()
    import datasets
    from trl.experimental import ppo as module  # 1.12 alone has it: ppo_folder() stands first on the path
    args = module.PPOConfig(**same(False, lr), per_device_train_batch_size=len(prompts), num_mini_batches=1,
                            num_ppo_epochs=passes, response_length=new, total_episodes=len(prompts) * steps,
                            local_rollout_forward_batch_size=len(prompts), num_sample_generations=0,
                            temperature=1.0, kl_coef=beta, kl_estimator="k1", gamma=1.0, lam=0.95,
                            cliprange=0.2, cliprange_value=0.2, vf_coef=0.1, stop_token=None)
    with tempfile.TemporaryDirectory() as folder:
        made = {name: saved(model, folder, kind)
                for name, kind in (("model", "LlamaForCausalLM"), ("ref_model", "LlamaForCausalLM"))}
        made |= {name: saved(model, folder, "LlamaForSequenceClassification", num_labels=1)
                 for name in ("reward_model", "value_model")}
    data = datasets.Dataset.from_dict({"input_ids": prompts})
    return module.PPOTrainer(args=args, processing_class=tokenizer(V + 1), train_dataset=data,
                             eval_dataset=data, **made)


def lora(model: Transformer, rank: int, scale: float):
    """peft's LoRA on all seven maps of transformers' Llama with our weights."""
    need_transformers()
    try:
        import peft
    except ImportError:
        raise ImportError(f"peft is not installed: {sys.executable} -m pip install "
                          "--requirement benchmarks/requirements.txt") from None
    config = peft.LoraConfig(
        r=rank, lora_alpha=scale * rank, lora_dropout=0.0, bias="none",
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"])
    with tempfile.TemporaryDirectory() as folder:
        return peft.get_peft_model(saved(model, folder), config)
