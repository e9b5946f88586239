"""Retrieve, read, answer; and judge: whether to look, and what each thing that came back is worth.

A reflection is a word, yes or no, after a fixed text. Here is y, with and without a look:

    x   [USER] Where does Ada Moss live now? [ASSISTANT]
    y   look yes. [CALL] search(Ada Moss, street) [/CALL]
        [REPLY] Ada Moss, street: Elm Street (2023) [/REPLY]
        relevant yes. Ada Moss lives on Elm Street (2023). supported yes. useful yes. [END]

    y   look no. Ada Moss lives on Oak Street (2020). useful no. [END]

What it is worth is the probability of "yes" at its place, of "yes" and "no" together. F = 1 on what a curator
wrote, 0 on the passages and on what is only there to be judged. Sources: Lewis et al. 2020 (RAG: the sum over
passages); Asai et al. 2023 (Self-RAG: reflections, and the score that weighs them).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from ..batch import batch_pairs
from ..expect import expect
from ..logprob import logprobs
from ..sample import ROWS, sample
from ..sample import read as states
from ..tokenizer import Tokenizer
from .toolbox import LONGEST, ranked
from .tools import shown
from .transcript import Transcript

NOTHING = "nothing found"                       # the reply of a search without a result
LOOK, RELEVANT, SUPPORTED, USEFUL = "look", "relevant", " supported", " useful"
YES, NO = " yes", " no"
CALLED = "search({})"
WRITTEN = re.compile(r"(?:relevant (?:yes|no)\. )?(.*?)"
                     r"(?: supported (?:yes|no)\.)?(?: useful (?:yes|no)\.)?", re.DOTALL)


# --- what comes back ------------------------------------------------------------------------------


class Found(NamedTuple):
    """A document that a search gave, and its score."""

    text: str
    score: float


Retrieve = Callable[[str], list[Found]]


def retriever(documents: Sequence[str], most: int = 3) -> Retrieve:
    """A function from a query to the documents that fit it best, `most` at most, best first.

    BM25 as in `toolbox.search`, which says more, and here with the scores: what fits not at all is left out,
    and of equal scores the earlier document comes first.
    """
    find = ranked(documents, most)

    def retrieve(query: str) -> list[Found]:
        fits = isinstance(query, str) and len(query) <= LONGEST
        expect(fits, "query", shown(query), f"give a text of at most {LONGEST} characters")
        return [Found(*found) for found in find(query)]

    return retrieve


# --- what one learns from -------------------------------------------------------------------------


def demonstrate(tokenizer: Tokenizer, question: str, answer: str, *, useful: bool, look: bool | None = None,
                query: str | None = None, reply: str = "", relevant: bool = True, supported: bool = True,
                judged: bool = False) -> Transcript:
    """A transcript as a curator writes it, without a look (query None) or with one.

    look: whether one should have looked. None, or another thing than what is done here: the word after
    "look" gets F = 0, and the rest is still worth learning. judged: the answer gets F = 0 as well: it is
    there to be judged. The reply always does.
    """
    row = Transcript(tokenizer.prompt(question), stopped="end")
    looked = query is not None
    row.append(tokenizer.encode(f"{LOOK}{YES if looked else NO}."), by_model=look == looked)
    if looked:
        row.append([tokenizer.call, *tokenizer.encode(CALLED.format(query)), tokenizer.call_end], True)
        row.append(_reply(tokenizer, reply), by_model=False)
        row.append(tokenizer.encode(f"{RELEVANT}{YES if relevant else NO}."), by_model=True)
    row.append(tokenizer.encode(f" {answer}"), by_model=not judged)
    if looked:
        row.append(tokenizer.encode(f"{SUPPORTED}{YES if supported else NO}."), by_model=True)
    row.append([*tokenizer.encode(f"{USEFUL}{YES if useful else NO}."), tokenizer.end], by_model=True)
    return row


def _reply(tokenizer: Tokenizer, text: str) -> list[int]:
    return [tokenizer.reply, *tokenizer.encode(text or NOTHING), tokenizer.reply_end]


# --- reflections ----------------------------------------------------------------------------------


@torch.no_grad()
def p_yes(model, tokenizer: Tokenizer, contexts: Sequence[Sequence[int]]) -> list[float]:
    """p(yes) after each context, of yes and no together: p(yes)/(p(yes) + p(no)) (Asai et al. 2023).

    Taken at the first token in which the two words differ.
    """
    yes, no = tokenizer.encode(YES), tokenizer.encode(NO)
    same = next(i for i, (a, b) in enumerate(zip(yes, no)) if a != b)
    given = []
    for i in range(0, len(contexts), ROWS):
        rows = [[*context, *yes[:same]] for context in contexts[i:i + ROWS]]
        hidden, _ = states(model, rows, 1)                                              # (B, D)
        logits = model.logits(hidden)[:, [yes[same], no[same]]]                         # (B, 2)
        given += logits.softmax(-1)[:, 0].tolist()
    return given


def p_look(model, tokenizer: Tokenizer, questions: Sequence[str]) -> list[float]:
    """Of each question, how likely the model is to look something up."""
    return p_yes(model, tokenizer, [_looking(tokenizer, q) for q in questions])


@dataclass(frozen=True)
class Reading:
    """One answer, and what the model thinks of it.

    passage: what it was given to read, None where it was given nothing; query: what it had asked for.
    logp: of the answer's tokens together, in nats; tokens: how many they are. relevant and supported are None
    where nothing was read. cost: tokens that were written or read for it, the question apart.
    """

    answer: str
    passage: str | None
    query: str | None
    logp: float
    tokens: int
    relevant: float | None
    supported: float | None
    useful: float
    cost: int
    ended: bool = True


def recall(model, tokenizer: Tokenizer, questions: Sequence[str], room: int = 48) -> list[Reading]:
    """What the model answers, greedily, when it must not look."""
    begun = [[*_looking(tokenizer, q), *tokenizer.encode(f"{NO}.")] for q in questions]
    return _written(model, tokenizer, questions, begun, None, None, room)


def queries(model, tokenizer: Tokenizer, questions: Sequence[str], room: int = 32) -> list[str]:
    """What the model looks for, greedily, when it must look: the text between the brackets of its call."""
    begun = [[*_looking(tokenizer, q), *tokenizer.encode(f"{YES}."), tokenizer.call] for q in questions]
    found = []
    for y in _sampled(model, begun, room, (tokenizer.call_end, tokenizer.end)):
        name, _, rest = tokenizer.decode(y).partition("(")
        found.append(rest[:-1] if name == CALLED[:-4] and rest.endswith(")") else "")
    return found


def read(model, tokenizer: Tokenizer, questions: Sequence[str], asked: Sequence[str],
         passages: Sequence[str], room: int = 56) -> list[Reading]:
    """One answer to each question, greedily, after its query and one passage: lines of a reply, or "" for
    nothing found."""
    one_each = len(questions) == len(asked) == len(passages)
    expect(one_each, "passages", f"{len(passages)} for {len(questions)} questions and {len(asked)} queries",
           "give one of each")
    begun = [_read_context(tokenizer, *row) for row in zip(questions, asked, passages)]
    return _written(model, tokenizer, questions, begun, asked, passages, room)


def _looking(tokenizer: Tokenizer, question: str) -> list[int]:
    return [*tokenizer.prompt(question), *tokenizer.encode(LOOK)]


def _read_context(tokenizer: Tokenizer, question: str, query: str, passage: str) -> list[int]:
    """Everything up to the mark that ends the reply."""
    called = [tokenizer.call, *tokenizer.encode(CALLED.format(query)), tokenizer.call_end]
    return [*_looking(tokenizer, question), *tokenizer.encode(f"{YES}."), *called,
            *_reply(tokenizer, passage)]


def _sampled(model, contexts: Sequence[list[int]], room: int, end) -> list[list[int]]:
    """What the model writes after each, greedily."""
    rows = []
    for i in range(0, len(contexts), ROWS):
        some = list(contexts[i:i + ROWS])
        longest = max(map(len, some))
        expect(longest < model.config.context, "passages", f"up to {longest} tokens with their question",
               f"the context is {model.config.context}: give fewer or shorter ones")
        space = min(room, model.config.context - longest)
        rows += sample(model, some, space, temperature=0.0, end=end).responses()
    return rows


def _written(model, tokenizer: Tokenizer, questions, begun, asked, passages, room: int) -> list[Reading]:
    """The model goes on after each context, greedily; then its answers are scored, and its reflections."""
    if not begun:
        return []
    rows = _sampled(model, begun, room, tokenizer.end)
    responses = [tokenizer.read_response(row) for row in rows]
    looked = passages is not None
    places = [_places(tokenizer, context, response.text, looked)
              for context, response in zip(begun, responses)]
    relevant, pairs, supported, useful = map(list, zip(*places))
    none = [None] * len(rows)
    logp = log_p(model, pairs)
    columns = zip(p_yes(model, tokenizer, relevant) if looked else none,
                  p_yes(model, tokenizer, supported) if looked else none, p_yes(model, tokenizer, useful))
    return [Reading(answer=WRITTEN.fullmatch(responses[i].text.strip())[1],
                    passage=passages[i] if looked else None, query=asked[i] if looked else None,
                    logp=logp[i], tokens=len(pairs[i][1]), relevant=p[0], supported=p[1], useful=p[2],
                    cost=len(begun[i]) - len(tokenizer.prompt(questions[i])) + len(rows[i]),
                    ended=responses[i].ended)
            for i, p in enumerate(columns)]


def _places(tokenizer: Tokenizer, context: list[int], text: str, looked: bool):
    """Where a text is judged: the ids up to "relevant", (x, y) of its answer, the ids up to "supported" and
    those up to "useful". Each comes after what the model itself wrote before it."""
    def said(name: str) -> list[int]:
        return tokenizer.encode(f"{name}{NO if f'{name}{NO}.' in text else YES}.")

    relevant = [*context, *tokenizer.encode(RELEVANT)]
    before = [*context, *said(RELEVANT)] if looked else context
    answer = tokenizer.encode(f" {WRITTEN.fullmatch(text.strip())[1]}")
    after = [*before, *answer]
    supported = [*after, *tokenizer.encode(SUPPORTED)]
    after = [*after, *said(SUPPORTED)] if looked else after
    return relevant, (before, answer), supported, [*after, *tokenizer.encode(USEFUL)]


@torch.no_grad()
def log_p(model, pairs: Sequence[tuple[list[int], list[int]]]) -> list[float]:
    """log p(y|x) of each pair of ids, in nats."""
    given = []
    for i in range(0, len(pairs), ROWS):
        given += logprobs(model, batch_pairs(pairs[i:i + ROWS])).sum(1).tolist()
    return given


# --- one answer out of several --------------------------------------------------------------------


class Weights(NamedTuple):
    """What a reflection counts in the score; the paper's for short answers (Asai et al. 2023)."""

    relevant: float = 1.0
    supported: float = 1.0
    useful: float = 0.5


