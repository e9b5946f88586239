"""The proof of chapter 18's checks: wrong answers fail by name, right ones written another way pass."""

from __future__ import annotations

import random
import re
from itertools import combinations
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from grader.inside.driver import Unfit
from grader.inside.texts import as_bytes, as_row, as_rows, as_texts, read_row
from grader.outside.chapter18 import find_the_race, path, waiting
from proof import CHECKS, Proof, fresh, inputs_of, run_cell, verdict  # noqa: F401  (a fixture is among them)

WRONG: dict[str, list] = {}  # exercise -> (the misconception's name, a function that has it)
RIGHT: dict[str, list] = {}  # exercise -> a right function written another way

# read-a-plan

DIGITS = re.compile(r"#(\d+)")


def pairs(plan, replies, *, call=lambda line: line.partition(" = ")[2], needs=None, put=None):
    """A pair for each line. needs: of a call and its number; put: of a call and the replies."""
    out = []
    for n, line in enumerate(plan, 1):
        text = call(line)
        found = sorted({int(d) for d in DIGITS.findall(text)}) if needs is None else needs(text, n, plan)
        out.append((found, put_in(text, replies) if put is None else put(text, replies)))
    return out


def put_in(text, replies, missing=None, shift=1):
    """Each variable with its reply, without looking at a reply again."""
    def one(match):
        n = int(match[1]) - shift
        return replies[n] if n < len(replies) else match[0] if missing is None else missing
    return DIGITS.sub(one, text)


def replaced(text, replies, last_first=False, border="", times=-1):
    """str.replace or a pattern, variable by variable."""
    numbers = list(range(1, len(replies) + 1))
    for n in numbers[::-1] if last_first else numbers:
        if border:
            text = re.sub(rf"#{n}{border}", lambda _, n=n: replies[n - 1], text, count=max(times, 0))
        else:
            text = text.replace(f"#{n}", replies[n - 1], times)
    return text


def templates(text, replies):
    for n in range(len(replies), 0, -1):
        text = re.sub(rf"#{n}\b", replies[n - 1], text)
    return text


def needs_of_needs(text, n, plan):
    found, open_ = set(), [text]
    while open_:
        for d in map(int, DIGITS.findall(open_.pop())):
            found.add(d)
            open_.append(plan[d - 1].partition(" = ")[2])
    return sorted(found)


def letter_by_letter(plan, replies):
    """No patterns: a # begins a variable, and it goes on as long as digits come."""
    out = []
    for line in plan:
        call = line[line.index(" = ") + 3:]
        needs, text, at = [], "", 0
        while at < len(call):
            end = at + 1
            while call[at] == "#" and end < len(call) and call[end].isdigit():
                end += 1
            if end > at + 1:
                n = int(call[at + 1:end])
                needs = sorted({*needs, n})
                text += replies[n - 1] if n <= len(replies) else call[at:end]
            else:
                text += call[at]
            at = end
        out.append((needs, text))
    return out


def by_splitting(plan, replies):
    """Every second piece is a variable."""
    out = []
    for line in plan:
        pieces = re.split(r"#(\d+)", line.split(" = ", maxsplit=1)[1])
        named = [int(d) for d in pieces[1::2]]
        pieces[1::2] = [replies[n - 1] if n - 1 < len(replies) else f"#{n}" for n in named]
        out.append([sorted(set(named)), "".join(pieces)])
    return tuple(out)


def by_marks(plan, replies):
    """Variables become marks that no text holds, the largest first, and the marks become replies."""
    out = []
    for n, line in enumerate(plan, 1):
        call = line.split(" = ", 1)[1]
        marked = call
        for k in range(n - 1, 0, -1):
            marked = marked.replace(f"#{k}", chr(1000 + k))
        needs = [k for k in range(1, n) if chr(1000 + k) in marked]
        text = "".join((replies[ord(c) - 1001] if ord(c) - 1001 < len(replies) else f"#{ord(c) - 1000}")
                       if 1000 < ord(c) < 1100 else c for c in marked)
        out.append((needs, text))
    return out


def appends(plan, replies):
    replies += ["?"] * (len(plan) - len(replies))
    return pairs(plan, replies)


