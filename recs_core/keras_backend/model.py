"""The model: named tables, two towers, the task."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from recs_core.contract.batch import Side
from recs_core.contract.errors import SpecError
from recs_core.contract.plans import TowerPlan, check_towers
from recs_core.contract.protocols import DType
from recs_core.contract.retrieval import RetrievalSpec
from recs_core.contract.weights import Weights, check, expected
from recs_core.keras_backend import engines
from recs_core.keras_backend.adopted import AdoptedTower
from recs_core.keras_backend.engines import Engine
from recs_core.keras_backend.loop import TwoTowerModel
from recs_core.keras_backend.native import TowerModel
from recs_core.keras_backend.placement import Placement, cut
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
        placement: Placement | None = None,
    ) -> None:
        _check(query, candidate)
        shapes = expected(query, candidate, retrieval, weights)
        check(weights, shapes)
        self.placement = placement or Placement()
        weights = {name: self.placement.padded(name, np.asarray(value)) for name, value in weights.items()}
        self.dtype, self.engine = dtype, engine
        self._native: TwoTowerModel | None = None
        self.guard = engines.guard(engine)
        self._asked = self.placement.asked(self.guard)
        tables: dict[str, keras.layers.Embedding] = {}

        def tower(side: Side, given: TowerPlan | AdoptedTower) -> Tower | AdoptedTower:
            if isinstance(given, AdoptedTower):
                return given.bound(side, dtype, self._asked)
            rows = {name: len(weights[name]) for name in given.tables}
            native = TowerModel(given, rows, tables, name=side, dtype=dtype)
            return Tower(engine, given, native, dtype, self._asked)

        self.query, self.candidate = tower("query", query), tower("candidate", candidate)
        self.task = RetrievalTask(engine, retrieval, weights, dtype, self._asked)
        self.variables: dict[str, keras.Variable] = {
            **self.query.variables,
            **self.candidate.variables,
            **self.task.variables,
        }
        self.shapes = {name: tuple(variable.shape) for name, variable in self.variables.items()} | shapes
        for name, value in weights.items():
            self.placement.write(name, self.variables[name], value)

    @property
    def native(self) -> TwoTowerModel:
        """The whole as a `keras.Model`, on the same variables: `compile` and `fit` it on what `batches` gives."""
        with self._asked:
            if self._native is None:
                self._native = TwoTowerModel(self)
            return self._native

    @property
    def version(self) -> int:
        """See `Model.version`."""
        with self.guard:
            return self.placement.version(self.variables)

    def weights(self) -> dict[str, NDArray[np.floating]]:
        """See `Model.weights`."""
        with self.guard:
            found = self.placement.read(self.variables)
        return {name: cut(value, self.shapes[name]) for name, value in found.items()}

    def load_weights(self, weights: Weights) -> None:
        """See `Model.load_weights`."""
        check(weights, self.shapes)
        with self.guard:
            for name, value in weights.items():
                self.placement.write(name, self.variables[name], self.placement.padded(name, value))
            self.placement.moved()


def _check(query: Any, candidate: Any) -> None:
    for side, tower in (("query", query), ("candidate", candidate)):
        if not isinstance(tower, TowerPlan | AdoptedTower):
            got = type(tower).__name__
            raise SpecError(f"the {side} tower is a {got}; give a TowerPlan, or what keras's adopt() returned")
    check_towers(query, candidate)
