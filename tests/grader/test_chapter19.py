"""The proof of chapter 19's checks: wrong answers fail by name, right ones written another way pass."""

from __future__ import annotations

import math
import random
from collections import Counter
from fractions import Fraction

import bm25s
import numpy as np
import pytest
import torch

from grader.outside.chapter19 import find_the_stale, looking
from proof import CHECKS, Proof, fresh, inputs_of, run_cell, verdict  # noqa: F401  (a fixture is among them)

WRONG: dict[str, list] = {}  # exercise -> (the misconception's name, a function that has it)
RIGHT: dict[str, list] = {}  # exercise -> a right function written another way

# bm25-by-hand


def rare(N, n):
    return math.log(1 + (N - n + 0.5) / (n + 0.5))


def one_by_one(documents, query, *, idf=rare, part=None, k1=1.5, b=0.75, words=None, length=len, mean=None,
               holds=lambda bags, w: sum(w in bag for bag in bags)):
    """A loop over documents and one over words. part: of tf and of L through its mean."""
    bags = [[int(w) for w in row if w >= 0] for row in documents]
    L = [length(bag) for bag in bags]
    mean = sum(L) / len(L) if mean is None else mean(L)
    part = part or (lambda tf, x: tf / (tf + k1 * (1 - b + b * x)))
    asked = query.tolist() if words is None else words(query.tolist())
    return torch.tensor([float(sum(idf(len(bags), holds(bags, w)) * part(bag.count(w), n / mean)
                                   for w in asked)) for bag, n in zip(bags, L)])


def in_tensors(documents, query, k1=1.5, b=0.75, lengths=lambda L: L):
    """All at once. lengths: of L, those that documents are measured by."""
    L = (documents >= 0).sum(1).float()
    tf = (documents[:, :, None] == query).sum(1)
    n = (tf > 0).sum(0)
    slow = k1 * (1 - b + b * lengths(L) / L.mean())
    return (torch.log(1 + (len(L) - n + 0.5) / (n + 0.5)) * tf / (tf + slow[:, None])).sum(1)


def by_one_hot(documents, query):
    """A table of how often each document holds each word of all, in float64."""
    words = torch.nn.functional.one_hot(documents.clamp(min=-1) + 1, 60)[:, :, 1:].sum(1).double()
    N, L = len(documents), words.sum(1, keepdim=True)
    n = (words > 0).sum(0)
    weight = ((N + 1) / (n + 0.5)).log()                       # 1 + (N − n + 1/2)/(n + 1/2)
    table = weight * words / (words + 1.5 * (0.25 + 0.75 * L / L.mean()))
    return table[:, query].sum(1)


def by_the_library(documents, query):
    """bm25s as it is by default."""
    index = bm25s.BM25(k1=1.5, b=0.75)
    index.index([[f"w{w}" for w in row if w >= 0] for row in documents.tolist()], show_progress=False)
    return index.get_scores([f"w{w}" for w in query.tolist()])


def with_counters(documents, query):
    """Word by word through the query, document by document."""
    bags = [Counter(w for w in row if w != -1) for row in documents.tolist()]
    sizes = [bag.total() for bag in bags]
    out = np.zeros(len(bags))
    for w in query.tolist():
        n = sum(bag[w] > 0 for bag in bags)
        for at, bag in enumerate(bags):
            slow = 1.5 * (1 - 0.75 + 0.75 * sizes[at] * len(bags) / sum(sizes))
            out[at] += math.log1p((len(bags) - n + 0.5) / (n + 0.5)) * bag[w] / (bag[w] + slow)
    return out


def pads_with_zero(documents, query):
    documents[documents < 0] = -7
    return one_by_one(documents, query)


