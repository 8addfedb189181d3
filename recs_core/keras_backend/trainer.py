"""The training step: gather rows, towers, kernel, gradients, update, scatter. Compiled by the engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from recs_core.contract.batch import Batch
from recs_core.contract.errors import DataError
from recs_core.contract.plans import UpdatePlan
from recs_core.contract.task import plan_task
from recs_core.contract.weights import check_state
from recs_core.keras_backend import optimizers
from recs_core.keras_backend.engines import Engine, Full, Tensor, full_like
from recs_core.keras_backend.kernel import Kernel, pack
from recs_core.keras_backend.model import Model
from recs_core.keras_backend.move import Move, Towers
from recs_core.keras_backend.placement import cut


class Trainer:
    """See `Trainer` of the contract."""

    def __init__(self, engine: Engine, model: Model, plan: UpdatePlan) -> None:
        self._engine, self._model, self._plan = engine, model, plan
        self._step = 0
        model.guard.check()
        buffers = {**model.query.buffers, **model.candidate.buffers}
        self._slots: dict[str, dict[str, keras.Variable]] = {
            name: {
                slot: keras.Variable(value, dtype=model.dtype, trainable=False, name=slot)
                for slot, value in optimizers.new_slots(plan, name, tuple(variable.shape), model.dtype).items()
            }
            for name, variable in model.variables.items()
            if name not in buffers
        }
        self._due = plan.state_shapes({name: model.shapes[name] for name in self._slots})
        groups = {name: {"value": v, **self._slots.get(name, {})} for name, v in model.variables.items()}
        towers = Towers(
            engine,
            model.query.forward,
            model.candidate.forward,
            replace(plan, spec=replace(plan.spec, learning_rate=1.0)),  # each step brings its own
            tuple(name for name in self._slots if name != "task/log_temperature"),
        )
        self._run = engine.stepper(Move(towers, Kernel.of(engine, model.task.spec)), groups)

    def step(self, batch: Batch, learning_rate: float) -> Tensor:
        """See `Trainer.step`. The loss is the engine's own scalar; reading it waits for the step."""
        full = full_like(self._model.task.spec, batch)
        inputs = self._inputs(batch, full)
        now = self._plan.scalars(learning_rate, self._step + 1)
        inputs["now"] = {name: np.asarray(value, self._model.dtype) for name, value in now.items()}
        with self._model.guard:
            loss = self._run(inputs, full)
            self._step += 1
            self._model.placement.moved()
        return loss

    def state(self) -> dict[str, NDArray[Any]]:
        """See `Trainer.state`."""
        with self._model.guard:
            found = self._model.placement.read(
                {f"{name}/{slot}": v for name, slots in self._slots.items() for slot, v in slots.items()}
            )
        out = {name: cut(value, self._due[name]) for name, value in found.items()}
        return {**out, "step": np.asarray(self._step, np.int64)}

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """See `Trainer.load_state`."""
        check_state(state, self._due)
        placement = self._model.placement
        with self._model.guard:
            for name, slots in self._slots.items():
                for slot, variable in slots.items():
                    placement.write(name, variable, placement.padded(name, state[f"{name}/{slot}"], self._plan.start))
        self._step = int(state["step"])

    def _inputs(self, batch: Batch, full: Full) -> dict[str, Any]:
        """The batch as a tree of NumPy arrays."""
        model, query, candidate, bias_codes = self._model, batch.query, batch.candidate, batch.bias_codes
        rows = {name: rows for name, rows in batch.rows.items() if name not in batch.whole}
        if self._plan.moves_all_rows:
            query, candidate = model.query.whole(batch), model.candidate.whole(batch)
            bias_codes = None if bias_codes is None else batch.rows["task/bias"][bias_codes]
            rows = {}
        spec, number = model.task.spec, candidate.size
        plan = plan_task(spec, query.size, number, **batch.task)
        inputs: dict[str, Any] = {
            "rows": rows,
            "query": model.query.inputs(query),
            "candidate": model.candidate.inputs(candidate),
            "task": pack(plan, spec, number, model.dtype, self._engine, full),
        }
        if spec.candidate_bias:
            if bias_codes is None:
                raise DataError("the model has a candidate bias, but the batch has no bias_codes")
            inputs["bias_codes"] = bias_codes
        return inputs
