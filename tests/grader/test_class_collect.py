"""Submissions are found whatever they are: one for each folder or file, and nothing is followed or opened."""

from __future__ import annotations

import os

import pytest

from classes import SOLVED, save
from grader.outside.classroom.collect import class_digest, collect, in_shard
from grader.outside.classroom.plain import Refused

WANTED = "13_dpo.ipynb"


def found(*places):
    """id -> the notebook's name, or the trouble."""
    return {f.id: f.path.name if f.path else f.trouble for f in collect(places, WANTED)}


def test_a_folder_or_a_file_is_a_submission(tmp_path):
    save(tmp_path / "ada" / "13_dpo.ipynb", SOLVED)
    save(tmp_path / "ben.ipynb", SOLVED)
    save(tmp_path / "cleo" / "handed in" / "my work.ipynb", SOLVED)
    assert found(tmp_path) == {"ada": "13_dpo.ipynb", "ben": "ben.ipynb", "cleo": "my work.ipynb"}
    assert found(tmp_path / "ben.ipynb") == {"ben": "ben.ipynb"}
    assert list(found(tmp_path / "cleo", tmp_path / "ben.ipynb")) == ["ben", "handed in"]


def test_of_several_notebooks_the_chapters_own_counts(tmp_path):
    for name in ("13_dpo.ipynb", "scratch.ipynb", "11_ppo.ipynb"):
        save(tmp_path / "ada" / name, SOLVED)
    for name in ("a.ipynb", "b.ipynb"):
        save(tmp_path / "ben" / name, SOLVED)
    save(tmp_path / "ben" / ".ipynb_checkpoints" / "13_dpo.ipynb", SOLVED)
    result = found(tmp_path)
    assert result["ada"] == "13_dpo.ipynb"
    assert "2 notebooks" in result["ben"] and "a.ipynb, b.ipynb" in result["ben"] and WANTED in result["ben"]


def test_what_is_no_notebook_has_its_row_and_its_reason(tmp_path):
    secret = save(tmp_path / "elsewhere" / "secret.ipynb", SOLVED)
    folder = tmp_path / "in"
    (folder / "empty").mkdir(parents=True)
    (folder / "work.py").write_text("x = 1")
    (folder / "link.ipynb").symlink_to(secret)
    (folder / "linked").symlink_to(secret.parent)
    (folder / "inner").mkdir()
    (folder / "inner" / "13_dpo.ipynb").symlink_to(secret)
    (folder / "loop").mkdir()
    (folder / "loop" / "loop").symlink_to(folder / "loop")
    (folder / ".DS_Store").write_text("")
    os.mkfifo(folder / "pipe.ipynb")
    os.mkfifo(folder / "inner" / "another.ipynb")
    result = found(folder)
    assert set(result) == {"empty", "work.py", "link.ipynb", "linked", "inner", "loop", "pipe.ipynb"}
    assert "no notebook" in result["empty"] and "not a notebook" in result["work.py"]
    assert all("link" in result[name].lower() for name in ("link.ipynb", "linked", "inner", "loop"))
    assert "neither a file" in result["pipe.ipynb"]
    assert not any(name.endswith(WANTED) for name in result.values())


def test_deep_and_crowded_folders_end(tmp_path):
    deep = tmp_path / "deep"
    save(deep.joinpath(*"abcdefgh") / WANTED, SOLVED)
    crowded = tmp_path / "crowded"
    crowded.mkdir()
    for n in range(2100):
        (crowded / f"{n}.txt").touch()
    result = found(tmp_path)
    assert "no notebook" in result["deep"] and "more than 2000 files" in result["crowded"]


def test_ids_are_never_the_same(tmp_path):
    save(tmp_path / "one" / "ada" / WANTED, SOLVED)
    save(tmp_path / "one" / "ada.ipynb", SOLVED)
    save(tmp_path / "two" / "ada" / WANTED, SOLVED)
    ids = [f.id for f in collect([tmp_path / "one", tmp_path / "two"], WANTED)]
    assert ids == sorted(set(ids)) and len(ids) == 3 and "ada.ipynb" in ids


def test_names_that_are_no_utf8(tmp_path):
    path = os.path.join(os.fsencode(tmp_path), b"z\xff\xfe.ipynb")
    try:
        with open(path, "wb") as file:
            file.write(b"{}")
    except OSError:
        pytest.skip("this file system has no such names")
    only, = collect([tmp_path], WANTED)
    assert only.id == "z\\xff\\xfe" and os.path.exists(only.path)


def test_an_empty_or_missing_folder_is_refused(tmp_path):
    with pytest.raises(Refused, match="SUBMISSIONS .*no submission is in it"):
        collect([tmp_path], WANTED)
    with pytest.raises(Refused, match="SUBMISSIONS .*name a folder that exists"):
        collect([tmp_path / "none"], WANTED)


def test_shards_part_a_class_evenly_enough():
    ids = [f"student{n}" for n in range(10_000)]
    parts = [[id for id in ids if in_shard(id, (i, 16))] for i in range(1, 17)]
    assert sorted(sum(parts, [])) == sorted(ids)
    assert max(map(len, parts)) < 1.2 * 10_000 / 16
    assert all(in_shard(id, None) for id in ids[:3])


def test_the_class_digest_tells_lists_apart():
    assert class_digest(["a", "b"]) == class_digest(["b", "a"]) != class_digest(["ab"])
