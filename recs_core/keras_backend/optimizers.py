"""What one step does to one weight: the formulas of `recs_core.contract.optimizers`, on whatever rows it is given."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

from recs_core.contract.errors import UnsupportedFeature
from recs_core.contract.optimizers import Adagrad, Adam, Optimizer, RowWiseAdagrad
from recs_core.contract.protocols import DType
from recs_core.keras_backend.engines import Group, Tensor, Values


def initial_slots(optimizer: Optimizer, name: str, shape: tuple[int, ...], dtype: DType) -> dict[str, NDArray[Any]]:
    """A weight's slots before the first step."""
    if isinstance(optimizer, Adagrad):
        shape = shape[:1] if _by_row(optimizer, name) else shape
        return {"accumulator": np.full(shape, optimizer.initial_accumulator, dtype)}
    if isinstance(optimizer, Adam):
        return {slot: np.zeros(shape, dtype) for slot in optimizer.slots}
    raise UnsupportedFeature(f"keras has no optimizer {type(optimizer).__name__}; it has Adagrad, RowWiseAdagrad, Adam")


def scalars(optimizer: Optimizer, learning_rate: float, step: int, dtype: DType) -> dict[str, NDArray[Any]]:
    """The numbers of step `step` (from 1), computed in float64."""
    out = {"rate": learning_rate, "decay": learning_rate * optimizer.weight_decay}
    if isinstance(optimizer, Adam):
        out["m_scale"], out["v_scale"] = 1 / (1 - optimizer.beta_1**step), 1 / (1 - optimizer.beta_2**step)
    return {name: np.asarray(value, dtype) for name, value in out.items()}


def clipped(gradients: Values, clip_norm: float | None) -> Values:
    """The gradients, scaled so that their common norm is at most `clip_norm`."""
    if clip_norm is None:
        return gradients
    squares = [ops.sum(ops.square(gradient)) for gradient in gradients.values()]
    norm = ops.sqrt(sum(squares[1:], squares[0]))
    excess = norm / clip_norm
    excess = ops.where(excess > 1, excess, 1.0)
    return {name: gradient / excess for name, gradient in gradients.items()}


def update(optimizer: Optimizer, name: str, group: Group, gradient: Tensor, now: Values) -> Group:
    """The weight (`value`) and its slots after the step. `now`: see `scalars`."""
    weight = group["value"]
    if optimizer.weight_decay and not name.startswith("task/"):
        weight = weight - now["decay"] * weight
    if isinstance(optimizer, Adam):
        m = optimizer.beta_1 * group["m"] + (1 - optimizer.beta_1) * gradient
        v = optimizer.beta_2 * group["v"] + (1 - optimizer.beta_2) * ops.square(gradient)
        move = m * now["m_scale"] / (ops.sqrt(v * now["v_scale"]) + optimizer.epsilon)
        return {"value": weight - now["rate"] * move, "m": m, "v": v}
    assert isinstance(optimizer, Adagrad)
    squares = ops.square(gradient)
    by_row = _by_row(optimizer, name)
    accumulator = group["accumulator"] + (ops.sum(squares, axis=1) / gradient.shape[1] if by_row else squares)
    root = ops.sqrt(accumulator)
    move = gradient / ((root[:, None] if by_row else root) + optimizer.epsilon)
    return {"value": weight - now["rate"] * move, "accumulator": accumulator}


def _by_row(optimizer: Optimizer, name: str) -> bool:
    return isinstance(optimizer, RowWiseAdagrad) and name.startswith("table/")
