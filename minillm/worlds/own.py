"""The learner's own files: a text in UTF-8; questions with answers, and preferences, as JSONL. It leaves out every other format.

Each reader checks the whole file before anything else happens, and raises BadFile with the file, the place and the remedy in one line.
"""

from __future__ import annotations

import json
import os
import stat

from tqdm.auto import tqdm

# Beyond them no journey could use the rows, and reading takes longer, and more memory, than one waits for.
MOST_BYTES, MOST_LINES, LONGEST_LINE, MOST_BAD = 64_000_000, 1_000_000, 100_000, 1_000

class BadFile(ValueError):
    """A file that cannot be used. The message is one line: the file, the place, what is wrong, what to do."""


def read_text(path: str | os.PathLike) -> str:
    """The text of a UTF-8 file, any language, a byte-order mark left out. BadFile if missing, empty or not UTF-8."""
    name = os.fspath(path)
    try:
        if not stat.S_ISREG(os.stat(name).st_mode) and not os.path.isdir(name):
            raise BadFile(f"{name}: this is a device or a pipe; give the path of a text file")
        with open(name, "rb") as file:
            data = file.read()
    except BadFile:
        raise
    except FileNotFoundError:
        raise BadFile(f"{name}: there is no such file; give the path of a text file") from None
    except IsADirectoryError:
        raise BadFile(f"{name}: this is a folder; give the path of a text file") from None
    except (OSError, ValueError) as error:
        raise BadFile(f"{name}: cannot be read ({getattr(error, 'strerror', None) or error}); give a file that you may read") from None
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadFile(f"{name}: byte {error.start} (0x{data[error.start]:02x}) is not UTF-8; save the file as UTF-8") from None
    text = text.removeprefix("\ufeff")
    if not text.strip():
        raise BadFile(f"{name}: the file is empty; give a file with text in it")
    return text


def read_questions(path: str | os.PathLike) -> list[tuple[str, str]]:
    """[(question, answer), …] from JSONL, one object with the strings "question" and "answer" a line; blank lines are skipped.

    BadFile, with the line's number counted from 1, for bad JSON, a missing key, or a value that is no text. No row is dropped.
    """
    return [texts for _, texts in _rows(path, ("question", "answer"))]


def read_preferences(path: str | os.PathLike) -> list[tuple[str, str, str]]:
    """[(prompt, chosen, rejected), …] from JSONL, as `read_questions`. A row whose two answers are the same prefers nothing: BadFile too."""
    name, rows, same = os.fspath(path), [], []
    for number, texts in _rows(path, ("prompt", "chosen", "rejected")):
        rows.append(texts)
        if texts[1] == texts[2]:
            same.append(number)
    if same:
        raise BadFile(f'{name}: "chosen" and "rejected" are the same on {_lines(same)}, so nothing is preferred; mend or remove them')
    return rows


def _rows(path: str | os.PathLike, keys: tuple[str, ...]) -> list[tuple[int, tuple[str, ...]]]:
    """[(line number, the texts of these keys), …]. BadFile says what is wrong with the first bad line, and where the others are."""
    name, rows, bad, first = os.fspath(path), [], [], ""
    _expect_at_most(MOST_BYTES / 1e6, _size(name) / 1e6, name, "MB")
    text = read_text(path)
    _expect_at_most(MOST_LINES, text.count("\n"), name, "lines")
    lines = text.split("\n")  # not splitlines: JSON may hold U+2028 within a string
    bar = tqdm(lines, desc=f"reading {os.path.basename(name)}", delay=2, disable=None, leave=False)
    for number, line in enumerate(bar, 1):
        if line.strip():
            row, wrong = _row(line, keys)
            rows.append((number, row))
            if wrong:
                first = first or wrong
                bad.append(number)
        if len(bad) == MOST_BAD:
            break
    if bad:
        others = f" (and {_lines(bad[1:])})" if bad[1:] else ""
        raise BadFile(f"{name}: line {bad[0]}{first}{others}")
    return rows


def _size(name: str) -> int:
    try:
        return os.stat(name).st_size
    except (OSError, ValueError):
        return 0  # `read_text` says what is wrong with it


def _expect_at_most(most: float, number: float, name: str, unit: str) -> None:
    if number > most:
        raise BadFile(f"{name}: {number:,.0f} {unit}, and {most:,.0f} can be read; give fewer rows")


def _row(line: str, keys: tuple[str, ...]) -> tuple[tuple[str, ...], str]:
    """(its texts, "") or ((), what is wrong with it)."""
    form = "{" + ", ".join(f'"{key}": "…"' for key in keys) + "}"
    twice = []

    def once(pairs: list[tuple]) -> dict:
        """json's own way is that the last of two same keys wins, in silence."""
        row: dict = {}
        for key, value in pairs:
            twice.extend([key] if key in row else [])
            row[key] = value
        return row

    if len(line) > LONGEST_LINE:
        return (), f" is {len(line):,} characters long; a row has at most {LONGEST_LINE:,}"
    try:
        row = json.loads(line, object_pairs_hook=once)
    except json.JSONDecodeError as error:  # its own "line 1" would be the line's, not the file's
        return (), f" is not JSON ({error.msg}, at column {error.colno}); write one object a line"
    except (ValueError, RecursionError) as error:
        return (), f" is not JSON ({error}); write one object a line"
    if twice:
        return (), f" has the key {twice[0]!r:.40} twice; write it once"
    if not isinstance(row, dict):
        return (), f" is not an object; write {form}"
    for key in keys:
        if key not in row:
            return (), f' has no "{key}"; write {form}'
        if not isinstance(row[key], str) or not row[key].strip():
            return (), f': "{key}" is {row[key]!r:.40}; give a text that is not empty'
        try:
            row[key].encode("utf-8")
        except UnicodeEncodeError:
            return (), f': "{key}" holds a lone surrogate (\\ud800 to \\udfff); write whole characters'
    return tuple(row[key] for key in keys), ""


def _lines(numbers: list[int], most: int = 12) -> str:
    """"line 3", "lines 3, 7", and no more than a dozen of them."""
    return ("line " if len(numbers) == 1 else "lines ") + ", ".join(map(str, numbers[:most])) + (f" and {len(numbers) - most} more" if len(numbers) > most else "")
