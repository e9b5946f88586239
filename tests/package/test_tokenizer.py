"""The tokenizer: merges and ids equal to the library's, digits single, every text back byte for byte,
marks that no text can make.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from itertools import accumulate, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer as Library
from tokenizers import decoders, models, pre_tokenizers, trainers

from minillm import tokenizer as module
from minillm.tokenizer import (ASSISTANT, CALL, CALL_END, END, REPLY, REPLY_END, SMALLEST, SPECIALS, THINK,
                               THINK_END, USER, Tokenizer, apply_merges, learn_merges)
from minillm.worlds.sums import Sums
from minillm.worlds.town import Town

WORLD = (Town(0, people=3).corpus(random.Random(0), {"famous": 6, "known": 2, "other": 2}).documents
         + Sums(0).documents(60, random.Random(0)))
CORPORA = {"the town and its sums": WORLD,
           "ties: every pair stands once or twice": ["ab cd ef gh", "ba dc fe hg ab cd"],
           "repeated letters": ["aaaa aaa aa a aaaaa", "abababab ababab baba bbbb", "a" * 33],
           "one word": ["banana"],
           "one letter": ["a"],
           "nothing": [""],
           "many scripts": ["naïve café déjà-vu, naïve café", "你好，世界。你好，世界。",
                            "привет, мир! привет!", "🙂🙂🙃 👨‍👩‍👧 👨‍👩‍👧",
                            "नमस्ते नमस्ते", "e\u0301e\u0301 é é"],
           "white space and code": ["def f(x):\n    return x+1\n\n\ndef g(x):\n    return f(x)\n",
                                    "\t\ta  b   c \r\n\r\n d\u00a0e\u2028f "]}
SIZES = (SMALLEST, SMALLEST + 1, SMALLEST + 20, SMALLEST + 120)
LETTERS = "ab cé🙂世\n\t\r'sS7٣½²_.,<|>/\u00a0\u0301\u2028\x00\x1c\x85"
TRAINED = Tokenizer.train(WORLD, 400)


def librarys_own(texts, vocab_size):
    """What the library learns, with GPT-2's expression as it has it built in: no bound on a piece, its own
    trainer."""
    backend = Library(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    backend.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=list(SPECIALS), show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    backend.decoder = decoders.ByteLevel()
    backend.encode_special_tokens = True
    return backend


def counted_anew(chunks, count):
    """Merges the slow way, from the definition: all pairs are counted again for each merge, in every piece of
    the text."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words, merges = [list(chunk) for chunk in chunks], []
    born = {letter: i for i, letter in enumerate(letters)}
    for _ in range(count):
        pairs = Counter(pair for word in words for pair in pairwise(word))
        if not pairs:
            break
        most = max(pairs.values())
        first, second = min((pair for pair in pairs if pairs[pair] == most),
                            key=lambda pair: (born[pair[0]], born[pair[1]]))
        merges.append((first, second))
        born.setdefault(first + second, len(born))
        for word in words:
            i = 0
            while i < len(word) - 1:
                if word[i] == first and word[i + 1] == second:
                    word[i:i + 2] = [first + second]
                i += 1
    return merges


def merges_of(tokenizer):
    """The merges that the library's file holds, in order."""
    return [tuple(pair) for pair in json.loads(tokenizer.backend.to_str())["model"]["merges"]]


def library(texts, vocab_size):
    """The same tokenizer set up another way:
    one regular expression in place of two pre-tokenizers, alphabet spelled out."""
    pattern = (r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+|\p{N}|(?<!\s) (?=\p{N})|\s+(?=\p{N})| ?[^\s\p{L}\p{N}]+"
               r"|\s+(?!\S)|\s+")
    backend = Library(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(pattern), "isolated"),
         pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    backend.train_from_iterator(
        texts,
        trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=list(SPECIALS), show_progress=False,
                            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())))
    backend.encode_special_tokens = True
    return backend


# --- the algorithm, to be read, against the library -----------------------------------------------


