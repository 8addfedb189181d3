"""Columns → codes: what the towers read, with every code a row of a whole table."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recs_core.contract.batch import Codes, Features, Ragged
from recs_core.contract.errors import DataError
from recs_core.contract.features import Bag, Categorical, Feature, History, Numeric, Text
from recs_core.contract.towers import TowerSpec
from recs_core.data.schema import Schema, Side, column, numbers
from recs_core.tables.columns import as_lists, as_values, describe_type

_WORDS = re.compile(r"\w+")


def encode(tower: TowerSpec, side: Side, schema: Schema, table: pa.Table, history: Ragged | None = None) -> Features:
    """Features of every row of a side table. `history`: candidate codes a row, for `History` features.

    Ids that training never saw get an OOV row; past candidates without a row of their own are left out. Raises
    `DataError` for a missing column, a wrong type, or a number that is missing.
    """
    codes: dict[str, Codes] = {}
    dense: dict[str, NDArray[np.floating]] = {}
    for feature in tower.features:
        if isinstance(feature, Numeric):
            mean, deviation = schema.numeric[f"{side}/{feature.name}"]
            ids = table.column(schema.query_name if side == "query" else schema.candidate_name).combine_chunks()
            dense[feature.name] = (numbers(side, feature, table, ids) - mean) / deviation
        elif isinstance(feature, History):
            if history is None:
                raise DataError(f"History({feature.name!r}) needs the query's past candidates; pass history=")
            codes[feature.name] = history_rows(feature, schema, history)
        else:
            codes[feature.name] = _codes(feature, side, schema, column(table, side, feature))
    return Features(table.num_rows, codes, dense)


def table_row(schema: Schema, name: str, values: pa.Array, where: str) -> NDArray[np.int32]:
    """Row of each value in table `name`; a null or unseen value gets an OOV row."""
    oov = schema.oov_rows(name)
    ids, vocabulary = as_values(values, where), schema.vocabularies[name]
    known = ids.drop_null()
    if len(known) and len(vocabulary) and known.type != vocabulary.ids.type:
        raise DataError(
            f"{where} learnt {describe_type(vocabulary.ids.type)} (such as {vocabulary.ids[0].as_py()!r}), but got "
            f"{describe_type(known.type)} (such as {known[0].as_py()!r}): convert them"
        )
    rows = np.full(len(ids), -1, np.int32)
    given = ids.is_valid().to_numpy(zero_copy_only=False)
    rows[given] = vocabulary.encode(known)
    unseen = np.flatnonzero(rows < 0)
    rows = rows + np.int32(oov)
    rows[unseen] = [zlib.crc32(str(ids[int(i)].as_py()).encode()) % oov for i in unseen] if oov > 1 else 0
    return rows


def history_rows(feature: History, schema: Schema, history: Ragged) -> Ragged:
    """Candidate codes → rows of the history's table, the latest `max_length` of each query."""
    rows = schema.candidate_rows(feature.table_name)[history.values]
    return Ragged(rows, history.offsets).without(rows < 0).latest(feature.max_length)


def _codes(feature: Feature, side: Side, schema: Schema, values: pa.Array) -> Codes:
    where = f"{type(feature).__name__}({feature.name!r})"
    assert feature.table_name is not None
    if isinstance(feature, Categorical):
        return table_row(schema, feature.table_name, values, where)
    if isinstance(feature, Bag):
        ids, offsets = as_lists(values, where)
        return Ragged(table_row(schema, feature.table_name, ids, where), offsets)
    assert isinstance(feature, Text)
    return hash_words(as_values(values, where, "text").to_pylist(), feature)


def hash_words(texts: Sequence[str | None], feature: Text) -> Ragged:
    """Lower-cased words and their n-grams (joined by one space), each to row crc32(utf-8) mod `buckets`."""
    known: dict[str | None, list[int]] = {None: []}
    for text in texts:
        if text not in known:
            words = _WORDS.findall(str(text).lower())
            grams = [
                " ".join(words[i : i + n]) for n in range(1, feature.ngrams + 1) for i in range(len(words) - n + 1)
            ]
            known[text] = [zlib.crc32(gram.encode()) % feature.buckets for gram in grams]
    rows = [known[text] for text in texts]
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int32)
    return Ragged(np.array([row for many in rows for row in many], np.int32), offsets)
