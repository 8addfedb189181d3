"""Variety: maximal marginal relevance over a pool of the best, as in docs/meanings.md."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recs_core.contract.errors import DataError
from recs_core.contract.protocols import TopK
from recs_core.contract.task import COSINE_EPSILON

NUMBERS = 1 << 20
"""Numbers of the pool's vectors held at a time: 8 MB."""


def pool_size(k: int, diversity: Any, pool: Any, corpus: int) -> int:
    """How many candidates to search for, to choose k of them; at most the corpus.

    Without `diversity`, or with 0, these are k. `pool`: by default ten times as many as are asked for, 100 at least.
    Raises `DataError` for a diversity outside 0 … 1, and a pool that leaves nothing to choose.
    """
    if diversity is None:
        if pool is not None:
            raise DataError(
                f"pool={pool!r} is what diversity chooses from; pass diversity= too, or leave it out", "pool"
            )
        return min(k, corpus)
    number = isinstance(diversity, (int, float, np.integer, np.floating)) and not isinstance(diversity, bool)
    if not number or not 0 <= diversity <= 1:
        raise DataError(f"diversity is a number from 0 (only scores count) to 1, got {diversity!r}", "diversity")
    if pool is None:
        pool = max(10 * k, 100)
    elif isinstance(pool, bool) or not isinstance(pool, (int, np.integer)) or pool <= k:
        raise DataError(
            f"pool must be a whole number above k = {k}, or nothing is left to choose; got {pool!r}", "pool"
        )
    return min(int(pool) if diversity else k, corpus)


def chosen(pool: TopK, vectors: NDArray[np.floating], k: int, diversity: float) -> TopK:
    """k of each query's pool, chosen one after the other.

    `pool` (Q, p): positions, best first, −1 where there are fewer. `vectors` (n, d): whose cosine is how alike two
    candidates are. The scores that come back are those of the pool.
    """
    places = np.empty((len(pool.ids), k), np.int64)
    rows = max(1, NUMBERS // max(1, pool.ids.shape[1] * vectors.shape[1]))
    for start in range(0, len(places), rows):
        block = slice(start, start + rows)
        places[block] = _places(pool.ids[block], pool.scores[block], vectors, k, diversity)
    left = places < 0
    ids, scores = (np.take_along_axis(values, np.maximum(places, 0), 1) for values in (pool.ids, pool.scores))
    return TopK(np.where(left, -1, ids), np.where(left, -np.inf, scores).astype(pool.scores.dtype))


def _places(
    ids: NDArray[Any], scores: NDArray[np.floating], vectors: NDArray[np.floating], k: int, diversity: float
) -> NDArray[np.int64]:
    """(Q, k) places in the pool; −1 where none is left."""
    unit = vectors[ids].astype(np.float64)
    unit /= np.sqrt(np.einsum("qpd,qpd->qp", unit, unit) + COSINE_EPSILON)[..., None]
    spread = _spread(scores.astype(np.float64))
    relevance = np.multiply(spread, 1 - diversity, where=np.isfinite(spread), out=spread)
    value, alike = relevance.copy(), np.full(ids.shape, -np.inf)
    out, each = np.empty((len(ids), k), np.int64), np.arange(len(ids))
    for place in range(k):
        best = np.argmax(value, axis=1)  # of equal ones the first
        out[:, place] = np.where(np.isneginf(value[each, best]), -1, best)
        relevance[each, best] = -np.inf
        np.maximum(alike, np.einsum("qpd,qd->qp", unit, unit[each, best]), out=alike)
        value = relevance - diversity * alike
    return out


def _spread(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scores from 0, the pool's lowest, to 1, its highest; − inf where there is no candidate."""
    there = np.isfinite(scores)
    low = np.min(scores, axis=1, keepdims=True, where=there, initial=np.inf)
    span = np.max(scores, axis=1, keepdims=True, where=there, initial=-np.inf) - low
    out = np.full(scores.shape, -np.inf)
    np.subtract(scores, low, where=there, out=out)
    return np.divide(out, span, where=there & (span > 0), out=out)
