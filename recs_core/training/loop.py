"""The epoch loop that every backend shares."""

from __future__ import annotations

import contextlib
import logging
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from recs_core.contract.batch import Batch
from recs_core.contract.errors import RecsError, TrainingError
from recs_core.contract.messages import one_line
from recs_core.contract.protocols import BatchPlan, Dataset, Trainer
from recs_core.training.callbacks import AnyCallback, Callbacks
from recs_core.training.history import (
    FAILED,
    INTERRUPTED,
    EpochRecord,
    EpochStart,
    FitStart,
    Position,
    StepRecord,
    TrainingHistory,
)
from recs_core.training.prefetch import prefetched

log = logging.getLogger("recs_core")


@dataclass
class Loop:
    """Everything one call of `fit` trains with. `rate` is the learning rate at a step (from 0) of so many in all."""

    trainer: Trainer
    data: Dataset
    plan: BatchPlan
    seed: int
    rate: Callable[[int, int], float]
    position: Position
    history: TrainingHistory
    callbacks: Sequence[AnyCallback] = ()

    def run(self, until: int) -> None:
        """Train until epoch `until` is done, a callback stops it, or Ctrl-C; what happens is added to `history`.

        After each step, and each epoch, `position` and `history` are those of the weights, so that a run which any
        callback saves, or ends, can be finished. Raises `TrainingError` if a step fails or a loss is not finite.
        """
        self.history.stopped = "finished"
        steps = self.data.steps(self.plan)
        callbacks = Callbacks(self.callbacks, self.history)
        try:
            with _interruptible() as interrupted:
                callbacks.fit_start(FitStart(self.position.epoch, self.position.step, until, steps))
                while self.position.epoch < until and self._goes_on():
                    callbacks.epoch_start(EpochStart(self.position.epoch + 1, self.position.step, steps))
                    if self._goes_on() and self._epoch(steps, until, callbacks, interrupted):
                        callbacks.epoch_end()
                        self._look(interrupted, self.position.epoch < until)
        except BaseException as error:
            self.history.stopped = FAILED
            callbacks.fit_failed(error)
            raise
        callbacks.fit_end()

    def _epoch(self, steps: int, until: int, callbacks: Callbacks, interrupted: threading.Event) -> bool:
        """Train to the end of the epoch begun and record it; False where that was stopped before."""
        position = self.position
        epoch, done, start = position.epoch, position.step, time.perf_counter()
        with prefetched(self.data.batches(self.plan, seed=self.seed, epoch=epoch, start=done)) as batches:
            for step, batch in enumerate(batches, done):
                rate = self.rate(epoch * steps + step, until * steps)
                loss = self._step(batch, rate, f"epoch {epoch + 1}, batch {step + 1} of {steps}")
                if callbacks.want_steps:
                    queries, mean = batch.query.size, position.mean_loss
                    callbacks.step_end(StepRecord(epoch + 1, step + 1, steps, loss, rate, queries, mean, batch))
                if step + 1 < steps and not self._look(interrupted, True):
                    return False
        seconds, rate = time.perf_counter() - start, self.rate((epoch + 1) * steps - 1, until * steps)
        self.history.epochs.append(EpochRecord(epoch + 1, position.mean_loss, seconds, rate))
        position.next_epoch()
        return True

    def _step(self, batch: Batch, rate: float, where: str) -> float:
        """Take a step and count it; its loss."""
        try:
            loss = float(self.trainer.step(batch, rate))
        except RecsError:
            raise
        except Exception as error:  # of a module of the user's own, or of the framework
            rows = batch.query.size
            hint = "; drop_last=True leaves out a last batch that is smaller" if rows < self.plan.size else ""
            said = f"{type(error).__name__}: {one_line(error)}{hint}"
            raise TrainingError(f"{where} ({rows} queries): {said}") from error
        if not math.isfinite(loss):  # not counted, so that what is known of the steps before stays finite
            raise TrainingError(
                f"{where}: the loss is {loss}; "
                f"lower the learning rate ({rate:.3g}), raise the temperature, or set clip_norm"
            )
        weight = _target_weight(batch)
        self.position.stepped(loss if self.plan.retrieval.reduction == "mean" else loss / max(weight, 1e-30), weight)
        self.history.losses.append(loss)
        return loss

    def _goes_on(self) -> bool:
        return self.history.stopped == "finished"

    def _look(self, interrupted: threading.Event, more: bool) -> bool:
        """Whether training goes on: nothing has stopped it, Ctrl-C neither where `more` is to come."""
        if self._goes_on() and interrupted.is_set() and more:
            self.history.stopped = INTERRUPTED
            done = self.position
            log.warning("interrupted after %d steps of epoch %d; the model is usable", done.step, done.epoch + 1)
        return self._goes_on()


def _target_weight(batch: Batch) -> float:
    weight = batch.task.get("sample_weight")
    return float(len(batch.task["target_query"]) if weight is None else np.sum(weight))


@contextlib.contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """Within the block the first Ctrl-C only sets the event; a second one raises as usual."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def handle(number: int, frame: Any) -> None:
        if event.is_set():
            raise KeyboardInterrupt
        event.set()

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, before)
