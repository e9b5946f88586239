"""How easy the package is to read, in counts: `python -m benchmarks.house`.

Lines and statements are counted in the core (the single files of minillm/ and methods/), calls in one step of
DPO.
"""

from __future__ import annotations

import argparse
import ast
import sys
from pathlib import Path

import minillm

ROOT = Path(minillm.__file__).parent
WIDE = 110
# What serves a machine, and belongs into engine/: private operators, transforms, autocast, signals,
# processes.
MACHINE = (
    "torch._C",
    "torch.ops",
    "mkldnn",
    "functorch",
    "autocast",
    "is_compiling",
    "signal.",
    "all_reduce",
    "autograd.Function",
)


def core() -> list[Path]:
    """The single files, and one for each method."""
    return sorted([*ROOT.glob("*.py"), *(ROOT / "methods").glob("*.py")])


def lines_of(path: Path) -> list[str]:
    """The lines that are not blank."""
    return [line for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]


def statements_of(tree: ast.AST) -> tuple[int, int]:
    """(statements, how many of them check an argument). A docstring is none, and what stands in a function
    that only checks, `expect…` or `_expect…`, counts as checks."""
    every = checks = 0
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name.lstrip("_").startswith("expect"):
            checks += sum(isinstance(n, ast.stmt) and not _checks(n) for n in ast.walk(node)) - 1
        if isinstance(node, ast.stmt) and not _is_text(node):
            every += 1
            checks += _checks(node)
    return every, checks


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _checks(node: ast.stmt) -> bool:
    if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)):
        return False
    name = ast.unparse(node.value.func).split(".")[-1]
    return name.lstrip("_").startswith("expect") or name == "needs"


def calls_of(run) -> list[tuple[int, str]]:
    """Every call of a function of the package while run() runs: (how many of its functions are open, its
    name)."""
    calls, open_ = [], []

    def profile(frame, event, argument):
        code = frame.f_code
        if not code.co_filename.startswith(str(ROOT)):
            return
        if event == "call":
            calls.append((len(open_), f"{Path(code.co_filename).relative_to(ROOT)}:{code.co_qualname}"))
            open_.append(code)
        elif event == "return" and open_:
            open_.pop()

    sys.setprofile(profile)
    try:
        run()
    finally:
        sys.setprofile(None)
    return calls


def a_step():
    """One step of DPO by `ascend`, on a small model, as a function to be called."""
    import torch

    from minillm.methods import dpo
    from minillm.train import Settings, ascend
    from minillm.transformer import Config, Transformer
    model = Transformer(Config(vocab_size=16, d_model=16, n_layers=1, n_heads=2, n_kv_heads=1, d_ff=24))
    batch = dpo.draw([([7], [8, 0], [9, 9, 0])], torch.zeros(1, 2))
    return lambda: list(ascend(model, lambda step: batch, dpo.coefficient, Settings(1)))


def main(arguments: list[str] | None = None) -> None:
    """Print the counts."""
    argparse.ArgumentParser(prog="benchmarks.house", description=__doc__).parse_args(arguments)
    files = core()
    lines = [line for path in files for line in lines_of(path)]
    wide = [line for line in lines if len(line) > WIDE]
    counts = [
        statements_of(ast.parse(path.read_text(encoding="utf-8"))) for path in files if path.stem != "expect"
    ]
    every, checks = (sum(column) for column in zip(*counts))
    machine = {
        word: [path.name for path in files if word in path.read_text(encoding="utf-8")] for word in MACHINE
    }
    print(f"core and methods: {len(files)} files, {len(lines):,} lines not blank, {len(wide)} over {WIDE}")
    print(f"statements: {every:,}, of which {checks} check arguments ({checks / every:.1%}), expect.py apart")
    print(f"words of the machine in the core: {({w: f for w, f in machine.items() if f}) or 'none'}")
    run = a_step()
    run()  # what is imported or made once is not counted
    calls = calls_of(run)
    (start,) = [depth for depth, name in calls if name.endswith(":ascend")][:1]
    for what, end in (("log p", ":chosen"), ("F", "dpo.py:coefficient")):
        depth = min(depth for depth, name in calls if name.endswith(end)) - start
        print(f"from `ascend` to {what} ({end.lstrip(':')}): {depth} calls")
    checking = [name for _,
                name in calls if name.startswith("expect.py") or ":_expect" in name or "needs" in name]
    print(f"one step of DPO: {len(calls)} calls in the package, {len(checking)} of them checks")


if __name__ == "__main__":
    main()
