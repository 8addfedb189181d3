"""Ids around any index: search, filters, changes and storage in terms of the user's own ids."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recs_core.contract.batch import Ragged
from recs_core.contract.errors import BundleError, DataError
from recs_core.contract.messages import some
from recs_core.contract.protocols import Index, TopK
from recs_core.contract.vocabulary import Vocabulary
from recs_core.index import storage, tiles
from recs_core.index.answers import named
from recs_core.index.filtered import FilteredIndex, resolve
from recs_core.index.filters import ragged
from recs_core.index.made import Made
from recs_core.storage.paths import local


class CandidateIndex:
    """Candidates by id, found through any index of inner products.

    `ids`: n strings or int64, unique, or a `Vocabulary`; `vectors` (n, d) float32, kept as given. `index`: an empty
    `Index`, or the name of an installed one; `built`: one that holds these vectors already, built or restored.
    Position = row: an upsert replaces rows where they stand and adds new ids at the end, in the order given; a delete
    closes the gap and keeps the order. Ties go to the lower position.

    An approximate index may miss candidates but leaks none: where filters leave it short of what it owes, the rows
    concerned are searched exactly.

    Raises `DataError` for duplicate ids (naming them) or shapes that do not fit, `UnsupportedFeature` for an index of
    another metric, `BackendNotFound` for an unknown name.
    """

    def __init__(
        self,
        ids: Any,
        vectors: NDArray[np.float32],
        index: Index | str = "exact",
        *,
        name: str = "candidate",
        built: bool = False,
    ) -> None:
        self._index: Index = resolve(index)
        self._vocabulary: Vocabulary
        self._vectors: NDArray[np.float32]
        self._set(ids if isinstance(ids, Vocabulary) else Vocabulary(ids, name), np.asarray(vectors), built=built)

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

        `exclude`: a list of ids per query (an unknown id excludes nothing), or positions as `Ragged`. `allow`: the only
        ids that may come back. Raises `DataError` for k ≤ 0, an unknown id in `allow`, or shapes that do not fit.
        """
        hidden = self._positions_a_query(exclude, len(queries))
        allowed = None if allow is None else self._known(allow, "allow")
        return named(self._found.search(queries, k, exclude=hidden, allow=allowed), self._vocabulary)

    def similar(self, ids: Any, k: int, *, allow: Any = None) -> TopK:
        """The k candidates with the highest inner product with each one's own vector, itself left out."""
        codes = self._known(ids, "similar")
        itself = Ragged(codes, np.arange(len(codes) + 1, dtype=np.int32))
        return self.search(np.ascontiguousarray(self._vectors[codes]), k, exclude=itself, allow=allow)

    def upsert(self, ids: Any, vectors: NDArray[np.float32]) -> None:
        """Replace the vectors of known ids, add unknown ones. Nothing changes if it raises (`DataError`)."""
        given = Vocabulary(ids, self._vocabulary.name)
        vectors = np.asarray(vectors)
        if vectors.dtype != np.float32 or vectors.shape != (len(given), self._vectors.shape[1]):
            expected = (len(given), self._vectors.shape[1])
            raise DataError(
                f"upsert needs float32 vectors of shape {expected}, got {vectors.dtype} of {vectors.shape}; give one "
                "row per id, of as many numbers as the index holds"
            )
        tiles.norms(vectors, "upserted")
        positions = self._vocabulary.encode(given.ids)
        new = np.flatnonzero(positions < 0)
        positions[new] = np.arange(len(self), len(self) + len(new))
        rows = np.concatenate([self._vectors, vectors[new]])
        rows[positions] = vectors
        fresh = given.ids.take(pa.array(new)).cast(self.ids.type)
        vocabulary = Vocabulary(pa.concat_arrays([self.ids, fresh]), self._vocabulary.name)
        self._found.upsert(rows, positions)
        self._vocabulary, self._vectors = vocabulary, rows

    def delete(self, ids: Any) -> None:
        """Remove candidates for good. Raises `DataError` for an id that is not there."""
        kept = np.ones(len(self), bool)
        kept[self._known(ids, "delete")] = False
        self._set(Vocabulary(self.ids.filter(pa.array(kept)), self._vocabulary.name), self._vectors[kept])

    def save(self, folder: str | Path) -> None:
        """Write ids and vectors to a folder, and what an index that is storable made of them; a crash leaves the old
        content or the new. Raises `BundleError`."""
        made = Made.of(self._index, "CandidateIndex.save") if self._index.info.capabilities.get("storable") else None
        storage.save(local(folder, "CandidateIndex.save", BundleError), self._vocabulary, self._vectors, made)

    @classmethod
    def load(cls, folder: str | Path, index: Index | str | None = None) -> CandidateIndex:
        """Read what `save` wrote, the vectors as a memory map.

        `index`: by default the one that was saved, restored and not built again, or exact search where none was.
        Raises `BundleError` naming the file that is damaged, `BackendNotFound` where the saved index is not installed.
        """
        vocabulary, vectors, made = storage.load(local(folder, "CandidateIndex.load", BundleError))
        if index is not None or made is None:
            return cls(vocabulary, vectors, "exact" if index is None else index)
        return cls(vocabulary, vectors, made.restored(vectors), built=True)

    # Inside

    def _set(self, vocabulary: Vocabulary, vectors: NDArray[np.float32], *, built: bool = False) -> None:
        if vectors.ndim != 2 or len(vectors) != len(vocabulary):
            raise DataError(
                f"{len(vocabulary)} ids need vectors of shape ({len(vocabulary)}, d), got {vectors.shape}; give one "
                "row per id"
            )
        self._found = FilteredIndex(vectors, self._index, built=built)  # raises before anything is replaced
        self._vocabulary, self._vectors = vocabulary, vectors

    def _known(self, ids: Any, asks: str) -> NDArray[np.int32]:
        codes = self._vocabulary.encode(ids)
        if (codes < 0).any():
            asked = pa.array(ids) if not isinstance(ids, (pa.Array, pa.ChunkedArray)) else ids
            missing = [asked[int(at)].as_py() for at in np.flatnonzero(codes < 0)]
            cure = "leave it out" if asks == "delete" else "leave it out, or upsert it first"
            raise DataError(
                f"{asks}: {self._vocabulary.name} {some(missing)} not in this index of {len(self):,}; {cure}"
            )
        return codes

    def _positions_a_query(self, exclude: Ragged | Sequence[Any] | None, num_queries: int) -> Ragged | None:
        if exclude is None or isinstance(exclude, Ragged):
            return exclude
        if len(exclude) != num_queries:
            raise DataError(
                f"exclude has {len(exclude)} lists of ids for {num_queries} queries; give one list per query, [] for "
                "none"
            )
        return ragged(self._vocabulary.encode(row) if len(row) else () for row in exclude)
