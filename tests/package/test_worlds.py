"""The worlds: answers pass their own checker and nothing else does, what is held out is not shown,
and counts are what they say.

Documents are read here with patterns of the test's own, not with the world's templates: a sentence that
they cannot read fails.
"""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
from collections import Counter
from functools import cache
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minillm.tokenizer import Response, Tokenizer
from minillm.worlds.own import BadFile, read_questions, read_text
from minillm.worlds.questions import Question, held_out, score
from minillm.worlds.sums import KINDS, Sums, chain_steps, column_steps
from minillm.worlds.town import FAME, OTHER, RELATIONS, Town

NAME = r"[A-Z]\w+ [A-Z]\w+"
WHO = rf"({NAME}|She|He)"
PATTERNS = [  # relation, pattern; the group "v" is the value, the other the subject
    ("age", rf"{WHO} is (?P<v>\d+) years old"),
    ("age", rf"{WHO} has lived for (?P<v>\d+) years"),
    ("age", rf"The age of ({NAME}) is (?P<v>\d+)"),
    ("mother", rf"The mother of ({NAME}) is (?P<v>{NAME})"),
    ("mother", rf"{WHO} is the child of (?P<v>{NAME})"),
    ("mother", rf"(?P<v>{NAME}) is the mother of ({NAME})"),
    ("friend", rf"The best friend of ({NAME}) is (?P<v>{NAME})"),
    ("friend", rf"{WHO} is often seen with a friend, (?P<v>{NAME})"),
    ("friend", rf"{WHO} trusts (?P<v>{NAME}) most of all"),
    ("job", rf"(?:By trade )?{WHO} is a (?P<v>[a-z]+)"), ("job", rf"{WHO} works as a (?P<v>[a-z]+)"),
    ("street", rf"{WHO} lives on (?P<v>\w+ Street)"),
    ("street", rf"{WHO} has a house on (?P<v>\w+ Street)"),
    ("street", rf"The home of ({NAME}) is on (?P<v>\w+ Street)"),
    ("pet", rf"{WHO} has a (?P<v>[a-z]+)"),
    ("pet", rf"{WHO} keeps a (?P<v>[a-z]+)"),
    ("pet", rf"The pet of ({NAME}) is a (?P<v>[a-z]+)"),
    ("food", rf"{WHO} likes (?P<v>[a-z]+) best"),
    ("food", rf"{WHO} loves to eat (?P<v>[a-z]+)"),
    ("food", rf"The favourite food of ({NAME}) is (?P<v>[a-z]+)"),
    ("mayor", rf"In (\d+) the mayor was (?P<v>{NAME})"),
    ("mayor", rf"The mayor in (\d+) was (?P<v>{NAME})"),
    ("mayor", rf"(?P<v>{NAME}) was mayor in (\d+)"),
    ("price", r"([Aa] [a-z]+ in [a-z ]+) costs (?P<v>\d+) coins"),
    ("price", r"The price of (a [a-z ]+) is (?P<v>\d+) coins"),
    ("price", r"You pay (?P<v>\d+) coins for (a [a-z ]+)"),
    ("date", r"The date of (the [a-z ]+) is (?P<v>\d+ \w+)"),
    ("date", r"People meet for (the [a-z ]+) on (?P<v>\d+ \w+)"),
    ("date", r"Every year (the [a-z ]+) is held on (?P<v>\d+ \w+)"),
    ("after", r"After (\w+) comes (?P<v>\w+)"),
    ("after", r"(?P<v>\w+) follows (\w+)"),
    ("after", r"(\w+) is followed by (?P<v>\w+)"),
]
TOWN = Town(0, people=4)
CORPUS = TOWN.corpus(random.Random(5))
TOKENIZER = Tokenizer.train(CORPUS.documents[:300], 300)


def understand(sentence, last=None):
    """(subject, relation, value) of one sentence without its full stop; exactly one pattern must read it."""
    found = []
    for relation, pattern in PATTERNS:
        match = re.fullmatch(pattern, sentence)
        if match:
            (subject,) = [g for g in match.groups() if g is not None and g != match["v"]] or [match["v"]]
            subject = last if subject in ("She", "He") else subject
            found.append((subject[0].lower() + subject[1:] if relation == "price" else subject, relation,
                          match["v"]))
    assert len(found) == 1, (sentence, found)
    return found[0]