WRONG["read-a-plan"] = [
    ("one variable after the other", lambda p, r: pairs(p, r, put=replaced)),
    ("one variable after the other", lambda p, r: pairs(p, r, put=lambda t, r: replaced(t, r, True))),
    ("#1 found inside #12", lambda p, r: pairs(p, r, needs=lambda t, n, p: [k for k in range(1, n)
                                                                            if f"#{k}" in t])),
    ("one variable after the other", lambda p, r: pairs(p, r, put=replaced, needs=lambda t, n, p: [
        k for k in range(1, n) if f"#{k}" in t])),
    ("one digit alone", lambda p, r: pairs(
        p, r, needs=lambda t, n, p: sorted({int(d) for d in re.findall(r"#(\d)", t)}),
        put=lambda t, r: re.sub(r"#(\d)", lambda m: r[int(m[1]) - 1] if int(m[1]) <= len(r) else m[0], t))),
    ("a reply is read again", lambda p, r: pairs(p, r, put=lambda t, r: replaced(t, r, border=r"\b"))),
    ("a reply is read again", lambda p, r: pairs(p, r, put=lambda t, r: replaced(t, r, True, r"(?!\d)"))),
    ("at its first place alone", lambda p, r: pairs(p, r, put=lambda t, r: replaced(t, r, True, r"\b", 1))),
    ("its own number too", lambda p, r: pairs(p, r, needs=lambda t, n, p: sorted(
        {n} | {int(d) for d in DIGITS.findall(t)}))),
    ("the line for the call", lambda p, r: pairs(p, r, call=lambda line: line)),
    ("the line for the call", lambda p, r: pairs(p, r, call=lambda line: line, needs=lambda t, n, p: sorted(
        {int(d) for d in DIGITS.findall(t)} - {n}))),
    ("cut at a later =", lambda p, r: pairs(p, r, call=lambda line: line.split("=")[1].strip())),
    ("cut at a later =", lambda p, r: pairs(p, r, call=lambda line: line.rpartition(" = ")[2])),
    ("as often as it is named", lambda p, r: pairs(p, r, needs=lambda t, *_: sorted(
        int(d) for d in DIGITS.findall(t)))),
    ("in the order of the call", lambda p, r: pairs(p, r, needs=lambda t, *_: list(dict.fromkeys(
        int(d) for d in DIGITS.findall(t))))),
    ("sorted as texts", lambda p, r: pairs(p, r, needs=lambda t, *_: [
        int(d) for d in sorted(set(DIGITS.findall(t)))])),
    ("only what is missing", lambda p, r: pairs(p, r, needs=lambda t, *_: sorted(
        {int(d) for d in DIGITS.findall(put_in(t, [""] * len(r)))}))),
    ("only what has come", lambda p, r: pairs(p, r, needs=lambda t, *_: sorted(
        {int(d) for d in DIGITS.findall(t) if int(d) <= len(r)}))),
    ("what its steps need too", lambda p, r: pairs(p, r, needs=needs_of_needs)),
    ("any number is a variable", lambda p, r: pairs(p, r, needs=lambda t, *_: sorted(
        {int(d) for d in re.findall(r"\d+", t)}))),
    ("the next reply", lambda p, r: pairs(p, r, put=lambda t, r: put_in(t, r, shift=0))),
    ("counted from 0", lambda p, r: pairs(p, r, needs=lambda t, *_: sorted(
        {int(d) - 1 for d in DIGITS.findall(t)}))),
    ("nothing for what is missing", lambda p, r: pairs(p, r, put=lambda t, r: put_in(t, r, ""))),
    ("nothing for what is missing", lambda p, r: pairs(p, r, put=lambda t, r: put_in(t, r, str(None)))),
    ("a backslash in a reply", lambda p, r: pairs(p, r, put=lambda t, r: re.sub(
        r"#(\d+)", lambda m: m.expand(r[int(m[1]) - 1]) if int(m[1]) <= len(r) else m[0], t))),
    ("a backslash in a reply", lambda p, r: pairs(p, r, put=templates)),
    ("raised", lambda p, r: pairs(p, r, put=lambda t, r: DIGITS.sub(lambda m: r[int(m[1]) - 1], t))),
    ("raised", lambda p, r: pairs(p, r, call=lambda line: line.split(" = ")[2])),
    ("a law", lambda p, r: pairs(p, [reply.strip("#1 ") for reply in r])),
    ("shape", lambda p, r: pairs(p, r)[:-1]),
    ("type", lambda p, r: dict(pairs(p, r) and {})),
    ("type", lambda p, r: [call for _, call in pairs(p, r)]),
    ("type", lambda p, r: [(set(needs), call) for needs, call in pairs(p, r)]),
    ("input changed", appends),
]
RIGHT["read-a-plan"] = [letter_by_letter, by_splitting, by_marks]

# critical-path


