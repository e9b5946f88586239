"""A batch: fields by name, held to their shapes when it is made; rows, devices, answers; how rows are
made.
"""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minillm.batch import Batch, batch_packed, batch_pairs, batch_turns, batch_windows

TOKENS = torch.tensor([[7, 8, 9, 0], [5, 6, 6, 0], [1, 2, 0, 0]])
MASK = torch.tensor([[False, False, True, True], [False, True, True, True], [False, True, True, False]])
ROWS = torch.arange(3)
PLACES = torch.arange(12.0).view(3, 4)
PER_ROW = {
    "targets": TOKENS + 1,
    "sequence": torch.zeros(3, 4, dtype=torch.long),
    "logprobs": -PLACES,
    "ended": torch.tensor([True, False, True]),
    "group": ROWS,
    "keep": torch.tensor([False, True, True]),
    "rewards": ROWS.float(),
    "baseline": ROWS.float() / 2,
    "reference": -PLACES / 2,
    "advantages": PLACES,
    "values": PLACES + 1,
    "goals": PLACES + 2,
    "kl": ROWS.float() + 3,
    "teacher": torch.arange(60.0).view(3, 4, 5),
}
OTHERS = {
    "thumbs": torch.tensor([True, False, True]),
    "better": torch.tensor([0, 1, 2]),
    "worse": torch.tensor([1, 2, 0]),
    "weight": torch.tensor([1.0, 2.0, 3.0]),
}


def full():
    """Three rows with every field filled, those of choices and thumbs with as many entries as there are
    rows.
    """
    return Batch(TOKENS, MASK, divide_by=7, **PER_ROW, **OTHERS)


# --- fields -------------------------------------------------------------------------------------------------


def test_every_field_is_filled_here():
    """A new field must be told apart: cut by rows, or not."""
    named = {"tokens", "response_mask", "divide_by", *PER_ROW, *OTHERS}
    assert set(vars(Batch(TOKENS))) == named


def test_what_nobody_filled_is_none():
    batch = Batch(TOKENS, MASK)
    empty = {name for name, value in vars(batch).items() if value is None}
    assert empty == {"divide_by", *PER_ROW, *OTHERS} - {"baseline"} and batch.baseline == 0.0


def test_without_a_mask_all_but_the_first_token_are_y():
    batch = Batch(TOKENS)
    assert batch.response_mask.tolist() == [[False, True, True, True]] * 3


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"tokens": TOKENS[0]}, r"tokens is of shape \(4,\): give shape \(B, T\)"),
        ({"tokens": TOKENS.float()}, "tokens is of dtype torch.float32: give a integer"),
        ({"tokens": TOKENS[:0]}, "tokens is empty"),
        ({"tokens": TOKENS[:, :1]}, r"tokens is of shape \(3, 1\): give at least two tokens a row"),
        ({"response_mask": MASK[:2]}, r"response_mask is of shape \(2, 4\): its B must be 3"),
        ({"response_mask": MASK.long()}, "response_mask is of dtype torch.int64: give a bool"),
        (
            {"response_mask": MASK & (ROWS != 1)[:, None]},
            r"response_mask\[1\] is False everywhere: drop rows",
        ),
        ({"response_mask": torch.ones_like(MASK)}, r"response_mask\[:, 0\] is True: the first token has no"),
        ({"targets": TOKENS[:, 1:]}, r"targets is of shape \(3, 3\): its T must be 4"),
        ({"targets": PLACES}, "targets is of dtype torch.float32: give a integer"),
        ({"sequence": TOKENS[:1]}, r"sequence is of shape \(1, 4\): its B must be 3"),
        ({"sequence": MASK}, "sequence is of dtype torch.bool: give a integer"),
        (
            {"sequence": PLACES.long()},
            "response_mask is True on the first token of a sequence: it has no context",
        ),
    ],
)
def test_what_is_wrong_is_named_when_a_batch_is_made(fields, message):
    given_ = {"tokens": TOKENS} | ({} if "tokens" in fields else {"response_mask": MASK}) | fields
    with pytest.raises(ValueError, match=message) as error:
        Batch(**given_)
    assert "\n" not in str(error.value)


def test_a_name_that_is_no_field_is_refused():
    with pytest.raises(TypeError, match="pairs"):
        Batch(TOKENS, MASK, pairs=3)


