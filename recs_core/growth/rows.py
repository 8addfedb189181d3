"""Weights and optimizer slots with rows for new ids, and where these rows start."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recs_core.contract.optimizers import Optimizer
from recs_core.contract.plans import UpdatePlan
from recs_core.contract.weights import Weights

SAMPLE = 1 << 16
"""Rows, evenly spread over a table, whose mean stands for that of all of them."""

Array = NDArray[np.floating]


def mean_row(array: Array, first: int) -> Array:
    """The mean of the rows from `first` on, those that stand for ids, (…); zeros where there are none."""
    rows = array[first:]
    if not len(rows):
        return np.zeros(array.shape[1:], array.dtype)
    return np.asarray(rows[:: -(-len(rows) // SAMPLE)].mean(0, dtype=np.float64), array.dtype)


def with_rows(array: NDArray[Any], rows: NDArray[Any]) -> NDArray[Any]:
    """The array with these rows below, a copy: `resize` would lose the large pages of memory, and takes longer."""
    return np.concatenate([array, rows.astype(array.dtype, copy=False)])


def grown_weights(weights: Weights, below: Mapping[str, Array]) -> dict[str, Array]:
    """Weights with rows below, by canonical name; the others are shared."""
    return {name: with_rows(array, below[name]) if name in below else array for name, array in weights.items()}


def grown_state(
    state: Mapping[str, NDArray[Any]], optimizer: Optimizer, below: Mapping[str, Array]
) -> dict[str, NDArray[Any]]:
    """An optimizer's state whose slots have rows for those of `below`, as a weight that was never moved has
    them."""
    plan, out = UpdatePlan(optimizer), dict(state)
    for weight, rows in below.items():
        for slot, shape in plan.slots(weight, rows.shape).items():
            name = f"{weight}/{slot}"
            out[name] = with_rows(state[name], np.full(shape, plan.start))
    return out
