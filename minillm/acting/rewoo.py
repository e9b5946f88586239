"""ReWOO: plan first, call after, answer last. A plan's lines name one another's results.

    question    How many years older is Ada Moss than Ben Reed?
    the model   #1 = record(Ada Moss, age)
                #2 = record(Ben Reed, age)
                #3 = calculator(#1-#2)
    workers     #1 = record(Ada Moss, age): 61
                #2 = record(Ben Reed, age): 47
                #3 = calculator(61-47): 14
    the model   Ada Moss is 14 years older than Ben Reed.

The model is asked twice, whatever the number of calls, and sees no reply before the plan is done. A plan is
data: it is read, checked and never run as code. What a reply puts into a later call stays inside a text
argument: it can neither name another tool nor add an argument. Source: Xu et al. 2023 (ReWOO), where the two
are called planner and solver.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch

from ..expect import expect, expect_whole
from ..sample import ROWS, sample
from ..tokenizer import Response, Tokenizer
from .tools import LONGEST, SECONDS, Call, Made, Tool, by_name, call_text, read_call, run, shown, to_json

MOST = 12                       # steps of a plan
PLAN, SOLVE = "Plan: ", "Solve: "
LINE = re.compile(r"#([1-9][0-9]{0,2}) *= *(.*)")
VARIABLE = re.compile(r"#([0-9]+)")


class Step(NamedTuple):
    """A line of a plan. call: its arguments may hold variables, such as #1; needs: their numbers.

    text: the call as it was written.
    """

    number: int
    call: Call
    text: str
    needs: tuple[int, ...]

    @property
    def line(self) -> str:
        return f"#{self.number} = {self.text}"


# --- a plan ---------------------------------------------------------------------------------------


def read_plan(text: str, tools: Sequence[Tool] | dict[str, Tool], known: Iterable[int] = ()) -> list[Step]:
    """The steps of a plan, in the order of its lines. known: numbers of results that are already there.

    ValueError for a line of another form, a call that its tool does not take, a number that is given twice, a
    variable that no earlier line gives, and more than MOST steps. So each step needs earlier ones alone, and
    no circle can be written. A variable stands inside a text argument.
    """
    tools = tools if isinstance(tools, dict) else by_name(tools)
    expect(isinstance(text, str), "plan", type(text).__name__, "give a text")
    expect(len(text) <= LONGEST, "plan", f"{len(text)} characters long", f"give at most {LONGEST}")
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    expect(1 <= len(lines) <= MOST, "plan", f"of {len(lines)} steps", f"give 1 to {MOST}")
    given, steps = set(known), []
    for line in lines:
        form = LINE.fullmatch(line)
        expect(form is not None, "plan", f"with the line {shown(line)}", "write each as #1 = tool(argument)")
        number = int(form[1])
        expect(number not in given, f"#{number}", "given twice", "give each line a number of its own")
        try:
            call = read_call(form[2], tools)
        except ValueError as error:
            raise ValueError(f"#{number}: {error}") from None
        needs = tuple(sorted(set(_variables(list(call.arguments.values())))))
        for n in needs:
            expect(n in given, f"#{n} in #{number}", "not there yet", "use what an earlier line gives")
        steps.append(Step(number, call, form[2], needs))
        given.add(number)
    return steps


def plan_text(calls: Sequence[str], first: int = 1) -> str:
    """Calls as a plan, numbered from `first` on: plan_text(["record(Ada Moss, age)"]) is
    "#1 = record(Ada Moss, age)"."""
    return "\n".join(f"#{number} = {call}" for number, call in enumerate(calls, first))


def fill(step: Step, replies: Mapping[int, str]) -> Call:
    """The step's call with a reply for each variable. A reply that holds "#1" itself is not filled again."""
    for n in step.needs:
        expect(n in replies, f"#{n}", "missing", f"run it before #{step.number}")

    def put(value):
        if isinstance(value, list):
            return [put(v) for v in value]
        return VARIABLE.sub(lambda form: replies[int(form[1])], value) if isinstance(value, str) else value

    return Call(step.call.name, {name: put(value) for name, value in step.call.arguments.items()})


def again(steps: Sequence[Step], made: Mapping[int, Made]) -> str:
    """A plan for what went wrong: the steps that failed, and those that waited for them, under new numbers.

    Steps that went well are not run again: their results are named. "" where nothing failed.
    """
    new = max((step.number for step in steps), default=0)
    names: dict[int, int] = {}
    lines = []
    for step in steps:
        if not made[step.number].ok:
            new += 1
            names[step.number] = new
            text = VARIABLE.sub(lambda form: f"#{names.get(int(form[1]), int(form[1]))}", step.text)
            lines.append(f"#{new} = {text}")
    return "\n".join(lines)


