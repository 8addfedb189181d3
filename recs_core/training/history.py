"""What training tells and keeps: a record of each step and epoch, the history of all, and where it stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np

from recs_core.contract.batch import Batch

INTERRUPTED, FAILED = "interrupted", "failed"


@dataclass(frozen=True)
class FitStart:
    """What a call of `fit` is about to do: train on from `step` steps into the epoch after `epoch` finished ones, until
    `epochs` are finished, of `steps` steps each. Epochs count from the model's first."""

    epoch: int
    step: int
    epochs: int
    steps: int


@dataclass(frozen=True)
class EpochStart:
    """An epoch that is about to begin, or to go on: its number from 1, and how many of its `steps` are done, `step`."""

    epoch: int
    step: int
    steps: int


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One step: `step` of `steps` in `epoch` (all from 1), its `loss` before the update, the `learning_rate` it took,
    and its number of `queries`. `mean_loss`: mean loss per target so far in this epoch."""

    epoch: int
    step: int
    steps: int
    loss: float
    learning_rate: float
    queries: int
    mean_loss: float
    _batch: Batch = field(repr=False, compare=False)

    @property
    def batch(self) -> Batch:
        """What the step trained on, read-only."""
        found: Batch = _read_only(self._batch)
        return found


@dataclass(frozen=True)
class EpochRecord:
    """One epoch: its number from 1, mean loss per target, seconds (validation apart), the learning rate of its last
    step, and validation metrics if any."""

    epoch: int
    loss: float
    seconds: float
    learning_rate: float
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass
class TrainingHistory:
    """What training did: one record per epoch, and why it ended ("finished", "early stopping", "callback",
    "interrupted" or "failed")."""

    epochs: list[EpochRecord] = field(default_factory=list)
    stopped: str = "finished"
    best_epoch: int | None = None
    losses: list[float] = field(default_factory=list)  # one per step
    masked_share: float | None = None  # of the pairs scored in the first epoch: the target's own candidate elsewhere
    own_loop: bool = False  # weights have been moved outside `fit`, as by a loop of the framework's own

    def __getitem__(self, name: str) -> list[float]:
        """The values of "loss", "seconds" or a metric, one per epoch that has it."""
        if name in ("loss", "seconds", "learning_rate"):
            return [getattr(record, name) for record in self.epochs]
        return [record.metrics[name] for record in self.epochs if name in record.metrics]

    def since(self, epochs: int, losses: int) -> TrainingHistory:
        """A copy without the first `epochs` records and the first `losses` steps."""
        records = [copy_of(record) for record in self.epochs[epochs:]]
        return replace(self, epochs=records, losses=self.losses[losses:])


@dataclass
class Position:
    """Where a run stands: epochs done, and of the epoch begun the steps done, the sum of their weighted losses and of
    their weights. Saved with the optimizer's state, it makes a run resumable."""

    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    weight_sum: float = 0.0

    @property
    def mean_loss(self) -> float:
        """Mean loss per target, so far in this epoch."""
        return self.loss_sum / max(self.weight_sum, 1e-30)

    def stepped(self, mean_loss: float, weight: float) -> None:
        """Count a step whose targets have this mean loss and this weight together."""
        self.loss_sum += mean_loss * weight
        self.weight_sum += weight
        self.step += 1

    def next_epoch(self) -> None:
        """Count the epoch as done."""
        self.epoch, self.step, self.loss_sum, self.weight_sum = self.epoch + 1, 0, 0.0, 0.0


def copy_of(record: EpochRecord) -> EpochRecord:
    """A record whose metrics can be changed without changing the model's."""
    return replace(record, metrics=dict(record.metrics))


def _read_only(value: Any) -> Any:
    """The same arrays, in views that refuse to be written to."""
    if isinstance(value, np.ndarray):
        view = value.view()
        view.flags.writeable = False
        return view
    if isinstance(value, Mapping):
        return MappingProxyType({name: _read_only(item) for name, item in value.items()})
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: _read_only(getattr(value, f.name)) for f in fields(value)})
    return value
