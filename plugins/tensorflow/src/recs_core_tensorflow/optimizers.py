"""What an optimizer does to a weight: formulas as in `recs_core.contract.optimizers`, on tensors.

`update` moves whatever rows it is given; which rows these are, gathered or whole, is the trainer's business.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from recs_core.contract.errors import UnsupportedFeature
from recs_core.contract.optimizers import Adagrad, Adam, Optimizer, RowWiseAdagrad
from recs_core.contract.protocols import DType
from recs_core_tensorflow.environment import tf

Tensors = Mapping[str, Any]


def new_slots(optimizer: Optimizer, name: str, variable: Any) -> dict[str, Any]:
    """The state of one weight before the first step: slot → `tf.Variable`."""
    if isinstance(optimizer, Adagrad):
        shape = variable.shape[:1] if is_row_wise(optimizer, name) else variable.shape
        start = tf.fill(shape, tf.constant(optimizer.initial_accumulator, variable.dtype))
        return {"accumulator": _variable(start, f"{name}/accumulator")}
    if isinstance(optimizer, Adam):
        return {slot: _variable(tf.zeros_like(variable), f"{name}/{slot}") for slot in optimizer.slots}
    raise UnsupportedFeature(f"the tensorflow backend has no optimizer {type(optimizer).__name__}; use Adagrad or Adam")


def _variable(value: Any, name: str) -> Any:
    return tf.Variable(value, name=name, trainable=False)


def is_row_wise(optimizer: Optimizer, name: str) -> bool:
    """Whether the weight has one accumulator a row."""
    return isinstance(optimizer, RowWiseAdagrad) and name.startswith("table/")


def settings(optimizer: Optimizer, learning_rate: float, step: int, dtype: DType) -> dict[str, np.floating[Any]]:
    """What changes from step to step, as numbers: computed here in float64, where 1 − 0.999ᵗ keeps its digits."""
    out = {"learning_rate": learning_rate}
    if isinstance(optimizer, Adam):
        out["grow_m"] = 1 / (1 - optimizer.beta_1**step)
        out["grow_v"] = 1 / (1 - optimizer.beta_2**step)
    return {name: np.dtype(dtype).type(value) for name, value in out.items()}


def clip(gradients: Mapping[str, Any], clip_norm: float | None) -> dict[str, Any]:
    """g · clip_norm / max(‖g‖, clip_norm), one norm over all gradients."""
    if clip_norm is None:
        return dict(gradients)
    norm = tf.sqrt(tf.add_n([tf.reduce_sum(g * g) for g in gradients.values()]))
    factor = clip_norm / tf.maximum(norm, clip_norm)
    return {name: g * factor for name, g in gradients.items()}


def update(
    optimizer: Optimizer, name: str, weight: Any, slots: Tensors, gradient: Any, now: Tensors
) -> tuple[Any, dict[str, Any]]:
    """The new weight and slots; all of them hold the same rows. `now` as of `settings`."""
    rate = now["learning_rate"]
    if optimizer.weight_decay and not name.startswith("task/"):
        weight -= rate * optimizer.weight_decay * weight
    if isinstance(optimizer, Adam):
        m = optimizer.beta_1 * slots["m"] + (1 - optimizer.beta_1) * gradient
        v = optimizer.beta_2 * slots["v"] + (1 - optimizer.beta_2) * gradient * gradient
        weight -= rate * (m * now["grow_m"]) / (tf.sqrt(v * now["grow_v"]) + optimizer.epsilon)
        return weight, {"m": m, "v": v}
    assert isinstance(optimizer, Adagrad)
    square = gradient * gradient
    if is_row_wise(optimizer, name):
        square = tf.reduce_mean(square, axis=1)
    accumulator = slots["accumulator"] + square
    root = tf.sqrt(accumulator)
    root = root[:, None] if is_row_wise(optimizer, name) else root
    return weight - rate * gradient / (root + optimizer.epsilon), {"accumulator": accumulator}
