"""One loop for every method: draw a batch, score it, multiply by F, step. It leaves out what F is and where x and y come from.

A method is two plain functions: draw(step) -> Batch and coefficient(batch, logprobs) -> F. All that is random in a step
belongs to `draw`, seeded by the step's number, so a run that was stopped, or killed, goes on as if it had not been.
Sources: Loshchilov & Hutter 2019 (AdamW); Jordan et al. 2024 (Muon); Micikevicius et al. 2018 (mixed precision).
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import Tensor
from tqdm.auto import tqdm

from .engine import parallel, resume
from .expect import expect
from .identity import surrogate
from .batch import Batch
from .logprob import logprobs


@dataclass(frozen=True)
class Settings:
    """How far and how fast to go. Shares are of the number of steps."""

    steps: int
    lr: float = 5e-3            # AdamW's peak, for embeddings and norms; for everything when muon_lr is 0
    muon_lr: float = 0.02       # Muon's peak, for the matrices inside the blocks
    momentum: float = 0.95      # Muon's
    weight_decay: float = 0.0
    warmup: float = 0.02        # share over which the rates rise from 0
    decay: float = 0.7          # share at the end over which they fall to 0
    clip: float = 1.0           # the gradient's norm is cut to this
    save_every: int = 200       # steps between checkpoints, where a folder is given
    bf16: bool = False          # matrix products in bfloat16; weights, gradients and optimisers stay in float32

    def __post_init__(self):
        expect(isinstance(self.steps, int) and self.steps >= 1, "steps", self.steps, "give 1 or more")
        expect(self.lr > 0, "lr", self.lr, "give a positive rate")
        expect(self.muon_lr >= 0, "muon_lr", self.muon_lr, "give a positive rate, or 0 for AdamW alone")
        expect(0 <= self.momentum < 1, "momentum", self.momentum, "give a share in [0, 1)")
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


def train(model, draw: Callable[[int], Batch | Iterable[Batch]], coefficient: Callable[[Batch, Tensor], Tensor], settings: Settings, *,
          label: str = "train", progress: bool = True, folder: str | os.PathLike | None = None, scoring: dict | None = None,
          accumulate: int = 1, compile: bool = False, score: Callable | None = None) -> list[dict]:
    """Take settings.steps steps along E[F · ∇ log p(y|x)] and return one row of metrics for each.

    draw(step) -> Batch, or several (PPO: the minibatches of one draw), a step each; it is asked again when they are used up.
    coefficient(batch, logprobs) -> F, (B,) or (B, T), where logprobs (B, T) carry no gradient.
    A batch may hold `targets` and `sequence` (see logprobs; a score is given them too), `pairs` (see surrogate), and `metrics`, numbers
    by name for the step's row, which `coefficient` may add to. scoring: temperature, top_k, top_p that y was drawn with.
    score(model, tokens, response_mask) -> (B, S): what is scored in place of logprobs, S being T or a multiple of it: a reward on the
    last token of y, or log-probs and, behind them, a critic's values; F is then (B,) or (B, S).
    folder: metrics.jsonl and state.safetensors are kept there, and a run that was stopped or killed goes on from them. A checkpoint
    is written when the batches of a draw are used up, never in between: what is left of a draw need not be kept. So Ctrl-C waits
    for the end of the draw; pressed twice, it does not.
    accumulate: score a batch in so many pieces, one after the other, where it does not fit into memory. F still sees it whole,
    so every piece is scored twice: about a third more work. compile: score with torch.compile; where that fails, a line says so.
    On several processes (see `parallel`) each takes its share of the rows; accumulate, compile and their number may change
    when a run goes on, the settings may not. settings.bf16 pays where there are units for bfloat16 (CUDA cards, avx512_bf16, amx)
    and matrices to fill them; `make bench` measures it at d_model 384.

    A row holds: step, nll (mean −log p of a response token, nats; with `score`, minus the mean of its first T columns), F (its mean, over
    response tokens where it is (B, T)), grad_norm (before clipping), rate, tokens and seconds since the start. Raises NonFinite, with the step, the batch and the
    likely cause; OSError, before the first step, for a folder that cannot be written, and for a full disk.
    """
    expect(isinstance(accumulate, int) and accumulate >= 1, "accumulate", accumulate, "give 1 (the batch whole) or more pieces")
    expect(not settings.bf16 or all(p.dtype == torch.float32 for p in model.parameters() if p.requires_grad), "bf16", True,
           "it is for weights in float32: model.float()")
    expect(score is None or not (scoring or compile), "score", "given with scoring or compile", "those two are for log-probs alone")
    device = next(model.parameters()).device
    optimizers = make_optimizers(model, settings)
    folder, rows = None if folder is None else Path(folder), []
    if folder is not None:
        rows = resume.load(folder, model, optimizers, settings)
    parallel.agree([], len(rows))
    parallel.alike(model)
    begun, tokens = time.perf_counter() - (rows[-1]["seconds"] if rows else 0), rows[-1]["tokens"] if rows else 0
    first = parallel.rank() == 0
    bar = tqdm(initial=len(rows), total=settings.steps, desc=label, disable=not (progress and first), mininterval=0.5)
    model.train()
    scorer = None
    whole = True  # False while weights, optimisers and rows belong to different steps
    kept, border, generators = len(rows), len(rows), resume.generators(device)  # border: the step that the last draw ended with
    with parallel.pressed_keys(patient=folder is not None) as pressed:
        try:
            while len(rows) < settings.steps:
                drawn = draw(len(rows))
                for batch in [drawn] if isinstance(drawn, Batch) else drawn:
                    step = len(rows)
                    if step == settings.steps:
                        break
                    batch = batch.to(device)
                    parallel.agree(pressed if step == border else [], step, batch.tokens, batch.response_mask,
                                   getattr(batch, "targets", None), getattr(batch, "sequence", None))
                    scorer = _compiled(model, batch.tokens, settings.bf16) if compile and scorer is None else scorer or model
                    weight, logp = _gradients(scorer, batch, coefficient, score, scoring or {}, accumulate, settings.bf16, step, rows)
                    parallel.add_up_gradients(model)
                    norm = parallel.full(torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip))
                    mask = _repeated(batch.response_mask, weight) if weight.ndim == 2 else torch.ones_like(weight, dtype=torch.bool)
                    norm, total, scored, F, count = torch.stack([  # one wait for the device
                        norm, logp[:, :batch.tokens.shape[1]].sum(), batch.response_mask.sum(),
                        weight.where(mask, 0).sum(), mask.sum()]).tolist()
                    if not math.isfinite(norm):
                        _raise_non_finite(step, batch, rows, "gradient", torch.tensor(norm))
                    tokens += batch.tokens.numel()
                    row = {"step": step, "nll": -total / scored, "F": F / count, "grad_norm": norm, "rate": settings.rate(step),
                           "tokens": tokens}
                    whole = False
                    for optimizer in optimizers:
                        for group in optimizer.param_groups:
                            group["lr"] = group["peak"] * row["rate"]
                        optimizer.step()
                        optimizer.zero_grad()
                    rows.append(row | getattr(batch, "metrics", {}) | {"seconds": round(time.perf_counter() - begun, 3)})
                    whole = True
                    shown = f"{rows[-1]['nll']:.3f} nats/token" if score is None else f"score {-rows[-1]['nll']:.3f}"
                    bar.set_postfix_str(shown, refresh=False)
                    bar.update()
                expect(len(rows) > border, "draw", f"without a batch at step {border}", "give a Batch, or an iterable of one or more")
                border, generators = len(rows), resume.generators(device) if folder is not None else {}
                if folder is not None and (border // settings.save_every > kept // settings.save_every or border == settings.steps):
                    resume.save(folder, model, optimizers, settings, rows, generators)
                    kept = border
        except KeyboardInterrupt:
            if folder is not None:
                between = whole and len(rows) == border
                if between and border > kept:
                    resume.save(folder, model, optimizers, settings, rows, generators)
                where = f"kept in {folder}" if between else f"in the middle of a draw, so {folder} keeps its last checkpoint"
                if first:
                    print(f"\nStopped after {len(rows)} of {settings.steps} steps; {where}. Run the same command again to go on.")
            raise
        finally:
            bar.close()
            for optimizer in optimizers:
                optimizer.zero_grad()
            model.eval()
    return rows


def _gradients(scorer, batch: Batch, coefficient, score, scoring: dict, accumulate: int, bf16: bool, step: int,
               rows: list[dict]) -> tuple[Tensor, Tensor]:
    """Add the gradient of −surrogate over this process's rows to the weights' .grad; return F and the scores (B, S) of the whole batch.

    F may compare rows (a group's mean, a pair), so it is made once, of the whole batch. One piece keeps its graph until F is
    known; of several only the numbers are kept, and each is scored again.
    """
    tokens, response_mask, (B, T) = batch.tokens, batch.response_mask, batch.tokens.shape
    places = {name: getattr(batch, name) for name in ("targets", "sequence") if hasattr(batch, name)}  # (B, T) each
    pairs, mine = getattr(batch, "pairs", None), parallel.pieces(B, accumulate)

    def scores_of(part: slice) -> Tensor:
        with torch.autocast(tokens.device.type, torch.bfloat16, enabled=bf16):
            beside = {name: value[part] for name, value in places.items()}
            if score is None:
                return logprobs(scorer, tokens[part], response_mask[part], **beside, **scoring)
            found = score(scorer, tokens[part], response_mask[part], **beside)
        expect(isinstance(found, Tensor) and found.ndim == 2 and found.shape[1] % T == 0 and found.shape[1] > 0, "score",
               tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__, f"return a tensor (B, {T}), or a multiple of {T} columns")
        return found

    with torch.set_grad_enabled(len(mine) == 1):
        scores = [scores_of(part) for part, _ in mine]
    S = scores[0].shape[1]
    logp = scores[0].new_zeros(B, S)
    for (part, counts), scored in zip(mine, scores):
        if counts:
            logp[part] = scored.detach()
    parallel.add_up(logp)
    weight = coefficient(batch, logp)
    expect(isinstance(weight, Tensor), "coefficient", type(weight).__name__, f"return a tensor {(B,)} or {(B, S)}")
    expect(weight.shape in ((B,), (B, S)), "coefficient", f"of shape {tuple(weight.shape)}", f"return one of shape {(B,)} or {(B, S)}")
    if not bool(torch.isfinite(weight).all() & torch.isfinite(logp).all()):
        _raise_non_finite(step, batch, rows, *(("logprobs", logp) if torch.isfinite(weight).all() else ("coefficient", weight)))
    for (part, counts), scored in zip(mine, scores):
        scored = scored if len(mine) == 1 else scores_of(part)
        F = weight[part] if counts else torch.zeros_like(weight[part])
        (-surrogate(F, scored, _repeated(response_mask[part], scored), B if pairs is None else pairs)).backward()
    return weight, logp


def _repeated(response_mask: Tensor, scores: Tensor) -> Tensor:
    """The mask (B, T) once for each T columns of the scores (B, S)."""
    return response_mask.repeat(1, scores.shape[1] // response_mask.shape[1])


def _compiled(model, tokens: Tensor, bf16: bool):
    """What `logprobs` needs of a model, its hidden states by torch.compile. Where that fails on these tokens: one line, and the model."""
    logging.getLogger("torch._dynamo").setLevel(logging.ERROR)  # it warns of the checks of tokens, which it leaves uncompiled
    rows, _ = parallel.pieces(len(tokens))[0]
    try:
        hidden = torch.compile(model.hidden)
        with torch.autocast(tokens.device.type, torch.bfloat16, enabled=bf16):
            hidden(tokens[rows]).sum().backward()  # it compiles, or fails, when it is first called, forwards and backwards
        return SimpleNamespace(hidden=hidden, logits=model.logits, config=model.config)
    except Exception as error:  # whatever a compiler may raise
        why = (str(error).strip().splitlines() or [""])[0]
        if parallel.rank() == 0:
            print(f"torch.compile failed, so training goes on without it: {type(error).__name__}: {why}")
        return model
    finally:
        model.zero_grad()


def make_optimizers(model, settings: Settings) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the blocks, AdamW for embeddings and norms; AdamW for all when muon_lr is 0."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    expect(len(named) > 0, "model", "frozen whole", "leave some parameter with requires_grad")
    inner = [p for name, p in named if settings.muon_lr and p.ndim == 2 and ".blocks." in "." + name]
    taken = {id(p) for p in inner}
    rest = [p for _, p in named if id(p) not in taken]
    optimizers: list[torch.optim.Optimizer] = []
    if rest:
        optimizers.append(torch.optim.AdamW(rest, lr=settings.lr, betas=(0.9, 0.95), weight_decay=settings.weight_decay))
    if inner:
        muon = parallel.Muon if parallel.is_sharded(model) else torch.optim.Muon
        optimizers.append(muon(inner, lr=settings.muon_lr, weight_decay=settings.weight_decay, momentum=settings.momentum))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return optimizers


def _raise_non_finite(step: int, batch: Batch, rows: list[dict], name: str, value: Tensor) -> None:
    bad = ~torch.isfinite(value)
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
