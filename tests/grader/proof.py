"""What every check must be worth, for the test file of each chapter: a class Proof, and how a verdict is come by. It leaves out the answers.

A chapter's file makes `class TestProof(Proof)` with its number and two tables: WRONG, exercise -> [(the misconception's name, a function that
has it), …], and RIGHT, exercise -> [a right function written another way, …].
"""

from __future__ import annotations

import io
import re
import time
from pathlib import Path

import jupytext
import numpy as np
import pytest
import torch

import grader
from grader.inside.driver import respond
from grader.outside import CHAPTERS, notebook
from grader.outside.judge import Fields, Trial, believed, close, judge, plan, widen

CHECKS = {check.name: check for checks in CHAPTERS.values() for check in checks}
SOLUTIONS = Path(__file__).resolve().parents[2] / "solutions"


def code_cells(chapter):
    """The code cells of a chapter's solutions."""
    return [cell for cell in jupytext.read(next(SOLUTIONS.glob(f"{chapter:02d}_*.py"))).cells if cell.cell_type == "code"]


def exercise_cells(chapter):
    """Name -> source of each exercise cell of a chapter's solutions."""
    cells = [cell for cell in code_cells(chapter) if "exercise" in cell.metadata.get("tags", [])]
    return {re.match(r"# exercise: (\S+)\n", cell.source)[1]: cell.source for cell in cells}


CELLS = {name: source for chapter in CHAPTERS for name, source in exercise_cells(chapter).items()}
IMPORTS = {name: code_cells(chapter)[0].source for chapter in CHAPTERS for name in exercise_cells(chapter)}


def run_cell(name, source=None):
    """The function that an exercise's cell defines, with what the notebook's first cell imports."""
    space: dict = {}
    exec(compile(IMPORTS[name], "imports", "exec"), space)
    exec(compile(source or CELLS[name], name, "exec"), space)
    return space[CHECKS[name].function]


def verdict(name, function, through=lambda answer: answer):
    """The verdict on a function; `through` is what its answers pass on their way to the judge."""
    check = CHECKS[name]
    trials = plan(check)
    return judge(check, trials, [through(respond(check.call, function, "f(…)", check.arguments, trial.inputs)) for trial in trials])


def inputs_of(name):
    """The inputs of all trials of a check as its functions see them: float64 arrays by name."""
    return [Fields(**{key: widen(array) for key, array in trial.inputs.items()}) for trial in plan(CHECKS[name])]


def writes_a_test(name):
    """True for an exercise whose answer is itself a test: it is given code, and no arrays."""
    return not set(CHECKS[name].arguments) & set(plan(CHECKS[name])[0].inputs)


@pytest.fixture
def fresh():
    """A session in which nothing was tried."""
    for memory in (notebook._state, notebook._opened, notebook._told):
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


HOSTILE = [
    ("returns None", "None", lambda *_: None),
    ("wanted is", "type", lambda *_: Yes()),
    ("wanted is", "type", lambda *_: "right"),
    ("wanted is", "type", lambda *_: torch.zeros(2, dtype=torch.complex64)),
    ("wanted is", "type", lambda *_: np.array([object()])),
    ("cannot be read", "type", lambda *_: torch.zeros(2, 2).to_sparse()),
    ("RecursionError", "raised", endless),
    ("SystemExit", "raised", lambda *_: exit(0)),
    ("ZeroDivisionError", "raised", lambda *_: 1 / 0),
    ("not implemented for 'Bool'", "raised", lambda *_: torch.tensor([True]).softmax(0)),   # NotImplementedError, and no stub
    ("It is called as", "raised", lambda: 1),
]


