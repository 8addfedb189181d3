"""Canonical weights: their names, shapes and initial values."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from recs_core.data.batch import Batch, Features, Ragged
from recs_core.errors import DataError
from recs_core.random import generator
from recs_core.specs import Bag, Categorical, RetrievalSpec, TowerSpec

TABLE_SCALE = 0.1
"""Standard deviation of a new table's rows. OOV rows start at zero, so that they say nothing until trained."""

Side = Literal["query", "candidate"]


def shapes(
    query: TowerSpec | None,
    candidate: TowerSpec | None,
    retrieval: RetrievalSpec,
    table_rows: Mapping[str, int],
    corpus: int,
) -> dict[str, tuple[int, ...]]:
    """Every canonical name and its shape, in a fixed order. `table_rows`: table name → rows; None: an adopted tower."""
    out: dict[str, tuple[int, ...]] = {}
    for tower in (query, candidate):
        for feature in tower.features if tower else ():
            if feature.table_name is not None:
                out[feature.table_name] = (table_rows[feature.table_name], feature.width)
    for side, tower in (("query", query), ("candidate", candidate)):
        width = tower.input_dim if tower else 0
        for i, units in enumerate(tower.layers if tower else ()):
            out[f"{side}/dense_{i}/kernel"] = (width, units)
            out[f"{side}/dense_{i}/bias"] = (units,)
            width = units
    if retrieval.candidate_bias:
        out["task/bias"] = (corpus,)
    if retrieval.learn_temperature:
        out["task/log_temperature"] = ()
    return out


def is_native(name: str) -> bool:
    """Whether a weight is an adopted module's own."""
    return name.startswith(("query/native/", "candidate/native/"))


def initial(
    query: TowerSpec | None,
    candidate: TowerSpec | None,
    retrieval: RetrievalSpec,
    table_rows: Mapping[str, int],
    corpus: int,
    *,
    seed: int,
) -> dict[str, NDArray[np.float32]]:
    """Initial weights, float32: tables N(0, 0.1²), kernels Glorot-uniform, biases zero, the temperature declared."""
    oov = {
        f.table_name: f.num_oov
        for tower in (query, candidate)
        for f in (tower.features if tower else ())
        if isinstance(f, (Categorical, Bag))
    }
    out = {}
    for name, shape in shapes(query, candidate, retrieval, table_rows, corpus).items():
        random = generator(seed, f"initial/{name}")
        if name.startswith("table/"):
            value = random.standard_normal(shape, np.float32) * np.float32(TABLE_SCALE)
            value[: oov.get(name, 0)] = 0
        elif name.endswith("/kernel"):
            limit = np.sqrt(6 / sum(shape))
            value = random.uniform(-limit, limit, shape).astype(np.float32)
        elif name == "task/log_temperature":
            value = np.asarray(np.log(retrieval.temperature), np.float32)
        else:
            value = np.zeros(shape, np.float32)
        out[name] = value
    return out


def check(weights: Mapping[str, NDArray[np.floating]], expected: Mapping[str, tuple[int, ...]]) -> None:
    """Raise `DataError` unless `weights` has exactly the names and shapes expected, and only finite numbers."""
    for name in sorted(set(weights) ^ set(expected)):
        raise DataError(f"weight {name!r} is {'missing' if name in expected else 'unknown to this model'}")
    for name, shape in expected.items():
        if np.shape(weights[name]) != tuple(shape):
            raise DataError(f"weight {name!r} has shape {np.shape(weights[name])}, the model's is {tuple(shape)}")
        if not np.isfinite(weights[name]).all():
            raise DataError(f"weight {name!r} holds NaN or infinity")


def fingerprint(arrays: Iterable[NDArray[Any]]) -> int:
    """A number that another value anywhere, or another order, almost surely changes: a CRC over all bytes.

    For a framework that does not count its writes.
    """
    found = 0
    for array in arrays:
        found = zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data, found)
    return found


def unpack(batch: Batch, side: Side, tower: TowerSpec) -> Features:
    """One side of a batch with codes that are rows of the whole tables, for a native loop."""
    local = batch.query if side == "query" else batch.candidate
    codes: dict[str, NDArray[np.int32] | Ragged] = {}
    for feature in tower.features:
        if feature.table_name is not None:
            c, rows = local.codes[feature.name], batch.rows[feature.table_name]
            codes[feature.name] = Ragged(rows[c.values], c.offsets) if isinstance(c, Ragged) else rows[c]
    return Features(local.size, codes, local.dense, local.keep)
