"""Text to token ids and back: byte-level byte-pair encoding, and the marks that say who speaks.

`learn_merges` and `apply_merges` are the algorithm, to be read; `Tokenizer` runs the same algorithm in the
`tokenizers` library, for speed, and keeps Hugging Face's tokenizer.json. Left out: normalisation of any kind (every
UTF-8 text comes back byte for byte), and chat templates as text (a special token is an id, never a string in a text).

Source: Sennrich, Haddow, Birch 2016 (byte pairs); Radford et al. 2019 (bytes as the alphabet).
"""

from __future__ import annotations

import json
import operator
import os
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers, trainers

from .expect import expect

SPECIALS = ("<|end|>", "<|user|>", "<|assistant|>", "<|think|>", "<|/think|>",
            "<|call|>", "<|/call|>", "<|reply|>", "<|/reply|>")
END, USER, ASSISTANT, THINK, THINK_END, CALL, CALL_END, REPLY, REPLY_END = range(len(SPECIALS))  # in tokenizers of this package
SMALLEST = len(SPECIALS) + 256  # the marks and every byte
# Every printable character of ASCII, and letters of two, three and four bytes that no normal form changes.
PROBE = "".join(map(chr, range(33, 127))) + " a bc ж 日 🙂"
PIECE = 20_000  # characters: long texts are encoded in pieces, on every core


class Response(NamedTuple):
    """What a model wrote, read back: the text, the scratchpad (None if it wrote none), and whether it ended itself."""

    text: str
    thought: str | None
    ended: bool


