"""The learner's own files: a text in UTF-8, and questions with answers as JSONL. It leaves out every other format.

Each reader checks the whole file before anything else happens, and raises BadFile with the file, the place and the remedy in one line.
"""

from __future__ import annotations

import json
import os
import stat


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
    name, rows = os.fspath(path), []
    for number, line in enumerate(read_text(path).split("\n"), 1):  # not splitlines: JSON may hold U+2028 within a string
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:  # its own "line 1" would be the line's, not the file's
            raise BadFile(f"{name}: line {number} is not JSON ({error.msg}, at column {error.colno}); write one object a line") from None
        except (ValueError, RecursionError) as error:
            raise BadFile(f"{name}: line {number} is not JSON ({error}); write one object a line") from None
        if not isinstance(row, dict):
            raise BadFile(f'{name}: line {number} is not an object; write {{"question": "…", "answer": "…"}}')
        for key in ("question", "answer"):
            if key not in row:
                raise BadFile(f'{name}: line {number} has no "{key}"; write {{"question": "…", "answer": "…"}}')
            if not isinstance(row[key], str) or not row[key].strip():
                raise BadFile(f'{name}: line {number}: "{key}" is {row[key]!r:.40}; give a text that is not empty')
            try:
                row[key].encode("utf-8")
            except UnicodeEncodeError:
                raise BadFile(f'{name}: line {number}: "{key}" holds a lone surrogate (\\ud800 to \\udfff); write whole characters') from None
        rows.append((row["question"], row["answer"]))
    return rows