def read_documents(documents):
    """(what each document tells, as (subject, relation, value);
    what is asked in it, as (subject, relation))."""
    told, asked = [], []
    for document in documents:
        last = None
        for line in document.split("\n"):
            spoken = re.fullmatch(r"[A-Z][a-z]+: (.*)", line)
            text = spoken[1] if spoken else line
            if text.endswith("?"):
                asked.append(None)  # what was asked shows in the answer below it
                continue
            for sentence in text.removesuffix(".").split(". "):
                told.append(understand(sentence, last))
                last = told[-1][0]
                if asked and asked[-1] is None:
                    asked[-1] = told[-1][:2]
    return told, asked


@cache
def told_and_asked():
    """What the corpus tells and asks, read once."""
    return read_documents(CORPUS.documents)


HELD = {(f.subject, f.relation) for f in TOWN.facts if TOWN.is_held_out(f)}


# --- the town -------------------------------------------------------------------------------------


def test_everything_that_is_told_is_true():
    """Each sentence of each document is a fact of the town, pronouns read as the last name before them."""
    told, _ = told_and_asked()
    assert set(told) <= {(f.subject, f.relation, f.value) for f in TOWN.facts}


def test_each_fact_is_told_as_often_as_its_fame_says():
    """Counted in the documents: as FAME and OTHER say (hundreds of times, some, once, never),
    and that is what `told` answers."""
    told, _ = told_and_asked()
    counts = Counter(f"{subject}, {relation}" for subject, relation, _ in told)
    assert counts == +CORPUS.told
    for fact in TOWN.facts:
        assert counts[fact.key] == (OTHER if fact.fame == "other" else FAME[fact.fame])
    assert FAME["famous"] >= 100 > FAME["known"] > FAME["once"] == 1 and FAME["never"] == 0


@pytest.mark.parametrize(
    "times",
    [{"famous": 3, "never": 2, "other": 0}, {"once": 5}, {"famous": 0, "known": 0, "once": 0, "other": 1}],
    ids=str)
def test_other_counts_can_be_asked_for(times):
    town = Town(3, people=2)
    corpus = town.corpus(random.Random(0), {"famous": 1, "known": 1, "other": 2} | times)
    told, _ = read_documents(corpus.documents)
    counts = Counter(f"{subject}, {relation}" for subject, relation, _ in told)
    wanted = {"famous": 1, "known": 1, "once": 1, "never": 0, "other": 2} | times
    assert counts == +corpus.told == Counter({f.key: wanted[f.fame] for f in town.facts if wanted[f.fame]})


def test_held_out_facts_are_told_but_never_asked():
    """No document asks for one, in any wording; most of those with some fame are told."""
    told, asked = told_and_asked()
    assert not {key for key in asked if key in HELD}
    questions = [line.split(": ", 1)[1]
                 for document in CORPUS.documents
                 for line in document.split("\n")
                 if line.endswith("?")]
    wordings = {template.format(s=f.subject)
                for f in TOWN.facts
                if TOWN.is_held_out(f)
                for template in RELATIONS[f.relation].asked}
    assert len(questions) == len(asked) > 500 and wordings and not wordings & set(questions)
    famous = {(f.subject, f.relation) for f in TOWN.facts if f.fame == "famous"}
    assert {(s, r) for s, r, _ in told} >= famous & HELD


def test_an_answer_in_a_dialogue_answers_the_question_above_it():
    """The question names the subject that the answer is about."""
    for document in CORPUS.documents:
        lines = document.split("\n")
        for question, answer in zip(lines, lines[1:]):
            if question.endswith("?"):
                subject, relation, _ = understand(answer.split(": ", 1)[1].removesuffix("."))
                assert subject in question


