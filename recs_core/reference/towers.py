"""A tower, forward and backward.

    forward    x = [f₁ ; f₂ ; …] ⊙ keep,   h₀ = x,   hᵢ₊₁ = φᵢ(hᵢ Wᵢ + bᵢ),   output = the last h
    features   Categorical   the row of its code
               Bag, Text, History   the sum of the rows of its codes, ÷ their number when pooling is "mean"; no codes: 0
               Numeric       the number itself; a dense feature of any width, its numbers
               History with an encoder   the encoder's output at the place that the row reads; −1: 0
               Vector        x, or x W where it has a kernel W
    φ          `activation` after every layer but the last, `final_activation` after the last; None is the identity

n rows, tables (rows, dim), kernels (in, out). Codes are rows of whole tables. Everything is float64.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recs_core.contract.batch import Codes, Features, Ragged, Sequences
from recs_core.contract.features import Feature
from recs_core.contract.towers import Activation, TowerSpec
from recs_core.reference import encoders

Array = NDArray[np.float64]
Weights = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Trace:
    """What a forward pass leaves for the backward one: each layer's input, and its output, and of each feature with an
    encoder its histories, each with its encoder's way back."""

    inputs: list[Array]
    outputs: list[Array]
    encoded: dict[str, Encoded]


def embed(tower: TowerSpec, side: str, features: Features, weights: Weights) -> Array:
    """(n, output_dim): the tower's raw output, before cosine, temperature and bias."""
    return forward(tower, side, features, weights)[0]


def forward(tower: TowerSpec, side: str, features: Features, weights: Weights) -> tuple[Array, Trace]:
    """The tower's raw output (n, output_dim) and its trace. `side` is "query" or "candidate"."""
    trace = Trace([], [], {})
    x = concatenated(tower, side, features, weights, trace)
    for i in range(len(tower.layers)):
        trace.inputs.append(x)
        x = activate(
            _activation(tower, i), x @ _float64(weights, side, i, "kernel") + _float64(weights, side, i, "bias")
        )
        trace.outputs.append(x)
    return x, trace


def backward(
    tower: TowerSpec, side: str, features: Features, weights: Weights, *, trace: Trace, gradient: Array
) -> dict[str, Array]:
    """∂loss/∂weight for every weight of the tower, whole tables included, from ∂loss/∂output (n, output_dim)."""
    gradients: dict[str, Array] = {}
    for i in reversed(range(len(tower.layers))):
        gradient = gradient * slope(_activation(tower, i), trace.outputs[i])
        gradients[f"{side}/dense_{i}/kernel"] = trace.inputs[i].T @ gradient
        gradients[f"{side}/dense_{i}/bias"] = gradient.sum(axis=0)
        gradient = gradient @ _float64(weights, side, i, "kernel").T
    if features.keep is not None:
        gradient = gradient * features.keep
    start = 0
    for feature in tower.features:
        part = gradient[:, start : start + feature.width]
        start += feature.width
        if feature.table_name is None:
            if feature.mapped:
                x = np.asarray(features.dense[feature.name], np.float64)
                gradients[_kernel(side, feature)] = x.T @ part
            continue
        table = gradients.setdefault(feature.table_name, np.zeros(np.shape(weights[feature.table_name])))
        if feature.name in trace.encoded:
            gradients |= trace.encoded[feature.name].backward(part, table)
            continue
        for row, codes in enumerate(codes_per_row(features.codes[feature.name])):
            for code in codes:  # a code that a bag holds twice counts twice
                table[code] += part[row] / _divisor(feature, len(codes))
    return gradients


