"""A run over made-up classes: the same bytes however it is done, nothing lost, nothing outside OUT."""

from __future__ import annotations

import csv
import io
import json

import pytest

from classes import EXERCISES, SOLVED, FakePool, files_under, save, use_fakes
from grader.__main__ import main
from grader.outside.classroom.journal import FILE, read_lines


@pytest.fixture
def handed_in(tmp_path, monkeypatch):
    """A made-up class of sixty; three of them hand in something else."""
    use_fakes(monkeypatch)
    folder = tmp_path / "in"
    for n in range(57):
        save(folder / f"student{n:02d}.ipynb", {**SOLVED, "metadata": {"n": n}})
    (folder / "=HYPERLINK(\"x\")").mkdir()
    (folder / "<script>alert(1)<").mkdir()
    (folder / "notes.txt").write_text("hello")
    return folder


def grade(handed_in, out, *options):
    """Run `grade` on chapter 13; its exit code."""
    return main(["grade", str(handed_in), "--chapter", "13", "--out", str(out), "--seed", "7", *options])


def results(out):
    """All that a run wrote, but its journal."""
    return {name: content for name, content in files_under(out).items() if name != FILE}


def rows(out):
    """grades.csv as dictionaries."""
    return list(csv.DictReader(io.StringIO((out / "grades.csv").read_text("utf-8"))))


def test_a_row_for_each_submission_and_a_column_for_each_exercise(handed_in, tmp_path):
    assert grade(handed_in, tmp_path / "out") == 0
    table = rows(tmp_path / "out")
    assert len(table) == 60
    assert list(table[0]) == ["submission", *EXERCISES, "total", "out_of", "flags", "trouble"]
    for row in table:
        assert abs(float(row["total"]) - sum(float(row[name]) for name in EXERCISES)) < 1e-3
        assert not any(cell.startswith(("=", "+", "-", "@")) for cell in row.values())
    by_name = {row["submission"]: row for row in table}
    assert "no notebook" in by_name["'=HYPERLINK(\"x\")"]["trouble"]
    assert any(row["flags"].startswith("tilt: calls minillm.methods") for row in table)


def test_the_json_says_the_same_and_how_to_come_by_it_again(handed_in, tmp_path):
    grade(handed_in, tmp_path / "out")
    kept = json.loads((tmp_path / "out" / "grades.json").read_text("utf-8"))
    assert (kept["chapter"], kept["seed"], kept["out_of"]) == (13, 7, 5)
    table = {row["submission"].lstrip("'"): row for row in rows(tmp_path / "out")}
    for one in kept["submissions"]:
        assert float(table[one["id"]]["total"]) == one["total"] and isinstance(one["seed"], int)
    assert len({one["seed"] for one in kept["submissions"]}) == 60
    assert "seconds" not in json.dumps(kept)


def test_nothing_is_written_outside_out(handed_in, tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    before = files_under(handed_in)
    grade(handed_in, tmp_path / "out")
    assert files_under(handed_in) == before and not list(elsewhere.iterdir())
    assert {path.name for path in tmp_path.iterdir()} == {"in", "out", "elsewhere"}
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"grades.csv", "grades.json", "summary.html", "feedback", FILE}


def test_sixteen_shards_merged_are_the_whole_byte_for_byte(handed_in, tmp_path):
    grade(handed_in, tmp_path / "whole")
    shards = [tmp_path / f"shard{i}" for i in range(1, 17)]
    for i, shard in enumerate(shards, 1):
        assert grade(handed_in, shard, "--shard", f"{i}/16") == 0
    assert sorted(FakePool.graded[60:]) == sorted(FakePool.graded[:60])
    assert main(["merge", *map(str, reversed(shards)), "--out", str(tmp_path / "joined")]) == 0
    assert results(tmp_path / "joined") == results(tmp_path / "whole")


def test_a_shard_may_be_empty(tmp_path, monkeypatch):
    use_fakes(monkeypatch)
    save(tmp_path / "in" / "ada.ipynb", SOLVED)
    for i in (1, 2, 3):
        assert grade(tmp_path / "in", tmp_path / str(i), "--shard", f"{i}/3") == 0
    grade(tmp_path / "in", tmp_path / "whole")
    assert (
        main(["merge", *(str(tmp_path / str(i)) for i in (1, 2, 3)), "--out", str(tmp_path / "joined")]) == 0
    )
    assert results(tmp_path / "joined") == results(tmp_path / "whole")


