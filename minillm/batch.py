"""What a batch holds, every field by name; and how rows are made of answers, conversations, long texts."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .expect import expect, expect_conversations, expect_some_response, expect_tensor, expect_whole

# A conversation: (prompt, response), (prompt, response), ….
Turns = Sequence[tuple[Sequence[int], Sequence[int]]]


@dataclass(eq=False)
class Batch:
    """B rows of T tokens, which of them are y, and what F is made of. A field that nobody filled is None.

    Raises ValueError for fields of another shape or kind, for a row without a token of y, and for a y whose
    first token has nothing before it.
    """

    # x and y
    tokens: Tensor                          # (B, T) prompt and response, padded at the right with 0
    response_mask: Tensor | None = None     # (B, T) True on y's tokens; None: on all but the first
    targets: Tensor | None = None           # (B, T) scored in place of the tokens: what an expert would write
    sequence: Tensor | None = None          # (B, T) which text a token is of; −1: padding
    divide_by: int | None = None            # what the sum over y's tokens is divided by; None: the B rows

    # what `sample` leaves
    logprobs: Tensor | None = None          # (B, T) of each token when it was drawn
    ended: Tensor | None = None             # (B,) True where the model wrote the end itself
    group: Tensor | None = None             # (B,) the number of the row's prompt

    # what F is made of
    keep: Tensor | None = None              # (B,) True where the filter keeps the answer
    rewards: Tensor | None = None           # (B,) or (B, T) R(x, y)
    baseline: Tensor | float = 0.0          # a number, or of the shape of rewards: b(x)
    reference: Tensor | None = None         # (B, T) log p_ref of each token, or (B,) of each answer
    advantages: Tensor | None = None        # (B,) or (B, T)
    values: Tensor | None = None            # (B, T) V when the answers were drawn
    goals: Tensor | None = None             # (B, T) what V is drawn to
    kl: Tensor | None = None                # (B,) log p/p_ref of the answer when it was drawn
    thumbs: Tensor | None = None            # (B/2,) True where an answer was liked; B/2 rows are mismatched
    better: Tensor | None = None            # (P,) a row for each choice: the answer that was preferred
    worse: Tensor | None = None             # (P,) and the one that was not
    weight: Tensor | None = None            # (P,) how much the choice counts
    teacher: Tensor | None = None           # (B, T, V) log q of every next token

    def __post_init__(self):
        expect_tensor("tokens", self.tokens, "B T", "integer")
        B, T = self.tokens.shape
        if self.response_mask is None:
            expect(T > 1, "tokens", f"of shape {(B, T)}",
                   "give at least two tokens a row: the first has no context")
            self.response_mask = torch.ones_like(self.tokens, dtype=torch.bool)
            self.response_mask[:, 0] = False
        expect_tensor("response_mask", self.response_mask, "B T", "bool", B=B, T=T)
        expect_some_response(self.response_mask)
        first = self.response_mask[:, 0].any()
        expect(not first, "response_mask[:, 0]", "True",
               "the first token has no context: begin x with a token")
        for name in ("targets", "sequence"):
            if getattr(self, name) is not None:
                expect_tensor(name, getattr(self, name), "B T", "integer", B=B, T=T)
        if self.sequence is not None:
            inside = (self.sequence[:, 1:] == self.sequence[:, :-1])[self.response_mask[:, 1:]]
            expect(bool(inside.all()), "response_mask", "True on the first token of a sequence",
                   "it has no context: begin each x with a token")

    def __iter__(self) -> Iterator[Batch]:
        yield self  # a draw of one batch

    def needs(self, **fields: str) -> None:
        """Hold fields to a shape and a kind: batch.needs(reference="B float"). ValueError names what is
        missing or wrong. Another letter than B and T is any size, and one size in all fields of a call."""
        sizes = dict(zip("BT", self.tokens.shape))
        for name, form in fields.items():
            value, (*shape, kind) = getattr(self, name), form.split()
            expect(value is not None, f"batch.{name}", "missing",
                   f"give a {kind.replace('finite', 'float')} tensor ({', '.join(shape)})")
            expect_tensor(f"batch.{name}", value, " ".join(shape), kind,
                          **{k: n for k, n in sizes.items() if k in shape})
            sizes |= dict(zip(shape, value.shape))

    def to(self, device: torch.device | str) -> Batch:
        """The same batch with every tensor on the device."""
        return self._with({k: v.to(device) for k, v in vars(self).items() if isinstance(v, Tensor)})

    def rows(self, index: Tensor | slice) -> Batch:
        """Some of the rows, for all fields that have one entry a row."""
        B, whole = len(self.tokens), ("thumbs", "better", "worse", "weight")
        return self._with({k: v[index] for k, v in vars(self).items()
                           if isinstance(v, Tensor) and v.shape[:1] == (B,) and k not in whole})

    def responses(self) -> list[list[int]]:
        """The ids of each row's y."""
        return [row[mask].tolist() for row, mask in zip(self.tokens, self.response_mask)]

    def _with(self, fields: dict) -> Batch:
        other = copy.copy(self)  # its fields were checked when it was made
        vars(other).update(fields)
        return other


