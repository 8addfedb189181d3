"""What a fitted model knows of its queries and candidates: enough to serve them without the training data."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recs_core.contract.batch import Features, Past, Ragged, numbers_of
from recs_core.contract.errors import DataError
from recs_core.contract.vocabulary import Vocabulary
from recs_core.data.ids import known_codes
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
    of candidate code i. `retired`: codes, ascending, of the candidates that must not come back.
    """

    schema: Schema
    query: Features
    candidate: Features
    seen: Ragged
    counts: NDArray[np.int64]
    attributes: pa.Table
    seen_at: NDArray[np.float64] | None = None
    retired: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))

    @classmethod
    def of(cls, data: EncodedDataset, before: Catalog | None = None) -> Catalog:
        """The catalog of the training data, and of all that was learnt `before` it.

        A training row is known by its query, candidate and time (by query and candidate where a fit had no times). One
        that an earlier fit had too counts once; all others add up.
        """
        seen, seen_at = data.rows_by_query(), data.timestamps
        retired = np.zeros(0, np.int32)
        if before is not None:
            seen, seen_at = merged(before.seen, before.seen_at, seen, seen_at)
            retired = before.retired
        counts = np.bincount(seen.values, minlength=len(data.schema.candidates))
        return cls(data.schema, data.query, data.candidate, seen, counts, data.attributes, seen_at, retired)

    def asked_for(self, ids: Any, where: str) -> NDArray[np.int32]:
        """(n,) code of each candidate that a caller names. Raises `DataError` for an unknown one, a retired one, and as
        `known_codes`; `where` names the argument."""
        codes = known_codes(ids, where, self.schema.candidates)
        gone = np.isin(codes, self.retired)
        if gone.any():
            row = int(np.argmax(gone))
            retired = self.schema.candidates.ids[int(codes[row])].as_py()
            raise DataError(
                f"{where}, row {row}: {retired!r} is retired and never comes back; update_candidates with its row "
                "brings it back"
            )
        return codes

    def past(self, codes: NDArray[np.integer]) -> Past:
        """(n,) query codes → what the training rows of each tell; of −1 nothing."""
        return Past(self.seen, self.seen_at).take_or_none(codes)


def merged(
    old: Ragged, old_at: NDArray[np.float64] | None, new: Ragged, new_at: NDArray[np.float64] | None
) -> tuple[Ragged, NDArray[np.float64] | None]:
    """Both, as `union` has them, and their times where both have some."""
    places = union(old, old_at, new, new_at)
    seen = Ragged(np.concatenate([old.values, new.values])[places.values], places.offsets)
    if old_at is None or new_at is None:
        return seen, None
    return seen, np.concatenate([old_at, new_at])[places.values]


def union(
    old: Ragged,
    old_at: NDArray[np.float64] | None,
    new: Ragged,
    new_at: NDArray[np.float64] | None,
    *,
    newer: bool = False,
) -> Ragged:
    """Both, query by query in time order, as places among the old values and then the new ones. A row that stands n
    times in one and m times in the other is there max(n, m) times, as often as can be as an old one, or with `newer` as
    a new one; without times the old rows come first.

    Only queries that have new rows are looked at, so that a day's rows join a year's at the cost of a day's.
    """
    kind = numbers_of(len(old.values) + len(new.values))
    olds = Ragged(np.arange(len(old.values), dtype=kind), old.offsets)
    touched = np.flatnonzero(new.lengths)
    theirs = olds.take(touched)
    news = Ragged(np.arange(len(new.values), dtype=kind), new.offsets).take(touched)
    if old_at is None or new_at is None:
        at = np.zeros(len(theirs.values) + len(news.values))
    else:
        at = np.concatenate([old_at[theirs.values], new_at[news.values]])
    candidate = np.concatenate([old.values[theirs.values], new.values[news.values]])
    kept = _union(np.concatenate([theirs.segments, news.segments]), candidate, at, len(theirs.values), newer)
    behind = np.concatenate([theirs.values, news.values + kind(len(old.values))])
    few = Ragged(behind[kept.values], kept.offsets)
    source = np.arange(len(old.lengths))
    source[touched] = len(old.lengths) + np.arange(len(touched))
    return olds.followed_by(few).take(source)


def _union(
    query: NDArray[np.int32], candidate: NDArray[np.int32], at: NDArray[np.float64], olds: int, newer: bool
) -> Ragged:
    """Of rows, the first `olds` of which are the old ones: those that are kept, by query."""
    is_new = np.arange(len(query)) >= olds
    order = np.lexsort((is_new, candidate, at, query))
    alike = np.stack([query, candidate, at])[:, order]
    begins = np.r_[True, (alike[:, 1:] != alike[:, :-1]).any(0)][: len(order)]
    row = np.cumsum(begins) - 1  # equal rows have one number; within it the old ones stand first
    of_old, of_new = (np.bincount(row, weights=mask[order]).astype(np.int64)[row] for mask in (~is_new, is_new))
    nth = np.arange(len(row)) - np.flatnonzero(begins)[row]  # within its equals
    spare = is_new[order] & (nth - of_old < of_old) if not newer else ~is_new[order] & (nth < of_new)
    kept = np.sort(order[~spare])
    kept = kept[np.lexsort((at[kept], query[kept]))].astype(numbers_of(len(query)))
    return Ragged.from_lengths(kept, np.bincount(query[kept], minlength=query.max(initial=-1) + 1))


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
    lengths = np.bincount(row, minlength=len(wanted))
    timed = all(part.timestamps is not None for part in parts)
    whole = Past(Ragged.from_lengths(code[order], lengths), at[order] if timed else None)
    return whole.take_or_none(of_query)


def candidates_of(data: Interactions | Iterable[Interactions], queries: pa.Array, schema: Schema) -> Ragged:
    """The candidate codes of `past_of`."""
    return past_of(data, queries, schema).codes
