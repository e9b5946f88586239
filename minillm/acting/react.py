"""Thought, action, observation: one question answered in four ways, and the runs kept that end right.

    standard  cat
    think     [THINK] The mother of Ada Moss is Bea Reed. Bea Reed has a cat. [/THINK] cat
    act       [CALL] search(Ada Moss, mother) [/CALL] [REPLY] Ada Moss, mother: Bea Reed [/REPLY]
              [CALL] search(Bea Reed, pet) [/CALL] [REPLY] Bea Reed, pet: cat [/REPLY] cat
    react     [THINK] I need the mother of Ada Moss.
              [CALL] search(Ada Moss, mother) [/CALL] [REPLY] Ada Moss, mother: Bea Reed [/REPLY]
              The mother of Ada Moss is Bea Reed. I need the pet of Bea Reed.
              [CALL] search(Bea Reed, pet) [/CALL] [REPLY] Bea Reed, pet: cat [/REPLY]
              Bea Reed has a cat. [/THINK] cat

Thoughts and calls share one scratchpad, so `Transcript.response` reads the answer of all four. The town is
known, so what happened on the way is checked sentence by sentence: `fault` names the first thing that is
wrong.
Source: Yao et al. 2023 (ReAct), sections 2 and 3; the faults go further than its table 2.
"""

from __future__ import annotations

import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from ..expect import expect, expect_whole
from ..tokenizer import Tokenizer
from ..worlds.questions import Question, held_out
from ..worlds.town import PERSONAL, RELATIONS, SOME, Fact, Town, sentence
from ..worlds.two_hop import CALLED, HELD_OUT, TwoHop, is_held_out, two_hop
from .tools import Made, Tool, by_name, run, shown
from .transcript import Limits, Transcript, demonstrate, use

WAYS = ("standard", "think", "act", "react")
FAULTS = ("made up", "call", "search", "misread", "reasoning", "form")
TOLD = ("famous", "other")      # facts that the base model has read a hundred times or more


# --- questions ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Lookup:
    """A question, the facts that it takes, in the order of looking, and a last thought that joins them.

    kind: "two hops" or "older". Its question has no thought: the ways differ in what is thought.
    """

    kind: str
    question: Question
    facts: tuple[Fact, ...]
    conclusion: str = ""

    @property
    def told(self) -> bool:
        """Whether the base model has read each of its facts a hundred times or more."""
        return all(fact.fame in TOLD for fact in self.facts)


def composed(two: TwoHop) -> Lookup:
    """A question of two hops, "What pet does the mother of Ada Moss have?", answered by a word: "cat"."""
    short = replace(two.question, thought=None, response=two.question.answer, form=SOME)
    return Lookup("two hops", short, two.facts)


def older(first: Fact, second: Fact) -> Lookup:
    """Which of two people is older: "Who is older, Ada Moss or Ben Reed?", "Ben Reed is older than Ada Moss."

    ValueError for facts that are not two people's ages, and for equal ones.
    """
    for name, fact in (("first", first), ("second", second)):
        expect(fact.relation == "age", name, fact.key, "give a fact of age")
    other = first.subject != second.subject and first.value != second.value
    expect(other, "second", f"{second.key}: {second.value}", "give another person of another age")
    old, young = sorted((first, second), key=lambda fact: -int(fact.value))
    question = Question("older", f"{first.subject}, {second.subject}",
                        f"Who is older, {first.subject} or {second.subject}?", old.subject,
                        f"{old.subject} is older than {young.subject}.", rf"{SOME} is older than {SOME}\.")
    return Lookup("older", question, (first, second), f"{old.value} is more than {young.value}.")


