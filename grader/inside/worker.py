"""Runs in the sandbox: each exercise of one submission in a process of its own, and answers arrays.

    python -I -B worker.py COURSE READ WRITE [READ WRITE …]

The first two descriptors are the grader's line to this process, which imports torch once, runs the cells that
are the course's own, and forks for each exercise. No student's code ever runs in it. The other pairs are a
line for each fork: inputs come in, arrays go out. It knows how functions are called, and nothing of what is
right.
"""

from __future__ import annotations

import ast
import ctypes
import gc
import importlib
import os
import resource
import sys
import types

NAMES = 80          # characters of a name that is sent
WORDS = 2000        # characters of a sentence that is sent
FLAGS = 8


def main(course: str, ends: list[int]) -> None:
    """Get ready, then do what comes on the first line until it is closed."""
    sys.path.insert(0, course)
    sys.modules["grader"] = without_answers(course)
    from grader.inside.frames import ENDED, READY, RUN, SPEC, Gone, Pipe

    line, lines = Pipe(*ends[:2]), list(zip(ends[2::2], ends[3::2]))
    kind, spec = line.receive()
    assert kind == SPEC
    shell = new_shell()
    for source in spec["setup"]:
        shell.run_cell(source, store_history=False)
    gc.collect()
    gc.freeze()                                     # so that forks share these pages
    clean = left_behind()
    quiet = os.open(os.devnull, os.O_RDWR)
    open_to_others(False)                           # its forks must not reach its lines through /proc
    line.send(READY, sys.version)
    for stream in (0, 1, 2):
        os.dup2(quiet, stream)
    try:
        while True:
            kind, exercise = line.receive()
            assert kind == RUN
            pid = os.fork()
            if not pid:
                try:
                    open_to_others(True)
                    others = [end for pair in lines for end in pair if pair != lines[exercise["line"]]]
                    for end in (*ends[:2], *others):
                        os.close(end)
                    Exercise(shell, exercise, lines[exercise["line"]]).run()
                except BaseException:
                    os._exit(70)
                os._exit(0)
            _, status, used = os.wait4(pid, 0)
            end_others(spec["alone"])
            again = left_behind() == clean
            line.send(ENDED, {"line": exercise["line"], "code": os.waitstatus_to_exitcode(status),
                              "seconds": used.ru_utime + used.ru_stime, "clean": again})
    except Gone:
        os._exit(0)


def open_to_others(whether: bool) -> None:
    """Whether other processes of the same user may look into this one (PR_SET_DUMPABLE)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(4, int(whether), 0, 0, 0)


def end_others(alone: bool) -> None:
    """Kill whatever an exercise left running. Alone in a sandbox, that is all there is but this process."""
    if alone is not True or os.getpid() > 2:        # the first numbers of a sandbox
        return
    try:
        os.kill(-1, 9)
    except ProcessLookupError:
        return
    try:
        while os.waitpid(-1, os.WNOHANG if os.getpid() > 1 else 0)[0]:
            pass                                    # the first process takes note of the dead
    except ChildProcessError:
        return                                      # there was nobody left, which is what is wanted


def without_answers(course: str) -> types.ModuleType:
    """`grader` as a student's cell may import it: check, hint and status do nothing."""
    module = types.ModuleType("grader", "Where marks are given, check, hint and status do nothing.")
    module.__path__ = [os.path.join(course, "grader")]

    def nothing(*args, **kwargs):
        """Nothing is checked here."""

    module.check = module.hint = module.status = nothing
    return module


def new_shell():
    """IPython, without its history on disk."""
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    class Shell(InteractiveShell):
        """A shell with no window to draw in."""

        def enable_gui(self, gui=None):
            """%matplotlib asks for it."""

    config = Config()
    config.HistoryManager.enabled = False
    config.InteractiveShell.colors = "nocolor"
    return Shell.instance(config=config)


def left_behind() -> set[str]:
    """All paths of what can be written to; a folder that cannot be read, or is mounted, counts as one."""
    found = set()
    for top in {"/dev/shm", os.environ.get("TMPDIR", "/tmp")}:
        for folder, names, files in os.walk(top):
            found.update(os.path.join(folder, name) for name in (*names, *files))
            names[:] = [name for name in names if not os.path.ismount(os.path.join(folder, name))]
            if len(found) > 1000:
                return found
    return found


