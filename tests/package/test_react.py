"""ReAct: four ways from one description, each fault by hand, the filter's bias by listing."""

from __future__ import annotations

import itertools
import random
import re
from collections import Counter
from fractions import Fraction

import pytest
import torch

from conftest import Tiny
from minillm import hub
from minillm.acting import react
from minillm.acting.react import (
    FAULTS, WAYS, Bias, Drawn, Lookup, answerable, bias, bootstrap, composed, demonstration, events, fault,
    few_shot, kept, known, lookups, older, query, record, right, statement,
)
from minillm.acting.toolbox import records, search
from minillm.acting.tools import Made
from minillm.acting.transcript import Limits, Transcript
from minillm.worlds.town import RELATIONS, Fact, Town
from minillm.worlds.two_hop import is_held_out, two_hop

_, WORDS = hub.load("base")
TOWN = Town(0)
TRUTH = known(TOWN)
TOOLS = [search(records(TOWN), 3)]


def fact(key):
    subject, relation = key.split(", ")
    return next(f for f in TOWN.facts if (f.subject, f.relation) == (subject, relation))


def a_lookup(first="1953, mayor", relation="pet"):
    first = fact(first)
    return composed(two_hop(first, fact(f"{first.value}, {relation}"), random.Random(0)))


MAYOR = a_lookup()                                      # 1953: Rosa Brook, who has a hamster
AGES = older(fact("Rosa Brook, age"), fact("Ned Wolf, age"))


def written(*parts, prompt="x", ended=True):
    """A run of a script: texts, "[" and "]" for the scratchpad, (call, reply) for calls."""
    row = Transcript(WORDS.prompt(prompt), stopped="end" if ended else "tokens")
    for part in parts:
        if part in ("[", "]"):
            row.append([WORDS.think if part == "[" else WORDS.think_end], True)
        elif isinstance(part, str):
            row.append(WORDS.encode(part), True)
        else:
            call, reply, *ok = part
            start = len(row.ids)
            row.append([WORDS.call, *WORDS.encode(call), WORDS.call_end], True)
            row.append([WORDS.reply, *WORDS.encode(reply), WORDS.reply_end], False)
            row.calls.append(Made(call, None, reply, not ok, 0.0, start, len(row.ids)))
    if ended:
        row.append([WORDS.end], True)
    return row


def verdict(lookup, *parts, **how):
    row = written(*parts, **how)
    return right(lookup, row, WORDS), fault(lookup, row, WORDS, TRUTH)


# --- questions ------------------------------------------------------------------------------------


def test_the_questions_are_all_there_and_each_stands_on_its_side():
    """Counted again from the town's facts."""
    values = {(f.subject, f.relation): f for f in TOWN.facts}
    for told, held in itertools.product((True, False), repeat=2):
        found = lookups(TOWN, held, random.Random(0), told)
        wanted = set()
        for f in TOWN.facts:
            begins = f.fame in ("famous", "other") if told else f.fame == "never"
            if begins and f.relation in ("mayor", "mother", "friend") and is_held_out(f, 0) == held:
                about = [values[f.value, r] for r in "job street pet age food mother friend".split()]
                wanted |= {(f.key, g.key) for g in about if not told or g.fame == "famous"}
        assert {tuple(f.key for f in one.facts) for one in found["two hops"]} == wanted
        assert len(found["two hops"]) == len(wanted)
        assert all(one.told == told for some in found.values() for one in some)
        assert all(one.question.thought is None for some in found.values() for one in some)
    first = {held: {one.facts[0].key for one in lookups(TOWN, held, random.Random(0), told)["older"]}
             for held in (False, True)}
    assert first[True] and first[False] and not first[True] & first[False]


def test_no_person_of_training_is_held_out_in_a_comparison():
    """Neither first nor second."""
    train, held = (lookups(TOWN, held, random.Random(0), False)["older"] for held in (False, True))
    begins = {one.facts[0].subject for one in held}
    assert not begins & {f.subject for one in train for f in one.facts}


def test_wordings_are_counted_once():
    one, many = (lookups(TOWN, True, random.Random(0), True, wordings=n)["two hops"] for n in (1, 12))
    assert len({x.question.prompt for x in many}) == len(many) > 1.5 * len(one)