def lookups(town: Town, held: bool, rng: random.Random, told: bool,
            wordings: int = 1) -> dict[str, list[Lookup]]:
    """Questions of each kind on one side of the split, shuffled: {"two hops": […], "older": […]}.

    told: every fact stands a hundred times or more in what the base model has read; if False, the person that
    a question begins with is never told of. held: no question of training begins with the same person or
    year. wordings: how often the wording of two hops is drawn; equal ones count once.
    """
    expect_whole(1, wordings=wordings)
    about = defaultdict(list)
    for fact in town.facts:
        if fact.relation in PERSONAL:
            about[fact.subject].append(fact)
    begin = [f for f in town.facts if (f.fame in TOLD if told else f.fame == "never")]
    two = {}
    for first in begin:
        if first.relation in CALLED and is_held_out(first, town.seed) == held:
            for second in about[first.value]:
                if not told or second.fame in TOLD:
                    asked = [composed(two_hop(first, second, rng)) for _ in range(wordings)]
                    two.update({one.question.prompt: one for one in asked})
    ages = [f for f in begin if f.relation == "age"]
    old = {f: held_out(f"older: {f.subject}", HELD_OUT, town.seed) for f in ages}
    pairs = [older(a, b) for a in ages for b in ages
             if a.value != b.value and old[a] == held and (held or not old[b])]
    found = {"two hops": list(two.values()), "older": pairs}
    for some in found.values():
        rng.shuffle(some)
    return found


def query(fact: Fact) -> str:
    """The call that looks for a fact: "search(Ada Moss, mother)"."""
    return f"search({fact.key})"


def record(fact: Fact) -> str:
    """The line that holds it among the town's records: "Ada Moss, mother: Bea Reed"."""
    return f"{fact.key}: {fact.value}"


def answerable(lookup: Lookup, tools: Sequence[Tool]) -> bool:
    """Whether what the tool `search` says to each query holds its fact. BM25 does not always find it."""
    return all(record(fact) in run(tools, query(fact)).reply.split("\n") for fact in lookup.facts)


# --- demonstrations in four ways ------------------------------------------------------------------


def demonstration(tokenizer: Tokenizer, lookup: Lookup, way: str, tools: Sequence[Tool] = (),
                  reply: int = Limits.reply) -> Transcript:
    """How somebody would answer who knows everything, in one of the four WAYS.

    tools: with one called search, for "act" and "react". reply: tokens of one reply.
    ValueError for a way that is none, and where a reply does not hold the fact: nobody should learn to read
    it out of there.
    """
    expect(way in WAYS, "way", shown(way), f"give one of {', '.join(WAYS)}")
    prompt, answer = lookup.question.prompt, lookup.question.response
    said = [sentence(RELATIONS[f.relation].answered, f.subject, f.value) for f in lookup.facts]
    closing = [lookup.conclusion] * bool(lookup.conclusion)
    if way in ("standard", "think"):
        thought = " ".join(said + closing) if way == "think" else None
        return demonstrate(tokenizer, prompt, [], answer, [], thought)
    names = ", ".join(by_name(tools)) or "empty"
    expect("search" in by_name(tools), "tools", names, "give one called search")
    calls = [query(fact) for fact in lookup.facts]
    acted = demonstrate(tokenizer, prompt, calls, answer, tools, reply=reply)
    held = all(record(f) in made.reply.split("\n") for f, made in zip(lookup.facts, acted.calls))
    expect(held, "lookup", shown(prompt), "its facts are not in the replies: leave it out")
    if way == "act":
        return acted
    needs = [f"I need the {f.relation} of {f.subject}." for f in lookup.facts]
    # What is thought before each call: what was read, and what is needed now.
    before = [needs[0], *(f" {a} {b}" for a, b in zip(said, needs[1:]))]
    row = Transcript(acted.prompt, stopped="end")
    row.append([tokenizer.think], by_model=True)
    for thought, made in zip(before, acted.calls):
        row.append(tokenizer.encode(thought), by_model=True)
        start = len(row.ids)
        row.append(acted.ids[made.start:made.end], by_model=True)
        row.calls.append(replace(made, start=start, end=len(row.ids)))
        row.response_mask[start:] = acted.response_mask[made.start:made.end]
    last = " " + " ".join([said[-1], *closing])
    row.append([*tokenizer.encode(last), tokenizer.think_end, *tokenizer.response(answer)], by_model=True)
    return row


def few_shot(shown: Sequence[Transcript], prompt: Sequence[int]) -> list[int]:
    """A prompt with whole transcripts before it, replies and all: [USER] x [ASSISTANT] y [END] … [USER] x
    [ASSISTANT]. prompt: ids, as `Tokenizer.prompt` gives them."""
    expect(len(prompt) > 0, "prompt", "empty", "give ids: tokenizer.prompt(question)")
    return [i for row in shown for i in (*row.prompt, *row.ids)] + list(prompt)


# --- what happened on the way ---------------------------------------------------------------------