def test_merge_refuses_what_is_not_one_class(handed_in, tmp_path, capsys):
    for name, options in (("a", ["--shard", "1/2"]), ("b", ["--shard", "2/2"]),
                          ("seed", ["--shard", "2/2", "--seed", "8"])):
        grade(handed_in, tmp_path / name, *options)
    save(handed_in / "zoe.ipynb", SOLVED)
    grade(handed_in, tmp_path / "later", "--shard", "2/2")
    capsys.readouterr()
    for names, said in (
        (["a"], "a part of the class is in none of them"),
        (["a", "seed"], "seed"),
        (["a", "b", "a"], "is in two of them"),
        (["a", "later"], "its class was not the one of"),
        (["a", "none"], "no grades.json is there"),
    ):
        code = main(
            ["merge", *(str(tmp_path / n) for n in names), "--out", str(tmp_path / f"to-{names[-1]}")]
        )
        error = capsys.readouterr().err
        assert code == 2 and said in error and "SHARDS" in error, (names, error)


def test_a_stop_loses_nothing_and_grades_nothing_twice(handed_in, tmp_path, monkeypatch, capsys):
    grade(handed_in, tmp_path / "whole")
    FakePool.graded.clear()
    whole_run, out = FakePool.run, tmp_path / "out"

    def stopped(self, found):
        for n, done in enumerate(whole_run(self, found)):
            if n == 20:
                raise KeyboardInterrupt
            yield done
    monkeypatch.setattr(FakePool, "run", stopped)
    assert grade(handed_in, out) == 130
    said = capsys.readouterr().err
    assert "20 of 60" in said and "--resume" in said
    with open(out / FILE, "ab") as file:
        file.write(b'{"record": {"id": "half a li')       # what a kill leaves
    monkeypatch.setattr(FakePool, "run", whole_run)
    assert grade(handed_in, out, "--resume") == 0
    lines, _ = read_lines((out / FILE).read_bytes())
    ids = [line["record"]["id"] for line in lines[1:]]
    assert len(ids) == len(set(ids)) == 60
    assert results(out) == results(tmp_path / "whole")
    FakePool.graded.clear()
    assert grade(handed_in, out, "--resume") == 0 and not FakePool.graded


def test_a_notebook_handed_in_anew_is_graded_again(handed_in, tmp_path):
    out = tmp_path / "out"
    grade(handed_in, out)
    FakePool.graded.clear()
    save(handed_in / "student03.ipynb", {**SOLVED, "metadata": {"n": "new"}})
    (handed_in / "student04.ipynb").unlink()
    save(handed_in / "late.ipynb", SOLVED)
    assert grade(handed_in, out, "--resume") == 0
    assert sorted(FakePool.graded) == ["late", "student03"]
    names = {row["submission"] for row in rows(out)}
    assert len(names) == 60 and "late" in names and "student04" not in names


def test_where_the_grader_breaks_the_batch_goes_on_and_says_so(handed_in, tmp_path, capsys):
    FakePool.broken.add("student05")
    out = tmp_path / "out"
    assert grade(handed_in, out) == 1
    said = capsys.readouterr()
    assert "broke on student05" in said.err and "--resume" in said.err
    assert len(rows(out)) == 60
    FakePool.broken.clear()
    FakePool.graded.clear()
    assert grade(handed_in, out, "--resume") == 0 and FakePool.graded == ["student05"]
    assert not any("broke" in row["trouble"] for row in rows(out))


def test_another_run_in_out_is_refused(handed_in, tmp_path, capsys):
    out = tmp_path / "out"
    grade(handed_in, out)
    before = files_under(out)
    capsys.readouterr()
    for options, said in (
        ([], "it holds another run. Give --resume"),
        (["--resume", "--seed", "8"], "seed 7"),
        (["--resume", "--only", "tilt"], "only tilt"),
        (["--resume", "--timeout", "3"], "timeout 3"),
        (["--resume", "--unsafe"], "unsafe"),
        (["--resume", "--shard", "1/2"], "shard 1/2"),
    ):
        assert grade(handed_in, out, *options) == 2
        error = capsys.readouterr().err
        assert "--out" in error and said in error, error
    assert files_under(out) == before
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.doc").write_text("mine")
    assert grade(handed_in, tmp_path / "other") == 2
    assert "holds other files" in capsys.readouterr().err
    assert grade(handed_in, handed_in / "out") == 2
    assert "would be taken for a submission" in capsys.readouterr().err and not (handed_in / "out").exists()


