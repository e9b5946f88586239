"""Plans: read as data, filled by name, run in any order with one result; and the clock is exact, by listing.
"""

from __future__ import annotations

import itertools
import random
import threading
import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import Tiny
from minillm.acting import compiler, rewoo
from minillm.acting.calculator import calculator
from minillm.acting.compiler import Bar, Clock, Span, critical_path, execute, schedule, timeline
from minillm.acting.rewoo import (
    MOST, Planned, Round, Step, again, evidence, fill, make, plan_text, read_plan, work
)
from minillm.acting.toolbox import record, records, unreliable
from minillm.acting.tools import Call, Made, by_name, within
from minillm.acting.transcript import Transcript
from minillm.show import plans
from minillm.tokenizer import Response, Tokenizer
from minillm.worlds.lookups import CHAINS, KINDS, Lookups
from minillm.worlds.town import Town

TOWN = Town(1, 30)
RECORD = record(records(TOWN))
TOOLS = by_name([RECORD, calculator])
A, B = list(TOWN.fame)[:2]
AGE = {fact.subject: int(fact.value) for fact in TOWN.facts if fact.relation == "age"}
OLDER = f"#1 = record({A}, age)\n#2 = record({B}, age)\n#3 = calculator(#1-#2)"


def echo(word: str) -> str:
    """Says a word.

    Args:
        word: any
    """
    return word


def join(first: str, second: list[str], times: int = 1) -> str:
    """Puts words together.

    Args:
        first: a word
        second: more
        times: how often
    """
    return "/".join([first, *second] * times)


WORDY = by_name([echo, join])


# --- reading --------------------------------------------------------------------------------------


def test_a_plan_is_read():
    steps = read_plan(OLDER, TOOLS)
    assert [step.number for step in steps] == [1, 2, 3]
    assert [step.needs for step in steps] == [(), (), (1, 2)]
    assert steps[2].call == Call("calculator", {"expression": "#1-#2"})
    assert "\n".join(step.line for step in steps) == OLDER
    assert plan_text([step.text for step in steps]) == OLDER
    assert read_plan("\n  #7=echo(a)  \n\n#2 = echo(#7)", WORDY)[1].needs == (7,)       # any numbers
    assert read_plan("#3 = echo(#1 and #12)", WORDY, known=(1, 12))[0].needs == (1, 12)
    assert read_plan('#4 = join("#2", ["#1", "x"], 2)', WORDY, known=(1, 2))[0].needs == (1, 2)


@pytest.mark.parametrize("text, said", [
    (None, "plan is NoneType: give a text"),
    ("", "plan is of 0 steps: give 1 to 12"),
    ("\n".join(f"#{n} = echo(a)" for n in range(1, MOST + 2)), "plan is of 13 steps: give 1 to 12"),
    ("x" * 3000, "plan is 3000 characters long: give at most 2000"),
    ("I would look up both ages.", "with the line 'I would look up both ages.'"),
    ("#0 = echo(a)", "plan is with the line '#0 = echo(a)': write each as #1 = tool(argument)"),
    ("#1 = fetch(a)", "#1: tool is 'fetch': there are echo, join"),
    ("#1 = echo a", "#1: call is 'echo a': write it as name(argument)"),
    ("#1 = join(#2, [])", "#1: arguments are '#2, []'"),
    ("#1 = echo(a)\n#1 = echo(b)", "#1 is given twice: give each line a number of its own"),
    ("#1 = echo(#2)\n#2 = echo(a)", "#2 in #1 is not there yet: use what an earlier line gives"),
    ("#1 = echo(#2)\n#2 = echo(#1)", "#2 in #1 is not there yet"),                      # a circle
    ("#1 = echo(#1)", "#1 in #1 is not there yet"),
    ("#1 = echo(#9)", "#9 in #1 is not there yet"),
])
def test_what_is_no_plan_is_said(text, said):
    with pytest.raises(ValueError) as error:
        read_plan(text, WORDY)
    assert said in str(error.value) and "\n" not in str(error.value)


