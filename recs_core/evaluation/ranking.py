"""Exact ranks over the whole corpus, without sorting and without storing scores.

All that a metric needs of a target is how many candidates score above it and how many tie with it. So scores are made
a tile at a time, compared with the targets' own, counted and forgotten.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from recs_core.data.batch import Ragged
from recs_core.errors import DataError
from recs_core.index import tiles
from recs_core.index.filters import TilePatch, check_positions, contains

NEVER = -1
"""`Ranks.above` of a target that no ranking can hold: it is outside the corpus, or excluded."""

TILE_CANDIDATES = 4 * 255
"""Candidates a tile: 512 × 1,020 scores take 2 MB. A multiple of 255, what a byte can count."""


@dataclass(frozen=True)
class Ranks:
    """Where each target of each query stands among the candidates that are not excluded, other targets included.

    `above` (T,) int64: how many score higher, `NEVER` for a target that cannot be found. `tied` (T,) int64: how many
    others score the same. Target t of query i is at offsets[i] ≤ t < offsets[i + 1]. `num_candidates`: the corpus.
    """

    above: NDArray[np.int64]
    tied: NDArray[np.int64]
    offsets: NDArray[np.int32]
    num_candidates: int

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """(Q,): targets a query."""
        return np.diff(self.offsets).astype(np.int64)

    @cached_property
    def queries(self) -> NDArray[np.int64]:
        """(T,): the query of each target."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)


def ranks(
    queries: NDArray[np.floating],
    candidates: NDArray[np.floating],
    targets: Ragged,
    *,
    exclude: Ragged | None = None,
    threads: int | None = None,
) -> Ranks:
    """Rank the `targets` of (Q, d) queries among (C, d) candidates by inner product.

    `targets`: a row a query of distinct candidate rows; −1 is a target outside the corpus, never found. `exclude`: a
    row a query of candidates that leave its ranking; a target among them is never found either, as `recommend` would
    never return it. `threads`: by default as many as the BLAS may use. Inputs are float32 or float64 and may be memory
    maps. Working memory: a few MB a thread and the ranks themselves.

    A target's own score is computed once, in a tile like every other, and put where the corpus's tile holds it: no
    rounding can set a target above itself, and equal vectors tie.

    Raises `DataError` for shapes that do not match, NaN, infinity or overflow, a target named twice, or a position
    outside the corpus.
    """
    queries, candidates = _floating(queries, candidates)
    check_positions(targets, len(queries), len(candidates), "targets")
    _refuse_repeated(targets)
    exclude = exclude if exclude is None else check_positions(exclude, len(queries), len(candidates), "exclude")
    norms = tiles.largest_norm(queries, "query"), tiles.largest_norm(candidates, "candidate")
    tiles.check_range(*norms, queries.dtype)

    num_targets = len(targets.values)
    above = np.full(num_targets, NEVER, np.int64)
    tied = np.zeros(num_targets, np.int64)
    # Queries with as many targets stand together: a block compares as often as its longest row asks.
    order = np.argsort(-targets.lengths, kind="stable")[: np.count_nonzero(targets.lengths)]
    threads = threads or tiles.num_threads()

    def rank_block(block: slice) -> None:
        rows = order[block]
        hidden = None if exclude is None else exclude.take(rows)
        places = _flat(targets.offsets[:-1][rows], targets.lengths[rows])
        found = _Block(queries[rows], candidates, targets.take(rows), hidden)
        above[places], tied[places] = found.count()

    tiles.run(rank_block, tiles.query_blocks(len(order), threads), threads)
    return Ranks(above, tied, targets.offsets, len(candidates))


