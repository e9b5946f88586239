"""Many turns, packed rows and teachers: each against the slow way, one text at a time, and against finite differences, every y listed."""

from __future__ import annotations

import pytest
import torch

from conftest import PROMPTS, Tiny, V, difference, gradients_of, make_policy, numeric_gradient, relative_error, slow_logp
from minillm.identity import every_answer, surrogate
from minillm.batch import Batch, batch_packed, batch_pairs, batch_turns
from minillm.logprob import all_logprobs, answer_logprobs, logprobs
from minillm.methods import distill, supervised
from minillm.tokenizer import ASSISTANT, END, USER, Tokenizer
from minillm.train import Settings, train
from minillm.transformer import GPT2, QWEN3, Family, apart

ROUNDING, FINITE = 1e-12, 1e-8
# Conversations of one to three turns, of unequal lengths; vocabulary 7.
TALKS = [[([1, 2], [3, 0]), ([4], [5, 6, 0])], [([6], [0])], [([2, 2, 5], [1, 4, 3, 0])], [([3], [2, 0]), ([5], [0]), ([1, 6], [4, 0])], [([4], [1, 1, 0])]]
SHAPES = {"rotary": {}, "learned places": {"family": GPT2}, "norms on q and k": {"family": QWEN3}, "no positions": {"family": Family(unrotated=(0, 1))}}


def talker(name="rotary"):
    return Tiny(3, vocab_size=7, context=24, **SHAPES[name])


def pairs_of(conversation):
    """Each turn as a pair of its own: x is all that stands before y."""
    before, pairs = [], []
    for prompt, response in conversation:
        pairs.append((before + prompt, response))
        before = before + prompt + response
    return pairs


def alone(model, conversation):
    """log p of each scored token of a conversation by the readable path, pair by pair, token by token, no batch and no mask."""
    return torch.stack([slow_logp_of(model, x, y, t) for x, y in pairs_of(conversation) for t in range(len(y))])


def slow_logp_of(model, x, y, t):
    return model.after([*x, *y[:t]]).log_softmax(-1)[y[t]]


# --- many turns -----------------------------------------------------------------------------------


def test_a_conversation_by_hand():
    batch = batch_turns([[([7], [8, 0]), ([9], [0])], [([5, 6], [4])]])
    assert batch.tokens.tolist() == [[7, 8, 0, 9, 0], [5, 6, 4, 0, 0]]
    assert batch.response_mask.int().tolist() == [[0, 1, 1, 0, 1], [0, 0, 1, 0, 0]]
    assert batch.divide_by == 3


def test_one_turn_is_a_pair():
    pairs = [([7, 8], [9, 0]), ([3], [0])]
    one, two = batch_turns([[pair] for pair in pairs]), batch_pairs(pairs)
    assert torch.equal(one.tokens, two.tokens) and torch.equal(one.response_mask, two.response_mask) and one.pairs == 2


def test_a_tokenizers_turns_are_marked_and_every_answer_ends():
    tokenizer = Tokenizer.train(["how old is he? he is nine."], 270)
    (x1, y1), (x2, y2) = tokenizer.turns([("how old?", "nine."), ("and he?", "ten.")])
    assert (x1[0], x1[-1], y1[-1]) == (x2[0], x2[-1], y2[-1]) == (USER, ASSISTANT, END)
    assert tokenizer.decode(x2) == "and he?" and tokenizer.read_response(y2).text == "ten."


def test_every_turn_is_scored_as_a_pair_whose_x_is_all_before_it():
    model = talker()
    batch = batch_turns(TALKS)
    logp = logprobs(model, batch)
    slow = torch.cat([alone(model, talk) for talk in TALKS])
    assert torch.allclose(logp[batch.response_mask], slow, atol=ROUNDING, rtol=0)
    each = batch_pairs([pair for talk in TALKS for pair in pairs_of(talk)])
    at_once = surrogate(supervised.coefficient(batch.response_mask), logp, batch.response_mask, batch.divide_by)
    one_by_one = surrogate(supervised.coefficient(each.response_mask), logprobs(model, each), each.response_mask)
    assert batch.divide_by == len(each.tokens) == 8
    assert difference(gradients_of(at_once, model), gradients_of(one_by_one, model)) < ROUNDING


# --- packed rows ----------------------------------------------------------------------------------


def test_packing_by_hand():
    """Lengths 3, 2, 4 into rows of 6: the 4 and the 2 share one, the 3 has its own."""
    batch = batch_packed([[([1], [2, 0])], [([3], [0])], [([4, 5], [6, 0])]], 6)
    assert batch.tokens.tolist() == [[4, 5, 6, 0, 3, 0], [1, 2, 0, 0, 0, 0]]
    assert batch.sequence.tolist() == [[2, 2, 2, 2, 1, 1], [0, 0, 0, -1, -1, -1]]
    assert batch.response_mask.int().tolist() == [[0, 0, 1, 1, 0, 1], [0, 1, 1, 0, 0, 0]]
    assert batch.divide_by == 3


