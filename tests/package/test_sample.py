"""Sampling: it draws from the distribution that it says it draws from, rows do not touch each other, and
nothing is paid twice.
"""

from __future__ import annotations

import pytest
import torch

from conftest import Tiny, slow_logp
from minillm.identity import every_answer
from minillm.batch import batch_pairs
from minillm.logprob import logprobs
from minillm.sample import ask, draw, sample, stream
from minillm.tokenizer import Tokenizer
from minillm.transformer import Config, Transformer, readable_logits

PROMPTS = [[1, 2, 3, 4, 5], [6], [7, 8, 1], [2, 2], [5, 4, 3, 2, 1, 6, 7]]
SHAPES = {
    "MHA": dict(n_heads=4, n_kv_heads=4),
    "GQA": dict(n_heads=4, n_kv_heads=2),
    "MQA": dict(n_heads=4, n_kv_heads=1),
}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def model_of(seed=0, dtype=torch.float32, **shape):
    return Tiny(
        seed,
        dtype,
        **({"vocab_size": 9, "d_model": 16, "n_heads": 4, "n_kv_heads": 2, "context": 32} | shape),
    )


class Countdown(Transformer):
    """After token k comes k − 1, down to 0, the end: a prompt that ends in k is answered in k tokens.

    Writes down what it reads.
    """

    def __init__(self):
        super().__init__(
            Config(vocab_size=20, d_model=8, n_layers=1, n_heads=2, n_kv_heads=1, d_ff=4, context=64)
        )
        self.read = []

    def hidden(self, tokens, cache=None):
        self.read.append(tuple(tokens.shape))
        super().hidden(tokens, cache)  # the cache goes its usual way
        return torch.nn.functional.one_hot((tokens - 1).clamp(min=0), 20).float()

    def logits(self, hidden):
        return 100 * hidden


# --- greedy -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [None, 0, 3])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_greedy_is_the_largest_logit_step_by_step(shape, end):
    """Against the readable path, one prompt at a time, no cache, no padding: the same tokens, in float64, for
    prompts of any length.
    """
    model = model_of(2, torch.float64, **shape)
    by_hand = []
    for prompt in PROMPTS:
        text = list(prompt)
        while len(text) < len(prompt) + 10 and (len(text) == len(prompt) or text[-1] != end):
            text.append(int(readable_logits(model, torch.tensor([text]))[0, -1].argmax()))
        by_hand.append(text[len(prompt) :])
    batch = sample(model, PROMPTS, 10, temperature=0, end=end)
    assert batch.responses() == by_hand
    assert batch.ended.tolist() == [y[-1] == end for y in by_hand]
    assert len({tuple(y) for y in by_hand}) > 1  # the prompts matter


@pytest.mark.parametrize("seed", range(5))
def test_a_greedy_row_does_not_depend_on_its_neighbours(seed):
    """Alone, in another order, beside longer ones, beside rows that end at once: the same answer."""
    model = model_of(seed)
    together = sample(model, PROMPTS, 12, temperature=0).responses()
    assert sample(model, PROMPTS[::-1], 12, temperature=0).responses() == together[::-1]
    for prompt, answer in zip(PROMPTS, together):
        assert sample(model, [prompt], 12, temperature=0).responses() == [answer]
        assert sample(model, [prompt, PROMPTS[0]], 12, temperature=0).responses()[0] == answer


def test_all_greedy_answers_to_a_prompt_are_one_answer():
    answers = sample(model_of(1), PROMPTS, 8, n=3, temperature=0).responses()
    assert [answers[i] for i in range(0, 15, 3)] == sample(model_of(1), PROMPTS, 8, temperature=0).responses()
    assert all(answers[i] == answers[i - i % 3] for i in range(15))


# --- what comes back ----------------------------------------------------------------------------------------


def test_the_batch_by_hand():
    """Countdown from 3, 1 and 5, three tokens at most: [2, 1, 0] ended, [0] ended, [4, 3, 2] was cut."""
    batch = sample(Countdown(), [[9, 3], [1], [7, 7, 5]], 3, temperature=0)
    assert batch.tokens.tolist() == [[9, 3, 2, 1, 0, 0], [1, 0, 0, 0, 0, 0], [7, 7, 5, 4, 3, 2]]
    assert batch.response_mask.long().tolist() == [[0, 0, 1, 1, 1, 0], [0, 1, 0, 0, 0, 0], [0, 0, 0, 1, 1, 1]]
    assert batch.ended.tolist() == [True, True, False] and batch.group.tolist() == [0, 1, 2]
    assert (batch.logprobs == 0).all()  # log 1 where it is sure, 0 off the response