# --- needs --------------------------------------------------------------------------------------------------


def test_what_a_method_needs_may_have_any_of_the_forms():
    """B and T are the batch's; another letter stands for any size; several at once."""
    batch = full()
    batch.needs(rewards="B float", reference="B T float", keep="B bool", group="B integer")
    batch.needs(teacher="B T V float", weight="P float", better="P integer")
    assert batch.needs() is None


@pytest.mark.parametrize(
    "fields, form, message",
    [
        ({}, {"reference": "B float"}, r"^batch.reference is missing: give a float tensor \(B\)$"),
        ({}, {"teacher": "B T V float"}, r"^batch.teacher is missing: give a float tensor \(B, T, V\)$"),
        (
            {"rewards": PLACES},
            {"rewards": "B float"},
            r"batch.rewards is of shape \(3, 4\): give shape \(B\)",
        ),
        (
            {"rewards": ROWS[:2].float()},
            {"rewards": "B float"},
            r"batch.rewards is of shape \(2,\): its B must",
        ),
        (
            {"values": PLACES[:, 1:]},
            {"values": "B T float"},
            r"batch.values is of shape \(3, 3\): its T must be 4",
        ),
        ({"keep": ROWS}, {"keep": "B bool"}, "batch.keep is of dtype torch.int64: give a bool"),
        ({"rewards": [1.0] * 3}, {"rewards": "B float"}, "batch.rewards is list: give a torch tensor"),
        ({"rewards": ROWS.float()}, {"rewards": "B float", "kl": "B float"}, "batch.kl is missing"),
        (
            {"weight": torch.ones(2), "better": torch.tensor([0])},
            {"weight": "P float", "better": "P integer"},
            r"batch.better is of shape \(1,\): its P must be 2, as in the other arguments",
        ),
    ],
)
def test_what_is_missing_or_wrong_is_named_with_the_batch(fields, form, message):
    with pytest.raises(ValueError, match=message):
        Batch(TOKENS, MASK, **fields).needs(**form)


# --- rows ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "index", [slice(0, 2), slice(2, 3), torch.tensor([2, 0]), torch.tensor([1]), torch.tensor([1, 1, 0, 2])]
)
def test_rows_cuts_what_has_an_entry_a_row_and_nothing_else(index):
    """Choices and thumbs are not cut, though here they have as many entries as there are rows."""
    batch = full()
    some = batch.rows(index)
    assert torch.equal(some.tokens, TOKENS[index]) and torch.equal(some.response_mask, MASK[index])
    for name, value in PER_ROW.items():
        assert torch.equal(getattr(some, name), value[index]), name
    for name, value in OTHERS.items():
        assert getattr(some, name) is value, name
    assert some.divide_by == 7


def test_rows_leaves_the_batch_as_it_was():
    batch = full()
    batch.rows(slice(0, 1)).divide_by = 3
    assert torch.equal(batch.tokens, TOKENS) and torch.equal(batch.rewards, ROWS.float())
    assert batch.divide_by == 7


def test_rows_leaves_numbers_and_what_is_missing():
    """A number for a baseline, choices in another number than rows, and None."""
    batch = Batch(TOKENS, MASK, baseline=0.5, better=torch.tensor([0]), weight=torch.ones(1))
    some = batch.rows(slice(1, 3))
    assert some.baseline == 0.5 and some.better.tolist() == [0] and some.weight.tolist() == [1]
    assert some.rewards is None and len(some.tokens) == 2


# --- the rest -----------------------------------------------------------------------------------------------


def test_a_batch_moves_its_tensors_and_keeps_the_rest():
    batch = full()
    moved = batch.to("meta")
    for name in ("tokens", "response_mask", *PER_ROW, *OTHERS):
        assert getattr(moved, name).device.type == "meta" and getattr(batch, name).device.type == "cpu", name
    assert moved.divide_by == 7 and Batch(TOKENS, baseline=0.5).to("meta").baseline == 0.5
    assert Batch(TOKENS).to("meta").rewards is None


def test_the_answers_are_the_ids_of_y():
    """Holes in the mask are left out: what a tool wrote is no answer."""
    assert Batch(TOKENS, MASK).responses() == [[9, 0], [6, 6, 0], [2, 0]]
    holes = torch.tensor([[False, True, False, True]])
    assert Batch(TOKENS[:1], holes).responses() == [[8, 0]]


