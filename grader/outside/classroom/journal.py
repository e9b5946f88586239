"""The journal of a run: one line of JSON a graded submission, on disk before the next is reported.

A run that was killed goes on from it: what it holds is not graded again. Its first line is the settings.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from .plain import Refused, expect
from .records import Record, Settings, from_json, to_json

try:
    import fcntl
except ImportError:         # Windows: two runs into one folder are not noticed
    fcntl = None

FILE = "journal.jsonl"


class Journal:
    """The open journal of one run.

    header: the first line. records: id -> the record of each submission that is graded.
    """

    def __init__(self, folder: Path, header: Mapping) -> None:
        """Open the folder's journal, or begin one with this header. Another run in the folder is Refused."""
        self.path = folder / FILE
        self.records: dict[str, Record] = {}
        self.file = open(self.path, "a+b")
        if fcntl:
            try:
                fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise Refused(f"--out is {folder}: another grader is at work there. "
                              "Wait for it, or name another folder") from None
        self.file.seek(0)
        kept, whole = read_lines(self.file.read())
        self.file.truncate(whole)                       # a line that was cut short by a kill
        if not kept:
            self.header = dict(header)
            self.write(self.header)
            return
        self.header = kept[0]
        expect(self.header.get("checks") == header["checks"], "--out", folder,
               "the checks have changed since that run began. Finish it with the old ones, or use another "
               "folder; `regrade` says whose marks change")
        for name, value in header.items():
            if self.header.get(name) != value:
                raise Refused(
                    f"--out is {folder}, whose run has {said(name, self.header.get(name))}, and this "
                    f"one has {said(name, value)}: give the same, or name another folder"
                )
        for line in kept[1:]:
            if not line.get("failed"):
                self.records[line["record"]["id"]] = from_json(line["record"])

    def add(self, record: Record, seconds: float, failed: bool = False) -> None:
        """Keep one record. `failed`: the grader itself broke on it, and a resumed run tries it again."""
        self.records[record.id] = record
        self.write({"record": to_json(record), "seconds": seconds, **({"failed": True} if failed else {})})

    def write(self, line: Mapping) -> None:
        """One line, on the disk before this returns."""
        self.file.write(json.dumps(line).encode("ascii") + b"\n")
        self.file.flush()
        os.fsync(self.file.fileno())

    def close(self) -> None:
        """Let go of the file."""
        self.file.close()


def said(name: str, value: object) -> str:
    """A setting in an error's words."""
    shown = ", ".join(value) if isinstance(value, list) and value else value
    return f"{name} {shown}" if shown not in (None, [], "") else f"no {name}"


def read_lines(content: bytes) -> tuple[list[dict], int]:
    """The lines of a journal, and how many bytes of it are whole lines."""
    lines, whole = [], 0
    for line in content.splitlines(keepends=True):
        if not line.endswith(b"\n"):
            break
        try:
            lines.append(json.loads(line))
        except ValueError:
            break
        whole += len(line)
    return lines, whole


def read_header(folder: Path) -> dict | None:
    """The settings line of a folder's run, or None where no run is."""
    path = folder / FILE
    if not path.is_file():
        return None
    lines, _ = read_lines(path.read_bytes())
    expect(not lines or "checks" in lines[0], "--out", folder,
           f"its {FILE} is not of this grader: name another folder")
    return lines[0] if lines else None


def at_work(folder: Path) -> bool:
    """True if a grader writes to this folder's journal now; False where the system does not tell."""
    if fcntl is None:
        return False
    with open(folder / FILE, "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def header_of(settings: Settings, unsafe: bool, shard: tuple[int, int] | None) -> dict:
    """The first line of a journal."""
    return {**json.loads(json.dumps(asdict(settings))), "unsafe": unsafe,
            "shard": f"{shard[0]}/{shard[1]}" if shard else None}
