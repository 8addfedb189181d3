"""SHA-256 of a column, straight from Arrow's buffers: no Python object per value.

Equal for equal values of one plain type (`recs_core.contract.plain`), whatever the chunks, slices, offsets and indices,
and whatever lies under nulls.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recs_core.contract.plain import list_lengths, plain_column, union_kinds, union_places

Mask = NDArray[np.bool_]

BLOCK = 1 << 14
"""Rows looked at together: a mask has a byte for each value, and a column of vectors has many in each row."""


def column_digest(column: pa.Array | pa.ChunkedArray) -> bytes:
    """32 bytes that stand for the column's type, nulls and values."""
    if isinstance(column, pa.Array):
        column = pa.chunked_array([column])
    column = plain_column(column)
    parts = _Parts()
    for chunk in column.chunks or [pa.nulls(0, column.type)]:
        for start in range(0, max(len(chunk), 1), BLOCK):
            rows = chunk.slice(start, BLOCK)
            parts.array("", rows, np.ones(len(rows), bool))
    return parts.digest()


class _Parts:
    """A hash for each buffer of a column, fed chunk after chunk, so that chunks leave no trace."""

    def __init__(self) -> None:
        self._hashes: dict[str, Any] = {}

    def digest(self) -> bytes:
        sha = hashlib.sha256()
        for name in sorted(self._hashes):
            sha.update(f"{name}\0".encode() + self._hashes[name].digest())
        return sha.digest()

    def feed(self, name: str, data: Any) -> None:
        if name not in self._hashes:
            self._hashes[name] = hashlib.sha256()
        self._hashes[name].update(np.ascontiguousarray(data))

    def array(self, path: str, array: pa.Array, shown: Mask) -> None:
        """Feed the rows of a plain array; those not `shown` count as null, as a field's do where its struct is."""
        kind = array.type
        path = f"{path}/{_label(kind)}"
        shown = shown & _valid(array)
        self.feed(f"{path} valid", shown.view(np.uint8))
        if pa.types.is_null(kind):
            return
        if pa.types.is_struct(kind):
            for i, values in enumerate(array.flatten()):
                self.array(f"{path}.{i}", values, shown)
        elif pa.types.is_union(kind):
            self._union(path, array, shown)
        elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
            array = array if shown.all() else array.filter(pa.array(shown))
            self.feed(f"{path} lengths", list_lengths(array))
            values = array.flatten()
            self.array(path, values, np.ones(len(values), bool))
        elif _is_bytes(kind):
            self._bytes(path, array, shown)
        else:
            values = _fixed(array)
            self.feed(f"{path} values", values if shown.all() else values * shown[:, None])

    def _union(self, path: str, array: pa.UnionArray, shown: Mask) -> None:
        codes = union_kinds(array)
        self.feed(f"{path} codes", codes * shown)
        for i, code in enumerate(array.type.type_codes):
            rows = np.flatnonzero((codes == code) & shown)
            values = array.field(i)
            at = rows if array.type.mode == "sparse" else union_places(array)[rows]
            self.array(f"{path}.{i}", values.take(pa.array(at)), np.ones(len(rows), bool))

    def _bytes(self, path: str, array: pa.Array, shown: Mask) -> None:
        _, offsets, values = array.buffers()
        width = np.int64 if pa.types.is_large_string(array.type) or pa.types.is_large_binary(array.type) else np.int32
        ends = _items(offsets, width, array.offset, len(array) + 1) if offsets else np.zeros(len(array) + 1, width)
        lengths = np.diff(ends).astype(np.int64)
        text = np.frombuffer(values or b"", np.uint8)[ends[0] : ends[-1]] if len(array) else np.zeros(0, np.uint8)
        if lengths[~shown].any():
            text = text[np.repeat(shown, lengths)]
        self.feed(f"{path} lengths", lengths * shown)
        self.feed(f"{path} values", text)


def _label(kind: pa.DataType) -> str:
    """The type without its children, which follow; large and usual ones alike."""
    if pa.types.is_struct(kind) or pa.types.is_union(kind):
        names = [kind.field(i).name for i in range(kind.num_fields)]
        return f"{'struct' if pa.types.is_struct(kind) else 'union'}{names!r}"
    if pa.types.is_nested(kind):
        return "list"
    return str(kind).removeprefix("large_")


def _is_bytes(kind: pa.DataType) -> bool:
    return (
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
    )


def _valid(array: pa.Array) -> Mask:
    if pa.types.is_union(array.type) or not array.null_count:  # a union has no nulls of its own, its children do
        return np.ones(len(array), bool)
    return np.asarray(array.is_valid().to_numpy(zero_copy_only=False))


def _fixed(array: pa.Array) -> NDArray[np.uint8]:
    """(n, bytes per value) of an array whose values are all as wide."""
    values = array.buffers()[1]
    if pa.types.is_boolean(array.type):
        first, start = divmod(array.offset, 8)
        bits = np.unpackbits(_items(values, np.uint8, first, -(-(start + len(array)) // 8)), bitorder="little")
        return bits[start : start + len(array), None]
    width = array.type.bit_width // 8
    return _items(values, np.uint8, array.offset * width, len(array) * width).reshape(len(array), width)


def _items(buffer: pa.Buffer | None, kind: Any, start: int, count: int) -> NDArray[Any]:
    return np.frombuffer(buffer or b"", kind)[start : start + count]
