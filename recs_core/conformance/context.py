"""What a check is handed: the backend or index under test, and the few things that many checks do with it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recs_core.conformance.shop import trained
from recs_core.conformance.worlds import TaskWorld, World
from recs_core.contract.batch import Batch
from recs_core.contract.manifest import BackendInfo, IndexInfo
from recs_core.contract.optimizers import SGD, Optimizer
from recs_core.contract.plans import TowerPlan, UpdatePlan
from recs_core.contract.protocols import Backend, DType, Index, Model, Trainer
from recs_core.two_tower import TwoTower

Arrays = dict[str, NDArray[Any]]

DESCENT = SGD()
"""w ← w − rate · g: so a step tells the gradient of every weight."""
DESCENT_RATE = 1e5
"""So long a step that the weight's own rounding does not blur the gradient read from it."""


def number(scalar: Any) -> float:
    """A native scalar as a float. That its gradient is lost, of which a framework may warn, is meant."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return float(scalar)


def copied(arrays: Mapping[str, NDArray[Any]]) -> Arrays:
    """Copies, so that arrays which are no copies are found by the check of that, and by no other."""
    return {name: np.array(value) for name, value in arrays.items()}


@dataclass
class BackendContext:
    """A backend under test. `workers`: how many train together where several do."""

    backend: Backend
    workers: int = 2

    @property
    def info(self) -> BackendInfo:
        """Its manifest."""
        return self.backend.info

    def has(self, *capabilities: str) -> bool:
        """Whether the manifest declines none of these."""
        return all(self.info.capabilities.get(name, True) is True for name in capabilities)

    @property
    def dtypes(self) -> tuple[DType, ...]:
        """float32, and float64 where it is not declined."""
        return ("float32", "float64") if self.has("float64") else ("float32",)

    @property
    def finest(self) -> DType:
        """The dtype that shows most."""
        return self.dtypes[-1]

    @cached_property
    def fitted(self) -> TwoTower:
        """A model that it has trained for the shop, in float32; made once, and not to be changed."""
        return trained(self.backend, "float32")

    def model(
        self, world: World | TaskWorld, dtype: DType = "float32", weights: Mapping[str, NDArray[Any]] | None = None
    ) -> Model:
        """A model of a world, from the world's weights or those given."""
        if isinstance(world, TaskWorld):
            (query, candidate), retrieval, own = world.towers, world.spec, world.weights
        else:
            (query, candidate), retrieval, own = (world.query, world.candidate), world.retrieval, world.weights()
        start = {name: np.asarray(value, dtype) for name, value in (own if weights is None else weights).items()}
        plans = TowerPlan.of("query", query), TowerPlan.of("candidate", candidate)
        return self.backend.model(*plans, retrieval, start, dtype=dtype)

    def trainer(self, model: Model, optimizer: Optimizer, state: Mapping[str, NDArray[Any]] | None = None) -> Trainer:
        """A trainer, from the start or from a state."""
        trainer = self.backend.trainer(model, UpdatePlan(optimizer))
        if state is not None:
            trainer.load_state(state)
        return trainer

    def loss_and_gradients(self, world: World | TaskWorld, batch: Batch, dtype: DType) -> tuple[float, Arrays]:
        """The loss of a step and the gradient of every weight, read off a step of plain gradient descent."""
        model = self.model(world, dtype)
        before = copied(model.weights())
        loss = number(self.trainer(model, DESCENT).step(batch, DESCENT_RATE))
        after = model.weights()
        moved = {name: np.float64(before[name]) - np.float64(after[name]) for name in before}
        return loss, {name: np.asarray(value) / DESCENT_RATE for name, value in moved.items()}


@dataclass
class IndexContext:
    """An index under test; `make` gives an empty one."""

    make: Callable[[], Index]

    @property
    def info(self) -> IndexInfo:
        """Its manifest."""
        return self.make().info

    def built(self, vectors: Any) -> Index:
        """An index over (n, d) vectors."""
        index = self.make()
        index.build(np.ascontiguousarray(vectors, np.float32))
        return index
