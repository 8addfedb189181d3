"""The epoch loop that every backend shares."""

from __future__ import annotations

import contextlib
import logging
import math
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from recs_core.data.batch import Batch
from recs_core.errors import TrainingError
from recs_core.protocols import BatchPlan, Dataset, Model, Trainer
from recs_core.specs import Optimizer, Schedule

log = logging.getLogger("recs_core")
T = TypeVar("T")
Metrics = Mapping[str, float]

LOWER_IS_BETTER = ("loss",)


@dataclass(frozen=True)
class EpochRecord:
    """One epoch: its number from 1, mean loss a target, seconds (validation apart), and validation metrics if any."""

    epoch: int
    loss: float
    seconds: float
    learning_rate: float
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass
class TrainingHistory:
    """What training did: one record an epoch, and why it ended ("finished", "early stopping", "interrupted")."""

    epochs: list[EpochRecord] = field(default_factory=list)
    stopped: str = "finished"
    best_epoch: int | None = None
    losses: list[float] = field(default_factory=list)  # one a step

    def __getitem__(self, name: str) -> list[float]:
        """The values of "loss", "seconds" or a metric, one an epoch that has it."""
        if name in ("loss", "seconds", "learning_rate"):
            return [getattr(record, name) for record in self.epochs]
        return [record.metrics[name] for record in self.epochs if name in record.metrics]


@dataclass(frozen=True)
class EarlyStopping:
    """Stop when `metric` has not improved by more than `min_delta` for `patience` validations, and take back the best
    weights. `metric` is "loss" or a validation metric; an unknown name is an error before training starts."""

    metric: str = "recall@20"
    patience: int = 3
    min_delta: float = 0.0

    def improves(self, value: float, best: float | None) -> bool:
        """Whether `value` is better than `best`."""
        if best is None:
            return True
        gain = best - value if self.metric in LOWER_IS_BETTER else value - best
        return gain > self.min_delta


class Callback(Protocol):
    """Called by the loop; raise `StopTraining` to end it after this epoch."""

    def on_epoch_end(self, record: EpochRecord) -> None:
        """After each epoch and its validation."""
        ...


class StopTraining(Exception):
    """Raised by a callback to end training in good order."""


@dataclass
class Position:
    """Where a run stands: epochs and steps done. Saved with the optimizer's state, it makes a run resumable."""

    epoch: int = 0
    step: int = 0


@dataclass
class Loop:
    """Everything one call of `fit` trains with."""

    model: Model
    trainer: Trainer
    data: Dataset
    plan: BatchPlan
    optimizer: Optimizer
    seed: int
    epochs: int
    position: Position = field(default_factory=Position)
    schedule: Schedule | None = None
    validate: Callable[[], Metrics] | None = None
    validate_every: int = 1
    early_stopping: EarlyStopping | None = None
    callbacks: Sequence[Callback] = ()
    progress: bool | None = None
    checkpoint: Callable[[], None] | None = None

    def run(self) -> TrainingHistory:
        """Train until epoch `epochs` is done, early stopping fires, a callback stops it, or Ctrl-C.

        Raises `TrainingError` if a loss is not finite.
        """
        history = TrainingHistory()
        best = _Best(self.early_stopping)
        steps = self.data.steps(self.plan)
        with _interruptible() as interrupted, _progress(self.progress, steps * (self.epochs - self.position.epoch)) as tick:
            while self.position.epoch < self.epochs:
                record = self._epoch(steps, history, interrupted, tick)
                if interrupted.is_set():
                    history.stopped = "interrupted"
                    log.warning("interrupted after %d steps of epoch %d; the model is usable", self.position.step, record.epoch)
                    break
                history.epochs.append(record)
                stop = best.see(record, self.model)
                try:
                    for callback in self.callbacks:
                        callback.on_epoch_end(record)
                except StopTraining:
                    history.stopped = "callback"
                    break
                if self.checkpoint is not None:
                    self.checkpoint()
                if stop:
                    history.stopped = "early stopping"
                    break
        history.best_epoch = best.restore(self.model)
        return history

    def _epoch(
        self, steps: int, history: TrainingHistory, interrupted: threading.Event, tick: Callable[[str], None]
    ) -> EpochRecord:
        epoch = self.position.epoch
        total, weight, rate = 0.0, 0.0, self.optimizer.learning_rate
        start = time.perf_counter()
        done = self.position.step
        with prefetched(self.data.batches(self.plan, seed=self.seed, epoch=epoch)) as batches:
            for step, batch in enumerate(batches):
                if step < done:
                    continue
                rate = self._learning_rate(epoch * steps + step, self.epochs * steps)
                loss = float(self.trainer.step(batch, rate))
                if not math.isfinite(loss):
                    raise TrainingError(
                        f"epoch {epoch + 1}, batch {step + 1} of {steps}: the loss is {loss}; lower the learning rate ({rate:.3g}), "
                        "raise the temperature, or set clip_norm"
                    )
                targets = _target_weight(batch)
                mean = loss if self.plan.retrieval.reduction == "mean" else loss / max(targets, 1e-30)
                total, weight = total + mean * targets, weight + targets
                history.losses.append(loss)
                self.position.step = step + 1
                tick(f"epoch {epoch + 1}/{self.epochs}  loss {total / max(weight, 1e-30):.4f}")
                if interrupted.is_set():
                    return EpochRecord(epoch + 1, total / max(weight, 1e-30), time.perf_counter() - start, rate)
        seconds = time.perf_counter() - start
        self.position.epoch, self.position.step = epoch + 1, 0
        due = (epoch + 1) % self.validate_every == 0 or epoch + 1 == self.epochs
        metrics = dict(self.validate()) if self.validate is not None and due else {}
        return EpochRecord(epoch + 1, total / max(weight, 1e-30), seconds, rate, metrics)

    def _learning_rate(self, step: int, total: int) -> float:
        factor = 1.0 if self.schedule is None else self.schedule.factor(step, total)
        return self.optimizer.learning_rate * factor