@pytest.mark.parametrize("length", [9, 10, 12, 24])
def test_packing_keeps_everything_once_and_in_order(length):
    batch = batch_packed(TALKS, length)
    assert batch.tokens.shape[1] <= length
    for i, talk in enumerate(TALKS):
        rows = (batch.sequence == i).any(1).nonzero()[:, 0]
        assert len(rows) == 1
        here = batch.sequence[rows[0]] == i
        assert batch.tokens[rows[0]][here].tolist() == [t for x, y in talk for t in (*x, *y)]
        assert batch.response_mask[rows[0]][here].tolist() == [scored for x, y in talk for scored in [False] * len(x) + [True] * len(y)]
    assert (batch.sequence >= 0).sum() == sum(len(x) + len(y) for talk in TALKS for x, y in talk)
    assert not batch.response_mask[batch.sequence < 0].any() and batch.divide_by == 8


def test_positions_begin_again_and_nobody_sees_another():
    position, mask = apart(torch.tensor([[4, 4, 4, 1, 1, -1], [0, 2, 2, 2, 2, 2]]))
    assert position.tolist() == [[0, 1, 2, 0, 1, 0], [0, 0, 1, 2, 3, 4]]
    assert mask.shape == (2, 1, 6, 6)
    assert mask[0, 0].int().tolist() == [[1, 0, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 0, 0], [0, 0, 0, 1, 1, 0], [0, 0, 0, 0, 0, 1]]
    assert mask[1, 0, 5].int().tolist() == [0, 1, 1, 1, 1, 1]


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("length", [9, 12, 24])
def test_packed_log_probs_are_those_of_each_alone(name, length):
    model = talker(name)
    batch = batch_packed(TALKS, length)
    logp = logprobs(model, batch)
    every = all_logprobs(model, batch).view(len(logp), 7, -1)
    assert torch.allclose(every.gather(1, batch.tokens[:, None])[:, 0] * batch.response_mask, logp, atol=ROUNDING, rtol=0)
    for i, talk in enumerate(TALKS):
        here = batch.response_mask & (batch.sequence == i)
        assert torch.allclose(logp[here], alone(model, talk), atol=ROUNDING, rtol=0)


@pytest.mark.parametrize("name", SHAPES)
def test_no_gradient_reaches_another_sequence(name):
    """∂ log p of one conversation / ∂ embedding of any token of another is 0 exactly; of its own, it is not."""
    model = talker(name)
    batch = batch_packed(TALKS, 12)
    read = []
    hook = model.embed.register_forward_hook(lambda _, __, out: read.append(out.requires_grad_()))
    logp = logprobs(model, batch)
    hook.remove()
    for i in range(len(TALKS)):
        mine = logp[batch.response_mask & (batch.sequence == i)].sum()
        gradient, = torch.autograd.grad(mine, read, retain_graph=True)
        assert gradient[batch.sequence != i].abs().max() == 0
        assert gradient[batch.sequence == i].abs().max() > 1e-3


@pytest.mark.parametrize("name", SHAPES)
def test_packed_and_plain_rows_have_one_gradient(name):
    model, plain, packed = talker(name), batch_turns(TALKS), batch_packed(TALKS, 12)
    assert len(packed.tokens) < len(plain.tokens)

    def gradient(batch):
        logp = logprobs(model, batch, sequence=getattr(batch, "sequence", None))
        return gradients_of(surrogate(supervised.coefficient(batch.response_mask), logp, batch.response_mask, batch.divide_by), model)
    assert difference(gradient(packed), gradient(plain)) < ROUNDING


@pytest.mark.parametrize("name, planted, seen", [
    ("rotary", "no mask", True), ("rotary", "no restart", False), ("learned places", "no mask", True), ("learned places", "no restart", True)])
def test_what_packing_without_care_would_do(name, planted, seen, monkeypatch):
    """Rows that see each other are another model. Positions that run on are too, where places are learned; rotations know only distances."""
    model, batch = talker(name), batch_packed(TALKS, 12)
    right = logprobs(model, batch)
    if planted == "no mask":
        wrong = logprobs(model, batch)
    else:
        run_on = torch.arange(batch.tokens.shape[1]).repeat(len(batch.tokens), 1)
        monkeypatch.setattr("minillm.transformer.apart", lambda sequence: (run_on, apart(sequence)[1]))
        wrong = logprobs(model, batch)
    assert (float((right - wrong).detach().abs().max()) > 0.05) is seen
    if not seen:
        assert torch.allclose(right, wrong, atol=1e-6)  # the table of rotations is in float32


