"""The check of chapter 16 on equal tokens: the chance of a right chain within a budget, over all orders."""

from __future__ import annotations

from functools import lru_cache
from itertools import permutations, product
from math import comb

import numpy as np

from ..judge import Case, Check, Misconception as M


def draw_budget(rng, k, kind="plain"):
    """tokens (N,), right (N,) bool, budgets (K,), whole numbers; one or two chains are right.

    kind "plain": no two chains are equally long; one budget is what two of them take together. "all": the
    last budget is enough for all chains, the first for none; in half of the draws no chain is right. "none":
    no budget is enough for a right chain, and each is for a wrong one. "exact": the only right chain is the
    shortest, and the first budget is what it takes; no budget is enough for another one. "equal": all chains
    are equally long. "rising": budgets from small to large.
    """
    N = 3 + k // 2
    tokens = rng.permutation(np.arange(3, 3 + 2 * N))[:N]
    right = np.zeros(N, bool)
    right[rng.choice(N, 1 + (N > 4), replace=False)] = True
    two = int(tokens[~right][0] + tokens[right][0])
    budgets = [two, int(tokens.sum()) - 1 - k, int(tokens.max()) + 1]
    if kind == "all":
        right &= k % 2 == 0
        budgets = [int(tokens.min()) - 1, int(tokens.sum()) + k + 1]
    elif kind == "none":
        tokens[right] += 3 * N
        budgets = [int(tokens[~right].max()) + 1, int(tokens[right].min()) - 1]
    elif kind == "exact":
        right = tokens == tokens.min()
        tokens[~right] += 4
        budgets = [int(tokens.min()), int(tokens.min()) + 2]
    elif kind == "equal":
        tokens[:] = 4 + k
        budgets = [2 * (4 + k), 2 * (4 + k) + 1, (N - 1) * (4 + k) - 1]
    elif kind == "rising":
        budgets = np.linspace(tokens.min(), tokens.sum(), 5).astype(int).tolist()
    return {"tokens": tokens.astype(np.int64), "right": right, "budgets": np.array(budgets, np.int64)}


@lru_cache(None)
def orders(n):
    """All orders of n chains, (n!, n)."""
    return np.array(list(permutations(range(n))))


def drawn(i, budget, spent=np.less_equal, before=False):
    """Which chains of each order are written within a budget: (n!, N) bool. before: without their own tokens.
    """
    length = i.tokens[orders(len(i.tokens))]
    total = length.cumsum(1) - (length if before else 0)
    return spent(total, budget)


def over_orders(i, of, **how):
    """The mean of of(right ones among those drawn (n!, N), those drawn) over all orders, for each budget."""
    right = i.right[orders(len(i.tokens))] > 0
    out = []
    for budget in i.budgets:
        there = drawn(i, budget, **how)
        out.append(of(there & right, there).mean())
    return np.array(out, float)


def some(right, there):
    """Whether one of those drawn is right: (n!,)."""
    return right.any(1)


def in_one_order(i, order):
    """1 where the chains, taken in this order, hold a right one within the budget, 0 where not: (K,)."""
    total, right = i.tokens[order].cumsum(), i.right[order] > 0
    return np.array([float((right & (total <= budget)).any()) for budget in i.budgets])


def passed_over(i):
    """As wanted, where what does not fit is passed over and the next one is tried: (K,)."""
    out = []
    for budget in i.budgets:
        hits = 0
        for order in orders(len(i.tokens)):
            left = budget
            for chain in order:
                if i.tokens[chain] <= left:
                    left -= i.tokens[chain]
                    if i.right[chain]:
                        hits += 1
                        break
        out.append(hits / len(orders(len(i.tokens))))
    return np.array(out)


def by_count(i, rounded):
    """One right among k, for as many chains k as the budget pays of mean length: (K,)."""
    n, c = len(i.tokens), int(i.right.sum())
    k = np.minimum(n, rounded(i.budgets / i.tokens.mean())).astype(int)
    return np.array([1 - comb(n - c, j) / comb(n, j) for j in k])


def again_and_again(i):
    """As wanted, where a chain may be drawn again: (K,)."""
    @lru_cache(None)
    def chance(left):
        return sum((1.0 if right else chance(left - t)) for t, right in zip(i.tokens, i.right)
                   if t <= left) / len(i.tokens)
    return np.array([chance(budget) for budget in i.budgets])


def over_sets(i, least):
    """Of all sets of `least` chains or more that fit, the share that hold a right one: (K,)."""
    sets = np.array([s for s in product((False, True), repeat=len(i.tokens)) if sum(s) >= least])
    fit = [sets[sets @ i.tokens <= budget] for budget in i.budgets]
    return np.array([(s & (i.right > 0)).any(1).mean() if len(s) else 0.0 for s in fit])


