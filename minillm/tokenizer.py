"""Text to token ids and back: byte-level byte-pair encoding, and the marks that say who speaks.

`learn_merges` is how `Tokenizer.train` learns; `apply_merges` is what `encode` computes, to be read: the
`tokenizers` library runs it, for speed. Files are Hugging Face's tokenizer.json. Nothing is
normalised: every UTF-8 text comes back byte for byte. A special token is an id, never a string in a text.

Source: Sennrich, Haddow, Birch 2016 (byte pairs); Radford et al. 2019 (bytes as the alphabet).
"""

from __future__ import annotations

import heapq
import json
import operator
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import NamedTuple

from tokenizers import Regex, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as Backend
from tqdm.auto import tqdm

from .expect import expect

SPECIALS = ("<|end|>", "<|user|>", "<|assistant|>", "<|think|>", "<|/think|>",
            "<|call|>", "<|/call|>", "<|reply|>", "<|/reply|>")
# In tokenizers of this package.
END, USER, ASSISTANT, THINK, THINK_END, CALL, CALL_END, REPLY, REPLY_END = range(len(SPECIALS))
SMALLEST = len(SPECIALS) + 256  # the marks and every byte

# GPT-2's expression (Radford et al. 2019), with an end to every run. A piece is a word, a run of signs or of
# white space, and merges never cross its border. The longest words that people write have less than 200
# letters, so the bound changes no language; a page without a space would otherwise be one piece, and cost its
# length squared.
LONGEST = 256
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
PATTERN = GPT2.replace("+", f"{{1,{LONGEST}}}")

STRETCH = 20_000    # characters: what the library is given at once; it needs up to 100 bytes for each
BATCH = 32          # stretches that are encoded together, on every core
READ = 2_000_000    # characters, after which the words that were read are cut into pieces
TABLE = 2_000_000   # letters in all the different pieces that are counted: about 250,000 pieces of English

# White space behind something else always begins a new piece: no part of PATTERN goes on across it. For
# Python, not for the library, \x1c to \x1f are white space too: they count as neither here.
SPACE = r"[^\S\x1c-\x1f]"
WORD = re.compile(r"\s*\S+(?:[\x1c-\x1f]\s*\S*)*|\s+")
LAST_WORD = re.compile(rf"(?s).*\S(?={SPACE})")

# Every printable character of ASCII, and letters of two, three and four bytes that no normal form changes.
PROBE = "".join(map(chr, range(33, 127))) + " a bc ж 日 🙂"


class Response(NamedTuple):
    """What a model wrote, read back. thought: its scratchpad, None if it wrote none; ended: by itself."""

    text: str
    thought: str | None
    ended: bool


