"""From careless demonstrations to preferences: supervised tuning, a reward model, PPO against it, and DPO from the same comparisons.

Each stage is a draw and a coefficient for `train`. `imitate` from the base model gives the shipped hub.load("tuned"). It leaves out what a reward model gets wrong when it is pushed (chapter 12).
"""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..batch import Batch, batch_pairs
from ..logprob import answer_logprobs, logprobs
from ..methods import critic, dpo, ppo, reward_model, supervised
from ..sample import sample
from ..tokenizer import Tokenizer
from ..train import Settings, train
from ..worlds.judgements import Person, Writer, judge
from ..worlds.questions import Question
from ..worlds.town import PERSONAL, Town

LONGEST = 40    # tokens of an answer
K = 4           # answers that a person ranks
CARELESS = {"wrong": 0.15, "courteous": 0.3, "flattery": 0.15, "extra": 0.3}
PERSON = Person(noise=0.25)
BETA = 0.3      # of PPO and of DPO: what a nat of KL costs in reward
RATES = {"lr": 3e-3, "muon_lr": 0.0075}  # of imitation


@dataclass
class Ranked:
    """One question, and its answers (ids) from best to worst in somebody's eyes."""

    question: Question
    prompt: list[int]
    answers: list[list[int]]


def asked(town: Town, held: bool, rng: random.Random) -> list[Question]:
    """Questions about famous people, which a tuned model can know the answers to; held: those that nobody was ever asked in training."""
    return [q for q in town.questions(held, rng, ("famous",), wordings=3) if q.kind in PERSONAL]


def demonstrations(town: Town, tokenizer: Tokenizer, rng: random.Random, each: int = 4) -> list[tuple[list[int], list[int]]]:
    """(x, y) by people who answer without much care: `each` answers to each question."""
    writer = Writer(town, **CARELESS)
    return [(tokenizer.prompt(q.prompt), tokenizer.response(writer.write(q, rng))) for q in asked(town, False, rng) for _ in range(each)]


def imitate(model, demos: Sequence, steps: int, rates: dict, seed: int, rows: int = 48, **how) -> list[dict]:
    """Supervised tuning: F = 1 on what people wrote."""
    return train(model, lambda step: batch_pairs(random.Random(f"imitate/{seed}/{step}").choices(demos, k=rows)),
                 lambda batch, _: supervised.coefficient(batch.response_mask), Settings(steps, decay=0.9, **rates), **how)


def compare(model, tokenizer: Tokenizer, questions: Sequence[Question], people: Sequence[Person], rng: random.Random,
            generator: torch.Generator) -> list[Ranked]:
    """K of the model's own answers to each question, ranked by one of the people. Answers that are word for word the same stand once;
    a question whose answers are all the same has nothing to compare, and is left out."""
    prompts = [tokenizer.prompt(q.prompt) for q in questions]
    batch = sample(model, prompts, LONGEST, n=K, end=tokenizer.end, generator=generator)
    answers = [row[mask].tolist() for row, mask in zip(batch.tokens, batch.response_mask)]
    ranked = []
    for i, (question, prompt) in enumerate(zip(questions, prompts)):
        mine = [list(y) for y in dict.fromkeys(map(tuple, answers[K * i:K * i + K]))]
        if len(mine) > 1:
            order = rng.choice(people).rank(question, [tokenizer.read_response(y) for y in mine], rng)
            ranked.append(Ranked(question, prompt, [mine[j] for j in order]))
    return ranked


def pairs_of(ranked: Sequence[Ranked]) -> list[tuple[list[int], list[int], list[int]]]:
    """Every (prompt, chosen, rejected) that the rankings hold."""
    return [(r.prompt, r.answers[w], r.answers[l]) for r in ranked for w in range(len(r.answers)) for l in range(w + 1, len(r.answers))]


