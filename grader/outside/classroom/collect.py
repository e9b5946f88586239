"""Finds the submissions of a class: one for each folder or file, whatever it holds. Opens none of them."""

from __future__ import annotations

import hashlib
import os
import stat
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from .plain import expect, name_of, plain

DEEPEST = 4         # folders below a submission's own that are looked into
MOST = 2000         # entries of one submission that are looked at
NOT_THEIRS = {".ipynb_checkpoints", "__MACOSX", "__pycache__"}


@dataclass(frozen=True)
class Found:
    """One submission: its name, its notebook, or why there is none to be read."""

    id: str
    path: Path | None
    trouble: str = ""


def collect(places: Sequence[Path], wanted: str) -> list[Found]:
    """The submissions in these folders, and these notebooks themselves, in the order of their ids.

    wanted is the file name of the chapter's exercises: it is chosen where a student hands in several
    notebooks. Links are not followed. Names that begin with a dot are left out.
    """
    found = []
    for place in places:
        expect(os.path.lexists(place), "SUBMISSIONS", place, "name a folder that exists, or a notebook")
        if is_folder(place):
            for entry in sorted(os.scandir(place), key=lambda entry: os.fsencode(entry.name)):
                if not entry.name.startswith(".") and entry.name not in NOT_THEIRS:
                    found.append(look(Path(entry.path), wanted))
        else:
            found.append(look(place, wanted))
    expect(found, "SUBMISSIONS", ", ".join(map(str, places)),
           "no submission is in it. Each student's is a folder or an .ipynb file in the folder that you name")
    return sorted(told_apart(found), key=lambda f: f.id)


def look(path: Path, wanted: str) -> Found:
    """One submission: a notebook, or a folder with one in it."""
    name = name_of(path)
    try:
        kind = os.lstat(path).st_mode
    except OSError as error:
        return Found(name, None, f"cannot be read: {error.strerror}")
    if stat.S_ISLNK(kind):
        return Found(name, None, "a link, which is not followed: hand in the file itself")
    if stat.S_ISDIR(kind):
        return in_folder(path, wanted)
    if not stat.S_ISREG(kind):
        return Found(name, None, "neither a file nor a folder")
    if not name.lower().endswith(".ipynb"):
        return Found(name, None, "not a notebook: an .ipynb file is wanted, or a folder that holds one")
    return Found(name[:-6] or name, path)


def in_folder(folder: Path, wanted: str) -> Found:
    """The notebook of a student's folder or below it: the one named as the chapter's, or the only one."""
    name, notebooks, seen = name_of(folder), [], 0
    left = [(folder, 0)]
    while left:
        here, depth = left.pop()
        try:
            entries = sorted(os.scandir(here), key=lambda entry: os.fsencode(entry.name))
        except OSError as error:
            return Found(name, None, f"a folder in it cannot be read: {error.strerror}")
        for entry in entries:
            seen += 1
            if seen > MOST:
                return Found(name, None, f"more than {MOST} files: hand in the notebook alone")
            if entry.is_symlink() or entry.name.startswith(".") or entry.name in NOT_THEIRS:
                continue
            if entry.is_dir(follow_symlinks=False) and depth < DEEPEST:
                left.append((Path(entry.path), depth + 1))
            elif entry.is_file(follow_symlinks=False) and entry.name.lower().endswith(".ipynb"):
                notebooks.append(Path(entry.path))
    named = [path for path in notebooks if path.name == wanted]
    for choice in (named, notebooks):
        if len(choice) == 1:
            return Found(name, choice[0])
    if not notebooks:
        return Found(name, None, "no notebook is in it: an .ipynb file is wanted. Links are not followed")
    several = ", ".join(sorted(plain(path.name) for path in notebooks)[:4])
    return Found(
        name, None, f"{len(notebooks)} notebooks are in it ({several}): hand in one, or name one {wanted}"
    )


def told_apart(found: Iterable[Found]) -> list[Found]:
    """The same, with ids that differ: those that share one get their file's whole name, then a number."""
    found = list(found)
    ids = Counter(f.id for f in found)
    found = [replace(f, id=name_of(f.path)) if ids[f.id] > 1 and f.path and f.path.suffix and
             name_of(f.path)[:-6] == f.id else f for f in found]
    times: Counter[str] = Counter()
    apart = []
    for f in found:
        times[f.id] += 1
        apart.append(f if times[f.id] == 1 else replace(f, id=f"{f.id} ({times[f.id]})"))
    return apart if len({f.id for f in apart}) == len(apart) else told_apart(apart)


def is_folder(path: Path) -> bool:
    """True for a folder, and for a link to one that the teacher named."""
    return os.path.isdir(path)


def class_digest(ids: Iterable[str]) -> str:
    """What tells one class list from another: the digest of all ids."""
    digest = hashlib.sha256()
    for each in sorted(ids):
        digest.update(each.encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()


def in_shard(submission: str, shard: tuple[int, int] | None) -> bool:
    """True if shard i of n grades this submission. It hangs on the id alone, so that no list has to agree."""
    if shard is None:
        return True
    i, n = shard
    return (
        int.from_bytes(hashlib.sha256(submission.encode("utf-8", "surrogatepass")).digest()[:8], "big") % n
        == i - 1
    )