@given(st.text(alphabet="#=12 echo()\n", max_size=80))
@settings(max_examples=300, deadline=None)
def test_any_text_is_a_plan_or_an_error(text):
    """A plan that is read needs earlier lines alone, so it runs from first to last."""
    try:
        steps = read_plan(text, WORDY)
    except ValueError:
        return
    seen = set()
    for step in steps:
        assert set(step.needs) <= seen
        seen.add(step.number)
    assert len(seen) == len(steps) <= MOST


# --- filling --------------------------------------------------------------------------------------


def test_values_go_in_by_number():
    step = Step(13, Call("echo", {"word": "#1 and #12, #1"}), "", (1, 12))
    assert fill(step, {1: "one", 12: "twelve"}).arguments == {"word": "one and twelve, one"}
    assert fill(step, {1: "#12", 12: "#1"}).arguments == {"word": "#12 and #1, #12"}     # once, not again
    step = read_plan('#5 = join("#1", ["#2", "#1"], 2)', WORDY, known=(1, 2))[0]
    assert fill(step, {1: "a", 2: "b"}).arguments == {"first": "a", "second": ["b", "a"], "times": 2}
    with pytest.raises(ValueError, match="#2 is missing: run it before #5"):
        fill(step, {1: "a"})


@pytest.mark.parametrize("reply", ["a) and more", '", ["x"], 9', "#1", "x\ny", "record(z)", "\u202e", '{"a"'])
def test_a_reply_stays_inside_its_argument(reply):
    """Brackets, quotes and commas of a reply name no other tool and add no argument."""
    made = {1: Made("echo(…)", Call("echo", {"word": ""}), reply, True, 0.0)}
    for text, wanted in (("#2 = echo(<#1>)", f"<{reply}>"), ('#2 = join("#1", ["#1"])', f"{reply}/{reply}")):
        (step,) = read_plan(text, WORDY, known=(1,))
        done = make(step, made, WORDY)
        assert done.ok and done.reply == wanted and done.call.name == step.call.name


def test_a_plan_runs():
    steps = read_plan(OLDER, TOOLS)
    made = work(steps, TOOLS)
    assert [made[n].reply for n in (1, 2, 3)] == [str(AGE[A]), str(AGE[B]), str(AGE[A] - AGE[B])]
    assert made[3].text == f"calculator({AGE[A]}-{AGE[B]})"
    assert evidence(steps, made).split("\n")[2] == f"#3 = {made[3].text}: {made[3].reply}"
    later = read_plan("#4 = calculator(#3*2)", TOOLS, known=made)
    assert work(later, TOOLS, made)[4].reply == str(2 * (AGE[A] - AGE[B]))
    assert execute(later, TOOLS, made)[4].reply == str(2 * (AGE[A] - AGE[B]))


# --- failures -------------------------------------------------------------------------------------


def broken(word: str) -> str:
    """Fails.

    Args:
        word: any
    """
    raise RuntimeError("out of order")


def hangs(word: str) -> str:
    """Says nothing for long.

    Args:
        word: any
    """
    time.sleep(3)
    return word


WIDE = "#1 = {bad}(a)\n#2 = echo(#1)\n#3 = echo(b)\n#4 = echo(#3)\n#5 = join(\"#2\", [\"#4\"])"


@pytest.mark.parametrize("bad, said", [(broken, "error: RuntimeError: out of order"),
                                       (hangs, "error: hangs gave no answer within 0.1 s")])
@pytest.mark.parametrize("run_all", [work, execute])
def test_what_fails_ends_its_step_and_those_that_need_it(bad, said, run_all):
    tools = by_name([echo, join, bad])
    steps = read_plan(WIDE.format(bad=bad.__name__), tools)
    begun = time.monotonic()
    made = run_all(steps, tools, seconds=0.1)
    assert time.monotonic() - begun < 2
    assert list(made) == [1, 2, 3, 4, 5]
    assert [made[n].ok for n in made] == [False, False, True, True, False]
    assert made[1].reply == said and made[2].reply == "error: #1 failed" and made[2].call is None
    assert made[4].reply == "b" and made[5].reply == "error: #2 failed"
    assert again(steps, made) == f"#6 = {bad.__name__}(a)\n#7 = echo(#6)\n#8 = join(\"#7\", [\"#4\"])"
    new = read_plan(again(steps, made), tools, known=made)
    assert [step.needs for step in new] == [(), (6,), (4, 7)]


