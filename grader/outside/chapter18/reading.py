"""read-a-plan: which variables each step of a plan names, its call with replies in it, and ways to err."""

from __future__ import annotations

import re
from types import SimpleNamespace

import numpy as np

from ...inside.texts import as_bytes, as_row, as_texts, call_for_steps, read_row
from ..judge import Case, Check, Misconception as M

VARIABLE = re.compile(r"#([0-9]+)")
PEOPLE = ("Ada Moss", "Tom Reed", "Eva Lark", "Ben Hale", "Ivy Stone", "Max Thorn", "Una Ford", "Leo Finch")


def numbered(calls):
    """The lines of a plan with these calls."""
    return [f"#{n} = {call}" for n, call in enumerate(calls, 1)]


def draw_plan(rng, k, kind="plain"):
    """plan and replies, as bytes. The replies are those to the first steps, and no two are alike.

    kind "plain": calls name one or two variables, from small to large, and all replies are there. "many":
    12 steps or more, the last of which name #1, #9, #10 or later ones; in every other draw the replies stop
    before #10. "turned": a variable with a larger number comes first. "twice": one is named twice. "early":
    replies are missing. "says": replies hold a #, a backslash or a =. "equals": so does what is asked.
    """
    people = rng.permutation(PEOPLE).tolist()
    look = [f"record({person}, age)" for person in people]
    ages = rng.permutation(np.arange(13, 99)).tolist()
    x, y = ages[-1], ages[-2]
    if kind == "plain":
        calls = ([look[0], f"calculator(#1+{x})"], [look[0], "calculator(#1*2)", f"calculator({x}-#2)"],
                 [*look[:2], "calculator(#1-#2)"], [*look[:2], "calculator(#1-#2)", f"calculator(#3*{x})"],
                 [*look[:2], "calculator(#2*2)", "calculator(#1+#3)", f"calculator({x}-#4)"],
                 [*look[:3], "calculator(#1+#2)", "calculator(#3-#4)"])[k]
        done = len(calls) - 1
    elif kind == "many":
        calls = [*look, "calculator(#1+#2)", "calculator(#9-#3)", "calculator(#10+#4)",
                 "calculator(#1+#11)", "calculator(#9+#10)", "calculator(#12*2)"][:12 + k % 3]
        calls[-1] = ("calculator(#1+#10)", "calculator(#11-7)", "calculator(#2-#12)")[k % 3]
        done = len(calls) - 1 if k % 2 else 3 + k
    elif kind == "turned":
        calls = [*look[:2], ("calculator(#2-#1)", "between(#2, #1)")[k % 2]]
        done = 2
    elif kind == "twice":
        calls = [look[0], ("calculator(#1*#1)", f"calculator(#1*#1-{x})", "between(#1, #1)")[k % 3]]
        calls += [look[1], "calculator(#2+#3-#2)"] if k > 1 else []
        done = len(calls) - 1
    elif kind == "early":
        calls = [*look[:2 + k % 2], "calculator(#1-#2)", "calculator(#3*2)", "calculator(#1-7)"][:4 + k % 2]
        done = k % 3
    elif kind == "says":
        calls = [*look[:2], "between(#1, #2)"] if k < 3 else [*look[:3], "between(#1, #2)", "between(#3, #4)"]
        done = len(calls) - 1
    else:
        calls = ([f"note(age = {x})"], [look[0], "note(age = #1)"],
                 [*look[:2], f"note(#1 = #2 = {y})"])[k]
        done = len(calls) - 1
    replies = [str(age) for age in ages[:done]]
    if kind == "says":
        replies[:2] = [(f"house #2, {x}", str(y)), (f"room #1, {x}", f"door #1, {y}"),
                       (rf"{x}\n{y}", rf"\g<0>{x}"), (f"row #4, {x}", f"#3 = {y}")][k]
        # what a reply names has a reply too, and the second names the first
        replies[1] = f"door #1, {y}" if k == 0 else replies[1]
    return {"plan": as_bytes(numbered(calls)), "replies": as_bytes(replies)}


# --- ways to read ---------------------------------------------------------------------------------


