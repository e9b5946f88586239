"""Functions that live in another process, and can be called as if they were here.

A learner's test is handed planted code; its code must not be where the test runs. So both sides hold an End:
what one calls, the other runs. Numbers, texts, lists, dicts and tensors go across, functions and objects
stay, and are called back. What a call changes in place is changed here too; gradients flow through a call.
Gradients of gradients do not, nor do torch.func's transforms.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable
from contextlib import suppress

import numpy as np
import torch
from torch import Tensor

from .frames import Bad, Gone, Ref, decode, encode

DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in (
    torch.bool, torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8, torch.float16,
    torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128)}
NESTED = 8      # calls that wait for one another
WORDS = 400     # characters of what an error says


class End:
    """One side: send and receive carry bytes to the other one and back."""

    def __init__(self, send: Callable[[bytes], None], receive: Callable[[], bytes]):
        self.send_bytes, self.receive_bytes = send, receive
        self.clear()

    def clear(self) -> None:
        """Forget all functions, objects and graphs."""
        self.things: list[object] = []      # what the other side may call, by its number
        self.methods: dict[int, list[str]] = {}     # an object's number -> what may be called of it
        self.kept: dict[int, list] = {}     # an object's number -> the tensors that it was made of
        self.errors: list[BaseException] = []
        self.graphs: dict[int, tuple[list[Tensor], list[Tensor]]] = {}
        self.leaves: list[list[Tensor]] = []    # of calls that run here: what a gradient may be asked for
        self.sources: list[list[Tensor]] = []   # of calls that run there: the same, in the same order
        self.calls = 0

    # --- asking

    def function(self, number: int, name: str = "function") -> Callable:
        """The other side's function of that number."""
        def far(*args, **kwargs):
            return self.call(number, "", args, kwargs, None)
        far.__name__ = far.__qualname__ = name
        return far

    def call(self, number: int, method: str, args: tuple, kwargs: dict, held: list | None) -> object:
        """Have the other side call its function, or the method of its object, and take what comes back."""
        given: list[Tensor] = []
        sources = [t for t in tensors((args, kwargs)) if t.requires_grad] if torch.is_grad_enabled() else []
        call, self.calls = self.calls, self.calls + 1
        self.sources.append(sources)
        try:
            message = ("call", call, number, method, self.pack(args, given), self.pack(kwargs, given),
                       torch.is_grad_enabled(), [plain(t) for t in held or []])
            kind, *rest = self.ask(message)
            if kind == "raised":
                raise self.error(*rest)
            value, changes, lists, holds = rest
            for n, new in changes:
                overwrite([*given, *(held or [])][n], new)
            for n, new in lists:
                args[n][:] = self.unpack(new, [])
            sources = self.sources[-1]
        finally:
            self.sources.pop()
        found: list[tuple[Tensor, bool]] = []
        value = self.unpack(value, found, held=[*given, *(held or [])] if holds else None)
        live = [tensor for tensor, with_gradient in found if with_gradient]
        if not live:
            return value
        linked = iter(Link.apply(self, call, len(live), *live, *sources))
        here = {id(tensor): next(linked) for tensor in live}
        return swap(value, here)

    def ask(self, message: tuple) -> tuple:
        """Send a request, and serve what the other side asks for until its reply comes."""
        self.send_bytes(encode(message))
        while True:
            reply = decode(self.receive_bytes())
            if reply[0] in ("back", "raised", "gradients"):
                return reply
            self.send_bytes(self.serve(reply))

    # --- serving

    def serve(self, message: tuple) -> bytes:
        """The reply to a request, whatever it was."""
        try:
            if len(self.leaves) > NESTED:
                raise RecursionError("functions that call one another back and forth")
            if message[0] == "gradient":
                return encode(("gradients", self.gradient(*message[1:])))
            return self.run(*message[1:])
        except (Gone, MemoryError):
            raise
        except BaseException as error:
            return self.told(error)

    def run(self, call: int, number: int, method: str, args: tuple, kwargs: dict, grad: bool,
            held: list) -> bytes:
        """Call a thing of ours as the other side asked."""
        thing = self.things[number]
        if method and method not in self.methods.get(number, ()):       # and nothing else of it can be had
            raise AttributeError(f"there is no method {method!r:.40}")
        found: list[tuple[Tensor, bool]] = []
        args, kwargs = self.unpack(args, found), self.unpack(kwargs, found)
        given = [tensor for tensor, _ in found]
        kept = self.kept.get(number, [])
        for tensor, new in zip(kept, held):
            overwrite(tensor, new)
        leaves = [tensor.requires_grad_() for tensor, with_gradient in found if with_gradient]
        watched = [*given, *kept]
        before = [tensor.detach().clone() for tensor in watched]
        lists = {n: encode(self.pack(each, [])) for n, each in enumerate(args) if type(each) is list}
        self.leaves.append(leaves)
        try:
            with torch.set_grad_enabled(grad):
                value = (getattr(thing, method) if method else thing)(*args, **kwargs)
        finally:
            leaves = self.leaves.pop()
        self.holds = False
        results: list[Tensor] = []
        packed = self.pack(value, results)
        live = [tensor for tensor in results if tensor.requires_grad]
        if live:
            self.graphs[call] = (leaves, live)
            if self.sources:                # a callback's, of a call that waits for it
                self.sources[-1] += live
        if self.holds:
            self.kept[len(self.things) - 1] = watched
        changes = [(n, plain(tensor)) for n, (tensor, old) in enumerate(zip(watched, before))
                   if not same(tensor, old)]
        moved = [(n, packed_list) for n, old in lists.items()
                 if encode(packed_list := self.pack(args[n], [])) != old]
        return encode(("back", packed, changes, moved, self.holds))

    def gradient(self, call: int, outward: list) -> list:
        """What flows back through a call of ours: an array for each leaf, None where nothing does."""
        leaves, live = self.graphs[call]
        pairs = [(out, torch.from_numpy(g).to(out.dtype).view(out.shape)) for out, g in zip(live, outward)
                 if g is not None]
        if not leaves or not pairs:
            return [None] * len(leaves)
        found = torch.autograd.grad([out for out, _ in pairs], leaves, [g for _, g in pairs],
                                    allow_unused=True, retain_graph=True)
        return [None if g is None else plain(g)[1] for g in found]

    def told(self, error: BaseException) -> bytes:
        """An error for the other side: the built-in kinds that it is of, and what it says."""
        kinds = [kind.__name__ for kind in type(error).__mro__ if kind.__module__ == "builtins"]
        theirs = getattr(error, "_far", None)
        self.errors.append(error)
        words = str(error)[:WORDS] if theirs is None else ""
        return encode(("raised", kinds, words.encode("utf-8", "replace").decode(),
                       -1 if theirs is None else theirs, len(self.errors) - 1))

    def error(self, kinds: list, words: str, ours: int, number: int) -> BaseException:
        """The error to raise here: our own one that came back, or one of the same built-in kind."""
        if 0 <= ours < len(self.errors):
            return self.errors[ours]
        for name in kinds:
            kind = getattr(builtins, str(name), None)
            if isinstance(kind, type) and issubclass(kind, BaseException):
                try:
                    error = kind(words)
                except TypeError:
                    continue
                error._far = number
                return error
        return RuntimeError(words)

    # --- values

    def pack(self, value: object, given: list[Tensor]) -> object:
        """A value as plain ones, its tensors appended to given; what cannot go across becomes a Ref."""
        if isinstance(value, Tensor):
            given.append(value)
            return Ref("tensor", len(given) - 1, (value.requires_grad, *plain(value)))
        if isinstance(value, np.generic):
            value = value.item()
        if value is None or type(value) in (bool, int, float, str, bytes):
            return value
        for kind in (bool, int, float, str):
            if isinstance(value, kind):
                return kind(value)
        if isinstance(value, np.ndarray):
            return Ref("array", 0, np.array(value))
        if isinstance(value, tuple):
            return tuple(self.pack(each, given) for each in value)
        if isinstance(value, list | range):
            return [self.pack(each, given) for each in value]
        if isinstance(value, dict):
            return {key: self.pack(each, given) for key, each in value.items()}
        self.things.append(value)
        if callable(value):
            return Ref("function", len(self.things) - 1)
        self.holds = True
        names = [name for name in dir(value) if not name.startswith("_") and callable(getattr(value, name))]
        self.methods[len(self.things) - 1] = names
        return Ref("object", len(self.things) - 1, names)

    def unpack(self, value: object, found: list[tuple[Tensor, bool]], held: list | None = None) -> object:
        """What pack made plain, as it was; its tensors are appended to found, with whether they had a
        gradient."""
        if isinstance(value, Ref):
            if value.kind == "tensor":
                with_gradient, dtype, array = value.extra
                tensor = as_tensor(dtype, array)
                found.append((tensor, bool(with_gradient)))
                return tensor
            if value.kind == "array":
                return value.extra
            if value.kind == "function":
                return self.callback(value.number)
            if value.kind == "object":
                return self.stand_in(value.number, value.extra, held)
            raise Bad(f"frame holds a Ref of kind {value.kind!r:.40}")
        if isinstance(value, list):
            return [self.unpack(each, found, held) for each in value]
        if isinstance(value, tuple):
            return tuple(self.unpack(each, found, held) for each in value)
        if isinstance(value, dict):
            return {key: self.unpack(each, found, held) for key, each in value.items()}
        return value

    def callback(self, number: int) -> Callable:
        """A function of the other side, handed to code that runs here: its results' gradients lead there."""
        def far(*args, **kwargs):
            call, self.calls = self.calls, self.calls + 1
            given: list[Tensor] = []
            message = ("callback", call, number, "", self.pack(args, given), self.pack(kwargs, given),
                       torch.is_grad_enabled(), [])
            kind, *rest = self.ask(message)
            if kind == "raised":
                raise self.error(*rest)
            value, changes, _, _ = rest
            for n, new in changes:
                overwrite(given[n], new)
            found: list[tuple[Tensor, bool]] = []
            value = self.unpack(value, found)
            if self.leaves:
                self.leaves[-1] += [t.requires_grad_() for t, with_gradient in found if with_gradient]
            return value
        return far

    def stand_in(self, number: int, names: list, held: list | None) -> object:
        """An object with the methods of one that lives on the other side."""
        def method(name):
            def far(self_, *args, **kwargs):
                return self.call(number, name, args, kwargs, held)
            far.__name__ = name
            return far
        return type("Far", (), {str(name): method(str(name)) for name in names})()


