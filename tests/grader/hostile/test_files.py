"""Files that a class hands in: each is read for its exercise cells, or Broken with a reason; nothing else."""

from __future__ import annotations

import json
import os
import socket

import pytest

from classroom import CHAPTER, EXERCISES, HONEST, notebook, written
from grader.outside.mark import names
from grader.outside.submission import DEEPEST, LARGEST, Broken, master, read

SOURCES = [f"# exercise: {name}\n{source.partition(chr(10))[2]}" for name, source in HONEST.items()]


def broken(path):
    """Why a file is broken."""
    with pytest.raises(Broken) as error:
        read(path, names(CHAPTER))
    return str(error.value)


def taken(path):
    """The cells and the warnings of a file."""
    found = read(path, names(CHAPTER))
    return found.cells, found.warnings


def test_an_honest_notebook(tmp_path):
    assert taken(written(tmp_path / "a.ipynb", SOURCES)) == (dict(zip(HONEST, SOURCES)), ())


RAW = {
    "nothing": (b"", "JSON cannot be read"),
    "no JSON": (b"hello", "JSON cannot be read"),
    "half a notebook": (json.dumps(notebook(SOURCES)).encode()[:-20], "JSON cannot be read"),
    "no object": (b"[1, 2]", "no object"),
    "a number": (b"1" * 100000, "JSON cannot be read"),
    "null": (b"null", "no object"),
    "no cells": (b'{"nbformat": 4}', "no list of cells"),
    "cells that are a dict": (b'{"cells": {"a": 1}}', "no list of cells"),
    "cells that are a text": (b'{"cells": "code"}', "no list of cells"),
    "format 2": (b'{"nbformat": 2, "worksheets": []}', "no list of cells"),
    "ten thousand cells": (json.dumps(notebook(["x"] * 10000)).encode(), "cells"),
    "invalid UTF-8": (b'{"cells": ["\xff\xfe"]}', "UTF-8"),
    "UTF-16": ('{"cells": []}'.encode("utf-16"), "UTF-8"),
    "zero bytes": (bytes(1000), "JSON cannot be read"),
    "brackets a million deep": (b"[" * 10 ** 6, "too deep"),
    "objects too deep": (b'{"a":' * (DEEPEST + 1) + b"1" + b"}" * (DEEPEST + 1), "too deep"),
    "a million lists": (b'{"cells": [' + b"[]," * 10 ** 6 + b"[]]}", "too many"),
    "too large": (b'{"cells": ["' + b"x" * LARGEST + b'"]}', "larger than"),
    "a pickle": (b"\x80\x04\x95cos\nsystem\n(S'true'\ntR.", "UTF-8"),
    "a zip": (b"PK\x03\x04" + bytes(100), "JSON cannot be read"),
    "a text without end": (b'{"cells": ["' + b"\\\\" * 10 ** 6, "JSON cannot be read"),
}


@pytest.mark.parametrize("name", RAW)
def test_a_file_that_is_no_notebook_is_broken(name, tmp_path):
    raw, why = RAW[name]
    (tmp_path / "a.ipynb").write_bytes(raw)
    assert why in broken(tmp_path / "a.ipynb")


def test_links_pipes_sockets_and_devices_are_not_opened(tmp_path):
    good = written(tmp_path / "good.ipynb", SOURCES)
    (tmp_path / "link.ipynb").symlink_to(good)
    (tmp_path / "dangling.ipynb").symlink_to(tmp_path / "nowhere")
    (tmp_path / "circle.ipynb").symlink_to(tmp_path / "circle.ipynb")
    for name in ("link", "dangling", "circle"):
        assert "a link" in broken(tmp_path / f"{name}.ipynb")
    os.mkfifo(tmp_path / "pipe.ipynb")
    assert "no regular file" in broken(tmp_path / "pipe.ipynb")
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(os.path.relpath(tmp_path / "socket.ipynb"))
        assert "cannot be opened" in broken(tmp_path / "socket.ipynb")
    (tmp_path / "folder.ipynb").mkdir()
    assert "no regular file" in broken(tmp_path / "folder.ipynb")
    assert "no regular file" in broken("/dev/zero")
    assert "cannot be opened" in broken(tmp_path / "missing.ipynb")
    assert "cannot be opened" in broken(str(tmp_path / "a\0b"))


