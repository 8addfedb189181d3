"""The formulas of `recs_core.contract.optimizers`, in place on a weight, or on the rows that a batch touched."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from recs_core.contract.optimizers import Adagrad, Adam, Slots
from recs_core.contract.plans import UpdatePlan
from recs_core_torch.tensors import filled

CHUNK = 1 << 16
"""Rows of a whole table that dense Adam updates at a time, so that its temporaries stay small."""


def new_slots(plan: UpdatePlan, name: str, weight: Tensor) -> dict[str, Tensor]:
    """A weight's slots before the first step."""
    shapes = plan.slots(name, tuple(weight.shape))
    return {slot: filled(shape, plan.start, weight.detach()) for slot, shape in shapes.items()}


def update(
    plan: UpdatePlan,
    name: str,
    w: Tensor,
    g: Tensor,
    slots: Mapping[str, Tensor],
    scalars: Mapping[str, float],
    rows: Tensor | None = None,
) -> None:
    """Move `w` and its slots in place by the gradient `g`, all of one shape, but slots that hold one number per row.

    `scalars`: the plan's of this step. `rows`: those that `g` is of, where a plan moves all rows and `w` is whole.
    """
    in_place = IN_PLACE.get(type(plan.spec).direction)
    if in_place is not None:
        if plan.decay(name):
            w.mul_(1 - scalars["rate"] * plan.decay(name))
        in_place(plan.spec, w, g, slots, scalars, rows)
        return
    whole = g if rows is None else torch.zeros_like(w).index_add_(0, rows, g)
    moved, after = plan.update(name, w, whole, slots, scalars, torch)
    w.copy_(moved)
    for slot, value in after.items():
        slots[slot].copy_(value)


def _adagrad(
    constants: Any, w: Tensor, g: Tensor, slots: Slots, scalars: Mapping[str, float], rows: Tensor | None
) -> None:
    accumulator = slots["accumulator"]
    if accumulator.shape == w.shape:
        root = accumulator.addcmul_(g, g).sqrt()
    else:
        root = accumulator.add_((g * g).mean(1)).sqrt()[:, None]
    w.addcdiv_(g, root.add_(constants.epsilon), value=-scalars["rate"])


def _adam(
    constants: Any, w: Tensor, g: Tensor, slots: Slots, scalars: Mapping[str, float], rows: Tensor | None
) -> None:
    m, v, beta_1, beta_2 = slots["m"], slots["v"], constants.beta_1, constants.beta_2
    if rows is None:
        m.lerp_(g, 1 - beta_1)
        v.mul_(beta_2).addcmul_(g, g, value=1 - beta_2)
        parts = [(w, m, v)]
    else:
        m.mul_(beta_1).index_add_(0, rows, g, alpha=1 - beta_1)
        v.mul_(beta_2).index_add_(0, rows, g * g, alpha=1 - beta_2)
        parts = list(zip(w.split(CHUNK), m.split(CHUNK), v.split(CHUNK), strict=True))
    for w_part, m_part, v_part in parts:
        root = v_part.sqrt().mul_(math.sqrt(scalars["v_scale"])).add_(constants.epsilon)
        w_part.addcdiv_(m_part, root, value=-scalars["rate"] * scalars["m_scale"])


IN_PLACE: Mapping[Any, Callable[..., None]] = {Adagrad.direction: _adagrad, Adam.direction: _adam}
"""Formulas that are worth a second writing: they allocate half as much, and dense Adam no gradient of a whole table."""


def clip(gradients: Iterable[Tensor], limit: float) -> None:
    """Scale all gradients by limit / max(norm, limit), norm being the one over all of them together."""
    gradients = list(gradients)
    norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in gradients]))
    scale(gradients, norm, limit)


def scale(gradients: Iterable[Tensor], norm: Tensor, limit: float) -> None:
    """Scale all gradients, in place, by limit / max(norm, limit)."""
    factor = limit / norm.clamp(min=limit)
    for gradient in gradients:
        gradient.mul_(factor)
