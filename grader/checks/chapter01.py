"""The five checks of chapter 1. What is wanted is computed here in NumPy, in float64, by other code than the solutions'.

It leaves out how a check is run and worded (grader/check.py), and the code that find-the-bug plants (planted.py).
"""

from __future__ import annotations

import numpy as np
import torch

from ..check import Case, Check, Misconception as M, close
from ..driver import Unfit, a, as_array, call_by_hand
from .planted import RIGHT, WRONG, handed_out

# 1. surrogate


def draw_rows(rng, k, slope=0.0):
    """B rows of a prompt, an answer and padding, no two answers equally long; F is never near 0, and of both signs."""
    B, T = 1 + k, 3 + k
    lengths = 1 + rng.permutation(T - 1)[:B]
    starts = [1 + int(rng.integers(T - n)) for n in lengths]
    response_mask = np.array([[start <= t < start + n for t in range(T)] for start, n in zip(starts, lengths)])
    coefficient = rng.permutation([1.5, -0.7, 2.2, -1.1, 0.6, 1.9])[:B].astype(np.float32)
    logprobs = -rng.integers(1, 30, (B, T)).astype(np.float32) / 10
    return {"coefficient": coefficient, "logprobs": logprobs, "response_mask": response_mask, "slope": np.full(B, slope, np.float32)}


def draw_one_F(rng, k):
    rows = draw_rows(rng, k + 1)
    return rows | {"coefficient": np.full_like(rows["coefficient"], 1.3)}


def draw_no_F(rng, k):
    rows = draw_rows(rng, k + 1)
    rows["coefficient"][0] = 0
    return rows


def follow_gradient(function, arguments, inputs):
    """The driver of surrogate: the gradient of the returned number in logprobs, and in F where F was computed from them."""
    theta = torch.from_numpy(inputs["logprobs"].copy()).requires_grad_()
    logprobs = theta * 1                                                   # as a model gives them: not a leaf
    response_mask = torch.from_numpy(inputs["response_mask"].copy())
    coefficient = torch.from_numpy(inputs["coefficient"].copy())
    if inputs["slope"].any():
        answer = theta.where(response_mask, 0.0).sum(1)
        coefficient = coefficient + torch.from_numpy(inputs["slope"]) * (answer - answer.detach())   # the same numbers, with a gradient
    value = function(coefficient, logprobs, response_mask)
    as_array(value)
    if not isinstance(value, torch.Tensor) or not value.requires_grad:
        raise Unfit("no gradient", "The number that it returns carries no gradient, so nothing could be learned from it. detach(), item(), "
                    "no_grad() and torch.tensor() cut the graph: keep logprobs out of them.")
    if value.shape != ():
        raise Unfit("shape", f"It returns shape {tuple(value.shape)}; wanted is a single number, of shape ().")
    try:
        result, through_F = torch.autograd.grad(value, [theta, coefficient] if coefficient.requires_grad else [theta, theta], allow_unused=True)
    except RuntimeError as error:
        if "second time" in str(error):
            raise Unfit("backward called", "It calls backward() itself. Return the number; whoever calls it takes the gradient.") from None
        raise
    after = {"after_coefficient": coefficient, "after_logprobs": logprobs, "after_response_mask": response_mask}
    through_F = through_F if coefficient.requires_grad else None
    return {"result": as_array(torch.zeros_like(theta) if result is None else result),
            "through_F": as_array(torch.zeros_like(coefficient) if through_F is None else through_F),
            **{name: tensor.detach().numpy() for name, tensor in after.items()}}


def spread(i, weight):
    """F of each row times a weight, (B, T), over B."""
    return i.coefficient[:, None] * weight / len(i.coefficient)


def without_last(mask):
    return mask & np.pad(mask[:, 1:], ((0, 0), (0, 1)))


def shifted(mask, by):
    out = np.zeros_like(mask)
    out[:, max(by, 0):mask.shape[1] + min(by, 0)] = mask[:, max(-by, 0):mask.shape[1] - max(by, 0)]
    return out


