"""The house's rules, held over the syntax trees: who imports whom, what a file says, what is never called.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import minillm
from benchmarks import house

ROOT = Path(minillm.__file__).parent
FILES = sorted(path for path in ROOT.rglob("*.py"))
NAMES = [path.relative_to(ROOT).as_posix() for path in FILES]
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in zip(NAMES, FILES)}

# unit: the units that it may import. A unit is a file or a folder right under minillm/, and each file of the
# engine, since the core calls some of them and others call the core. `expect` is a leaf that all may import.
MAY_IMPORT = {
    "expect": set(),
    "__init__": {"identity", "methods"},
    "tokenizer": set(),
    "rope": set(),
    "readable": {"rope"},
    "engine/products": set(),
    "transformer": {"rope", "readable", "engine/products"},
    "batch": set(),
    "engine/fused": set(),
    "logprob": {"batch", "engine/fused"},
    "identity": set(),
    "returns": {"batch", "logprob"},
    "engine/folded": {"engine/products"},
    "adapt": {"engine/products", "engine/folded"},
    "engine/decoding": {"transformer", "adapt", "engine/products"},
    "sample": {"batch", "logprob", "transformer", "engine/decoding"},
    "engine/muon": set(),
    "engine/parallel": {"engine/muon"},
    "engine/resume": {"engine/parallel"},
    "engine/finite": {"batch"},
    "engine/compiled": {"engine/parallel"},
    "engine/together": {"batch", "engine/parallel"},
    "engine/keeping": {"batch", "engine/parallel", "engine/resume"},
    "train": {"batch", "identity", "logprob", "engine/parallel", "engine/finite", "engine/compiled",
              "engine/together", "engine/keeping"},
    "engine/__init__": set(),
    "methods": {"batch", "logprob", "sample", "returns"},
    "worlds": {"tokenizer"},
    "thinking": {"batch", "logprob", "sample", "worlds", "methods", "tokenizer"},
    "acting": {"batch", "logprob", "sample", "train", "worlds", "methods", "tokenizer"},
    "recipes": {"batch", "logprob", "returns", "sample", "train", "tokenizer", "methods", "worlds"},
    "hub": {"transformer", "tokenizer", "adapt"},
}
ON_TOP = {"show", "journey", "checkpoints", "chat"}                 # may import all below them
# Of these; and notebooks.
IMPORTED_BY = {"show": {"journey"}, "journey": {"checkpoints"}, "checkpoints": set(), "chat": set()}
ALONE = {"methods"}                                                 # whose files never import one another


def unit_of(name):
    """methods/dagger.py -> methods; train.py -> train; engine/fused.py -> engine/fused."""
    parts = name.removesuffix(".py").split("/")
    return "/".join(parts[:2] if parts[0] == "engine" else parts[:1])


def imports(name):
    """Each import of a file, as (absolute dotted name, line); those within functions too."""
    here = ["minillm", *name.removesuffix(".py").split("/")][:-1]
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(here[:len(here) - node.level + 1]) if node.level else ""
            source = ".".join(part for part in (base, node.module) if part)
            yield from ((f"{source}.{alias.name}", node.lineno) for alias in node.names)


def inner(name):
    """(unit, module inside it or "", line) of each import from minillm itself."""
    for target, line in imports(name):
        parts = target.split(".")
        if parts[0] == "minillm":
            unit = parts[1] if len(parts) > 1 else "__init__"
            module = parts[2] if len(parts) > 2 else ""
            yield (f"engine/{module}" if unit == "engine" else unit), module, line


# --- who imports whom -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_the_import_rule(name):
    """A file imports what its unit may, its own folder, and `expect`.

    A new unit is given a line above first.
    """
    unit = unit_of(name)
    known = unit in MAY_IMPORT or unit in ON_TOP
    assert known, f"{unit} has no line in the import rule: write down what it may import"
    units = {unit_of(n) for n in NAMES}
    for target, _, line in inner(name):
        where = f"{name}:{line} imports {target}"
        assert target in units, f"{where}, which is no file of the package"
        if target in ("expect", unit):
            continue
        if unit in ON_TOP:
            assert target not in ON_TOP or unit in IMPORTED_BY[target], where
        else:
            assert target in MAY_IMPORT[unit], where


@pytest.mark.parametrize("name", [n for n in NAMES if unit_of(n) in ALONE and not n.endswith("__init__.py")])
def test_methods_do_not_import_one_another(name):
    siblings = {n.split("/")[1].removesuffix(".py")
                for n in NAMES
                if unit_of(n) == unit_of(name)} - {"__init__"}
    assert not [(module, line)
                for unit, module, line in inner(name)
                if unit == unit_of(name) and module in siblings]


def test_the_rule_has_no_circle():
    """Follow who may import whom: nobody comes back to itself, expect is a leaf."""
    def above(unit, seen=()):
        assert unit not in seen, f"a circle: {' -> '.join([*seen, unit])}"
        for other in MAY_IMPORT[unit]:
            above(other, (*seen, unit))

    for unit in MAY_IMPORT:
        above(unit)


def test_the_rule_can_fail(monkeypatch):
    """Three planted files, each with one forbidden import, in three spellings: each is seen."""
    for name, code in (("logprob.py", "from .sample import sample"),
                       ("engine/fused.py", "from ..logprob import warp"),
                       ("methods/dagger.py", "from .reinforce import loss"),
                       ("train.py", "def f():\n    import minillm.methods.dagger")):
        monkeypatch.setitem(TREES, name, ast.parse(code))
        with pytest.raises(AssertionError):
            test_the_import_rule(name)
            test_methods_do_not_import_one_another(name)


def test_nothing_in_the_core_serves_the_machine():
    """No private operator of PyTorch, no transform, no autocast, no signal handler: these are the
    engine's."""
    for path in house.core():
        text = path.read_text(encoding="utf-8")
        assert not [word for word in house.MACHINE if word in text], path.name
    text = (ROOT / "engine" / "products.py").read_text(encoding="utf-8")
    assert [word for word in house.MACHINE if word in text]  # the words are what the code would use


