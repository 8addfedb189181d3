"""Memory while tables are read, and where rows that are on disk stay when some of them are taken."""

from __future__ import annotations

import mmap
import tempfile
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recs_core.contract.errors import DataError

BLOCK = 1 << 20
"""Rows taken at a time."""


def give_back() -> None:
    """Return to the system what Arrow holds and nobody uses: after each step of reading a large table, as much as is
    kept of it."""
    pa.default_memory_pool().release_unused()


def is_mapped(array: NDArray[Any]) -> bool:
    """Whether an array is a view of a file's memory map."""
    base: Any = array
    while isinstance(base, (np.ndarray, memoryview)):
        base = base.base if isinstance(base, np.ndarray) else base.obj
    return isinstance(base, mmap.mmap)


def taken(array: NDArray[Any], rows: NDArray[np.bool_] | NDArray[np.integer]) -> NDArray[Any]:
    """`array[rows]`, of a mask or of numbers. Of a map it is a map too, read-only: of a temporary file without a name,
    which is gone with the array.

    Raises `DataError` where the disk is full.
    """
    if not is_mapped(array):
        return array[rows]
    mask = rows.dtype == bool
    try:
        with tempfile.TemporaryFile() as file:
            for start in range(0, len(rows), BLOCK):
                of = rows[start : start + BLOCK]
                file.write(np.ascontiguousarray(array[start : start + BLOCK][of] if mask else array[of]).data)
            file.flush()
            return np.asarray(np.memmap(file, array.dtype, "r")) if file.tell() else array[:0]
    except OSError as error:
        raise DataError(
            f"{tempfile.gettempdir()}: rows that were taken cannot be written, {error.strerror}; set TMPDIR to "
            "a folder on a larger disk"
        ) from error
