"""What `fit` itself does along the way, as callbacks like any other."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from recs_core.contract.protocols import Model
from recs_core.data.negatives import accidental_hits
from recs_core.training.callbacks import Callback, StopTraining
from recs_core.training.early_stopping import Best
from recs_core.training.history import FAILED, INTERRUPTED, EpochRecord, FitStart, StepRecord, TrainingHistory
from recs_core.training.run import FitRun

log = logging.getLogger("recs_core")


class MaskedShare(Callback):
    """Counts, in the model's first epoch, the scored pairs that are masked as accidental hits."""

    def __init__(self, history: TrainingHistory) -> None:
        self._history, self._hits, self._pairs = history, 0, 0

    def on_step_end(self, step: StepRecord) -> None:
        """Count the step's pairs."""
        if step.epoch == 1:
            hits, pairs = accidental_hits(step.batch.task)
            self._hits, self._pairs = self._hits + hits, self._pairs + pairs

    def on_epoch_end(self, epoch: EpochRecord) -> None:
        """Say the share."""
        if epoch.epoch == 1 and self._pairs:
            share = self._history.masked_share = self._hits / self._pairs
            log.info("masked %.2f %% of the scored pairs as accidental hits", 100 * share)


class Validation(Callback):
    """Adds the metrics of `evaluate` to the record of every `every`-th epoch, and of the last."""

    def __init__(self, evaluate: Callable[[], Mapping[str, float]], every: int, history: TrainingHistory) -> None:
        self._evaluate, self._every, self._history, self._last = evaluate, every, history, 0

    def on_fit_start(self, start: FitStart) -> None:
        """Which epoch is the last."""
        self._last = start.epochs

    def on_epoch_end(self, epoch: EpochRecord) -> None:
        """Evaluate where it is due."""
        if epoch.epoch % self._every == 0 or epoch.epoch == self._last:
            self._history.epochs[-1] = replace(epoch, metrics=dict(self._evaluate()))


class _PatienceRanOut(StopTraining):
    reason = "early stopping"


class BestWeights(Callback):
    """Keeps the best weights, stops when patience has run out, and puts them back when training ends in good order."""

    def __init__(self, best: Best, model: Model, history: TrainingHistory) -> None:
        self._best, self._model, self._history = best, model, history

    def on_fit_start(self, start: FitStart) -> None:
        """A run that was saved after its last epoch, and before it ended, has none to come."""
        self._stop_if_exhausted()

    def on_epoch_end(self, epoch: EpochRecord) -> None:
        """Look at the epoch's metric."""
        self._best.see(epoch, self._model)
        self._stop_if_exhausted()

    def on_fit_end(self, history: TrainingHistory) -> None:
        """The weights that were best, unless the run is to go on."""
        if history.stopped not in (INTERRUPTED, FAILED):
            self._history.best_epoch = self._best.restore(self._model)

    def _stop_if_exhausted(self) -> None:
        if self._best.exhausted:
            raise _PatienceRanOut


class RunState(Callback):
    """Closes the run when training has ended in good order; one that was interrupted or failed can be finished."""

    def __init__(self, run: FitRun) -> None:
        self._run = run

    def on_fit_end(self, history: TrainingHistory) -> None:
        """Open or closed."""
        self._run.open = history.stopped in (INTERRUPTED, FAILED)


class Checkpoint(Callback):
    """Calls `save` after every `every`-th epoch while more are to come, and when training has ended in good order."""

    def __init__(self, save: Callable[[], object], every: int, history: TrainingHistory) -> None:
        self._save, self._every, self._history, self._last = save, every, history, 0

    def on_fit_start(self, start: FitStart) -> None:
        """Which epoch is the last."""
        self._last = start.epochs

    def on_epoch_end(self, epoch: EpochRecord) -> None:
        """Save where it is due."""
        if epoch.epoch % self._every == 0 and epoch.epoch < self._last and self._history.stopped == "finished":
            self._save()

    def on_fit_end(self, history: TrainingHistory) -> None:
        """Save how it ended. What failed keeps the checkpoint before."""
        if history.stopped != FAILED:
            self._save()


class ProgressBar(Callback):
    """A progress bar on stderr."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._epochs = 0

    @staticmethod
    def is_wanted(progress: bool | None) -> bool:
        """As asked for; by default only on a terminal."""
        return sys.stderr.isatty() if progress is None else progress

    def on_fit_start(self, start: FitStart) -> None:
        """Show it."""
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar, self._epochs = Progress(*columns, console=Console(stderr=True), transient=True), start.epochs
        self._bar.add_task("training", total=start.steps * (start.epochs - start.epoch) - start.step)
        self._bar.start()

    def on_step_end(self, step: StepRecord) -> None:
        """One further."""
        said = f"epoch {step.epoch}/{self._epochs}  loss {step.mean_loss:.4f}"
        self._bar.update(self._bar.task_ids[0], advance=1, description=said)

    def on_fit_end(self, history: TrainingHistory) -> None:
        """Take it away."""
        if self._bar is not None:
            self._bar.stop()


def built_in(
    run: FitRun,
    model: Model,
    history: TrainingHistory,
    *,
    evaluate: Callable[[], Mapping[str, float]] | None,
    save: Callable[[], object] | None,
    save_every: int,
    masks_hits: bool,
    progress: bool | None,
) -> list[Callback]:
    """In the order in which they have to come: a checkpoint holds what was counted, validated and decided before it."""
    out: list[Callback] = [ProgressBar()] if ProgressBar.is_wanted(progress) else []
    if masks_hits:
        out.append(MaskedShare(history))
    if evaluate is not None:
        out.append(Validation(evaluate, run.validate_every, history))
    out += [BestWeights(run.best, model, history), RunState(run)]
    return out if save is None else [*out, Checkpoint(save, save_every, history)]
