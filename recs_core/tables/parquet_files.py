"""Parquet files that are written: each is there as a whole or not at all, and nothing is replaced unasked."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from recs_core.contract.errors import DataError
from recs_core.contract.messages import one_line


def check_out(path: Path, what: str) -> None:
    """Raise `DataError` unless a file can be written at `path`, over an ordinary file at most. `what` goes into it, as
    in "the answers"."""
    if path.is_dir():
        raise DataError(f"{path}: is a folder; name the file of {what}")
    if path.exists() and not path.is_file():
        raise DataError(f"{path}: is no ordinary file, and would be replaced; name a file for {what}")
    above = next(folder for folder in path.absolute().parents if folder.exists())
    if not above.is_dir():
        raise DataError(f"{path}: {above} is a file, not a folder")
    if not os.access(above, os.W_OK | os.X_OK):
        raise DataError(f"{path}: nothing may be written in {above}")


def write(path: Path, tables: Iterable[pa.Table], schema: pa.Schema) -> None:
    """One file of this schema from tables, each a row group. Raises `DataError` where it cannot be written."""

    def fill(temporary: Path) -> None:
        with pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
            for table in tables:
                writer.write_table(table)

    replace(path, fill)


def replace(path: Path, fill: Callable[[Path], object]) -> None:
    """What `fill` writes at the path that it is given becomes the file at `path`, once all of it is on the disk.

    Raises `DataError` where it cannot be written; then nothing is left of it.
    """
    temporary = path.with_name(path.name + ".tmp")
    with writing(path):
        try:
            fill(temporary)
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """An `OSError` within is a `DataError` that names the file."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{path}: cannot be written, {error.strerror or one_line(error)}") from error
