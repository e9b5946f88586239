"""The course's other tools: the town's calendar, its records, a notebook, another model, a person.

Each function here makes tools; `calculator` is one as it stands. All that a tool is asked is a text that a
model wrote, so each has a limit on how long that may be.
"""

from __future__ import annotations

import random
import re
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from functools import wraps

import numpy as np

from ..expect import expect, expect_whole
from ..sample import ask as ask_in_words
from ..tokenizer import Tokenizer
from ..worlds.town import DAYS, MONTHS, Town
from .tools import Tool, shown, within

LONGEST = 500                   # characters: no longer question or note is read
NOTES = 50                      # that a notebook holds
LENGTHS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
YEAR = sum(LENGTHS)             # the town's year is always this long
DAY_BEFORE = [sum(LENGTHS[:i]) for i in range(12)]


# --- the calendar ---------------------------------------------------------------------------------


def calendar(town: Town, today: str | None = None) -> Tool:
    """A tool that knows the town's events and counts days, days of the week and months.

    today: what the word means, such as "12 March". A year has 365 days.
    calendar(town)("12 March + 30") -> "11 April".
    """
    events = {fact.subject.lower(): fact.value for fact in town.facts if fact.relation == "date"}
    known = {} if today is None else {"today": _date(_number(today, {}, "today"))}
    dates = events | known

    def calendar(date: str) -> str:
        """When an event is, what is on a day, what comes some days later, how many days lie between.

        Args:
            date: such as the boat race; 12 March; 12 March + 30; Monday + 10; March + 2; 12 March to 3 May
        """
        text = " ".join(_short("date", date).split())
        first, to, second = text.partition(" to ")
        if to:
            days = (_number(second, dates) - _number(first, dates)) % YEAR
            return f"{days} day{'s' * (days != 1)}"
        form = re.fullmatch(r"(.*?) ?([+-]) ?([0-9]{1,6})(?: (?:days?|months?))?", text)
        start, step = (form[1], int(form[2] + form[3])) if form else (text, 0)
        for cycle in (DAYS, MONTHS):
            if start.capitalize() in cycle:
                return cycle[(cycle.index(start.capitalize()) + step) % len(cycle)]
        if form or text.lower() in dates:
            return _date(_number(start, dates) + step)
        day = _date(_number(text, dates))
        return ", ".join(event for event, when in events.items() if when == day) or f"nothing is on {day}"

    return calendar


def _number(text: str, dates: dict[str, str], argument: str = "date") -> int:
    """The number of a day in the year, from 0, by its date or by an event's name."""
    text = dates.get(text.strip().lower(), text.strip())
    form = re.fullmatch(r"([0-9]{1,2}) ([A-Za-z]+)", text)
    month = form[2].capitalize() if form else ""
    expect(month in MONTHS, argument, shown(text), "give one such as 12 March, or an event of the town")
    length = LENGTHS[MONTHS.index(month)]
    expect(1 <= int(form[1]) <= length, argument, shown(text), f"{month} has {length} days")
    return DAY_BEFORE[MONTHS.index(month)] + int(form[1]) - 1


def _date(number: int) -> str:
    """The date of the day of that number: 0 is 1 January, and so is 365."""
    number %= YEAR
    month = max(m for m in range(12) if DAY_BEFORE[m] <= number)
    return f"{number - DAY_BEFORE[month] + 1} {MONTHS[month]}"


# --- records --------------------------------------------------------------------------------------


def records(town: Town) -> list[str]:
    """What the town has on file, a line for each fact: "Ada Moss, job: baker"."""
    return [f"{fact.key}: {fact.value}" for fact in town.facts]


def search(documents: Sequence[str], most: int = 3) -> Tool:
    """A tool that finds the documents whose words fit a question best, `most` at most, best first.

    Scores are BM25's (Robertson et al. 1994), by the library bm25s, with k1 = 1.5 and b = 0.75. Words are
    compared as they are: no stems, no list of words to leave out, no order. So a question for the mother of
    Ada Moss also finds those whose mother she is. Of equal scores the earlier document comes first.
    """
    find = ranked(documents, most)

    def search(question: str) -> str:
        """The records that fit a question best.

        Args:
            question: words to look for, such as Ada Moss, job
        """
        return "\n".join(text for text, _ in find(_short("question", question))) or "nothing found"

    return search


