"""Reads one student's notebook, which may hold anything: of it, the source of the exercise cells is taken.

    read("submissions/ada.ipynb").cells["tilt"]         # 'def best_policy(…'
"""

from __future__ import annotations

import json
import os
import re
import stat
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

LARGEST = 10 << 20      # bytes of a notebook, figures and all
LONGEST = 200_000       # characters of one exercise's cell
DEEPEST = 40            # brackets within brackets
MOST = 300_000          # brackets
CELLS = 5_000

FIRST_LINE = re.compile(r"#\s*exercise:\s*([A-Za-z0-9][\w-]*)\s*$")
STRINGS = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.S)


class Broken(Exception):
    """Raised where a file is no notebook that can be marked: Broken(why), for the student and the teacher."""


@dataclass(frozen=True)
class Submission:
    """What is taken of a notebook: a source for each exercise that it names; warnings are for the teacher."""

    path: str
    cells: dict[str, str]
    warnings: tuple[str, ...] = ()


def read(path: str | os.PathLike, names: tuple[str, ...] = ()) -> Submission:
    """The exercise cells of a notebook; Broken with a reason where it is none.

    A cell is an exercise's if its first comment says `# exercise: NAME`; else if it bears the tag `exercise`
    and nbgrader's id is a name of names; else if it is the only one that defines that exercise's function,
    which names may give as NAME:FUNCTION. Of several for one exercise the last counts.
    """
    raw = contents(path)
    cells = code_cells(parse(raw))
    functions = dict(name.partition(":")[::2] for name in names)
    found: dict[str, str] = {}
    warnings: list[str] = []
    for cell, source in cells:
        name = named(cell, source, functions)
        if not name:
            continue
        if functions and name not in functions:
            warnings.append(f"a cell says that it is exercise {name[:60]!r}, which is none of this chapter")
            continue
        if len(source) > LONGEST:
            warnings.append(f"{name}: a cell of {len(source)} characters is left out; {LONGEST} is the most")
            continue
        if name in found and found[name] != source:
            warnings.append(f"{name}: there is more than one cell, and the last one counts")
        found[name] = source
    for name, function in functions.items():
        if name in found or not function:
            continue
        defines = re.compile(rf"^def\s+{re.escape(function)}\s*\(", re.M)
        those = [source for _, source in cells if defines.search(source) and len(source) <= LONGEST]
        if those:
            found[name] = those[-1]
            warnings.append(f"{name}: its cell has lost its first line, and was found by its function")
    if not found:
        warnings.append("no cell of an exercise was found")
    return Submission(os.fspath(path), found, tuple(warnings))


def contents(path: str | os.PathLike) -> bytes:
    """The bytes of a regular file that is no link."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(
        os, "O_CLOEXEC", 0)
    try:
        if stat.S_ISLNK(os.lstat(path).st_mode):
            raise Broken("it is a link to another file: hand in the notebook itself")
        handle = os.open(path, flags)
    except (OSError, ValueError) as error:
        raise Broken(f"it cannot be opened: {getattr(error, 'strerror', None) or error}") from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise Broken("it is no regular file: hand in the notebook itself")
    with open(handle, "rb") as file:
        raw = file.read(LARGEST + 1)
    if len(raw) > LARGEST:
        raise Broken(f"it is larger than {LARGEST >> 20} MB: clear the outputs, and hand it in again")
    return raw


def parse(raw: bytes) -> dict:
    """The notebook that these bytes are."""
    bare = STRINGS.sub(b"", raw)
    depth = deepest = brackets = 0
    for bracket in re.findall(rb"[\[\]{}]", bare):
        depth += 1 if bracket in b"[{" else -1
        deepest, brackets = max(deepest, depth), brackets + 1
        if deepest > DEEPEST or brackets > MOST:
            raise Broken("it is nested too deep, or holds too many things, for a notebook")
    try:
        found = json.loads(raw.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise Broken("it is not written in UTF-8") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise Broken(f"it is no notebook: its JSON cannot be read ({str(error)[:100]})") from None
    if not isinstance(found, dict):
        raise Broken("it is no notebook: its JSON is no object")
    return found


def code_cells(notebook: dict) -> list[tuple[dict, str]]:
    """The code cells with their sources, in order; of formats 3 and 4."""
    cells = notebook.get("cells")
    if cells is None and isinstance(notebook.get("worksheets"), list):
        sheets = [sheet for sheet in notebook["worksheets"] if isinstance(sheet, dict)]
        cells = [cell for sheet in sheets for cell in sheet.get("cells") or []] if sheets else None
    if not isinstance(cells, list):
        raise Broken("it is no notebook: it has no list of cells")
    if len(cells) > CELLS:
        raise Broken(f"it has {len(cells)} cells; {CELLS} is the most")
    found = []
    for cell in cells:
        if not isinstance(cell, dict) or cell.get("cell_type") != "code":
            continue
        source = cell.get("source", cell.get("input", ""))
        if isinstance(source, list) and all(isinstance(line, str) for line in source):
            source = "".join(source)
        if isinstance(source, str):
            found.append((cell, source.encode("utf-8", "replace").decode().replace("\r\n", "\n")))
    return found


def named(cell: dict, source: str, functions: dict[str, str]) -> str:
    """The exercise that a cell says it is, or ''."""
    for line in source.splitlines():
        line = line.strip()
        if found := FIRST_LINE.match(line):
            return found[1].lower() if found[1].lower() in functions else found[1]
        if line and not line.startswith(("#", "%")):
            break
    metadata = cell.get("metadata") if isinstance(cell.get("metadata"), dict) else {}
    tags = metadata.get("tags") if isinstance(metadata.get("tags"), list) else []
    graded = metadata.get("nbgrader") if isinstance(metadata.get("nbgrader"), dict) else {}
    name = graded.get("grade_id")
    return name if isinstance(name, str) and name in functions and ("exercise" in tags or graded) else ""


@dataclass(frozen=True)
class Master:
    """The course's own notebook of a chapter: the cells that are no exercise's, and the exercises' stubs."""

    setup: tuple[str, ...]
    stubs: dict[str, str]


@lru_cache(maxsize=None)
def master(chapter: int) -> Master:
    """The exercise notebook as it was handed out. Cells that check or show a status are left out."""
    folder = Path(__file__).resolve().parents[2] / "exercises"
    paths = sorted(folder.glob(f"{chapter:02d}_*.ipynb"))
    if len(paths) != 1:
        raise FileNotFoundError(f"chapter is {chapter}: {folder} holds {len(paths)} notebooks of that "
                                "number; there should be one")
    setup, stubs = [], {}
    for cell, source in code_cells(parse(contents(paths[0]))):
        name = named(cell, source, {})
        if name:
            stubs[name] = source
        elif not re.search(r"^(check|hint|status)\(", source, re.M):
            setup.append(source)
    return Master(tuple(setup), stubs)