def learn_reward(model, ranked: Sequence[Ranked], steps: int, rates: dict, seed: int, rows: int = 12, **how) -> tuple[reward_model.RewardModel, list[dict]]:
    """A reward model on a copy of the policy: F = 1 on the choices, `rows` prompts with all their pairs a step."""
    judge_ = reward_model.RewardModel(copy.deepcopy(model))

    def draw(step: int) -> Batch:
        return reward_model.draw([(r.prompt, r.answers) for r in random.Random(f"reward/{seed}/{step}").sample(ranked, min(rows, len(ranked)))])

    def coefficient(batch: Batch, scores: Tensor) -> Tensor:
        rewards = scores.sum(1)
        batch.metrics = {"loss": float(reward_model.loss(rewards, batch.better, batch.worse, batch.weight).sum() / batch.pairs)}
        return reward_model.coefficient(rewards, batch.better, batch.worse, batch.weight)

    return judge_, train(judge_, draw, coefficient, Settings(steps, decay=0.9, **rates), score=reward_model.score, **how)


@torch.no_grad()
def gaps(judge_: reward_model.RewardModel, pairs: Sequence) -> Tensor:
    """r(chosen) − r(rejected) of each (prompt, chosen, rejected), (P,)."""
    found = []
    for i in range(0, len(pairs), 64):
        some = pairs[i:i + 64]
        batch = batch_pairs([(x, w) for x, w, _ in some] + [(x, l) for x, _, l in some]).to(judge_.head.device)
        chosen, rejected = judge_(batch.tokens, batch.response_mask).chunk(2)
        found.append(chosen - rejected)
    return torch.cat(found)


def judged_by(judge_: reward_model.RewardModel) -> Callable[[Batch], Tensor]:
    """The learned reward of a batch's answers, (B,), without a gradient."""
    def reward(batch: Batch) -> Tensor:
        with torch.no_grad():
            return judge_(batch.tokens, batch.response_mask)
    return reward


