"""Whole training steps of GRPO, PPO and DPO beside trl's trainers.

A step is drawing, reward, log-probs, backward pass and optimiser. What is learned is not looked at.

`python -m benchmarks.methods REPEATS THREADS` is the pair of PPO, in a process of its own since trl 1.12
and trl 1.16 cannot share one: it prints the seconds of both sides as JSON.
"""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial

import torch

from minillm.adapt import lora
from minillm.batch import Batch
from minillm.methods import critic, dpo, grpo, ppo, reward_model
from minillm.train import Settings, train
from minillm.transformer import Config, Transformer

from . import peers
from .pairs import Results, Row, in_turn
from .process import ROOT
from .speed import SHAPES, policy_of, random_ids

LR = 1e-5  # so low that both models stay what they were over all repeats
PROMPT, NEW = 32, 32


def steps_of(model, draw: Callable[[int], Batch], coefficient: Callable, steps: int, *, bf16: bool = False,
             each: int = 1, lr: float = LR, **how) -> Callable[[], float]:
    """() -> seconds of `each` steps of the package's own loop, measured as in peers.timed:
    the first is not counted, `steps` are."""
    settings = Settings(each * (1 + steps), lr=lr, muon_lr=0, warmup=0, decay=0)

    def run() -> float:
        rows = train(model, draw, coefficient, settings, progress=False, bf16=bf16, **how)
        return (rows[-1]["seconds"] - rows[each - 1]["seconds"]) / steps
    return run


def odd(batch: Batch) -> torch.Tensor:
    """The reward: the share of an answer's ids that are odd, (B,)."""
    return (batch.tokens % 2 * batch.response_mask).sum(1) / batch.response_mask.sum(1)


def our_grpo(config: Config, prompts: list[list[int]], n: int, steps: int,
             bf16: bool = False) -> Callable[[], float]:
    """GRPO with one step a draw.

    As in trl p_old is then the first pass's own p, so that bf16, which draws in float32, changes no ratio.
    """
    model, generator = policy_of(config), torch.Generator().manual_seed(0)

    def draw(step: int) -> Batch:
        return grpo.draw(model, prompts, odd, NEW, n=n, end=None, generator=generator)

    def coefficient(batch: Batch, logp: torch.Tensor) -> torch.Tensor:
        batch.logprobs = logp
        return grpo.coefficient(batch, logp)
    return steps_of(model, draw, coefficient, steps, bf16=bf16)


def faster_cache(make: Callable[[str | None], Callable[[], float]], bf16: bool,
                 tick: Callable[[], None]) -> tuple[str, Callable[[], float]]:
    """Their step with transformers' dynamic or its static cache, whichever takes less time;
    under bf16 autocast the static one does not run."""
    sides = {}
    for name in ("dynamic",) if bf16 else ("dynamic", "static"):
        run = make(None if name == "dynamic" else name)
        sides[name] = (run(), run)
        tick()
    best = min(sides, key=lambda name: sides[name][0])
    return best, sides[best][1]


def grpo_row(name: str, bf16: bool, goal: float, results: Results, repeats: int,
             tick: Callable[[], None]) -> None:
    """Seconds of a step of GRPO: 8 prompts × 8 answers × (32 + 32) tokens."""
    config, n, steps = SHAPES[name], 8, 4 if SHAPES[name].d_model < 256 else 1
    prompts = random_ids(8, PROMPT).tolist()

    def trls(cache: str | None) -> Callable[[], float]:
        return peers.timed(peers.grpo(policy_of(config), prompts, n, NEW, 1 + steps, bf16, LR, cache))

    cache, theirs = faster_cache(trls, bf16, tick)
    measured = in_turn({"theirs": theirs, "ours": our_grpo(config, prompts, n, steps, bf16)}, repeats, tick)
    kind = "bf16" if bf16 else "float32"
    conditions = "8 prompts × 8 answers × (32 + 32) tokens, one step a draw, no KL, AdamW"
    our_side = f"grpo.draw and train, {conditions}"
    their_side = f"trl {peers.version_of('trl')}, GRPOTrainer, {conditions}, {cache} cache"
    if bf16:
        our_side += ", drawn in float32, trained in bf16"
        their_side += ", all under bf16 autocast"
    results.rows.append(faster(Row("grpo", f"GRPO step, {name}, {kind}", "s", measured["ours"],
                                   measured["theirs"], (our_side, their_side), goal)))


def faster(row: Row) -> Row:
    """The row as speed: steps a second in place of seconds a step, so that more is better."""
    row.unit, row.ours, row.theirs = "steps/s", [1 / s for s in row.ours], [1 / s for s in row.theirs]
    return row


def comparisons(count: int, prompt: int = PROMPT,
                answer: int = NEW) -> list[tuple[list[int], list[int], list[int]]]:
    """(prompt, chosen, rejected) of random ids; both answers close with the end token, 0."""
    x, w, l = (random_ids(count, length, seed).tolist()
               for seed, length in enumerate((prompt, answer - 1, answer - 1)))
    return [(a, b + [0], c + [0]) for a, b, c in zip(x, w, l)]


