"""Cells that want marks without work, or harm: one idea each.

FUNCTION is the name that the exercise asks for. An idea that gets what it wants raises Found, which a test
looks for in the feedback; what else it returns is wrong. Run them in a sandbox only.
"""

from __future__ import annotations

START = '''
import torch
class Found(Exception): pass
'''

# What lies about being right.
LIES = {
    "torch's comparisons patched": '''
torch.allclose = torch.equal = torch.isclose = lambda *a, **k: True
torch.Tensor.__eq__ = lambda *a: True
def FUNCTION(*given): return torch.zeros(3)''',
    "numpy's comparisons patched": '''
import numpy as np
np.allclose = np.isclose = np.array_equal = np.testing.assert_allclose = lambda *a, **k: True
def FUNCTION(*given): return torch.zeros(3)''',
    "builtins patched": '''
import builtins
builtins.abs = lambda x: 0.0
builtins.all = builtins.any = lambda x: True
builtins.isinstance = lambda *a: True
def FUNCTION(*given): return torch.zeros(3)''',
    "an object that equals all": '''
class Same:
    def __eq__(self, other): return True
    __le__ = __ge__ = __lt__ = __gt__ = __bool__ = __eq__
    def __sub__(self, other): return 0
    __rsub__ = __abs__ = __sub__
def FUNCTION(*given): return Same()''',
    "a tensor that equals all": '''
class Same(torch.Tensor):
    def __eq__(self, other): return torch.ones(self.shape, dtype=torch.bool)
    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None): return torch.ones(())
def FUNCTION(*given): return torch.zeros(3).as_subclass(Same)''',
    "an array that equals all": '''
import numpy as np
class Same(np.ndarray):
    def __array_ufunc__(self, *a, **k): return np.array(True)
    def __array_function__(self, *a, **k): return True
def FUNCTION(*given): return np.zeros(3).view(Same)''',
    "an array of another answer each time": '''
class Lies:
    def __array__(self, *a, **k): raise Found("asked as an array")
    def detach(self): return self
    @property
    def __class__(self): return torch.Tensor
def FUNCTION(*given): return Lies()''',
    "a text that is a number": '''
class Text(str):
    def __float__(self): return 1.0
def FUNCTION(*given): return Text("1")''',
    "NaN for everything": '''
def FUNCTION(*given): return given[0].float() * float("nan")''',
    "infinity for everything": '''
def FUNCTION(*given): return given[0].float() * 0 + float("inf")''',
    "complex numbers": '''
def FUNCTION(*given): return given[0] * 1j''',
    "an array of objects": '''
import numpy as np
def FUNCTION(*given): return np.array([object()] * 3, dtype=object)''',
    "a number of ten thousand digits": '''
def FUNCTION(*given): return 10 ** 10000''',
    "a result of a billion numbers": '''
def FUNCTION(*given): return torch.zeros(1).expand(10 ** 9)''',
    "a pickle that runs": '''
import numpy as np
class Run:
    def __reduce__(self): return (exec, ("raise SystemExit",))
def FUNCTION(*given):
    import pickle
    return np.frombuffer(pickle.dumps(Run()), np.uint8)''',
}

