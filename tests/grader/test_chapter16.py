"""The proof of chapter 16's checks: wrong answers fail by name, right ones written another way pass."""

from __future__ import annotations

import ast
import math
import operator
import random
import re
from collections import Counter
from fractions import Fraction
from itertools import combinations, permutations

import numpy as np
import pytest
import torch

from grader.outside.chapter16 import alive as dead_or_alive
from grader.outside.chapter16 import find_the_hole
from minillm.thinking import tree, vote
from minillm.worlds import countdown
from proof import CHECKS, Proof, fresh, inputs_of, run_cell, verdict  # noqa: F401  (a fixture is among them)

WRONG: dict[str, list] = {}  # exercise -> (the misconception's name, a function that has it)
RIGHT: dict[str, list] = {}  # exercise -> a right function written another way

# dead-or-alive


def six(a, b):
    return [a + b, a - b, b - a, a * b] + ([a / b] if b else []) + ([b / a] if a else [])


def walk(numbers, *, kind=Fraction, of=six, end=lambda n: n == 24, pairs=None, without=None, front=False,
         early=False, single=True):
    """Any pair of places becomes one number, which is put at the end, or in front."""
    def go(left):
        if early and any(end(n) for n in left):
            return True
        if len(left) == 1:
            return bool(end(left[0]))
        for i, j in combinations(range(len(left)), 2) if pairs is None else pairs(left):
            rest = left[:i] + left[i + 1:j] + left[j + 1:] if without is None else without(left, i, j)
            for n in of(left[i], left[j]):
                if go([n] + rest if front else rest + [n]):
                    return True
        return False

    left = [kind(int(n)) for n in numbers]
    return go(left) if single or len(left) > 1 else False


def side_by_side(numbers):
    """All that brackets can do without another order."""
    def made(left):
        if len(left) == 1:
            return {left[0]}
        return {n for k in range(1, len(left)) for a in made(left[:k]) for b in made(left[k:])
                for n in six(a, b)}
    return Fraction(24) in made([Fraction(int(n)) for n in numbers])


def from_left_to_right(numbers, of=lambda a, b: six(a, b)):
    """Each order, each choice of signs, with no brackets but those around what was made so far."""
    for first, *others in set(permutations([Fraction(int(n)) for n in numbers])):
        made = {first}
        for n in others:
            made = {result for m in made for result in of(m, n)}
        if 24 in made:
            return True
    return False


def without_equals(left, i, j):
    return [n for n in left if n not in (left[i], left[j])]


def carelessly(numbers):
    """Divides by 0."""
    return walk(numbers, of=lambda a, b: [a + b, a - b, b - a, a * b, a / b, b / a])


def giving_up(a, b):
    try:
        return [a + b, a - b, b - a, a * b, a / b, b / a]
    except ZeroDivisionError:
        return []


def by_heaps(numbers):
    """What each set of places can make, from small sets to large."""
    numbers = [int(n) for n in numbers]
    whole = (1 << len(numbers)) - 1
    made = {1 << k: {Fraction(n)} for k, n in enumerate(numbers)}
    for mask in range(1, whole + 1):
        if mask not in made:
            made[mask] = {n for part in range(1, mask) if part & mask == part and part < mask ^ part
                          for a in made[part] for b in made[mask ^ part] for n in six(a, b)}
    return 24 in made[whole]


def by_pairs_of_whole_numbers(numbers):
    """Fractions as (above, below), and a tensor of bool comes back."""
    def go(left):
        if len(left) == 1:
            return left[0][1] != 0 and left[0][0] == 24 * left[0][1]
        for i, j in permutations(range(len(left)), 2):
            (a, b), (c, d) = left[i], left[j]
            rest = [n for k, n in enumerate(left) if k not in (i, j)]
            if any(go(rest + [n]) for n in ((a * d + c * b, b * d), (a * d - c * b, b * d), (a * c, b * d),
                                            (a * d, b * c)) if n[1]):
                return True
        return False
    return torch.tensor(go([(n, 1) for n in numbers.tolist()]))


def without_a_sign(numbers):
    """The larger less the smaller: what is below 0 can be made above it, and the sign turned back."""
    return walk(numbers, of=lambda a, b: [a + b, abs(a - b), a * b] + ([a / b] if b else [])
                + ([b / a] if a else []))


def or_minus_24(numbers):
    """Who makes −24 can make 24, by turning each difference round."""
    return walk(numbers, of=lambda a, b: [n for k, n in enumerate(six(a, b)) if k != 2],
                end=lambda n: abs(n) == 24)


def with_a_tolerance(numbers):
    return walk(numbers, kind=float, end=lambda n: abs(n - 24) < 1e-6)


def one_fraction(a, b):
    return [a + b, a - b, a * b] + ([a / b] if b else [])


def in_place(numbers):
    said = walk(numbers)
    numbers[0] = 7
    return said


def whole_ones(a, b):
    return [n for n in six(a, b) if n.denominator == 1]


