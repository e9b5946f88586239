"""The checks of chapter 15 that count: what all chains give together, and how many of k are right.

What is wanted is computed in NumPy and in whole numbers, by other code than the solutions'.
"""

from __future__ import annotations

from math import comb

import numpy as np

from ...inside.never import NEVER, call_with_never, marked
from ...inside.shortcuts import Without
from ..judge import Case, Check, Misconception as M

# all-the-chains

def draw_chains(rng, k, missing=False, deep=False, silent=1):
    """logp (N,), answers (N,) with −1 for a chain that came to none, n_answers ().

    One answer has one chain, one has two or more. missing: one answer, never the first or the last, has none.
    deep: all but one chain have a log p of about −2000. silent: how many chains came to no answer.
    """
    A = 3 + k % 3 + missing
    names = rng.permutation(A)
    gone = next(a for a in names if 0 < a < A - 1) if missing else None
    there = [a for a in names if a != gone]
    several = [*there[1:], *there[1:], *rng.choice(there[1:], k // 2)]
    answers = rng.permutation([there[0], *several, *[-1] * silent])
    shares = rng.permutation(np.linspace(1, 3, len(answers)) ** 2)
    logp = np.log(shares / shares.sum())
    if deep:
        logp = logp - 2000
        logp[rng.choice(np.flatnonzero(answers == there[0]))] = 0
    return {"logp": np.round(logp, 2).astype(np.float32), "answers": answers.astype(np.int64),
            "n_answers": np.array(A)}


def of_each(i, of, none=NEVER, answers=None):
    """of(the log p of an answer's chains) for each answer, `none` where it has no chain: (A,)."""
    answers = i.answers if answers is None else answers
    chains = [i.logp[answers == a] for a in range(int(i.n_answers))]
    return np.array([of(logs) if len(logs) else none for logs in chains])


def log_sum(logs):
    """log Σ exp, the largest taken off first."""
    return logs.max() + np.log(np.exp(logs - logs.max()).sum())


def reached(i):
    """Which answers some chain leads to: (A,) bool."""
    return np.isin(np.arange(int(i.n_answers)), i.answers)


def whole(logs):
    """The log of what such log-probabilities sum to; NEVER counts as 0."""
    return log_sum(logs[logs != NEVER])


def renormalised(i):
    """log p of each answer, less the log of what all answers sum to."""
    logs = of_each(i, log_sum)
    return np.where(logs == NEVER, NEVER, logs - whole(logs))


ALL_THE_CHAINS = Check(
    name="all-the-chains", title="All the chains to an answer", minutes=10, difficulty=1,
    function="log_answers", arguments=("logp", "answers", "n_answers"), call=call_with_never,
    without=(Without(("minillm.thinking.scratchpad.marginal",), "Add up what leads to the same answer."),),
    learned="You have the probability of an answer when nobody looks at the chain: a sum over all chains "
            "that lead to it.",
    task="for each answer the log of the summed probability of all chains that lead to it, −inf where none "
         "does.",
    hints=(
        "Take one answer. Two chains lead to it, with probabilities of a half and a quarter. How likely is "
        "the answer? Which y have you added up?",
        "logp holds logarithms. What is added is probabilities: exp, then sum, then log. answers == a says "
        "which chains lead to answer a.",
        "exp of −2000 is 0 in a computer. torch.logsumexp takes the largest log off first and puts it back "
        "at the end. Of no logs at all it gives −inf, which is what is wanted."),
    expected=lambda i: of_each(i, log_sum),
    cases=(
        Case("the answers' probabilities sum to those of all chains that came to an answer.", draw_chains,
             lambda i, o: abs(whole(o.result) - log_sum(i.logp[i.answers >= 0])) < 1e-3),
        Case("an answer to which a single chain leads has that chain's log p.", draw_chains,
             lambda i, o: all(abs(o.result[a] - i.logp[i.answers == a][0]) < 1e-3
                              for a in range(len(o.result)) if (i.answers == a).sum() == 1)),
        Case("an answer to which no chain leads has a log-probability of −inf, and no other has.",
             lambda rng, k: draw_chains(rng, k, missing=True),
             lambda i, o: bool(((o.result == NEVER) == ~reached(i)).all()), draws=4,
             nan="−inf less −inf is NaN. Where no chain leads to an answer, there is no largest log to take "
                 "off."),
        Case("a chain that came to no answer, −1, makes no answer more likely.",
             lambda rng, k: draw_chains(rng, k, silent=3),
             lambda i, o: whole(o.result) < log_sum(i.logp[i.answers >= 0]) + 1e-3, draws=4),
        Case("chains with a log p of −2000 are added up like others.",
             lambda rng, k: draw_chains(rng, k, deep=True),
             lambda i, o: bool((o.result != NEVER).all()), draws=4)),
    misconceptions=(
        M("mean for sum",
          "The probabilities of an answer's chains were averaged. Each chain is another way to get there: "
          "they add up.",
          lambda i: of_each(i, lambda logs: log_sum(logs) - np.log(len(logs)))),
        M("the best chain alone",
          "Only the likeliest chain to each answer counts here. The others lead there too.",
          lambda i: of_each(i, np.max)),
        M("logs added",
          "The logarithms were added up. That multiplies the probabilities, as if all chains had to be "
          "written one after the other.",
          lambda i: of_each(i, np.sum, 0.0)),
        M("mean of the logs",
          "The logarithms were averaged. It is probabilities that are added.",
          lambda i: of_each(i, np.mean)),
        M("not in log space",
          "exp of a log p of −2000 is 0 in a computer, and its log is −inf. Take the largest log off before "
          "the exp, or let torch.logsumexp do it.",
          lambda i: marked(np.log([np.exp(i.logp[i.answers == a]).sum() for a in range(int(i.n_answers))]))),
        M("renormalised",
          "The answers' probabilities were made to sum to one. Some chains came to no answer: what they have "
          "belongs to nobody.",
          renormalised),
        M("no answer taken for the last",
          "Chains that came to no answer were counted for the last answer. In an index, −1 is the last "
          "place.",
          lambda i: of_each(i, log_sum, answers=np.where(i.answers < 0, i.n_answers - 1, i.answers))),
        M("no answer taken for the first",
          "Chains that came to no answer were counted for answer 0.",
          lambda i: of_each(i, log_sum, answers=np.maximum(i.answers, 0))),
        M("p for log p",
          "These are probabilities. Their logarithms are wanted.",
          lambda i: of_each(i, lambda logs: np.exp(log_sum(logs)), 0.0)),
        M("sign turned",
          "These are minus the logarithms. A log-probability is never above 0.",
          lambda i: -of_each(i, log_sum)),
        M("0 where no chain leads",
          "An answer to which no chain leads has the log-probability 0 here. That is the log of 1: certain.",
          lambda i: of_each(i, log_sum, 0.0)),
        M("chains counted",
          "Each chain counts the same here. That is how one votes over chains that were drawn; these are "
          "listed, and each has its own probability.",
          lambda i: of_each(i, lambda logs: np.log(len(logs) / len(i.logp))))))

# pass-at-k


def draw_counts(rng, d, k=None, all_drawn=False, sure=False, many=False):
    """n, c (Q,), k (). Of each n answers c are right, 1 or more, and k or more are wrong.

    all_drawn: n is k, and one question has no right answer. sure: one question has fewer than k wrong
    answers. many: 10,000 answers.
    """
    Q = 2 + d // 2
    k = k or int((2, 3, 2, 4, 3, 5)[d % 6])
    if many:
        k, n = 40 * (d + 1), np.full(Q, 10_000)
        c = rng.choice(np.arange(20, 200), Q, replace=False) // (d + 1)
    elif all_drawn:
        n = np.full(Q, k)
        c = np.where(np.arange(Q) == d % Q, 0, rng.integers(1, k + 1, Q))
    else:
        n = k + 2 + rng.permutation(Q + 2)[:Q]
        c = np.array([rng.integers(1, high) for high in n - k + 1])
        c[n.argmax()] = 2
        if sure:
            c[d % Q] = n[d % Q] - k + 1
    return {"n": n.astype(np.int64), "c": c.astype(np.int64), "k": np.array(k)}


def of_counts(i, of):
    """of(n, c, k) in whole numbers for each question: (Q,)."""
    return np.array([of(int(n), int(c), int(i.k)) for n, c in zip(i.n, i.c)], float)


def pass_at_k(n, c, k):
    """The share of choices of k that hold a right one."""
    return (comb(n, k) - comb(n - c, k)) / comb(n, k)


PASS_AT_K = Check(
    name="pass-at-k", title="One right among k", minutes=10, difficulty=2,
    function="pass_at_k", arguments=("n", "c", "k"), compared="the chance",
    without=(Without(("minillm.thinking.vote.pass_at_k",), "Count the choices of k without a right one."),),
    learned="You have an estimate that is right on average, from the same n answers for every k.",
    task="for each question, the chance that k of its n answers, chosen at random and none of them twice, "
         "hold one of the c right ones at least.",
    hints=(
        "Four answers, one of them right. Write down the six pairs. How many hold the right one? Is it "
        "easier to count those that do not?",
        "The chance that all k are wrong is a product: the first is wrong in n − c of n cases. What is left "
        "when it has been taken away? Then the second.",
        "Where fewer than k are wrong, a factor of that product is 0. With factors between 0 and 1 nothing "
        "overflows; factorials of 10,000 do. math.comb counts in whole numbers of any size."),
    expected=lambda i: of_counts(i, pass_at_k),
    cases=(
        Case("it is the share of all choices of k answers that hold a right one.", draw_counts),
        Case("with k = 1 it is the share of right answers.", lambda rng, d: draw_counts(rng, d, k=1),
             lambda i, o: bool((np.abs(o.result - i.c / i.n) < 1e-3).all()), draws=4),
        Case("with k = n it is 1 where an answer is right, and 0 where none is.",
             lambda rng, d: draw_counts(rng, d, all_drawn=True),
             lambda i, o: bool((np.abs(o.result - (i.c > 0)) < 1e-3).all()), draws=4,
             nan="Where fewer than k answers are wrong, no choice of k is without a right one."),
        Case("where fewer than k answers are wrong it is 1.", lambda rng, d: draw_counts(rng, d, sure=True),
             lambda i, o: bool((np.abs(o.result[i.n - i.c < i.k] - 1) < 1e-3).all()), draws=4,
             nan="Where fewer than k answers are wrong, no choice of k is without a right one."),
        Case("10,000 answers are counted as exactly as ten. (Factorials overflow there, and in float32 their "
             "logarithms lose too many digits.)",
             lambda rng, d: draw_counts(rng, d, many=True), draws=4,
             nan="Factorials of large numbers are infinite in floats, and ∞/∞ is NaN. Multiply k factors "
                 "between 0 and 1, or count with math.comb.")),
    misconceptions=(
        M("drawn with replacement",
          "Here an answer may be chosen more than once. The k answers are all different, and with few "
          "answers that matters: this estimate is too small on average.",
          lambda i: 1 - (1 - i.c / i.n) ** i.k),
        M("chances added",
          "The chance of one was taken k times. Two of the k may both be right, and such a choice is counted "
          "twice.",
          lambda i: i.k * i.c / i.n),
        M("chances added, and cut at 1",
          "The chance of one was taken k times, and cut at 1. Two of the k may both be right, and such a "
          "choice is counted twice.",
          lambda i: np.minimum(1, i.k * i.c / i.n)),
        M("all of k for one of k",
          "This is the chance that all k are right. One is enough.",
          lambda i: of_counts(i, lambda n, c, k: comb(c, k) / comb(n, k))),
        M("exactly one",
          "This is the chance that exactly one of the k is right. Two are as good.",
          lambda i: of_counts(i, lambda n, c, k: c * comb(n - c, k - 1) / comb(n, k))),
        M("none of k",
          "This is the chance that no one of the k is right.",
          lambda i: of_counts(i, lambda n, c, k: comb(n - c, k) / comb(n, k))),
        M("k not used",
          "This is the share of right answers, whatever k is.",
          lambda i: i.c / i.n),
        M("divided in whole numbers",
          "A division in whole numbers threw the fraction away: every share below 1 became 0.",
          lambda i: of_counts(i, lambda n, c, k: 1 - comb(n - c, k) // comb(n, k))),
        M("0 where it is certain",
          "Where fewer than k answers are wrong, this is 0. Then any k of them hold a right one.",
          lambda i: np.where(i.n - i.c < i.k, 0.0, of_counts(i, pass_at_k))),
        M("as many left each time",
          "The number of wrong answers falls from factor to factor, and the number of all answers does not. "
          "Each one that was chosen is gone from both.",
          lambda i: of_counts(i, lambda n, c, k: 1 - np.prod([(n - c - j) / n for j in range(k)]))),
        M("one chance for all questions",
          "The questions were averaged. One number for each question is wanted.",
          lambda i: of_counts(i, pass_at_k).mean())))