def test_the_line_is_near():
    """From the loop to log p are three calls at most, to F one; the loop itself is ten lines, or about
    that."""
    step = house.a_step()
    step()
    calls = house.calls_of(step)
    (start,) = [depth for depth, name in calls if name.endswith(":ascend")][:1]
    for end, most in ((":chosen", 3), ("dpo.py:coefficient", 1)):
        assert 1 <= min(depth for depth, name in calls if name.endswith(end)) - start <= most
    (ascend,) = [node for node in TREES["train.py"].body if getattr(node, "name", "") == "ascend"]
    assert ascend.end_lineno - ascend.body[1].lineno < 10  # the docstring apart


def test_chapters_stand_on_recipes():
    """No chapter imports the main job."""
    for path in sorted((ROOT.parent / "chapters").glob("*.md")):
        assert "minillm.journey" not in path.read_text(encoding="utf-8"), path.name


@pytest.mark.parametrize("name", NAMES)
def test_the_package_does_not_know_who_uses_it(name):
    """Nothing in minillm imports the grader, chapters, exercises, solutions, tests or benchmarks."""
    outside = {"grader", "chapters", "exercises", "solutions", "tests", "benchmarks"}
    assert not [(target, line) for target, line in imports(name) if target.split(".")[0] in outside]


# --- what is never there --------------------------------------------------------------------------


RUN_WHAT_THEY_READ = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
REACH_THE_NETWORK = {"socket", "ssl", "http", "urllib", "urllib3", "requests", "httpx", "aiohttp", "ftplib",
                     "smtplib", "xmlrpc", "huggingface_hub", "datasets", "wandb"}
HIDE_AN_IMPORT = {"importlib"}
FORBIDDEN = RUN_WHAT_THEY_READ | REACH_THE_NETWORK | HIDE_AN_IMPORT
CALLS = {"eval", "exec", "compile", "__import__"}
METHODS = {"torch.load", "torch.save", "torch.hub", "np.load", "numpy.load", "os.system", "os.popen"}