WRONG["bm25-by-hand"] = [
    ("how often for how much", lambda d, q: one_by_one(d, q, part=lambda tf, x: tf)),
    ("there or not", lambda d, q: one_by_one(d, q, part=lambda tf, x: (tf > 0) / (
        (tf > 0) + 1.5 * (0.25 + 0.75 * x)))),
    ("padding counted as words", lambda d, q: one_by_one(d, q, length=lambda bag: d.shape[1],
                                                         mean=lambda L: (d >= 0).sum().item() / len(d))),
    ("padding counted as words", lambda d, q: one_by_one(d, q, mean=lambda L: d.shape[1])),
    ("no length at all", lambda d, q: one_by_one(d, q, length=lambda bag: d.shape[1])),
    ("different words counted", lambda d, q: one_by_one(d, q, length=lambda bag: len(set(bag)))),
    ("another document's length", lambda d, q: in_tensors(d, q, lengths=lambda L: L.roll(1))),
    ("another document's length", lambda d, q: in_tensors(d, q, lengths=lambda L: L[:1].expand(len(L)))),
    ("length upside down", lambda d, q: one_by_one(d, q, part=lambda tf, x: tf / (
        tf + 1.5 * (0.25 + 0.75 / x)) if tf else 0)),
    ("no length at all", lambda d, q: one_by_one(d, q, b=0)),
    ("k1 and b exchanged", lambda d, q: in_tensors(d, q, k1=0.75, b=1.5)),
    ("the mean without the empty ones", lambda d, q: one_by_one(d, q, mean=lambda L: (
        sum(L) / sum(n > 0 for n in L)))),
    ("the sum for the mean", lambda d, q: one_by_one(d, q, mean=sum)),
    ("occurrences for documents", lambda d, q: one_by_one(d, q, holds=lambda bags, w: sum(
        bag.count(w) for bag in bags))),
    ("rare in the query", lambda d, q: one_by_one(d, q, holds=lambda bags, w: q.tolist().count(w))),
    ("another logarithm", lambda d, q: one_by_one(d, q) / math.log(2)),
    ("another logarithm", lambda d, q: one_by_one(d, q, idf=lambda N, n: math.log10(
        1 + (N - n + 0.5) / (n + 0.5)))),
    ("the 1 in the logarithm left out", lambda d, q: one_by_one(d, q, idf=lambda N, n: math.log(
        (N - n + 0.5) / (n + 0.5)))),
    ("ln of N/n", lambda d, q: one_by_one(d, q, idf=lambda N, n: math.log(N / n) if n else 0)),
    ("the frequent for the rare", lambda d, q: one_by_one(d, q, idf=lambda N, n: math.log(
        1 + (n + 0.5) / (N - n + 0.5)))),
    ("all words worth the same", lambda d, q: one_by_one(d, q, idf=lambda N, n: 1)),
    ("a repeated word once", lambda d, q: one_by_one(d, q, words=set)),
    ("times k1 + 1", lambda d, q: one_by_one(d, q, part=lambda tf, x: 2.5 * tf / (
        tf + 1.5 * (0.25 + 0.75 * x)))),
    ("the mean over the query", lambda d, q: one_by_one(d, q) / len(q)),
    ("a factor", lambda d, q: 3 * one_by_one(d, q)),
    ("a law", lambda d, q: one_by_one(d, q) + 0.25),
    ("a law", lambda d, q: one_by_one(d, q, idf=lambda N, n: rare(N, n) - 0.4)),
    ("raised", lambda d, q: one_by_one(d, q, idf=lambda N, n: math.log(N / n))),
    ("raised", lambda d, q: one_by_one(d, q, mean=lambda L: L[99])),
    ("shape", lambda d, q: one_by_one(d, q)[:, None] * torch.ones(len(q))),
    ("input changed", pads_with_zero),
]
RIGHT["bm25-by-hand"] = [one_by_one, by_one_hot, by_the_library, with_counters]

# when-to-look


