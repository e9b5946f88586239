"""Calls as models from elsewhere write them: JSON at the end of a turn, and replies of the role "tool".

    Qwen, Hermes   … <tool_call>{"name": "price", "arguments": {"ware": "lamp"}}</tool_call>, one or several
    Llama 3        {"name": "price", "parameters": {"ware": "lamp"}}, and nothing else

How the messages around them are written, the checkpoint's own chat template says: it comes in as a function,
`hub.ChatTemplate.encode` for one. Sources: the chat templates of Qwen2.5, Qwen3, Hermes 2 and Llama 3.1.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence

from ..expect import expect
from ..tokenizer import Tokenizer
from .transcript import Form

TAGS = re.compile(r"<tool_call>\s*(.*?)\s*(?:</tool_call>|\Z)", re.DOTALL)
KINDS = ("tags", "json")
REFUSED = "error: this reply cannot be written"


def json_form(tokenizer: Tokenizer, encode: Callable[..., list[int]], ends: Sequence[int], kind: str) -> Form:
    """The form of a checkpoint's own calls, for `transcript.use`.

    encode(messages, generation_prompt=…): ids of messages. ends: ids that close a turn. kind: "tags" or
    "json", as above. ValueError where the template writes no end behind a turn that calls.
    """
    expect(kind in KINDS, "kind", repr(kind), f"give one of {', '.join(KINDS)}")
    expect(len(ends) > 0, "ends", "empty", "give the ids that close a turn")

    def replies(made: Sequence[tuple[str, list[int]]]) -> list[int]:
        """What stands between the end of a turn that called and the next turn's first token."""
        try:
            return written(as_messages([text for text, _ in made],
                                       [tokenizer.decode(ids, specials=True) for _, ids in made]))
        except ValueError:          # a text that the template or the tokenizer refuses
            return written(as_messages([to_text("unknown")] * len(made), [REFUSED] * len(made)))

    def written(said: list[dict]) -> list[int]:
        before = [{"role": "user", "content": "?"}, said[0]]
        called = encode(before, generation_prompt=False)
        closed = [i for i, token in enumerate(called) if token in ends]
        whole = encode(before + said[1:], generation_prompt=True)
        last = closed[-1] + 1 if closed else 0
        same = closed and whole[:last] == called[:last]
        expect(bool(same), "chat template", "one that writes a call anew when its reply is there",
               "turn tools off")
        return whole[last:]

    def calls(ids: list[int]) -> tuple[int, list[str]]:
        texts, before = calls_in(tokenizer.decode(ids[:-1], specials=True), kind)   # without the turn's end
        # Up to the first call, by the fewest tokens whose text holds all that stands before it.
        start = next((i for i in range(len(ids)) if len(tokenizer.decode(ids[:i], specials=True)) >= before),
                     0) if texts and before else 0
        return start, texts

    return Form(tuple(ends), len(replies([(to_text("f"), [])])), calls, replies)


def to_text(name: str, **arguments) -> str:
    """{"name": "f", "arguments": {}}: a call without arguments, or with some."""
    return json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)


def calls_in(text: str, kind: str) -> tuple[list[str], int]:
    """The calls in what a model wrote in a turn, and how many characters stand before the first.

    calls_in('So: <tool_call>{"name": "f"}</tool_call>', "tags") -> (['{"name": "f"}'], 4). A tag that is not
    closed reaches to the end. Llama 3's form is a call if it is an object with a name and arguments, also one
    with a slip in its JSON: it is then answered with an error.
    """
    if kind == "tags":
        found = list(TAGS.finditer(text))
        return [match[1] for match in found], found[0].start() if found else 0
    bare = text.strip().removeprefix("<|python_tag|>").strip()      # which may stand before a call
    named = '"name"' in bare and ('"parameters"' in bare or '"arguments"' in bare)
    return ([bare], 0) if bare.startswith("{") and named else ([], 0)


def as_messages(texts: Sequence[str], replies: Sequence[str], before: str = "",
                thought: str = "") -> list[dict]:
    """A turn that called and what came back, as messages: of the assistant one, of the tools one each.

    before: what it said before its calls. A call that is no JSON stays in the assistant's text.
    """
    calls = [_read(text) for text in texts]
    first: dict = {"role": "assistant", "content": before}
    if thought:
        first["reasoning_content"] = thought
    if None in calls:
        first["content"] = "\n".join([before, *texts]).strip()
    elif calls:
        first["tool_calls"] = [{"type": "function", "function": call} for call in calls]
    names = [call["name"] if call else "unknown" for call in calls]
    return [first, *({"role": "tool", "name": name, "content": reply} for name, reply in zip(names, replies))]


def _read(text: str) -> dict | None:
    """Name and arguments of a call; None for a text that has none."""
    try:
        call = json.loads(text)
    except (ValueError, RecursionError):
        return None
    call = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(call, dict) or not isinstance(call.get("name"), str):
        return None
    arguments = call.get("arguments", call.get("parameters", {}))
    return {"name": call["name"], "arguments": arguments} if isinstance(arguments, dict) else None