STATED = {relation: re.compile(re.escape(RELATIONS[relation].answered.format(s="\1", v="\2"))
                               .replace("\1", f"(?P<s>{SOME})").replace("\2", f"(?P<v>{SOME})"))
          for relation in (*PERSONAL, "mayor")}
NEED = re.compile(rf"I need the \w+ of {SOME}\.")
MORE = re.compile(r"[0-9]+ is more than [0-9]+\.")


def known(town: Town) -> dict[str, str]:
    """All that is true: {"Ada Moss, mother": "Bea Reed"}."""
    return {fact.key: fact.value for fact in town.facts}


def right(lookup: Lookup, row: Transcript, tokenizer: Tokenizer) -> bool:
    """F: whether the answer is right, whatever went before it."""
    response = row.response(tokenizer)
    return response.ended and response.text == lookup.question.response


def events(row: Transcript, tokenizer: Tokenizer) -> Iterator[str | Made]:
    """What happened before the answer, in order: each sentence of the scratchpad, and each call."""
    calls = {made.start: made for made in row.calls}
    thinking, text, i = False, [], 0
    while i < len(row.ids):
        token, made = row.ids[i], calls.get(i)
        if made or token in (tokenizer.think, tokenizer.think_end, tokenizer.end):
            yield from _sentences(tokenizer.decode(text, specials=True))
            text = []
        if made:
            yield made
        elif token == tokenizer.think:
            thinking = True
        elif token in (tokenizer.think_end, tokenizer.end):
            thinking = False
        elif thinking:
            text.append(token)
        i = made.end if made else i + 1
    yield from _sentences(tokenizer.decode(text, specials=True))


def _sentences(text: str) -> list[str]:
    """"A b. C d" -> ["A b.", "C d"]."""
    return [part.strip() for part in re.findall(r"[^.]*\.|[^.]+$", text) if part.strip()]


def statement(text: str) -> tuple[str, str] | None:
    """The key and the value of the fact that a sentence states: "Bea Reed has a cat." -> ("Bea Reed, pet",
    "cat"). None for a sentence of another form."""
    for relation, form in STATED.items():
        if found := form.fullmatch(text):
            return f"{found['s']}, {relation}", found["v"]
    return None


def fault(lookup: Lookup, row: Transcript, tokenizer: Tokenizer, truth: Mapping[str, str]) -> str | None:
    """The first thing that is wrong in a run, one of FAULTS; None where all was right. truth: `known(town)`.

    made up    it states what is not so, and has looked nowhere that could hold it
    call       a call that its question does not need, or none where it looks for the other fact
    search     it asked rightly, the reply did not hold the fact, and it went on all the same
    misread    the reply held the fact, and what follows says or asks for another
    reasoning  the facts are right, and what is made of them is not; or a step is left out
    form       no sentence, call or answer of any known form; an answer that does not end

    A right answer may have a fault: it is right by luck. In the answer alone nothing but the answer can be
    wrong, so a guess that is right has none.
    """
    needed = {fact.key: fact for fact in lookup.facts}
    looked: set[str] = set()    # keys of facts that were asked for
    held: set[str] = set()      # of these, the ones whose reply held the fact
    said: set[str] = set()      # stated, or put to use in the next call

    def unread(key: str) -> str:
        return "misread" if key in held else "search"

    steps = list(events(row, tokenizer))
    for step in steps:
        if isinstance(step, Made):
            key = step.text[len("search("):-1] if step.text.startswith("search(") else ""
            if not step.ok or key not in needed:
                # Who asks about the wrong person has read the first reply wrongly, if there was one to read.
                leads = [f.key for f in lookup.facts if any(g.subject == f.value for g in lookup.facts)]
                missed = [k for k in leads if k in looked and k not in said]
                return unread(missed[0]) if step.ok and missed else "call"
            if key in looked:
                return "call" if key in held else "search"
            looked.add(key)
            held |= {key} & {k for k, f in needed.items() if record(f) in step.reply.split("\n")}
            said |= {f.key for f in lookup.facts if f.value == needed[key].subject}
        elif MORE.fullmatch(step):
            if step != lookup.conclusion:
                return "reasoning"
        elif fact := statement(step):
            key, value = fact
            if truth.get(key) != value:
                return unread(key) if key in looked else "made up"
            said.add(key)
        elif not NEED.fullmatch(step):
            return "form"
    response = row.response(tokenizer)
    if not response.ended or re.fullmatch(lookup.question.form, response.text) is None:
        return "form"
    good = response.text == lookup.question.response
    if not steps:
        return None if good else "made up"
    missing = [key for key in needed if key not in said]
    for key in missing:
        if key not in looked:
            return "call" if looked else "reasoning"
        if key not in held:
            return "search"
    if good:
        return None
    return "misread" if missing else "reasoning"


