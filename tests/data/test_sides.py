"""Side tables with several rows of an id, and side tables of the interactions' own columns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import recs_core as recs
from recs_core.contract.errors import DataError
from recs_core.tables.sides import taken

ROWS: dict[str, list[Any]] = {
    "user": ["ann", "bob", "ann", "cid"],
    "item": ["x", "x", "y", "y"],
    "t": [1.6e9, 1.7e9, 1.6e9, 1.6e9],
    "title": ["lamp", "lamp", None, None],
    "price": [1.5, 1.5, float("nan"), float("nan")],
    "tags": [["a", "b"], ["a", "b"], [], []],
    "country": ["de", "fr", "de", "it"],
}
OF_ITEMS = {"item": ["x", "y"], "title": ["lamp", None], "tags": [["a", "b"], []]}


def read(table: Any = ROWS, **options: Any) -> recs.Interactions:
    return recs.Interactions.from_table(table, query="user", candidate="item", timestamp="t", **options)


def refused(**options: Any) -> str:
    with pytest.raises(DataError) as caught:
        read(**options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def without(*names: str) -> dict[str, list[Any]]:
    return {name: values for name, values in ROWS.items() if name not in names}


@pytest.mark.parametrize("kind", [dict, pa.table, pd.DataFrame])
def test_equal_rows_of_an_id_count_once(kind: Any) -> None:
    items = kind({name: ROWS[name] for name in ("item", "title", "tags")})
    assert read(candidates=items).candidates.to_pydict() == OF_ITEMS


def test_missing_numbers_are_equal() -> None:
    prices = pa.array([1.5, 1.5, float("nan"), float("nan")])
    found = read(candidates=pa.table({"item": ROWS["item"], "price": prices})).candidates["price"].to_pylist()
    assert found[0] == 1.5 and np.isnan(found[1])


def test_zeros_are_equal_whatever_their_sign() -> None:
    prices = pa.array([0.0, -0.0, 2.0, 2.0])
    assert read(candidates=pa.table({"item": ROWS["item"], "price": prices})).candidates["price"].to_pylist()[0] == 0


def test_columns_of_the_interactions_make_a_side_table() -> None:
    data = read(candidates=["title", "tags"], queries=("country",))
    assert data.candidates.to_pydict() == OF_ITEMS
    assert data.queries.to_pydict() == {"user": ["ann", "bob", "cid"], "country": ["de", "fr", "it"]}
    assert data.extra.column_names == ["title", "price", "tags"]  # what tells of the query is said once


@pytest.mark.parametrize("queries", [["user"], ["item"], ["when"], ["when", "country", "country"]])
def test_columns_that_have_a_role_may_be_named_too(queries: list[str]) -> None:
    data = recs.Interactions.from_table(
        ROWS | {"when": [1.0, 2.0, 3.0, 4.0]}, query="user", candidate="item", timestamp="when", queries=queries
    )
    assert not {"user", "item", "when", *queries} & set(data.extra.column_names)


def test_the_interactions_themselves_as_a_side_table() -> None:
    """What tells of a row, its query and its time, is no feature of a candidate; the rest must be equal."""
    data = read(without("country", "price"), candidates=without("country", "price"))
    assert data.candidates.to_pydict() == OF_ITEMS


def test_a_column_of_the_querys_name_that_is_equal_is_kept() -> None:
    """Of films, say, the user who uploaded them."""
    items = {"item": ["x", "x", "y"], "user": ["ann", "ann", "zoe"]}
    assert read(candidates=items).candidates.to_pydict() == {"item": ["x", "y"], "user": ["ann", "zoe"]}


@pytest.mark.parametrize(
    ("column", "first", "second"),
    [
        ([1, 2, 3, 3], "1", "2"),
        ([1, 1, 3, 4], "3", "4"),
        (["a", None, "c", "c"], "'a'", "None"),
        ([None, "a", "c", "c"], "None", "'a'"),
        ([[1], [1, 2], [], []], "[1]", "[1, 2]"),
        (pa.array([1.0, float("nan"), 1.0, 1.0]), "1.0", "nan"),
    ],
)
def test_rows_that_differ_are_refused_with_the_id_the_column_and_both_values(
    column: Any, first: str, second: str
) -> None:
    message = refused(candidates={"item": ROWS["item"], "title": ROWS["title"], "mood": column})
    item = "x" if column[0] != column[1] else "y"
    assert message.startswith(f"candidates table, column 'mood': item '{item}' has {first} in one row and {second}")
    assert "candidates=['title']" in message and "--candidates title" in message


def test_a_column_of_rows_named_as_one_of_items_is_refused() -> None:
    assert "column 'country': item 'x' has 'de' in one row and 'fr' in another" in refused(candidates=["country"])
    assert "queries: interactions table has no column 'cuntry'; it has 'user'" in refused(queries=["cuntry"])
    assert "candidates: interactions table has no column 3" in refused(candidates=[3])


def test_a_csv_file_and_its_own_columns(tmp_path: Path) -> None:
    path = tmp_path / "shop.csv"
    path.write_text(
        "user,item,t,title,tags\nann,07,1600000000,lamp,a|b\nbob,07,1600000001,lamp,a|b\nbob,8,1600000002,,\n"
    )
    expected = {"item": ["07", "8"], "title": ["lamp", None], "tags": [["a", "b"], []]}
    for side in (path, ["title", "tags"]):
        assert read(path, candidates=side, lists={"tags": "|"}).candidates.to_pydict() == expected


@pytest.mark.parametrize("kind", [pa.float16(), pa.float32(), pa.float64()])
@pytest.mark.parametrize("rows", [[3, 0, 5, 0], [5, 4, 3, 2, 1, 0], [0, 1, 2, 3, 4, 5], [1, -1, 4], []])
@pytest.mark.parametrize("odd", [None, "a vector less", "another length", "a number less"])
def test_vectors_are_taken_as_arrow_takes_them(kind, rows, odd):
    vectors = [[np.dtype(kind.to_pandas_dtype()).type(i + j / 8) for j in range(3)] for i in range(6)]
    if odd is not None:
        vectors[4] = {
            "a vector less": None,
            "another length": vectors[4][:2],
            "a number less": [*vectors[4][:2], None],
        }[odd]
    column = pa.array(vectors, pa.list_(kind))
    table = pa.table({"v": pa.chunked_array([column[:2], column[2:5].slice(0), column[5:]])})
    found = taken(table, np.array(rows, np.int64))["v"].combine_chunks()
    assert found.type == column.type
    assert found.to_pylist() == [None if row < 0 else column[row].as_py() for row in rows]