def after_the_sign(line):
    """The call of a line: all after its first " = "."""
    return line.split(" = ", 1)[1]


def named(call, line, before):
    """The numbers of the variables in a call, from small to large, each once."""
    return sorted(set(map(int, VARIABLE.findall(call))))


def at_once(call, replies, start=1, missing=None, variable=VARIABLE):
    """Each variable becomes its reply, all in one go; without one it stays, or becomes `missing`.

    start: the number of the first reply.
    """
    def reply(found):
        at = int(found[1]) - start
        there = 0 <= at < len(replies)
        return replies[at] if there else found[0] if missing is None else missing
    return variable.sub(reply, call)


def one_by_one(call, replies, backwards=False, whole=False, count=0):
    """One variable after the other: #1 first, or last. whole: not where another digit comes after it.

    count: of each variable so many, and all for 0.
    """
    order = range(len(replies), 0, -1) if backwards else range(1, len(replies) + 1)
    for n in order:
        call = re.sub(f"#{n}" + r"(?![0-9])" * whole, lambda _, n=n: replies[n - 1], call, count=count)
    return call


def as_template(call, replies, at_once=True):
    """A reply is taken for a template, in which a backslash means something."""
    if at_once:
        return VARIABLE.sub(lambda found: found.expand(replies[int(found[1]) - 1])
                            if int(found[1]) <= len(replies) else found[0], call)
    for n in range(len(replies), 0, -1):
        call = re.sub(rf"#{n}(?![0-9])", replies[n - 1], call)
    return call


def steps(i, needs=named, fill=at_once, cut=after_the_sign):
    """The rows of a plan's steps, and ways to get them wrong.

    needs: of a call, its line and all calls before, the numbers. fill: of a call and the replies, the text.
    cut: of a line, the call.
    """
    replies, before, rows = as_texts(i.replies), [], []
    for line in as_texts(i.plan):
        call = cut(line)
        rows.append(as_row(needs(call, line, before), fill(call, replies)))
        before.append(call)
    return np.stack(rows)


def in_text(call, line, before):
    """Each number whose sign is somewhere in the call: #1 is in #12."""
    return [n for n in range(1, len(before) + 1) if f"#{n}" in call]


def and_theirs(call, line, before):
    """What a call names, and what that names in its turn."""
    found = set(named(call, line, before))
    for n in sorted(found, reverse=True):
        found |= set(and_theirs(before[n - 1], "", before[:n - 1]))
    return sorted(found)


def read(rows):
    """The pairs (needs, call) of rows."""
    return [read_row(row) for row in rows]


def own_numbers(i, o, which):
    """Whether a test of (needs, call, reply texts, own call) holds of each step of what came back."""
    replies, lines = as_texts(i.replies), as_texts(i.plan)
    return all(which(needs, call, replies, after_the_sign(line))
               for (needs, call), line in zip(read(o.result), lines))


def waits_where_it_must(needs, call, replies, own):
    """Whether each variable without a reply is still in the call."""
    return all(f"#{n}" in call for n in VARIABLE.findall(own) if int(n) > len(replies))


def list_of_texts(name, array):
    """Lines of code that make a list of texts: one, or one for each text where that is too long."""
    texts = as_texts(array)
    line = f"{name} = {texts}"
    return [line] if len(line) < 90 else [f"{name} = [", *(f"    {text!r}," for text in texts), "]"]


def shown(trial, outputs):
    """The lists of an input, ready to be pasted, and what became of the first step that is wrong."""
    lines = [f"    {line}" for name in ("plan", "replies")
             for line in list_of_texts(name, trial.inputs[name])]
    if outputs is None:
        return lines
    got, wanted = outputs.result, steps(SimpleNamespace(**trial.inputs))
    if got.shape != wanted.shape:
        return [*lines, f"Steps that came back: {len(got)}; wanted: {len(wanted)}."]
    off = np.flatnonzero((got != wanted).any(1))
    if len(off):
        lines.append(f"Wrong in {len(off)} of {len(got)} steps. Step {off[0] + 1} became "
                     f"{read_row(got[off[0]])}.")
    return lines


