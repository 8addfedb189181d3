"""Times of any kind → seconds since 1970-01-01 UTC, with a unit that is told and never guessed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recs_core.contract.columns import first, is_text
from recs_core.contract.errors import DataError
from recs_core.contract.plain import as_array

Unit: TypeAlias = Literal["s", "ms", "us", "ns"]

PER_SECOND: Mapping[str, int] = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_NAMES = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}

EARLIEST, LATEST = -2_208_988_800.0, 7_258_118_400.0
"""1900-01-01 and 2200-01-01: a time outside is in another unit, or stands for "unknown"."""

_LONG_AGO = 315_532_800.0  # 1980-01-01
_LIKELY = (631_152_000.0, 2_524_608_000.0)  # 1990-01-01 to 2050-01-01
_LARGER = {"minutes": 60.0, "hours": 3_600.0, "days": 86_400.0}

# What follows a time of day: Z, +02:00, +0200 or +02.
_ZONE = r"(Z|:\d\d(\.\d+)?[+-]\d\d(:?\d\d)?)$"
_SPACED_ZONE = r"\s+(?:(?:UTC|GMT|Z)|([+-]\d\d(?::?\d\d)?))$"


def seconds(values: Any, where: str, unit: Unit | None = None, cure: str = "") -> NDArray[np.float64]:
    """(n,) seconds since 1970-01-01 UTC from numbers, dates, timestamps or ISO 8601 strings.

    `unit`: what numbers count, "s" (the default), "ms", "us" or "ns". A time without a zone is taken as UTC; a zone may
    stand apart, as in "2024-01-01 00:00:00 UTC". `cure`: what to type if the numbers look like another unit; `{unit}`
    and `{per_second}` are filled in. Raises `DataError` for nulls, NaN, infinities, text that is no time, and years
    outside 1900–2199, naming the unit that the numbers seem to be in.
    """
    check_unit(unit, where)
    array = as_array(values, where)
    if array.null_count:
        raise DataError(f"{where}: no timestamp in row {first(array.is_null())} (counting from 0)")
    kind = array.type
    if not len(array):
        return np.zeros(0)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return _counted(array, where, unit, cure)
    if unit is not None:
        raise DataError(f"{where}: unit={unit!r} is for numbers, but the column holds {kind}: leave unit out")
    if is_text(kind):
        array = _parsed(array, where)
    elif pa.types.is_date(kind):
        array = array.cast(pa.timestamp("s"))
    if not pa.types.is_timestamp(array.type):
        raise DataError(f"{where}: timestamps must be numbers, dates, timestamps or ISO strings, got {kind}")
    counts = np.asarray(array.cast(pa.int64()))
    result = counts / PER_SECOND[array.type.unit]
    row = _outside(result)
    if row is not None:
        raise DataError(
            f"{where}: {_year(float(result[row]))} in row {row} (counting from 0), outside 1900 to 2199: "
            "correct or drop such rows, and check the unit that the column was made with"
        )
    return result


def day(timestamp: float) -> str:
    """The UTC date of a time in seconds, `2011-11-10`; the number itself if no calendar reaches it."""
    try:
        return datetime.fromtimestamp(timestamp, UTC).date().isoformat()
    except (OverflowError, ValueError, OSError):
        return f"{timestamp:g} s"


def suspicion(times: NDArray[np.float64]) -> str | None:
    """What a column that ends before 1980 seems to be, if it was no count of seconds; None where nothing is odd."""
    low, high = float(times.min()), float(times.max())
    if high >= _LONG_AGO:
        return None
    guesses = [(name, each) for name, each in _LARGER.items()]
    guesses += [(f"seconds read as {_NAMES[unit]}", float(each)) for unit, each in PER_SECOND.items() if each > 1]
    likely = [(name, each) for name, each in guesses if _LIKELY[0] <= low * each and high * each < _LIKELY[1]]
    ends = f"times run from {day(low)} to {day(high)}"
    if not likely:
        return None
    name, each = likely[0]
    return f"{ends}: the column seems to be {name}, from {day(low * each)} to {day(high * each)}; convert it to seconds"


def check_unit(unit: Unit | None, where: str) -> None:
    """Raise `DataError` for what is no unit."""
    if unit is not None and not (isinstance(unit, str) and unit in get_args(Unit)):
        raise DataError(f"{where}: unit is 's', 'ms', 'us' or 'ns', got {unit!r}")


def _counted(array: pa.Array, where: str, unit: Unit | None, cure: str) -> NDArray[np.float64]:
    numbers = np.asarray(array.cast(pa.float64(), safe=False) if pa.types.is_decimal(array.type) else array)
    odd = ~np.isfinite(numbers)
    if odd.any():
        row = int(np.argmax(odd))
        raise DataError(f"{where}: {numbers[row]} is no timestamp, in row {row} (counting from 0)")
    result = np.divide(numbers, PER_SECOND[unit or "s"], dtype=np.float64)  # no second copy of integers
    outside = _outside(result)
    if outside is None:
        return result
    row, year = outside, _year(float(result[outside]))
    found = f"{array[row]} in row {row} (counting from 0), read as {_NAMES[unit or 's']}, is {year}"
    middle = float(np.median(numbers))  # a few rows that stand for "unknown" are no reason to doubt the unit
    fits = [name for name, each in PER_SECOND.items() if _outside(numbers / each) is None]
    likely = [name for name in fits if middle / PER_SECOND[name] >= _LONG_AGO]
    if not likely:
        raise DataError(f"{where}: {found}, and no unit puts all rows between 1900 and 2199: correct or drop such rows")
    guess = likely[0]
    as_guess = day(float(numbers[row]) / PER_SECOND[guess])
    told = cure.format(unit=guess, per_second=f"{PER_SECOND[guess]:,}")
    raise DataError(f"{where}: {found}; it seems to be {_NAMES[guess]}, {as_guess}{told and f': {told}'}")


def _outside(times: NDArray[np.float64]) -> int | None:
    """The first time that is not from 1900 to 2199."""
    if not len(times) or (times.min() >= EARLIEST and times.max() < LATEST):
        return None
    return int(np.argmax((times < EARLIEST) | (times >= LATEST)))


def _year(timestamp: float) -> str:
    year = 1970 + timestamp / 31_556_952
    return f"the year {year:.0f}" if abs(year) < 1e6 else f"the year {year:.1e}"


def _parsed(text: pa.Array, where: str) -> pa.Array:
    if len(text) and pc.match_substring_regex(text.slice(0, 1), _SPACED_ZONE)[0].as_py():
        text = _joined_zones(text)
    zoned = len(text) > 0 and pc.match_substring_regex(text.slice(0, 1), _ZONE)[0].as_py()
    zone = "UTC" if zoned else None
    try:
        return text.cast(pa.timestamp("us", zone))
    except pa.ArrowInvalid:
        pass
    finest = pa.timestamp("ns", zone)  # seven digits and more of a second
    try:
        return text.cast(finest)
    except pa.ArrowInvalid:
        row = _first_failure(text, finest)
    odd = text[row].as_py()
    cure = ""
    if odd.replace(".", "", 1).isdigit():
        cure = "; if it counts from 1970, make it a number instead of text"
    raise DataError(
        f"{where}: {odd!r} is no time such as 2011-11-10 or 2011-11-10T08:26:00, "
        f"or not of the same form as the rest, in row {row} (counting from 0){cure}"
    )


def _joined_zones(text: pa.Array) -> pa.Array:
    """`2024-01-01 00:00:00 UTC`, as BigQuery writes it, and ` +0000` in the form that Arrow parses."""
    text = pc.replace_substring_regex(text, r"\s+(UTC|GMT|Z)$", "Z")
    return pc.replace_substring_regex(text, r"\s+([+-]\d\d(?::?\d\d)?)$", r"\1")


def _first_failure(text: pa.Array, kind: pa.DataType) -> int:
    good, bad = 0, len(text)  # the first `good` rows can be cast, the first `bad` cannot
    while bad - good > 1:
        middle = (good + bad) // 2
        try:
            text.slice(good, middle - good).cast(kind)
            good = middle
        except pa.ArrowInvalid:
            bad = middle
    return good
