# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Exercises 18. Plans
#
# Four exercises to chapter 18, about 80 minutes. The first three ask for one short function each; in the last you write a test that finds races. `check("NAME", function)` says what is wrong and on which small input it shows. `hint("NAME")` opens one hint at a time. `status()` says where you are.
#
# The words are the chapter's: a plan has one step a line, such as `#3 = calculator(#1-#2)`. What comes after the `=` is the step's call, `#3` is the variable that its reply becomes, and a step names variables of earlier steps alone. Shapes: K steps.

# %%
import re

import torch

from grader import check, hint, status

# %% [markdown]
# ## 1. Read a plan
#
# `read-a-plan` · difficulty ★☆☆ · 15 minutes
#
# A planner wrote a plan, and some replies have come. Which steps must each step wait for, and what is its call by now?
#
# - `plan`: a list of K texts, the lines. Line k begins with `#k = `. The call comes after the first ` = `, and may hold another one.
# - `replies`: a list of texts: the replies to the first steps of the plan, in its order. There may be fewer than K, or none.
# - returns a list of K pairs `(needs, call)`. `needs` is the list of the numbers of the steps whose variables the call names, from small to large, each once. `call` is the call's text, in which each variable whose reply is there has become that reply, as it is. A variable whose reply is not there stays.
#
# A reply is text that somebody else wrote. It may hold a `#1`, a backslash or a `=`, and must not be read as a part of the plan.
#
# An example. `plan = ["#1 = record(Ada Moss, age)", "#2 = record(Tom Reed, age)", "#3 = calculator(#2-#1)"]` and `replies = ["52"]` give `[([], "record(Ada Moss, age)"), ([], "record(Tom Reed, age)"), ([1, 2], "calculator(#2-52)")]`.

# %% tags=["exercise"]
# exercise: read-a-plan
def read_plan(plan, replies):
    """plan: a list of lines, replies: a list of texts -> a list of (needs, call), a pair for each line."""
    ### BEGIN SOLUTION
    def reply_of(variable):
        n = int(variable[1])
        return replies[n - 1] if n <= len(replies) else variable[0]

    steps = []
    for line in plan:
        call = line.split(" = ", 1)[1]
        needs = sorted({int(digits) for digits in re.findall(r"#([0-9]+)", call)})
        steps.append((needs, re.sub(r"#([0-9]+)", reply_of, call)))
    return steps
    ### END SOLUTION

# %%
# NBVAL_CHECK_OUTPUT
check("read-a-plan", read_plan)

# %% [markdown]
# ## 2. How long a plan takes
#
# `critical-path` · difficulty ★★☆ · 15 minutes
#
# The planner writes for some seconds. Then the calls are made. If there is a worker for each call, a step starts as soon as the last reply that it needs has come, and ends its own seconds later; nothing else makes it wait. When is the last reply there? And when, if one worker makes the calls one after another, without a pause?
#
# - `needs` (K, K), bool: `needs[k, j]` is True where step k needs the reply to step j. Such a j is always smaller than k.
# - `seconds` (K,): how long each call takes.
# - `planning` (): how long the planner writes. No call is made before the plan is written.
# - returns (2,): the seconds from the question to the last reply, with unlimited workers and with one.
#
# An example. Steps 0 and 1 take 2 and 3 seconds and need nothing. Step 2 takes 1 second and needs both. The planner writes for half a second. The answer is 4.5 and 6.5.

# %% tags=["exercise"]
# exercise: critical-path
def plan_seconds(needs, seconds, planning):
    """needs (K, K) bool, seconds (K,), planning () -> (2,): with unlimited workers, and with one."""
    ### BEGIN SOLUTION
    ends = []
    for k, own in enumerate(seconds.tolist()):
        inputs = [end for end, needed in zip(ends, needs[k]) if needed]
        ends.append(max(inputs, default=0.0) + own)
    return planning + torch.tensor([max(ends), sum(seconds.tolist())])
    ### END SOLUTION

# %%
# NBVAL_CHECK_OUTPUT
check("critical-path", plan_seconds)

# %% [markdown]
# ## 3. Who waits for a worker
#
# `who-waits` · difficulty ★★★ · 20 minutes
#
# There are fewer workers than calls. A worker makes one call at a time. The plan is written, and the clock begins at 0.
#
# - A step can start when the replies to all steps that it needs have come.
# - Whenever a worker is free and steps can start, the one of these that comes first in the plan starts. Nobody waits for a step that cannot start yet.
# - At one moment, all calls that end then end first. Their replies are there, and their workers are free, before any step starts at that moment.
#
# It takes:
#
# - `needs` (K, K), bool: `needs[k, j]` is True where step k needs the reply to step j, with j smaller than k.
# - `seconds` (K,): how long each call takes, more than 0.
# - `workers` (), a whole number, 1 or more.
# - returns (2, K): in row 0 when each step starts, in row 1 when it has ended.
#
# An example with 2 workers. Steps 0 and 1 take 2 and 1 seconds and need nothing. Step 2 takes 1 second and needs step 0, and step 3 takes 2 seconds and needs nothing. At 0 the steps 0 and 1 start. At 1 a worker is free: step 2 cannot start yet, so step 3 does. At 2 step 0 has ended, and step 2 starts. It ends at 3, and so does step 3.

