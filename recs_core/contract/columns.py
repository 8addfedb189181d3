"""What a column can be: the one reading of it, for schema, recipes, encoding and readers alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recs_core.contract.batch import INT32, offsets_of
from recs_core.contract.errors import DataError
from recs_core.contract.plain import as_array, list_lengths, plain, plain_column
from recs_core.contract.text_columns import why_no_lists, why_no_numbers

Use: TypeAlias = Literal["id", "ids", "text", "number", "vector"]

NEEDS: Mapping[Use, str] = {
    "id": "strings or integers",
    "ids": "a list column of strings or integers",
    "text": "strings",
    "number": "numbers",
    "vector": "a list column of numbers",
}
"""What a message says that a use needs."""

TEXT = pa.large_string()
"""The type of ids that are strings: Arrow's `string` ends at 2 GiB of characters."""

EXACT = 2**53
"""Integers beyond it are not exact as float64: they name something and measure nothing."""

_USE_STRINGS = "integers beyond int64: use strings"


@dataclass(frozen=True)
class Nature:
    """`uses`: everything that a column can be; `what`: what it holds, and why it is nothing more, for messages."""

    uses: frozenset[Use]
    what: str


def nature(column: pa.Array | pa.ChunkedArray) -> Nature:
    """What the column can be: one id, a list of ids, text, a number, a vector, or nothing. Nulls do not count."""
    column = plain_column(column) if isinstance(column, pa.ChunkedArray) else plain(column)
    kind = column.type
    if pa.types.is_null(kind):
        return _of("id ids text", "no value at all")
    if is_text(kind):
        return _of("id text", "strings")
    if pa.types.is_boolean(kind):
        return _of("id text number", "booleans")
    if pa.types.is_integer(kind):
        return _integers(column)
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return _of("number", str(kind))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _list(column)
    if pa.types.is_temporal(kind):
        return _of("", f"{kind}, a time: what it tells can be used as a number, such as an age in days")
    return _of("", str(kind))


def in_words(kind: pa.DataType) -> str:
    """A type as people write it: `string` too where it is Arrow's large one, which holds the same."""
    return str(kind).replace("large_", "")


def as_ids(values: Any, where: str) -> pa.Array:
    """`values` as one Arrow array of `TEXT` or int64, without nulls; `where` begins the message if it cannot be."""
    if isinstance(values, (str, bytes)):
        raise DataError(f"{where}: expected a list of ids, got one value {values!r}: write [{values!r}]")
    if isinstance(values, pa.Array) and values.type in (TEXT, pa.int64()) and not values.null_count:
        return values
    array = as_array(values, where)
    if array.null_count:
        raise DataError(f"{where}: null id in row {first(array.is_null())} (counting from 0)")
    kind = array.type
    if pa.types.is_boolean(kind) or "id" not in (seen := nature(array)).uses:
        hint = "; pandas turns integers with gaps into floats: fill or drop them" if pa.types.is_floating(kind) else ""
        got = seen.what if pa.types.is_integer(kind) else str(kind)
        raise DataError(f"{where}: ids must be strings or integers, got {got}{hint}")
    return _ids(array)


def coded_ids(values: Any, where: str) -> tuple[pa.Array, NDArray[np.int32]]:
    """The distinct ids as of `as_ids`, by first appearance, and the (n,) place of each value among them.

    Chunks are not joined, and of a dictionary only its values are read. Raises as `as_ids`.
    """
    column = values if isinstance(values, pa.ChunkedArray) and _codable(values) else as_ids(values, where)
    if pa.types.is_dictionary(column.type):
        chunks = pa.chunked_array([_of_ids(chunk) for chunk in column.chunks]).unify_dictionaries().chunks
        used, codes = coded_ids(pa.chunked_array([chunk.indices for chunk in chunks]), where)
        return as_ids(chunks[0].dictionary.take(used), where), codes
    if column.nbytes > INT32 and is_text(column.type):
        column = column.cast(TEXT)  # whose distinct values may be longer than `string` holds
    encoded = column.dictionary_encode()
    chunks = encoded.chunks if isinstance(encoded, pa.ChunkedArray) else [encoded]
    return as_ids(chunks[0].dictionary, where), np.concatenate([chunk.indices for chunk in chunks])


