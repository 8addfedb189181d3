"""Columns in an Arrow IPC file: one record batch, not compressed, read as a view of what it is mapped from."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from recs_core.contract.errors import BundleError
from recs_core.contract.messages import one_line

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer

_MAGIC = b"ARROW1\0\0"
_COMPRESSION = 3  # the field of RecordBatch in Arrow's Message.fbs that names a codec


def content(batch: pa.RecordBatch) -> pa.Buffer:
    """The bytes of the file."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return sink.getvalue()


def read(data: Buffer, path: Path, check: Callable[[pa.Schema], None]) -> pa.RecordBatch:
    """The record batch, a view of `data`. `check`: raises for columns that are none of ours, before any is read.

    Raises `BundleError` for anything but such a file, and what `check` does.
    """
    buffer = pa.py_buffer(data)
    if bytes(buffer[: len(_MAGIC)]) != _MAGIC:
        raise BundleError(f"{path}: is no Arrow file")
    try:
        messages = pa.ipc.MessageReader.open_stream(pa.BufferReader(buffer.slice(len(_MAGIC))))
        schema = pa.ipc.read_schema(messages.read_next_message())
        check(schema)
        message = messages.read_next_message()
        if message.type != "record batch" or _field(message.metadata.to_pybytes(), _COMPRESSION):
            raise BundleError(f"{path}: is compressed, or not one record batch; a bundle's tables are plain")
        batch = pa.ipc.read_record_batch(message, schema)
        batch.validate(full=True)
        return batch
    except (pa.ArrowException, StopIteration, EOFError, OSError, struct.error) as error:
        raise BundleError.damaged(path, one_line(error) or "it ends too early") from error


def _field(message: bytes, number: int) -> bool:
    """Whether the header table of an Arrow message (a flatbuffer) has this field.

    pyarrow does not tell before it has decompressed, and a small file can hold a very large compressed one.
    """

    def slot(table: int, field: int) -> int:
        vtable = table - struct.unpack_from("<i", message, table)[0]
        place = 4 + 2 * field
        if place >= struct.unpack_from("<H", message, vtable)[0]:
            return 0
        return int(struct.unpack_from("<H", message, vtable + place)[0])

    root = struct.unpack_from("<I", message, 0)[0]
    header = root + slot(root, 2)
    return slot(header + struct.unpack_from("<I", message, header)[0], number) != 0
