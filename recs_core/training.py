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

from recs_core.contract.batch import Batch
from recs_core.contract.errors import RecsError, SpecError, TrainingError
from recs_core.contract.messages import one_line
from recs_core.contract.optimizers import Optimizer
from recs_core.contract.protocols import BatchPlan, Dataset, Model, Trainer
from recs_core.contract.training import Schedule, TrainingSpec
from recs_core.data.negatives import accidental_hits

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
    masked_share: float | None = None  # of the pairs scored in the first epoch: the target's own candidate elsewhere

    def __getitem__(self, name: str) -> list[float]:
        """The values of "loss", "seconds" or a metric, one an epoch that has it."""
        if name in ("loss", "seconds", "learning_rate"):
            return [getattr(record, name) for record in self.epochs]
        return [record.metrics[name] for record in self.epochs if name in record.metrics]

    def since(self, epochs: int, losses: int) -> TrainingHistory:
        """Without the first `epochs` records and the first `losses` steps."""
        return TrainingHistory(
            self.epochs[epochs:], self.stopped, self.best_epoch, self.losses[losses:], self.masked_share
        )


@dataclass(frozen=True)
class EarlyStopping:
    """Stop when `metric` has not improved by more than `min_delta` for `patience` validations, and take back the best
    weights. `metric` is "loss" or a validation metric; an unknown name is an error before training starts."""

    metric: str = "recall@20"
    patience: int = 3
    min_delta: float = 0.0

    def __post_init__(self) -> None:
        for name in ("patience", "min_delta"):  # NumPy's scalars become Python's
            value = getattr(self, name)
            object.__setattr__(self, name, value.item() if isinstance(value, np.generic) else value)
        if not isinstance(self.metric, str) or not self.metric:
            raise SpecError(f"EarlyStopping: metric is a name such as 'recall@20' or 'loss', got {self.metric!r}")
        if not isinstance(self.patience, int) or isinstance(self.patience, bool) or self.patience < 1:
            raise SpecError(f"EarlyStopping: patience must be a whole number ≥ 1, got {self.patience!r}")
        number = isinstance(self.min_delta, (int, float)) and not isinstance(self.min_delta, bool)
        if not number or not 0 <= self.min_delta < math.inf:
            raise SpecError(f"EarlyStopping: min_delta must be a number ≥ 0, got {self.min_delta!r}")

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


FRAMEWORKS = ("keras", "tf_keras", "tensorflow", "lightning", "pytorch_lightning", "transformers", "torch")


def check_callbacks(callbacks: Any) -> tuple[Callback, ...]:
    """The callbacks, all of them ours. Raises `SpecError` for one alone, a function, or a framework's own."""
    if not isinstance(callbacks, (list, tuple)):
        raise SpecError(f"callbacks: expected a list, got {_called(callbacks)}; write callbacks=[…]")
    for place, callback in enumerate(callbacks):
        where = f"callbacks[{place}]: {_called(callback)}"
        if isinstance(callback, EarlyStopping):
            raise SpecError(f"{where} is no callback; pass it as early_stopping=")
        foreign = {base.__module__.partition(".")[0] for base in type(callback).__mro__} & set(FRAMEWORKS)
        if foreign:
            raise SpecError(
                f"{where} is a callback of {min(foreign)}, which fit does not call as {min(foreign)} does; write a "
                "class with on_epoch_end(self, record)"
            )
        if isinstance(callback, type) or not callable(getattr(callback, "on_epoch_end", None)):
            raise SpecError(f"{where} has no on_epoch_end(record); write an object of a class that has it")
    return tuple(callbacks)


def _called(thing: Any) -> str:
    if isinstance(thing, type):
        return f"the class {thing.__name__}"
    return getattr(thing, "__name__", None) or type(thing).__name__


class StopTraining(Exception):
    """Raised by a callback to end training in good order."""


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
        """Mean loss a target, so far in this epoch."""
        return self.loss_sum / max(self.weight_sum, 1e-30)


@dataclass
class Best:
    """The best weights so far, under an early-stopping rule."""

    rule: EarlyStopping | None = None
    value: float | None = None
    epoch: int | None = None
    waited: int = 0
    weights: dict[str, NDArray[Any]] = field(default_factory=dict, repr=False)

    @property
    def exhausted(self) -> bool:
        """Whether patience has run out."""
        return self.rule is not None and self.waited >= self.rule.patience

    def see(self, record: EpochRecord, model: Model) -> None:
        """Take note of an epoch."""
        if self.rule is None:
            return
        value = record.loss if self.rule.metric == "loss" else record.metrics.get(self.rule.metric)
        if value is None:
            return
        if self.rule.improves(value, self.value):
            self.value, self.epoch, self.waited = value, record.epoch, 0
            self.weights = model.weights()
        else:
            self.waited += 1

    def restore(self, model: Model) -> int | None:
        """Put the best weights back; the epoch they are from."""
        if self.weights:
            model.load_weights(self.weights)
        return self.epoch


