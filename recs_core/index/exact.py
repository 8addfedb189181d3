"""Exact maximum inner product search: every candidate is scored, and only what may still be in the top k is kept."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recs_core.contract.batch import Ragged
from recs_core.contract.protocols import TopK
from recs_core.index import tiles
from recs_core.index.filters import TilePatch, within
from recs_core.index.plan import Candidates, SearchPlan, built, plan_search
from recs_core.index.plugin import INFO

GATHERING, READING = 64, 8
"""What fetching a row costs, counted in queries scored against it: gathered into a tile, or read where it lies."""


class ExactIndex:
    """The built-in index; implements the `Index` protocol.

    Vectors are held as given, not copied: a memory map stays on disk and is read a tile at a time. A query's answer
    does not depend on the batch it comes in.
    """

    info = INFO

    def __init__(self) -> None:
        self._candidates: Candidates | None = None

    @property
    def candidates(self) -> Candidates:
        """What is searched; one that is set must be of checked vectors. Raises `NotFitted` before `build`."""
        return built(self._candidates)

    @candidates.setter
    def candidates(self, candidates: Candidates) -> None:
        self._candidates = candidates

    def build(self, vectors: NDArray[np.float32]) -> None:
        """Index (n, d) float32 vectors; position = row. Raises `DataError` for another shape, dtype or NaN."""
        self._candidates = Candidates.of(vectors)

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
        return search_exactly(plan_search(self._candidates, queries, k, exclude, allow), threads)

    def upsert(self, vectors: NDArray[np.float32], positions: NDArray[np.integer]) -> None:
        """As `UpdatableIndex.upsert`."""
        self._candidates = self.candidates.upserted(vectors, positions)

    def delete(self, positions: NDArray[np.integer]) -> None:
        """As `UpdatableIndex.delete`."""
        self._candidates = self.candidates.without(positions)


def search_exactly(plan: SearchPlan, threads: int | None = None) -> TopK:
    """The answer to a plan, every candidate scored that may come back; `threads` as in `ExactIndex.search`."""
    vectors, queries, k = plan.candidates.vectors, plan.queries, plan.k
    scale = plan.norms * plan.candidates.norm
    threads = threads or tiles.num_threads()
    blocks = tiles.query_blocks(len(queries), threads)
    among = _Among.of(len(vectors), plan.allowed, blocks[0].stop if blocks else 0)
    exclude = plan.exclude
    if exclude is not None and among.rows is not None:
        exclude = within(exclude, among.rows)

    ids = np.full((len(queries), k), -1, np.int64)
    scores = np.full((len(queries), k), -np.inf, np.float32)

    def search_block(block: slice) -> None:
        rows = np.arange(block.start, block.stop)
        hidden = None if exclude is None else exclude.take(rows)
        search = _Search(vectors, queries[block], k, hidden, among, scale[block])
        ids[block, : search.k], scores[block, : search.k] = search.best()

    tiles.run(search_block, blocks, threads)
    return TopK(ids, scores)


@dataclass(frozen=True)
class _Among:
    """The candidates that may come back: `number` of them, all of the corpus where neither of the others is given.

    `rows`: their positions, ascending, where few are gathered. `mask` (corpus,): whether each is one, where most are,
    which are read where they lie with the rest.
    """

    number: int
    rows: NDArray[np.int64] | None = None
    mask: NDArray[np.bool_] | None = None

    @classmethod
    def of(cls, corpus: int, allowed: NDArray[np.int64] | None, queries: int) -> _Among:
        """Those of an allow-list, by whichever way costs less for as many queries at a time."""
        if allowed is None:
            return cls(corpus)
        if len(allowed) * (queries + GATHERING) < corpus * (queries + READING):
            return cls(len(allowed), rows=allowed)
        mask = np.zeros(corpus, bool)
        mask[allowed] = True
        return cls(len(allowed), mask=mask)


class _Search:
    """One block of queries on one thread; k is at most the number of candidates that may come back.

    Scores in float32 choose whatever may be in the top k, allowing for their rounding; those few are scored again in
    float64, and ordered by what that is in float32. `scale`: ‖query‖ · the largest ‖candidate‖, of each query.
    """

    def __init__(
        self,
        vectors: NDArray[np.float32],
        queries: NDArray[np.float32],
        k: int,
        exclude: Ragged | None,
        among: _Among,
        scale: NDArray[np.float64],
    ) -> None:
        self.vectors, self.queries, self.among = vectors, queries, among
        self.k = min(k, among.number)
        self.patch = None if exclude is None else TilePatch(exclude.segments, exclude.values, np.float32(-np.inf))
        self.slack = tiles.slack(scale, queries.shape[1])

    def best(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """(Q, k) positions and scores, best first."""
        held = _Held(len(self.queries), self.k, self.slack)
        if self._fill(held, np.float32):
            held.weigh()
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
        rows, mask = self.among.rows, self.among.mask
        for here in tiles.tiles(len(self.vectors) if rows is None else len(rows)):
            tile = self.vectors[here if rows is None else rows[here]].astype(dtype, copy=False)
            made = product[:, : len(tile)]
            np.matmul(queries, tile.T, out=made)
            scores = made.astype(np.float32, copy=False)
            if self.patch is not None:
                self.patch.apply(scores, here.start)
            if not held.add(scores, here.start, None if mask is None else mask[here]):
                return False
        return True

    def _positions(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        return ids if self.among.rows is None else self.among.rows[ids]


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
        # What is not above it cannot get in. A column for each of a tile's: comparing with one that NumPy repeats
        # takes twice as long.
        self.limits = np.full((num_queries, tiles.TILE_CANDIDATES), -np.inf, np.float32)
        self.marks = np.zeros(_words(num_queries * tiles.TILE_CANDIDATES), bool)

    def add(self, scores: NDArray[np.float32], first: int, may: NDArray[np.bool_] | None) -> bool:
        """Take in scores (Q, w) of candidates first … first + w − 1, or of those that `may` (w,) come back; False if
        there is no room for all that must be."""
        if self.used.any():  # else all of them get in, and few of them stay
            if self._append(scores, first, may):
                return True
            self._weigh(self.scores, self.ids)
            if self._append(scores, first, may):
                return True
        if may is not None:
            scores = np.where(may, scores, np.float32(-np.inf))
        # The first, or too many even for the sharper limits.
        columns = np.broadcast_to(np.arange(first, first + scores.shape[1]), scores.shape)
        return self._weigh(np.hstack([self.scores, scores]), np.hstack([self.ids, columns]))

    def _append(self, scores: NDArray[np.float32], first: int, may: NDArray[np.bool_] | None) -> bool:
        above = self.marks[: scores.size].reshape(scores.shape)
        np.greater(scores, self.limits[:, : scores.shape[1]], out=above)
        if may is not None:
            above &= may
        at = _few_places(self.marks, scores.size)
        query, column = np.divmod(at, scores.shape[1])
        number = np.bincount(query, minlength=len(self.used))
        if (self.used + number).max(initial=0) > self.room:
            return False
        free = np.arange(len(self.used)) * self.room + self.used + number - np.cumsum(number)
        place = np.arange(len(query)) + free[query]
        self.scores.reshape(-1)[place] = scores.reshape(-1)[at]
        self.ids.reshape(-1)[place] = column + first
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
        self.used, self.limits[:] = number, limit[:, None]
        return True

    def weigh(self) -> None:
        """Let go of those that limits let in which have risen since."""
        if self.k:
            self._weigh(self.scores, self.ids)

    def sorted(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """(Q, k) ids and scores, best first; −1 and − inf where there are fewer."""
        order = np.argsort(-self.scores, axis=1, kind="stable")[:, : self.k]
        scores = np.take_along_axis(self.scores, order, 1)
        return np.where(np.isneginf(scores), -1, np.take_along_axis(self.ids, order, 1)), scores


def _true_places(mask: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Row and column of each True, row by row. NumPy's own `nonzero` of two axes takes ten times as long."""
    return np.divmod(np.flatnonzero(mask), mask.shape[1])


def _few_places(marks: NDArray[np.bool_], size: int) -> NDArray[np.intp]:
    """Where the first `size` marks are True, few of them: eight are looked at as one word, which takes a third as long.
    Marks up to the end of the last word are written over."""
    end = _words(size)
    marks[size:end] = False
    eights = marks[:end].view(np.uint64)
    words = np.flatnonzero(eights != 0)
    place = np.flatnonzero(eights[words].view(bool))
    return words[place >> 3] * 8 + (place & 7)


def _words(size: int) -> int:
    """The next multiple of eight."""
    return -(-size // 8) * 8