SURROGATE = Check(
    "surrogate", "The number whose gradient is the line", 10, 1, "surrogate", ("coefficient", "logprobs", "response_mask"),
    "its gradient on logprobs is what E[F · ∇ log p(y|x)] asks of each token, with log p(y|x) summed over y's tokens, and the mean taken over the B rows.",
    hints=("Begin with one row. Its log p(y|x) is made of some of the numbers in logprobs[b]: which, and how are they put together?",
           "response_mask says which. coefficient is (B,) and logprobs is (B, T): a tensor (B,) meets (B, T) row by row only as (B, 1). coefficient[:, None] has that shape.",
           "F is a number, wherever it came from. coefficient.detach() is the same number without its history. Then: multiply, leave out, add up, and divide by how many pairs there are."),
    compared="the gradient on logprobs", call=follow_gradient,
    expected=lambda i: spread(i, i.response_mask),
    cases=(
        Case("tokens that do not belong to y get no gradient.", draw_rows, lambda i, o: not o.result[~i.response_mask].any()),
        Case("all tokens of one answer get the same gradient, the first and the end token too.", draw_rows,
             lambda i, o: all(np.ptp(row[mask]) < 1e-4 for row, mask in zip(o.result, i.response_mask))),
        Case("where F is the same in two rows, a token of the long answer gets as much as one of the short.", draw_one_F,
             lambda i, o: np.ptp(o.result[i.response_mask]) < 1e-4, draws=4),
        Case("a row with F = 0 gets no gradient.", draw_no_F, lambda i, o: not o.result[0].any(), draws=4),
        Case("no gradient goes through F: it is a number.", lambda rng, k: draw_rows(rng, k, slope=0.8), lambda i, o: not o.through_F.any(),
             note="here coefficient was computed from logprobs, and carries a gradient")),
    misconceptions=(
        M("mean over tokens for sum", "Each answer's tokens were averaged. log p(y|x) is their sum. With a mean, a token of a long answer counts for less, and this is the gradient of another objective.",
          lambda i: spread(i, i.response_mask / i.response_mask.sum(1, keepdims=True))),
        M("mean over all tokens of the batch", "The sum was divided by the number of tokens. The mean runs over pairs (x, y), and a pair is one pair however many tokens it has.",
          lambda i: spread(i, i.response_mask) * len(i.coefficient) / i.response_mask.sum()),
        M("mean over every place", "The sum was divided by every place in the batch, prompts and padding too. How far rows are padded must not matter.",
          lambda i: spread(i, i.response_mask) / i.response_mask.shape[1]),
        M("sum over rows for mean", "The rows were added up. The estimate of an expectation is a mean: with a sum, the step grows with the batch.",
          lambda i: spread(i, i.response_mask) * len(i.coefficient)),
        M("sign turned", "The surrogate is ascended, and the training step puts the minus sign before it. With this one, what was rewarded becomes less likely.",
          lambda i: -spread(i, i.response_mask)),
        M("mask ignored", "Tokens of the prompt and of the padding are scored too. They are no part of y, and p(y|x) says nothing about them.",
          lambda i: spread(i, np.ones_like(i.response_mask))),
        M("mask ignored, and mean over tokens for sum", "The mean over a row's T places was taken. Only y's tokens count, and log p(y|x) is their sum.",
          lambda i: spread(i, 1 / i.response_mask.shape[1])),
        M("mask inverted", "response_mask is True on the tokens of y. Here they were left out, and the others scored.", lambda i: spread(i, ~i.response_mask)),
        M("mask shifted", "logprobs and response_mask are aligned with the tokens already: logprobs[b, t] is the log-probability of token t. Shifted by one, the mask drops the first token of y.",
          lambda i: spread(i, shifted(i.response_mask, 1))),
        M("mask shifted", "logprobs and response_mask are aligned with the tokens already: logprobs[b, t] is the log-probability of token t. Shifted by one, the mask drops the end token.",
          lambda i: spread(i, shifted(i.response_mask, -1))),
        M("end token dropped", "The last token of each answer gets no gradient. It is the end token, which belongs to y: the model must learn to stop, and without it the p(y|x) do not sum to one.",
          lambda i: spread(i, without_last(i.response_mask))),
        M("coefficient not detached", "The gradient also went through F. What is wanted is F · ∇ log p with F a number; this is ∇(F · log p), which is something else.",
          lambda i: spread(i, i.response_mask) + (i.slope * (i.logprobs * i.response_mask).sum(1))[:, None] * i.response_mask / len(i.slope)),
        M("p for log p", "The gradient is that of p, token by token. The line has ∇ log p.", lambda i: spread(i, np.exp(i.logprobs) * i.response_mask)),
        M("F averaged over the batch", "Every row got the mean of all F. Each answer is pulled by its own F.", lambda i: i.response_mask * i.coefficient.mean() / len(i.coefficient)),
        M("F left out", "coefficient does not change the result: every answer is pulled alike, as if F were 1.", lambda i: i.response_mask / len(i.coefficient))))

