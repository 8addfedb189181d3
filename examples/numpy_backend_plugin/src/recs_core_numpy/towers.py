"""Towers, forward and backward. `weights` holds whole tables, or the rows of them that a batch names."""

from __future__ import annotations

from typing import Any

import numpy as np

from recs_core.contract.batch import Features, Ragged
from recs_core.contract.towers import TowerSpec

Arrays = dict[str, Any]
ACTIVATE = {
    "relu": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    None: lambda x: x,
}
SLOPE = {"relu": lambda y: y > 0, "tanh": lambda y: 1 - y * y, "sigmoid": lambda y: y * (1 - y), None: np.ones_like}


def forward(tower: TowerSpec, side: str, features: Features, weights: Arrays, dtype: str) -> list[Any]:
    """The input and every layer's output; the last is the tower's."""
    columns = []
    for feature in tower.features:
        if feature.table_name is None:
            columns.append(features.dense[feature.name].astype(dtype)[:, None])
            continue
        codes, table = features.codes[feature.name], weights[feature.table_name]
        if isinstance(codes, Ragged):
            pooled = np.zeros((features.size, feature.width), dtype)
            np.add.at(pooled, codes.segments, table[codes.values])
            columns.append(pooled / divisor(feature, codes, dtype))
        else:
            columns.append(table[codes])
    x = np.concatenate(columns, axis=1)
    outputs = [x if features.keep is None else x * features.keep.astype(dtype)]
    for i, activation in enumerate(activations(tower)):
        kernel, bias = weights[f"{side}/dense_{i}/kernel"], weights[f"{side}/dense_{i}/bias"]
        outputs.append(ACTIVATE[activation](outputs[-1] @ kernel + bias))
    return outputs


def backward(
    tower: TowerSpec, side: str, features: Features, weights: Arrays, outputs: list[Any], gradient: Any, into: Arrays
) -> None:
    """Add the gradient of every weight to `into`."""
    for i, activation in reversed(list(enumerate(activations(tower)))):
        gradient = gradient * SLOPE[activation](outputs[i + 1])
        into[f"{side}/dense_{i}/kernel"] += outputs[i].T @ gradient
        into[f"{side}/dense_{i}/bias"] += gradient.sum(axis=0)
        gradient = gradient @ weights[f"{side}/dense_{i}/kernel"].T
    if features.keep is not None:
        gradient = gradient * features.keep.astype(gradient.dtype)
    start = 0
    for feature in tower.features:
        part = gradient[:, start : start + feature.width]
        start += feature.width
        if feature.table_name is None:
            continue
        codes = features.codes[feature.name]
        if isinstance(codes, Ragged):
            part = (part / divisor(feature, codes, part.dtype))[codes.segments]
            codes = codes.values
        np.add.at(into[feature.table_name], codes, part)


def activations(tower: TowerSpec) -> list[Any]:
    """The activation after each layer."""
    return [tower.activation] * (len(tower.layers) - 1) + [tower.final_activation] * bool(tower.layers)


def divisor(feature: Any, codes: Ragged, dtype: Any) -> Any:
    """(n, 1): what a row's sum is divided by."""
    return np.maximum(1, codes.lengths)[:, None].astype(dtype) if feature.pooling == "mean" else 1