class Proof:
    """What holds for every check of a chapter. `name` runs over its exercises, `reason, function` over WRONG, `function` alone over RIGHT."""

    chapter: int
    WRONG: dict[str, list]
    RIGHT: dict[str, list]

    def pytest_generate_tests(self, metafunc):
        names = [check.name for check in CHAPTERS[self.chapter]]
        fixtures = set(metafunc.fixturenames)
        if {"said", "name"} <= fixtures:
            metafunc.parametrize("name", names)
            metafunc.parametrize("said, reason, function", HOSTILE)
        elif {"reason", "function"} <= fixtures:
            metafunc.parametrize("name, reason, function", [pytest.param(name, *entry, id=f"{name}-{i}")
                                                            for name, entries in self.WRONG.items() for i, entry in enumerate(entries)])
        elif "function" in fixtures:
            metafunc.parametrize("name, function", [pytest.param(name, function, id=f"{name}-{i}")
                                                    for name, functions in self.RIGHT.items() for i, function in enumerate(functions)])
        elif "name" in fixtures:
            metafunc.parametrize("name", names)

    def test_the_reference_passes_quickly(self, name):
        begun = time.perf_counter()
        result = verdict(name, run_cell(name))
        assert result.passed and all(result.held), result.text
        assert time.perf_counter() - begun < 2

    def test_a_wrong_answer_fails_by_its_name(self, name, reason, function):
        result = verdict(name, function)
        assert not result.passed and not all(result.held)
        assert reason == result.reason or (result.reason == "a law" and reason in result.text), result.text
        if reason in {m.name for m in CHECKS[name].misconceptions}:
            assert reason in result.text

    def test_another_right_answer_passes(self, name, function):
        result = verdict(name, function)
        assert result.passed, result.text

    def test_there_is_proof_enough(self, name):
        named = {m.name for m in CHECKS[name].misconceptions}
        assert named <= {reason for reason, _ in self.WRONG[name]}, "a misconception without a wrong answer that has it"
        assert len([1 for reason, _ in self.WRONG[name] if reason in named]) >= (3 if writes_a_test(name) else 5)
        assert len(self.WRONG[name]) >= 5 and len(self.RIGHT[name]) >= 2

    def test_no_number_is_printed_that_was_not_given(self, name, reason, function):
        """The only decimals in a verdict are those of the inputs shown, and 0.7, the temperature of a planted bug."""
        text = verdict(name, function).text
        given = {round(abs(float(v)), 4) for trial in plan(CHECKS[name]) for array in trial.inputs.values() for v in array.flat}
        shown = {round(float(v), 4) for v in re.findall(r"\d+\.\d+", text)}
        assert shown <= given | {0.7}, text

    def test_misconceptions_can_be_told_apart(self, name):
        """On some input each differs from what is right by far more than a tolerance, and so do any two of different names."""
        check, inputs = CHECKS[name], inputs_of(name)
        beliefs = [("right", [check.expected(i) for i in inputs])] + [(m.name, [believed(m, i) for i in inputs]) for m in check.misconceptions]
        for n, (name_a, a) in enumerate(beliefs):
            for name_b, b in beliefs[:n]:
                if name_a != name_b:
                    assert any(x.shape != y.shape or not close(x, y, 1e-2) for x, y in zip(a, b)), (name_a, name_b)

    def test_each_law_is_kept_by_the_reference_and_broken_by_something(self, name):
        """A law that is printed as broken must be one: the reference keeps it on every input, and some wrong answer does not."""
        check, right = CHECKS[name], run_cell(name)

        def kept(case, function):
            answers = [respond(check.call, function, "f", check.arguments, t.inputs) for t in plan(check) if t.case is case]
            fields = [Fields(**{key: widen(array) for key, array in a.items()}) for a in answers if isinstance(a, dict)]
            inputs = [Fields(**{key: widen(array) for key, array in t.inputs.items()}) for t in plan(check) if t.case is case]
            fit = [(i, o) for i, o, wanted in zip(inputs, fields, map(check.expected, inputs)) if o.result.shape == wanted.shape]
            return len(fields) < len(inputs) or all(case.holds(i, o) for i, o in fit)

        for case in check.cases:
            if case.holds is not None:
                assert kept(case, right), case.law
                assert not all(kept(case, function) for _, function in self.WRONG[name]), case.law

    def test_other_seeds_draw_other_inputs_and_the_same_verdict(self, name):
        check = CHECKS[name]
        for seed in range(1, 6):
            trials = plan(check, seed)
            answers = [respond(check.call, run_cell(name), "f", check.arguments, trial.inputs) for trial in trials]
            assert judge(check, trials, answers).passed
            reason, function = self.WRONG[name][0]
            answers = [respond(check.call, function, "f", check.arguments, trial.inputs) for trial in trials]
            assert judge(check, trials, answers).reason == reason
        if not writes_a_test(name):
            assert any(not np.array_equal(a.inputs[k], b.inputs[k]) for a, b in zip(plan(check, 1), plan(check, 2)) for k in a.inputs)

    def test_only_arrays_go_between_calling_and_judging(self, name):
        """What comes back can be sent as .npy bytes, without pickle, and is judged the same."""
        def by_wire(answer):
            sent = {}
            for key, array in answer.items():
                np.save(wire := io.BytesIO(), array, allow_pickle=False)
                sent[key] = np.load(io.BytesIO(wire.getvalue()), allow_pickle=False)
            return sent
        assert verdict(name, run_cell(name), by_wire).passed
        reason, function = self.WRONG[name][0]
        assert verdict(name, function, by_wire).reason == reason

    def test_the_shown_input_shows_the_failure(self, name):
        """The printed lines can be pasted, and the function fails on them alone."""
        reason, function = self.WRONG[name][0]
        check, text = CHECKS[name], verdict(name, function).text
        if writes_a_test(name):
            return
        space = {"torch": torch}
        exec("\n".join(line.strip() for line in text.splitlines() if line.startswith("    ")), space)
        pasted = {k: space[k].numpy() for k in check.arguments}
        trial = next(t for t in plan(check) if all(np.array_equal(t.inputs[k], pasted[k]) for k in pasted))
        assert not judge(check, [Trial(trial.case, trial.inputs)], [respond(check.call, function, "f", check.arguments, trial.inputs)]).passed
        smaller = [t for t in plan(check) if t.size < trial.size]
        assert all(judge(check, [t], [respond(check.call, function, "f", check.arguments, t.inputs)]).passed for t in smaller)

    def test_stubs_fail_kindly_and_stay_open(self, name, capsys, fresh):
        solution = re.compile(r"^([ \t]*)### BEGIN SOLUTION\n.*?^[ \t]*### END SOLUTION[ \t]*$", re.S | re.M)
        stub = solution.sub(r'\1raise NotImplementedError("your turn")', CELLS[name])
        assert "SOLUTION" not in stub and '"""' in stub
        grader.check(name, run_cell(name, stub))
        said = capsys.readouterr().out
        assert f"{name}: not written yet" in said and "Traceback" not in said
        grader.status()
        assert re.search(rf"{name} .* open", capsys.readouterr().out)

    def test_whatever_comes_back_gets_a_sentence(self, name, said, reason, function):
        result = verdict(name, function)
        assert not result.passed and not any(result.held)
        assert said in result.text.replace("f(…)", "It is called as") and result.reason == reason, result.text

    def test_tricks_with_tensors_fail(self, name):
        if writes_a_test(name):
            return
        assert not verdict(name, lambda *inputs: (inputs[1 if name == "surrogate" else 0] * torch.nan).sum()).passed
        assert not verdict(name, lambda *inputs: torch.zeros(7, 7, requires_grad=True).as_subclass(YesTensor)).passed
        assert not verdict(name, lambda *inputs: (inputs[0] * 0).as_subclass(YesTensor)).passed
        changed = verdict(name, mutate)
        assert not changed.passed

    def test_the_text_agrees_with_the_checks(self):
        """Each exercise has its cell, its check cell marked for comparison, and its stated time and difficulty; the last cell is status."""
        notebook_ = jupytext.read(next(SOLUTIONS.glob(f"{self.chapter:02d}_*.py")))
        text = "\n".join(c.source for c in notebook_.cells if c.cell_type == "markdown")
        code = [c.source for c in notebook_.cells if c.cell_type == "code"]
        assert list(exercise_cells(self.chapter)) == [check.name for check in CHAPTERS[self.chapter]]
        for check in CHAPTERS[self.chapter]:
            stars = "★" * check.difficulty + "☆" * (3 - check.difficulty)
            assert f"`{check.name}` · difficulty {stars} · {check.minutes} minutes" in text and check.title in text
            assert f'# NBVAL_CHECK_OUTPUT\ncheck("{check.name}", {check.function})' in code
            assert CELLS[check.name].count("### BEGIN SOLUTION") == CELLS[check.name].count("### END SOLUTION") == 1
        assert code[-1] == "# NBVAL_CHECK_OUTPUT\nstatus()"
        assert notebook_.metadata["kernelspec"]["name"] == "python3"
