"""What a model keeps of the candidates' side table: which columns, in which order, and what a later fit changes."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

import recs_core as recs
from recs_core.contract.errors import DataError
from recs_core.contract.vocabulary import Vocabulary
from recs_core.data.attributes import attributes_of, is_attribute


def interactions(taken: list[str], items: dict[str, object] | None = None) -> recs.Interactions:
    rows = {"user": ["u"] * len(taken), "item": taken}
    return recs.Interactions.from_table(rows, query="user", candidate="item", candidates=items)


ITEMS = {
    "item": ["a", "b", "c"],
    "colour": ["red", None, "blue"],
    "price": [1.5, 2.5, None],
    "tags": [["x"], ["x", "y"], None],
    "vector": pa.array([[0.1, 0.2]] * 3, pa.list_(pa.float32(), 2)),
    "facts": [{"n": 1}] * 3,
    "picture": [b"1", b"2", b"3"],
}
CORPUS = Vocabulary(["c", "a"], "item")


def test_columns_of_one_value_a_row_in_the_order_of_the_corpus():
    data = interactions(["b", "a", "c"], ITEMS)
    assert attributes_of(data, CORPUS).to_pydict() == {
        "item": ["c", "a"],
        "colour": ["blue", "red"],
        "price": [None, 1.5],
    }


def test_nothing_is_copied_where_the_data_has_the_corpus_as_it_is():
    data = interactions(["b", "a", "c"], ITEMS)
    before = pa.total_allocated_bytes()
    kept = attributes_of(data, data.candidate_ids)
    assert pa.total_allocated_bytes() == before
    assert kept["price"].chunk(0).buffers()[1].address == data.candidates["price"].chunk(0).buffers()[1].address
    assert kept["item"].to_pylist() == ["b", "a", "c"]


@pytest.mark.parametrize(
    "value",
    [1, 1.5, True, "a", date(2024, 1, 1), datetime(2024, 1, 1), time(1), timedelta(1), Decimal("1.5"), None],
)
def test_what_a_filter_can_be_made_of(value):
    assert is_attribute(pa.array([value]).type)


@pytest.mark.parametrize("value", [[1], {"a": 1}, b"bytes", np.zeros(2)])
def test_what_it_cannot(value):
    assert not is_attribute(pa.array([value]).type)


def test_later_data_wins_row_by_row_and_says_nothing_of_the_rest():
    corpus = Vocabulary(["a", "b", "c"], "item")
    first = attributes_of(interactions(["a", "b", "c"], ITEMS), corpus)
    alone = attributes_of(interactions(["c"]), corpus, first)
    assert alone is first
    items = {"item": ["z", "b", "a"], "price": [9, 7, None], "size": ["S", "M", None]}
    later = attributes_of(interactions(["a", "b"], items), corpus, first)
    assert later.to_pydict() == {
        "item": ["a", "b", "c"],
        "colour": ["red", None, "blue"],  # the later table has no such column
        "price": [1.5, 7.0, None],  # and nothing of a
        "size": [None, "M", None],
    }
    again = attributes_of(interactions(["c"], {"item": ["c"], "price": [None], "size": ["L"]}), corpus, later)
    assert again["price"].to_pylist() == [1.5, 7.0, None] and again["size"].to_pylist() == [None, "M", "L"]


def test_another_type_than_before_is_refused():
    corpus = Vocabulary(["a", "b", "c"], "item")
    first = attributes_of(interactions(["a", "b", "c"], ITEMS), corpus)
    said = "candidates, column 'price': string here and double in an earlier fit; give it the type it had"
    with pytest.raises(DataError, match=said):
        attributes_of(interactions(["a"], {"item": ["a"], "price": ["cheap"]}), corpus, first)
