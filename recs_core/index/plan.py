"""What is searched and what is asked for, checked alike by every index: the refusals of docs/meanings.md, *Top-k*."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recs_core.contract.batch import Ragged
from recs_core.contract.errors import DataError, NotFitted
from recs_core.index import tiles
from recs_core.index.filters import check_allow, check_positions


@dataclass(frozen=True)
class Candidates:
    """What an index is built of: (n, d) float32 `vectors`, as given and not copied, and `norm`, that of the longest."""

    vectors: NDArray[np.float32]
    norm: float

    @classmethod
    def of(cls, vectors: NDArray[np.float32]) -> Candidates:
        """These vectors. Raises `DataError` for another shape or dtype, and for NaN or infinity."""
        vectors = _float32(vectors, "candidate")
        return cls(vectors, float(tiles.norms(vectors, "candidate").max(initial=0.0)))


@dataclass(frozen=True)
class SearchPlan:
    """The arguments of `Index.search`, checked.

    `candidates`: what is searched. `queries`: (Q, d) float32, and their `norms`, (Q,) float64. `k`: how many columns an
    answer has, n at most. `exclude`: a row per query, −1 for no position, or None. `allowed`: the distinct positions
    that may come back, ascending, or None for all.
    """

    candidates: Candidates
    queries: NDArray[np.float32]
    norms: NDArray[np.float64]
    k: int
    exclude: Ragged | None
    allowed: NDArray[np.int64] | None


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
    if candidates is None:
        raise NotFitted("this index holds nothing yet; call build(vectors) first")
    queries, size = _float32(queries, "query"), len(candidates.vectors)
    tiles.check_vectors(queries, candidates.vectors)
    norms = tiles.norms(queries, "query")
    tiles.check_range(float(norms.max(initial=0.0)), candidates.norm, queries.dtype)
    return SearchPlan(
        candidates,
        queries,
        norms,
        check_k(k, size),
        None if exclude is None else check_positions(exclude, len(queries), size, "exclude"),
        None if allow is None else check_allow(allow, size),
    )


def check_k(k: Any, size: int) -> int:
    """`k`, at most `size`: how many there are. Raises `DataError` unless it is a whole number ≥ 1."""
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1:
        raise DataError(f"k must be a whole number ≥ 1, got {k!r}")
    return min(int(k), size)


def _float32(vectors: NDArray[Any], name: str) -> NDArray[np.float32]:
    vectors = np.asarray(vectors)
    if vectors.ndim != 2 or vectors.dtype != np.float32:
        raise DataError(f"{name} vectors must be float32 of shape (n, d), got {vectors.dtype} of shape {vectors.shape}")
    return vectors
