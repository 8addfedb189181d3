"""The oracle as a backend, so that it is trained, asked and compared like any other. Slow; for tiny models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NoReturn

import numpy as np
from numpy.typing import NDArray

from recs_core.contract import weights as canonical
from recs_core.contract.batch import Batch, Features, Side
from recs_core.contract.errors import UnsupportedFeature
from recs_core.contract.manifest import BackendInfo, No
from recs_core.contract.optimizers import OPTIMIZERS
from recs_core.contract.plans import TowerPlan, UpdatePlan
from recs_core.contract.protocols import DType
from recs_core.contract.retrieval import RetrievalSpec
from recs_core.contract.weights import Weights
from recs_core.reference import towers, training
from recs_core.reference.optimizers import initial_state

ORACLE: Final = "oracle"
"""The name of the float64 NumPy reference among the backends."""


class Tower:
    """See `Tower` of the contract; `native` is the model. It reads the specs, and of a plan nothing but its `spec`."""

    def __init__(self, side: Side, plan: TowerPlan, model: Model) -> None:
        self.plan: TowerPlan | None = plan
        self.side, self.spec, self.native = side, plan.spec, model
        self.output_dim = plan.spec.output_dim

    def embed(self, features: Features) -> NDArray[np.floating]:
        """See `Tower.embed`."""
        return towers.embed(self.spec, self.side, features, self.native.held).astype(self.native.dtype)

    def __call__(self, features: Features | Batch) -> NoReturn:
        """Refused."""
        raise UnsupportedFeature("the oracle has no native loop: NumPy has no gradients of its own")


class Model:
    """See `Model` of the contract. Weights are kept in `dtype`, between steps that are float64."""

    def __init__(
        self, query: TowerPlan, candidate: TowerPlan, retrieval: RetrievalSpec, weights: Weights, dtype: DType
    ) -> None:
        self.spec = training.Model(query.spec, candidate.spec, retrieval)
        self.dtype = np.dtype(dtype)
        self.shapes = {name: np.shape(weight) for name, weight in weights.items()}
        self.query, self.candidate = Tower("query", query, self), Tower("candidate", candidate, self)
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


class Trainer:
    """See `Trainer` of the contract. It reads the optimizer's spec, and of a plan nothing else."""

    def __init__(self, model: Model, plan: UpdatePlan) -> None:
        self.model, self.optimizer = model, plan.spec
        self.load_state(initial_state(plan.spec, model.held))

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
    """See `Backend`. `dtype`: what weights are kept in, whatever a model is asked for; None: what it is asked for."""

    info = BackendInfo(
        name=ORACLE,
        factory="recs_core.reference.backend:OracleBackend",
        summary="float64 by formula, in NumPy, a step at a time",
        requires=("numpy",),
        capabilities={
            "distributed": No("the oracle computes in one process"),
            "device": No("NumPy computes on the CPU"),
            "precision_bf16": No("the oracle computes in float64"),
        },
    )

    def __init__(self, dtype: DType | None = None) -> None:
        self.dtype = dtype

    def model(
        self, query: Any, candidate: Any, retrieval: RetrievalSpec, weights: Weights, *, dtype: DType = "float32"
    ) -> Any:
        """See `Backend.model`."""
        return Model(query, candidate, retrieval, weights, self.dtype or dtype)

    def task(self, spec: RetrievalSpec, *, weights: Weights | None = None, dtype: DType = "float32") -> NoReturn:
        """Refused."""
        raise UnsupportedFeature("the oracle has no task apart from a step; call recs_core.reference.task")

    def adopt(self, module: Any, features: Any, *, output_dim: int | None = None) -> NoReturn:
        """Refused."""
        raise UnsupportedFeature("the oracle adopts no module; declare a TowerSpec")

    def trainer(self, model: Any, plan: UpdatePlan) -> Trainer:
        """See `Backend.trainer`. Raises `UnsupportedFeature` for an optimizer of a user's own."""
        if type(plan.spec) not in OPTIMIZERS:
            known = ", ".join(cls.__name__ for cls in OPTIMIZERS)
            raise UnsupportedFeature(f"the oracle has no formula of {type(plan.spec).__name__}; it has {known}")
        return Trainer(model, plan)
