"""The loop: draw a batch, score it, multiply by F, step.

A method is two plain functions: draw(step) gives a batch, F(batch, logprobs) its coefficient. All that is
random in a step belongs to `draw`, seeded by the step's number, so a run that was stopped, or killed, goes on
as if it had not been.
Sources: Loshchilov & Hutter 2019 (AdamW); Jordan et al. 2024 (Muon).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from os import PathLike

import torch
from torch import Tensor
from tqdm.auto import tqdm

from .batch import Batch
from .engine import parallel
from .engine.compiled import compiled
from .engine.finite import NonFinite as NonFinite  # train raises it
from .engine.finite import expect_finite_norm, finite
from .engine.keeping import keeping
from .engine.together import together
from .expect import expect, expect_positive, expect_whole
from .identity import Scores, surrogate
from .logprob import logprobs

Draw = Callable[[int], Batch | Iterable[Batch]]
Coefficient = Callable[[Batch, Scores], Scores]
Score = Callable[[torch.nn.Module, Batch], Scores]
Watch = Callable[[Batch, Scores, Scores], dict[str, float]]


def ascend(model, draw: Draw, F: Coefficient, settings: Settings, score: Score = logprobs,
           watch: Watch | None = None, run: Run | None = None) -> Iterator[dict]:
    """Steps along E[F · ∇ log p(y|x)]: yields a row of numbers for each (see `train`)."""
    run = run or Run(model, settings)
    while run.step < settings.steps:
        for batch in run.batches(draw):             # one batch, or several from one draw
            logp = score(model, batch)              # (B, T) log p of each token of y, with its gradient
            coefficient = F(batch, numbers(logp))   # (B,) or (B, T): a number, no gradient
            (-surrogate(coefficient, logp, batch.response_mask, batch.divide_by)).backward()
            yield run.update(batch, numbers(logp), coefficient, watch)


def numbers(scores: Scores) -> Scores:
    """Scores without their gradient."""
    return {k: s.detach() for k, s in scores.items()} if isinstance(scores, dict) else scores.detach()


def train(model, draw: Draw, F: Coefficient, settings: Settings, score: Score = logprobs,
          watch: Watch | None = None, *, label: str = "train", progress: bool = True,
          folder: str | PathLike | None = None, pieces: int = 1, compile: bool = False,
          bf16: bool = False) -> list[dict]:
    """`ascend` with a progress bar, metrics on disk and a run that survives a kill: a row for each step.

    draw(step) -> Batch, or several (PPO: the minibatches of one draw): it is asked again when they are used.
    F(batch, logprobs) -> the coefficient, (B,) or (B, T). The methods' own go in as they are:
    partial(dpo.coefficient, beta=0.1).
    score(model, batch) -> what is scored in place of log-probs, (B, T) or (B,): for what was drawn at a
    temperature, partial(logprobs, temperature=0.7). For several objectives it is a dict, and F's is one too.
    watch(batch, scores, coefficient) -> numbers by name, which are added to the step's row.

    folder: keeps metrics.jsonl and state.safetensors, and a run that was stopped or killed goes on from them.
    A checkpoint is written when the batches of a draw are used up, never in between. So Ctrl-C waits for the
    end of the draw; pressed twice, it does not.
    pieces: score a batch in so many pieces, where it does not fit into memory. About a third more work.
    compile: score with torch.compile; where that fails, a line says so.
    bf16: matrix products in bfloat16, the rest in float32. It pays where there are units for it (CUDA cards,
    avx512_bf16, amx).
    On several processes (see engine.parallel) each takes its share of the rows. When a run goes on, their
    number, pieces, compile and bf16 may change; the settings may not.

    A row holds step; nll (mean −log p of a token of y, nats; of scores that are not (B, T), score, their
    mean); F (its mean); grad_norm (before it is cut); rate; tokens, and seconds since the start. Of several
    scores, nll and F are of the first.
    Raises NonFinite, with the step, the batch and the likely cause; OSError, before the first step, for a
    folder that cannot be written, and for a full disk.
    """
    expect_whole(1, pieces=pieces)
    trained = [p.dtype for p in model.parameters() if p.requires_grad]
    expect(not bf16 or set(trained) == {torch.float32}, "bf16", True,
           "it is for weights in float32: model.float()")
    run = Run(model, settings)
    scored = compiled(score, again=pieces > 1) if compile else score
    scored = partial(together, scored, pieces=pieces, bf16=bf16)
    hidden = not progress or parallel.rank() > 0
    with keeping(run, folder) as kept:
        with tqdm(initial=run.step, total=settings.steps, desc=label, disable=hidden, mininterval=0.5) as bar:
            for row in ascend(model, kept(draw), finite(F, run), settings, scored, watch, run):
                shown = f"{row['nll']:.3f} nats/token" if "nll" in row else f"score {row['score']:.3f}"
                bar.set_postfix_str(shown, refresh=False)
                bar.update()
    return run.rows


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

    def __post_init__(self):
        expect_whole(1, steps=self.steps, save_every=self.save_every)
        expect_positive(lr=self.lr, clip=self.clip)
        expect(self.muon_lr >= 0, "muon_lr", self.muon_lr, "give a positive rate, or 0 for AdamW alone")
        expect(0 <= self.momentum < 1, "momentum", self.momentum, "give a share in [0, 1)")
        expect(self.weight_decay >= 0, "weight_decay", self.weight_decay, "give 0 or more")
        shares = self.warmup, self.decay
        expect(min(shares) >= 0 and sum(shares) <= 1, "warmup, decay", shares,
               "give shares of the run that sum to at most 1")

    def rate(self, step: int) -> float:
        """Share of the peak rate at a step: up, level, down to zero."""
        up = (step + 1) / (self.warmup * self.steps) if self.warmup else 1.0
        down = (self.steps - step) / (self.decay * self.steps) if self.decay else 1.0
        return min(1.0, up, down)


class Run:
    """A run on its way: the model, its optimisers, and a row of numbers for each step that was taken."""

    def __init__(self, model, settings: Settings):
        self.model, self.settings, self.rows = model.train(), settings, []
        self.optimizers = make_optimizers(model, settings)
        self.begun = time.perf_counter()
        self.whole = True  # False while weights, optimisers and rows belong to different steps

    @property
    def step(self) -> int:
        """The number of the next step, from 0."""
        return len(self.rows)

    def batches(self, draw: Draw) -> Iterator[Batch]:
        """The batches of one draw, on the model's device, as many as there are steps left."""
        device, begun = next(self.model.parameters()).device, self.step
        for batch in draw(begun):
            if self.step == self.settings.steps:
                return
            yield batch.to(device)
        expect(self.step > begun, "draw", f"without a batch at step {begun}",
               "give a Batch, or an iterable of one or more")

    def update(self, batch: Batch, scores: Scores, coefficient: Scores, watch: Watch | None = None) -> dict:
        """Take the step that the gradients say, and return its row."""
        norm = parallel.clip_gradients(self.model, self.settings.clip)
        row = {"step": self.step, **means(batch, scores, coefficient, norm),
               "rate": self.settings.rate(self.step)}
        expect_finite_norm(row["grad_norm"], batch, self)
        row |= {"tokens": batch.tokens.numel() + (self.rows[-1]["tokens"] if self.rows else 0)}
        row |= watch(batch, scores, coefficient) if watch else {}
        self.whole = False
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * row["rate"]
            optimizer.step()
            optimizer.zero_grad()
        self.rows.append(row | {"seconds": round(time.perf_counter() - self.begun, 3)})
        self.whole = True
        return self.rows[-1]


