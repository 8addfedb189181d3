"""One array whose rows lie in several: row k of N in part k mod N, at place k div N.

In turn, and not in blocks: vocabularies are in order of first appearance, so that the rows most asked for are the first
ones, and one part would hold them all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recs_core.contract.errors import DataError

Array = NDArray[Any]


def held(number: int, rank: int, size: int) -> int:
    """How many of `number` rows lie in part `rank` of `size`."""
    return len(range(rank, number, size))


class Rows:
    """An array (n, …) in its parts, of which some may be elsewhere; `parts`: each, or None.

    It stands where a weight's array does: it has its `shape` and `dtype`, gives rows by their codes, and NumPy makes it
    an array. What no part here holds cannot be asked for, which is a `DataError`. Raises `DataError` too for parts that
    do not fit one another.
    """

    def __init__(self, parts: Sequence[Array | None], number: int | None = None) -> None:
        here = [part for part in parts if part is not None]
        self.parts, self.dtype = tuple(parts), here[0].dtype
        self.shape = (sum(map(len, here)) if number is None else number, *here[0].shape[1:])
        for rank, part in enumerate(parts):
            due = (held(len(self), rank, len(parts)), *self.shape[1:])
            if part is not None and (part.shape != due or part.dtype != self.dtype):
                raise DataError(f"part {rank} of {len(parts)} is {part.dtype} {part.shape}, {self.dtype} {due} is due")

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, codes: Any) -> Array:
        """Rows by their codes (any shape), or by a slice."""
        if isinstance(codes, slice):
            first, stop, size = codes.indices(len(self))
            if size == len(self.parts) and first < size and stop == len(self):
                return self._part(first)
            codes = np.arange(first, stop, size)
        codes = np.asarray(codes)
        out = np.empty((*codes.shape, *self.shape[1:]), self.dtype)
        rank = codes % len(self.parts)
        for number in np.unique(rank).tolist():
            at = rank == number
            out[at] = self._part(number)[codes[at] // len(self.parts)]
        return out

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        """The whole, as an array of its own."""
        out = np.empty(self.shape, self.dtype if dtype is None else dtype)
        for rank in range(len(self.parts)):
            out[rank :: len(self.parts)] = self._part(rank)
        return out

    def here(self) -> Iterator[Array]:
        """The parts that are here."""
        return (part for part in self.parts if part is not None)

    def _part(self, rank: int) -> Array:
        part = self.parts[rank]
        if part is None:
            raise DataError(f"part {rank} of {len(self.parts)} of these rows is on another worker")
        return part


BLOCK = 1 << 18
"""Numbers looked at together, so that the mask stays in cache."""


def is_finite(array: Array | Rows) -> bool:
    """Whether all numbers of an array, or of the parts that are here, are."""
    flats = [part.reshape(-1) for part in (array.here() if isinstance(array, Rows) else [np.asarray(array)])]
    return all(np.isfinite(flat[start : start + BLOCK]).all() for flat in flats for start in range(0, flat.size, BLOCK))
