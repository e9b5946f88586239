"""The chat template of a checkpoint from elsewhere: how it writes who speaks, tools, calls and replies.

A folder holds it as chat_template.jinja, or as "chat_template" in tokenizer_config.json: a Jinja2 program. It
runs in a process of its own, with limits (rendering.py). Its special tokens become ids; what a person, a tool
or a model wrote never does, though it may read like one: see `ChatTemplate.encode`.

    template = load_template(folder, tokenizer)
    x = template.encode([{"role": "user", "content": "What is 47+38?"}])

Sources: messages, roles and names are those of transformers' apply_chat_template; calls within <tool_call>
tags are Hermes' form, which Qwen took over; a bare {"name": …, "parameters": …} is Llama 3's.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..expect import expect
from ..tokenizer import Tokenizer
from .families import read_json
from .fields import expect_field, expect_folder
from .rendering import LONGEST, SECONDS

SOURCE = 10**5          # characters of a template: the longest in use have a fifth of it
WAIT = 20.0             # seconds until a process that renders is ended, however little it computes
ROLES = ("system", "user", "assistant", "tool")
NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
SAID = "What was said here is known."       # stands for an answer, to see what follows one
FREE = range(0xF0000, 0xFFFFE)              # characters that stand for nothing


def load_template(folder: str | os.PathLike, tokenizer: Tokenizer) -> ChatTemplate | None:
    """The chat template of a folder; None where it has none.

    tokenizer: the folder's, as `hub.load` gives it; its `end` becomes the token that closes an answer in the
    template. ValueError for a template that is too long, no Jinja2, or does not render a question and an
    answer within its limits.
    """
    path = expect_folder(folder)
    config = path / "tokenizer_config.json"
    written = read_json(config) if config.is_file() else {}
    file = path / "chat_template.jinja"
    if file.is_file():
        size = file.stat().st_size
        expect(size <= 4 * SOURCE, str(file), f"of {size} bytes", f"give at most {SOURCE} characters")
        try:
            source, with_tools = file.read_text(encoding="utf-8"), None
        except UnicodeDecodeError as error:
            raise ValueError(f"{file} is not UTF-8 ({error.reason}): write it as such") from None
    else:
        file = config
        source, with_tools = _in_config(written, str(config))
        if source is None:
            return None
    named = {}
    for name in NAMED:
        token = written.get(name)
        token = token.get("content") if isinstance(token, dict) else token
        if token is not None:
            named[name] = expect_field({name: token}, name, str, place=str(config))
    template = ChatTemplate(tokenizer, source, with_tools or source, named, str(file))
    template.ends = _ends(template, path)
    tokenizer.end = template.ends[0] if template.ends else tokenizer.end
    return template


@dataclass
class ChatTemplate:
    """How messages become a prompt: [{"role": "user", "content": …}, …], as transformers has them.

    A message of the assistant may hold "tool_calls", [{"type": "function", "function": {"name": …,
    "arguments": {…}}}], and "reasoning_content"; one of a tool has the role "tool".
    source, with_tools: Jinja2, where no tools are given and where some are. named: what it calls bos_token,
    eos_token, … ends: ids that close an answer, the template's own first. place: its file, for messages.
    """

    tokenizer: Tokenizer
    source: str
    with_tools: str
    named: dict[str, str] = field(default_factory=dict)
    place: str = "chat_template"
    ends: tuple[int, ...] = ()

    def __post_init__(self):
        for source in {self.source, self.with_tools}:
            expect(isinstance(source, str), self.place, type(source).__name__, "give a template as text")
            expect(len(source) <= SOURCE, f"{self.place}: chat_template", f"{len(source)} characters long",
                   f"give at most {SOURCE}")
        both, backend = self.source + self.with_tools, self.tokenizer.backend
        # What the template names is its alphabet, "special" or not: Qwen's <tool_call> is a plain added
        # token. A run of spaces, which some add as a token too, is no mark.
        added = {token.content: i for i, token in backend.get_added_tokens_decoder().items()
                 if len(token.content) > 1 and token.content.strip()
                 and (token.special or token.content in both)}
        self.controls: dict[str, int] = added
        self.begun = {token[:k] for token in added for k in range(1, len(token))}
        longest_first = "|".join(map(re.escape, sorted(added, key=len, reverse=True))) or "(?!)"
        self.control = re.compile(longest_first)
        self.begins = re.compile(f"(?s)(?=(?:{longest_first}))(.)")     # wherever one begins, also within one
        self.think, self.think_end = added.get("<think>"), added.get("</think>")
        self.call, self.call_end = added.get("<tool_call>"), added.get("</tool_call>")
        self.reply = self.reply_end = None      # a reply is a message

    @property
    def calls(self) -> str:
        """How a model writes a call: "tags", <tool_call>{…}</tool_call>; "json", {…}; "" where none can."""
        if "<tool_call>" in self.with_tools:
            # Some write other things than JSON between the tags: <function=name><parameter=…>.
            return "" if "<function=" in self.with_tools else "tags"
        return "json" if "tool_calls" in self.with_tools and '"parameters"' in self.with_tools else ""

    @property
    def end(self) -> int | None:
        """The id that closes an answer."""
        return self.ends[0] if self.ends else None

    def render(self, messages: Sequence[dict], tools: Sequence[dict] | None = None,
               generation_prompt: bool = True) -> str:
        """The text of messages, special tokens spelled out, as apply_chat_template(tokenize=False) gives it.

        tools: JSON schemas. generation_prompt: with what stands before an answer.
        For people: a text in a message that reads like a special token cannot be told from one.
        """
        return self._render(_plain(messages, "messages"), _plain(tools, "tools"), generation_prompt)

    def encode(self, messages: Sequence[dict], tools: Sequence[dict] | None = None,
               generation_prompt: bool = True) -> list[int]:
        """x: the ids of messages. The template's special tokens are ids, those in a message plain characters.

        So that they can be told apart, each of them in a message, or what may be the beginning of one at a
        text's end, is cut behind its first character before the template sees it, by a character that stands
        nowhere else; and the rendered text is encoded in pieces, cut there.
        ValueError for messages that the template refuses, and where a text would come out as a special token
        all the same (a tokenizer that changes characters can do that).
        """
        messages, tools = _plain(messages, "messages"), _plain(tools, "tools")
        there = set(json.dumps([messages, tools], ensure_ascii=False)) | set(self.source + self.with_tools)
        cut = next((chr(c) for c in FREE if chr(c) not in there), None)
        expect(cut is not None, "messages", "full of characters that stand for nothing", "take them out")
        text = self._render(self._cut(messages, cut), self._cut(tools, cut), generation_prompt)
        backend, ids = self.tokenizer.backend, []
        marks = set(self.controls.values())
        backend.encode_special_tokens = False
        try:
            for piece in text.split(cut):
                found = backend.encode(piece, add_special_tokens=False).ids
                same = sum(i in marks for i in found) <= len(self.control.findall(piece))
                expect(same, "messages", "with a text that would become a special token", "take it out")
                ids += found
        finally:
            backend.encode_special_tokens = True
        return ids

    def _cut(self, value, cut: str):
        """The same messages; in their texts, every special token is cut behind its first character."""
        if isinstance(value, dict):
            # A role is one of four words, which templates compare or write into a token of their own.
            return {self._cut(key, cut): said if key == "role" else self._cut(said, cut)
                    for key, said in value.items()}
        if isinstance(value, list):
            return [self._cut(inside, cut) for inside in value]
        if not isinstance(value, str):
            return value
        longest = max(map(len, self.begun), default=0)
        begin = [len(value) - k for k in range(1, min(longest, len(value)) + 1) if value[-k:] in self.begun]
        begin += [match.start() for match in self.begins.finditer(value)]
        parts, last = [], 0
        for at in sorted(set(begin)):
            parts.append(value[last:at + 1])
            last = at + 1
        return cut.join([*parts, value[last:]])

    def _render(self, messages, tools, generation_prompt: bool) -> str:
        expect(bool(messages), "messages", "empty", "give at least one")
        for i, message in enumerate(messages):
            role = message.get("role") if isinstance(message, dict) else None
            expect(role in ROLES, f"messages[{i}]: role", repr(role), f"give one of {', '.join(ROLES)}")
        given = self.named | {"messages": messages, "tools": tools,
                              "add_generation_prompt": generation_prompt}
        asked = json.dumps({"source": self.with_tools if tools else self.source, "given": given})
        expect(len(asked) <= 4 * LONGEST, "messages", f"{len(asked)} characters long",
               f"give at most {4 * LONGEST}")
        answer = _apart(asked)
        if "error" in answer:
            why = " ".join(str(answer["error"])[:300].split())
            raise ValueError(f"{self.place}: chat_template cannot be used: {why}")
        return _utf8(answer["text"], f"{self.place}: what chat_template writes")


def _apart(asked: str) -> dict:
    """What rendering.py answers in a process of its own, which is ended when its time is over."""
    program = Path(__file__).with_name("rendering.py")
    try:
        # -P: the folder of that file is no place to import from.
        done = subprocess.run([sys.executable, "-P", str(program)], input=asked.encode(),
                              capture_output=True, timeout=WAIT)
    except subprocess.TimeoutExpired:
        return {"error": f"it was stopped after {WAIT:g} s"}
    if done.returncode != 0:
        return {"error": f"it was stopped: it takes more than {SECONDS} s or too much memory"}
    return json.loads(done.stdout)


def _in_config(written: dict, place: str) -> tuple[str | None, str | None]:
    """The template in a tokenizer_config.json, and the one for tools where it has its own."""
    said = written.get("chat_template")
    if not isinstance(said, list):
        return expect_field(written, "chat_template", str, None, place=place), None
    several = expect_field(written, "chat_template", [dict], place=place)
    sources = {expect_field(one, "name", str, place=f"{place}: chat_template"):
               expect_field(one, "template", str, place=f"{place}: chat_template") for one in several}
    expect("default" in sources, f"{place}: chat_template", f"of the names {sorted(sources)[:5]}",
           'give one the name "default"')
    return sources["default"], sources.get("tool_use")


def _ends(template: ChatTemplate, path: Path) -> tuple[int, ...]:
    """What closes an answer: what the template writes behind one, eos_token, and what the files name so."""
    whole = template.render([{"role": "user", "content": "?"}, {"role": "assistant", "content": SAID}],
                            generation_prompt=False)
    _, said, behind = whole.rpartition(SAID)
    closed = template.control.search(behind) if said else None
    ends = [] if closed is None else [template.controls[closed[0]]]
    ends += [template.controls.get(template.named.get("eos_token", ""))]
    for name in ("config.json", "generation_config.json"):
        if (path / name).is_file():
            written, place = read_json(path / name), str(path / name)
            kind = [int] if isinstance(written.get("eos_token_id"), list) else int
            some = expect_field(written, "eos_token_id", kind, None, low=0,
                                high=template.tokenizer.vocab_size - 1, place=place)
            ends += some if isinstance(some, list) else [some]
    return tuple(dict.fromkeys(end for end in ends if end is not None))


def _plain(value, place: str):
    """A copy of messages or schemas in JSON's own types. ValueError for anything else in them."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{place} are not JSON ({error}): give texts, numbers, lists and dicts") from None
    return json.loads(_utf8(text, place))


def _utf8(text: str, place: str) -> str:
    """The same text, if UTF-8 can hold it."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{place} hold a lone surrogate {text[error.start]!r}: read as UTF-8") from None
    return text
