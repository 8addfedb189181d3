"""Rows of Parquet files, coded, filtered and sorted by DuckDB, which spills to disk what its memory does not hold."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import pyarrow as pa

from recs_core.contract.errors import DataError, MissingExtra
from recs_core.contract.messages import one_line

if TYPE_CHECKING:
    import duckdb


class Rows:
    """The rows of Parquet files in a database of its own, below `folder`.

    `columns`: role → SQL of it on a row, "query", "candidate", and of what there is of "time" and "weight".
    `context`: names of columns that stay as they are. A row's place is its file's among all, then its own in the file.
    """

    def __init__(
        self, files: Sequence[Path], columns: Mapping[str, str], context: Sequence[str], folder: Path, memory: str
    ) -> None:
        self.columns = columns
        self.context = {f"context_{number}": name for number, name in enumerate(context)}  # column here → its name
        self._others = [role for role in columns if role in ("time", "weight")]
        self._database = connection(folder, memory)
        listed = ", ".join(map(_text, map(str, files)))
        made = [f"{sql} AS {role}" for role, sql in columns.items()]
        made += [f"{column(name)} AS {here}" for here, name in self.context.items()]
        self._run(
            f"CREATE VIEW source AS SELECT {', '.join(made)}, (file_index::BIGINT << 40) + file_row_number AS place "
            f"FROM read_parquet([{listed}])"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._database.close()

    def first(self, condition: str) -> tuple[int, int, tuple[Any, ...]] | None:
        """File, row and values of the first row for which the condition on roles holds; None: of no row."""
        found = self._run(
            f"SELECT place, {', '.join(self.columns)} FROM source WHERE {condition} ORDER BY place LIMIT 1"
        )
        row = found.fetchone()
        return None if row is None else (row[0] >> 40, row[0] & ((1 << 40) - 1), row[1:])

    def code(self, min_per_query: int, min_per_candidate: int) -> None:
        """Number the ids of either side by first appearance, and keep those of the k-core."""
        for role in ("query", "candidate"):
            self._run(
                f"CREATE TABLE {role}_ids AS SELECT id, row_number() OVER (ORDER BY first) - 1 AS code FROM "
                f"(SELECT {role} AS id, min(place) AS first FROM source GROUP BY {role})"
            )
        rest = "".join(f", {name}" for name in (*self._others, *self.context))
        self._run(
            f"CREATE TABLE coded AS SELECT q.code::INTEGER AS query, c.code::INTEGER AS candidate, place{rest} "
            "FROM source s JOIN query_ids q ON s.query = q.id JOIN candidate_ids c ON s.candidate = c.id"
        )
        for role in ("query", "candidate"):
            self._run(f"CREATE TABLE {role}_left AS SELECT code FROM {role}_ids")
        least = {"query": min_per_query, "candidate": min_per_candidate}
        least = {role: minimum for role, minimum in least.items() if minimum}  # of 0 an id stays whose rows all go
        while any(minimum > 1 for minimum in least.values()) and self._drop_rare(least):
            pass
        for role in ("query", "candidate"):
            self._run(
                f"CREATE TABLE {role}_code AS SELECT code, (row_number() OVER (ORDER BY code) - 1)::INTEGER AS new "
                f"FROM {role}_left"
            )

    def _drop_rare(self, least: Mapping[str, int]) -> bool:
        """One round of the k-core; whether anything went."""
        before = self._left()
        for role in least:
            self._run(
                f"CREATE TABLE {role}_next AS SELECT {role} AS code FROM coded "
                "SEMI JOIN query_left ON coded.query = query_left.code "
                "SEMI JOIN candidate_left ON coded.candidate = candidate_left.code "
                f"GROUP BY {role} HAVING count(*) >= {least[role]}"
            )
        for role in least:
            self._run(f"DROP TABLE {role}_left")
            self._run(f"ALTER TABLE {role}_next RENAME TO {role}_left")
        return self._left() != before

    def _left(self) -> tuple[int, ...]:
        return tuple(self._number(f"SELECT count(*) FROM {role}_left") for role in ("query", "candidate"))

    def ids(self, role: str) -> pa.Array:
        """The ids that are left, by their codes."""
        with _ours():
            found = self._database.sql(f"SELECT id FROM {role}_ids JOIN {role}_code USING (code) ORDER BY new")
            return found.to_arrow_table()["id"].combine_chunks()

    def sorted(self) -> Iterator[pa.RecordBatch]:
        """The rows that are left, in new codes, by query, then time, then place: query, candidate, and what there is of
        time, weight and the context, each by its name."""
        context = [f"{here} AS {column(name)}" for here, name in self.context.items()]
        rest = "".join(f", {sql}" for sql in (*self._others, *context))
        by_time = ", time" if "time" in self._others else ""
        with _ours():
            found = self._database.sql(  # not `execute`, whose reader does not keep the order
                f"SELECT q.new AS query, c.new AS candidate{rest} FROM coded "
                "JOIN query_code q ON coded.query = q.code JOIN candidate_code c ON coded.candidate = c.code "
                f"ORDER BY q.new{by_time}, place"
            )
            yield from pa.RecordBatchReader.from_stream(found)

    def _number(self, sql: str) -> int:
        row = self._run(sql).fetchone()
        assert row is not None
        return int(row[0])

    def _run(self, sql: str) -> duckdb.DuckDBPyConnection:
        with _ours():
            return self._database.execute(sql)


def connection(folder: Path, memory: str) -> duckdb.DuckDBPyConnection:
    """A database in the folder that holds no more than `memory` of the machine's. Raises `MissingExtra`, and
    `DataError` for a memory that is no size."""
    try:
        import duckdb
    except ImportError:
        raise MissingExtra('ingest needs duckdb, not installed: `pip install "recs-core[ingest]"`') from None
    with _ours():
        database = duckdb.connect(str(folder / "rows.duckdb"))
        database.execute(f"SET memory_limit = {_text(memory)}")
        database.execute(f"SET temp_directory = {_text(str(folder / 'spilled'))}")
        database.execute("SET preserve_insertion_order = false")
        database.execute("SET enable_progress_bar = false")
    return database


@contextlib.contextmanager
def _ours() -> Iterator[None]:
    """DuckDB's errors as `DataError`, in one line."""
    import duckdb

    try:
        yield
    except duckdb.OutOfMemoryException as error:
        if "max_temp_directory_size" in str(error):  # how DuckDB says that a disk is full
            raise DataError(
                f"ingest: the disk is full, of what is written while rows are sorted: {one_line(error)}; free some, "
                "or name a store on another disk"
            ) from None
        raise DataError(f"ingest: {one_line(error)}; give it more, as in memory='8GB' (--memory 8GB)") from None
    except duckdb.Error as error:
        raise DataError(f"ingest: {one_line(error)}") from None


def column(name: str) -> str:
    """A column's name in SQL."""
    return '"' + name.replace('"', '""') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