def test_who_is_older_by_hand():
    a, b = Fact("Ada Moss", "age", "61", "never"), Fact("Ben Reed", "age", "9", "famous")
    one = older(b, a)
    assert one.question.prompt == "Who is older, Ben Reed or Ada Moss?" and one.facts == (b, a)
    assert one.question.response == "Ada Moss is older than Ben Reed." and not one.told
    assert one.conclusion == "61 is more than 9." and re.fullmatch(one.question.form, one.question.response)
    for bad, said in (((a, a), "second is Ada Moss, age: 61"),
                      ((a, fact("1953, mayor")), "second is 1953, mayor"),
                      ((a, Fact("Cleo Fox", "age", "61", "once")), "of another age")):
        with pytest.raises(ValueError, match=said):
            older(*bad)


# --- demonstrations -------------------------------------------------------------------------------


def test_four_ways_by_hand():
    text = {way: demonstration(WORDS, MAYOR, way, TOOLS).text(WORDS) for way in WAYS}
    said = "hamster<|end|>"
    first = ("<|call|>search(1953, mayor)<|/call|><|reply|>1953, mayor: Rosa Brook\n1921, mayor: Ned Wolf\n"
             "1922, mayor: Ned Wolf<|/reply|>")
    second = ("<|call|>search(Rosa Brook, pet)<|/call|><|reply|>Rosa Brook, pet: hamster\n"
              "Rosa Brook, mother: Rosa Baker\nRosa Brook, job: sailor<|/reply|>")
    assert text["standard"] == said
    thought = "In 1953 the mayor was Rosa Brook. Rosa Brook has a hamster."
    assert text["think"] == f"<|think|>{thought}<|/think|>{said}"
    assert text["act"] == first + second + said
    assert text["react"] == (
        "<|think|>I need the mayor of 1953." + first + " In 1953 the mayor was Rosa Brook. I need the pet of "
        "Rosa Brook." + second + " Rosa Brook has a hamster.<|/think|>" + said)


@pytest.mark.parametrize("way", WAYS)
def test_a_demonstration_has_no_fault(way):
    """Of every kind of question; the tool's tokens, and they alone, are not the model's."""
    rng = random.Random(0)
    for told, held in itertools.product((True, False), repeat=2):
        for some in lookups(TOWN, held, rng, told).values():
            for one in [x for x in some[:12] if answerable(x, TOOLS)]:
                row = demonstration(WORDS, one, way, TOOLS)
                assert right(one, row, WORDS) and fault(one, row, WORDS, TRUTH) is None
                assert row.prompt == WORDS.prompt(one.question.prompt) and row.ended
                assert len(row.ids) == len(row.response_mask) == len(row.logprobs)
                replies = {i for made in row.calls for i in range(made.start, made.end)
                           if i > made.start + row.ids[made.start:].index(WORDS.call_end)}
                assert {i for i, mine in enumerate(row.response_mask) if not mine} == replies
                calls = [query(f) for f in one.facts] if way in ("act", "react") else []
                assert [made.text for made in row.calls] == calls
                assert (row.response(WORDS).thought is None) == (way in ("standard", "act"))
                for made in row.calls:
                    text = WORDS.decode(row.ids[made.start:made.end], specials=True)
                    assert text == f"<|call|>{made.text}<|/call|><|reply|>{made.reply}<|/reply|>"


def test_what_a_search_does_not_find_is_not_demonstrated():
    lost = next(one for one in lookups(TOWN, False, random.Random(0), False)["two hops"]
                if not answerable(one, TOOLS))
    for way in ("act", "react"):
        with pytest.raises(ValueError, match="its facts are not in the replies: leave it out"):
            demonstration(WORDS, lost, way, TOOLS)
    assert right(lost, demonstration(WORDS, lost, "think"), WORDS)
    with pytest.raises(ValueError, match="way is 'guess': give one of standard, think, act, react"):
        demonstration(WORDS, MAYOR, "guess", TOOLS)
    with pytest.raises(ValueError, match="tools is empty: give one called search"):
        demonstration(WORDS, MAYOR, "act")