def floors(a, b):
    return [a + b, a - b, b - a, a * b] + ([a // b] if b else []) + ([b // a] if a else [])


def larger(a, b):
    a, b = max(a, b), min(a, b)
    return [a + b, a - b, a * b] + ([a / b] if b else [])


def less_one_way(a, b):
    return [n for k, n in enumerate(six(a, b)) if k != 2]


WRONG["dead-or-alive"] = [
    ("numbers left over", lambda n: walk(n, early=True)),
    ("floats compared exactly", lambda n: walk(n, kind=float)),
    ("floats compared exactly", lambda n: walk(n, kind=np.float32)),
    ("near 24 is taken for 24", lambda n: walk(n, end=lambda v: round(v) == 24)),
    ("near 24 is taken for 24", lambda n: walk(n, end=lambda v: abs(v - 24) < 0.1)),
    ("the numbers", lambda n: walk(n, end=lambda v: abs(v - 24) < 0.3)),
    ("no fractions on the way", lambda n: walk(n, of=whole_ones)),
    ("quotients rounded down", lambda n: walk(n, kind=int, of=floors)),
    ("one way round", lambda n: walk(n, of=one_fraction)),
    ("one way round", lambda n: walk(n, of=one_fraction, front=True)),
    ("a difference one way round", lambda n: walk(n, of=less_one_way)),
    ("a difference one way round", lambda n: walk(n, of=less_one_way, front=True)),
    ("always the larger by the smaller", lambda n: walk(n, of=larger)),
    ("neighbours alone", side_by_side),
    ("no step with two results", from_left_to_right),
    ("no step with two results", lambda n: from_left_to_right(n, one_fraction)),
    ("equal numbers taken away together", lambda n: walk(n, without=without_equals)),
    ("nothing with a 0", lambda n: walk(n, of=giving_up)),
    ("a single number is never 24", lambda n: walk(n, single=False)),
    ("dead for alive", lambda n: not walk(n)),
    ("a law", lambda n: walk(n, of=lambda a, b: [a + b, a * b, a - b, b - a])),
    ("the numbers", lambda n: 0 in n.tolist() or walk(n)),
    ("raised", carelessly),
    ("raised", lambda n: walk(n, pairs=lambda left: [(0, 1), (1, 2)])),
    ("raised", lambda n: walk(n, without=lambda left, i, j: left[:i] + left[i + 1:])),
    ("type", lambda n: int(walk(n))),
    ("type", lambda n: torch.tensor([1.0]) * walk(n)),
    ("None", lambda n: walk(n) or None),
    ("input changed", in_place),
    ("shortcut", lambda n: countdown.alive(countdown.Puzzle((1, 1)), n.tolist())),
    ("shortcut", lambda n: bool(countdown.solve(countdown.Puzzle((1, 1)), n.tolist()))),
]
RIGHT["dead-or-alive"] = [by_heaps, by_pairs_of_whole_numbers, without_a_sign, or_minus_24, with_a_tolerance]

# one-level


def ranked(parents, values, solved, beam, *, worth=lambda v: v, among=lambda s: ~s, width=lambda b, s: b,
           late=False, keep=lambda s: s):
    """Places sorted by a key, the first of equals first."""
    places = [c for c in range(len(values)) if among(solved)[c]]
    places.sort(key=lambda c: (-float(worth(values)[c]), -c if late else c))
    kept = keep(solved).clone()
    for c in places[:max(0, int(width(beam, solved)))]:
        kept[c] = True
    return kept


def anyone(solved):
    return torch.ones_like(solved)


def nobody(solved):
    return torch.zeros_like(solved)


def by_a_threshold(parents, values, solved, beam, at_least=torch.ge):
    others = values[~solved].sort(descending=True).values
    return solved | at_least(values, others[min(int(beam), len(others)) - 1])


def parent_by_parent(parents, values, solved, beam):
    kept = torch.zeros_like(solved)
    for p in parents.unique():
        mine = parents == p
        kept[mine] = ranked(parents[mine], values[mine], solved[mine], beam)
    return kept


def by_topk(parents, values, solved, beam):
    kept = solved.clone()
    kept[values.masked_fill(solved, -torch.inf).topk(int(beam)).indices] = True
    return kept


def marks_its_input(parents, values, solved, beam):
    solved |= ranked(parents, values, solved, beam)
    return solved


def solutions_among_the_best(parents, values, solved, beam):
    """A solution is worth 0; values are all below it."""
    return ranked(parents, torch.where(solved, 0.0, values), solved, beam, among=anyone)


def by_counting(parents, values, solved, beam):
    """A child is kept if fewer than beam others come before it."""
    other = ~solved
    larger = values[None] > values[:, None]
    earlier = (values[None] == values[:, None]) & (torch.arange(len(values))[None]
                                                   < torch.arange(len(values))[:, None])
    return solved | (((larger | earlier) & other[None]).sum(1) < beam)


def one_by_one(parents, values, solved, beam):
    """The best again and again, in NumPy."""
    worth = np.where(solved.numpy(), -np.inf, values.numpy().astype(float))
    kept = solved.numpy().copy()
    for _ in range(int(beam)):
        if np.isinf(worth).all():
            break
        kept[worth.argmax()] = True
        worth[worth.argmax()] = -np.inf
    return kept


def by_the_tree(parents, values, solved, beam):
    """minillm's own, of a tree of one level."""
    def propose(states):
        return [[tree.Child(c, str(c)) for c in range(len(values))] for _ in states]
    grown, = tree.breadth_first(["root"], propose, lambda states: values[list(states)].tolist(),
                                lambda state: state != "root" and bool(solved[state]),
                                beam=int(beam), depth=1)
    return torch.tensor([node.kept for node in grown.nodes[1:]])


WRONG["one-level"] = [
    ("the worst for the best", lambda p, v, s, b: ranked(p, v, s, b, worth=torch.neg)),
    ("a solution given up", lambda p, v, s, b: ranked(p, v, s, b, among=anyone, keep=nobody)),
    ("a solution takes a place", lambda p, v, s, b: ranked(p, v, s, b, among=anyone)),
    ("a solution takes a place", lambda p, v, s, b: ranked(p, v, s, b, width=lambda b, s: b - s.sum())),
    ("a solution takes a place", solutions_among_the_best),
    ("the others dropped", lambda p, v, s, b: s.clone() if s.any() else ranked(p, v, s, b)),
    ("ties to the last", lambda p, v, s, b: ranked(p, v, s, b, late=True)),
    ("all equals kept", by_a_threshold),
    ("the last place left empty", lambda p, v, s, b: by_a_threshold(p, v, s, b, torch.gt)),
    ("a beam for each parent", parent_by_parent),
    ("the first for the best", lambda p, v, s, b: ranked(p, v, s, b, worth=torch.zeros_like)),
    ("size for value", lambda p, v, s, b: ranked(p, v, s, b, worth=torch.abs)),
    ("given up for kept", lambda p, v, s, b: ~ranked(p, v, s, b)),
    ("a law", lambda p, v, s, b: ranked(p, v, s, b, width=lambda b, s: b + 1)),
    ("a law", lambda p, v, s, b: ranked(p, v, s, b, width=lambda b, s: b - 1)),
    ("a law", lambda p, v, s, b: ranked(p, v, s, b) | (p == p[v.argmax()])),
    ("raised", by_topk),
    ("dtype", lambda p, v, s, b: ranked(p, v, s, b).float()),
    ("dtype", lambda p, v, s, b: ranked(p, v, s, b).nonzero()[:, 0]),
    ("shape", lambda p, v, s, b: ranked(p, v, s, b)[:, None]),
    ("input changed", marks_its_input),
    ("shortcut", by_the_tree),
]
RIGHT["one-level"] = [ranked, by_counting, one_by_one]

# equal-tokens


def in_turn(tokens, right, budgets, *, fits=lambda cost, left: cost <= left, skip=False, cut=False,
            gives=lambda written: float(any(written)), orders=permutations):
    """Each order walked through, token counts as whole numbers."""
    out = []
    for budget in budgets.tolist():
        total, n = 0.0, 0
        for order in orders(range(len(tokens))):
            left, written = budget, []
            for c in order:
                if not fits(int(tokens[c]), left):
                    if cut and left > 0:
                        written.append(bool(right[c]))
                    if skip:
                        continue
                    break
                left -= int(tokens[c])
                written.append(bool(right[c]))
            total, n = total + gives(written), n + 1
        out.append(total / n)
    return torch.tensor(out)


def among_k(tokens, right, budgets, whole):
    n, c = len(tokens), int(right.sum())
    k = [min(n, int(whole(b / tokens.double().mean().item()))) for b in budgets.tolist()]
    return torch.tensor([vote.pass_at_k(n, c, j) if j else 0.0 for j in k])


def over_and_over(tokens, right, budgets):
    def chance(left):
        return sum((1.0 if r else chance(left - t)) for t, r in zip(tokens.tolist(), right.tolist())
                   if t <= left) / len(tokens)
    return torch.tensor([chance(b) for b in budgets.tolist()])


def of_sets(tokens, right, budgets, smallest=0):
    out = []
    for b in budgets.tolist():
        fit = [s for k in range(smallest, len(tokens) + 1) for s in combinations(range(len(tokens)), k)
               if sum(int(tokens[c]) for c in s) <= b]
        out.append(sum(any(bool(right[c]) for c in s) for s in fit) / max(1, len(fit)))
    return torch.tensor(out)


def sorted_first(tokens, right, budgets):
    order = tokens.argsort()
    return in_turn(tokens[order], right[order], budgets, orders=lambda r: [tuple(r)])


def recursively(tokens, right, budgets):
    """The first chain is any of those there are; then the same question with the rest, in fractions."""
    def chance(there, left):
        if not there:
            return Fraction(0)
        return sum((Fraction(1) if r else chance(there[:n] + there[n + 1:], left - t))
                   for n, (t, r) in enumerate(there) if t <= left) / len(there)
    chains = tuple(zip(tokens.tolist(), right.tolist()))
    return np.array([float(chance(chains, b)) for b in budgets.tolist()])


def by_what_comes_before(tokens, right, budgets):
    """1 − Σ over sets of wrong chains that may be all that was written: the sets, and what is drawn next."""
    wrong = [t for t, r in zip(tokens.tolist(), right.tolist()) if not r]
    paid = [t for t, r in zip(tokens.tolist(), right.tolist()) if r]
    N, out = len(tokens), []
    for b in budgets.tolist():
        miss = 0.0
        for k in range(len(wrong) + 1):
            for s in combinations(range(len(wrong)), k):
                left = b - sum(wrong[n] for n in s)
                if left < 0:
                    continue
                begun = math.factorial(k) * math.factorial(N - k) / math.factorial(N)
                too_long = sum(t > left for t in paid) + sum(wrong[n] > left for n in range(len(wrong))
                                                             if n not in s)
                miss += begun * (1.0 if k == N else too_long / (N - k))
        out.append(1 - miss)
    return torch.tensor(out, dtype=torch.float64)


WRONG["equal-tokens"] = [
    ("what was begun counts", lambda t, r, b: in_turn(t, r, b, cut=True)),
    ("the last token missed", lambda t, r, b: in_turn(t, r, b, fits=lambda cost, left: cost < left)),
    ("what is too long is passed over", lambda t, r, b: in_turn(t, r, b, skip=True)),
    ("chains counted for tokens", lambda t, r, b: among_k(t, r, b, lambda k: math.floor(k + 1e-9))),
    ("chains counted for tokens", lambda t, r, b: among_k(t, r, b, round)),
    ("the best order", lambda t, r, b: ((t <= b[:, None]) & r).any(1).float()),
    ("one order for all", lambda t, r, b: in_turn(t, r, b, orders=lambda n: [tuple(n)])),
    ("the shortest first", sorted_first),
    ("drawn again", over_and_over),
    ("a share for a chance", lambda t, r, b: in_turn(t, r, b, gives=lambda w: sum(w) / max(1, len(w)))),
    ("a count for a chance", lambda t, r, b: in_turn(t, r, b, gives=sum)),
    ("no right one", lambda t, r, b: in_turn(t, r, b, gives=lambda w: float(not any(w)))),
    ("a share for a chance", lambda t, r, b: ((t <= b[:, None]) & r).float().mean(1)),
    ("a share for a chance", lambda t, r, b: in_turn(t, r, b, gives=lambda w: float(bool(w) and w[-1]))),
    ("sets for orders", of_sets),
    ("sets for orders", lambda t, r, b: of_sets(t, r, b, 1)),
    ("a law", lambda t, r, b: in_turn(t, r, b).clamp(max=0.9)),
    ("a law", lambda t, r, b: in_turn(t, r, b) * 0 + 0.5),
    ("a factor", lambda t, r, b: in_turn(t, r, b) * math.factorial(3)),
    ("shape", lambda t, r, b: in_turn(t, r, b).mean()),
    ("raised", lambda t, r, b: in_turn(t, r, b, gives=lambda w: w[-1])),
    ("type", lambda t, r, b: in_turn(t, r, b).tolist()),
    ("input changed", lambda t, r, b: in_turn(t.sub_(0), r, b.sub_(1).add_(1)) + 0 * t.mul_(2).sum()),
]
RIGHT["equal-tokens"] = [in_turn, recursively, by_what_comes_before]

# reward-for-a-step


def rows(counts, n, reward, step, *, A=lambda V: [b - a for a, b in zip(V, V[1:])], last=None, share=None,
         base=lambda V: V[0], question=(0.0, 0.0), size=False, ends=False):
    """Token by token, in Python's numbers."""
    K, R, steps = len(counts), float(reward), step.tolist()
    V = [(share or (lambda c: c / int(n)))(c) for c in counts.tolist()]
    V.append(R if last is None else last(V))
    added = A(V)
    out = np.zeros((2, len(steps)))
    for t, s in enumerate(steps):
        if s == 0:
            out[:, t] = question[0] if not callable(question[0]) else question[0](V, R), \
                question[1] if not callable(question[1]) else question[1](V, R)
            continue
        out[0, t] = R - base(V)
        out[1, t] = added[s - 1] / (steps.count(s) if size else 1)
        if ends and t + 1 < len(steps) and steps[t + 1] == s:
            out[1, t] = 0
        if ends == "both" and t + 1 < len(steps):
            out[0, t] = 0
    assert K == max(steps)
    return torch.tensor(out, dtype=torch.float32)


def gained(V):
    return [b - a for a, b in zip(V, V[1:])]


def by_one_hot(counts, n, reward, step):
    """A table of who is in which step."""
    V = torch.cat([counts.double() / n, reward.double()[None]])
    mine = (step[:, None] == torch.arange(1, len(counts) + 1)).double()      # (T, K)
    return torch.stack([mine.sum(1) * (reward - V[0]), mine @ V.diff()])


def by_two_lookups(counts, n, reward, step):
    """V after a token's step less V before it; on the question both are V_0."""
    V = np.append(counts.numpy() / int(n), float(reward))
    step = step.numpy()
    return np.stack([np.where(step > 0, V[-1] - V[0], 0), V[step] - V[np.maximum(step - 1, 0)]])


def by_filling(counts, n, reward, step):
    """In place, a step at a time."""
    out = torch.zeros(2, len(step))
    before = counts[0] / n
    out[0, step != 0] = reward - before
    for t in range(1, len(counts) + 1):
        after = counts[t] / n if t < len(counts) else reward
        out[1, step == t] = after - before
        before = after
    return out


def wrapping(counts, n, reward, step):
    """The index −1 of the question's tokens is the last step."""
    V = torch.cat([counts / n, reward[None]])
    return torch.stack([(reward - V[0]) * (step > 0), V.diff()[step - 1]])


def one_too_few(counts, n, reward, step):
    V = counts / n
    return torch.stack([(reward - V[0]) * (step > 0), V.diff()[step - 1]])


def scales(counts, n, reward, step):
    counts *= 1
    n += 1
    return rows(counts, n - 1, reward, step)


WRONG["reward-for-a-step"] = [
    ("V for what a step added", lambda *i: rows(*i, A=lambda V: V[1:])),
    ("V for what a step added", lambda *i: rows(*i, A=lambda V: V[:-1])),
    ("spread over the tokens", lambda *i: rows(*i, size=True)),
    ("on the last token alone", lambda *i: rows(*i, ends=True)),
    ("on the last token alone", lambda *i: rows(*i, ends="both")),
    ("one step early", lambda *i: rows(*i, A=lambda V: [*gained(V)[1:], 0.0])),
    ("one step late", lambda *i: rows(*i, A=lambda V: [0.0, *gained(V)])),
    ("the last step without the outcome", lambda *i: rows(*i, A=lambda V: [*gained(V)[:-1], 0.0])),
    ("the last step without the outcome", lambda *i: rows(*i, A=lambda V: [*gained(V)[:-1], -V[-2]])),
    ("the question's tokens too", wrapping),
    ("the question's tokens too", lambda *i: rows(*i, question=(lambda V, R: R - V[0], 0.0))),
    ("the question's tokens too", lambda *i: rows(*i, question=(0.0, lambda V, R: V[0]))),
    ("the question's tokens too",
     lambda *i: rows(*i, question=(lambda V, R: R - V[0], lambda V, R: R - V[-2]))),
    ("counts for shares", lambda *i: rows(*i, share=float)),
    ("the difference turned", lambda *i: rows(*i, A=lambda V: [-a for a in gained(V)])),
    ("all that comes after", lambda *i: rows(*i, A=lambda V: [V[-1] - v for v in V[:-1]])),
    ("all that came before", lambda *i: rows(*i, A=lambda V: [v - V[0] for v in V[1:]])),
    ("the outcome without V of the question", lambda *i: rows(*i, base=lambda V: 0.0)),
    ("another mean for V of the question", lambda *i: rows(*i, base=lambda V: sum(V) / len(V))),
    ("another mean for V of the question", lambda *i: rows(*i, base=lambda V: sum(V[:-1]) / (len(V) - 1))),
    ("divided in whole numbers",
     lambda c, n, r, s: rows(c, n, r, s, share=lambda count: count // int(n))),
    ("one right continuation for all", lambda *i: rows(*i, share=lambda count: float(count > 0))),
    ("rows exchanged", lambda *i: rows(*i).flip(0)),
    ("a law", lambda *i: rows(*i, A=lambda V: [2 * a for a in gained(V)])),
    ("a law", lambda *i: rows(*i) + 0.1),
    ("a law", lambda *i: rows(*i) * torch.arange(len(i[3]))),
    ("axes swapped", lambda *i: rows(*i).T),
    ("shape", lambda *i: rows(*i)[1]),
    ("shape", lambda *i: rows(*i)[:, i[3] > 0]),
    ("raised", one_too_few),
    ("input changed", scales),
]
RIGHT["reward-for-a-step"] = [rows, by_one_hot, by_two_lookups, by_filling]

# find-the-hole

RIGHT_TEXTS = {  # what a right text tries: (numbers, text)
    "plain": ([4, 6, 1, 1], "4*6*1*1"),
    "fractions": ([3, 3, 8, 8], "8/(3-8/3)"),
    "fractions in brackets": ([3, 3, 8, 8], "8/(3-(8/3))"),
    "two levels": ([2, 10, 2, 2], "2*10+2*2"),
    "in a row": ([12, 2, 12, 2], "12/2*2+12"),
    "brackets": ([4, 2, 2, 2], "(4+2)*2*2"),
    "below 0": ([1, 3, 13, 13], "1-3+13+13"),
    "brackets that change nothing": ([4, 6, 1, 1], "((4)*(6))*(1*1)"),
}
WRONG_TEXTS = {
    "another value": ([4, 6, 1, 2], "4*6*1*2"),
    "used twice": ([4, 6, 1, 2], "4*6*1+2-2"),
    "unused": ([4, 6, 1, 2], "4*6"),
    "not given": ([4, 6, 1, 1], "4*6*1*1+5-5"),
    "side by side": ([1, 2, 2, 1], "12*2*1"),
    "near": ([5, 5, 5, 6], "5*5-5/6"),
    "minus 24": ([2, 8, 4, 1], "(2-8)*4*1"),
    "24": ([1, 1, 1, 1], "the answer is 24"),
    "written": ([4, 6, 1, 2], "4+6+1+2=24"),
    "a minus": ([2, 8, 4, 1], "-(2-8)*4*1"),
    "a power": ([2, 3, 3, 1], "2**3*3*1"),
    "a space": ([4, 6, 1, 1], "4*6 *1*1"),
    "by 0": ([4, 6, 1, 1], "4*6/(1-1)"),
    "too early": ([4, 6, 1, 1], "4*6*1*"),
    "leading 0": ([4, 6, 1, 1], "04*6*1*1"),
    "two wholes": ([4, 6, 1, 1], "4*6*1*1)"),
}


def by_a_table(verifier, right=tuple(RIGHT_TEXTS), wrong=tuple(WRONG_TEXTS)):
    """Texts by name, and what raises is wrong."""
    for truth, names, texts in ((True, right, RIGHT_TEXTS), (False, wrong, WRONG_TEXTS)):
        for name in names:
            try:
                if verifier(*texts[name]) is not truth:
                    return False
            except Exception:
                return False
    return True


def but(*names):
    """by_a_table without some of its texts."""
    return lambda verifier: by_a_table(verifier, [n for n in RIGHT_TEXTS if n not in names],
                                       [n for n in WRONG_TEXTS if n not in names])


def by_python(numbers, text):
    """Python's parser, and its own way to say False."""
    signs = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}

    def value(node):
        if isinstance(node, ast.BinOp):
            return signs[type(node.op)](value(node.left), value(node.right))
        return Fraction(node.value)

    try:
        found = value(ast.parse(text, mode="eval").body)
    except (SyntaxError, KeyError, AttributeError, ZeroDivisionError):
        return False
    used = Counter(re.findall("[0-9]+", text))
    return found == 24 and " " not in text and used == Counter(map(str, numbers))


def against_python(verifier):
    """Texts made at random and a few by hand, with their truth from Python's own parser."""
    draw = random.Random(0)
    texts = [*RIGHT_TEXTS.values(), *WRONG_TEXTS.values(), ([1, 5, 5, 5], "5*(5-1/5)"), ([4, 6, 1, 1], "")]
    for _ in range(300):
        numbers = [draw.randint(1, 13) for _ in range(4)]
        a, b, c, d = draw.sample(numbers, 4)
        x, y, z = draw.choices("+-*/", k=3)
        texts.append((numbers, draw.choice((f"{a}{x}{b}{y}{c}{z}{d}", f"({a}{x}{b}){y}({c}{z}{d})",
                                            f"{a}{x}({b}{y}({c}{z}{d}))"))))
    for numbers, text in texts:
        try:
            said = verifier(numbers, text)
        except Exception:
            return False
        if said != by_python(numbers, text):
            return False
    return True


def trusting(verifier):
    """Does not catch what a verifier raises."""
    return all(verifier(*case) for case in RIGHT_TEXTS.values()) and not any(
        verifier(*case) for case in WRONG_TEXTS.values())


def strict(verifier):
    """Takes what is no law for one: brackets that change nothing are to be False."""
    return by_a_table(verifier) and not verifier([4, 6, 1, 1], "((4)*6)*1*1")


WRONG["find-the-hole"] = [
    ("it lets everything through", lambda v: True),
    ("it turns everything away", lambda v: False),
    ("it turns everything away", strict),
    ("only right answers are tried", lambda v: by_a_table(v, wrong=())),
    ("only right answers are tried", lambda v: by_a_table(v, ["plain", "fractions"], [])),
    ("only right answers are tried", lambda v: by_a_table(v, ["plain", "brackets"], ["another value"])),
    ("a number may be used more often", but("used twice")),
    ("a number may be left unused", but("unused")),
    ("numbers that are not given may be used too", but("not given")),
    ("digits are compared in place of numbers", but("side by side")),
    ("floats are compared", but("fractions", "fractions in brackets")),
    ("rounded", but("near")),
    ("the sign of the value is lost", but("minus 24")),
    ('contains "24"', but("24", "written")),
    ('after a "="', but("written")),
    ("a minus may come before", but("a minus")),
    ("** is taken for a power", but("a power")),
    ("spaces are taken out", but("a space")),
    ("a division by 0 raises", but("by 0")),
    ("ends too early raises", but("too early")),
    ("a-(b-c)", but("in a row", "below 0", "by 0")),
    ("in which they come", but("two levels", "fractions")),
    ("raised", trusting),
    ("raised", lambda v: v([1, 2, 3], "24")),
    ("raised", lambda v: v([1, 2, 3, 99], "24")),
    ("type", lambda v: [v(*case) for case in RIGHT_TEXTS.values()]),
    ("None", lambda v: None),
]
RIGHT["find-the-hole"] = [by_a_table, against_python, lambda v: np.bool_(by_a_table(v))]


class TestProof(Proof):
    chapter, WRONG, RIGHT = 16, WRONG, RIGHT


# what holds for some


def test_what_is_wanted_agrees_with_the_package():
    """The checks' own code against minillm's, on every input of every check."""
    puzzle = countdown.Puzzle((1, 1))
    for i in inputs_of("dead-or-alive"):
        wanted = countdown.alive(puzzle, [int(n) for n in i.numbers])
        assert CHECKS["dead-or-alive"].expected(i) == wanted, i.numbers
    for i in inputs_of("one-level"):
        given = (torch.as_tensor(np.asarray(x)) for x in (i.parents.astype(int), i.values, i.solved, i.beam))
        assert by_the_tree(*given).tolist() == CHECKS["one-level"].expected(i).tolist()
    for i in inputs_of("equal-tokens"):
        if len(set(i.tokens)) == 1:
            k = (i.budgets // i.tokens[0]).astype(int).tolist()
            wanted = [vote.pass_at_k(len(i.tokens), int(i.right.sum()), j) for j in k]
            assert np.allclose(CHECKS["equal-tokens"].expected(i), wanted)


def test_what_is_drawn_is_what_its_law_is_about():
    """The numbers of dead-or-alive are as their lists are called; a level has four children or more."""
    for numbers in dead_or_alive.TWO_HEAPS:
        assert dead_or_alive.is_alive(numbers) and not from_left_to_right(numbers)
    for numbers in dead_or_alive.BOTH_WAYS:
        assert dead_or_alive.is_alive(numbers) and not walk(numbers, of=larger)
    for numbers in dead_or_alive.PAIRS + dead_or_alive.THREES + dead_or_alive.USED_UP:
        assert not dead_or_alive.is_alive(numbers) and walk(numbers, early=True)
    for numbers in dead_or_alive.BY_FRACTIONS:
        assert dead_or_alive.is_alive(numbers) and not walk(numbers, of=whole_ones)
    for numbers in dead_or_alive.NEAR + dead_or_alive.ROUNDED:
        assert not dead_or_alive.is_alive(numbers)
    assert all(walk(numbers, end=lambda n: abs(n - 24) <= 0.1) for numbers in dead_or_alive.NEAR)
    assert all(walk(numbers, kind=int, of=floors) for numbers in dead_or_alive.ROUNDED)
    assert {dead_or_alive.is_alive(i.numbers) for i in inputs_of("dead-or-alive")} == {True, False}
    for i in inputs_of("one-level"):
        assert i.beam >= 1 and len(i.values) >= 4


def test_the_example_of_each_text():
    """What the tasks say in figures."""
    alive = run_cell("dead-or-alive")
    assert alive(torch.tensor([4, 4, 8])) and not alive(torch.tensor([4, 6, 6]))
    kept = run_cell("one-level")(torch.tensor([0, 0, 1, 1]), torch.tensor([-3.0, -1.0, -2.0, -9.0]),
                                 torch.tensor([False, False, False, True]), torch.tensor(1))
    assert kept.tolist() == [False, True, False, True]
    chance = run_cell("equal-tokens")(torch.tensor([3, 2, 4]), torch.tensor([False, True, False]),
                                      torch.tensor([5]))
    assert chance.tolist() == [0.5]
    F = run_cell("reward-for-a-step")(torch.tensor([6, 1]), torch.tensor(10), torch.tensor(1.0),
                                      torch.tensor([0, 1, 1, 2]))
    assert torch.allclose(F, torch.tensor([[0, 0.4, 0.4, 0.4], [0, -0.5, -0.5, 0.9]]))


def test_the_steps_rewards_sum_to_the_outcomes():
    """A_1 + … + A_K = R − V_0, on every input."""
    for i in inputs_of("reward-for-a-step"):
        outcome, steps = CHECKS["reward-for-a-step"].expected(i)
        firsts = [steps[list(i.step).index(t)] for t in range(1, int(i.step.max()) + 1)]
        assert abs(sum(firsts) - outcome[-1]) < 1e-9


def test_the_text_counts_the_planted_codes():
    """Twenty-four functions, six right, eighteen wrong."""
    assert (len(find_the_hole.RIGHT), len(find_the_hole.WRONG)) == (6, 18)


def some_texts(n, seed):
    """Right and wrong texts: expressions of the numbers, and such with a few characters changed."""
    draw = random.Random(seed)
    for _ in range(n):
        numbers = [draw.randint(1, 13) for _ in range(4)]
        if draw.random() < 0.5:
            puzzle = countdown.draw(draw)
            numbers = list(puzzle.numbers)
            text = countdown.expression(draw.choice(countdown.solve(puzzle)), 24)
        else:
            a, b, c, d = draw.sample(numbers, 4)
            x, y, z = draw.choices("+-*/", k=3)
            text = draw.choice((f"{a}{x}{b}{y}{c}{z}{d}", f"({a}{x}{b}){y}{c}{z}{d}",
                                f"({a}{x}({b}{y}{c})){z}{d}"))
        for _ in range(draw.choice((0, 0, 1, 2))):
            at = draw.randint(0, len(text))
            text = text[:at] + draw.choice(["", *"()+-*/0123456789 =^.,"]) + text[at + draw.randint(0, 1):]
        yield numbers, text


def test_right_verifiers_agree():
    """On 1,500 texts, of which some are right, with the first of them."""
    first, *others = map(find_the_hole.handed_out, find_the_hole.RIGHT)
    truths = Counter()
    for numbers, text in [*some_texts(1500, 0), *RIGHT_TEXTS.values(), *WRONG_TEXTS.values()]:
        truth = first(numbers, text)
        truths[truth] += 1
        assert type(truth) is bool
        for other in others:
            assert other(numbers, text) is truth, (numbers, text)
    assert min(truths[True], truths[False]) > 200


STRANGE = ["", "(" * 60, "()" * 30, "9**9**9**9**9", "1/0", "0", "-" * 60, "8" * 60, "4(6)", "()", "4,6",
           "4 6", "__import__('os')", "²4", "٤*6", "\0", "1e1", "0x18", "4\n*6", "4*6*1(1", "4*6*1*1(",
           ")4*6*1*1"]


@pytest.mark.parametrize("text", STRANGE)
@pytest.mark.parametrize("code", find_the_hole.RIGHT, ids=lambda code: code.__name__)
def test_a_strange_text_is_false(code, text):
    assert find_the_hole.handed_out(code)([4, 6, 1, 1], text) is False


SHOWS = {  # code -> the texts of the tables above on which it shows, and no others
    "more_often": {"used twice"}, "left_unused": {"unused"}, "with_another": {"not given"},
    "digits_alone": {"side by side"}, "equal_floats": {"fractions", "fractions in brackets"},
    "whole_division": {"fractions", "fractions in brackets"},
    "left_to_right": {"two levels", "fractions"}, "from_the_right": {"in a row", "below 0"},
    "brackets_ignored": {"fractions", "fractions in brackets", "brackets"}, "about_24": {"near"},
    "sign_ignored": {"minus 24"},
    "contains_24": {"24", "written"}, "as_written": {"written"}, "with_a_minus": {"a minus"},
    "with_powers": {"a power"}, "with_spaces": {"a space"}, "divides_by_0": {"by 0"},
    "breaks_off": {"too early"},
}


@pytest.mark.parametrize("code", [row[2] for row in find_the_hole.WRONG], ids=lambda code: code.__name__)
def test_a_bug_shows_in_its_circumstance_alone(code):
    seen = set()
    for truth, texts in ((True, RIGHT_TEXTS), (False, WRONG_TEXTS)):
        for name, case in texts.items():
            try:
                if find_the_hole.handed_out(code)(*case) is not truth:
                    seen.add(name)
            except (ZeroDivisionError, IndexError):
                seen.add(name)
    assert seen == SHOWS[code.__name__]


OF_LAW = {  # law -> the texts that are about it
    find_the_hole.NUMBERS: {"used twice", "unused", "not given", "side by side"},
    find_the_hole.VALUE: set(RIGHT_TEXTS),
    find_the_hole.IS_24: {"another value", "near", "minus 24"},
    find_the_hole.FORM: {"24", "written", "a minus", "a power", "a space", "leading 0", "two wholes"},
    find_the_hole.ANSWERS: {"by 0", "too early"},
}


def test_each_law_of_the_table_sees_its_bug():
    for _, _, code, law in find_the_hole.WRONG:
        assert SHOWS[code.__name__] <= OF_LAW[law], code.__name__


def test_a_planted_power_comes_to_an_end():
    """Powers of powers are too large to be made, and are not."""
    verifier = find_the_hole.handed_out(find_the_hole.with_powers)
    for text in ("9**9**9**9**9**9", "13**13**13**13", "2**(1-3)", "2**(1/2)", "0**(1-2)", "(1-1)**(1-2)"):
        assert verifier([13, 9, 1, 2], text) is False
