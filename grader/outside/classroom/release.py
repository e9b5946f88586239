"""What is handed to students: the exercises of a chapter and what they need, without answers.

Or, for a class that runs nbgrader, the source notebook of an assignment, which has them.
"""

from __future__ import annotations

import json
import re
import shutil
import textwrap
from pathlib import Path

from .. import CHAPTERS
from .plain import expect
from .records import EXERCISES, GRADER, notebook_name
from .run import make_folder
from .tables import write

ROOT = GRADER.parent
MARKERS = ("### BEGIN SOLUTION", "### END SOLUTION")

STAND_IN = '''"""check, hint and status of a copy of the course that holds no answers. Your teacher marks."""

import json
from pathlib import Path

_EXERCISES = {e["name"]: e for e in json.loads((Path(__file__).parent / "exercises.json").read_text("utf-8"))}
_tried, _opened = {}, {}


def _find(name):
    if name not in _EXERCISES:
        raise ValueError(f"name is {name!r}: there is no such exercise. There are: {', '.join(_EXERCISES)}")
    return _EXERCISES[name]


def check(name, function):
    """Note that an exercise was tried. This copy holds no answers, so nothing is compared."""
    wanted = _find(name)
    if not callable(function):
        raise ValueError(f"{name}: give the function itself, check({name!r}, {wanted['function']})")
    _tried[name] = True
    print(f"{name}: noted. This copy holds no answers; your teacher's grader says whether it is right.")


def hint(name):
    """Open the next hint of an exercise."""
    hints = _find(name)["hints"]
    opened = _opened[name] = min(_opened.get(name, 0) + 1, len(hints))
    print(f"{name}, hint {opened} of {len(hints)}: {hints[opened - 1]}" if hints else f"{name}: no hints.")


def status(chapter=None):
    """What was tried in this session."""
    for name, e in _EXERCISES.items():
        stars = "★" * e["difficulty"] + "☆" * (3 - e["difficulty"])
        print(f"{name:<22}{e['minutes']:>4} minutes  {stars}  {'tried' if name in _tried else 'open'}")
'''

README = """# Exercises of chapter {chapter}

1. Python 3.11 or newer: `python3 -m venv .venv`, then `.venv/bin/pip install -r requirements.txt`
   (on Windows: `.venv\\Scripts\\pip`).
2. `.venv/bin/python -m jupyterlab` and open `{notebook}`.{reading}
3. Put your code where a cell raises NotImplementedError. Leave the first line of such a cell,
   `# exercise: NAME`, as it is: it is how your work is found.
4. Hand in `{notebook}`, that one file, under this name.

{checks}
"""


def release(chapter: int, out: Path, with_checks: bool) -> None:
    """Write a chapter's exercises, the chapter, the package and how to begin to the folder `out`."""
    notebook = notebook_name(chapter)
    source = EXERCISES / notebook
    expect(
        source.is_file(), "--chapter", chapter, f"{source} is not there. Run this from a clone of the course"
    )
    make_folder(out, "--out")
    expect(not any(out.iterdir()), "--out", out, "it is not empty. Name a new folder")
    expect(
        without_answers(source),
        "--chapter",
        chapter,
        f"{source} holds solutions. Make it anew: make notebooks",
    )
    shutil.copyfile(source, out / notebook)
    reading = copy_chapter(chapter, out)
    ignore = shutil.ignore_patterns("__pycache__", "*.pyc", ".*")
    shutil.copytree(ROOT / "minillm", out / "minillm", ignore=ignore)
    if with_checks:
        shutil.copytree(GRADER, out / "grader", ignore=ignore)
    else:
        write_stand_in(chapter, out / "grader")
    for name in ("requirements.txt", "LICENSE"):
        if (ROOT / name).is_file():
            shutil.copyfile(ROOT / name, out / name)
    checks = ("`check` says what it sees on small inputs. It is a help, and not the mark." if with_checks else
              "`check` here only notes that you tried: this copy holds no answers. `hint` works as it says.")
    write(
        out / "README.md", README.format(chapter=chapter, notebook=notebook, reading=reading, checks=checks)
    )
    print(f"{out}: {notebook} and what it needs, "
          + ("with the checks, whose source a student can read." if with_checks else "without answers."))


def without_answers(path: Path) -> bool:
    """True if no cell of a notebook has a solution in it, or what it printed."""
    cells = json.loads(path.read_text("utf-8"))["cells"]
    return not any(
        any(m in "".join(cell["source"]) for m in MARKERS) or cell.get("outputs") for cell in cells
    )


def copy_chapter(chapter: int, out: Path) -> str:
    """The chapter's own notebook, where there is one; a sentence on it."""
    written = sorted((ROOT / "chapters").glob(f"{chapter:02d}_*.ipynb"))
    if not written:
        return ""
    (out / "chapters").mkdir()
    for path in [*written, *(ROOT / "chapters").glob("symbols.md")]:
        shutil.copyfile(path, out / "chapters" / path.name)
    return f" The chapter is `chapters/{written[0].name}`."


def write_stand_in(chapter: int, folder: Path) -> None:
    """A package `grader` that notes what was tried and opens hints, and knows nothing else."""
    folder.mkdir()
    known = [{"name": c.name, "title": c.title, "minutes": c.minutes, "difficulty": c.difficulty,
              "function": c.function, "hints": list(c.hints)} for c in CHAPTERS[chapter]]
    write(folder / "exercises.json", json.dumps(known, indent=1) + "\n")
    write(folder / "__init__.py", STAND_IN)


def for_nbgrader(chapter: int, out: Path) -> None:
    """Write the source of an nbgrader assignment: the solutions, and a graded cell for each exercise."""
    source = ROOT / "solutions" / notebook_name(chapter)
    expect(source.is_file(), "--chapter", chapter, f"{source} is not there. Run this from a clone")
    make_folder(out, "--out")
    path = out / source.name
    expect(
        not path.exists(), "--out", out, f"it has a {path.name} already. Name the folder of a new assignment"
    )
    notebook = json.loads(source.read_text("utf-8"))
    checks = {check.name: check for check in CHAPTERS[chapter]}
    cells = []
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [], None
        cells.append(cell)
        name = re.match(r"# exercise: (\S+)", "".join(cell["source"]))
        if cell["cell_type"] == "code" and name:
            cells.append(graded_cell(checks[name[1]]))
    notebook["cells"] = cells
    write(path, json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")
    print(f"{path}: the source of an nbgrader assignment, with solutions and one graded cell an exercise. "
          f"Next: nbgrader generate_assignment {out.name}")


def graded_cell(check) -> dict:
    """nbgrader's graded cell of an exercise: its last value is the points, so that part can be had."""
    text = textwrap.dedent(f"""\
        # Graded: {check.name}
        ### BEGIN HIDDEN TESTS
        from grader.outside.nbgrader import points
        points("{check.name}", {check.function})
        ### END HIDDEN TESTS""")
    return {
        "cell_type": "code",
        "execution_count": None,
        "id": f"graded-{check.name}"[:64],
        "outputs": [],
        "metadata": {
            "nbgrader": {
                "grade": True,
                "grade_id": f"graded-{check.name}",
                "locked": True,
                "points": 1,
                "schema_version": 3,
                "solution": False,
                "task": False,
            }
        },
        "source": text.splitlines(keepends=True),
    }
