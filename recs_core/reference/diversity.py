"""Variety, one query at a time: i maximises (1 − λ) · s̃(i) − λ · max cos(i, j) over what was chosen before.

s̃ is the score from 0, the pool's lowest, to 1, its highest (0 where all are equal); of equal ones the first goes first.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def maximal_marginal_relevance(scores: ArrayLike, vectors: ArrayLike, k: int, diversity: float) -> list[int]:
    """Places in the pool of the k chosen. `scores` (p,), best first; `vectors` (p, d): the candidates' embeddings."""
    s, y = np.asarray(scores, np.float64), np.asarray(vectors, np.float64)
    span = s.max() - s.min()
    relevance = (s - s.min()) / span if span > 0 else np.zeros(len(s))
    unit = y / np.sqrt((y**2).sum(axis=1, keepdims=True) + 1e-12)
    chosen = [0]
    while len(chosen) < min(k, len(s)):
        left = [i for i in range(len(s)) if i not in chosen]
        values = [(1 - diversity) * relevance[i] - diversity * max(unit[i] @ unit[j] for j in chosen) for i in left]
        chosen.append(left[int(np.argmax(values))])
    return chosen
