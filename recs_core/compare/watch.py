"""A backend watched while it trains: weights and batches at chosen steps, and how far it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recs_core.contract.batch import Batch, Features, Ragged
from recs_core.contract.plans import UpdatePlan
from recs_core.contract.protocols import Backend, Model, Trainer

KEPT_BYTES = 256 * 2**20
"""Weights kept for comparison: beyond this only their digests are."""

SAY_EVERY = 0.25  # seconds

Arrays = dict[str, NDArray[Any]]


class EnoughSteps(Exception):
    """Raised instead of a step that was not asked for."""


def is_looked_at(step: int) -> bool:
    """Whether weights are kept after this step (from 1): 1, 2, 3, 5, 10, 20, 30, 50, 100, …"""
    while step >= 10 and step % 10 == 0:
        step //= 10
    return step in (1, 2, 3, 5)


class Watched:
    """A backend whose trainers keep, at the steps that are looked at, the weights and digests of weights and batch.

    Everything else is the backend's own. `also`: another step to look at. `stop_after`: the steps that may be taken.
    `say` is called with the number of steps done, a few times a second.
    """

    def __init__(self, backend: Backend, say: Callable[[int], object], *, also: int, stop_after: int | None) -> None:
        self._backend, self._say, self._also, self.stop_after = backend, say, also, stop_after
        self.done = 0
        self.losses: list[float] = []
        self.snapshots: dict[int, Arrays] = {}
        self.digests: dict[int, dict[str, str]] = {}
        self.trainer_class = ""
        self._kept, self._said = 0, 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def trainer(self, model: Model, plan: UpdatePlan) -> _WatchedTrainer:
        """See `Backend.trainer`."""
        inner = self._backend.trainer(model, plan)
        self.trainer_class = f"{type(inner).__module__}.{type(inner).__qualname__}"
        self.look(model, None)
        return _WatchedTrainer(self, inner, model)

    def look(self, model: Model, batch: Batch | None) -> None:
        """Keep what there is to see after `done` steps."""
        weights = model.weights()
        seen = {"weights": digest(_start(weights) if self.done == 0 else weights)}
        if batch is not None:
            seen["batch"] = digest(batch_arrays(batch))
        self.digests[self.done] = seen
        size = sum(value.nbytes for value in weights.values())
        if self._kept + size <= KEPT_BYTES:
            self._kept += size
            self.snapshots[self.done] = weights

    def is_looked_at(self) -> bool:
        """Whether the step just done is one to look at."""
        return is_looked_at(self.done) or self.done in (self._also, self.stop_after)

    def tell(self) -> None:
        """Say how many steps are done, unless that was said a moment ago."""
        now = time.monotonic()
        if now - self._said >= SAY_EVERY:
            self._said = now
            self._say(self.done)


class _WatchedTrainer:
    def __init__(self, watched: Watched, inner: Trainer, model: Model) -> None:
        self._watched, self._inner, self._model = watched, inner, model

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def step(self, batch: Batch, learning_rate: float) -> float:
        """See `Trainer.step`."""
        watched = self._watched
        if watched.done == watched.stop_after:
            raise EnoughSteps
        loss = float(self._inner.step(batch, learning_rate))
        watched.done += 1
        watched.losses.append(loss)
        if watched.is_looked_at():
            watched.look(self._model, batch)
        watched.tell()
        return loss


def digest(arrays: Mapping[str, NDArray[Any]]) -> str:
    """SHA-256 over names, types, shapes and bytes."""
    sha = sha256()
    for name in sorted(arrays):
        value = np.ascontiguousarray(arrays[name])
        sha.update(f"{name} {value.dtype} {value.shape}\n".encode())
        sha.update(value.tobytes())
    return sha.hexdigest()


def batch_arrays(batch: Batch) -> Arrays:
    """Every array of a batch under a name of its own."""
    out: Arrays = {f"rows/{name}": rows for name, rows in batch.rows.items()}
    for side, features in (("query", batch.query), ("candidate", batch.candidate)):
        out |= _feature_arrays(side, features)
    for name, value in batch.task.items():
        out |= _flat(f"task/{name}", value)
    return out


def _feature_arrays(side: str, features: Features) -> Arrays:
    out: Arrays = {f"{side}/dense/{name}": value for name, value in features.dense.items()}
    for name, codes in features.codes.items():
        out |= _flat(f"{side}/codes/{name}", codes)
    if features.keep is not None:
        out[f"{side}/keep"] = features.keep
    return out


def _flat(name: str, value: Any) -> Arrays:
    if isinstance(value, Ragged):
        return {f"{name}/values": value.values, f"{name}/offsets": value.offsets}
    return {} if value is None else {name: np.asarray(value)}


def _start(weights: Mapping[str, NDArray[Any]]) -> Arrays:
    """Initial weights are made in float32, so all backends and the oracle can be compared in it."""
    return {name: value.astype(np.float32) for name, value in weights.items()}
