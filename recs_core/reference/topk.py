"""Exact top-k: score descending, then position ascending; what is excluded never comes back.

Where fewer than k positions remain, the rest is position −1 with score − inf.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recs_core.contract.batch import Ragged
from recs_core.contract.protocols import TopK


def top_k(
    queries: ArrayLike,
    vectors: ArrayLike,
    k: int,
    *,
    exclude: Ragged | None = None,
    allow: NDArray[np.integer] | None = None,
) -> TopK:
    """Best k positions of (Q, d) queries among (n, d) vectors, by inner product in float64.

    Not by a BLAS product, whose last bits may depend on where a pair stands: equal vectors tie.
    """
    scores = np.einsum("qd,nd->qn", np.asarray(queries, np.float64), np.asarray(vectors, np.float64))
    return top_k_of_scores(scores, k, exclude=exclude, allow=allow)


def top_k_of_scores(
    scores: NDArray[np.floating], k: int, *, exclude: Ragged | None = None, allow: NDArray[np.integer] | None = None
) -> TopK:
    """Best k columns of each row of `scores` (Q, n); k is at most n."""
    k = min(k, scores.shape[1])
    ids = np.full((len(scores), k), -1, np.int64)
    best = np.full((len(scores), k), -np.inf)
    for row, row_scores in enumerate(scores):
        left = np.arange(len(row_scores)) if allow is None else np.unique(allow)
        if exclude is not None:
            gone = np.zeros(len(row_scores) + 1, bool)  # the last is for −1, which is no position
            gone[exclude.values[exclude.offsets[row] : exclude.offsets[row + 1]]] = True
            left = left[~gone[left]]
        order = left[np.lexsort((left, -row_scores[left]))][:k]  # by the last key first
        ids[row, : len(order)] = order
        best[row, : len(order)] = row_scores[order]
    return TopK(ids, best)
