"""find-the-reply: batches made of transcripts, right in six ways and wrong in nineteen, for a learner's test.

Each takes transcripts (lists of parts, (who, ids)), kl (a number for each token), rewards, ended (B,) and
beta, and gives tokens, seen, mask, F (B, T). Several of the wrong ones have shipped in well-known libraries:
a mask longer than the tokens that were encoded anew, a loss mask that hides the replies from the model, an
end token that is taken for padding, rows that were cut and kept, the KL of a tool's tokens in the returns.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from minillm.expect import expect, expect_tensor
from minillm.returns import place_rewards, reward_to_go
from minillm.tokenizer import CALL, CALL_END, END, REPLY, REPLY_END

from ..planted import finds_planted
from ..planting import DIFFER, as_floats

Rows = tuple[Tensor, Tensor, Tensor, Tensor]
WRITERS = ("person", "model", "tool")
PERSON, MODEL, TOOL = range(3)
JOINED = {(10, 11): 20}         # what the tokenizer makes of two ids that stand side by side


def handed_out(inside: Callable[..., Rows]) -> Callable[..., Rows]:
    """The function as a learner's test gets it: one name, signature and set of checks for all code."""

    def make_batch(transcripts, kl, rewards: Tensor, ended: Tensor, beta: float) -> Rows:
        """tokens, seen, mask, F (B, T) of transcripts with tools: so it claims."""
        expect(isinstance(transcripts, list | tuple) and len(transcripts) > 0, "transcripts",
               type(transcripts).__name__, "give a list of one transcript or more")
        B = len(transcripts)
        rewards, ended = (torch.tensor(x) if isinstance(x, list | tuple) else x for x in (rewards, ended))
        rewards = as_floats(rewards)
        expect_tensor("rewards", rewards, "B", "float", B=B)
        expect_tensor("ended", ended, "B", "bool", B=B)
        expect(len(kl) == B, "kl", f"{len(kl)} rows long", f"give a list for each of the {B} transcripts")
        expect(beta >= 0, "beta", beta, "give 0 or more")
        ids, who = [], []
        for b, parts in enumerate(transcripts):
            place = f"transcripts[{b}]"
            for part in parts:
                fits = isinstance(part, list | tuple) and len(part) == 2 and part[0] in WRITERS
                expect(fits, place, f"one with {part!r}"[:80],
                       'give parts (who, ids), who "person", "model" or "tool"')
                expect(len(part[1]) > 0, place, "one with a part without ids", "leave it out")
            ids.append([int(token) for _, part in parts for token in part])
            who.append([WRITERS.index(name) for name, part in parts for _ in part])
            expect(bool(who[b]) and who[b][0] == PERSON, place, "one that does not begin with a person",
                   "x comes first")
            expect(MODEL in who[b], place, "one in which the model wrote nothing", "leave it out")
            last = who[b][-1] == MODEL and ids[b][-1] == END
            expect(last == bool(ended[b]), f"ended[{b}]", bool(ended[b]),
                   "an answer that ended has the model's end token, 0, at its end, and no other has")
            expect(END not in ids[b][:-1], place, "one with a 0 before its end",
                   "0 is the end token: give other ids")
            expect(len(kl[b]) == len(ids[b]), f"kl[{b}]", f"{len(kl[b])} numbers",
                   f"give one for each of the {len(ids[b])} tokens of the row")
        numbers = [[float(number) for number in row] for row in kl]
        tokens, seen, mask, F = inside(ids, who, numbers, rewards.float(), ended, float(beta))
        F = F.to(rewards.dtype)         # as the learner's own numbers are
        return tokens.clone(), seen.clone(), mask.clone(), F.clone()

    return make_batch


def padded(rows, width=None, dtype=torch.long):
    """Rows of any lengths, with 0 at the right: (B, T)."""
    out = torch.zeros(len(rows), width or max(map(len, rows)), dtype=dtype)
    for b, row in enumerate(rows):
        out[b, :len(row)] = torch.tensor(row, dtype=dtype)[:out.shape[1]]
    return out


def tables(ids, who, kl):
    """tokens, who (−1: padding), kl, seen: (B, T) each."""
    tokens = padded(ids)
    seen = padded([[True] * len(row) for row in ids], dtype=torch.bool)
    return tokens, torch.where(seen, padded(who), -1), padded(kl, dtype=torch.float32), seen