# --- bootstrapping: keep what ended right ---------------------------------------------------------


class Drawn(NamedTuple):
    """A run that a model drew for question number `group`: whether it ended right, and its first fault."""

    group: int
    lookup: Lookup
    row: Transcript
    right: bool
    fault: str | None

    @property
    def lucky(self) -> bool:
        """Right in the end, and wrong on the way."""
        return self.right and self.fault is not None


def bootstrap(model, tokenizer: Tokenizer, asked: Sequence[Lookup], tools: Sequence[Tool],
              truth: Mapping[str, str], limits: Limits = Limits(), *, n: int = 8, temperature: float = 1.0,
              generator=None) -> list[Drawn]:
    """n runs for each question, in order, judged twice: by their end, and by their steps.

    A filter that sees ends alone keeps what is `right`: F = 1[right] on the model's own runs. The judge of
    steps knows the whole town (truth: `known(town)`), and says what that filter lets through.
    """
    expect_whole(1, n=n)
    expect(temperature > 0, "temperature", temperature,
           "give more than 0: greedy runs of one question are all the same")
    rows = use(model, tokenizer, [one.question.prompt for one in asked], tools, limits, n=n,
               temperature=temperature, generator=generator)
    return [Drawn(row.group, one, row, right(one, row, tokenizer), fault(one, row, tokenizer, truth))
            for row in rows for one in [asked[row.group]]]


def kept(drawn: Sequence[Drawn], each: int | None = None, true_only: bool = False,
         rng: random.Random | None = None) -> list[Transcript]:
    """The runs that ended right: what one trains on next.

    each: so many for every question that has any, some repeated or left out at random. Then a question counts
    the same whether one run of it ended right or eight. true_only: leave out those that were right by luck,
    which takes a judge of steps.
    """
    found = defaultdict(list)
    for one in drawn:
        if one.right and not (true_only and one.lucky):
            found[one.group].append(one.row)
    if each is None:
        return [row for rows in found.values() for row in rows]
    expect_whole(1, each=each)
    expect(rng is not None, "rng", rng, "give random.Random(seed): it chooses which are repeated")
    chosen = []
    for rows in found.values():
        rows = rng.sample(rows, len(rows))
        chosen += [rows[i % len(rows)] for i in range(each)]
    return chosen


class Bias(NamedTuple):
    """What the filter made of one kind of question.

    asked: its share of the questions; right: the share of its runs that ended right; kept: its share of all
    kept runs, asked·right over the sum of that; lucky: the share of its kept runs that were right by luck;
    lost: the share of its questions of which nothing was kept. None: a share of nothing.
    """

    asked: float
    right: float
    kept: float | None
    lucky: float | None
    lost: float


def bias(drawn: Sequence[Drawn], kind: Callable[[Lookup], str]) -> dict[str, Bias]:
    """The kept runs beside the questions that were asked, by kind, and for "all".

    Two questions, four runs each: of an easy one four end right, of a hard one one does, by luck. Then the
    hard kind is 0.5 of what was asked and 0.2 of what was kept, and all of that is luck.
    """
    expect(len(drawn) > 0, "drawn", "empty", "give at least one run")
    questions = {one.group: kind(one.lookup) for one in drawn}
    asked, runs = Counter(questions.values()), Counter(kind(one.lookup) for one in drawn)
    ended = Counter(kind(one.lookup) for one in drawn if one.right)
    lucky = Counter(kind(one.lookup) for one in drawn if one.lucky)
    solved = Counter(questions[g] for g in {one.group for one in drawn if one.right})
    for count in (asked, runs, ended, lucky, solved):
        count["all"] = count.total()
    return {name: Bias(asked[name] / asked["all"], ended[name] / runs[name],
                       ended[name] / ended["all"] if ended["all"] else None,
                       lucky[name] / ended[name] if ended[name] else None,
                       1 - solved[name] / asked[name])
            for name in sorted(runs)}