@pytest.mark.parametrize("settings", [{}, {"accumulate": 2}], ids=str)
def test_the_one_loop_trains_on_packed_rows_as_on_plain_ones(settings):
    def trained(batch):
        model = talker()
        train(model, lambda step: batch, lambda b, _: supervised.coefficient(b.response_mask), Settings(3, muon_lr=0, lr=1e-2), progress=False, **settings)
        return [p.detach() for p in model.parameters()]
    assert difference(trained(batch_packed(TALKS, 12)), trained(batch_turns(TALKS))) < 1e-9


# --- distillation ---------------------------------------------------------------------------------

ANSWERS = every_answer(V, 2)
X, N = len(PROMPTS), len(ANSWERS)
TAU = 1.7


@pytest.fixture(params=["table", "transformer"])
def policy(request):
    return make_policy(request.param, longest=2)


def every_pair(teacher, temperature=1.0):
    """All (x, y), with the teacher's log-probs of every next token, and how likely the teacher is to write y, (X·N,)."""
    batch = batch_pairs([(x, y) for x in PROMPTS for y in ANSWERS])
    batch.teacher = distill.ask_teacher(teacher, batch, temperature)
    return batch, slow_logp(teacher, PROMPTS, ANSWERS).detach().exp().flatten()


@pytest.mark.parametrize("full", [False, True], ids=["sampled", "full"])
def test_both_climb_the_teachers_mean_of_log_p(policy, full):
    """Σ_y q(y|x)·log p(y|x): drawn answers with F = 1, and listed next tokens with F = q after each of the teacher's texts, are one gradient."""
    batch, q = every_pair(make_policy("table", 5, longest=2))
    tokens, mask = batch.tokens, batch.response_mask
    teacher = batch.teacher if full else None
    scores = all_logprobs(policy, tokens, mask) if full else logprobs(policy, tokens, mask)
    F = distill.coefficient(mask, teacher)
    assert not F.requires_grad and F.shape == ((X * N, V * tokens.shape[1]) if full else (X * N,))
    scored = mask.repeat(1, V) if full else mask
    by_F = gradients_of(surrogate(F * (q[:, None] if full else q), scores, scored, divide_by=X), policy)
    by_loss = gradients_of(-(distill.loss(scores, mask, teacher) * q).sum() / X, policy)
    assert difference(by_F, by_loss) < ROUNDING
    slopes = numeric_gradient(lambda: (q.view(X, N) * slow_logp(policy, PROMPTS, ANSWERS)).sum() / X, policy.parameters())
    assert relative_error(by_F, slopes) < FINITE


def soft(policy, text, temperature=TAU):
    return (policy.after(text) / temperature).log_softmax(-1)


def places():
    """Every (x, y's beginning) at which a token of some y stands, once for each y."""
    return [[*x, *y[:t]] for x in PROMPTS for y in ANSWERS for t in range(len(y))]


def test_hintons_temperature(policy):
    """τ²·Σ_v q_τ(v)·log p_τ(v) after every text: F, the loss and finite differences agree; what forgets a τ does not."""
    teacher = make_policy("table", 5, longest=2)
    batch, _ = every_pair(teacher, TAU)
    tokens, mask = batch.tokens, batch.response_mask
    scores = all_logprobs(policy, tokens, mask, temperature=TAU)
    F = distill.coefficient(mask, batch.teacher, TAU)
    by_F = gradients_of(surrogate(F, scores, mask.repeat(1, V)), policy)
    assert difference(by_F, gradients_of(-distill.loss(scores, mask, batch.teacher, TAU).mean(), policy)) < ROUNDING
    q = [soft(teacher, text).exp().detach() for text in places()]
    slopes = numeric_gradient(lambda: TAU**2 * sum((a * soft(policy, text)).sum() for a, text in zip(q, places())) / (X * N), policy.parameters())
    assert relative_error(by_F, slopes) < FINITE
    cold = all_logprobs(policy, tokens, mask)
    for wrong in ((F, cold), (F / TAU**2, scores), (distill.coefficient(mask, cold.detach(), TAU), scores)):
        assert relative_error(gradients_of(surrogate(*wrong, mask.repeat(1, V)), policy), slopes) > 0.05