class Exercise:
    """One exercise in its own process: its cells, then a call for each input that comes."""

    def __init__(self, shell, spec: dict, ends: tuple[int, int]):
        from grader.inside import driver, far, frames

        self.shell, self.spec, self.driver, self.frames = shell, spec, driver, frames
        self.line = frames.Pipe(*ends)
        self.far = far.End(lambda raw: self.line.send_raw(frames.RELAY, raw), self.relayed)
        seconds = max(1, round(spec["seconds"]))
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))

    def relayed(self) -> bytes:
        """The next bytes of the process in which planted code runs."""
        kind, raw = self.line.receive_raw()
        if kind != self.frames.RELAY:
            os._exit(0)
        return raw

    def run(self) -> None:
        """Run the cells, say what was seen in them, and answer one input after another."""
        spec, frames = self.spec, self.frames
        self.line.send(frames.READY, self.seen_in_source(spec["cells"][-1]))
        said = ""
        for source in spec["cells"]:
            result = self.shell.run_cell(source, store_history=True)
            error = result.error_before_exec or result.error_in_exec
            said = f"The cell stops with {type(error).__name__}: {str(error)[:300]}" if error else ""
        function = self.shell.user_ns.get(spec["function"])
        if not callable(function):
            said = said or f"There is no function {spec['function']} after the cell has run."
            return self.line.send(frames.COMPLAINT, ("not defined", said))
        self.line.send(frames.READY, self.seen_in(function))
        while True:
            try:
                kind, inputs = self.line.receive()
            except frames.Gone:
                return
            if kind != frames.INPUT:
                return
            self.answer(function, inputs)

    def answer(self, function, inputs: dict) -> None:
        """Call the function on one input."""
        spec, driver, frames = self.spec, self.driver, self.frames
        if spec["planted"]:
            self.far.clear()
            code = self.far.function(0, spec["arguments"][0])

            def through(function, arguments, inputs):
                return driver.tell(function, code)
        else:
            module, _, name = spec["driver"].partition(":")
            through = getattr(importlib.import_module(module), name)
        signature = f"{spec['function']}({', '.join(spec['arguments'])})"
        found = driver.respond_freely(through, function, function, signature, tuple(spec["arguments"]),
                                      inputs, seconds=float("inf"))
        try:
            if isinstance(found, driver.Complaint):
                self.line.send(frames.COMPLAINT, (found.name[:NAMES], found.sentence[:WORDS]))
            else:
                self.line.send(frames.ANSWER, dict(found))
        except frames.Bad as error:
            self.line.send(frames.COMPLAINT, ("type", f"What it returns cannot be read: {error}"))

    def seen_in_source(self, source: str) -> list[tuple[int, str]]:
        """(line, name) of what the cell's text names of what the task forbids: read before it runs."""
        full = {name for each in self.spec["without"] for name in each}
        names = {name.rpartition(".")[2]: name for name in full}
        try:
            tree = ast.parse(self.shell.transform_cell(source))
        except Exception:
            return []
        found = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                those = {f"{node.module}.{alias.name}" for alias in node.names} & full
                those |= {names[alias.name] for alias in node.names
                          if alias.name in names and str(node.module).startswith("torch")}
            elif isinstance(node, ast.Attribute) and node.attr in names:
                owner = getattr(node.value, "attr", getattr(node.value, "id", ""))
                name = names[node.attr]
                those = {name} if name.startswith("torch.") or name.split(".")[-2] == owner else set()
            else:
                continue
            for name in those:
                found.setdefault(name, node.lineno)
        return [(line, name) for name, line in found.items()][:FLAGS]

    def seen_in(self, function) -> list[tuple[int, str]]:
        """(0, name) of what the function itself shows of that, once it is there. It may lie: it is theirs."""
        from grader.inside.shortcuts import PRYING, Without, found_in, pries

        try:
            without = tuple(Without(tuple(names), "") for names in self.spec["without"])
            said = (found_in(function, without) or "", pries(function) or "")
        except Exception:
            return []
        full = [name for names in self.spec["without"] for name in names if f"uses {name}," in said[0]]
        full += [name for name in PRYING if f"with {name}." in said[1]]
        return [(0, name) for name in full][:FLAGS]


if __name__ == "__main__":
    main(sys.argv[1], list(map(int, sys.argv[2:])))
