"""Many turns, packed rows and teachers, each against the slow way, one text at a time.

And against finite differences, every y listed.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from conftest import PROMPTS, Tiny, V, difference, gradients_of, make_policy, numeric_gradient, planted
from conftest import relative_error, slow_logp, tensor
from minillm.batch import Batch, batch_packed, batch_pairs, batch_turns
from minillm.identity import every_answer, surrogate
from minillm.logprob import all_logprobs, answer_logprobs, logprobs
from minillm.methods import distill, supervised
from minillm.tokenizer import ASSISTANT, END, USER, Tokenizer
from minillm.train import Settings, train
from minillm.transformer import GPT2, QWEN3, Family, apart

ROUNDING, FINITE = 1e-12, 1e-8
# Conversations of one to three turns, of unequal lengths; vocabulary 7.
TALKS = [[([1, 2], [3, 0]), ([4], [5, 6, 0])],
         [([6], [0])],
         [([2, 2, 5], [1, 4, 3, 0])],
         [([3], [2, 0]), ([5], [0]), ([1, 6], [4, 0])],
         [([4], [1, 1, 0])]]
SHAPES = {"rotary": {},
          "learned places": {"family": GPT2},
          "norms on q and k": {"family": QWEN3},
          "no positions": {"family": Family(unrotated=(0, 1))}}


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
    """log p of each scored token of a conversation by the readable path: no batch and no mask."""
    pairs = pairs_of(conversation)
    return torch.stack([slow_logp_of(model, x, y, t) for x, y in pairs for t in range(len(y))])


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
    assert torch.equal(one.tokens, two.tokens) and torch.equal(one.response_mask, two.response_mask)
    assert one.divide_by == 2


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
    assert batch.divide_by == len(each.tokens) == 8
    one_by_one = gradient_of(model, each)
    assert difference(gradient_of(model, batch), one_by_one) < ROUNDING
    F = supervised.coefficient(batch).double()
    for bug, wrong in planted(F, batch).items():
        grads = gradients_of(surrogate(wrong, logp, batch.response_mask, batch.divide_by), model)
        assert difference(grads, one_by_one) > 0.05, bug
    assert difference(gradients_of(surrogate(F, logp, batch.response_mask), model), one_by_one) > 0.05  # rows


def gradient_of(model, batch):
    """Supervised learning's gradient on a batch."""
    F = supervised.coefficient(batch)
    return gradients_of(surrogate(F, logprobs(model, batch), batch.response_mask, batch.divide_by), model)


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
        scored = [s for x, y in talk for s in [False] * len(x) + [True] * len(y)]
        assert batch.response_mask[rows[0]][here].tolist() == scored
    assert (batch.sequence >= 0).sum() == sum(len(x) + len(y) for talk in TALKS for x, y in talk)
    assert not batch.response_mask[batch.sequence < 0].any() and batch.divide_by == 8


def test_positions_begin_again_and_nobody_sees_another():
    position, mask = apart(torch.tensor([[4, 4, 4, 1, 1, -1], [0, 2, 2, 2, 2, 2]]))
    assert position.tolist() == [[0, 1, 2, 0, 1, 0], [0, 0, 1, 2, 3, 4]]
    assert mask.shape == (2, 1, 6, 6)
    assert mask[0, 0].int().tolist() == [[1, 0, 0, 0, 0, 0],
                                         [1, 1, 0, 0, 0, 0],
                                         [1, 1, 1, 0, 0, 0],
                                         [0, 0, 0, 1, 0, 0],
                                         [0, 0, 0, 1, 1, 0],
                                         [0, 0, 0, 0, 0, 1]]
    assert mask[1, 0, 5].int().tolist() == [0, 1, 1, 1, 1, 1]


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("length", [9, 12, 24])
def test_packed_log_probs_are_those_of_each_alone(name, length):
    model = talker(name)
    batch = batch_packed(TALKS, length)
    logp = logprobs(model, batch)
    every = all_logprobs(model, batch)                                              # (B, T, V)
    found = every.gather(2, batch.tokens[..., None])[..., 0] * batch.response_mask
    assert torch.allclose(found, logp, atol=ROUNDING, rtol=0)
    for i, talk in enumerate(TALKS):
        here = batch.response_mask & (batch.sequence == i)
        assert torch.allclose(logp[here], alone(model, talk), atol=ROUNDING, rtol=0)


@pytest.mark.parametrize("name", SHAPES)
def test_no_gradient_reaches_another_sequence(name):
    """∂ log p of one conversation / ∂ embedding of a token of another is 0 exactly; of its own, it is not."""
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
    assert difference(gradient_of(model, packed), gradient_of(model, plain)) < ROUNDING


@pytest.mark.parametrize("name, bug, seen", [("rotary", "no mask", True),
                                             ("rotary", "no restart", False),
                                             ("learned places", "no mask", True),
                                             ("learned places", "no restart", True)])
