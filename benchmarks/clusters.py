"""Vectors as training leaves them: in clusters, of length 1. Isotropic ones have no neighbours worth finding."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

CLUSTERS = 1000
SPREAD = 0.8


def clusters(dim: int, random: np.random.Generator) -> Callable[[int], NDArray[np.float32]]:
    """A draw: a number → (number, dim) float32 vectors, each beside one of the same 1,000 middles."""
    middles = random.normal(size=(CLUSTERS, dim))

    def drawn(number: int) -> NDArray[np.float32]:
        vectors = middles[random.integers(CLUSTERS, size=number)] + SPREAD * random.normal(size=(number, dim))
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)

    return drawn
