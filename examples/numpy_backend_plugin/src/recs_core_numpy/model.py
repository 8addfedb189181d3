"""Weights by canonical name, and what looks at them."""

from typing import Any

import numpy as np

from recs_core.contract import weights as canonical
from recs_core.contract.batch import Batch
from recs_core.contract.plans import TowerPlan, check_towers
from recs_core.contract.retrieval import RetrievalSpec
from recs_core_numpy.task import RetrievalTask
from recs_core_numpy.towers import Tower


class Model:
    """Two towers and the task over one dict of weights, `own`."""

    def __init__(self, query: TowerPlan, candidate: TowerPlan, retrieval: RetrievalSpec, weights: Any, dtype: str):
        check_towers(query, candidate)
        canonical.check(weights, canonical.expected(query, candidate, retrieval, weights))
        self.own = {name: np.array(value, dtype) for name, value in weights.items()}
        self.query, self.candidate = Tower(query, self.own, dtype), Tower(candidate, self.own, dtype)
        self.task = RetrievalTask(retrieval, self.own, dtype)
        self.version = 0  # moves with every step and load

    def weights(self) -> dict[str, Any]:
        return {name: value.copy() for name, value in self.own.items()}

    def load_weights(self, weights: Any) -> None:
        canonical.check(weights, {name: value.shape for name, value in self.own.items()})
        for name, value in weights.items():
            self.own[name][...] = value
        self.version += 1

    def gradients(self, batch: Batch, weights: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """The loss, and its gradient by each of `weights`, in which tables are the rows that the batch names."""
        query, query_back = self.query.run(batch.query, weights)
        candidate, candidate_back = self.candidate.run(batch.candidate, weights)
        bias = None if batch.bias_codes is None else weights["task/bias"][batch.bias_codes]
        loss, dq, dc, db, by_log_temperature = self.task.gradients(query, candidate, bias, **batch.task)
        into = {name: np.zeros_like(w) for name, w in weights.items()}
        query_back(dq, into)
        candidate_back(dc, into)
        if batch.bias_codes is not None:
            np.add.at(into["task/bias"], batch.bias_codes, db)
        if "task/log_temperature" in into:
            into["task/log_temperature"] += by_log_temperature
        return loss, into
