"""`faiss-flat`: every candidate, scored by faiss. Exact: what its rounding leaves open is searched exactly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NoReturn

import faiss
import numpy as np
from numpy.typing import NDArray

from recs_core.contract.errors import UnsupportedFeature
from recs_core.index import RescoredIndex, SearchPlan
from recs_core.index.tiles import slack
from recs_core.plugin import IndexInfo
from recs_core_faiss.plugin import FLAT

MORE = 16
"""Asked for beyond what is needed: the last of them says how low faiss went."""


@dataclass
class Flat(RescoredIndex):
    """Holds the vectors as given where they lie row by row, a memory map too; else a copy."""

    info: ClassVar[IndexInfo] = FLAT
    pace: ClassVar[float] = 20

    def _make(self, vectors: NDArray[np.float32]) -> None:
        self._vectors: NDArray[np.float32] = np.ascontiguousarray(vectors)

    def _find(self, plan: SearchPlan, number: int) -> tuple[NDArray[np.integer], NDArray[np.floating]]:
        queries = np.ascontiguousarray(plan.queries)
        scores, found = faiss.knn(queries, self._vectors, number + MORE, metric=faiss.METRIC_INNER_PRODUCT)
        return found, scores[:, -1] + slack(plan.norms * plan.candidates.norm, queries.shape[1])

    def _parts(self) -> NoReturn:
        raise UnsupportedFeature("index 'faiss-flat' has no parts: nothing is made of the vectors")

    def _take(self, vectors: NDArray[np.float32], parts: Mapping[str, NDArray[Any]]) -> None:
        self._make(vectors)