def to_go(numbers: Tensor) -> Tensor:
    """The sum from each token on: (B, T)."""
    return numbers.flip(1).cumsum(1).flip(1)


def by_tables(ids, who, kl, rewards, ended, beta, *, model=None, active=None, paid_for=None,
              summed=to_go, shown=None):
    """Everything at once, and the places where it may go wrong.

    model (tokens, who): whose tokens are y. active: the rows that learn. paid_for (mask, who): whose KL is in
    the sum. summed: what is made of it. shown (tokens, who, mask): what the model may look at.
    """
    tokens, who, kl, seen = tables(ids, who, kl)
    mine = who == MODEL if model is None else model(tokens, who)
    mask = mine & (ended if active is None else active)[:, None]
    charged = mine if paid_for is None else paid_for(mine, who)
    F = rewards[:, None] - beta * summed(kl.where(charged, 0.0))
    return tokens, seen if shown is None else shown(tokens, who, mine), mask, F.where(mask, 0.0)


# right


def token_by_token(ids, who, kl, rewards, ended, beta):
    """From the last token of each row to its first."""
    B, T = len(ids), max(map(len, ids))
    tokens, F = torch.zeros(B, T, dtype=torch.long), torch.zeros(B, T)
    seen, mask = torch.zeros(B, T, dtype=torch.bool), torch.zeros(B, T, dtype=torch.bool)
    for b in range(B):
        left = float(rewards[b])
        for t in reversed(range(len(ids[b]))):
            tokens[b, t], seen[b, t] = ids[b][t], True
            if who[b][t] == MODEL:
                left -= beta * kl[b][t]
                mask[b, t] = ended[b]
                F[b, t] = left if ended[b] else 0.0
    return tokens, seen, mask, F


def by_the_package(ids, who, kl, rewards, ended, beta):
    """minillm's returns: R on the last token, −beta·kl on each, and the sum to go."""
    tokens, who, kl, seen = tables(ids, who, kl)
    mine = who == MODEL
    F = reward_to_go(place_rewards(rewards, mine) - beta * kl.where(mine, 0.0), mine)
    return tokens, seen, mine & ended[:, None], F * ended[:, None]


def by_products(ids, who, kl, rewards, ended, beta):
    """The sum as a product with a triangle; masks as numbers."""
    tokens, who, kl, seen = tables(ids, who, kl)
    mine = (who == MODEL).float()
    later = torch.ones(tokens.shape[1], tokens.shape[1], dtype=kl.dtype).tril()
    mask = mine * ended.float()[:, None]
    return tokens, seen, mask > 0, mask * (rewards[:, None] - beta * (mine * kl) @ later)


def in_float64(ids, who, kl, rewards, ended, beta):
    """What has passed taken off the whole, in float64, rounded at the end."""
    tokens, who, kl, seen = tables(ids, who, kl)
    charged = kl.double().where(who == MODEL, 0.0)
    left = charged.sum(1, keepdim=True) - charged.cumsum(1) + charged
    mask = (who == MODEL) & ended[:, None]
    return tokens, seen, mask, (rewards.double()[:, None] - beta * left).where(mask, 0.0).float()


def rounded(ids, who, kl, rewards, ended, beta):
    """by_tables with a rounding error of its own."""
    tokens, seen, mask, F = by_tables(ids, who, kl, rewards, ended, beta)
    return tokens, seen, mask, F * (1 + 3e-7)


RIGHT = (by_tables, token_by_token, by_the_package, by_products, in_float64, rounded)


# wrong


def encoded_anew(ids, who, kl, rewards, ended, beta):
    """The row's text is encoded again, and may be shorter then; mask and F stay as long as they were."""
    tokens, seen, mask, F = by_tables(ids, who, kl, rewards, ended, beta)
    again = []
    for row in ids:
        new = []
        for token in row:
            pair = tuple([*new[-1:], token])
            new = [*new[:-1], JOINED[pair]] if pair in JOINED else [*new, token]
        again.append(new)
    T = tokens.shape[1]
    return padded(again, T), padded([[True] * len(row) for row in again], T, torch.bool), mask, F


def replies_dropped(ids, who, kl, rewards, ended, beta):
    """What the tools wrote is taken out of the rows; they stay as wide."""
    T = max(map(len, ids))
    kept = [[t for t, w in enumerate(row) if w != TOOL] for row in who]
    rows = ([[row[t] for t in some] for row, some in zip(each, kept)] for each in (ids, who, kl))
    return tuple(torch.nn.functional.pad(found, (0, T - found.shape[1]))
                 for found in by_tables(*rows, rewards, ended, beta))


