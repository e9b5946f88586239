"""What every check must be worth: a class Proof for each chapter's test file, and how a verdict is come by.

A chapter's file makes `class TestProof(Proof)` with its number and two tables: WRONG, exercise -> [(the
misconception's name, a function that has it), …], and RIGHT, exercise -> [a right function written another
way, …].
"""

from __future__ import annotations

import io
import re
import time
from functools import cache
from pathlib import Path

import jupytext
import numpy as np
import pytest
import torch

import grader
from grader.inside.driver import respond
from grader.inside.shortcuts import resolve
from grader.inside.texts import as_bytes
from grader.outside import CHAPTERS, notebook
from grader.outside.progress import SWITCH
from grader.outside.judge import Fields, Trial, believed, close, judge, plan, widen

CHECKS = {check.name: check for checks in CHAPTERS.values() for check in checks}
SOLUTIONS = Path(__file__).resolve().parents[2] / "solutions"


@cache
def solutions(chapter):
    """The notebook of a chapter's solutions."""
    return jupytext.read(next(SOLUTIONS.glob(f"{chapter:02d}_*.py")))


def code_cells(chapter):
    """The code cells of a chapter's solutions."""
    return [cell for cell in solutions(chapter).cells if cell.cell_type == "code"]


def exercise_cells(chapter):
    """Name -> source of each exercise cell of a chapter's solutions."""
    cells = [cell for cell in code_cells(chapter) if "exercise" in cell.metadata.get("tags", [])]
    return {re.match(r"# exercise: (\S+)\n", cell.source)[1]: cell.source for cell in cells}


CELLS = {name: source for chapter in CHAPTERS for name, source in exercise_cells(chapter).items()}
IMPORTS = {name: code_cells(chapter)[0].source for chapter in CHAPTERS for name in exercise_cells(chapter)}


@cache
def run_cell(name, source=None):
    """The function that an exercise's cell defines, with what the notebook's first cell imports."""
    space: dict = {}
    exec(compile(IMPORTS[name], "imports", "exec"), space)
    exec(compile(source or CELLS[name], name, "exec"), space)
    return space[CHECKS[name].function]


@cache
def trials_of(name, seed=0):
    """The inputs of a check for a seed. Drivers work on copies, so that all tests may share them."""
    return plan(CHECKS[name], seed)


def verdict(name, function, seed=0, through=lambda answer: answer):
    """The verdict on a function; `through` is what its answers pass on their way to the judge."""
    check, trials = CHECKS[name], trials_of(name, seed)
    return judge(check, trials, [through(answer) for answer in notebook.ask(check, trials, function, seed)])


def answer_to(name, trial, function):
    """What a function gives back for one trial."""
    return respond(CHECKS[name].call, function, "f(…)", CHECKS[name].arguments, trial.inputs)


def inputs_of(name):
    """The inputs of all trials of a check as its functions see them: float64 arrays by name."""
    return [fields(trial.inputs) for trial in trials_of(name)]


def fields(arrays):
    """Arrays by name, in float64."""
    return Fields(**{key: widen(array) for key, array in arrays.items()})


def writes_a_test(name):
    """True for an exercise whose answer is itself a test: it is given code, and no arrays."""
    return not set(CHECKS[name].arguments) & set(trials_of(name)[0].inputs)


