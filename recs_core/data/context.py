"""The context of a request: what a row of the interactions tells beside its ids, such as its device or its hour."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recs_core.contract.batch import Features, Times
from recs_core.contract.errors import DataError
from recs_core.contract.towers import TowerSpec
from recs_core.data.encoding import blank, encode_context
from recs_core.data.interactions import Interactions
from recs_core.data.schema import Schema
from recs_core.tables import readers, times

Context: TypeAlias = "Any | Literal['blank'] | None"
"""A table of one row per query, "blank" for a request of which nothing is known, or None where a model reads none."""


def columns_of(data: Interactions, schema: Schema) -> pa.Table:
    """(n rows): the columns of the interactions that a model reads as context. Raises `DataError` for one missing."""
    out: dict[str, Any] = {}
    for name in schema.of_request:
        if name == schema.time_name:
            if data.timestamps is None:
                raise DataError(f"this model reads the time of a row, {name!r}; name it with from_table(timestamp=…)")
            out[name] = pa.array(data.timestamps)
        elif name in data.extra.column_names:
            out[name] = data.extra[name]
        else:
            have = ", ".join(data.extra.column_names) or "none"
            raise DataError(f"this model reads {name!r} of each row, which these interactions lack; they have {have}")
    return pa.table(out)


def check_context(data: Interactions, tower: TowerSpec, schema: Schema) -> None:
    """Raise `DataError` for rows whose context the query tower cannot read: without a column, or with another type."""
    of_rows(data, tower, schema, np.arange(min(1, len(data))))


def of_rows(data: Interactions, tower: TowerSpec, schema: Schema, rows: NDArray[np.integer] | slice) -> Features | None:
    """What the query tower reads of these rows, in this order; None where it reads no context."""
    if not schema.context:
        return None
    columns = columns_of(data, schema)
    if not isinstance(rows, slice):
        columns = columns.take(pa.array(rows))
    return encode_context(tower, schema, columns)


def of_request(context: Context, at: Times, tower: TowerSpec, schema: Schema, size: int) -> Features | None:
    """What the query tower reads of a request of `size` queries; None where it reads no context.

    `at`: as of `time_of_request`. Raises `DataError` for a context that the model reads and is not given, or that
    cannot be read, and for one that it does not read.
    """
    if not schema.context:
        if context is not None and not (_is_blank(context) and schema.time_name is not None):
            raise DataError("context: this model reads nothing of a request; leave context out")
        return None
    is_blank = _is_blank(context)
    if is_blank and at is None:
        return blank(tower, size).only(schema.context)
    table = _given(None if is_blank else context, schema, size, needed=not is_blank)
    if schema.time_name is not None:
        table = table.append_column(schema.time_name, pa.array(at))
    read = encode_context(tower, schema, table)
    return blank(tower, size).only(schema.context).beside(read) if is_blank else read


def time_of_request(context: Context, at: Any, schema: Schema, size: int) -> Times:
    """(n,): when each of `size` queries is asked, in seconds; None of a model that does not read it, and where nothing
    is known, not even `at`.

    `at`: one for all or one per query, as dates, timestamps, ISO strings or seconds; None: now. Raises `DataError` for
    an `at` that the model does not read, or that cannot be read.
    """
    if schema.time_name is None:
        if at is not None:
            raise DataError("at: this model does not read the time of a request; leave at out")
        return None
    return None if at is None and _is_blank(context) else _seconds(at, size)


def is_asked_now(context: Context, at: Any, schema: Schema) -> bool:
    """Whether the clock says when these queries are asked."""
    return schema.time_name is not None and at is None and not _is_blank(context)


def _is_blank(context: Context) -> bool:
    return isinstance(context, str) and context == "blank"


def _given(context: Any, schema: Schema, size: int, *, needed: bool) -> pa.Table:
    names = [name for name in schema.context if name != schema.time_name]
    if context is None:
        if names and needed:
            listed = ", ".join(map(repr, names))
            raise DataError(
                f"this model reads {listed} of a request: pass context={{{names[0]!r}: […]}}, one value per query, or "
                "context='blank' to answer as if nothing was known"
            )
        return pa.table({"": np.zeros(size)}).select([])
    if isinstance(context, str) and not Path(context).suffix:
        raise DataError(f"context: a table of one row per query, a file of one, or 'blank'; got {context!r}")
    table = readers.read(context, "context", ids=(), may_be_empty=True).table
    if schema.time_name in table.column_names:
        raise DataError(f"context: {schema.time_name!r} is the time of the request; pass it as at=")
    readers.refuse_unread(context, "context", names)
    for name in names:
        if name not in table.column_names:
            have = ", ".join(table.column_names) or "none"
            raise DataError(f"context: no column {name!r}, which this model reads of a request; it has {have}")
    if len(table) != size:
        raise DataError(f"rows do not match: queries has {size}, context has {len(table)}")
    return table


def _seconds(at: Any, size: int) -> NDArray[np.float64]:
    if at is None:
        return np.full(size, time.time())
    if isinstance(at, (np.generic, np.ndarray)):
        at = np.atleast_1d(at)
    listed = isinstance(at, (list, tuple, np.ndarray, pa.Array, pa.ChunkedArray)) or hasattr(at, "to_list")
    found = times.seconds(at if listed else [at], "at")
    if len(found) not in (1, size):
        raise DataError(f"at: one time for all queries, or one for each of {size}; got {len(found)}")
    return np.broadcast_to(found, size)