def chosen(i):
    """One right among as many as fit of equal chains: (K,)."""
    n, c = len(i.tokens), int(i.right.sum())
    return np.array([1 - comb(n - c, k) / comb(n, k) for k in (i.budgets // i.tokens[0]).astype(int)])


EQUAL_TOKENS = Check(
    name="equal-tokens", title="At equal tokens", minutes=15, difficulty=2,
    function="chance_within", arguments=("tokens", "right", "budgets"), compared="the chance",
    learned="You have a curve on which two ways of searching can be compared fairly: what each finds for the "
            "same number of tokens.",
    task="for each budget the share of all orders in which a right chain is written to its end before the "
         "tokens are spent.",
    hints=(
        "One order first, and one budget. Go through the chains and take what each costs from the budget. "
        "When do you stop? Which chains were written to their end by then?",
        "itertools.permutations(range(N)) gives all orders. The answer is the share of them in which you met "
        "a right chain before you had to stop.",
        "In one order, the totals so far are a cumulative sum of its tokens. A chain was written to its end "
        "where the total with it is no larger than the budget. The first that is too long ends it all."),
    expected=lambda i: over_orders(i, some),
    cases=(
        Case("all orders are equally likely, and in each the chains are written one after the other.",
             draw_budget),
        Case("with tokens for all chains it is 1 where one of them is right and 0 where none is; with tokens "
             "for none it is 0.",
             lambda rng, k: draw_budget(rng, k, "all"),
             lambda i, o: bool(np.allclose(o.result, [0, i.right.any()], atol=1e-3)), draws=4),
        Case("where no right chain fits it is 0.", lambda rng, k: draw_budget(rng, k, "none"),
             lambda i, o: bool((np.abs(o.result) < 1e-3).all()), draws=4),
        Case("where one chain alone fits, and it is right, it must be the first of the N: the chance is one "
             "in N. It may take exactly what is there.",
             lambda rng, k: draw_budget(rng, k, "exact"),
             lambda i, o: bool(np.allclose(o.result, 1 / len(i.tokens), atol=1e-3)), draws=4),
        Case("where all chains are equally long, tokens count chains: it is one right among k.",
             lambda rng, k: draw_budget(rng, k, "equal"),
             lambda i, o: bool(np.allclose(o.result, chosen(i), atol=1e-3)), draws=4),
        Case("more tokens never make it smaller.", lambda rng, k: draw_budget(rng, k, "rising"),
             lambda i, o: bool((np.diff(o.result) > -1e-3).all()), draws=4)),
    misconceptions=(
        M("what was begun counts",
          "A chain counts here that was begun with tokens left and not finished. It has no answer: it was "
          "cut.",
          lambda i: over_orders(i, some, spent=np.less, before=True)),
        M("the last token missed",
          "A chain that takes exactly what is left does not count here. It was written to its end.",
          lambda i: over_orders(i, some, spent=np.less)),
        M("what is too long is passed over",
          "Here a chain that does not fit costs nothing, and a shorter one is tried after it. Nobody knows "
          "beforehand how long a chain will be: its tokens are spent.",
          passed_over),
        M("chains counted for tokens",
          "Here a budget buys a number of chains, all of mean length. Short and long ones cost what they "
          "cost.",
          lambda i: by_count(i, lambda k: np.floor(k + 1e-6))),
        M("chains counted for tokens",
          "Here a budget buys a number of chains, all of mean length. Short and long ones cost what they "
          "cost.",
          lambda i: by_count(i, np.round)),
        M("the best order",
          "This is 1 as soon as a right chain fits at all. That is the luckiest order. Are the tokens of "
          "wrong chains paid?",
          lambda i: np.array([float((i.tokens[i.right > 0] <= b).any()) for b in i.budgets])),
        M("one order for all",
          "The chains were taken in the order of the row. All orders are equally likely.",
          lambda i: in_one_order(i, np.arange(len(i.tokens)))),
        M("the shortest first",
          "The chains were taken from the shortest up. Nobody knows beforehand which one that is.",
          lambda i: in_one_order(i, np.argsort(i.tokens, kind="stable"))),
        M("drawn again",
          "Here a chain may be drawn twice. The N chains are there, and each is taken once.",
          again_and_again),
        M("a share for a chance",
          "This is the share of right ones among the chains that were written, on average. That is what one "
          "chain alone would give. One right one among them is enough.",
          lambda i: over_orders(i, lambda r, t: r.sum(1) / np.maximum(1, t.sum(1)))),
        M("a count for a chance",
          "This is the mean number of right chains. A second right one adds nothing.",
          lambda i: over_orders(i, lambda r, t: r.sum(1))),
        M("no right one",
          "This is the chance that no right chain is found.",
          lambda i: 1 - over_orders(i, some)),
        M("sets for orders",
          "Here all sets of chains that fit are equally likely. Chains are drawn one after the other until "
          "one does not fit, so large sets are likelier.",
          lambda i: over_sets(i, 0)),
        M("sets for orders",
          "Here all sets of chains that fit are equally likely. Chains are drawn one after the other until "
          "one does not fit, so large sets are likelier.",
          lambda i: over_sets(i, 1))))
