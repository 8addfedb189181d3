"""Training: batches in, weights moved, by one trace of `step.Step` per kind of batch.

A trace leaves every size open, so that batches of another size, the ragged last one included, run the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recs_core.contract import weights as canonical
from recs_core.contract.batch import Batch
from recs_core.contract.plans import UpdatePlan
from recs_core.contract.task import plan_task
from recs_core_tensorflow import optimizers
from recs_core_tensorflow.adopted import naming_shapes
from recs_core_tensorflow.data import as_arrays
from recs_core_tensorflow.kernel import pack
from recs_core_tensorflow.model import Model
from recs_core_tensorflow.step import Given, Step


class Trainer:
    """One optimizer on one model."""

    def __init__(self, model: Model, plan: UpdatePlan) -> None:
        model.guard.check()
        self.model, self.plan = model, plan
        self.slots = {name: optimizers.new_slots(plan, name, variable) for name, variable in model.trainable.items()}
        self._step = 0
        self._steps: dict[tuple[Any, ...], Callable[[Given], Any]] = {}

    def step(self, batch: Batch, learning_rate: float) -> Any:
        """Train on one batch; the loss before the update, a scalar tensor."""
        model = self.model
        plan = plan_task(model.retrieval, batch.query.size, batch.candidate.size, **batch.task)
        # The scalars are made in float64, where 1 − 0.999ᵗ keeps its digits.
        now = self.plan.scalars(learning_rate, self._step + 1)
        given: Given = {
            "plan": pack(plan, model.dtype),
            "rows": {name: rows for name, rows in batch.rows.items() if name in model.variables},
            "query": as_arrays(model.query.local(batch), model.dtype),
            "candidate": as_arrays(model.candidate.local(batch), model.dtype),
            "bias": {} if batch.bias_codes is None else {"codes": batch.bias_codes},
            "now": {name: np.asarray(value, model.dtype) for name, value in now.items()},
        }
        with model.guard, naming_shapes():
            loss = self._traced(given, batch.whole)(given)
            self._step += 1
        return loss

    def state(self) -> dict[str, NDArray[Any]]:
        """`<weight>/<slot>` for every weight and slot, and `step`, as copies."""
        with self.model.guard:
            out = {name: np.array(variable.numpy()) for name, variable in self._slot_variables().items()}
        return {**out, "step": np.asarray(self._step, np.int64)}

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Replace the state. Raises `DataError` for a missing or unknown name or a wrong shape."""
        shapes = {name: tuple(variable.shape) for name, variable in self.model.trainable.items()}
        canonical.check_state(state, self.plan.state_shapes(shapes))
        with self.model.guard:
            for name, variable in self._slot_variables().items():
                variable.assign(np.asarray(state[name], variable.dtype.as_numpy_dtype))
        self._step = int(state["step"])

    def _slot_variables(self) -> dict[str, Any]:
        return {f"{name}/{slot}": v for name, slots in self.slots.items() for slot, v in slots.items()}

    def _traced(self, given: Given, whole: frozenset[str]) -> Callable[[Given], Any]:
        """The step for batches that hold these arrays, whatever their sizes."""
        key = (whole, *((part, n, a.dtype.char, a.ndim) for part, arrays in given.items() for n, a in arrays.items()))
        if key not in self._steps:
            model = self.model
            step = Step.of(model.query.declared, model.candidate.declared, model.retrieval, self.plan, whole)
            self._steps[key] = step.traced(model.variables, self.slots, given)
        return self._steps[key]