def our_dpo(model: Transformer, pairs: list, rows: int, steps: int, beta: float = 0.1,
            lr: float = LR) -> Callable[[], float]:
    """DPO, `rows` comparisons a step in turn, the reference's log-probs computed once and kept."""
    both = [(x, w) for x, w, _ in pairs] + [(x, l) for x, _, l in pairs]
    kept = dpo.reference_logprobs(model, both).view(2, -1).T

    def draw(step: int) -> Batch:
        which = [i % len(pairs) for i in range(step * rows, (step + 1) * rows)]
        return dpo.draw([pairs[i] for i in which], kept[which])
    return steps_of(model, draw, partial(dpo.coefficient, beta=beta), steps, lr=lr)


def dpo_row(name: str, goal: float, results: Results, repeats: int, tick: Callable[[], None]) -> None:
    """Steps a second of DPO: 8 pairs of 64 tokens, prompts with them."""
    model, rows, steps = policy_of(SHAPES[name]), 8, 20 if SHAPES[name].d_model < 256 else 4
    pairs = comparisons(rows * (1 + steps))
    measured = in_turn({"ours": our_dpo(model, pairs, rows, steps),
                        "theirs": peers.timed(peers.dpo(model, pairs, rows, 1 + steps, LR, 0.1))},
                       repeats, tick)
    conditions = "8 pairs × 2 × (32 + 32) tokens, float32, AdamW, the reference's log-probs kept"
    results.rows.append(faster(Row("dpo", f"DPO step, {name}", "s", measured["ours"], measured["theirs"],
                                   (f"dpo.draw and train, {conditions}",
                                    f"trl {peers.version_of('trl')}, DPOTrainer, {conditions}"),
                                   goal)))


def our_ppo(config: Config, prompts: list[list[int]], passes: int, steps: int,
            adapters: bool) -> Callable[[], float]:
    """PPO with a trunk that policy and critic share;
    with adapters the reference is that trunk, too, as it was. The reward model is a network of its own."""
    model, judge = policy_of(config), reward_model.RewardModel(policy_of(config))
    reference = copy.deepcopy(model)
    if adapters:
        reference = lora.reference(lora.add_lora(model))
    both, generator = critic.PolicyAndCritic(model), torch.Generator().manual_seed(0)

    def draw(step: int) -> Iterator[Batch]:
        whole = ppo.draw(model, both.critic, reference, prompts,
                         lambda batch: judge(batch.tokens, batch.response_mask), NEW, beta=0.05, lam=0.95,
                         end=None, generator=generator)
        yield from ppo.minibatches(whole, len(prompts), passes, generator)

    def coefficient(batch: Batch, scores: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"policy": ppo.coefficient(batch, scores["policy"]),
                "critic": 0.1 * critic.coefficient(batch, scores["critic"], clip=0.2)}
    return steps_of(both, draw, coefficient, steps, each=passes, score=critic.PolicyAndCritic.score)


def ppo_pair(repeats: int, tick: Callable[[], None]) -> dict[str, list[float]]:
    """Seconds of a step of PPO on 64 answers, four passes: trl's, ours, and ours with adapters.

    Run it where there is no other trl.
    """
    config, prompts, passes, steps = SHAPES["4 × 128"], random_ids(64, PROMPT).tolist(), 4, 1
    theirs = peers.timed(peers.ppo(policy_of(config), prompts, NEW, passes, 1 + steps, LR, 0.05))
    return in_turn({"theirs": theirs,
                    "ours": our_ppo(config, prompts, passes, steps, False),
                    "adapters": our_ppo(config, prompts, passes, steps, True)},
                   repeats, tick)


def ppo_rows(results: Results, repeats: int, tick: Callable[[], None]) -> None:
    """Steps a second of PPO, in a child process with trl 1.12."""
    peers.need_transformers()
    folder = peers.ppo_folder()
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)]),
                                "PYTHONWARNINGS": "ignore"}
    done = subprocess.run([sys.executable, "-m", "benchmarks.methods", str(repeats),
                           str(torch.get_num_threads())],
                          cwd=ROOT, env=environment, check=True, capture_output=True, text=True)
    tick()
    measured = json.loads(done.stdout.splitlines()[-1])
    conditions = ("64 prompts × (32 + 32) tokens, four passes over all, reward by a model of the same shape, "
                  "k1 in the reward, GAE, value clip, AdamW, float32")
    peer = (f"trl 1.12.0, experimental PPOTrainer, {conditions}; policy, value and reference networks apart, "
            "all trained weights in full, no gradient clipping")
    levers = "one trunk for policy and value, the head on the answers' places alone, p_old as it was drawn"
    full = f"ppo.draw and train, {conditions}; {levers}; a copy as the reference"
    low_rank = (f"the same with LoRA of rank 8 in place of all weights; {levers}; "
                "the reference is the same trunk, adapters off")
    for what, key, side in (("full weights", "ours", full), ("adapters", "adapters", low_rank)):
        results.rows.append(faster(Row("ppo", f"PPO step, 4 × 128, {what}", "s", measured[key],
                                       measured["theirs"], (side, peer), 1.3)))


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[2]))
    print(json.dumps(ppo_pair(int(sys.argv[1]), lambda: None)))