def test_few_shots_stand_before_the_question():
    rows = [demonstration(WORDS, MAYOR, way, TOOLS) for way in ("act", "think")]
    prompt = WORDS.prompt("Who?")
    ids = few_shot(rows, prompt)
    before = "".join(f"<|user|>{MAYOR.question.prompt}<|assistant|>{row.text(WORDS)}" for row in rows)
    assert WORDS.decode(ids, specials=True) == before + "<|user|>Who?<|assistant|>"
    assert few_shot([], prompt) == prompt
    with pytest.raises(ValueError, match="prompt is empty"):
        few_shot(rows, [])


# --- faults ---------------------------------------------------------------------------------------


def test_every_kind_of_sentence_is_read_back():
    for f in TOWN.facts:
        if f.relation in react.STATED:
            told = RELATIONS[f.relation].answered.format(s=f.subject, v=f.value)
            assert statement(told) == (f.key, f.value)
    assert statement("I need the pet of Rosa Brook.") is None and statement("Rosa Brook") is None


def test_events_come_in_their_order():
    row = demonstration(WORDS, AGES, "react", TOOLS)
    said = [one if isinstance(one, str) else one.text for one in events(row, WORDS)]
    a, b = AGES.facts
    assert said == [f"I need the age of {a.subject}.", query(a), f"{a.subject} is {a.value} years old.",
                    f"I need the age of {b.subject}.", query(b), f"{b.subject} is {b.value} years old.",
                    AGES.conclusion]


ANSWER = MAYOR.question.response
HELD = ("search(1953, mayor)", "1921, mayor: Ned Wolf\n1953, mayor: Rosa Brook")
LACKS = ("search(1953, mayor)", "1921, mayor: Ned Wolf\n1953, mayor: Rosa Brooks")
PET = ("search(Rosa Brook, pet)", "Rosa Brook, pet: hamster")
NED = ("search(Ned Wolf, pet)", "Ned Wolf, pet: goat")
NED_1953 = " In 1953 the mayor was Ned Wolf."
IS, HAS = "In 1953 the mayor was Rosa Brook.", "Rosa Brook has a hamster."
WRONG, GARBLED = "goat", "a: goat"


@pytest.mark.parametrize("parts, good, found", [
    # the answer alone
    ([ANSWER], True, None), ([WRONG], False, "made up"), ([GARBLED], False, "form"), ([], False, "form"),
    # thoughts alone
    (["[", IS, " ", HAS, "]", ANSWER], True, None),
    (["[", HAS, " ", IS, "]", ANSWER], True, None),
    (["[", "In 1953 the mayor was Ned Wolf.", " Ned Wolf has a goat.", "]", WRONG], False, "made up"),
    (["[", "In 1953 the mayor was Ned Wolf.", " ", HAS, "]", ANSWER], True, "made up"),
    (["[", IS, " ", HAS, "]", WRONG], False, "reasoning"),
    (["[", IS, "]", ANSWER], True, "reasoning"),
    (["[", IS, " ", HAS, " 61 is more than 9.", "]", ANSWER], True, "reasoning"),
    (["[", IS, " so so.", "]", ANSWER], True, "form"),
    (["[", IS, " ", HAS, "]", GARBLED], False, "form"),
    (["[", IS, " ", HAS], False, "form"),
    # calls alone
    ([HELD, PET, ANSWER], True, None),
    ([PET, ANSWER], True, None),                                # who the mayor was, it knew
    ([HELD, PET, WRONG], False, "misread"),
    ([HELD, NED, WRONG], False, "misread"),
    ([LACKS, NED, WRONG], False, "search"),
    ([LACKS, PET, ANSWER], True, None),
    ([NED, WRONG], False, "call"),
    ([HELD, ANSWER], True, "call"),                             # the second fact is nowhere
    ([HELD, HELD, PET, ANSWER], True, "call"),
    ([LACKS, LACKS, PET, ANSWER], True, "search"),
    ([("search(1953)", "1953, mayor: Rosa Brook"), PET, ANSWER], True, "call"),
    ([("searching", "error: call is 'searching'", False), ANSWER], True, "call"),
    ([HELD, PET, GARBLED], False, "form"),
    # both
    (["[", "I need the mayor of 1953.", HELD, " ", IS, " I need the pet of Rosa Brook.", PET, " ", HAS, "]",
      ANSWER], True, None),
    (["[", HELD, " ", IS, NED, " Ned Wolf has a goat.", "]", WRONG], False, "call"),
    (["[", HELD, NED_1953, NED, " Ned Wolf has a goat.", "]", WRONG], False, "misread"),
    (["[", HELD, " In 1921 the mayor was Ned Wolf.", NED, "]", WRONG], False, "misread"),   # true, not asked
    (["[", LACKS, NED_1953, NED, "]", WRONG], False, "search"),
    (["[", HELD, " ", IS, PET, " Rosa Brook has a goat.", "]", WRONG], False, "misread"),
    (["[", HELD, " ", IS, " Rosa Brook has a goat.", "]", WRONG], False, "made up"),
    (["[", HELD, " ", IS, PET, " ", HAS, "]", WRONG], False, "reasoning"),
    (["[", HELD, " ", IS, PET, "]", WRONG], False, "misread"),
])
def test_each_fault_by_hand(parts, good, found):
    assert verdict(MAYOR, *parts) == (good, found)


