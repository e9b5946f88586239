"""`python -m minillm.journey` as a learner runs it: on the town,
on own texts and questions, and on files that cannot be used.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from dataclasses import replace

import pytest
from safetensors import SafetensorError

from minillm import hub
from minillm.journey.__main__ import main
from minillm.journey.stages import SCALES
from minillm.tokenizer import Tokenizer
from minillm.transformer import Config, Transformer
from minillm.worlds.sums import Sums
from minillm.worlds.town import Town

SENTENCES = [
    "Der Hund läuft schnell über die Wiese.",
    "今日は天気がいいですね。",
    "Кот спит на тёплой печи.",
    "A ship sails at dawn 🎉 with 12 men.",
]


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """No test here asks how well a model learns: one that begins at random is of one narrow layer."""
    scale = SCALES["cpu"]
    shape = replace(scale.config, d_model=32, n_layers=1, n_heads=2, n_kv_heads=1, d_ff=48)
    monkeypatch.setitem(SCALES, "cpu", replace(scale, config=shape))


def run(tmp_path, *arguments: str) -> int:
    return main([*arguments, "--quiet", "--out", str(tmp_path / "build")])


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "my text.txt"
    path.write_text("\n".join(SENTENCES[i % 4] + f" {i}" for i in range(120)), encoding="utf-8")
    return path


def test_own_text_in_many_scripts(tmp_path, text, capsys):
    assert run(tmp_path, "--text", str(text), "--steps", "3") == 0
    out = capsys.readouterr().out
    assert re.search(r"bits per byte of held-out text +\d+\.\d+ bits/byte → \d+\.\d+ bits/byte", out)
    assert "x: the text so far" in out and "F: 1" in out
    page = (tmp_path / "build" / "journey.html").read_text(encoding="utf-8")
    assert "<svg" in page and "aria-label" in page
    assert not re.search(r'(src|href)="(?!#|data:)', page), "the page needs another file"
    model, tokenizer = hub.load(tmp_path / "build" / "journey")
    assert tokenizer.decode(tokenizer.encode(text.read_text(encoding="utf-8"))) == text.read_text(
        encoding="utf-8"
    )


def test_own_text_and_questions(tmp_path, text, capsys):
    qa = tmp_path / "qa.jsonl"
    qa.write_text(
        "".join(
            json.dumps({"question": f"Was ist {i}?", "answer": f"Die Zahl {i}."}, ensure_ascii=False) + "\n"
            for i in range(30)
        ),
        encoding="utf-8",
    )
    assert run(tmp_path, "--text", str(text), "--qa", str(qa), "--steps", "3") == 0
    out = capsys.readouterr().out
    assert "instruction tuning" in out and "answers word for word (3 questions)" in out


def preferences(n=24, prompt="How do you say {i}?", chosen="Please, {i}.", rejected="{i}, go."):
    return [
        json.dumps(
            {"prompt": prompt.format(i=i), "chosen": chosen.format(i=i), "rejected": rejected.format(i=i)}
        )
        for i in range(n)
    ]


@pytest.mark.parametrize("start", ["tuned", None])
def test_own_preferences(tmp_path, capsys, start):
    """From a shipped model, or from random weights with the prompts and the chosen answers for a text."""
    path = tmp_path / "my prefs.jsonl"
    path.write_text("\n".join(preferences(24 if start else 200)), encoding="utf-8")
    assert run(tmp_path, "--prefs", str(path), "--steps", "4", *(["--from", start] if start else [])) == 0
    out = capsys.readouterr().out
    assert (
        "reward model" in out
        and "±β·σ(−βh)" in out
        and re.search(r"held-out choices told by h > 0 \(\d+ rows\) +50 % → \d+ %", out)
    )
    assert ("pretraining" in out) == (start is None)
    page = (tmp_path / "build" / "journey.html").read_text(encoding="utf-8")
    assert "log p of the held-out rejected" in page


BAD_PREFERENCES = {  # line 3, and what the message must say; lines 5 and 9 are as bad
    "no rejected": ('{"prompt": "a", "chosen": "b"}', 'line 3 has no "rejected"'),
    "json": ("{", "line 3 is not JSON"),
    "number": ('{"prompt": "a", "chosen": "b", "rejected": 3}', 'line 3: "rejected" is 3'),
    "list": ("[]", "line 3 is not an object"),
    "empty": ('{"prompt": "a", "chosen": "", "rejected": "b"}', "line 3: \"chosen\" is ''"),
    "same": (
        '{"prompt": "a", "chosen": "b", "rejected": "b"}',
        '"chosen" and "rejected" are the same on lines 3, 5, 9',
    ),
}


@pytest.mark.parametrize("case", BAD_PREFERENCES)
def test_bad_preferences_are_named_by_number(tmp_path, capsys, case):
    bad, said = BAD_PREFERENCES[case]
    rows = preferences()
    rows[2] = rows[4] = rows[8] = bad
    path = tmp_path / "prefs.jsonl"
    path.write_text("\n".join(rows), encoding="utf-8")
    assert run(tmp_path, "--prefs", str(path), "--from", "tuned") == 2
    error = capsys.readouterr().err
    assert said in error and "5, 9" in error and error.count("\n") == 1 and not (tmp_path / "build").exists()


def test_preferences_longer_than_the_context_are_named(tmp_path, capsys):
    path = tmp_path / "prefs.jsonl"
    path.write_text("\n".join([*preferences(), *preferences(1, prompt="long " * 2000)]), encoding="utf-8")
    assert run(tmp_path, "--prefs", str(path), "--from", "tuned", "--steps", "2") == 0
    assert re.search(r"1 of 25 preferences .* left out: rows 25", capsys.readouterr().out)


def test_one_prompt_holds_nothing_out(tmp_path, capsys):
    path = tmp_path / "prefs.jsonl"
    path.write_text("\n".join(preferences(5, prompt="Which?")), encoding="utf-8")
    assert run(tmp_path, "--prefs", str(path), "--from", "tuned") == 2
    assert "1 different prompt that fits a context of" in capsys.readouterr().err


def test_questions_longer_than_the_context_are_named_and_not_dropped_in_silence(tmp_path, text, capsys):
    qa = tmp_path / "qa.jsonl"
    rows = [{"question": f"What is {i}?", "answer": str(i)} for i in range(20)] + [
        {"question": "long " * 2000, "answer": "yes"}
    ]
    qa.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert run(tmp_path, "--text", str(text), "--qa", str(qa), "--steps", "2") == 0
    assert re.search(r"1 of 21 questions .* left out: rows 21", capsys.readouterr().out)


def test_same_seed_same_model_other_seed_other_model_in_one_folder(tmp_path, text):
    """A journey may be made again in its own folder: its page and its model are written over, the rest stays.
    """
    weights = []
    for seed in "121":
        assert run(tmp_path, "--text", str(text), "--steps", "2", "--seed", seed) == 0
        weights.append((tmp_path / "build" / "journey" / "model.safetensors").read_bytes())
        (tmp_path / "build" / "thesis.tex").write_text("mine")
        (tmp_path / "build" / "journey.part").write_text("mine")
    assert weights[0] == weights[2] != weights[1]
    found = sorted(path.name for path in (tmp_path / "build").iterdir())
    assert found == ["journey", "journey.html", "journey.part", "thesis.tex"]


BAD_TEXTS = {  # contents, and what the message must say
    "missing": (None, "no such file"),
    "empty": (b"", "empty"),
    "blank": (b" \n\n ", "empty"),
    "latin1": (b"a caf\xe9 in Paris " * 50, "byte 5 (0xe9) is not UTF-8"),
    "short": (b"A few words.", "one context is 128"),
    "cut in a letter": ("né".encode()[:-1], "byte 1 (0xc3)"),
}


@pytest.mark.parametrize("case", BAD_TEXTS)
def test_bad_text_is_one_line_and_nothing_is_written(tmp_path, capsys, case):
    data, said = BAD_TEXTS[case]
    path = tmp_path / "in put.txt"
    if data is not None:
        path.write_bytes(data)
    assert run(tmp_path, "--text", str(path)) == 2
    error = capsys.readouterr().err
    assert said in error and "in put.txt" in error and error.count("\n") == 1
    assert not (tmp_path / "build").exists()


BAD_ROWS = {
    "bad JSON": ('{"question": "a", "answer": "b"}\n{"question": ', "line 2 is not JSON"),
    "missing key": ('{"question": "a", "answer": "b"}\n\n{"question": "a"}', 'line 3 has no "answer"'),
    "a list": ("[1, 2]", "line 1 is not an object"),
    "a number": ('{"question": "a", "answer": 3}', 'line 1: "answer" is 3'),
    "a surrogate": ('{"question": "a", "answer": "\\ud800"}', "line 1"),
    "one row": ('{"question": "a", "answer": "b"}', "at least two"),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_bad_questions_are_named_by_line(tmp_path, text, capsys, case):
    data, said = BAD_ROWS[case]
    path = tmp_path / "qa.jsonl"
    path.write_text(data, encoding="utf-8")
    assert run(tmp_path, "--text", str(text), "--qa", str(path)) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not (tmp_path / "build").exists()


def test_a_folder_that_is_no_model(tmp_path, capsys):
    assert run(tmp_path, "--from", str(tmp_path)) == 2
    assert "config.json is not there" in capsys.readouterr().err


def test_ctrl_c_keeps_the_model_and_says_how_to_go_on(tmp_path, text, capsys, monkeypatch):
    from minillm.journey import stages
    monkeypatch.setattr(stages.Journey, "instruct", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    qa = tmp_path / "qa.jsonl"
    qa.write_text("".join(json.dumps({"question": str(i), "answer": str(i)}) + "\n" for i in range(9)))
    assert run(tmp_path, "--text", str(text), "--qa", str(qa), "--steps", "2") == 130
    assert "FROM=" in capsys.readouterr().err
    hub.load(tmp_path / "build" / "journey")
    assert "Stopped after 2" in (tmp_path / "build" / "journey.html").read_text(encoding="utf-8")


def test_held_out_questions_are_never_trained_on():
    """Neither the corpus nor the tuning questions hold a held-out
    question; held-out sums stand nowhere in either order.
    """
    import random

    from minillm.journey.quiz import TOWN, town_data
    documents, _, quiz = town_data(300, 100, random.Random(3))
    town, sums = Town(TOWN), Sums(TOWN)
    prompts = {q.prompt for q in quiz.held}
    assert len(prompts) > 300
    assert not prompts & {q.prompt for q in quiz.training}
    assert not {q.key for q in quiz.held} & {q.key for q in quiz.training}
    text = "\n".join(documents)
    asked = [
        q.prompt
        for fact in town.facts
        if town.is_held_out(fact)
        for q in [town.question(fact, random.Random(i)) for i in range(5)]
    ]
    assert asked and not [prompt for prompt in set(asked) if prompt in text]
    shown = {tuple(map(int, pair)) for pair in re.findall(r"(?<![\d+])(\d\d)\+(\d\d)(?![\d+])", text)}
    assert len(shown) > 300 and not [pair for pair in shown if sums.is_held_out(*pair)]


def test_a_long_question_does_not_cut_its_neighbours_answers():
    from minillm.sample import ask
    model, tokenizer = hub.load("base")
    short, long = "Who is Ada?", "Ada " * 150
    while len(tokenizer.prompt(long)) > model.config.context - 5:
        long = long[:-4]
    alone = ask(model, tokenizer, [short], 40)[0]
    assert len(tokenizer.encode(alone.text)) > 5
    assert ask(model, tokenizer, [long, short], 40)[1] == alone


def test_a_seed_that_is_no_seed(tmp_path, capsys):
    assert run(tmp_path, "--seed", "9" * 30) == 2
    assert "--seed" in capsys.readouterr().err


def test_something_else_where_the_model_goes_is_found_before_training(tmp_path, text, capsys):
    (tmp_path / "build").mkdir()
    (tmp_path / "build" / "journey").write_text("mine")
    assert run(tmp_path, "--text", str(text), "--steps", "2") == 2
    assert "name another" in capsys.readouterr().err
    assert (tmp_path / "build" / "journey").read_text() == "mine"


@pytest.mark.parametrize("flag", ["text", "qa", "prefs", "from", "out", "seed", "steps", "scale"])
def test_an_empty_argument_is_named(tmp_path, capsys, flag):
    """An empty one is a slip: it does not silently mean the town, or random weights."""
    with pytest.raises(SystemExit) as stop:
        main(["--out", str(tmp_path / "build"), f"--{flag}="])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and f"--{flag}" in error and error.count("\n") == 1


@pytest.mark.parametrize("context", [1, 2])
def test_a_model_that_reads_too_little_is_named(tmp_path, text, capsys, context):
    tokenizer = Tokenizer.train("a ship sails", 266)
    shape = {"d_model": 8, "n_layers": 1, "n_heads": 2, "n_kv_heads": 1, "d_ff": 12}
    config = Config(vocab_size=tokenizer.vocab_size, context=context, **shape)
    hub.save(Transformer(config, 0), tokenizer, tmp_path / "short")
    assert run(tmp_path, "--text", str(text), "--from", str(tmp_path / "short")) == 2
    error = capsys.readouterr().err
    assert f"short has a context of {context} tokens; give a model that reads 3 or more" in error


@pytest.mark.parametrize("theirs", ["another library's", "saved by hand", "in shards", "a page"])
def test_what_a_journey_did_not_write_is_left_alone(tmp_path, text, capsys, theirs):
    folder = tmp_path / "build" / "journey"
    shard_bytes = 200_000 if theirs == "in shards" else 10**9
    by = "minillm" if theirs == "saved by hand" else "minillm.journey"
    hub.save(*hub.load("base"), folder, shard_bytes, by)
    if theirs == "another library's":
        config = json.loads((folder / "config.json").read_text()) | {"transformers_version": "5.0"}
        (folder / "config.json").write_text(json.dumps(config))
    elif theirs == "in shards":
        (folder / "config.json").unlink()
    elif theirs == "a page":
        (tmp_path / "build" / "journey.html").write_text("my page")
    before = {path: path.read_bytes() for path in (tmp_path / "build").rglob("*") if path.is_file()}
    assert run(tmp_path, "--text", str(text), "--steps", "2") == 2
    error = capsys.readouterr().err
    assert error.startswith("journey: --out: ") and "name another folder" in error and error.count("\n") == 1
    assert before == {path: path.read_bytes() for path in (tmp_path / "build").rglob("*") if path.is_file()}


def test_room_is_looked_for_before_training(tmp_path, text, capsys, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=2_000_000))
    assert run(tmp_path, "--text", str(text), "--steps", "2") == 2
    error = capsys.readouterr().err
    assert "build has room for 2.0 MB and a model with its page takes" in error and error.count("\n") == 1
    assert not (tmp_path / "build").exists()


@pytest.mark.parametrize("where", ["model", "page", "both"])
def test_a_disk_that_fills_up_meanwhile(tmp_path, text, capsys, monkeypatch, where):
    """The model goes to the temporary folder; one line says where it is; no half file is left."""
    real, other = hub.folders.save_file, tmp_path / "other disk"
    other.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(other))

    def full(tensors, path, metadata):
        if where == "both" or where == "model" and other not in path.parents:
            path.write_bytes(b"half")
            raise SafetensorError("I/O error: No space left on device (os error 28)")
        return real(tensors, path, metadata)

    def no_page(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(hub.folders, "save_file", full)
    if where == "page":
        monkeypatch.setattr("minillm.journey.__main__.write_page", no_page)
    assert run(tmp_path, "--text", str(text), "--steps", "2") == 2
    error = capsys.readouterr().err
    assert "No space left" in error and error.count("\n") == 1
    said = {"model": other, "page": f"{tmp_path / 'build' / 'journey'}."}
    assert ("it is lost" if where == "both" else f"The model is in {said[where]}") in error
    if where != "both":
        hub.load(next(other.glob("journey-*")) if where == "model" else tmp_path / "build" / "journey")
    assert not list(tmp_path.rglob("*minillm-*")) and not list(tmp_path.rglob("*.part"))


def test_a_file_whose_name_is_not_utf8(tmp_path, text, capsys):
    """Its name stands on the page, which is UTF-8: found after training it would have cost the run."""
    odd = tmp_path / "caf\udce9\nbleu.txt"
    odd.write_bytes(text.read_bytes())
    assert run(tmp_path, "--text", str(odd), "--steps", "2") == 0
    assert "On caf?" in (tmp_path / "build" / "journey.html").read_text(encoding="utf-8")


LONG_ROWS = {
    "a line": ('{"question": "' + "a" * 100_000 + '", "answer": "b"}',
               "line 1 is 100,031 characters long; a row has at most 100,000"),
    "lines": ("\n" * 1_000_001 + "{}", "1,000,001 lines, and 1,000,000 can be read"),
    "bytes": (" " * 64_600_000, "65 MB, and 64 can be read"),
    "a key twice": ('{"question": "a", "answer": "b", "answer": "c"}',
                    "line 1 has the key 'answer' twice; write it once"),
    "a key twice, in two spellings": ('{"question": "a", "answer": "b", "\\u0061nswer": "c"}',
                                      "line 1 has the key 'answer' twice"),
}


@pytest.mark.parametrize("case", LONG_ROWS)
def test_rows_too_long_or_with_a_key_twice(tmp_path, capsys, case):
    data, said = LONG_ROWS[case]
    path = tmp_path / "qa.jsonl"
    path.write_text(data, encoding="utf-8")
    assert run(tmp_path, "--qa", str(path)) == 2
    error = capsys.readouterr().err
    assert said in error and str(path) in error and error.count("\n") == 1
