"""A tower's forward pass in NumPy, in the dtype of its weights. Written for speed, apart from the float64 oracle."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recs_core.contract.batch import Batch, Features, Ragged, Side
from recs_core.contract.errors import DataError, UnsupportedFeature
from recs_core.contract.plans import TowerPlan
from recs_core.contract.towers import Activation
from recs_core.contract.weights import Weights
from recs_core.runtime.encoders import encode

Array = NDArray[np.floating]

BLOCK = 1 << 14
"""Table rows gathered at a time for pooling: 4 MB at 64 float32 a row, so that they are summed from cache."""


class NumpyTower:
    """One tower over weights by canonical name. Tables may be memory maps: only the rows asked for are read."""

    def __init__(self, plan: TowerPlan, weights: Weights) -> None:
        self._plan = plan
        self.plan: TowerPlan | None = plan
        self.output_dim = plan.output_dim
        self.native: Any = weights
        self.weights = weights
        self.dtype = np.result_type(np.float32, *(weight.dtype for weight in weights.values()))

    def __call__(self, features: Features | Batch) -> Array:
        """As `embed`. Raises `UnsupportedFeature` for a batch: nothing trains here."""
        if isinstance(features, Batch):
            raise UnsupportedFeature("the NumPy runtime serves and does not train; recs.load(path, backend=…) does")
        return self.embed(features)

    def embed(self, features: Features) -> Array:
        """(n, output_dim): the raw output, before cosine, temperature and bias."""
        x = self._input(features)
        for layer in self._plan.layers:
            x = x @ self.weights[layer.kernel]
            x += self.weights[layer.bias]
            _activate(x, layer.activation)
        return x

    def _input(self, features: Features) -> Array:
        """(n, input_dim): the columns side by side."""
        x = np.empty((features.size, self._plan.input_dim), self.dtype)
        start = 0
        for column in self._plan.columns:
            part = x[:, start : start + column.width]
            start += column.width
            if column.kernel is not None:
                numbers = _given(features.dense, column.name).astype(self.dtype, copy=False)
                part[:] = numbers @ self.weights[column.kernel]
            elif column.table is None:
                part[:] = _given(features.dense, column.name)
            elif column.encoder is not None:
                sequences = _given(features.codes, column.name)
                encode(column.encoder, self.weights, self.weights[column.table], sequences, part)
            else:
                look_up(self.weights[column.table], _given(features.codes, column.name), column.mean, part)
        return x


class NoTower:
    """Stands where a tower is a user's own module. Whatever asks it gets `UnsupportedFeature`."""

    plan, native, output_dim = None, None, 0

    def __init__(self, side: Side) -> None:
        self.side = side

    def embed(self, features: Features | Batch) -> Array:
        """Raises `UnsupportedFeature`."""
        raise UnsupportedFeature(
            f"the {self.side} tower is a native module, which NumPy cannot run, and only the vectors of its corpus are "
            "stored; recs.load(path, backend=…, native=…) runs it"
        )

    __call__ = embed


def _given(values: Any, name: str) -> Any:
    if name not in values:
        raise DataError(f"the features lack {name!r}; they have {', '.join(values) or 'none'}")
    return values[name]


def look_up(table: Array, codes: NDArray[np.int32] | Ragged, mean: bool, out: Array) -> None:
    """Rows of the table, pooled where there are several; no rows are zeros."""
    if not isinstance(codes, Ragged):
        out[:] = table[codes]
        return
    out[:] = 0
    for rows in _blocks(codes.offsets):
        begin, end = codes.offsets[rows.start], codes.offsets[rows.stop]
        lengths = codes.lengths[rows]
        some = np.flatnonzero(lengths)
        if not len(some):
            continue
        starts = (codes.offsets[rows.start : rows.stop] - begin)[some]
        sums = np.add.reduceat(table[codes.values[begin:end]], starts, axis=0)
        if mean:
            sums /= lengths[some, None].astype(sums.dtype)
        out[rows.start + some] = sums


def _blocks(offsets: NDArray[np.int32]) -> Iterator[slice]:
    """Slices of rows that hold about BLOCK codes together, at least one row each."""
    start, rows = 0, len(offsets) - 1
    while start < rows:
        stop = int(np.searchsorted(offsets, int(offsets[start]) + BLOCK, side="right")) - 1
        stop = min(max(stop, start + 1), rows)
        yield slice(start, stop)
        start = stop


def _activate(x: Array, name: Activation | None) -> None:
    """In place."""
    if name == "relu":
        np.maximum(x, 0, out=x)
    elif name == "tanh":
        np.tanh(x, out=x)
    elif name == "sigmoid":  # (1 + tanh(x/2)) / 2, which never overflows
        np.tanh(x * x.dtype.type(0.5), out=x)
        x += 1
        x *= x.dtype.type(0.5)
