"""Exact ranks over the whole corpus, without sorting and without storing scores.

All that a metric needs of a target is how many candidates score above it and how many tie with it. So scores are made
a tile at a time, compared with the targets' own, counted and forgotten.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from recs_core.contract.batch import Ragged, offsets_of
from recs_core.contract.errors import DataError
from recs_core.index import tiles
from recs_core.index.filters import TilePatch, check_positions

NEVER = -1
"""`Ranks.above` of a target that no ranking can hold: it is outside the corpus, or excluded."""

BYTE_ROWS = 255
"""Rows of a tile whose trues a byte can count: a quarter of a tile."""

CROWDED = 1 / 64
"""Share of a tile's pairs left open by float32 from which on a product in float64 is cheaper than pair by pair."""


Array: TypeAlias = NDArray[np.floating]
Pairs: TypeAlias = tuple[NDArray[np.int64], NDArray[np.int64]]


@dataclass(frozen=True)
class Ranks:
    """Where each target of each query stands among the candidates that are not excluded, other targets included.

    `above` (T,) int64: how many score higher, `NEVER` for a target that cannot be found. `tied` (T,) int64: how many
    others score the same. Target t of query i is at offsets[i] ≤ t < offsets[i + 1]. `num_candidates`: the corpus.
    `targets` (T,) int32: the candidate code of each, −1 outside the corpus.
    """

    above: NDArray[np.int64]
    tied: NDArray[np.int64]
    offsets: NDArray[np.int32]
    num_candidates: int
    targets: NDArray[np.int32]

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """(Q,): targets per query."""
        return np.diff(self.offsets).astype(np.int64)

    @cached_property
    def queries(self) -> NDArray[np.int64]:
        """(T,): the query of each target."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)

    @cached_property
    def places(self) -> NDArray[np.float64]:
        """(T,): the last place, counted from 1, that ties leave a target on its own; infinity for one never found."""
        return np.where(self.above == NEVER, np.inf, self.above + self.tied + 1.0)

    def only(self, targets: NDArray[np.bool_]) -> Ranks:
        """The targets marked (T,), standing where they stood; a query of which none is marked leaves."""
        lengths = np.bincount(self.queries[targets], minlength=len(self.lengths))
        offsets = offsets_of(lengths[lengths > 0])
        return Ranks(self.above[targets], self.tied[targets], offsets, self.num_candidates, self.targets[targets])


def ranks(
    queries: Array,
    candidates: Array,
    targets: Ragged,
    *,
    exclude: Ragged | None = None,
    threads: int | None = None,
) -> Ranks:
    """Rank the `targets` of (Q, d) queries among (C, d) candidates by inner product.

    `targets`: a row per query of distinct candidate rows; −1 is a target outside the corpus, never found. `exclude`: a
    row per query of candidates that leave its ranking; a target among them is never found either, as `recommend` would
    never return it. `threads`: by default as many as the BLAS may use. Inputs are float32 or float64 and may be memory
    maps. Working memory: a few MB per thread and the ranks themselves.

    The ranks are float64's at float32's speed: scores made in float32 decide wherever their rounding cannot, and the
    few pairs closer than that are scored again in float64. Two scores tie when float64 cannot tell them apart, so equal
    vectors tie wherever they stand.

    Raises `DataError` for shapes that do not match, NaN, infinity or overflow, a target named twice, or a position
    outside the corpus.
    """
    queries, candidates = _floating(queries, candidates)
    check_positions(targets, len(queries), len(candidates), "targets")
    _refuse_repeated(targets)
    exclude = exclude if exclude is None else check_positions(exclude, len(queries), len(candidates), "exclude")
    query_norms, candidate_norm = tiles.norms(queries, "query"), float(tiles.norms(candidates, "candidate").max())
    tiles.check_range(float(query_norms.max(initial=0.0)), candidate_norm, queries.dtype)

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
        block_ranks = _Block(queries[rows], candidates, targets.take(rows), hidden, query_norms[rows] * candidate_norm)
        above[places], tied[places] = block_ranks.count()

    tiles.run(rank_block, tiles.query_blocks(len(order), threads), threads)
    return Ranks(above, tied, targets.offsets, len(candidates), targets.values)


class _Block:
    """Some queries, most targets first, on one thread. `scale`: ‖query‖ · the largest ‖candidate‖, of each."""

    def __init__(
        self,
        queries: Array,
        candidates: Array,
        targets: Ragged,
        exclude: Ragged | None,
        scale: NDArray[np.float64],
    ) -> None:
        self.queries, self.candidates = queries, candidates
        self.targets = targets
        self.findable = targets.values >= 0
        self.patch = None
        if exclude is not None:
            self.findable &= ~exclude.holds(targets.segments, targets.values)
            self.patch = TilePatch(exclude.segments, exclude.values, np.nan)  # no comparison holds: never counted
        self.own = np.full(len(targets.values), np.nan)
        known = np.flatnonzero(self.findable)
        self.own[known] = tiles.exact_scores(queries, candidates, targets.segments[known], targets.values[known])
        # Two float64 scores closer than `same` tie; a tile's score decides if it is further than `unclear` off.
        dim, scale = queries.shape[1], scale[targets.segments]
        self.same = 2 * tiles.rounding(dim, np.float64) * scale
        self.unclear = self.same + tiles.rounding(dim, queries.dtype) * scale
        self.above = np.zeros(len(self.own), np.int64)
        self.tied = np.zeros(len(self.own), np.int64)
        # (targets, candidates) that a tile's rounding left open, and how many pairs that is.
        self.open: list[Pairs] = [(np.empty(0, np.int64), np.empty(0, np.int64))]
        self.num_open = 0

    def count(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """`above` and `tied` of each target."""
        dtype = self.queries.dtype.type
        # The queries that have a j-th target come first in the block: these are those targets, for j = 0, 1, …
        nth = [self.targets.offsets[:-1][self.targets.lengths > j] + j for j in range(int(self.targets.lengths[0]))]
        upper = [np.nextafter((self.own + self.unclear)[t].astype(dtype), dtype(np.inf)) for t in nth]
        lower = [np.nextafter((self.own - self.unclear)[t].astype(dtype), dtype(-np.inf)) for t in nth]
        # Candidates down, queries across: a sum down the tile adds whole rows of bytes.
        scores = np.empty((tiles.TILE_CANDIDATES, len(self.queries)), dtype)
        clear, maybe = np.empty(scores.shape, np.bool_), np.empty(scores.shape, np.bool_)
        for here in tiles.tiles(len(self.candidates)):
            height = here.stop - here.start
            np.matmul(self.candidates[here], self.queries.T, out=scores[:height])
            if self.patch is not None:
                self.patch.apply(scores[:height].T, here.start)
            for j, targets in enumerate(nth):
                part = np.s_[:height, : len(targets)]
                np.greater(scores[part], upper[j], out=clear[part])
                np.greater_equal(scores[part], lower[j], out=maybe[part])
                open_ = np.flatnonzero(np.not_equal(clear[part], maybe[part], out=maybe[part]))
                if len(open_) > maybe[part].size * CROWDED:
                    self._count_crowded(targets, here)
                else:
                    self.above[targets] += _count_down(clear[part])
                    candidate, query = np.divmod(open_, len(targets))
                    self.open.append((targets[query].astype(np.int64), candidate + here.start))
                    self.num_open += len(open_)
            if self.num_open > tiles.PAIRS:
                self._decide()
        self._decide()
        self.above[~self.findable] = NEVER
        return self.above, np.where(self.findable, self.tied - 1, 0)  # every target ties with itself

    def _decide(self) -> None:
        """Weigh the pairs that a tile's rounding left open."""
        targets, candidate = (np.concatenate(parts) for parts in zip(*self.open, strict=True))
        self.open, self.num_open = [(targets[:0], candidate[:0])], 0
        score = tiles.exact_scores(self.queries, self.candidates, self.targets.segments[targets], candidate)
        difference = score - self.own[targets]
        np.add.at(self.above, targets[difference > self.same[targets]], 1)
        np.add.at(self.tied, targets[np.abs(difference) <= self.same[targets]], 1)

    def _count_crowded(self, targets: NDArray[np.integer], here: slice) -> None:
        """The same for a whole tile with many of them, as where a model has collapsed: a product in float64."""
        queries = self.queries[: len(targets)].astype(np.float64)
        scores = self.candidates[here].astype(np.float64) @ queries.T
        if self.patch is not None:
            padded = np.empty((len(scores), len(self.queries)))
            padded[:, : len(targets)] = scores
            self.patch.apply(padded.T, here.start)
            scores = padded[:, : len(targets)]
        above = _count_down(scores > self.own[targets] + self.same[targets])
        self.above[targets] += above
        self.tied[targets] += _count_down(scores >= self.own[targets] - self.same[targets]) - above


def _count_down(verdict: NDArray[np.bool_]) -> NDArray[np.int64]:
    """How many are true in each column. Sums of bytes, which NumPy adds 32 at once."""
    out = np.zeros(verdict.shape[1], np.int64)
    for start in range(0, len(verdict), BYTE_ROWS):
        out += np.add.reduce(verdict[start : start + BYTE_ROWS].view(np.uint8), axis=0, dtype=np.uint8)
    return out


def _flat(starts: NDArray[np.int32], lengths: NDArray[np.int32]) -> NDArray[np.int64]:
    """Places starts[i] … starts[i] + lengths[i] − 1, one row after the other."""
    ends = np.cumsum(lengths, dtype=np.int64)
    return np.repeat(starts - (ends - lengths), lengths) + np.arange(ends[-1] if len(ends) else 0)


def _floating(queries: Array, candidates: Array) -> tuple[Array, Array]:
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
        raise DataError(f"targets of query {query[at]} hold candidate {value[at]} twice; give it once")