def question_by_question(p, alone, looked, price, thresholds, *, look=lambda p, t: p >= t, paid=None,
                         right=None, looks=None, choose=None, share=None):
    """Fractions, a threshold at a time. right: of a question's (look, alone, looked). choose: of the columns
    the marked ones."""
    Q, rows = len(p), []
    for t in thresholds.tolist():
        looked_up = [look(x, t) for x in p.tolist()]
        answers = list(zip(looked_up, alone.tolist(), looked.tolist()))
        good = Fraction(sum((found if up else own) if right is None else right(up, own, found)
                            for up, own, found in answers), Q)
        part = Fraction(sum(looked_up), Q)
        cost = Fraction(price.item()) * part if paid is None else paid(price.item(), part, Q)
        rows.append([good, part if share is None else share(answers), good - cost, t])
    best = max(row[2] for row in rows)
    marks = [row[2] == best and row[3] == max(r[3] for r in rows if r[2] == best) for row in rows]
    marks = marks if choose is None else choose(rows, best)
    return torch.tensor([[float(r[0]), float(r[1]), float(r[2]), float(m)] for r, m in zip(rows, marks)]).T


def by_equal(number):
    """Marks one of those that are worth the most: 0 for the first, −1 for the last, of a sorted list."""
    def choose(rows, best):
        top = [n for n, row in enumerate(rows) if row[2] == best]
        return [n == top[number] for n in range(len(rows))]
    return choose


def lowest(rows, best):
    least = min(row[3] for row in rows if row[2] == best)
    return [row[3] == least for row in rows]


def of_those_looked_up(p, alone, looked, price, thresholds):
    """Accuracy of the looks alone."""
    looks = p[:, None] >= thresholds
    good = (looks & looked[:, None]).sum(0) / looks.sum(0).clamp(min=1)
    worth = good - price * looks.float().mean(0)
    return with_marks(good, looks.float().mean(0), worth, thresholds)


def with_marks(good, share, worth, thresholds):
    """A last row for what is given."""
    best = max(range(len(worth)), key=lambda k: (worth[k].item(), thresholds[k].item()))
    return torch.stack([good, share, worth, torch.eye(len(worth))[best]])


def softly(p, alone, looked, price, thresholds):
    """p as a weight."""
    good = (p * looked + (1 - p) * alone).mean().expand(len(thresholds))
    share = p.mean().expand(len(thresholds))
    return with_marks(good, share, good - price * share, thresholds)


def in_order(p, alone, looked, price, thresholds):
    return question_by_question(p, alone, looked, price, thresholds.sort().values)


def from_high_to_low(p, alone, looked, price, thresholds):
    """Thresholds from the highest down: a better one is strictly better."""
    out, best, at = torch.zeros(4, len(thresholds), dtype=torch.float64), -math.inf, None
    for k in thresholds.argsort(descending=True).tolist():
        up = p >= thresholds[k]
        out[0, k] = (looked[up].sum() + alone[~up].sum()) / len(p)
        out[1, k] = up.sum() / len(p)
        out[2, k] = out[0, k] - price * out[1, k]
        if out[2, k] > best:
            best, at = out[2, k].item(), k
    out[3, at] = 1
    return out


def in_numpy(p, alone, looked, price, thresholds):
    p, alone, looked, t = (x.numpy() for x in (p, alone, looked, thresholds))
    up = ~(p[None] < t[:, None])
    good = (up * looked + ~up * alone).mean(1)
    worth = good - price.item() * up.mean(1)
    order = np.lexsort((t, worth))
    return np.stack([good, up.mean(1), worth, np.arange(len(t)) == order[-1]])


def marks_input(p, alone, looked, price, thresholds):
    answer = question_by_question(p, alone, looked, price, thresholds)
    looked |= alone
    return answer


def paid_for_what_helped(p, alone, looked, price, thresholds):
    """Row 1, and the price, for looks that ended right."""
    looks = p[:, None] >= thresholds
    good = torch.where(looks, looked[:, None], alone[:, None]).float().mean(0)
    share = (looks & looked[:, None]).float().mean(0)
    return with_marks(good, share, good - price * share, thresholds)


