"""A training step that touches the rows of its batch and no others."""

from typing import Any

import numpy as np

from recs_core.contract.batch import Batch
from recs_core.contract.plans import UpdatePlan
from recs_core.contract.weights import check_state
from recs_core_numpy import optimizers
from recs_core_numpy.model import Model


class Trainer:
    """One optimizer on one model: gather rows, differentiate, clip, update, put the rows back."""

    def __init__(self, model: Model, plan: UpdatePlan) -> None:
        self.model, self.plan = model, plan
        self.slots = {name: optimizers.new_slots(plan, name, w) for name, w in model.own.items()}
        self.own = {f"{name}/{slot}": array for name, slots in self.slots.items() for slot, array in slots.items()}
        self.own["step"] = np.zeros((), np.int64)

    def step(self, batch: Batch, learning_rate: float) -> float:
        touched = {name: batch.rows.get(name, ...) for name in self.model.own}
        loss, gradients = self.model.gradients(batch, {name: w[touched[name]] for name, w in self.model.own.items()})
        if self.plan.clip_norm is not None:
            optimizers.clip(gradients.values(), self.plan.clip_norm)
        self.own["step"] += 1
        self.model.version += 1
        scalars = self.plan.scalars(learning_rate, int(self.own["step"]))
        for name, gradient in gradients.items():
            self._move(name, touched[name], gradient, scalars)
        return float(loss)

    def _move(self, name: str, touched: Any, gradient: Any, scalars: dict[str, float]) -> None:
        """Decay and update the rows touched of a weight, or all of it: `...`."""
        weight, slots = self.model.own[name], self.slots[name]
        if self.plan.moves_all_rows and touched is not ...:
            whole = np.zeros_like(weight)
            whole[touched] = gradient
            touched, gradient = ..., whole
        before = {slot: value[touched] for slot, value in slots.items()}
        weight[touched], after = optimizers.update(self.plan, name, weight[touched], before, gradient, scalars)
        for slot, value in after.items():
            slots[slot][touched] = value

    def state(self) -> dict[str, Any]:
        return {name: array.copy() for name, array in self.own.items()}

    def load_state(self, state: dict[str, Any]) -> None:
        check_state(state, self.plan.state_shapes({name: w.shape for name, w in self.model.own.items()}))
        for name, array in self.own.items():
            array[...] = state[name]
