"""The sandbox: what it shows, what it refuses, how it fails, and how it ends; as root and as a plain user."""

from __future__ import annotations

import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path
from shlex import quote

import pytest

from grader.outside import mark as marking
from grader.outside import sandbox
from grader.outside.mark import Worker, mark
from grader.outside.sandbox import (ALL, ARCHITECTURES, CALLS, Isolation, Limits, Refused, available,
                                    filter_program, look, start, unsafe, usage)
from grader.outside.submission import Submission

HERE = Path(__file__).resolve().parent
isolated = pytest.mark.skipif(available().kind == "none", reason="; ".join(available().missing) or "isolated")


def said(code, **more):
    """What a line of Python writes to stderr in a sandbox, and its exit code."""
    process = start(available(), "-c", code, stderr=subprocess.PIPE, **more)
    try:
        out = process.popen.communicate(timeout=60)[1].decode(errors="replace")
        return out, process.popen.returncode
    finally:
        process.kill()


def test_without_isolation_nothing_is_run():
    none = Isolation("none", ("bwrap not found: apt-get install bubblewrap",))
    with pytest.raises(Refused, match="apt-get install bubblewrap"):
        start(none, "-c", "pass")
    with pytest.raises(Refused, match="apt-get install bubblewrap"):
        mark(Submission("a", {"tilt": "x"}), 13, 1, none)


def test_what_is_missing_is_said_with_its_remedy(monkeypatch):
    for name, value, word in (("PATH", "/nowhere", "apt-get install bubblewrap"),
                              ("ARCHITECTURES", {}, "filter")):
        monkeypatch.setattr(sandbox, name, value)
        found = sandbox.available.__wrapped__()
        assert found.kind == "none" and word in found.missing[0]
        monkeypatch.undo()
    monkeypatch.setattr(sys, "platform", "darwin")
    assert "container" in sandbox.available.__wrapped__().missing[0]


def test_a_bwrap_that_does_not_start_is_no_isolation(monkeypatch, tmp_path):
    for name in ("prlimit", "setpriv"):
        (tmp_path / name).symlink_to(shutil.which(name) or "/bin/true")
    (tmp_path / "bwrap").write_text("#!/bin/sh\necho 'bwrap: No permissions' >&2\nexit 1\n")
    (tmp_path / "bwrap").chmod(0o755)
    monkeypatch.setattr(sandbox, "PATH", str(tmp_path))
    found = sandbox.available.__wrapped__()
    assert found.kind == "none" and "No permissions" in found.missing[0] and "privileged" in found.missing[0]


@isolated
def test_it_says_what_holds():
    found = available()
    assert found.kind == ("root" if os.geteuid() == 0 else "user") and len(found.holds) >= 5
    assert not found.missing


@isolated
def test_its_first_process_is_ours():
    """In a user namespace it is the sandbox's first process; as root, bwrap is."""
    out, code = said("import os, sys; print(os.getpid(), file=sys.stderr)")
    assert code == 0 and int(out) == (2 if os.geteuid() == 0 else 1)


@isolated
def test_it_shows_the_course_without_answers():
    out, code = said("import os, sys; print(sorted(os.listdir('/course')), "
                     "os.listdir('/course/grader'), sorted(os.listdir('/')), file=sys.stderr)")
    assert code == 0 and "['grader', 'minillm'] ['inside']" in out and "home" not in out
    out, _ = said("import os, sys; print(os.listdir('/course/grader'), file=sys.stderr)", sees=ALL)
    assert "outside" in out
    out, _ = said("import os, sys; print(dict(os.environ), file=sys.stderr)")
    assert "PYTEST" not in out and "VIRTUAL_ENV" not in out and "'USER': 'student'" in out


