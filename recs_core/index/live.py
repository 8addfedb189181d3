"""An index without the candidates that are retired: none of them is held, or none is allowed, so none comes back."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recs_core.contract.batch import Ragged
from recs_core.contract.manifest import IndexInfo
from recs_core.contract.protocols import Index, TopK
from recs_core.index.filtered import FilteredIndex
from recs_core.index.filters import check_allow, check_positions, within
from recs_core.index.plan import check_k


class LiveIndex:
    """Those of (n, d) float32 `vectors` whose row is not `retired`, found through any index of inner products.

    Positions count all n. `retired`: rows, ascending; where there are some, the others are copied. `index`, `built`
    (then it holds those that are retired too) and errors as in `FilteredIndex`.
    """

    def __init__(
        self,
        vectors: NDArray[np.float32],
        index: Index | str | None = None,
        retired: NDArray[np.integer] | None = None,
        *,
        built: bool = False,
    ) -> None:
        self._size = len(vectors)
        self._live = live(self._size, retired)
        self._holds_all = built or self._live is None
        self._found = FilteredIndex(vectors if self._holds_all else vectors[self._live], index, built=built)

    @property
    def info(self) -> IndexInfo:
        """The manifest of the index that is searched."""
        return self._found.info

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        *,
        exclude: Ragged | None = None,
        allow: ArrayLike | None = None,
    ) -> TopK:
        """As `FilteredIndex.search`: (Q, min(k, n)), −1 and − inf where fewer are left."""
        if self._live is None:
            return self._found.search(queries, k, exclude=exclude, allow=allow)
        if self._holds_all:
            kept = self._live if allow is None else np.intersect1d(check_allow(allow, self._size), self._live)
            return self._found.search(queries, k, exclude=exclude, allow=kept)
        k = check_k(k, self._size)
        if exclude is not None:
            exclude = within(check_positions(exclude, len(queries), self._size, "exclude"), self._live)
        if allow is not None:
            allow = np.flatnonzero(np.isin(self._live, check_allow(allow, self._size), assume_unique=True))
        found = self._found.search(queries, min(k, len(self._live)), exclude=exclude, allow=allow)
        ids = np.full((len(queries), k), -1, np.int64)
        scores = np.full((len(queries), k), -np.inf, np.float32)
        ids[:, : found.ids.shape[1]] = np.where(found.ids < 0, -1, self._live[found.ids])
        scores[:, : found.ids.shape[1]] = found.scores
        return TopK(ids, scores)


def live(size: int, retired: NDArray[np.integer] | None) -> NDArray[np.int64] | None:
    """The rows of `size` that are not `retired`, ascending; None for all."""
    if retired is None or not len(retired):
        return None
    mask = np.ones(size, bool)
    mask[retired] = False
    return np.flatnonzero(mask)
