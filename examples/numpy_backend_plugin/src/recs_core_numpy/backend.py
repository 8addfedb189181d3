"""The backend, behind the contract of `recs_core.contract.protocols`, where every member is described."""

from typing import Any

import numpy as np

from recs_core.contract.plans import TowerPlan, UpdatePlan, check_encoders
from recs_core_numpy.model import Model
from recs_core_numpy.plugin import INFO, lacks
from recs_core_numpy.task import RetrievalTask
from recs_core_numpy.trainer import Trainer


class Backend:
    info = INFO

    def model(self, query: Any, candidate: Any, retrieval: Any, weights: Any, *, dtype: str = "float32") -> Model:
        if not (isinstance(query, TowerPlan) and isinstance(candidate, TowerPlan)):
            raise lacks("adopt")
        check_encoders(INFO, query, candidate)
        return Model(query, candidate, retrieval, weights, dtype)

    def task(self, spec: Any, *, weights: Any = None, dtype: str = "float32") -> RetrievalTask:
        return RetrievalTask(spec, {name: np.array(w, dtype) for name, w in (weights or {}).items()}, dtype)

    def adopt(self, module: Any, features: Any, *, output_dim: int | None = None) -> Any:
        raise lacks("adopt")

    def trainer(self, model: Model, plan: UpdatePlan) -> Trainer:
        return Trainer(model, plan)


def create(engine: str | None = None) -> Backend:
    """The factory that the manifest names; it lists no engines, so there is none to choose."""
    return Backend()