def test_the_ages_are_compared():
    a, b = AGES.facts
    said = [f"{f.subject} is {f.value} years old. " for f in AGES.facts]
    for last, found in ((AGES.conclusion, None), (f"{min(a.value, b.value)} is more than 3.", "reasoning")):
        assert verdict(AGES, "[", *said, last, "]", AGES.question.response) == (True, found)
    wrong = " is older than ".join(sorted([a.subject, b.subject], key=AGES.question.answer.count)) + "."
    assert verdict(AGES, "[", *said, AGES.conclusion, "]", wrong) == (False, "reasoning")
    young = f"{a.subject} is 1 years old. "
    assert verdict(AGES, "[", young, said[1], "]", AGES.question.response) == (True, "made up")
    calls = [(query(f), record(f)) for f in AGES.facts]
    assert verdict(AGES, *calls, wrong) == (False, "misread")
    assert verdict(AGES, *reversed(calls), AGES.question.response) == (True, None)
    assert verdict(AGES, calls[0], AGES.question.response) == (True, "call")


def test_an_answer_that_does_not_end_is_not_right():
    row = written(ANSWER, ended=False)
    assert not right(MAYOR, row, WORDS) and fault(MAYOR, row, WORDS, TRUTH) == "form"


def test_any_run_has_a_verdict():
    """Random scripts of the parts above. A wrong answer has a fault; a right one without a fault says nothing
    that is false, and calls nothing that is not needed, by its words alone."""
    rng, seen = random.Random(0), Counter()
    texts = [IS + " ", HAS + " ", "Rosa Brook has a goat. ", "so so. ", HELD, LACKS, PET, NED]
    for _ in range(600):
        parts = [rng.choice(texts) for _ in range(rng.randint(1, 4))]
        good, found = verdict(MAYOR, "[", *parts, "]", rng.choice([ANSWER, WRONG, GARBLED]))
        seen[found] += 1
        assert good or found in FAULTS
        if good and found is None:
            assert not {"Rosa Brook has a goat. ", "so so. ", NED} & set(parts)
            assert parts.count(PET) <= 1 and parts.count(HELD) + parts.count(LACKS) <= 1
            assert HAS + " " in parts or PET in parts
    assert set(seen) == {*FAULTS, None}


# --- bootstrapping --------------------------------------------------------------------------------


def test_runs_are_drawn_and_judged():
    """A random model: nothing is right; the runs are those of `use`."""
    model = Tiny(vocab_size=WORDS.vocab_size, dtype=torch.float32, context=64)
    asked, limits = [MAYOR, AGES], Limits(tokens=16, calls=1)
    drawn = [bootstrap(model, WORDS, asked, TOOLS, TRUTH, limits, n=3,
                       generator=torch.Generator().manual_seed(0)) for _ in range(2)]
    assert [d.group for d in drawn[0]] == [0, 0, 0, 1, 1, 1] and [d.lookup for d in drawn[0][2:4]] == asked
    assert [d.row.ids for d in drawn[0]] == [d.row.ids for d in drawn[1]]
    for d in drawn[0]:
        assert d.right == right(d.lookup, d.row, WORDS) and d.fault == fault(d.lookup, d.row, WORDS, TRUTH)
    with pytest.raises(ValueError, match="temperature is 0"):
        bootstrap(model, WORDS, asked, TOOLS, TRUTH, temperature=0)
    with pytest.raises(ValueError, match="n is 0"):
        bootstrap(model, WORDS, asked, TOOLS, TRUTH, n=0)


