"""The model: named tables, two towers, the task."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from recs_core.contract.batch import Side
from recs_core.contract.errors import SpecError
from recs_core.contract.guard import Guard
from recs_core.contract.protocols import DType, Tower
from recs_core.contract.retrieval import RetrievalSpec
from recs_core.contract.towers import TowerSpec, check_pair
from recs_core.contract.weights import Weights, check, fingerprint, shapes
from recs_core.keras_backend import engines
from recs_core.keras_backend.engines import Engine
from recs_core.keras_backend.task import KerasTask
from recs_core.keras_backend.towers import AdoptedTower, KerasTower, TowerModel


class KerasModel:
    """See `Model`. `variables` holds every weight as a `keras.Variable`, by canonical name."""

    def __init__(
        self,
        engine: Engine,
        query: TowerSpec | Tower,
        candidate: TowerSpec | Tower,
        retrieval: RetrievalSpec,
        weights: Weights,
        dtype: DType,
    ) -> None:
        specs = [tower if isinstance(tower, TowerSpec) else None for tower in (query, candidate)]
        _check_towers(query, candidate)
        check(weights, _expected(specs[0], specs[1], retrieval, weights))
        tables: dict[str, keras.layers.Embedding] = {}
        self.dtype = dtype
        self.guard = engines.guard(engine)
        self.query = _tower(engine, "query", query, weights, tables, dtype, self.guard)
        self.candidate = _tower(engine, "candidate", candidate, weights, tables, dtype, self.guard)
        self.task = KerasTask(engine, retrieval, weights, dtype, self.guard)
        self.variables: dict[str, keras.Variable] = {
            **self.query.variables,
            **self.candidate.variables,
            **self.task.variables,
        }
        for name, value in weights.items():
            self._assign(name, value)

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


def _expected(
    query: TowerSpec | None, candidate: TowerSpec | None, retrieval: RetrievalSpec, weights: Weights
) -> dict[str, tuple[int, ...]]:
    """Names and shapes, tables as long as `weights` says."""
    tables = [f.table_name for tower in (query, candidate) for f in (tower.features if tower else ())]
    rows = {name: len(weights[name]) if name in weights else 0 for name in tables if name is not None}
    corpus = len(weights["task/bias"]) if "task/bias" in weights else 0
    return shapes(query, candidate, retrieval, rows, corpus)


def _check_towers(query: TowerSpec | Tower, candidate: TowerSpec | Tower) -> None:
    if isinstance(query, TowerSpec) and isinstance(candidate, TowerSpec):
        check_pair(query, candidate)
        return
    if query.output_dim != candidate.output_dim:
        raise SpecError(
            f"the query tower's output has {query.output_dim} dims, the candidate tower's {candidate.output_dim}; "
            "give both the same width"
        )
    natives = [tower.native for tower in (query, candidate) if not isinstance(tower, TowerSpec)]
    if len(natives) == 2 and natives[0] is natives[1]:
        raise SpecError(f"the module {natives[0].name!r} stands in both towers; give each its own")


def _tower(
    engine: Engine,
    side: Side,
    tower: TowerSpec | Tower,
    weights: Weights,
    tables: dict[str, keras.layers.Embedding],
    dtype: DType,
    guard: Guard,
) -> KerasTower | AdoptedTower:
    if isinstance(tower, TowerSpec):
        rows = {f.table_name: len(weights[f.table_name]) for f in tower.features if f.table_name is not None}
        native = TowerModel(tower, rows, tables, name=side, dtype=dtype)
        return KerasTower(engine, side, tower, native, dtype, guard)
    if isinstance(tower, AdoptedTower):
        return tower.bound(side, dtype, guard)
    raise SpecError(f"the {side} tower is a {type(tower).__name__}; give a TowerSpec, or what keras's adopt() returned")
