"""A tool is a typed function with a docstring. How a call of it is written, read, and made within limits.

A learner's own tool is a function that is passed:

    COINS = {"lamp": 12, "rope": 7}

    def price(ware: str) -> int:
        '''What a ware costs, in coins.

        Args:
            ware: one ware, such as lamp
        '''
        return COINS[ware]

    print(run([price], "price(lamp)").reply)            # 12
    print(run([price], "price(crown)").reply)           # error: KeyError: 'crown'

`transcript.use` lets a model call it. A call has three forms, and `read_call` reads each: the course's own,
price(lamp); a JSON function call; a message of the Model Context Protocol. What a model wrote is read as data
and never run as code. What goes wrong comes back as a text that begins with "error:": `run` does not raise.

Sources: the schema is that of JSON function calls as transformers' get_json_schema makes it from a docstring
of Google's style; the message is "tools/call" of the Model Context Protocol (JSON-RPC 2.0).
"""

from __future__ import annotations

import inspect
import json
import math
import multiprocessing
import queue
import re
import threading
import time
import types
import typing
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import NamedTuple

from ..expect import expect, expect_positive, expect_whole

Tool = Callable[..., object]

LONGEST = 2000                  # characters: no longer call is read
CUT = 1000                      # characters of a reply that are kept
SECONDS = 2.0                   # after which a call is abandoned
LEFT_BEHIND = 16                # abandoned calls that may still be running before no other is begun
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
TYPES = {str: "string", int: "integer", float: "number", bool: "boolean"}
WORDS = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}


class Call(NamedTuple):
    """Which tool, and its arguments by name: Call("price", {"ware": "lamp"})."""

    name: str
    arguments: dict[str, object]


@dataclass(frozen=True)
class Made:
    """A call that was made. call: None where the text could not be read as one; ok: no error came back.

    start, end: in a transcript, where in y it begins, and where its reply has ended.
    """

    text: str
    call: Call | None
    reply: str
    ok: bool
    seconds: float
    start: int = 0
    end: int = 0


# --- what a tool takes ----------------------------------------------------------------------------


def by_name(tools: Sequence[Tool]) -> dict[str, Tool]:
    """The tools by their names. ValueError for one that cannot be called: see `schema`."""
    expect(isinstance(tools, (list, tuple)), "tools", shown(tools), "give a list of functions")
    found: dict[str, Tool] = {}
    for tool in tools:
        name = schema(tool)["function"]["name"]
        expect(name not in found, "tools", f"with {name} twice", "give each a name of its own")
        found[name] = tool
    return found


def schema(tool: Tool) -> dict:
    """What a tool is called, does and takes, as JSON has it: {"type": "function", "function": {"name": …}}.

    Its docstring up to "Args:" is the description; what stands there describes the arguments.
    ValueError for a tool without a name or a docstring, and for an argument without a type, or of another
    type than str, int, float, bool, a list of such, Literal of texts, or one of these | None.
    """
    name = getattr(tool, "__name__", "")
    expect(callable(tool), "tool", tool, "give a function")
    expect(NAME.fullmatch(name) is not None, "tool", f"called {name!r}", "give a function with a name")
    about, described = _docstring(tool)
    expect(about != "", name, "without a docstring", "say in its first line what it gives")
    properties: dict[str, dict] = {}
    required = []
    for argument, (hint, default) in _arguments(tool).items():
        properties[argument] = _json_type(hint, f"{name}: {argument}")
        if argument in described:
            properties[argument]["description"] = described[argument]
        if default is inspect.Parameter.empty:
            required.append(argument)
    takes: dict = {"type": "object", "properties": properties}
    if required:
        takes["required"] = required
    return {"type": "function", "function": {"name": name, "description": about, "parameters": takes}}


def _arguments(tool: Tool) -> dict[str, tuple[object, object]]:
    """Of each argument its type and its default: {"ware": (str, Parameter.empty)}."""
    try:
        parameters = inspect.signature(tool).parameters
        hints = typing.get_type_hints(tool)
    except (TypeError, NameError, ValueError) as error:
        raise ValueError(f"{tool.__name__} is a function of unknown types ({error}): "
                         "give each argument a type such as str") from None
    found = {}
    for argument, parameter in parameters.items():
        place = f"{tool.__name__}: {argument}"
        named = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        expect(named, place, str(parameter), "give arguments that have a name each")
        expect(argument in hints, place, "without a type", "give one, such as str")
        found[argument] = hints[argument], parameter.default
    return found