def ranked(documents: Sequence[str], most: int) -> Callable[[str], list[tuple[str, float]]]:
    """What `search` does, before it is a text: a function from a question to (document, score), best first.

    A document with no word of the question is left out.
    """
    import bm25s  # a third of a second, which who does not search need not wait for

    texts = isinstance(documents, (list, tuple)) and all(isinstance(text, str) for text in documents)
    expect(texts, "documents", shown(documents), "give a list of texts")
    words = [_words(text) for text in documents]
    expect(any(words), "documents", "without a word", "give at least one text with words")
    expect_whole(1, most=most)
    index = bm25s.BM25(k1=1.5, b=0.75)
    index.index(words, show_progress=False)

    def find(question: str) -> list[tuple[str, float]]:
        asked = _words(question)
        scores = index.get_scores(asked) if asked else np.zeros(len(documents))         # (documents,)
        best = np.argsort(-scores, kind="stable")[:most]
        return [(documents[i], float(scores[i])) for i in best if scores[i] > 0]

    return find


def record(documents: Sequence[str]) -> Tool:
    """A tool that gives the value alone of one record: "Ada Moss, job: baker" gives "baker".

    documents: as `records` gives them. The best record is found by BM25 among what stands before ": ", so a
    mother is not taken for her child. An error where a word of the question is not in that record: better
    none than somebody else's.
    """
    texts = isinstance(documents, (list, tuple)) and all(isinstance(text, str) for text in documents)
    expect(texts, "documents", shown(documents), "give a list of texts")
    parts = [text.partition(": ") for text in documents]
    best, values = search([key for key, _, _ in parts], 1), {key: value for key, _, value in parts}

    def record(question: str) -> str:
        """One value from the records.

        Args:
            question: who, and what of them, such as Ada Moss, job
        """
        key = best(question)
        found = key in values and set(_words(question)) <= set(_words(key))
        expect(found, "question", shown(question), "nothing is on file under these words")
        return values[key]

    return record


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


# --- a tool that fails ----------------------------------------------------------------------------


def unreliable(tool: Tool, chance: float, seed: int, error: str = "no answer") -> Tool:
    """The same tool, of which each call fails with this chance: its reply is then "error: no answer".

    The same call fails or not for the same seed, whatever was called before it; made again it is drawn anew.
    So calls may come in any order, from several threads, and the failures are the same.
    """
    expect(isinstance(chance, (int, float)) and 0 <= chance <= 1, "chance", chance, "give one in [0, 1]")
    times: Counter = Counter()
    lock = threading.Lock()

    @wraps(tool)
    def same(*arguments, **named):
        what = f"{tool.__name__}{arguments}{sorted(named.items())}"
        with lock:
            times[what] += 1
            number = times[what]
        if random.Random(f"{seed}/{what}/{number}").random() < chance:
            raise ValueError(error)
        return tool(*arguments, **named)

    return same


# --- a notebook -----------------------------------------------------------------------------------


def notebook() -> list[Tool]:
    """Two tools, write and read, on one empty notebook. Make one for each question (see `transcript.use`)."""
    notes: list[str] = []

    def write(note: str) -> str:
        """Write a line into the notebook.

        Args:
            note: what to keep
        """
        note = _short("note", note)
        expect(len(notes) < NOTES, "notebook", f"full with {NOTES} notes", "read it")
        notes.append(" ".join(note.split()))
        return "written"

    def read() -> str:
        """Read all that was written into the notebook."""
        return "\n".join(notes) or "nothing is written yet"

    return [write, read]


# --- somebody else --------------------------------------------------------------------------------


def ask_model(model, tokenizer: Tokenizer, max_new_tokens: int = 32) -> Tool:
    """A tool that asks another model, greedily. It sees the question alone, and calls no tools itself."""
    expect_whole(1, max_new_tokens=max_new_tokens)

    @within(60)
    def ask(question: str) -> str:
        """Ask another model.

        Args:
            question: what it is asked
        """
        response, = ask_in_words(model, tokenizer, [_short("question", question)], max_new_tokens)
        return response.text

    return ask


def ask_person(answer: Callable[[str], str] = input) -> Tool:
    """A tool that shows a question to a person and waits, as long as it takes, for an answer.

    answer: how the person is asked; by default in the terminal or under the notebook's cell. Marks that
    could steer a terminal are shown as codes.
    """
    @within(float("inf"))
    def person(question: str) -> str:
        """Ask a person.

        Args:
            question: what to ask
        """
        seen = "".join(c if c.isprintable() else repr(c)[1:-1] for c in _short("question", question))
        try:
            return answer(f"A model asks: {seen}\n> ")
        except EOFError:
            raise ValueError("nobody is there to answer: go on without") from None

    return person


def _short(name: str, text: str) -> str:
    """A text that is not too long and not empty."""
    fits = isinstance(text, str) and len(text) <= LONGEST
    known = f"{len(text)} characters long" if isinstance(text, str) else shown(text)
    expect(fits, name, known, f"give a text of at most {LONGEST} characters")
    expect(text.strip() != "", name, "empty", "write something")
    return text