class Link(torch.autograd.Function):
    """The graph's edge across: forward hands on numbers that are there; backward asks for what flows back."""

    @staticmethod
    def forward(ctx, end, call, n, *tensors):
        ctx.end, ctx.call, ctx.n, ctx.sources = end, call, n, len(tensors) - n
        return tuple(tensor.clone() for tensor in tensors[:n])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, *outward):
        gradients = [None if g is None else plain(g)[1] for g in outward]
        kind, *rest = ctx.end.ask(("gradient", ctx.call, gradients))
        if kind == "raised":
            raise ctx.end.error(*rest)
        back = [None if g is None else torch.from_numpy(g) for g in rest[0]]
        return None, None, None, *([None] * ctx.n), *back


def plain(tensor: Tensor) -> tuple[str, np.ndarray]:
    """A tensor's dtype and numbers. bfloat16 goes as the whole numbers of its bits."""
    name = str(tensor.dtype).removeprefix("torch.")
    if name not in DTYPES:
        raise Bad(f"tensor is of dtype {name}: give one of {', '.join(DTYPES)}")
    tensor = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
    return name, (tensor.view(torch.int16) if name == "bfloat16" else tensor).numpy()


def as_tensor(dtype: str, array: np.ndarray) -> Tensor:
    """What plain took apart."""
    tensor = torch.from_numpy(array.copy())
    return tensor.view(torch.bfloat16) if dtype == "bfloat16" else tensor


def overwrite(tensor: Tensor, new: tuple[str, np.ndarray]) -> None:
    """Give a tensor other numbers in place."""
    # One that was expanded, or that has another shape now, cannot be written to, and stays as it is.
    with torch.no_grad(), suppress(RuntimeError):
        tensor.copy_(as_tensor(*new))


def same(one: Tensor, other: Tensor) -> bool:
    """Equal bit for bit, NaN too."""
    return one.shape == other.shape and np.array_equal(plain(one)[1], plain(other)[1], equal_nan=True)


def tensors(value: object) -> list[Tensor]:
    """All tensors of a value, in the order in which pack meets them."""
    if isinstance(value, Tensor):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return [tensor for each in inner for tensor in tensors(each)]


def swap(value: object, here: dict[int, Tensor]) -> object:
    """The value with some of its tensors replaced."""
    if isinstance(value, Tensor):
        return here.get(id(value), value)
    if isinstance(value, list | tuple):
        return type(value)(swap(each, here) for each in value)
    if isinstance(value, dict):
        return {key: swap(each, here) for key, each in value.items()}
    return value
