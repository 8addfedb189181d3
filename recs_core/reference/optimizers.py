"""What an optimizer does to one weight, given its gradient g. Everything is float64.

    clip             g ← g · clip_norm / max(‖g‖, clip_norm), ‖·‖ over all weights of the model at once
    decay            w ← w − lr · weight_decay · w, before the update; never for task/…
    SGD              v ← μ v + g;               w ← w − lr · v                        (no v where μ = 0: w ← w − lr · g)
    Adagrad          a ← a + g²;                w ← w − lr · g / (√a + ε)
    RowWiseAdagrad   a_i ← a_i + mean_k g_ik²;  w_i ← w_i − lr · g_i / (√a_i + ε)     (tables; plain Adagrad elsewhere)
    Adam             m ← β₁ m + (1 − β₁) g;     v ← β₂ v + (1 − β₂) g²
                     w ← w − lr · (m / (1 − β₁ᵗ)) / (√(v / (1 − β₂ᵗ)) + ε)
                     t counts the steps from 1, one count for all weights

Weights with rows (tables and task/bias) move, decay and change slots in the rows that a batch names, and nowhere else;
`Adam(dense=True)` counts all rows as touched at every step. Adagrad: Duchi et al. 2011. Adam: Kingma & Ba 2015, decay
decoupled as in Loshchilov & Hutter 2019, ε outside the root.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recs_core.contract.optimizers import SGD, Adagrad, Adam, Optimizer, RowWiseAdagrad

Array = NDArray[np.float64]


def initial_state(optimizer: Optimizer, weights: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """`<weight>/<slot>` for every weight, and `step`, before the first step."""
    state: dict[str, NDArray[Any]] = {"step": np.asarray(0, np.int64)}
    for name, weight in weights.items():
        if isinstance(optimizer, SGD):
            if optimizer.momentum:
                state[f"{name}/velocity"] = np.zeros(np.shape(weight))
        elif isinstance(optimizer, Adagrad):
            shape = np.shape(weight)[:1] if _row_wise(optimizer, name) else np.shape(weight)
            state[f"{name}/accumulator"] = np.full(shape, optimizer.initial_accumulator)
        else:
            state[f"{name}/m"] = np.zeros(np.shape(weight))
            state[f"{name}/v"] = np.zeros(np.shape(weight))
    return state


def clipped(gradients: Mapping[str, Array], clip_norm: float | None) -> dict[str, Array]:
    """The gradients, scaled so that their common norm is at most `clip_norm`."""
    if clip_norm is None:
        return dict(gradients)
    norm = np.sqrt(sum(float((g**2).sum()) for g in gradients.values()))
    return {name: g * (clip_norm / max(norm, clip_norm)) for name, g in gradients.items()}


def update(
    optimizer: Optimizer,
    name: str,
    weight: Array,
    gradient: Array,
    *,
    slots: Mapping[str, Array],
    touched: NDArray[np.integer] | None,
    learning_rate: float,
    step: int,
) -> tuple[Array, dict[str, Array]]:
    """The new weight and slots. `touched`: the rows a batch names, or None for a weight without rows; `step` from 1."""
    if touched is None or (isinstance(optimizer, Adam) and optimizer.dense):
        rows: Any = ...  # all of it
    else:
        rows = touched
    weight, slots = weight.copy(), {slot: value.copy() for slot, value in slots.items()}
    w, g = weight[rows], gradient[rows]
    if not name.startswith("task/"):
        w = w - learning_rate * optimizer.weight_decay * w

    if isinstance(optimizer, SGD):
        v = g
        if optimizer.momentum:
            v = optimizer.momentum * slots["velocity"][rows] + g
            slots["velocity"][rows] = v
        weight[rows] = w - learning_rate * v
        return weight, slots

    if isinstance(optimizer, Adam):
        m = optimizer.beta_1 * slots["m"][rows] + (1 - optimizer.beta_1) * g
        v = optimizer.beta_2 * slots["v"][rows] + (1 - optimizer.beta_2) * g**2
        slots["m"][rows], slots["v"][rows] = m, v
        m_hat, v_hat = m / (1 - optimizer.beta_1**step), v / (1 - optimizer.beta_2**step)
        weight[rows] = w - learning_rate * m_hat / (np.sqrt(v_hat) + optimizer.epsilon)
        return weight, slots

    assert isinstance(optimizer, Adagrad)
    squares = (g**2).mean(axis=-1) if _row_wise(optimizer, name) else g**2
    a = slots["accumulator"][rows] + squares
    slots["accumulator"][rows] = a
    root = np.sqrt(a)[:, None] if _row_wise(optimizer, name) else np.sqrt(a)
    weight[rows] = w - learning_rate * g / (root + optimizer.epsilon)
    return weight, slots


def _row_wise(optimizer: Optimizer, name: str) -> bool:
    return isinstance(optimizer, RowWiseAdagrad) and name.startswith("table/")