Q = question_by_question
WRONG["when-to-look"] = [
    ("> for ≥", lambda *i: Q(*i, look=lambda p, t: p > t)),
    ("looked up below the threshold", lambda *i: Q(*i, look=lambda p, t: p < t)),
    ("p for a decision", softly),
    ("p sorted alone", lambda p, *i: Q(p.sort().values, *i)),
    ("thresholds by size", in_order),
    ("the two answers exchanged", lambda *i: Q(*i, right=lambda up, own, found: own if up else found)),
    ("right if either is", lambda *i: Q(*i, right=lambda up, own, found: own or found)),
    ("only what was looked up", of_those_looked_up),
    ("share of right for share of looks", lambda *i: Q(*i, share=lambda answers: Fraction(
        sum(up and found for up, _, found in answers), len(answers)))),
    ("share of right for share of looks", paid_for_what_helped),
    ("how many for which share", lambda *i: Q(*i, share=lambda answers: sum(up for up, *_ in answers))),
    ("how many for which share", lambda *i: Q(*i, share=lambda answers: sum(up for up, *_ in answers),
                                              paid=lambda price, part, n: Fraction(price) * part * n)),
    ("the price of all looks", lambda *i: Q(*i, paid=lambda price, part, n: Fraction(price) * part * n)),
    ("worth without the price", lambda *i: Q(*i, paid=lambda price, part, n: 0)),
    ("the price paid once", lambda *i: Q(*i, paid=lambda price, part, n: Fraction(price))),
    ("the most accurate for the best", lambda *i: Q(*i, choose=lambda rows, best: [
        (row[0], row[3]) == max((r[0], r[3]) for r in rows) for row in rows])),
    ("the first of equals", lambda *i: Q(*i, choose=by_equal(0))),
    ("the last of equals", lambda *i: Q(*i, choose=by_equal(-1))),
    ("the lowest of equals", lambda *i: Q(*i, choose=lowest)),
    ("all equals marked", lambda *i: Q(*i, choose=lambda rows, best: [row[2] == best for row in rows])),
    ("a law", lambda *i: Q(*i) * torch.tensor([[1.0], [0.5], [1.0], [1.0]])),
    ("a law", lambda *i: Q(*i) - torch.tensor([[0.0], [0.0], [0.25], [0.0]])),
    ("the numbers", lambda *i: Q(*i) * torch.tensor([[1.0], [1.0], [1.0], [0.5]])),
    ("axes swapped", lambda *i: Q(*i).T),
    ("shape", lambda *i: Q(*i)[:3]),
    ("raised", lambda *i: Q(*i)[4]),
    ("input changed", marks_input),
]
RIGHT["when-to-look"] = [question_by_question, from_high_to_low, in_numpy]

# strict-and-relaxed


def statement_by_statement(since, until, main, said, asked, *, true=lambda a, b, y: a <= y < b,
                           strict=None, relaxed=None, year=lambda years, n: years[n]):
    """An answer as a list of (true, main). strict, relaxed: of such a list."""
    rows = []
    for n in range(len(asked)):
        y = int(year(asked, n))
        said_here = [(true(int(a), int(b), y), bool(m))
                     for a, b, m, s in zip(since[n], until[n], main[n], said[n]) if s]
        mains = [t for t, m in said_here if m]
        rows.append([bool(mains) and all(t for t, _ in said_here) if strict is None else strict(said_here),
                     bool(mains) and all(mains) if relaxed is None else relaxed(said_here)])
    return torch.tensor(rows).T


def counted(since, until, main, said, asked):
    """How many statements fail, and how many main ones there are."""
    false = ~((asked[:, None] >= since) & (asked[:, None] + 1 <= until))
    there = main.sum(1) > 0
    return torch.stack([((false & said).sum(1) == 0) & there, ((false & main).sum(1) == 0) & there])


def in_arrays(since, until, main, said, asked):
    since, until, main, said, asked = (x.numpy() for x in (since, until, main, said, asked))
    out = np.zeros((2, len(asked)), bool)
    for n, y in enumerate(asked):
        true = (since[n] <= y) * (y < until[n])
        if main[n].sum():
            out[:, n] = true[said[n]].min(), true[main[n]].min()
    return out