@pytest.mark.parametrize("vocab_size", SIZES)
@pytest.mark.parametrize("texts", CORPORA.values(), ids=CORPORA)
def test_learned_merges_are_the_librarys(texts, vocab_size):
    """Same pairs in the same order, ties and repeated letters among them;
    fewer where the corpus has no more pairs."""
    tokenizer, theirs = Tokenizer.train(texts, vocab_size), librarys_own(texts, vocab_size)
    chunks = [chunk for text in texts for chunk in tokenizer.chunks(text)]
    assert learn_merges(chunks, vocab_size - SMALLEST) == merges_of(tokenizer)
    for part in ("model", "added_tokens"):
        assert json.loads(tokenizer.backend.to_str())[part] == json.loads(theirs.to_str())[part]
    assert tokenizer.vocab_size <= vocab_size


@settings(max_examples=150, deadline=None)
@given(st.lists(st.text("abc ", max_size=12), min_size=1, max_size=5), st.integers(0, 12))
def test_learned_merges_are_the_librarys_on_any_small_text(texts, count):
    """Three letters make ties and overlaps at every step, and symbols that are born in two ways."""
    tokenizer, theirs = Tokenizer.train(texts, SMALLEST + count), librarys_own(texts, SMALLEST + count)
    assert json.loads(tokenizer.backend.to_str())["model"] == json.loads(theirs.to_str())["model"]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.text("abc", max_size=20) | st.text("ab", max_size=40), max_size=8), st.integers(0, 40))
def test_learned_merges_are_those_counted_anew(chunks, count):
    """The index of pairs, kept up to date merge by merge, gives what counting everything again gives: order,
    ties, all."""
    assert learn_merges(chunks, count) == counted_anew(chunks, count)


def test_learned_merges_of_a_corpus_are_those_counted_anew():
    chunks = [chunk for text in WORLD[:150] for chunk in TRAINED.chunks(text)]
    assert learn_merges(chunks, 150) == counted_anew(chunks, 150)
    assert learn_merges(Counter(chunks), 150) == learn_merges(chunks, 150)


def test_a_merge_looks_only_at_the_words_that_hold_its_pair(monkeypatch):
    """4,000 different words, 200 merges: all words at each merge would be 800,000 joins; each word has at
    most 6 pairs.

    A word of 7 letters can be joined at most 6 times until it is one symbol, so 24,000 joins are enough. A
    word may also be looked at once for a pair that it has lost since; half as many again leaves room for
    that.
    """
    words, joins = [], 0
    rng, join = random.Random(0), module._join
    while len(words) < 4_000:
        words.append("".join(rng.choices("abcdefghijklmnop", k=7)))

    def counting(word, pair):
        nonlocal joins
        joins += 1
        return join(word, pair)

    monkeypatch.setattr(module, "_join", counting)
    learn_merges(words, 200)
    assert 0 < joins <= 36_000


@pytest.mark.parametrize("texts", CORPORA.values(), ids=CORPORA)
def test_applied_merges_are_the_librarys(texts):
    """Every chunk of every corpus, cut by merges learned on this one."""
    tokenizer = Tokenizer.train(texts, SMALLEST + 60)
    merges = merges_of(tokenizer)
    for text in (t for some in CORPORA.values() for t in some[:15]):
        for chunk in tokenizer.chunks(text):
            symbols = [tokenizer.backend.id_to_token(i) for i in encode_chunk(tokenizer, chunk)]
            assert symbols == apply_merges(chunk, merges)


def encode_chunk(tokenizer, chunk):
    """Ids of one chunk by the library's model alone, without the pre-tokenizer."""
    model = Library(models.BPE(vocab=tokenizer.backend.get_vocab(), merges=merges_of(tokenizer)))
    return model.encode(chunk).ids


def test_hand_counted_merges():
    """aab aab ab: the pairs are aa 2, ab 3, so ab comes first;
    then aab is [a, ab], twice, and a+ab is the only pair left."""
    assert learn_merges(["aab", "aab", "ab"], 5) == [("a", "b"), ("a", "ab")]
    assert apply_merges("aabab", [("a", "b"), ("a", "ab")]) == ["aab", "ab"]


def test_a_tie_goes_to_the_older_symbols():
    """xy and ab both stand once: a is the older letter. Then xy, and no third pair is there."""
    assert learn_merges(["xy", "ab"], 9) == [("a", "b"), ("x", "y")]


