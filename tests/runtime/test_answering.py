"""One function answers any table of queries as the model itself: however it is cut, and whatever its ids came in."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

import recs_core as recs
from recs_core.contract.errors import DataError
from recs_core.runtime.answering import Answering, Question
from recs_core.where import parse
from tests.bundle.small import every_feature, fitted, ids_only, interactions

IDS = [100, 106, 103, 100, 999, 101, 105, 102, 104, 7, 100, 103]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = fitted(ids_only(), interactions()).save(tmp_path_factory.mktemp("answering") / "b")
    return recs.load(path, runtime="numpy")


@pytest.mark.parametrize("size", [1, 5, 12])
def test_pieces_are_answered_as_the_model_answers_all(model, size):
    answer = Answering.of(model, Question(k=4, exclude_seen=True, unknown="popular"), ["user"])
    table = pa.table({"user": IDS})
    found = pa.concat_tables(answer(table.slice(start, size)) for start in range(0, len(IDS), size))
    due = model.recommend(IDS, 4, exclude="seen", unknown="popular")
    assert found["user"].to_pylist() == IDS and found.schema == answer.schema
    for row, ids, scores in zip(found.to_pylist(), due.ids.tolist(), due.scores, strict=True):
        assert row["item"] == [id_ for id_ in ids if id_ is not None]
        np.testing.assert_allclose(row["score"], scores[np.isfinite(scores)], rtol=1e-6)


@pytest.mark.parametrize("where", ["item != 'i1'", {"item": ["i2", "i5"]}, pc.field("item") != "i1"])
def test_a_condition_is_text_or_as_recommend_takes_it(model, where):
    found = Answering.of(model, Question(k=4, where=where), ["user"])(pa.table({"user": [100]}))
    asked = parse(where, model.catalog.attributes.schema) if isinstance(where, str) else where
    due = model.recommend([100], 4, where=asked).ids[0].tolist()
    assert found["item"].to_pylist() == [[id_ for id_ in due if id_ is not None]]


@pytest.mark.parametrize("column", [pa.array(IDS, pa.int16()), pa.array(IDS).dictionary_encode()])
@pytest.mark.parametrize("table", [pa.table, pa.record_batch])
def test_ids_of_any_integer_type_are_answered_in_that_of_training(model, column, table):
    answer = Answering.of(model, Question(k=2), ["user"])
    assert answer(table({"user": column})).equals(answer(pa.table({"user": IDS})))


def test_a_table_has_the_columns_that_it_needs_and_others_are_not_read(model):
    answer = Answering.of(model, Question(), ["note", "user"])
    assert answer.columns == ["user"]
    assert Answering.of(model, Question(), ["customer"]).column == "customer"
    assert answer(pa.table({"note": ["?"], "user": [100]}))["user"].to_pylist() == [100]


def test_no_queries_have_no_answers_of_the_same_types(model):
    answer = Answering.of(model, Question(), ["user"])
    assert answer(pa.table({"user": pa.array([], pa.int64())})).equals(answer.schema.empty_table())


@pytest.mark.parametrize(
    ("question", "columns", "said"),
    [
        (Question(column="id"), ["user"], "queries, from here: no column 'id' with query ids; it has user"),
        (Question(), ["a", "b"], "queries, from here: no column 'user' with query ids; it has a, b"),
        (Question(), ["user", "user"], "queries, from here: column 'user' appears more than once"),
        (Question(k=0), ["user"], "k must be a whole number ≥ 1, got 0"),
        (Question(where="prize < 3"), ["user"], "there is no column 'prize'"),
        (Question(at="2026-01-01"), ["user"], "--at: this model does not read the time of a request"),
    ],
)
def test_what_cannot_be_asked_is_said_before_any_table_is_there(model, question, columns, said):
    with pytest.raises(DataError) as caught:
        Answering.of(model, question, columns, "queries, from here")
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        ([100, None], "queries, column 'user': null id in row 1 (counting from 0)"),
        (["a"], "queries, column 'user': the ids of 'user' are integers"),
    ],
)
def test_an_id_that_cannot_be_used_is_named_with_its_column(model, ids, said):
    with pytest.raises(DataError) as caught:
        Answering.of(model, Question(), ["user"])(pa.table({"user": ids}))
    assert said in str(caught.value)


def test_a_column_that_is_a_feature_and_unread_is_warned_of():
    answer = Answering.of(fitted(every_feature()), Question(), ["user", "age"])
    with pytest.warns(UserWarning, match="^queries: age not read: queries are answered by id"):
        answer.warn_of_features(["user", "age"])
