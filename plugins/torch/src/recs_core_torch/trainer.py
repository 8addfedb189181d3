"""A training step that touches the rows of its batch and no others, so that its cost does not depend on the tables."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recs_core.contract.batch import Batch
from recs_core.contract.plans import UpdatePlan
from recs_core.contract.weights import check_state
from recs_core_torch import optimizers
from recs_core_torch.model import Model
from recs_core_torch.tensors import as_tensor


class Trainer:
    """One optimizer on one model: gather rows, loss, gradients, clip, update, put the rows back."""

    def __init__(self, model: Model, plan: UpdatePlan) -> None:
        self.model, self.plan, self.steps = model, plan, 0
        self.device = model.task.log_temperature.device
        self.weights = {name: w for name, w in model.canonical().items() if w.parameter.requires_grad}

    @cached_property
    def slots(self) -> dict[str, dict[str, Tensor]]:
        """By weight and slot; made when first asked for, since a state that is loaded takes their place."""
        return {name: optimizers.new_slots(self.plan, name, w.parameter) for name, w in self.weights.items()}

    def step(self, batch: Batch, learning_rate: float) -> Tensor:
        """Train on one batch; the loss before the update, a scalar tensor."""
        touched = {name: self._touched(batch, name) for name in batch.rows if name in self.weights}
        values = {name: self._value(name, touched.get(name)) for name in self.weights}
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.plan.precision == "bf16"):
            loss = self.model.loss(batch, values)
        found = torch.autograd.grad(loss, list(values.values()), allow_unused=True)
        with torch.no_grad():
            gradients = {name: dense(g, values[name]) for name, g in zip(values, found, strict=True)}
            if self.plan.clip_norm is not None:
                optimizers.clip(gradients.values(), self.plan.clip_norm)
            self.steps += 1
            scalars = self.plan.scalars(learning_rate, self.steps)
            for name, gradient in gradients.items():
                self._move(name, values[name], gradient, touched.get(name), scalars)
        return loss.detach()

    def state(self) -> dict[str, NDArray[Any]]:
        """`<weight>/<slot>` for every weight and slot, and `step`, as copies."""
        out: dict[str, NDArray[Any]] = {
            f"{name}/{slot}": self.weights[name].outward(tensor)
            for name, slots in self.slots.items()
            for slot, tensor in slots.items()
        }
        return {**out, "step": np.asarray(self.steps, np.int64)}

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Replace the state. Raises `DataError` for a missing or unknown name or a wrong shape, and changes nothing."""
        check_state(state, self.plan.state_shapes({name: w.shape for name, w in self.weights.items()}))
        self.slots = {
            name: {slot: weight.inward(state[f"{name}/{slot}"]) for slot in self.plan.slots(name, weight.shape)}
            for name, weight in self.weights.items()
        }
        self.steps = int(state["step"])

    def _touched(self, batch: Batch, name: str) -> Tensor | None:
        """The rows of a weight that the batch touches; None where they are all of them."""
        if name in batch.whole:
            return None
        return as_tensor(batch.rows[name], self.weights[name].parameter.device).long()

    def _value(self, name: str, touched: Tensor | None) -> Tensor:
        """What to differentiate by: the weight itself, or a copy of the rows touched."""
        parameter = self.weights[name].parameter
        return parameter if touched is None else parameter.detach().index_select(0, touched).requires_grad_()

    def _move(
        self, name: str, value: Tensor, gradient: Tensor, touched: Tensor | None, scalars: Mapping[str, float]
    ) -> None:
        """Decay and update a weight: all of it, or the rows touched, gathered as `value` and put back."""
        parameter, slots = self.weights[name].parameter, self.slots[name]
        if touched is None or self.plan.moves_all_rows:
            optimizers.update(self.plan, name, parameter, gradient, slots, scalars, touched)
            return
        rows = {slot: tensor.index_select(0, touched) for slot, tensor in slots.items()}
        optimizers.update(self.plan, name, value, gradient, rows, scalars)
        # index_copy_ writes on one core; the rows, read on all of them first, are in cache for it.
        parameter.index_select(0, touched)
        parameter.index_copy_(0, touched, value)
        for slot, tensor in slots.items():
            tensor.index_copy_(0, touched, rows[slot])


def dense(gradient: Tensor | None, value: Tensor) -> Tensor:
    """A weight's gradient: zero where the loss does not depend on it. An adopted module may also give a sparse one."""
    if gradient is None:
        return torch.zeros_like(value)
    return gradient.to_dense() if gradient.is_sparse else gradient
