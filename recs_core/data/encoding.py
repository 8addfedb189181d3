"""Columns → codes: what the towers read, with every code a row of a whole table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recs_core.contract.batch import Codes, Features, Past, Side
from recs_core.contract.errors import DataError
from recs_core.contract.features import Encoded, Feature, check_encoded
from recs_core.contract.plain import one_chunk
from recs_core.contract.towers import TowerSpec
from recs_core.data.schema import Schema, column, naming


def encode(tower: TowerSpec, side: Side, schema: Schema, table: pa.Table, history: Past | None = None) -> Features:
    """Features of every row of a side table, but for those that are of a request (`encode_context`). `history`: what
    each row did, for features that read the past.

    Ids that training never saw get an OOV row; past candidates without a row of their own are left out. Raises
    `DataError` for a missing column, a wrong type, or a number that is missing.
    """
    found: dict[str, Encoded] = {}
    ids = None if schema.id_name(side) not in table.column_names else table[schema.id_name(side)].combine_chunks()
    for feature in tower.features:
        if side == "query" and feature.name in schema.context:
            continue
        if feature.reads_past:
            if history is None:
                raise DataError(f"{feature.where} needs the query's past candidates; pass history=")
            found |= past(tower, schema, history)
            continue
        values = column(table, side, feature)
        found[feature.name] = _encoded(feature, side, schema, values, values if ids is None else ids)
    return features_of(tower, table.num_rows, found)


def encode_context(tower: TowerSpec, schema: Schema, table: pa.Table) -> Features:
    """What the query tower reads of each row of a table of context, of the columns that it has. Raises as `encode`."""
    found = {
        feature.name: _encoded(feature, "query", schema, one_chunk(table[feature.name]), None)
        for feature in tower.features
        if feature.name in schema.context and feature.name in table.column_names
    }
    return features_of(tower, table.num_rows, found)


def _encoded(feature: Feature, side: Side, schema: Schema, values: pa.Array, ids: pa.Array | None) -> Encoded:
    """A column as its feature reads it; a row that it refuses is named as of `naming`."""
    with naming(feature, side, ids):
        encoded = feature.encode(values, schema.known(side, feature))
    rows = None if feature.table_name is None else schema.table_rows[feature.table_name]
    check_encoded(feature, encoded, len(values), rows)
    return encoded


def past(tower: TowerSpec, schema: Schema, history: Past) -> dict[str, Codes]:
    """What the features that read the past make of it."""
    return {
        feature.name: feature.encode_past(history, schema.candidate_rows(feature.table_name))
        for feature in tower.features
        if feature.reads_past and feature.table_name is not None
    }


def blank(tower: TowerSpec, size: int) -> Features:
    """Features of `size` rows of which nothing is known."""
    return features_of(tower, size, {feature.name: feature.blank(size) for feature in tower.features})


def features_of(tower: TowerSpec, size: int, encoded: Mapping[str, Encoded]) -> Features:
    """Encoded features by what they are, codes or numbers; those of the tower that are not there are left out."""
    codes: dict[str, Codes] = {}
    dense: dict[str, NDArray[np.floating[Any]]] = {}
    for feature in (feature for feature in tower.features if feature.name in encoded):
        (dense if feature.kind == "dense" else codes)[feature.name] = encoded[feature.name]  # type: ignore[assignment]
    return Features(size, codes, dense)
