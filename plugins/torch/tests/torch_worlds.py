"""What several tests make their worlds from."""

from __future__ import annotations

from typing import Any

import numpy as np

from recs_core.contract.batch import Ragged
from recs_core.contract.feature_kinds import Bag, Categorical, History, Numeric, Text
from recs_core.contract.plans import TowerPlan
from recs_core.contract.retrieval import RetrievalSpec
from recs_core.contract.towers import TowerSpec

QUERY = TowerPlan.of(
    "query",
    TowerSpec(
        [Categorical("user.id", dim=3), Bag("tags", dim=2, pooling="sum"), History("item", dim=3), Numeric("age")],
        layers=[5, 4],
        activation="tanh",
    ),
)
CANDIDATE = TowerPlan.of(
    "candidate", TowerSpec([Categorical("item", dim=3), Text("title", dim=2, buckets=7)], layers=[4])
)
ROWS = {"table/user.id": 6, "table/tags": 5, "table/item": 9, "table/title": 7}
CORPUS = 8


def spec(**options: Any) -> RetrievalSpec:
    """A task that needs nothing but the vectors, unless options ask for more."""
    plain = {"logq": False, "remove_accidental_hits": False, "candidate_bias": False, "scoring": "dot"}
    return RetrievalSpec(**{**plain, **options})


def ragged(*rows: list[int]) -> Ragged:
    """Rows of codes."""
    return Ragged.of(rows)


def codes(*values: int) -> np.ndarray:
    """int32 codes."""
    return np.array(values, np.int32)
