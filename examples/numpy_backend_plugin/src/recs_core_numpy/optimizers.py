"""What one step does to one weight, or to rows of it. The formulas: `recs_core.contract.optimizers`."""

from typing import Any

import numpy as np

from recs_core.contract.plans import UpdatePlan


def new_slots(plan: UpdatePlan, name: str, weight: Any) -> dict[str, Any]:
    """A weight's slots before the first step."""
    return {slot: np.full(shape, plan.start, weight.dtype) for slot, shape in plan.slots(name, weight.shape).items()}


def update(plan: UpdatePlan, name: str, w: Any, slots: Any, g: Any, scalars: dict[str, float]) -> tuple[Any, Any]:
    """The weight and its slots after the step; all of them hold the same rows. `scalars`: the plan's of this step."""
    return plan.update(name, w, g, slots, scalars, np)


def clip(gradients: Any, limit: float) -> None:
    """Scale all gradients by limit / max(norm, limit), norm being the one over all of them together."""
    norm = np.sqrt(sum((g**2).sum() for g in gradients))
    for gradient in gradients:
        np.multiply(gradient, limit / max(norm, limit), out=gradient)
