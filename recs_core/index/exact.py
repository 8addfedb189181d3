"""Exact maximum inner product search: every candidate is scored, and only what may still be in the top k is kept."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recs_core.contract.batch import Ragged
from recs_core.contract.errors import DataError, NotFitted
from recs_core.contract.protocols import TopK
from recs_core.index import tiles
from recs_core.index.filters import TilePatch, check_allow, check_positions, within
from recs_core.index.plugin import INFO

SMALLEST = 2.0**-149
"""Of all float32. A product below it is rounded by half of that, however small the vectors are."""


class ExactIndex:
    """The built-in index; implements the `Index` protocol.

    Vectors are held as given, not copied: a memory map stays on disk and is read a tile at a time. A query's answer
    does not depend on the batch it comes in.
    """

    info = INFO

    def __init__(self) -> None:
        self._vectors: NDArray[np.float32] | None = None
        self._norm = 0.0

    def build(self, vectors: NDArray[np.float32]) -> None:
        """Index (n, d) float32 vectors; position = row. Raises `DataError` for another shape, dtype or NaN."""
        vectors = _float32(vectors, "candidate")
        self._norm = float(tiles.norms(vectors, "candidate").max(initial=0.0))
        self._vectors = vectors

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        *,
        exclude: Ragged | None = None,
        allow: NDArray[np.integer] | None = None,
        threads: int | None = None,
    ) -> TopK:
        """Best k positions (Q, k) int64 of each of (Q, d) queries, and float32 scores: score descending, then position.

        A k beyond the n vectors is cut to n, and no more columns come back. `exclude`: a row per query of positions
        that must not come back (−1 is ignored). `allow`: the only ones that may. Fewer than k left: −1 and − inf fill
        up. `threads`: by default as many as the BLAS may use. Working memory: a few MB per thread and (Q, k) answers.

        Raises `NotFitted` before `build`, `DataError` for k ≤ 0, shapes or positions that do not fit, NaN, infinity, or
        scores that float32 cannot hold.
        """
        if self._vectors is None:
            raise NotFitted("this index holds nothing yet; call build(vectors) first")
        vectors, queries = self._vectors, _float32(queries, "query")
        tiles.check_vectors(queries, vectors)
        query_norms = tiles.norms(queries, "query")
        tiles.check_range(float(query_norms.max(initial=0.0)), self._norm, queries.dtype)
        k = check_k(k, len(vectors))
        exclude = None if exclude is None else check_positions(exclude, len(queries), len(vectors), "exclude")
        allowed = None if allow is None else check_allow(allow, len(vectors))
        if exclude is not None and allowed is not None:
            exclude = within(exclude, allowed)

        ids = np.full((len(queries), k), -1, np.int64)
        scores = np.full((len(queries), k), -np.inf, np.float32)
        threads = threads or tiles.num_threads()

        def search_block(block: slice) -> None:
            rows = np.arange(block.start, block.stop)
            hidden = None if exclude is None else exclude.take(rows)
            search = _Search(vectors, queries[block], k, hidden, allowed, query_norms[block] * self._norm)
            ids[block, : search.k], scores[block, : search.k] = search.best()

        tiles.run(search_block, tiles.query_blocks(len(queries), threads), threads)
        return TopK(ids, scores)


def check_k(k: Any, size: int) -> int:
    """`k`, at most `size`: how many there are. Raises `DataError` unless it is a whole number ≥ 1."""
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1:
        raise DataError(f"k must be a whole number ≥ 1, got {k!r}")
    return min(int(k), size)


class _Search:
    """One block of queries on one thread; k is at most the corpus or the allow-list.

    Scores in float32 choose whatever may be in the top k, allowing for their rounding; those few are scored again in
    float64, and ordered by what that is in float32. `scale`: ‖query‖ · the largest ‖candidate‖, of each query.
    """

    def __init__(
        self,
        vectors: NDArray[np.float32],
        queries: NDArray[np.float32],
        k: int,
        exclude: Ragged | None,
        allowed: NDArray[np.int64] | None,
        scale: NDArray[np.float64],
    ) -> None:
        self.vectors, self.queries, self.allowed = vectors, queries, allowed
        self.corpus = len(vectors) if allowed is None else len(allowed)
        self.k = min(k, self.corpus)
        self.patch = None if exclude is None else TilePatch(exclude.segments, exclude.values, np.float32(-np.inf))
        self.slack = (2 * tiles.rounding(queries.shape[1], np.float32) * scale).astype(np.float32)
        self.slack += np.float32(queries.shape[1] * SMALLEST)

    def best(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """(Q, k) positions and scores, best first."""
        held = _Held(len(self.queries), self.k, self.slack)
        if self._fill(held, np.float32):
            query, place = np.nonzero(held.ids >= 0)
            candidate = self._positions(held.ids[query, place])
            held.scores[query, place] = tiles.exact_scores(self.queries, self.vectors, query, candidate)
        else:
            held = _Held(len(self.queries), self.k, None)
            self._fill(held, np.float64)
        ids, scores = held.sorted()
        return np.where(ids < 0, -1, self._positions(ids)), scores

    def _fill(self, held: _Held, dtype: type[np.floating]) -> bool:
        """Show every candidate's scores to `held`, made in `dtype`; False if it cannot hold all that are needed."""
        queries = self.queries.astype(dtype, copy=False)
        product = np.empty((len(queries), tiles.TILE_CANDIDATES), dtype)
        for here in tiles.tiles(self.corpus):
            tile = self.vectors[here if self.allowed is None else self.allowed[here]].astype(dtype, copy=False)
            made = product[:, : len(tile)]
            np.matmul(queries, tile.T, out=made)
            scores = made.astype(np.float32, copy=False)
            if self.patch is not None:
                self.patch.apply(scores, here.start)
            if not held.add(scores, here.start):
                return False
        return True

    def _positions(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        return ids if self.allowed is None else self.allowed[ids]


class _Held:
    """What may be in the top k of each query so far, and newcomers not yet weighed against it.

    With a `slack` (Q,), all that is no further than it below the k-th best is held, as the scores are not sure. Without
    one, scores are final: of equal ones the earlier goes first, so a later one must be higher to get in. Positions are
    ascending in each row.
    """

    def __init__(self, num_queries: int, k: int, slack: NDArray[np.float32] | None) -> None:
        self.k = k
        self.slack = slack
        self.room = 2 * k + 64
        self.scores = np.full((num_queries, self.room), -np.inf, np.float32)
        self.ids = np.full((num_queries, self.room), -1, np.int64)
        self.used = np.zeros(num_queries, np.int64)
        self.limit = np.full(num_queries, -np.inf, np.float32)  # what is not above it cannot get in

    def add(self, scores: NDArray[np.float32], first: int) -> bool:
        """Take in scores (Q, w) of candidates first … first + w − 1; False if there is no room for all that must be."""
        if self._append(scores, first):
            return True
        self._weigh(self.scores, self.ids)
        if self._append(scores, first):
            return True
        # Too many even for the sharper limits, as in the first tiles.
        columns = np.broadcast_to(np.arange(first, first + scores.shape[1]), scores.shape)
        return self._weigh(np.hstack([self.scores, scores]), np.hstack([self.ids, columns]))

    def _append(self, scores: NDArray[np.float32], first: int) -> bool:
        query, column = _true_places(scores > self.limit[:, None])
        number = np.bincount(query, minlength=len(self.used))
        if (self.used + number).max(initial=0) > self.room:
            return False
        place = np.arange(len(query)) + (self.used - np.cumsum(number) + number)[query]
        self.scores[query, place] = scores[query, column]
        self.ids[query, place] = column + first
        self.used += number
        return True

    def _weigh(self, scores: NDArray[np.float32], ids: NDArray[np.int64]) -> bool:
        """Hold those that may be in the top k, and nothing else; False if they are too many."""
        worst = np.partition(scores, scores.shape[1] - self.k, axis=1)[:, -self.k]
        if self.slack is None:
            limit, tied = worst, scores == worst[:, None]
            chosen = scores > limit[:, None]
            chosen |= tied & (np.cumsum(tied, axis=1) <= self.k - chosen.sum(1, keepdims=True)) & np.isfinite(scores)
        else:
            limit = np.nextafter(worst - self.slack, np.float32(-np.inf))
            chosen = scores > limit[:, None]
        number = chosen.sum(1)
        if number.max(initial=0) > self.room:
            return False
        query, column = _true_places(chosen)
        place = np.arange(len(query)) - (np.cumsum(number) - number)[query]
        best, best_ids = scores[query, column], ids[query, column]
        self.scores[:], self.ids[:] = -np.inf, -1
        self.scores[query, place], self.ids[query, place] = best, best_ids
        self.used, self.limit = number, limit
        return True

    def sorted(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """(Q, k) ids and scores, best first; −1 and − inf where there are fewer."""
        order = np.argsort(-self.scores, axis=1, kind="stable")[:, : self.k]
        scores = np.take_along_axis(self.scores, order, 1)
        return np.where(np.isneginf(scores), -1, np.take_along_axis(self.ids, order, 1)), scores


def _true_places(mask: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Row and column of each True, row by row. NumPy's own `nonzero` of two axes takes ten times as long."""
    return np.divmod(np.flatnonzero(mask), mask.shape[1])


def _float32(vectors: NDArray[Any], name: str) -> NDArray[np.float32]:
    vectors = np.asarray(vectors)
    if vectors.ndim != 2 or vectors.dtype != np.float32:
        raise DataError(f"{name} vectors must be float32 of shape (n, d), got {vectors.dtype} of shape {vectors.shape}")
    return vectors
