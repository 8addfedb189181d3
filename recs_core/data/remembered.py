"""What earlier fits saw, among the rows of a later one: the past that histories read, and what `replay` draws from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from recs_core.contract.errors import SpecError
from recs_core.data.catalog import Catalog, union
from recs_core.data.encoded import EncodedDataset


def with_past(data: EncodedDataset, before: Catalog | None, replay: float) -> EncodedDataset:
    """`data` with the rows of `before` that it lacks, marked as `old`, where the query tower reads the past or some of
    them are to be replayed.

    The catalog keeps of a row its query, its candidate and its time. Where the query tower reads more of each row, its
    context, old rows cannot be read: they are left out, and `replay` raises `SpecError`.
    """
    if before is None or not (replay or data.input_share is not None):
        return data
    if data.schema.context:
        if replay:
            read = ", ".join(map(repr, data.schema.context))
            raise SpecError(
                f"replay={replay:g}: the query tower reads {read} of each row, which a model does not keep of those "
                "that it saw; leave replay out, and fit a table that holds old rows too"
            )
        return data
    seen, own = before.seen, data.rows_by_query()
    timed = before.seen_at is not None and data.timestamps is not None
    places = union(seen, before.seen_at, own, data.timestamps, newer=True)
    old = places.values < len(seen.values)
    if not old.any():
        return data
    row = np.where(old, -1, places.values - len(seen.values))
    times = np.concatenate([before.seen_at, data.timestamps])[places.values] if timed else None
    return replace(
        data,
        query_codes=places.segments,
        candidate_codes=np.concatenate([seen.values, own.values])[places.values],
        timestamps=times,
        old=old,
        weights=None if data.weights is None else np.where(old, 1.0, data.weights[row]),
        negatives=data.negatives and data.negatives.take_or_empty(row),
    )
