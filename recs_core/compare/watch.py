"""A model watched while it trains: weights and batches at chosen steps, and how far it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np

from recs_core.compare.digests import Arrays, batch_arrays, digest
from recs_core.contract.batch import Batch
from recs_core.training import Callback, EpochRecord, FitStart, StepRecord, StopTraining
from recs_core.two_tower import TwoTower

KEPT_BYTES = 256 * 2**20
"""Weights kept for comparison: beyond this only their digests are."""

SAY_EVERY = 0.25  # seconds


def is_looked_at(step: int) -> bool:
    """Whether weights are kept after this step (from 1): 1, 2, 3, 5, 10, 20, 30, 50, 100, …"""
    while step >= 10 and step % 10 == 0:
        step //= 10
    return step in (1, 2, 3, 5)


class Watch(Callback):
    """Keeps, at the steps that are looked at, the weights and digests of weights and batch.

    `also`: another step to look at. `stop_after`: the steps that may be taken. `say` is called with a stage and what
    there is to tell: "training" with the steps done, a few times per second, and every "epoch".
    """

    def __init__(self, model: TwoTower, say: Callable[..., object], *, also: int, stop_after: int | None) -> None:
        self._model, self._say, self._also, self._stop_after = model, say, also, stop_after
        self.losses: list[float] = []
        self.snapshots: dict[int, Arrays] = {}
        self.digests: dict[int, dict[str, str]] = {}
        self._kept, self._said = 0, 0.0

    @property
    def done(self) -> int:
        """Steps taken."""
        return len(self.losses)

    def on_fit_start(self, start: FitStart) -> None:
        """See the weights that training begins with."""
        self.look(None)

    def on_step_end(self, step: StepRecord) -> None:
        """See a step; the last that may be taken ends training."""
        self.losses.append(step.loss)
        if is_looked_at(self.done) or self.done in (self._also, self._stop_after):
            self.look(step.batch)
        now = time.monotonic()
        if now - self._said >= SAY_EVERY:
            self._said = now
            self._say("training", steps=self.done)
        if self.done == self._stop_after:
            raise StopTraining

    def on_epoch_end(self, epoch: EpochRecord) -> None:
        """Tell of it."""
        self._say("epoch", epoch=epoch.epoch, loss=epoch.loss, seconds=epoch.seconds)

    def look(self, batch: Batch | None) -> None:
        """Keep what there is to see after the steps done."""
        weights = self._model.weights()
        seen = {"weights": digest(_start(weights) if self.done == 0 else weights)}
        if batch is not None:
            seen["batch"] = digest(batch_arrays(batch))
        self.digests[self.done] = seen
        size = sum(value.nbytes for value in weights.values())
        if self._kept + size <= KEPT_BYTES:
            self._kept += size
            self.snapshots[self.done] = weights


def _start(weights: Mapping[str, np.ndarray]) -> Arrays:
    """Initial weights are made in float32, so all backends and the oracle can be compared in it."""
    return {name: value.astype(np.float32) for name, value in weights.items()}
