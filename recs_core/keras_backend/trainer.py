"""The training step: gather rows, towers, kernel, gradients, update, scatter. Compiled by the engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from recs_core.contract.batch import Batch
from recs_core.contract.errors import DataError
from recs_core.contract.optimizers import Adam, Optimizer
from recs_core.contract.protocols import DType
from recs_core.contract.retrieval import RetrievalSpec
from recs_core.contract.task import plan_task
from recs_core.keras_backend import optimizers, task
from recs_core.keras_backend.engines import Engine, Groups, Tensor, Tree, Values
from recs_core.keras_backend.model import KerasModel
from recs_core.keras_backend.towers import KerasTower


class KerasTrainer:
    """See `Trainer`."""

    def __init__(self, engine: Engine, model: KerasModel, optimizer: Optimizer) -> None:
        self._engine, self._model, self._optimizer = engine, model, optimizer
        self._step = 0
        model.guard.check()
        self._buffers = {**model.query.buffers, **model.candidate.buffers}
        self._slots: dict[str, dict[str, keras.Variable]] = {
            name: {
                slot: keras.Variable(value, dtype=model.dtype, trainable=False, name=slot)
                for slot, value in optimizers.initial_slots(optimizer, name, tuple(variable.shape), model.dtype).items()
            }
            for name, variable in model.variables.items()
            if name not in self._buffers
        }
        groups = {name: {"value": v, **self._slots.get(name, {})} for name, v in model.variables.items()}
        self._run = engine.stepper(self._moves(), groups)

    def step(self, batch: Batch, learning_rate: float) -> Tensor:
        """See `Trainer.step`. The loss is the engine's own scalar; reading it waits for the step."""
        inputs, most = self._inputs(batch)
        inputs["now"] = optimizers.scalars(self._optimizer, learning_rate, self._step + 1, self._model.dtype)
        with self._model.guard:
            loss = self._run(inputs, most)
            self._step += 1
        return loss

    def state(self) -> dict[str, NDArray[Any]]:
        """See `Trainer.state`."""
        with self._model.guard:
            out: dict[str, NDArray[Any]] = {
                f"{name}/{slot}": np.array(ops.convert_to_numpy(variable))
                for name, slots in self._slots.items()
                for slot, variable in slots.items()
            }
        return {**out, "step": np.asarray(self._step, np.int64)}

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """See `Trainer.load_state`."""
        variables = {f"{name}/{slot}": v for name, slots in self._slots.items() for slot, v in slots.items()}
        shapes = {**{name: tuple(v.shape) for name, v in variables.items()}, "step": ()}
        for name in sorted(set(state) ^ set(shapes)):
            raise DataError(f"optimizer state {name!r} is {'missing' if name in shapes else 'unknown to this trainer'}")
        for name, shape in shapes.items():
            if np.shape(state[name]) != shape:
                raise DataError(f"optimizer state {name!r} has shape {np.shape(state[name])}, the trainer's is {shape}")
        with self._model.guard:
            for name, variable in variables.items():
                variable.assign(np.array(state[name], variable.dtype))
        self._step = int(state["step"])

    def _inputs(self, batch: Batch) -> tuple[dict[str, Any], dict[str, int]]:
        """The batch as a tree of NumPy arrays, and the most rows of each weight that its size allows."""
        query, candidate = self._model.query, self._model.candidate
        sides = {"query": batch.query, "candidate": batch.candidate}
        rows = {name: rows for name, rows in batch.rows.items() if name not in batch.whole}
        bias_codes = batch.bias_codes
        if isinstance(self._optimizer, Adam) and self._optimizer.dense:
            sides = {"query": query.whole(batch), "candidate": candidate.whole(batch)}
            bias_codes = None if bias_codes is None else batch.rows["task/bias"][bias_codes]
            rows = {}
        spec, number = self._model.task.spec, batch.candidate.size
        plan = plan_task(spec, batch.query.size, number, **batch.task)
        inputs: dict[str, Any] = {
            "rows": rows,
            "query": query.inputs(sides["query"]),
            "candidate": candidate.inputs(sides["candidate"]),
            "task": task.inputs(plan, number, self._model.dtype),
        }
        if spec.candidate_bias:
            if bias_codes is None:
                raise DataError("the model has a candidate bias, but the batch has no bias_codes")
            inputs["bias_codes"] = bias_codes
        most = {"task/bias": number}
        for uses in (query.uses(batch.query), candidate.uses(batch.candidate)):
            for name, count in uses.items():
                most[name] = most.get(name, 0) + count
        return inputs, most

    def _moves(self) -> Callable[[Groups, Tree], tuple[Tensor, Groups]]:
        """The step as a function of arrays; that of declared towers is equal for equal models."""
        model = self._model
        trained = tuple(name for name in self._slots if name != "task/log_temperature")
        towers = model.query.forward, model.candidate.forward
        optimizer = replace(self._optimizer, learning_rate=1.0)  # each step brings its own
        move = Move(self._engine, *towers, model.task.spec, optimizer, trained, model.dtype)
        declared = isinstance(model.query, KerasTower) and isinstance(model.candidate, KerasTower)
        return move if declared else move.__call__


@dataclass(frozen=True)
class Move:
    """What a step computes. `query`, `candidate`: towers' `forward`; `trained`: the weights that these read."""

    engine: Engine
    query: Callable[[Values, Tree], tuple[Tensor, Values]]
    candidate: Callable[[Values, Tree], tuple[Tensor, Values]]
    retrieval: RetrievalSpec
    optimizer: Optimizer
    trained: tuple[str, ...]
    dtype: DType

    def __call__(self, groups: Groups, inputs: Tree) -> tuple[Tensor, Groups]:
        """The loss, and every weight and slot after the step; all of the rows in `inputs["rows"]` only."""
        values = {name: group["value"] for name, group in groups.items()}

        def towers(leaves: Values) -> tuple[Values, Values]:
            at = {**values, **leaves}
            query, query_buffers = self.query(at, inputs["query"])
            candidate, candidate_buffers = self.candidate(at, inputs["candidate"])
            out = {"query": query, "candidate": candidate}
            if "bias_codes" in inputs:
                out["bias"] = ops.take(at["task/bias"], inputs["bias_codes"], axis=0)
            return out, {**query_buffers, **candidate_buffers}

        out, pull, buffers = self.engine.vjp(towers, {name: values[name] for name in self.trained})
        loss = task.kernel(
            self.engine,
            self.retrieval,
            out["query"],
            out["candidate"],
            out.get("bias"),
            task.inverse_temperature(self.retrieval, values, self.dtype),
            inputs["task"],
        )
        gradients = dict(pull({"query": loss.query, "candidate": loss.candidate, "bias": loss.bias}))
        if "task/log_temperature" in values:
            gradients["task/log_temperature"] = loss.log_temperature
        moved = {
            name: optimizers.update(self.optimizer, name, groups[name], gradient, inputs["now"])
            for name, gradient in optimizers.clipped(gradients, self.optimizer.clip_norm).items()
        }
        return loss.value, {**moved, **{name: {"value": value} for name, value in buffers.items()}}
