"""What a condition keeps, what is refused, and that it is evaluated once."""

from __future__ import annotations

import threading

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from recs_core.contract.errors import DataError
from recs_core.where import Filters, filters

TABLE = pa.table(
    {
        "item": ["a", "b", "c", "d"],
        "country": ["UK", None, "DE", "UK"],
        "price": [5.0, 10.0, None, 20.0],
        "stock": [1, 2, 3, 4],
    }
)


@pytest.mark.parametrize(
    ("where", "due"),
    [
        ({"country": "UK"}, [0, 3]),
        ({"country": ["UK", "DE"]}, [0, 2, 3]),
        ({"country": {"FR"}}, []),
        ({"country": []}, []),
        ({"price": (None, 10)}, [0, 1]),
        ({"price": (10, None)}, [1, 3]),
        ({"price": (5, 10)}, [0, 1]),
        ({"price": (None, None)}, [0, 1, 3]),
        ({"country": "UK", "price": (None, 10)}, [0]),
        ({"country": ("UA", None)}, [0, 3]),
        ({"item": "d"}, [3]),
        ({}, [0, 1, 2, 3]),
        (pc.field("country") == "UK", [0, 3]),
        (~(pc.field("country") == "UK"), [2]),
        (pc.field("country").is_null(), [1]),
        (pc.field("price") < pc.field("stock") * 3, []),
        ((pc.field("price") < 10) | (pc.field("country") == "DE"), [0, 2]),
    ],
)
def test_what_is_kept(where, due):
    found = Filters(TABLE).kept(where)
    assert found.tolist() == due and not found.flags.writeable


COLUMNS = r"there is item \(string\), country \(string\), price \(double\), stock \(int64\)"


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ({"colour": "red"}, rf"where: there is no column 'colour' to filter by; {COLUMNS}"),
        (pc.field("colour") == "red", rf"where: there is no column 'colour' to filter by; {COLUMNS}"),
        (pc.field("a", "b") == 1, rf"there is no column .*; {COLUMNS}"),
        (pc.field(9) == 1, rf"there is no column .*; {COLUMNS}"),
        ({3: "red"}, "there is no column 3"),
        ({"country": 3}, "where: column 'country' holds string, and 3 is no string"),
        (pc.field("country") == 3, rf"where: \(country == 3\) cannot be asked, .*; {COLUMNS}"),
        (pc.field("country").isin([1]), "is_in.* cannot be asked"),
        (pc.field("price"), "where: price is no condition, it gives double"),
        ({"price": (1, 2, 3)}, r"a range is \(low, high\), got \(1, 2, 3\); write several values as a list"),
        ({"price": None}, "nothing equals a null"),
        ({"price": [1, None]}, "nothing equals a null"),
        ({"price": np.array([1])}, "expected a value, a list or .*, got ndarray"),
        ("price < 10", "where: expected an Arrow expression .*, got str; recs_core.where.parse reads text"),
        (["price"], "got list"),
        (lambda row: True, "got function"),
    ],
)
def test_what_is_refused_and_why(where, said):
    with pytest.raises(DataError, match=said) as caught:
        Filters(TABLE).kept(where)
    assert "\n" not in str(caught.value)


def test_a_condition_is_evaluated_once_however_it_is_written(monkeypatch):
    asked = []
    evaluated = filters._evaluated
    monkeypatch.setattr(filters, "_evaluated", lambda *given: asked.append(given) or evaluated(*given))
    of = Filters(TABLE)
    first = of.kept(pc.field("country") == "UK")
    assert of.kept({"country": "UK"}) is first
    assert of.kept(pc.field("country") == "UK") is first and len(asked) == 1
    assert of.kept({"country": ["UK"]}).tolist() == first.tolist()
    assert of.kept({"country": ["DE"]}).tolist() == [2]  # lists of other values are other conditions
    for price in range(filters.REMEMBERED):
        of.kept({"price": price})
    assert len(of._known) == filters.REMEMBERED
    assert of.kept({"country": "UK"}).tolist() == [0, 3] and len(asked) == 4 + filters.REMEMBERED


def test_rows_of_many_chunks_stay_in_order():
    numbers = np.arange(300_000) % 7
    table = pa.table({"x": pa.chunked_array([numbers[:5], numbers[5:100_000], numbers[100_000:]])})
    np.testing.assert_array_equal(Filters(table).kept({"x": 3}), np.flatnonzero(numbers == 3))


def test_threads_may_ask_at_once():
    of, wrong = Filters(pa.table({"x": np.arange(1000) % 20})), []

    def ask(n):
        for i in range(60):
            x = (i + n) % 20
            if of.kept({"x": x}).tolist() != list(range(x, 1000, 20)):
                wrong.append(x)

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
