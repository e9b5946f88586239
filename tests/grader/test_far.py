"""A learner's test that calls planted code across a line says the same of it as side by side."""

from __future__ import annotations

import importlib
import threading
from queue import Queue

import numpy as np
import pytest
import torch

from grader.inside.driver import respond_freely, tell
from grader.inside.far import End
from grader.inside.frames import (DEPTH, DTYPES, LARGEST, THINGS, Bad, Ref, decode, encode)
from grader.outside import CHAPTERS, notebook
from grader.outside.judge import judge
from proof import run_cell, trials_of

PLANTED = {check.name: (chapter, check) for chapter, checks in CHAPTERS.items() for check in checks
           if check.planted is not None}


class Across:
    """Two ends in two threads, which exchange bytes and nothing else."""

    def __init__(self, *things):
        there, here = Queue(), Queue()
        self.there = End(here.put, there.get)
        self.there.things += things
        self.here = End(there.put, here.get)
        self.served, self.line = threading.Thread(target=self.serve, args=(there,), daemon=True), there
        self.served.start()

    def serve(self, line):
        while (raw := line.get()) is not None:
            self.there.send_bytes(self.there.serve(decode(raw)))

    def close(self):
        self.line.put(None)
        self.served.join(10)


def across(name, function):
    """The verdict on a learner's test that gets each code from the other end."""
    _, check = PLANTED[name]
    answers = []
    for trial in trials_of(name):
        line = Across(check.planted(int(trial.inputs["which"])))
        code = line.here.function(0, check.arguments[0])
        answers.append(respond_freely(lambda function, *_: tell(function, code), function, function, "f", (),
                                      {}))
        line.close()
    return judge(check, trials_of(name), answers)


def beside(name, function):
    """The same with code handed over as it is."""
    _, check = PLANTED[name]
    return judge(check, trials_of(name), notebook.ask(check, trials_of(name), function, 0))


def written_for(name):
    """Right and wrong tests that a learner might write, from the proof of the chapter's checks."""
    proof = importlib.import_module(f"test_chapter{PLANTED[name][0]:02d}")
    wrong = [each[1] for each in proof.WRONG.get(name, [])]
    return [run_cell(name), *proof.RIGHT.get(name, [])[:4], *wrong[::2]]


@pytest.mark.parametrize("name", PLANTED)
def test_a_verdict_across_is_the_verdict_beside(name):
    found = [(beside(name, test), across(name, test)) for test in written_for(name)]
    assert len(found) > 3 and found[0][1].passed
    assert [one.held for one, _ in found] == [other.held for _, other in found]
    assert [one.reason for one, _ in found] == [other.reason for _, other in found]


@pytest.fixture
def line():
    """A line, and what is at its other end."""
    made = []

    def make(*things):
        made.append(Across(*things))
        return made[-1].here
    yield make
    for each in made:
        each.close()


def test_a_gradient_flows_through(line):
    """d/dx of 3x² + yx at x = 2, y = 5 is 12 + 5, through a call that calls back."""
    x = torch.tensor([2.0], requires_grad=True)
    far = line(lambda f, x: f(x) + 3 * x * x).function(0)
    y = torch.tensor(5.0, requires_grad=True)
    found = far(lambda t: y * t.detach() + 0 * y, x)
    assert found.requires_grad and found.item() == 22
    dx, dy = torch.autograd.grad(found, (x, y))
    assert (dx.item(), dy.item()) == (12, 2)                 # what is called back sees no graph of x
    with torch.no_grad():
        assert not far(lambda t: t, x).requires_grad


def test_what_is_changed_in_place_is_changed_here(line):
    def spoil(tensor, some):
        tensor += 1
        some.sort()
        return [tensor, some]

    tensor, some = torch.zeros(2), [3, 1, 2]
    back = line(spoil).function(0)(tensor, some)
    assert tensor.tolist() == [1, 1] and some == [1, 2, 3] and back[1] == some


def test_errors_go_both_ways(line):
    class Mine(KeyError):
        pass

    def runs(f):
        try:
            f("caught")
        except KeyError as error:
            assert type(error) is KeyError
        f("goes on")

    def raises(word):
        raise Mine(word)

    with pytest.raises(Mine, match="goes on"):
        line(runs).function(0)(raises)
    with pytest.raises(ValueError, match="beta is 0"):
        line(lambda: (_ for _ in ()).throw(ValueError("beta is 0"))).function(0)()


def test_an_object_stays_and_nothing_but_its_methods_is_had(line):
    class Held:
        def __init__(self, W):
            self.W, self.secret = W, 7

        def forward(self, x):
            return self.W @ x

        def spoil(self):
            self.W += 1

    W = torch.eye(2)
    here = line(Held)
    part = here.function(0)(W)
    W *= 2
    assert part.forward(torch.ones(2)).tolist() == [2, 2]
    part.spoil()
    assert W.tolist() == [[3, 1], [1, 3]]
    assert not hasattr(part, "secret")
    for number, method in ((0, "__globals__"), (0, "__init__"), (1, "__getattribute__"), (1, "secret")):
        with pytest.raises(AttributeError, match="there is no method"):
            here.call(number, method, ("secret",), {}, None)
    with pytest.raises(IndexError):
        here.call(99, "", (), {}, None)


VALUES = [None, True, False, 0, -1, 2 ** 200, -2 ** 63, 1.5, float("inf"), "", "é\ud800", b"\x00", [], (), {},
          [1, [2, (3, {"a": None, "b": True})]], Ref("tensor", 3, [1])]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_value_comes_back_as_it_was(value):
    back = decode(encode(value))
    assert back == value and type(back) is type(value)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 5), (2, 3)])
def test_an_array_comes_back_as_it_was(dtype, shape):
    array = (np.arange(np.prod(shape, dtype=int)) % 2).astype(dtype).reshape(shape)
    back = decode(encode(array))
    assert back.dtype == dtype and back.shape == shape and (back == array).all() and back.flags.writeable


def test_what_is_no_plain_value_is_refused():
    class Text(str):
        pass

    for value in (object(), {1, 2}, Text("a"), np.array([object()]), np.datetime64("now"), len, [Text()],
                  {1: 2}):
        with pytest.raises(Bad, match="type"):
            encode(value)
    deep = []
    for _ in range(DEPTH + 1):
        deep = [deep]
    with pytest.raises(Bad, match="nested"):
        encode(deep)
    with pytest.raises(Bad, match="bytes"):
        encode(bytes(LARGEST + 1))
    with pytest.raises(Bad, match="too many"):
        decode(encode([None] * (THINGS + 1)))


def test_no_bytes_but_a_value_are_read():
    """Every cut and every changed byte of a frame is a value or Bad, and nothing else."""
    raw = encode({"result": np.arange(3.0), "a": [1, "two", (True, None)], "r": Ref("x", 1)})
    for n in range(len(raw)):
        with pytest.raises(Bad):
            decode(raw[:n])
        for new in (0, 1, 127, 255, raw[n] ^ 1):
            try:
                decode(raw[:n] + bytes([new]) + raw[n + 1:])
            except Bad:
                pass
    for _ in range(2000):
        try:
            decode(np.random.default_rng(_).bytes(40))
        except Bad:
            pass
