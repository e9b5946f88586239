"""Chains learned from outcomes: on the town's uneven sums, and on a learner's own task with exact answers."""

from __future__ import annotations

import copy
import json
import random
import re
from dataclasses import replace
from itertools import permutations

import pytest
import torch

from minillm import hub
from minillm.journey import chains, stages
from minillm.journey.__main__ import main
from minillm.journey.quiz import Quiz, town_data
from minillm.journey.stages import SCALES, Journey
from minillm.tokenizer import Response, Tokenizer
from minillm.transformer import Config, Transformer
from minillm.worlds.answers import exact
from minillm.worlds.own import BadFile, read_task
from minillm.worlds.sums import Sums, steps_are_true
from minillm.worlds.town import Town


def run(tmp_path, *arguments):
    return main([*arguments, "--quiet", "--out", str(tmp_path / "build")])


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """Steps: how well a model learns is not asked here."""
    monkeypatch.setattr(chains, "STEPS", 3)


@pytest.fixture
def short(monkeypatch):
    """Two rounds."""
    monkeypatch.setitem(SCALES, "cpu", replace(SCALES["cpu"], chains=2, tuning_steps=4))


def task(tmp_path, rows):
    path = tmp_path / "task.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return str(path)


def ages(n):
    """Questions about famous people, whose age the shipped `tuned` often knows."""
    questions = Town(0).questions(False, random.Random(0), ("famous",))
    return [q for q in questions if q.kind == "age"][:n]


def rows_of(n):
    return [{"question": q.prompt, "answer": int(q.answer)} for q in ages(n)]


# --- the town's uneven sums ---------------------------------------------------------------------------------


def test_no_text_shows_an_uneven_sum():
    """Neither the documents nor the questions with their steps hold one: no "47+8", in either order, but for
    the carry of a column (three numbers) and the total of a chain, which stays below 20."""
    documents, _, quiz = town_data(600, 200, random.Random(3))
    shown = "\n".join(documents + [f"{q.prompt} {q.thought} {q.response}" for q in quiz.training + quiz.held])
    pairs = re.findall(r"(?<![\d+])(\d+)\+(\d+)(?![\d+])", shown)
    assert len(pairs) > 1000
    assert not [pair for pair in pairs if sorted(map(len, pair)) == [1, 2] and max(map(int, pair)) > 19]


def test_the_two_sides_of_the_uneven_rows_of():
    """640 pairs, the number of one digit first; a pair is on one side."""
    world = Sums(0)
    held, free = world.uneven(True), world.uneven(False)
    assert len(held) + len(free) == 640 and 100 < len(held) < 160
    assert {q.key for q in held}.isdisjoint(q.key for q in free)
    for q in held[:50] + free[:50]:
        numbers = [int(n) for n in re.findall(r"\d+", q.prompt)]
        assert [len(str(n)) for n in numbers] == [1, 2] and q.answer == q.response == str(sum(numbers))
        assert all(world.is_held_out(*order) == (q in held) for order in permutations(numbers))
        assert q.check(Response(q.answer, "5+8=13", True)).right     # any chain, as long as there is one
        assert not q.check(Response(q.answer, None, True)).right
    assert chains.held_out(world) == chains.held_out(world) and len(set(chains.held_out(world))) == 100


def test_steps_that_are_true():
    assert steps_are_true("8+9=17 2+1=3") and steps_are_true("7+8=15 4+3+1=8")
    assert not steps_are_true("8+9=17 1+2+1=3") and not steps_are_true("") and not steps_are_true("well")


def test_the_town_stage_finds_rehearses_and_tells(capsys, monkeypatch):
    """From `tuned`, on questions that it can answer: what is found are right responses; every group of the
    quiz is rehearsed; round after round is printed; the quiz stands in the scores."""
    model, tokenizer = hub.load("tuned")
    journey = Journey(replace(SCALES["cpu"], chains=2), 0, progress=False)
    journey.model, journey.tokenizer, world = copy.deepcopy(model), tokenizer, Sums(0)
    known = [replace(q, kind="uneven_steps") for q in ages(30)]
    training = [q for kind in ("sum2", "compare") for q in world.questions(kind, 8, False, random.Random(2))]
    groups, real = [], chains._fit
    monkeypatch.setattr(chains, "_fit", lambda j, found, pairs, r: (groups.append(pairs),
                                                                    real(j, found, pairs, r)))
    chains.travel_town(journey, Quiz(training, known[:4]), known[4:])
    out, stage = capsys.readouterr().out, journey.stages[0]
    assert [len(g) for g in groups[0]] == [8, 8]
    answers = {q.prompt: q.response for q in known[4:]}
    assert journey.found and all(y[-1] == tokenizer.end for _, y in journey.found)
    for x, y in journey.found:
        assert tokenizer.read_response(y).text == answers[tokenizer.decode(x[1:-1])]
    assert re.search(r"round 1: \d+\.\d % of the draw right", out) and "round 2: " in out
    assert "nobody looks at the chain" in out
    assert stage.scores[0].name == "uneven sums, steps in no text (4 questions)"
    assert len(stage.curve[0]) == 2 and stage.samples[0].asked.startswith("round 1: ")
    assert not torch.equal(model.embed.weight, journey.model.embed.weight)


