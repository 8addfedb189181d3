"""Tables from anywhere: Arrow, pandas, polars, a dict of columns, CSV and Parquet files.

Types are made plain on the way in (dictionaries decoded, large and view strings to strings), and every fault is a
`DataError` that names the table or file, the column and the row (counting from 0; a CSV message counts lines from 1).
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recs_core.data.vocabulary import as_array, as_ids, decode_dictionary, describe_type, one_line, some
from recs_core.errors import DataError
from recs_core.paths import local

_CSV_SUFFIXES = (".csv", ".csv.gz", ".tsv", ".tsv.gz")
_PARQUET_SUFFIXES = (".parquet", ".pq")
# No leading zeros or plus sign, so that text → integer → text gives the text back.
_INTEGER = r"^(0|-?[1-9][0-9]{0,18})$"


@dataclass(frozen=True)
class Source:
    """A table as read. `where` names it in messages; `text` says that its ids come from a CSV, which has no types."""

    table: pa.Table
    where: str
    text: bool = False

    def column(self, name: str) -> str:
        """What a message calls one of its columns."""
        return f"{self.where}, column {name!r}"


def read(source: Any, role: str, *, ids: tuple[str, ...]) -> Source:
    """`source` as a table that has at least a row and the id columns `ids`; `role` names it if it is not a file."""
    if isinstance(source, (str, Path)):
        path = local(source, role, DataError)
        found = Source(_read_file(path, ids), str(path), text=path.name.lower().endswith(_CSV_SUFFIXES))
    else:
        where = f"{role} table"
        found = Source(_as_table(source, where), where)
    _check_columns(found, ids)
    if len(found.table) == 0:
        raise DataError(f"{found.where}: empty table")
    return Source(plain(found.table), found.where, found.text)


def plain(table: pa.Table) -> pa.Table:
    """The table with dictionaries decoded and strings and lists of the usual kind, without pandas' unnamed index."""
    names = [name for name in table.column_names if not name.startswith("__index_level_")]
    return pa.table({name: _plain_column(table[name]) for name in names})


def id_column(source: Source, name: str) -> pa.Array:
    """The ids of a column: int64 or strings; always strings where the source is text, for `settle_ids` to decide."""
    where = source.column(name)
    ids = as_ids(source.table[name], where)
    if source.text:
        empty = pc.index(ids, "").as_py()
        if empty >= 0:
            raise DataError(f"{where}: null id in row {empty} (counting from 0)")
    return ids


def settle_ids(name: str, *columns: tuple[Source, pa.Array]) -> list[pa.Array]:
    """Columns of the same ids, in one type. Text follows the typed columns; text alone is int64 if all of it can be."""
    typed = [(source, ids.type) for source, ids in columns if not source.text]
    for source, kind in typed[1:]:
        if kind != typed[0][1]:
            raise DataError(
                f"column {name!r} holds {describe_type(typed[0][1])} in {typed[0][0].where} "
                f"but {describe_type(kind)} in {source.where}: convert one of them"
            )
    if typed:
        return [_follow(source, ids, typed[0][1], name) for source, ids in columns]
    integers = [_integers(ids) for _, ids in columns]
    if all(column is not None for column in integers):
        return integers
    return [ids for _, ids in columns]


def seconds(values: Any, where: str) -> NDArray[np.float64]:
    """(n,) seconds since 1970-01-01 UTC from numbers (already seconds), dates, timestamps or ISO 8601 strings.

    A time without a zone is taken as UTC. Raises `DataError` for nulls, NaN, infinities, and text that is no time.
    """
    array = as_array(values, where)
    if array.null_count:
        raise DataError(f"{where}: no timestamp in row {pc.index(array.is_null(), True).as_py()} (counting from 0)")
    kind = _plain_type(array.type)
    if pa.types.is_string(kind):
        array = _parse_times(array.cast(kind), where)
        kind = array.type
    if pa.types.is_date(kind):
        array = array.cast(pa.timestamp("s"))
        kind = array.type
    if pa.types.is_timestamp(kind):
        per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[kind.unit]
        return np.asarray(array.cast(pa.int64())) / per_second
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        raise DataError(f"{where}: timestamps must be seconds, dates, timestamps or ISO strings, got {kind}")
    result = np.asarray(array).astype(np.float64)
    if not np.isfinite(result).all():
        row = int(np.flatnonzero(~np.isfinite(result))[0])
        raise DataError(f"{where}: {result[row]} is no timestamp, in row {row} (counting from 0)")
    return result