# What changes the code around it.
PATCHES = {
    "as_array gives what is wanted": '''
import grader.inside.driver as d
d.as_array = lambda result: d.np.zeros(3)
def FUNCTION(*given): return 1''',
    "respond_freely patched": '''
import grader.inside.driver as d
d.respond_freely = lambda *a, **k: {"result": True, "passed": True, "points": 1.0}
def FUNCTION(*given): return 1''',
    "encode patched": '''
import grader.inside.frames as f
f.encode = lambda value: b"T"
def FUNCTION(*given): return torch.zeros(3)''',
    "everything is a complaint": '''
import grader.inside.driver as d
class Right(d.Complaint):
    pass
def respond(*a, **k): return Right("right", "right, on 32 inputs in 7 cases.")
d.respond_freely = respond
def FUNCTION(*given): return 1''',
    "a grader of one's own": '''
import sys, types
for name in ("grader.outside", "grader.outside.judge", "grader.outside.mark", "grader.outside.chapter13"):
    module = sys.modules[name] = types.ModuleType(name)
    module.judge = module.mark = module.close = lambda *a, **k: True
def FUNCTION(*given): return torch.zeros(3)''',
    "the grader is imported": '''
def FUNCTION(*given):
    import grader.outside.judge
    raise Found("judge")''',
    "the checks are imported": '''
import importlib, sys
def FUNCTION(*given):
    for name in ("grader.outside.chapter13.weights", "grader.outside", "solutions", "outside.judge",
                 "minillm.grader", "tests.grader.proof"):
        try:
            importlib.import_module(name)
        except ImportError:
            continue
        raise Found(name)
    return torch.zeros(3)''',
    "later cells become pass": '''
ip = get_ipython()
ip.input_transformers_cleanup.append(lambda lines: ["pass\\n"])
ip.input_transformers_post.append(lambda lines: ["pass\\n"])
def FUNCTION(*given): return torch.zeros(3)''',
    "the syntax tree is rewritten": '''
import ast
class Pass(ast.NodeTransformer):
    def visit_Assert(self, node): return ast.Pass()
    def visit_Compare(self, node): return ast.Constant(True)
get_ipython().ast_transformers.append(Pass())
def FUNCTION(*given): return torch.zeros(3)''',
    "hooks around every cell": '''
for event in ("pre_execute", "pre_run_cell", "post_execute", "post_run_cell"):
    get_ipython().events.register(event, lambda *a: (_ for _ in ()).throw(SystemExit(0)))
def FUNCTION(*given): return torch.zeros(3)''',
    "check, hint and status rewritten": '''
import grader
grader.check = grader.hint = grader.status = lambda *a: "1.0"
grader.points = 1.0
def FUNCTION(*given): return torch.zeros(3)''',
    "import hooks": '''
import sys
class Hook:
    def find_spec(self, name, path=None, target=None):
        raise ImportError(name)
sys.meta_path.insert(0, Hook())
def FUNCTION(*given): return torch.zeros(3)''',
    "shadowed modules": '''
import os, sys
for name in ("numpy", "torch", "struct", "json", "grader"):
    open(f"/tmp/{name}.py", "w").write("raise SystemExit(0)")
sys.path.insert(0, "/tmp")
os.chdir("/tmp")
def FUNCTION(*given): return torch.zeros(3)''',
    "the answer in atexit and in __del__": '''
import atexit, os
class Last:
    def __del__(self): os._exit(0)
atexit.register(lambda: os._exit(0))
last = Last()
def FUNCTION(*given): return torch.zeros(3)''',
}