def score(reading: Reading, weights: Sequence[float] = Weights()) -> float:
    """Self-RAG's score of a passage and its answer: p(y|x, passage) + Σ w·reflection (Asai et al. 2023).

    p is that of a token, exp(log p/tokens), as in the authors' code, so that a long answer is not punished.
    A reflection that was not made counts 0.
    """
    weights = Weights(*weights)
    for name, weight in weights._asdict().items():
        expect(math.isfinite(weight), f"weights.{name}", weight, "give a finite number")
    made = zip(weights, (reading.relevant, reading.supported, reading.useful))
    return math.exp(reading.logp / reading.tokens) + sum(w * (p or 0.0) for w, p in made)


def best(readings: Sequence[Reading], weights: Sequence[float] = Weights()) -> Reading:
    """The reading with the highest score; the first of equals."""
    expect(len(readings) > 0, "readings", "empty", "give at least one")
    return max(readings, key=lambda reading: score(reading, weights))


def prior(scores: Sequence[float]) -> list[float]:
    """p(z|x) of each passage from its score: the softmax over those that were found (Lewis et al. 2020)."""
    expect(len(scores) > 0, "scores", "empty", "give at least one")
    expect(all(math.isfinite(s) for s in scores), "scores", list(scores), "give finite numbers")
    weights = [math.exp(s - max(scores)) for s in scores]
    return [w / sum(weights) for w in weights]


