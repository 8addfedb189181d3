"""Parquet files: what cannot be read is an error of ours, and what is written is there as a whole or not at all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from recs_core.contract.errors import DataError
from recs_core.contract.messages import one_line
from recs_core.storage.whole import replace, why_unread


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """What cannot be read of a Parquet file within is a `DataError`."""
    try:
        if path.is_dir():
            raise DataError(f"{path}: is a folder, not a Parquet file; name a file in it")
        yield
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise DataError(f"{path}: {why_unread(error)}") from None
        raise DataError(f"{path}: not a readable Parquet file ({one_line(error)})") from None


def write(path: Path, tables: Iterable[pa.Table], schema: pa.Schema) -> None:
    """One file of this schema from tables, each a row group. Raises `DataError` where it cannot be written."""

    def fill(temporary: Path) -> None:
        with pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
            for table in tables:
                writer.write_table(table)

    replace(path, fill)
