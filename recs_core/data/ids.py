"""Ids as a caller gives them. Every argument that takes ids, or one list of ids per query, comes in here.

A string or a number is one id and never a list; a list of lists has one list per row. Errors name the argument and,
where there are several, the row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recs_core.contract.batch import Ragged
from recs_core.contract.columns import as_ids, describe_type
from recs_core.contract.errors import DataError
from recs_core.contract.vocabulary import Vocabulary


def id_list(values: Any, where: str, vocabulary: Vocabulary) -> pa.Array:
    """A list of ids (list, tuple, set, NumPy, Arrow, pandas or polars) as an Arrow array of the vocabulary's type.

    `where` names the argument in messages. Raises `DataError` for one id alone, a mapping, a null, ids of two types, or
    of another type than the vocabulary's.
    """
    if _is_one(values):
        raise DataError(f"{where}: expected a list of ids, got one, {_shown(values)}; write [{_shown(values)}]")
    if _is_tensor(values):
        values = _numpy(values)
    column = isinstance(values, (list, tuple, np.ndarray, pa.Array, pa.ChunkedArray))
    return _of_type(as_ids(values if column else _listed(values, where), where), where, vocabulary)


def codes_or_unknown(ids: pa.Array | None, vocabulary: Vocabulary, size: int) -> NDArray[np.int32]:
    """(size,) code of each id, −1 for one that is unknown or null, and for all without ids."""
    codes = np.full(size, -1, np.int32)
    if ids is not None:
        named = np.flatnonzero(ids.is_valid().to_numpy(zero_copy_only=False))
        codes[named] = vocabulary.encode(ids.drop_null())
    return codes


def codes_of(values: Any, where: str, vocabulary: Vocabulary) -> NDArray[np.int32]:
    """(n,) code of each id, −1 for one that the vocabulary does not hold. Raises as `id_list`."""
    return vocabulary.encode(id_list(values, where, vocabulary))


def known_codes(values: Any, where: str, vocabulary: Vocabulary) -> NDArray[np.int32]:
    """(n,) code of each id. Raises `DataError` for an unknown one, and as `id_list`."""
    ids = id_list(values, where, vocabulary)
    codes = vocabulary.encode(ids)
    if (codes < 0).any():
        row = int(np.argmin(codes))
        raise DataError(
            f"{where}, row {row}: {ids[row].as_py()!r} is not in the corpus of {len(vocabulary):,}; leave it out, or "
            "let it join the model first (extend)"
        )
    return codes


def codes_per_row(values: Any, where: str, vocabulary: Vocabulary, rows: int | None = None) -> Ragged:
    """As `all_codes_per_row`, without what is unknown. `rows`: how many lists there must be."""
    codes = all_codes_per_row(values, where, vocabulary, rows)
    return codes.without(codes.values < 0)


def all_codes_per_row(values: Any, where: str, vocabulary: Vocabulary, rows: int | None = None) -> Ragged:
    """One list of ids per row → the code of each, in the order given, −1 of an unknown one.

    `rows`: how many lists there must be. Raises `DataError` naming the row that is no list, is None, or whose ids
    cannot be read.
    """
    lists = _rows(values, where)
    if rows is not None and len(lists) != rows:
        raise DataError(f"{where}: {len(lists)} lists of ids for {rows} queries; give one list per query")
    try:
        flat = as_ids([id_ for row in lists for id_ in row], where)
    except DataError:  # again row by row, to name the one at fault
        for i, row in enumerate(lists):
            _of_type(as_ids(row, f"{where}, row {i}"), f"{where}, row {i}", vocabulary)
        raise
    lengths = np.array([len(row) for row in lists], np.int64)
    return Ragged.from_lengths(vocabulary.encode(_of_type(flat, where, vocabulary)), lengths)


def _rows(values: Any, where: str) -> list[list[Any]]:
    if _is_one(values):
        one = _shown(values)
        raise DataError(f"{where}: expected one list of ids per query, got {one}; write [[{one}]]")
    rows = []
    for i, row in enumerate(_listed(values, where)):
        if row is None:
            raise DataError(f"{where}: row {i} is None; write [] where a query has none")
        if _is_one(row):
            raise DataError(f"{where}: row {i} is one id, {_shown(row)}, not a list of ids; write [[{_shown(row)}, …]]")
        rows.append(_listed(row, f"{where}, row {i}"))
    return rows


def _listed(values: Any, where: str) -> list[Any]:
    """Anything list-like as a Python list."""
    if isinstance(values, Mapping) or hasattr(values, "column_names") or hasattr(values, "columns"):
        kind = type(values).__name__
        raise DataError(f"{where}: expected a list, got a {kind}; give the ids themselves, in the order of the queries")
    if isinstance(values, np.ndarray) or _is_tensor(values):
        return list(_numpy(values).tolist())
    if isinstance(values, (pa.Array, pa.ChunkedArray)):
        return list(values.to_pylist())
    if hasattr(values, "to_list"):  # pandas and polars
        return list(values.to_list())
    if not isinstance(values, Iterable):
        raise DataError(f"{where}: expected a list, got {type(values).__name__}; write [id, …]")
    return list(values)


def _of_type(ids: pa.Array, where: str, vocabulary: Vocabulary) -> pa.Array:
    wanted = vocabulary.ids.type
    if len(ids) == 0:
        return pa.array([], wanted)
    if ids.type != wanted and len(vocabulary):
        have, got = describe_type(wanted), describe_type(ids.type)
        raise DataError(
            f"{where}: the ids of {vocabulary.name!r} are {have} (such as {vocabulary.ids[0].as_py()!r}), "
            f"these are {got} (such as {ids[0].as_py()!r}); convert them"
        )
    return ids


def _is_one(values: Any) -> bool:
    """Whether this is one value, not several."""
    if values is None or isinstance(values, (str, bytes, bool, int, float, np.generic, pa.Scalar)):
        return True
    return (isinstance(values, np.ndarray) or _is_tensor(values)) and values.ndim == 0


def _is_tensor(values: Any) -> bool:
    """Whether this is an array of torch, JAX or TensorFlow, or a view of memory."""
    array = hasattr(values, "__array__") and hasattr(values, "ndim")
    return isinstance(values, memoryview) or (
        array and not hasattr(values, "to_list") and not hasattr(values, "columns")
    )


def _numpy(values: Any) -> NDArray[Any]:
    on_a_device = hasattr(values, "cpu")  # torch's, which NumPy cannot read where it lies
    return np.asarray(values.detach().cpu() if on_a_device else values)


def _shown(value: Any) -> str:
    if isinstance(value, np.generic | np.ndarray) or _is_tensor(value):
        value = _numpy(value).item()
    return repr(value.as_py() if isinstance(value, pa.Scalar) else value)