def empties(since, until, main, said, asked):
    said |= main
    until[~said] = 1
    return counted(since, until, main, said, asked)


def padded(since, until, main, said, asked):
    said = torch.ones_like(said)
    return counted(since, until, main, said, asked)


def mains_of(answer):
    return [true for true, main in answer if main]


def all_said(answer):
    return all(true for true, _ in answer)


S = statement_by_statement
WRONG["strict-and-relaxed"] = [
    ("the newest for the year asked", lambda *i: S(*i, true=lambda a, b, y: b == 9999)),
    ("once true is true", lambda *i: S(*i, true=lambda a, b, y: a > 0)),
    ("the year of the change with the old value", lambda *i: S(*i, true=lambda a, b, y: a <= y <= b)),
    ("not yet true in its first year", lambda *i: S(*i, true=lambda a, b, y: a < y < b)),
    ("future statements too", lambda *i: S(*i, true=lambda a, b, y: y < b)),
    ("outdated statements too", lambda *i: S(*i, true=lambda a, b, y: 0 < a <= y)),
    ("one year for all", lambda *i: S(*i, year=lambda years, n: years[0])),
    ("any for all", lambda *i: S(*i, strict=lambda x: bool(mains_of(x)) and any(t for t, _ in x),
                                 relaxed=lambda x: any(mains_of(x)))),
    ("any for all", lambda *i: S(*i, relaxed=lambda x: any(mains_of(x)))),
    ("any for all", lambda *i: S(*i, relaxed=lambda x: any(t for t, _ in x))),
    ("nothing said is right", lambda *i: S(*i, strict=all_said, relaxed=lambda x: all(mains_of(x)))),
    ("nothing said is right", lambda *i: S(*i, strict=all_said)),
    ("nothing said is right", lambda *i: S(*i, strict=lambda x: bool(x) and all_said(x))),
    ("nothing said is right", lambda *i: S(*i, strict=lambda x: bool(x) and all_said(x),
                                           relaxed=lambda x: bool(x) and all(mains_of(x)))),
    ("both strict", lambda *i: S(*i, relaxed=lambda x: bool(mains_of(x)) and all_said(x))),
    ("both relaxed", lambda *i: S(*i, strict=lambda x: bool(mains_of(x)) and all(mains_of(x)))),
    ("padding counted as a statement", lambda *i: torch.stack([padded(*i)[0], counted(*i)[1]])),
    ("most for all", lambda *i: S(*i, relaxed=lambda x: 2 * sum(t for t, _ in x) > len(x))),
    ("rows exchanged", lambda *i: S(*i).flip(0)),
    ("wrong for right", lambda *i: ~S(*i)),
    ("a law", lambda *i: S(*i, relaxed=lambda x: bool(x))),
    ("the numbers", lambda *i: S(*i) & (i[3].sum(1) < 3)),
    ("dtype", lambda *i: S(*i).long()),
    ("axes swapped", lambda *i: S(*i).T),
    ("shape", lambda *i: S(*i).float().mean(1) > 0.5),
    ("raised", lambda *i: S(*i, year=lambda years, n: years[n + 1])),
    ("input changed", empties),
]
RIGHT["strict-and-relaxed"] = [statement_by_statement, counted, in_arrays]

# find-the-stale

