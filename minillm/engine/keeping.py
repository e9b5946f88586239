"""A run that survives a kill: checkpoints between draws, Ctrl-C that loses nothing, many processes in step.

Its plain twin is to do nothing: `ascend` runs without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path

from ..batch import Batch
from . import parallel, resume


@contextmanager
def keeping(run, folder: str | PathLike | None) -> Iterator[Callable]:
    """Within it, kept(draw) is draw with a checkpoint written to the folder when the batches of a draw are
    used up.

    run: minillm.train.Run, which goes on from what the folder keeps. Ctrl-C waits for the end of a draw where
    there is a folder; pressed twice, it does not. On leaving, the last checkpoint is written and the model is
    in eval mode.
    """
    folder = None if folder is None else Path(folder)
    if folder is not None:
        run.rows = resume.load(folder, run.model, run.optimizers, run.settings)
        run.begun -= run.rows[-1]["seconds"] if run.rows else 0
    parallel.agree([], run.step)
    parallel.alike(run.model)
    state = _Kept(run, folder)
    with parallel.pressed_keys(patient=folder is not None) as pressed:
        try:
            yield lambda draw: lambda step: state.batches(draw, step, pressed)
            state.border_reached(last=True)
        except KeyboardInterrupt:
            if folder is not None:
                state.stop()
            raise
        finally:
            for optimizer in run.optimizers:
                optimizer.zero_grad()
            run.model.eval()


class _Kept:
    def __init__(self, run, folder: Path | None):
        self.run, self.folder = run, folder
        self.device = next(run.model.parameters()).device
        # The step of the last checkpoint, and the one that the last draw ended with.
        self.kept = self.border = run.step
        self.random_state = resume.generators(self.device)

    def batches(self, draw: Callable, step: int, pressed: list[int]) -> Iterator[Batch]:
        """The batches of a draw, each the same in all processes."""
        for batch in draw(step):
            stop = pressed if self.run.step == self.border else []  # never within a draw
            parallel.agree(stop, self.run.step, batch.tokens, batch.response_mask, batch.targets,
                           batch.sequence)
            yield batch
        self.border_reached()

    def border_reached(self, last: bool = False) -> None:
        """The batches of a draw are used up: the moment to keep what there is."""
        self.border = self.run.step
        if self.folder is None:
            return
        self.random_state = resume.generators(self.device)
        every = self.run.settings.save_every
        if self.border // every > self.kept // every or last and self.border > self.kept:
            self.save()

    def save(self) -> None:
        run = self.run
        resume.save(self.folder, run.model, run.optimizers, run.settings, run.rows, self.random_state)
        self.kept = self.border

    def stop(self) -> None:
        """Keep what belongs to one step, and say where the run stands."""
        run = self.run
        between = run.whole and run.step == self.border
        if between and self.border > self.kept:
            self.save()
        where = (f"kept in {self.folder}" if between
                 else f"in the middle of a draw, so {self.folder} keeps its last checkpoint")
        if parallel.rank() == 0:
            print(f"\nStopped after {run.step} of {run.settings.steps} steps; {where}. "
                  "Run the same command again to go on.")