def test_held_out_questions_and_training_questions_share_no_fact():
    rng = random.Random(0)
    every = tuple(FAME) + ("other",)
    held, free = TOWN.questions(True, rng, every, wordings=5), TOWN.questions(False, rng, every, wordings=5)
    assert {q.key for q in held}.isdisjoint(q.key for q in free)
    assert {q.key for q in held} == {f"{s}, {r}" for s, r in HELD}
    assert {q.key for q in held} | {q.key for q in free} == {f.key for f in TOWN.facts}
    assert not {q.prompt for q in held} & {q.prompt for q in free}
    assert len({q.prompt for q in held}) == len(held)  # no wording twice


def test_a_quarter_is_held_out():
    """Of n facts n/4 are expected, with a standard deviation of sqrt(n·3/16); five of them are allowed.

    No fact has two values.
    """
    town = Town(0)
    n = len(town.facts)
    assert n > 160 * 7 and len({f.key for f in town.facts}) == n
    assert abs(sum(map(town.is_held_out, town.facts)) - n / 4) < 5 * (n * 3 / 16) ** 0.5


def test_the_fames_are_of_equal_size_and_no_one_is_their_own_mother_or_friend():
    town = Town(7, people=10)
    assert Counter(town.fame.values()) == {"famous": 10, "known": 10, "once": 10, "never": 10}
    assert not [f for f in town.facts if f.value == f.subject]
    assert all(town.fame[f.value] == "famous" for f in town.facts if f.relation == "mayor")


def sketch_of_town(seed):
    """Facts with their side of the split, texts and questions of a small town, as JSON has them."""
    town, rng = Town(seed, people=3), random.Random(1)
    corpus = town.corpus(rng, {"famous": 2, "known": 1, "other": 1})
    facts = [[f.key, f.value, town.is_held_out(f)] for f in town.facts]
    return [facts, corpus.documents, [q.prompt for q in town.questions(True, rng)]]


def test_one_seed_is_one_town_in_every_process():
    """Same facts, split and texts here and under another hash seed; another seed is another town."""
    code = "import json; from test_worlds import sketch_of_town; print(json.dumps(sketch_of_town(0)))"
    env = {"PYTHONHASHSEED": "7", "PYTHONPATH": ":".join(sys.path)}
    there = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                                      check=True, env=env).stdout)
    assert sketch_of_town(0) == there == sketch_of_town(0)
    other = sketch_of_town(1)
    assert other[0] != there[0] and other[1] != there[1]
    assert [f[2] for f in other[0]] != [f[2] for f in there[0]]


# --- checkers -------------------------------------------------------------------------------------


def questions_of_all_kinds():
    """Two or more of every kind of both worlds."""
    rng, sums, town = random.Random(3), Sums(1), Town(2)
    every = {}
    for question in town.questions(True, rng) + town.questions(False, rng):
        every.setdefault(question.kind, []).append(question)
    of_sums = [q for kind in KINDS for held in (True, False) for q in sums.questions(kind, 3, held, rng)]
    return [q for some in every.values() for q in some[:6]] + of_sums


QUESTIONS = questions_of_all_kinds()


def test_all_kinds_are_there():
    assert {q.kind for q in QUESTIONS} == {*RELATIONS, *KINDS}


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda q: q.kind)
def test_the_right_response_is_right_and_any_change_is_not(question):
    """Right only as it stands: not cut, not with words before or after, not in another case,
    not with or without steps at will."""
    text, thought = question.response, question.thought
    assert question.check(Response(text, thought, True)) == (True, True)
    assert question.check(TOKENIZER.read_response(question.pair(TOKENIZER)[1])) == (True, True)
    assert question.pair(TOKENIZER)[0] == TOKENIZER.prompt(question.prompt)
    assert question.check(Response(text, thought, False)) == (False, False)
    assert question.check(Response(text, "steps" if thought is None else None, True)) == (False, False)
    for wrong in (text + " ", text + "\n", " " + text, text + " And more.", "Well, " + text,
                  text + "<|user|>", text[:-1] + "!", "", "I do not know."):
        assert question.check(Response(wrong, thought, True)) == (False, False), wrong
    for wrong in (question.prompt, text + text, f"{text} {text}"):
        assert not question.check(Response(wrong, thought, True)).right, wrong


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda q: q.kind)
def test_another_value_has_the_form_and_is_wrong(question):
    """The value of another question of the kind, in the same sentence;
    for numbers also one more and the digits turned round."""
    start = question.response.rindex(question.answer)
    others = {q.answer for q in QUESTIONS if q.kind == question.kind} - {question.answer}
    if question.answer.isdigit():
        others |= {str(int(question.answer) + 1),
                   "0" + question.answer,
                   question.answer + "0",
                   question.answer[::-1]} - {question.answer}
    assert others
    for other in others:
        text = question.response[:start] + other + question.response[start + len(question.answer):]
        assert question.check(Response(text, question.thought, True)) == (True, False), text


