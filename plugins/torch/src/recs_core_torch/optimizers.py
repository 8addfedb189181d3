"""The formulas of `recs_core.contract.optimizers`, in place on a weight, or on the rows that a batch touched."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from recs_core.contract.errors import UnsupportedFeature
from recs_core.contract.optimizers import Adagrad, Adam, Optimizer, RowWiseAdagrad

CHUNK = 1 << 16
"""Rows of a whole table that dense Adam updates at a time, so that its temporaries stay small."""


def new_slots(optimizer: Optimizer, name: str, weight: Tensor) -> dict[str, Tensor]:
    """A weight's slots before the first step."""
    if isinstance(optimizer, RowWiseAdagrad) and name.startswith("table/"):
        return {"accumulator": weight.new_full((len(weight),), optimizer.initial_accumulator)}
    if isinstance(optimizer, Adagrad):
        return {"accumulator": torch.full_like(weight, optimizer.initial_accumulator, requires_grad=False)}
    if isinstance(optimizer, Adam):
        return {slot: torch.zeros_like(weight, requires_grad=False) for slot in optimizer.slots}
    raise UnsupportedFeature(
        f"the torch backend has no optimizer {type(optimizer).__name__}; it has Adagrad, RowWiseAdagrad, Adam"
    )


def update(
    optimizer: Optimizer, w: Tensor, g: Tensor, slots: dict[str, Tensor], learning_rate: float, step: int
) -> None:
    """Move `w` and its slots by the gradient `g` (all of one shape, but a row-wise accumulator), at step 1, 2, …"""
    if isinstance(optimizer, Adagrad):
        accumulator = slots["accumulator"]
        if accumulator.shape == w.shape:
            root = accumulator.addcmul_(g, g).sqrt()
        else:
            root = accumulator.add_((g * g).mean(1)).sqrt()[:, None]
        w.addcdiv_(g, root.add_(optimizer.epsilon), value=-learning_rate)
    elif isinstance(optimizer, Adam):
        m, v = slots["m"], slots["v"]
        m.lerp_(g, 1 - optimizer.beta_1)
        v.mul_(optimizer.beta_2).addcmul_(g, g, value=1 - optimizer.beta_2)
        _adam_move(optimizer, w, m, v, learning_rate, step)


def update_densely(
    optimizer: Adam, w: Tensor, rows: Tensor, g: Tensor, slots: dict[str, Tensor], learning_rate: float, step: int
) -> None:
    """The textbook Adam on a whole weight whose gradient is zero outside `rows`."""
    m, v = slots["m"], slots["v"]
    m.mul_(optimizer.beta_1).index_add_(0, rows, g, alpha=1 - optimizer.beta_1)
    v.mul_(optimizer.beta_2).index_add_(0, rows, g * g, alpha=1 - optimizer.beta_2)
    for w_part, m_part, v_part in zip(w.split(CHUNK), m.split(CHUNK), v.split(CHUNK), strict=True):
        _adam_move(optimizer, w_part, m_part, v_part, learning_rate, step)


def _adam_move(optimizer: Adam, w: Tensor, m: Tensor, v: Tensor, learning_rate: float, step: int) -> None:
    root = v.sqrt().div_(math.sqrt(1 - optimizer.beta_2**step)).add_(optimizer.epsilon)
    w.addcdiv_(m, root, value=-learning_rate / (1 - optimizer.beta_1**step))


def clip(gradients: Iterable[Tensor], limit: float) -> None:
    """Scale all gradients by limit / max(norm, limit), norm being the one over all of them together."""
    gradients = list(gradients)
    norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in gradients]))
    factor = limit / norm.clamp(min=limit)
    for gradient in gradients:
        gradient.mul_(factor)