def as_values(values: Any, where: str, use: Literal["id", "text"] = "id") -> pa.Array:
    """What a feature looks up: `TEXT` or int64 (booleans are 0 and 1), null where there is none."""
    return _ids(_usable(values, where, use))


def as_lists(values: Any, where: str) -> tuple[pa.Array, NDArray[np.int32]]:
    """A list column as `as_values` of all its lists end to end, and (n + 1,) where each begins; null is empty."""
    lists = _usable(values, where, "ids")
    if pa.types.is_null(lists.type):
        return pa.array([], TEXT), np.zeros(len(lists) + 1, np.int32)
    return _ids(lists.flatten()), offsets_of(list_lengths(lists))


def as_numbers(values: Any, where: str) -> NDArray[np.float64]:
    """(n,) float64, NaN for null."""
    array = as_array(values, where)
    if pa.types.is_null(array.type):
        return np.full(len(array), np.nan)
    numbers = _usable(array, where, "number").cast(pa.float64(), safe=False)
    return np.asarray(numbers.fill_null(np.nan))


def as_vectors(values: Any, where: str) -> pa.Array:
    """A list column of numbers, as lists; a column without any value is nulls."""
    array = as_array(values, where)
    if pa.types.is_null(array.type):
        return array.cast(pa.list_(pa.float32()))
    return _usable(array, where, "vector")


def first(mask: pa.Array) -> int:
    """The first row that is true, −1 if none is."""
    return int(pc.index(mask, True).as_py())


def describe_type(kind: pa.DataType) -> str:
    """`strings` or `integers`, for messages."""
    return "strings" if is_text(kind) else "integers"


def _usable(values: Any, where: str, use: Use) -> pa.Array:
    array = as_array(values, where)
    seen = nature(array)
    if use not in seen.uses:
        raise DataError(f"{where} needs {NEEDS[use]}, got {seen.what}{_why_text(array, use)}")
    return array


def _why_text(array: pa.Array, use: Use) -> str:
    """What to type where strings were meant to be numbers or lists."""
    if not is_text(array.type) or use not in ("number", "ids"):
        return ""
    return why_no_numbers(array) if use == "number" else why_no_lists(array)


def _ids(array: pa.Array) -> pa.Array:
    return array.cast(TEXT if is_text(array.type) or pa.types.is_null(array.type) else pa.int64())


def _integers(column: pa.Array | pa.ChunkedArray) -> Nature:
    kind = column.type
    if kind.bit_width < 64:
        return _of("id text number", "integers")
    ends = pc.min_max(column).as_py()
    low, high = ends["min"] or 0, ends["max"] or 0
    if high >= 2**63:
        return _of("", f"{_USE_STRINGS}, such as {str(high)!r}")
    if low < -EXACT or high > EXACT:
        return _of("id text", "integers beyond 2**53, which are ids and no numbers")
    return _of("id text number", "integers")


def _list(column: pa.Array | pa.ChunkedArray) -> Nature:
    values = column.type.value_type
    if pa.types.is_floating(values) or pa.types.is_decimal(values):
        return _of("vector", f"lists of {values}, vectors")
    inner = nature(pc.list_flatten(column))
    what = f"lists of {inner.what}"
    if "id" not in inner.uses:
        return _of("", what)
    return _of("ids vector" if "number" in inner.uses else "ids", what)


def _of_ids(array: pa.DictionaryArray) -> pa.DictionaryArray:
    """With values in the type of ids: those of several chunks may together be longer than `string` holds."""
    return pa.DictionaryArray.from_arrays(array.indices.cast(pa.int32()), _ids(array.dictionary))


def _codable(column: pa.ChunkedArray) -> bool:
    """Whether it can be coded as it is: text or integers, in which nothing is missing, and dictionaries of them."""
    kind, missing = column.type, column.null_count
    if pa.types.is_dictionary(kind):
        kind, missing = kind.value_type, missing + sum(chunk.dictionary.null_count for chunk in column.chunks)
    return len(column) > 0 and not missing and (is_text(kind) or (pa.types.is_integer(kind) and kind != pa.uint64()))


def is_text(kind: pa.DataType) -> bool:
    """Whether values of this type are strings."""
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _of(uses: str, what: str) -> Nature:
    return Nature(frozenset(uses.split()), what)  # type: ignore[arg-type]