def test_a_batch_is_a_draw_of_one():
    batch = full()
    assert [b is batch for b in batch] == [True]


# --- how rows are made --------------------------------------------------------------------------------------


def test_turns_by_hand():
    """Two turns of one conversation are two pairs, in one row."""
    batch = batch_turns([[([7], [8, 0]), ([9], [0])], [([5, 5], [6])]])
    assert batch.tokens.tolist() == [[7, 8, 0, 9, 0], [5, 5, 6, 0, 0]]
    assert batch.response_mask.int().tolist() == [[0, 1, 1, 0, 1], [0, 0, 1, 0, 0]]
    assert batch.divide_by == 3 and batch.sequence is None


def test_packed_by_hand():
    """The longest first, each into the first row with room; −1 is padding."""
    batch = batch_packed([[([7], [8, 0])], [([9], [0])], [([1, 2], [3, 0])]], 5)
    assert batch.tokens.tolist() == [[1, 2, 3, 0, 0], [7, 8, 0, 9, 0]]
    assert batch.sequence.tolist() == [[2, 2, 2, 2, -1], [0, 0, 0, 1, 1]]
    assert batch.response_mask.int().tolist() == [[0, 0, 1, 1, 0], [0, 1, 1, 0, 1]]
    assert batch.divide_by == 3


def test_pairs_have_no_divisor_of_their_own():
    """None: the sum is divided by the rows."""
    assert batch_pairs([([7], [8, 0])]).divide_by is None


def test_pairs_by_hand():
    batch = batch_pairs([([7, 8], [9, 0]), ([5], [6, 6, 0])])
    assert batch.tokens.tolist() == [[7, 8, 9, 0], [5, 6, 6, 0]]
    assert batch.response_mask.tolist() == [[False, False, True, True], [False, True, True, True]]
    short = batch_pairs([([7], [9]), ([5], [6, 6, 0])])
    assert short.tokens[0].tolist() == [7, 9, 0, 0]
    assert short.response_mask[0].tolist() == [False, True, False, False]


IDS = st.lists(st.integers(0, 600), min_size=1, max_size=9)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(IDS, IDS), min_size=1, max_size=6))
def test_pairs_can_be_read_back(pairs):
    """The mask picks out the responses; what stands before it is the prompt; what stands after is padding."""
    batch = batch_pairs(pairs)
    for row, mask, (prompt, response) in zip(batch.tokens, batch.response_mask, pairs):
        assert row[mask].tolist() == response
        first = int(mask.long().argmax())
        assert row[:first].tolist() == prompt
        assert not row[first + len(response) :].any() and int(mask.sum()) == len(response)


def test_windows_are_stretches_of_the_text():
    """Every row is ids[s:s + length] for some s; the first token of each is context alone, and divide_by
    counts the rest.
    """
    ids = torch.arange(100, 140)
    batch = batch_windows(ids, 50, 7, torch.Generator().manual_seed(0))
    assert batch.tokens.shape == (50, 7) and batch.divide_by == 50 * 6 == int(batch.response_mask.sum())
    assert (batch.tokens.diff(dim=1) == 1).all() and not batch.response_mask[:, 0].any()


def test_every_window_can_come_up_the_first_and_the_last_among_them():
    """10 tokens, length 7: starts 0, 1, 2, 3 and no other, about evenly (400 draws, 100 each, ± 5 standard
    deviations of 8.7).
    """
    batch = batch_windows(torch.arange(10), 400, 7, torch.Generator().manual_seed(3))
    counts = batch.tokens[:, 0].bincount()
    assert len(counts) == 4 and (counts - 100).abs().max() < 44
    whole = batch_windows(torch.arange(10), 2, 10, torch.Generator().manual_seed(0))
    assert whole.tokens.tolist() == [list(range(10))] * 2


def test_windows_come_from_the_generator():
    ids = torch.arange(1000)
    draw = lambda seed: batch_windows(ids, 4, 5, torch.Generator().manual_seed(seed)).tokens  # noqa: E731
    assert torch.equal(draw(1), draw(1)) and not torch.equal(draw(1), draw(2))