# %% tags=["exercise"]
# exercise: who-waits
def who_waits(needs, seconds, workers):
    """needs (K, K) bool, seconds (K,), workers () -> (2, K): when each step starts, and when it has ended."""
    ### BEGIN SOLUTION
    start = torch.full_like(seconds, torch.inf)
    end, now = start.clone(), 0.0
    while start.isinf().any():
        for k in range(len(seconds)):
            running = ((start <= now) & (now < end)).sum()
            inputs_there = (end[needs[k]] <= now).all()
            if start[k].isinf() and inputs_there and running < workers:
                start[k], end[k] = now, now + seconds[k]
        now = end[end > now].min()
    return torch.stack([start, end])
    ### END SOLUTION

# %%
# NBVAL_CHECK_OUTPUT
check("who-waits", who_waits)

# %% [markdown]
# ## 4. A test that finds the race
#
# `find-the-race` · difficulty ★★★ · 30 minutes
#
# A race is a bug that shows only if replies come in a certain order. With real tools it comes and goes, and the test that was green yesterday is red today. So let the test decide when each reply comes. Somebody hands you a function
#
# ```python
# runner(plan, tool, seconds)    # -> the replies, a list of K
# ```
#
# `plan` is a list of K lines such as `#1 = ask(a)`, at most 20. `tool` is a function that you write: it is given the text of a call, such as `"ask(a)"`, and returns a text, its reply, or raises. `seconds` is a list of K whole numbers from 1 to 60: the reply to step k comes so many seconds after its call, on a clock that the runner counts by itself. Nothing really waits. There is a worker for every step. It claims this:
#
# - Each variable of a call becomes the reply to the step of its number, whatever that says, and nothing else in the call changes.
# - A step is called when the last reply that it needs has come; one that needs none is called at 0. At one moment, all replies that come then come first. Then all steps that can start are called, the plan's first one first.
# - No step is called twice, even if another one has the same text.
# - What comes back has a place for each step, in the plan's order: its reply as it came, be it `""`.
# - A step whose call raises has None in its place. So has every step that needs it, directly or through others, and these are never called. All other steps go on. The runner itself raises nothing.
#
# Write `is_right(runner)`: run plans with tools of your own, and return True or False. A tool can keep a list of what it was asked. If a run raises, the runner is wrong: catch it, and return False. The check hands your test twenty-six functions, one at a time: six are right, written in different ways; twenty have a bug each.

# %% tags=["exercise"]
# exercise: find-the-race
def is_right(runner):
    """runner: (plan, tool, seconds) -> the replies. True if it is as claimed."""
    ### BEGIN SOLUTION
    def run(calls, seconds, answers):
        """What comes back, and what the tool was asked, in order; a call without an answer raises."""
        asked = []

        def tool(text):
            asked.append(text)
            return answers[text]

        plan = [f"#{n} = {call}" for n, call in enumerate(calls, 1)]
        return runner(plan, tool, seconds), asked

    two = ["a()", "b()", "c(#1, #2)"]
    answers = {"a()": "7", "b()": "", "c(7, )": "1"}
    steps = [f"a({n})" for n in range(11)]
    many = {f"a({n})": f"r{n}" for n in range(11)} | {"b(r0-r10)": "x"}
    said = {"a()": "see #1", "b(see #1)": "x"}
    late = {"a()": "1", "b()": "2", "c(2)": "3", "d(1)": "4", "e(3)": "5", "f(4)": "6"}
    chains = ["a()", "b()", "c(#2)", "d(#1)", "e(#3)", "f(#4)"]
    fails = {"a()": "1", "d(1)": "4"}
    expected = [
        (two, [5, 1, 1], answers, ["7", "", "1"], ["a()", "b()", "c(7, )"]),
        (two, [2, 2, 1], answers, ["7", "", "1"], ["a()", "b()", "c(7, )"]),
        (["a()", "a()"], [1, 3], answers, ["7", "7"], ["a()", "a()"]),
        ([*steps, "b(#1-#11)"], [1] * 12, many, [*many.values()], [*many]),
        (["a()", "b(#1)"], [1, 1], said, ["see #1", "x"], [*said]),
        (chains, [2, 5, 1, 4, 9, 9], late, ["1", "2", "3", "4", "5", "6"],
         ["a()", "b()", "d(1)", "c(2)", "e(3)", "f(4)"]),
        (["a()", "no()", "b(#2)", "d(#1)", "c(#3)"], [1] * 5, fails, ["1", None, None, "4", None],
         ["a()", "no()", "d(1)"])]
    for calls, seconds, answers, back, asked in expected:
        try:
            if run(calls, seconds, answers) != (back, asked):
                return False
        except Exception:
            return False
    return True
    ### END SOLUTION

# %%
# NBVAL_CHECK_OUTPUT
check("find-the-race", is_right)

# %%
# NBVAL_CHECK_OUTPUT
status()