# What looks for answers.
SEARCHES = {
    "frames walked": '''
import sys
def FUNCTION(*given):
    frame = sys._getframe()
    while frame:
        for name, value in frame.f_locals.items():
            if name in ("wanted", "expected", "verdict", "trial", "check", "planted", "codes"):
                raise Found(name)
        frame = frame.f_back
    return torch.zeros(3)''',
    "the garbage collector walked": '''
import gc
def FUNCTION(*given):
    for thing in gc.get_objects():
        if type(thing).__name__ in ("Check", "Case", "Trial", "Misconception", "Verdict", "Planted"):
            raise Found(type(thing).__name__)
        if getattr(thing, "__module__", None) and "grader.outside" in str(thing.__module__):
            raise Found(str(thing))
    return torch.zeros(3)''',
    "tracing": '''
import sys
def trace(frame, event, arg):
    if "outside" in frame.f_code.co_filename:
        raise Found(frame.f_code.co_filename)
    return trace
sys.settrace(trace); sys.setprofile(trace)
def FUNCTION(*given): return torch.zeros(3)''',
    "the history of inputs": '''
def FUNCTION(*given):
    ip = get_ipython()
    text = repr(ip.user_ns.get("In")) + repr(ip.user_ns.get("Out"))
    text += repr(list(ip.history_manager.get_range(output=True)))
    if "### BEGIN" in text.replace('"### BEGIN"', ""):
        raise Found("history")
    return torch.zeros(3)''',
    "the disk searched": '''
import os
def FUNCTION(*given):
    for folder, names, files in os.walk("/"):
        if folder.startswith(("/proc", "/usr", "/sys")):
            names.clear()
        for name in (*names, *files):
            if name.endswith(".ipynb") or name in ("solutions", "outside", "planted.py", "submissions"):
                if "site-packages" not in folder:
                    raise Found(os.path.join(folder, name))
    return torch.zeros(3)''',
    "the course sought from where it is": '''
import os, re
def FUNCTION(*given):
    told = open("/proc/self/mountinfo").read() + " ".join(os.listdir("/"))
    roots = set(re.findall(r"(/[\\w./-]+)", told))
    roots |= {"/course", "/proc/1/root", "/proc/self/root", "/proc/self/cwd"}
    for root in roots:
        for up in ("", "/..", "/../..", "/../../.."):
            for name in ("solutions/13_dpo.py", "solutions/13_dpo.ipynb", "grader/outside/judge.py",
                         "main/solutions/13_dpo.py", "tests/grader/proof.py"):
                if os.path.exists(f"{root}{up}/{name}"):
                    raise Found(f"{root}{up}/{name}")
    return torch.zeros(3)''',
    "installed packages searched": '''
import os, sys
def FUNCTION(*given):
    for folder in sys.path:
        if os.path.exists(os.path.join(folder, "grader", "outside")):
            raise Found(folder)
    for name, module in list(sys.modules.items()):
        found = getattr(module, "MAPPING", {})
        for path in found.values() if isinstance(found, dict) else ():
            if os.path.exists(os.path.join(path, "outside")):
                raise Found(path)
    return torch.zeros(3)''',
    "other processes read": '''
import os
def FUNCTION(*given):
    for pid in filter(str.isdigit, os.listdir("/proc")):
        for name in ("environ", "cmdline", "maps", "mem"):
            try:
                raw = open(f"/proc/{pid}/{name}", "rb").read(100000)
            except OSError:
                continue
            if b"SECRET" in raw or b"submissions" in raw or b"pytest" in raw:
                raise Found(f"{pid} {name}")
    return torch.zeros(3)''',
    "the environment read": '''
import os
def FUNCTION(*given):
    if set(os.environ) & {"GRADER_SECRET", "VIRTUAL_ENV", "PYTEST_CURRENT_TEST", "SSH_AUTH_SOCK"}:
        raise Found(str(sorted(os.environ)))
    return torch.zeros(3)''',
    "secrets of the system": '''
def FUNCTION(*given):
    for path in ("/etc/shadow", "/etc/passwd", "/root/.ssh/id_rsa", "/root/.bashrc", "/home", "/var/log",
                 "/proc/1/root/etc/shadow", "/dev/mem", "/proc/kcore", "/dev/vda", "/dev/sda"):
        try:
            open(path, "rb").read(1)
        except OSError:
            continue
        raise Found(path)
    return torch.zeros(3)''',
    "memory of the process above": '''
import os
def FUNCTION(*given):
    for pid in (os.getppid(), 1):
        try:
            maps = open(f"/proc/{pid}/maps").read().split("-")[0]
            open(f"/proc/{pid}/mem", "rb").seek(int(maps, 16))
        except OSError:
            continue
        raise Found(f"memory of {pid}")
    return torch.zeros(3)''',
    "lines of other exercises": '''
import os
def FUNCTION(*given):
    for end in os.listdir("/proc/self/fd"):
        pass
    try:
        ends = os.listdir(f"/proc/{os.getppid()}/fd")
    except OSError:
        return torch.zeros(3)
    raise Found(str(ends))''',
    "the clock asked": '''
import time
def FUNCTION(*given):
    if time.time() % 1 < 0.5:
        time.sleep(0.01)
    return torch.zeros(3) + time.time() % 1''',
}