def test_a_true_sentence_about_someone_else_is_no_answer():
    rng, town = random.Random(0), Town(0, people=5)
    first, second, *_ = [town.question(f, rng) for f in town.facts if f.relation == "job"]
    assert first.check(Response(second.response, None, True)) == (True, False)


def test_the_score_by_hand():
    """Three questions: one right, one wrong in the right form, one in no form."""
    sums = Sums(0)
    questions = [sums.question("sum2", [12, 13]), sums.question("sum2", [20, 20]),
                 sums.question("compare", [12, 13])]
    responses = [Response("25", None, True), Response("41", None, True), Response("13 is larger", None, True)]
    assert score(questions, responses) == {"all": {"n": 3, "right": 1 / 3, "form": 2 / 3},
                                           "compare": {"n": 1, "right": 0, "form": 0},
                                           "sum2": {"n": 2, "right": 0.5, "form": 1}}


def test_held_out_is_a_share_and_depends_on_key_and_seed():
    """Of 4,000 keys a fifth, 800, ± 5 standard deviations of 25; none at a share of 0;
    another seed holds out others."""
    first, second = ([held_out(f"k{i}", 0.2, seed) for i in range(4000)] for seed in (0, 1))
    assert abs(sum(first) - 800) < 127 and first == [held_out(f"k{i}", 0.2, 0) for i in range(4000)]
    # A fifth of a fifth: the seeds have nothing to do with each other.
    assert abs(sum(a and b for a, b in zip(first, second)) - 160) < 62
    assert not any(held_out(f"k{i}", 0, 0) for i in range(100))


# --- sums -----------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 9999), st.integers(0, 9999))
def test_column_steps_add_up(a, b):
    """Each step is true; its two digits are the next column's; a carry is taken up exactly when the last
    step made one; and the ones of all steps, the last step in full, spell a + b.
    """
    steps = column_steps(a, b).split(" ")
    width, carried, spelled = max(len(str(a)), len(str(b))), False, ""
    assert len(steps) == width
    for i, step in enumerate(steps):
        left, total = step.split("=")
        numbers = [int(n) for n in left.split("+")]
        assert sum(numbers) == int(total)
        assert numbers[:2] == [int(str(n).zfill(width)[-1 - i]) for n in (a, b)]
        assert numbers[2:] == ([1] if carried else [])
        carried = int(total) > 9
        spelled = (total if i == width - 1 else total[-1]) + spelled
    assert int(spelled) == a + b


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 99), min_size=2, max_size=6))
def test_chain_steps_add_up(numbers):
    """Each step is true, begins with the total before it, adds the next number,
    and the last total is the sum."""
    total = numbers[0]
    steps = chain_steps(numbers).split(" ")
    assert len(steps) == len(numbers) - 1
    for step, number in zip(steps, numbers[1:]):
        a, b, c = map(int, re.fullmatch(r"(\d+)\+(\d+)=(\d+)", step).groups())
        assert (a, b) == (total, number) and a + b == c
        total = c
    assert total == sum(numbers)


def test_the_worked_examples():
    assert column_steps(47, 38) == "7+8=15 4+3+1=8"
    assert column_steps(99, 1) == "9+1=10 9+0+1=10"
    assert column_steps(0, 0) == "0+0=0"
    assert chain_steps([7, 8, 5]) == "7+8=15 15+5=20"