def test_right_ones_are_two_a_question_and_each_once():
    class Drawn:
        group = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
        keep = torch.tensor([1, 1, 1, 1, 0, 1, 0, 0]).bool()
        tokens = torch.tensor([[5, 6, 9], [5, 6, 9], [5, 7, 9], [5, 8, 9],
                               [4, 6, 9], [4, 3, 9], [4, 2, 9], [4, 2, 9]])
        response_mask = torch.tensor([[False, True, True]] * 8)
    assert chains._right_ones(Drawn) == [([5], [6, 9]), ([5], [7, 9]), ([4], [3, 9])]


# --- the learner's own task ---------------------------------------------------------------------------------


def test_a_task_is_learned_and_told(tmp_path, short, capsys):
    """Numbers as answers, from `tuned`: rounds, the share before and after, the verdict, the page."""
    assert run(tmp_path, "--from", "tuned", "--task", task(tmp_path, rows_of(30))) == 0
    out = capsys.readouterr().out
    assert "x: questions (task.jsonl)" in out and "round 2: " in out
    assert re.search(r"held-out answers right \(3 questions\) +\d+ % → \d+ %", out)
    assert re.search(r"\d+ % → \d+ % of 3 held-out questions of task.jsonl are answered right", out)
    page = (tmp_path / "build" / "journey.html").read_text(encoding="utf-8")
    assert "round 1: " in page and "drawn answers right (%)" in page
    summary = json.loads((tmp_path / "build" / "journey" / "summary.json").read_text(encoding="utf-8"))
    assert "task.jsonl" in summary["verdict"] and len(summary["stages"][0]["curve"][0]) == 2
    hub.load(tmp_path / "build" / "journey")


