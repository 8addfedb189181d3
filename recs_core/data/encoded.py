"""Interactions as codes, ready to be cut into batches."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recs_core.contract.batch import Features, Past, Ragged, Side
from recs_core.contract.errors import DataError
from recs_core.contract.feature_numbers import SECONDS_A_DAY
from recs_core.contract.towers import TowerSpec
from recs_core.data import context, impressions
from recs_core.data.attributes import attributes_of
from recs_core.data.encoding import encode
from recs_core.data.interactions import Interactions
from recs_core.data.schema import Schema, check_names

if TYPE_CHECKING:
    from recs_core.data.catalog import Catalog

RECENCY_FLOOR = 0.02
"""What the oldest interaction still weighs beside the newest, under a recency weight."""


@dataclass(frozen=True)
class EncodedDataset:
    """Interactions in the codes of one schema; `Batching` cuts them into batches.

    Rows are sorted by query, then time (row order where there is none), so that a query's rows are one slice and its
    past at any row is what stands before it. Those of a store are memory maps, which nothing here copies. `weights`
    (n,) multiply the loss of a row; None: all are alike. `context` (n rows): what the query tower reads of each
    interaction; None where it reads nothing of it. `negatives` (n rows): candidate codes that each was shown and that
    its query never took; None where nothing is told of it.
    """

    schema: Schema
    query_tower: TowerSpec
    candidate_tower: TowerSpec
    query: Features  # of every query; histories left empty, they depend on the row
    candidate: Features  # of the whole corpus
    query_codes: NDArray[np.int32]  # (n,)
    candidate_codes: NDArray[np.int32]  # (n,)
    timestamps: NDArray[np.float64] | None  # (n,) seconds
    counts: NDArray[np.int64]  # (corpus,) training rows of each candidate
    attributes: pa.Table  # the candidates' side table, see `Catalog`
    old: NDArray[np.bool_] | None = None  # (n,) rows of earlier fits, see `with_past`; None: there are none
    adopted: frozenset[str] = frozenset()  # sides whose tower is a user's own: their codes stay rows of whole tables
    weights: NDArray[np.float64] | None = None  # (n,)
    context: Features | None = None
    negatives: Ragged | None = None

    @classmethod
    def encode(
        cls,
        query: TowerSpec,
        candidate: TowerSpec,
        schema: Schema,
        data: Interactions,
        *,
        before: Catalog | None = None,
        adopted: frozenset[str] = frozenset(),
    ) -> EncodedDataset:
        """`before`: what earlier fits learnt; `data` may then lack ids of the schema, which keep their features.

        Raises `DataError` if `data` names its id columns otherwise, has rows with an id that the schema lacks, or has
        no times and the query tower reads them.
        """
        check_names(schema, data)
        _check_times(query, data)
        query, candidate = query.settle(schema.states("query")), candidate.settle(schema.states("candidate"))
        queries = _codes(schema.queries.encode(data.query_ids.ids), data.query_codes, data, "query")
        code_of = schema.candidates.encode(data.candidate_ids.ids)
        candidates = _codes(code_of, data.candidate_codes, data, "candidate")
        order = _order(data, queries)
        queries, candidates = queries[order], candidates[order]
        times = None if data.timestamps is None else data.timestamps[order]
        taken = _by_query(queries, candidates, len(schema.queries))
        shown = None
        if data.negatives is not None:
            shown = impressions.encoded(data.negatives.take(np.arange(len(data))[order]), code_of, taken, queries)
        return cls(
            schema=schema,
            query_tower=query,
            candidate_tower=candidate,
            query=_side(query, "query", schema, data, None if before is None else before.query),
            candidate=_side(candidate, "candidate", schema, data, None if before is None else before.candidate),
            query_codes=queries,
            candidate_codes=candidates,
            timestamps=times,
            counts=np.bincount(candidates, minlength=len(schema.candidates)),
            attributes=attributes_of(data, schema.candidates, None if before is None else before.attributes),
            adopted=adopted,
            weights=None if data.weights is None else data.weights[order],
            context=context.of_rows(data, query, schema, order),
            negatives=shown,
        )

    def __len__(self) -> int:
        return len(self.query_codes)

    @property
    def input_share(self) -> float | None:
        """The share of a query's candidates that is its input in batches by query; None: no feature reads the past."""
        return next((getattr(f, "input_share", 0.5) for f in self.query_tower.features if f.reads_past), None)

    def rows_by_query(self) -> Ragged:
        """(queries,): candidate codes of each query in time order, repeats included."""
        return _by_query(self.query_codes, self.candidate_codes, len(self.schema.queries))

    @cached_property
    def newest(self) -> float:
        """When the last row was. Raises `DataError` where there are no times."""
        if self.timestamps is None:
            raise DataError("recency_days needs a timestamp column; name it in Interactions.from_table(timestamp=…)")
        return float(self.timestamps.max())

    def recency(self, rows: NDArray[np.integer], half_life_days: float) -> NDArray[np.float64]:
        """½^(age / half-life) + 0.02 of each of these rows, the age before the newest row. Raises as `newest`."""
        age = self.newest - self.timestamps[rows]  # type: ignore[index]
        return 0.5 ** (age / SECONDS_A_DAY / half_life_days) + RECENCY_FLOOR