CELLS = {
    "text for source": [{"cell_type": "code", "source": SOURCES[0]}],
    "lines for source": [{"cell_type": "code", "source": SOURCES[0].splitlines(True)}],
    "no metadata": [{"cell_type": "code", "metadata": None, "source": SOURCES[0]}],
    "metadata of all kinds": [{"cell_type": "code", "metadata": [1], "source": SOURCES[0]}],
    "tags of all kinds": [{"cell_type": "code", "metadata": {"tags": 7, "nbgrader": "x"},
                           "source": SOURCES[0]}],
    "Windows' ends of lines": [{"cell_type": "code", "source": SOURCES[0].replace("\n", "\r\n")}],
    "blank lines and magics first": [{"cell_type": "code",
                                      "source": "%%time\n\n# mine\n" + SOURCES[0]}],
    "cells that are none": [None, 7, "code", [], {}, {"cell_type": "code"},
                            {"cell_type": "code", "source": 7},
                            {"cell_type": "code", "source": ["a", 7]},
                            {"cell_type": "code", "source": {"a": 1}},
                            {"cell_type": ["code"], "source": "x"},
                            {"cell_type": "code", "source": SOURCES[0]}],
    "a name in capitals": [{"cell_type": "code", "source": SOURCES[0].replace("tilt", "Tilt", 1)}],
}


@pytest.mark.parametrize("name", CELLS)
def test_a_cell_is_found_however_it_is_kept(name, tmp_path):
    path = tmp_path / "a.ipynb"
    path.write_text(json.dumps({"nbformat": 4, "cells": CELLS[name]}))
    cells, _ = taken(path)
    assert list(cells) == ["tilt"] and "def best_policy" in cells["tilt"] and "\r" not in cells["tilt"]


def test_formats_kernels_and_marks(tmp_path):
    """Format 3, another kernel, a byte-order mark, lone surrogates: read all the same."""
    old = {"nbformat": 3, "worksheets": [{"cells": [{"cell_type": "code", "input": s} for s in SOURCES]}]}
    path = tmp_path / "a.ipynb"
    path.write_text(json.dumps(old))
    assert list(taken(path)[0]) == EXERCISES
    path = written(path, SOURCES, metadata={"kernelspec": {"language": "R", "name": "ir"}}, nbformat=99)
    assert list(taken(path)[0]) == EXERCISES
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert list(taken(path)[0]) == EXERCISES
    written(path, [SOURCES[0] + "\n# \ud800\x00"])
    assert taken(path)[0]["tilt"].encode().endswith(b"# ?\x00")


def test_cells_twice_lost_moved_and_renamed(tmp_path):
    path = written(tmp_path / "a.ipynb", [SOURCES[0], SOURCES[1], SOURCES[0] + "\n# again"])
    cells, warnings = taken(path)
    assert cells["tilt"].endswith("# again") and any("more than one" in w for w in warnings)
    assert list(taken(written(path, SOURCES[::-1]))[0]) == EXERCISES[::-1]
    renamed = SOURCES[0].replace("tilt", "my-own", 1)
    cells, warnings = taken(written(path, [renamed, "# exercise: ../../etc\n"]))
    assert cells == {"tilt": renamed} and any("none of this chapter" in w for w in warnings)
    cells, warnings = taken(written(path, [SOURCES[0].partition("\n")[2]]))
    assert list(cells) == ["tilt"] and any("lost its first line" in w for w in warnings)
    cells, warnings = taken(written(path, ["# exercise: tilt\n" + "x" * 300_000]))
    assert not cells and any("left out" in w for w in warnings)
    cell = {"cell_type": "code", "source": "x = 1", "metadata": {"tags": ["exercise"],
                                                                "nbgrader": {"grade_id": "tilt"}}}
    path.write_text(json.dumps({"cells": [cell]}))
    assert taken(path)[0] == {"tilt": "x = 1"}


def test_the_courses_own_notebooks_are_read():
    from grader.outside import CHAPTERS
    for chapter, checks in CHAPTERS.items():
        found = master(chapter)
        assert list(found.stubs) == [check.name for check in checks]
        assert not any("check(" in source or "BEGIN SOLUTION" in source for source in found.setup)
