"""A column beside values, against Python's own comparisons: numbers of any size, times, strings, and nulls."""

from __future__ import annotations

import operator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recs_core.contract.errors import DataError
from recs_core.where import Filters
from recs_core.where.values import SIGNS, compared, one_of

PYTHON = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
INTEGERS = [pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()]


def kept(column: pa.Array, make) -> list[int]:
    table = pa.table({"x": column})
    return Filters(table).kept(make(table.schema.field("x"))).tolist()


def check(column: pa.Array, value, due=None) -> None:
    """Every sign, and `in`, keep what Python's own comparison keeps. `due`: the value as Python has it."""
    due, rows = value if due is None else due, column.to_pylist()
    for sign, holds in PYTHON.items():
        expected = [i for i, row in enumerate(rows) if row is not None and holds(row, due)]
        assert kept(column, lambda field, sign=sign: compared(field, sign, value)) == expected, sign
    equal = [i for i, row in enumerate(rows) if row == due]
    assert kept(column, lambda field: one_of(field, [value])) == equal
    assert kept(column, lambda field: ~one_of(field, [value])) == [
        i for i, row in enumerate(rows) if row is not None and i not in equal
    ]


@given(st.sampled_from(INTEGERS), st.data())
def test_integers_beside_any_number_are_exact(kind, data):
    """Arrow alone would compare integers and 1.5 as float32, and refuse uint64 beside −1."""
    signed = pa.types.is_signed_integer(kind)
    low, high = (-(2 ** (kind.bit_width - 1)), 2 ** (kind.bit_width - 1) - 1) if signed else (0, 2**kind.bit_width - 1)
    rows = data.draw(st.lists(st.none() | st.integers(low, high) | st.sampled_from([low, high, 0, 1]), max_size=5))
    near = st.sampled_from([low, high, *(row for row in rows if row is not None)])
    value = data.draw(
        st.integers(-(2**70), 2**70)
        | st.floats(allow_nan=False)
        | near
        | near.map(lambda n: n - 1)
        | near.map(lambda n: n + 1)
        | near.map(lambda n: float(n) + 0.5)
        | st.sampled_from([Decimal("1.5"), Decimal(2), np.int32(1), np.float32(0.5)])
    )
    check(pa.array(rows, kind), value, value.item() if isinstance(value, np.generic) else value)


@given(st.lists(st.none() | st.floats(allow_nan=False, width=32), max_size=5), st.data())
def test_a_float_is_read_in_the_columns_own_type(rows, data):
    value = data.draw(st.floats(allow_nan=False) | st.integers(-(10**6), 10**6) | st.sampled_from([*rows, 0.1]))
    if value is None:
        return
    check(pa.array(rows, pa.float64()), value)
    with np.errstate(over="ignore"):
        check(pa.array(rows, pa.float32()), value, float(np.float32(value)))


def test_a_price_of_a_tenth_is_found_in_float32():
    assert kept(pa.array([0.1, 0.2], pa.float32()), lambda field: compared(field, "=", 0.1)) == [0]
    assert kept(pa.array([float("nan"), 1.0]), lambda field: compared(field, "!=", 2)) == [0, 1]


@pytest.mark.parametrize("value", [0, 1.5, Decimal("1.505"), -3.25, 99999.99, 10**12])
@pytest.mark.parametrize("kind", [pa.decimal128(10, 2), pa.decimal128(20, 4)])
def test_decimals(kind, value):
    rows = [Decimal("0.00"), Decimal("1.50"), None, Decimal("-3.25"), Decimal("99999.99")]
    check(pa.array(rows, kind), value, Decimal(str(value)))


NOON = datetime(2024, 1, 15, 12)


