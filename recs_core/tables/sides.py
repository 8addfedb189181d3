"""Side tables: one row per id, whichever table they were read off."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recs_core.contract.batch import offsets_of
from recs_core.contract.errors import DataError
from recs_core.contract.messages import some
from recs_core.contract.plain import list_array, one_chunk
from recs_core.tables.readers import Source

BLOCK = 1 << 14
"""Vectors put in place together."""


def of_rows(source: Source, id_name: str, columns: Sequence[str], role: str) -> Source:
    """The side table that columns of the interactions' own rows make. Raises `DataError` for one that is not there."""
    present = source.table.column_names
    for name in columns:
        if not isinstance(name, str) or name not in present:
            raise DataError(f"{role}: {source.where} has no column {name!r}; it has {some(present, 20)}")
    return Source(source.table.select(list(dict.fromkeys((id_name, *columns)))), source.where, source.text)


def one_row_per_id(
    source: Source, ids: pa.Array, id_name: str, role: str, of_rows: Sequence[str] = ()
) -> tuple[pa.Array, pa.Table]:
    """The first row of each id, and its ids, where all rows of an id are equal.

    `ids`: those of `source`, in one type. `of_rows`: columns that tell of the interactions' rows, such as their time:
    where they differ they are left out. Raises `DataError` for any other that does, naming an id and both its values.
    """
    codes = ids.dictionary_encode().indices.to_numpy()
    _, firsts = np.unique(codes, return_index=True)
    if len(firsts) == len(codes):
        return ids, source.table
    table, first_of_row = source.table, firsts[codes]
    for name in table.column_names:
        if name == id_name:
            continue
        values = comparable(table[name])
        differs = np.flatnonzero(values != values[first_of_row])
        if not len(differs):
            continue
        if name in of_rows:
            table = table.drop_columns([name])
            continue
        row = int(differs[0])
        first, second = table[name][int(first_of_row[row])].as_py(), table[name][row].as_py()
        raise DataError(
            f"{source.column(name)}: {id_name} {ids[row].as_py()!r} has {first!r} in one row and {second!r} in "
            f"another; rows of one id must be equal: keep one of them, or name the interactions' own columns that are, "
            f"as {role}=['title'] (on the shell --{role} title)"
        )
    kept = pa.array(np.sort(firsts))
    return ids.take(kept), table.take(kept)


def taken(table: pa.Table, rows: NDArray[np.int64]) -> pa.Table:
    """The rows asked for, in that order, nulls where a number is −1.

    Arrow's `take` joins the chunks of a list column first. Vectors may be gigabytes, so they are put in place chunk by
    chunk where all are there and of one length.
    """
    if np.array_equal(rows, np.arange(len(table))):
        return table
    asked = pa.array(rows, mask=rows < 0)
    columns = {}
    for name in table.column_names:
        width = _width(table[name]) if (rows >= 0).all() else None
        columns[name] = table[name].take(asked) if width is None else _vectors_taken(table[name], rows, width)
    return pa.table(columns)


def _width(column: pa.ChunkedArray) -> int | None:
    """How many numbers each list has; None where it is no column of vectors of one length, nothing missing."""
    if not pa.types.is_list(column.type) or not pa.types.is_floating(column.type.value_type) or column.null_count:
        return None
    ends = pc.min_max(pc.list_value_length(column)).as_py()
    if ends["min"] != ends["max"] or not ends["max"] or any(chunk.flatten().null_count for chunk in column.chunks):
        return None
    return int(ends["max"])


def _vectors_taken(column: pa.ChunkedArray, rows: NDArray[np.int64], width: int) -> pa.Array:
    out = np.empty((len(rows), width), column.type.value_type.to_pandas_dtype())
    start = 0
    for chunk in column.chunks:
        vectors = chunk.flatten().to_numpy().reshape(-1, width)
        here = np.flatnonzero((rows >= start) & (rows < start + len(chunk)))
        for block in (here[at : at + BLOCK] for at in range(0, len(here), BLOCK)):
            out[block] = vectors[rows[block] - start]
        start += len(chunk)
    return list_array(offsets_of(np.full(len(rows), width)), pa.array(out.ravel()))


def comparable(column: pa.ChunkedArray) -> NDArray[np.int64]:
    """(n,) numbers that are equal where the values are; null equals null, NaN NaN, and −0.0 0.0."""
    array = one_chunk(column)
    if pa.types.is_floating(array.type):
        array = pc.add(array, 0.0)  # −0.0 becomes 0.0
    if pa.types.is_nested(array.type):  # which Arrow cannot hash
        array = pa.array([repr(value) for value in array.to_pylist()])
    return pc.dictionary_encode(array, null_encoding="encode").indices.to_numpy(zero_copy_only=False).astype(np.int64)