@dataclass
class FitRun:
    """One call of `fit`: as it was planned, and as far as it got. `open` until it ended in good order; a checkpoint
    holds an open one, which the next `fit` finishes."""

    settings: TrainingSpec
    until: int  # the epoch at which it is done, counted from the model's first
    data: str  # `Interactions.digest()` of what it trains on
    validate_every: int = 1
    k: tuple[int, ...] = (10, 20)
    best: Best = field(default_factory=Best)
    open: bool = True


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
    best: Best = field(default_factory=Best)
    history: TrainingHistory = field(default_factory=TrainingHistory)
    callbacks: Sequence[Callback] = ()
    progress: bool | None = None
    checkpoint: Callable[[], object] | None = None
    checkpoint_every: int = 1

    def run(self) -> TrainingHistory:
        """Train until epoch `epochs` is done, early stopping fires, a callback stops it, or Ctrl-C; what happens is
        added to `history`. `checkpoint` is called every `checkpoint_every` epochs while more are to come; how the run
        ends is the caller's to save.

        Raises `TrainingError` if a loss is not finite.
        """
        steps = self.data.steps(self.plan)
        left = steps * (self.epochs - self.position.epoch) - self.position.step
        self.history.stopped = "finished"
        with _interruptible() as interrupted, _progress(self.progress, left) as tick:
            while self.position.epoch < self.epochs and not self.best.exhausted:
                record = self._epoch(steps, interrupted, tick)
                if interrupted.is_set() and self.position.step:
                    self._interrupted()
                    break
                self.history.epochs.append(record)
                self.best.see(record, self.model)
                try:
                    for callback in self.callbacks:
                        callback.on_epoch_end(record)
                except StopTraining:
                    self.history.stopped = "callback"
                    break
                if self.checkpoint is not None and self._checkpoint_is_due():
                    self.checkpoint()
                if interrupted.is_set() and self.position.epoch < self.epochs:
                    self._interrupted()
                    break
            if self.best.exhausted:
                self.history.stopped = "early stopping"
        if self.history.stopped != "interrupted":
            self.history.best_epoch = self.best.restore(self.model)
        return self.history

    def _interrupted(self) -> None:
        self.history.stopped = "interrupted"
        done = self.position
        log.warning("interrupted after %d steps of epoch %d; the model is usable", done.step, done.epoch + 1)

    def _checkpoint_is_due(self) -> bool:
        done = self.position.epoch
        return done % self.checkpoint_every == 0 and done < self.epochs and not self.best.exhausted

    def _epoch(self, steps: int, interrupted: threading.Event, tick: Callable[[str], None]) -> EpochRecord:
        position = self.position
        epoch, done, rate = position.epoch, position.step, self.optimizer.learning_rate
        hits, pairs = 0, 0
        start = time.perf_counter()
        with prefetched(self.data.batches(self.plan, seed=self.seed, epoch=epoch)) as batches:
            for step, batch in enumerate(batches):
                if step < done:
                    continue
                rate = self._learning_rate(epoch * steps + step, self.epochs * steps)
                try:
                    loss = float(self.trainer.step(batch, rate))
                except RecsError:
                    raise
                except Exception as error:  # of a module of the user's own, or of the framework
                    raise self._failed(error, batch, f"epoch {epoch + 1}, batch {step + 1} of {steps}") from error
                if not math.isfinite(loss):
                    raise TrainingError(
                        f"epoch {epoch + 1}, batch {step + 1} of {steps}: the loss is {loss}; "
                        f"lower the learning rate ({rate:.3g}), raise the temperature, or set clip_norm"
                    )
                if epoch == 0 and self.plan.retrieval.masks_hits:
                    hits, pairs = (a + b for a, b in zip((hits, pairs), accidental_hits(batch.task), strict=True))
                targets = _target_weight(batch)
                mean = loss if self.plan.retrieval.reduction == "mean" else loss / max(targets, 1e-30)
                position.loss_sum += mean * targets
                position.weight_sum += targets
                position.step = step + 1
                self.history.losses.append(loss)
                tick(f"epoch {epoch + 1}/{self.epochs}  loss {position.mean_loss:.4f}")
                if interrupted.is_set() and step + 1 < steps:
                    return EpochRecord(epoch + 1, position.mean_loss, time.perf_counter() - start, rate)
        seconds, loss = time.perf_counter() - start, position.mean_loss
        if pairs:
            self.history.masked_share = hits / pairs
            log.info("masked %.2f %% of the scored pairs as accidental hits", 100 * hits / pairs)
        position.epoch, position.step, position.loss_sum, position.weight_sum = epoch + 1, 0, 0.0, 0.0
        due = (epoch + 1) % self.validate_every == 0 or epoch + 1 == self.epochs
        metrics = dict(self.validate()) if self.validate is not None and due else {}
        return EpochRecord(epoch + 1, loss, seconds, rate, metrics)

    def _failed(self, error: Exception, batch: Batch, where: str) -> TrainingError:
        rows = batch.query.size
        hint = "; drop_last=True leaves out a last batch that is smaller" if rows < self.plan.size else ""
        return TrainingError(f"{where} ({rows} queries): {type(error).__name__}: {one_line(error)}{hint}")

    def _learning_rate(self, step: int, total: int) -> float:
        factor = 1.0 if self.schedule is None else self.schedule.factor(step, total)
        return self.optimizer.learning_rate * factor


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
