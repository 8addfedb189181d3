"""Any index, held to the filters: what is excluded never comes back, and whom that leaves short is searched exactly."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recs_core.contract.batch import Ragged
from recs_core.contract.errors import UnsupportedFeature
from recs_core.contract.protocols import Index, TopK
from recs_core.index.exact import ExactIndex
from recs_core.index.filters import check_allow, check_positions
from recs_core.index.plan import check_k


class FilteredIndex:
    """Positions of (n, d) float32 `vectors`, kept as given, found through any index of inner products.

    `index`: an `Index`, or the name of an installed one; by default every candidate is scored. An approximate index may
    miss candidates but leaks none, and returns no less than an exact one would.

    Raises `DataError` for another shape, dtype or NaN, `UnsupportedFeature` for an index of another metric,
    `BackendNotFound` for an unknown name.
    """

    def __init__(self, vectors: NDArray[np.float32], index: Index | str | None = None) -> None:
        self._exact = ExactIndex()
        self._exact.build(vectors)  # checks dtype and finiteness before another index is touched
        found = self._exact if index is None else resolve(index)
        self._index: Index = self._exact if isinstance(found, ExactIndex) else found
        if self._index is not self._exact:
            self._index.build(vectors)
        self._size = len(vectors)

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        *,
        exclude: Ragged | None = None,
        allow: ArrayLike | None = None,
    ) -> TopK:
        """As `Index.search`, filters included, whatever the index declares; k and errors as in `ExactIndex.search`."""
        if self._index is self._exact:
            return self._exact.search(queries, k, exclude=exclude, allow=allow)  # type: ignore[arg-type]
        k = check_k(k, self._size)
        exclude = None if exclude is None else check_positions(exclude, len(queries), self._size, "exclude")
        allowed = None if allow is None else check_allow(allow, self._size)
        capabilities = self._index.info.capabilities
        if allowed is not None and not capabilities.get("allow"):
            return self._exact.search(queries, k, exclude=exclude, allow=allowed)
        filters: dict[str, Any] = {} if allowed is None else {"allow": allowed}
        fetch = k
        if exclude is not None and capabilities.get("exclude"):
            filters["exclude"] = exclude
        elif exclude is not None:
            fetch = k + int(exclude.lengths.max(initial=0))
        found = self._index.search(queries, min(fetch, max(self._size, 1)), **filters)
        return self._completed(queries, k, found, exclude, allowed)

    def _completed(
        self,
        queries: NDArray[np.float32],
        k: int,
        found: TopK,
        exclude: Ragged | None,
        allowed: NDArray[np.int64] | None,
    ) -> TopK:
        """What another index found, held to the filters whatever it declares; rows left short are searched exactly."""
        good = (found.ids >= 0) & (found.ids < self._size)
        if exclude is not None:
            good &= ~exclude.holds(np.arange(len(queries))[:, None], found.ids)
        if allowed is not None:
            good &= np.isin(found.ids, allowed)
        first = np.argsort(~good, axis=1, kind="stable")[:, :k]
        ids = np.full((len(queries), k), -1, np.int64)
        scores = np.full((len(queries), k), -np.inf, np.float32)
        ids[:, : first.shape[1]] = np.take_along_axis(np.where(good, found.ids, -1), first, 1)
        scores[:, : first.shape[1]] = np.take_along_axis(np.where(good, found.scores, -np.inf), first, 1)
        short = np.flatnonzero((ids < 0).any(axis=1))
        if len(short):
            hidden = None if exclude is None else exclude.take(short)
            exact = self._exact.search(queries[short], k, exclude=hidden, allow=allowed)
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