# 2. exact-gradient


def softmax(z):
    z = np.exp(z - z.max(-1, keepdims=True))
    return z / z.sum(-1, keepdims=True)


def draw_policy(rng, k, shift=0.0, same=False):
    Y = 2 + k
    theta = rng.permutation([0.0, 1.2, -0.8, 0.5, 2.0, -1.5, 0.9])[:Y] + shift
    F = np.full(Y, 1.7) if same else rng.permutation([1.0, 3.0, -0.5, 2.2, 0.3, 4.1, -1.4])[:Y]
    return {"theta": theta.astype(np.float32), "F": F.astype(np.float32)}


def draw_never(rng, k):
    policy = draw_policy(rng, k + 1)
    policy["theta"][0] = -60
    return policy


def centred(p, F):
    return p * (F - (p * F).sum())


EXACT = Check(
    "exact-gradient", "The gradient, with every y listed", 15, 2, "exact_gradient", ("theta", "F"),
    "the gradient, in the logits theta, of the expectation of F under softmax(theta).",
    hints=("Write the expectation as a sum over y of p(y)·F(y). Only p depends on theta, and the chapter replaced ∇p by something that is easier to have.",
           "You need d log p(y) / d theta(k). With log p(y) = theta(y) − log Σ exp(theta), the first part gives 1 where k = y and 0 elsewhere. What does the second part give, whatever y is?",
           "It gives −p(k). So component k is a sum over y in which the 1 picks out one term and −p(k) stands before the sum of all. That sum has a name: what does F come to on average under p?"),
    compared="the gradient", call=call_by_hand,
    expected=lambda i: centred(softmax(i.theta), i.F),
    cases=(
        Case("the components sum to zero: adding one number to all logits changes no probability.", draw_policy, lambda i, o: abs(o.result.sum()) < 1e-3),
        Case("where F is the same for all answers, the gradient is zero: the expectation cannot change.", lambda rng, k: draw_policy(rng, k, same=True),
             lambda i, o: close(o.result, np.zeros_like(i.F)), draws=4),
        Case("the logit of the best answer rises and that of the worst falls.", draw_policy, lambda i, o: o.result[i.F.argmax()] > 0 > o.result[i.F.argmin()]),
        Case("an answer of probability zero takes no part.", draw_never, lambda i, o: abs(o.result[0]) < 1e-4, draws=4),
        Case("logits of 100 and more give the same gradient as the small ones that differ as they do.", lambda rng, k: draw_policy(rng, k, shift=100.0), draws=4)),
    misconceptions=(
        M("mean not taken off", "Each answer got p(y)·F(y). Pushing one logit up pushes all other probabilities down, and that part is missing: with a constant F this gradient is not zero.",
          lambda i: softmax(i.theta) * i.F),
        M("mean over answers for expectation", "From F its plain mean over the answers was taken. Answers are not equally likely: what an answer is held against is what the policy gets on average.",
          lambda i: softmax(i.theta) * (i.F - i.F.mean())),
        M("sign turned", "This is the gradient of minus the expectation. Following it makes the best answer less likely.", lambda i: -centred(softmax(i.theta), i.F)),
        M("p forgotten", "How much better an answer is than the average is there; how often it is drawn is not. An answer that is never drawn cannot pull.",
          lambda i: i.F - (softmax(i.theta) * i.F).sum()),
        M("p forgotten in the expectation", "The sum over y was taken with every y counted once. In an expectation each counts by its p(y).",
          lambda i: i.F - softmax(i.theta) * i.F.sum()),
        M("every y equally often", "The sum over y was taken as a plain mean. In an expectation each y counts by its p(y).",
          lambda i: (i.F - softmax(i.theta) * i.F.sum()) / len(i.F)),
        M("only the drawn answer's term", "Each component is what one answer does to its own logit when it is drawn. The others pull at that logit too, and each is drawn with its own probability.",
          lambda i: i.F * (1 - softmax(i.theta))),
        M("only an answer's own logit", "Each answer's pull on its own logit is there; its pull on the other logits is not.",
          lambda i: softmax(i.theta) * (1 - softmax(i.theta)) * i.F),
        M("softmax of F", "The probabilities were made from F. The policy's logits are theta; F only weighs.", lambda i: centred(softmax(i.F), i.F)),
        M("softmax of F", "The policy is being drawn towards softmax(F). F weighs each answer's pull; it is no distribution to copy.", lambda i: softmax(i.F) - softmax(i.theta)),
        M("logits for probabilities", "theta was used as if it were p. It holds logits: p is their softmax.", lambda i: centred(i.theta, i.F)),
        M("no F", "This is the expectation of ∇ log p without F. It is zero for every policy.", lambda i: 0 * i.F),
        M("the expectation itself", "This is the expectation of F, one number. Asked is its gradient, one number for each logit.", lambda i: (softmax(i.theta) * i.F).sum())))

