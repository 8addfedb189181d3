"""What a fitted model knows of its queries and candidates: enough to serve them without the training data."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recs_core.contract.batch import Features, Past, Ragged
from recs_core.contract.vocabulary import Vocabulary
from recs_core.data.interactions import Interactions
from recs_core.data.schema import Schema

if TYPE_CHECKING:
    from recs_core.data.encoded import EncodedDataset


@dataclass(frozen=True)
class Catalog:
    """Encoded features of every known query (histories left empty) and of the corpus, and who took what.

    `seen`: candidate codes of each query's training rows, in time order. `seen_at` (nnz of `seen`,): their times in
    seconds, None where a fit had no times. `counts` (corpus,): training rows of each candidate. `attributes`: the
    candidates' ids, and what else their side table says in one value per row; filters are made of it, and row i is that
    of candidate code i.
    """

    schema: Schema
    query: Features
    candidate: Features
    seen: Ragged
    counts: NDArray[np.int64]
    attributes: pa.Table
    seen_at: NDArray[np.float64] | None = None

    @classmethod
    def of(cls, data: EncodedDataset, before: Catalog | None = None) -> Catalog:
        """The catalog of the training data, and of all that was learnt `before` it.

        A training row is known by its query, candidate and time (by query and candidate where a fit had no times). One
        that an earlier fit had too counts once; all others add up.
        """
        seen, seen_at = data.rows_by_query(), data.timestamps
        if before is not None:
            seen, seen_at = _merged(before.seen, before.seen_at, seen, seen_at)
        counts = np.bincount(seen.values, minlength=len(data.schema.candidates))
        return cls(data.schema, data.query, data.candidate, seen, counts, data.attributes, seen_at)

    def past(self, codes: NDArray[np.integer]) -> Past:
        """(n,) query codes → what the training rows of each tell; of −1 nothing."""
        return Past(self.seen, self.seen_at).take_or_none(codes)


def _merged(
    old: Ragged, old_at: NDArray[np.float64] | None, new: Ragged, new_at: NDArray[np.float64] | None
) -> tuple[Ragged, NDArray[np.float64] | None]:
    """Both, query by query in time order; a row that stands n times in one and m times in the other, max(n, m) times.
    Without times the old rows come first."""
    timed = old_at is not None and new_at is not None
    at = np.concatenate([old_at, new_at]) if timed else np.zeros(len(old.values) + len(new.values))
    query = np.concatenate([old.segments, new.segments])
    candidate = np.concatenate([old.values, new.values])
    is_new = np.arange(len(query)) >= len(old.values)

    order = np.lexsort((is_new, candidate, at, query))
    alike = np.stack([query, candidate, at])[:, order]
    begins = np.r_[True, (alike[:, 1:] != alike[:, :-1]).any(0)]
    row = np.cumsum(begins) - 1  # equal rows have one number; within it the old ones stand first
    olds = np.bincount(row, weights=~is_new[order]).astype(np.int64)
    nth_new = np.arange(len(row)) - np.flatnonzero(begins)[row] - olds[row]
    kept = np.sort(order[~is_new[order] | (nth_new >= olds[row])])

    kept = kept[np.lexsort((at[kept], query[kept]))]
    offsets = np.zeros(len(old.offsets), np.int32)
    np.cumsum(np.bincount(query[kept], minlength=len(old.offsets) - 1), out=offsets[1:])
    return Ragged(candidate[kept], offsets), at[kept] if timed else None


def past_of(data: Interactions | Iterable[Interactions], queries: pa.Array, schema: Schema) -> Past:
    """What each of `queries` did in the data, in time order (row order where there is none); unknown candidates are
    left out. Without times where a part of the data has none."""
    parts = [data] if isinstance(data, Interactions) else list(data)
    wanted, of_query = Vocabulary.with_codes(queries, schema.query_name)
    rows, codes, times = [], [], []
    for part in parts:
        row = wanted.encode(part.query_ids.ids)[part.query_codes]
        code = schema.candidates.encode(part.candidate_ids.ids)[part.candidate_codes]
        keep = (row >= 0) & (code >= 0)
        rows.append(row[keep])
        codes.append(code[keep])
        times.append(np.zeros(int(keep.sum())) if part.timestamps is None else part.timestamps[keep])
    row, code, at = np.concatenate(rows), np.concatenate(codes), np.concatenate(times)
    order = np.lexsort((at, row))
    offsets = np.zeros(len(wanted) + 1, np.int32)
    np.cumsum(np.bincount(row, minlength=len(wanted)), out=offsets[1:])
    timed = all(part.timestamps is not None for part in parts)
    whole = Past(Ragged(code[order].astype(np.int32), offsets), at[order] if timed else None)
    return whole.take_or_none(of_query)


def candidates_of(data: Interactions | Iterable[Interactions], queries: pa.Array, schema: Schema) -> Ragged:
    """The candidate codes of `past_of`."""
    return past_of(data, queries, schema).codes
