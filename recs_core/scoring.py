"""Retrieval vectors: what an index stores and is asked with, so that every score is one inner product.

cosine → normalised; temperature and bias → candidate [y/τ ; b], query [x ; 1].
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from recs_core.contract.retrieval import RetrievalSpec
from recs_core.contract.task import COSINE_EPSILON

Array = NDArray[np.floating]


def query_vectors(raw: Array, spec: RetrievalSpec) -> Array:
    """(n, d) raw tower output → (n, d) or, with a candidate bias, (n, d + 1)."""
    x = _normalised(raw) if spec.scoring == "cosine" else raw
    return np.hstack([x, np.ones((len(x), 1), x.dtype)]) if spec.candidate_bias else x


def candidate_vectors(
    raw: Array, spec: RetrievalSpec, weights: Mapping[str, Array], codes: NDArray[np.integer] | None = None
) -> Array:
    """(n, d) raw tower output → retrieval vectors. `codes`: rows of `task/bias`, by default all of them."""
    y = _normalised(raw) if spec.scoring == "cosine" else raw
    y = y * y.dtype.type(1 / temperature(spec, weights))
    if not spec.candidate_bias:
        return y
    bias = np.asarray(weights["task/bias"] if codes is None else weights["task/bias"][codes])
    return np.hstack([y, bias[:, None].astype(y.dtype)])


def embeddings(vectors: Array, spec: RetrievalSpec) -> Array:
    """(n, d + 1) retrieval vectors of candidates → (n, d), a view without the bias: embeddings, but for a factor."""
    return vectors[:, :-1] if spec.candidate_bias else vectors


def unit_vectors(vectors: Array, spec: RetrievalSpec) -> Array:
    """(n, d + 1) retrieval vectors of candidates → (n, d), whose inner products are the cosines of the embeddings."""
    return _normalised(embeddings(vectors, spec))


def temperature(spec: RetrievalSpec, weights: Mapping[str, Array]) -> float:
    """τ, fixed or learned."""
    return float(np.exp(weights["task/log_temperature"])) if spec.learn_temperature else spec.temperature


def _normalised(x: Array) -> Array:
    return x / np.sqrt((x * x).sum(1, keepdims=True) + x.dtype.type(COSINE_EPSILON))
