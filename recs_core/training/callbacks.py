"""Callbacks: what is called while a model trains, by whom, and who is named when one fails."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

from recs_core.contract.errors import SpecError
from recs_core.training.early_stopping import EarlyStopping
from recs_core.training.history import EpochRecord, EpochStart, FitStart, StepRecord, TrainingHistory, copy_of

HOOKS: Final = {
    "on_fit_start": "a FitStart",
    "on_epoch_start": "an EpochStart",
    "on_step_end": "a StepRecord",
    "on_epoch_end": "an EpochRecord",
    "on_fit_end": "a TrainingHistory",
}
"""Name → the one argument it is called with."""

FRAMEWORKS: Final = ("lightning", "pytorch_lightning", "transformers", "torch")
KERAS: Final = ("keras", "tf_keras", "tensorflow")

ADAPTED: Final = (
    "Callback",  # a class of the user's own over it
    "CSVLogger",
    "EarlyStopping",
    "History",
    "LambdaCallback",
    "LearningRateScheduler",
    "ReduceLROnPlateau",
    "RemoteMonitor",
    "TensorBoard",
    "TerminateOnNaN",
)
"""Keras's own callbacks whose meaning carries over."""

INSTEAD: Final = {
    "ModelCheckpoint": "pass checkpoint='folder'",
    "BackupAndRestore": "pass checkpoint='folder', and finish the run with recs.TwoTower.resume('folder')",
    "ProgbarLogger": "pass progress=True",
}


class StopTraining(Exception):
    """Raised by a callback to end training in good order: after this step, or after this epoch."""

    reason = "callback"


class Callback:
    """What `fit(callbacks=[…])` calls. Override what you need; any object with one of these methods will do as well.

    The model answers for the weights as they are at that moment: it may be evaluated, asked and saved. What a method is
    given is a record, which may be kept; changing it changes nothing. `raise recs.StopTraining` ends training in good
    order; any other exception ends it at once and comes out of `fit`, with a note that says whose it is.
    """

    def on_fit_start(self, start: FitStart) -> None:
        """Before the first step."""

    def on_epoch_start(self, start: EpochStart) -> None:
        """Before the first step of each epoch, also of what is left of one that was begun."""

    def on_step_end(self, step: StepRecord) -> None:
        """After each step."""

    def on_epoch_end(self, epoch: EpochRecord) -> None:
        """After each epoch, its validation, and its checkpoint if one is due."""

    def on_fit_end(self, history: TrainingHistory) -> None:
        """When training has ended, however it did (`history.stopped` says how), and the last checkpoint is written.
        `history` is of this call of `fit`, as `fit` returns it."""


AnyCallback: TypeAlias = "Callback | Any"


def check_callbacks(callbacks: Any) -> tuple[Any, ...]:
    """The callbacks, each ours or one of Keras's that can be adapted. Raises `SpecError` for one alone, a function,
    another framework's, and one whose methods could not be called."""
    if not isinstance(callbacks, (list, tuple)):
        raise SpecError(f"callbacks: expected a list, got {called(callbacks)}; write callbacks=[…]")
    for place, callback in enumerate(callbacks):
        where = f"callbacks[{place}]: {called(callback)}"
        if keras_class(callback) is None:
            _check(callback, where)
        else:
            _check_kerass(callback, where)
    return tuple(callbacks)


def keras_class(callback: Any) -> str | None:
    """The name of Keras's own class that a callback is of, the nearest one; None where it is no Keras callback."""
    own = [base.__name__ for base in type(callback).__mro__ if _is_kerass(base)]
    return own[0] if "Callback" in own else None


def _is_kerass(base: type) -> bool:
    return base.__module__.partition(".")[0] in KERAS


def _check_kerass(callback: Any, where: str) -> None:
    kind = str(keras_class(callback))
    if kind not in ADAPTED:
        instead = INSTEAD.get(kind, "write a recs.Callback")
        raise SpecError(f"{where} is of Keras's {kind}, which needs a Keras model's own fit; {instead}")
    for base in type(callback).__mro__:
        for name in vars(base):
            if name.startswith(("on_test_", "on_predict_")) and not _is_kerass(base):
                raise SpecError(f"{where} has {name}, which fit does not call; on_epoch_end has the metrics, as val_…")


