"""What travels between the grader and a sandbox: frames of known kinds, in a closed encoding of values.

A frame is a kind (one byte), a length (eight bytes, little-endian) and that many bytes. What they hold is
None, bool, int, float, str, bytes, list, tuple, dict (by texts), an array of numbers, or a Ref: nothing that
could be code. An array goes as its dtype (one of DTYPES), its shape and its raw bytes, whose number must be
the product; a .npy header is a Python literal, and would have to be read as one.

    decode(encode({"result": np.zeros(3)}))
"""

from __future__ import annotations

import os
import select
import struct
from dataclasses import dataclass
from math import prod

import numpy as np

SPEC, READY, RUN, INPUT, ANSWER, COMPLAINT, RELAY, OPEN, ENDED = range(1, 10)  # kinds
HEAD = struct.Struct("<BQ")
LARGEST = 1 << 24       # bytes of a frame
DEPTH = 24              # lists within lists
THINGS = 1 << 18        # values in a frame
DTYPES = ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16",
          "float32", "float64", "complex64", "complex128")
DIMENSIONS = 16


class Bad(Exception):
    """Raised where bytes are no frame, or a value is none that can be sent: Bad(why)."""


class Gone(Exception):
    """Raised where the other side has closed its end, or did not answer in time."""


@dataclass(frozen=True)
class Ref:
    """Something that stays where it is, by a name of its kind and a number; extra is what is told of it."""

    kind: str
    number: int
    extra: object = None


def encode(value: object) -> bytes:
    """The bytes of a plain value; Bad for anything else, and for what is too large or too deep."""
    out = bytearray()
    put(out, value, 0)
    if len(out) > LARGEST:
        raise Bad(f"value is {len(out)} bytes long: {LARGEST} at most can be sent")
    return bytes(out)


def put(out: bytearray, value: object, depth: int) -> None:
    """Append one value."""
    if depth > DEPTH:
        raise Bad(f"value is nested more than {DEPTH} deep: give a flatter one")
    if len(out) > LARGEST:
        raise Bad(f"value is longer than {LARGEST} bytes: give a smaller one")
    kind = type(value)
    if value is None:
        out += b"N"
    elif kind is bool:
        out += b"T" if value else b"F"
    elif kind is int:
        length = value.bit_length() // 8 + 1
        block(out, b"i", value.to_bytes(length, "little", signed=True))
    elif kind is float:
        out += b"f" + struct.pack("<d", value)
    elif kind is str:
        block(out, b"s", value.encode("utf-8", "surrogatepass"))
    elif kind is bytes:
        block(out, b"b", value)
    elif kind is list or kind is tuple:
        out += (b"l" if kind is list else b"t") + struct.pack("<Q", len(value))
        for each in value:
            put(out, each, depth + 1)
    elif kind is dict:
        out += b"d" + struct.pack("<Q", len(value))
        for key, each in value.items():
            if type(key) is not str:        # others could be chosen to collide, and take for ever to read
                raise Bad(f"value is a dict with a key of type {type(key).__name__}: give texts")
            put(out, key, depth + 1)
            put(out, each, depth + 1)
    elif kind is np.ndarray and value.dtype.name in DTYPES and value.ndim <= DIMENSIONS:
        plain = np.ascontiguousarray(value, value.dtype.newbyteorder("<"))
        out += b"a" + struct.pack("<BB", DTYPES.index(value.dtype.name), value.ndim)
        out += struct.pack(f"<{value.ndim}Q", *value.shape)
        out += plain.tobytes()
    elif kind is Ref:
        out += b"r"
        put(out, value.kind, depth + 1)
        put(out, value.number, depth + 1)
        put(out, value.extra, depth + 1)
    else:
        raise Bad(f"value is of type {kind.__name__}: only numbers, texts, lists, tuples, dicts and arrays "
                  "of numbers can be sent")


def block(out: bytearray, tag: bytes, raw: bytes) -> None:
    """Append a tag, a length and that many bytes."""
    out += tag + struct.pack("<Q", len(raw)) + raw


def decode(raw: bytes) -> object:
    """The value that encode made these bytes of; Bad where they are none."""
    reader = Reader(raw)
    try:
        value = reader.take(0)
    except (struct.error, UnicodeDecodeError, ValueError, OverflowError, TypeError) as error:
        raise Bad(f"frame cannot be read: {type(error).__name__}") from None
    if reader.at != len(raw):
        raise Bad(f"frame has {len(raw) - reader.at} bytes too many")
    return value


