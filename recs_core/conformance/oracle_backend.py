"""The oracle as a backend: the other backend that is always there, for checks of what travels between two."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recs_core.contract import weights as canonical
from recs_core.contract.batch import Batch, Features
from recs_core.contract.errors import UnsupportedFeature
from recs_core.contract.manifest import BackendInfo
from recs_core.contract.optimizers import Optimizer
from recs_core.contract.protocols import DType
from recs_core.contract.retrieval import RetrievalSpec
from recs_core.contract.towers import TowerSpec
from recs_core.contract.weights import Weights
from recs_core.reference import optimizers, towers, training


class OracleTower:
    """See `Tower`; `native` is the model."""

    def __init__(self, spec: TowerSpec, side: str, model: OracleModel) -> None:
        self.spec: TowerSpec | None = spec
        self._spec, self.side, self.native = spec, side, model
        self.output_dim = spec.output_dim

    def embed(self, features: Features) -> NDArray[np.floating]:
        """See `Tower.embed`."""
        return towers.embed(self._spec, self.side, features, self.native.held).astype(self.native.dtype)

    def __call__(self, features: Features | Batch) -> NDArray[np.floating]:
        """Refused."""
        raise UnsupportedFeature("the oracle has no native loop: NumPy has no gradients of its own")


class OracleModel:
    """See `Model`. Weights are kept in `dtype`, between steps that are float64."""

    def __init__(
        self, query: TowerSpec, candidate: TowerSpec, retrieval: RetrievalSpec, weights: Weights, dtype: DType
    ) -> None:
        self.spec = training.Model(query, candidate, retrieval)
        self.dtype = np.dtype(dtype)
        self.shapes = {name: np.shape(weight) for name, weight in weights.items()}
        self.query, self.candidate = OracleTower(query, "query", self), OracleTower(candidate, "candidate", self)
        self.task: Any = None
        self.version = 0
        self.load_weights(weights)

    def weights(self) -> dict[str, NDArray[np.floating]]:
        """See `Model.weights`."""
        return {name: weight.copy() for name, weight in self.held.items()}

    def load_weights(self, weights: Weights) -> None:
        """See `Model.load_weights`."""
        canonical.check(weights, self.shapes)
        self.held = {name: np.array(weight, self.dtype) for name, weight in weights.items()}
        self.version += 1


class OracleTrainer:
    """See `Trainer`."""

    def __init__(self, model: OracleModel, optimizer: Optimizer) -> None:
        self.model, self.optimizer = model, optimizer
        self.load_state(optimizers.initial_state(optimizer, model.held))

    def step(self, batch: Batch, learning_rate: float) -> float:
        """See `Trainer.step`."""
        model = self.model
        after = training.step(model.spec, self.optimizer, model.held, self.held, batch, learning_rate=learning_rate)
        model.load_weights(after.weights)
        self.load_state(after.state)
        return after.loss

    def state(self) -> dict[str, NDArray[Any]]:
        """See `Trainer.state`."""
        return {name: value.copy() for name, value in self.held.items()}

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """See `Trainer.load_state`; what it is given is not checked."""
        dtype = self.model.dtype
        self.held = {name: np.array(value, np.int64 if name == "step" else dtype) for name, value in state.items()}


class OracleBackend:
    """See `Backend`. Slow; for tiny models."""

    info = BackendInfo(
        name="oracle",
        factory="recs_core.conformance.oracle_backend:OracleBackend",
        summary="the float64 oracle, a step at a time",
        requires=("numpy",),
    )

    def model(
        self, query: Any, candidate: Any, retrieval: RetrievalSpec, weights: Weights, *, dtype: DType = "float32"
    ) -> Any:
        """See `Backend.model`."""
        return OracleModel(query, candidate, retrieval, weights, dtype)

    def task(self, spec: RetrievalSpec, *, weights: Weights | None = None, dtype: DType = "float32") -> Any:
        """Refused."""
        raise UnsupportedFeature("the oracle has no task apart from a step")

    def adopt(self, module: Any, features: Any, *, output_dim: int | None = None) -> Any:
        """Refused."""
        raise UnsupportedFeature("the oracle adopts no module")

    def trainer(self, model: Any, optimizer: Optimizer) -> OracleTrainer:
        """See `Backend.trainer`."""
        return OracleTrainer(model, optimizer)
