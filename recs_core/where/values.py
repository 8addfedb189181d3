"""A column beside values, as an Arrow expression: each value is read in the column's own type.

A comparison with a null is unknown, and `not` leaves it so; what is unknown keeps nothing.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recs_core.contract.columns import in_words
from recs_core.contract.errors import DataError
from recs_core.contract.messages import shown

SIGNS: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def compared(column: pa.Field, sign: str, value: Any) -> pc.Expression:
    """The column beside one value; `sign` as in `SIGNS`. Raises `DataError` for a value that it cannot hold."""
    made = literal(column, value)
    if not made.is_valid:
        beside = _beside_times if pa.types.is_timestamp(column.type) else _beside_integers
        sign, made = beside(column.type, sign, _plain(value))
    return SIGNS[sign](pc.field(column.name), made)


def one_of(column: pa.Field, asked: Iterable[Any]) -> pc.Expression:
    """Whether the column's value is among these. Raises `DataError` for one that it cannot hold."""
    exact = (_exact(literal(column, value), column.type) for value in asked)
    values = [value.as_py() for value in exact if value is not None]
    if pa.types.is_floating(column.type) and 0.0 in values:
        values += [0.0, -0.0]  # equal, and Arrow's is_in takes them apart
    field, unknown = pc.field(column.name), pa.scalar(None, pa.bool_())
    among = field.isin(pa.array(values, column.type))
    return pc.if_else(field.is_valid(), among, unknown)  # Arrow's own is_in says no of a null, and its `not` yes


def literal(column: pa.Field, value: Any) -> pa.Scalar:
    """The value in the column's type; of a decimal or a time in a wider one. Where the type has none, a number is null
    beside integers, and a time beside nanoseconds.

    Times are UTC where they do not say otherwise; strings such as "2024-01-31" are times where the column holds times.
    Raises `DataError`.
    """
    value, kind = _plain(value), column.type
    if value is None:
        asked = f"pc.field({column.name!r}).is_null()"
        raise DataError(f"column {column.name!r}: nothing equals a null; {asked} asks whether it is one")
    read, holds = next(((read, holds) for is_kind, read, holds in _READERS if is_kind(kind)), _ANY)
    try:
        made = read(kind, value)
    except (pa.ArrowException, OverflowError, ValueError, TypeError):  # what Python, or Arrow, has no place for
        made = None
    if made is None:
        said = str(value) if isinstance(value, Decimal) else shown(value)
        raise DataError(f"column {column.name!r} holds {in_words(kind)}, and {said} is no {holds}")
    return made


def _plain(value: Any) -> Any:
    """A value of NumPy or Arrow as Python's own; pandas' NaT is null."""
    if isinstance(value, datetime) and value != value:  # noqa: PLR0124
        return None
    if isinstance(value, np.datetime64):
        return value.astype("datetime64[us]").item()
    if isinstance(value, np.generic):
        return value.item()
    return value.as_py() if isinstance(value, pa.Scalar) else value


def _exact(value: pa.Scalar, kind: pa.DataType) -> pa.Scalar | None:
    """The value in the column's own type; None where no row can equal it."""
    try:
        return value.cast(kind) if value.is_valid else None
    except pa.ArrowException:
        return None


def _text(kind: pa.DataType, value: Any) -> pa.Scalar | None:
    return pa.scalar(value, kind) if isinstance(value, str) else None


def _truth(kind: pa.DataType, value: Any) -> pa.Scalar | None:
    return pa.scalar(value, kind) if isinstance(value, bool) else None


def _number(kind: pa.DataType, value: Any) -> pa.Scalar | None:
    """None beyond 10³⁰⁸, where no number is but infinity."""
    made = float(value) if _is_number(value) else None
    return None if made is None or math.isinf(made) != Decimal(value).is_infinite() else pa.scalar(made, kind)


def _decimal(kind: pa.DataType, value: Any) -> pa.Scalar | None:
    if not _is_number(value) or not Decimal(value).is_finite():
        return None
    try:
        return pa.scalar(Decimal(str(value)), kind)
    except pa.ArrowException:  # more digits than the column has
        return pa.scalar(Decimal(str(value)))


