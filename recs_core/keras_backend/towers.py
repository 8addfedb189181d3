"""Declared towers: one forward function for training, on gathered rows, and for serving, on whole tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from recs_core.contract.batch import Batch, Features, flat
from recs_core.contract.errors import DataError
from recs_core.contract.features import Column
from recs_core.contract.guard import Guard
from recs_core.contract.plans import TowerPlan
from recs_core.contract.protocols import DType
from recs_core.keras_backend.data import as_inputs, to_tensors
from recs_core.keras_backend.encoders import encode
from recs_core.keras_backend.engines import Engine, Reader, Tensor, Tree, Values
from recs_core.keras_backend.native import TowerModel

CHUNK = 8192
"""Rows embedded at a time: bounds memory, and is one shape for engines that compile by shape."""

CODES = 2**16
"""The same of histories with an encoder, in codes."""


def look_up(engine: Engine, column: Column, values: Values, codes: Any) -> Tensor:
    """(n, width): rows of the column's table in `values`; pooled or encoded for several codes per row, which are as of
    `as_inputs`."""
    assert column.table is not None
    table = values[column.table]
    if column.encoder is not None:
        return encode(engine, column.encoder, values, table, codes)
    if not isinstance(codes, Mapping):
        return ops.take(table, codes, axis=0)
    rows = ops.take(table, codes["values"], axis=0)
    return engine.segment_sum(rows, codes["segments"], ops.shape(codes["scale"])[0]) * codes["scale"][:, None]


def mapped(numbers: Tensor, kernel: Tensor | None) -> Tensor:
    """(n, width): numbers by the kernel of their column, or as they are where it has none."""
    return numbers if kernel is None else numbers @ kernel


@dataclass(frozen=True)
class Forward:
    """One tower as a function of its weights: equal for equal plans."""

    engine: Engine
    plan: TowerPlan

    def __call__(self, values: Values, tree: Tree) -> tuple[Tensor, Values]:
        """(n, output_dim) from `as_inputs`, and new values of the tower's buffers: it has none."""
        columns = [
            look_up(self.engine, column, values, tree["codes"][column.name])
            if column.table is not None
            else mapped(tree["dense"][column.name], None if column.kernel is None else values[column.kernel])
            for column in self.plan.columns
        ]
        x = columns[0] if len(columns) == 1 else ops.concatenate(columns, axis=1)
        if "keep" in tree:
            x = x * tree["keep"]
        for layer in self.plan.layers:
            x = x @ values[layer.kernel] + values[layer.bias]
            x = x if layer.activation is None else self.engine.activate(layer.activation, x)
        return x, {}


@dataclass(frozen=True)
class Embedding:
    """The vectors of a tower alone."""

    tower: Forward

    def __call__(self, values: Values, tree: Tree) -> Tensor:
        """(n, output_dim)."""
        return self.tower(values, tree["tower"])[0]


class Tower:
    """A declared tower. See `Tower` of the contract; `native` is a `TowerModel`."""

    def __init__(self, engine: Engine, plan: TowerPlan, native: TowerModel, dtype: DType, guard: Guard) -> None:
        self.plan: TowerPlan = plan
        self.output_dim = plan.output_dim
        self.native = native
        self.variables = native.named()
        self.buffers: dict[str, keras.Variable] = {}
        self._dtype, self._guard = dtype, guard
        self.forward = Forward(engine, plan)
        self._embed = engine.reader(Embedding(self.forward), self.variables)

    def inputs(self, features: Features) -> dict[str, Any]:
        """The features as `forward` takes them."""
        return as_inputs(self.plan.columns, features, self._dtype)

    def whole(self, batch: Batch) -> Features:
        """The tower's side of a batch, codes as rows of whole tables."""
        return self.plan.unpack(batch)

    def __call__(self, features: Features | Batch) -> Tensor:
        """See `Tower.__call__`."""
        tree = self.inputs(self.whole(features) if isinstance(features, Batch) else features)
        with self._guard:
            values = {name: ops.convert_to_tensor(variable) for name, variable in self.variables.items()}
            return self.forward(values, to_tensors(tree))[0]

    def embed(self, features: Features) -> NDArray[np.floating]:
        """See `Tower.embed`. Works in chunks."""
        for column in self.plan.columns:
            if column.table is not None:
                codes, total = features.codes[column.name], self.variables[column.table].shape[0]
                held = flat(codes)
                if len(held) and not (held.min() >= 0 and held.max() < total):
                    raise DataError(f"{column.name!r} holds a code outside {column.table}, which has {total} rows")
        plain = features.unmasked
        longest = max((encoder.length for encoder in self.plan.encoders), default=0)
        chunk = 1 << (CODES // longest).bit_length() - 1 if longest else CHUNK
        return in_chunks(self._embed, self.inputs, plain, self.output_dim, self._dtype, self._guard, chunk)


def in_chunks(
    run: Reader,
    inputs: Any,
    features: Features,
    output_dim: int,
    dtype: DType,
    guard: Guard,
    size: int = CHUNK,
) -> NDArray[np.floating]:
    """(n, output_dim): what `run` makes of `inputs(chunk)`, all chunks of one `size` for who compiles by shape."""
    out = np.empty((features.size, output_dim), dtype)
    for start in range(0, features.size, size):
        chunk = features.take(np.arange(start, min(start + size, features.size)))
        tree = {"tower": inputs(chunk)}
        with guard:
            vectors = run(tree, min(features.size, size))
            out[start : start + chunk.size] = ops.convert_to_numpy(vectors)[: chunk.size]
    return out