@pytest.mark.parametrize("kind", KINDS)
def test_questions_ask_for_what_they_answer(kind):
    """The numbers read back from the prompt: their sum, or the larger;
    two digits, three digits or one, as the kind says."""
    sums, rng = Sums(4), random.Random(0)
    for held in (True, False):
        for q in sums.questions(kind, 60, held, rng):
            numbers = [int(n) for n in re.findall(r"\d+", q.prompt)]
            assert q.answer == str(max(numbers) if kind == "compare" else sum(numbers)) == q.response
            assert len(numbers) == (3 if kind == "chain_steps" else 2)
            assert {len(str(n)) for n in numbers} == {{"sum3_steps": 3, "chain_steps": 1}.get(kind, 2)}
            assert (q.thought is not None) == kind.endswith("_steps") == ("steps" in q.prompt)
            assert all(sums.is_held_out(*order) == held for order in permutations(numbers))
            assert kind != "compare" or numbers[0] != numbers[1]


def test_questions_of_the_two_sides_share_nothing():
    sums, rng = Sums(0), random.Random(0)
    for kind in KINDS:
        held, free = sums.questions(kind, 80, True, rng), sums.questions(kind, 2000, False, rng)
        assert {q.key for q in held}.isdisjoint(q.key for q in free)
        assert len({q.prompt for q in held}) == 80


def groups_in(text):
    """Every sum and comparison that a text holds, as sorted numbers: "4+3+1" gives (1, 3, 4)."""
    for run in re.findall(r"\d+(?:\+\d+)+", text):
        yield tuple(sorted(map(int, run.split("+"))))
    for pair in re.findall(r"(\d+) is larger than (\d+)", text) + re.findall(r"larger, (\d+) or (\d+)", text):
        yield tuple(sorted(map(int, pair)))


def held_out_groups(sums, n, rng):
    """The numbers of n held-out questions of each kind, sorted;
    of the chains, of which there are few, of 20."""
    questions = [q
                 for kind in KINDS
                 for q in sums.questions(kind, 20 if kind == "chain_steps" else n, True, rng)]
    return {tuple(sorted(int(n) for n in re.findall(r"\d+", q.prompt))) for q in questions}


@pytest.mark.parametrize("seed", [0, 1])
def test_no_document_holds_a_held_out_sum(seed):
    """Whatever is added or compared, in either order and inside the steps too:
    not one of the sums that questions hold out."""
    sums, rng = Sums(seed), random.Random(9)
    shown = {group for document in sums.documents(3000, rng) for group in groups_in(document)}
    asked = held_out_groups(sums, 700, rng)
    assert len(shown) > 3000 and len(asked) > 1000
    assert not shown & asked


def test_the_steps_of_training_questions_hold_no_held_out_sum():
    """The same for the questions that a model is trained on: prompts, steps and answers."""
    sums, rng = Sums(0), random.Random(2)
    free = [q for kind in KINDS for q in sums.questions(kind, 3000, False, rng)]
    shown = {group for q in free for group in groups_in(f"{q.prompt} {q.thought}")}
    assert len(shown) > 3000 and not shown & held_out_groups(sums, 700, rng)


def test_everything_in_the_documents_of_sums_is_true():
    """Each equation, comparison, "so c" after steps, and answer to the question on the line above it;
    and nothing else is there."""
    documents = Sums(0).documents(800, random.Random(0))
    text = "\n".join(documents)
    equations = re.findall(r"(\d+(?:\+\d+)+)=(\d+)", text)
    assert len(equations) > 2000
    assert all(sum(map(int, left.split("+"))) == int(right) for left, right in equations)
    larger = re.findall(r"(\d+) is larger than (\d+)", text)
    assert len(larger) > 50 and all(int(a) > int(b) for a, b in larger)
    worked = re.findall(r"(\d+(?:\+\d+)+): [0-9+= ]+ so (\d+)\.", text)
    assert len(worked) > 200 and all(sum(map(int, left.split("+"))) == int(right) for left, right in worked)
    answered = re.findall(r"^\w+: What is ([\d+]+)\?(?: Write the steps\.)?\n\w+: (?:[\d+= ]+ so )?(\d+)\.$",
                          text, re.MULTILINE)
    assert len(answered) > 200
    assert all(sum(map(int, left.split("+"))) == int(right) for left, right in answered)
    chosen = re.findall(r"^\w+: Which is larger, (\d+) or (\d+)\?\n\w+: (\d+)\.$", text, re.MULTILINE)
    assert len(chosen) > 20 and all(max(int(a), int(b)) == int(c) for a, b, c in chosen)
    assert text.count("?") == len(answered) + len(chosen)
    steps = re.findall(r"Write the steps\.\n\w+: (.+) so", text)
    assert len(steps) == text.count("Write the steps") and all("=" in s for s in steps)
    words = re.findall(r"[A-Za-z]+", re.sub(r"^\w+: ", "", text, flags=re.MULTILINE))
    assert set(words) == set("so is larger than What Which or Write the steps".split())


