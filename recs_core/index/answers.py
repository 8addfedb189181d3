"""What becomes of positions that were found: ids, and popular candidates where nothing is known of a query."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recs_core.contract.batch import Ragged
from recs_core.contract.protocols import TopK
from recs_core.contract.vocabulary import Vocabulary
from recs_core.index.live import LiveIndex


def named(found: TopK, vocabulary: Vocabulary) -> TopK:
    """Positions as ids of the vocabulary's own type; None or −1 where one is missing."""
    flat, shape = found.ids.ravel(), found.ids.shape
    if pa.types.is_integer(vocabulary.ids.type):
        ids = vocabulary.ids.to_numpy()[np.maximum(flat, 0)] if len(vocabulary) else flat
        return TopK(np.where(flat < 0, -1, ids).reshape(shape), found.scores)
    names = np.empty(len(flat), object)
    names[:] = vocabulary.decode(flat).to_pylist()
    return TopK(names.reshape(shape), found.scores)


def popular_instead(
    found: TopK,
    rows: NDArray[np.intp],
    counts: NDArray[np.int64],
    exclude: Ragged | None,
    allow: NDArray[np.integer] | None,
    retired: NDArray[np.integer],
) -> TopK:
    """`found`, with `rows` of it answered by the candidates of the highest counts, which are their scores."""
    if not len(rows):
        return found
    index = LiveIndex(counts[:, None].astype(np.float32), None, retired)
    hidden = exclude and exclude.take(rows)
    popular = index.search(np.ones((len(rows), 1), np.float32), found.ids.shape[1], exclude=hidden, allow=allow)
    ids, scores = found.ids.copy(), found.scores.copy()
    ids[rows], scores[rows] = popular.ids, popular.scores
    return TopK(ids, scores)