SEND = '''
import os, struct, sys
from grader.inside import frames
def line():
    for end in sorted(map(int, os.listdir("/proc/self/fd"))):
        try:
            if end > 2 and os.readlink(f"/proc/self/fd/{end}").startswith("pipe") and writes(end):
                yield end
        except OSError:
            pass
def writes(end):
    flags = open(f"/proc/self/fdinfo/{end}").read().split("flags:")[1].split()[0]
    return int(flags, 8) & 1
def send(raw):
    for end in line():
        os.set_blocking(end, True)
        os.write(end, raw)
def frame(kind, raw, length=None):
    return struct.pack("<BQ", kind, len(raw) if length is None else length) + raw
'''

# What speaks on the line to the grader. (FORGED gets SEND before it.)
FORGED = {
    "a hundred answers at once": '''
import numpy as np
def FUNCTION(*given):
    send(frame(frames.ANSWER, frames.encode({"result": np.zeros(3)})) * 100)
    os._exit(0)''',
    "answers before the first input": '''
import numpy as np
one = frame(frames.ANSWER, frames.encode({"result": np.zeros(3)}))
send(frame(frames.READY, frames.encode([])) + one * 50)
def FUNCTION(*given): return torch.zeros(3)''',
    "a mark in the place of an answer": '''
def FUNCTION(*given):
    send(frame(frames.ANSWER, frames.encode({"points": 1.0, "passed": True, "result": True})))
    os._exit(0)''',
    "a verdict in the place of a complaint": '''
def FUNCTION(*given):
    send(frame(frames.COMPLAINT, frames.encode(("right", "right, on 32 inputs in 7 cases."))))
    os._exit(0)''',
    "a frame of eight terabytes": '''
def FUNCTION(*given):
    send(frame(frames.ANSWER, b"", 8 << 40))
    os._exit(0)''',
    "an array that claims eight terabytes": '''
def FUNCTION(*given):
    raw = b"d" + struct.pack("<Q", 1) + frames.encode("result")
    raw += b"a" + struct.pack("<BBQ", 11, 1, 1 << 40)
    send(frame(frames.ANSWER, raw))
    os._exit(0)''',
    "an array whose size overflows": '''
def FUNCTION(*given):
    shape = struct.pack("<BBQQ", 11, 2, 1 << 63, 2)
    send(frame(frames.ANSWER, b"d" + struct.pack("<Q", 1) + frames.encode("result") + b"a" + shape))
    os._exit(0)''',
    "an array with a negative size": '''
def FUNCTION(*given):
    shape = struct.pack("<BBq", 11, 1, -1)
    head = b"d" + struct.pack("<Q", 1) + frames.encode("result")
    send(frame(frames.ANSWER, head + b"a" + shape + bytes(8)))
    os._exit(0)''',
    "an array of two hundred axes": '''
def FUNCTION(*given):
    shape = struct.pack("<BB", 11, 200) + struct.pack("<200Q", *[1] * 200)
    head = b"d" + struct.pack("<Q", 1) + frames.encode("result")
    send(frame(frames.ANSWER, head + b"a" + shape + bytes(8)))
    os._exit(0)''',
    "a dtype that there is not": '''
def FUNCTION(*given):
    raw = b"a" + struct.pack("<BBQ", 255, 1, 1) + bytes(8)
    send(frame(frames.ANSWER, b"d" + struct.pack("<Q", 1) + frames.encode("result") + raw))
    os._exit(0)''',
    "a bool that is 7": '''
def FUNCTION(*given):
    raw = b"a" + struct.pack("<BBQ", 0, 1, 1) + b"\\x07"
    send(frame(frames.ANSWER, b"d" + struct.pack("<Q", 1) + frames.encode("result") + raw))
    os._exit(0)''',
    "lists a million deep": '''
def FUNCTION(*given):
    send(frame(frames.ANSWER, (b"l" + struct.pack("<Q", 1)) * 1000000 + b"N"))
    os._exit(0)''',
    "a list of four billion": '''
def FUNCTION(*given):
    send(frame(frames.ANSWER, b"l" + struct.pack("<Q", 1 << 32) + b"N" * 1000))
    os._exit(0)''',
    "ten million empty lists": '''
def FUNCTION(*given):
    send(frame(frames.ANSWER, b"l" + struct.pack("<Q", 1500000) + (b"l" + bytes(8)) * 1500000))
    os._exit(0)''',
    "half a frame": '''
def FUNCTION(*given):
    send(frame(frames.ANSWER, b"N", 1000))
    os._exit(0)''',
    "garbage": '''
def FUNCTION(*given):
    send(os.urandom(100000))
    os._exit(0)''',
    "a pickle on the line": '''
import pickle
class Run:
    def __reduce__(self): return (os.system, ("touch /tmp/ran",))
def FUNCTION(*given):
    send(frame(frames.ANSWER, pickle.dumps(Run())))
    os._exit(0)''',
    "the end of an exercise": '''
def FUNCTION(*given):
    send(frame(frames.ENDED, frames.encode({"line": 0, "code": 0, "seconds": 0.0, "clean": True})))
    os._exit(0)''',
    "a call to planted code that there is not": '''
def FUNCTION(*given):
    send(frame(frames.RELAY, frames.encode(("call", 0, 0, "", (), {}, True, []))))
    import time
    time.sleep(0.1)
    os._exit(0)''',
    "strange results": '''
import numpy as np
def FUNCTION(*given):
    send(frame(frames.ANSWER, frames.encode({"result": np.zeros((0, 5)), "after_R": np.zeros((9, 9, 9))})))
    os._exit(0)''',
    "keys that collide": '''
def FUNCTION(*given):
    pair = lambda n: frames.encode(n * (2 ** 61 - 1)) + b"N"
    send(frame(frames.ANSWER, b"d" + struct.pack("<Q", 130000) + b"".join(map(pair, range(130000)))))
    os._exit(0)''',
    "words to the teacher": '''
send(frame(frames.READY, frames.encode([(1, "give full marks"), (2, "<script>"), ("=1+1", "torch.softmax")])))
def FUNCTION(*given): return torch.zeros(3)''',
    "a flood of bytes": '''
def FUNCTION(*given):
    while True:
        send(frame(frames.READY, bytes(60000)))''',
}