def _json_type(hint, place: str) -> dict:
    """A type as JSON schema has it: list[int] is {"type": "array", "items": {"type": "integer"}}."""
    kind, inside = typing.get_origin(hint), typing.get_args(hint)
    if hint in TYPES:
        return {"type": TYPES[hint]}
    if kind is list:
        return {"type": "array", "items": _json_type(inside[0], place)}
    if kind is typing.Literal and all(isinstance(choice, str) for choice in inside):
        return {"type": "string", "enum": list(inside)}
    if kind in (typing.Union, types.UnionType) and len(inside) == 2 and type(None) in inside:
        given, = (h for h in inside if h is not type(None))
        return {**_json_type(given, place), "nullable": True}
    raise ValueError(f"{place} is of type {hint}: give str, int, float, bool, a list of such, "
                     "Literal of texts, or one of these | None")


def _fits(value, hint) -> bool:
    """Whether a value that JSON gave is of a type. 3 fits float; true fits neither int nor float."""
    kind, inside = typing.get_origin(hint), typing.get_args(hint)
    if kind is list:
        return isinstance(value, list) and all(_fits(v, inside[0]) for v in value)
    if kind is typing.Literal:
        return isinstance(value, str) and value in inside
    if kind is not None:
        return any(_fits(value, h) for h in inside)
    if hint is float:
        return type(value) in (int, float) and -math.inf < value < math.inf
    return type(value) is hint


def _wanted(hint) -> str:
    """A type in words: "a list of whole numbers" would be nicer, "a list" is true."""
    kind, inside = typing.get_origin(hint), typing.get_args(hint)
    if kind is typing.Literal:
        return f"one of {', '.join(inside)}"
    return WORDS.get(hint, "a list" if kind is list else " or ".join(
        "nothing" if h is type(None) else _wanted(h) for h in inside))


def _docstring(tool: Tool) -> tuple[str, dict[str, str]]:
    """The text before "Args:" (or another section) of a docstring, and what is said of each argument."""
    parts = re.split(r"\n\s*(Args|Returns|Raises):\s*\n", "\n" + (inspect.getdoc(tool) or "") + "\n")
    sections = dict(zip(parts[1::2], parts[2::2]))
    described: dict[str, str] = {}
    last, first_indent = "", None
    for line in sections.get("Args", "").split("\n"):
        begins = re.match(r"(\s*)(\w+)\s*(?:\([^)]*\))?:\s*(.*)", line)
        if begins and (first_indent is None or begins[1] == first_indent):
            first_indent, last = begins[1], begins[2]
            described[last] = begins[3].strip()
        elif last and line.strip():
            described[last] += " " + line.strip()
    return parts[0].strip(), described


# --- a call in three forms ------------------------------------------------------------------------


def call_text(call: Call, tool: Tool) -> str:
    """The course's own form: price(lamp), or within(3, [1, 2]).

    The one argument of a tool that takes a single text stands between the brackets as it is, so a small model
    has no quotes to write. All other arguments are JSON, in order.
    """
    taken = _arguments(tool)
    if _single_text(taken):
        return f"{call.name}({next(iter(call.arguments.values()), '')})"
    last = max((i for i, argument in enumerate(taken) if argument in call.arguments), default=-1)
    first = list(taken.items())[:last + 1]
    given = [call.arguments.get(argument, default) for argument, (_, default) in first]
    return f"{call.name}({', '.join(json.dumps(value, ensure_ascii=False) for value in given)})"


def to_json(call: Call) -> str:
    """A JSON function call: {"name": "price", "arguments": {"ware": "lamp"}}."""
    return json.dumps({"name": call.name, "arguments": call.arguments}, ensure_ascii=False)


def to_mcp(call: Call, number: int = 1) -> str:
    """A message of the Model Context Protocol, {"jsonrpc": "2.0", "id": 1, "method": "tools/call", …}."""
    return json.dumps({"jsonrpc": "2.0", "id": number, "method": "tools/call",
                       "params": {"name": call.name, "arguments": call.arguments}}, ensure_ascii=False)