def ends_of(needs, seconds, over=max, known=lambda row: row.nonzero()[:, 0].tolist()):
    ends = []
    for k in range(len(seconds)):
        before = [ends[j] for j in known(needs[k])]
        ends.append(float(seconds[k]) + (over(before) if before else 0.0))
    return ends


def two(needs, seconds, planning, end=None, first=1, second=1):
    """The two numbers; end: of needs and seconds."""
    end = max(ends_of(needs, seconds)) if end is None else end(needs, seconds)
    return torch.tensor([float(end) + first * planning, float(seconds.sum()) + second * planning])


def level_sums(needs, seconds):
    """The slowest of each level, added up."""
    level = [int(n) - 1 for n in ends_of(needs, torch.ones(len(seconds)))]
    return sum(max(float(s) for s, n in zip(seconds, level) if n == at) for at in set(level))


def longest_by_count(needs, seconds):
    """(steps, seconds) of the longest chain to each step, compared in this order."""
    best = []
    for k in range(len(seconds)):
        count, total = max((best[j] for j in range(k) if needs[k, j]), default=(0, 0.0))
        best.append((count + 1, total + float(seconds[k])))
    return max(best)[1]


def by_all_chains(needs, seconds, planning):
    """Every set of steps in which each needs the one before."""
    K = len(seconds)
    chains = [c for n in range(1, K + 1) for c in combinations(range(K), n)
              if all(needs[b, a] for a, b in zip(c, c[1:]))]
    longest = max(sum(seconds[k].item() for k in c) for c in chains)
    return np.array([longest + planning.item(), seconds.sum().item() + planning.item()])


def backwards(needs, seconds, planning):
    """How long it still takes from the start of each step."""
    left = seconds.clone()
    for k in reversed(range(len(seconds))):
        later = left[needs[:, k]]
        if len(later):
            left[k] = seconds[k] + later.max()
    return planning + torch.stack([left.max(), seconds.sum()])


def until_nothing_changes(needs, seconds, planning):
    """Ends in float64, corrected again and again."""
    end = seconds.double()
    for _ in seconds:
        end = seconds + torch.where(needs, end, 0.0).max(1).values
    return torch.stack([end.max(), seconds.double().sum()]) + planning


def of(end):
    return lambda n, s, p: two(n, s, p, end)


WRONG["critical-path"] = [
    ("the sum for the longest chain", of(lambda n, s: s.sum())),
    ("the slowest step alone", of(lambda n, s: s.max())),
    ("the chain with the most steps", of(longest_by_count)),
    ("levels wait for one another", of(level_sums)),
    ("the last step's end", of(lambda n, s: ends_of(n, s)[-1])),
    ("inputs one after another", of(lambda n, s: max(ends_of(n, s, sum)))),
    ("the first input that is there", of(lambda n, s: max(ends_of(n, s, min)))),
    ("one input alone", of(lambda n, s: max(ends_of(n, s, known=lambda row: [int(row.int().argmax())]
                                                    if row.any() else [])))),
    ("one input alone", of(lambda n, s: max(ends_of(n, s, known=lambda r: r.nonzero()[-1:, 0].tolist())))),
    ("inputs' own seconds", of(lambda n, s: (s + torch.where(n, s, 0.0).max(1).values).max())),
    ("when the last step starts", of(lambda n, s: max(e - float(o) for e, o in zip(ends_of(n, s), s)))),
    ("without the planner", lambda n, s, p: two(n, s, 0.0)),
    ("without the planner", lambda n, s, p: two(n, s, p, first=0)),
    ("without the planner", lambda n, s, p: two(n, s, p, second=0)),
    ("the planner before each step", lambda n, s, p: two(n, s, p, first=len(s), second=len(s))),
    ("the planner before each step", lambda n, s, p: two(n, s, p, second=len(s))),
    ("order swapped", lambda n, s, p: two(n, s, p).flip(0)),
    ("a law", lambda n, s, p: two(n, s, p) + 0.5),
    ("a law", lambda n, s, p: two(n, s, p, lambda n, s: max(ends_of(n, s)) / 2)),
    ("shape", lambda n, s, p: two(n, s, p)[:1]),
    ("raised", lambda n, s, p: two(n, s, p, lambda n, s: max(ends_of(n.T, s)))),
    ("input changed", lambda n, s, p: two(n, s, p.add_(0.0)) + 0 * s.mul_(2).sum()),
]
RIGHT["critical-path"] = [by_all_chains, backwards, until_nothing_changes]

# who-waits