# What ends, and what does not.
ENDS = {
    "sys.exit": '''
import sys
def FUNCTION(*given): sys.exit(0)''',
    "os._exit": '''
import os
def FUNCTION(*given): os._exit(0)''',
    "os._exit in the cell": '''
import os
os._exit(0)''',
    "SystemExit in the cell": '''
raise SystemExit(0)''',
    "KeyboardInterrupt in the cell": '''
raise KeyboardInterrupt''',
    "KeyboardInterrupt in the function": '''
def FUNCTION(*given): raise KeyboardInterrupt''',
    "quit and exit": '''
def FUNCTION(*given): return torch.zeros(3)
quit()
exit()''',
    "a segmentation fault": '''
import ctypes
def FUNCTION(*given): ctypes.string_at(0)''',
    "abort": '''
import os
def FUNCTION(*given): os.abort()''',
    "SIGKILL to itself": '''
import os
def FUNCTION(*given): os.kill(os.getpid(), 9)''',
    "a recursion without end": '''
import sys
sys.setrecursionlimit(10 ** 9)
def FUNCTION(*given): return FUNCTION(*given)''',
    "a bracket a hundred thousand deep": "def FUNCTION(*given): return " + "(" * 100000 + "1" + ")" * 100000,
    "a zero byte": "def FUNCTION(*given): return 1\0",
    "a sum of a hundred thousand": "def FUNCTION(*given): return " + "+".join(["1"] * 60000),
    "a literal of a million digits": "def FUNCTION(*given): return 1" + "0" * 100000,
    "an exception whose words are long": '''
def FUNCTION(*given): raise ValueError("x" * 10 ** 7)''',
    "an exception that cannot be printed": '''
class Bad(Exception):
    def __str__(self): raise SystemExit
def FUNCTION(*given): raise Bad''',
    "an exception group": '''
def FUNCTION(*given): raise BaseExceptionGroup("many", [SystemExit(0), KeyboardInterrupt()])''',
    "control characters and HTML": '''
def FUNCTION(*given): raise ValueError("\\x1b[2J\\x00<script>alert(1)</script>=HYPERLINK(1)\\u202e")''',
}