def test_where_no_answer_is_right_it_stops_early_and_says_what_to_do(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(SCALES, "cpu", replace(SCALES["cpu"], chains=9))
    rows = [{"question": f"Paint {i}.", "answer": ["red", i]} for i in range(20)]
    assert run(tmp_path, "--from", "tuned", "--task", task(tmp_path, rows)) == 0
    out = capsys.readouterr().out
    assert "Stopped early: of 432 answers none was right" in out and "round 3" in out and "round 4" not in out
    assert "easier questions" in out and "QA=FILE.jsonl" in out and "stronger checkpoint" in out
    assert "Nothing was learned from task.jsonl" in out
    before, after = hub.load("tuned")[0], hub.load(tmp_path / "build" / "journey")[0]
    assert all(torch.equal(a, b) for a, b in zip(before.parameters(), after.parameters()))


def test_a_checkpoint_from_elsewhere(tmp_path, short, capsys):
    """A folder in Hugging Face's form, with random weights and a tokenizer without marks: it knows nothing,
    and that is said."""
    from tokenizers import Tokenizer as Backend
    from tokenizers import decoders, models, pre_tokenizers
    vocabulary = {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    backend = Backend(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(["<|endoftext|>"])
    tokenizer = Tokenizer(backend, 256)
    shape = {"d_model": 16, "n_layers": 1, "n_heads": 2, "n_kv_heads": 1, "d_ff": 16}
    hub.save(Transformer(Config(vocab_size=257, context=64, **shape), 0), tokenizer, tmp_path / "theirs")
    rows = [{"question": f"Say {i}", "answer": f"word {i} and no other"} for i in range(20)]
    assert run(tmp_path, "--from", str(tmp_path / "theirs"), "--task", task(tmp_path, rows)) == 0
    out = capsys.readouterr().out
    assert "round 2" in out and "F was 0 everywhere" in out
    hub.load(tmp_path / "build" / "journey")


def test_worked_examples_first(tmp_path, short, capsys):
    """QA beside TASK: the examples are imitated before outcomes teach, and rehearsed beside them."""
    qa = tmp_path / "qa.jsonl"
    qa.write_text("\n".join(json.dumps({"question": f"Now {i}?", "answer": f"{i}+1={i + 1}. "
                                        f"The answer is {i + 1}."}) for i in range(80)))
    rows = [{"question": f"And now {i}?", "answer": i + 1} for i in range(20)]
    assert run(tmp_path, "--from", "tuned", "--qa", str(qa), "--task", task(tmp_path, rows),
               "--steps", "4") == 0
    out = capsys.readouterr().out
    assert out.index("instruction tuning") < out.index("chains learned from outcomes")


def test_a_model_that_got_worse_is_not_kept(tmp_path, short, capsys, monkeypatch):
    shares = iter([0.6, 0.3])
    monkeypatch.setattr(chains, "_share", lambda *_: next(shares))
    assert run(tmp_path, "--from", "tuned", "--task", task(tmp_path, rows_of(20))) == 0
    assert "that is worse, so the model from before is kept" in capsys.readouterr().out
    before, after = hub.load("tuned")[0], hub.load(tmp_path / "build" / "journey")[0]
    assert all(torch.equal(a, b) for a, b in zip(before.parameters(), after.parameters()))


def test_without_a_checkpoint_the_remedy_is_named(tmp_path, capsys):
    assert run(tmp_path, "--task", task(tmp_path, rows_of(9))) == 2
    error = capsys.readouterr().err
    assert "--task" in error and "FROM=tuned" in error and error.count("\n") == 1
    assert not (tmp_path / "build").exists()


def test_ctrl_c_keeps_what_was_learned(tmp_path, short, capsys, monkeypatch):
    monkeypatch.setattr(chains, "_fit", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    assert run(tmp_path, "--from", "tuned", "--task", task(tmp_path, rows_of(12))) == 130
    assert "Go on with FROM=" in capsys.readouterr().err
    hub.load(tmp_path / "build" / "journey")


def test_questions_that_leave_no_room_are_named(tmp_path, short, capsys):
    rows = [*rows_of(12), {"question": "long " * 2000, "answer": 3}]
    assert run(tmp_path, "--from", "tuned", "--task", task(tmp_path, rows)) == 0
    assert re.search(r"1 of 13 questions .* left out: rows 13", capsys.readouterr().out)


BAD_ROWS = {  # line 3, and what the message must say; lines 5 and 9 are as bad
    "no answer": ('{"question": "a"}', 'line 3 has no "answer"; write {"question": "…", "answer": …}'),
    "json": ("{", "line 3 is not JSON"),
    "true": ('{"question": "a", "answer": true}', 'line 3: "answer" is True; give a number'),
    "null": ('{"question": "a", "answer": null}', 'line 3: "answer" is None; give a number'),
    "nan": ('{"question": "a", "answer": NaN}', 'line 3: "answer" is nan; give a number of at most'),
    "huge": ('{"question": "a", "answer": 1e400}', 'line 3: "answer" is inf; give a number of at most'),
    "empty": ('{"question": "a", "answer": " "}', "line 3: \"answer\" is ' '; give a text"),
    "no set": ('{"question": "a", "answer": []}', 'line 3: "answer" is []; give a list of one or more'),
    "nested": ('{"question": "a", "answer": [[1]]}', "give a list of one or more numbers and texts"),
    "object": ('{"question": "a", "answer": {"a": 1}}', 'line 3: "answer" is {\'a\': 1}; give a number'),
    "a question that is none": ('{"question": 3, "answer": 3}', 'line 3: "question" is 3; give a text'),
    "another answer": ('{"question": "Row 0", "answer": 99}', "line 3: this question had another answer"),
    "surrogate": ('{"question": "a", "answer": "\\ud800"}', "lone surrogate"),
    "surrogate in a set": ('{"question": "a", "answer": ["\\ud800"]}', "lone surrogate"),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_bad_rows_are_named(tmp_path, capsys, case):
    bad, said = BAD_ROWS[case]
    rows = [json.dumps({"question": f"Row {i}", "answer": i}) for i in range(12)]
    rows[2] = rows[4] = rows[8] = bad
    path = tmp_path / "task.jsonl"
    path.write_text("\n".join(rows), encoding="utf-8")
    assert run(tmp_path, "--from", "tuned", "--task", str(path)) == 2
    error = capsys.readouterr().err
    assert said in error and "lines 5, 9" in error and error.count("\n") == 1
    assert not (tmp_path / "build").exists()


def test_a_task_as_it_is_read(tmp_path):
    """Numbers, words, sets; the same row twice is one question."""
    path = task(tmp_path, [{"question": "a", "answer": 3}, {"question": "b", "answer": "1,250.0"},
                           {"question": "c", "answer": "The Baker."}, {"question": "d", "answer": ["x", 2]},
                           {"question": "a", "answer": "3.0"}])
    assert read_task(path) == [("a", 3), ("b", 1250), ("c", "baker"), ("d", exact([2, "X"])), ("a", 3)]
    with pytest.raises(BadFile, match="one|two"):
        stages.travel_own(Journey(SCALES["cpu"], 0, False), None, None, None, "tuned", {"task": "t"},
                          [("a", exact(3))])