def marginal(passages: Sequence[float], answers: Sequence[Sequence[float]]) -> list[float]:
    """p(y|x) = Σ_z p(z|x) p(y|x, z) of each answer (Lewis et al. 2020, RAG-Sequence).

    passages (Z,): p(z|x), which sum to 1; answers (Z, Y): p(y|x, z) of every answer after every passage.
    marginal([0.5, 0.5], [[0.8, 0.1], [0.2, 0.3]]) -> [0.5, 0.2].
    """
    expect(len(passages) > 0, "passages", "empty", "give at least one")
    expect(abs(sum(passages) - 1) < 1e-6 and min(passages) >= 0, "passages", list(passages),
           "give probabilities that sum to 1")
    expect(len(answers) == len(passages), "answers", f"{len(answers)} rows for {len(passages)} passages",
           "give a row for each")
    width = {len(row) for row in answers}
    expect(len(width) == 1, "answers", f"rows of lengths {sorted(width)}", "give as many in each")
    return [sum(p * row[j] for p, row in zip(passages, answers)) for j in range(width.pop())]


def after_each(model, tokenizer: Tokenizer, question: str, query: str, passages: Sequence[str],
               answers: Sequence[str]) -> list[list[float]]:
    """p(y|x, z) of every answer after every passage, (Z, Y), for `marginal`.

    Each is the sum over both words after "relevant", so it is the chance of the answer itself.
    """
    expect(len(passages) > 0 and len(answers) > 0, "passages, answers", (len(passages), len(answers)),
           "give one of each at least")
    pairs = []
    for passage in passages:
        context = _read_context(tokenizer, question, query, passage)
        for answer in answers:
            for word in (YES, NO):
                said = tokenizer.encode(f"{RELEVANT}{word}.")
                pairs.append((context, [*said, *tokenizer.encode(f" {answer}")]))
    p = [math.exp(value) for value in log_p(model, pairs)]
    both = [a + b for a, b in zip(p[::2], p[1::2])]
    return [both[i:i + len(answers)] for i in range(0, len(both), len(answers))]