def test_the_end_token_is_in_the_mask_and_nothing_after_it():
    """On 40 rows drawn at random: each answer holds the end token at most once, as its last; ended says
    whether it does.
    """
    batch = sample(model_of(3), PROMPTS, 10, n=8, generator=seeded())
    for answer, ended in zip(batch.responses(), batch.ended.tolist()):
        assert (0 in answer) == ended and 0 not in answer[:-1]
        assert ended or len(answer) == 10
    assert 0 < int(batch.ended.sum()) < 40


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_any_of_several_ends_closes_an_answer(temperature):
    """Each row is the row that no end closes, up to the first of them; the other rows are as they were."""
    model, how = model_of(), {"n": 3, "temperature": temperature}
    open_ended = sample(model, PROMPTS, 12, end=None, generator=seeded(), **how).responses()
    for end in ((0, 4), [4, 0], (4,), 4, ()):
        ends = {end} if isinstance(end, int) else set(end)
        batch = sample(model, PROMPTS[:1], 12, end=end, generator=seeded(), **how)
        for y, ended in zip(batch.responses(), batch.ended.tolist()):
            assert ended == (y[-1] in ends) and not set(y[:-1]) & ends
        if temperature == 0:
            cut = [y[:1 + min([y.index(e) for e in ends if e in y], default=len(y))] for y in open_ended]
            assert sample(model, PROMPTS, 12, end=end, **how).responses() == cut
    some = sample(model, PROMPTS, 12, end=(4,), generator=seeded(), **how)
    assert some.responses() == sample(model, PROMPTS, 12, end=4, generator=seeded(), **how).responses()


def test_n_answers_come_prompt_by_prompt():
    batch = sample(model_of(), PROMPTS, 4, n=3, generator=seeded())
    assert batch.group.tolist() == [i for i in range(5) for _ in range(3)]
    for row, mask, g in zip(batch.tokens, batch.response_mask, batch.group.tolist()):
        assert row[: len(PROMPTS[g])].tolist() == PROMPTS[g] and not mask[: len(PROMPTS[g])].any()


def test_one_token_and_the_whole_context():
    """The least and the most that can be asked for: 1, and what the longest prompt leaves of the context."""
    assert sample(model_of(), PROMPTS, 1, generator=seeded()).response_mask.sum(1).tolist() == [1] * 5
    assert (
        sample(model_of(), PROMPTS, 32 - 7, end=None, generator=seeded()).response_mask.sum(1).tolist()
        == [25] * 5
    )


# --- under the very distribution that drew it ---------------------------------------------------------------