def test_hot_teachers_are_matched_logit_by_logit():
    """τ → ∞: the gradient in the student's logits is (teacher's logit − student's)/V, each less its mean (Hinton et al. 2015, eq. 4)."""
    policy, teacher = make_policy("table", 0, longest=2), make_policy("table", 5, longest=2)
    batch = batch_pairs([(PROMPTS[0], ANSWERS[0])])
    tau = 1e4
    F = distill.coefficient(batch.response_mask, distill.ask_teacher(teacher, batch, tau), tau)
    scores = all_logprobs(policy, batch, temperature=tau)
    gradient, = gradients_of(surrogate(F, scores, batch.response_mask.repeat(1, V)), policy)
    z, v = policy.after(PROMPTS[0]).detach(), teacher.after(PROMPTS[0]).detach()
    assert torch.allclose(gradient[policy.row[tuple(PROMPTS[0])]], ((v - v.mean()) - (z - z.mean())) / V, atol=1e-3)


def test_listing_the_next_token_is_less_noisy_than_drawing_it(policy):
    """One gradient in the mean; the exact variance over y, with every y listed, is lower with F = q."""
    batch, q = every_pair(make_policy("table", 5, longest=2))
    mask = batch.response_mask

    def variance(scores, F, scored):
        each = torch.stack([torch.cat([g.flatten() for g in gradients_of((F[i] * scores[i])[scored[i]].sum(), policy)]) for i in range(N)])
        return float((q[:N, None] * (each - (q[:N, None] * each).sum(0)) ** 2).sum())
    sampled = variance(logprobs(policy, batch), torch.ones_like(mask, dtype=torch.float64), mask)
    full = variance(all_logprobs(policy, batch), distill.coefficient(mask, batch.teacher), mask.repeat(1, V))
    assert 0 < full < 0.7 * sampled


def test_distillation_by_hand():
    """Two tokens, one scored place, the teacher's log-probs log 1/4 and log 3/4, the student's −2 and −1. τ = 2: F = 4/4 and 4·3/4, loss 4·(2/4 + 3/4)."""
    mask = torch.tensor([[False, True]])
    teacher = torch.tensor([[0.0, 0.25, 0.0, 0.75]], dtype=torch.float64).log().nan_to_num(neginf=0.0)
    logp = torch.tensor([[9.0, -2.0, 9.0, -1.0]], dtype=torch.float64)
    assert distill.coefficient(mask, teacher, 2.0).tolist() == [[0, 1, 0, 3]]
    assert distill.loss(logp, mask, teacher, 2.0).tolist() == [5]
    assert distill.coefficient(mask).tolist() == [1]
    assert distill.loss(torch.tensor([[9.0, -3.0]]), mask).tolist() == [3]


def test_every_log_prob_stands_where_it_says():
    """Column v·T + t is log p(v | tokens before t); a place that is not scored holds 0."""
    model, batch = talker(), batch_turns(TALKS)
    found = all_logprobs(model, batch)
    T = batch.tokens.shape[1]
    for b, row in enumerate(batch.tokens.tolist()):
        for t in range(T):
            right = model.after(row[:t]).log_softmax(-1) if batch.response_mask[b, t] else torch.zeros(7)
            assert torch.allclose(found[b, t::T], right.to(found), atol=ROUNDING)


@pytest.mark.parametrize("full", [False, True], ids=["sampled", "full"])
def test_the_one_loop_takes_a_student_to_its_teacher(full):
    """KL to the teacher, every y listed, falls below a tenth of what it was; the answers are the teacher's own draws."""
    teacher, student = Tiny(5, torch.float32), Tiny(6, torch.float32)
    generator = torch.Generator().manual_seed(0)
    q = slow_logp(teacher, PROMPTS, ANSWERS).detach()
    batch = batch_pairs([(x, ANSWERS[i]) for x, p in zip(PROMPTS, q.exp()) for i in torch.multinomial(p, 256, True, generator=generator).tolist()])
    batch.teacher = distill.ask_teacher(teacher, batch)

    def kl():
        return float((q.exp() * (q - slow_logp(student, PROMPTS, ANSWERS).detach())).sum(1).mean())
    before = kl()
    train(student, lambda step: batch, lambda b, _: distill.coefficient(b.response_mask, b.teacher if full else None), Settings(60, lr=3e-2),
          progress=False, score=all_logprobs if full else None)
    assert kl() < 0.1 * before


def test_log_p_of_an_answer_can_be_summed_from_packed_rows():
    """answer_logprobs sums a row; over packed rows the sequence's number says what belongs together."""
    model, batch = talker(), batch_packed(TALKS, 12)
    logp = logprobs(model, batch).detach()
    here = batch.response_mask
    sums = torch.zeros(len(TALKS), dtype=logp.dtype).index_add(0, batch.sequence[here], logp[here])
    plain = batch_turns(TALKS)
    assert torch.allclose(sums, answer_logprobs(logprobs(model, plain), plain.response_mask).detach(), atol=ROUNDING)
    assert isinstance(batch.to("cpu"), Batch) and batch.to("cpu").pairs == 8
