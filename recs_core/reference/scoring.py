"""Vectors as an index sees them: their inner product is the whole score, ⟨x, y⟩ / τ + b (docs/meanings.md, scoring).

    query      [x ; 1]            candidate   [y / τ ; b]        cosine: x and y first divided by √(Σ x² + 1e-12)

Without a bias there is no last column. Everything is float64.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recs_core.contract.retrieval import RetrievalSpec

Array = NDArray[np.float64]


def query_vectors(spec: RetrievalSpec, query: ArrayLike) -> Array:
    """(Q, d) raw outputs of the query tower → (Q, d or d + 1)."""
    x = _scored(spec, query)
    return np.column_stack([x, np.ones(len(x))]) if spec.candidate_bias else x


def candidate_vectors(
    spec: RetrievalSpec, candidate: ArrayLike, bias: ArrayLike | None = None, log_temperature: float | None = None
) -> Array:
    """(n, d) raw outputs of the candidate tower → (n, d or d + 1); `bias` (n,) where the spec has one."""
    tau = spec.temperature if log_temperature is None else np.exp(log_temperature)
    y = _scored(spec, candidate) / tau
    return np.column_stack([y, np.asarray(bias, np.float64)]) if spec.candidate_bias else y


def _scored(spec: RetrievalSpec, vectors: ArrayLike) -> Array:
    x = np.asarray(vectors, np.float64)
    return x / np.sqrt((x**2).sum(axis=1, keepdims=True) + 1e-12) if spec.scoring == "cosine" else x