def test_what_packing_without_care_would_do(name, bug, seen, monkeypatch):
    """Rows that see each other are another model. Positions that run on are too, where places are learned.

    Rotations know only distances.
    """
    model, batch = talker(name), batch_packed(TALKS, 12)
    right = logprobs(model, batch)
    if bug == "no mask":
        wrong = logprobs(model, replace(batch, sequence=None))
    else:
        run_on = torch.arange(batch.tokens.shape[1]).repeat(len(batch.tokens), 1)
        monkeypatch.setattr("minillm.transformer.apart", lambda sequence: (run_on, apart(sequence)[1]))
        wrong = logprobs(model, batch)
    assert (float((right - wrong).detach().abs().max()) > 0.05) is seen
    if not seen:
        assert torch.allclose(right, wrong, atol=1e-6)  # the table of rotations is in float32


@pytest.mark.parametrize("settings", [{}, {"pieces": 2}], ids=str)
def test_the_one_loop_trains_on_packed_rows_as_on_plain_ones(settings):
    def trained(batch):
        model = talker()
        how = Settings(3, muon_lr=0, lr=1e-2)
        train(model, lambda step: batch, supervised.coefficient, how, progress=False, **settings)
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
    """All (x, y) with the teacher's log-probs of every next token; how likely it is to write y, (X·N,)."""
    batch = batch_pairs([(x, y) for x in PROMPTS for y in ANSWERS])
    batch.teacher = distill.ask_teacher(teacher, batch, temperature)
    return batch, slow_logp(teacher, PROMPTS, ANSWERS).detach().exp().flatten()


@pytest.mark.parametrize("full", [False, True], ids=["sampled", "full"])
def test_both_climb_the_teachers_mean_of_log_p(policy, full):
    """Σ_y q(y|x)·log p(y|x): drawn answers with F = 1 and listed next tokens with F = q are one gradient.

    The listed ones stand after each of the teacher's texts.
    """
    batch, q = every_pair(make_policy("table", 5, longest=2))
    batch = batch if full else replace(batch, teacher=None)
    mask = batch.response_mask
    scores = all_logprobs(policy, batch) if full else logprobs(policy, batch)
    F = distill.coefficient(batch).double()
    assert not F.requires_grad and F.shape == ((*mask.shape, V) if full else (X * N,))

    def gradient(F):
        weight = q.view(-1, *[1] * (F.ndim - 1))
        return gradients_of(surrogate(F * weight, scores, mask, divide_by=X), policy)

    by_F = gradient(F)
    if full:
        losses = (distill.loss(scores, batch.teacher) * mask).sum(1)                # L_WORD-KD of each answer
    else:
        losses = supervised.loss(scores.sum(1))                                     # L_SEQ-KD
    assert difference(by_F, gradients_of(-(losses * q).sum() / X, policy)) < ROUNDING

    def objective():
        return (q.view(X, N) * slow_logp(policy, PROMPTS, ANSWERS)).sum() / X

    slopes = numeric_gradient(objective, policy.parameters())
    assert relative_error(by_F, slopes) < FINITE
    for bug, wrong in planted(F, batch).items():
        assert relative_error(gradient(wrong), slopes) > 0.05, bug


def soft(policy, text, temperature=TAU):
    return (policy.after(text) / temperature).log_softmax(-1)


def places():
    """Every (x, y's beginning) at which a token of some y stands, once for each y."""
    return [[*x, *y[:t]] for x in PROMPTS for y in ANSWERS for t in range(len(y))]


def test_hintons_temperature(policy):
    """τ²·Σ_v q_τ(v)·log p_τ(v) after every text: F, the loss and finite differences agree.

    What forgets a τ does not.
    """
    teacher = make_policy("table", 5, longest=2)
    batch, _ = every_pair(teacher, TAU)
    mask = batch.response_mask
    scores = all_logprobs(policy, batch, temperature=TAU)
    F = distill.coefficient(batch, temperature=TAU)
    by_F = gradients_of(surrogate(F, scores, mask), policy)
    losses = (distill.loss(scores, batch.teacher, TAU) * mask).sum(1)
    assert difference(by_F, gradients_of(-losses.mean(), policy)) < ROUNDING
    texts = places()
    q = [soft(teacher, text).exp().detach() for text in texts]

    def objective():
        return TAU**2 * sum((a * soft(policy, text)).sum() for a, text in zip(q, texts)) / (X * N)

    slopes = numeric_gradient(objective, policy.parameters())
    assert relative_error(by_F, slopes) < FINITE
    cold = all_logprobs(policy, batch)
    cold_teacher = replace(batch, teacher=all_logprobs(teacher, batch).detach())
    forgets = {"the student's": (F, cold),
               "the factor": (F / TAU**2, scores),
               "the teacher's": (distill.coefficient(cold_teacher, temperature=TAU), scores)}
    for bug, wrong in forgets.items():
        assert relative_error(gradients_of(surrogate(*wrong, mask), policy), slopes) > 0.05, bug
    for bug, wrong in planted(F, batch).items():
        assert relative_error(gradients_of(surrogate(wrong, scores, mask), policy), slopes) > 0.05, bug


