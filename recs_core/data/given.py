"""The past of queries, as a caller gives it: lists of ids, and of times where a model reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recs_core.contract.batch import Past
from recs_core.contract.errors import DataError, about
from recs_core.contract.towers import TowerSpec
from recs_core.contract.vocabulary import Vocabulary
from recs_core.data.ids import all_codes_per_row
from recs_core.tables import times


@about("history")
def past_given(history: Any, history_at: Any, tower: TowerSpec, candidates: Vocabulary) -> Past | None:
    """What is told of each query by one list of ids, and where the query tower reads it one of times; None without
    lists. Unknown ids are left out, with their times.

    Raises `DataError` for lists that cannot be read, times that the tower reads and are not given, or are given and not
    read, and for another number of times than of ids.
    """
    if history_at is not None and history is None:
        raise DataError("history_at: the times of history=, which is not given; pass both", "history_at")
    if history_at is not None and not tower.reads_time:
        raise DataError(
            "history_at: this model does not read when past candidates were; leave history_at out", "history_at"
        )
    if history is None:
        return None
    if history_at is None and tower.reads_time:
        raise DataError(
            "history: this model reads when past candidates were; pass history_at= as well, a list of times per query: "
            "dates, timestamps, ISO strings or seconds"
        )
    codes = all_codes_per_row(history, "history", candidates)
    at = None if history_at is None else _times_per_row(history_at, "history_at", codes.lengths)
    return Past(codes, at).without(codes.values < 0)


@about("history_at")
def _times_per_row(values: Any, where: str, lengths: NDArray[np.integer]) -> NDArray[np.float64]:
    """(nnz,) seconds, row after row."""
    rows = _lists(values, where)
    if len(rows) != len(lengths):
        raise DataError(f"{where}: {len(rows)} lists of times for {len(lengths)} of history; give one per query")
    found = [np.zeros(0)]
    for i, (row, length) in enumerate(zip(rows, lengths, strict=True)):
        if row is None or isinstance(row, (str, bytes, Mapping)) or not hasattr(row, "__len__"):
            raise DataError(f"{where}: row {i} is {row!r}, not a list of times; write [[…], …]")
        if len(row) != length:
            raise DataError(f"{where}, row {i}: {len(row)} times for {length} candidates; give one for each")
        found.append(times.seconds(row, f"{where}, row {i}"))
    return np.concatenate(found)


def _lists(values: Any, where: str) -> Sequence[Any]:
    if isinstance(values, (pa.Array, pa.ChunkedArray)):
        return list(values.to_pylist())
    if isinstance(values, (str, bytes, Mapping)) or not hasattr(values, "__iter__"):
        raise DataError(f"{where}: expected one list of times per query, got {values!r}; write [[…], …]")
    return list(values)
