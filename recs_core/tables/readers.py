"""Tables from anywhere: Arrow, pandas, polars, a dict of columns, CSV and Parquet files.

Types are made plain on the way in, and every fault is a `DataError` that names the table or file, the column and the
row (counting from 0; a CSV message counts lines from 1).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recs_core.contract.columns import as_ids, coded_ids, describe_type, first
from recs_core.contract.errors import DataError
from recs_core.contract.messages import one_line, some
from recs_core.contract.plain import as_array, plain_table
from recs_core.storage.paths import local
from recs_core.tables import csv_files
from recs_core.tables.csv_files import Dialect

_PARQUET_SUFFIXES = (".parquet", ".pq")
# No leading zeros or plus sign, so that no two ids become one; pandas writes integers with gaps as 12.0.
_INTEGER = r"^(0|-?[1-9][0-9]{0,18})(\.0+)?$"


@dataclass(frozen=True)
class Source:
    """A table as read. `where` names it in messages; `text` says that its ids come from a CSV, which has no types."""

    table: pa.Table
    where: str
    text: bool = False

    def column(self, name: str) -> str:
        """What a message calls one of its columns."""
        return f"{self.where}, column {name!r}"


def read(
    source: Any, role: str, *, ids: tuple[str, ...], dialect: Dialect | None = None, may_be_empty: bool = False
) -> Source:
    """`source` as a table that has the id columns `ids` and, unless it `may_be_empty`, a row; `role` names it if it is
    not a file. Columns are plain, but for id columns that are dictionaries.

    `dialect`: how it is written, if it is a CSV file.
    """
    if isinstance(source, (str, os.PathLike)):
        path = local(source, role, DataError)
        found = Source(_read_file(path, ids, dialect or Dialect()), str(path), text=is_csv(path))
    else:
        where = f"{role} table"
        found = Source(_as_table(source, where), where)
    _check_columns(found, ids)
    if len(found.table) == 0 and not (may_be_empty and found.table.num_columns):
        raise DataError(f"{found.where}: empty table")
    return Source(plain_table(found.table, coded=ids), found.where, found.text)


def refuse_unread(source: Any, argument: str, read: Sequence[str]) -> None:
    """Raise `DataError` for a column that nobody reads of what is written by hand, a mapping of columns: a slip of the
    pen. A table of another kind, or a file, may have more columns than are read."""
    unread = [name for name in source if name not in read] if isinstance(source, Mapping) else []
    if unread:
        reads = some(read, 20) or "no column"
        raise DataError(f"{argument}: this model does not read {some(unread)} there; it reads {reads}; leave it out")


def is_csv(source: Any) -> bool:
    """Whether `source` is the path of a CSV file, by its name."""
    text = os.fspath(source) if isinstance(source, (str, os.PathLike)) else None
    return isinstance(text, str) and text.lower().endswith(csv_files.SUFFIXES)


def id_column(source: Source, name: str) -> pa.Array:
    """The ids of a column: int64 or strings; always strings where the source is text, for `settle_ids` to decide."""
    return as_ids(_ids(source, name), source.column(name))


def coded_column(source: Source, name: str) -> tuple[pa.Array, NDArray[np.int32]]:
    """The distinct ids of a column as of `id_column`, by first appearance, and the (n,) place of each row's among
    them."""
    return coded_ids(_ids(source, name), source.column(name))


def _ids(source: Source, name: str) -> pa.ChunkedArray:
    column = source.table[name]
    if source.text and column.null_count:
        raise DataError(
            f"{source.column(name)}: null id in row {first(column.is_null())} (counting from 0), empty or a word such "
            "as NA, NULL, nan or \\N: drop or fill such rows, or pass null_values=() if these are real ids (on the "
            "shell --null '')"
        )
    return column


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
        return [follow(source, ids, typed[0][1], name) for source, ids in columns]
    whole = [integers(ids) for _, ids in columns]
    if all(column is not None for column in whole):
        return whole
    return [ids for _, ids in columns]


def _read_file(path: Path, ids: tuple[str, ...], dialect: Dialect) -> pa.Table:
    if is_csv(path) and path.is_file():
        return csv_files.read_csv(path, ids, dialect)
    if path.is_dir() or str(path).lower().endswith(_PARQUET_SUFFIXES):
        from recs_core.tables import parquet_parts  # here: a twentieth of a second that serving a bundle does without

        if path.exists() or parquet_parts.names_several(path):
            return parquet_parts.read(path, ids)
    elif not is_csv(path):
        known = ", ".join(csv_files.SUFFIXES + _PARQUET_SUFFIXES)
        what = "unknown kind of file" if path.exists() else "no such file"
        raise DataError(f"{path}: {what}; expected one that ends in {known}, or a folder of Parquet")
    raise DataError(f"{path}: no such file")


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
        raise DataError(f"{source.where}: no column {some(missing)}; it has {some(present, 20)}{_hint(source)}")
    repeated = sorted({name for name in present if present.count(name) > 1})
    if repeated:
        raise DataError(f"{source.where}: column {some(repeated)} appears more than once")


def _hint(source: Source) -> str:
    if not source.text:
        return ""
    if source.table.num_columns == 1:
        return (
            "; if that is several columns, say what lies between them, as delimiter=';' (on the shell --delimiter ';')"
        )
    if any(name.replace(".", "").isdigit() for name in source.table.column_names):
        return "; if that is a row, the file lacks its first line, the names of the columns: write it"
    return ""


def integers(ids: pa.Array) -> pa.Array | None:
    """Text as int64, where all of it is the one spelling of an integer; else None."""
    if not pc.all(pc.match_substring_regex(ids, _INTEGER)).as_py():
        return None
    try:
        return ids.cast(pa.int64())
    except pa.ArrowInvalid:
        pass
    try:
        return pc.replace_substring_regex(ids, r"\.0+$", "").cast(pa.int64())
    except pa.ArrowInvalid:  # nineteen digits that are too many
        return None


def follow(
    source: Source, ids: pa.Array, kind: pa.DataType, name: str, other: str = "the other table's ids"
) -> pa.Array:
    """Ids of text in another's type. Raises `DataError` where the `other` are integers, and not all of these, or
    strings, and these integers."""
    if ids.type == kind:
        return ids
    if pa.types.is_integer(ids.type):
        raise DataError(f"{source.column(name)}: {other} are strings, but these are integers: convert one of them")
    found = integers(ids)
    if found is None:
        odd = ids.filter(pc.invert(pc.match_substring_regex(ids, _INTEGER)))
        raise DataError(f"{source.column(name)}: {other} are integers, but these hold {some(odd.to_pylist())}")
    return found
