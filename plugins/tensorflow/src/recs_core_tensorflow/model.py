"""The model: named `tf.Variable`s, two towers and the task over them, and the same whole as a `tfrs.Model`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from recs_core.contract import weights as canonical
from recs_core.contract.batch import Side
from recs_core.contract.errors import SpecError
from recs_core.contract.protocols import DType
from recs_core.contract.retrieval import RetrievalSpec
from recs_core.contract.towers import TowerSpec, check_pair
from recs_core.contract.weights import Weights
from recs_core_tensorflow.environment import guard, tf, tfrs
from recs_core_tensorflow.task import RetrievalTask
from recs_core_tensorflow.tfrs_task import TFRSRetrieval
from recs_core_tensorflow.towers import AdoptedTower, TensorFlowTower


class TensorFlowModel:
    """The contract's model. `variables`: canonical name → `tf.Variable`, in a fixed order."""

    def __init__(
        self,
        query: TowerSpec | AdoptedTower,
        candidate: TowerSpec | AdoptedTower,
        retrieval: RetrievalSpec,
        weights: Weights,
        dtype: DType,
    ) -> None:
        _check(query, candidate, retrieval, weights)
        self.dtype, self.retrieval, self.guard = dtype, retrieval, guard()
        self.variables: dict[str, Any] = {
            name: tf.Variable(np.asarray(value, dtype), name=name) for name, value in weights.items()
        }
        self.query = self._tower(query, "query")
        self.candidate = self._tower(candidate, "candidate")
        self.task = RetrievalTask(
            retrieval, dtype, self.variables.get("task/bias"), self.variables.get("task/log_temperature")
        )
        self._native: TFRSModel | None = None

    @property
    def native(self) -> TFRSModel:
        """The whole as a `tfrs.Model`, on the same variables: `compile` and `fit` it in TFRS's own way.

        Raises `UnsupportedFeature` for a task that TFRS's own cannot say.
        """
        if self._native is None:
            self._native = TFRSModel(self)
        return self._native

    @property
    def trainable(self) -> dict[str, Any]:
        """The variables that an optimizer moves."""
        return {name: variable for name, variable in self.variables.items() if variable.trainable}

    @property
    def version(self) -> int:
        """See `Model.version`. Read off the weights themselves: a `tf.Variable` does not count its writes."""
        with self.guard:
            return canonical.fingerprint(np.asarray(variable) for variable in self.variables.values())

    def weights(self) -> dict[str, NDArray[np.floating]]:
        """Every weight by canonical name, as copies."""
        with self.guard:
            return {name: np.array(variable.numpy()) for name, variable in self.variables.items()}

    def load_weights(self, weights: Weights) -> None:
        """Replace every weight. Raises `DataError` for a missing or unknown name, a wrong shape, or NaN."""
        canonical.check(weights, {name: tuple(variable.shape) for name, variable in self.variables.items()})
        with self.guard:
            for name, variable in self.variables.items():
                variable.assign(np.asarray(weights[name], variable.dtype.as_numpy_dtype))

    def _tower(self, tower: TowerSpec | AdoptedTower, side: Side) -> TensorFlowTower | AdoptedTower:
        if isinstance(tower, TowerSpec):
            return TensorFlowTower(tower, side, self.variables, self.dtype, self.guard)
        tower.side, tower.guard = side, self.guard
        self.variables.update({f"{side}/native/{name}": variable for name, variable in tower.variables.items()})
        return tower


def _check(
    query: TowerSpec | AdoptedTower, candidate: TowerSpec | AdoptedTower, retrieval: RetrievalSpec, weights: Weights
) -> None:
    """Raise unless the towers fit together and `weights` holds what they and the task need, and nothing else."""
    towers = [tower if isinstance(tower, TowerSpec) else None for tower in (query, candidate)]
    if all(towers):
        check_pair(*cast("list[TowerSpec]", towers))
    elif query.output_dim != candidate.output_dim:
        raise SpecError(
            f"the query tower's output has {query.output_dim} dims, the candidate tower's {candidate.output_dim}"
        )
    table_rows = {name: len(value) for name, value in weights.items() if name.startswith("table/")}
    needed = {f.table_name for tower in towers if tower for f in tower.features if f.table_name is not None}
    corpus = len(weights["task/bias"]) if "task/bias" in weights else 0
    rows = dict.fromkeys(needed, 0) | table_rows
    canonical.check(weights, canonical.shapes(towers[0], towers[1], retrieval, rows, corpus))


class TFRSModel(tfrs.Model):
    """A `tfrs.Model` on a model's variables. Its batches are those of `recs_core_tensorflow.data.tf_dataset`."""

    def __init__(self, model: TensorFlowModel) -> None:
        super().__init__(name="two_tower")
        if model.dtype != "float32":
            raise SpecError("TFRS's own task computes in float32; build the model with dtype='float32'")
        self._towers = {"query": model.query, "candidate": model.candidate}
        self.query_tower, self.candidate_tower = model.query.native, model.candidate.native
        self.task = TFRSRetrieval(
            model.retrieval, model.variables.get("task/bias"), model.variables.get("task/log_temperature")
        )
        self._own = [variable for name, variable in model.variables.items() if name.startswith("task/")]

    def call(self, inputs: Mapping[str, Any], training: bool = False) -> tuple[Any, Any]:
        """Query and candidate embeddings of a batch."""
        return self._embed("query", inputs, training), self._embed("candidate", inputs, training)

    def compute_loss(self, inputs: Mapping[str, Any], training: bool = False) -> Any:
        """The loss of a batch: "query" and "candidate" features and, under "task", the task's arguments."""
        query, candidate = self(inputs, training=training)
        return self.task(query, candidate, **inputs["task"])

    def _embed(self, side: Side, inputs: Mapping[str, Any], training: bool) -> Any:
        tower = self._towers[side]
        if isinstance(tower, AdoptedTower):
            return tower.forward(inputs[side], training)
        return tower.native(inputs[side])