def clock(needs, seconds, workers, *, key=lambda k, ready_at, s: k, enough=all, strict=False, more=0,
          levels=False, rounds=False):
    """Half a second by half a second; key: who goes first of those that can start."""
    K, w = len(seconds), int(workers) + more
    if levels:
        level = np.array(ends_of(needs, torch.ones(K))).astype(int)
        needs = torch.as_tensor(level[:, None] > level[None]) | needs
    start, end, ready_at = [None] * K, [float("inf")] * K, {}
    for tick in range(200):
        if None not in start:
            break
        now = tick / 2
        for k in range(K):
            before = needs[k].nonzero()[:, 0].tolist()
            if k not in ready_at and (not before or enough(end[j] <= now for j in before)):
                ready_at[k] = now
        running = sum(start[k] is not None and now < end[k] for k in range(K))
        if rounds and running:
            continue
        for k in sorted(ready_at, key=lambda k: (key(k, ready_at, seconds), k)):
            blocked = strict and any(start[j] is None for j in range(k))
            if start[k] is None and running < w and not blocked:
                start[k], end[k], running = now, now + float(seconds[k]), running + 1
    return torch.tensor([start, end])


def by_a_queue(needs, seconds, workers, inputs=True, turns=False):
    """Each step takes a worker in its turn."""
    free, start, end = [0.0] * int(workers), [], []
    for k, own in enumerate(seconds.tolist()):
        at = k % len(free) if turns else free.index(min(free))
        begin = max([free[at]] + ([end[j] for j in range(k) if needs[k, j]] if inputs else []))
        start.append(begin)
        end.append(begin + own)
        free[at] = end[-1]
    return torch.tensor([start, end])


def places_kept(needs, seconds, workers):
    """Step by step the first time at which a worker is free throughout, on half seconds."""
    used, start = [0] * 400, []
    ends = []
    for k, own in enumerate(seconds.tolist()):
        at = int(2 * max([0.0] + [ends[j] for j in range(k) if needs[k, j]]))
        while any(used[t] >= workers for t in range(at, at + int(2 * own))):
            at += 1
        for t in range(at, at + int(2 * own)):
            used[t] += 1
        start.append(at / 2)
        ends.append(at / 2 + own)
    return torch.tensor([start, ends])


def by_events(needs, seconds, workers):
    """A list of events, in NumPy."""
    needs, seconds = needs.numpy(), seconds.numpy().astype(float)
    missing, times = needs.sum(1), np.zeros((2, len(seconds)))
    able, running, now = [k for k in range(len(seconds)) if not missing[k]], [], 0.0
    while able or running:
        while able and len(running) < int(workers):
            k = min(able)
            able.remove(k)
            times[:, k] = now, now + seconds[k]
            running.append(k)
        now = min(times[1, k] for k in running)
        for k in [k for k in running if times[1, k] == now]:
            running.remove(k)
            missing = missing - needs[:, k]
            able += [j for j in range(len(seconds)) if needs[j, k] and not missing[j]]
    return times


def with_free_workers(needs, seconds, workers):
    """How many are free, kept as a number."""
    K = len(seconds)
    start, end = [-1.0] * K, [-1.0] * K
    free, now, done = int(workers), 0.0, set()
    while len(done) < K:
        for k in range(K):
            if free and start[k] < 0 and {j for j in range(K) if needs[k, j]} <= done:
                start[k], end[k], free = now, now + seconds[k].item(), free - 1
        now = min(end[k] for k in range(K) if start[k] >= 0 and k not in done)
        ended = {k for k in range(K) if start[k] >= 0 and k not in done and end[k] == now}
        done |= ended
        free += len(ended)
    return torch.tensor([start, end], dtype=torch.float64)


def doubles(needs, seconds, workers):
    seconds *= 2
    return clock(needs, seconds / 2, workers)


