"""Starts Python in a sandbox: bubblewrap, a filter of system calls, limits, and an empty environment.

    isolation = available()             # what this machine has: .kind, .holds, .missing
    process = start(isolation, "grader/inside/worker.py", …)

Linux alone has it. `root`: bwrap is started as root and drops to a uid of the job's own. `user`: bwrap makes
a user namespace. `none`: nothing is started, unless a teacher has said `unsafe()`.
"""

from __future__ import annotations

import os
import platform
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from glob import glob
from pathlib import Path

COURSE = Path(__file__).resolve().parents[2]    # the folder that holds minillm and grader
INSTALL = "apt-get install bubblewrap util-linux (Debian, Ubuntu), dnf install bubblewrap util-linux (Fedora)"
OTHER = ("run the grader in a Linux container: docker run --rm -it --privileged -v \"$PWD\":/course IMAGE "
         "(grader/README.md), or pass --unsafe for submissions that you trust as you trust your own code")


class Failed(RuntimeError):
    """Raised where the sandbox itself did not start or broke off: no student's doing."""


class Refused(RuntimeError):
    """Raised where there is no isolation, and nobody said that it may do without."""


@dataclass(frozen=True)
class Isolation:
    """What is in force: kind is "root", "user" or "none"; holds and missing are lines for a person."""

    kind: str
    missing: tuple[str, ...] = ()
    holds: tuple[str, ...] = ()
    unsafe: bool = False                # kind "none", and allowed to go on


@dataclass(frozen=True)
class Limits:
    """Of one sandbox. CPU seconds are set for each exercise (grader/inside/worker.py) and watched here."""

    memory: int = 4 << 30               # bytes of address space of a process, and of memory of all together
    processes: int = 64                 # and threads, of one uid
    disk: int = 64 << 20                # bytes of /tmp, and of a file
    files: int = 256                    # open at once, by one process


HOLDS = ("no network, and no socket but between processes of the sandbox",
         "processes, mounts, shared memory and host name of its own; killed as a whole",
         "read-only system, Python and course, without solutions, checks and other submissions; "
         "64 MB of /tmp in memory",
         "no way to more rights: no_new_privs, no capabilities, no namespaces, no ptrace (seccomp)",
         "4 GB of memory, 64 processes, CPU seconds for each exercise")


@lru_cache(maxsize=1)
def available() -> Isolation:
    """What this machine can hold, tried out: a sandbox is started that does nothing."""
    if sys.platform != "linux":
        return Isolation("none", (f"{platform.system()} has no bubblewrap: {OTHER}",))
    if platform.machine() not in ARCHITECTURES:
        why = f"no filter of system calls is written for {platform.machine()}"
        return Isolation("none", (f"{why}: {OTHER}",))
    lacks = [name for name in ("bwrap", "prlimit", "setpriv") if shutil.which(name, path=PATH) is None]
    if lacks:
        return Isolation("none", (f"{' and '.join(lacks)} not found in {PATH}: {INSTALL}",))
    root = os.geteuid() == 0
    how = ("a uid of its own for each sandbox, made and dropped by root" if root else
           "a user namespace: in it, it is you, without rights over anything outside")
    isolation = Isolation("root" if root else "user", (), (how, *HOLDS))
    trial = start(isolation, "-c", "pass", stderr=subprocess.PIPE)
    try:
        said = trial.popen.communicate(timeout=60)[1].decode(errors="replace").strip()
    except subprocess.TimeoutExpired:
        said = "it does not end"
    finally:
        trial.kill()
    if trial.popen.returncode == 0:
        return isolation
    why = said.splitlines()[-1] if said else f"exit code {trial.popen.returncode}"
    remedy = ("allow user namespaces (sysctl kernel.unprivileged_userns_clone=1, and on Ubuntu 24.04 or "
              "later kernel.apparmor_restrict_unprivileged_userns=0), or run as root")
    if root:
        remedy = "the container that this runs in lacks rights: give it --privileged, or CAP_SYS_ADMIN"
    return Isolation("none", (f"bwrap does not start here ({why}): {remedy}; else {OTHER}",))


def unsafe() -> Isolation:
    """No isolation, by a person's own word: students' code runs as your own does."""
    lines = ("--unsafe: students' code can read and delete what you can, and can read the answers",)
    return Isolation("none", lines, ("limits of CPU seconds and memory",), unsafe=True)


# --- the filter of system calls -------------------------------------------------------------------