class Encoded:
    """A feature with an encoder: `rows` (n, width), and the way back from them."""

    def __init__(self, feature: Feature, side: str, sequences: Sequences, weights: Weights) -> None:
        column = feature.column(side)  # type: ignore[arg-type]
        assert column.encoder is not None and column.table is not None
        spec, self.sequences, self.prefix = column.encoder.spec, sequences, column.encoder.prefix
        start = len(self.prefix) + 1
        own = {name[start:]: value for name, value in weights.items() if name.startswith(f"{self.prefix}/")}
        self.weights = encoders.Weights(own)
        table, offsets = np.asarray(weights[column.table], np.float64), sequences.codes.offsets
        scale = 1 / (1 - spec.dropout)
        out = [np.zeros((0, feature.width))]
        self.backs = []
        for a, b in pairwise(offsets):
            if a == b:
                continue
            keep = {
                name: np.asarray(sequences.keep[name][a:b], np.float64) * scale if sequences.keep else np.ones((1, 1))
                for name in spec.masked(feature.width)
            }
            ago = None
            if sequences.times is not None and sequences.asked is not None:
                ago = sequences.asked[a:b, None] - sequences.times[None, a:b]
            rows, back = encoders.encode(spec, self.weights, table[sequences.values[a:b]], keep, ago)
            out.append(rows)
            self.backs.append((slice(a, b), back))
        every = np.concatenate([*out, np.zeros((1, feature.width))])  # −1 reads the last: zeros
        self.rows = every[sequences.at]

    def backward(self, gradient: Array, table: Array) -> dict[str, Array]:
        """∂loss/∂weight of the encoder, by canonical name; that of the table is added to `table`."""
        by_code = np.zeros((len(self.sequences.values) + 1, gradient.shape[1]))
        np.add.at(by_code, self.sequences.at, gradient)
        for own, back in self.backs:
            np.add.at(table, self.sequences.values[own], back(by_code[:-1][own]))
        return {f"{self.prefix}/{name}": value for name, value in self.weights.gradients.items()}


def concatenated(
    tower: TowerSpec, side: str, features: Features, weights: Weights, trace: Trace | None = None
) -> Array:
    """(n, input_dim): the features side by side, in the order of the spec, times the keep mask."""
    columns = []
    for feature in tower.features:
        if feature.table_name is None:
            x = np.asarray(features.dense[feature.name], np.float64)
            columns.append(x @ np.asarray(weights[_kernel(side, feature)], np.float64) if feature.mapped else x)
            continue
        codes = features.codes[feature.name]
        if isinstance(codes, Sequences):
            encoded = Encoded(feature, side, codes, weights)
            columns.append(encoded.rows)
            if trace is not None:
                trace.encoded[feature.name] = encoded
            continue
        table = np.asarray(weights[feature.table_name], np.float64)
        rows = codes_per_row(features.codes[feature.name])
        pooled = [table[codes].sum(axis=0) / _divisor(feature, len(codes)) for codes in rows]
        columns.append(np.reshape(pooled, (len(rows), feature.width)))
    x = np.concatenate(columns, axis=1)
    return x if features.keep is None else x * features.keep


def codes_per_row(codes: Codes) -> list[NDArray[np.integer]]:
    """The codes of each row, as a list of arrays: one code each, or as many as a ragged row holds."""
    if isinstance(codes, Ragged):
        return [codes.values[a:b] for a, b in zip(codes.offsets[:-1], codes.offsets[1:], strict=True)]
    assert not isinstance(codes, Sequences)  # these are read by place, see `Encoded`
    return [np.asarray([code]) for code in codes]


def activate(name: Activation | None, x: Array) -> Array:
    """φ(x)."""
    if name == "relu":
        return np.maximum(x, 0)
    if name == "tanh":
        return np.tanh(x)
    if name == "sigmoid":
        return 1 / (1 + np.exp(-x))
    return x


def slope(name: Activation | None, y: Array) -> Array:
    """φ′(x), written in y = φ(x); that of ReLU at 0 is 0."""
    if name == "relu":
        return (y > 0).astype(np.float64)
    if name == "tanh":
        return 1 - y**2
    if name == "sigmoid":
        return y * (1 - y)
    return np.ones_like(y)


def _float64(weights: Weights, side: str, layer: int, part: str) -> Array:
    return np.asarray(weights[f"{side}/dense_{layer}/{part}"], np.float64)


def _kernel(side: str, feature: Feature) -> str:
    return f"{side}/vector/{feature.name}/kernel"


def _activation(tower: TowerSpec, layer: int) -> Activation | None:
    return tower.final_activation if layer == len(tower.layers) - 1 else tower.activation


def _divisor(feature: Feature, number: int) -> int:
    """What a feature's sum of rows is divided by; 1 where there is nothing to divide."""
    return max(1, number) if feature.averages else 1