# 3. leave-one-out


def draw_rewards(rng, k, G=None, same=False):
    X, G = 2 + k // 2, G or 3 + k // 2 + k % 2
    rewards = rng.choice(np.arange(-9, 30), (X, G), replace=False) / 10
    return {"rewards": (np.broadcast_to(rewards[:, :1], (X, G)) if same else rewards).astype(np.float32)}


def of_the_others(R, axis):
    return (R.sum(axis, keepdims=True) - R) / (R.shape[axis] - 1)


def standardised(R, ddof):
    centre = R - R.mean(1, keepdims=True)
    return centre / (R.std(1, ddof=ddof, keepdims=True) + 1e-8)


LEAVE_ONE_OUT = Check(
    "leave-one-out", "A baseline from the other answers", 10, 1, "coefficients", ("rewards",),
    "F is an answer's reward minus the mean reward of the other answers to the same prompt.",
    hints=("Take one prompt with three answers, and write down on paper which rewards stand in the baseline of the first. How many are there?",
           "The sum of the others is the sum of all without one's own. The sum of all is taken along G, and keepdim=True keeps it ready to meet (X, G).",
           "How many others are there among G? That many share the sum of the others. Then F = R − b, with a baseline (X, G) that differs from answer to answer."),
    expected=lambda i: i.rewards - of_the_others(i.rewards, 1),
    cases=(
        Case("the coefficients of one prompt sum to zero.", draw_rewards, lambda i, o: bool((np.abs(o.result.sum(1)) < 1e-3).all())),
        Case("where all answers to a prompt have one reward, there is nothing to learn: F is 0.", lambda rng, k: draw_rewards(rng, k, same=True),
             lambda i, o: close(o.result, np.zeros_like(i.rewards)), draws=4),
        Case("with two answers to a prompt, each is the other's baseline.", lambda rng, k: draw_rewards(rng, k, G=2), draws=4),
        Case("of two answers to one prompt, the better has the larger F.", draw_rewards,
             lambda i, o: all((np.diff(f[r.argsort()]) > 0).all() for r, f in zip(i.rewards, o.result)))),
    misconceptions=(
        M("own reward in the mean", "The answer's own reward is part of its baseline. Then the baseline depends on this y, and the gradient shrinks; the fewer the answers, the more.",
          lambda i: i.rewards - i.rewards.mean(1, keepdims=True)),
        M("baseline over the whole batch", "The mean was taken over all prompts. A hard prompt's answers are then all pushed down, and an easy one's all up, whatever they say.",
          lambda i: i.rewards - i.rewards.mean()),
        M("baseline over the whole batch", "The mean was taken over the other answers of all prompts. A hard prompt's answers are then all pushed down, and an easy one's all up, whatever they say.",
          lambda i: i.rewards - (i.rewards.sum() - i.rewards) / (i.rewards.size - 1)),
        M("wrong axis", "The mean runs over the prompts. Row x holds the G answers to prompt x: the others are in the same row.",
          lambda i: i.rewards - of_the_others(i.rewards, 0)),
        M("wrong axis", "The mean runs over the prompts, and has the answer's own reward in it. Row x holds the G answers to prompt x: the others are in the same row.",
          lambda i: i.rewards - i.rewards.mean(0, keepdims=True)),
        M("divided by the standard deviation", "The result was divided by the group's standard deviation, as GRPO does, and the answer's own reward is in the mean. Asked is R − b alone.",
          lambda i: standardised(i.rewards, 0)),
        M("divided by the standard deviation", "The result was divided by the group's standard deviation, as GRPO does, and the answer's own reward is in the mean. Asked is R − b alone.",
          lambda i: standardised(i.rewards, 1)),
        M("divided by the standard deviation", "The baseline is right, and the result was divided by the group's standard deviation, as GRPO does. Asked is R − b alone.",
          lambda i: standardised(i.rewards, 0) * i.rewards.shape[1] / (i.rewards.shape[1] - 1)),
        M("divided by the standard deviation", "The baseline is right, and the result was divided by the group's standard deviation, as GRPO does. Asked is R − b alone.",
          lambda i: standardised(i.rewards, 1) * i.rewards.shape[1] / (i.rewards.shape[1] - 1)),
        M("sign turned", "This is b − R. Answers that did better than the others would become less likely.", lambda i: of_the_others(i.rewards, 1) - i.rewards),
        M("the baseline itself", "This is b, the mean of the others. Asked is R − b.", lambda i: of_the_others(i.rewards, 1)),
        M("sum of the others for their mean", "The others' rewards were added up and not averaged, so that the baseline grows with G.",
          lambda i: i.rewards - (i.rewards.sum(1, keepdims=True) - i.rewards)),
        M("divided by all for the others", "The sum of the others was divided by how many answers there are in all. The one that was left out is not among those who share.",
          lambda i: i.rewards - (i.rewards.sum(1, keepdims=True) - i.rewards) / i.rewards.shape[1]),
        M("best of the others", "The baseline is the largest reward of the group. Asked is the mean of the others.", lambda i: i.rewards - i.rewards.max(1, keepdims=True)),
        M("no baseline", "This is R itself.", lambda i: i.rewards)))