def test_one_seed_is_one_world_of_sums():
    def sketch(seed):
        sums, rng = Sums(seed), random.Random(1)
        return sums.documents(5, rng), [q.prompt for q in sums.questions("sum2", 5, True, rng)]

    assert sketch(0) == sketch(0) != sketch(1)
    pairs = [(a, b) for a in range(10, 100) for b in range(a, 100)]
    held = [Sums(0).is_held_out(*pair) for pair in pairs]
    assert abs(sum(held) - 819) < 128  # a fifth of 4,095 pairs, ± 5 standard deviations of 25.6
    assert held != [Sums(1).is_held_out(*pair) for pair in pairs]


def test_more_held_out_questions_than_there_are_is_said():
    """Three of the digits 2 to 9 in some order:
    512 prompts, of which about a fifth is held out, so 200 cannot be had."""
    with pytest.raises(ValueError, match="only .* different held-out questions of kind 'chain_steps'"):
        Sums(0).questions("chain_steps", 200, True, random.Random(0))


# --- the learner's own files ----------------------------------------------------------------------


def file(tmp_path, data, name="own.txt"):
    path = tmp_path / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode("utf-8"))
    return path


@pytest.mark.parametrize("text",
                         ["plain", "two\nlines\n", "crlf\r\nkept\r\n", "日本語 🙂 e\u0301", "a\x00b",
                          "line\u2028separator", " \n a"],
                         ids=ascii)
def test_a_text_comes_as_it_is(tmp_path, text):
    assert read_text(file(tmp_path, text)) == text == read_text(str(file(tmp_path, text)))


def test_a_byte_order_mark_is_left_out_once(tmp_path):
    assert read_text(file(tmp_path, b"\xef\xbb\xbfabc")) == "abc"
    assert read_text(file(tmp_path, b"\xef\xbb\xbf\xef\xbb\xbfabc")) == "\ufeffabc"


@pytest.mark.parametrize("data, place",
                         [(b"abc\xff", "byte 3 (0xff)"),
                          (b"\xef\xbb\xbfab\xe9 x", "byte 5 (0xe9)"),
                          ("é".encode() * 10 + b"\xc3", "byte 20 (0xc3)"),
                          ("grüß".encode("latin-1"), "byte 2 (0xfc)"),
                          ("text".encode("utf-16"), "byte 0 (0xff)"),
                          (b"ab\xed\xa0\x80", "byte 2 (0xed)")],
                         ids=ascii)
def test_a_file_that_is_not_utf8_is_told_at_which_byte(tmp_path, data, place):
    path = file(tmp_path, data)
    for read in (read_text, read_questions):
        with pytest.raises(BadFile) as error:
            read(path)
        assert str(error.value) == f"{path}: {place} is not UTF-8; save the file as UTF-8"


@pytest.mark.parametrize("read", [read_text, read_questions])
def test_files_that_are_not_there_or_empty_are_named_in_one_line(tmp_path, read):
    """Missing, a folder, no bytes, white space, a lone byte-order mark, a path that no system takes."""
    cases = {tmp_path / "nowhere.txt": "no such file",
             tmp_path: "is a folder",
             file(tmp_path, b"", "a"): "is empty",
             file(tmp_path, b" \r\n\t\n", "b"): "is empty",
             file(tmp_path, b"\xef\xbb\xbf", "c"): "is empty",
             tmp_path / "a" / "below": "cannot be read",
             f"{tmp_path}/nul\x00l": "cannot be read",
             tmp_path / ("x" * 300): "cannot be read"}
    for path, reason in cases.items():
        with pytest.raises(BadFile, match=reason) as error:
            read(path)
        assert str(error.value).startswith(str(path))
        assert "\n" not in str(error.value)
        assert ";" in str(error.value)


