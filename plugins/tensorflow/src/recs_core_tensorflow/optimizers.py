"""What an optimizer does to a weight, on tensors. The formulas: `recs_core.contract.optimizers`.

`update` moves whatever rows it is given; which rows these are, gathered or whole, is the trainer's business.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from recs_core.contract.plans import UpdatePlan
from recs_core_tensorflow.environment import tf

Tensors = Mapping[str, Any]

XP = SimpleNamespace(sqrt=tf.sqrt, mean=tf.reduce_mean)


def new_slots(plan: UpdatePlan, name: str, variable: Any) -> dict[str, Any]:
    """The state of one weight before the first step: slot → `tf.Variable`."""
    start = tf.constant(plan.start, variable.dtype)
    return {
        slot: tf.Variable(tf.fill(shape, start), name=f"{name}/{slot}", trainable=False)
        for slot, shape in plan.slots(name, tuple(variable.shape)).items()
    }


def clip(gradients: Mapping[str, Any], clip_norm: float | None) -> dict[str, Any]:
    """g · clip_norm / max(‖g‖, clip_norm), one norm over all gradients."""
    if clip_norm is None:
        return dict(gradients)
    norm = tf.sqrt(tf.add_n([tf.reduce_sum(g * g) for g in gradients.values()]))
    factor = clip_norm / tf.maximum(norm, clip_norm)
    return {name: g * factor for name, g in gradients.items()}


def update(
    plan: UpdatePlan, name: str, weight: Any, slots: Tensors, gradient: Any, now: Tensors
) -> tuple[Any, dict[str, Any]]:
    """The new weight and slots; all of them hold the same rows. `now`: the scalars of the step."""
    return plan.update(name, weight, gradient, slots, now, XP)
