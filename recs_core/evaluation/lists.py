"""What each query is recommended, and where targets stand in it, searched exactly; who is retired is in neither."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from recs_core.contract.batch import Ragged
from recs_core.evaluation.ranking import Ranks, ranks
from recs_core.index.filters import within
from recs_core.index.live import LiveIndex, live


def exact_lists(
    queries: NDArray[np.float32],
    candidates: NDArray[np.float32],
    k: int,
    exclude: Ragged | None,
    retired: NDArray[np.integer] | None = None,
) -> NDArray[np.int32]:
    """(Q, min(k, C)): the rows of `candidates` (C, d) that score highest for each of (Q, d) `queries`, best first, less
    those that `exclude` names for it, and the `retired`; −1 where fewer are left."""
    return LiveIndex(candidates, None, retired).search(queries, k, exclude=exclude).ids.astype(np.int32)


def live_ranks(
    queries: NDArray[np.float32],
    candidates: NDArray[np.float32],
    targets: Ragged,
    exclude: Ragged | None,
    retired: NDArray[np.integer] | None = None,
) -> Ranks:
    """As `ranks`, among the candidates that are not `retired`; a target that is, is never found."""
    kept = live(len(candidates), retired)
    if kept is None:
        return ranks(queries, candidates, targets, exclude=exclude)
    hidden = None if exclude is None else within(exclude, kept)
    found = ranks(queries, candidates[kept], within(targets, kept), exclude=hidden)
    return replace(found, targets=targets.values)
