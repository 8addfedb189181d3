"""The model: named tables, two towers, the task."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from recs_core.contract.batch import Side
from recs_core.contract.errors import SpecError
from recs_core.contract.plans import TowerPlan, check_towers
from recs_core.contract.protocols import DType
from recs_core.contract.retrieval import RetrievalSpec
from recs_core.contract.weights import Weights, check, expected, fingerprint
from recs_core.keras_backend import engines
from recs_core.keras_backend.adopted import AdoptedTower
from recs_core.keras_backend.engines import Engine
from recs_core.keras_backend.loop import TwoTowerModel
from recs_core.keras_backend.native import TowerModel
from recs_core.keras_backend.task import RetrievalTask
from recs_core.keras_backend.towers import Tower


class Model:
    """See `Model` of the contract. `variables` holds every weight as a `keras.Variable`, by canonical name."""

    def __init__(
        self,
        engine: Engine,
        query: TowerPlan | AdoptedTower,
        candidate: TowerPlan | AdoptedTower,
        retrieval: RetrievalSpec,
        weights: Weights,
        dtype: DType,
    ) -> None:
        _check(query, candidate)
        check(weights, expected(query, candidate, retrieval, weights))
        self.dtype, self.engine = dtype, engine
        self._native: TwoTowerModel | None = None
        self.guard = engines.guard(engine)
        tables: dict[str, keras.layers.Embedding] = {}

        def tower(side: Side, given: TowerPlan | AdoptedTower) -> Tower | AdoptedTower:
            if isinstance(given, AdoptedTower):
                return given.bound(side, dtype, self.guard)
            rows = {name: len(weights[name]) for name in given.tables}
            native = TowerModel(given, rows, tables, name=side, dtype=dtype)
            return Tower(engine, given, native, dtype, self.guard)

        self.query, self.candidate = tower("query", query), tower("candidate", candidate)
        self.task = RetrievalTask(engine, retrieval, weights, dtype, self.guard)
        self.variables: dict[str, keras.Variable] = {
            **self.query.variables,
            **self.candidate.variables,
            **self.task.variables,
        }
        for name, value in weights.items():
            self._assign(name, value)

    @property
    def native(self) -> TwoTowerModel:
        """The whole as a `keras.Model`, on the same variables: `compile` and `fit` it on what `batches` gives."""
        if self._native is None:
            self._native = TwoTowerModel(self)
        return self._native

    @property
    def version(self) -> int:
        """See `Model.version`. Read off the weights themselves: a Keras variable does not count its writes."""
        with self.guard:
            return fingerprint(ops.convert_to_numpy(variable) for variable in self.variables.values())

    def weights(self) -> dict[str, NDArray[np.floating]]:
        """See `Model.weights`."""
        with self.guard:
            return {name: np.array(ops.convert_to_numpy(variable)) for name, variable in self.variables.items()}

    def load_weights(self, weights: Weights) -> None:
        """See `Model.load_weights`."""
        check(weights, {name: tuple(variable.shape) for name, variable in self.variables.items()})
        with self.guard:
            for name, value in weights.items():
                self._assign(name, value)

    def _assign(self, name: str, value: NDArray[Any]) -> None:
        variable = self.variables[name]
        variable.assign(np.array(value, variable.dtype))  # a copy: an engine may keep and overwrite what it is given


def _check(query: Any, candidate: Any) -> None:
    for side, tower in (("query", query), ("candidate", candidate)):
        if not isinstance(tower, TowerPlan | AdoptedTower):
            got = type(tower).__name__
            raise SpecError(f"the {side} tower is a {got}; give a TowerPlan, or what keras's adopt() returned")
    check_towers(query, candidate)