def _check(callback: Any, where: str) -> None:
    if isinstance(callback, EarlyStopping):
        raise SpecError(f"{where} is no callback; pass it as early_stopping=")
    foreign = {base.__module__.partition(".")[0] for base in type(callback).__mro__} & set(FRAMEWORKS)
    if foreign:
        raise SpecError(
            f"{where} is a callback of {min(foreign)}, which fit does not call as {min(foreign)} does; write a class "
            "with on_epoch_end(self, record)"
        )
    if isinstance(callback, type) or not any(callable(getattr(callback, name, None)) for name in HOOKS):
        raise SpecError(f"{where} has no on_epoch_end(record); write an object of a class that has it, or {_others()}")
    for name in sorted(dir(type(callback))):
        if name.startswith("on_") and name not in HOOKS and callable(getattr(callback, name, None)):
            raise SpecError(f"{where} has {name}, which fit does not call; it calls {_nearest(name)}")
    for name, given in HOOKS.items():
        method = getattr(callback, name, None)
        if callable(method) and not _takes_one(method):
            raise SpecError(f"{where}.{name}{inspect.signature(method)} is called with one argument, {given}")


def _others() -> str:
    return ", ".join(name for name in HOOKS if name != "on_epoch_end")


def _nearest(name: str) -> str:
    return ", ".join(difflib.get_close_matches(name, HOOKS, n=1, cutoff=0.8) or HOOKS)


def _takes_one(method: Any) -> bool:
    try:
        inspect.signature(method).bind(None)
    except TypeError:
        return False
    except ValueError:  # a method written in C, which does not say
        return True
    return True


def called(thing: Any) -> str:
    """What a message calls it."""
    if isinstance(thing, type):
        return f"the class {thing.__name__}"
    return getattr(thing, "__name__", None) or type(thing).__name__


class Callbacks:
    """The callbacks of one run, called in turn. The first that stops training says why in `history.stopped`."""

    def __init__(self, callbacks: Sequence[AnyCallback], history: TrainingHistory) -> None:
        self._callbacks, self._history = callbacks, history
        self._before = len(history.epochs), len(history.losses)
        self._started = 0
        self._of_step, self._of_epoch = (_with(callbacks, name) for name in ("on_step_end", "on_epoch_end"))
        self.want_steps = bool(self._of_step)

    def fit_start(self, start: FitStart) -> None:
        """`on_fit_start` of each."""
        for callback in self._callbacks:
            self._started += 1
            if _has(callback, "on_fit_start"):
                self._call(callback, "on_fit_start", start, "")

    def epoch_start(self, start: EpochStart) -> None:
        """`on_epoch_start` of each."""
        for callback in _with(self._callbacks, "on_epoch_start"):
            self._call(callback, "on_epoch_start", start, f", epoch {start.epoch}")

    def step_end(self, step: StepRecord) -> None:
        """`on_step_end` of each."""
        for callback in self._of_step:
            self._call(callback, "on_step_end", step, f", epoch {step.epoch}, step {step.step}")

    def epoch_end(self) -> None:
        """`on_epoch_end` of each, with the latest record as it stands: validation adds its metrics to it."""
        for callback in self._of_epoch:
            record = self._history.epochs[-1]
            self._call(callback, "on_epoch_end", copy_of(record), f", epoch {record.epoch}")

    def fit_end(self) -> None:
        """`on_fit_end` of each that was started, also after one that fails; then the first failure."""
        failed: Exception | None = None
        for callback in _with(self._callbacks[: self._started], "on_fit_end"):
            try:
                callback.on_fit_end(self._history.since(*self._before))
            except StopTraining:
                continue  # it has ended
            except Exception as error:
                error.add_note(_blame(callback, "on_fit_end"))
                failed = failed or error
        if failed is not None:
            raise failed

    def fit_failed(self, error: BaseException) -> None:
        """`fit_end` after an error, which comes first: one of a callback is noted on it."""
        try:
            self.fit_end()
        except Exception as later:
            error.add_note(f"then {type(later).__name__}: {later}; {later.__notes__[-1]}")

    def _call(self, callback: AnyCallback, name: str, told: Any, where: str) -> None:
        try:
            getattr(callback, name)(told)
        except StopTraining as stop:
            if self._history.stopped == "finished":
                self._history.stopped = stop.reason
        except Exception as error:
            error.add_note(_blame(callback, name) + where)
            raise


def _blame(callback: AnyCallback, name: str) -> str:
    own = getattr(callback, "adapts", callback)
    return f"raised by callback {type(own).__qualname__}.{name}"


def _with(callbacks: Sequence[AnyCallback], name: str) -> list[AnyCallback]:
    return [callback for callback in callbacks if _has(callback, name)]


def _has(callback: AnyCallback, name: str) -> bool:
    """Whether it has this method, and one that does something."""
    method = getattr(callback, name, None)
    return callable(method) and getattr(method, "__func__", None) is not getattr(Callback, name)
