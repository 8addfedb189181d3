"""Codes of one byte: what faiss's scalar quantizer keeps of a vector, and arrays in and out of faiss's own vectors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from recs_core.contract.errors import DataError
from recs_core.index.rescored import array

KIND = faiss.ScalarQuantizer.QT_8bit

BEYOND = 0.25
"""How far beyond the range that was seen, as a share of it, a number may lie and still be cut to it."""


def ranges(coded: Any) -> NDArray[np.float32]:
    """(2, d): the least of each number of the vectors, and how far they reach."""
    return faiss.vector_to_array(coded.sq.trained).reshape(2, -1).copy()


def set_ranges(coded: Any, parts: Mapping[str, NDArray[Any]]) -> None:
    """Those of another index, in place of a training. Raises `DataError` for what no range can be."""
    found = array(parts, "ranges", np.float32, (2, coded.d))
    if not np.isfinite(found).all():
        raise DataError("part 'ranges' of the index holds NaN or infinity")
    faiss.copy_array_to_vector(np.ascontiguousarray(found).ravel(), coded.sq.trained)
    coded.is_trained = True


def within(coded: Any, vectors: NDArray[np.float32]) -> bool:
    """Whether codes can hold these vectors about as well as those that they were made for."""
    least, reach = ranges(coded)
    room = BEYOND * reach
    return bool(((vectors >= least - room) & (vectors <= least + reach + room)).all())


def filled(target: Any, values: NDArray[Any]) -> None:
    """Copy an array into a vector of faiss that owns its memory."""
    target.resize(values.size)
    if values.size:
        faiss.rev_swig_ptr(target.data(), values.size)[:] = values.ravel()


def taken(source: Any) -> NDArray[Any]:
    """A copy of a vector of faiss."""
    return faiss.rev_swig_ptr(source.data(), source.size()).copy()
