"""The proof of chapter 11's checks: wrong answers fail by name, right ones written another way pass."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as nn_F

from grader.outside.chapter11 import find_the_advantage, find_the_penalty
from grader.outside.judge import close
from minillm import every_answer, returns
from minillm.batch import batch_pairs
from minillm.methods import ppo
from proof import CHECKS, Proof, fresh, inputs_of, run_cell, verdict  # noqa: F401  (a fixture is among them)

WRONG: dict[str, list] = {}  # exercise -> (the misconception's name, a function that has it)
RIGHT: dict[str, list] = {}  # exercise -> a right function written another way

# gae


def walk(r, V, m, lam, *, gamma=1.0, beyond=False, take_off=1.0, reverse=True):
    out = torch.zeros_like(V)
    for b in range(len(V)):
        places, ahead = m[b].nonzero()[:, 0].tolist(), 0.0
        order = list(zip(places, [*places[1:], None]))
        for t, behind in reversed(order) if reverse else order:
            after = (V[b, behind]
                     if behind is not None
                     else V[b, t + 1] if beyond and t + 1 < V.shape[1] else 0.0)
            ahead = r[b, t] + gamma * after - take_off * V[b, t] + gamma * lam * ahead
            out[b, t] = ahead
    return out


def whole_row(r, V, m, lam):
    return walk(r, V, torch.ones_like(m), lam)


def shifted(V, m, by):
    out = V.clone() if by > 0 else torch.zeros_like(V)
    for b, row in enumerate(m):
        places = row.nonzero()[:, 0]
        out[b, places[max(0, by):len(places) + min(0, by)]] = (
            V[b, places[max(0, -by):len(places) - max(0, by)]]
        )
    return out


def lam_in_delta(r, V, m, lam):
    out = torch.zeros_like(V)
    for b in range(len(V)):
        ahead, after = 0.0, 0.0
        for t in reversed(m[b].nonzero()[:, 0].tolist()):
            ahead = r[b, t] + lam * after - V[b, t] + lam * ahead
            out[b, t], after = ahead, V[b, t]
    return out


def writes_over_values(r, V, m, lam):
    A = walk(r, V, m, lam)
    V += A
    return A


WRONG["gae"] = [
    ("across the end", lambda r, V, m, lam: walk(r, V, m, lam, beyond=True)),
    ("lam forgotten", lambda r, V, m, lam: walk(r, V, m, 1.0)),
    ("one step alone", lambda r, V, m, lam: walk(r, V, m, 0.0)),
    ("V not taken off", lambda r, V, m, lam: walk(r, V, m, lam, take_off=0.0)),
    ("V not taken off", lambda r, V, m, lam: walk(r, V * 0, m, lam)),
    ("lam as a discount", lam_in_delta),
    ("walked from the front", lambda r, V, m, lam: walk(r, V, m, lam, reverse=False)),
    ("mask ignored", whole_row),
    ("mask too late", lambda r, V, m, lam: whole_row(r, V, m, lam) * m),
    ("V one token late", lambda r, V, m, lam: walk(r, shifted(V, m, -1), m, lam)),
    ("V one token early", lambda r, V, m, lam: walk(r, shifted(V, m, 1), m, lam)),
    ("goals for advantages", lambda r, V, m, lam: (walk(r, V, m, lam) + V) * m),
    ("sign turned", lambda r, V, m, lam: -walk(r, V, m, lam)),
    ("lam forgotten, and the sign turned", lambda r, V, m, lam: -walk(r, V, m, 1.0)),
    ("a factor", lambda r, V, m, lam: 2 * walk(r, V, m, lam)),
    ("weights of n-step returns", lambda r, V, m, lam: walk(r, V, m, lam) * (1 - lam)),
    ("whitened", lambda r, V, m, lam: (walk(r, V, m, lam) - walk(r, V, m, lam)[m].mean()).where(m, 0)),
    ("a law", lambda r, V, m, lam: returns.whiten(walk(r, V, m, lam), m)),
    ("a discount", lambda r, V, m, lam: returns.gae(r, V, m, 0.99, float(lam))),
    ("V of the next text left out", lambda r, V, m, lam: walk(r - V, V * 0, m, lam)),
    ("shape", lambda r, V, m, lam: walk(r, V, m, lam)[m]),
    ("shape", lambda r, V, m, lam: walk(r, V, m, lam)[:, :-1]),
    ("input changed", writes_over_values),
    ("raised", lambda r, V, m, lam: r + V[:, 1:] - V[:, :-1]),
]


def by_powers(paid, expected, is_y, damp):
    """The sum written out, each answer by itself."""
    out = torch.zeros(paid.shape, dtype=torch.float64)
    for b in range(len(paid)):
        r, v = paid[b][is_y[b]].double(), expected[b][is_y[b]].double()
        d = [float(r[k] + (v[k + 1] if k + 1 < len(v) else 0) - v[k]) for k in range(len(v))]
        sums = [sum(float(damp) ** (j - k) * d[j] for j in range(k, len(d))) for k in range(len(d))]
        out[b, is_y[b]] = torch.tensor(sums).double()
    return out


def with_one_column_more(r, V, m, lam):
    """Masked inputs, so that nothing needs to be carried over the padding."""
    r, V, m = (nn_F.pad(x * m if x is not m else m.float(), (0, 1)) for x in (r, V, m))
    A = torch.zeros_like(V)
    for t in range(V.shape[1] - 2, -1, -1):
        A[:, t] = (r[:, t] + V[:, t + 1] - V[:, t] + lam * A[:, t + 1]) * m[:, t]
    return A[:, :-1]


RIGHT["gae"] = [
    by_powers, with_one_column_more,
    lambda r, V, m, lam: returns.gae(r, V, m, 1.0, float(lam)),
    lambda r, V, m, lam: returns.gae(r.double(), V.double(), m, 1.0, float(lam)).T.contiguous().T,
]

# ppo-coefficient


def stop(rho, A, clip):
    return ((A > 0) & (rho > 1 + clip)) | ((A < 0) & (rho < 1 - clip))


def F_of(rho, A, m, clip, stops=stop):
    return (rho * A * ~stops(rho, A, clip)).where(m, 0.0)


def masks_its_input(lp, old, A, m, clip):
    A *= m
    return F_of((lp - old).exp(), A, m, clip)


WRONG["ppo-coefficient"] = [
    ("the ratio clipped, and the push kept",
     lambda lp, old, A, m, c: (lp - old).exp().clamp(1 - c, 1 + c) * A * m),
    ("the loss for its gradient",
     lambda lp, old, A, m, c: torch.minimum((lp - old).exp() * A, (lp - old).exp().clamp(1 - c, 1 + c) * A)
                              * m),
    ("stopped on both sides",
     lambda lp, old, A, m, c: F_of((lp - old).exp(), A, m, c, lambda r, A, c: (r - 1).abs() > c)),
    ("stopped on the wrong side",
     lambda lp, old, A, m, c: F_of((lp - old).exp(), A, m, c, lambda r, A, c: stop(r, -A, c))),
    ("stopped as if all were good",
     lambda lp, old, A, m, c: F_of((lp - old).exp(), A, m, c, lambda r, A, c: r > 1 + c)),
    ("no clip", lambda lp, old, A, m, c: (lp - old).exp() * A * m),
    ("ratio forgotten", lambda lp, old, A, m, c: torch.where(m & ~stop((lp - old).exp(), A, c), A, 0.0)),
    ("ratio upside down", lambda lp, old, A, m, c: F_of((old - lp).exp(), A, m, c)),
    ("the answer's ratio",
     lambda lp, old, A, m, c: F_of(((lp - old) * m).sum(1, keepdim=True).exp().expand_as(A), A, m, c)),
    ("mask ignored", lambda lp, old, A, m, c: F_of((lp - old).exp(), A, torch.ones_like(m), c)),
    ("log-ratio for ratio", lambda lp, old, A, m, c: F_of(lp - old, A, m, c)),
    ("sign turned", lambda lp, old, A, m, c: -F_of((lp - old).exp(), A, m, c)),
    ("no clip, and the sign turned", lambda lp, old, A, m, c: -(lp - old).exp() * A * m),
    ("a factor", lambda lp, old, A, m, c: F_of((lp - old).exp(), A, m, c) / 2),
    ("mean for sum", lambda lp, old, A, m, c: F_of((lp - old).exp(), A, m, c) / m.sum(1, keepdim=True)),

    ("autograd",
     lambda lp, old, A, m, c: torch.autograd.grad((lp.requires_grad_() - old).exp().sum(), lp)[0]),
    ("shape", lambda lp, old, A, m, c: F_of((lp - old).exp(), A, m, c).sum(1)),
    ("shape", lambda lp, old, A, m, c: F_of((lp - old).exp(), A, m, c)[m]),
    ("input changed", masks_its_input),
    ("raised", lambda lp, old, A, m, c: (lp - old).exp() * A.sum(1)),
]


def four_cases(new, before, worth, is_y, eps):
    out = torch.zeros_like(new)
    for b in range(len(new)):
        for t in range(new.shape[1]):
            if is_y[b, t]:
                rho, a = float(torch.exp(new[b, t] - before[b, t])), float(worth[b, t])
                if not (a > 0 and rho > 1 + float(eps)) and not (a < 0 and rho < 1 - float(eps)):
                    out[b, t] = rho * a
    return out


def by_differences_of_the_minimum(lp, old, A, m, c, h=1e-6):
    def value(z):
        rho = (z - old.double()).exp()
        return torch.minimum(rho * A.double(), rho.clamp(1 - float(c), 1 + float(c)) * A.double())
    return ((value(lp.double() + h) - value(lp.double() - h)) / (2 * h)) * m


RIGHT["ppo-coefficient"] = [
    four_cases, by_differences_of_the_minimum,
    lambda lp, old, A, m, c: ppo.F((lp - old).exp(), A, float(c)) * m,
    lambda lp, old, A, m, c: torch.stack([F_of((a - b).exp(), w, k, c)
                                          for a, b, w, k in zip(lp.T, old.T, A.T, m.T)],
                                         1),
]

# find-the-penalty

# log p of what follows each token
P = torch.randn(3, 3, generator=torch.Generator().manual_seed(2)).log_softmax(-1)
P_REF = torch.randn(3, 3, generator=torch.Generator().manual_seed(5)).log_softmax(-1)
YS = every_answer(3, 3)
LISTED = batch_pairs([([1, 2], y) for y in YS])


def listed(table):
    """log p of each token from the token before it, off the response too."""
    before = LISTED.tokens[:, :-1]
    return nn_F.pad(table[before].gather(-1, LISTED.tokens[:, 1:, None])[..., 0], (1, 0))


def mean_is_right(paid, beta=0.7):
    """E over every y of what its tokens are paid, against E[R] − β·KL."""
    logp, ref, m = listed(P), listed(P_REF), LISTED.response_mask
    p, R = (logp * m).sum(1).exp(), torch.linspace(-1, 2, len(YS)) ** 2
    objective = (p * (R - beta * ((logp - ref) * m).sum(1))).sum()
    return abs(float((p * (paid(R, logp, ref, m, beta) * m).sum(1)).sum() - objective)) < 1e-4


def against_own_loop(paid):
    generator = torch.Generator().manual_seed(4)
    logp, ref = torch.randn(3, 7, generator=generator) - 3, torch.randn(3, 7, generator=generator) - 3
    m = torch.tensor([[0, 1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 0, 0, 0], [0, 0, 1, 1, 1, 1, 1]]).bool()
    R, wanted = torch.tensor([1.5, -2.0, 0.25]), torch.zeros(3, 7)
    for b in range(3):
        for t in range(7):
            if m[b, t]:
                wanted[b, t] = -0.3 * (logp[b, t] - ref[b, t])
        wanted[b, max(m[b].nonzero())] += R[b]
    return (paid(R, logp, ref, m, 0.3) - wanted).abs().max() < 1e-4


def one_token(paid, ratio=2.0):
    m = torch.tensor([[False, True]])
    return (abs(float(paid(torch.tensor([1.0]), torch.tensor([[0.0, -1.0]]),
                           torch.tensor([[0.0, -1.0 - ratio]]), m, 0.5)[0, 1])
                - (1 - ratio / 2)) < 1e-4)


ONE = torch.zeros(1, 2), torch.zeros(1, 2), torch.tensor([[False, True]])  # log-probs, reference, mask

WRONG["find-the-penalty"] = [
    ("it lets everything through", lambda f: True),
    ("it turns everything away", lambda f: False),
    ("it turns everything away", lambda f: f(torch.ones(1), *ONE, 1.0)[0, 1].item() == 2),
    ("the mean alone", mean_is_right),
    ("absolute value stands for it", one_token),
    ("padding is paid for too",
     lambda f: one_token(f)
               and mean_is_right(f)
               and bool(f(torch.ones(1), torch.tensor([[0., -1, -1]]), torch.tensor([[0., -2, -3]]),
                          torch.tensor([[False, True, True]]), 1.0)[0, 1] == -1)),
    ("saying True to right code",
     lambda f: bool(against_own_loop(f))
               and torch.equal(*(code(torch.ones(len(YS)), listed(P), listed(P_REF), LISTED.response_mask,
                                      0.7)
                                 for code in (f, find_the_penalty.by_the_package)))),
    ("type",
     lambda f: f(torch.ones(1), torch.ones(1, 2), torch.zeros(1, 2), torch.tensor([[False, True]]), 1.0)),
    ("None", lambda f: print(end="")),
    ("raised", lambda f: bool(f(torch.ones(2), *ONE, 1.0).sum())),
]
RIGHT["find-the-penalty"] = [against_own_loop, lambda f: np.bool_(bool(against_own_loop(f)))]

# find-the-advantage


def some_batch(seed=3, B=4, T=8):
    generator = torch.Generator().manual_seed(seed)
    start = torch.randint(1, 3, (B, 1), generator=generator)
    size = torch.randint(2, T - 2, (B, 1), generator=generator)
    rewards = 5 + 3 * torch.randn(B, T, generator=generator)
    values = 2 * torch.randn(B, T, generator=generator)
    t = torch.arange(T)
    return rewards, values, (t >= start) & (t < start + size)


def is_white(advantages):
    r, V, m = some_batch()
    A = advantages(r, V, m, 0.8)[m]
    return bool(abs(A.mean()) < 1e-4 and abs(A.square().mean() - 1) < 1e-3)


def against_own_sums(advantages):
    r, V, m = some_batch(seed=6)
    wanted = by_powers(r, V, m, 0.8)
    inside = wanted[m]
    wanted[m] = (inside - inside.mean()) / inside.std(correction=0)
    return torch.allclose(advantages(r, V, m, 0.8).double(), wanted, atol=1e-4)


def laws_alone(advantages):
    """No formula for an advantage: what may not matter, what must be equal, and two answers known by hand."""
    r, V, m = some_batch(seed=2)
    A = advantages(r, V, m, 0.8)
    other = advantages(torch.where(m, r, -7.0), torch.where(m, V, 4.0), m, 0.8)
    two = torch.tensor([[0, 1, 1, 0, 0], [0, 1, 1, 1, 0]]).bool()
    paid, values = torch.zeros(2, 5), torch.zeros(2, 5)
    paid[0, 2], paid[1, 3], values[1, 2] = 4.0, 8.0, 2.0
    hand = torch.tensor([2.0, 4.0, 2 + (-2 + 4.0) / 2, -2 + 4.0, 8.0])     # λ = ½: δ = 0, 4; 2, −2, 8
    found = advantages(paid, values, two, 0.5)[two]
    return is_white(advantages) and bool(A[~m].eq(0).all()) and torch.allclose(A, other, atol=1e-4) and \
        torch.allclose(found * hand.std(correction=0) + hand.mean(), hand, atol=1e-4)


WRONG["find-the-advantage"] = [
    ("it lets everything through", lambda f: True),
    ("it turns everything away", lambda f: False),
    ("it turns everything away", lambda f: bool(f(*some_batch(), 0.8).sum() == 0.123)),
    ("the mean and the spread alone", is_white),
    ("λ is not used",
     lambda f: torch.allclose(f(*some_batch(), 1.0).double(),
                              returns.whiten(by_powers(*some_batch(), 1.0), some_batch()[2]), atol=1e-4)),
    ("what stands off the response is not 0",
     lambda f: torch.allclose(f(*some_batch(), 0.8)[some_batch()[2]].double(),
                              returns.whiten(by_powers(*some_batch(), 0.8), some_batch()[2])[some_batch()[2]],
                              atol=1e-4)),
    ("saying False to code in which", lambda f: torch.equal(f(*some_batch(), 0.8) != 0, some_batch()[2])),
    ("saying True to right code",
     lambda f: against_own_sums(f)
               and torch.equal(f(*some_batch(), 0.8), find_the_advantage.packages(*some_batch(), 0.8))),
    ("type", lambda f: f(*some_batch(), 0.8)),
    ("raised", lambda f: bool(f(*some_batch(), 2.0).sum() == 0)),
    ("None", lambda f: None),
]
RIGHT["find-the-advantage"] = [against_own_sums, laws_alone, lambda f: np.bool_(laws_alone(f))]


class TestProof(Proof):
    chapter, WRONG, RIGHT = 11, WRONG, RIGHT


# what holds for some


def test_what_is_wanted_agrees_with_the_package():
    """The checks' own NumPy against minillm's gae and its PPO coefficient, on every input of every check."""
    for i in inputs_of("gae"):
        r, V, m = (torch.tensor(x) for x in (i.rewards, i.values, i.response_mask))
        assert close(CHECKS["gae"].expected(i), returns.gae(r, V, m, 1.0, float(i.lam)).numpy(), 1e-9)
    for i in inputs_of("ppo-coefficient"):
        lp, old, A, m = (torch.tensor(x) for x in (i.logprobs, i.old, i.advantages, i.response_mask))
        assert close(CHECKS["ppo-coefficient"].expected(i),
                     (ppo.F((lp - old).exp(), A, float(i.clip)) * m).numpy(), 1e-9)


@pytest.mark.parametrize("code", find_the_penalty.RIGHT, ids=lambda code: code.__name__)
def test_right_payments_agree(code):
    logp, ref, m, R = listed(P), listed(P_REF), LISTED.response_mask, torch.linspace(-1, 2, len(YS))
    assert torch.allclose(find_the_penalty.handed_out(code)(R, logp, ref, m, 0.7),
                          returns.rewards_with_kl(R, logp, ref, m, 0.7), atol=1e-5)


def test_which_wrong_payments_a_mean_does_not_see():
    for _, _, code in find_the_penalty.WRONG:
        unseen = mean_is_right(find_the_penalty.handed_out(code))
        assert unseen == (code in find_the_penalty.RIGHT_IN_THE_MEAN), code.__name__


@pytest.mark.parametrize("code", find_the_advantage.RIGHT, ids=lambda code: code.__name__)
def test_right_advantages_agree(code):
    for seed in range(4):
        r, V, m = some_batch(seed)
        assert torch.allclose(find_the_advantage.handed_out(code)(r, V, m, 0.8),
                              returns.whiten(returns.gae(r, V, m, 1.0, 0.8), m), atol=1e-4)


def test_which_wrong_advantages_are_white():
    for _, _, code in find_the_advantage.WRONG:
        white = is_white(find_the_advantage.handed_out(code))
        assert white == (code in find_the_advantage.WHITE), code.__name__