class _Block:
    """Some queries, most targets first, on one thread."""

    def __init__(
        self, queries: NDArray[np.floating], candidates: NDArray[np.floating], targets: Ragged, exclude: Ragged | None
    ) -> None:
        self.num_queries = len(queries)
        self.columns = tiles.padded_rows(queries).T
        self.candidates = candidates
        self.targets = targets
        self.exclude = exclude
        width = min(TILE_CANDIDATES, len(candidates))
        # Candidates down, queries across: a sum down the tile adds whole rows of bytes.
        self.scores = np.empty((width, self.columns.shape[1]), queries.dtype)

    def count(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """`above` and `tied` of each target."""
        query, candidate = self.targets.segments, self.targets.values
        findable = candidate >= 0
        if self.exclude is not None:
            findable &= ~contains(self.exclude, query, candidate)
        own = np.full(len(candidate), np.nan, self.scores.dtype)  # NaN: no comparison holds, nothing is counted
        own[findable] = self._scores_of(query[findable], candidate[findable])
        above, at_least = self._compare(own, self._patch(own, findable))
        above[~findable] = NEVER
        return above, np.where(findable, at_least - above - 1, 0)  # at_least counts the target itself

    def _scores_of(self, query: NDArray[np.int32], candidate: NDArray[np.int32]) -> NDArray[np.floating]:
        """(n,) scores of pairs, from tiles of the same shape as the corpus's."""
        out = np.empty(len(query), self.scores.dtype)
        height = len(self.scores)
        gathered = np.zeros((height, self.candidates.shape[1]), self.scores.dtype)
        for start in range(0, len(query), height):
            part = slice(start, start + height)
            size = len(candidate[part])
            gathered[:size] = self.candidates[candidate[part]]
            np.matmul(gathered, self.columns, out=self.scores)
            out[part] = self.scores[np.arange(size), query[part]]
        return out

    def _patch(self, own: NDArray[np.floating], findable: NDArray[np.bool_]) -> TilePatch:
        """NaN where a candidate is excluded, the target's own score where it stands."""
        query, candidate, value = self.targets.segments[findable], self.targets.values[findable], own[findable]
        if self.exclude is not None:
            query = np.concatenate([query, self.exclude.segments])
            candidate = np.concatenate([candidate, self.exclude.values])
            value = np.concatenate([value, np.full(len(self.exclude.values), np.nan, own.dtype)])
        return TilePatch(query, candidate, value)

    def _compare(self, own: NDArray[np.floating], patch: TilePatch) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """For each target, how many candidates score above it, and how many at least as much."""
        above = np.zeros(len(own), np.int64)
        at_least = np.zeros(len(own), np.int64)
        verdict = np.empty(self.scores.shape, np.bool_)
        # The queries that have a j-th target come first in the block: these are those targets, for j = 0, 1, …
        nth = [self.targets.offsets[:-1][self.targets.lengths > j] + j for j in range(int(self.targets.lengths[0]))]
        limits = [own[targets] for targets in nth]
        for first, new in tiles.tile_starts(len(self.candidates), len(self.scores)):
            np.matmul(self.candidates[first : first + len(self.scores)], self.columns, out=self.scores)
            scores = self.scores[new - first :]
            patch.apply(scores.T, new)
            for targets, limit in zip(nth, limits, strict=True):
                here, yes = scores[:, : len(limit)], verdict[: len(scores), : len(limit)]
                above[targets] += _count_down(np.greater(here, limit, out=yes))
                at_least[targets] += _count_down(np.greater_equal(here, limit, out=yes))
        return above, at_least


def _count_down(verdict: NDArray[np.bool_]) -> NDArray[np.int64]:
    """How many are true in each column. Sums of bytes, 255 rows at a time: NumPy adds 32 of them at once."""
    out = np.zeros(verdict.shape[1], np.int64)
    for start in range(0, len(verdict), 255):
        out += np.add.reduce(verdict[start : start + 255].view(np.uint8), axis=0, dtype=np.uint8)
    return out


def _flat(starts: NDArray[np.int32], lengths: NDArray[np.int32]) -> NDArray[np.int64]:
    """Places starts[i] … starts[i] + lengths[i] − 1, one row after the other."""
    ends = np.cumsum(lengths, dtype=np.int64)
    return np.repeat(starts - (ends - lengths), lengths) + np.arange(ends[-1] if len(ends) else 0)


def _floating(
    queries: NDArray[np.floating], candidates: NDArray[np.floating]
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    queries, candidates = np.asarray(queries), np.asarray(candidates)
    tiles.check_vectors(queries, candidates)
    dtypes = {queries.dtype, candidates.dtype}
    if len(dtypes) > 1 or not dtypes <= {np.dtype(np.float32), np.dtype(np.float64)}:
        raise DataError(f"vectors must both be float32 or both float64, got {queries.dtype} and {candidates.dtype}")
    if not len(candidates):
        raise DataError("there are no candidates to rank")
    return queries, candidates


def _refuse_repeated(targets: Ragged) -> None:
    known = targets.values >= 0
    query, value = targets.segments[known], targets.values[known]
    order = np.lexsort((value, query))
    query, value = query[order], value[order]
    same = (query[1:] == query[:-1]) & (value[1:] == value[:-1])
    if same.any():
        at = int(np.argmax(same))
        raise DataError(f"targets of query {query[at]} hold candidate {value[at]} twice; a relevant set has no order or count")