def test_two_graders_in_one_folder_are_refused(handed_in, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    whole_run = FakePool.run

    def nested(self, found):
        monkeypatch.setattr(FakePool, "run", whole_run)
        assert grade(handed_in, out, "--resume") == 2
        yield from whole_run(self, found)
    monkeypatch.setattr(FakePool, "run", nested)
    assert grade(handed_in, out) == 0
    assert "another grader is at work there" in capsys.readouterr().err


def test_without_a_seed_one_is_drawn_and_kept(handed_in, tmp_path):
    outs = [tmp_path / "a", tmp_path / "b"]
    for out in outs:
        main(["grade", str(handed_in), "--chapter", "13", "--out", str(out)])
    seeds = [json.loads((out / "grades.json").read_text())["seed"] for out in outs]
    assert seeds[0] != seeds[1]
    main(["grade", str(handed_in), "--chapter", "13", "--out", str(outs[0]), "--resume"])
    assert json.loads((outs[0] / "grades.json").read_text())["seed"] == seeds[0]


def test_status_says_how_far_a_run_is(handed_in, tmp_path, capsys):
    grade(handed_in, tmp_path / "out")
    capsys.readouterr()
    assert main(["status", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "60 submissions are graded" in said and "It has ended" in said and "seed 7" in said
    (tmp_path / "out" / "grades.json").unlink()
    main(["status", str(tmp_path / "out")])
    assert "--resume" in capsys.readouterr().out
    assert main(["status", str(tmp_path)]) == 2


def test_status_sees_a_grader_at_work(handed_in, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    whole_run = FakePool.run

    def looked_at(self, found):
        for n, done in enumerate(whole_run(self, found)):
            if n == 10:
                capsys.readouterr()
                main(["status", str(out)])
                said = capsys.readouterr().out
                assert "10 submissions are graded" in said and "at work on it now" in said
            yield done
    monkeypatch.setattr(FakePool, "run", looked_at)
    assert grade(handed_in, out) == 0
    (out / "grades.json").unlink()
    main(["status", str(out)])
    assert "no grader is at work" in capsys.readouterr().out


def test_the_same_notebook_twice_is_flagged_and_stays_as_it_is(handed_in, tmp_path):
    marked = ("student10", "student11", "student12")
    for name in marked:
        save(handed_in / f"{name}.ipynb", SOLVED)
    assert grade(handed_in, tmp_path / "out") == 0
    page = (tmp_path / "out" / "summary.html").read_text("utf-8")
    assert page.count("the same notebook, byte for byte") == 1


def test_regrade_says_whose_mark_changes_and_why(handed_in, tmp_path, monkeypatch, capsys):
    old, new = tmp_path / "old", tmp_path / "new"
    grade(handed_in, old)
    before = files_under(old)

    def again(*options):
        return main(["regrade", str(handed_in), "--from", str(old), *options])
    capsys.readouterr()
    assert again("--out", str(new)) == 0
    assert "No mark changes" in capsys.readouterr().out and results(old) == {
        name: content for name, content in results(new).items() if name != "changes.csv"}

    import classes
    from grader.outside.classroom import run
    made_up = classes.fake_marks

    def mended(chapter, id, seed, only=()):
        marks = made_up(chapter, id, seed, only)
        return tuple(m if m.exercise != "tilt" or m.points == 1 else
                     type(m)("tilt", 1.0, "right", m.text, (True,) * len(m.held), m.flags) for m in marks)
    monkeypatch.setattr(classes, "fake_marks", mended)
    monkeypatch.setattr(run, "checks_digest", lambda chapter: "mended")
    save(handed_in / "student03.ipynb", {**SOLVED, "metadata": {"n": "another"}})
    assert again("--out", str(tmp_path / "only"), "--only", "tilt") == 0
    said = capsys.readouterr().out
    table = list(csv.DictReader(io.StringIO((tmp_path / "only" / "changes.csv").read_text("utf-8"))))
    assert table and {row["exercise"] for row in table} == {"tilt"} and "0 down" in said
    for row in table:
        mine = row["submission"] == "student03"
        assert ("another one" if mine else "the check changed") in row["why"]
        assert row["after"] == "1" and float(row["before"]) < 1
        assert f"{row['submission'].lstrip(chr(39))}  tilt" in said
    one, two = ({r["submission"]: r for r in rows(out)} for out in (old, tmp_path / "only"))
    for name in EXERCISES[1:]:
        assert all(one[id][name] == two[id][name] for id in one)
    assert all(two[id]["tilt"] == "1" for id in two if not two[id]["trouble"])
    assert files_under(old) == before