def between(tokens, first, last):
    """True from each mark `first` to the next `last`, both with it: (B, T)."""
    inside, found = torch.zeros(len(tokens), dtype=torch.bool), torch.zeros_like(tokens, dtype=torch.bool)
    for t, column in enumerate(tokens.T):
        inside = inside | (column == first)
        found[:, t] = inside
        inside = inside & (column != last)
    return found


def tools_in_the_mask(*given):
    """The replies are y too."""
    return by_tables(*given, model=lambda tokens, who: (who == MODEL) | (who == TOOL))


def later_questions_in(*given):
    """All from the model's first token on is y, but what tools wrote."""
    return by_tables(*given, model=lambda tokens, who: ((who == MODEL).cumsum(1) > 0) & (who >= 0)
                     & (who != TOOL))


def calls_left_out(*given):
    """The model's calls are no part of y."""
    return by_tables(*given, model=lambda tokens, who: (who == MODEL) & ~between(tokens, CALL, CALL_END))


def made_up_left_out(*given):
    """All that stands between a reply's marks is no part of y, whoever wrote it."""
    return by_tables(*given, model=lambda tokens, who: (who == MODEL) & ~between(tokens, REPLY, REPLY_END))


def last_part_alone(*given):
    """What the model wrote behind the last token of somebody else."""
    return by_tables(*given, model=lambda tokens, who: (who == MODEL)
                     & (to_go(((who == PERSON) | (who == TOOL)).long()) == 0))


def closing_mark_in(*given):
    """The last token of each reply is y too."""
    return by_tables(*given, model=lambda tokens, who: (who == MODEL) | (
        (who == TOOL) & (torch.cat([who[:, 1:], torch.full_like(who[:, :1], -1)], 1) != TOOL)))


def end_left_out(*given):
    """What has the padding's id is no part of y."""
    return by_tables(*given, model=lambda tokens, who: (who == MODEL) & (tokens != END))


def trimmed_in_front(*given):
    """The mask loses its first place in place of its last: it stands one place early, and F with it."""
    tokens, seen, mask, F = by_tables(*given)
    return (tokens, seen, *(torch.cat([x[:, 1:], torch.zeros_like(x[:, :1])], 1) for x in (mask, F)))


def loss_mask_for_seen(*given):
    """The model sees its own tokens alone."""
    return by_tables(*given, shown=lambda tokens, who, mine: mine)


def replies_unseen(*given):
    """The model sees everything but the replies."""
    return by_tables(*given, shown=lambda tokens, who, mine: (who >= 0) & (who != TOOL))


def end_unseen(*given):
    """What has the padding's id is taken for padding."""
    return by_tables(*given, shown=lambda tokens, who, mine: tokens != END)


def cut_rows_active(ids, who, kl, rewards, ended, beta):
    """Rows that were cut learn like others."""
    return by_tables(ids, who, kl, rewards, ended, beta, active=torch.ones_like(ended))


def cut_rows_in_the_mask(ids, who, kl, rewards, ended, beta):
    """F of a row that was cut is 0, and its tokens are counted."""
    tokens, seen, mask, F = by_tables(ids, who, kl, rewards, ended, beta, active=torch.ones_like(ended))
    return tokens, seen, mask, F * ended[:, None]


def tools_kl(*given):
    """The KL of the tools' tokens is paid for as well."""
    return by_tables(*given, paid_for=lambda mine, who: mine | (who == TOOL))


def kl_so_far(*given):
    """The KL up to each token in place of that from it on."""
    return by_tables(*given, summed=lambda numbers: numbers.cumsum(1))


def own_kl_alone(*given):
    """Each token pays its own KL, and not what came of it."""
    return by_tables(*given, summed=lambda numbers: numbers)


def F_on_the_replies(ids, who, kl, rewards, ended, beta):
    """The mask is right, and F has numbers where a tool wrote."""
    tokens, seen, mask, F = by_tables(ids, who, kl, rewards, ended, beta)
    more = by_tables(ids, who, kl, rewards, ended, beta, paid_for=lambda mine, who: who == MODEL,
                     model=lambda tokens, who: (who == MODEL) | (who == TOOL))[3]
    return tokens, seen, mask, more


