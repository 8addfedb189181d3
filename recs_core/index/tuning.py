"""What an index finds and takes, measured against exact search."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from time import perf_counter
from typing import cast

import numpy as np
from numpy.typing import NDArray

from recs_core.contract.manifest import IndexInfo
from recs_core.contract.protocols import Index, StorableIndex
from recs_core.index.filtered import FilteredIndex
from recs_core.index.made import Made
from recs_core.plugin.manager import load_index
from recs_core.plugin.specs import joined, split


@dataclass(frozen=True)
class Measured:
    """An index on n queries, asked one at a time as a service is: `recall` of the exact best `k`, `per_second` queries,
    `build` seconds, and `size`, the bytes of its parts; None for one that cannot be stored."""

    spec: str
    k: int
    queries: int
    recall: float
    per_second: float
    build: float
    size: int | None


@dataclass(frozen=True)
class Question:
    """What indexes are measured by: `vectors` (n, d) and `queries` (Q, d) float32, and the exact best k of each."""

    vectors: NDArray[np.float32]
    queries: NDArray[np.float32]
    best: NDArray[np.int64]

    @classmethod
    def of(cls, vectors: NDArray[np.float32], queries: NDArray[np.float32], k: int) -> Question:
        """The question with its answer. Raises `DataError` for k ≤ 0."""
        return cls(vectors, queries, FilteredIndex(vectors).search(queries, k).ids)

    def measure(self, index: Index, spec: str, build: float) -> Measured:
        """Ask an index that holds the vectors; `build`: the seconds that it took to make."""
        searched, k = FilteredIndex(self.vectors, index, built=True), self.best.shape[1]
        found = np.empty_like(self.best)
        searched.search(self.queries[:1], k)  # what happens once, such as starting threads
        begun = perf_counter()
        for row in range(len(self.queries)):
            found[row] = searched.search(self.queries[row : row + 1], k).ids
        seconds = perf_counter() - begun
        hits = sum(len(np.intersect1d(*lists)) for lists in zip(found, self.best, strict=True))
        size = (
            sum(part.nbytes for part in cast(StorableIndex, index).parts().values())
            if index.info.capabilities.get("storable")
            else None
        )
        asked = max(self.best.size, 1)
        return Measured(spec, k, len(found), hits / asked, len(found) / max(seconds, 1e-9), build, size)

    def built(self, spec: str, asks: str) -> tuple[Index, float]:
        """The index of a spec over the vectors, and the seconds that took. Raises as `load_index`."""
        index = load_index(spec, asked_by=asks)
        begun = perf_counter()
        index.build(self.vectors)
        return index, perf_counter() - begun

    def tried(self, spec: str, asks: str) -> Iterator[Measured]:
        """The index with every value that its manifest names for options that the spec leaves open, the quickest first.

        It is built once, and restored with the other values, where it is storable. Raises as `load_index`.
        """
        index, build = self.built(spec, asks)
        made = Made.of(index, asks) if index.info.capabilities.get("storable") else None
        for other in variants(spec, index.info, asks):
            if other != spec and made is not None:
                index = made.restored(self.vectors, other)
            elif other != spec:
                index, build = self.built(other, asks)
            yield self.measure(index, other, build)


def variants(spec: str, info: IndexInfo, asks: str) -> list[str]:
    """Specs with every value of the tuned options that this one leaves open."""
    name, given = split(spec, asks)
    free = {option: values for option, values in info.tuned.items() if option not in given}
    return [joined(name, {**given, **dict(zip(free, values, strict=True))}) for values in product(*free.values())]