@cache
def given(name):
    """The sizes of all numbers in the inputs of a check."""
    return {round(abs(float(v)), 4)
            for trial in trials_of(name) for array in trial.inputs.values() for v in array.flat}


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    """A session in which nothing was tried, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(SWITCH, raising=False)
    for memory in (notebook._progress, notebook._seen, notebook._told):
        memory.clear()


class Yes:
    """Equal to everything, as large as anything."""

    def __eq__(self, other):
        return True

    __hash__ = None
    __ge__ = __le__ = __gt__ = __lt__ = __eq__
    shape, dtype, requires_grad = (), torch.float32, True


class YesTensor(torch.Tensor):
    def __eq__(self, other):
        return True

    def __sub__(self, other):
        return torch.zeros(())

    __hash__ = torch.Tensor.__hash__


def mutate(*inputs):
    for tensor in inputs:
        if tensor.dtype != torch.bool:
            tensor.detach().fill_(1.0)
    return inputs[0] * 1


def endless(*inputs):
    return endless(*inputs)


# what comes back, the reason, and what is said
HOSTILE = [
    (lambda *_: None, "None", "returns None"),
    (lambda *_: Yes(), "type", "wanted is"),
    (lambda *_: "right", "type", "wanted is"),
    (lambda *_: torch.zeros(2, dtype=torch.complex64), "type", "wanted is"),
    (lambda *_: np.array([object()]), "type", "wanted is"),
    (lambda *_: torch.zeros(2, 2).to_sparse(), "type", "cannot be read"),
    (endless, "raised", "RecursionError"),
    (lambda *_: exit(0), "raised", "SystemExit"),
    (lambda *_: 1 / 0, "raised", "ZeroDivisionError"),
    # of a stub's kind, and none
    (lambda *_: torch.nn.functional.gelu(torch.tensor([True])), "raised", "not implemented for 'Bool'"),
    (lambda: 1, "raised", "It is called as"),
]


class Proof:
    """What holds for every check of a chapter.

    `name` runs over its exercises, `reason, function` over WRONG, `function` alone over RIGHT.
    """

    chapter: int
    WRONG: dict[str, list]
    RIGHT: dict[str, list]

    def pytest_generate_tests(self, metafunc):
        if "reason" in metafunc.fixturenames:
            metafunc.parametrize("name, reason, function", [
                pytest.param(name, *entry, id=f"{name}-{i}")
                for name, entries in self.WRONG.items() for i, entry in enumerate(entries)])
        elif "function" in metafunc.fixturenames:
            metafunc.parametrize("name, function", [
                pytest.param(name, function, id=f"{name}-{i}")
                for name, functions in self.RIGHT.items() for i, function in enumerate(functions)])
        elif "name" in metafunc.fixturenames:
            metafunc.parametrize("name", [check.name for check in CHAPTERS[self.chapter]])

    def test_the_reference_passes_quickly(self, name):
        begun = time.process_time()
        result = verdict(name, run_cell(name))
        assert result.passed and all(result.held), result.text
        assert time.process_time() - begun < 10  # seconds of computing; a learner waits for them

    def test_a_wrong_answer_fails_by_its_name_and_is_told_no_number(self, name, reason, function):
        """The only decimals said are those of the inputs shown, and 0.7, a planted bug's temperature."""
        result = verdict(name, function)
        assert not result.passed and not all(result.held)
        said = " ".join(result.text.split())
        unnamed = {"a law", "the numbers"}
        assert (reason == result.reason or {reason, result.reason} <= unnamed
                or (result.reason in unnamed and reason in said)), result.text
        if reason in {m.name for m in CHECKS[name].misconceptions}:
            assert reason in said
        numbers = re.findall(r"\d+\.\d+", result.text)
        assert {round(float(v), 4) for v in numbers} <= given(name) | {0.7}, result.text
        assert len(numbers) < 100, "too many to be pasted"

    def test_another_right_answer_passes(self, name, function):
        result = verdict(name, function)
        assert result.passed, result.text

    def test_there_is_proof_enough(self, name):
        named = {m.name for m in CHECKS[name].misconceptions}
        reasons = [reason for reason, _ in self.WRONG[name]]
        assert named <= set(reasons), "a misconception without a wrong answer that has it"
        assert sum(reason in named for reason in reasons) >= (3 if writes_a_test(name) else 5)
        assert len(reasons) >= 5 and len(self.RIGHT[name]) >= 2

    def test_misconceptions_can_be_told_apart(self, name):
        """On some input each differs from what is right by far more than a tolerance, and any two do."""
        check, inputs = CHECKS[name], inputs_of(name)
        beliefs = [(m.name, [believed(m, i) for i in inputs]) for m in check.misconceptions]
        beliefs += [("right", [check.expected(i) for i in inputs])]
        for n, (name_a, a) in enumerate(beliefs):
            for name_b, b in beliefs[:n]:
                if name_a != name_b:
                    alike = all(x.shape == y.shape and close(x, y, 1e-2) for x, y in zip(a, b))
                    assert not alike, (name_a, name_b)

    def test_each_law_is_kept_by_the_reference_and_broken_by_something(self, name):
        """A law printed as broken must be one: the reference keeps it, and some wrong answer does not."""
        check = CHECKS[name]

        def kept(case, function):
            for trial in trials_of(name):
                if trial.case is case:
                    answer, inputs = answer_to(name, trial, function), fields(trial.inputs)
                    if isinstance(answer, dict) and answer["result"].shape == check.expected(inputs).shape:
                        if not case.holds(inputs, fields(answer)):
                            return False
            return True

        for case in check.cases:
            if case.holds is not None:
                assert kept(case, run_cell(name)), case.law
                assert not all(kept(case, function) for _, function in self.WRONG[name]), case.law

    def test_other_seeds_draw_other_inputs_and_the_same_verdict(self, name):
        reason, function = self.WRONG[name][0]
        for seed in range(1, 6):
            assert verdict(name, run_cell(name), seed).passed
            assert verdict(name, function, seed).reason == reason
        if not writes_a_test(name):
            pairs = zip(trials_of(name, 1), trials_of(name, 2))
            assert any(not np.array_equal(a.inputs[k], b.inputs[k]) for a, b in pairs for k in a.inputs)

    def test_only_arrays_go_between_calling_and_judging(self, name):
        """What comes back can be sent as .npy bytes, without pickle, and is judged the same."""
        def by_wire(answer):
            sent = {}
            for key, array in answer.items():
                np.save(wire := io.BytesIO(), array, allow_pickle=False)
                sent[key] = np.load(io.BytesIO(wire.getvalue()), allow_pickle=False)
            return sent
        assert verdict(name, run_cell(name), through=by_wire).passed
        reason, function = self.WRONG[name][0]
        assert verdict(name, function, through=by_wire).reason == reason

    def test_the_shown_input_shows_the_failure(self, name):
        """The printed lines can be pasted, and the function fails on them alone, and on no smaller input."""
        if writes_a_test(name):
            return
        function = self.WRONG[name][0][1]
        lines = verdict(name, function).text.splitlines()
        space = {"torch": torch}
        exec("\n".join(line.strip() for line in lines if line.startswith("    ")), space)
        pasted = {k: as_bytes(space[k]) if isinstance(space[k], list) else space[k].numpy()
                  for k in CHECKS[name].arguments}
        trials = trials_of(name)
        shown = next(t for t in trials
                     if all(np.array_equal(t.inputs[k], pasted[k], equal_nan=True) for k in pasted))

        def passes(trial):
            return judge(CHECKS[name], [trial], [answer_to(name, trial, function)]).passed

        assert not passes(Trial(shown.case, shown.inputs))
        assert all(passes(trial) for trial in trials if trial.size < shown.size)

    def test_a_passing_check_says_what_was_learned(self, name):
        """In one sentence or two, "You have …", and without a formula's number."""
        check = CHECKS[name]
        assert check.learned.startswith("You have ") and check.learned.endswith(".")
        assert check.learned in " ".join(verdict(name, run_cell(name)).text.split())

    def test_what_the_check_refuses_is_named_in_the_text(self, name):
        """An answer to be written without a function: the text of the task says so."""
        cells = solutions(self.chapter).cells
        at = next(n for n, cell in enumerate(cells) if cell.source == CELLS[name])
        for without in CHECKS[name].without:
            assert any(part in cells[at - 1].source for part in ("without", "no autograd")), name
            assert all(resolve(full) is not None for full in without.names), without.names
            assert without.instead.endswith(".")

    def test_stubs_fail_kindly_and_stay_open(self, name, capsys, fresh):
        solution = re.compile(r"^([ \t]*)### BEGIN SOLUTION\n.*?^[ \t]*### END SOLUTION[ \t]*$", re.S | re.M)
        stub = solution.sub(r'\1raise NotImplementedError("your turn")', CELLS[name])
        assert "SOLUTION" not in stub and '"""' in stub
        grader.check(name, run_cell(name, stub))
        said = capsys.readouterr().out
        assert f"{name}: not written yet" in said and "Traceback" not in said
        grader.status()
        assert re.search(rf"{name} .* open", capsys.readouterr().out)

    def test_whatever_comes_back_gets_a_sentence(self, name):
        # one of each case
        first = {trial.case.law: trial for trial in reversed(trials_of(name))}.values()
        for function, reason, said in HOSTILE:
            result = judge(CHECKS[name], first, notebook.ask(CHECKS[name], list(first), function))
            assert not result.passed and not any(result.held)
            assert said in result.text and result.reason == reason, result.text

    def test_tricks_with_tensors_fail(self, name):
        if writes_a_test(name):
            return
        with_gradient = 1 if name == "surrogate" else 0
        assert not verdict(name, lambda *inputs: (inputs[with_gradient] * torch.nan).sum()).passed
        yes = torch.zeros(7, 7, requires_grad=True).as_subclass(YesTensor)
        assert not verdict(name, lambda *inputs: yes).passed
        assert not verdict(name, lambda *inputs: (inputs[0] * 0).as_subclass(YesTensor)).passed
        assert not verdict(name, mutate).passed

    def test_the_text_agrees_with_the_checks(self):
        """Each exercise has its cell, a check cell marked for comparison, and its time; status comes last."""
        cells = solutions(self.chapter).cells
        text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        code = [cell.source for cell in code_cells(self.chapter)]
        assert list(exercise_cells(self.chapter)) == [check.name for check in CHAPTERS[self.chapter]]
        for check in CHAPTERS[self.chapter]:
            stars = "★" * check.difficulty + "☆" * (3 - check.difficulty)
            assert f"`{check.name}` · difficulty {stars} · {check.minutes} minutes" in text
            assert check.title in text
            assert f'# NBVAL_CHECK_OUTPUT\ncheck("{check.name}", {check.function})' in code
            for marker in ("### BEGIN SOLUTION", "### END SOLUTION"):
                assert CELLS[check.name].count(marker) == 1
        assert code[-1] == "# NBVAL_CHECK_OUTPUT\nstatus()"
        assert solutions(self.chapter).metadata["kernelspec"]["name"] == "python3"