def test_nothing_is_planned_again_where_nothing_failed():
    steps = read_plan(OLDER, TOOLS)
    assert again(steps, work(steps, TOOLS)) == ""


def test_an_unreliable_tool():
    """The same calls fail for the same seed in any order; made again, a call is drawn anew; about as many as
    the chance says."""
    def failures(order, seed=0, chance=0.4):
        tool, found = unreliable(echo, chance, seed), {}
        for word in order:
            try:
                found.setdefault(word, []).append(tool(word) != word)
            except ValueError as error:
                assert str(error) == "no answer"
                found.setdefault(word, []).append(True)
        return found

    words = [str(n % 100) for n in range(1000)]
    one, other = failures(words), failures(random.Random(1).sample(words, len(words)))
    assert one == other != failures(words, seed=1)
    share = sum(map(sum, one.values())) / 1000
    assert abs(share - 0.4) < 0.05
    assert any(0 < sum(some) < len(some) for some in one.values())
    assert not any(map(any, failures(words, chance=0).values()))
    assert unreliable(echo, 0.5, 0).__name__ == "echo" and "unreliable" not in str(by_name([echo]))
    for chance in (-0.1, 1.5, "often"):
        with pytest.raises(ValueError, match="chance is .*: give one in"):
            unreliable(echo, chance, 0)


def test_record():
    """The value alone, whoever else is named in other records; an error where nobody has that name."""
    facts = [fact for fact in TOWN.facts if fact.relation in ("age", "mother", "friend", "price", "job")]
    assert all(RECORD(fact.key) == fact.value for fact in facts)
    for question in ("Zed Zzz, age", f"{A}, weight", "age of nobody"):
        with pytest.raises(ValueError, match="nothing is on file"):
            RECORD(question)


# --- the clock, by listing ------------------------------------------------------------------------


def graph(n: int, seed: int) -> tuple[list[Step], dict[int, float]]:
    """A plan of n steps, each of which needs some earlier ones; and seconds for each."""
    rng = random.Random(seed)
    steps = [Step(i, Call("echo", {}), "", tuple(j for j in range(1, i) if rng.random() < 0.4))
             for i in range(1, n + 1)]
    return steps, {i: float(rng.randint(0, 4)) for i in range(1, n + 1)}


def slow_schedule(order, steps, seconds, ready, workers):
    """A second one: take the steps in this order, and start each as early as its inputs, its line and some
    worker allow, but never before one that was taken earlier."""
    needs = {step.number: step.needs for step in steps}
    free, spans, now = [0.0] * workers, {}, 0.0
    for number in order:
        worker = min(range(workers), key=free.__getitem__)
        now = max([now, free[worker], ready[number], *(spans[n].end for n in needs[number])])
        spans[number] = Span(now, now + seconds[number])
        free[worker] = spans[number].end
    return spans


def orders(steps):
    """Every order in which a step comes behind those that it needs."""
    for order in itertools.permutations(steps):
        place = {step.number: i for i, step in enumerate(order)}
        if all(place[n] < place[step.number] for step in order for n in step.needs):
            yield [step.number for step in order]


def length(spans) -> float:
    return max(span.end for span in spans.values())