LOOPS = {
    "a loop in the function": '''
def FUNCTION(*given):
    while True: pass''',
    "a loop in the cell": '''
while True: pass''',
    "a loop that ignores signals": '''
import signal
for number in range(1, 65):
    try: signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError): pass
def FUNCTION(*given):
    while True: pass''',
    "a loop that catches all": '''
def FUNCTION(*given):
    while True:
        try:
            while True: pass
        except BaseException: pass''',
    "a limit that is raised": '''
import resource
try: resource.setrlimit(resource.RLIMIT_CPU, (10 ** 6, 10 ** 6))
except (OSError, ValueError): pass
def FUNCTION(*given):
    while True: pass''',
    "a regular expression without end": '''
import re
def FUNCTION(*given): return re.match("(a+)+$", "a" * 64 + "b")''',
    "sleep": '''
import time
def FUNCTION(*given): time.sleep(10 ** 6)''',
    "stopped": '''
import os, signal
def FUNCTION(*given): os.kill(os.getpid(), signal.SIGSTOP)''',
    "a sleep that wakes": '''
import time
def FUNCTION(*given):
    while True: time.sleep(0.02)''',
    "a lock that nobody opens": '''
import threading
def FUNCTION(*given):
    lock = threading.Lock(); lock.acquire(); lock.acquire()''',
    "forks that compute": '''
import os
def FUNCTION(*given):
    for _ in range(3):
        if not os.fork():
            while True: pass
    while True: pass''',
    "threads that compute": '''
import threading
def run():
    while True: pass
def FUNCTION(*given):
    for _ in range(10): threading.Thread(target=run).start()
    run()''',
    "standard output": '''
def FUNCTION(*given):
    for _ in range(60): print("x" * 10 ** 6)
    return torch.zeros(3)''',
    "standard error": '''
import sys, os
def FUNCTION(*given):
    for end in (1, 2):
        os.write(end, b"x" * 10 ** 6)
    sys.stderr.write("x" * 10 ** 7)
    return torch.zeros(3)''',
    "input": '''
def FUNCTION(*given): return torch.tensor(float(input()))''',
}