@pytest.mark.parametrize("name", NAMES)
def test_nothing_unpickles_evaluates_or_reaches_the_network(name):
    """No such import, no call of eval or exec (model.eval() is another thing), no torch.load,
    no from_pretrained."""
    assert not [(target, line) for target, line in imports(name) if target.split(".")[0] in FORBIDDEN]
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in CALLS, f"{name}:{node.lineno} calls {node.func.id}"
        if isinstance(node, ast.Attribute):
            dotted = ast.unparse(node)
            allowed = dotted not in METHODS and node.attr != "from_pretrained"
            assert allowed, f"{name}:{node.lineno} uses {dotted}"
    assert not [target for target, _ in imports(name) if target in METHODS]


def test_what_is_never_there_can_be_seen(monkeypatch):
    for code in ("import pickle", "from urllib.request import urlopen", "def f():\n    import socket",
                 "x = eval('1')", "import torch\ntorch.load('x')", "from torch import load",
                 "Backend.from_pretrained('gpt2')"):
        monkeypatch.setitem(TREES, "train.py", ast.parse(code))
        with pytest.raises(AssertionError):
            test_nothing_unpickles_evaluates_or_reaches_the_network("train.py")


def modules_loaded_by(code):
    """Names of the modules that a fresh Python holds after some code."""
    code += "\nimport sys\nprint('\\n'.join(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                         cwd=ROOT.parent)
    return set(run.stdout.split("\n"))


HEAVY = {"matplotlib", "ipywidgets", "IPython", "transformers", "pandas", "sklearn", "datasets", "wandb",
         "jupyter_core", "jinja2"}


def test_importing_the_package_is_light():
    """`import minillm`, and all of its core, load no plotting, no widgets, no other library of models."""
    loaded = modules_loaded_by("import minillm")
    assert "minillm.identity" in loaded and not loaded & HEAVY
    files = [n.removesuffix(".py").removesuffix("/__init__")
             for n in NAMES
             if unit_of(n) in MAY_IMPORT and n != "__init__.py"]
    core = ["minillm." + n.replace("/", ".") for n in files]
    loaded = modules_loaded_by("import " + ", ".join(core))
    assert set(core) <= loaded and not loaded & HEAVY


# --- what every file says of itself ---------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_the_first_line_says_what_the_file_is(name):
    """A docstring whose first line is a sentence."""
    lines = (ast.get_docstring(TREES[name]) or "").split("\n")
    sentence = len(lines[0]) > 15 and re.search(r"[.:;,\w]$", lines[0])
    assert sentence, f"{name} begins with {lines[0]!r}: say in its first line what it is"
    assert TREES[name].body and isinstance(TREES[name].body[0], ast.Expr)


def undocumented(tree):
    """Public functions, classes and methods without a docstring; properties and forward are left out:
    name and class tell them."""
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            if not ast.get_docstring(node):
                yield node.name
            for method in node.body if isinstance(node, ast.ClassDef) else ():
                function = isinstance(method, ast.FunctionDef)
                if function and not method.name.startswith("_") and method.name != "forward":
                    if not method.decorator_list and not ast.get_docstring(method):
                        yield f"{node.name}.{method.name}"


@pytest.mark.parametrize("name", NAMES)
def test_every_public_function_and_class_has_a_docstring(name):
    assert not list(undocumented(TREES[name]))


def test_nothing_in_the_tests_is_skipped_for_good():
    """The core's tests neither skip nor expect to fail: what is not held is not there."""
    mine = "laws tokenizer transformer logprob sample identity methods train worlds hub bad_input".split()
    for name in mine:
        (path,) = Path(__file__).parents[1].rglob(f"test_{name}.py")
        tree = ast.parse(path.read_text(encoding="utf-8"))
        used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        assert not used & {"skip", "skipif", "xfail", "importorskip"}, name
