"""Callbacks of Keras, Keras 3's and tf_keras's alike, as callbacks of ours. Nothing here imports either."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from recs_core.contract.errors import SpecError
from recs_core.contract.protocols import Model
from recs_core.training.callbacks import AnyCallback, Callback, StopTraining, called, keras_class
from recs_core.training.history import (
    FAILED,
    INTERRUPTED,
    EpochRecord,
    EpochStart,
    FitStart,
    StepRecord,
    TrainingHistory,
)
from recs_core.training.rate import Rate
from recs_core.training.run import FitRun

OFFERS: Final = "optimizer.learning_rate, stop_training, get_weights() and set_weights()"

NEEDS_MORE: Final = {
    "histogram_freq": 0,
    "embeddings_freq": 0,
    "update_freq": "epoch",
    "write_steps_per_second": False,
    "_should_trace": False,
}
"""What `TensorBoard` may be set to without looking into a Keras model: it writes an epoch's numbers."""


def check_keras(callbacks: Sequence[AnyCallback], run: FitRun, *, validated: bool, saved: bool) -> None:
    """Raise `SpecError` for a callback of Keras that this run has nothing for. `validated`, `saved`: whether it has
    validation and a checkpoint."""
    from recs_core.evaluation import metric_names

    names = ["loss", *(f"val_{name}" for name in metric_names(run.k))] if validated else ["loss"]
    for place, callback in enumerate(callbacks):
        kind, where = keras_class(callback), f"callbacks[{place}]: {called(callback)}"
        if kind in ("EarlyStopping", "ReduceLROnPlateau"):
            _check_monitor(callback, where, names)
        if kind in ("LearningRateScheduler", "ReduceLROnPlateau") and run.settings.schedule is not None:
            raise SpecError(f"{where} sets the learning rate, and so does schedule=; fit with schedule=None")
        if kind == "EarlyStopping" and saved and getattr(callback, "restore_best_weights", False):
            raise SpecError(
                f"{where} would put weights back after the last checkpoint; pass "
                "early_stopping=recs.EarlyStopping(…) beside checkpoint="
            )
        if kind == "TensorBoard":
            for name, plain in NEEDS_MORE.items():
                if getattr(callback, name, plain) != plain:
                    said = "profile_batch" if name == "_should_trace" else name
                    raise SpecError(
                        f"{where} with {said} looks into a Keras model; fit has its numbers alone; leave it out"
                    )


def _check_monitor(callback: Any, where: str, names: Sequence[str]) -> None:
    name = callback.monitor
    if name not in names:
        hint = "" if len(names) > 1 else "; metrics need validation="
        raise SpecError(f"{where} monitors {name!r}, which fit does not compute; it computes {', '.join(names)}{hint}")
    upwards = getattr(callback, "mode", None) == "max" or getattr(callback, "monitor_op", None) is np.greater
    if name != "loss" and not upwards:
        raise SpecError(f"{where} would take a lower {name!r} for the better; pass mode='max'")


def adapted(callbacks: Sequence[AnyCallback], model: Model, rate: Rate) -> list[AnyCallback]:
    """The callbacks, Keras's among them in a `KerasCallback` each, which share one model and its logs."""
    shown = ShownModel(model, rate)
    return [callback if keras_class(callback) is None else KerasCallback(callback, shown) for callback in callbacks]


class _Number(float):
    """A rate, as of now, that can be assigned to: tf_keras does so, Keras 3 sets the optimizer's attribute."""

    dtype = np.dtype(np.float64)

    def __new__(cls, rate: Rate, now: float) -> _Number:
        out = super().__new__(cls, now)
        out._rate = rate
        return out

    _rate: Rate

    def assign(self, value: Any) -> None:
        """Set the rate from the next step on."""
        self._rate.set(value)


class ShownOptimizer:
    """What a Keras callback sees as `model.optimizer`: the learning rate, to read and to set."""

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self.now = rate.base

    @property
    def learning_rate(self) -> float:
        """The rate of the next step; with a schedule, that of the latest."""
        return _Number(self._rate, self._rate.base if self._rate.schedule is None else self.now)

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        self._rate.set(value)

    lr = learning_rate


class ShownModel:
    """What a Keras callback sees as `model`: the rate, the weights, and `stop_training`. Attributes may be set."""

    name = "two_tower"
    distribute_strategy = None
    # Of Keras's TensorBoard, which looks for a graph to write where there is none.
    train_function = train_tf_function = None
    _is_graph_network = False
    _train_counter = _test_counter = 0

    def __init__(self, model: Model, rate: Rate) -> None:
        self._model = model
        self.optimizer = ShownOptimizer(rate)
        self.stop_training = False
        self._logs: tuple[int, dict[str, float]] = (0, {})

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"a Keras callback in fit sees a model with {OFFERS}; it has no {name!r}")

    def get_weights(self) -> list[NDArray[Any]]:
        """Every weight, as copies, in one order."""
        return list(self._model.weights().values())

    def set_weights(self, weights: Sequence[NDArray[Any]]) -> None:
        """The opposite."""
        self._model.load_weights(dict(zip(self._model.weights(), weights, strict=True)))

    def logs(self, epoch: EpochRecord) -> dict[str, float]:
        """An epoch's numbers: one dict for all callbacks, as in Keras, where one adds what a later one writes."""
        if self._logs[0] != epoch.epoch:
            metrics: Mapping[str, float] = {f"val_{name}": value for name, value in epoch.metrics.items()}
            self._logs = epoch.epoch, {"loss": epoch.loss, **metrics}
        return self._logs[1]


class KerasCallback(Callback):
    """A Keras callback, called as Keras calls it: epochs and batches count from 0, and a batch begins when the one
    before has ended."""

    def __init__(self, callback: Any, shown: ShownModel) -> None:
        self.adapts, self._shown = callback, shown
        self._latest: dict[str, float] = {}

    def on_fit_start(self, start: FitStart) -> None:
        """`on_train_begin`."""
        self.adapts.set_params({"epochs": start.epochs, "steps": start.steps, "verbose": 0})
        self.adapts.set_model(self._shown)
        self.adapts.on_train_begin({})
        self._look()

    def on_epoch_start(self, start: EpochStart) -> None:
        """`on_epoch_begin`, and `on_train_batch_begin` of its first batch."""
        self.adapts.on_epoch_begin(start.epoch - 1, {})
        self._look()
        self.adapts.on_train_batch_begin(start.step, {})

    def on_step_end(self, step: StepRecord) -> None:
        """`on_train_batch_end`, and `on_train_batch_begin` of the next."""
        self._shown.optimizer.now = step.learning_rate
        self.adapts.on_train_batch_end(step.step - 1, {"loss": step.mean_loss})
        self._look()
        if step.step < step.steps:
            self.adapts.on_train_batch_begin(step.step, {})

    def on_epoch_end(self, epoch: EpochRecord) -> None:
        """`on_epoch_end`."""
        self._latest = self._shown.logs(epoch)
        self.adapts.on_epoch_end(epoch.epoch - 1, self._latest)
        self._look()

    def on_fit_end(self, history: TrainingHistory) -> None:
        """`on_train_end`; but a run that is to be finished keeps the weights that it has."""
        cut_off = history.stopped in (INTERRUPTED, FAILED)
        if not (cut_off and getattr(self.adapts, "restore_best_weights", False)):
            self.adapts.on_train_end(self._latest)

    def _look(self) -> None:
        if self._shown.stop_training:
            raise StopTraining
