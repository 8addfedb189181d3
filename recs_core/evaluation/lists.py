"""What each query is recommended, searched exactly."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recs_core.contract.batch import Ragged
from recs_core.index import ExactIndex


def exact_lists(
    queries: NDArray[np.float32], candidates: NDArray[np.float32], k: int, exclude: Ragged | None
) -> NDArray[np.int32]:
    """(Q, min(k, C)): the rows of `candidates` (C, d) that score highest for each of (Q, d) `queries`, best first, less
    those that `exclude` names for it; −1 where fewer are left."""
    index = ExactIndex()
    index.build(candidates)
    return index.search(queries, k, exclude=exclude).ids.astype(np.int32)
