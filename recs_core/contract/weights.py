"""Canonical weights: their names, shapes and initial values."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from recs_core.contract.encoders import Start
from recs_core.contract.errors import DataError
from recs_core.contract.plans import TowerPlan
from recs_core.contract.randomness import generator
from recs_core.contract.retrieval import RetrievalSpec
from recs_core.contract.rows import is_finite

Weights: TypeAlias = Mapping[str, NDArray[np.floating]]

TABLE_SCALE = 0.1
"""Standard deviation of a new table's rows. OOV rows start at zero, so that they say nothing until trained."""

BLOCK = 1 << 16
"""Rows of a table that are drawn from one stream; those of another block are drawn without them."""


def shapes(
    query: TowerPlan | None,
    candidate: TowerPlan | None,
    retrieval: RetrievalSpec,
    table_rows: Mapping[str, int],
    corpus: int,
) -> dict[str, tuple[int, ...]]:
    """Every canonical name and its shape, in a fixed order. `table_rows`: table name → rows; None: an adopted tower."""
    plans = [plan for plan in (query, candidate) if plan is not None]
    out: dict[str, tuple[int, ...]] = {
        name: (table_rows[name], width) for plan in plans for name, width in plan.tables.items()
    }
    out |= {name: shape for plan in plans for name, shape in plan.kernels.items()}
    out |= {name: part.shape for plan in plans for encoder in plan.encoders for name, part in encoder.parts.items()}
    for layer in (layer for plan in plans for layer in plan.layers):
        out |= {layer.kernel: layer.shape, layer.bias: layer.shape[1:]}
    if retrieval.candidate_bias:
        out["task/bias"] = (corpus,)
    if retrieval.learn_temperature:
        out["task/log_temperature"] = ()
    return out


def expected(query: Any, candidate: Any, retrieval: RetrievalSpec, weights: Weights) -> dict[str, tuple[int, ...]]:
    """The names and shapes that a model must start from; tables and corpus are as long as `weights` says.

    `query`, `candidate`: a `TowerPlan`, or an adopted tower, which brings its own.
    """
    plans = [tower if isinstance(tower, TowerPlan) else None for tower in (query, candidate)]
    rows = {name: len(weights.get(name, ())) for plan in plans if plan for name in plan.tables}
    return shapes(plans[0], plans[1], retrieval, rows, len(weights.get("task/bias", ())))


def is_native(name: str) -> bool:
    """Whether a weight is an adopted module's own."""
    return name.startswith(("query/native/", "candidate/native/"))


def initial(
    query: TowerPlan | None,
    candidate: TowerPlan | None,
    retrieval: RetrievalSpec,
    table_rows: Mapping[str, int],
    corpus: int,
    *,
    seed: int,
) -> dict[str, NDArray[np.float32]]:
    """Initial weights, float32: tables N(0, 0.1²), kernels Glorot-uniform, biases zero, the temperature declared; those
    of an encoder as its parts say."""
    zero: dict[str, int] = {}
    for column in (column for plan in (query, candidate) if plan for column in plan.columns):
        if column.table is not None:
            zero[column.table] = max(zero.get(column.table, 0), column.zero_rows)
    encoders = [encoder for plan in (query, candidate) if plan for encoder in plan.encoders]
    starts = {name: part.start for encoder in encoders for name, part in encoder.parts.items()}
    out = {}
    for name, shape in shapes(query, candidate, retrieval, table_rows, corpus).items():
        if name == "task/log_temperature":
            out[name] = np.asarray(np.log(retrieval.temperature), np.float32)
        else:
            out[name] = _drawn(name, starts.get(name) or _start(name), shape, seed)
        if name in zero:
            out[name][: zero[name]] = 0
    return out


def table_rows(name: str, start: int, stop: int, width: int, *, seed: int) -> NDArray[np.float32]:
    """(stop − start, width): these rows of a new table as `initial` draws them, OOV rows too, which it then sets to
    zero; no more than one block before them is drawn."""
    out = np.empty((stop - start, width), np.float32)
    for block in range(start // BLOCK, -(-stop // BLOCK)):
        first = block * BLOCK
        random = generator(seed, f"initial/{name}", step=block)
        drawn = random.standard_normal((min(BLOCK, stop - first), width), np.float32)
        begin = max(start, first)
        out[begin - start : first + len(drawn) - start] = drawn[begin - first :]
    out *= np.float32(TABLE_SCALE)
    return out


def _start(name: str) -> Start:
    """Where a weight of no encoder starts."""
    return "table" if name.startswith("table/") else "glorot" if name.endswith("/kernel") else "zeros"


def _drawn(name: str, start: Start, shape: tuple[int, ...], seed: int) -> NDArray[np.float32]:
    if start == "table":
        return table_rows(name, 0, shape[0], shape[1], seed=seed)
    if start in ("zeros", "ones"):
        return np.full(shape, start == "ones", np.float32)
    limit = np.sqrt(6 / sum(shape)) if start == "glorot" else 1 / np.sqrt(shape[0])
    return generator(seed, f"initial/{name}").uniform(-limit, limit, shape).astype(np.float32)


def check(weights: Mapping[str, NDArray[np.floating]], expected: Mapping[str, tuple[int, ...]]) -> None:
    """Raise `DataError` unless `weights` has exactly the names and shapes expected, and only finite numbers."""
    for name in sorted(set(weights) ^ set(expected)):
        raise DataError(f"weight {name!r} is {'missing' if name in expected else 'unknown to this model'}")
    for name, shape in expected.items():
        if np.shape(weights[name]) != tuple(shape):
            raise DataError(f"weight {name!r} has shape {np.shape(weights[name])}, the model's is {tuple(shape)}")
        if not is_finite(weights[name]):
            raise DataError(f"weight {name!r} holds NaN or infinity")


def check_state(state: Mapping[str, NDArray[Any]], due: Mapping[str, tuple[int, ...]]) -> None:
    """Raise `DataError` unless `state` has exactly the names and shapes `due`, those of `UpdatePlan.state_shapes`."""
    for name in sorted(set(state) ^ set(due)):
        raise DataError(f"optimizer state {name!r} is {'missing' if name in due else 'unknown to this trainer'}")
    for name, shape in due.items():
        if np.shape(state[name]) != tuple(shape):
            raise DataError(f"optimizer state {name!r} has shape {np.shape(state[name])}, the trainer's is {shape}")


def fingerprint(arrays: Iterable[NDArray[Any]]) -> int:
    """A number that another value anywhere, or another order, almost surely changes: a CRC over all bytes.

    For a framework that does not count its writes.
    """
    found = 0
    for array in arrays:
        found = zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data, found)
    return found
