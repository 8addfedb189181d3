"""The ids that join: of queries, of candidates, and of every table that looks ids up."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa

from recs_core.contract.batch import Side
from recs_core.contract.features import Feature
from recs_core.contract.towers import TowerSpec
from recs_core.contract.vocabulary import Vocabulary
from recs_core.data.context import columns_of
from recs_core.data.interactions import Interactions
from recs_core.data.schema import Schema, TrainingSide, check_names, of_rows, sides_of


def grown_schema(schema: Schema, query: TowerSpec, candidate: TowerSpec, data: Interactions) -> Schema:
    """The schema with all ids that `data` brings behind those it has. What features learnt otherwise, means and edges
    and lengths, stays as it is, and so does a table without a vocabulary.

    Who joins is as in `Schema.learn`. Raises `DataError` for data that names its id columns otherwise, has ids of
    another type, or lacks a column that is read of each row.
    """
    check_names(schema, data)
    columns_of(data, schema)
    sides = sides_of(query, candidate, data)
    had: dict[Side, Vocabulary] = {"query": schema.queries, "candidate": schema.candidates}
    joins = {side: each.known.ids for side, each in sides.items()}
    has = {side: vocabulary.grown(joins[side]) for side, vocabulary in had.items()}
    vocabularies = dict(schema.vocabularies)
    for name, side in sides.items():
        for feature in side.tower.features:
            table = feature.table_name
            values = _values(feature, side, sides["candidate"], schema, data)
            if not feature.has_vocabulary or table is None or values is None:
                continue
            of: Side = "candidate" if feature.reads_past else name
            ids, known = feature.ids(values), vocabularies[table]
            same = ids.equals(joins[of]) and (known is has[of] or known == had[of])
            vocabularies[table] = has[of] if same else known.grown(ids)  # looked up once, and held once
    more = {name: len(grown) - len(schema.vocabularies[name]) for name, grown in vocabularies.items()}
    return replace(
        schema,
        queries=has["query"],
        candidates=has["candidate"],
        vocabularies=vocabularies,
        table_rows={name: rows + more.get(name, 0) for name, rows in schema.table_rows.items()},
    )


def _values(
    feature: Feature, side: TrainingSide, candidates: TrainingSide, schema: Schema, data: Interactions
) -> pa.Array | None:
    """What a feature finds in the data; None where a side table lacks its column and so says nothing."""
    if feature.reads_past:
        return candidates.trained
    if side.side == "query" and feature.name in schema.context:
        return of_rows(feature, data)
    if feature.name != side.id_name and feature.name not in side.table.column_names:
        return None
    return side.values(feature, data)