class Tokenizer:
    """Byte-level BPE. `encode` never yields a special token, whatever the text says; `prompt` and `response` place them."""

    def __init__(self, backend: Backend, end: int | None = None, vocab_size: int | None = None):
        """A tokenizer of the `tokenizers` library. Of one from elsewhere: end, the id that closes a text; vocab_size, how many ids its model has."""
        backend.encode_special_tokens = True  # "<|end|>" in a text is seven plain characters
        self.backend = backend
        self.vocab_size = max(backend.get_vocab_size(), vocab_size or 0)
        self.own = backend.token_to_id(SPECIALS[END]) == END  # trained by this package
        self._name_marks(end)

    def _name_marks(self, end: int | None) -> None:
        ids = [self.backend.token_to_id(special) for special in SPECIALS]  # None: it has no such mark
        ids[END] = end if end is not None else ids[END]
        self.end, self.user, self.assistant, self.think, self.think_end, self.call, self.call_end, self.reply, self.reply_end = ids

    def add_marks(self) -> list[int]:
        """Add the marks that a tokenizer from elsewhere lacks, behind its ids. Returns the new ids; `hub.add_marks` makes room for them in a model."""
        lacking = [special for i, special in enumerate(SPECIALS) if self.backend.token_to_id(special) is None and not (i == END and self.end is not None)]
        self.backend.add_special_tokens(lacking)
        self._name_marks(self.end)
        return [self.backend.token_to_id(special) for special in lacking]

    @classmethod
    def train(cls, texts: str | Iterable[str], vocab_size: int = 512) -> Tokenizer:
        """Learn vocab_size − 265 merges (9 special tokens and 256 bytes come first); fewer if the text has no more pairs."""
        expect(isinstance(vocab_size, int) and vocab_size >= SMALLEST, "vocab_size", vocab_size,
               f"give at least {SMALLEST}: {len(SPECIALS)} special tokens and 256 bytes")
        texts = [texts] if isinstance(texts, str) else list(texts)
        for text in texts:
            _check_text(text)
        backend = Backend(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
        backend.decoder = decoders.ByteLevel()
        backend.train_from_iterator(texts, trainers.BpeTrainer(
            vocab_size=vocab_size, special_tokens=list(SPECIALS), show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
        return cls(backend)

    @classmethod
    def load(cls, path: str | os.PathLike, end: int | None = None, vocab_size: int | None = None) -> Tokenizer:
        """Read a tokenizer.json, ours or another's (see Tokenizer), but not its truncation, padding, dropout.

        FileNotFoundError if it is not there. ValueError if it is none, if two tokens share an id or an id is
        beyond vocab_size, and if a text does not come back from its ids (space before it, capitals apart).
        """
        name = os.fspath(path)
        with open(path, "rb") as file:
            data = file.read()
        try:
            backend = Backend.from_str(data.decode("utf-8"))
            backend.no_truncation()
            backend.no_padding()
            if getattr(backend.model, "dropout", None) is not None:
                backend.model.dropout = None  # which draws another way of writing a text each time
            added = {token["content"]: token["id"] for token in json.loads(data).get("added_tokens") or []}
            ids = backend.get_vocab(with_added_tokens=True)
            V = max(vocab_size or 0, max(ids.values()) + 1)
            tokenizer = cls(backend, end, V)
            back = tokenizer.decode(tokenizer.encode(PROBE), specials=True)  # some mark the bytes as specials
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # the library raises bare Exception, and panics with less than that
            raise ValueError(f"{name} is not a tokenizer.json: {' '.join(str(error).split())}") from None
        moved = [token for token, i in added.items() if ids.get(token) != i]
        expect(not moved, f"{name}: added_tokens", f"with {moved[:3]}", "give the ids that come next")
        twice = [i for i, n in Counter(ids.values()).items() if n > 1]
        expect(not twice, f"{name}: vocab", f"with two tokens of id {twice[:3]}", "give each one of its own")
        fits = vocab_size is None or V == vocab_size
        expect(fits, f"{name}: vocab", f"of {V} tokens", f"config.json says {vocab_size}")
        same = back.strip(" ").casefold() == PROBE.casefold()
        expect(same, name, f"one that makes {back[:200]!r} of {PROBE!r}",
               "give one that keeps a text: are its decoder and all bytes there?")
        return tokenizer

    def save(self, path: str | os.PathLike) -> None:
        """Write Hugging Face's tokenizer.json."""
        self.backend.save(os.fspath(path))

    def encode(self, text: str) -> list[int]:
        """Ids of a text; digits one by one. encode("7+38") has four ids. ValueError if the text holds a lone surrogate."""
        _check_text(text)
        pieces = _pieces(text) if self.own else [text]  # another's may treat the beginning of a text apart
        encodings = self.backend.encode_batch_fast(pieces, add_special_tokens=False)
        return [i for encoding in encodings for i in encoding.ids]

    def encode_all(self, texts: list[str]) -> list[list[int]]:
        """Ids of each text, on every core: for many short texts."""
        expect(not isinstance(texts, str), "texts", "one text", "give a list, or use encode")
        for text in texts:
            _check_text(text)
        return [encoding.ids for encoding in self.backend.encode_batch_fast(texts, add_special_tokens=False)]

    def decode(self, ids: Iterable[int], specials: bool = False) -> str:
        """The text of ids; bytes that are not UTF-8 become U+FFFD. `specials` shows the marks, for people to read."""
        try:
            ids = [operator.index(i) for i in ids]
        except TypeError as error:
            raise ValueError(f"ids hold what is no id ({error}): give whole numbers") from None
        V = self.vocab_size
        for i in ids:
            expect(0 <= i < V, "id", i, f"ids run from 0 to {V - 1}")
        return self.backend.decode(ids, skip_special_tokens=not specials)

    def prompt(self, question: str) -> list[int]:
        """x of one turn: [USER] question [ASSISTANT]. ValueError from a tokenizer that has no such marks (see `add_marks`)."""
        expect(None not in (self.user, self.assistant), "tokenizer", "without the marks of who speaks", "call hub.add_marks(model, tokenizer) first")
        return [self.user, *self.encode(question), self.assistant]

    def response(self, text: str, thought: str | None = None) -> list[int]:
        """y of one turn: [THINK] thought [/THINK] text [END]. The end token belongs to y."""
        expect(None not in (self.end, self.think, self.think_end), "tokenizer", "without marks for a thought and the end", "call hub.add_marks(model, tokenizer) first")
        scratchpad = [] if thought is None else [self.think, *self.encode(thought), self.think_end]
        return [*scratchpad, *self.encode(text), self.end]

    def turns(self, conversation: Iterable[tuple[str, str]]) -> list[tuple[list[int], list[int]]]:
        """(prompt, response) of each turn of [(question, answer), …], for `logprob.batch_turns`; joined, they are the text so far."""
        return [(self.prompt(question), self.response(answer)) for question, answer in conversation]

    def read_response(self, ids: Iterable[int]) -> Response:
        """Undo `response`. A scratchpad that is never closed leaves the text empty."""
        ids = list(ids)
        ended = self.end in ids
        ids = ids[:ids.index(self.end)] if ended else ids
        if not ids or self.think is None or ids[0] != self.think:
            return Response(self.decode(ids, specials=True), None, ended)
        close = ids.index(self.think_end) if self.think_end in ids else len(ids)
        return Response(self.decode(ids[close + 1:], specials=True), self.decode(ids[1:close], specials=True), ended)

    def chunks(self, text: str) -> list[str]:
        """The pieces that merges never cross (words with their space, single digits, punctuation), bytes as printable letters."""
        return [chunk for chunk, _ in self.backend.pre_tokenizer.pre_tokenize_str(text)]


def learn_merges(chunks: Iterable[str], count: int) -> list[tuple[str, str]]:
    """Byte-pair encoding, to be read: `count` times, join the commonest neighbours (ties: the older symbols first).

    learn_merges(["aab", "aab", "ab"], 1) -> [("a", "b")]: ab stands three times, aa twice.
    """
    expect(isinstance(count, int) and count >= 0, "count", count, "give 0 or more")
    words = {tuple(chunk): n for chunk, n in Counter(chunks).items()}
    age = {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}  # symbol -> order of birth
    strange = sorted({letter for word in words for letter in word} - set(age))
    expect(not strange, "chunks", f"with {strange[:3]}", "give bytes as printable letters, as Tokenizer.chunks does")
    merges: list[tuple[str, str]] = []
    while len(merges) < count:
        pairs: Counter = Counter()
        for word, n in words.items():
            for pair in zip(word, word[1:]):
                pairs[pair] += n
        if not pairs:
            break
        best = max(pairs, key=lambda pair: (pairs[pair], -age[pair[0]], -age[pair[1]]))
        merges.append(best)
        age.setdefault("".join(best), len(age))
        words = _merged(words, best)
    return merges


def apply_merges(chunk: str, merges: list[tuple[str, str]]) -> list[str]:
    """The symbols of one chunk: apply the merges in the order in which they were learned."""
    word = tuple(chunk)
    for pair in merges:
        word = _join(word, pair)
    return list(word)


def _merged(words: dict, pair: tuple[str, str]) -> dict:
    merged: Counter = Counter()
    for word, n in words.items():
        merged[_join(word, pair)] += n
    return merged


def _join(word: tuple, pair: tuple[str, str]) -> tuple:
    """_join(("a", "a", "b"), ("a", "b")) -> ("a", "ab"): from left to right."""
    joined, i = [], 0
    while i < len(word):
        if word[i:i + 2] == pair:
            joined.append(word[i] + word[i + 1])
            i += 2
        else:
            joined.append(word[i])
            i += 1
    return tuple(joined)


def _check_text(text: str) -> None:
    expect(isinstance(text, str), "text", type(text).__name__, "give a str")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(f"text[{error.start}] is a lone surrogate {text[error.start]!r}: read the file as UTF-8") from None


def _pieces(text: str) -> list[str]:
    """Cut a long text where no chunk is cut: before a space or newline that a letter follows."""
    pieces, start = [], 0
    while len(text) - start > PIECE:
        cut = start + PIECE
        while cut + 1 < len(text) and not (text[cut] in " \n" and text[cut + 1].isalpha()):
            cut += 1
        if cut + 1 >= len(text):
            break
        pieces.append(text[start:cut])
        start = cut
    return [*pieces, text[start:]]