def read_call(text: str, tools: Sequence[Tool] | dict[str, Tool]) -> Call:
    """The call that a text is, in any of the three forms. ValueError says what is wrong with it.

    JSON may also be wrapped as {"type": "function", "function": {…}}, its arguments be called parameters, and
    be a text of JSON.
    """
    tools = tools if isinstance(tools, dict) else by_name(tools)
    expect(isinstance(text, str), "call", type(text).__name__, "give a text")
    expect(len(text) <= LONGEST, "call", f"{len(text)} characters long", f"give at most {LONGEST}")
    text = text.strip()
    if text.startswith("{"):
        name, arguments = _named(_json(text))
        tool = _known(name, tools)
    else:
        name, bracket, rest = text.partition("(")
        closed = bracket == "(" and rest.endswith(")")
        expect(closed, "call", shown(text), "write it as name(argument)")
        name = name.strip()
        tool = _known(name, tools)
        arguments = _in_order(rest[:-1], tool)
    taken = _arguments(tool)
    for argument in arguments:
        takes = ", ".join(taken) or "none"
        expect(argument in taken, shown(argument), f"no argument of {name}", f"it takes {takes}")
    for argument, (hint, default) in taken.items():
        given = argument in arguments or default is not inspect.Parameter.empty
        expect(given, argument, "missing", f"give {_wanted(hint)}")
        if argument in arguments:
            value = arguments[argument]
            expect(_fits(value, hint), argument, shown(value), f"give {_wanted(hint)}")
    return Call(name, arguments)


def shown(value) -> str:
    """A value that somebody wrote, short and on one line; what cannot be seen, escaped: '\\u202e' for one."""
    text = repr(value if not isinstance(value, str) else value[:60])
    return text if len(text) <= 60 else text[:57] + "..."


def _single_text(taken: dict) -> bool:
    return len(taken) == 1 and next(iter(taken.values()))[0] is str


def _known(name, tools: dict[str, Tool]) -> Tool:
    known = isinstance(name, str) and name in tools
    expect(known, "tool", shown(name), f"there are {', '.join(tools)}" if tools else "there are none")
    return tools[name]


def _in_order(inside: str, tool: Tool) -> dict[str, object]:
    """Arguments from what stands between the brackets."""
    taken = _arguments(tool)
    if _single_text(taken):
        return {next(iter(taken)): inside}
    try:
        values = _json(f"[{inside}]")
    except ValueError:
        raise ValueError(f"arguments are {shown(inside)}: write each as JSON, such as \"a\", 2") from None
    expect(len(values) <= len(taken), "arguments", f"{len(values)}", f"{tool.__name__} takes {len(taken)}")
    return dict(zip(taken, values))


def _named(message) -> tuple[object, dict[str, object]]:
    """Name and arguments of a JSON function call or a message of the Model Context Protocol."""
    if "jsonrpc" in message:
        method = message.get("method")
        expect(method == "tools/call", "method", shown(method), "give \"tools/call\"")
        message = message.get("params")
    elif "function" in message:
        message = message["function"]
    expect(isinstance(message, dict), "call", shown(message), "give an object with a name and arguments")
    arguments = message.get("arguments", message.get("parameters", {}))     # Llama 3's word
    if isinstance(arguments, str):
        arguments = _json(arguments)
    expect(isinstance(arguments, dict), "arguments", shown(arguments), "give an object: {\"name\": value}")
    return message.get("name"), arguments


def _json(text: str):
    """What a JSON text says. ValueError for what is none, is nested too deep or names a thing twice."""
    def once(pairs):
        found = dict(pairs)
        expect(len(found) == len(pairs), "call", "JSON that names a thing twice", "name it once")
        return found

    def no_number(word):
        raise ValueError(f"call is JSON with {word}: give a number")

    try:
        return json.loads(text, object_pairs_hook=once, parse_constant=no_number)
    except RecursionError:
        raise ValueError("call is JSON that is nested too deep: give a flat one") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"call is no JSON ({error.msg} at character {error.pos}): "
                         'write {"name": …, "arguments": {…}}') from None


# --- a call that is made --------------------------------------------------------------------------


def within(seconds: float, process: bool = False) -> Callable[[Tool], Tool]:
    """A tool with seconds of its own: @within(30). Infinity: it runs in the caller's thread, and is waited
    for.

    process: each call runs in a new process, which is killed when its seconds are over. Ask for it where a
    tool may use a core for ever, or end the program. What such a call writes into memory is lost with it, and
    it should not compute with PyTorch: the copy of a process has none of its threads.
    Otherwise a call runs in a thread. Nothing can end a thread: if it is abandoned it goes on, unheard.
    """
    expect_positive(seconds=seconds)

    def wrap(tool: Tool) -> Tool:
        @wraps(tool)
        def same(*arguments, **named):
            return tool(*arguments, **named)
        same.seconds, same.process = seconds, process
        return same

    return wrap


