"""Arrow's many types, made plain: what comes from pandas, polars, Parquet or Arrow itself reads alike afterwards.

Dictionaries and runs are decoded; large and view strings become strings, half floats floats; every kind of list becomes
a list, a map a list of (key, value); an extension type becomes its storage; all of it inside lists, structs and unions
too, but half floats in lists, which are vectors, stay what they are. Arrow can take, filter and join every plain type,
and cannot those it began with.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recs_core.contract.batch import offsets_of
from recs_core.contract.errors import DataError
from recs_core.contract.messages import one_line, shown

NO_COLUMNS = (str, bytes, bytearray, set, frozenset, Mapping)


def as_array(values: Any, where: str) -> pa.Array:
    """Anything list-like as one plain Arrow array, a matrix as one list per row; `DataError`, which `where` begins, for
    what is no column: a string is no list of its letters, and a set has no order.
    """
    if isinstance(values, NO_COLUMNS) or not hasattr(values, "__iter__"):
        raise DataError(f"{where}: expected one value per row, got {shown(values)}; write a list")
    try:
        if isinstance(values, np.ndarray) and values.ndim == 2:
            values = list(values)
        if hasattr(values, "__arrow_c_stream__"):
            values = pa.chunked_array(values)
        if isinstance(values, np.ndarray) and values.dtype.kind == "M":
            values = _of_a_unit(values)
        if isinstance(values, pa.ChunkedArray):
            values = plain_column(values)
            values = one_chunk(values) if values.num_chunks else pa.nulls(0, values.type)
        return plain(values if isinstance(values, pa.Array) else pa.array(values, from_pandas=True))
    except OverflowError:
        raise DataError(f"{where}: an integer does not fit int64: use strings") from None
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise DataError(f"{where}: not one column of one type ({one_line(error)})") from None


def _of_a_unit(times: NDArray[np.datetime64]) -> NDArray[np.datetime64]:
    """NumPy's times in a unit that Arrow has: of minutes and hours it has none."""
    unit = np.datetime_data(times.dtype)[0]
    return times if unit in ("D", "s", "ms", "us", "ns") else times.astype("datetime64[s]")


def plain_table(table: pa.Table, coded: Collection[str] = ()) -> pa.Table:
    """The table with plain columns, without pandas' unnamed index; of the columns `coded` dictionaries stay."""
    names = [name for name in table.column_names if not name.startswith("__index_level_")]
    kept = [name for name in names if name in coded and pa.types.is_dictionary(table[name].type)]
    return pa.table({name: table[name] if name in kept else plain_column(table[name]) for name in names})