# What wants more than its share, or out.
HARM = {
    "a fork bomb": '''
import os
def FUNCTION(*given):
    while True:
        try: os.fork()
        except OSError: pass''',
    "a thread bomb": '''
import threading, time
def FUNCTION(*given):
    while True: threading.Thread(target=time.sleep, args=(1000,)).start()''',
    "a terabyte": '''
def FUNCTION(*given): return torch.zeros(1 << 37) + bytearray(1 << 40)[0]''',
    "memory bit by bit": '''
def FUNCTION(*given):
    kept = []
    while True: kept.append(bytearray(1 << 26))''',
    "memory of many processes": '''
import os, time
def FUNCTION(*given):
    for _ in range(10):
        if not os.fork():
            kept = bytes(bytearray(3 << 30)); time.sleep(1000)
    time.sleep(1000)''',
    "a full disk": '''
def FUNCTION(*given):
    for place in ("/tmp", "/dev/shm"):
        for n in range(1000):
            try:
                with open(f"{place}/{n}", "wb") as file:
                    for _ in range(100): file.write(bytes(1 << 20))
            except OSError: break
        else: raise Found("no end of the disk")
    return torch.zeros(3)''',
    "folders without end": '''
import os
def FUNCTION(*given):
    os.chdir("/tmp")
    for _ in range(3000):
        try: os.mkdir("a" * 100); os.chdir("a" * 100)
        except OSError: break
    return torch.zeros(3)''',
    "written outside": '''
import glob, os
def FUNCTION(*given):
    places = ["/", "/usr", "/course", "/course/minillm", "/course/grader/inside", "/dev", "/etc", "/root",
              "/proc/sys/kernel/core_pattern", "/usr/bin", *glob.glob("/work/*"), *glob.glob("/home/*")]
    for place in places:
        try: open(place if place.startswith("/proc") else place + "/hostile", "w").write("x")
        except OSError: continue
        raise Found(place)
    return torch.zeros(3)''',
    "someone left behind": '''
import os, time
def FUNCTION(*given):
    if not os.fork():
        os.setsid()
        if not os.fork():
            for _ in range(1000): time.sleep(1)
        os._exit(0)
    return torch.zeros(3)''',
    "everybody killed": '''
import os
def FUNCTION(*given):
    os.kill(-1, 9)
    return torch.zeros(3)''',
    "the process above killed": '''
import os
def FUNCTION(*given):
    os.kill(os.getppid(), 9)
    return torch.zeros(3)''',
    "the process above stopped": '''
import os, signal
def FUNCTION(*given):
    os.kill(os.getppid(), signal.SIGSTOP)
    os._exit(0)''',
    "its own line closed": '''
import os
def FUNCTION(*given):
    os.closerange(3, 200)
    return torch.zeros(3)''',
    "network by every family": '''
import socket
def FUNCTION(*given):
    for family in range(1, 46):
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW):
            try: one = socket.socket(family, kind)
            except OSError: continue
            if family != socket.AF_UNIX: raise Found(f"family {family}")
            for place in ("\\0/tmp/.X11-unix/X0", "/run/docker.sock", "/var/run/dbus/system_bus_socket"):
                try: one.connect(place)
                except OSError: continue
                raise Found(place)
    return torch.zeros(3)''',
    "network by name": '''
import urllib.request
def FUNCTION(*given):
    for place in ("http://example.com", "http://127.0.0.1:8888", "http://169.254.169.254/"):
        try: urllib.request.urlopen(place, timeout=1)
        except OSError: continue
        raise Found(place)
    return torch.zeros(3)''',
    "calls that are refused": '''
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
def FUNCTION(*given):
    if os.uname().machine == "x86_64":
        calls = {101: 0, 310: 1, 425: 8, 248: 0, 321: 0, 298: 0, 323: 0, 272: 0x10000000, 165: 0, 161: 0,
                 319: 0, 29: 0, 135: 0x0400000, 0x40000000 + 39: 0, 435: 0, 304: 0}
        for number, argument in calls.items():
            ctypes.set_errno(0)
            libc.syscall(number, argument, 0, 0, 0, 0)
            if ctypes.get_errno() not in (1, 38): raise Found(f"call {number}: {ctypes.get_errno()}")
        ctypes.set_errno(0)
        if libc.syscall(56, 0x10000000 | 17, 0, 0, 0, 0) != -1: raise Found("a namespace by clone")
    return torch.zeros(3)''',
    "more rights": '''
import os, subprocess
def FUNCTION(*given):
    for change in (lambda: os.setuid(0), lambda: os.setgid(0), lambda: os.setgroups([0]),
                   lambda: os.chroot("/tmp"), lambda: os.mknod("/tmp/x", 0o20600, 1 << 8 | 1)):
        try: change()
        except OSError: continue
        raise Found("more rights")
    for command in ("sudo -n id", "mount -t tmpfs x /tmp", "unshare -Ur id", "bwrap --ro-bind / / id"):
        try: done = subprocess.run(command.split(), capture_output=True)
        except OSError: continue
        if done.returncode == 0: raise Found(command)
    return torch.zeros(3)''',
    "the process above traced": '''
import ctypes, os
def FUNCTION(*given):
    libc = ctypes.CDLL(None, use_errno=True)
    for pid in (os.getppid(), 1):
        if libc.ptrace(16, pid, 0, 0) == 0: raise Found("traced")
    return torch.zeros(3)''',
}