SETTINGS = [
    {},
    {"temperature": 0.6},
    {"temperature": 1.7},
    {"top_k": 3},
    {"top_p": 0.7},
    {"temperature": 1.3, "top_k": 5, "top_p": 0.9},
    {"temperature": 0},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_scoring_the_drawn_tokens_again_gives_the_same_numbers(settings, shape):
    """To 1e-5 in float32: one path reads through the cache with padding at the left, the other whole with
    padding at the right.
    """
    model = model_of(4, **shape)
    batch = sample(model, PROMPTS, 12, n=4, generator=seeded(), **settings)
    again = logprobs(model, batch, **settings)
    assert (again - batch.logprobs).abs().max() < 1e-5
    if settings.get("temperature", 1) > 0:
        assert batch.logprobs.min() < -0.5  # not all of them sure


def chi_square(counts, p):
    """Σ (seen − expected)² / expected, cells with p = 0 left out."""
    expected = counts.sum() * p
    cells = p > 0
    return float(((counts - expected)[cells].square() / expected[cells]).sum()), int(cells.sum()) - 1


# A chi-square with f degrees of freedom passes f + 7·sqrt(2f) + 20 less than once in a million draws for each
# f up to 40, so another seed passes too; a swapped or dropped answer among 20,000 draws adds hundreds.
def too_much(degrees):
    return degrees + 7 * (2 * degrees) ** 0.5 + 20


@pytest.mark.parametrize(
    "settings",
    [{}, {"temperature": 0.5}, {"top_k": 2}, {"top_p": 0.8}, {"temperature": 2.0, "top_p": 0.9}],
    ids=str,
)
def test_answers_come_as_often_as_their_listed_probabilities_say(settings):
    """20,000 answers to each of two prompts of unequal length, against all 15 answers' probabilities by
    listing.
    """
    model, prompts, answers = Tiny(6), [[1], [2, 1]], every_answer(3, 3)
    place = {tuple(y): i for i, y in enumerate(answers)}
    batch = sample(model, prompts, 3, n=20_000, generator=seeded(11), **settings)
    counts = torch.zeros(2, len(answers), dtype=torch.float64)
    for g, y in zip(batch.group.tolist(), batch.responses()):
        counts[g, place[tuple(y)]] += 1
    if settings:
        listed = batch_pairs([(x, y) for x in prompts for y in answers])
        p = logprobs(model, listed, **settings).detach().sum(1).exp().view(2, -1)
    else:
        p = slow_logp(model, prompts, answers).detach().exp()
    assert torch.allclose(p.sum(1), torch.ones(2, dtype=torch.float64))
    assert not counts[p == 0].any()  # nothing that the settings forbid
    for seen, listed in zip(counts, p):
        statistic, degrees = chi_square(seen, listed)
        assert statistic < too_much(degrees)
    statistic, degrees = chi_square(counts[0], p[1])
    assert statistic > 10 * too_much(degrees)  # the other prompt's probabilities would be seen


def test_draw_takes_each_index_as_often_as_it_says():
    """40,000 draws from (0.5, 0.3, 0.2, 0): the last never."""
    p = torch.tensor([0.5, 0.3, 0.2, 0.0])
    counts = draw(p.log().expand(40_000, 4), seeded(5)).bincount(minlength=4).double()
    statistic, degrees = chi_square(counts, p.double())
    assert counts[3] == 0 and statistic < too_much(degrees)


@pytest.mark.parametrize("u, first, second", [(0.0, 1, 0), (1 - 2**-53, 3, 4)])
def test_the_ends_of_the_uniform_number_draw_nothing_impossible(monkeypatch, u, first, second):
    """The smallest and the largest number that rand can give, on rows whose first or last tokens have
    probability 0: never one of those.
    """
    p = torch.tensor([[0.0, 0.1, 0.5, 0.4, 0.0], [0.2, 0.2, 0.2, 0.2, 0.2]])
    monkeypatch.setattr(torch, "rand", lambda *shape, **kw: torch.full(shape, u, dtype=kw["dtype"]))
    assert draw(p.log()).tolist() == [first, second]


def test_answers_to_one_prompt_are_drawn_apart():
    """Two answers to one prompt agree as often as chance says, Σ p², here over 8,000 pairs (5 standard
    deviations).
    """
    model = Tiny(6)
    p = slow_logp(model, [[1]], every_answer(3, 3))[0].detach().exp()
    answers = sample(model, [[1]], 3, n=16_000, generator=seeded(2)).responses()
    agree = sum(a == b for a, b in zip(answers[::2], answers[1::2])) / 8_000
    chance = float(p.square().sum())
    assert abs(agree - chance) < 5 * (chance * (1 - chance) / 8_000) ** 0.5


def test_a_generator_makes_it_again():
    """The same seed draws the same, whatever the global generator did; another seed draws something else."""
    torch.manual_seed(0)
    first = sample(model_of(), PROMPTS, 10, n=2, generator=seeded(7))
    torch.manual_seed(1)
    again, other = (
        sample(model_of(), PROMPTS, 10, n=2, generator=seeded(7)),
        sample(model_of(), PROMPTS, 10, n=2, generator=seeded(8)),
    )
    assert torch.equal(first.tokens, again.tokens) and torch.equal(first.logprobs, again.logprobs)
    assert first.responses() != other.responses()


# --- what it costs ------------------------------------------------------------------------------------------


def test_answers_to_one_prompt_share_its_prefill():
    """Two prompts, 50 answers each: the prompts are read once, 2 rows of 7; each step after reads one token a
    row.
    """
    model = Countdown()
    sample(model, [[9, 9, 9, 9, 9, 9, 4], [4]], 4, n=50, temperature=0)
    # 4 tokens: the last one written is never read
    assert model.read == [(2, 7), (100, 1), (100, 1), (100, 1)]


def test_rows_that_have_ended_are_not_computed():
    """One long answer, 18 tokens, beside 30 that end after one: the long one goes on alone."""
    model = Countdown()
    sample(model, [[1]] * 30 + [[18]], 30, temperature=0)
    assert model.read == [(31, 1)] + [(1, 1)] * 17


def test_the_rows_computed_are_never_many_more_than_those_going():
    """Answers of 1 to 16 tokens: at each step at most a third more rows than are still going (they are taken
    out by the quarter).
    """
    model, lengths = Countdown(), list(range(1, 17))
    sample(model, [[k] for k in lengths], 30, temperature=0)
    for step, (rows, width) in enumerate(model.read[1:], 1):
        going = sum(k > step for k in lengths)
        assert width == 1 and going <= rows < going / 0.75 + 1e-9 + 1
    assert len(model.read) == 16  # it stops with the longest answer


def test_rows_taken_out_leave_the_others_as_they_are():
    """A real model whose rows end at many different steps, with n answers each: log-probs of every row stand
    a second scoring.
    """
    model = model_of(3)
    batch = sample(model, PROMPTS, 20, n=12, generator=seeded(1))
    lengths = batch.response_mask.sum(1)
    assert len(lengths.unique()) > 5
    again = logprobs(model, batch)
    assert (again - batch.logprobs).abs().max() < 1e-5


# --- in words -----------------------------------------------------------------------------------------------


def test_ask_answers_each_question_as_it_would_alone():
    """n answers to each question, in order; greedy answers do not depend on the other questions."""
    tokenizer = Tokenizer.train(["who is it? it is a baker."] * 3, 280)
    model = Tiny(1, torch.float64, vocab_size=tokenizer.vocab_size, d_model=16, context=48)
    questions = ["who is it?", "a?", "is a baker it?"]
    together = ask(model, tokenizer, questions, 12)
    assert [ask(model, tokenizer, [q], 12)[0] for q in questions] == together
    assert ask(model, tokenizer, questions, 12, n=2) == [r for r in together for _ in range(2)]
    by_hand = sample(model, [tokenizer.prompt(questions[0])], 12, temperature=0)
    assert together[0] == tokenizer.read_response(by_hand.responses()[0])


# --- token by token -----------------------------------------------------------------------------------------


WAYS = {"greedy": dict(temperature=0), "plain": {}, "top-k": dict(temperature=2.0, top_k=7),
        "top-p": dict(top_p=0.95)}


@pytest.mark.parametrize("how", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("end", [None, 3, (0, 3)], ids=["never", "one end", "two ends"])
def test_a_stream_is_the_sample(how, end):
    """The same tokens, the same log p, bit for bit, and the generator is left alike."""
    model, lengths = model_of(4), set()
    for seed, prompt in enumerate(PROMPTS * 3):
        ours, theirs = seeded(seed), seeded(seed)
        batch = sample(model, [prompt], 9, end=end, generator=theirs, **how)
        drawn = list(stream(model, prompt, 9, end=end, generator=ours, **how))
        assert [token for token, _ in drawn] == batch.responses()[0]
        assert [logp for _, logp in drawn] == batch.logprobs[batch.response_mask].tolist()
        assert torch.equal(ours.get_state(), theirs.get_state())
        lengths.add(len(drawn))
    assert len(lengths) > 1 or end is None or how == WAYS["greedy"]  # some ended themselves, some were cut


def test_a_stream_gives_a_token_before_it_draws_the_next():
    """Countdown from 5: after the first token only the prompt was read, and no gradient is kept."""
    model = Countdown()
    coming = stream(model, [9, 5], 8, temperature=0)
    assert next(coming) == (4, 0.0) and model.read == [(1, 2)]
    assert [token for token, _ in coming] == [3, 2, 1, 0] and torch.is_grad_enabled()
