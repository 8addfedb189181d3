"""What is recommended, seen over all queries: from top-k lists of candidate codes, −1 where a list is short."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recs_core.contract.errors import DataError


def list_metrics(lists: NDArray[np.integer], counts: ArrayLike) -> dict[str, float]:
    """All of them for (Q, k) lists, as `{"coverage@k": …, "popularity@k": …, "log_popularity@k": …}`.

    `counts` (C,): training interactions of each candidate.
    """
    k = lists.shape[1]
    counts = np.asarray(counts)
    return {
        f"coverage@{k}": coverage(lists, len(counts)),
        f"popularity@{k}": popularity(lists, counts),
        f"log_popularity@{k}": log_popularity(lists, counts),
    }


def coverage(lists: NDArray[np.integer], num_candidates: int) -> float:
    """Share of the corpus that is recommended to anyone."""
    return float(len(np.unique(_recommended(lists, num_candidates))) / num_candidates)


def popularity(lists: NDArray[np.integer], counts: ArrayLike) -> float:
    """Mean over recommendations of the candidate's share of training interactions; 1 / C is what a random list has
    where all are equally popular."""
    counts = np.asarray(counts, np.float64)
    if not counts.sum() > 0:
        raise DataError("counts are all zero: popularity has no meaning")
    return float(counts[_recommended(lists, len(counts))].mean() / counts.sum())


def log_popularity(lists: NDArray[np.integer], counts: ArrayLike) -> float:
    """Mean over recommendations of ln(1 + training interactions)."""
    counts = np.asarray(counts, np.float64)
    return float(np.log1p(counts[_recommended(lists, len(counts))]).mean())


def _recommended(lists: NDArray[np.integer], num_candidates: int) -> NDArray[np.integer]:
    codes = np.asarray(lists).ravel()
    codes = codes[codes >= 0]
    if not len(codes):
        raise DataError("the lists recommend nothing")
    if codes.max() >= num_candidates:
        raise DataError(f"the lists hold code {codes.max()}, the corpus has {num_candidates}")
    return codes
