"""`faiss-hnsw`: a graph in which a query walks from neighbour to neighbour."""

from __future__ import annotations

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
from recs_core_faiss.plugin import HNSW as INFO

ROOM = 2
"""Candidates that the walk keeps, at least, for each that is needed."""


@dataclass
class HNSW(ChangingIndex):
    """`m`: neighbours of a candidate in the graph, twice as many at its base. `ef`: how many candidates a walk keeps,
    all of which are scored exactly. `ef_build`: the same while the graph is made."""

    m: int = 16
    ef: int = 64
    ef_build: int = 100

    info: ClassVar[IndexInfo] = INFO

    def __post_init__(self) -> None:
        whole(self.spec, "m", self.m, 2)
        whole(self.spec, "ef", self.ef, 1)
        whole(self.spec, "ef_build", self.ef_build, 1)

    @property
    def _coded(self) -> Any:
        return faiss.downcast_index(self._engine.storage)

    def _empty(self, dim: int, number: int) -> Any:
        engine = faiss.IndexHNSWSQ(dim, codes.KIND, self.m, faiss.METRIC_INNER_PRODUCT)
        engine.hnsw.efConstruction = self.ef_build
        return engine

    def _find(self, plan: SearchPlan, number: int) -> Found:
        ef = min(max(self.ef, ROOM * number), self._engine.ntotal)
        how = faiss.SearchParametersHNSW(efSearch=ef)
        return self._positions_of(self._engine.search(np.ascontiguousarray(plan.queries), ef, params=how)[1]), None

    def _parts(self) -> dict[str, NDArray[Any]]:
        graph, storage = self._engine.hnsw, self._coded
        return {
            "levels": faiss.vector_to_array(graph.levels).copy(),
            "neighbors": codes.taken(graph.neighbors),
            "entry": np.array([graph.entry_point], np.int64),
            "exponent": np.array([self._exponent], np.int32),
            "ranges": codes.ranges(storage),
            "codes": codes.taken(storage.codes).reshape(len(self._positions), -1),
            "positions": self._positions,
        }

    def _take(self, vectors: NDArray[np.float32], parts: Mapping[str, NDArray[Any]]) -> None:
        positions = _positions(parts, len(vectors))
        rows = len(positions)
        levels, entry = array(parts, "levels", np.int32, (rows,)), array(parts, "entry", np.int64, (1,))
        stored = array(parts, "codes", np.uint8, (rows, vectors.shape[1]))
        engine = self._empty(vectors.shape[1], rows)
        graph, storage = engine.hnsw, faiss.downcast_index(engine.storage)
        places = faiss.vector_to_array(graph.cum_nneighbor_per_level)
        offsets = _offsets(levels, places)
        neighbors = array(parts, "neighbors", np.int32, (int(offsets[-1]),))
        _check_graph(levels, neighbors, offsets, places, int(entry[0]))
        codes.set_ranges(storage, parts)
        codes.filled(storage.codes, stored)
        codes.filled(graph.neighbors, neighbors)
        faiss.copy_array_to_vector(np.ascontiguousarray(levels), graph.levels)
        faiss.copy_array_to_vector(offsets.astype(np.uint64), graph.offsets)
        graph.entry_point, graph.max_level = int(entry[0]), int(levels.max()) - 1
        storage.ntotal = engine.ntotal = rows
        engine.is_trained = True
        self._engine, self._positions, self._exponent = engine, positions, codes.stored_exponent(parts)


def _positions(parts: Mapping[str, NDArray[Any]], size: int) -> NDArray[np.int64]:
    """Those stored. Raises `DataError` for what is no position of `size` vectors, or leaves one without a row."""
    found = parts.get("positions")
    if found is None or found.dtype != np.int64 or found.ndim != 1:
        raise DataError("part 'positions' of the index is missing, or no list of int64")
    there = found[found >= 0]
    if found.min(initial=0) < -1 or not np.array_equal(np.sort(there), np.arange(size)):
        raise DataError(f"part 'positions' of the index holds others than those of {size:,} vectors")
    return found


def _offsets(levels: NDArray[np.int32], places: NDArray[np.int32]) -> NDArray[np.int64]:
    """(rows + 1,): where the neighbours of each row begin. Raises `DataError` for levels that no graph has."""
    if levels.min() < 1 or levels.max() >= len(places):
        raise DataError(f"part 'levels' of the index holds others than 1 … {len(places) - 1}")
    return np.concatenate([[0], np.cumsum(places[levels], dtype=np.int64)])


def _check_graph(
    levels: NDArray[np.int32],
    neighbors: NDArray[np.int32],
    offsets: NDArray[np.int64],
    places: NDArray[np.int32],
    entry: int,
) -> None:
    """Raise `DataError` for a neighbour that is no row, or that is not on the level on which a walk would follow it."""
    if neighbors.min() < -1 or neighbors.max() >= len(levels):
        raise DataError(f"part 'neighbors' of the index holds others than its {len(levels):,} rows")
    if not 0 <= entry < len(levels) or levels[entry] != levels.max():
        raise DataError("part 'entry' of the index is not a row of the highest level")
    for level in range(1, int(levels.max())):
        rows = np.flatnonzero(levels > level)
        here = neighbors[offsets[rows][:, None] + np.arange(places[level], places[level + 1])]
        if (levels[here[here >= 0]] <= level).any():
            raise DataError(f"part 'neighbors' of the index leads to rows that are not on level {level}")