def runs(*marks):
    """Of each question a text: r right, l right by luck, w wrong. Every other question is "easy"."""
    made = []
    for g, text in enumerate(marks):
        one = Lookup("easy" if g % 2 == 0 else "hard", MAYOR.question, MAYOR.facts)
        made += [Drawn(g, one, Transcript([g], [i]), mark in "rl", None if mark == "r" else "call")
                 for i, mark in enumerate(text)]
    return made


def test_what_is_kept():
    drawn = runs("rrlw", "wlww", "wwww")

    def shown(rows):
        return sorted((row.prompt[0], row.ids[0]) for row in rows)
    assert shown(kept(drawn)) == [(0, 0), (0, 1), (0, 2), (1, 1)]
    assert shown(kept(drawn, true_only=True)) == [(0, 0), (0, 1)]
    for seed in range(5):
        same = Counter(shown(kept(drawn, each=2, rng=random.Random(seed))))
        assert same[1, 1] == 2 and sum(n for (g, _), n in same.items() if g == 0) == 2
        assert max(n for (g, _), n in same.items() if g == 0) == 1      # none twice before each is there once
    with pytest.raises(ValueError, match="rng is None"):
        kept(drawn, each=2)
    with pytest.raises(ValueError, match="each is 0"):
        kept(drawn, each=0, rng=random.Random(0))


def test_the_bias_by_hand():
    """The docstring's own numbers, and a kind of which nothing was kept."""
    found = bias(runs("rrrr", "wlww"), lambda one: one.kind)
    assert found == {"easy": Bias(0.5, 1.0, 0.8, 0.0, 0.0), "hard": Bias(0.5, 0.25, 0.2, 1.0, 0.0),
                     "all": Bias(1.0, 0.625, 1.0, 0.2, 0.0)}
    found = bias(runs("rw", "ww", "ww", "ww"), lambda one: one.kind)
    assert found["hard"] == Bias(0.5, 0.0, 0.0, None, 1.0) and found["easy"].lost == 0.5
    assert bias(runs("ww"), lambda one: "all of it")["all of it"] == Bias(1.0, 0.0, None, None, 1.0)
    with pytest.raises(ValueError, match="drawn is empty"):
        bias([], lambda one: one.kind)


def test_the_bias_by_listing():
    """One question of each kind, p = 3/4 and 1/4, two runs of each: all 16 outcomes with their chances.

    Of the expected counts a kind has asked·p over the sum of that; nothing is kept with chance (1 − p)².
    """
    p = {"easy": Fraction(3, 4), "hard": Fraction(1, 4)}
    count, lost, total = Counter(), Counter(), Fraction(0)
    for outcome in itertools.product("rw", repeat=4):
        chance = Fraction(1)
        for i, mark in enumerate(outcome):
            q = p["easy" if i < 2 else "hard"]
            chance *= q if mark == "r" else 1 - q
        found = bias(runs("".join(outcome[:2]), "".join(outcome[2:])), lambda one: one.kind)
        total += chance
        for name in p:
            count[name] += chance * Fraction(found[name].right) * 2
            lost[name] += chance * Fraction(found[name].lost)
        if any(mark == "r" for mark in outcome):
            ends = outcome.count("r")
            assert found["easy"].kept == outcome[:2].count("r") / ends
    assert total == 1 and count == {"easy": Fraction(3, 2), "hard": Fraction(1, 2)}
    assert lost == {name: (1 - q) ** 2 for name, q in p.items()}
    assert count["easy"] / sum(count.values()) == p["easy"] / (p["easy"] + p["hard"])