@isolated
def test_it_has_no_rights():
    out, _ = said("import sys; print(open('/proc/self/status').read(), file=sys.stderr)")
    lines = dict(line.split(":", 1) for line in out.splitlines() if ":" in line)
    assert all(int(lines[name], 16) == 0 for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"))
    assert lines["NoNewPrivs"].strip() == "1" and lines["Seccomp"].strip() == "2"
    assert os.geteuid() != 0 or int(lines["Uid"].split()[0]) >= sandbox.FIRST_UID
    assert lines["Groups"].strip() in ("", lines["Gid"].split()[0], "65534")


@isolated
def test_its_limits_are_set():
    out, _ = said("import resource as r, sys\n"
                  "for name in ('AS', 'FSIZE', 'NOFILE', 'CORE'):\n"
                  "    print(r.getrlimit(getattr(r, f'RLIMIT_{name}'))[1], file=sys.stderr)")
    limits = Limits()
    assert out.split() == [str(limits.memory), str(limits.disk), str(limits.files), "0"]


@isolated
def test_it_is_killed_whole_and_nothing_is_left():
    code = "import os, time\nfor _ in range(3): os.fork()\ntime.sleep(1000)"
    process = start(available(), "-c", code)
    last = time.monotonic() + 20
    while usage(process).processes < 9 and time.monotonic() < last:
        time.sleep(0.05)
    pids = [each.pid for each in sandbox.family(process.popen.pid)]
    assert len(pids) >= 9
    process.kill()
    assert all((seen := look(pid)) is None or seen.dead for pid in pids)


@isolated
def test_it_ends_with_the_grader_that_is_killed():
    """SIGKILL to the grader's process takes its sandboxes along."""
    code = ("import subprocess, sys; from grader.outside.sandbox import available, start; "
            "p = start(available(), '-c', 'import time; time.sleep(1000)'); print(p.popen.pid, flush=True); "
            "import time; time.sleep(1000)")
    grader = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=sandbox.COURSE)
    pid = int(grader.stdout.readline())
    time.sleep(0.5)
    pids = [each.pid for each in sandbox.family(pid)]
    grader.send_signal(signal.SIGKILL)
    grader.wait()
    grader.stdout.close()
    last = time.monotonic() + 10
    while any((seen := look(p)) and not seen.dead for p in pids) and time.monotonic() < last:
        time.sleep(0.05)
    assert pids and all((seen := look(p)) is None or seen.dead for p in pids)


@isolated
def test_a_sandbox_that_cannot_start_is_the_graders_failure(monkeypatch):
    monkeypatch.setattr(marking, "start", lambda isolation, *args, **more: start(
        isolation, "-c", "raise SystemExit(3)", fds=more["fds"]))
    with pytest.raises(sandbox.Failed, match="did not get ready"), Worker(available(), 13, 1) as worker:
        worker.start()


def steps(program):
    """A filter's steps."""
    return list(struct.iter_unpack("<HBBI", program))


def answer(program, architecture, number, argument=0):
    """What a filter says to a call: a small machine for the five kinds of steps that it has."""
    words = {0: number, 4: architecture, 16: argument & 0xFFFFFFFF}
    at, held, all_steps = 0, 0, steps(program)
    while True:
        code, yes, no, k = all_steps[at]
        at += 1
        if code == sandbox.RETURN:
            return k
        if code == sandbox.LOAD:
            held = words[k]
        else:
            test = {sandbox.EQUAL: held == k, sandbox.AT_LEAST: held >= k, sandbox.ANY_BIT: bool(held & k)}
            at += yes if test[code] else no


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_the_filter_refuses_what_it_lists_and_allows_the_rest(machine):
    program = filter_program(machine)
    column, architecture, clone, socket = ARCHITECTURES[machine]
    allowed, refused = sandbox.ALLOW, sandbox.ERRNO
    assert len(steps(program)) < 4096
    for name, numbers in CALLS.items():
        if numbers[column] is not None:
            assert answer(program, architecture, numbers[column]) & 0xFFFF0000 == refused, name
    listed = {numbers[column] for numbers in CALLS.values()} | {sandbox.CLONE3, clone, socket}
    for number in set(range(460)) - listed:
        assert answer(program, architecture, number) == allowed
    assert answer(program, architecture, clone, 17) == allowed
    for bit in (0x20000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000):
        assert answer(program, architecture, clone, bit | 17) == refused | sandbox.EPERM
    assert answer(program, architecture, sandbox.CLONE3) == refused | sandbox.ENOSYS
    assert answer(program, architecture, socket, 1) == allowed
    assert all(answer(program, architecture, socket, n) == refused | 97 for n in (0, 2, 10, 16, 17, 38, 40))
    other = next(a for m, (_, a, _, _) in ARCHITECTURES.items() if m != machine)
    assert answer(program, other, 0) == sandbox.KILL == answer(program, 0x40000003, 0)
    if machine == "x86_64":
        assert answer(program, architecture, 0x40000000 + 41, 1) == refused | 1