def test_overlapping_pairs_join_from_the_left():
    """aaa with the merge (a, a) is [aa, a]; aaaa is [aa, aa]."""
    assert apply_merges("aaa", [("a", "a")]) == ["aa", "a"]
    assert apply_merges("aaaa", [("a", "a")]) == ["aa", "aa"]


# --- the tokenizer against another set-up of the library ------------------------------------------


@pytest.mark.parametrize("texts", CORPORA.values(), ids=CORPORA)
def test_ids_are_those_of_a_library_tokenizer_set_up_another_way(texts):
    """Same merges, and the same ids on every corpus's texts."""
    ours, theirs = Tokenizer.train(texts, SMALLEST + 60), library(texts, SMALLEST + 60)
    assert merges_of(ours) == [tuple(pair) for pair in json.loads(theirs.to_str())["model"]["merges"]]
    assert ours.backend.get_vocab() == theirs.get_vocab()
    for text in (t for some in CORPORA.values() for t in some[:15]):
        assert ours.encode(text) == theirs.encode(text, add_special_tokens=False).ids


OTHER = library(WORLD, 400)


@settings(max_examples=200, deadline=None)
@given(st.text(LETTERS, max_size=40) | st.text(max_size=40))
def test_ids_are_the_other_set_ups_on_any_text(text):
    """Contractions, digits of any script, white space of every kind, marks that look like special tokens."""
    assert TRAINED.encode(text) == OTHER.encode(text, add_special_tokens=False).ids


def test_all_special_tokens_come_first_in_the_order_of_their_names():
    assert [TRAINED.backend.id_to_token(i) for i in range(9)] == list(SPECIALS)
    assert (END, USER, ASSISTANT, THINK, THINK_END, CALL, CALL_END, REPLY, REPLY_END) == tuple(range(9))
    assert SPECIALS[END] == "<|end|>"
    assert SPECIALS[THINK_END] == "<|/think|>"
    assert SPECIALS[REPLY] == "<|reply|>"
    assert SMALLEST == 265 and TRAINED.vocab_size == 400


# --- any text -------------------------------------------------------------------------------------


ODD = ["", "\x00", "a\x00b", "\r\n", "a\r\nb\rc\n", "🙂", "👩🏽‍🚀👨‍👩‍👧‍👦🏴󠁧󠁢󠁳󠁣󠁴󠁿", "e\u0301\u0323 o\u0308",
       "\ufeffbom", "\u2028\u2029\u0085", "  lead and trail  ", "\n\n\n", "<|end|>", "<|think|>7<|/think|>",
       "\U0010ffff\uffff\ufffd", "ไทย 漢字 한국어 עברית العربية", "½²③٣", "".join(map(chr, range(256)))]


@pytest.mark.parametrize("text", ODD, ids=ascii)
def test_odd_texts_come_back(text):
    assert TRAINED.decode(TRAINED.encode(text)) == text
    assert TRAINED.encode_all([text]) == [TRAINED.encode(text)]


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60) | st.text(LETTERS, max_size=60))
def test_every_text_comes_back(text):
    assert TRAINED.decode(TRAINED.encode(text)) == text


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(SPECIALS) | st.text(LETTERS, max_size=5), max_size=8).map("".join))
def test_no_text_makes_a_special_token(text):
    """Ids 0 to 8 are the marks: no text gives one, and the text comes back, with the marks shown or not."""
    ids = TRAINED.encode(text)
    assert min(ids, default=9) >= 9 and min(TRAINED.encode_all([text])[0], default=9) >= 9
    assert TRAINED.decode(ids) == TRAINED.decode(ids, specials=True) == text


def test_a_corpus_full_of_marks_teaches_no_mark():
    """Trained on nothing but "<|end|>", the tokenizer still spells it in plain symbols;
    after save and load too."""
    tokenizer = Tokenizer.train(["<|end|> <|end|><|user|>"] * 50, 300)
    assert min(tokenizer.encode("<|end|><|user|> <|end|>")) >= 9


