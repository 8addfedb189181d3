"""The model: named `tf.Variable`s, two towers and the task over them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recs_core.contract import weights as canonical
from recs_core.contract.batch import Side
from recs_core.contract.plans import TowerPlan, check_towers
from recs_core.contract.protocols import DType
from recs_core.contract.retrieval import RetrievalSpec
from recs_core.contract.weights import Weights
from recs_core_tensorflow.adopted import AdoptedTower
from recs_core_tensorflow.environment import guard, tf
from recs_core_tensorflow.native import TFRSModel
from recs_core_tensorflow.task import RetrievalTask
from recs_core_tensorflow.towers import Tower


class Model:
    """The contract's model. `variables`: canonical name → `tf.Variable`, in a fixed order."""

    def __init__(
        self,
        query: TowerPlan | AdoptedTower,
        candidate: TowerPlan | AdoptedTower,
        retrieval: RetrievalSpec,
        weights: Weights,
        dtype: DType,
    ) -> None:
        check_towers(query, candidate)
        canonical.check(weights, canonical.expected(query, candidate, retrieval, weights))
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
        """The whole as a `tfrs.Model`, on the same variables: `compile` and `fit` it on what `tf_dataset` gives."""
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

    def _tower(self, tower: TowerPlan | AdoptedTower, side: Side) -> Tower:
        if isinstance(tower, TowerPlan):
            return Tower(tower, self.variables, self.dtype, self.guard)
        tower.join(side, self.dtype, self.guard)
        self.variables.update({f"{side}/native/{name}": variable for name, variable in tower.variables.items()})
        return tower