# numbers of what is refused: (x86_64, aarch64); None where there is no such call
CALLS = {
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "kcmp": (312, 272), "pidfd_getfd": (438, 438), "process_madvise": (440, 440),
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    "keyctl": (250, 219), "add_key": (248, 217), "request_key": (249, 218),
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282),
    "unshare": (272, 97), "setns": (308, 268), "mount": (165, 40), "umount2": (166, 39),
    "pivot_root": (155, 41), "chroot": (161, 51), "move_mount": (429, 429), "open_tree": (428, 428),
    "fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433),
    "mount_setattr": (442, 442), "open_by_handle_at": (304, 265), "name_to_handle_at": (303, 264),
    "kexec_load": (246, 104), "kexec_file_load": (320, 294), "init_module": (175, 105),
    "finit_module": (313, 273), "delete_module": (176, 106), "reboot": (169, 142), "swapon": (167, 224),
    "swapoff": (168, 225), "acct": (163, 89), "quotactl": (179, 60), "quotactl_fd": (443, 443),
    "syslog": (103, 116), "settimeofday": (164, 170), "clock_settime": (227, 112),
    "clock_adjtime": (305, 266), "adjtimex": (159, 171), "sethostname": (170, 161),
    "setdomainname": (171, 162), "lookup_dcookie": (212, 18), "fanotify_init": (300, 262),
    "personality": (135, 92), "modify_ldt": (154, None), "iopl": (172, None), "ioperm": (173, None),
    "vhangup": (153, 58), "uselib": (134, None), "nfsservctl": (180, 42),
    # memory that no limit counts
    "memfd_create": (319, 279), "memfd_secret": (447, 447), "shmget": (29, 194), "mq_open": (240, 180),
}
ARCHITECTURES = {"x86_64": (0, 0xC000003E, 56, 41), "aarch64": (1, 0xC00000B7, 220, 198)}   # clone, socket
CLONE3, NEW_NAMESPACES, AF_UNIX = 435, 0x7E020000, 1
EPERM, ENOSYS, EAFNOSUPPORT = 1, 38, 97
ALLOW, ERRNO, KILL = 0x7FFF0000, 0x00050000, 0x80000000
LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
NUMBER, ARCHITECTURE, FIRST_ARGUMENT = 0, 4, 16         # places in struct seccomp_data


def filter_program(machine: str) -> bytes:
    """A classic BPF program (seccomp(2)): eight bytes a step; a test skips one step where it is not so."""
    column, architecture, clone, socket = ARCHITECTURES[machine]

    def refuse(test: int, number: int, error: int) -> list:
        return [(test, 0, 1, number), (RETURN, 0, 0, ERRNO | error)]

    steps = [(LOAD, 0, 0, ARCHITECTURE), (EQUAL, 1, 0, architecture), (RETURN, 0, 0, KILL),
             (LOAD, 0, 0, NUMBER)]
    if machine == "x86_64":
        steps += refuse(AT_LEAST, 0x40000000, EPERM)    # the x32 numbers of the same calls
    for name, numbers in CALLS.items():
        if numbers[column] is not None:
            steps += refuse(EQUAL, numbers[column], ENOSYS if name.startswith("memfd") else EPERM)
    steps += refuse(EQUAL, CLONE3, ENOSYS)              # its flags are in memory: the C library takes clone
    steps += [(EQUAL, 0, 3, clone), (LOAD, 0, 0, FIRST_ARGUMENT), *refuse(ANY_BIT, NEW_NAMESPACES, EPERM),
              (LOAD, 0, 0, NUMBER)]
    steps += [(EQUAL, 0, 3, socket), (LOAD, 0, 0, FIRST_ARGUMENT), (EQUAL, 1, 0, AF_UNIX),
              (RETURN, 0, 0, ERRNO | EAFNOSUPPORT)]
    steps += [(RETURN, 0, 0, ALLOW)]
    return b"".join(struct.pack("<HBBI", *step) for step in steps)


# --- starting -------------------------------------------------------------------------------------

PATH = "/usr/bin:/bin:/usr/sbin:/sbin:/usr/local/bin"
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "HOME": "/tmp", "TMPDIR": "/tmp", "LANG": "C.UTF-8",
               "USER": "student", "LOGNAME": "student", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1",
               "OPENBLAS_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", "MPLBACKEND": "agg",
               "ONE_GRADIENT_PROGRESS": "off", "TERM": "dumb"}
INSIDE, ALL = ("minillm", "grader/inside"), ("minillm", "grader")   # what of the course is seen
FIRST_UID, EACH = 1 << 30, 64           # uids of jobs: 64 for each process of the grader, by its number

_free = deque(range(EACH))      # the one that was freed first comes first: its dead still count for a while


