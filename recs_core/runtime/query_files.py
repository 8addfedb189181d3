"""The file of queries that a job answers: Parquet, of which one row group is held at once, or CSV, read whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recs_core.contract.columns import as_values
from recs_core.contract.errors import DataError
from recs_core.contract.vocabulary import Vocabulary
from recs_core.runtime.answering import id_column
from recs_core.tables import readers
from recs_core.tables.csv_files import Dialect, read_csv
from recs_core.tables.parquet_files import reading


@dataclass(frozen=True)
class QueryFile:
    """`rows` query ids in the column `column` of a file, whose columns are `columns`; `table`: all of it, read already
    where it is a CSV file."""

    path: Path
    column: str
    columns: tuple[str, ...]
    rows: int
    parquet: pq.ParquetFile | None = None
    table: pa.Table | None = None

    def ids(self, piece: pa.Table) -> pa.Array:
        """The ids of a piece."""
        return piece[self.column].combine_chunks()

    def pieces(self, size: int, more: Sequence[str] = ()) -> Iterator[pa.Table]:
        """The ids and the columns `more`, at most `size` rows at a time, in order. Raises `DataError` naming the column
        and the row of an id that cannot be used."""
        for table in self._groups([self.column, *(name for name in more if name != self.column)]):
            for start in range(0, len(table), size):
                yield table.slice(start, size)

    def _groups(self, names: list[str]) -> Iterator[pa.Table]:
        if self.parquet is None:
            assert self.table is not None
            yield self.table.select(names)
            return
        seen = 0
        for group in range(self.parquet.num_row_groups):
            with reading(self.path):
                table = self.parquet.read_row_group(group, names).select(names)
            ids = as_values(table[self.column], f"{self.path}, column {self.column!r}")
            if ids.null_count:
                row = seen + int(np.argmin(ids.is_valid().to_numpy(zero_copy_only=False)))
                raise DataError(
                    f"{self.path}, column {self.column!r}: null id in row {row} (counting from 0); leave the row out"
                )
            seen += len(ids)
            yield table.set_column(0, self.column, ids)


def opened(path: Path, queries: Vocabulary, column: str | None, dialect: Dialect) -> QueryFile:
    """The file at `path`. `queries`: the ids that the model knows, whose type those of a CSV file take. `column`: by
    default the one named as theirs, or the only one. `dialect`: how a CSV file is written.

    Raises `DataError` for a file, a column or ids that cannot be used.
    """
    if readers.is_csv(path):
        return _csv(path, queries, column, dialect)
    if dialect:
        raise DataError(f"{path}: encoding, delimiter and null_values are for CSV files; leave them out")
    with reading(path):
        parquet = pq.ParquetFile(path)
    names = parquet.schema_arrow.names
    chosen = id_column(names, queries.name, column, path)
    return QueryFile(path, chosen, tuple(names), parquet.metadata.num_rows, parquet=parquet)


def _csv(path: Path, queries: Vocabulary, column: str | None, dialect: Dialect) -> QueryFile:
    wanted = column or queries.name
    table = read_csv(path, (wanted,), dialect)
    chosen = id_column(table.column_names, queries.name, column, path)
    if chosen != wanted:
        _refuse_an_id_as_name(chosen, queries, path)
        table = read_csv(path, (chosen,), dialect)  # again, with its ids as they are written
    source = readers.Source(table, str(path), text=True)
    ids = readers.follow(source, readers.id_column(source, chosen), queries.ids.type, chosen, "the model's ids")
    table = table.set_column(table.column_names.index(chosen), chosen, ids)
    return QueryFile(path, chosen, tuple(table.column_names), len(ids), table=table)


def _refuse_an_id_as_name(name: str, queries: Vocabulary, path: Path) -> None:
    """A file of ids alone: the first would be lost."""
    first = pa.array([name])
    if pa.types.is_integer(queries.ids.type):
        first = readers.integers(first)
    if first is not None and queries.encode(first)[0] >= 0:
        raise DataError(f"{path}: its first line, {name}, is a query id; write the column's name above it")