TOKENS = "tokens hold the very ids of all parts, in order, and then 0"
MASK = ("mask is True on every token that the model wrote, in calls and at marks and at the end too, and "
        "nowhere else")
SEEN = "seen is True on every token of a row, whoever wrote it, and False in the padding alone"
CUT = "in a row that did not end, mask is False and F is 0 everywhere; tokens and seen are as in others"
RETURN = ("F of a token is R less beta times the sum of kl over the model's own tokens from this one on, and "
          "0 where mask is False")

# (what is wrong, on what it shows, the code, the law that sees it)
WRONG = (
    ("the tokens are encoded anew, and mask and F stay as long as they were",
     "a row in which 10 and 11 stand side by side", encoded_anew, TOKENS),
    ("the tools' replies are taken out of the rows", "a row with a reply", replies_dropped, TOKENS),
    ("the tools' tokens are in the mask", "a row with a reply", tools_in_the_mask, MASK),
    ("what a person says later is in the mask", "a row in which a person speaks a second time",
     later_questions_in, MASK),
    ("the model's calls are left out of the mask", "a row with a call", calls_left_out, MASK),
    ("a reply that the model made up is left out of the mask",
     "a part of the model's with a reply's marks in it", made_up_left_out, MASK),
    ("what the model wrote before somebody else spoke is left out of the mask",
     "a row with two parts of the model's", last_part_alone, MASK),
    ("the reply's last token is in the mask", "a row with a reply", closing_mark_in, MASK),
    ("the end token is left out of the mask", "a row that ended", end_left_out, MASK),
    ("mask and F are trimmed at the wrong end: they stand one place too early", "any row", trimmed_in_front,
     MASK),
    ("the mask for the loss is used for what the model may look at", "any row", loss_mask_for_seen, SEEN),
    ("the model may not look at the tools' replies", "a row with a reply", replies_unseen, SEEN),
    ("the end token is taken for padding, and is not seen", "a row that ended", end_unseen, SEEN),
    ("a row that was cut learns like others", "a row that did not end", cut_rows_active, CUT),
    ("a row that was cut has F = 0, and stays in the mask", "a row that did not end", cut_rows_in_the_mask,
     CUT),
    ("the kl of the tools' tokens is in the sum", "a reply with kl that is not 0, and beta above 0", tools_kl,
     RETURN),
    ("the sum of kl goes up to this token, and not from it on", "a row whose kl differ, and beta above 0",
     kl_so_far, RETURN),
    ("each token has its own kl alone, without what follows", "a row whose kl are not 0, and beta above 0",
     own_kl_alone, RETURN),
    ("F has numbers on the tools' tokens, where mask is False", "a row with a reply", F_on_the_replies,
     RETURN),
)

# these have the right mask
BEHIND_THE_MASK = (encoded_anew, loss_mask_for_seen, replies_unseen, end_unseen, tools_kl, kl_so_far,
                   own_kl_alone, F_on_the_replies)

FIND_THE_REPLY = finds_planted(
    name="find-the-reply", title="A test that finds what leaked", minutes=40, difficulty=3,
    argument="make_batch", handed_out=handed_out, right=RIGHT, wrong=WRONG,
    hides="; numbers that happen to be equal hide it",
    differ=DIFFER,
    advice=("Then something that you expect is not claimed. T is the length of the longest row. mask and F "
            "are aligned with the tokens. A row that did not end is seen like others, and learns nothing. "
            "The sum of kl begins with the token's own."),
    learned=("You have a test that knows who wrote what. None of these mistakes raises an error: a model "
             "only learns something else."),
    hints=(
        "Begin with one row: a person, the model with a call, a tool, the model again with 0 at its end. "
        "Write the four answers for it by hand, a number for each token, with kl all different and beta 0.5. "
        "Compare all places.",
        "Then more rows. One in which the model makes up a reply: 7 and 8 in a part of its own. One in which "
        "a person speaks twice. One that is cut: ended is False, and no 0 at its end. Rows of different "
        "lengths, so that there is padding.",
        "Last the ids: put 10 and 11 side by side into a part. Compare tokens, seen and mask by torch.equal, "
        "and F by torch.allclose."),
    half=("only the mask is looked at",
          "The mask is looked at, and the rest is not. Tokens, seen and F can be wrong behind a right mask.",
          BEHIND_THE_MASK),
    or_not=(cut_rows_active, cut_rows_in_the_mask, made_up_left_out, later_questions_in))