def batch_pairs(pairs: Turns) -> Batch:
    """Rows of prompt + response, padded at the right with 0; response_mask is True on the response alone.

    batch_pairs([([7, 8], [9, 0])]) has tokens [[7, 8, 9, 0]] and response_mask [[F, F, T, T]].
    ValueError for no pairs, an empty prompt (its first token would have no context) or an empty response.
    """
    conversations = [[pair] for pair in pairs]
    rows = [[i] for i in range(len(pairs))]
    tokens, response_mask, _ = _fill(conversations, _sizes(conversations, "pairs"), rows)
    return Batch(tokens, response_mask)


def batch_turns(conversations: Sequence[Turns]) -> Batch:
    """A row for each conversation, a list of (prompt, response): response_mask is True on every response,
    each with its end token.

    A turn's x is all that stands before its y, so n turns are n pairs (x, y) that one row scores at once;
    `divide_by` counts them all. batch_turns([[([7], [8, 0]), ([9], [0])]]) has tokens [[7, 8, 0, 9, 0]],
    response_mask [[F, T, T, F, T]] and divide_by 2.
    """
    sizes = _sizes(conversations, "conversations")
    tokens, response_mask, _ = _fill(conversations, sizes, [[i] for i in range(len(sizes))])
    return Batch(tokens, response_mask, divide_by=sum(map(len, conversations)))


def batch_packed(conversations: Sequence[Turns], length: int) -> Batch:
    """The same, several conversations to a row of at most `length` tokens (each into the first with room, the
    longest first).

    sequence (B, T) is the number of the conversation that each token belongs to, −1 for padding; `logprobs`
    keeps them apart by it. batch_packed([[([7], [8, 0])], [([9], [0])]], 5) has tokens [[7, 8, 0, 9, 0]] and
    sequence [[0, 0, 0, 1, 1]].
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
    return Batch(tokens, response_mask, sequence=sequence, divide_by=sum(map(len, conversations)))


def batch_windows(ids: Tensor, rows: int, length: int, generator: torch.Generator) -> Batch:
    """`rows` stretches of `length` tokens cut from one long text, at random places: ids (N,) -> a Batch.

    Every token but a row's first is a pair (x the text before it in the window, y the token), so `divide_by`
    is rows·(length − 1).
    """
    expect_tensor("ids", ids, "N", "integer")
    expect_whole(1, rows=rows)
    expect_whole(2, len(ids) + 1, length=length)
    start = torch.randint(len(ids) - length + 1, (rows, 1), generator=generator)
    return Batch(ids[start + torch.arange(length)], divide_by=rows * (length - 1))


def _sizes(conversations: Sequence[Turns], argument: str) -> list[int]:
    """How many tokens each has."""
    expect_conversations(conversations, argument)
    return [sum(len(prompt) + len(response) for prompt, response in turns) for turns in conversations]


def _fill(conversations: Sequence[Turns], sizes: list[int],
          rows: list[list[int]]) -> tuple[Tensor, Tensor, Tensor]:
    """tokens, response_mask, sequence (B, T): a row holds the conversations of these numbers in turn."""
    shape = len(rows), max(sum(sizes[i] for i in row) for row in rows)
    tokens, sequence = torch.zeros(shape, dtype=torch.long), torch.full(shape, -1)
    response_mask = torch.zeros(shape, dtype=torch.bool)
    for b, row in enumerate(rows):
        end = 0
        for i in row:
            sequence[b, end:end + sizes[i]] = i
            for prompt, response in conversations[i]:
                ids = torch.tensor([*prompt, *response])
                expect(not ids.is_floating_point(), "pairs", f"with the token {ids.tolist()[0]}",
                       "give ids: whole numbers")
                start, end = end, end + len(ids)
                tokens[b, start:end] = ids
                response_mask[b, start + len(prompt):end] = True
    return tokens, response_mask, sequence
