"""Ids on one side, dense int32 codes on the other. Ids are strings or int64, never changed on the way."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import ArrayLike, NDArray

from recs_core.contract.batch import INT32
from recs_core.contract.columns import as_ids, coded_ids, describe_type
from recs_core.contract.errors import DataError
from recs_core.contract.messages import some

UNKNOWN = -1

MOST_IDS = INT32
"""Ids of a vocabulary, and rows of a table, at most: codes are int32."""


class Vocabulary:
    """Unique ids in a fixed order; the code of an id is its position.

    `ids`: strings or integers (any sequence, NumPy, Arrow, pandas or polars). `name` is only for messages, usually
    the id column's. Raises `DataError` for nulls, duplicates (naming some), types other than these two, and more than
    2³¹ − 1 of them.
    """

    def __init__(self, ids: Any, name: str = "id") -> None:
        self.name = name
        self._ids = as_ids(ids, f"vocabulary of {name!r}")
        refuse_too_many(len(self._ids), f"vocabulary of {name!r}")
        refuse_duplicates(self._ids, f"vocabulary of {name!r}")

    @classmethod
    def from_values(cls, values: Any, name: str = "id") -> Vocabulary:
        """The distinct values, in order of first appearance."""
        return cls.with_codes(values, name)[0]

    @classmethod
    def with_codes(cls, values: Any, name: str = "id") -> tuple[Vocabulary, NDArray[np.int32]]:
        """`from_values`, and the (n,) code of each value, from one pass over them."""
        vocabulary = cls.__new__(cls)  # distinct by construction: no second look
        vocabulary._ids, codes = coded_ids(values, f"column {name!r}")
        vocabulary.name = name
        refuse_too_many(len(vocabulary), f"column {name!r}")
        return vocabulary, codes

    def grown(self, ids: Any) -> Vocabulary:
        """These ids, then those of `ids` that are not among them, by first appearance; itself where all are.

        Raises `DataError` as `encode`, and for more ids than there are codes.
        """
        given = as_ids(ids, f"values of {self.name!r}")
        new = given.filter(pa.array(self.encode(given) == UNKNOWN)).unique()
        if not len(new):
            return self
        refuse_too_many(len(self) + len(new), f"vocabulary of {self.name!r}")
        grown = Vocabulary.__new__(Vocabulary)  # distinct by construction: no second look
        grown.name, grown._ids = self.name, pa.concat_arrays([self._ids, new]) if len(self) else new
        return grown

    @property
    def ids(self) -> pa.Array:
        """All ids, `large_string` or int64; position = code."""
        return self._ids

    def __len__(self) -> int:
        return len(self._ids)

    def __eq__(self, other: object) -> bool:
        """Same ids in the same order; names do not count."""
        return isinstance(other, Vocabulary) and (self is other or bool(self._ids.equals(other._ids)))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Vocabulary({self.name!r}, {len(self):,} {describe_type(self._ids.type)})"

    def encode(self, values: Any) -> NDArray[np.int32]:
        """(n,) code of each value, -1 for one that is not in the vocabulary.

        Raises `DataError` when strings are asked of an integer vocabulary or the reverse, and for nulls.
        """
        asked = as_ids(values, f"values of {self.name!r}")
        if len(asked) == 0 or len(self) == 0:
            return np.full(len(asked), UNKNOWN, np.int32)
        if asked.type != self._ids.type:
            raise DataError(
                f"{self.name!r} holds {describe_type(self._ids.type)} (such as {self._ids[0].as_py()!r}), "
                f"but was asked for {describe_type(asked.type)} (such as {asked[0].as_py()!r}): convert one of them"
            )
        if len(asked) >= len(self):
            return _numpy(pc.index_in(asked, value_set=self._ids))
        # Hashing the few and scanning the many: three ids among 1M strings take 14 ms, hashing the 1M 340 ms.
        few = asked.dictionary_encode()
        found = pc.index_in(self._ids, value_set=few.dictionary)
        positions = np.flatnonzero(found.is_valid().to_numpy(zero_copy_only=False))
        codes = np.full(len(few.dictionary), UNKNOWN, np.int32)
        codes[_numpy(found)[positions]] = positions
        return codes[few.indices.to_numpy()]

    def decode(self, codes: ArrayLike) -> pa.Array:
        """The id of each code; null for -1. Raises `DataError` for a code outside the vocabulary."""
        codes = np.asarray(codes, dtype=np.int64)
        outside = (codes < UNKNOWN) | (codes >= len(self))
        if outside.any():
            raise DataError(f"{self.name!r} has codes 0 to {len(self) - 1}, got {codes[outside][0]}")
        return self._ids.take(_positions(codes))


def refuse_duplicates(ids: pa.Array, where: str) -> None:
    """Raise `DataError` naming the ids that appear more than once."""
    if len(ids.unique()) == len(ids):
        return
    counts = ids.value_counts()
    repeated = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
    raise DataError(f"{where}: ids must be unique, but {some(repeated.to_pylist())} appear more than once")


def refuse_too_many(number: int, where: str) -> None:
    """Raise `DataError` for more ids or rows than there are codes."""
    if number > MOST_IDS:
        raise DataError(
            f"{where}: {number:,} are more than int32 codes tell apart, {MOST_IDS:,}; leave out the rare ones, by "
            "data.filter(min_per_query=…, min_per_candidate=…)"
        )


def _positions(codes: NDArray[np.int64]) -> pa.Array:
    """Codes as an Arrow array, null for -1. `pa.array` imports numpy.ma first: 20 ms of a command that takes 300."""
    codes = np.ascontiguousarray(codes)
    valid = np.packbits(codes != UNKNOWN, bitorder="little")
    return pa.Array.from_buffers(pa.int64(), len(codes), [pa.py_buffer(valid), pa.py_buffer(codes)])


def _numpy(codes: pa.Array) -> NDArray[np.int32]:
    return np.array(codes.fill_null(UNKNOWN))  # a copy: Arrow's own memory is read-only