def _by_query(queries: NDArray[np.int32], candidates: NDArray[np.int32], number: int) -> Ragged:
    return Ragged.from_lengths(candidates, np.bincount(queries, minlength=number))


def _side(tower: TowerSpec, side: Side, schema: Schema, data: Interactions, before: Features | None) -> Features:
    """Features of every id of the schema. Later data wins over what was learnt `before` it; an id that it lacks, or
    says nothing of, keeps its features."""
    if side == "query":
        table, ids, known = data.queries, data.query_ids, schema.queries
    else:
        table, ids, known = data.candidates, data.candidate_ids, schema.candidates
    if before is None:
        own = table if ids == known else table.take(pa.array(ids.encode(known.ids)))
        return _encoded(tower, side, schema, own)
    if table.num_columns == 1:  # the ids alone: nothing was said
        return before
    said = _says_something(table, tower, schema)
    if said.all() and ids == known:  # nothing of before is left; vectors stay where they are
        return _encoded(tower, side, schema, table)
    codes = known.encode(ids.ids)
    stated = np.flatnonzero((codes >= 0) & said).astype(np.int32)
    return before.replaced(codes[stated], _encoded(tower, side, schema, table.take(pa.array(stated))))


def _encoded(tower: TowerSpec, side: Side, schema: Schema, table: pa.Table) -> Features:
    nothing = Past.nothing(len(table))
    return encode(tower, side, schema, table, nothing)


def _says_something(table: pa.Table, tower: TowerSpec, schema: Schema) -> NDArray[np.bool_]:
    """(n,): whether any column that the tower reads, beside the ids, has a value."""
    said = np.zeros(len(table), bool)
    for feature in tower.features:
        own = feature.name not in (schema.query_name, schema.candidate_name)
        if own and feature.name in table.column_names:
            said |= table[feature.name].is_valid().to_numpy()
    return said


def _check_times(query: TowerSpec, data: Interactions) -> None:
    if query.reads_time and data.timestamps is None:
        where = next(feature.where for feature in query.features if feature.reads_time)
        raise DataError(
            f"{where}: SelfAttention(time={query.reads_time!r}) needs a timestamp column; name it in "
            "Interactions.from_table(timestamp=…)"
        )


def _order(data: Interactions, queries: NDArray[np.int32]) -> NDArray[np.intp] | slice:
    """What sorts rows by query, then time; nothing of rows that are so already, in codes that are still their own."""
    if data.in_order and queries is data.query_codes:
        return slice(None)
    return np.lexsort((queries,) if data.timestamps is None else (data.timestamps, queries))


def _codes(of_id: NDArray[np.int32], rows: NDArray[np.int32], data: Interactions, side: str) -> NDArray[np.int32]:
    if np.array_equal(of_id, np.arange(len(of_id))):
        return rows
    codes = of_id[rows]
    if len(codes) and codes.min() < 0:
        row = int(np.argmin(codes))
        ids = data.query_ids if side == "query" else data.candidate_ids
        raise DataError(
            f"row {row}: {side} {ids.ids[int(rows[row])].as_py()!r} is not in the vocabulary of this model's training; "
            "model.extend(train) lets it join, or leave such rows out"
        )
    return codes
