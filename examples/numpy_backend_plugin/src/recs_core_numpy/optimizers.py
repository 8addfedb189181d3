"""What an optimizer does to the rows of one weight, in place."""

from __future__ import annotations

from typing import Any

import numpy as np

from recs_core.contract.optimizers import Adam, Optimizer


def initial_slots(optimizer: Optimizer, weight: Any) -> dict[str, Any]:
    """The slots of a weight before the first step."""
    if isinstance(optimizer, Adam):
        return {slot: np.zeros_like(weight) for slot in optimizer.slots}
    return {"accumulator": np.full_like(weight, optimizer.initial_accumulator)}


def update(
    optimizer: Optimizer, name: str, weight: Any, slots: dict[str, Any], rows: Any, g: Any, rate: float, step: int
) -> None:
    """One step on `weight[rows]`, from their gradient."""
    w = weight[rows]
    if not name.startswith("task/"):
        w = w - rate * optimizer.weight_decay * w
    if isinstance(optimizer, Adam):
        m = slots["m"][rows] = optimizer.beta_1 * slots["m"][rows] + (1 - optimizer.beta_1) * g
        v = slots["v"][rows] = optimizer.beta_2 * slots["v"][rows] + (1 - optimizer.beta_2) * g * g
        m, v = m / (1 - optimizer.beta_1**step), v / (1 - optimizer.beta_2**step)
        weight[rows] = w - rate * m / (np.sqrt(v) + optimizer.epsilon)
        return
    a = slots["accumulator"][rows] = slots["accumulator"][rows] + g * g
    weight[rows] = w - rate * g / (np.sqrt(a) + optimizer.epsilon)