ADA, TOM = "Ada Moss", "Tom Moss"
PLAIN = [(ADA, "pet", 2000, "cat"), (ADA, "pet", 2010, "dog"), (ADA, "pet", 2020, "owl")]
BACK = [(ADA, "pet", 2000, "cat"), (ADA, "pet", 2010, "dog"), (ADA, "pet", 2020, "cat")]
TWICE = [(ADA, "pet", 2000, "cat"), (ADA, "pet", 2000, "ant")]
OLD = [(ADA, "pet", 987, "cat"), (ADA, "pet", 1200, "dog")]
QUESTIONS = {  # name -> (records, year, value), of Ada's pet
    "between": (PLAIN, 2012, "dog"),
    "near the next": (PLAIN, 2018, "dog"),
    "its year": (PLAIN, 2010, "dog"),
    "the year before": (PLAIN, 2009, "cat"),
    "after the last": (PLAIN, 2030, "owl"),
    "before the first": (PLAIN, 1990, None),
    "nothing": ([], 2012, None),
    "back": (BACK, 2021, "cat"),
    "turned": (PLAIN[::-1], 2021, "owl"),
    "turned, between": (PLAIN[::-1], 2012, "dog"),
    "twice": (TWICE, 2001, "ant"),
    "twice, turned": (TWICE[::-1], 2001, "cat"),
    "old": (OLD, 1100, "cat"),
    "last name": ([PLAIN[0], (TOM, "pet", 2005, "fox")], 2006, "cat"),
    "longer name": ([PLAIN[0], ("Ada Mosster", "pet", 2005, "fox")], 2006, "cat"),
    "relation": ([PLAIN[0], (ADA, "job", 2005, "cook")], 2006, "cat"),
    "nobody": ([(TOM, "pet", 2005, "fox")], 2006, None),
}


def holds(lookup, name):
    """Whether a question is answered rightly, and the list left alone."""
    records, year, value = QUESTIONS[name]
    given = [tuple(record) for record in records]
    try:
        said = lookup(given, ADA, "pet", year)
    except Exception:
        return False
    return said == value and given == records


def by_questions(lookup, names=tuple(QUESTIONS)):
    return all(holds(lookup, name) for name in names)


def but(*names):
    return lambda lookup: by_questions(lookup, [name for name in QUESTIONS if name not in names])


def truth(records, person, relation, year):
    """The claim's own words, year by year."""
    value = None
    for y in range(1, year + 1):
        for p, r, begins, said in records:
            if p == person and r == relation and begins == y:
                value = said
    return value


def some_records(draw):
    """A list of records of few people, and a question."""
    people, relations = [ADA, TOM, "Ada Mosster", "Moss"], ["pet", "job", "pet name"]
    years = draw.sample(range(1, 60), 5) + draw.sample(range(95, 106), 4)
    records = [(draw.choice(people[:draw.choice((1, 4))]), draw.choice(relations[:draw.choice((1, 3))]),
                draw.choice(years), draw.choice(("cat", "dog", "owl", "ant", "fox", "hen")))
               for _ in range(draw.randint(0, 9))]
    return records, draw.choice(people[:2]), draw.choice(relations[:2]), draw.randint(1, 110)


def at_random(lookup):
    """Four hundred lists, each asked twice."""
    draw = random.Random(0)
    for _ in range(400):
        records, person, relation, year = some_records(draw)
        given = records[:]
        try:
            for y in (year, draw.randint(1, 110)):
                if lookup(given, person, relation, y) != truth(records, person, relation, y):
                    return False
        except Exception:
            return False
        if given != records:
            return False
    return True


def lists_for_records(lookup):
    """Records as lists, and a copy to compare with."""
    for records, year, value in QUESTIONS.values():
        given = [list(record) for record in records]
        try:
            if lookup(given, ADA, "pet", year) != value or given != [list(record) for record in records]:
                return False
        except Exception:
            return False
    return True


def one_list(lookup):
    """The plain list, in its order."""
    return by_questions(lookup, ["between", "near the next", "its year", "the year before", "after the last",
                                 "before the first", "back"])


def one_list_later(lookup):
    """The plain list, and years from its first on."""
    return by_questions(lookup, ["between", "its year", "the year before", "near the next", "after the last"])


def trusting(lookup):
    """Does not catch what a function raises."""
    return all(lookup([*records], ADA, "pet", year) == value for records, year, value in QUESTIONS.values())