@pytest.mark.parametrize("seed", range(60))
def test_the_makespan_by_listing(seed):
    """With a worker for each step no order is shorter, and the length is the critical path's. With one, it is
    the sum. With w, it is one of the listed lengths, and less than 2 − 1/w times the shortest (Graham 1966).
    """
    n = 1 + seed % 6
    steps, seconds = graph(n, seed)
    rng = random.Random(seed)
    late = {i: float(rng.randint(0, 3)) for i in seconds}
    for ready in ({i: 0.0 for i in seconds}, late):
        for workers in range(1, n + 1):
            spans = schedule(steps, seconds, ready, workers)
            listed = [length(slow_schedule(order, steps, seconds, ready, workers)) for order in orders(steps)]
            holds(steps, seconds, ready, workers, spans)
            assert length(spans) >= min(listed) - 1e-12
            assert length(spans) <= (2 - 1 / workers) * min(listed) + 1e-12 or ready is late
            if workers == n:
                assert length(spans) == min(listed)
    assert length(schedule(steps, seconds)) == critical_path(steps, seconds)[0]
    assert length(schedule(steps, seconds, workers=1)) == sum(seconds.values())
    way = critical_path(steps, seconds)[1]
    assert sum(seconds[n] for n in way) == critical_path(steps, seconds)[0]
    needs = {step.number: step.needs for step in steps}
    assert all(a in needs[b] for a, b in zip(way, way[1:]))


def holds(steps, seconds, ready, workers, spans):
    """What a schedule must hold at every moment, and that nobody waits who could start."""
    events = sorted({t for span in spans.values() for t in span} | set(ready.values()))
    for step in steps:
        span = spans[step.number]
        assert span.end == span.start + seconds[step.number] and span.start >= ready[step.number]
        assert all(spans[n].end <= span.start for n in step.needs)
        could = max([ready[step.number], *(spans[n].end for n in step.needs)])
        for t in [t for t in events if could <= t < span.start]:        # it waited: all workers were busy
            assert sum(other.start <= t < other.end for other in spans.values()) == workers
    for t in events:
        assert sum(span.start <= t < span.end for span in spans.values()) <= workers


def test_ties_go_by_the_plan():
    steps, _ = graph(1, 0)
    steps = [Step(n, Call("echo", {}), "", ()) for n in (2, 1, 3)]
    spans = schedule(steps, {1: 1, 2: 1, 3: 1}, workers=1)
    assert [spans[n].start for n in (2, 1, 3)] == [0, 1, 2] and list(spans) == [2, 1, 3]
    spans = schedule(steps, {1: 1, 2: 1, 3: 1}, {2: 5, 1: 0, 3: 0}, workers=1)     # 2 comes late
    assert [spans[n].start for n in (2, 1, 3)] == [5, 0, 1]
    assert schedule([], {}) == {} and critical_path([], {}) == (0.0, [])


@pytest.mark.parametrize("change, said", [
    ({"seconds": {1: 1, 2: 1}}, "seconds is without #3"),
    ({"seconds": {1: 1, 2: 1, 3: -1}}, "seconds[3] is -1: give a number, 0 or more"),
    ({"seconds": {1: 1, 2: 1, 3: float("nan")}}, "seconds[3] is nan"),
    ({"ready": {1: 0}}, "ready is without #2"),
    ({"workers": 0}, "workers is 0"),
])
def test_a_schedule_says_what_is_wrong(change, said):
    steps = read_plan(OLDER, TOOLS)
    with pytest.raises(ValueError) as error:
        schedule(steps, **{"seconds": {1: 1, 2: 1, 3: 1}, **change})
    assert said in str(error.value)