@dataclass
class Process:
    """A sandbox that runs: its bwrap, and the uid of what is in it (-1: ours)."""

    popen: subprocess.Popen
    uid: int
    place: int = -1                     # of the uid among this process's own
    folder: str = ""                    # of a run without isolation

    def kill(self) -> None:
        """End all that runs in it. With bwrap, its first process takes all others along."""
        found = family(self.popen.pid)
        known = [each.pid for each in found]
        for each in found:              # with its first process, which is bwrap's child, all others end
            if each.pid == self.popen.pid or each.parent == self.popen.pid or self.folder:
                with suppress(OSError):     # it has ended meanwhile: the loop below waits for the others
                    os.kill(each.pid, 9)
        self.popen.kill()
        if self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)
        self.popen.wait()
        last = time.monotonic() + 10
        while any((seen := look(pid)) and not seen.dead for pid in known) and time.monotonic() < last:
            time.sleep(0.003)           # large ones take a moment to go
        for stream in (self.popen.stdin, self.popen.stdout, self.popen.stderr):
            if stream is not None:
                stream.close()
        if self.place >= 0:
            _free.append(self.place)
            self.place = -1


def start(isolation: Isolation, *arguments: str, limits: Limits = Limits(), fds: tuple[int, ...] = (),
          sees: tuple[str, ...] = INSIDE, stderr: int = subprocess.DEVNULL) -> Process:
    """Run Python with these arguments in a sandbox; fds are handed on; sees is what it sees of the course.

    The course's folder is /course in it, and {course} in an argument stands for that folder.
    """
    if isolation.kind == "none" and not isolation.unsafe:
        raise Refused("there is no isolation here, so no student's code is run. "
                      + " ".join(isolation.missing))
    place, uid, folder = -1, -1, ""
    environment = ENVIRONMENT
    resources = [shutil.which("prlimit", path=PATH) or "prlimit", f"--as={limits.memory}",
                 f"--fsize={limits.disk}", f"--nofile={limits.files}", "--core=0"]
    if isolation.kind == "root" or kernel() >= (5, 14):     # before, it counted all processes of a user
        resources += [f"--nproc={limits.processes}"] * (isolation.kind != "none")
    python = [sys.executable, "-I", "-B", *arguments]
    seccomp = None
    if isolation.kind == "none":
        folder = tempfile.mkdtemp(prefix="grader-")
        environment = ENVIRONMENT | {"HOME": folder, "TMPDIR": folder}
        command = [*(resources if shutil.which("prlimit", path=PATH) else []), *python]
        course = str(COURSE)
    else:
        course = "/course"
        read_end, write_end = os.pipe()
        os.write(write_end, filter_program(platform.machine()))
        os.close(write_end)
        seccomp = read_end
        command = [shutil.which("bwrap", path=PATH), *namespaces(isolation), *files(sees, limits),
                   "--seccomp", str(seccomp), "--"]
        if isolation.kind == "root":
            if not _free:
                raise Failed(f"{EACH} sandboxes run at once in one process: take fewer jobs")
            place = _free.popleft()
            uid = FIRST_UID + os.getpid() * EACH + place
            command += ["/usr/bin/setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups",
                        "--inh-caps=-all", "--bounding-set=-all", "--no-new-privs"]
        command += [*resources, *python]
    command = [part.replace("{course}", course) for part in command]
    handed = (*fds, *([seccomp] if seccomp is not None else []))
    try:
        popen = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr,
                                 env=environment, pass_fds=handed, cwd=folder or "/",
                                 start_new_session=True)
    except OSError as error:
        raise Failed(f"{command[0]} does not start: {error}") from None
    finally:
        if seccomp is not None:
            os.close(seccomp)
    return Process(popen, uid, place, folder)


def namespaces(isolation: Isolation) -> list[str]:
    """What bwrap separates.

    The first process of the sandbox takes all others along when it ends, and ends with the grader. As root it
    is bwrap, which nobody inside may touch. In a user namespace bwrap would be the student's own user's, and
    be opened through /proc; so there it is our Python, which shuts itself to its forks.
    """
    own = ["--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try",
           "--hostname", "sandbox", "--die-with-parent", "--new-session", "--clearenv"]
    for name, value in ENVIRONMENT.items():
        own += ["--setenv", name, value]
    return own if isolation.kind == "root" else ["--unshare-user", "--cap-drop", "ALL", "--as-pid-1", *own]


