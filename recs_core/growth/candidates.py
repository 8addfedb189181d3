"""Candidates that change, come and retire: a new catalog, and no weight moves but the bias, which gets longer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recs_core.contract.batch import Features
from recs_core.contract.errors import DataError, about
from recs_core.contract.messages import some
from recs_core.contract.towers import TowerSpec
from recs_core.contract.vocabulary import refuse_duplicates
from recs_core.data.attributes import attribute_columns, stated_of
from recs_core.data.catalog import Catalog
from recs_core.data.encoding import encode
from recs_core.data.ids import id_list, known_codes
from recs_core.data.schema import Schema
from recs_core.fitted import Fitted
from recs_core.growth.extension import with_rows_below
from recs_core.tables import readers

Codes = NDArray[np.int32]


def changed(tower: TowerSpec, catalog: Catalog, candidates: Any, retire: Any) -> tuple[Catalog, Codes]:
    """The catalog after an update, and the codes whose features it stated, ascending. Arguments and errors as in
    `update_candidates`; `tower`: the candidate tower's spec."""
    codes, gone = np.zeros(0, np.int32), _retired(retire, catalog.schema)
    if candidates is not None:
        with about("candidates"):
            catalog, codes = _with_table(tower, catalog, candidates, gone)
    retired = np.union1d(np.setdiff1d(catalog.retired, codes), gone).astype(np.int32)
    if len(retired) == len(catalog.schema.candidates):
        raise DataError(
            f"retire: all {len(retired):,} candidates would be retired, and none be left to recommend; leave some out",
            "retire",
        )
    return replace(catalog, retired=retired), np.sort(codes)


def _with_table(tower: TowerSpec, catalog: Catalog, candidates: Any, gone: Codes) -> tuple[Catalog, Codes]:
    """The catalog with what the table says, and the codes of its candidates, in its order; `gone`: those to retire."""
    schema = catalog.schema
    table = _read(candidates, schema)
    _refuse_unread(tower, table, catalog)
    ids = table[schema.candidate_name].combine_chunks()
    _refuse_both(ids, gone, schema)
    corpus = schema.candidates.grown(ids)
    _refuse_unreadable(tower, corpus.ids[len(schema.candidates) :], table, schema)
    codes = corpus.encode(ids)
    return _stated(catalog, replace(schema, candidates=corpus), tower, table, codes), codes


def with_catalog(fitted: Fitted, catalog: Catalog) -> Fitted:
    """`fitted` with a catalog that may have more candidates; their biases start at 0."""
    added = len(catalog.schema.candidates) - len(fitted.catalog.schema.candidates)
    fitted = replace(fitted, catalog=catalog)
    if not added or "task/bias" not in fitted.weights:
        return fitted
    return with_rows_below(fitted, {"task/bias": np.zeros(added, fitted.weights["task/bias"].dtype)})


def _read(candidates: Any, schema: Schema) -> pa.Table:
    """The table, its ids first, in the type of the model's. Raises `DataError`."""
    name = schema.candidate_name
    source = readers.read(candidates, "candidates", ids=(name,))
    where, kind = source.column(name), schema.candidates.ids.type
    ids = readers.id_column(source, name)
    if source.text:
        ids = readers.follow(source, ids, kind, name, "the model's ids")
    ids = id_list(ids, where, schema.candidates)
    refuse_duplicates(ids, where)
    rest = source.table.drop_columns([name])
    return pa.table([ids, *rest.columns], names=[name, *rest.column_names])


@about("retire")
def _retired(retire: Any, schema: Schema) -> Codes:
    return np.unique(known_codes(retire, "retire", schema.candidates))


def _refuse_both(ids: pa.Array, gone: Codes, schema: Schema) -> None:
    """Raise `DataError` for a candidate that is to change and to retire."""
    both = np.intersect1d(schema.candidates.encode(ids), gone)
    if len(both):
        named = some(schema.candidates.decode(both).to_pylist())
        raise DataError(
            f"retire: {named} stands in the table of candidates too, which would bring it back; choose one", "retire"
        )


def _refuse_unread(tower: TowerSpec, table: pa.Table, catalog: Catalog) -> None:
    """Raise `DataError` for a column that would change nothing: neither a feature nor an attribute."""
    known = list(dict.fromkeys([*(feature.name for feature in tower.features), *catalog.attributes.column_names]))
    unread = [name for name in table.column_names if name not in {catalog.schema.candidate_name, *known}]
    if unread:
        raise DataError(
            f"candidates: the model neither reads {some(unread)} nor keeps it as an attribute; it knows "
            f"{some(known, 20)}; leave it out"
        )


def _refuse_unreadable(tower: TowerSpec, new: pa.Array, table: pa.Table, schema: Schema) -> None:
    """Raise `DataError` for a new candidate of which the tower would know nothing, or not all that it reads."""
    own = [feature for feature in tower.features if feature.name != schema.candidate_name]
    if len(new) and not own:
        raise DataError(
            f"candidates: {some(new.to_pylist())} cannot be added, as the candidate tower reads nothing but ids: "
            "model.extend(interactions) with a row of each gives it a row in the table"
        )
    missing = [feature.where for feature in own if feature.name not in table.column_names]
    if len(new) and missing:
        raise DataError(
            f"candidates: {some(new.to_pylist())} new to the model, for which {some(missing)} needs a column that is "
            f"not there; there are {some(table.column_names, 20)}; add it"
        )


def _stated(catalog: Catalog, schema: Schema, tower: TowerSpec, table: pa.Table, codes: Codes) -> Catalog:
    """The catalog over the grown corpus of `schema`, with what the table says of candidates `codes`."""
    added = len(schema.candidates) - catalog.candidate.size
    stated = [feature for feature in tower.features if feature.name in table.column_names]
    features = encode(replace(tower, features=tuple(stated)), "candidate", schema, table) if stated else None
    return replace(
        catalog,
        schema=schema,
        candidate=_replaced(catalog.candidate, tower, added, codes, features),
        counts=np.concatenate([catalog.counts, np.zeros(added, np.int64)]),
        attributes=stated_of(catalog.attributes, schema.candidates, codes, attribute_columns(table)),
    )


def _replaced(features: Features, tower: TowerSpec, added: int, codes: Codes, stated: Features | None) -> Features:
    """The corpus' features with `added` blank rows below, and those `stated` put in at `codes`."""
    blank = {feature.name: feature.blank(added) for feature in tower.features}
    below = Features(
        added,
        {name: blank[name] for name in features.codes},  # type: ignore[misc]
        {name: blank[name] for name in features.dense},  # type: ignore[misc]
    )
    grown = features.followed_by(below) if added else features
    if stated is None:
        return grown
    names = {*stated.codes, *stated.dense}
    return grown.beside(grown.only(names).replaced(codes, stated))