def reinforce(model, reference, reward: Callable[[Batch], Tensor], prompts: Sequence[list[int]], draws: int,
              rates: dict, seed: int, end: int, *, answers: int = 64, rows: int = 32, passes: int = 2, beta: float = 0.05,
              lam: float = 1.0, critic_into_trunk: bool = False, look: Callable[[int], object] | None = None,
              **how) -> list[dict]:
    """PPO: `answers` drawn, then `passes` over them in minibatches of `rows`. The policy is changed in place.

    The critic is a second head on the policy's trunk; its gradient stays out of the trunk unless critic_into_trunk.
    The first minibatch's row of metrics has the draw's: reward, kl, objective (reward − β·kl), tokens written.
    look(n) is called when n draws are used up. lam is 1: below it a token's advantage leans on the critic, which begins
    at 0, and then what is far from the reward is paid less of it.
    """
    both = critic.PolicyAndCritic(model, critic_into_trunk).to(model.embed.weight.device)
    each = passes * -(-answers // rows)                                             # steps a draw

    def draw(step: int) -> Iterator[Batch]:
        rng = random.Random(f"ppo/{seed}/{step}")
        generator = torch.Generator(model.embed.weight.device).manual_seed(rng.getrandbits(62))
        whole = ppo.draw(model, both.critic, reference, rng.choices(prompts, k=answers), reward, LONGEST, beta=beta,
                         lam=lam, end=end, generator=generator)
        metrics = {"reward": float(whole.rewards.mean()), "kl": float(whole.kl.mean()),
                   "tokens written": float(whole.response_mask.sum(1).float().mean())}
        metrics["objective"] = metrics["reward"] - beta * metrics["kl"]
        for i, batch in enumerate(ppo.minibatches(whole, rows, passes, torch.Generator().manual_seed(rng.getrandbits(62)))):
            batch.pairs, batch.metrics = int(batch.response_mask.sum()), {} if i else metrics
            yield batch
        if look is not None:  # asked for the batch after the last, the last step has been taken
            look(step // each + 1)

    def coefficient(batch: Batch, scores: Tensor) -> Tensor:
        logp, values = scores.chunk(2, 1)
        return torch.cat([ppo.coefficient(logp, batch.response_mask, batch.logprobs, batch.advantages),
                          0.5 * critic.coefficient(values, batch.response_mask, batch.values, batch.goals)], 1)

    return train(both, draw, coefficient, Settings(draws * each, **rates), score=critic.PolicyAndCritic.score, **how)


def prefer(model, reference, pairs: Sequence, steps: int, rates: dict, seed: int, *, beta: float = 0.1, rows: int = 24, **how) -> list[dict]:
    """DPO on (prompt, chosen, rejected): no reward model, no sampling. The policy is changed in place."""
    drawn = [random.Random(f"dpo/{seed}/{step}").sample(range(len(pairs)), min(rows, len(pairs))) for step in range(steps)]
    met = sorted({i for some in drawn for i in some})                               # the pairs that any step draws
    answers = [(pairs[i][0], pairs[i][1]) for i in met] + [(pairs[i][0], pairs[i][2]) for i in met]
    kept = dict(zip(met, dpo.reference_logprobs(reference, answers).reshape(2, -1).T.cpu()))  # (2,) each, once

    def draw(step: int) -> Batch:
        return dpo.draw([pairs[i] for i in drawn[step]], torch.stack([kept[i] for i in drawn[step]]))

    def coefficient(batch: Batch, logp: Tensor) -> Tensor:
        chosen, rejected = answer_logprobs(logp, batch.response_mask).chunk(2)
        batch.metrics = {"loss": float(dpo.loss(logp, batch.response_mask, batch.reference, beta).mean()),
                         "chosen": float(chosen.mean()), "rejected": float(rejected.mean())}
        return dpo.coefficient(logp, batch.response_mask, batch.reference, beta)

    return train(model, draw, coefficient, Settings(steps, **rates), **how)


@torch.no_grad()
def weigh(model, reference, judge_: reward_model.RewardModel | None, tokenizer: Tokenizer, questions: Sequence[Question],
          seed: int, n: int = 1) -> dict[str, list[float]]:
    """What a policy's answers are like: name -> a number for each question, the mean over its n answers.

    KL to the reference is log p/p_ref of the answers drawn, in nats.
    """
    device = model.embed.weight.device
    batch = sample(model, [tokenizer.prompt(q.prompt) for q in questions], LONGEST, n=n, end=tokenizer.end,
                   generator=torch.Generator(device).manual_seed(seed))
    there = logprobs(reference, batch.tokens, batch.response_mask)
    answers = [tokenizer.read_response(row[mask].tolist()) for row, mask in zip(batch.tokens, batch.response_mask)]
    judged = [judge(questions[i], y) for i, y in zip(batch.group.tolist(), answers)]
    learned = {} if judge_ is None else {"learned reward": judge_(batch.tokens, batch.response_mask).tolist()}
    columns = {"gold reward": [j.gold for j in judged], **learned,
               "KL (nats)": (batch.logprobs - there).sum(1).tolist(), "words": [j.words for j in judged],
               "right": [j.right for j in judged], "courteous": [j.courteous for j in judged],
               "sentences too many": [j.extra for j in judged]}
    return {name: [sum(values[i:i + n]) / n for i in range(0, len(values), n)] for name, values in columns.items()}


def interval(values: Sequence[float]) -> tuple[float, float]:
    """(mean, half of its 95 % interval): normal, for a hundred values and more."""
    n, mean = len(values), sum(values) / len(values)
    return mean, 1.96 * math.sqrt(sum((v - mean) ** 2 for v in values) / max(1, n - 1) / n)


def put_aside(questions: Sequence[Question], share: float = 1 / 3) -> tuple[list[Question], list[Question]]:
    """(to choose by, to report on): a share of the facts, with all their wordings, and the others."""
    keys = sorted({q.key for q in questions})
    chosen = set(random.Random("choosing").sample(keys, round(share * len(keys))))
    return [q for q in questions if q.key in chosen], [q for q in questions if q.key not in chosen]
