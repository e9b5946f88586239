"""One loop for every method: draw a batch, score it, multiply by F, step. It leaves out what F is and where x and y come from.

A method is two plain functions: draw(step) -> Batch and coefficient(batch, logprobs) -> F. All that is random in a step
belongs to `draw`, seeded by the step's number, so a run that was stopped goes on as if it had not been.
Sources: Loshchilov & Hutter 2019 (AdamW); Jordan et al. 2024 (Muon).
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm.auto import tqdm

from .expect import expect
from .identity import surrogate
from .logprob import Batch, logprobs


@dataclass(frozen=True)
class Settings:
    """How far and how fast to go. Shares are of the number of steps."""

    steps: int
    lr: float = 5e-3            # AdamW's peak, for embeddings and norms; for everything when muon_lr is 0
    muon_lr: float = 0.02       # Muon's peak, for the matrices inside the blocks
    weight_decay: float = 0.0
    warmup: float = 0.02        # share over which the rates rise from 0
    decay: float = 0.7          # share at the end over which they fall to 0
    clip: float = 1.0           # the gradient's norm is cut to this
    save_every: int = 200       # steps between checkpoints, where a folder is given

    def __post_init__(self):
        expect(isinstance(self.steps, int) and self.steps >= 1, "steps", self.steps, "give 1 or more")
        expect(self.lr > 0, "lr", self.lr, "give a positive rate")
        expect(self.muon_lr >= 0, "muon_lr", self.muon_lr, "give a positive rate, or 0 for AdamW alone")
        expect(self.weight_decay >= 0, "weight_decay", self.weight_decay, "give 0 or more")
        expect(self.warmup >= 0 and self.decay >= 0 and self.warmup + self.decay <= 1, "warmup, decay", (self.warmup, self.decay),
               "give shares of the run that sum to at most 1")
        expect(self.clip > 0, "clip", self.clip, "give a positive norm")
        expect(self.save_every >= 1, "save_every", self.save_every, "give 1 or more")

    def rate(self, step: int) -> float:
        """Share of the peak rate at a step: up, level, down to zero."""
        up = (step + 1) / (self.warmup * self.steps) if self.warmup else 1.0
        down = (self.steps - step) / (self.decay * self.steps) if self.decay else 1.0
        return min(1.0, up, down)


class NonFinite(FloatingPointError):
    """Training met a NaN or an infinity. `step` and `batch` say where; the model keeps the weights of the step before."""

    def __init__(self, message: str, step: int, batch: Batch):
        super().__init__(message)
        self.step, self.batch = step, batch


def train(model, draw: Callable[[int], Batch], coefficient: Callable[[Batch, Tensor], Tensor], settings: Settings, *,
          label: str = "train", progress: bool = True, folder: str | os.PathLike | None = None, scoring: dict | None = None) -> list[dict]:
    """Take settings.steps steps along E[F · ∇ log p(y|x)] and return one row of metrics for each.

    draw(step) -> Batch; coefficient(batch, logprobs) -> F, (B,) or (B, T), where logprobs (B, T) carry no gradient.
    A batch may hold `targets` (see logprobs) and `pairs` (see surrogate). scoring: temperature, top_k, top_p that y was drawn
    with. folder: metrics.jsonl and state.safetensors are kept there, and a run stopped half-way goes on from them.

    A row holds: step, nll (mean −log p of a response token, nats), F (its mean, over response tokens where it is (B, T)),
    grad_norm (before clipping), rate, tokens and seconds since the start. Raises NonFinite, with the step, the batch and the likely cause.
    """
    device = next(model.parameters()).device
    optimizers = make_optimizers(model, settings)
    rows: list[dict] = []
    if folder is not None:
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        rows = _resume(folder, model, optimizers, settings)
    begun, tokens = time.perf_counter() - (rows[-1]["seconds"] if rows else 0), rows[-1]["tokens"] if rows else 0
    bar = tqdm(range(len(rows), settings.steps), initial=len(rows), total=settings.steps, desc=label, disable=not progress, mininterval=0.5)
    model.train()
    whole = True  # False while weights, optimisers and rows belong to different steps
    try:
        for step in bar:
            batch = draw(step).to(device)
            logp = logprobs(model, batch.tokens, batch.response_mask, targets=getattr(batch, "targets", None), **(scoring or {}))
            weight = coefficient(batch, logp.detach())
            expect(isinstance(weight, Tensor), "coefficient", type(weight).__name__, "return a tensor (B,) or (B, T)")
            _expect_finite(step, batch, rows, coefficient=weight, logprobs=logp.detach())
            objective = surrogate(weight, logp, batch.response_mask, getattr(batch, "pairs", None))
            (-objective).backward()
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
            _expect_finite(step, batch, rows, gradient=norm)
            scored = int(batch.response_mask.sum())
            tokens += batch.tokens.numel()
            F = weight[batch.response_mask] if weight.ndim == 2 else weight
            row = {"step": step, "nll": -float(logp.detach().sum()) / scored, "F": float(F.mean()), "grad_norm": float(norm),
                   "rate": settings.rate(step), "tokens": tokens}
            whole = False
            for optimizer in optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = group["peak"] * row["rate"]
                optimizer.step()
                optimizer.zero_grad()
            rows.append(row | {"seconds": round(time.perf_counter() - begun, 3)})
            whole = True
            bar.set_postfix_str(f"{rows[-1]['nll']:.3f} nats/token", refresh=False)
            if folder is not None and (step + 1) % settings.save_every == 0:
                _save(folder, model, optimizers, settings, rows)
    except KeyboardInterrupt:
        if folder is not None:
            if whole:
                _save(folder, model, optimizers, settings, rows)
            kept = f"kept in {folder}" if whole else f"in the middle of one, so {folder} keeps its last checkpoint"
            print(f"\nStopped after {len(rows)} of {settings.steps} steps; {kept}. Run the same command again to go on.")
        raise
    finally:
        bar.close()
        for optimizer in optimizers:
            optimizer.zero_grad()
        model.eval()
    if folder is not None:
        _save(folder, model, optimizers, settings, rows)
    return rows


def make_optimizers(model, settings: Settings) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the blocks, AdamW for embeddings and norms; AdamW for all when muon_lr is 0."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    expect(len(named) > 0, "model", "frozen whole", "leave some parameter with requires_grad")
    inner = [p for name, p in named if settings.muon_lr and p.ndim == 2 and name.startswith("blocks.")]
    taken = {id(p) for p in inner}
    rest = [p for _, p in named if id(p) not in taken]
    optimizers: list[torch.optim.Optimizer] = []
    if rest:
        optimizers.append(torch.optim.AdamW(rest, lr=settings.lr, betas=(0.9, 0.95), weight_decay=settings.weight_decay))
    if inner:
        optimizers.append(torch.optim.Muon(inner, lr=settings.muon_lr, weight_decay=settings.weight_decay))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return optimizers


def _expect_finite(step: int, batch: Batch, rows: list[dict], **values: Tensor) -> None:
    for name, value in values.items():
        bad = ~torch.isfinite(value)
        if not bad.any():
            continue
        row = f" in row {bad.nonzero()[0, 0].item()} of the batch" if value.ndim else ""
        norms = [r["grad_norm"] for r in rows[-20:]]
        if name == "coefficient":
            cause = "a reward, a baseline or a weight is not a number: look at what `coefficient` was given"
        elif len(norms) > 1 and norms[-1] > 10 * sorted(norms)[len(norms) // 2]:
            cause = f"the gradient's norm grew to {norms[-1]:.3g} before it: lower lr and muon_lr, or lengthen warmup"
        elif name == "logprobs":
            cause = "a token has probability 0 (was it drawn under the settings that score it?), or the weights are broken already: lower the rates"
        else:
            cause = "log p is near −inf for some token, or the rates are too high: lower lr and muon_lr"
        raise NonFinite(f"step {step}: {name} is {value[bad][0].item()}{row} (tokens {tuple(batch.tokens.shape)}); likely cause: {cause}", step, batch)


def _save(folder: Path, model, optimizers: list[torch.optim.Optimizer], settings: Settings, rows: list[dict]) -> None:
    """Weights and optimisers to state.safetensors, metrics to metrics.jsonl; each is written beside and then renamed."""
    tensors = {f"model.{name}": p.detach().contiguous() for name, p in model.named_parameters()}
    for o, optimizer in enumerate(optimizers):
        for i, state in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{o}.{i}.{key}": value.contiguous() for key, value in state.items()}
    metadata = {"steps": str(len(rows)), "settings": json.dumps(asdict(settings)), "metrics": json.dumps(rows)}
    beside = folder / "state.safetensors.part"
    save_file(tensors, beside, metadata)
    os.replace(beside, folder / "state.safetensors")
    beside = folder / "metrics.jsonl.part"
    beside.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    os.replace(beside, folder / "metrics.jsonl")


def _resume(folder: Path, model, optimizers: list[torch.optim.Optimizer], settings: Settings) -> list[dict]:
    """Load what `_save` kept and return its metrics; [] in a fresh folder. ValueError for another run's or a damaged state."""
    path = folder / "state.safetensors"
    if not path.exists():
        return []
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}
        kept, rows = json.loads(metadata["settings"]), json.loads(metadata["metrics"])
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read ({error}): delete it to begin again") from None
    except KeyError as error:
        raise ValueError(f"{path} has no {error}, so it is not a state of `train`: name a new folder, or delete it") from None
    expect(kept == asdict(settings), "folder", str(folder),
           "it keeps a run with other settings: name a new folder, or delete this one")
    own = dict(model.named_parameters())
    expect({f"model.{name}": tuple(p.shape) for name, p in own.items()} ==
           {key: tuple(t.shape) for key, t in tensors.items() if key.startswith("model.")}, "folder", str(folder),
           "it keeps a run of a model of another shape: name a new folder, or delete this one")
    with torch.no_grad():
        for name, p in own.items():
            p.copy_(tensors[f"model.{name}"])
    for o, optimizer in enumerate(optimizers):
        state: dict = {}
        for key, value in tensors.items():
            parts = key.split(".", 3)
            if parts[0] == "optimizer" and int(parts[1]) == o:
                state.setdefault(int(parts[2]), {})[parts[3]] = value
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return rows