class _Best:
    """The best weights so far, under an early-stopping rule."""

    def __init__(self, rule: EarlyStopping | None) -> None:
        self.rule = rule
        self.value: float | None = None
        self.epoch: int | None = None
        self.weights: dict[str, NDArray[Any]] = {}
        self.waited = 0

    def see(self, record: EpochRecord, model: Model) -> bool:
        """Take note of an epoch; True when patience has run out."""
        if self.rule is None:
            return False
        value = record.loss if self.rule.metric == "loss" else record.metrics.get(self.rule.metric)
        if value is None:
            return False
        if self.rule.improves(value, self.value):
            self.value, self.epoch, self.waited = value, record.epoch, 0
            self.weights = model.weights()
            return False
        self.waited += 1
        return self.waited >= self.rule.patience

    def restore(self, model: Model) -> int | None:
        """Put the best weights back; the epoch they are from."""
        if self.weights:
            model.load_weights(self.weights)
        return self.epoch


def _target_weight(batch: Batch) -> float:
    weight = batch.task.get("sample_weight")
    return float(len(batch.task["target_query"]) if weight is None else np.sum(weight))


@contextlib.contextmanager
def prefetched(items: Iterable[T], depth: int = 2) -> Iterator[Iterator[T]]:
    """Make items in a background thread, `depth` ahead. An error there is raised here; leaving the block ends it."""
    ready: queue.Queue[tuple[str, Any]] = queue.Queue(maxsize=depth)
    left = threading.Event()

    def put(kind: str, value: Any) -> bool:
        while not left.is_set():
            with contextlib.suppress(queue.Full):
                ready.put((kind, value), timeout=0.1)
                return True
        return False

    def produce() -> None:
        try:
            for item in items:
                if not put("item", item):
                    return
            put("end", None)
        except BaseException as error:
            put("error", error)

    def consume() -> Iterator[T]:
        while True:
            kind, value = ready.get()
            if kind == "end":
                return
            if kind == "error":
                raise value
            yield value

    thread = threading.Thread(target=produce, name="recs-batches", daemon=True)
    thread.start()
    try:
        yield consume()
    finally:
        left.set()
        thread.join()


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


@contextlib.contextmanager
def _progress(wanted: bool | None, total: int) -> Iterator[Callable[[str], None]]:
    """A progress bar on stderr; by default only on a terminal."""
    if not (sys.stderr.isatty() if wanted is None else wanted):
        yield lambda text: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("training", total=total)
        yield lambda text: bar.update(task, advance=1, description=text)
