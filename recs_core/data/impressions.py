"""Candidates that a row was shown and did not take: negatives of that row alone."""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray

from recs_core.contract.batch import Ragged
from recs_core.contract.columns import as_lists
from recs_core.contract.errors import DataError
from recs_core.contract.vocabulary import Vocabulary
from recs_core.data.ids import codes_or_unknown
from recs_core.tables import readers

log = logging.getLogger("recs_core")


def of_column(source: readers.Source, name: str, candidates: Vocabulary, taken: NDArray[np.int32]) -> Ragged:
    """(n rows): the candidate codes that a list column names, each once; ids of no candidate, and nulls, are left out.

    `taken` (n,): the row's own candidate. Raises `DataError` for a column of no ids, and for a row that lists what it
    took.
    """
    where = source.column(name)
    ids, offsets = as_lists(source.table[name], where)
    kind = candidates.ids.type
    if len(ids) and ids.type != kind:
        ids = readers.follow(source, ids, kind, name, "the candidates' ids")
    codes = codes_or_unknown(ids, candidates, len(ids))
    listed = Ragged(codes, offsets)
    itself = codes == taken[listed.segments]
    if itself.any():
        row = int(listed.segments[np.argmax(itself)])
        id_ = candidates.ids[int(taken[row])].as_py()
        raise DataError(
            f"{where}: row {row} (counting from 0) took {id_!r} and lists it among those not taken; leave it out there"
        )
    return once_each(_known(listed, f"{where}: shown", "no candidate of these interactions"))


def encoded(shown: Ragged, code_of: NDArray[np.int32], positives: Ragged, queries: NDArray[np.int32]) -> Ragged:
    """(n rows): the same in a schema's codes, but what the query has taken in any row. `code_of`: old code → new, −1
    outside the corpus; `positives` (queries): codes that each took; `queries` (n,): the row's query."""
    listed = _known(Ragged(code_of[shown.values], shown.offsets), "shown", "outside the corpus")
    return listed.without(positives.holds(queries[listed.segments], listed.values))


def once_each(rows: Ragged) -> Ragged:
    """Every code once per row, ascending."""
    stride = np.int64(rows.values.max(initial=0) + 1)
    pairs = np.unique(rows.segments * stride + rows.values)
    lengths = np.bincount(pairs // stride, minlength=len(rows.offsets) - 1)
    return Ragged.from_lengths((pairs % stride).astype(np.int32), lengths)


def _known(rows: Ragged, what: str, why: str) -> Ragged:
    unknown = rows.values < 0
    if unknown.any():
        log.info("%s: %d of %d are %s: left out", what, unknown.sum(), len(unknown), why)
    return rows.without(unknown)