def means(batch: Batch, scores: Scores, coefficient: Scores, norm: Tensor) -> dict[str, float]:
    """nll (or score), F and grad_norm of a step's row, of the first of several scores."""
    if isinstance(scores, dict):
        scores, coefficient = next(iter(scores.values())), next(iter(coefficient.values()))
    n = batch.response_mask.sum()
    name, mean = ("nll", -scores.sum() / n) if scores.ndim == 2 else ("score", scores.mean())
    F = coefficient.where(batch.response_mask, 0.0).sum() / n if coefficient.ndim == 2 else coefficient.mean()
    mean, F, norm = torch.stack([mean, F, norm.to(mean)]).tolist()  # one wait for the device
    return {name: mean, "F": F, "grad_norm": norm}


def make_optimizers(model, settings: Settings) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the blocks, AdamW for the rest; AdamW for all when muon_lr is 0."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    expect(len(named) > 0, "model", "frozen whole", "leave some parameter with requires_grad")
    inner = [p for name, p in named if settings.muon_lr and p.ndim == 2 and ".blocks." in "." + name]
    taken = {id(p) for p in inner}
    rest = [p for _, p in named if id(p) not in taken]
    optimizers: list[torch.optim.Optimizer] = []
    if rest:
        optimizers.append(torch.optim.AdamW(rest, lr=settings.lr, betas=(0.9, 0.95),
                                            weight_decay=settings.weight_decay))
    if inner:
        Muon = parallel.muon_for(model)
        optimizers.append(Muon(inner, lr=settings.muon_lr, weight_decay=settings.weight_decay,
                               momentum=settings.momentum))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return optimizers