WRONG["who-waits"] = [
    ("unlimited workers", lambda n, s, w: clock(n, s, len(s))),
    ("inputs ignored", lambda n, s, w: by_a_queue(n, s, w, inputs=False)),
    ("the first input that is there", lambda n, s, w: clock(n, s, w, enough=any)),
    ("a worker waits for inputs", by_a_queue),
    ("a worker for each place in the plan", lambda n, s, w: by_a_queue(n, s, w, turns=True)),
    ("strictly in order", lambda n, s, w: clock(n, s, w, strict=True)),
    ("a place kept for a step that waits", places_kept),
    ("in rounds", lambda n, s, w: clock(n, s, w, rounds=True)),
    ("level by level", lambda n, s, w: clock(n, s, w, levels=True)),
    ("whoever has waited longest", lambda n, s, w: clock(n, s, w, key=lambda k, at, s: at[k])),
    ("the plan's last first", lambda n, s, w: clock(n, s, w, key=lambda k, at, s: -k)),
    ("the quickest first", lambda n, s, w: clock(n, s, w, key=lambda k, at, s: float(s[k]))),
    ("the slowest first", lambda n, s, w: clock(n, s, w, key=lambda k, at, s: -float(s[k]))),
    ("one after another", lambda n, s, w: clock(n, s, 1)),
    ("one worker too many", lambda n, s, w: clock(n, s, w, more=1)),
    ("seconds for the end", lambda n, s, w: torch.stack([clock(n, s, w)[0], s])),
    ("rows exchanged", lambda n, s, w: clock(n, s, w).flip(0)),
    ("a law", lambda n, s, w: clock(n, s, w) + torch.arange(len(s)) / 2),
    ("axes swapped", lambda n, s, w: clock(n, s, w).T),
    ("shape", lambda n, s, w: clock(n, s, w)[1]),
    ("raised", lambda n, s, w: clock(n, s, w[0])),
    ("input changed", doubles),
]
RIGHT["who-waits"] = [clock, by_events, with_free_workers]

# find-the-race


def scene(calls, seconds, answers, back, asked):
    """A plan, when its replies come, what the tool says, what should come back, what should be asked."""
    return SimpleNamespace(plan=[f"#{n} = {call}" for n, call in enumerate(calls, 1)], seconds=seconds,
                           answers=answers, back=back, asked=asked)


AB = {"a()": "7", "b()": "8", "c(7, 8)": "9"}
SCENES = {
    "one": scene(["a()"], [3], AB, ["7"], ["a()"]),
    "in order": scene(["a()", "b()"], [1, 2], AB, ["7", "8"], ["a()", "b()"]),
    "turned": scene(["a()", "b()", "c(#1, #2)"], [4, 1, 1], AB, ["7", "8", "9"], ["a()", "b()", "c(7, 8)"]),
    "at one moment": scene(["a()", "b()", "c(#1, #2)"], [2, 2, 1], AB, ["7", "8", "9"],
                           ["a()", "b()", "c(7, 8)"]),
    "chain": scene(["a()", "b(#1)", "c(#2)"], [1, 2, 1], {"a()": "7", "b(7)": "8", "c(8)": "9"},
                   ["7", "8", "9"], ["a()", "b(7)", "c(8)"]),
    "empty": scene(["a()", "b(#1)"], [1, 1], {"a()": "", "b()": "8"}, ["", "8"], ["a()", "b()"]),
    "see": scene(["a()", "b(#1)"], [1, 1], {"a()": "see #1", "b(see #1)": "8"}, ["see #1", "8"],
                 ["a()", "b(see #1)"]),
    "twelve": scene([*(f"a({n})" for n in range(11)), "b(#1-#11)"], list(range(1, 13)),
                    {**{f"a({n})": str(50 + n) for n in range(11)}, "b(50-60)": "x"},
                    [*map(str, range(50, 61)), "x"], [*(f"a({n})" for n in range(11)), "b(50-60)"]),
    "same text": scene(["a()", "a()"], [1, 2], {"a()": "7"}, ["7", "7"], ["a()", "a()"]),
    "a quick one": scene(["a()", "b()", "c(#1)", "d(#2)"], [5, 1, 1, 9],
                         {"a()": "7", "b()": "8", "c(7)": "9", "d(8)": "5"}, ["7", "8", "9", "5"],
                         ["a()", "b()", "d(8)", "c(7)"]),
    "late": scene(["a()", "b()", "c(#2)", "d(#1)", "e(#3)", "f(#4)"], [2, 5, 1, 5, 9, 9],
                  {"a()": "1", "b()": "2", "d(1)": "4", "c(2)": "3", "e(3)": "5", "f(4)": "6"},
                  list("123456"), ["a()", "b()", "d(1)", "c(2)", "e(3)", "f(4)"]),
    "fails": scene(["no()", "a()"], [1, 2], AB, [None, "7"], ["no()", "a()"]),
    "fails below": scene(["no()", "b(#1)", "c(#2)"], [1, 1, 1], {"b(None)": "x", "c(x)": "y"}, [None] * 3,
                         ["no()"]),
    "fails beside": scene(["no()", "a()", "b(#2)"], [1, 2, 1], {"a()": "7", "b(7)": "8"}, [None, "7", "8"],
                          ["no()", "a()", "b(7)"]),
}


