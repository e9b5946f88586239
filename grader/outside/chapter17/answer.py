"""The check of chapter 17 on the loop that answers a model's calls."""

from __future__ import annotations

import re

import numpy as np

from ...inside.scripted import call_with_tools, codes, scripted, texts, tools, without_its_words
from ..judge import Case, Check, Misconception as M

CALL, CALL_END = "<call>", "</call>"


def packed(*some):
    """Texts as short codes: (their length,)."""
    found = codes(some)
    return found[:np.flatnonzero(found)[-1] + 1]


def inputs(pieces, question, n):
    """What the driver takes."""
    return {"pieces": packed(*pieces), "asked": packed(question), "most": np.array(n)}


def sum_of(rng):
    """A sum of two numbers below 50."""
    a, b = rng.integers(3, 50, 2)
    return f"{a}+{b}"


def plain(rng, k):
    """One call, or two, and an answer that says what came back."""
    a, b = sum_of(rng), sum_of(rng)
    two = [f"<call>calculator({a})</call>", f" and <call>calculator({b})</call>", " are {} at last."]
    one = [f"{a} is <call>calculator({a})</call>", " {}."]
    return inputs(two if k % 2 else one, f"What is {a}? ", 3)


def no_call(rng, k):
    """An answer without a call; at times it speaks of one, or makes a reply up."""
    a = sum_of(rng)
    said = ("It is late.", f"It is <reply>{a}</reply> {a}.",
            f"I could ask <call>calculator({a}) but will not.", "<reply>3</reply> <call>ticket(",
            "<call>ticket()", f"The word is <reply>calculator({a})</reply>")
    return inputs([said[k % len(said)]], f"What is {a}? ", 2)


def again(rng, k):
    """A tool that says another thing each time; the calls are alike or not."""
    a = sum_of(rng)
    first = "<call>ticket()</call>"
    second = first if k % 2 else f"then <call>calculator({a})</call>"
    return inputs([first, second, "<call>ticket()</call>", " {}."], "Queue. ", 5)


def too_many(rng, k):
    """A model that calls again and again, and n calls at most."""
    pieces = ["<call>ticket()</call>"] * (4 + k) if k % 2 == 0 else [
        f"<call>calculator({sum_of(rng)})</call>" for _ in range(4 + k)]
    return inputs(pieces, "Queue. ", k % 4)


def errors(rng, k):
    """Calls that come to an error, and a model that goes on."""
    a = sum_of(rng)
    bad = ("oven(200)", "clock(now)", "calculator(two)", f"calculator {a}", "calculator(1/0)", "oven()")
    more = f"<call>calculator({a})</call>"
    return inputs([f"<call>{bad[k % 6]}</call>", f" Well, {more}", " {}."], f"What is {a}? ", 3)


def brackets(rng, k):
    """A call whose argument has brackets of its own; at times another was opened before it."""
    a, b = sum_of(rng), sum_of(rng)
    begun = "<call>ticket( or rather " if k % 2 else ""        # a call that was opened, and begun anew
    return inputs([f"{begun}<call>calculator(({a})*({b}))</call>", " {}."], f"({a})*({b})? ", 2)


def not_the_model(rng, k):
    """The question holds a call, or a tool's reply does."""
    a = sum_of(rng)
    if k % 2:
        return inputs(["A letter came: <call>mail()</call>", " Thanks."], "Read my mail. ", 3)
    return inputs([f"No. <call>calculator({a})</call>", " {}."], "Say <call>ticket()</call>", 3)


def run(piece, kit, found=None, end=")"):
    """What comes back of the call at the end of a piece, with its marks."""
    call = piece.rpartition(CALL)[2].removesuffix(CALL_END) if found is None else found
    name, _, argument = call.partition("(")
    argument = argument.removesuffix(")") if end == ")" else argument.partition(")")[0]
    try:
        return f"<reply>{kit[name](argument)}</reply>"
    except Exception:
        return "<reply>error:</reply>"


def written(i, *, most=lambda n: n, reply=run, calls=lambda piece: piece.endswith(CALL_END),
            given="".join, order=lambda piece, said: [piece, said], last=None, marks=True, whole=False):
    """The texts in order, as codes: what is wanted, and ways to get it wrong.

    given: what go_on sees of the parts so far, the question first. last: what is put behind the call that is
    one too many.
    """
    go_on, kit, n = scripted(texts(i.pieces), texts(i.asked)[0]), tools(), int(i.most)
    parts = texts(i.asked)
    made = 0
    for _ in range(40):
        piece = go_on(given(parts))
        if not calls(piece):
            parts.append(piece)
            break
        if made >= most(n):
            parts += [piece, last] if last else [piece]
            break
        said = reply(piece if not whole else "".join([*parts, piece]), kit)
        parts += order(piece, said if marks else said[len("<reply>"):-len("</reply>")])
        made += 1
    return codes(map(without_its_words, parts[1:]))


def first_of_all(text, kit):
    """The reply to the first call in all the text."""
    return run(text, kit, re.search(r"<call>(.*?)</call>", text, re.S)[1] if CALL in text else "")


def said(o):
    """What came back, as texts."""
    return texts(o.result)


def replies(parts):
    """Those that a tool may have written."""
    return [part for part in parts if part.startswith("<reply>") and part.endswith("</reply>")]


def show_texts(trial, outputs):
    """The lines of an input, ready to be pasted, and what came back."""
    pieces, question = texts(trial.inputs["pieces"]), texts(trial.inputs["asked"])[0]
    listed = ",\n                      ".join(map(repr, pieces))
    lines = ["    from grader.inside.scripted import scripted, tools",
             f"    go_on = scripted([{listed}], {question!r})",
             f"    answer(go_on, tools(), {question!r}, {int(trial.inputs['most'])})"]
    return lines if outputs is None else lines + [f"    # gives {texts(outputs.result)}"]


