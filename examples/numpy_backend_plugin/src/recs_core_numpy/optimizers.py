"""The formulas of `recs_core.contract.optimizers`, in place on a weight, or on the rows that a batch touched."""

from typing import Any

import numpy as np

from recs_core.contract.plans import UpdatePlan

FORMULAS = ("adagrad", "adam")


def new_slots(plan: UpdatePlan, name: str, weight: Any) -> dict[str, Any]:
    """A weight's slots before the first step."""
    return {slot: np.full(shape, plan.start, weight.dtype) for slot, shape in plan.slots(name, weight.shape).items()}


def update(plan: UpdatePlan, w: Any, g: Any, slots: dict[str, Any], scalars: dict[str, float]) -> None:
    """Move `w` and its slots by the gradient `g`. `scalars`: the plan's of this step."""
    if plan.formula == "adagrad":
        a = slots["accumulator"]
        by_row = a.shape != w.shape
        a += (g * g).mean(axis=1) if by_row else g * g
        w -= scalars["rate"] * g / (np.sqrt(a[:, None] if by_row else a) + plan.spec.epsilon)
    else:
        m, v = slots["m"], slots["v"]
        m += (1 - plan.spec.beta_1) * (g - m)
        v += (1 - plan.spec.beta_2) * (g * g - v)
        w -= scalars["rate"] * scalars["m_scale"] * m / (np.sqrt(v * scalars["v_scale"]) + plan.spec.epsilon)


def clip(gradients: Any, limit: float) -> None:
    """Scale all gradients by limit / max(norm, limit), norm being the one over all of them together."""
    norm = np.sqrt(sum((g**2).sum() for g in gradients))
    for gradient in gradients:
        np.multiply(gradient, limit / max(norm, limit), out=gradient)
