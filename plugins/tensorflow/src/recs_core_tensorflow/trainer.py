"""Training steps: gather the rows a batch names, differentiate with respect to them, update them, scatter them back.

One `tf.function` a kind of batch. Its input signature leaves every size open, so that batches of another size, the
ragged last one included, run the same trace.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recs_core.contract.batch import Batch, Features, Ragged
from recs_core.contract.errors import DataError
from recs_core.contract.optimizers import Adam, Optimizer
from recs_core.contract.task import plan_task
from recs_core_tensorflow import optimizers
from recs_core_tensorflow.environment import tf
from recs_core_tensorflow.model import TensorFlowModel
from recs_core_tensorflow.task import loss_and_gradients, pack, scored
from recs_core_tensorflow.towers import KEEP, AdoptedTower, TensorFlowTower

Arrays = dict[str, NDArray[Any]]
Tensors = Mapping[str, Any]


class TensorFlowTrainer:
    """One optimizer on one model."""

    def __init__(self, model: TensorFlowModel, optimizer: Optimizer) -> None:
        model.guard.check()
        self.model, self.optimizer = model, optimizer
        self.slots = {
            name: optimizers.new_slots(optimizer, name, variable) for name, variable in model.trainable.items()
        }
        self._step = 0
        self._traced: dict[tuple[Any, ...], Any] = {}

    def step(self, batch: Batch, learning_rate: float) -> Any:
        """Train on one batch; the loss before the update, a scalar tensor."""
        model = self.model
        plan = plan_task(model.retrieval, batch.query.size, batch.candidate.size, **batch.task)
        arrays: Arrays = {f"plan/{name}": value for name, value in pack(plan, model.dtype).items()}
        arrays |= {f"rows/{name}": rows for name, rows in batch.rows.items() if name in model.variables}
        arrays |= self._side(model.query, batch.query, batch, "query")
        arrays |= self._side(model.candidate, batch.candidate, batch, "candidate")
        if batch.bias_codes is not None:
            arrays["bias_codes"] = batch.bias_codes
        now = optimizers.settings(self.optimizer, learning_rate, self._step + 1, model.dtype)
        arrays |= {f"now/{name}": np.asarray(value) for name, value in now.items()}
        with model.guard:
            loss = self._function(arrays, batch.whole)(*arrays.values())
            self._step += 1
        return loss

    def state(self) -> Arrays:
        """`<weight>/<slot>` for every weight and slot, and `step`, as copies."""
        with self.model.guard:
            out: Arrays = {
                f"{name}/{slot}": np.array(variable.numpy())
                for name, slots in self.slots.items()
                for slot, variable in slots.items()
            }
        return out | {"step": np.asarray(self._step, np.int64)}

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Replace the state. Raises `DataError` for a missing or unknown name or a wrong shape."""
        variables = {f"{name}/{slot}": v for name, slots in self.slots.items() for slot, v in slots.items()}
        for name in sorted({*variables, "step"} ^ set(state)):
            known = name in variables or name == "step"
            raise DataError(f"optimizer state {name!r} is {'missing' if known else 'unknown to this optimizer'}")
        for name, variable in variables.items():
            if np.shape(state[name]) != tuple(variable.shape):
                raise DataError(
                    f"optimizer state {name!r} has shape {np.shape(state[name])}, needed is {tuple(variable.shape)}"
                )
        with self.model.guard:
            for name, variable in variables.items():
                variable.assign(np.asarray(state[name], variable.dtype.as_numpy_dtype))
        self._step = int(state["step"])

    def _side(self, tower: TensorFlowTower | AdoptedTower, features: Features, batch: Batch, side: str) -> Arrays:
        """One tower's inputs, flat; an adopted tower wants codes of whole tables."""
        if isinstance(tower, AdoptedTower):
            features = tower.unpack(batch)
        out: Arrays = {}
        for name, codes in features.codes.items():
            if isinstance(codes, Ragged):
                out[f"{side}/values/{name}"], out[f"{side}/splits/{name}"] = codes.values, codes.offsets
            else:
                out[f"{side}/codes/{name}"] = codes
        for name, values in features.dense.items():
            out[f"{side}/codes/{name}"] = values.astype(self.model.dtype, copy=False)
        if features.keep is not None:
            out[f"{side}/codes/{KEEP}"] = features.keep.astype(self.model.dtype, copy=False)
        return out

    def _function(self, arrays: Arrays, whole: frozenset[str]) -> Any:
        """The traced step for batches that hold these arrays, whatever their sizes."""
        key = (whole, *((name, array.dtype.str, array.ndim) for name, array in arrays.items()))
        if key not in self._traced:
            signature = [tf.TensorSpec([None] * array.ndim, array.dtype) for array in arrays.values()]
            self._traced[key] = tf.function(
                partial(self._run, tuple(arrays), whole), input_signature=signature, autograph=False
            )
        return self._traced[key]

    def _run(self, names: Sequence[str], whole: frozenset[str], *tensors: Any) -> Any:
        """The step, in TensorFlow."""
        model, given = self.model, dict(zip(names, tensors, strict=True))
        plan, rows = _below(given, "plan/"), _below(given, "rows/")
        gathered = {
            name: tf.convert_to_tensor(model.variables[name])
            if name in whole
            else tf.gather(model.variables[name], index)
            for name, index in rows.items()
        }
        sources = {name: gathered.get(name, variable) for name, variable in model.trainable.items()}
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(list(sources.values()))
            query = _embed(model.query, _inputs(given, "query"), gathered)
            candidate = _embed(model.candidate, _inputs(given, "candidate"), gathered)
            bias = tf.gather(gathered["task/bias"], given["bias_codes"]) if "bias_codes" in given else None
            log_temperature = model.variables.get("task/log_temperature")
            parts = scored(model.retrieval, plan, query, candidate, bias, log_temperature)
        loss, pull = loss_and_gradients(model.retrieval, plan, *parts)
        slopes = tape.gradient(
            parts, list(sources.values()), output_gradients=pull, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        gradients = {name: tf.convert_to_tensor(slope) for name, slope in zip(sources, slopes, strict=True)}
        for name, gradient in optimizers.clip(gradients, self.optimizer.clip_norm).items():
            index = None if name in whole else rows.get(name)
            self._update(name, gradient, index, gathered.get(name), _below(given, "now/"))
        return loss

    def _update(self, name: str, gradient: Any, rows: Any, value: Any, now: Tensors) -> None:
        """Move a weight and its slots: the `rows` named, of which `value` and `gradient` are, or all of it (None)."""
        variable = self.model.variables[name]
        if rows is not None and isinstance(self.optimizer, Adam) and self.optimizer.dense:
            gradient = tf.math.unsorted_segment_sum(gradient, rows, tf.shape(variable)[0])
            rows = value = None
        slots = {
            slot: tf.convert_to_tensor(v) if rows is None else tf.gather(v, rows)
            for slot, v in self.slots[name].items()
        }
        before = tf.convert_to_tensor(variable) if value is None else value
        after, new_slots = optimizers.update(self.optimizer, name, before, slots, gradient, now)
        _store(variable, rows, after)
        for slot, new in new_slots.items():
            _store(self.slots[name][slot], rows, new)


def _store(variable: Any, rows: Any, value: Any) -> None:
    """Write in place: the cost is that of the rows."""
    if rows is None:
        variable.assign(value)
    else:
        variable.scatter_update(tf.IndexedSlices(value, rows))


def _below(given: Tensors, prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): tensor for name, tensor in given.items() if name.startswith(prefix)}


def _inputs(given: Tensors, side: str) -> dict[str, Any]:
    """The inputs of a tower as its model takes them."""
    splits = _below(given, f"{side}/splits/")
    ragged = {
        name: tf.RaggedTensor.from_row_splits(values, splits[name], validate=False)
        for name, values in _below(given, f"{side}/values/").items()
    }
    return _below(given, f"{side}/codes/") | ragged


def _embed(tower: TensorFlowTower | AdoptedTower, inputs: Tensors, gathered: Tensors) -> Any:
    if isinstance(tower, AdoptedTower):
        return tower.forward(inputs, training=True)
    return tower.native.forward(inputs, {**tower.native.tables, **gathered})
