"""A table in one Parquet file, in a folder of them, or in those that a pattern such as `2026-*.parquet` names."""

from __future__ import annotations

from collections.abc import Sequence
from glob import glob, has_magic
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from recs_core.contract.errors import DataError
from recs_core.contract.messages import some
from recs_core.tables.memory import give_back
from recs_core.tables.parquet_files import reading

SUFFIXES = (".parquet", ".pq")


def names_several(path: Path) -> bool:
    """Whether the path is a folder, or a pattern and no file of that very name."""
    return path.is_dir() or (has_magic(str(path)) and not path.exists())


def read(path: Path, coded: Sequence[str] = ()) -> pa.Table:
    """All rows, file after file by name, text of the columns `coded` as dictionaries.

    Raises `DataError` where there is no file or one cannot be read, and naming file and column for files that differ in
    columns or types.
    """
    files = files_of(path)
    tables = [_read(file, coded) for file in files]
    for file, table in zip(files[1:], tables[1:], strict=True):
        _check_alike(file, table.schema, files[0], tables[0].schema)
    return pa.concat_tables(table.select(tables[0].column_names) for table in tables)


def files_of(path: Path) -> list[Path]:
    """The Parquet files of a path, by name; in a folder hidden ones and those that begin with `_`, which writers leave
    behind, are none. Raises `DataError` where there is none."""
    if not names_several(path):
        return [path]
    found = list(path.iterdir()) if path.is_dir() else [Path(name) for name in glob(str(path))]
    files = sorted(file for file in found if _is_part(file))
    if files:
        return files
    others = some(sorted(file.name for file in found)) if found else "nothing"
    what = "a folder" if path.is_dir() else "a pattern"
    raise DataError(f"{path}: {what} that names no Parquet file (*.parquet, *.pq), but {others}")


def schema_of(files: Sequence[Path]) -> pa.Schema:
    """The columns of the first file, which the others have too. Raises `DataError` as `read`, whose rows are not."""
    schemas = []
    for file in files:
        with reading(file):
            schemas.append(pq.read_schema(file))
        _check_alike(file, schemas[-1], files[0], schemas[0])
    return schemas[0]


def _is_part(file: Path) -> bool:
    return file.suffix.lower() in SUFFIXES and not file.name.startswith((".", "_")) and file.is_file()


def _read(file: Path, coded: Sequence[str]) -> pa.Table:
    with reading(file):
        schema = pq.read_schema(file)
        there = [name for name in coded if name in schema.names and not pa.types.is_nested(schema.field(name).type)]
        # Without a buffer, which would hold the file beside what is read of it.
        with pq.ParquetFile(file, read_dictionary=there, pre_buffer=False) as opened:
            groups = [opened.schema_arrow.empty_table()]
            for number in range(opened.num_row_groups):
                groups.append(opened.read_row_group(number))
                give_back()  # what it was unpacked from: half as large again
            return pa.concat_tables(groups)


def _check_alike(file: Path, found: pa.Schema, first: Path, due: pa.Schema) -> None:
    for names, others, of in ((due.names, found.names, file), (found.names, due.names, first)):
        missing = [name for name in names if name not in others]
        if missing:
            raise DataError(f"{of}: no column {some(missing)}, which {first if of is file else file} has")
    for name in due.names:
        if found.field(name).type != due.field(name).type:
            kind, other = found.field(name).type, due.field(name).type
            raise DataError(f"{file}: column {name!r} holds {kind}, in {first} {other}: write them alike")
