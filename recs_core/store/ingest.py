"""Parquet files → a store, out of core."""

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recs_core.contract.errors import DataError
from recs_core.contract.messages import some
from recs_core.data.interactions import HEAVIEST, LIGHTEST, Interactions, side_of
from recs_core.storage.paths import local
from recs_core.storage.tensors import DTYPES
from recs_core.store.duck import Rows, column
from recs_core.store.layout import COLUMNS, Names, check_target, open_store, write
from recs_core.tables import parquet_parts, readers
from recs_core.tables.memory import give_back
from recs_core.tables.readers import Source
from recs_core.tables.times import EARLIEST, LATEST, PER_SECOND, Unit, check_unit

ROW_BYTES = 120
"""Of disk for each row while it is ingested, at most, as measured on random codes: coded, sorted, and in the store."""

_MEMORY = re.compile(r"\d+(\.\d+)?\s*[KMGT]i?B", re.IGNORECASE)


def ingest(
    source: str | Path,
    *,
    to: str | Path,
    query: str,
    candidate: str,
    timestamp: str | None = None,
    weight: str | None = None,
    queries: Any = None,
    candidates: Any = None,
    context: Sequence[str] = (),
    unit: Unit | None = None,
    min_per_query: int = 0,
    min_per_candidate: int = 0,
    memory: str = "4GB",
) -> Interactions:
    """Write the rows of Parquet files to a store, and open it: `Interactions` whose rows are a memory map.

    The store holds what `Interactions.from_table(source, …).filter(min_per_query=, min_per_candidate=)` would: the same
    ids in the same order of first appearance, the same side tables, and the rows sorted by query, then time. So a model
    trains alike on both, batch for batch; only the mean and spread of a `Clock`'s ages, sums over all rows in their
    order, may differ in the last bit.

    `source`: a Parquet file, a folder of them, or a pattern such as `events/*.parquet`; only the columns named are
    read. `to`: the folder, new or a store, which is replaced once the new one is whole. `query`, `candidate`,
    `timestamp`, `weight`, `unit`: as in `Interactions.from_table`, but times are numbers, dates or timestamps.
    `queries`, `candidates`: side tables, of any kind that `from_table` reads, held in memory. `context`: columns of the
    rows that features read. `min_per_query`, `min_per_candidate`: as in `Interactions.filter`. `memory`: the most that
    rows take of it, as in "4GB"; what is beyond is spilled to disk beside `to`.

    Raises `DataError` naming file, column and row, and where the disk has not enough room; `MissingExtra` without
    DuckDB; `BundleError` where `to` holds anything but a store. Then nothing is written, and nothing left behind.
    """
    folder, path = local(to, "ingest, to", DataError), local(source, "ingest", DataError)
    names = Names(query, candidate, timestamp, weight)
    check_target(folder)
    if not isinstance(memory, str) or not _MEMORY.fullmatch(memory):
        raise DataError(f"ingest: memory is a size such as '4GB', got {memory!r}")
    if readers.is_csv(path) and not path.is_dir():
        raise DataError(
            f"{path}: ingest reads Parquet files; write it as one, or train on it as it is: recs train {path}"
        )
    files = parquet_parts.files_of(path)
    schema = parquet_parts.schema_of(files)
    columns = _columns(schema, files[0], names, unit)
    _check_names(schema, files[0], names, context)
    sides = {
        "query": _side_table(queries, query, "queries"),
        "candidate": _side_table(candidates, candidate, "candidates"),
    }
    with _beside(folder) as own, Rows(files, columns, context, own, memory) as rows:
        _check_space(own, sum(pq.read_metadata(file).num_rows for file in files))
        _check_rows(rows, files, names)
        rows.code(min_per_query, min_per_candidate)
        tables = {}
        for role, name, least in (("query", query, min_per_query), ("candidate", candidate, min_per_candidate)):
            ids = rows.ids(role)
            if not len(ids):
                raise DataError(
                    f"ingest: no row is left with min_per_query={min_per_query}, min_per_candidate={min_per_candidate}"
                )
            table = _side(Source(pa.table({name: ids}), str(path)), name, sides[role], names)
            tables[role] = table.slice(0, len(ids)) if least else table
        give_back()  # before the sort, which takes all that it may
        number, arrays, kept = _written(rows, own, context)
        write(folder, names, arrays, number, tables["query"], tables["candidate"], kept)
    return open_store(folder, verify=False)


def _columns(schema: pa.Schema, file: Path, names: Names, unit: Unit | None) -> dict[str, str]:
    """Role → SQL. Raises `DataError` for a column that is not there, or of another kind than its role takes."""
    check_unit(unit, "ingest")
    made = {}
    for role, name in (("query", names.query), ("candidate", names.candidate)):
        kind = _type(schema, file, name, role)
        if pa.types.is_integer(kind):
            made[role] = f"{column(name)}::BIGINT"
        elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
            made[role] = column(name)
        else:
            raise DataError(f"{file}, column {name!r}: ids must be strings or integers, got {kind}")
    if names.timestamp is not None:
        made["time"] = _seconds(_type(schema, file, names.timestamp, "timestamp"), file, names.timestamp, unit)
    elif unit is not None:
        raise DataError(f"unit={unit!r} is for the timestamp column: name it with timestamp=…")
    if names.weight is not None:
        kind = _type(schema, file, names.weight, "weight")
        if not _is_number(kind):
            raise DataError(f"{file}, column {names.weight!r}: weights are numbers, got {kind}")
        made["weight"] = f"{column(names.weight)}::DOUBLE"
    return made


