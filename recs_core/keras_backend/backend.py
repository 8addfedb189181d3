"""The backend object. Importing this module imports no framework; making a backend imports Keras on one engine."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from recs_core.contract.errors import MissingExtra, SpecError
from recs_core.contract.manifest import BackendInfo
from recs_core.contract.optimizers import Optimizer
from recs_core.contract.protocols import DType, Tower
from recs_core.contract.retrieval import RetrievalSpec
from recs_core.contract.towers import TowerSpec
from recs_core.contract.weights import Weights
from recs_core.environment import ENGINES, imported_keras_engine, is_installed, prepare_keras
from recs_core.keras_backend.plugin import INFO

if TYPE_CHECKING:
    from recs_core.keras_backend.engines import Engine
    from recs_core.keras_backend.model import KerasModel
    from recs_core.keras_backend.task import KerasTask
    from recs_core.keras_backend.towers import AdoptedTower
    from recs_core.keras_backend.trainer import KerasTrainer


def factory(engine: str | None = None, *, asked_by: str = "backend=") -> KerasBackend:
    """The `keras` backend on `engine`; by default the one Keras runs on or `KERAS_BACKEND` names, else one installed.

    Raises as `recs_core.environment.prepare_keras`.
    """
    engine = engine or imported_keras_engine() or os.environ.get("KERAS_BACKEND") or _first_installed()
    prepare_keras(engine, asked_by)
    from recs_core.keras_backend.engines import load_engine

    return KerasBackend(load_engine(engine))


def _first_installed() -> str:
    for name in ENGINES:
        if is_installed(name):
            return name
    raise MissingExtra(
        f"keras needs an engine, and none is installed; `pip install keras {ENGINES[0]}` (or {', '.join(ENGINES[1:])})"
    )


class KerasBackend:
    """See `Backend`. One process has one engine: Keras chooses it when it is first imported."""

    info: BackendInfo = INFO

    def __init__(self, engine: Engine) -> None:
        self.engine = engine.name
        self._engine = engine

    def model(
        self,
        query: TowerSpec | Tower,
        candidate: TowerSpec | Tower,
        retrieval: RetrievalSpec,
        weights: Weights,
        *,
        dtype: DType = "float32",
    ) -> KerasModel:
        """See `Backend.model`."""
        from recs_core.keras_backend.model import KerasModel

        self._allow(dtype)
        return KerasModel(self._engine, query, candidate, retrieval, weights, dtype)

    def task(self, spec: RetrievalSpec, *, weights: Weights | None = None, dtype: DType = "float32") -> KerasTask:
        """See `Backend.task`."""
        from recs_core.keras_backend.task import KerasTask

        if spec.candidate_bias and "task/bias" not in (weights or {}):
            raise SpecError("candidate_bias=True needs weights={'task/bias': …}, a number for each candidate")
        self._allow(dtype)
        return KerasTask(self._engine, spec, weights or {}, dtype)

    def adopt(self, module: Any, features: Sequence[str], *, output_dim: int | None = None) -> AdoptedTower:
        """See `Backend.adopt`. The module is a `keras.Model` or `keras.Layer` that has its weights already."""
        from recs_core.keras_backend.towers import AdoptedTower, adopted_output_dim

        if isinstance(features, str) or not features:
            raise SpecError(f"adopt needs the list of features that the module takes, got {features!r}")
        return AdoptedTower(self._engine, module, features, adopted_output_dim(module, output_dim))

    def trainer(self, model: Any, optimizer: Optimizer) -> KerasTrainer:
        """See `Backend.trainer`. Raises `SpecError` for another backend's model."""
        from recs_core.keras_backend.model import KerasModel
        from recs_core.keras_backend.trainer import KerasTrainer

        if not isinstance(model, KerasModel):
            raise SpecError(f"the keras backend trains its own models, not a {type(model).__name__}")
        return KerasTrainer(self._engine, model, optimizer)

    def _allow(self, dtype: DType) -> None:
        if dtype not in ("float32", "float64"):
            raise SpecError(f"dtype is 'float32' or 'float64', got {dtype!r}")
        if dtype == "float64":
            self._engine.allow_float64()
