"""Side tables: one row per id, whichever table they were read off."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recs_core.contract.errors import DataError
from recs_core.contract.messages import some
from recs_core.tables.readers import Source


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


def comparable(column: pa.ChunkedArray) -> NDArray[np.int64]:
    """(n,) numbers that are equal where the values are; null equals null, NaN NaN, and −0.0 0.0."""
    array = column.combine_chunks()
    if pa.types.is_floating(array.type):
        array = pc.add(array, 0.0)  # −0.0 becomes 0.0
    if pa.types.is_nested(array.type):  # which Arrow cannot hash
        array = pa.array([repr(value) for value in array.to_pylist()])
    if isinstance(array, pa.ChunkedArray):  # of strings beyond 2 GiB
        array = pa.concat_arrays([chunk.cast(pa.large_string()) for chunk in array.chunks])
    return pc.dictionary_encode(array, null_encoding="encode").indices.to_numpy(zero_copy_only=False).astype(np.int64)
