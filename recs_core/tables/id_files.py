"""Ids in an Arrow IPC file: one column `id`, `large_string` or int64; position = code."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from recs_core.contract.columns import TEXT
from recs_core.contract.errors import BundleError, DataError
from recs_core.contract.vocabulary import Vocabulary
from recs_core.tables import arrow_files

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer


def content(vocabulary: Vocabulary) -> pa.Buffer:
    """The bytes of the file."""
    return arrow_files.content(pa.record_batch([vocabulary.ids], names=["id"]))


def read(data: Buffer, path: Path, name: str) -> Vocabulary:
    """The vocabulary, a view of `data`; of `string`, which older bundles have, the offsets are copied.

    Raises `BundleError` for anything but such a file.
    """

    def check(schema: pa.Schema) -> None:
        if schema.names != ["id"] or schema.field("id").type not in (TEXT, pa.string(), pa.int64()):
            columns = ", ".join(map(str, schema))
            raise BundleError(f"{path}: needs one column, id, of strings or int64; it has {columns}")

    ids = arrow_files.read(data, path, check).column(0)
    try:
        return Vocabulary(ids, name)
    except DataError as error:
        raise BundleError.damaged(path, str(error)) from error