class Reader:
    """Takes values off a row of bytes, and nothing that the bytes do not hold."""

    def __init__(self, raw: bytes):
        self.raw, self.at, self.things = raw, 0, 0

    def some(self, length: int) -> bytes:
        """The next bytes."""
        if length > len(self.raw) - self.at:
            raise Bad(f"frame claims {length} bytes more; there are {len(self.raw) - self.at}")
        self.at += length
        return self.raw[self.at - length:self.at]

    def count(self) -> int:
        """The next length: never more than there are bytes left, since each thing takes one at least."""
        number = struct.unpack("<Q", self.some(8))[0]
        if number > len(self.raw) - self.at:
            raise Bad(f"frame claims {number} things; there are {len(self.raw) - self.at} bytes")
        return number

    def take(self, depth: int) -> object:
        """The next value."""
        self.things += 1
        if depth > DEPTH or self.things > THINGS:
            raise Bad("frame is nested too deep, or holds too many values")
        tag = self.some(1)
        if tag in b"NTF":
            return {b"N": None, b"T": True, b"F": False}[tag]
        if tag == b"i":
            return int.from_bytes(self.some(self.count()), "little", signed=True)
        if tag == b"f":
            return struct.unpack("<d", self.some(8))[0]
        if tag == b"s":
            return self.some(self.count()).decode("utf-8", "surrogatepass")
        if tag == b"b":
            return self.some(self.count())
        if tag in b"lt":
            items = [self.take(depth + 1) for _ in range(self.count())]
            return items if tag == b"l" else tuple(items)
        if tag == b"d":
            return {self.key(depth): self.take(depth + 1) for _ in range(self.count())}
        if tag == b"a":
            return self.array()
        if tag == b"r":
            kind, number, extra = (self.take(depth + 1) for _ in range(3))
            if type(kind) is not str or type(number) is not int:
                raise Bad("frame holds a Ref that is none")
            return Ref(kind, number, extra)
        raise Bad(f"frame holds an unknown tag, {tag!r}")

    def key(self, depth: int) -> str:
        """The next value, as a key of a dict."""
        key = self.take(depth + 1)
        if type(key) is not str:
            raise Bad("frame holds a dict with a key that is no text")
        return key

    def array(self) -> np.ndarray:
        """The next array: its bytes are counted before anything is made of them."""
        which, ndim = struct.unpack("<BB", self.some(2))
        if which >= len(DTYPES) or ndim > DIMENSIONS:
            raise Bad(f"frame holds an array of dtype {which} with {ndim} axes")
        shape = struct.unpack(f"<{ndim}Q", self.some(8 * ndim))
        dtype = np.dtype(DTYPES[which]).newbyteorder("<")
        if any(size > LARGEST for size in shape):
            raise Bad("frame claims an array that is longer than any frame")
        raw = self.some(prod(shape) * dtype.itemsize)
        if which == 0 and not set(raw) <= {0, 1}:
            raise Bad("frame holds an array of bool that is none")
        return np.frombuffer(raw, dtype).reshape(shape).astype(DTYPES[which])


class Pipe:
    """Two ends of two pipes: frames are read from one and written to the other, neither for ever.

    idle is called every tenth of a second while nothing comes or goes; it may raise.
    """

    def __init__(self, read: int, write: int, idle=None, largest: int = LARGEST):
        self.read_end, self.write_end, self.idle, self.largest = read, write, idle, largest
        self.rest, self.ends = bytearray(), (read, write)
        for end in (read, write):
            os.set_blocking(end, False)

    def send(self, kind: int, value: object) -> None:
        """Write one frame."""
        self.send_raw(kind, encode(value))

    def send_raw(self, kind: int, raw: bytes) -> None:
        """Write one frame that is encoded already."""
        out = memoryview(HEAD.pack(kind, len(raw)) + raw)
        while out:
            try:
                out = out[os.write(self.write_end, out):]
            except BlockingIOError:
                self.wait((), (self.write_end,))
            except OSError:
                raise Gone("the other side does not read") from None

    def receive(self) -> tuple[int, object]:
        """The next frame: its kind and its value."""
        kind, raw = self.receive_raw()
        return kind, decode(raw)

    def receive_raw(self) -> tuple[int, bytes]:
        """The next frame, not decoded."""
        while (frame := self.whole()) is None:
            self.more()
        return frame

    def whole(self) -> tuple[int, bytes] | None:
        """A frame that has come already, or None; Bad where one claims to be too long."""
        if len(self.rest) < HEAD.size:
            return None
        kind, length = HEAD.unpack_from(self.rest)
        if length > self.largest:
            raise Bad(f"a frame claims {length} bytes: {self.largest} at most are read")
        if len(self.rest) < HEAD.size + length:
            return None
        raw = bytes(self.rest[HEAD.size:HEAD.size + length])
        del self.rest[:HEAD.size + length]
        return kind, raw

    def more(self) -> None:
        """Wait for bytes and keep them; Gone at the end of the stream."""
        try:
            new = os.read(self.read_end, 1 << 16)
        except BlockingIOError:
            return self.wait((self.read_end,), ())
        except OSError:
            new = b""
        if not new:
            raise Gone("the other side has closed")
        self.rest += new

    def pending(self) -> bool:
        """True if bytes have come that nobody has read."""
        return bool(self.rest) or bool(select.select([self.read_end], [], [], 0)[0])

    def wait(self, read: tuple, write: tuple) -> None:
        """Until an end is ready, or a tenth of a second is over."""
        if self.idle is None:
            select.select(read, write, [])
            return
        if not any(select.select(read, write, [], 0.1)[:2]):
            self.idle()

    def close(self) -> None:
        """Close both ends, once: a number that is closed twice may be another's by then."""
        ends, self.ends = self.ends, ()
        for end in ends:
            os.close(end)