def plain_column(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """`plain` of every chunk. Strings of more than 2 GiB stay large ones."""
    kind = column.type
    if is_plain(kind):
        return column
    chunks = [plain(chunk) for chunk in column.chunks] or [plain(pa.nulls(0, kind))]
    if len({chunk.type for chunk in chunks}) > 1:
        return column
    return pa.chunked_array(chunks)


def one_chunk(column: pa.ChunkedArray) -> pa.Array:
    """The column end to end; a chunk that is alone is not copied, as Arrow's `combine_chunks` would."""
    if column.num_chunks == 1:
        return column.chunk(0)
    whole = column.combine_chunks()
    return whole if isinstance(whole, pa.Array) else column.cast(pa.large_string()).combine_chunks()  # beyond 2 GiB


def is_plain(kind: pa.DataType) -> bool:
    """Whether `plain` leaves an array of this type as it is."""
    if pa.types.is_list(kind):
        return is_plain(kind.value_type) or pa.types.is_float16(kind.value_type)
    if pa.types.is_struct(kind) or pa.types.is_union(kind):
        return all(is_plain(kind.field(i).type) for i in range(kind.num_fields))
    return not (
        isinstance(kind, pa.BaseExtensionType)
        or pa.types.is_nested(kind)
        or pa.types.is_dictionary(kind)
        or pa.types.is_run_end_encoded(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_string_view(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_binary_view(kind)
        or pa.types.is_float16(kind)
    )


def plain(array: pa.Array) -> pa.Array:
    """The same values in a plain type; the array itself if it has one."""
    kind = array.type
    if is_plain(kind):
        return array
    if isinstance(kind, pa.BaseExtensionType):
        return plain(array.storage)
    if pa.types.is_dictionary(kind):
        return plain(array.dictionary).take(array.indices)
    if pa.types.is_run_end_encoded(kind):
        return plain(array.values).take(pa.array(_runs(array)))
    if pa.types.is_struct(kind):
        return _struct(array)
    if pa.types.is_union(kind):
        return _union(array)
    if pa.types.is_map(kind):
        return plain(array.cast(pa.list_(pa.struct([("key", kind.key_type), ("value", kind.item_type)]))))
    if pa.types.is_nested(kind):
        return _list(array)
    if pa.types.is_float16(kind):
        return _float(array)
    return _text(array)


def list_lengths(array: pa.Array) -> NDArray[np.int64]:
    """(n,) how many values each list holds, 0 for null."""
    return np.asarray(pc.fill_null(pc.list_value_length(array), 0)).astype(np.int64)


def list_array(offsets: NDArray[np.integer], values: pa.Array, mask: pa.Array | None = None) -> pa.Array:
    """Lists, of which the i-th is values[offsets[i]:offsets[i + 1]]; null where `mask` is true."""
    made = pa.ListArray if offsets.dtype == np.int32 else pa.LargeListArray
    return made.from_arrays(pa.array(offsets), values, mask=mask)


def union_kinds(array: pa.UnionArray) -> NDArray[np.int8]:
    """(n,) the type code of each value; `array.type_codes` of a slice begins where the whole array does."""
    return np.frombuffer(array.buffers()[1], np.int8)[array.offset : array.offset + len(array)]


def union_places(array: pa.UnionArray) -> NDArray[np.int32]:
    """(n,) where each value of a dense union stands in the field of its kind."""
    return np.frombuffer(array.buffers()[2], np.int32)[array.offset : array.offset + len(array)]


def _runs(array: pa.RunEndEncodedArray) -> NDArray[np.int64]:
    """The run that each value is in; the ends do not know of a slice, its offset does."""
    place = np.arange(array.offset, array.offset + len(array))
    return np.searchsorted(np.asarray(array.run_ends), place, side="right")


def _struct(array: pa.StructArray) -> pa.Array:
    fields = [plain(values) for values in array.flatten()]
    names = [array.type.field(i).name for i in range(len(fields))]
    return pa.StructArray.from_arrays(fields, names, mask=array.is_null())


def _union(array: pa.UnionArray) -> pa.Array:
    kind = array.type
    names = [kind.field(i).name for i in range(kind.num_fields)]
    children = [plain(array.field(i)) for i in range(kind.num_fields)]
    which = pa.array(union_kinds(array))
    if kind.mode == "sparse":
        return pa.UnionArray.from_sparse(which, children, names, kind.type_codes)
    return pa.UnionArray.from_dense(which, pa.array(union_places(array)), children, names, kind.type_codes)


def _list(array: pa.Array) -> pa.Array:
    values, offsets = array.flatten(), offsets_of(list_lengths(array))
    if not pa.types.is_float16(values.type):
        values = plain(values)
    return list_array(offsets, values, array.is_null() if array.null_count else None)


def _float(array: pa.Array) -> pa.Array:
    halves = np.frombuffer(array.buffers()[1] or b"", np.float16)[array.offset : array.offset + len(array)]
    return pa.array(halves.astype(np.float32), mask=array.is_null().to_numpy(zero_copy_only=False))


def _text(array: pa.Array) -> pa.Array:
    kind = array.type
    binary = pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)
    try:
        return array.cast(pa.binary() if binary else pa.string())
    except pa.ArrowInvalid:  # more than 2 GiB
        return array.cast(pa.large_binary() if binary else pa.large_string())