# 4. curator


def draw_filtered(rng, k, yes_or_no=False, never=False, all_alike=False):
    """q in twentieths, all above zero; every prompt keeps some answers and drops one; no two of q·keep are equal."""
    X, Y = 2 + k // 3, 3 + k % 3
    while True:
        q = (1 + rng.multinomial(20 - Y, rng.dirichlet(np.ones(Y)), X)) / 20
        keep = rng.choice([0.5, 1.0, 2.0, 3.0], (X, Y))
        keep = np.ones((X, Y)) * np.arange(1, X + 1)[:, None] if all_alike else np.ones((X, Y)) if yes_or_no else keep
        rows, dropped = np.arange(X), rng.integers(Y, size=X)
        if never:
            gets = (dropped + 1) % Y
            q[rows, gets] += q[rows, dropped]
            q[rows, dropped] = 0
        elif not all_alike:
            keep[rows, dropped] = 0
        if all(len(np.unique(np.round(row[row > 0], 6))) == (row > 0).sum() for row in q * keep):
            return {"q": q.astype(np.float32), "keep": keep.astype(np.float32)}


def per_row(w):
    return w / w.sum(1, keepdims=True)


def one_hot(w):
    return np.eye(w.shape[1])[w.argmax(1)]


CURATOR = Check(
    "curator", "Where supervised learning on a curator's choice ends", 20, 2, "where_it_ends", ("q", "keep"),
    "for each prompt, the policy p(y|x) at which the expected gradient of training on pairs drawn from q and weighed by F = keep is zero.",
    hints=("Take one prompt. The training climbs Σ q(y)·keep(y)·log p(y), and p may be any distribution. Try two answers by hand: q = (0.5, 0.5), keep = (3, 1).",
           "In the logits, the gradient has one component for each answer: what draws that answer up, minus p(y) times all the pull there is on this prompt. The training rests where every component is zero.",
           "So each p(y|x) is proportional to how strongly that answer is drawn up: how often it is proposed, times its F. What must the p(y|x) of one prompt add up to?"),
    compared="the policy",
    expected=lambda i: per_row(i.q * i.keep),
    cases=(
        Case("for each prompt the probabilities are at least 0 and sum to 1.", draw_filtered,
             lambda i, o: bool((o.result > -1e-6).all()) and bool((np.abs(o.result.sum(1) - 1) < 1e-4).all())),
        Case("an answer that the curator always drops ends at 0.", draw_filtered, lambda i, o: bool((np.abs(o.result[i.keep == 0]) < 1e-4).all())),
        Case("an answer that q never proposes ends at 0, however much the curator would have liked it.", lambda rng, k: draw_filtered(rng, k, never=True),
             lambda i, o: bool((np.abs(o.result[i.q == 0]) < 1e-4).all()), draws=4),
        Case("a curator who likes all answers to a prompt equally changes nothing: it ends at q.", lambda rng, k: draw_filtered(rng, k, all_alike=True), draws=4),
        Case("two answers that are both kept with F = 1 end at the odds that q gave them.", lambda rng, k: draw_filtered(rng, k, yes_or_no=True),
             lambda i, o: all(np.ptp((p / q)[f > 0]) < 1e-3 for p, q, f in zip(o.result, i.q, i.keep)))),
    misconceptions=(
        M("not renormalised", "This is how strongly each answer is drawn up. A policy's probabilities sum to one for each prompt.", lambda i: i.q * i.keep),
        M("renormalised over everything", "The table as a whole sums to one. p(y|x) is a distribution over y for each x by itself.", lambda i: i.q * i.keep / (i.q * i.keep).sum()),
        M("renormalised along the wrong axis", "The columns sum to one. p(y|x) is a distribution over y: each row sums to one.", lambda i: i.q * i.keep / (i.q * i.keep).sum(0)),
        M("q forgotten", "The policy follows F alone. An answer that is rarely proposed is rarely seen in training, however well it is liked.", lambda i: per_row(i.keep)),
        M("uniform over what is kept", "All kept answers are equally likely here. The curator decides which pairs remain, not how often each was proposed.",
          lambda i: per_row((i.q * i.keep > 0).astype(float))),
        M("uniform over what is kept", "All kept answers are equally likely here, and so are those that q never proposes. What is not drawn is not learned.",
          lambda i: per_row((i.keep > 0).astype(float))),
        M("weights read as yes or no", "Every F above 0 was read as 1. F is a number: a pair with F = 2 pulls as two pairs do.", lambda i: per_row(i.q * (i.keep > 0))),
        M("the best answer alone", "All probability is on one answer. That is where maximising an expected reward ends, drawing anew from the policy; here the pairs come from q, which stays.",
          lambda i: one_hot(i.q * i.keep)),
        M("the best answer alone", "All probability is on the answer with the largest F. That is where maximising an expected reward ends, drawing anew from the policy; here the pairs come from q, which stays.",
          lambda i: one_hot(i.keep)),
        M("softmax of the weights", "A softmax was taken of numbers that are weights already. It gives probability to answers that are never kept.", lambda i: softmax(i.q * i.keep)),
        M("softmax of the weights", "A softmax was taken of keep. It gives probability to answers that are never kept, and forgets q.", lambda i: softmax(i.keep)),
        M("exp of F", "Each answer was weighed by exp(F). That is where maximising F with a penalty for leaving q ends, which is another objective (chapter 13).",
          lambda i: per_row(i.q * np.exp(i.keep))),
        M("the curator ignored", "This is q. What the curator drops would still be learned.", lambda i: i.q)))