def test_the_mark_for_the_end_is_hidden_unless_asked_for():
    ids = [USER, *TRAINED.encode("hi"), END]
    assert TRAINED.decode(ids) == "hi"
    assert TRAINED.decode(ids, specials=True) == "<|user|>hi<|end|>"


@settings(max_examples=100, deadline=None)
@given(st.text("0123456789+=. ab\n", max_size=30))
def test_digits_are_always_single(text):
    """No token holds two digits, or a digit and anything else: "7+38" has four ids."""
    for i in TRAINED.encode(text):
        token = TRAINED.backend.id_to_token(i)
        assert len(token) == 1 or not any(c.isdigit() for c in token)


def test_digits_are_single_in_a_corpus_of_one_number():
    tokenizer = Tokenizer.train(["1991 1991 1991 costs 1991"] * 100, 300)
    assert len(tokenizer.encode("1991")) == 4 and len(tokenizer.encode("7+38")) == 4


def test_bytes_that_are_no_text_become_the_replacement_character():
    """The first of the two bytes of é alone: U+FFFD, and no error."""
    first = TRAINED.backend.token_to_id("Ã")
    assert TRAINED.decode([first]) == "\ufffd"
    assert TRAINED.decode([first, TRAINED.backend.token_to_id("©")]) == "é"


# --- long texts are encoded in pieces -------------------------------------------------------------


PARTS = [" the", " a", "\nHe", "  two", " \nx", "'s", "don't", "7", " 7", "é", " é", "世界", " 世", "\n\n",
         "\t", "\u00a0", " \u0301a", ".", " .", "\x1c", "\x1cb", "\u2028c", "<|end|>", " <|", "\r\n", "🙂",
         " 🙂", "ⅷ", "ª", " ª", "ʰ", " ʰ"]
# Merges across runs of white space, so that a run that is cut in two shows in the ids.
SPACED = Tokenizer.train(["".join(random.Random(i).choices([*PARTS, " ", "\n"], k=300)) for i in range(30)],
                         700)

OLDER = Tokenizer(librarys_own(
    ["".join(random.Random(i).choices([*PARTS, " ", "\n"], k=300)) for i in range(30)], 700))
MORE = [*PARTS, "'", "l", "'ll", " ", "\x1c", "abcdefgh", "世界你好", "    ", "----", *SPECIALS]
ANY = st.lists(st.sampled_from(MORE), max_size=40).map("".join) | st.text(LETTERS, max_size=60)


def whole(tokenizer, text):
    """Ids by the library alone, in one piece."""
    return tokenizer.backend.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("tokenizer", [SPACED, OLDER], ids=["bounded pieces", "a file without a bound"])