# --- threads --------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
def test_any_order_of_arrival_gives_the_same_result(seed):
    """Calls are held until the test lets them go, in a drawn order; and each step runs once, after its
    inputs, with theirs."""
    rng = random.Random(seed)
    n = rng.randint(3, 6)
    lines, needs = [], {}
    for i in range(1, n + 1):
        needs[i] = tuple(j for j in range(1, i) if rng.random() < 0.4)
        lines.append(f"#{i} = held(v{i}" + "".join(f"+#{j}" for j in needs[i]) + ")")
    gates = {i: threading.Event() for i in range(1, n + 1)}
    asked: list[str] = []

    @within(5)
    def held(word: str) -> str:
        """Waits to be let go.

        Args:
            word: begins with v and the number of its step
        """
        asked.append(word)
        gates[int(word[1:].split("+")[0].split("(")[0])].wait(4)
        return f"({word})"

    tools = by_name([held])
    steps = read_plan("\n".join(lines), tools)
    order = rng.sample(list(gates), n)
    spans: dict[int, Span] = {}

    def let_go():
        for i in order:
            gates[i].set()
            time.sleep(0.005)

    threading.Thread(target=let_go, daemon=True).start()
    made = execute(steps, tools, workers=rng.choice((1, 2, n)) if order == sorted(order) else n,
                   watch=spans.__setitem__)
    wanted: dict[int, str] = {}
    for i in range(1, n + 1):
        wanted[i] = f"(v{i}" + "".join(f"+{wanted[j]}" for j in needs[i]) + ")"
    assert {i: one.reply for i, one in made.items()} == wanted and list(made) == list(wanted)
    assert len(asked) == n and set(spans) == set(made)
    assert all(spans[j].end <= spans[i].start + 1e-6 for i in needs for j in needs[i])


def test_threads_keep_the_computed_order():
    """Tools that sleep: calls start and end in the order of the clock, and side by side."""
    def naps(word: str) -> str:
        """Sleeps.

        Args:
            word: such as 5 x; a twentieth of a second each
        """
        time.sleep(int(word.split()[0]) / 20)
        return word

    tools = by_name([naps])
    spans: dict[int, Span] = {}
    seconds = {1: 0.2, 2: 0.1, 3: 0.1, 4: 0.2}
    steps = read_plan("#1 = naps(4 a)\n#2 = naps(2 b)\n#3 = naps(2 c #2)\n#4 = naps(4 d #1 #3)", tools)
    made = execute(steps, tools, workers=2, watch=spans.__setitem__)
    clock = schedule(steps, seconds, workers=2)
    assert all(one.ok for one in made.values())
    assert length(clock) == pytest.approx(0.4) and 0.39 < length(spans) < 0.6      # one by one it is 0.6
    assert sorted(spans, key=lambda n: spans[n].end)[::3] == [2, 4] and spans[3].start < spans[4].start


def test_no_more_than_so_many_at_once():
    busy, most, lock = 0, 0, threading.Lock()

    def counted(word: str) -> str:
        """Counts who is here.

        Args:
            word: any
        """
        nonlocal busy, most
        with lock:
            busy += 1
            most = max(most, busy)
        time.sleep(0.02)
        with lock:
            busy -= 1
        return word

    tools = by_name([counted])
    steps = read_plan(plan_text([f"counted({n})" for n in range(8)]), tools)
    for workers in (1, 3):
        most = 0
        execute(steps, tools, workers=workers)
        assert most == workers
    with pytest.raises(ValueError, match="workers is 0"):
        execute(steps, tools, workers=0)
    with pytest.raises(ValueError, match="steps is in need of what no step gives"):
        execute([Step(2, Call("counted", {"word": "#1"}), "counted(#1)", (1,))], tools)


# --- models ---------------------------------------------------------------------------------------


WORDS = Tokenizer.train([OLDER + " Plan: Solve: How many years older is Ada Moss than Ben Reed?"], 320)


class Says:
    """A model that writes given answers to prompts that hold given words."""

    def __init__(self, table, monkeypatch):
        self.config = type("Config", (), {"context": 512})
        self.table, self.asked = table, []

        def written(model, tokenizer, texts, room):
            self.asked += texts
            answers = [next(y for part, y in self.table if part in text) for text in texts]
            return [(tokenizer.prompt(x), tokenizer.response(y)) for x, y in zip(texts, answers)]

        monkeypatch.setattr(rewoo, "written", written)


def once_broken():
    """record, which fails the first time that it is asked for B."""
    left = [1]

    def record(question: str) -> str:
        """A value.

        Args:
            question: of whom, what
        """
        if question.startswith(B) and left:
            left.pop()
            raise ValueError("no answer")
        return RECORD(question)

    return [record, calculator]