# 5. find-the-bug


def put_to_the_test(function, arguments, inputs):
    """The driver of find-the-bug: what the learner's test says of one piece of code, which it gets under the same name each time."""
    codes = (*RIGHT, *(code for _, _, code in WRONG))
    verdict = function(handed_out(codes[int(inputs["which"])]))
    said = as_array(np.array(verdict) if isinstance(verdict, (bool, np.bool_)) else verdict)
    if said.dtype != bool or said.size != 1:
        kind = f"a tensor of {said.dtype} and shape {said.shape}" if isinstance(verdict, torch.Tensor) else a(type(verdict).__name__)
        raise Unfit("type", f"It returns {kind}; wanted is True or False.")
    return {"result": said.reshape(())}


def right_code(rng, k):
    return {"which": np.array(k)}


def planted(number):
    return lambda rng, k: {"which": np.array(len(RIGHT) + number)}


N_RIGHT, TEMPERATURE = len(RIGHT), len(RIGHT) + len(WRONG) - 1
FIND_THE_BUG = Check(
    "find-the-bug", "A test that finds the bug", 30, 3, "is_right", ("answer_logprob",),
    "a test that says True for right code and False for each planted bug.",
    hints=("Make a policy so small that you can list what it says: two words and an end, answers of at most three tokens. every_answer lists them, batch_pairs makes tokens and response_mask of them. "
           "For logits, draw a table (V, V) from a fixed seed and take table[tokens]: the next token then depends on this one, and on nothing later.",
           "The first law: exp of answer_logprob over all answers to one prompt sums to 1, but for rounding. Try it with a prompt of one token and then of two, and with tables that are special in no way: "
           "not constant, not normalised.",
           "The sum is 1 for every distribution, also for one that is not yours. What is the probability of the answer [0], the end at once? It is one step long: softmax(table[last token of x]) has it. "
           "Ask that answer_logprob says the same."),
    compared="the verdict", call=put_to_the_test,
    expected=lambda i: np.array(i.which < N_RIGHT, bool),
    cases=(
        Case("right code passes. Yours turned some away. Compare numbers with a tolerance; let logits[b, t] depend on no token after t; list every y once, each with its end.", right_code, draws=N_RIGHT),
        *(Case(f"a bug was let through: {bug}. It shows on {shows}.", planted(n), draws=1) for n, (bug, shows, _) in enumerate(WRONG))),
    misconceptions=(
        M("it lets everything through", "The test said True to right code and to all planted bugs alike. What would the code have to do for it to say False?", lambda i: np.array(True)),
        M("it turns everything away", "The test said False to right code too. Compare numbers with a tolerance; let logits[b, t] depend on no token after t; list every y once, each with its end.",
          lambda i: np.array(False)),
        M("one law, where two are needed", "Σ p(y|x) = 1 says that this is a distribution over answers. It does not say that it is the one which the logits describe, and one planted bug is a fine distribution of another policy.",
          lambda i: np.array(i.which < N_RIGHT or i.which == TEMPERATURE))))

CHECKS = (SURROGATE, EXACT, LEAVE_ONE_OUT, CURATOR, FIND_THE_BUG)
