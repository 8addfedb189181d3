"""One door for ids: what is a list, what is one id, and what the error says."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from recs_core.contract.errors import DataError
from recs_core.contract.vocabulary import Vocabulary
from recs_core.data.ids import codes_of, codes_per_row, known_codes

NAMES = Vocabulary(["a1", "b2", "c3"], "item")
NUMBERS = Vocabulary([10, 20, 30], "item")


@pytest.mark.parametrize(
    "kind", [list, tuple, np.array, pd.Series, pl.Series, pa.array, lambda x: pa.chunked_array([x])]
)
def test_a_list_may_be_of_any_kind(kind) -> None:
    assert codes_of(kind(["c3", "zz", "a1"]), "queries", NAMES).tolist() == [2, -1, 0]
    assert codes_of(kind([30, 5]), "queries", NUMBERS).tolist() == [2, -1]


def test_iterables_are_lists_too_and_nothing_is_nothing() -> None:
    assert codes_of(iter(["b2"]), "queries", NAMES).tolist() == [1]
    assert codes_of({"b2"}, "queries", NAMES).tolist() == [1]
    assert codes_of([], "queries", NUMBERS).tolist() == []


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ("a1", r"queries: expected a list of ids, got one, 'a1'; write \['a1'\]"),
        (b"a1", "got one, b'a1'"),
        (np.str_("a1"), "got one, 'a1'"),
        (np.array("a1"), "got one, 'a1'"),
        (None, "got one, None"),
        (pa.scalar("a1"), "got one, 'a1'"),
        ({"a1": 1}, "got a dict"),
        (pd.DataFrame({"item": ["a1"]}), "got a DataFrame"),
        (pl.DataFrame({"item": ["a1"]}), "got a DataFrame"),
        (pa.table({"item": ["a1"]}), "got a Table"),
        (object(), "got object"),
        (["a1", None], "null id in row 1"),
        (["a1", 2], "not one column of one type"),
        ([["a1"]], "ids must be strings or integers"),
        ([1.5], "ids must be strings or integers"),
        ([True], "ids must be strings or integers"),
        ([2**70], "does not fit int64"),
        ([3], r"the ids of 'item' are strings \(such as 'a1'\), these are integers \(such as 3\)"),
    ],
)
def test_what_is_no_list_of_these_ids_is_refused_by_argument(values, said) -> None:
    with pytest.raises(DataError, match=said) as caught:
        codes_of(values, "queries", NAMES)
    assert str(caught.value).startswith("queries") and "\n" not in str(caught.value)


@pytest.mark.parametrize("one", [7, np.int64(7), np.uint8(7), 7.0, True])
def test_a_number_is_one_id(one) -> None:
    with pytest.raises(DataError, match="allow: expected a list of ids, got one"):
        known_codes(one, "allow", NUMBERS)


def test_an_unknown_id_is_named_with_its_row() -> None:
    with pytest.raises(DataError, match="allow, row 1: 'zz' is not in the corpus of 3"):
        known_codes(["a1", "zz"], "allow", NAMES)


def lists_of(kind: str):
    rows = [["c3", "zz", "a1"], [], ["b2"]]
    return {
        "lists": rows,
        "tuples": tuple(tuple(row) for row in rows),
        "sets": [dict.fromkeys(row) and set(row) for row in rows[1:]],
        "arrays": [np.array(row, object) for row in rows],
        "pandas": pd.Series(rows),
        "polars": pl.Series(rows, dtype=pl.List(pl.String)),
        "arrow": pa.array(rows),
        "arrow rows": [pa.array(row, pa.string()) for row in rows],
    }[kind]


@pytest.mark.parametrize("kind", ["lists", "tuples", "arrays", "pandas", "polars", "arrow", "arrow rows"])
def test_lists_per_row_keep_their_order_and_leave_out_the_unknown(kind: str) -> None:
    found = codes_per_row(lists_of(kind), "history", NAMES, rows=3)
    assert (found.values.tolist(), found.offsets.tolist()) == ([2, 0, 1], [0, 2, 2, 3])


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (["a1"], r"exclude: row 0 is one id, 'a1', not a list of ids; write \[\['a1', …\]\]"),
        (np.array(["a1"]), "row 0 is one id, 'a1'"),
        ([["a1"], "b2"], "row 1 is one id, 'b2'"),
        ([["a1"], None], r"row 1 is None; write \[\]"),
        ([["a1"], [None]], "exclude, row 1: null id in row 0"),
        ([["a1"], [4]], "exclude, row 1: the ids of 'item' are strings"),
        ([["a1"], [2**70]], "exclude, row 1: an integer does not fit int64"),
        ([["a1"], {"b2": 1}], "exclude, row 1: expected a list, got a dict"),
        ("a1", r"expected one list of ids per query, got 'a1'; write \[\['a1'\]\]"),
        (7, "expected one list of ids per query"),
        ([["a1"]], "exclude: 1 lists of ids for 2 queries"),
    ],
)
def test_a_row_that_is_no_list_is_named(values, said) -> None:
    with pytest.raises(DataError, match=said):
        codes_per_row(values, "exclude", NAMES, rows=2 if said.startswith("exclude: 1 lists") else None)


@pytest.mark.parametrize("kind", ["torch", "jax", "memoryview"])
def test_an_array_of_a_framework_is_a_list_of_ids(kind: str) -> None:
    if kind == "memoryview":
        made = memoryview
    else:
        module = pytest.importorskip(kind)
        made = module.tensor if kind == "torch" else module.numpy.asarray
    vocabulary = Vocabulary([7, 8, 9], "user")
    given = made(np.array([9, 7], np.int32))
    assert codes_of(given, "queries", vocabulary).tolist() == [2, 0]
    assert codes_per_row([given, []], "history", vocabulary).values.tolist() == [2, 0]
    with pytest.raises(DataError, match=r"history: row 0 is one id, 9, not a list of ids"):
        codes_per_row(given, "history", vocabulary)