def test_planner_workers_solver(monkeypatch):
    says = Says([("Solve", "14"), ("Plan", OLDER)], monkeypatch)
    for run in (rewoo.rewoo, compiler.compiled):
        says.asked.clear()
        (one,) = run(says, WORDS, ["How old?"], [RECORD, calculator])
        assert one.answer == Response("14", None, True) and len(one.rounds) == 1 and one.calls == 3
        assert says.asked == ["Plan: How old?", f"Solve: How old?\n{one.evidence}"]
        (read_, wrote), solver = one.requests
        assert wrote == len(WORDS.response(OLDER)) and read_ == len(WORDS.prompt("Plan: How old?"))
        assert solver == (len(WORDS.prompt(says.asked[1])), len(WORDS.response("14")))
        for cache in (True, False):
            assert compiler.tokens_read(one, cache) == read_ + solver[0]
        ends = one.rounds[0].ends
        lines = OLDER.split("\n")
        for n in (1, 2):
            assert WORDS.decode(WORDS.response(OLDER)[:ends[n]]) == "\n".join(lines[:n]) + "\n"
        assert ends[3] == wrote


def test_what_failed_is_planned_again(monkeypatch):
    second = f"#4 = record({B}, age)\n#5 = calculator(#1-#4)"
    says = Says([("Solve", "14"), ("error", second), ("Plan", OLDER)], monkeypatch)
    (one,) = compiler.compiled(says, WORDS, ["How old?"], once_broken)
    assert len(one.rounds) == 2 and not one.failed and one.made[5].reply == str(AGE[A] - AGE[B])
    assert f"#2 = record({B}, age): error: no answer" in says.asked[1] and one.calls == 4
    (one,) = rewoo.rewoo(says, WORDS, ["How old?"], once_broken)
    assert len(one.rounds) == 1 and one.failed and one.calls == 2
    assert says.asked[-1].endswith("#3 = calculator(#1-#2): error: #2 failed")
    says = Says([("Solve", "?"), ("error", "no idea"), ("Plan", OLDER)], monkeypatch)
    (one,) = compiler.compiled(says, WORDS, ["How old?"], once_broken, replans=5)
    assert len(one.rounds) == 2 and "with the line 'no idea'" in one.rounds[1].error    # not asked again
    says = Says([("Solve", "?"), ("Plan", "no plan")], monkeypatch)
    (one,) = rewoo.rewoo(says, WORDS, ["How old?"], once_broken)
    assert one.calls == 0 and one.rounds[0].error and one.answer.text == "?"


def test_a_demonstration_is_a_run(monkeypatch):
    """What somebody wrote, run and counted as if a model had written it; and its pairs are what was asked."""
    second = f"#4 = record({B}, age)\n#5 = calculator(#1-#4)"
    says = Says([("Solve", "14"), ("error", second), ("Plan", OLDER)], monkeypatch)
    (one,) = compiler.compiled(says, WORDS, ["How old?"], once_broken)
    again_ = rewoo.demonstrate(WORDS, "How old?", [OLDER, second], "14", once_broken())
    assert (again_.requests, again_.evidence, again_.answer) == (one.requests, one.evidence, one.answer)
    assert [r.ends for r in again_.rounds] == [r.ends for r in one.rounds]
    found = rewoo.pairs(WORDS, again_)
    assert [x for x, _ in found] == [WORDS.prompt(text) for text in says.asked]
    assert [y for _, y in found] == [WORDS.response(text) for text in (OLDER, second, "14")]
    assert [(len(x), len(y)) for x, y in found] == one.requests
    thoughtful = rewoo.demonstrate(WORDS, "How old?", [OLDER], "14", [RECORD, calculator], thought="Hm.")
    assert rewoo.pairs(WORDS, thoughtful)[1][1] == WORDS.response("14", "Hm.")
    for plans_, said in ((OLDER, "plans is one text"), (["#1 = x(1)"], "#1: tool is 'x'")):
        with pytest.raises(ValueError, match=said):
            rewoo.demonstrate(WORDS, "How old?", plans_, "14", [RECORD, calculator])