BY_TURNS = "one variable after the other"
BY_TURNS_TEXT = ("Variables are put in one after the other, by replace. So #1 is also found inside #12, and "
                 "in what another reply says, whichever comes first. Put all in at once.")
AGAIN = "a reply is read again"
AGAIN_TEXT = ("Variables are put in one after the other, and what an earlier reply says is searched too. A "
              "reply is text: what looks like a variable in it is none.")

READ_A_PLAN = Check(
    name="read-a-plan", title="Read a plan", minutes=15, difficulty=1,
    function="read_plan", arguments=("plan", "replies"), compared="the steps",
    call=call_for_steps, shown=shown,
    learned="You have what turns a plan into calls: it says what each step waits for, and puts in what has "
            "come, and nothing that a reply says can change the plan.",
    task="for each step the numbers of the variables that its call names, from small to large, each once, "
         "and the call with the replies in it that are there.",
    hints=(
        'A line is cut in two at its first " = ", and what comes after that is the call. '
        'line.split(" = ", 1) cuts once and no more.',
        'A variable is a # and all digits after it. re.findall(r"#([0-9]+)", call) gives the digits, as '
        "texts. Make numbers of them before you sort them.",
        'Put all in at once: re.sub(r"#([0-9]+)", reply_of, call) calls your function reply_of(match) for '
        "each variable of the call, and what it gives is not searched again. match[1] is the digits, and "
        "match[0] the whole variable, for the case that no reply is there."),
    expected=steps,
    cases=(
        Case("a step needs the variables that its call names, and the call has their replies in their place.",
             draw_plan),
        Case("a variable ends where its digits end: #12 is neither #1 nor #2.",
             lambda rng, k: draw_plan(rng, k, "many"),
             lambda i, o: [needs for needs, _ in read(o.result)] == [n for n, _ in read(steps(i))], draws=6),
        Case("numbers go from small to large, in whatever order the call names them.",
             lambda rng, k: draw_plan(rng, k, "turned"),
             lambda i, o: all(needs == sorted(needs) for needs, _ in read(o.result)), draws=2),
        Case("a variable that is named twice is one number, and is put in at both places.",
             lambda rng, k: draw_plan(rng, k, "twice"),
             lambda i, o: own_numbers(i, o, lambda needs, call, *_: len(needs) == len(set(needs))
                                      and "#" not in call), draws=4),
        Case("a variable whose reply is not there yet stays as it is.",
             lambda rng, k: draw_plan(rng, k, "early"),
             lambda i, o: own_numbers(i, o, waits_where_it_must), draws=6),
        Case("a reply is put in as it is, whatever it says.", lambda rng, k: draw_plan(rng, k, "says"),
             lambda i, o: all(reply in read(o.result)[2 if len(as_texts(i.plan)) == 3 else 3][1]
                              for reply in as_texts(i.replies)[:2]), draws=4),
        Case("the first = of a line ends its name; later ones belong to the call.",
             lambda rng, k: draw_plan(rng, k, "equals"),
             lambda i, o: own_numbers(i, o, lambda needs, call, replies, own: call.count("=")
                                      == own.count("=")), draws=3)),
    misconceptions=(
        M(BY_TURNS, BY_TURNS_TEXT, lambda i: steps(i, fill=one_by_one)),
        M(BY_TURNS, BY_TURNS_TEXT, lambda i: steps(i, in_text, one_by_one)),
        M(BY_TURNS, BY_TURNS_TEXT, lambda i: steps(i, fill=lambda *x: one_by_one(*x, backwards=True))),
        M(BY_TURNS, BY_TURNS_TEXT, lambda i: steps(i, in_text, lambda *x: one_by_one(*x, backwards=True))),
        M("#1 found inside #12",
          "Each variable was looked for in the call, and #1 is also the beginning of #12. A variable ends "
          "where its digits end.",
          lambda i: steps(i, in_text)),
        M("one digit alone",
          "A variable has one digit here, so that #12 is #1 and then a 2. Take all digits.",
          lambda i: steps(i, lambda call, *_: sorted(set(map(int, re.findall("#([0-9])", call)))),
                          lambda *x: at_once(*x, variable=re.compile("#([0-9])")))),
        M(AGAIN, AGAIN_TEXT, lambda i: steps(i, fill=lambda *x: one_by_one(*x, whole=True))),
        M(AGAIN, AGAIN_TEXT, lambda i: steps(i, fill=lambda *x: one_by_one(*x, whole=True, backwards=True))),
        M("at its first place alone",
          "A variable that is named twice was put in once.",
          lambda i: steps(i, fill=lambda *x: one_by_one(*x, whole=True, backwards=True, count=1))),
        M("its own number too",
          "A step's own number is among what it needs. It is the name that its reply will have.",
          lambda i: steps(i, lambda call, line, before: named(line, line, before))),
        M("the line for the call",
          "This is the whole line. The call comes after the =.",
          lambda i: steps(i, lambda call, line, before: named(line, line, before), cut=lambda line: line)),
        M("the line for the call",
          "This is the whole line. The call comes after the =.",
          lambda i: steps(i, lambda call, line, before: named(after_the_sign(line), line, before),
                          cut=lambda line: line)),
        M("cut at a later =",
          "A line was cut at every =, or at the last. What a call asks may hold one too.",
          lambda i: steps(i, cut=lambda line: line.split(" = ")[1])),
        M("cut at a later =",
          "A line was cut at every =, or at the last. What a call asks may hold one too.",
          lambda i: steps(i, cut=lambda line: line.split(" = ")[-1])),
        M("as often as it is named",
          "A variable that is named twice is twice among the numbers. A step waits for it once.",
          lambda i: steps(i, lambda call, *_: sorted(map(int, VARIABLE.findall(call))))),
        M("in the order of the call",
          "The numbers are in the order in which the call names them.",
          lambda i: steps(i, lambda call, *_: list(dict.fromkeys(map(int, VARIABLE.findall(call)))))),
        M("sorted as texts",
          "Texts were sorted, and not numbers: as a text, 10 comes before 9.",
          lambda i: steps(i, lambda call, *_: [int(n) for n in sorted(set(VARIABLE.findall(call)))])),
        M("only what is missing",
          "Only variables without a reply are among the numbers. What a step needs does not change when it "
          "comes.",
          lambda i: steps(i, lambda *x: [n for n in named(*x) if n > len(as_texts(i.replies))])),
        M("only what has come",
          "Only variables that have a reply are among the numbers. A step needs the others too, and waits "
          "for them.",
          lambda i: steps(i, lambda *x: [n for n in named(*x) if n <= len(as_texts(i.replies))])),
        M("what its steps need too",
          "What the named steps need in their turn is among the numbers. When their replies are there, that "
          "was done long ago.",
          lambda i: steps(i, and_theirs)),
        M("any number is a variable",
          "Numbers without a # were taken for variables.",
          lambda i: steps(i, lambda call, *_: sorted(set(map(int, re.findall("[0-9]+", call)))))),
        M("the next reply",
          "A variable became the reply to the step after it. The list's first place is 0, and the plan's "
          "first step 1.",
          lambda i: steps(i, fill=lambda *x: at_once(*x, start=0))),
        M("counted from 0",
          "The numbers are one too small: the plan's first step is #1.",
          lambda i: steps(i, lambda *x: [n - 1 for n in named(*x)])),
        M("nothing for what is missing",
          "A variable without a reply was taken out of the call, or became None. It must stay: it says what "
          "is waited for.",
          lambda i: steps(i, fill=lambda *x: at_once(*x, missing=""))),
        M("nothing for what is missing",
          "A variable without a reply was taken out of the call, or became None. It must stay: it says what "
          "is waited for.",
          lambda i: steps(i, fill=lambda *x: at_once(*x, missing="None"))),
        M("a backslash in a reply",
          "re.sub was given the reply itself, and a backslash in it has a meaning there. Give it a function "
          "that returns the reply.",
          lambda i: steps(i, fill=as_template)),
        M("a backslash in a reply",
          "re.sub was given the reply itself, and a backslash in it has a meaning there. Give it a function "
          "that returns the reply, and put all in at once.",
          lambda i: steps(i, fill=lambda *x: as_template(*x, at_once=False)))))
