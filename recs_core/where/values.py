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
        sign, made = _beside_integers(column.type, sign, _plain(value))
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
    """The value in the column's type; of a decimal or a time in a wider one, and of an integer null, where it has none.

    Times are UTC where they do not say otherwise; strings such as "2024-01-31" are times where the column holds times.
    Raises `DataError`.
    """
    value, kind = _plain(value), column.type
    if value is None:
        raise DataError(f"column {column.name!r}: nothing equals a null; ask whether it is one")
    for is_kind, read, holds in _READERS:
        if is_kind(kind):
            made = read(kind, value)
            if made is None:
                raise DataError(f"column {column.name!r} holds {in_words(kind)}, and {value!r} is no {holds}")
            return made
    return pa.scalar(value)  # of a column without any value


def _plain(value: Any) -> Any:
    """A value of NumPy or Arrow as Python's own."""
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
    try:
        return pa.scalar(float(value), kind) if _is_number(value) else None
    except OverflowError:  # an integer beyond 10³⁰⁸
        return None


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
    try:
        found = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        return None
    if not isinstance(found, date):
        return None
    if not isinstance(found, datetime):
        found = datetime(found.year, found.month, found.day)
    found = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    if pa.types.is_timestamp(kind) and kind.tz is not None:
        return pa.scalar(found, pa.timestamp("us", kind.tz))  # Arrow compares other units, and no other zones
    whole_day = pa.types.is_date(kind) and found.time() == time()
    return pa.scalar(found.date(), pa.date32()) if whole_day else pa.scalar(found.replace(tzinfo=None))


def _time_of_day(kind: pa.DataType, value: Any) -> pa.Scalar | None:
    try:
        found = time.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        return None
    return pa.scalar(found) if isinstance(found, time) else None


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
