"""Keras's own loop: the whole model as a `keras.Model`, and the batches of `fit` as a `keras.utils.PyDataset`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops

from recs_core.contract.batch import Batch
from recs_core.contract.errors import UnsupportedFeature
from recs_core.contract.task import plan_task
from recs_core.data.epochs import Epochs, check_tables
from recs_core.keras_backend.adopted import AdoptedTower
from recs_core.keras_backend.engines import Tensor, Tree, full_like
from recs_core.keras_backend.kernel import Kernel, differentiable, pack, take

if TYPE_CHECKING:
    from recs_core.keras_backend.model import Model


class TwoTowerModel(keras.Model):
    """The whole model on its own variables, with the loss of `TwoTower.fit`: `compile` it with an optimizer, and `fit`
    it on what `batches` gives. `query_tower`, `candidate_tower`: the towers' own Keras objects."""

    def __init__(self, model: Model) -> None:
        super().__init__(name="two_tower", dtype=model.dtype)
        self.query_tower, self.candidate_tower = model.query.native, model.candidate.native
        self.task_weights = list(model.task.variables.values())  # Keras finds them here
        self._model = _Held(model)
        self.built = True

    def compile(self, optimizer: Any = "rmsprop", **settings: Any) -> None:
        """As of `keras.Model`. Raises `UnsupportedFeature` under a mixed policy: the model has a dtype of its own."""
        policy = keras.mixed_precision.dtype_policy().name
        if policy.startswith("mixed"):
            raise UnsupportedFeature(
                f"model.native trains in {self.dtype}, not {policy}; first call "
                "keras.mixed_precision.set_dtype_policy('float32')"
            )
        super().compile(optimizer=optimizer, **settings)

    def fit(self, x: Any = None, *args: Any, shuffle: bool = False, **settings: Any) -> Any:
        """As of `keras.Model`; `x`: what `batches` gives, which come in the order of `TwoTower.fit` unless `shuffle`.
        Raises `DataError` for those of another model."""
        if isinstance(x, Batches):
            x.check(self._model.model)
        return super().fit(x, *args, shuffle=shuffle, **settings)

    def call(self, inputs: Tree, training: bool = False) -> dict[str, Tensor]:
        """Vectors of both sides of a batch."""
        model = self._model.model
        read = model.engine.read(inputs)
        return {side: _vectors(getattr(model, side), read[side], training) for side in ("query", "candidate")}

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Tensor:
        """The loss of a batch `x`, whose vectors are `y_pred`."""
        model = self._model.model
        read, weights = model.engine.read(x), model.task.variables
        task = {**read["task"], **{name: read["task"][name][0] for name in SCALARS if name in read["task"]}}
        task["rows"] = _with_mask(task["rows"], lambda keep: ops.reshape(keep, (-1, ops.shape(task["add"])[0])))
        at = dict(y_pred)
        if "task/bias" in weights:
            at["bias"] = take(ops.convert_to_tensor(weights["task/bias"]), read["bias_codes"])
        if "task/log_temperature" in weights:
            at["log_temperature"] = ops.convert_to_tensor(weights["task/log_temperature"])
        else:
            task["at"] = {**task["at"], "inverse_temperature": 1 / model.task.spec.temperature}
        return differentiable(Kernel.of(model.engine, model.task.spec), at, task)


class _Held:
    """What Keras is not to look into."""

    def __init__(self, model: Model) -> None:
        self.model = model


SCALARS = ("block", "num_rows")
"""Of the plan of a batch: as arrays of one number, because Keras takes none without an axis."""


def _with_mask(rows: Tree, change: Callable[[Any], Any]) -> Tree:
    """What the plan of a batch holds of each row, its mask of columns changed, where it has one."""
    return {**rows, "keep": change(rows["keep"])} if "keep" in rows else rows


def _vectors(tower: Any, tree: Tree, training: bool) -> Tensor:
    if isinstance(tower, AdoptedTower):
        return tower.call(tree, training)
    values = {name: ops.convert_to_tensor(variable) for name, variable in tower.variables.items()}
    return tower.forward(values, tree if training else {n: x for n, x in tree.items() if n != "keep"})[0]


class Batches(keras.utils.PyDataset):
    """The batches of `fit`, each pass the next epoch; `batches` makes them. `len`: how many an epoch has."""

    def __init__(self, model: Model, epochs: Epochs) -> None:
        super().__init__()
        self._made_for, self._epochs, self._epoch, self._begun = model, epochs, epochs.epoch, False

    def __len__(self) -> int:
        return len(self._epochs)

    def __getitem__(self, step: int) -> tuple[dict[str, Any]]:
        return (self._tree(self._epochs.batch(self._epoch, step)),)

    def on_epoch_begin(self) -> None:
        """The next epoch, from the second pass on."""
        self._epoch, self._begun = self._epoch + self._begun, True

    def check(self, model: Model) -> None:
        """Raise `DataError` unless they are of a model with the tables of this one."""
        own = {name: variable.shape[0] for name, variable in model.variables.items() if name.startswith("table/")}
        check_tables(own, self._epochs.table_rows, "the model", "the batches are", "make batches of this model")

    def _tree(self, batch: Batch) -> dict[str, Any]:
        """A batch as arrays, each with an axis."""
        model, full = self._made_for, full_like(self._made_for.task.spec, batch)
        spec, number = model.task.spec, batch.candidate.size
        plan = plan_task(spec, batch.query.size, number, **batch.task)
        task = pack(plan, spec, number, model.dtype, model.engine, full, general=self._epochs.plans_differ)
        inputs: dict[str, Any] = {
            "rows": {},
            "query": model.query.inputs(model.query.whole(batch)),
            "candidate": model.candidate.inputs(model.candidate.whole(batch)),
            "task": {**task, "at": {name: x for name, x in task["at"].items() if x.ndim}},
        }
        if batch.bias_codes is not None:
            inputs["bias_codes"] = batch.rows["task/bias"][batch.bias_codes]
        padded = model.engine.padded(inputs, full)
        scalars = {name: padded["task"][name][None] for name in SCALARS if name in padded["task"]}
        # On TensorFlow, Keras lets the first axis of an array vary; others only where its first two batches differ.
        rows = _with_mask(padded["task"]["rows"], np.ravel)
        return {**padded, "task": {**padded["task"], **scalars, "rows": rows}}