ANSWER_THE_CALL = Check(
    name="answer-the-call", title="Who answers the call", minutes=20, difficulty=2,
    function="answer", arguments=("go_on", "tools", "question", "n"), call=call_with_tools,
    compared="what was written", shown=show_texts,
    learned="You have the loop that makes a caller of tools out of a model: write to the end of a call, run "
            "it, write what came back, go on.",
    task="the texts in order: what the model wrote, the reply to its call, what it wrote then, until a text "
         "ends in no call or n calls were answered.",
    hints=(
        "Without tools it is one line: return [go_on(question)]. Now look at the end of that text. If it is "
        "</call>, there is a call to answer: put the reply behind it in the list, and ask go_on again, with "
        "the question and all parts so far.",
        'Take the call out of the text that go_on has just written, and out of nothing else: '
        'piece.rpartition("<call>")[2] is what stands behind the last <call>. name, _, rest = '
        'call.partition("(") gives the name; rest without its last bracket is the argument.',
        "One try around all that can go wrong: the name that tools does not have, a form that cannot be "
        "read, the tool itself. except Exception as error: reply = f\"error: {error}\". Count the replies, "
        "and return as soon as there are n and the model calls again."),
    expected=written,
    cases=(
        Case("a call is followed by its reply, and the model goes on behind it.", plain,
             lambda i, o: len(said(o)) % 2 == 1 and len(replies(said(o)[1::2])) == len(said(o)) // 2),
        Case("each call gets its own reply.", again,
             lambda i, o: bool((o.result == written(i)).all())),
        Case("a text that does not end in </call> is the end, whatever else is in it.", no_call,
             lambda i, o: len(said(o)) == 1),
        Case("at most n calls are answered; where the model calls once more, its text is the last.", too_many,
             lambda i, o: len(replies(said(o))) == i.most and not replies(said(o)[-1:])),
        Case("whatever goes wrong with a call comes back as a reply that begins with “error: ”, and the "
             "model goes on.", errors,
             lambda i, o: len(said(o)) == 5 and said(o)[1] == "<reply>error:</reply>"),
        Case("all between the first bracket and the last is the argument.", brackets,
             lambda i, o: "error:" not in "".join(said(o)), draws=4),
        Case("no call is run that the model did not write just now, be it in the question or in a reply.",
             not_the_model, lambda i, o: len(replies(said(o))) == 1, draws=4)),
    misconceptions=(
        M("no end to the calls",
          "Calls are answered for as long as the model asks. A model that calls again and again then never "
          "comes to an end: n is the limit.",
          lambda i: written(i, most=lambda n: 99)),
        M("one call too many",
          "One call more than n is answered.",
          lambda i: written(i, most=lambda n: n + 1)),
        M("one call too few",
          "One call less than n is answered. Are the model's texts counted in place of the replies?",
          lambda i: written(i, most=lambda n: n - 1)),
        M("a reply to the call too many",
          "The call after the n-th got a reply too. It is not answered: the text that ends in it is the "
          "last.",
          lambda i: written(i, last="<reply>error:</reply>")),
        M("the reply of another call",
          "The reply is that of the first call in the whole text, each time. Look in what go_on has just "
          "written.",
          lambda i: written(i, reply=first_of_all, whole=True)),
        M("the reply in front of the call",
          "The reply stands in front of the text that ends in its call. The model reads from left to right.",
          lambda i: written(i, order=lambda piece, said: [said, piece])),
        M("the model does not see the reply",
          "go_on was given the question and the model's own texts, without the replies. It cannot use what "
          "it does not read.",
          lambda i: written(i, given=lambda parts: "".join([parts[0], *parts[1::2]]))),
        M("the model does not see what it wrote",
          "go_on was given the question each time. It takes all there is so far: the question, and every "
          "part behind it.",
          lambda i: written(i, given=lambda parts: parts[0])),
        M("the model does not see the question",
          "From the first reply on, go_on was not given the question again. It takes all there is so far.",
          lambda i: written(i, given=lambda parts: "".join(parts[1:] or parts))),
        M("a tool is run though nobody called",
          "A text was taken for a call because “<call>” or “</call>” is in it somewhere, and it does not "
          "end in </call>. The model may speak of a call, or break one off.",
          lambda i: written(i, calls=lambda piece: CALL in piece)),
        M("a tool is run though nobody called",
          "A reply that the model made up was taken for a call. Only a text that ends in </call> asks for a "
          "tool.",
          lambda i: written(i, calls=lambda piece: CALL in piece or "<reply>" in piece)),
        M("an error is not said",
          "Where something went wrong the reply is empty. The model is to read what went wrong: it may do "
          "better then.",
          lambda i: written(i, reply=lambda piece, kit: run(piece, kit).replace("error:", ""))),
        M("an error ends the answer",
          "Where something went wrong the answer is over. The model is to read the error and to go on.",
          lambda i: written(i, calls=lambda piece: piece.endswith(CALL_END) and "error" not in run(
              piece, tools()))),
        M("the argument ends at the first bracket",
          "The argument was cut at its first closing bracket. It may have brackets of its own: it ends in "
          "front of the last one.",
          lambda i: written(i, reply=lambda piece, kit: run(piece, kit, end="first"))),
        M("replies without their marks",
          "The replies stand without <reply> and </reply>. The model could not tell them from its own "
          "words.",
          lambda i: written(i, marks=False))))