def never_the_same_person(lookup):
    """Each question is about somebody else."""
    for n, (records, year, value) in enumerate(QUESTIONS.values()):
        given = [(person.replace("Ada", f"Ada {n}"), *rest) for person, *rest in records]
        kept = given[:]
        try:
            if lookup(given, f"Ada {n} Moss", "pet", year) != value or given != kept:
                return False
        except Exception:
            return False
    return True


def values_alone(lookup):
    try:
        return all(lookup([*records], ADA, "pet", year) == value
                   for records, year, value in QUESTIONS.values())
    except Exception:
        return False


WRONG["find-the-stale"] = [
    ("it lets everything through", lambda lookup: True),
    ("it turns everything away", lambda lookup: False),
    ("it turns everything away",
     lambda lookup: by_questions(lookup) and lookup(TWICE, ADA, "pet", 2001) == "cat"),
    ("one sorted list", one_list),
    ("one sorted list", one_list_later),
    ("the nearest year", but("near the next", "the year before", "old")),
    ("the very year", but("its year")),
    ("the year before a record", but("the year before")),
    ("after the newest record", but("after the last", "back", "turned", "old", "twice", "last name",
                                    "longer name", "relation", "twice, turned")),
    ("has the year of its first time", but("back")),
    ("compared as texts", but("old")),
    ("the first in the list is taken", but("twice, turned", "twice")),
    ("later in the alphabet", but("twice")),
    ("by their last names", but("last name", "nobody")),
    ("a part of the name", but("longer name")),
    ("another relation", but("relation")),
    ("what the first one says", but("before the first")),
    ("sorted in place", values_alone),
    ("given again for another year", never_the_same_person),
    ("raised", trusting),
    ("raised", lambda lookup: lookup([(ADA, "pet", "2000", "cat")], ADA, "pet", 2001) == "cat"),
    ("raised", lambda lookup: lookup([(ADA, "pet", 2000)], ADA, "pet", 2001) == "cat"),
    ("raised", lambda lookup: lookup([], ADA, "pet", None) is None),
    ("type", lambda lookup: lookup(PLAIN, ADA, "pet", 2012)),
    ("None", lambda lookup: None),
]
RIGHT["find-the-stale"] = [by_questions, at_random, lists_for_records, lambda v: np.bool_(by_questions(v))]


class TestProof(Proof):
    chapter, WRONG, RIGHT = 19, WRONG, RIGHT


# what holds for some


def test_the_formula_is_the_librarys():
    """bm25s by default, on every input, and on documents drawn at random."""
    rng = np.random.default_rng(0)
    drawn = [(torch.tensor(i.documents.astype(int)), torch.tensor(i.query.astype(int)))
             for i in inputs_of("bm25-by-hand")]
    for _ in range(20):
        lengths = rng.integers(0, 9, 6)
        rows = [[*rng.integers(0, 12, n), *[-1] * (9 - n)] for n in lengths]
        if lengths.any():
            drawn.append((torch.tensor(np.array(rows)), torch.tensor(rng.integers(0, 12, 3))))
    for documents, query in drawn:
        scores = run_cell("bm25-by-hand")(documents, query)
        assert np.allclose(scores, by_the_library(documents, query), atol=1e-6)
    for i in inputs_of("bm25-by-hand"):
        assert (i.documents >= 0).any() and len(i.query)


def test_what_is_drawn_is_exact():
    """Shares and worths are sums of sixteenths, so that ties are ties in floats."""
    for i in inputs_of("when-to-look"):
        assert len(i.p) in (4, 8) and len(set(i.thresholds.tolist())) == len(i.thresholds)
        for number in (*i.p, *i.thresholds, i.price):
            assert float(number) * 16 == int(float(number) * 16)
        given = (torch.tensor(i.p), torch.tensor(i.alone), torch.tensor(i.looked), torch.tensor(i.price),
                 torch.tensor(i.thresholds))
        assert np.array_equal(question_by_question(*given).numpy(), looking.figures(i).astype(np.float32))


