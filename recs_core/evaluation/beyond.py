"""Numbers beyond accuracy: what is recommended, seen over all queries, and the recall of what few have taken.

    coverage@k      share of the corpus that is in any query's list of k
    popularity@k    mean over all places of all lists of k of the candidate's training rows
    tail_recall@k   recall@k of the targets in the tail alone, the mean over queries that have one

The tail: candidates with fewer training rows than the median of those that have any. A target outside the corpus has no
training row, so it belongs to the tail.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recs_core.evaluation.measures import QueryMetrics, Ties, Values, query_metrics
from recs_core.evaluation.ranking import Ranks

NOWHERE = np.iinfo(np.int64).max


def first_places(lists: NDArray[np.integer], num_candidates: int) -> NDArray[np.int64]:
    """(C,): the best place, counted from 1, that each candidate has in any of the (Q, k) `lists`; a list that is short
    ends in −1. `NOWHERE` for one in no list."""
    first = np.full(num_candidates + 1, NOWHERE)  # the last one stands for −1
    for place in range(lists.shape[1], 0, -1):
        first[lists[:, place - 1]] = place
    return first[:-1]


def coverage(first: NDArray[np.int64], k: Sequence[int], among: NDArray[np.bool_] | None = None) -> dict[str, float]:
    """`coverage@k` at each k, from `first_places`; of the candidates marked in `among` (C,) alone, where it is given.
    NaN where it marks none."""
    first = first if among is None else first[among]
    return {f"coverage@{cut}": float((first <= cut).mean()) if len(first) else float("nan") for cut in k}


def popularity_of(
    lists: NDArray[np.integer], counts: ArrayLike, k: Sequence[int]
) -> tuple[dict[str, Values], dict[str, NDArray[np.int64]]]:
    """`popularity@k` of each of Q queries, by name, and what each query weighs: how many its list of k holds.

    `lists` (Q, k) candidate codes, −1 where short; `counts` (C,) training rows of each candidate.
    """
    there = lists >= 0
    rows = np.cumsum(np.where(there, np.asarray(counts)[np.maximum(lists, 0)], 0), axis=1, dtype=np.float64)
    lengths = np.cumsum(there, axis=1, dtype=np.int64)
    values: dict[str, Values] = {}
    weights: dict[str, NDArray[np.int64]] = {}
    for cut in k:
        last = min(cut, lists.shape[1]) - 1
        weights[f"popularity@{cut}"] = lengths[:, last]
        values[f"popularity@{cut}"] = rows[:, last] / np.maximum(lengths[:, last], 1)
    return values, weights


def tail(counts: ArrayLike) -> NDArray[np.bool_]:
    """(C,): the candidates with fewer training rows than the median of those that have any."""
    counts = np.asarray(counts)
    return counts < np.median(counts[counts > 0]) if counts.any() else np.zeros(len(counts), np.bool_)


def tail_recall(ranks: Ranks, counts: ArrayLike, *, k: Sequence[int], ties: Ties = "pessimistic") -> QueryMetrics:
    """`tail_recall@k` of each query that has a target in the tail; `queries` are rows of `ranks`."""
    marked = np.append(tail(counts), True)[ranks.targets]  # the last one stands for −1
    kept = np.unique(ranks.queries[marked])
    if not len(kept):
        none = np.zeros(0, np.int64)
        return QueryMetrics({f"tail_recall@{cut}": np.zeros(0) for cut in k}, none, none)
    found = query_metrics(ranks.only(marked), k=k, ties=ties)
    return QueryMetrics({f"tail_recall@{cut}": found.values[f"recall@{cut}"] for cut in k}, found.num_targets, kept)