# --- all of it ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answered:
    """What was answered, p(look), whether it looked, every reading, and the tokens of all of them."""

    answer: str
    p_look: float
    looked: bool
    readings: list[Reading]
    cost: int


def answer(model, tokenizer: Tokenizer, questions: Sequence[str], retrieve: Retrieve,
           threshold: float = 0.5, *, apart: bool = False, weights: Sequence[float] = Weights(),
           ) -> list[Answered]:
    """Look where p(look) > threshold, read what comes back, answer.

    threshold: 1 never looks, and one below 0 always does. apart: each passage is read by itself, and the
    answer with the highest `score` is taken; without, all of them stand in one reply, in the search's order.
    """
    expect(not isinstance(questions, str), "questions", "one text", "give a list")
    expect(not math.isnan(threshold), "threshold", threshold, "give a number")
    chance = p_look(model, tokenizer, questions) if questions else []
    ways = [p > threshold for p in chance]
    remembered = iter(recall(model, tokenizer, [q for q, way in zip(questions, ways) if not way]))
    looking = [q for q, way in zip(questions, ways) if way]
    asked = queries(model, tokenizer, looking) if looking else []
    given = [[found.text for found in retrieve(query)] or [""] for query in asked]
    given = given if apart else [["\n".join(texts)] for texts in given]
    flat = [(q, query, text) for q, query, texts in zip(looking, asked, given) for text in texts]
    read_all = iter(read(model, tokenizer, *map(list, zip(*flat))) if flat else [])
    sizes = iter(map(len, given))
    result = []
    for p, way in zip(chance, ways):
        readings = [next(read_all) for _ in range(next(sizes))] if way else [next(remembered)]
        cost = sum(reading.cost for reading in readings)
        result.append(Answered(best(readings, weights).answer, p, way, readings, cost))
    return result


# --- what looking costs and buys ------------------------------------------------------------------


class Trade(NamedTuple):
    """share: of the questions on which one looks; right: of all questions; tokens: a question, on average."""

    share: float
    right: float
    tokens: float


def trade(chance: Sequence[float], threshold: float, without: Sequence[float], with_look: Sequence[float],
          cost_without: Sequence[float], cost_with: Sequence[float]) -> Trade:
    """What a threshold on p(look) gives, exactly, from what each question gives either way.

    chance: p(look) of each question. without, with_look: whether it is right, or the chance of it.
    trade([0.2, 0.9], 0.5, [1, 0], [1, 1], [10, 10], [50, 50]) -> (0.5, 1.0, 30.0).
    """
    columns = (chance, without, with_look, cost_without, cost_with)
    expect(len(chance) > 0, "chance", "empty", "give at least one question")
    same = len({len(column) for column in columns}) == 1
    expect(same, "chance, without, with_look, cost_without, cost_with", tuple(map(len, columns)),
           "give as many of each")
    looked = [p > threshold for p in chance]
    n = len(chance)
    return Trade(sum(looked) / n, sum(b if look else a for look, a, b in zip(looked, without, with_look)) / n,
                 sum(b if look else a for look, a, b in zip(looked, cost_without, cost_with)) / n)
