"""What one step does to one weight, on whatever rows it is given. The formulas: `recs_core.contract.optimizers`."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

from recs_core.contract.plans import UpdatePlan
from recs_core.contract.protocols import DType
from recs_core.keras_backend.engines import Group, Tensor, Values


def _mean(x: Tensor, axis: int) -> Tensor:
    """`ops.mean` divides by a float32 on two of the engines, in float64 too."""
    return ops.sum(x, axis=axis) / x.shape[axis]


XP = SimpleNamespace(sqrt=ops.sqrt, mean=_mean)


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
    slots = {slot: value for slot, value in group.items() if slot != "value"}
    weight, slots = plan.update(name, group["value"], gradient, slots, now, XP)
    return {"value": weight, **slots}