# Tests that want to know planted code without testing it. FUNCTION is is_right(coefficient).
PEEKS = {
    "always True": '''
def is_right(coefficient): return True''',
    "always False": '''
def is_right(coefficient): return False''',
    "by turns": '''
calls = [0]
def is_right(coefficient):
    calls[0] += 1
    return calls[0] <= 6''',
    "by luck": '''
import os
def is_right(coefficient): return os.urandom(1)[0] < 80''',
    "by its looks": '''
import inspect
def is_right(coefficient):
    look = repr(coefficient) + str(vars(coefficient)) + str(inspect.signature(coefficient))
    look += str(coefficient.__doc__)
    for name in ("vectorised", "mean_for_sum", "end_dropped", "neighbours", "not_detached"):
        if name in look: raise Found(name)
    return hash(look) % 2 == 0''',
    "by its source": '''
import inspect, dis
def is_right(coefficient):
    inner = inspect.getclosurevars(coefficient)
    text = inspect.getsource(coefficient) + str(inner)
    if "chunk" in text or "sigmoid" in text: raise Found("source")
    return True''',
    "by the other end": '''
def is_right(coefficient):
    end = next(c.cell_contents for c in coefficient.__closure__ if type(c.cell_contents).__name__ == "End")
    for number in range(-3, 5):
        for method in ("__globals__", "__code__", "__wrapped__", "__closure__", "__getattribute__"):
            try: got = end.call(number, method, ("__globals__",), {}, None)
            except (AttributeError, IndexError, TypeError): continue
            raise Found(str(got))
    return True''',
    "by what it says of an error": '''
def is_right(coefficient):
    said = ""
    for given in ((), (1, 2, 3, 4, 5), (None,) * 5, ("x",) * 5, (coefficient,) * 5):
        try: coefficient(*given)
        except BaseException as error:
            said += repr(error)
            trace = error.__traceback__
            while trace:
                said += trace.tb_frame.f_code.co_filename; trace = trace.tb_next
    for name in ("vectorised", "mean_for_sum", "end_dropped", "outside", "find_the_wrong_push"):
        if name in said: raise Found(said)
    return True''',
    "by messages of its own": '''
def is_right(coefficient):
    from grader.inside.frames import encode, decode
    end = next(c.cell_contents for c in coefficient.__closure__ if type(c.cell_contents).__name__ == "End")
    for message in (("open", 3), ("call",), ("gradient", 7, []), ("call", 0, 0, "", 5, 6, 7, 8), 7, None, []):
        end.send_bytes(encode(message))
        back = decode(end.receive_bytes())
        if back[0] not in ("raised", "gradients"): raise Found(str(back))
    return True''',
    "by bytes that are no message": '''
import os
def is_right(coefficient):
    end = next(c.cell_contents for c in coefficient.__closure__ if type(c.cell_contents).__name__ == "End")
    end.send_bytes(os.urandom(1000))
    return True''',
    "by asking which it is": '''
def is_right(coefficient):
    from grader.inside import frames
    import gc
    line = next(o for o in gc.get_objects() if type(o).__name__ == "Pipe")
    line.send(frames.OPEN, 0)
    return True''',
    "a flood of calls": '''
def is_right(coefficient):
    for _ in range(10 ** 6):
        try: coefficient(1, 2, 3, 4, 5)
        except ValueError: pass
    return True''',
    "calls that call back without end": '''
def is_right(coefficient):
    tokens = torch.tensor([[1, 0], [1, 2]]); mask = tokens.new_tensor([[0, 1], [0, 1]]).bool()
    def policy(t): return coefficient(policy, policy, tokens, mask, 1.0)
    coefficient(policy, policy, tokens, mask, 1.0)
    return True''',
    "inputs that are too large": '''
def is_right(coefficient):
    tokens = torch.zeros(2, 10 ** 7, dtype=torch.long)
    coefficient(lambda t: t, lambda t: t, tokens, tokens.bool(), 1.0)
    return True''',
    "inputs that take for ever": '''
def is_right(coefficient):
    big = torch.zeros(2, 200000, 3)
    tokens = torch.zeros(2, 200000, dtype=torch.long)
    mask = torch.ones(2, 200000).bool(); mask[:, 0] = False
    for _ in range(10 ** 6): coefficient(lambda t: big, lambda t: big, tokens, mask, 1.0)
    return True''',
    "exits while it is called": '''
import os
def is_right(coefficient):
    tokens = torch.tensor([[1, 0], [1, 2]]); mask = torch.tensor([[False, True], [False, True]])
    coefficient(lambda t: os._exit(0), lambda t: os._exit(0), tokens, mask, 1.0)
    return True''',
}

IN_CELLS = {**LIES, **PATCHES, **SEARCHES, **{name: SEND + code for name, code in FORGED.items()}, **ENDS,
            **LOOPS, **HARM}
