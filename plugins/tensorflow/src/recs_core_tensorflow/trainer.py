"""Training steps: gather the rows a batch names, differentiate with respect to them, update them, scatter them back.

One `tf.function` per kind of batch. Its input signature leaves every size open, so that batches of another size, the
ragged last one included, run the same trace.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recs_core.contract import weights as canonical
from recs_core.contract.batch import Batch
from recs_core.contract.plans import UpdatePlan
from recs_core.contract.task import plan_task
from recs_core_tensorflow import optimizers
from recs_core_tensorflow.adopted import naming_shapes
from recs_core_tensorflow.data import as_arrays, joined
from recs_core_tensorflow.environment import tf
from recs_core_tensorflow.kernel import loss_and_gradients, pack, scored
from recs_core_tensorflow.model import Model

Given = dict[str, dict[str, NDArray[Any]]]
Tensors = Mapping[str, Any]


class Trainer:
    """One optimizer on one model."""

    def __init__(self, model: Model, plan: UpdatePlan) -> None:
        model.guard.check()
        self.model, self.plan = model, plan
        self.slots = {name: optimizers.new_slots(plan, name, variable) for name, variable in model.trainable.items()}
        self._step = 0
        self._traced: dict[tuple[Any, ...], Any] = {}

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
            loss = self._function(given, batch.whole)(given)
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

    def _function(self, given: Given, whole: frozenset[str]) -> Any:
        """The traced step for batches that hold these arrays, whatever their sizes."""
        key = (whole, *((part, n, a.dtype.char, a.ndim) for part, arrays in given.items() for n, a in arrays.items()))
        if key not in self._traced:
            signature = tf.nest.map_structure(lambda array: tf.TensorSpec([None] * array.ndim, array.dtype), given)
            self._traced[key] = tf.function(partial(self._run, whole), input_signature=[signature], autograph=False)
        return self._traced[key]

    def _run(self, whole: frozenset[str], given: Mapping[str, Tensors]) -> Any:
        """The step, in TensorFlow."""
        model, plan, rows = self.model, given["plan"], given["rows"]
        gathered = {
            name: tf.convert_to_tensor(model.variables[name])
            if name in whole
            else tf.gather(model.variables[name], index)
            for name, index in rows.items()
        }
        sources = {name: gathered.get(name, variable) for name, variable in model.trainable.items()}
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(list(sources.values()))
            query = model.query.forward(joined(given["query"]), training=True, gathered=gathered)
            candidate = model.candidate.forward(joined(given["candidate"]), training=True, gathered=gathered)
            bias = tf.gather(gathered["task/bias"], given["bias"]["codes"]) if given["bias"] else None
            parts = scored(model.retrieval, plan, query, candidate, bias, model.variables.get("task/log_temperature"))
        loss, pull = loss_and_gradients(model.retrieval, plan, *parts)
        slopes = tape.gradient(
            parts, list(sources.values()), output_gradients=pull, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        gradients = {name: tf.convert_to_tensor(slope) for name, slope in zip(sources, slopes, strict=True)}
        for name, gradient in optimizers.clip(gradients, self.plan.clip_norm).items():
            index = None if name in whole else rows.get(name)
            self._update(name, gradient, index, gathered.get(name), given["now"])
        return loss

    def _update(self, name: str, gradient: Any, rows: Any, value: Any, now: Tensors) -> None:
        """Move a weight and its slots: the `rows` named, of which `value` and `gradient` are, or all of it (None)."""
        variable = self.model.variables[name]
        if rows is not None and self.plan.moves_all_rows:
            gradient = tf.math.unsorted_segment_sum(gradient, rows, tf.shape(variable)[0])
            rows = value = None
        slots = {
            slot: tf.convert_to_tensor(v) if rows is None else tf.gather(v, rows)
            for slot, v in self.slots[name].items()
        }
        before = tf.convert_to_tensor(variable) if value is None else value
        after, new_slots = optimizers.update(self.plan, name, before, slots, gradient, now)
        _store(variable, rows, after)
        for slot, new in new_slots.items():
            _store(self.slots[name][slot], rows, new)


def _store(variable: Any, rows: Any, value: Any) -> None:
    """Write in place: the cost is that of the rows."""
    if rows is None:
        variable.assign(value)
    else:
        variable.scatter_update(tf.IndexedSlices(value, rows))
