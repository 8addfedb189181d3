"""Any index, held to the filters: what is excluded never comes back, and whom that leaves short is searched exactly."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recs_core.contract.batch import Ragged
from recs_core.contract.errors import UnsupportedFeature
from recs_core.contract.manifest import IndexInfo
from recs_core.contract.protocols import Index, TopK, UpdatableIndex
from recs_core.index.exact import ExactIndex, search_exactly
from recs_core.index.plan import SearchPlan, plan_search


class FilteredIndex:
    """Positions of (n, d) float32 `vectors`, kept as given, found through any index of inner products.

    `index`: an `Index`, or the name of an installed one; by default every candidate is scored. `built`: it holds these
    vectors already, built or restored. An approximate index may miss candidates but leaks none, and returns no less
    than an exact one would.

    Raises `DataError` for another shape, dtype or NaN, `UnsupportedFeature` for an index of another metric,
    `BackendNotFound` for an unknown name.
    """

    def __init__(self, vectors: NDArray[np.float32], index: Index | str | None = None, *, built: bool = False) -> None:
        self._exact = ExactIndex()
        self._exact.build(vectors)  # checks dtype and finiteness before another index is touched
        found = self._exact if index is None else resolve(index)
        self._index: Index = self._exact if isinstance(found, ExactIndex) else found
        if self._index is not self._exact and not built:
            self._index.build(vectors)

    @property
    def info(self) -> IndexInfo:
        """The manifest of the index that is held to the filters."""
        return self._index.info

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        *,
        exclude: Ragged | None = None,
        allow: ArrayLike | None = None,
    ) -> TopK:
        """As `Index.search`, filters included, whatever the index declares; k and errors as in `ExactIndex.search`."""
        plan = plan_search(self._exact.candidates, queries, k, exclude, allow)
        capabilities = self._index.info.capabilities
        if self._index is self._exact or (allow is not None and not capabilities.get("allow")):
            return search_exactly(plan)
        filters: dict[str, Any] = {} if allow is None else {"allow": plan.allowed}
        fetch = plan.k
        if plan.exclude is not None and capabilities.get("exclude"):
            filters["exclude"] = plan.exclude
        elif plan.exclude is not None:
            fetch += int(plan.exclude.lengths.max(initial=0))
        found = self._index.search(queries, min(fetch, max(len(plan.candidates.vectors), 1)), **filters)
        return _completed(plan, found)

    def upsert(self, vectors: NDArray[np.float32], positions: NDArray[np.integer]) -> None:
        """As `UpdatableIndex.upsert`; an index that is none is built anew."""
        changed = self._exact.candidates.upserted(vectors, positions)
        if self._index is not self._exact:
            if self._index.info.capabilities.get("updatable"):
                cast(UpdatableIndex, self._index).upsert(vectors, positions)
            else:
                self._index.build(vectors)
        self._exact.candidates = changed

    def delete(self, positions: NDArray[np.integer]) -> None:
        """As `UpdatableIndex.delete`, whatever the index can."""
        left = self._exact.candidates.without(positions)
        if self._index is not self._exact and self._index.info.capabilities.get("updatable"):
            cast(UpdatableIndex, self._index).delete(positions)
        self._exact.candidates = left


def _completed(plan: SearchPlan, found: TopK) -> TopK:
    """What another index found, held to the filters whatever it declares; rows left short are searched exactly."""
    good = plan.admits(found.ids)
    first = np.argsort(~good, axis=1, kind="stable")[:, : plan.k]
    ids = np.full((len(good), plan.k), -1, np.int64)
    scores = np.full((len(good), plan.k), -np.inf, np.float32)
    ids[:, : first.shape[1]] = np.take_along_axis(np.where(good, found.ids, -1), first, 1)
    scores[:, : first.shape[1]] = np.take_along_axis(np.where(good, found.scores, -np.inf), first, 1)
    short = np.flatnonzero((ids < 0).any(axis=1))
    if len(short):
        exact = search_exactly(plan.take(short))
        ids[short], scores[short] = exact.ids, exact.scores
    return TopK(ids, scores)


def resolve(index: Index | str) -> Index:
    """The index of that name, or the one given. Raises `BackendNotFound`; `UnsupportedFeature` for another metric."""
    if isinstance(index, str):
        from recs_core.plugin.manager import load_index

        index = load_index(index)
    if index.info.metric != "inner_product":
        raise UnsupportedFeature(
            f"index {index.info.name!r} ranks by {index.info.metric!r}; scores here are inner products: "
            "use an index whose metric is 'inner_product', such as 'exact'"
        )
    return index
