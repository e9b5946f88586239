"""PPO with the critic's gradient in and out of the policy's trunk, and a judge with its zero set and not.

Chapter 11 shows it. It takes about 8 minutes and writes benchmarks/results/critic_in_trunk.json:

    python -m benchmarks.critic_in_trunk

Everything else is the journey's: its start (`tuned`), judge, rates, β and numbers of answers. The settings of
the journey were chosen on seeds 10 to 12, with both mends in place; the seeds here chose nothing.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
from pathlib import Path

import torch
from tqdm import tqdm

from minillm import hub
from minillm.journey.pipeline import ANSWERS, objective
from minillm.recipes import BETA, LONGEST
from minillm.recipes.compare import PERSON, compare
from minillm.recipes.evaluate import interval, put_aside, weigh
from minillm.recipes.imitate import asked
from minillm.recipes.learn_reward import judged_by, learn_reward
from minillm.recipes.ppo import climb
from minillm.sample import sample
from minillm.worlds.town import Town

RESULTS = Path(__file__).parent / "results" / "critic_in_trunk.json"
SEEDS, DRAWS = (3, 4, 5), 16
RATES = {"shipped before": {"lr": 1e-3, "muon_lr": 0.003}, "now": {"lr": 5e-4, "muon_lr": 0.0015}}
CASES = [(True, False, "shipped before"),
         (False, True, "shipped before"),
         *((into, zero_set, "now") for into in (True, False) for zero_set in (False, True))]


def one_seed(seed: int, bar: tqdm) -> list[dict]:
    """A judge of its own, and PPO against it in each case;
    scores on the reported questions, `ANSWERS` answers each."""
    reference, tokenizer = hub.load("tuned")
    training = asked(Town(0), False, random.Random(f"asked/{seed}"))
    _, held = put_aside(asked(Town(0), True, random.Random("held out")))
    prompts = [tokenizer.prompt(q.prompt) for q in training]
    generator = torch.Generator().manual_seed(seed)
    ranked = compare(reference, tokenizer, training * 2, [PERSON], random.Random(f"people/{seed}"), generator)
    plain, _ = learn_reward(reference, ranked, 80, {"lr": 1e-2, "muon_lr": 0.01}, seed, progress=False)
    some = sample(reference, prompts[:256], LONGEST, end=tokenizer.end, generator=generator)
    with torch.no_grad():
        rewards = plain(some.tokens, some.response_mask)
    standard = copy.deepcopy(plain)
    standard.standardise(some.tokens, some.response_mask)
    before = weigh(reference, reference, standard, tokenizer, held, seed, ANSWERS)
    rows = [{"seed": seed,
             "case": "imitation",
             **scores(before, before),
             "judge's mean": round(float(rewards.mean()), 3),
             "judge's deviation": round(float(rewards.std()), 3)}]
    for into, zero_set, rates in CASES:
        policy = copy.deepcopy(reference)
        drawn = climb(policy, reference, judged_by(standard if zero_set else plain), prompts, DRAWS,
                          RATES[rates], seed, tokenizer.end, beta=BETA, critic_into_trunk=into,
                          progress=False)
        after = weigh(policy, reference, standard, tokenizer, held, seed, ANSWERS)
        rows.append({"seed": seed,
                     "case": "PPO",
                     "critic into trunk": into,
                     "zero set": zero_set,
                     "rates": rates,
                     **scores(after, before),
                     "kl by draw": [round(r["kl"], 3) for r in drawn if "kl" in r]})
        bar.update()
    return rows


def scores(weighed: dict, before: dict) -> dict[str, float]:
    """Means over the questions; learned is in the standardised judge's units,
    whatever the policy was paid with."""
    gain = interval([a - b for a, b in zip(weighed["right"], before["right"])])
    return {"gold": round(interval(weighed["gold reward"])[0], 3),
            "learned": round(interval(weighed["learned reward"])[0], 3),
            "kl": round(interval(weighed["KL (nats)"])[0], 3),
            "right": round(interval(weighed["right"])[0], 3),
            "objective": round(objective(weighed), 3),
            "right less imitation, ±": [round(x, 3) for x in gain]}


def main() -> None:
    """Run every seed, and write the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.critic_in_trunk",
                                     description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="FILE",
                        help="where the results go (default: the kept ones)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tqdm(total=len(SEEDS) * len(CASES), desc="runs of PPO") as bar:
        rows = [row for seed in SEEDS for row in one_seed(seed, bar)]
    kept = {"beta": BETA, "draws": DRAWS, "rates": RATES, "torch": torch.__version__, "rows": rows}
    args.out.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    print(f"Kept in {args.out}.")


if __name__ == "__main__":
    main()