@pytest.mark.parametrize(
    ("value", "due"),
    [
        ("2024-01-15", datetime(2024, 1, 15)),
        ("2024-01-15T12:00", NOON),
        (date(2024, 1, 15), datetime(2024, 1, 15)),
        (NOON, NOON),
        ("2024-01-15T13:00+01:00", NOON),
        (NOON.replace(tzinfo=UTC), NOON),
        (np.datetime64("2024-01-15T12:00", "ns"), NOON),
        (pa.scalar(NOON), NOON),
    ],
)
@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_moments(value, due, unit):
    rows = [NOON, None, datetime(2024, 1, 15), datetime(2024, 2, 1)]
    check(pa.array(rows).cast(pa.timestamp(unit)), value, due)
    berlin = pa.array([row and row.replace(tzinfo=UTC) for row in rows]).cast(pa.timestamp(unit, "Europe/Berlin"))
    check(berlin, value, due.replace(tzinfo=UTC))
    days = pa.array([row and row.date() for row in rows])
    table = pa.table({"x": days})
    later = Filters(table).kept(compared(table.schema.field("x"), ">", value)).tolist()
    assert later == [3]  # a day is its midnight
    assert kept(days.cast(pa.date64()), lambda field: compared(field, ">", value)) == [3]


def test_text_truth_and_the_rest():
    check(pa.array(["b", None, "a", "ü", ""]), "b")
    check(pa.array(["b", None, "a"], pa.large_string()), "a")
    check(pa.array([True, None, False]), True)
    check(pa.array([time(1), None, time(2)]), time(1))
    assert kept(pa.array([time(1), time(2)]), lambda field: compared(field, ">", "01:30")) == [1]
    check(pa.array([timedelta(1), None, timedelta(2)]), timedelta(1))
    assert kept(pa.nulls(2), lambda field: compared(field, "=", 3)) == []


@pytest.mark.parametrize(
    ("rows", "value", "said"),
    [
        (["a"], 3, "column 'x' holds string, and 3 is no string"),
        ([1], "1", "column 'x' holds int64, and '1' is no number"),
        ([1], True, "True is no number"),
        ([1.0], float("nan"), "nan is no number"),
        ([1.0], 10**400, "is no number"),
        ([Decimal(1)], float("inf"), "inf is no number"),
        ([True], 1, "1 is no truth value"),
        ([date(2024, 1, 1)], "yesterday", "'yesterday' is no time, such as '2024-01-31'"),
        ([date(2024, 1, 1)], 5, "5 is no time"),
        ([time(1)], "noon", "'noon' is no time of day"),
        ([timedelta(1)], 3, "3 is no timedelta"),
        ([1], None, "nothing equals a null"),
    ],
)
def test_values_that_a_column_cannot_hold(rows, value, said):
    field = pa.table({"x": pa.array(rows)}).schema.field("x")
    for make in (lambda: compared(field, "<", value), lambda: one_of(field, [value])):
        with pytest.raises(DataError, match=said) as caught:
            make()
        assert "\n" not in str(caught.value)


def test_the_signs_are_those_of_the_grammar():
    assert set(SIGNS) == set(PYTHON)
    assert isinstance(compared(pa.field("x", pa.int64()), "<", 3), pc.Expression)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (pa.decimal128(9, 2), Decimal("1e-300")),
        (pa.timestamp("us"), "0001-01-01T00:00+05:00"),
        (pa.duration("us"), timedelta(days=999_999_999)),
        (pa.string(), "\ud800"),
        (pa.null(), object()),
        (pa.time32("s"), "03:00+05:00"),
    ],
)
def test_what_no_column_can_hold_is_refused_by_name(kind, value):
    with pytest.raises(DataError, match=r"^column 'x' holds .*, and .* is no ") as caught:
        compared(pa.field("x", kind), "=", value)
    assert len(str(caught.value).splitlines()) == 1


def test_not_a_time_is_a_null():
    pandas = pytest.importorskip("pandas")
    with pytest.raises(DataError, match=r"nothing equals a null; pc\.field\('x'\)\.is_null\(\) asks"):
        compared(pa.field("x", pa.timestamp("ns")), "=", pandas.NaT)


@pytest.mark.parametrize("value", [datetime(9999, 12, 31), "0001-01-01", date(2024, 1, 3)])
def test_nanoseconds_beside_any_time(value):
    """Those of 64 bits reach from 1677 to 2262."""
    rows = pa.array([datetime(2024, 1, 2), datetime(2024, 1, 3), None, datetime(2024, 1, 4)], pa.timestamp("ns"))
    due = datetime.fromisoformat(value) if isinstance(value, str) else datetime(value.year, value.month, value.day)
    check(rows, value, due)