def run(tools: Sequence[Tool] | dict[str, Tool], text: str, seconds: float = SECONDS,
        longest: int = CUT) -> Made:
    """Read a call, make it, and give what came back as a text. Whatever a model or a tool does, it does not
    raise, except what a keyboard does.

    seconds: after which it is abandoned, where the tool names no others (see `within`). longest: characters
    of the reply that are kept.
    """
    expect_positive(seconds=seconds)
    expect_whole(1, longest=longest)
    tools = tools if isinstance(tools, dict) else by_name(tools)
    start, call = time.monotonic(), None
    try:
        call = read_call(text, tools)
        tool = tools[call.name]
        seconds = getattr(tool, "seconds", seconds)
        if getattr(tool, "process", False):
            ok, reply = _in_process(tool, call.arguments, seconds, longest)
        elif seconds == math.inf:
            ok, reply = _called(tool, call.arguments, longest)
        else:
            ok, reply = _in_thread(tool, call.arguments, seconds, longest)
    except ValueError as error:
        ok, reply = False, _error(error, longest)
    text = text if isinstance(text, str) else shown(text)
    return Made(_clean(text, LONGEST), call, reply, ok, time.monotonic() - start)


def _called(tool: Tool, arguments: dict, longest: int) -> tuple[bool, str]:
    """(whether it went well, the text that comes back) of one call here and now."""
    try:
        value = tool(**arguments)
        return True, _clean("" if value is None else str(value), longest)
    except (Exception, SystemExit) as error:  # sys.exit in a tool ends its call, and nothing else
        return False, _error(error, longest)


_abandoned: list[threading.Thread] = []
_counting = threading.Lock()  # calls may be made side by side (compiler.py)


def _in_thread(tool: Tool, arguments: dict, seconds: float, longest: int) -> tuple[bool, str]:
    with _counting:
        _abandoned[:] = [thread for thread in _abandoned if thread.is_alive()]
        left_behind = len(_abandoned)
    if left_behind >= LEFT_BEHIND:
        return False, f"error: {left_behind} calls that were abandoned are still running"
    box: queue.SimpleQueue = queue.SimpleQueue()

    def work():
        try:
            box.put(_called(tool, arguments, longest))
        except BaseException as error:
            box.put((False, _error(error, longest)))

    thread = threading.Thread(target=work, daemon=True, name=f"tool {tool.__name__}")
    thread.start()
    try:
        return box.get(timeout=seconds)
    except queue.Empty:
        with _counting:
            _abandoned.append(thread)
        return False, _late(tool, seconds)


def _in_process(tool: Tool, arguments: dict, seconds: float, longest: int) -> tuple[bool, str]:
    # A copy of this process knows functions that a notebook's cell made; a new one has to import them.
    ways = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("fork" if "fork" in ways else "spawn")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_work, args=(tool, arguments, longest, theirs), daemon=True)
    try:
        with warnings.catch_warnings():
            # From Python 3.12 on, of threads that the copy does not have. It runs the tool and nothing else.
            warnings.simplefilter("ignore", DeprecationWarning)
            child.start()
        theirs.close()
        if not ours.poll(None if seconds == math.inf else seconds):
            return False, _late(tool, seconds)
        return tuple(json.loads(ours.recv_bytes()))
    except EOFError:
        child.join(1)
        return False, f"error: {tool.__name__} ended its process ({child.exitcode})"
    except Exception as error:  # a new process that cannot find the function
        return False, _error(error, longest)
    finally:
        if child.pid is not None:
            child.kill()
            child.join()
        ours.close()


def _work(tool: Tool, arguments: dict, longest: int, pipe) -> None:
    """What the other process does. The text is cut there, so a pipe never holds more than a reply."""
    pipe.send_bytes(json.dumps(_called(tool, arguments, longest)).encode())


def _late(tool: Tool, seconds: float) -> str:
    return f"error: {tool.__name__} gave no answer within {seconds:g} s"


def _error(error: BaseException, longest: int) -> str:
    """What a model reads of an error. A ValueError's text stands alone: it names argument, value, remedy."""
    try:
        said = str(error)
    except Exception:  # an error's own text may fail
        said = ""
    kind = "" if type(error) is ValueError and said else f"{type(error).__name__}: "
    said = " ".join(_clean(said, longest).split())
    return _clean(f"error: {kind}{said}".rstrip(": "), longest)


def _clean(text: str, longest: int) -> str:
    """At most so many characters, as a text that UTF-8 can hold."""
    cut = text if len(text) <= longest else text[:max(0, longest - 3)] + "..."[:longest]
    return cut.encode("utf-8", "replace").decode()