def outcome(runner, scene):
    """What came back, and what the tool was asked: a text without an answer raises."""
    asked = []

    def tool(text):
        asked.append(text)
        return scene.answers[text]

    return runner(scene.plan, tool, scene.seconds), asked


def fits(runner, name, back=True, asked=True):
    """Whether a scene goes as it should."""
    try:
        got, texts = outcome(runner, SCENES[name])
    except Exception:
        return False
    return (got == SCENES[name].back or not back) and (texts == SCENES[name].asked or not asked)


def by_scenes(runner, names=tuple(SCENES), **what):
    return all(fits(runner, name, **what) for name in names)


def without(*names):
    """by_scenes without some of its scenes."""
    return lambda runner: by_scenes(runner, [name for name in SCENES if name not in names])


def slowly(calls, seconds, tool):
    """A runner of the claim's own words, second by second: for plans drawn at random."""
    K, now = len(calls), 0
    came, due, begun, lost = {}, {}, set(), set()
    while now <= sum(seconds):
        came |= {k: reply for k, (at, reply) in due.items() if at == now}
        for k, call in enumerate(calls, 1):
            inputs = {int(d) for d in DIGITS.findall(call)}
            if k not in begun and inputs <= came.keys():
                begun.add(k)
                text = DIGITS.sub(lambda m: came[int(m[1])], call)
                try:
                    due[k] = now + seconds[k - 1], tool(text)
                except Exception:
                    lost.add(k)
        now += 1
    return [came.get(k) for k in range(1, K + 1)]


def some_plan(draw):
    """Calls, seconds and answers: a plan of 1 to 14 steps, whose tool fails now and then."""
    K = draw.randint(1, 14)
    calls = []
    for k in range(1, K + 1):
        inputs = draw.sample(range(1, k), min(k - 1, draw.choice((0, 1, 1, 2, 3))))
        calls.append(f"{draw.choice('abc')}({', '.join(f'#{n}' for n in inputs)})")
    return calls, [draw.randint(1, draw.choice((2, 9))) for _ in calls], draw.random()


def replying(seed, asked):
    """A tool that answers by the text and by how often it was asked."""
    def tool(text):
        asked.append(text)
        luck = random.Random(f"{seed} {text} {asked.count(text)}")
        if luck.random() < 0.1:
            raise KeyError(text)
        return luck.choice(("", "7", f"{luck.randint(10, 99)}", "see #1", "#2 and #3"))[:12]
    return tool


def at_random(runner):
    """A hundred and fifty plans, and what slowly makes of them."""
    draw = random.Random(0)
    for _ in range(150):
        calls, seconds, seed = some_plan(draw)
        plan = [f"#{n} = {call}" for n, call in enumerate(calls, 1)]
        texts, wanted = [], []
        try:
            if runner(plan, replying(seed, texts), seconds) != slowly(calls, seconds, replying(seed, wanted)):
                return False
        except Exception:
            return False
        if texts != wanted:
            return False
    return True


def one_long_scene(runner):
    """A plan in which nearly all happens, and one in which nothing fails."""
    answers = {"a()": "see #1", "b()": "", "c()": "5", "d(see #1, )": "d", "e(5)": "e", "f(see #1)": "f",
               "g(f)": "g", "h(e)": "h", "k(f, see #1)": "k", "m(g)": "m"}
    calls = ["a()", "b()", "c()", "d(#1, #2)", "no()", "c()", "e(#3)", "x(#5)", "f(#1)", "y(#8)", "g(#9)",
             "h(#7)", "k(#9, #1)", "k(#9, #1)", "m(#11)"]
    seconds = [7, 7, 2, 2, 1, 20, 6, 1, 2, 1, 1, 9, 4, 9, 1]
    told = scene(calls, seconds, answers, None, None)
    try:
        back, asked = outcome(runner, told)
    except Exception:
        return False
    wanted = ["see #1", "", "5", "d", None, "5", "e", None, "f", None, "g", "h", "k", "k", "m"]
    calls = ["a()", "b()", "c()", "no()", "c()", "e(5)", "d(see #1, )", "f(see #1)", "h(e)", "g(f)",
             "k(f, see #1)", "k(f, see #1)", "m(g)"]
    return back == wanted and asked == calls and fits(runner, "in order")


def trusting(runner):
    """Does not catch what a runner raises."""
    return all(outcome(runner, s) == (s.back, s.asked) for s in SCENES.values())


