"""The backend object. Importing this module imports no framework; making a backend imports Keras on one engine."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from recs_core.config import check_workers
from recs_core.contract.errors import MissingExtra, SpecError, UnsupportedFeature
from recs_core.contract.features import Column
from recs_core.contract.manifest import BackendInfo
from recs_core.contract.plans import TowerPlan, UpdatePlan
from recs_core.contract.protocols import DType, Tower
from recs_core.contract.retrieval import RetrievalSpec
from recs_core.contract.weights import Weights
from recs_core.contract.workers import Workers
from recs_core.environment import ENGINES, imported_keras_engine, is_installed, prepare_keras
from recs_core.keras_backend.plugin import INFO

if TYPE_CHECKING:
    from recs_core.keras_backend.adopted import AdoptedTower
    from recs_core.keras_backend.engines import Engine
    from recs_core.keras_backend.group import Group
    from recs_core.keras_backend.model import Model
    from recs_core.keras_backend.placement import Placement
    from recs_core.keras_backend.task import RetrievalTask
    from recs_core.keras_backend.trainer import Trainer


def create(engine: str | None = None, *, asked_by: str = "backend=") -> Backend:
    """The `keras` backend on `engine`; by default the one Keras runs on or `KERAS_BACKEND` names, else one installed.

    Raises as `recs_core.environment.prepare_keras`.
    """
    engine = engine or imported_keras_engine() or os.environ.get("KERAS_BACKEND") or _first_installed()
    prepare_keras(engine, asked_by)
    from recs_core.keras_backend.engines import load_engine

    return Backend(load_engine(engine))


def _first_installed() -> str:
    for name in ENGINES:
        if is_installed(name):
            return name
    raise MissingExtra(
        f"keras needs an engine, and none is installed; `pip install keras {ENGINES[0]}` (or {', '.join(ENGINES[1:])})"
    )


class Backend:
    """See `Backend` of the contract. One process has one engine: Keras chooses it when it is first imported."""

    def __init__(self, engine: Engine, group: Group | None = None) -> None:
        self.info: BackendInfo = INFO.on(engine.name)
        self.engine, self.group = engine.name, group
        self._engine = engine

    def __reduce__(self) -> tuple[Any, ...]:
        """For pickle. Raises `UnsupportedFeature` on a group."""
        if self.group is not None:
            raise UnsupportedFeature("a model on several workers has no copy; copy a model of it, TwoTower.gathered()")
        return create, (self.engine,)

    def over(self, workers: Workers | None) -> Backend:
        """See `WithWorkers`. Raises `UnsupportedFeature` on another engine than JAX, and as `group.joined`."""
        if workers is None:
            return create(self.engine)
        check_workers(self.info)
        from recs_core.keras_backend.distributed import SpreadEngine
        from recs_core.keras_backend.group import joined

        group = joined(workers)
        return Backend(SpreadEngine(group), group)

    def model(
        self,
        query: TowerPlan | Tower,
        candidate: TowerPlan | Tower,
        retrieval: RetrievalSpec,
        weights: Weights,
        *,
        dtype: DType = "float32",
    ) -> Model:
        """See `Backend.model`."""
        from recs_core.keras_backend.model import Model

        self._allow(dtype)
        return Model(self._engine, query, candidate, retrieval, weights, dtype, self._placement())  # type: ignore[arg-type]

    def task(self, spec: RetrievalSpec, *, weights: Weights | None = None, dtype: DType = "float32") -> RetrievalTask:
        """See `Backend.task`."""
        from recs_core.keras_backend.task import RetrievalTask

        if spec.candidate_bias and "task/bias" not in (weights or {}):
            raise SpecError("candidate_bias=True needs weights={'task/bias': …}, a number for each candidate")
        self._allow(dtype)
        return RetrievalTask(self._engine, spec, weights or {}, dtype)

    def adopt(self, module: Any, features: Sequence[Column | str], *, output_dim: int | None = None) -> AdoptedTower:
        """See `Backend.adopt`. The module is a `keras.Model` or `keras.Layer` that has its weights already; what it is
        called with stands at `AdoptedTower`."""
        from recs_core.keras_backend.adopted import adopt

        return adopt(self._engine, module, features, output_dim)

    def trainer(self, model: Any, plan: UpdatePlan) -> Trainer:
        """See `Backend.trainer`. Raises `SpecError` for another backend's model."""
        from recs_core.keras_backend.model import Model
        from recs_core.keras_backend.trainer import Trainer

        if not isinstance(model, Model):
            raise SpecError(f"the keras backend trains its own models, not a {type(model).__name__}")
        return Trainer(self._engine, model, plan)

    def _placement(self) -> Placement:
        from recs_core.keras_backend.placement import Placement

        if self.group is None:
            return Placement()
        from recs_core.keras_backend.distributed import Spread

        return Spread(self.group)

    def _allow(self, dtype: DType) -> None:
        if dtype not in ("float32", "float64"):
            raise SpecError(f"dtype is 'float32' or 'float64', got {dtype!r}")
        if dtype == "float64":
            self._engine.allow_float64()
