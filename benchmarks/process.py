"""What needs a fresh process: peak memory of log-probs, and the time of `import minillm`.

Memory is what the process itself holds on the CPU.

`python -m benchmarks.process chunks|full forward|backward [ROWS]` is one measurement: it prints peak
bytes and seconds as JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from .pairs import Results, Row, in_turn

ROOT = Path(__file__).resolve().parents[1]
V, T, ROWS = 32_000, 256, {"forward": 64, "backward": 32}


def full_logprobs(model, tokens):
    """The ordinary way: all logits, cross-entropy without reduction, no copy that it can do without.

    (B, T) to (B, T - 1).
    """
    import torch.nn.functional as F
    logits = model(tokens[:, :-1])
    return -F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten(),
                            reduction="none").view(len(tokens), -1)


def peak() -> int:
    """The most bytes that this process has held in memory so far.

    Not getrusage on Linux: there a child begins with its parent's peak.
    """
    status = Path("/proc/self/status")
    if status.exists():
        return next(int(line.split()[1]) * 1024
                    for line in status.read_text(encoding="utf-8").splitlines()
                    if line.startswith("VmHWM"))
    import resource
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def measure(way: str, which: str, rows: int | None = None) -> dict[str, float]:
    """Peak bytes above what the process held before, and seconds of the better of two runs.

    Linux and macOS.
    """
    import torch

    from minillm.batch import Batch
    from minillm.logprob import logprobs
    from minillm.transformer import Config, Transformer

    from .pairs import seconds
    model = Transformer(Config(vocab_size=V, d_model=128, n_layers=1, n_heads=4, n_kv_heads=2, d_ff=352,
                               context=T))
    tokens = torch.randint(V, (rows or ROWS[which], T), generator=torch.Generator().manual_seed(0))
    score = {"chunks": lambda ids: logprobs(model, Batch(ids)),
             "full": lambda ids: full_logprobs(model, ids)}[way]

    def work(ids=tokens):
        if which == "forward":
            with torch.no_grad():
                return score(ids)
        score(ids).sum().backward()

    work(tokens[:1, :8])  # libraries make their buffers, gradients exist
    before = peak()
    took = seconds(work)
    held = peak() - before
    return {"bytes": held, "seconds": min(took, seconds(work))}


def child(*words: str) -> str:
    """What a fresh Python prints, run in the project's folder."""
    return subprocess.run([sys.executable, *words], cwd=ROOT, check=True, capture_output=True,
                          text=True).stdout


def memory(results: Results, repeats: int, tick: Callable[[], None]) -> None:
    """Peak memory and seconds of log-probs over 32,000 entries, in chunks and with all logits at once."""
    if sys.platform == "win32":
        results.missing.append("memory: Windows tells a process nothing that this part can read")
        return
    for which, rows in ROWS.items():
        kept: dict[str, list[dict]] = {"chunks": [], "full": []}

        def run(way: str) -> float:
            kept[way].append(json.loads(child("-m", "benchmarks.process", way, which)))
            return kept[way][-1]["bytes"] / 2**20
        measured = in_turn({way: lambda way=way: run(way) for way in kept}, repeats, tick)
        gradient = "no gradient" if which == "forward" else "with backward"
        sides = (f"logprobs of {rows} × {T} tokens, chunks of its default size, {gradient}",
                 "all logits at once and F.cross_entropy, the same one-layer model")
        results.rows.append(Row("memory", f"log-probs over {V:,} entries, {which}, peak memory", "MiB",
                                measured["chunks"], measured["full"], sides, 0.1, at_least=False))
        took = {way: [one["seconds"] for one in kept[way][1:]] for way in kept}  # the first was the warm-up
        if which == "forward":
            results.rows.append(Row("memory", f"log-probs over {V:,} entries, {which}, time", "s",
                                    took["chunks"], took["full"], sides, 1.0, at_least=False))


IMPORT = ("import time, sys; t = time.perf_counter(); import {0}; print(time.perf_counter() - t); "
          "print(*sorted({{n.split('.')[0] for n in sys.modules}}))")
STAY_OUT = ("matplotlib", "ipywidgets", "transformers", "IPython")


def imports(results: Results, repeats: int, tick: Callable[[], None]) -> None:
    """Milliseconds of `import minillm` beside `import torch`, each in a fresh process,
    and what else came in."""
    seen: dict[str, set[str]] = {}

    def run(name: str) -> float:
        took, names = child("-c", IMPORT.format(name)).splitlines()
        seen[name] = set(names.split())
        return float(took) * 1000
    measured = in_turn({name: lambda name=name: run(name) for name in ("minillm", "torch")}, max(repeats, 9),
                       tick)
    beyond = sorted(name
                    for name in seen["minillm"] - seen["torch"] - set(sys.stdlib_module_names)
                    if name != "minillm")
    uninvited = [name for name in STAY_OUT if name in seen["minillm"]]
    results.rows.append(Row("imports", "import minillm over import torch", "ms", measured["minillm"],
                            measured["torch"], ("import minillm", "import torch"), 100.0, at_least=False,
                            compare="difference",
                            note=f"Beyond torch and the standard library it imports "
                                 f"{', '.join(beyond) or 'nothing'}; of {', '.join(STAY_OUT)}: "
                                 f"{', '.join(uninvited) or 'none'}."))


if __name__ == "__main__":
    print(json.dumps(measure(*sys.argv[1:3], *map(int, sys.argv[3:4]))))