def _variables(values) -> Iterable[int]:
    for value in values:
        if isinstance(value, list):
            yield from _variables(value)
        elif isinstance(value, str):
            yield from (int(n) for n in VARIABLE.findall(value))


# --- workers --------------------------------------------------------------------------------------


def make(step: Step, made: Mapping[int, Made], tools: dict[str, Tool], seconds: float = SECONDS) -> Made:
    """The step's call, with the replies that it needs put in.

    It is not made where one of these failed: it fails as well, and costs no time. Nothing is raised.
    """
    failed = [n for n in step.needs if not made[n].ok]
    if failed:
        return Made(step.text, None, f"error: #{failed[0]} failed", False, 0.0)
    call = fill(step, {n: made[n].reply for n in step.needs})
    # As JSON: a bracket or a comma in a reply cannot end an argument.
    return replace(run(tools, to_json(call), seconds), text=call_text(call, tools[call.name]))


def work(steps: Sequence[Step], tools: dict[str, Tool], before: Mapping[int, Made] | None = None,
         seconds: float = SECONDS) -> dict[int, Made]:
    """Every step's call, one after another, by number. before: results that are already there."""
    made = dict(before or {})
    for step in steps:
        made[step.number] = make(step, made, tools, seconds)
    return {step.number: made[step.number] for step in steps}


def evidence(steps: Sequence[Step], made: Mapping[int, Made]) -> str:
    """What came back, a line a step: "#3 = calculator(61-47): 14"."""
    found = [(step.number, made[step.number]) for step in steps]
    text = "\n".join(f"#{number} = {one.text}: {' '.join(one.reply.split())}" for number, one in found)
    return text.encode("utf-8", "replace").decode()


# --- planner and solver ---------------------------------------------------------------------------


def plan_prompt(question: str, before: str = "") -> str:
    """What the planner is asked. before: the evidence so far, where something failed and it plans again."""
    return PLAN + question + ("\n" + before if before else "")


def solve_prompt(question: str, found: str) -> str:
    """What the solver is asked: the question, and all the evidence."""
    return f"{SOLVE}{question}\n{found}"


@dataclass
class Round:
    """A plan and what came of it. prompt: tokens that the planner read; ends: of each step, how many tokens
    were written when its line was complete; written: all tokens. error: why the plan could not be read."""

    text: str
    steps: list[Step]
    made: dict[int, Made]
    prompt: int
    written: int
    ends: dict[int, int]
    error: str = ""


@dataclass
class Planned:
    """A question, its rounds (one without replanning), and the answer. solver: (tokens read, tokens written).

    A plan that cannot be read ends the rounds; the solver then sees what is there.
    """

    question: str
    rounds: list[Round] = field(default_factory=list)
    answer: Response = Response("", None, False)
    solver: tuple[int, int] = (0, 0)

    @property
    def steps(self) -> list[Step]:
        return [step for r in self.rounds for step in r.steps]

    @property
    def made(self) -> dict[int, Made]:
        return {number: made for r in self.rounds for number, made in r.made.items()}

    @property
    def failed(self) -> bool:
        """Whether a step of the last plan failed."""
        return bool(self.rounds) and any(not made.ok for made in self.rounds[-1].made.values())

    @property
    def calls(self) -> int:
        """Calls that were made: a step that waited for a failed one made none."""
        return sum(made.call is not None for made in self.made.values())

    @property
    def requests(self) -> list[tuple[int, int]]:
        """(tokens read, tokens written) each time that the model was asked."""
        return [(r.prompt, r.written) for r in self.rounds] + [self.solver]

    @property
    def evidence(self) -> str:
        return evidence(self.steps, self.made)


Tools = Sequence[Tool] | Callable[[], Sequence[Tool]]


@torch.no_grad()
def rewoo(model, tokenizer: Tokenizer, questions: Sequence[str], tools: Tools, *, room: int = 128,
          answer_room: int = 64, seconds: float = SECONDS) -> list[Planned]:
    """A plan for each question, its calls one after another, and an answer; greedy.

    tools: functions, or a function that makes them anew for each question. room, answer_room: tokens of a
    plan, of an answer. ValueError for a tool that cannot be called; no error of a tool reaches the caller.
    """
    return answered(model, tokenizer, questions, tools, work, 0, room, answer_room, seconds)