GOOD = '{"question": "What?", "answer": "That."}'


def test_questions_by_hand(tmp_path):
    """CRLF, blank lines, a byte-order mark, other keys, no newline at the end,
    U+2028 and a newline inside strings, escapes."""
    lines = [GOOD, "", "  \t", '{"answer": "B\\nC", "question": "A\u2028A", "id": 7}',
             '{"question": "\\u00e9 \\ud83d\\ude42", "answer": "\u0085x"}', GOOD]
    wanted = [("What?", "That."), ("A\u2028A", "B\nC"), ("é 🙂", "\u0085x"), ("What?", "That.")]
    for newline, start in (("\n", ""), ("\r\n", "\ufeff")):
        assert read_questions(file(tmp_path, start + newline.join(lines))) == wanted
        assert read_questions(file(tmp_path, start + newline.join(lines) + newline)) == wanted


@pytest.mark.parametrize("line, reason",
                         [("{", "is not JSON"),
                          ('{"question": "a", "answer": "b"', "is not JSON"),
                          ("question,answer", "is not JSON"),
                          (GOOD + GOOD, "is not JSON"),
                          (GOOD + ",", "is not JSON"),
                          ("[" * 100_000, "is not JSON"),
                          ("{'question': 'a', 'answer': 'b'}", "is not JSON"),
                          ("[1]", "is not an object"),
                          ('"text"', "is not an object"),
                          ("null", "is not an object"),
                          ("3", "is not an object"),
                          ('{"question": "a"}', 'has no "answer"'),
                          ('{"answer": "a"}', 'has no "question"'),
                          ('{"Question": "a", "answer": "b"}', 'has no "question"'),
                          ('{"question": 3, "answer": "b"}', '"question" is 3'),
                          ('{"question": "a", "answer": null}', '"answer" is None'),
                          ('{"question": "a", "answer": ["b"]}', '"answer" is '),
                          ('{"question": "", "answer": "b"}', '"question" is '),
                          ('{"question": "a", "answer": " \\n"}', '"answer" is '),
                          ('{"question": "a\\ud800", "answer": "b"}', "lone surrogate"),
                          ('{"question": "' + "x" * 50 + '", "answer": {"long": "' + "y" * 500 + '"}}',
                           '"answer" is ')],
                         ids=lambda value: ascii(value)[:40])
def test_a_bad_line_is_told_by_its_number(tmp_path, line, reason):
    """Line 4 of the file, counted from 1, blank lines counted:
    one short line that names the file, and no row comes back."""
    path = file(tmp_path, "\n".join([GOOD, "", GOOD, line, GOOD]), "qa.jsonl")
    with pytest.raises(BadFile) as error:
        read_questions(path)
    message = str(error.value)
    assert message.startswith(f"{path}: line 4")
    assert reason in message
    assert "\n" not in message
    assert len(message) < len(str(path)) + 200
    assert len(re.findall(r"line \d", message)) == 1


def test_a_bad_line_is_counted_alike_in_a_file_from_windows(tmp_path):
    with pytest.raises(BadFile, match="line 3 has no"):
        read_questions(file(tmp_path, "\ufeff" + "\r\n".join([GOOD, "", '{"question": "a"}'])))


TEXT = st.text(min_size=1, max_size=20).filter(str.strip)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=5), st.booleans())
def test_whatever_json_writes_is_read(tmp_path_factory, pairs, plain):
    """Any two texts, escaped or as they are: what json.dumps writes a line, read_questions gives back."""
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    path.write_bytes("\n".join(json.dumps({"question": q, "answer": a}, ensure_ascii=plain)
                               for q, a in pairs).encode("utf-8"))
    assert read_questions(path) == pairs


def test_a_question_is_plain_data():
    """Two questions of the same content are equal and hash alike: they can stand in sets."""
    assert len({Sums(0).question("sum2", [12, 13]), Sums(0).question("sum2", [12, 13])}) == 1
    assert isinstance(Sums(0).question("sum2", [12, 13]), Question)
