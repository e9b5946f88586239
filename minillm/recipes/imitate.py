"""Imitate: supervised tuning on what people wrote, who answer without much care. F = 1."""

from __future__ import annotations

import random
from collections.abc import Sequence

from ..batch import Batch, batch_packed
from ..methods import supervised
from ..tokenizer import Tokenizer
from ..train import Settings, train
from ..worlds.judgements import Writer
from ..worlds.questions import Question
from ..worlds.town import PERSONAL, Town

CARELESS = {"wrong": 0.15, "courteous": 0.3, "flattery": 0.15, "extra": 0.3}
RATES = {"lr": 3e-3, "muon_lr": 0.0075}
ROW = 96  # tokens: longer rows pack no better, and attention costs more

Pair = tuple[list[int], list[int]]  # (x, y), a prompt's ids and an answer's


def asked(town: Town, held: bool, rng: random.Random) -> list[Question]:
    """Questions about famous people, which a tuned model can know the answers to.

    held: those that nobody was ever asked in training.
    """
    return [q for q in town.questions(held, rng, ("famous",), wordings=3) if q.kind in PERSONAL]


def demonstrations(town: Town, tokenizer: Tokenizer, rng: random.Random, each: int = 4) -> list[Pair]:
    """(x, y) by people who answer without much care: `each` answers to each question."""
    writer, pairs = Writer(town, **CARELESS), []
    for q in asked(town, False, rng):
        pairs += [(tokenizer.prompt(q.prompt), tokenizer.response(writer.write(q, rng))) for _ in range(each)]
    return pairs


def packed(pairs: Sequence[Pair]) -> Batch:
    """Several pairs to a row of ROW tokens, or of the longest pair's: a third less work than padding."""
    longest = max(len(x) + len(y) for x, y in pairs)
    return batch_packed([[pair] for pair in pairs], max(ROW, longest))


def imitate(model, demos: Sequence[Pair], steps: int, rates: dict, seed: int, rows: int = 48,
            **how) -> list[dict]:
    """Train a model, in place, on `rows` demonstrations a step; returns `train`'s rows. how: for `train`."""
    def draw(step):
        return packed(random.Random(f"imitate/{seed}/{step}").choices(demos, k=rows))

    return train(model, draw, supervised.coefficient, Settings(steps, decay=0.9, **rates), **how)
