"""What is searched and what is asked for, checked alike by every index: the refusals of docs/meanings.md, *Top-k*."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recs_core.contract.batch import Ragged
from recs_core.contract.errors import DataError, NotFitted
from recs_core.index import tiles
from recs_core.index.filters import among, check_allow, check_positions


@dataclass(frozen=True)
class Candidates:
    """What an index is built of: (n, d) float32 `vectors`, as given and not copied; `norm`, no less than that of the
    longest; `left`, the positions that no delete took, ascending, or None for all."""

    vectors: NDArray[np.float32]
    norm: float
    left: NDArray[np.int64] | None = None

    @classmethod
    def of(cls, vectors: NDArray[np.float32]) -> Candidates:
        """These vectors. Raises `DataError` for another shape or dtype, and for NaN or infinity."""
        vectors = _float32(vectors, "candidate")
        return cls(vectors, float(tiles.norms(vectors, "candidate").max(initial=0.0)))

    def upserted(self, vectors: NDArray[np.float32], positions: NDArray[np.integer]) -> Candidates:
        """As `UpdatableIndex.upsert` leaves them; only the rows at `positions` are looked at. Raises `DataError`."""
        before, vectors = len(self.vectors), _float32(vectors, "candidate")
        changed = check_allow(positions, len(vectors), "upsert")
        tiles.check_vectors(vectors, self.vectors)
        if len(vectors) < before or not np.array_equal(changed[changed >= before], np.arange(before, len(vectors))):
            raise DataError(
                f"upsert: {len(vectors)} vectors after {before}: name every new row among the positions, and drop none"
            )
        norm = max(self.norm, float(tiles.norms(vectors[changed], "upserted").max(initial=0.0)))
        return Candidates(vectors, norm, None if self.left is None else np.union1d(self.left, changed))

    def without(self, positions: NDArray[np.integer]) -> Candidates:
        """As `UpdatableIndex.delete` leaves them. Raises `DataError` for a position outside the corpus."""
        gone = check_allow(positions, len(self.vectors), "delete")
        before = np.arange(len(self.vectors)) if self.left is None else self.left
        return replace(self, left=np.setdiff1d(before, gone, assume_unique=True)) if len(gone) else self


@dataclass(frozen=True)
class SearchPlan:
    """The arguments of `Index.search`, checked.

    `candidates`: what is searched. `queries`: (Q, d) float32, and their `norms`, (Q,) float64. `k`: how many columns an
    answer has, n at most. `exclude`: a row per query, −1 for no position, or None. `allowed`: the distinct positions
    that may come back, ascending, none that was deleted; or None for all.
    """

    candidates: Candidates
    queries: NDArray[np.float32]
    norms: NDArray[np.float64]
    k: int
    exclude: Ragged | None
    allowed: NDArray[np.int64] | None

    def take(self, rows: NDArray[np.integer]) -> SearchPlan:
        """The same of some of the queries."""
        exclude = None if self.exclude is None else self.exclude.take(rows)
        return replace(self, queries=self.queries[rows], norms=self.norms[rows], exclude=exclude)

    def admits(self, ids: NDArray[np.integer]) -> NDArray[np.bool_]:
        """(Q, m): whether each of the positions (Q, m) that an engine found is one, and may come back for its query."""
        good = (ids >= 0) & (ids < len(self.candidates.vectors))
        if self.exclude is not None:
            good &= ~self.exclude.holds(np.arange(len(ids))[:, None], ids)
        if self.allowed is not None:
            good &= among(self.allowed, ids)
        return good


def plan_search(
    candidates: Candidates | None,
    queries: NDArray[np.float32],
    k: int,
    exclude: Ragged | None = None,
    allow: ArrayLike | None = None,
) -> SearchPlan:
    """The plan of a search among `candidates`, None before `build`; the other arguments are those of `Index.search`.

    Raises `NotFitted` before `build`, `DataError` for whatever else `Index.search` refuses.
    """
    candidates = built(candidates)
    queries, size = _float32(queries, "query"), len(candidates.vectors)
    tiles.check_vectors(queries, candidates.vectors)
    norms = tiles.norms(queries, "query")
    tiles.check_range(float(norms.max(initial=0.0)), candidates.norm, queries.dtype)
    allowed = None if allow is None else check_allow(allow, size)
    if candidates.left is not None:
        left = candidates.left
        allowed = left if allowed is None else allowed[among(left, allowed)]
    return SearchPlan(
        candidates,
        queries,
        norms,
        check_k(k, size),
        None if exclude is None else check_positions(exclude, len(queries), size, "exclude"),
        allowed,
    )


def built(candidates: Candidates | None) -> Candidates:
    """The candidates. Raises `NotFitted` before `build`."""
    if candidates is None:
        raise NotFitted("this index holds nothing yet; call build(vectors) first")
    return candidates


def check_k(k: Any, size: int) -> int:
    """`k`, at most `size`: how many there are. Raises `DataError` unless it is a whole number ≥ 1."""
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1:
        raise DataError(f"k must be a whole number ≥ 1, got {k!r}")
    return min(int(k), size)


def _float32(vectors: NDArray[Any], name: str) -> NDArray[np.float32]:
    vectors = np.asarray(vectors)
    if vectors.ndim != 2 or vectors.dtype != np.float32:
        cure = "one row per vector" if vectors.ndim != 2 else "vectors.astype(np.float32)"
        raise DataError(
            f"{name} vectors must be float32 of shape (n, d), got {vectors.dtype} of shape {vectors.shape}; give {cure}"
        )
    return vectors