@settings(max_examples=400, deadline=None)
@given(ANY, st.integers(1, 9))
def test_stretches_give_the_ids_of_the_whole(tokenizer, text, size):
    """With stretches of a few characters the cuts fall everywhere that they are allowed to: no id may
    differ."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "STRETCH", size)
        assert tokenizer.encode(text) == whole(tokenizer, text)


@settings(max_examples=400, deadline=None)
@given(ANY, st.integers(1, 9), st.lists(st.integers(0, 6), min_size=1, max_size=30))
def test_chunks_give_the_ids_of_the_joined_text(text, size, widths):
    """Borders anywhere: within a word, a mark, é spelled as two characters; empty chunks; one chunk a
    character."""
    ends = [0, *accumulate(widths), len(text)]
    chunks = [text[a:b] for a, b in pairwise(ends)] if ends[-2] <= len(text) else list(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "STRETCH", size)
        patch.setattr(module, "BATCH", 2)
        assert "".join(chunks) == text
        assert list(SPACED.encode_iterable(iter(chunks))) == whole(SPACED, text)


@settings(max_examples=150, deadline=None)
@given(st.lists(ANY, max_size=4), st.integers(1, 9), st.integers(1, 4))
def test_merges_of_a_text_in_chunks_are_those_of_the_joined_text(texts, size, width):
    """Counted a few characters at a time, and by words; the library counts the pieces of each whole text."""
    text = "".join(texts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "STRETCH", size)
        patch.setattr(module, "READ", 10)
        in_chunks = Tokenizer.train((text[i:i + width] for i in range(0, len(text), width)), 290, joined=True)
        apart = Tokenizer.train(iter(texts), 290)
    assert merges_of(in_chunks) == merges_of(Tokenizer(librarys_own([text], 290)))
    assert merges_of(apart) == merges_of(Tokenizer(librarys_own(texts, 290)))


def test_a_chunk_that_is_no_text_is_told_when_it_comes():
    ids = TRAINED.encode_iterable(["good", b"bad"])
    with pytest.raises(ValueError, match="text is bytes"):
        list(ids)
    with pytest.raises(ValueError, match=r"text\[1\] is a lone surrogate"):
        list(TRAINED.encode_iterable(["a\ud800"]))


def test_the_first_ids_come_before_the_last_chunk_is_read():
    """An endless text has a first id: nothing waits for the end of the iterable."""
    ids = TRAINED.encode_iterable(" the baker" for _ in iter(int, 1))
    assert [next(ids) for _ in range(50)] == TRAINED.encode(" the baker" * 100)[:50]


def test_a_tokenizer_from_elsewhere_is_given_the_joined_text():
    """One that writes a sign before a text writes it once, not once a chunk."""
    backend = Library(models.BPE(vocab={"▁": 0, "a": 1, "b": 2}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    elsewhere = Tokenizer(backend)
    assert list(elsewhere.encode_iterable(["a", "b", "a"])) == elsewhere.encode("aba") == [0, 1, 2, 1]


def test_stretches_at_their_real_size():
    """The world's corpus in one string: more than one stretch, none too long, the same ids, the text comes
    back."""
    text = "\n".join(WORLD * 3)
    stretches = list(module._stretches([text], TRAINED.backend.pre_tokenizer))
    assert len(stretches) >= 3 and max(map(len, stretches)) <= module.STRETCH + 100
    assert "".join(stretches) == text
    assert TRAINED.encode(text) == whole(TRAINED, text)
    assert TRAINED.decode(TRAINED.encode(text)) == text


LONG = ["漢字" * 20_000, "a" * 50_000, " " * 50_000, "-" * 50_000, "กขฃ" * 15_000, "漢字9" * 10_000]


@pytest.mark.parametrize("text", LONG, ids=range(6))
def test_a_long_text_without_a_space_is_cut_too(text):
    """Every stretch but the last is a stretch's length, less a piece (LONGEST and a space before it) and two
    characters."""
    for tokenizer in (TRAINED, OLDER):
        assert tokenizer.encode(text) == whole(tokenizer, text)
        assert tokenizer.decode(tokenizer.encode(text)) == text
    lengths = list(map(len, module._stretches([text], TRAINED.backend.pre_tokenizer)))
    assert module.STRETCH - 2 * module.LONGEST - 4 <= min(lengths[:-1])
    assert max(lengths) <= module.STRETCH + 300


# --- pieces have an end -------------------------------------------------------------------------------------


@pytest.mark.parametrize("text, lengths", [
    ("a" * 600, [256, 256, 88]), (" " + "a" * 257, [257, 1]), ("世" * 300, [256 * 3, 44 * 3]),
    ("." * 300, [256, 44]), ("\n" * 300, [256, 44]),
    (" " * 300 + "b", [256, 43, 2]), (" " * 256 + "b", [255, 2])],
    ids=lambda value: ascii(value)[:12])
def test_a_piece_has_at_most_256_letters(text, lengths):
    """By hand: runs are cut at 256 from where they begin; a word keeps the space before it. Lengths in
    bytes."""
    assert list(map(len, TRAINED.chunks(text))) == lengths


def test_the_bound_changes_nothing_where_no_run_is_longer():
    """Words of up to 256 letters: the pieces of the library's own expression, which has no bound."""
    free = librarys_own(["a"], 270).pre_tokenizer
    words = ["a" * n for n in (1, 79, 189, 256)]
    text = " ".join([*words, "'s don't we'll." + "\n" * 250 + "x", "." * 256, "你好" * 128, *WORLD[:50]])
    assert TRAINED.chunks(text) == [piece for piece, _ in free.pre_tokenize_str(text)]