def test_the_uids_of_two_graders_differ():
    most = 1 << 22                          # the largest pid_max that Linux allows
    assert sandbox.FIRST_UID + (most + 1) * sandbox.EACH < 1 << 31


def test_unsafe_is_said_in_words():
    found = unsafe()
    assert found.kind == "none" and found.unsafe and "answers" in found.missing[0]


def test_unsafe_marks_too():
    """A laptop without a sandbox: an honest notebook gets its marks, and a process of its own."""
    honest = Submission("a", {"tilt": "def best_policy(reference, R, beta):\n"
                                      "    return (reference.log() + R / beta).softmax(-1)",
                              "find-the-wrong-push": "def is_right(coefficient): return True"})
    try:
        found = mark(honest, 13, 1, unsafe(), only=["tilt", "find-the-wrong-push"])
        assert [m.points for m in found] == [1.0, 0.0] and found[1].reason == "it lets everything through"
    finally:
        marking.finish()


def as_nobody(command):
    """The command that runs one as uid 65534, who can read the course and Python: in mounts of its own.

    A folder above them that others may not enter (/root, say) is covered by an empty one, in which they
    stand again.
    """
    lines, covered = ["set -e", "H=$(mktemp -d)"], {}
    for n, path in enumerate(dict.fromkeys(map(str, (sandbox.COURSE, sys.prefix, sys.base_prefix)))):
        shut = next((p for p in reversed(Path(path).parents) if not p.stat().st_mode & 0o001), None)
        if shut:
            covered.setdefault(str(shut), []).append((n, path))
            lines.append(f"mkdir $H/{n}; mount --bind {quote(path)} $H/{n}")
    for shut, paths in covered.items():
        lines.append(f"mount -t tmpfs -o mode=755 tmpfs {quote(shut)}")
        lines += [f"mkdir -p {quote(path)}; mount --bind $H/{n} {quote(path)}" for n, path in paths]
    lines.append(f"cd /; exec setpriv --reuid=65534 --regid=65534 --clear-groups {command}")
    return ["unshare", "-m", "--propagation", "private", "sh", "-c", "\n".join(lines)]


@isolated
@pytest.mark.skipif(os.geteuid() != 0, reason="these tests run as a plain user: all of them try that mode")
def test_a_plain_user_has_the_same_walls():
    """As nobody, with a user namespace: honest cells have their marks, and sixteen ideas get nothing."""
    command = ("env -i PATH=/usr/bin:/bin HOME=/tmp OMP_NUM_THREADS=1 "
               f"{quote(sys.executable)} {quote(f'{HERE}/hostile/as_user.py')}")
    done = subprocess.run(as_nobody(command), capture_output=True, text=True, timeout=280)
    if "unshare failed" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"this machine lets nobody be made: {done.stderr.strip()[-200:]}")
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout.splitlines()[-1])
    if told["kind"] == "none":
        pytest.skip("; ".join(told["missing"]))
    assert told["kind"] == "user" and told["uid"] == 65534
    assert told["honest"] == [1.0] * len(told["honest"]) and len(told["honest"]) == 9
    for name, (points, text) in told["marks"].items():
        assert points == 0 and "It raises Found" not in text, (name, text)
