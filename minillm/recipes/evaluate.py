"""Evaluate: what a policy's answers are like, question by question, with an interval."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import torch

from ..logprob import logprobs
from ..methods.reward_model import RewardModel
from ..sample import sample
from ..tokenizer import Tokenizer
from ..worlds.judgements import judge
from ..worlds.questions import Question
from . import LONGEST


@torch.no_grad()
def weigh(model, reference, learned: RewardModel | None, tokenizer: Tokenizer, questions: Sequence[Question],
          seed: int, n: int = 1) -> dict[str, list[float]]:
    """What a policy's answers are like: name -> a number for each question, the mean over its n answers.

    learned: a reward model, whose reward is then told too. KL to the reference is log p/p_ref of the answers,
    in nats.
    """
    device = model.embed.weight.device
    generator = torch.Generator(device).manual_seed(seed)
    prompts = [tokenizer.prompt(q.prompt) for q in questions]
    batch = sample(model, prompts, LONGEST, n=n, end=tokenizer.end, generator=generator)
    answers = [tokenizer.read_response(y) for y in batch.responses()]
    judged = [judge(questions[i], y) for i, y in zip(batch.group.tolist(), answers)]
    log_ratio = batch.logprobs - logprobs(reference, batch)                         # (B, T)
    columns = {"gold reward": [j.gold for j in judged]}
    if learned is not None:
        columns["learned reward"] = learned(batch.tokens, batch.response_mask).tolist()
    columns |= {"KL (nats)": log_ratio.sum(1).tolist(), "words": [j.words for j in judged],
                "right": [j.right for j in judged], "courteous": [j.courteous for j in judged],
                "sentences too many": [j.extra for j in judged]}
    return {name: [sum(values[i:i + n]) / n for i in range(0, len(values), n)] for name,
            values in columns.items()}


def interval(values: Sequence[float]) -> tuple[float, float]:
    """(mean, half of its 95 % interval): normal, for a hundred values and more."""
    n, mean = len(values), sum(values) / len(values)
    return mean, 1.96 * math.sqrt(sum((v - mean) ** 2 for v in values) / max(1, n - 1) / n)


def put_aside(questions: Sequence[Question], share: float = 1 / 3) -> tuple[list[Question], list[Question]]:
    """(to choose by, to report on): a share of the facts, with all their wordings, and the others."""
    keys = sorted({q.key for q in questions})
    chosen = set(random.Random("choosing").sample(keys, round(share * len(keys))))
    return [q for q in questions if q.key in chosen], [q for q in questions if q.key not in chosen]
