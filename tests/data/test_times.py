import datetime as dt

import numpy as np
import pyarrow as pa
import pytest

from recs_core.contract.errors import DataError
from recs_core.data.audit import audit
from recs_core.data.interactions import Interactions
from recs_core.tables.times import seconds

# 2011-11-10 is day 15,288 since 1970-01-01: 15,288 × 86,400 = 1,320,883,200 seconds.
MIDNIGHT = 1_320_883_200.0


@pytest.mark.parametrize(
    "value",
    [
        "2011-11-10",
        "2011-11-10 00:00",
        "2011-11-10T00:00:00Z",
        "2011-11-10T02:00:00+02:00",
        dt.date(2011, 11, 10),
        dt.datetime(2011, 11, 10),
        dt.datetime(2011, 11, 10, 2, tzinfo=dt.timezone(dt.timedelta(hours=2))),
        np.datetime64("2011-11-10", "ns"),
        1_320_883_200,
        1_320_883_200.0,
    ],
    ids=repr,
)
def test_times_of_every_kind_are_seconds(value):
    assert seconds([value], "t").tolist() == [MIDNIGHT]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_timestamp_units_keep_fractions(unit):
    array = pa.array([MIDNIGHT * 1_000_000 + 500_000]).cast(pa.int64()).cast(pa.timestamp("us"))
    expected = MIDNIGHT if unit == "s" else MIDNIGHT + 0.5
    assert seconds(array.cast(pa.timestamp(unit), safe=False), "t").tolist() == [expected]


def test_date64_is_seconds():
    assert seconds(pa.array([dt.date(2011, 11, 10)], pa.date64()), "t").tolist() == [MIDNIGHT]


@pytest.mark.parametrize(
    "text",
    [
        "2011-11-10 00:00:00 UTC",  # BigQuery
        "2011-11-10 00:00:00.000 UTC",
        "2011-11-10 00:00:00+00",  # PostgreSQL
        "2011-11-10 02:00:00 +0200",
        "2011-11-10 00:00:00.000000000",
    ],
)
def test_times_as_databases_write_them(text):
    assert seconds([text], "t").tolist() == [MIDNIGHT]


def test_a_fraction_may_come_and_go_within_a_column():
    column = ["2011-11-10 00:00:00 UTC", "2011-11-10 00:00:00.5 UTC", "2011-11-10 00:00:01.250000 UTC"]
    assert seconds(column, "t").tolist() == [MIDNIGHT, MIDNIGHT + 0.5, MIDNIGHT + 1.25]


