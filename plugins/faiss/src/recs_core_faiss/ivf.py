"""`faiss-ivf`: candidates in clusters; a query looks into the nearest."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import faiss
import numpy as np
from numpy.typing import NDArray

from recs_core.contract.errors import DataError
from recs_core.index import SearchPlan
from recs_core.index.rescored import Found, array
from recs_core.plugin import IndexInfo
from recs_core.plugin.specs import whole
from recs_core_faiss import codes
from recs_core_faiss.changing import ChangingIndex
from recs_core_faiss.plugin import IVF as INFO

RESCORED = 4
"""Candidates scored exactly for each that is needed: codes of one byte rank them nearly right."""

ROUNDS, SAMPLE = 10, 64
"""Of the clustering: rounds, and vectors looked at for each cluster."""


@dataclass
class IVF(ChangingIndex):
    """`lists`: clusters; 0 for about the square root of the number of candidates. `probes`: how many a query looks
    into."""

    lists: int = 0
    probes: int = 32

    info: ClassVar[IndexInfo] = INFO

    def __post_init__(self) -> None:
        whole(self.spec, "lists", self.lists, 0)
        whole(self.spec, "probes", self.probes, 1)

    def _empty(self, dim: int, number: int) -> Any:
        return self._of_lists(dim, min(self.lists or math.isqrt(number), number))

    def _of_lists(self, dim: int, lists: int) -> Any:
        coarse = faiss.IndexFlatIP(dim)
        engine = faiss.IndexIVFScalarQuantizer(coarse, dim, lists, codes.KIND, faiss.METRIC_INNER_PRODUCT, False)
        engine.cp.niter, engine.cp.max_points_per_centroid, engine.cp.min_points_per_centroid = ROUNDS, SAMPLE, 1
        self._coarse = coarse  # faiss does not keep it
        return engine

    def _find(self, plan: SearchPlan, number: int) -> Found:
        how = faiss.SearchParametersIVF(nprobe=self.probes)
        number = min(RESCORED * number, self._engine.ntotal)
        return self._positions_of(self._engine.search(np.ascontiguousarray(plan.queries), number, params=how)[1]), None

    def _parts(self) -> dict[str, NDArray[Any]]:
        centroids = codes.taken(self._coarse.codes).view(np.float32).reshape(-1, self._engine.d)
        of_rows, held = np.empty(self._engine.ntotal, np.int32), self._engine.invlists
        for number in range(self._engine.nlist):
            size = held.list_size(number)
            if size:
                of_rows[faiss.rev_swig_ptr(held.get_ids(number), size)] = number
        live = self._positions >= 0
        lists = np.empty(int(live.sum()), np.int32)
        lists[self._positions[live]] = of_rows[live]
        exponent = np.array([self._exponent], np.int32)
        return {"centroids": centroids, "ranges": codes.ranges(self._engine), "lists": lists, "exponent": exponent}

    def _take(self, vectors: NDArray[np.float32], parts: Mapping[str, NDArray[Any]]) -> None:
        centroids = parts.get("centroids")
        if centroids is None or centroids.dtype != np.float32 or centroids.shape[1:] != vectors.shape[1:]:
            raise DataError(f"part 'centroids' of the index is missing, or of other than {vectors.shape[1]} numbers")
        if not len(centroids) or not np.isfinite(centroids).all():
            raise DataError("part 'centroids' of the index is empty, or holds NaN or infinity")
        lists = array(parts, "lists", np.int32, vectors.shape[:1]).astype(np.int64)
        if lists.min(initial=0) < 0 or lists.max(initial=0) >= len(centroids):
            raise DataError(f"part 'lists' of the index holds others than its {len(centroids):,} clusters")
        if self.lists not in (0, len(centroids)):
            raise DataError(f"the stored index has {len(centroids)} lists, {self.lists} are asked for")
        self._exponent = codes.stored_exponent(parts)
        engine = self._of_lists(vectors.shape[1], len(centroids))
        codes.set_ranges(engine, parts)
        self._coarse.add(np.ascontiguousarray(centroids))
        rows, labels = self._rows(vectors), np.arange(len(vectors))
        engine.add_core(len(rows), faiss.swig_ptr(rows), faiss.swig_ptr(labels), faiss.swig_ptr(lists))
        self._engine, self._positions = engine, labels
