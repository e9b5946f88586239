"""Rewards for steps: F on a step's own tokens, made of what the chain was worth before it and after it.

V of a state (a question, and a scratchpad as far as it is written) is the chance that the chain ends right.
It can be measured, by going on from there many times; or a judge that has learned from such endings says it.
Nobody has to mark a step. Sources: Uesato et al. 2022 and Lightman et al. 2023 (rewards for steps); Wang et
al. 2024 (learned from how continuations end); Schulman et al. 2016, eq. 16 (λ).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..batch import Batch
from ..expect import expect, expect_tensor
from ..sample import ROWS, sample
from ..tokenizer import Response, Tokenizer
from ..worlds.questions import Question
from .scratchpad import Right, outcomes, right
from .tree import Thought, Value


def begun(thought: str, stop: str) -> list[str]:
    """The scratchpad before its first step, and after each: begun("a] b] c", "]") -> ["", "a]", "a] b]"]."""
    *ended, _ = thought.split(stop)
    return [stop.join(ended[:i]) + stop * (i > 0) for i in range(len(ended) + 1)]


def step_of(batch: Batch, stop: int) -> Tensor:
    """The number of the step that each token of y is of, from 0; −1 off the response. (B, T), whole numbers.

    The stop is the last token of its step. What is written after the last stop counts as one more step.
    """
    ended = (batch.tokens == stop) & batch.response_mask
    before = ended.long().cumsum(1) - ended.long()
    return before.where(batch.response_mask, -1)


def step_advantages(values: Sequence[Sequence[float]], rewards: Tensor, step: Tensor,
                    lam: float = 0.0) -> Tensor:
    """F of each token, (B, T): what its step has changed, V after it less V before it. 0 off the response.

    values: of each row V before the first step, after the first, …, after the last; what comes after the last
    step is worth the reward, R (B,). step (B, T): as `step_of` gives it.
    lam: this is GAE with a step for a token. 0 believes V; 1 believes the outcome alone: R − V before.
    """
    expect_tensor("step", step, "B T", "integer")
    expect_tensor("rewards", rewards, "B", "finite", B=len(step))
    expect(len(values) == len(step), "values", f"{len(values)} rows for {len(step)}", "give one for each row")
    expect(0 <= lam <= 1, "lam", lam, "give a number from 0 to 1")
    F = torch.zeros(step.shape, dtype=rewards.dtype, device=rewards.device)
    for row, (worth, R, numbers) in enumerate(zip(values, rewards.tolist(), step)):
        most = int(numbers.max())
        expect(most < len(worth), f"values[{row}]", f"{len(worth)} for {most + 1} steps",
               "give V before each step")
        worth, ahead = [*worth[:most + 1], R], 0.0
        for s in range(len(worth) - 2, -1, -1):
            ahead = worth[s + 1] - worth[s] + lam * ahead
            F[row, numbers == s] = ahead
    return F


def continued(model, tokenizer: Tokenizer, right: Callable[[str, Response], bool], *, n: int = 8,
              room: int = 64, temperature: float = 1.0, generator: torch.Generator | None = None) -> Value:
    """value(states) = the share of n continuations of each that end right: right(prompt, response).

    It is V itself on average, and needs no judge of steps (Wang et al. 2024, section 3.2).
    """
    @torch.no_grad()
    def value(states: list[Thought]) -> list[float]:
        shares: list[float] = []
        for i in range(0, len(states), max(1, ROWS // n)):
            some = states[i:i + max(1, ROWS // n)]
            begun = [[tokenizer.think, *tokenizer.encode(thought)] if thought else [] for _, thought in some]
            prompts = [tokenizer.prompt(x) for x, _ in some]
            batch = sample(model, [x + z for x, z in zip(prompts, begun)], room, n=n, temperature=temperature,
                           end=tokenizer.end, generator=generator)
            marks = torch.zeros(len(some))
            for g, y in zip(batch.group.tolist(), batch.responses()):
                marks[g] += right(some[g][0], tokenizer.read_response(begun[g] + y))
            shares += (marks / n).tolist()
        return shares

    return value


def judged(model, tokenizer: Tokenizer, questions: Sequence[Question], value: Value, room: int = 64, *,
           stop: str, asked: int = 16, n: int = 8, right: Right = right, temperature: float = 1.0,
           lam: float = 0.0, seed: int = 0) -> Callable[[int], Batch]:
    """A draw for `train`, as `scratchpad.outcomes` makes it, with an F for each step: advantages (B, T).

    value: of states (prompt, thought), as for a tree. Of the last step and the answer it is not asked: they
    are worth the outcome. To be used with `ppo.coefficient`; divide_by is the number of rows, so that a
    row's push is the sum over its tokens.
    """
    stops = tokenizer.encode(stop)
    expect(len(stops) == 1, "stop", f"{stop!r}, {len(stops)} tokens", "give a text that is one token")
    draws = outcomes(model, tokenizer, questions, room, asked=asked, n=n, right=right,
                     temperature=temperature, seed=seed)

    def draw(number: int) -> Batch:
        batch = draws(number)
        rows = zip(batch.tokens, batch.response_mask, batch.responses())
        states = []
        for tokens, mask, y in rows:
            prompt = tokenizer.decode(tokens[:int(mask.int().argmax())].tolist())
            thought = tokenizer.read_response(y).thought or ""
            before, *after = begun(thought, stop)
            states.append([(prompt, z) for z in [before, *after[:-1]]])     # after the last step: the outcome
        every = list(dict.fromkeys(state for row in states for state in row))
        worth = dict(zip(every, (getattr(v, "value", v) for v in value(every))))
        last = torch.tensor([[len(row) - 1] for row in states], device=batch.tokens.device)
        step = step_of(batch, stops[0]).minimum(last)       # with the last step goes what follows it
        batch.advantages = step_advantages([[worth[state] for state in row] for row in states], batch.rewards,
                                           step, lam)
        batch.divide_by = len(batch.tokens)
        return batch

    return draw