@pytest.mark.parametrize(("unit", "per_second"), [("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)])
@pytest.mark.parametrize("kind", [int, float])
def test_numbers_count_what_unit_says(unit, per_second, kind):
    counts = [kind(MIDNIGHT * per_second), kind((MIDNIGHT + 60) * per_second)]
    assert seconds(counts, "t", unit).tolist() == [MIDNIGHT, MIDNIGHT + 60]


@pytest.mark.parametrize(
    ("unit", "per_second", "name"), [("ms", 10**3, "milli"), ("us", 10**6, "micro"), ("ns", 10**9, "nano")]
)
@pytest.mark.parametrize("kind", [int, float])
def test_numbers_in_another_unit_are_refused_with_what_to_type(unit, per_second, name, kind):
    table = {"u": ["a", "b"], "i": ["x", "y"], "t": [kind(MIDNIGHT * per_second)] * 2}
    with pytest.raises(
        DataError, match=rf"'t'.*row 0.*the year \d+.*{name}seconds, 2011-11-10.*unit='{unit}'.*--unit {unit}"
    ):
        Interactions.from_table(table, query="u", candidate="i", timestamp="t")
    data = Interactions.from_table(table, query="u", candidate="i", timestamp="t", unit=unit)
    assert data.timestamps.tolist() == [MIDNIGHT] * 2


def test_a_wrong_unit_is_refused_with_the_right_one():
    with pytest.raises(DataError, match="read as milliseconds.*microseconds"):
        seconds([int(MIDNIGHT * 10**6)], "t", "ms")


def test_one_row_that_stands_for_unknown_is_no_other_unit():
    with pytest.raises(DataError, match="99999999999 in row 1.*no unit"):
        seconds([int(MIDNIGHT), 99_999_999_999, int(MIDNIGHT)], "t")


@pytest.mark.parametrize(
    "column",
    [
        pa.array([dt.date(9999, 12, 31)]),
        pa.array([dt.datetime(1, 1, 1)]),
        pa.array([253_402_300_800], pa.timestamp("s")),
        pa.array(["2300-01-01"]),
    ],
    ids=str,
)
def test_years_that_cannot_be_meant_are_refused_in_every_type(column):
    with pytest.raises(DataError, match="^t: the year .* in row 0"):
        seconds(column, "t")


def test_the_years_at_the_border():
    assert len(seconds(["1900-01-01", "2199-12-31"], "t")) == 2


@pytest.mark.parametrize(
    ("column", "unit", "words"),
    [
        ([MIDNIGHT], "minutes", "unit is 's', 'ms', 'us' or 'ns'"),
        (["2011-11-10"], "ms", "unit='ms' is for numbers"),
        (["1320883200"], None, "'1320883200'.*make it a number"),
        (["2011-11-10", "11/10/2011 08:26"], None, "'11/10/2011 08:26'.*row 1"),
        (pa.array([0], pa.timestamp("ms")), "ms", "leave unit out"),
        (pa.array([0], pa.time64("us")), None, "time64"),
        ([True], None, "bool"),
        ([{"a": 1}], None, "struct"),
    ],
)
def test_what_is_no_time(column, unit, words):
    with pytest.raises(DataError, match=words):
        seconds(column, "t", unit)


def test_unit_without_a_timestamp_column_is_refused():
    with pytest.raises(DataError, match="timestamp="):
        Interactions.from_table({"u": [1], "i": [1]}, query="u", candidate="i", unit="ms")


def timed(times):
    table = {"u": list(range(len(times))), "i": list(range(len(times))), "t": times}
    return Interactions.from_table(table, query="u", candidate="i", timestamp="t")


@pytest.mark.parametrize("at", [MIDNIGHT * 1000, int(MIDNIGHT * 1000)])
def test_a_split_at_a_number_in_another_unit_is_refused(at):
    with pytest.raises(DataError, match="split: at: .*milliseconds, 2011-11-10.*divide by 1,000"):
        timed([MIDNIGHT, MIDNIGHT + 1]).split(by="time", at=at)


@pytest.mark.parametrize("unit", ["D", "s", "ns"])
def test_a_split_at_a_numpy_time(unit):
    data = timed([MIDNIGHT - 1, MIDNIGHT])
    assert len(data.split(by="time", at=np.datetime64("2011-11-10", unit)).test) == 1


@pytest.mark.parametrize("at", [object(), [1, 2], float("nan"), True, {"a": 1}])
def test_a_split_at_what_is_no_time(at):
    with pytest.raises(DataError, match="split: at"):
        timed([MIDNIGHT, MIDNIGHT + 1]).split(by="time", at=at)


@pytest.mark.parametrize(
    ("each", "words"), [(86_400, "days"), (3_600, "hours"), (1_000, "seconds read as milliseconds")]
)
def test_the_audit_says_what_times_before_1980_seem_to_be(each, words):
    times = [float(int(MIDNIGHT / each)), float(int((MIDNIGHT + 864_000) / each))]
    (remark,) = audit(timed(times)).remarks()
    assert words in remark
    assert "2011-11-" in remark


def test_the_audit_says_nothing_of_usual_times_nor_of_a_count_of_rows():
    assert audit(timed([MIDNIGHT, MIDNIGHT + 1])).odd_times is None
    assert audit(timed([0, 1, 2])).odd_times is None
