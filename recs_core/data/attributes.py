"""What a model keeps of the candidates' side table, so that answers can be filtered by it: row i is candidate i."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recs_core.contract.errors import DataError
from recs_core.contract.vocabulary import Vocabulary
from recs_core.data.interactions import Interactions


def is_attribute(kind: pa.DataType) -> bool:
    """Whether a filter can be made of a column of this type: one number, string, truth value or time in each row."""
    of = pa.types
    return (
        of.is_null(kind)
        or of.is_boolean(kind)
        or of.is_integer(kind)
        or of.is_floating(kind)
        or of.is_decimal(kind)
        or of.is_string(kind)
        or of.is_large_string(kind)
        or of.is_date(kind)
        or of.is_time(kind)
        or of.is_timestamp(kind)
        or of.is_duration(kind)
    )


def attributes_of(data: Interactions, corpus: Vocabulary, before: pa.Table | None = None) -> pa.Table:
    """The id column and every other that `is_attribute`, a row per id of `corpus`, in its order.

    `before`: what earlier fits kept. Later data wins: the row of a candidate that it says something of is replaced, in
    the columns that it has; all else stays. Nothing is copied where the data has the corpus as it is. Raises
    `DataError` for a column that was of another type before, which cannot hold both.
    """
    table = attribute_columns(data.candidates)
    if before is None:
        same = data.candidate_ids == corpus
        return table if same else table.take(pa.array(data.candidate_ids.encode(corpus.ids)))
    codes = corpus.encode(data.candidate_ids.ids)
    stated = np.flatnonzero((codes >= 0) & _says_something(table))
    if not len(stated):
        return before
    return stated_of(before, corpus, codes[stated], table.take(pa.array(stated)))


def attribute_columns(table: pa.Table) -> pa.Table:
    """The id column, which is the first, and every other that `is_attribute`."""
    first, *others = table.column_names
    return table.select([first, *(name for name in others if is_attribute(table.schema.field(name).type))])


def stated_of(before: pa.Table, corpus: Vocabulary, codes: NDArray[np.integer], later: pa.Table) -> pa.Table:
    """`before`, whose rows are the first of `corpus`, grown to all of it, and row codes[i] replaced by row i of `later`
    in the columns that this has. Raises `DataError` for a column that was of another type before."""
    known, size = len(before), len(corpus)
    kept = np.full(size, -1, np.int64)
    kept[:known] = np.arange(known)
    rows = kept.copy()
    rows[codes] = known + np.arange(len(codes))
    own = pa.array(kept, mask=kept < 0)
    taken = pa.array(rows, mask=rows < 0)
    columns: dict[str, pa.ChunkedArray] = {before.column_names[0]: pa.chunked_array([corpus.ids])}
    for name in before.column_names[1:]:
        columns[name] = before[name] if size == known else before[name].take(own)
    for name in later.column_names[1:]:
        columns[name] = _joined(name, before, later).take(taken)
    return pa.table(columns)


def _says_something(table: pa.Table) -> NDArray[np.bool_]:
    """(n,): whether any column beside the id has a value."""
    said = np.zeros(len(table), bool)
    for column in table.columns[1:]:
        said |= column.is_valid().to_numpy()
    return said


def _joined(name: str, before: pa.Table, later: pa.Table) -> pa.ChunkedArray:
    """The column of both, one below the other; null where the first has none."""
    new = later.select([name])
    old = before.select([name]) if name in before.column_names else pa.table({name: pa.nulls(len(before))})
    try:
        return pa.concat_tables([old, new], promote_options="permissive")[name]
    except pa.ArrowException:
        was, now = old.schema.field(name).type, new.schema.field(name).type
        raise DataError(
            f"candidates, column {name!r}: {now} here and {was} in an earlier fit; give it the type it had"
        ) from None
