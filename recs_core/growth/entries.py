"""What the catalog says of new ids: their features, what queries took, attributes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recs_core.contract.batch import Features, Past, Ragged, Side
from recs_core.contract.towers import TowerSpec
from recs_core.contract.vocabulary import Vocabulary
from recs_core.data.attributes import attribute_columns, stated_of
from recs_core.data.catalog import Catalog, merged
from recs_core.data.encoding import encode
from recs_core.data.interactions import Interactions
from recs_core.data.schema import Schema


def grown_catalog(
    catalog: Catalog, schema: Schema, query: TowerSpec, candidate: TowerSpec, data: Interactions
) -> Catalog:
    """The catalog with an entry for each id that `schema` has more, and the rows of `data` among what was seen.

    Whoever was known keeps features and attributes. Raises `DataError` where a new one lacks a column that its tower
    reads, or has a value there that cannot be used.
    """
    before = catalog.schema
    seen, seen_at = merged(_padded(catalog.seen, len(schema.queries)), catalog.seen_at, *_rows(schema, data))
    codes = np.arange(len(before.candidates), len(schema.candidates))
    later = attribute_columns(data.candidates).take(_places(data.candidate_ids, before.candidates, schema.candidates))
    return replace(
        catalog,
        schema=schema,
        query=_entered("query", query, catalog, schema, data.queries, data.query_ids),
        candidate=_entered("candidate", candidate, catalog, schema, data.candidates, data.candidate_ids),
        seen=seen,
        seen_at=seen_at,
        counts=np.bincount(seen.values, minlength=len(schema.candidates)),
        attributes=stated_of(catalog.attributes, schema.candidates, codes, later),
    )


def _entered(
    side: Side, tower: TowerSpec, catalog: Catalog, schema: Schema, table: pa.Table, ids: Vocabulary
) -> Features:
    """The features of one side with those of its new ids below; `table`: of what the data has, by its `ids`."""
    if side == "query":
        features, before, after = catalog.query, catalog.schema.queries, schema.queries
    else:
        features, before, after = catalog.candidate, catalog.schema.candidates, schema.candidates
    if len(after) == len(before):
        return features
    table = table.take(_places(ids, before, after))
    return features.followed_by(encode(tower, side, schema, table, Past.nothing(len(table))))


def _places(ids: Vocabulary, before: Vocabulary, after: Vocabulary) -> pa.Array:
    """Where the ids that `after` has more stand among those of the data."""
    return pa.array(ids.encode(after.ids[len(before) :]))


def _padded(rows: Ragged, size: int) -> Ragged:
    """With empty rows below."""
    more = size + 1 - len(rows.offsets)
    return Ragged(rows.values, np.concatenate([rows.offsets, np.full(more, rows.offsets[-1])]))


def _rows(schema: Schema, data: Interactions) -> tuple[Ragged, NDArray[np.float64] | None]:
    """Candidate codes of each query's rows in time order, and their times."""
    query = schema.queries.encode(data.query_ids.ids)[data.query_codes]
    candidate = schema.candidates.encode(data.candidate_ids.ids)[data.candidate_codes]
    times = data.timestamps
    order = np.lexsort((query,) if times is None else (times, query))
    lengths = np.bincount(query, minlength=len(schema.queries))
    return Ragged.from_lengths(candidate[order], lengths), None if times is None else times[order]
