"""check, hint and status: what they print, and what they remember."""

from __future__ import annotations

import pytest
import torch

import grader
from grader.outside import notebook
from proof import CHECKS, fresh, run_cell  # noqa: F401  (a fixture is among them)

pytestmark = pytest.mark.usefixtures("fresh")


def not_renormalised(q, keep):
    """A wrong answer to the exercise curator."""
    return q * keep


def test_check_prints_returns_nothing_and_says_the_same_twice(capsys):
    said = []
    for _ in range(2):
        notebook._told.clear()
        assert grader.check("curator", not_renormalised) is None
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]
    assert "not a mark" in said[0]
    assert 'hint("curator") opens a hint; 3 left.' in said[0]
    grader.check("curator", run_cell("curator"))
    assert "right" in (out := capsys.readouterr().out) and "mark" not in out and "hint" not in out


def test_check_wants_the_function_itself(capsys):
    grader.check("leave-one-out", torch.zeros(2, 3))
    assert 'check("leave-one-out", coefficients)' in (out := capsys.readouterr().out) and "Tensor" in out
    assert not notebook._state


@pytest.mark.parametrize("call", [lambda n: grader.check(n, len), grader.hint])
def test_unknown_names_list_the_known(call):
    with pytest.raises(ValueError, match="Did you mean 'surrogate'.*exact-gradient.*find-the-bug"):
        call("surogate")
    with pytest.raises(ValueError, match="There are: surrogate"):
        call("xyzzy")
    with pytest.raises(ValueError, match="a function"):
        call(test_unknown_names_list_the_known)


def test_hints_open_one_at_a_time(capsys):
    for name, check in CHECKS.items():
        for i, text in enumerate(check.hints):
            grader.hint(name)
            out = " ".join(capsys.readouterr().out.split())
            assert f"hint {i + 1} of {len(check.hints)}" in out and " ".join(text.split()) in out
            assert not any(" ".join(other.split()) in out for other in check.hints if other != text)
            assert (f"{len(check.hints) - i - 1} left" in out) or "last" in out
        grader.hint(name)
        assert "no more hints" in capsys.readouterr().out


def test_status_tells_done_tried_and_open(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    grader.status()
    assert f"0 of {len(CHECKS)} done" in capsys.readouterr().out
    grader.status(1)
    assert "0 of 5 done" in capsys.readouterr().out
    grader.check("surrogate", run_cell("surrogate"))
    grader.check("curator", not_renormalised)
    grader.hint("find-the-bug")
    capsys.readouterr()
    grader.status(1)
    out = capsys.readouterr().out
    rows = {line.split()[1]: line.split()[-1] for line in out.splitlines()[1:6]}
    assert rows == {"surrogate": "done", "exact-gradient": "open", "leave-one-out": "open",
                    "curator": "tried", "find-the-bug": "open"}
    assert "1 of 3" in out and "1 of 5 done in this session" in out and "Nothing is saved" in out
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="chapter is 99"):
        grader.status(99)
