"""Exclusions and allow-lists: one meaning for evaluation, index and serving.

A row per query of corpus positions, as `Ragged`. −1 stands for an id outside the corpus and excludes nothing. Filtering
overwrites scores with a value that no comparison lets through; it never relies on scores being small or large.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recs_core.contract.batch import Ragged
from recs_core.contract.errors import DataError


def ragged(rows: Iterable[ArrayLike]) -> Ragged:
    """Lists of positions, one per query, as `Ragged`."""
    arrays = [np.asarray(row, np.int32) for row in rows]
    lengths = np.array([len(row) for row in arrays], np.int64)
    return Ragged.from_lengths(np.concatenate([np.empty(0, np.int32), *arrays]), lengths)


def check_positions(rows: Ragged, num_queries: int, num_candidates: int, what: str) -> Ragged:
    """`rows` itself. Raises `DataError` unless it has a row per query and every position is −1 or in the corpus."""
    if len(rows.offsets) != num_queries + 1:
        raise DataError(f"{what} has {len(rows.offsets) - 1} rows for {num_queries} queries; give one row per query")
    outside = (rows.values < -1) | (rows.values >= num_candidates)
    if outside.any():
        at = int(np.argmax(outside))
        raise DataError(
            f"{what} of query {rows.segments[at]} holds position {rows.values[at]}, the corpus has {num_candidates}; "
            "give positions from 0, or -1 for none"
        )
    return rows


def check_allow(allow: ArrayLike, num_candidates: int, what: str = "allow") -> NDArray[np.int64]:
    """The distinct positions of an allow-list, ascending. Raises `DataError` for one outside the corpus."""
    positions = np.asarray(allow)
    if positions.ndim != 1 or (positions.size and positions.dtype.kind not in "iu"):
        got = f"{positions.dtype} of shape {positions.shape}"
        raise DataError(f"{what} must be a list of positions, got {got}; give integers, in one dimension")
    if positions.size > 1 and not (positions[1:] > positions[:-1]).all():  # which takes a tenth of the time
        positions = np.unique(positions)
    positions = positions.astype(np.int64, copy=False)
    if len(positions) and (positions[0] < 0 or positions[-1] >= num_candidates):
        bad = positions[0] if positions[0] < 0 else positions[-1]
        raise DataError(f"{what} holds position {bad}, the corpus has {num_candidates}; leave it out")
    return positions


def within(rows: Ragged, allowed: NDArray[np.int64]) -> Ragged:
    """Positions counted within a sorted allow-list; those outside it become −1."""
    places = np.searchsorted(allowed, rows.values)
    return Ragged(np.where(among(allowed, rows.values), places, -1).astype(np.int32), rows.offsets)


def among(allowed: NDArray[np.int64], positions: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Whether each of the positions, of any shape, is in a sorted allow-list."""
    if not len(allowed):
        return np.zeros(positions.shape, bool)
    found: NDArray[np.bool_] = allowed[np.minimum(np.searchsorted(allowed, positions), len(allowed) - 1)] == positions
    return found


class TilePatch:
    """Scores of a block of queries that are given, not computed, ordered so that each tile of candidates finds its own.

    `queries` and `candidates` (n,) say where, `values` what: a number each, or one for all.
    """

    def __init__(self, queries: NDArray[Any], candidates: NDArray[Any], values: ArrayLike) -> None:
        known = np.flatnonzero(candidates >= 0)
        order = known[np.argsort(candidates[known], kind="stable")]
        self._queries = queries[order]
        self._candidates = candidates[order]
        self._values = np.broadcast_to(np.asarray(values), len(candidates))[order]

    def apply(self, scores: NDArray[np.floating], first: int) -> None:
        """Overwrite in `scores` (Q, w), those of candidates first … first + w − 1."""
        start, stop = np.searchsorted(self._candidates, (first, first + scores.shape[1]))
        here = slice(start, stop)
        scores[self._queries[here], self._candidates[here] - first] = self._values[here]
