"""A question, a right answer to it, and the exact checker: an answer is right or it is not."""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from ..expect import expect
from ..tokenizer import Response, Tokenizer


class Verdict(NamedTuple):
    """form: the response has the shape that its kind asks for. right: it says what is true, in that shape."""

    form: bool
    right: bool


@dataclass(frozen=True)
class Question:
    """x as a prompt, y as a right response, and how to check another y."""

    kind: str                   # "job", "sum2", …: the unit of every score
    key: str                    # what must not be on both sides of the split: "Ada Moss, job", "38+47"
    prompt: str
    answer: str                 # the short answer, for people to read: "baker", "85"
    response: str               # the right response in full: "Ada Moss is a baker."
    form: str                   # a regular expression for responses of this kind, right or wrong
    thought: str | None = None  # the steps, where the prompt asks for them

    def check(self, response: Response) -> Verdict:
        """Right form: it ended itself, wrote steps exactly where asked, and matches `form`.

        Right: it is `response` as well. The steps themselves are not checked: a right answer after wrong
        steps is right (an outcome reward; chapter 15 looks closer).
        """
        if not response.ended or (response.thought is None) != (self.thought is None):
            return Verdict(False, False)
        form = re.fullmatch(self.form, response.text) is not None
        return Verdict(form, form and response.text == self.response)

    def pair(self, tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
        """(x, y) as ids."""
        return tokenizer.prompt(self.prompt), tokenizer.response(self.response, self.thought)


def held_out(key: str, share: float, seed: int) -> bool:
    """Whether a key is held out: the same answer for the same key, share and seed, on every machine."""
    expect(0 <= share < 1, "share", share, "give a share in [0, 1)")
    return random.Random(f"{seed}/{key}").random() < share


def score(questions: Iterable[Question], responses: Iterable[Response]) -> dict[str, dict[str, float]]:
    """For each kind, and for "all": how many questions, the share right, the share of the right form."""
    questions, responses = list(questions), list(responses)
    expect(len(questions) > 0, "questions", "empty", "give at least one")
    one_each = len(questions) == len(responses)
    expect(one_each, "responses", f"{len(responses)} for {len(questions)} questions", "give one for each")
    verdicts = defaultdict(list)
    for question, response in zip(questions, responses):
        verdict = question.check(response)
        verdicts[question.kind].append(verdict)
        verdicts["all"].append(verdict)
    return {kind: {"n": len(v),
                   "right": sum(x.right for x in v) / len(v),
                   "form": sum(x.form for x in v) / len(v)}
            for kind, v in sorted(verdicts.items())}
