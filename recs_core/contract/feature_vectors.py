"""Vectors that are given: embeddings of texts, images or users that something else has made."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recs_core.contract.columns import as_vectors
from recs_core.contract.errors import BadRows, DataError, SpecError
from recs_core.contract.features import Feature, Known, State
from recs_core.contract.plain import list_lengths
from recs_core.contract.validation import is_whole, require

EPSILON = 1e-12
"""x is normalised to x / √(Σ x² + 1e-12), as in cosine scoring: a vector of zeros stays one."""

BLOCK = 1 << 16
"""Rows looked at together, so that memory beyond the vectors stays bounded."""


@dataclass(frozen=True)
class Vector(Feature):
    """A vector per row, of a list column of numbers.

    `dim`: the tower reads x · kernel of so many numbers, the kernel (length, dim) being a weight of its own that
    training learns; None: it reads x. `normalise`: x / √(Σ x² + 1e-12) in place of x. `length`: the numbers of a
    vector; None: as many as those of the training data have. float16 is held as such, all else as float32. A row that
    has no vector is zeros.
    """

    dim: int | None = None
    normalise: bool = False
    length: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("dim", "length"):
            value = getattr(self, name)
            require(value is None or is_whole(value, 1), self, f"{self.name!r}: {name} is ≥ 1 or None, got {value!r}")
        require(isinstance(self.normalise, bool), self, f"{self.name!r}: normalise is True or False")

    @property
    def numbers(self) -> int:
        if self.length is None:
            raise SpecError(f"{self.where}: how long its vectors are, the training data will tell; or state length=")
        return self.length

    @property
    def width(self) -> int:
        return self.numbers if self.dim is None else self.dim

    @property
    def mapped(self) -> bool:
        return self.dim is not None

    @property
    def settled(self) -> bool:
        return self.length is not None

    def settle(self, state: State) -> Self:
        return replace(self, length=state["length"])

    def describe(self) -> str:
        to = "" if self.dim is None else f" → {self.dim}"
        return f"vector {self.name}, {'?' if self.length is None else self.length}{to}"

    def learn(self, values: pa.Array) -> State:
        lists = as_vectors(values, self.where)
        lengths = list_lengths(lists)
        lengths = lengths[lengths > 0]
        if not len(lengths):
            raise DataError(f"{self.where}: no row has a vector, so how long they are is not known")
        return {"length": self.length if self.length is not None else int(np.bincount(lengths).argmax())}

    def blank(self, size: int) -> NDArray[np.float32]:
        return np.zeros((size, self.numbers), np.float32)

    def check_learnt(self, state: State) -> None:
        if state.get("length") != self.length:
            raise DataError(f"{self.where}: has vectors of {state.get('length')!r} numbers, not of {self.length}")

    def encode(self, values: pa.Array, known: Known) -> NDArray[np.floating]:
        lists, length = as_vectors(values, self.where), int(known.state["length"])
        given = _given(lists)
        self._check_lengths(lists, given, length)
        out = _flat(lists).reshape(-1, length)
        self._check_numbers(out, given)
        if not given.all():
            packed, out = out, np.zeros((len(lists), length), out.dtype)
            out[given] = packed
        return _normalised(out) if self.normalise else out

    def _check_lengths(self, lists: pa.Array, given: NDArray[np.bool_], length: int) -> None:
        lengths = list_lengths(lists)
        odd = given & (lengths != length)
        if odd.any():
            got = int(lengths[np.argmax(odd)])
            raise BadRows(
                self.where,
                odd,
                f"have a vector of {got} numbers, not of {length}",
                "make all of one length, and null where there is none",
            )

    def _check_numbers(self, vectors: NDArray[np.floating], given: NDArray[np.bool_]) -> None:
        rows = np.flatnonzero(given)
        for block in _blocks(len(vectors)):
            odd = ~np.isfinite(vectors[block]).all(1)
            if odd.any():
                bad = np.zeros(len(given), bool)
                bad[rows[block][odd]] = True
                raise BadRows(self.where, bad, "hold a number that is missing or not finite", "mend or drop them")


def _given(lists: pa.Array) -> NDArray[np.bool_]:
    """(n,): whether the row has a vector."""
    return lists.is_valid().to_numpy(zero_copy_only=False)


def _flat(lists: pa.Array) -> NDArray[np.floating]:
    """All numbers end to end, missing ones NaN: float16 as it is, all else float32; no copy where nothing changes."""
    values = lists.flatten()
    if not pa.types.is_float16(values.type):
        values = values.cast(pa.float32(), safe=False)
    return values.to_numpy(zero_copy_only=False)


def _normalised(vectors: NDArray[np.floating]) -> NDArray[np.floating]:
    out = np.empty_like(vectors)
    for block in _blocks(len(vectors)):
        x = vectors[block].astype(np.float64)
        out[block] = x / np.sqrt((x**2).sum(1, keepdims=True) + EPSILON)
    return out


def _blocks(size: int) -> Iterator[slice]:
    return (slice(start, start + BLOCK) for start in range(0, size, BLOCK))