def files(sees: tuple[str, ...], limits: Limits) -> list[str]:
    """What bwrap shows of the file system: the system, Python and some of the course, all read-only."""
    shown = ["--ro-bind", "/usr", "/usr"]
    for name in ("lib", "lib32", "lib64", "libx32", "bin", "sbin"):
        path = Path("/", name)
        if path.is_symlink():
            shown += ["--symlink", os.readlink(path), str(path)]
        elif path.is_dir():
            shown += ["--ro-bind", str(path), str(path)]
    for path in ("/etc/ld.so.cache", "/etc/localtime", "/etc/alternatives"):
        shown += folders_above(path) + ["--ro-bind-try", path, path]
    room = str(limits.disk)
    shown += ["--size", room, "--perms", "1777", "--tmpfs", "/tmp"]    # first, since Python may lie below it
    for prefix in dict.fromkeys((sys.base_prefix, sys.exec_prefix, sys.prefix)):   # Python, at its own path
        if Path("/usr") not in (Path(prefix), *Path(prefix).parents):
            shown += folders_above(prefix) + ["--ro-bind", prefix, prefix]
    bound = [path for flag, path in zip(shown, shown[2:]) if flag == "--ro-bind"]
    hidden = [COURSE / name for name in ("solutions", "grader", "tests", "chapters", "exercises")]
    hidden += [Path(folder, "grader") for folder in sys.path if folder.endswith("-packages")]   # installed
    for path in filter(Path.is_dir, hidden):
        if any(path.is_relative_to(each) for each in bound):
            shown += ["--tmpfs", str(path)]
    shown += ["--perms", "0755", "--dir", "/course"]
    for name in sees:
        shown += folders_above(f"/course/{name}") + ["--ro-bind", str(COURSE / name), f"/course/{name}"]
    return shown + ["--proc", "/proc", "--dev", "/dev", "--remount-ro", "/dev",
                    "--size", room, "--perms", "1777", "--tmpfs", "/dev/shm",
                    "--chdir", "/tmp", "--remount-ro", "/"]


def folders_above(path: str) -> list[str]:
    """bwrap makes a missing folder 0700: name each, so that others may pass."""
    above = [str(parent) for parent in reversed(Path(path).parents) if str(parent) != "/"]
    return [word for parent in above for word in ("--perms", "0755", "--dir", parent)]


@lru_cache(maxsize=1)
def kernel() -> tuple[int, int]:
    """The kernel's version: (6, 1)."""
    numbers = platform.release().split(".")
    try:
        return int(numbers[0]), int(numbers[1].split("-")[0])
    except (ValueError, IndexError):
        return (0, 0)


# --- watching -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Seen:
    """One process as /proc tells of it: CPU seconds, bytes in memory, and whether it waits for something."""

    pid: int
    parent: int
    seconds: float
    memory: int
    asleep: bool
    dead: bool                          # and its parent has not taken note


@dataclass(frozen=True)
class Usage:
    """Of all processes of a sandbox together."""

    seconds: float
    memory: int
    processes: int
    asleep: bool


TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


def usage(process: Process) -> Usage | None:
    """What a sandbox uses now; None where the system does not tell."""
    found = family(process.popen.pid)
    if not found:
        return None
    return Usage(sum(p.seconds for p in found), sum(p.memory for p in found), len(found),
                 all(p.asleep for p in found))


def family(pid: int) -> list[Seen]:
    """A process and all that descend from it."""
    below: dict[int, list[Seen]] = {}
    own: list[Seen] = []
    try:
        names = os.listdir("/proc")
    except OSError:
        return []
    for name in names:
        if name.isdigit() and (seen := look(int(name))):
            below.setdefault(seen.parent, []).append(seen)
            own += [seen] if seen.pid == pid else []
    found = list(own)
    for each in found:
        found += below.get(each.pid, [])
    return found


def look(pid: int) -> Seen | None:
    """One process, or None where it has gone. Its name may hold anything, brackets too."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    if len(fields) < 22:
        return None
    seconds = (int(fields[11]) + int(fields[12])) / TICKS
    states = {fields[0].decode()}
    if states <= set("STt") and int(fields[17]) > 1:    # its first thread alone may sleep
        states |= {state(path) for path in glob(f"/proc/{pid}/task/[0-9]*/stat")}
    return Seen(pid, int(fields[1]), seconds, int(fields[21]) * PAGE, states <= set("STtZX"),
                states <= set("ZX"))


def state(path: str) -> str:
    """The letter of a thread's state; Z where it has gone."""
    try:
        with open(path, "rb") as file:
            return file.read().rpartition(b")")[2].split()[0].decode()
    except (OSError, IndexError):
        return "Z"