class Tokenizer:
    """Byte-level BPE. `encode` never yields a special token: `prompt` and `response` place them."""

    def __init__(self, backend: Backend, end: int | None = None, vocab_size: int | None = None):
        """A tokenizer of the `tokenizers` library.

        Of one from elsewhere: end, the id that closes a text; vocab_size, how many ids its model has.
        """
        backend.encode_special_tokens = True  # "<|end|>" in a text is seven plain characters
        self.backend = backend
        self.vocab_size = max(backend.get_vocab_size(), vocab_size or 0)
        self.own = backend.token_to_id(SPECIALS[END]) == END  # trained by this package
        self._name_marks(end)

    def _name_marks(self, end: int | None) -> None:
        ids = [self.backend.token_to_id(special) for special in SPECIALS]  # None: it has no such mark
        ids[END] = end if end is not None else ids[END]
        self.end, self.user, self.assistant = ids[:3]
        self.think, self.think_end, self.call, self.call_end, self.reply, self.reply_end = ids[3:]

    def add_marks(self) -> list[int]:
        """Add the marks that a tokenizer from elsewhere lacks, behind its ids.

        Returns the new ids; `hub.add_marks` makes room for them in a model.
        """
        lacking = [special for special in SPECIALS if self.backend.token_to_id(special) is None]
        if self.end is not None:
            lacking = [special for special in lacking if special != SPECIALS[END]]
        self.backend.add_special_tokens(lacking)
        self._name_marks(self.end)
        return [self.backend.token_to_id(special) for special in lacking]

    @classmethod
    def train(cls, texts: str | Iterable[str], vocab_size: int = 512, *, joined: bool = False,
              progress: bool = False) -> Tokenizer:
        """Learn vocab_size − 265 merges (9 special tokens and 256 bytes come first); fewer if pairs run out.

        texts: a text, or any iterable of texts, read once; `joined` says that they are chunks of a single
        text, cut anywhere. What is held in memory does not grow with the text: of the different pieces, the
        rarest are forgotten when they are more than about 250,000 (see `_count_pieces`). ValueError for a
        lone surrogate.
        """
        expect(isinstance(vocab_size, int) and vocab_size >= SMALLEST, "vocab_size", vocab_size,
               f"give at least {SMALLEST}: {len(SPECIALS)} special tokens and 256 bytes")
        texts = [texts] if isinstance(texts, str) else texts
        backend = Backend(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.Sequence([
            pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.Split(Regex(PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
        backend.decoder = decoders.ByteLevel()
        apart = [texts] if joined else ([text] for text in texts)
        counts = _count_pieces(apart, backend.pre_tokenizer, progress)
        vocab = {symbol: i for i, symbol in enumerate([*SPECIALS, *_letters()])}
        merges: list[tuple[str, str]] = []
        learned = _merges(counts) if vocab_size > SMALLEST else ()
        wanted = vocab_size - SMALLEST
        for pair in tqdm(learned, "merges", wanted, leave=False, delay=2, disable=not progress):
            merges.append(pair)
            vocab.setdefault("".join(pair), len(vocab))  # two ways to the same symbol are one symbol
            if len(vocab) == vocab_size:
                break
        backend.model = models.BPE(vocab, merges)
        backend.add_special_tokens(list(SPECIALS))
        return cls(backend)

    @classmethod
    def load(cls, path: str | os.PathLike, end: int | None = None,
             vocab_size: int | None = None) -> Tokenizer:
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
        """Ids of a text; digits one by one. encode("7+38") has four ids.

        ValueError if the text holds a lone surrogate.
        """
        return list(self.encode_iterable((text,)))

    def encode_iterable(self, chunks: Iterable[str]) -> Iterator[int]:
        """Ids of a text that comes in chunks, one by one: those of the joined text, wherever it is cut.

        What is held in memory does not grow with the text: about 60 MB at most. A tokenizer from elsewhere
        may treat the beginning of a text apart, so for it the chunks are joined. ValueError as `encode`, when
        it gets there.
        """
        stretches = _stretches(chunks, self.backend.pre_tokenizer) if self.own else iter([_joined(chunks)])
        same: dict[int, int] = {}  # equal ids are one object: a list of them is a quarter as large
        while batch := list(islice(stretches, BATCH)):
            for encoding in self.backend.encode_batch_fast(batch, add_special_tokens=False):
                yield from map(same.setdefault, encoding.ids, encoding.ids)

    def encode_all(self, texts: list[str]) -> list[list[int]]:
        """Ids of each text, on every core: for many short texts."""
        expect(not isinstance(texts, str), "texts", "one text", "give a list, or use encode")
        for text in texts:
            _check_text(text)
        return [encoding.ids for encoding in self.backend.encode_batch_fast(texts, add_special_tokens=False)]

    def decode(self, ids: Iterable[int], specials: bool = False) -> str:
        """The text of ids; bytes that are not UTF-8 become U+FFFD. specials: show the marks, for people."""
        try:
            ids = [operator.index(i) for i in ids]
        except TypeError as error:
            raise ValueError(f"ids hold what is no id ({error}): give whole numbers") from None
        V = self.vocab_size
        for i in ids:
            expect(0 <= i < V, "id", i, f"ids run from 0 to {V - 1}")
        return self.backend.decode(ids, skip_special_tokens=not specials)

    def prompt(self, question: str) -> list[int]:
        """x of one turn: [USER] question [ASSISTANT].

        ValueError from a tokenizer that has no such marks (see `add_marks`).
        """
        expect(None not in (self.user, self.assistant), "tokenizer", "without the marks of who speaks",
               "call hub.add_marks(model, tokenizer) first")
        return [self.user, *self.encode(question), self.assistant]

    def response(self, text: str, thought: str | None = None) -> list[int]:
        """y of one turn: [THINK] thought [/THINK] text [END]. The end token belongs to y."""
        expect(None not in (self.end, self.think, self.think_end), "tokenizer",
               "without marks for a thought and the end", "call hub.add_marks(model, tokenizer) first")
        scratchpad = [] if thought is None else [self.think, *self.encode(thought), self.think_end]
        return [*scratchpad, *self.encode(text), self.end]

    def turns(self, conversation: Iterable[tuple[str, str]]) -> list[tuple[list[int], list[int]]]:
        """(prompt, response) of each turn of [(question, answer), …]; joined, they are the text so far.

        `batch_turns` takes them.
        """
        return [(self.prompt(question), self.response(answer)) for question, answer in conversation]

    def read_response(self, ids: Iterable[int]) -> Response:
        """Undo `response`. A scratchpad that is never closed leaves the text empty."""
        ids = list(ids)
        ended = self.end in ids
        ids = ids[:ids.index(self.end)] if ended else ids
        if not ids or self.think is None or ids[0] != self.think:
            return Response(self.decode(ids, specials=True), None, ended)
        close = ids.index(self.think_end) if self.think_end in ids else len(ids)
        text, thought = self.decode(ids[close + 1:], specials=True), self.decode(ids[1:close], specials=True)
        return Response(text, thought, ended)

    def chunks(self, text: str) -> list[str]:
        """The pieces that merges never cross: words with their space, single digits, punctuation.

        Bytes are printable letters.
        """
        return [chunk for chunk, _ in self.backend.pre_tokenizer.pre_tokenize_str(text)]


def learn_merges(chunks: Iterable[str], count: int) -> list[tuple[str, str]]:
    """Byte-pair encoding: `count` times, join the commonest neighbours (ties: the older symbols first).

    chunks: pieces as `Tokenizer.chunks` gives them, or a Counter of them. Fewer merges where no more pairs
    are left. learn_merges(["aab", "aab", "ab"], 1) -> [("a", "b")]: ab stands three times, aa twice.
    """
    expect(isinstance(count, int) and count >= 0, "count", count, "give 0 or more")
    counts = Counter(chunks)
    strange = sorted(set().union(*counts) - set(_letters()))
    expect(not strange, "chunks", f"with {strange[:3]}",
           "give bytes as printable letters, as Tokenizer.chunks does")
    return list(islice(_merges(counts), count))


def _merges(counts: Counter) -> Iterator[tuple[str, str]]:
    """The merges, one by one, while there are pairs. counts: how often each piece stands in the text."""
    words = [list(piece) for piece in counts]               # each piece, as the symbols that it has by now
    times = list(counts.values())
    age = {letter: i for i, letter in enumerate(_letters())}  # symbol -> order of birth
    pairs: Counter = Counter()                              # pair -> how often it stands in the text
    where = defaultdict(set)                                # pair -> the words that hold it, or held it once
    for w, word in enumerate(words):
        for pair in zip(word, word[1:]):
            pairs[pair] += times[w]
            where[pair].add(w)

    def entry(pair):
        return -pairs[pair], age[pair[0]], age[pair[1]], pair

    queue = [entry(pair) for pair in pairs]                 # the commonest first, of equals the oldest
    heapq.heapify(queue)
    while queue:
        best = heapq.heappop(queue)
        pair = best[-1]
        if best != entry(pair):                             # it has become rarer since: back in line
            if pairs[pair]:
                heapq.heappush(queue, entry(pair))
            continue
        if not pairs[pair]:
            continue
        yield pair
        age.setdefault("".join(pair), len(age))
        more = set()
        for w in where.pop(pair):                           # nothing changes in any other word
            old, (new, begins) = words[w], _join(words[w], pair)
            # A join at old[i], old[i + 1] ends the pairs that begin at i − 1, i and i + 1. In the new word it
            # stands one place further left for each join before it, and begins the pairs at j − 1 and j. A
            # set: in abab, two joins touch the same pair.
            for i in {i for begin in begins for i in (begin - 1, begin, begin + 1) if 0 <= i < len(old) - 1}:
                pairs[old[i], old[i + 1]] -= times[w]
            stands = [begin - n for n, begin in enumerate(begins)]
            for j in {j for stand in stands for j in (stand - 1, stand) if 0 <= j < len(new) - 1}:
                born = new[j], new[j + 1]
                pairs[born] += times[w]
                where[born].add(w)
                more.add(born)
            words[w] = new
        for born in more:
            heapq.heappush(queue, entry(born))


def apply_merges(chunk: str, merges: list[tuple[str, str]]) -> list[str]:
    """The symbols of one chunk: apply the merges in the order in which they were learned."""
    word = list(chunk)
    for pair in merges:
        word, _ = _join(word, pair)
    return word


def _join(word: list[str], pair: tuple[str, str]) -> tuple[list[str], list[int]]:
    """_join(["a", "a", "b"], ("a", "b")) -> (["a", "ab"], [1]): from left to right; where each pair began."""
    first, second = pair
    joined, begins, done, i = [], [], 0, 0
    for _ in range(word.count(first)):                      # no other place is looked at
        i = word.index(first, i)
        if i >= done and word[i + 1:i + 2] == [second]:
            joined += word[done:i]
            joined.append(first + second)
            begins.append(i)
            done = i + 2
        i += 1
    return joined + word[done:], begins


def _letters() -> list[str]:
    """The 256 bytes as printable letters, in order."""
    return sorted(pre_tokenizers.ByteLevel.alphabet())


def _count_pieces(texts: Iterable[Iterable[str]], pre_tokenizer, progress: bool) -> Counter:
    """How often each piece stands in texts that come in chunks.

    The same word is cut into pieces once for READ characters, not each time that it stands there. When the
    different pieces together have more than TABLE letters, the rarest are forgotten until half is left;
    should one come again, it is counted from 0. So a piece may miss some of its count, and a rare one all of
    it: merges are made of what is common. A text of fewer different pieces (a novel; the town) is counted
    exactly.
    """
    counts: Counter = Counter()
    words: Counter = Counter()
    read = 0

    def cut_words():
        for word, n in words.items():
            for piece, _ in pre_tokenizer.pre_tokenize_str(word):
                counts[piece] += n
        words.clear()
        if sum(map(len, counts)) > TABLE:
            common, room = counts.most_common(), TABLE // 2
            counts.clear()
            for piece, n in common:
                room -= len(piece)
                if room < 0:
                    break
                counts[piece] = n

    stretches = chain.from_iterable(_stretches(chunks, pre_tokenizer) for chunks in texts)
    with tqdm(desc="reading", unit=" letters", unit_scale=True, leave=False, delay=2,
              disable=not progress) as bar:
        for stretch in stretches:
            words.update(WORD.findall(stretch))
            bar.update(len(stretch))
            read += len(stretch)
            if read >= READ:
                cut_words()
                read = 0
        cut_words()
    return counts


def _stretches(chunks: Iterable[str], pre_tokenizer) -> Iterator[str]:
    """The joined chunks, cut anew between two pieces, into stretches of about STRETCH characters."""
    rest, enough = "", STRETCH
    for chunk in chunks:
        _check_text(chunk)
        for i in range(0, len(chunk), STRETCH):
            rest += chunk[i:i + STRETCH]
            if len(rest) >= enough:
                cut = _border(rest, pre_tokenizer)
                if cut:
                    yield rest[:cut]
                rest = rest[cut:]
                enough = max(STRETCH, 2 * len(rest))  # no border: look again when it has doubled
    if rest:
        yield rest


def _border(text: str, pre_tokenizer) -> int:
    """The last place where a text can be cut; 0 if nowhere. The text begins with a piece.

    Each part alone then has the pieces that it has in the whole, whatever comes behind the text.
    """
    if words := LAST_WORD.match(text):
        return words.end()
    # No white space behind something else: ask the library. How a piece ends depends on two characters behind
    # it at most ('ll; two spaces). A run of white space must go on: what it gives up to a word behind it
    # would be missed.
    ends = [end for _, (_, end) in pre_tokenizer.pre_tokenize_str(text) if end <= len(text) - 2]
    ends = [end for end in ends if not text[end - 1].isspace() or re.match(SPACE, text[end])]
    return max(ends, default=0)


def _joined(chunks: Iterable[str]) -> str:
    """One text of its chunks."""
    chunks = list(chunks)
    for chunk in chunks:
        _check_text(chunk)
    return "".join(chunks)


def _check_text(text: str) -> None:
    expect(isinstance(text, str), "text", type(text).__name__, "give a str")
    for i in range(0, len(text), STRETCH):  # of a long text, no whole copy as bytes
        try:
            text[i:i + STRETCH].encode("utf-8")
        except UnicodeEncodeError as error:
            at = i + error.start
            raise ValueError(f"text[{at}] is a lone surrogate {text[at]!r}: read the file as UTF-8") from None