def test_rare_pieces_are_forgotten_when_there_are_too_many(monkeypatch):
    """1,000 letters at most; 3,000 words of six letters, nearly all different, do not crowd out the one that
    stands between them all. Its letters are in no other word, so its pairs are the commonest: 3,000 each."""
    monkeypatch.setattr(module, "TABLE", 1_000)
    monkeypatch.setattr(module, "STRETCH", 200)
    monkeypatch.setattr(module, "READ", 500)
    rng = random.Random(0)
    rare = ["".join(rng.choices("qrstuvwxyz", k=5)) for _ in range(3_000)]
    text = "".join(f" {word} ab" for word in rare)
    counts = module._count_pieces([[text]], TRAINED.backend.pre_tokenizer, False)
    assert counts["Ġab"] == 3_000 and sum(counts.values()) < 4_000  # the rest is forgotten
    assert sum(map(len, counts)) <= 1_000 and len(counts) > 80
    assert merges_of(Tokenizer.train(text, SMALLEST + 2)) == [("a", "b"), ("Ġ", "ab")]


# --- files, prompts, responses --------------------------------------------------------------------


def test_saved_and_loaded_is_the_same_tokenizer(tmp_path):
    TRAINED.save(tmp_path / "tokenizer.json")
    loaded = Tokenizer.load(tmp_path / "tokenizer.json")
    assert loaded.backend.get_vocab() == TRAINED.backend.get_vocab()
    for text in [*ODD, *WORLD[:20]]:
        assert loaded.encode(text) == TRAINED.encode(text) and loaded.decode(loaded.encode(text)) == text


def test_the_file_is_the_librarys_own(tmp_path):
    """The library alone reads it: every mark is an added token that it, too, calls special."""
    TRAINED.save(tmp_path / "tokenizer.json")
    added = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))["added_tokens"]
    marks = [(t["id"], t["content"], t["special"]) for t in added]
    assert marks == [(i, s, True) for i, s in enumerate(SPECIALS)]
    theirs = Library.from_file(str(tmp_path / "tokenizer.json"))
    assert theirs.encode("the baker").ids == TRAINED.encode("the baker")


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=30), st.none() | st.text(max_size=30))
def test_read_response_undoes_response(text, thought):
    """Any text, any thought or none: both come back, and it ended."""
    assert TRAINED.read_response(TRAINED.response(text, thought)) == (text, thought, True)


def test_a_response_ends_in_the_end_token_and_a_prompt_in_the_assistants_mark():
    """[USER] … [ASSISTANT] and [THINK] … [/THINK] … [END], by hand."""
    hi, yes = TRAINED.encode("hi"), TRAINED.encode("yes")
    assert TRAINED.prompt("hi") == [1, *hi, 2]
    assert TRAINED.response("yes") == [*yes, 0]
    assert TRAINED.response("yes", "hi") == [3, *hi, 4, *yes, 0]


def test_what_a_model_may_write_is_read_as_it_stands():
    """No end; nothing; a thought that is never closed; a thought that ends it all; text after the end;
    marks in the middle."""
    hi, yes = TRAINED.encode("hi"), TRAINED.encode("yes")
    read = TRAINED.read_response
    assert read(yes) == ("yes", None, False)
    assert read([]) == ("", None, False) and read([END]) == ("", None, True)
    assert read([THINK, *hi]) == ("", "hi", False)
    assert read([THINK, *hi, END, THINK_END, *yes]) == ("", "hi", True)
    assert read([*yes, END, *hi, END]) == ("yes", None, True)
    assert read([*yes, THINK, *hi, THINK_END, END]) == ("yes<|think|>hi<|/think|>", None, True)
    assert read([THINK, THINK_END, *yes, END]) == ("yes", "", True)
    twice = [THINK, *hi, THINK_END, THINK, *hi, THINK_END, *yes, END]
    assert read(twice) == ("<|think|>hi<|/think|>yes", "hi", True)


def test_two_trainings_on_one_corpus_are_one_tokenizer():
    assert Tokenizer.train(WORLD, 400).backend.to_str() == TRAINED.backend.to_str()
    assert Tokenizer.train("\n".join(WORLD), 300).vocab_size == 300  # one str is one text