def test_the_example_of_each_text():
    """What the tasks say in figures."""
    scores = run_cell("bm25-by-hand")(torch.tensor([[4, 4], [4, 7], [8, 9]]), torch.tensor([4]))
    assert torch.allclose(scores, math.log(1.6) * torch.tensor([2 / 3.5, 1 / 2.5, 0]))
    assert round(math.log(1.6), 2) == 0.47
    p = torch.tensor([0.5, 0.25])
    found = run_cell("when-to-look")(p, torch.tensor([True, False]), torch.tensor([True, True]),
                                     torch.tensor(0.25), p)
    assert found.T.tolist() == [[0.5, 0.5, 0.375, 0], [1, 1, 0.75, 1]]
    scores = run_cell("strict-and-relaxed")(
        torch.tensor([[2012, 2009]]), torch.tensor([[2018, 2014]]), torch.tensor([[True, False]]),
        torch.tensor([[True, True]]), torch.tensor([2015]))
    assert scores.tolist() == [[False], [True]]


def test_answers_that_differ_in_their_scores_are_drawn():
    """Each of the three pairs of scores occurs, and the fourth cannot."""
    seen = {tuple(column) for i in inputs_of("strict-and-relaxed")
            for column in CHECKS["strict-and-relaxed"].expected(i).T.tolist()}
    assert seen == {(True, True), (False, True), (False, False)}


def test_the_text_counts_the_planted_codes():
    """Twenty-six functions, six right, twenty wrong."""
    assert (len(find_the_stale.RIGHT), len(find_the_stale.WRONG)) == (6, 20)


def test_right_lookups_agree():
    """With the claim's own words, on lists drawn at random."""
    draw = random.Random(1)
    for _ in range(1500):
        records, person, relation, year = some_records(draw)
        wanted = truth(records, person, relation, year)
        for code in find_the_stale.RIGHT:
            assert find_the_stale.handed_out(code)(records[:], person, relation, year) == wanted, code


SHOWS = {  # code -> the questions above on which it shows, and no others
    "always_the_newest": {"between", "near the next", "its year", "the year before", "turned, between",
                          "old"},
    "nearest_year": {"near the next", "the year before", "old"},
    "a_year_late": {"its year"}, "a_year_early": {"the year before"},
    "only_in_its_year": set(QUESTIONS) - {"its year", "before the first", "nothing", "nobody"},
    "not_after_the_last": {"after the last", "back", "turned", "twice", "twice, turned", "last name",
                           "longer name", "relation"},
    "value_once": {"back"}, "years_as_texts": {"old"},
    "last_in_the_list": {"turned", "turned, between"},
    "first_in_the_list": {"between", "near the next", "its year", "after the last", "twice",
                          "twice, turned"},
    "stops_at_a_later_one": {"turned, between"}, "first_of_a_year": {"twice", "twice, turned"},
    "largest_of_a_year": {"twice"}, "by_last_name": {"last name", "nobody"},
    "by_part_of_a_name": {"longer name"}, "any_relation": {"relation"},
    "first_before_the_first": {"before the first"},
    "raises_before_the_first": {"before the first", "nothing", "nobody"},
    "sorts_the_list": {"turned", "turned, between"}, "remembered": set(),
}


@pytest.mark.parametrize("code", [row[2] for row in find_the_stale.WRONG], ids=lambda code: code.__name__)
def test_a_bug_shows_in_its_circumstance_alone(code):
    """Each question is asked of a function that was asked nothing before."""
    seen = {name for name in QUESTIONS if not holds(find_the_stale.handed_out(code), name)}
    assert seen == SHOWS[code.__name__]


def test_what_is_remembered_is_another_functions():
    """A function that remembers does so for itself alone."""
    one, two = (find_the_stale.handed_out(find_the_stale.remembered) for _ in range(2))
    assert one(PLAIN, ADA, "pet", 2012) == "dog" == one(PLAIN, ADA, "pet", 2030)
    assert two(PLAIN, ADA, "pet", 2030) == "owl"