def _seconds(kind: pa.DataType, file: Path, name: str, unit: Unit | None) -> str:
    """SQL of a time in seconds since 1970, rounded as `recs_core.tables.times` rounds it."""
    if _is_number(kind):
        return f"({column(name)}::DOUBLE / {PER_SECOND[unit or 's']})"
    if unit is not None:
        raise DataError(
            f"{file}, column {name!r}: unit={unit!r} is for numbers, but the column holds {kind}: leave unit out"
        )
    if pa.types.is_date(kind):
        return f"(epoch_ms({column(name)}::TIMESTAMP)::DOUBLE / 1000)"
    if pa.types.is_timestamp(kind):
        return f"(epoch_{kind.unit}({column(name)})::DOUBLE / {PER_SECOND[kind.unit]})"
    raise DataError(
        f"{file}, column {name!r}: ingest takes times as numbers, dates or timestamps, got {kind}; "
        "write them as timestamps, or read the files with Interactions.from_table"
    )


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _type(schema: pa.Schema, file: Path, name: Any, role: str) -> pa.DataType:
    if not isinstance(name, str):
        raise DataError(f"{role} is the name of a column, got {name!r}")
    if name not in schema.names:
        raise DataError(f"{file}: no column {name!r}; it has {some(schema.names, 20)}")
    return schema.field(name).type


def _check_names(schema: pa.Schema, file: Path, names: Names, context: Sequence[str]) -> None:
    used = [name for name in vars(names).values() if name is not None]
    if len({*used, *context}) < len(used) + len(context):
        raise DataError(f"ingest: each column has one role, got {[*used, *context]}")
    for name in context:
        _type(schema, file, name, "context")


def _check_space(folder: Path, rows: int) -> None:
    free, needed = shutil.disk_usage(folder).free, rows * ROW_BYTES
    if free < needed:
        raise DataError(
            f"ingest: {rows:,} rows may take {needed / 1e6:,.1f} MB of disk while they are sorted, {folder.parent} has "
            f"{free / 1e6:,.1f} MB; free some, or name a folder on another disk with to= (--to)"
        )


def _check_rows(rows: Rows, files: Sequence[Path], names: Names) -> None:
    """Raise `DataError` naming file, column and row for a value that is missing or none of its kind."""
    conditions = [
        ("query", names.query, "query IS NULL", "null id"),
        ("candidate", names.candidate, "candidate IS NULL", "null id"),
        ("time", names.timestamp, "time IS NULL", "no timestamp"),
        ("time", names.timestamp, f"NOT (time >= {EARLIEST} AND time < {LATEST})", "no time from 1900 to 2199"),
        ("weight", names.weight, "weight IS NULL", "no weight"),
        (
            "weight",
            names.weight,
            f"NOT (weight = 0 OR weight BETWEEN {LIGHTEST} AND {HEAVIEST})",
            f"a weight that is not 0 or from {LIGHTEST:g} to {HEAVIEST:g}",
        ),
    ]
    asked = [each for each in conditions if each[1] is not None]
    if rows.first(" OR ".join(f"({condition})" for _, _, condition, _ in asked)) is None:
        return
    for role, name, condition, what in asked:
        found = rows.first(condition)
        if found is not None:
            file, row, values = found
            value = values[list(rows.columns).index(role)]
            said = what if value is None else f"{value!r} is {what}"
            raise DataError(f"{files[file]}, column {name!r}: {said} in row {row:,} (counting from 0); drop or mend it")


def _side_table(given: Any, name: str, role: str) -> Source | None:
    if given is None:
        return None
    if isinstance(given, (list, tuple)):
        raise DataError(f"ingest: {role} is a table or a file of its own; write the columns {some(list(given))} to one")
    return readers.read(given, role, ids=(name,))


def _side(source: Source, name: str, features: Source | None, names: Names) -> pa.Table:
    role = "queries" if name == names.query else "candidates"
    _, codes, table = side_of(source, name, features, role, [])
    assert len(codes) == len(source.table)
    return table


def _written(rows: Rows, folder: Path, context: Sequence[str]) -> tuple[int, Mapping[str, Path], Path | None]:
    """The number of sorted rows, a file of numbers for each of their columns, and the Arrow file of the others."""
    number, kept = 0, folder / "context.arrow" if context else None
    paths = {name: folder / f"{name}.numbers" for name in COLUMNS if name in rows.columns}
    with contextlib.ExitStack() as stack:
        outs = {name: stack.enter_context(path.open("wb")) for name, path in paths.items()}
        writer = None
        for batch in rows.sorted():
            number += len(batch)
            for name, out in outs.items():
                out.write(np.ascontiguousarray(batch.column(name).to_numpy(), DTYPES[COLUMNS[name]]).data)
            if kept is not None:
                rest = batch.select(list(context))
                if writer is None:
                    writer = stack.enter_context(pa.ipc.new_file(str(kept), rest.schema))
                writer.write_batch(rest)
    return number, paths, kept


@contextlib.contextmanager
def _beside(folder: Path) -> Iterator[Path]:
    """A folder of ours beside another, gone afterwards."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        own = tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent)
    except OSError as error:
        raise DataError(f"{folder.parent}: cannot be written, {error.strerror or error}") from None
    try:
        yield Path(own)
    finally:
        shutil.rmtree(own, ignore_errors=True)