def test_a_real_model_may_write_anything():
    """Random weights: no plan, no error, an answer of some kind, within its room."""
    torch.manual_seed(0)
    model = Tiny(vocab_size=WORDS.vocab_size, dtype=torch.float32, context=96)
    questions = ["How many?", "x " * 60]                # no room is left behind the second
    runs = compiler.compiled(model, WORDS, questions, [RECORD, calculator], room=8, answer_room=4)
    assert [len(one.rounds) for one in runs] == [1, 1] and all(one.solver[1] <= 4 for one in runs)
    for change, said in (({"questions": "one"}, "questions is one text"),
                         ({"questions": []}, "questions is empty"), ({"room": 0}, "room is 0"),
                         ({"replans": -1}, "replans is -1")):
        with pytest.raises(ValueError, match=said):
            compiler.compiled(model, WORDS, **{"questions": ["x"], "tools": [RECORD], **change})


# --- what a run costs -----------------------------------------------------------------------------


CLOCK = Clock({"record": 0.5, "calculator": 0.05}, token=0.02)


def done(text, reply="1", ok=True, name="record"):
    return Made(text, Call(name, {}), reply, ok, 0.0)


def test_the_timeline_by_hand():
    """A plan of 10, 20, 30 tokens: its lines are there after 0.2, 0.4, 0.6 s. Calls of 0.5 s and 0.05 s."""
    steps = [Step(1, Call("record", {}), "a", ()), Step(2, Call("record", {}), "b", ()),
             Step(3, Call("calculator", {}), "c", (1, 2))]
    made = {1: done("a"), 2: done("b"), 3: done("c", name="calculator")}
    run = Planned("?", [Round("", steps, made, 7, 30, {1: 10, 2: 20, 3: 30})], solver=(40, 5))
    bars = timeline(run, CLOCK)
    at = {bar.number: (round(bar.start, 9), round(bar.end, 9)) for bar in bars if bar.number}
    assert at == {1: (0.2, 0.7), 2: (0.4, 0.9), 3: (0.9, 0.95)}
    assert (bars[0].end, round(bars[-1].end, 9)) == (0.6, 0.95 + 0.1)
    bars = timeline(run, CLOCK, parallel=False)
    at = {bar.number: (round(bar.start, 9), round(bar.end, 9)) for bar in bars if bar.number}
    assert at == {1: (0.6, 1.1), 2: (1.1, 1.6), 3: (1.6, 1.65)} and round(bars[-1].end, 9) == 1.75
    # One fails: what needs it costs nothing, and a new plan of 8 tokens begins when all calls are back.
    made = {1: done("a"), 2: done("b", ok=False), 3: Made("c", None, "error: #2 failed", False, 0.0)}
    new = [Step(4, Call("record", {}), "b", ()), Step(5, Call("calculator", {}), "c", (1, 4))]
    second = Round("", new, {4: done("b"), 5: done("c", name="calculator")}, 50, 8, {4: 4, 5: 8})
    run = Planned("?", [Round("", steps, made, 7, 30, {1: 10, 2: 20, 3: 30}), second], solver=(60, 5))
    bars = timeline(run, CLOCK)
    at = {bar.number: (round(bar.start, 9), round(bar.end, 9)) for bar in bars if bar.number}
    assert at == {1: (0.2, 0.7), 2: (0.4, 0.9), 4: (0.98, 1.48), 5: (1.48, 1.53)}
    assert round(bars[-1].end, 9) == 1.63 and run.requests == [(7, 30), (50, 8), (60, 5)]


def transcript():
    """x of 3; 4 tokens and a call, a reply of 2; 3 tokens and a call, a reply of 1; 5 tokens."""
    row = Transcript([1, 2, 3])
    for wrote, reply, name in ((4, 2, "record"), (3, 1, "calculator")):
        row.append([9] * wrote, True)
        row.append([8] * reply, False)
        row.calls.append(done("x", name=name))
    row.append([9] * 5, True)
    return row


