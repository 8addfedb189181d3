"""The ids that join: of queries, of candidates, and of every table that looks ids up."""

from __future__ import annotations

from dataclasses import replace

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
    queries = schema.queries.grown(sides["query"].known.ids)
    candidates = schema.candidates.grown(sides["candidate"].known.ids)
    vocabularies = dict(schema.vocabularies)
    for side in sides.values():
        for feature in side.tower.features:
            if feature.has_vocabulary and feature.table_name is not None:
                known = vocabularies[feature.table_name]
                vocabularies[feature.table_name] = _grown(known, feature, side, sides["candidate"], schema, data)
    more = {name: len(grown) - len(schema.vocabularies[name]) for name, grown in vocabularies.items()}
    return replace(
        schema,
        queries=queries,
        candidates=candidates,
        vocabularies=vocabularies,
        table_rows={name: rows + more.get(name, 0) for name, rows in schema.table_rows.items()},
    )


def _grown(
    known: Vocabulary,
    feature: Feature,
    side: TrainingSide,
    candidates: TrainingSide,
    schema: Schema,
    data: Interactions,
) -> Vocabulary:
    """The vocabulary with what a feature finds in the data; a side table without the feature's column says nothing."""
    if feature.reads_past:
        return known.grown(feature.ids(candidates.trained))
    if side.side == "query" and feature.name in schema.context:
        return known.grown(feature.ids(of_rows(feature, data)))
    if feature.name != side.id_name and feature.name not in side.table.column_names:
        return known
    return known.grown(feature.ids(side.values(feature, data)))