def demonstrate(tokenizer: Tokenizer, question: str, plans: Sequence[str], answer: str, tools: Sequence[Tool],
                thought: str | None = None, worker: Callable = work) -> Planned:
    """A run with plans and an answer that somebody wrote: to learn from, or to run again what a model wrote.

    plans: one, and one more for each time that it was planned again. The tools are asked now. `pairs` makes
    (x, y) of it. ValueError for a plan that cannot be read.
    """
    expect(not isinstance(plans, str), "plans", "one text", "give a list")
    run_, tools = Planned(question), by_name(tools)
    for text in plans:
        read_plan(text, tools, known=run_.made)
        prompt = tokenizer.prompt(plan_prompt(question, run_.evidence))
        ids = tokenizer.response(text)
        run_.rounds.append(_round(tokenizer, ids, len(prompt), run_, tools, worker, SECONDS))
    run_.answer = Response(answer, thought, True)
    run_.solver = (len(tokenizer.prompt(solve_prompt(question, run_.evidence))),
                   len(tokenizer.response(answer, thought)))
    return run_


def pairs(tokenizer: Tokenizer, demonstration: Planned) -> list[tuple[list[int], list[int]]]:
    """(x, y) of each request of a run: the plans, in order, then the answer. F = 1 on each."""
    found, so_far = [], Planned(demonstration.question)
    for one in demonstration.rounds:
        x = plan_prompt(so_far.question, so_far.evidence)
        found.append((tokenizer.prompt(x), tokenizer.response(one.text)))
        so_far.rounds.append(one)
    x, y = solve_prompt(so_far.question, so_far.evidence), demonstration.answer
    return [*found, (tokenizer.prompt(x), tokenizer.response(y.text, y.thought))]


def answered(model, tokenizer: Tokenizer, questions: Sequence[str], tools: Tools, worker: Callable,
             replans: int, room: int, answer_room: int, seconds: float) -> list[Planned]:
    """What `rewoo` and `compiler.compiled` share. worker(steps, tools, before, seconds) runs a plan's steps;
    replans: how often a plan may be made for what failed."""
    expect(not isinstance(questions, str), "questions", "one text", "give a list")
    expect(len(questions) > 0, "questions", "empty", "give at least one")
    expect_whole(0, replans=replans)
    expect_whole(1, room=room, answer_room=answer_room)
    runs = [Planned(question) for question in questions]
    kits = [by_name(tools() if callable(tools) else tools) for _ in runs]
    going = list(range(len(runs)))
    for _ in range(replans + 1):
        prompts = [plan_prompt(runs[i].question, runs[i].evidence) for i in going]
        for i, (prompt, ids) in zip(going, written(model, tokenizer, prompts, room)):
            runs[i].rounds.append(_round(tokenizer, ids, len(prompt), runs[i], kits[i], worker, seconds))
        going = [i for i in going if runs[i].failed and not runs[i].rounds[-1].error]
        if not going:
            break
    prompts = [solve_prompt(one.question, one.evidence) for one in runs]
    for one, (prompt, ids) in zip(runs, written(model, tokenizer, prompts, answer_room)):
        one.answer, one.solver = tokenizer.read_response(ids), (len(prompt), len(ids))
    return runs


def written(model, tokenizer: Tokenizer, texts: Sequence[str],
            room: int) -> list[tuple[list[int], list[int]]]:
    """(x, y) as ids for each text, greedily. A text that leaves no room for an answer gets an empty one."""
    prompts = [tokenizer.prompt(text) for text in texts]
    context = model.config.context
    answers: list[list[int]] = [[] for _ in prompts]
    rooms = [min(room, context - len(prompt)) for prompt in prompts]
    for most in sorted({r for r in rooms if r > 0}):
        some = [i for i, r in enumerate(rooms) if r == most]
        for k in range(0, len(some), ROWS):
            part = some[k:k + ROWS]
            batch = sample(model, [prompts[i] for i in part], most, temperature=0.0, end=tokenizer.end)
            for i, ids in zip(part, batch.responses()):
                answers[i] = ids
    return list(zip(prompts, answers))


def _round(tokenizer, ids: list[int], read: int, so_far: Planned, tools: dict[str, Tool], worker: Callable,
           seconds: float) -> Round:
    """A plan that was just written: read, run, and counted."""
    text = tokenizer.read_response(ids).text
    before = so_far.made
    try:
        steps = read_plan(text, tools, known=before)
    except ValueError as error:
        return Round(text, [], {}, read, len(ids), {}, str(error))
    ends, lines = {}, line_ends(tokenizer, ids)
    for step, end in zip(steps, [end for end, line in lines if line.strip()]):
        ends[step.number] = end
    return Round(text, steps, worker(steps, tools, before, seconds), read, len(ids), ends)


def line_ends(tokenizer: Tokenizer, ids: Sequence[int]) -> list[tuple[int, str]]:
    """(tokens written when it was complete, the line) for each line of what was written, the end token with
    the last."""
    found, seen = [], ""
    for t in range(1, len(ids) + 1):
        text = tokenizer.decode(ids[:t])
        if text.endswith("\n") or t == len(ids):
            found.append((t, text[len(seen):]))
            seen = text
    return found
