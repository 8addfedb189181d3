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

ORDINARY = 32
"""Exponents of two, up and down, of numbers whose squares and sums are far within float32."""


def exponent(vectors: NDArray[np.float32]) -> int:
    """What two is raised to where it is about as large as the largest number; 0 where that is an ordinary one.

    Of candidates of 1e37 each faiss's clustering ends the process, and its graph of 1e20 or 1e-25 finds few.
    """
    largest = max(vectors.max(initial=0), -vectors.min(initial=0))
    found = int(np.frexp(largest)[1])
    return 0 if abs(found) <= ORDINARY else found


def stored_exponent(parts: Mapping[str, NDArray[Any]]) -> int:
    """That of another index. Raises `DataError` for one that no float32 has."""
    found = int(array(parts, "exponent", np.int32, (1,))[0])
    if not -148 <= found <= 128:
        raise DataError(f"part 'exponent' of the index is {found}, which no number of float32 has")
    return found


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
