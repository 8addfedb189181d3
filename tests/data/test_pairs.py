"""Pairs and what is counted of them: k-cores, leakage and coding, each beside plain Python."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import recs_core as recs
from recs_core.contract.columns import coded_ids
from recs_core.contract.errors import DataError
from recs_core.data.pairs import distinct, held
from recs_core.data.splits import leakage

ROWS = st.lists(st.tuples(st.sampled_from("abcde"), st.integers(0, 4)), min_size=1, max_size=40)
NUMBERS = st.lists(st.integers(0, 20), max_size=30)


def interactions(rows):
    users, items = zip(*rows, strict=True)
    return recs.Interactions.from_table({"user": users, "item": items}, query="user", candidate="item")


def rows_of(data):
    return list(zip(*data.to_table().select(["user", "item"]).to_pydict().values(), strict=True))


@settings(deadline=None)
@given(ROWS, st.integers(0, 4), st.integers(0, 4))
def test_a_k_core_is_what_stays_when_one_rare_row_after_another_goes(rows, per_query, per_candidate):
    left = list(rows)
    while True:
        users, items = (Counter(side) for side in zip(*left, strict=True)) if left else ({}, {})
        rare = [i for i, (u, c) in enumerate(left) if users[u] < per_query or items[c] < per_candidate]
        if not rare:
            break
        del left[rare[0]]
    if not left:
        with pytest.raises(DataError, match="no row of"):
            interactions(rows).filter(min_per_query=per_query, min_per_candidate=per_candidate)
        return
    kept = interactions(rows).filter(min_per_query=per_query, min_per_candidate=per_candidate)
    assert rows_of(kept) == left
    if per_query and per_candidate:
        assert kept.query_ids.ids.to_pylist() == [u for u in dict.fromkeys(u for u, _ in rows) if u in dict(left)]


@settings(deadline=None)
@given(NUMBERS, NUMBERS)
def test_pairs_are_counted_and_found(asked, among):
    asked, ordered = np.array(asked, np.int64), np.sort(np.array(among, np.int64))
    assert distinct(asked) == len(set(asked))
    assert held(asked, ordered).tolist() == [number in among for number in asked]


@settings(deadline=None)
@given(ROWS, ROWS)
def test_leakage_is_what_sets_say_also_of_other_vocabularies(train, test):
    found = leakage(interactions(train), interactions(test))
    assert found.repeated_rows == sum(row in train for row in test)
    assert (found.test_targets, found.repeated_targets) == (len(set(test)), len(set(test) & set(train)))
    assert found.unseen_queries == len({u for u, _ in test} - {u for u, _ in train})
    assert found.unseen_candidates == len({c for _, c in test} - {c for _, c in train})


@st.composite
def columns(draw):
    """A column in chunks, some of whose dictionaries have values that no row has."""
    values = draw(st.sampled_from([pa.string(), pa.large_string(), pa.int64(), pa.int8()]))
    chunks = []
    for rows in draw(st.lists(st.lists(st.integers(0, 9), max_size=8), max_size=4)):
        dictionary = pa.array(draw(st.permutations(range(10))), pa.int64()).cast(values)
        chunks.append(pa.DictionaryArray.from_arrays(pa.array(rows, pa.int32()), dictionary))
    column = pa.chunked_array(chunks, pa.dictionary(pa.int32(), values))
    return column if draw(st.booleans()) else column.cast(values)


@settings(deadline=None)
@given(columns())
def test_ids_are_coded_by_first_appearance_however_they_come(column):
    ids, codes = coded_ids(column, "ids")
    wanted = column.to_pylist()
    assert ids.to_pylist() == list(dict.fromkeys(wanted))
    assert codes.dtype == np.int32
    assert [ids[int(code)].as_py() for code in codes] == wanted


def test_a_missing_id_is_named_by_its_row_in_dictionaries_too():
    in_values = pa.DictionaryArray.from_arrays(pa.array([0, 1, 0]), pa.array(["a", None]))
    in_rows = pa.DictionaryArray.from_arrays(pa.array([0, None, 0]), pa.array(["a", "b"]))
    for column in (in_values, in_rows):
        with pytest.raises(DataError, match=r"column 'user': null id in row 3 \(counting from 0\)"):
            rows = pa.table({"user": pa.chunked_array([column.slice(0, 1), column.slice(2), column]), "item": range(5)})
            recs.Interactions.from_table(rows, query="user", candidate="item")


def test_row_groups_of_a_parquet_file_share_their_codes(tmp_path):
    users = ["v", "u", "v", "w", "u", "x"]
    pq.write_table(pa.table({"user": users, "item": [1, 2, 3, 1, 2, 3]}), tmp_path / "rows.parquet", row_group_size=2)
    data = recs.Interactions.from_table(tmp_path / "rows.parquet", query="user", candidate="item", queries=["user"])
    assert data.query_ids.ids.to_pylist() == ["v", "u", "w", "x"]
    assert [row[0] for row in rows_of(data)] == users


def test_ids_of_text_that_are_one_integer_are_one_id(tmp_path):
    (tmp_path / "rows.csv").write_text("user,item\n12,1\n7,2\n12.0,3\n")
    data = recs.Interactions.from_table(tmp_path / "rows.csv", query="user", candidate="item")
    assert data.query_ids.ids.to_pylist() == [12, 7]
    assert data.query_codes.tolist() == [0, 1, 0]
