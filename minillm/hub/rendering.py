"""A chat template, rendered in a process of its own: a program for templates.py, which can kill it.

A template is a program that came with somebody's weights. Here it runs in Jinja2's sandbox, which keeps it
from Python's inside; and in a process that may use so many seconds and bytes and, where the system can hold
it to that, opens no file and begins no process. What it reads and writes is JSON on stdin and stdout.
"""

from __future__ import annotations

import json
import sys
from datetime import datetime

SECONDS = 2             # of processor time
BYTES = 2**28           # of memory
LONGEST = 2**22         # characters of what a template writes
WARM = "{% macro f(y) %}{{ y ~ 'a' }}{% endmacro %}{{ f(x) }}{{ x|pprint }}{{ strftime_now('%c %Z') }}"


def answer(asked: dict) -> dict:
    """{"text": …}, or {"error": why not}. asked: the template's source, and what it is given by name."""
    from jinja2 import TemplateError, TemplateSyntaxError
    from jinja2.exceptions import SecurityError, UndefinedError

    try:
        made = environment()
        made.from_string(WARM).render(x="x")    # loads what a library loads on its first use
        _limit()                    # before the template is read: that computes its constants
        template = made.from_string(asked["source"])
        written, length = [], 0
        for part in template.generate(**asked["given"]):
            length += len(part)
            if length > LONGEST:
                return {"error": f"it writes more than {LONGEST} characters"}
            written.append(part)
        return {"text": "".join(written)}
    except SecurityError as error:
        return {"error": f"the sandbox forbids it ({error})"}
    except TemplateSyntaxError as error:
        return {"error": f"line {error.lineno} is no Jinja2 ({error})"}
    except UndefinedError as error:
        return {"error": f"it needs what it is not given ({error})"}
    except TemplateError as error:
        return {"error": f"it refuses these messages ({error})"}
    except (MemoryError, RecursionError, OverflowError) as error:
        return {"error": f"it needs too much ({type(error).__name__} {error})"}
    except Exception as error:      # whatever else a template's own slip raises
        return {"error": f"{type(error).__name__}: {error}"}


def environment():
    """Jinja2 as templates of chats expect it: what transformers sets and gives, and no more.

    Blocks leave no line behind; `break` and `continue`; {% generation %}, which marks what a model wrote and
    changes nothing; tojson without escapes of HTML; raise_exception and strftime_now.
    """
    from jinja2 import TemplateError, ext, nodes
    from jinja2 import debug  # noqa: F401  an error wants it, when no file can be opened any more
    from jinja2.exceptions import SecurityError
    from jinja2.sandbox import ImmutableSandboxedEnvironment
    from jinja2.utils import Namespace

    class Generation(ext.Extension):
        tags = {"generation"}

        def parse(self, parser):
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.Scope(body).set_lineno(line)

    class Environment(ImmutableSandboxedEnvironment):
        intercepted_binops = frozenset({"*", "**"})

        def call_binop(self, context, operator, left, right):
            for one, times in ((left, right), (right, left)):
                if hasattr(one, "__len__") and isinstance(times, int) and len(one) * times > LONGEST:
                    raise MemoryError(f"{times} times the same")
            if operator == "**" and not (abs(left) <= 1000 and abs(right) <= 100):
                raise OverflowError(f"{left} ** {right}")
            return super().call_binop(context, operator, left, right)

        def unsafe_undefined(self, obj, attribute):
            raise SecurityError(f"{attribute!r} of a {type(obj).__name__}")

    class Names(Namespace):
        def __init__(*args, **kwargs):
            self, rest = args[0], args[1:]
            for name in dict(*rest, **kwargs):
                _expect_open(name)
            Namespace.__init__(self, *rest, **kwargs)

        def __setitem__(self, name, value):
            _expect_open(name)
            Namespace.__setitem__(self, name, value)

    def _expect_open(name):
        if isinstance(name, str) and name.startswith("_"):
            raise SecurityError(f"{name!r} in a namespace")

    def raise_exception(message):
        raise TemplateError(message)

    def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
                          sort_keys=sort_keys)

    made = Environment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, ext.loopcontrols])
    made.filters["tojson"] = tojson
    made.globals |= {"raise_exception": raise_exception, "namespace": Names,
                     "dict": lambda *args, **kwargs: dict(*args, **kwargs),
                     "strftime_now": lambda form: datetime.now().strftime(form)}
    del made.globals["lipsum"]
    return made


def _limit() -> None:
    """From here on this process has so many seconds and bytes, opens no file and begins no process.

    A system may lack one of these limits, or refuse it, as macOS does the one on memory. What remains then is
    the sandbox, and whoever waits for this process and ends it.
    """
    try:
        import resource
    except ImportError:                 # Windows; whoever waits for this process still ends it
        return
    used = int(sum(resource.getrusage(resource.RUSAGE_SELF)[:2]))
    for what, most in (("RLIMIT_CPU", used + SECONDS), ("RLIMIT_AS", BYTES), ("RLIMIT_FSIZE", 0),
                       ("RLIMIT_NOFILE", 3), ("RLIMIT_NPROC", 0)):
        try:
            resource.setrlimit(getattr(resource, what), (most, most))
        except (AttributeError, ValueError, OSError):
            continue                    # see above


if __name__ == "__main__":
    json.dump(answer(json.load(sys.stdin)), sys.stdout)