def test_a_transcript_is_counted():
    row = transcript()
    assert compiler.stretches(row) == [(3, 4), (9, 3), (13, 5)]
    assert compiler.tokens_read(row, cache=False) == 3 + 9 + 13
    assert compiler.tokens_read(row, cache=True) == 3 + 2 + 1
    bars = compiler.timeline_of(row, CLOCK)
    assert [bar.kind for bar in bars] == ["model", "record", "model", "calculator", "model"]
    ends = [0.08, 0.58, 0.64, 0.69, 0.79]
    assert [round(bar.end, 9) for bar in bars] == ends
    assert [round(bar.start, 9) for bar in bars] == [0.0, *ends[:-1]]
    row.ids, row.response_mask, row.calls = row.ids[:6], row.response_mask[:6], row.calls[:1]
    assert len(compiler.timeline_of(row, CLOCK)) == 2               # it stopped behind a reply


# --- the questions --------------------------------------------------------------------------------


LOOKUPS = Lookups(TOWN)


@pytest.mark.parametrize("kind", KINDS)
def test_a_plan_and_a_way_step_by_step_lead_to_the_answer(kind):
    """Both are run, and end with what the facts say; a question is found right and another wrong."""
    for held in (False, True):
        for one in LOOKUPS.questions(8, held, random.Random(0), (kind,)):
            steps = read_plan(plan_text(one.plan), TOOLS)
            made, way = work(steps, TOOLS), [rewoo.run(TOOLS, call) for _, call in one.steps]
            assert way[-1].reply == one.question.answer and all(call.ok for call in way)
            if kind == "job":
                ages = [int(made[n].reply) for n in (1, 2)]
                assert made[3 + (ages[1] > ages[0])].reply == one.question.answer
                assert made[5].reply == way[2].reply == str(ages[0] - ages[1]) and len(way) == 4
            else:
                assert made[len(steps)].reply == one.question.answer and len(way) == len(steps)
            assert one.question.answer == one.question.response
            assert one.question.check(Response(one.question.response, None, True)) == (True, True)
            assert not one.question.check(Response("I cannot say.", None, True)).right
            waits = critical_path(steps, {step.number: 1.0 for step in steps})[0]
            assert (waits == len(steps)) == (kind in CHAINS)
            asked = [name for name in TOWN.fame if name in one.question.prompt]
            assert all(LOOKUPS.is_held_out(name) == held for name in asked)


def test_lookups_say_what_is_wrong():
    with pytest.raises(ValueError, match="kind is 'youngest': give one of older"):
        LOOKUPS.draw("youngest", False, random.Random(0))
    with pytest.raises(ValueError, match="town is with 120 people"):
        Lookups(TOWN, set(TOWN.fame))
    few = Lookups(TOWN)
    few.people[True] = few.people[True][:2]
    with pytest.raises(ValueError, match="n is 3: there are only [12] of kind 'older'"):
        few.questions(3, True, random.Random(0), ("older",))


# --- pictures -------------------------------------------------------------------------------------


def test_bars_find_their_lanes():
    bars = [Bar("plan", "model", 0, 2), Bar("a", "record", 1, 3, 1), Bar("b", "record", 2, 4, 2),
            Bar("c", "calculator", 3, 5, 3, (1,), False), Bar("answer", "model", 5, 6)]
    assert plans.lanes(bars) == [0, 1, 2, 3, 0] and plans.at_once(bars) == 2
    picture = plans.draw({"a run": bars, "another": bars[:2]})
    assert "a run takes 6.00 seconds with 3 calls, 1 of them failed, at most 2 at once" in picture.alt
    assert "another takes 3.00 seconds with 1 call, at most 1 at once" in picture.alt
    assert "  3.00 to   5.00  #3 c, failed" in plans.text({"a run": bars})
    for runs, said in (({}, "runs is empty"), ({"a": []}, r"runs\['a'\] is empty")):
        with pytest.raises(ValueError, match=said):
            plans.draw(runs)
    steps = read_plan(OLDER, TOOLS)
    assert "s1 --> s3" in plans.mermaid(steps) and "s1 --> s2" not in plans.mermaid(steps)