def _read_file(path: Path, ids: tuple[str, ...]) -> pa.Table:
    name = path.name.lower()
    if not name.endswith(_CSV_SUFFIXES + _PARQUET_SUFFIXES):
        known = ", ".join(_CSV_SUFFIXES + _PARQUET_SUFFIXES)
        raise DataError(f"{path}: unknown kind of file, expected one that ends in {known}")
    if not path.exists():
        raise DataError(f"{path}: no such file")
    if name.endswith(_CSV_SUFFIXES):
        return _read_csv(path, "\t" if ".tsv" in name else ",", ids)
    import pyarrow.parquet as pq  # here, as CSV below: a twentieth of a second that serving a bundle does without

    try:
        return pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: not a readable Parquet file ({one_line(error)})") from None


def _read_csv(path: Path, delimiter: str, ids: tuple[str, ...]) -> pa.Table:
    import pyarrow.csv as pacsv

    try:
        data = gzip.decompress(path.read_bytes()) if path.name.lower().endswith(".gz") else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: not a readable file ({one_line(error)})") from None
    if not data.strip():
        raise DataError(f"{path}: empty file")
    # One thread: only then does a message hold the line number.
    how = pacsv.ReadOptions(use_threads=False)
    types = pacsv.ConvertOptions(column_types=dict.fromkeys(ids, pa.string()))
    try:
        return pacsv.read_csv(pa.BufferReader(data), how, pacsv.ParseOptions(delimiter=delimiter), types)
    except pa.ArrowException as error:
        raise DataError(f"{path}: not a readable CSV file ({one_line(error)})") from None


def _as_table(source: Any, where: str) -> pa.Table:
    try:
        if isinstance(source, Mapping):
            return pa.table({name: as_array(column, f"{where}, column {name!r}") for name, column in source.items()})
        if isinstance(source, pa.Table):
            return source
        if hasattr(source, "__arrow_c_stream__"):
            return pa.table(source)
        if isinstance(source, pa.RecordBatch):
            return pa.Table.from_batches([source])
    except (pa.ArrowException, TypeError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{where}: cannot be read as a table ({one_line(error)})") from None
    raise DataError(
        f"{where}: expected a pyarrow, pandas (2.2 or newer) or polars table, a dict of columns, "
        f"or the path of a CSV or Parquet file, got {type(source).__name__}"
    )


def _check_columns(source: Source, needed: tuple[str, ...]) -> None:
    present = source.table.column_names
    missing = [name for name in needed if name not in present]
    if missing:
        raise DataError(f"{source.where}: no column {some(missing)}; it has {some(present, 20)}")
    repeated = sorted({name for name in present if present.count(name) > 1})
    if repeated:
        raise DataError(f"{source.where}: column {some(repeated)} appears more than once")


def _plain_column(column: pa.ChunkedArray) -> pa.ChunkedArray:
    target = _plain_type(column.type)
    if pa.types.is_dictionary(column.type):
        return pa.chunked_array([decode_dictionary(chunk).cast(target) for chunk in column.chunks], target)
    return column if column.type == target else column.cast(target)


def _plain_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(kind):
        return _plain_type(kind.value_type)
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.list_(_plain_type(kind.value_type))
    return kind


def _integers(ids: pa.Array) -> pa.Array | None:
    if not pc.all(pc.match_substring_regex(ids, _INTEGER)).as_py():
        return None
    try:
        return ids.cast(pa.int64())
    except pa.ArrowInvalid:  # nineteen digits that are too many
        return None


def _follow(source: Source, ids: pa.Array, kind: pa.DataType, name: str) -> pa.Array:
    if ids.type == kind:
        return ids
    integers = _integers(ids)
    if integers is None:
        odd = ids.filter(pc.invert(pc.match_substring_regex(ids, _INTEGER)))
        hold = f"the other table's ids are integers, but these hold {some(odd.to_pylist())}"
        raise DataError(f"{source.column(name)}: {hold}")
    return integers


def _parse_times(text: pa.Array, where: str) -> pa.Array:
    zoned = len(text) > 0 and pc.match_substring_regex(text.slice(0, 1), r"(Z|[+-]\d\d:?\d\d)$")[0].as_py()
    kind = pa.timestamp("us", "UTC") if zoned else pa.timestamp("us")
    try:
        return text.cast(kind)
    except pa.ArrowInvalid:
        row = _first_failure(text, kind)
        raise DataError(
            f"{where}: {text[row].as_py()!r} is no time such as 2011-11-10 or 2011-11-10T08:26:00, "
            f"or not of the same form as the rest, in row {row} (counting from 0)"
        ) from None


def _first_failure(text: pa.Array, kind: pa.DataType) -> int:
    good, bad = 0, len(text)  # the first `good` rows can be cast, the first `bad` cannot
    while bad - good > 1:
        middle = (good + bad) // 2
        try:
            text.slice(good, middle - good).cast(kind)
            good = middle
        except pa.ArrowInvalid:
            bad = middle
    return good
