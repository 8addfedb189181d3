"""Named arrays in a safetensors file: written piece by piece, read as views of a memory map.

    8 bytes  length n of the header, little-endian
    n bytes  JSON: {name: {"dtype": "F32", "shape": [rows, dim], "data_offsets": [begin, end]}}, padded with spaces
    the rest data, row-major, little-endian, offsets counted from here

Format: https://github.com/huggingface/safetensors. Ours is a strict reader of it: the `safetensors` package accepts a
name twice, copies each array on the way out, and does not map files for NumPy.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from mmap import mmap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from recs_core.contract.errors import BundleError
from recs_core.contract.rows import is_finite
from recs_core.storage.strict import parse_object

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer

DTYPES: dict[str, np.dtype[Any]] = {
    "F16": np.dtype("<f2"),
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
    "I8": np.dtype("i1"),
    "I32": np.dtype("<i4"),
    "I64": np.dtype("<i8"),
    "U8": np.dtype("u1"),
    "U32": np.dtype("<u4"),
}
"""F16 is for given vectors, U32 for the random state that a Keras module may keep, I8 and U8 for an index."""

_NAMES = {dtype: name for name, dtype in DTYPES.items()}

HEADER_LIMIT = 1 << 20
"""Bytes of a header: a model has few arrays, and what is parsed before it is trusted should be small."""

_LARGEST = 2**40  # of any one dimension


def check_dtypes(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Raise `BundleError` for an array that the format has no type for."""
    for name, array in arrays.items():
        if array.dtype.newbyteorder("<") not in _NAMES:
            raise BundleError(f"{path}: {name!r} is {array.dtype}; a bundle holds {', '.join(DTYPES)}")


def pieces(arrays: Mapping[str, NDArray[Any]]) -> Iterator[Buffer]:
    """The bytes of the file."""
    order, first = header({name: (array.dtype, array.shape) for name, array in arrays.items()})
    yield first
    for name in order:
        array = np.ascontiguousarray(arrays[name], arrays[name].dtype.newbyteorder("<"))
        if array.nbytes:
            yield array.data.cast("B")


def header(arrays: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]]) -> tuple[list[str], bytes]:
    """The order in which arrays of these types and shapes follow each other, and the bytes before them. Wide types come
    first, so that every array is aligned in the map."""
    order = sorted(arrays, key=lambda name: (-arrays[name][0].itemsize, name))
    described: dict[str, Any] = {}
    end = 0
    for name in order:
        dtype, shape = arrays[name]
        begin, end = end, end + math.prod(shape) * dtype.itemsize
        described[name] = {
            "dtype": _NAMES[dtype.newbyteorder("<")],
            "shape": list(shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(described, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return order, len(text).to_bytes(8, "little") + text


def read(content: mmap | bytes, path: Path) -> dict[str, NDArray[Any]]:
    """The arrays, read-only views of `content`. Raises `BundleError` for anything the format does not allow."""
    size = memoryview(content).nbytes
    length = int.from_bytes(bytes(memoryview(content)[:8]), "little")
    if size < 8 or length > size - 8:
        raise BundleError.damaged(path, "it is cut off, or no safetensors file")
    if length > HEADER_LIMIT:
        raise BundleError(f"{path}: its header is {length:,} bytes long, the most that is read is {HEADER_LIMIT:,}")
    header = parse_object(bytes(memoryview(content)[8 : 8 + length]), f"{path}: header")
    header.pop("__metadata__", None)
    entries = sorted((_entry(path, name, value) for name, value in header.items()), key=lambda entry: entry[:2])
    at = 0
    for begin, end, name, *_ in entries:
        if begin != at:
            raise BundleError(f"{path}: {name!r} begins at byte {begin:,} of the data, where {at:,} was due")
        at = end
    if at != size - 8 - length:
        raise BundleError(f"{path}: holds {size - 8 - length:,} bytes of data, its header describes {at:,}")
    return {name: _view(content, 8 + length + begin, dtype, shape) for begin, _, name, dtype, shape in entries}


def _view(content: mmap | bytes, offset: int, dtype: np.dtype[Any], shape: list[int]) -> NDArray[Any]:
    count = math.prod(shape)
    flat = np.frombuffer(content, dtype, count, offset) if count else np.zeros(0, dtype)
    flat.flags.writeable = False
    return flat.reshape(shape)


def check(path: Path, found: Mapping[str, NDArray[Any]], expected: Mapping[str, tuple[str, tuple[int, ...]]]) -> None:
    """Raise `BundleError` unless the arrays are exactly those expected: name → dtype such as "F32", and shape."""
    for name in sorted(set(found) ^ set(expected)):
        raise BundleError(f"{path}: {name!r} is {'missing' if name in expected else 'not of this model'}")
    for name, (dtype, shape) in expected.items():
        array = found[name]
        if _NAMES[array.dtype] != dtype or array.shape != tuple(shape):
            have, want = f"{_NAMES[array.dtype]} {list(array.shape)}", f"{dtype} {list(shape)}"
            raise BundleError(f"{path}: {name!r} is {have}, the model's is {want}")


def check_finite(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Raise `BundleError` for NaN or infinity."""
    for name, array in arrays.items():
        if not is_finite(array):
            raise BundleError(f"{path}: {name!r} holds NaN or infinity")


_Entry = tuple[int, int, str, "np.dtype[Any]", list[int]]


def _entry(path: Path, name: str, value: Any) -> _Entry:
    where = f"{path}: {name!r}"
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise BundleError(f"{where} needs dtype, shape and data_offsets, and nothing else")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise BundleError(f"{where} is of dtype {dtype!r}; a bundle holds {', '.join(DTYPES)}")
    if not _counts(shape) or len(shape) > 4 or max(shape, default=0) > _LARGEST:
        raise BundleError(f"{where} has shape {shape!r}")
    if (
        not _counts(offsets)
        or len(offsets) != 2
        or offsets[1] - offsets[0] != math.prod(shape) * DTYPES[dtype].itemsize
    ):
        raise BundleError(f"{where}: data_offsets {offsets!r} do not fit {dtype} of shape {shape!r}")
    return offsets[0], offsets[1], name, DTYPES[dtype], shape


def _counts(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)
