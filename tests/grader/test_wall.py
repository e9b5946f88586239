"""The grader's wall, held over the syntax trees: what runs beside a learner's function imports no answers."""

from __future__ import annotations

import ast
from pathlib import Path

import grader

ROOT = Path(grader.__file__).parent


def imported(path):
    """The absolute dotted name of each thing that a file imports, within functions too."""
    package = ["grader", *path.relative_to(ROOT).parent.parts]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[:len(package) - node.level + 1] if node.level else []
            base += [node.module] if node.module else []
            yield from (".".join([*base, alias.name]) for alias in node.names)


def test_inside_imports_nothing_of_outside():
    files = sorted((ROOT / "inside").rglob("*.py"))
    names = {name for path in files for name in imported(path)}
    assert files and "torch" in names
    assert not {name for name in names if name.startswith("grader") and not name.startswith("grader.inside")}


def test_the_wall_is_seen_where_there_is_a_door():
    """The same reading of imports finds what outside has from inside."""
    assert "grader.inside.driver.Complaint" in set(imported(ROOT / "outside" / "judge.py"))
    assert "grader.inside.driver.call_by_hand" in set(imported(ROOT / "outside" / "chapter01" / "checks.py"))
