"""What a tower reads, as trees of NumPy arrays for the engine to take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from keras import ops

from recs_core.contract.batch import Features, Ragged, Sequences
from recs_core.contract.errors import DataError
from recs_core.contract.features import Column
from recs_core.contract.lanes import Lanes
from recs_core.contract.protocols import DType


def as_inputs(columns: Sequence[Column], features: Features, dtype: DType) -> dict[str, Any]:
    """The columns' `codes` and `dense` numbers by name, and `keep` where the features have it.

    Several codes per row are `values` (nnz,), the row of each, `segments` (nnz,), and `scale` (n,): 1 ÷ their number
    where they are averaged, else 1. Histories with an encoder are the arrays of their `Lanes`, each as long as the
    longest that the encoder reads: so batches are of few shapes.
    """
    codes: dict[str, Any] = {}
    dense: dict[str, Any] = {}
    for column in columns:
        name = column.name
        if column.kind == "dense":
            dense[name] = np.asarray(features.dense[name], dtype)
            continue
        value = features.codes[name]
        if isinstance(value, Sequences):
            assert column.encoder is not None
            codes[name] = Lanes.of(value, column.encoder.length).arrays
        elif isinstance(value, Ragged):
            scale = 1 / np.maximum(1, value.lengths) if column.mean else np.ones(features.size)
            codes[name] = {"values": value.values, "segments": value.segments, "scale": scale.astype(dtype)}
        else:
            codes[name] = value
    tree: dict[str, Any] = {"codes": codes, "dense": dense}
    if features.keep is not None:
        tree["keep"] = np.asarray(features.keep, dtype)
    return tree


def as_given(columns: Sequence[Column], features: Features, dtype: DType, taker: str) -> dict[str, Any]:
    """The columns as an adopted module takes them: as `as_inputs`, but several codes per row are `values` and `offsets`
    (n + 1,). Raises `DataError` naming the `taker` for a column that the features lack."""
    for column in columns:
        if column.name not in features.codes and column.name not in features.dense:
            raise DataError(f"{taker} needs {column.name!r}, which the features lack")
    codes = {c.name: features.codes[c.name] for c in columns if c.name in features.codes}
    return {
        "codes": {name: _pair(value) if isinstance(value, Ragged) else value for name, value in codes.items()},
        "dense": {c.name: np.asarray(features.dense[c.name], dtype) for c in columns if c.name not in codes},
    }


def _pair(ragged: Ragged) -> dict[str, Any]:
    """Never without a value, so that a module may look at one and ignore it."""
    return {"values": np.append(ragged.values, np.int32(0)), "offsets": ragged.offsets}


def to_tensors(tree: Any) -> Any:
    """The tree, its arrays as the engine's tensors."""
    if isinstance(tree, Mapping):
        return {name: to_tensors(value) for name, value in tree.items()}
    return ops.convert_to_tensor(tree, dtype=str(tree.dtype))  # JAX compiles a program where the dtype is not stated