def _integer(kind: pa.DataType, value: Any) -> pa.Scalar | None:
    """Null where the number is none of the type's."""
    if not _is_number(value):
        return None
    low, high = _ends(kind)
    return pa.scalar(int(value) if low <= value <= high and value == math.floor(value) else None, kind)


def _beside_integers(kind: pa.DataType, sign: str, value: float) -> tuple[str, pa.Scalar]:
    """The same comparison for a number that is none of the type's: Arrow would compare both as float32.

    x < 1.5 is x ≤ 1; what is true, or false, of every integer of the type is asked of the smallest one.
    """
    low, high = _ends(kind)
    always, never = (">=", pa.scalar(low, kind)), ("<", pa.scalar(low, kind))
    if sign in ("=", "!="):
        return never if sign == "=" else always
    up = sign in (">", ">=")
    if value < low or value > high:
        return always if (value < low) == up else never
    return (">=", pa.scalar(math.ceil(value), kind)) if up else ("<=", pa.scalar(math.floor(value), kind))


def _is_number(value: Any) -> bool:
    """NaN is none: nothing equals it, and it has no place in any order."""
    return isinstance(value, (int, float, Decimal)) and not isinstance(value, bool) and not Decimal(value).is_nan()


def _ends(kind: pa.DataType) -> tuple[int, int]:
    """The smallest and the largest integer of a type."""
    if pa.types.is_signed_integer(kind):
        return -(2 ** (kind.bit_width - 1)), 2 ** (kind.bit_width - 1) - 1
    return 0, 2**kind.bit_width - 1


def _moment(kind: pa.DataType, value: Any) -> pa.Scalar | None:
    """Null where the time lies beyond those of a column of nanoseconds, 1677 to 2262."""
    found = _utc(value)
    if found is None:
        return None
    if pa.types.is_timestamp(kind):
        made = pa.scalar(found, pa.timestamp("us", kind.tz)) if kind.tz else pa.scalar(found.replace(tzinfo=None))
        return pa.scalar(None, kind) if kind.unit == "ns" and _exact(made, kind) is None else made
    whole_day = found.time() == time()
    return pa.scalar(found.date(), pa.date32()) if whole_day else pa.scalar(found.replace(tzinfo=None))


def _beside_times(kind: pa.DataType, sign: str, value: Any) -> tuple[str, pa.Scalar]:
    """The same comparison for a time that is none of the type's: what is true, or false, of every one of them."""
    first = pa.scalar(-(2**63), pa.int64()).cast(kind)
    always, never = (">=", first), ("<", first)
    if sign in ("=", "!="):
        return never if sign == "=" else always
    found = _utc(value)
    assert found is not None
    return always if (found.year < 1970) == (sign in (">", ">=")) else never


def _utc(value: Any) -> datetime | None:
    """A date, a time or an ISO string as a time of UTC."""
    found = datetime.fromisoformat(value) if isinstance(value, str) else value
    if not isinstance(found, date):
        return None
    if not isinstance(found, datetime):
        found = datetime(found.year, found.month, found.day)
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def _time_of_day(kind: pa.DataType, value: Any) -> pa.Scalar | None:
    """None of one with a zone: a time of day has none in Arrow."""
    found = time.fromisoformat(value) if isinstance(value, str) else value
    return pa.scalar(found) if isinstance(found, time) and found.tzinfo is None else None


def _duration(kind: pa.DataType, value: Any) -> pa.Scalar | None:
    return pa.scalar(value) if isinstance(value, timedelta) else None


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _is_moment(kind: pa.DataType) -> bool:
    return pa.types.is_date(kind) or pa.types.is_timestamp(kind)


_READERS: Final = (
    (_is_text, _text, "string"),
    (pa.types.is_boolean, _truth, "truth value"),
    (pa.types.is_integer, _integer, "number"),
    (pa.types.is_floating, _number, "number"),
    (pa.types.is_decimal, _decimal, "number"),
    (_is_moment, _moment, "time, such as '2024-01-31' or '2024-01-31T12:00'"),
    (pa.types.is_time, _time_of_day, "time of day, such as '12:30'"),
    (pa.types.is_duration, _duration, "timedelta"),
)
"""Which columns; what reads a value of theirs; and what that is called."""

_ANY: Final = (lambda kind, value: pa.scalar(value), "value that Arrow has")
"""Of a column without any value."""
