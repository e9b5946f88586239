"""tinyshakespeare from scratch: the package's recipe beside nanoGPT's. No text ships with it.

Characters, 64 of context, 0.8 M parameters. Quality is one number: the loss on the last tenth of the text,
in nats a character, at the end of the run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from minillm.expect import expect
from minillm.batch import batch_windows
from minillm.methods.supervised import coefficient
from minillm.train import Settings, train
from minillm.transformer import Config, Transformer

from . import nanogpt
from .pairs import Results, Row

SEEDS = (0, 1, 2)
CONTEXT, ROWS, STEPS, LOSS = 64, 12, 360, 1.88
SETTINGS = Settings(steps=STEPS, lr=0.02, muon_lr=0.02)  # chosen on seeds 100 to 102


def read(path: Path) -> tuple[Tensor, Tensor, int]:
    """(ids of the first nine tenths, ids of the last, how many characters there are).

    ValueError, OSError for a file that cannot serve.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8: give tinyshakespeare's input.txt") from None
    expect(len(text) >= 10_000, str(path), f"{len(text)} characters long",
           "give tinyshakespeare's input.txt, 1,115,394 characters")
    characters = {c: i for i, c in enumerate(sorted(set(text)))}
    ids = torch.tensor([characters[c] for c in text])
    cut = int(0.9 * len(ids))
    return ids[:cut], ids[cut:], len(characters)


@torch.no_grad()
def held_out(model, ids: Tensor) -> float:
    """Mean nats a character over windows of 64 that do not overlap:
    the mean that nanoGPT's random windows estimate."""
    count = (len(ids) - 1) // CONTEXT
    x, y = ids[:count * CONTEXT].view(count, CONTEXT), ids[1:count * CONTEXT + 1].view(count, CONTEXT)
    total = sum(float(F.cross_entropy(model(a).flatten(0, 1), b.flatten(), reduction="sum"))
                for a, b in zip(x.split(128), y.split(128)))
    return total / (count * CONTEXT)


def ours(ids: Tensor, vocab_size: int, seed: int, steps: int = STEPS) -> tuple[Transformer, float, int]:
    """The package's recipe: (model, seconds, characters predicted).

    The clock is train's own, around every step.
    """
    config = Config(vocab_size=vocab_size, d_model=128, n_layers=4, n_heads=4, n_kv_heads=4, d_ff=344,
                    context=CONTEXT + 1)
    model, generator = Transformer(config, seed), torch.Generator().manual_seed(seed)
    rows = train(model, lambda step: batch_windows(ids, ROWS, CONTEXT + 1, generator),
                 coefficient, replace(SETTINGS, steps=steps),
                 progress=False)
    return model, rows[-1]["seconds"], steps * ROWS * CONTEXT


RECIPES = {"ours": ours, "theirs": nanogpt.run}


def shakespeare(results: Results, text: Path | None, tick: Callable[[], None],
                seeds: tuple[int, ...] = SEEDS) -> None:
    """Both recipes in turn, a seed a pair; tokens, seconds and the loss that each reached."""
    if text is None:
        results.missing.append(
            "shakespeare: no text ships with the project; give --text FILE (tinyshakespeare's input.txt)")
        return
    learn, held, vocab_size = read(text)
    took: dict[str, list[float]] = {"ours": [], "theirs": []}
    used, losses = {}, {"ours": [], "theirs": []}
    for pair, seed in enumerate(seeds):
        for name in (list(RECIPES) if pair % 2 == 0 else reversed(list(RECIPES))):
            model, seconds, used[name] = RECIPES[name](learn, vocab_size, seed)
            took[name].append(seconds)
            losses[name].append(held_out(model, held))
            tick()
    said = (f"minillm.train, {SETTINGS.steps} steps of {ROWS} × {CONTEXT} characters, "
            f"Muon {SETTINGS.muon_lr:g} and AdamW {SETTINGS.lr:g} decaying to 0",
            "nanoGPT's published CPU recipe rebuilt, 2,000 steps of 12 × 64, AdamW")
    reached = "; ".join(f"{who} {', '.join(f'{loss:.3f}' for loss in losses[side])}"
                        for who, side in (("minillm", "ours"), ("nanoGPT's", "theirs")))
    note = f"Held-out nats a character, seeds {', '.join(map(str, seeds))}: {reached}."
    results.rows.append(Row("shakespeare", "tinyshakespeare, held-out loss", "nats", losses["ours"],
                            losses["theirs"], said, LOSS, at_least=False, compare="worst", note=note))
    results.rows.append(Row("shakespeare", "tinyshakespeare, characters read", "characters",
                            [used["ours"]] * len(seeds), [used["theirs"]] * len(seeds), said, 0.18,
                            at_least=False))
    results.rows.append(Row("shakespeare", "tinyshakespeare, seconds of training", "s", took["ours"],
                            took["theirs"], said, 0.25, at_least=False))
