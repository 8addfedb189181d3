"""The float64 NumPy reference as a backend, so that it is trained, asked and compared like any other.

It is slow by design (a loop over rows) and shares no code with the backends it judges.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from recs_core.compare.job import ORACLE
from recs_core.contract.batch import Batch, Features
from recs_core.contract.errors import UnsupportedFeature
from recs_core.contract.optimizers import Optimizer
from recs_core.contract.protocols import DType
from recs_core.contract.retrieval import RetrievalSpec
from recs_core.contract.towers import TowerSpec
from recs_core.contract.weights import Weights
from recs_core.plugin import BackendInfo
from recs_core.reference import towers
from recs_core.reference.optimizers import initial_state
from recs_core.reference.training import Model as Specs
from recs_core.reference.training import step

Array = NDArray[np.float64]


class Oracle:
    """See `Backend`."""

    info = BackendInfo(name=ORACLE, factory="recs_core.compare.oracle:Oracle", summary="float64 by formula, in NumPy")

    def model(
        self, query: Any, candidate: Any, retrieval: RetrievalSpec, weights: Weights, *, dtype: DType = "float64"
    ) -> OracleModel:
        """See `Backend.model`; always float64."""
        return OracleModel(Specs(query, candidate, retrieval), weights)

    def trainer(self, model: OracleModel, optimizer: Optimizer) -> OracleTrainer:
        """See `Backend.trainer`."""
        return OracleTrainer(model, optimizer)

    def task(self, spec: RetrievalSpec, **options: Any) -> NoReturn:
        """The reference has no task of its own kind."""
        raise UnsupportedFeature("the oracle has no task for native loops; call recs_core.reference.task")

    def adopt(self, module: Any, features: Sequence[str], **options: Any) -> NoReturn:
        """The reference has no modules."""
        raise UnsupportedFeature("the oracle has no modules of its own kind; declare a TowerSpec")


class OracleTower:
    """See `Tower`."""

    def __init__(self, model: OracleModel, side: str, spec: TowerSpec) -> None:
        self.model, self.side, self.spec, self.output_dim = model, side, spec, spec.output_dim

    @property
    def native(self) -> str:
        """The formula."""
        return f"recs_core.reference.towers.embed(…, {self.side!r})"

    def __call__(self, features: Features | Batch) -> NoReturn:
        """The reference differentiates by hand."""
        raise UnsupportedFeature("the oracle has no tensors; call embed")

    def embed(self, features: Features) -> Array:
        """See `Tower.embed`; float64."""
        return towers.embed(self.spec, self.side, features, self.model.now)


class OracleModel:
    """See `Model`."""

    task = None

    def __init__(self, specs: Specs, weights: Weights) -> None:
        self.specs = specs
        self.query, self.candidate = (
            OracleTower(self, "query", specs.query),
            OracleTower(self, "candidate", specs.candidate),
        )
        self.version = 0
        self.load_weights(weights)

    def weights(self) -> dict[str, Array]:
        """See `Model.weights`."""
        return {name: value.copy() for name, value in self.now.items()}

    def load_weights(self, weights: Weights) -> None:
        """See `Model.load_weights`."""
        self.now = {name: np.array(value, np.float64) for name, value in weights.items()}
        self.version += 1


class OracleTrainer:
    """See `Trainer`."""

    def __init__(self, model: OracleModel, optimizer: Optimizer) -> None:
        self.model, self.optimizer = model, optimizer
        self._state: dict[str, NDArray[Any]] = initial_state(optimizer, model.now)

    def step(self, batch: Batch, learning_rate: float) -> float:
        """See `Trainer.step`."""
        model = self.model
        done = step(model.specs, self.optimizer, model.now, self._state, batch, learning_rate=learning_rate)
        model.now, self._state = done.weights, done.state
        model.version += 1
        return done.loss

    def state(self) -> dict[str, NDArray[Any]]:
        """See `Trainer.state`."""
        return dict(self._state)

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """See `Trainer.load_state`."""
        self._state = dict(state)
