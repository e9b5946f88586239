"""Compare: several of the model's own answers to each question, ranked by a person."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..sample import sample
from ..tokenizer import Tokenizer
from ..worlds.judgements import Person
from ..worlds.questions import Question
from . import LONGEST

K = 4           # answers that a person ranks
PERSON = Person(noise=0.25)

Comparison = tuple[list[int], list[int], list[int]]  # (prompt, chosen, rejected)


@dataclass
class Ranked:
    """One question, and its answers (ids) from best to worst in somebody's eyes."""

    question: Question
    prompt: list[int]
    answers: list[list[int]]


def compare(model, tokenizer: Tokenizer, questions: Sequence[Question], people: Sequence[Person],
            rng: random.Random, generator: torch.Generator) -> list[Ranked]:
    """K of the model's own answers to each question, ranked by one of the people.

    Answers that are word for word the same stand once; a question whose answers are all the same has nothing
    to compare, and is left out.
    """
    prompts = [tokenizer.prompt(q.prompt) for q in questions]
    batch = sample(model, prompts, LONGEST, n=K, end=tokenizer.end, generator=generator)
    answers = batch.responses()
    ranked = []
    for i, (question, prompt) in enumerate(zip(questions, prompts)):
        mine = [list(y) for y in dict.fromkeys(map(tuple, answers[K * i:K * i + K]))]
        if len(mine) > 1:
            order = rng.choice(people).rank(question, [tokenizer.read_response(y) for y in mine], rng)
            ranked.append(Ranked(question, prompt, [mine[j] for j in order]))
    return ranked


def comparisons_of(ranked: Sequence[Ranked]) -> list[Comparison]:
    """Every (prompt, chosen, rejected) that the rankings hold."""
    return [(r.prompt, r.answers[w], r.answers[l])
            for r in ranked for w in range(len(r.answers)) for l in range(w + 1, len(r.answers))]
