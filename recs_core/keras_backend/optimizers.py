"""What one step does to one weight: the formulas of `recs_core.contract.optimizers`, on whatever rows it is given."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

from recs_core.contract.optimizers import Formula
from recs_core.contract.plans import UpdatePlan
from recs_core.contract.protocols import DType
from recs_core.keras_backend.engines import Group, Tensor, Values

FORMULAS: tuple[Formula, ...] = ("adagrad", "adam")
"""Those that `update` knows."""


def new_slots(plan: UpdatePlan, name: str, shape: tuple[int, ...], dtype: DType) -> dict[str, NDArray[Any]]:
    """A weight's slots before the first step."""
    return {slot: np.full(of, plan.start, dtype) for slot, of in plan.slots(name, shape).items()}


def clip(gradients: Values, clip_norm: float | None) -> Values:
    """The gradients, scaled so that their common norm is at most `clip_norm`."""
    if clip_norm is None:
        return gradients
    squares = [ops.sum(ops.square(gradient)) for gradient in gradients.values()]
    excess = ops.sqrt(sum(squares[1:], squares[0])) / clip_norm
    excess = ops.where(excess > 1, excess, 1.0)
    return {name: gradient / excess for name, gradient in gradients.items()}


def update(plan: UpdatePlan, name: str, group: Group, gradient: Tensor, now: Values) -> Group:
    """The weight (`value`) and its slots after the step. `now`: see `UpdatePlan.scalars`."""
    weight = group["value"]
    if plan.decay(name):
        weight = weight - now["rate"] * plan.decay(name) * weight
    move, slots = (_adam if plan.formula == "adam" else _adagrad)(plan, name, group, gradient, now)
    return {"value": weight - now["rate"] * move, **slots}


def _adam(plan: UpdatePlan, name: str, group: Group, gradient: Tensor, now: Values) -> tuple[Tensor, Values]:
    of: Any = plan.spec
    m = of.beta_1 * group["m"] + (1 - of.beta_1) * gradient
    v = of.beta_2 * group["v"] + (1 - of.beta_2) * ops.square(gradient)
    return m * now["m_scale"] / (ops.sqrt(v * now["v_scale"]) + of.epsilon), {"m": m, "v": v}


def _adagrad(plan: UpdatePlan, name: str, group: Group, gradient: Tensor, now: Values) -> tuple[Tensor, Values]:
    of: Any = plan.spec
    squares = ops.square(gradient)
    by_row = plan.by_row(name)
    accumulator = group["accumulator"] + (ops.sum(squares, axis=1) / gradient.shape[1] if by_row else squares)
    root = ops.sqrt(accumulator)
    return gradient / ((root[:, None] if by_row else root) + of.epsilon), {"accumulator": accumulator}