def too_strict(runner):
    """Takes for a bug what is none: calls of one moment in another order."""
    return by_scenes(runner) and outcome(runner, SCENES["in order"])[1] != ["a()", "b()"]


WRONG["find-the-race"] = [
    ("it lets everything through", lambda r: True),
    ("it turns everything away", lambda r: False),
    ("it turns everything away", too_strict),
    ("the calls are not looked at", lambda r: by_scenes(r, asked=False)),
    ("the calls are not looked at", lambda r: by_scenes(
        r, [name for name in SCENES if name not in ("twelve", "see")], asked=False)),
    ("#1 is found inside #12", without("twelve")),
    ("searched for variables too", without("see")),
    ("taken for none", without("empty")),
    ("at the same moment one is kept", without("at one moment")),
    ("finds the others there", lambda r: without("at one moment")(r)
     and fits(r, "at one moment", asked=False)),
    ("nothing is called before all replies", without("a quick one", "late")),
    ("counted from the beginning", without("late")),
    ("was there before is not made again", without("same text")),
    ("made once more", lambda r: by_scenes(r, [n for n in SCENES if "fails" not in n])
     and all(fits(r, n, asked=False) for n in SCENES)),
    ("after a failure nothing more is called", without("fails beside")),
    ("a step that needs a failed one is called", without("fails below")),
    ("only the replies of one more moment", without("in order", "same text", "fails", "late", "a quick one")),
    ("raised", trusting),
    ("raised", lambda r: r(["a()"], lambda text: "7", [1]) == ["7"]),
    ("raised", lambda r: r(["#1 = a()"], lambda text: 7, [1]) == ["7"]),
    ("raised", lambda r: r(["#1 = a(#1)"], lambda text: "7", [1]) == ["7"]),
    ("raised", lambda r: r(["#1 = a()"], lambda text: "7", [0]) == ["7"]),
    ("raised", lambda r: r(["#1 = a()"], "7", [1]) == ["7"]),
    ("type", lambda r: outcome(r, SCENES["one"])),
    ("None", lambda r: None),
]
RIGHT["find-the-race"] = [by_scenes, at_random, one_long_scene, lambda r: np.bool_(by_scenes(r))]


class TestProof(Proof):
    chapter, WRONG, RIGHT = 18, WRONG, RIGHT


# what holds for some


def test_the_example_of_each_text():
    """What the tasks say in figures."""
    plan = ["#1 = record(Ada Moss, age)", "#2 = record(Tom Reed, age)", "#3 = calculator(#2-#1)"]
    assert run_cell("read-a-plan")(plan, ["52"]) == [
        ([], "record(Ada Moss, age)"), ([], "record(Tom Reed, age)"), ([1, 2], "calculator(#2-52)")]
    needs = torch.tensor([[0, 0, 0], [0, 0, 0], [1, 1, 0]]).bool()
    seconds = run_cell("critical-path")(needs, torch.tensor([2.0, 3.0, 1.0]), torch.tensor(0.5))
    assert seconds.tolist() == [4.5, 6.5]
    needs = torch.zeros(4, 4, dtype=torch.bool)
    needs[2, 0] = True
    times = run_cell("who-waits")(needs, torch.tensor([2.0, 1.0, 1.0, 2.0]), torch.tensor(2))
    assert times.tolist() == [[0, 0, 2, 1], [2, 1, 3, 3]]


def test_rows_of_a_step_come_back():
    """A list of texts, and a step, survive being made numbers."""
    for texts in ([], [""], ["a", "", "#1 = é\\g<0>"]):
        assert as_texts(as_bytes(texts)) == texts
    assert read_row(as_row([1, 12], "calculator(#1-#12)")) == ([1, 12], "calculator(#1-#12)")
    assert as_rows([([1], "a"), [(), ""]]).shape[0] == 2
    for wrong in ("a", [1], [("1", "a")], [([1], 2)], [([True], "a")], [([-1], "a")], [([1], "a", "b")]):
        with pytest.raises(Unfit, match="type"):
            as_rows(wrong)
    with pytest.raises(Unfit, match="length"):
        as_rows([([1], "a" * 1000)])


def test_a_wrong_step_is_shown_in_words():
    """What became of the first wrong step, and the plan, ready to be pasted."""
    text = verdict("read-a-plan", WRONG["read-a-plan"][0][1]).text
    assert "plan = [" in text and re.search(r"Step \d+ became \(\[.*\], '.*'\)\.", " ".join(text.split()))
    short = verdict("read-a-plan", lambda p, r: pairs(p, r)[:-1]).text
    assert "Steps that came back: 0; wanted: 1." in short


