"""What a batch holds, and how rows of tokens are made: answers behind their prompts, conversations, stretches of a text."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import torch
from torch import Tensor

from .expect import expect, expect_tensor


class Batch(SimpleNamespace):
    """tokens (B, T), response_mask (B, T), and whatever F is made of: rewards (B,), keep (B,), … What is not used is absent."""

    def to(self, device: torch.device | str) -> Batch:
        """The same batch with every tensor on the device."""
        return Batch(**{k: v.to(device) if isinstance(v, Tensor) else v for k, v in vars(self).items()})


Turns = Sequence[tuple[Sequence[int], Sequence[int]]]  # a conversation: (prompt, response), (prompt, response), …


def batch_pairs(pairs: Turns) -> Batch:
    """Rows of prompt + response, padded at the right with 0; response_mask is True on the response alone.

    batch_pairs([([7, 8], [9, 0])]) has tokens [[7, 8, 9, 0]] and response_mask [[F, F, T, T]].
    ValueError for no pairs, an empty prompt (its first token would have no context) or an empty response.
    """
    expect(len(pairs) > 0, "pairs", "empty", "give at least one (prompt, response)")
    conversations = [[pair] for pair in pairs]
    tokens, response_mask, _ = _fill(conversations, _sizes(conversations, "pairs"), [[i] for i in range(len(pairs))])
    return Batch(tokens=tokens, response_mask=response_mask)


def batch_turns(conversations: Sequence[Turns]) -> Batch:
    """A row for each conversation, a list of (prompt, response): response_mask is True on every response, each with its end token.

    A turn's x is all that stands before its y, so n turns are n pairs (x, y) that one row scores at once; `pairs` counts them all.
    batch_turns([[([7], [8, 0]), ([9], [0])]]) has tokens [[7, 8, 0, 9, 0]], response_mask [[F, T, T, F, T]] and pairs 2.
    """
    sizes = _sizes(conversations, "conversations")
    tokens, response_mask, _ = _fill(conversations, sizes, [[i] for i in range(len(sizes))])
    return Batch(tokens=tokens, response_mask=response_mask, pairs=sum(map(len, conversations)))


def batch_packed(conversations: Sequence[Turns], length: int) -> Batch:
    """The same, several conversations to a row of at most `length` tokens (each into the first with room, the longest first).

    sequence (B, T) is the number of the conversation that each token belongs to, −1 for padding; `logprobs` keeps them apart by it.
    batch_packed([[([7], [8, 0])], [([9], [0])]], 5) has tokens [[7, 8, 0, 9, 0]] and sequence [[0, 0, 0, 1, 1]].
    """
    sizes = _sizes(conversations, "conversations")
    order = sorted(range(len(sizes)), key=sizes.__getitem__, reverse=True)
    expect(isinstance(length, int) and length >= sizes[order[0]], "length", length,
           f"conversations[{order[0]}] has {sizes[order[0]]} tokens: give as many or more, or leave it out")
    rows: list[list[int]] = []
    room: list[int] = []
    for i in order:
        r = next((r for r, free in enumerate(room) if free >= sizes[i]), len(rows))
        if r == len(rows):
            rows.append([])
            room.append(length)
        rows[r].append(i)
        room[r] -= sizes[i]
    tokens, response_mask, sequence = _fill(conversations, sizes, rows)
    return Batch(tokens=tokens, response_mask=response_mask, sequence=sequence, pairs=sum(map(len, conversations)))


def _sizes(conversations: Sequence[Turns], argument: str) -> list[int]:
    """How many tokens each has, after a look at what is wrong with them."""
    expect(len(conversations) > 0, argument, "empty", "give at least one")
    for i, turns in enumerate(conversations):
        expect(len(turns) > 0, f"{argument}[{i}]", "empty", "give at least one (prompt, response)")
        for prompt, response in turns:
            expect(hasattr(prompt, "__len__") and hasattr(response, "__len__"), f"{argument}[{i}]", (prompt, response), "give two lists of ids")
            expect(len(prompt) > 0, f"{argument}[{i}]", "without a prompt", "begin it with a special token, such as END or USER")
            expect(len(response) > 0, f"{argument}[{i}]", "without a response", "give at least the end token")
    return [sum(len(prompt) + len(response) for prompt, response in turns) for turns in conversations]


def _fill(conversations: Sequence[Turns], sizes: list[int], rows: list[list[int]]) -> tuple[Tensor, Tensor, Tensor]:
    """tokens, response_mask, sequence (B, T): each row holds the conversations of these numbers, one behind the other."""
    shape = len(rows), max(sum(sizes[i] for i in row) for row in rows)
    tokens, response_mask, sequence = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.bool), torch.full(shape, -1)
    for b, row in enumerate(rows):
        end = 0
        for i in row:
            sequence[b, end:end + sizes[i]] = i
            for prompt, response in conversations[i]:
                ids = torch.tensor([*prompt, *response])
                expect(not ids.is_floating_point(), "pairs", f"with the token {ids.tolist()[0]}", "give ids: whole numbers")
                start, end = end, end + len(ids)
                tokens[b, start:end] = ids
                response_mask[b, start + len(prompt):end] = True
    return tokens, response_mask, sequence


def batch_windows(ids: Tensor, rows: int, length: int, generator: torch.Generator) -> Batch:
    """`rows` stretches of `length` tokens cut from one long text, at random places: ids (N,) -> a Batch.

    Every token but a row's first is a pair (x the text before it in the window, y the token), so `pairs` is rows·(length − 1).
    """
    expect_tensor("ids", ids, "N", "integer")
    expect(isinstance(rows, int) and rows >= 1, "rows", rows, "give 1 or more")
    expect(isinstance(length, int) and 2 <= length <= len(ids), "length", length, f"give 2 to {len(ids)}, the length of the text in tokens")
    start = torch.randint(len(ids) - length + 1, (rows, 1), generator=generator)
    tokens = ids[start + torch.arange(length)]                                      # (rows, length)
    response_mask = torch.ones_like(tokens, dtype=torch.bool)
    response_mask[:, 0] = False
    return Batch(tokens=tokens, response_mask=response_mask, pairs=rows * (length - 1))
