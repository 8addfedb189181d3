"""A fitted model and interactions that it may not know the ids of → the model that knows them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recs_core.contract.batch import Features, Side
from recs_core.contract.errors import DataError, UnsupportedFeature
from recs_core.contract.towers import SIDES, TowerSpec
from recs_core.data.catalog import Catalog
from recs_core.data.interactions import Interactions
from recs_core.data.schema import Schema
from recs_core.fitted import Fitted, Progress
from recs_core.growth.entries import grown_catalog
from recs_core.growth.rows import grown_state, grown_weights, mean_row
from recs_core.growth.vocabularies import grown_schema

Array = NDArray[np.floating]


def grown(fitted: Fitted, data: Interactions) -> Fitted:
    """`fitted` with the ids and rows of `data`: in vocabularies, tables, the bias, the optimizer's slots, counts, what
    queries took, and attributes. Every weight and code that was there is as it was, bit for bit.

    A new row starts at the mean of its table's, one of an id that stood in the catalog without a row of its own at the
    OOV row that it was read from; a bias starts at 0, and slots as those of a row that was never moved. A run of `fit`
    that was not finished is closed, as it was over other tables.

    Raises `UnsupportedFeature` where a tower is a user's own module, `DataError` for what is no `Interactions`, names
    its columns otherwise, has ids of another type, or lacks what a tower reads of a new id.
    """
    refuse_natives(fitted, "extend")
    if not isinstance(data, Interactions):
        got = type(data).__name__
        raise DataError(f"extend: expected Interactions, got {got}; make them with Interactions.from_table")
    fitted = fitted.as_arrays()
    declared, before = fitted.declared, fitted.catalog
    towers = declared.query, declared.candidate
    schema = grown_schema(before.schema, *towers, data)
    catalog = grown_catalog(before, schema, *towers, data)
    below = {name: _started(fitted, schema, name) for name in schema.vocabularies}
    catalog = _with_own_rows(catalog, before, towers, below, fitted)
    added = len(schema.candidates) - len(before.schema.candidates)
    if "task/bias" in fitted.weights:
        below["task/bias"] = np.zeros(added, fitted.weights["task/bias"].dtype)
    below = {name: rows for name, rows in below.items() if len(rows)}
    return with_rows_below(replace(fitted, catalog=catalog), below)


def with_rows_below(fitted: Fitted, below: dict[str, Array]) -> Fitted:
    """`fitted` with rows below its weights, by name, and its run closed."""
    fitted = fitted.as_arrays()
    progress = fitted.progress
    if progress is not None:
        state = progress.state and grown_state(progress.state, fitted.declared.optimizer, below)
        position = replace(progress.position, step=0, loss_sum=0.0, weight_sum=0.0)
        progress = Progress(position, progress.history, None, state)
    return replace(fitted, weights=grown_weights(fitted.weights, below), progress=progress)


def refuse_natives(fitted: Fitted, asks: str) -> None:
    """Raise `UnsupportedFeature` where a tower is a user's own module: its tables are not ours to grow."""
    for side, native in fitted.natives.items():
        raise UnsupportedFeature(
            f"{asks}: the {side} tower is {native}, whose own tables have a row for each id that it was built for; "
            "build a larger module, fill its rows, and fit it"
        )


def _started(fitted: Fitted, schema: Schema, table: str) -> Array:
    """(new rows, dim) of a table, at the mean of those that stand for ids."""
    before, weight = fitted.catalog.schema, fitted.weights[table]
    more = schema.table_rows[table] - before.table_rows[table]
    return np.repeat(mean_row(weight, before.first_row(table))[None], more, axis=0)


def _with_own_rows(
    catalog: Catalog, before: Catalog, towers: tuple[TowerSpec, TowerSpec], below: dict[str, Array], fitted: Fitted
) -> Catalog:
    """The catalog in which ids that were there without a row are read from the new one, which starts as the row that
    they were read from."""
    sides: dict[Side, Features] = {"query": catalog.query, "candidate": catalog.candidate}
    for side, table, name, codes, rows in _gained(catalog, before, towers):
        old = np.asarray(sides[side].codes[name])
        below[table][rows - before.schema.table_rows[table]] = fitted.weights[table][old[codes]]
        moved = old.copy()
        moved[codes] = rows
        sides[side] = sides[side].beside(Features(sides[side].size, {name: moved}))
    return replace(catalog, query=sides["query"], candidate=sides["candidate"])


def _gained(
    catalog: Catalog, before: Catalog, towers: tuple[TowerSpec, TowerSpec]
) -> Iterator[tuple[Side, str, str, NDArray[np.integer], NDArray[np.integer]]]:
    """Side, table and feature of ids that were in the catalog and have a row only now; their codes, and these rows."""
    schema, had = catalog.schema, before.schema
    for side, tower in zip(SIDES, towers, strict=True):
        ids: Any = had.queries if side == "query" else had.candidates
        features = before.query if side == "query" else before.candidate
        for feature in tower.features:
            table = feature.table_name
            if (
                table is None
                or table not in schema.vocabularies
                or feature.name != schema.id_name(side)
                or feature.kind != "one"
            ):
                continue
            without = np.flatnonzero(np.asarray(features.codes[feature.name]) < had.first_row(table))
            found = schema.vocabularies[table].encode(ids.decode(without))
            has = np.flatnonzero(found >= 0)
            if len(has):
                yield side, table, feature.name, without[has], found[has] + schema.first_row(table)