def test_no_plan_is_slower_with_more_of_nothing_to_wait_for():
    """Between the longest chain and the sum; with w workers no more than both bounds of Graham (1969)."""
    for i in inputs_of("who-waits"):
        needs = i.needs.astype(bool)
        ends = CHECKS["who-waits"].expected(i)[1]
        longest = path.when_done(needs, i.seconds).max()
        assert longest <= ends.max() <= i.seconds.sum() + 1e-9
        assert ends.max() <= i.seconds.sum() / i.workers + (1 - 1 / i.workers) * longest + 1e-9


def test_what_is_wanted_agrees_with_a_clock():
    """The checks' own code against a clock that goes by half seconds, on every input."""
    for i in inputs_of("who-waits"):
        given = torch.tensor(i.needs.astype(bool)), torch.tensor(i.seconds), int(i.workers)
        assert np.array_equal(clock(*given).numpy(), CHECKS["who-waits"].expected(i))
    for i in inputs_of("critical-path"):
        given = torch.tensor(i.needs.astype(bool)), torch.tensor(i.seconds), torch.tensor(i.planning)
        assert np.allclose(by_all_chains(*given), CHECKS["critical-path"].expected(i))
    assert waiting.same(waiting.schedule(np.zeros((2, 2), bool), np.ones(2), 1), [[0, 1], [1, 2]])


def test_the_text_counts_the_planted_codes():
    """Twenty-six functions, six right, twenty wrong."""
    assert (len(find_the_race.RIGHT), len(find_the_race.WRONG)) == (6, 20)


def test_right_runners_agree():
    """On plans drawn at random, whose tools fail and repeat themselves."""
    draw = random.Random(1)
    for _ in range(300):
        calls, seconds, seed = some_plan(draw)
        plan = [f"#{n} = {call}" for n, call in enumerate(calls, 1)]
        found = []
        for code in find_the_race.RIGHT:
            asked = []
            back = find_the_race.handed_out(code)(plan, replying(seed, asked), seconds)
            found.append((back, asked))
        assert all(each == found[0] for each in found), plan
        texts = []
        assert found[0] == (slowly(calls, seconds, replying(seed, texts)), texts)


SHOWS = {  # code -> the scenes above in which it shows, and no others
    "inside_12": {"twelve"}, "read_again": {"see"},
    "last_writer": {"turned", "at one moment", "twelve"}, "by_arrival": {"turned", "a quick one",
                                                                         "fails beside"},
    "back_by_arrival": {"turned", "a quick one", "fails", "fails beside"},
    "last_step_dropped": set(SCENES) - {"fails below"},
    "not_waited_for": {"in order", "same text", "a quick one", "late"},
    "one_of_a_moment": {"at one moment"}, "nothing_for_empty": {"empty"},
    "first_input": {"turned", "twelve"}, "level_by_level": {"a quick one", "late"},
    "from_the_beginning": {"late"}, "last_one_first": set(SCENES) - {"one", "chain", "empty", "see",
                                                                     "fails below", "same text"},
    "called_by_each": {"at one moment"}, "same_text": {"same text"},
    "tried_again": {"fails", "fails below", "fails beside"},
    "error_for_value": {"fails", "fails below", "fails beside"}, "none_for_value": {"fails below"},
    "all_stops": {"fails beside"}, "lets_it_through": {"fails", "fails below", "fails beside"},
}


@pytest.mark.parametrize("code", [row[2] for row in find_the_race.WRONG], ids=lambda code: code.__name__)
def test_a_bug_shows_in_its_circumstance_alone(code):
    seen = {name for name in SCENES if not fits(find_the_race.handed_out(code), name)}
    assert seen == SHOWS[code.__name__]


def test_what_a_learners_test_gets_wrong_is_said():
    """A tool that gives no text, and plans that are none, are told of by right and wrong code alike."""
    for code in (find_the_race.RIGHT[0], find_the_race.lets_it_through, find_the_race.error_for_value):
        runner = find_the_race.handed_out(code)
        with pytest.raises(ValueError, match="tool's reply.*return a text"):
            runner(["#1 = a()"], lambda text: 7, [1])
        for plan, seconds, said in ((["a()"], [1], "write line 1 as #1"), (["#1 = a(#2)"], [1], "earlier"),
                                    (["#1 = a()"], [1, 2], "a list of 1"), ([], [], "1 to 20"),
                                    (["#1 = a()"], [61], "seconds")):
            with pytest.raises(ValueError, match=said):
                runner(plan, lambda text: "7", seconds)
