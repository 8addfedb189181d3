"""Towers: the columns of a plan side by side, × dropout's keep mask, then dense layers; and their gradients."""

from typing import Any

import numpy as np

from recs_core.contract.batch import Batch, Features
from recs_core.contract.features import Column
from recs_core.contract.plans import TowerPlan
from recs_core_numpy.data import as_inputs
from recs_core_numpy.plugin import lacks

ACTIVATIONS = {  # each with its slope, by its output
    None: (lambda x: x, np.ones_like),
    "relu": (lambda x: np.maximum(x, 0), lambda y: y > 0),
    "tanh": (np.tanh, lambda y: 1 - y * y),
    "sigmoid": (lambda x: 1 / (1 + np.exp(-x)), lambda y: y * (1 - y)),
}


class Tower:
    def __init__(self, plan: TowerPlan, weights: dict[str, Any], dtype: str) -> None:
        self.plan, self.weights, self.dtype = plan, weights, dtype
        self.output_dim, self.native = plan.output_dim, self

    def embed(self, features: Features) -> Any:
        return self.run(features.unmasked, self.weights)[0]

    def __call__(self, features: Features | Batch) -> Any:
        raise lacks("native_loop")

    def run(self, features: Features, weights: dict[str, Any]) -> tuple[Any, Any]:
        """(n, output_dim), and what adds every weight's gradient to a dict, given the gradient by the first.
        `weights`: whole tables, or the rows of them that codes count within."""
        inputs = as_inputs(features, self.dtype)
        parts, parts_back = zip(*(look_up(weights, c, inputs[c.name]) for c in self.plan.columns), strict=True)
        keep = 1 if features.keep is None else features.keep.astype(self.dtype)
        outputs = [np.concatenate(parts, axis=1) * keep]
        for layer in self.plan.layers:
            x = outputs[-1] @ weights[layer.kernel] + weights[layer.bias]
            outputs.append(ACTIVATIONS[layer.activation][0](x))

        def back(g: Any, into: dict[str, Any]) -> None:
            for layer, x, y in reversed(list(zip(self.plan.layers, outputs, outputs[1:], strict=False))):
                g = g * ACTIVATIONS[layer.activation][1](y)
                into[layer.kernel] += x.T @ g
                into[layer.bias] += g.sum(axis=0)
                g = g @ weights[layer.kernel].T
            ends = np.cumsum([column.width for column in self.plan.columns])
            for part_back, part in zip(parts_back, np.split(g * keep, ends[:-1], axis=1), strict=True):
                part_back(part, into)

        return outputs[-1], back


def look_up(weights: dict[str, Any], column: Column, value: Any) -> tuple[Any, Any]:
    """(n, width) the sum or mean of the rows of each list of codes (none: zeros), or the numbers, by
    their kernel where they have one; and the way back."""
    if column.kernel is not None:
        return value @ weights[column.kernel], lambda g, into: np.add(
            into[column.kernel], value.T @ g, into[column.kernel]
        )
    if column.table is None:
        return value, lambda g, into: None
    table = weights[column.table]
    divisor = np.maximum(1, value.lengths)[:, None].astype(table.dtype) if column.mean else 1
    pooled = np.zeros((len(value.lengths), column.width), table.dtype)
    np.add.at(pooled, value.segments, table[value.values])
    return pooled / divisor, lambda g, into: np.add.at(into[column.table], value.values, (g / divisor)[value.segments])