def test_hot_teachers_are_matched_logit_by_logit():
    """τ → ∞: the gradient in the student's logits is (teacher's logit − student's)/V, each less its mean.

    Hinton et al. 2015, eq. 4.
    """
    policy, teacher = make_policy("table", 0, longest=2), make_policy("table", 5, longest=2)
    batch = batch_pairs([(PROMPTS[0], ANSWERS[0])])
    tau = 1e4
    batch.teacher = distill.ask_teacher(teacher, batch, tau)
    F = distill.coefficient(batch, temperature=tau)
    scores = all_logprobs(policy, batch, temperature=tau)
    (gradient,) = gradients_of(surrogate(F, scores, batch.response_mask), policy)
    z, v = policy.after(PROMPTS[0]).detach(), teacher.after(PROMPTS[0]).detach()
    wanted = ((v - v.mean()) - (z - z.mean())) / V
    assert torch.allclose(gradient[policy.row[tuple(PROMPTS[0])]], wanted, atol=1e-3)


def test_listing_the_next_token_is_less_noisy_than_drawing_it(policy):
    """One gradient in the mean; the exact variance over y, with every y listed, is lower with F = q."""
    batch, q = every_pair(make_policy("table", 5, longest=2))
    mask = batch.response_mask

    def variance(scores, F):
        each = [gradients_of((F[i] * scores[i])[mask[i]].sum(), policy) for i in range(N)]
        each = torch.stack([torch.cat([g.flatten() for g in grads]) for grads in each])
        mean = (q[:N, None] * each).sum(0)
        return float((q[:N, None] * (each - mean) ** 2).sum())

    sampled = variance(logprobs(policy, batch), torch.ones_like(mask, dtype=torch.float64))
    full = variance(all_logprobs(policy, batch), distill.coefficient(batch))
    assert 0 < full < 0.7 * sampled


def test_distillation_by_hand():
    """Two tokens, one scored place, the teacher's log-probs log 1/4 and log 3/4, the student's −2 and −1.

    τ = 2: F = 4/4 and 4·3/4, loss 4·(2/4 + 3/4).
    """
    teacher, logp = tensor(0.25, 0.75).log(), tensor(-2.0, -1.0)
    assert distill.F(teacher, 2.0).tolist() == [1, 3] and distill.loss(logp, teacher, 2.0).tolist() == 5
    batch = Batch(torch.ones(1, 2, dtype=torch.long), teacher=torch.stack([tensor(0.0, 0.0), teacher])[None])
    assert distill.coefficient(batch, temperature=2.0).tolist() == [[[0, 0], [1, 3]]]
    assert distill.coefficient(replace(batch, teacher=None)).tolist() == [1]


def test_every_log_prob_stands_where_it_says():
    """[b, t, v] is log p(v | tokens before t); a place that is not scored holds 0."""
    model, batch = talker(), batch_turns(TALKS)
    found = all_logprobs(model, batch)
    for b, row in enumerate(batch.tokens.tolist()):
        for t, scored in enumerate(batch.response_mask[b].tolist()):
            right = model.after(row[:t]).log_softmax(-1) if scored else torch.zeros(7)
            assert torch.allclose(found[b, t], right.to(found), atol=ROUNDING)


@pytest.mark.parametrize("full", [False, True], ids=["sampled", "full"])
def test_the_one_loop_takes_a_student_to_its_teacher(full):
    """KL to the teacher, every y listed, falls below a tenth of what it was; answers are its own draws."""
    teacher, student = Tiny(5, torch.float32), Tiny(6, torch.float32)
    generator = torch.Generator().manual_seed(0)
    q = slow_logp(teacher, PROMPTS, ANSWERS).detach()
    drawn = [(x, ANSWERS[i]) for x, p in zip(PROMPTS, q.exp())
             for i in torch.multinomial(p, 256, True, generator=generator).tolist()]
    batch = batch_pairs(drawn)
    batch.teacher = distill.ask_teacher(teacher, batch) if full else None

    def kl():
        return float((q.exp() * (q - slow_logp(student, PROMPTS, ANSWERS).detach())).sum(1).mean())
    before = kl()
    score = all_logprobs if full else logprobs
    train(student, lambda step: batch, distill.coefficient, Settings(60, lr=3e-2), score, progress=False)
    assert kl() < 0.1 * before


def test_log_p_of_an_answer_can_be_summed_from_packed_rows():
    """answer_logprobs sums a row; over packed rows the sequence's number says what belongs together."""
    model, batch = talker(), batch_packed(TALKS, 12)
    logp = logprobs(model, batch).detach()
    here = batch.response_mask
    sums = torch.zeros(len(TALKS), dtype=logp.dtype).index_add(0, batch.sequence[here], logp[here])
    plain = batch_turns(TALKS)
    by_row = answer_logprobs(logprobs(model, plain), plain.response_mask).detach()
    assert torch.allclose(sums, by_row, atol=ROUNDING)
    assert isinstance(batch.to("cpu"), Batch) and batch.to("cpu").divide_by == 8
