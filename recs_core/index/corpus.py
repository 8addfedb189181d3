"""Ids around any index: search, filters, changes and storage in terms of the user's own ids."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recs_core.data.batch import Ragged
from recs_core.data.vocabulary import Vocabulary, some
from recs_core.errors import DataError, UnsupportedFeature
from recs_core.index import tiles
from recs_core.index.exact import ExactIndex, check_k
from recs_core.index.filters import check_allow, check_positions, contains
from recs_core.protocols import Index, TopK


class CandidateIndex:
    """Candidates by id, found through any index of inner products.

    `ids`: n strings or int64, unique; `vectors` (n, d) float32, kept as given. `index`: an empty `Index`, or the name
    of an installed one. Position = row: an upsert replaces rows where they stand and adds new ids at the end, in the
    order given; a delete closes the gap and keeps the order. Ties go to the lower position.

    An approximate index may miss candidates but leaks none: where filters leave it short of what it owes, the rows
    concerned are searched exactly.

    Raises `DataError` for duplicate ids (naming them) or shapes that do not fit, `UnsupportedFeature` for an index of
    another metric, `BackendNotFound` for an unknown name.
    """

    def __init__(
        self, ids: Any, vectors: NDArray[np.float32], index: Index | str = "exact", *, name: str = "candidate"
    ) -> None:
        self._index = _resolve(index)
        self._set(Vocabulary(ids, name), np.asarray(vectors))

    @property
    def ids(self) -> pa.Array:
        """All ids; position = row of `vectors`."""
        return self._vocabulary.ids

    @property
    def vectors(self) -> NDArray[np.float32]:
        """(n, d), not to be written to."""
        return self._vectors

    def __len__(self) -> int:
        return len(self._vocabulary)

    def search(
        self, queries: NDArray[np.float32], k: int, *, exclude: Ragged | Sequence[Any] | None = None, allow: Any = None
    ) -> TopK:
        """Best k ids of each of (Q, d) queries, and scores (Q, k) float32; None (strings) or −1 (integers) and − inf
        where fewer are left.

        `exclude`: a list of ids a query (an unknown id excludes nothing), or positions as `Ragged`. `allow`: the only
        ids that may come back. Raises `DataError` for k ≤ 0, an unknown id in `allow`, or shapes that do not fit.
        """
        hidden = self._positions_a_query(exclude, len(queries))
        allowed = None if allow is None else check_allow(self._known(allow), len(self))
        return self._named(self._search(queries, check_k(k), hidden, allowed))

    def similar(self, ids: Any, k: int, *, allow: Any = None) -> TopK:
        """The k candidates with the highest inner product with each one's own vector, itself left out."""
        codes = self._known(ids)
        itself = Ragged(codes, np.arange(len(codes) + 1, dtype=np.int32))
        return self.search(np.ascontiguousarray(self._vectors[codes]), k, exclude=itself, allow=allow)

    def upsert(self, ids: Any, vectors: NDArray[np.float32]) -> None:
        """Replace the vectors of known ids, add unknown ones. Nothing changes if it raises (`DataError`)."""
        given = Vocabulary(ids, self._vocabulary.name)
        vectors = np.asarray(vectors)
        if vectors.dtype != np.float32 or vectors.shape != (len(given), self._vectors.shape[1]):
            expected = (len(given), self._vectors.shape[1])
            raise DataError(f"upsert needs float32 vectors of shape {expected}, got {vectors.dtype} of {vectors.shape}")
        tiles.norms(vectors, "upserted")
        codes = self._vocabulary.encode(given.ids)
        known, new = codes >= 0, np.flatnonzero(codes < 0)
        rows = np.concatenate([self._vectors, vectors[new]])
        rows[codes[known]] = vectors[known]
        fresh = given.ids.take(pa.array(new))
        self._set(Vocabulary(pa.concat_arrays([self.ids, fresh.cast(self.ids.type)]), self._vocabulary.name), rows)

    def delete(self, ids: Any) -> None:
        """Remove candidates for good. Raises `DataError` for an id that is not there."""
        kept = np.ones(len(self), bool)
        kept[self._known(ids)] = False
        self._set(Vocabulary(self.ids.filter(pa.array(kept)), self._vocabulary.name), self._vectors[kept])

    def save(self, folder: str | Path) -> None:
        """Write ids and vectors to a folder; a crash leaves the old content or the new. Raises `BundleError`."""
        from recs_core.index import storage  # here: a bundle may hold an index, and imports this package

        storage.save(Path(folder), self._vocabulary, self._vectors)

    @classmethod
    def load(cls, folder: str | Path, index: Index | str = "exact") -> CandidateIndex:
        """Read what `save` wrote, the vectors as a memory map. Raises `BundleError` naming the file that is damaged."""
        from recs_core.index import storage

        vocabulary, vectors = storage.load(Path(folder))
        return cls(vocabulary.ids, vectors, index, name=vocabulary.name)

    # Inside

    def _set(self, vocabulary: Vocabulary, vectors: NDArray[np.float32]) -> None:
        if vectors.ndim != 2 or len(vectors) != len(vocabulary):
            raise DataError(f"{len(vocabulary)} ids need vectors of shape ({len(vocabulary)}, d), got {vectors.shape}")
        exact = ExactIndex()
        exact.build(vectors)  # checks dtype and finiteness before anything is replaced
        if isinstance(self._index, ExactIndex):
            self._index = exact
        else:
            self._index.build(vectors)
        self._exact, self._vocabulary, self._vectors = exact, vocabulary, vectors

    def _search(
        self, queries: NDArray[np.float32], k: int, exclude: Ragged | None, allowed: NDArray[np.int64] | None
    ) -> TopK:
        info = self._index.info
        if info.is_exact and isinstance(self._index, ExactIndex):
            return self._index.search(queries, k, exclude=exclude, allow=allowed)
        if allowed is not None and not info.capabilities.get("allow"):
            return self._exact.search(queries, k, exclude=exclude, allow=allowed)
        filters: dict[str, Any] = {} if allowed is None else {"allow": allowed}
        fetch = k
        if exclude is not None and info.capabilities.get("exclude"):
            filters["exclude"] = exclude
        elif exclude is not None:
            fetch = k + int(exclude.lengths.max(initial=0))
        found = self._index.search(queries, min(fetch, max(len(self), 1)), **filters)
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
        good = (found.ids >= 0) & (found.ids < len(self))
        if exclude is not None:
            good &= ~contains(exclude, np.arange(len(queries))[:, None], found.ids)
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

    def _known(self, ids: Any) -> NDArray[np.int32]:
        codes = self._vocabulary.encode(ids)
        if (codes < 0).any():
            asked = pa.array(ids) if not isinstance(ids, (pa.Array, pa.ChunkedArray)) else ids
            missing = [asked[int(at)].as_py() for at in np.flatnonzero(codes < 0)]
            raise DataError(f"{self._vocabulary.name} {some(missing)} not in this index of {len(self):,}")
        return codes

    def _positions_a_query(self, exclude: Ragged | Sequence[Any] | None, num_queries: int) -> Ragged | None:
        if exclude is None:
            return None
        if not isinstance(exclude, Ragged):
            if len(exclude) != num_queries:
                raise DataError(f"exclude has {len(exclude)} lists of ids for {num_queries} queries")
            rows = [self._vocabulary.encode(row) if len(row) else np.empty(0, np.int32) for row in exclude]
            offsets = np.cumsum([0, *map(len, rows)]).astype(np.int32)
            exclude = Ragged(np.concatenate([np.empty(0, np.int32), *rows]), offsets)
        return check_positions(exclude, num_queries, len(self), "exclude")

    def _named(self, found: TopK) -> TopK:
        flat, shape = found.ids.ravel(), found.ids.shape
        named = self._vocabulary.decode(flat)
        if pa.types.is_integer(self.ids.type):
            return TopK(named.fill_null(-1).to_numpy(zero_copy_only=False).reshape(shape), found.scores)
        names = np.empty(len(flat), object)
        names[:] = named.to_pylist()
        return TopK(names.reshape(shape), found.scores)


def _resolve(index: Index | str) -> Index:
    if isinstance(index, str):
        from recs_core.plugin.manager import load_index

        index = load_index(index)
    if index.info.metric != "inner_product":
        raise UnsupportedFeature(
            f"index {index.info.name!r} ranks by {index.info.metric!r}; scores here are inner products: "
            "use an index whose metric is 'inner_product', such as 'exact'"
        )
    return index
