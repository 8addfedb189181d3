"""What a column can be, and that schema, encoding, recipe and serving all read it so."""

import datetime as dt

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from recs_core.contract.columns import as_ids, as_lists, as_numbers, as_values, nature
from recs_core.contract.errors import DataError
from recs_core.contract.feature_kinds import Bag, Categorical, History, Numeric, Text
from recs_core.contract.towers import TowerSpec
from recs_core.data.encoding import encode
from recs_core.data.interactions import Interactions
from recs_core.data.schema import Schema

ID = TowerSpec([Categorical("item")])
HUGE = pa.array([2**64 - 1, 5], pa.uint64())


@pytest.mark.parametrize(
    ("column", "uses", "what"),
    [
        (["a", None], "id text", "strings"),
        (pa.array(["a"], pa.string_view()), "id text", "strings"),
        (pa.array(["a"]).dictionary_encode(), "id text", "strings"),
        (pa.RunEndEncodedArray.from_arrays([2], ["a"]), "id text", "strings"),
        ([1, None], "id text number", "integers"),
        ([2**53], "id text number", "integers"),
        ([2**53 + 1], "id text", "beyond 2**53"),
        ([-(2**60)], "id text", "beyond 2**53"),
        (pa.array([5], pa.uint64()), "id text number", "integers"),
        (HUGE, "", "use strings"),
        ([True, None], "id text number", "booleans"),
        ([0.5, None], "number", "double"),
        (pa.array([1, 2], pa.decimal128(20, 2)), "number", "decimal128"),
        ([None, None], "id ids text", "no value"),
        ([["a"], None, []], "ids", "lists of strings"),
        ([[1], [2]], "ids vector", "lists of integers"),
        ([[True]], "ids vector", "lists of booleans"),
        ([[], []], "ids", "no value"),
        (pa.array([[2**63]], pa.list_(pa.uint64())), "", "use strings"),
        ([[0.1, 0.2]], "vector", "vectors"),
        (pa.array([[0.1, 0.2]], pa.list_(pa.float32(), 2)), "vector", "vectors"),
        ([[["a"]]], "", "lists of lists"),
        ([{"a": 1}], "", "struct"),
        ([b"a"], "", "binary"),
        ([dt.date(2020, 1, 1)], "", "as an age in days"),
        ([dt.datetime(2020, 1, 1)], "", "as an age in days"),
        ([dt.timedelta(1)], "", "duration"),
    ],
    ids=str,
)
def test_what_a_column_can_be(column, uses, what):
    column = column if isinstance(column, pa.Array) else pa.array(column)
    for form in (column, pa.chunked_array([column]), column.slice(0)):
        found = nature(form)
        assert found.uses == frozenset(uses.split())
        assert what in found.what


def test_readings_by_hand():
    assert as_values(pa.array([True, None, False]), "x").to_pylist() == [1, None, 0]
    assert as_values(pa.array([None, None]), "x").type == pa.large_string()
    values, offsets = as_lists(pa.array([["a", None], None, [], ["b"]]), "x")
    assert (values.to_pylist(), offsets.tolist(), offsets.dtype) == (["a", None, "b"], [0, 2, 2, 2, 3], np.int32)
    values, offsets = as_lists(pa.array([None, None]), "x")
    assert (values.to_pylist(), offsets.tolist()) == ([], [0, 0, 0])
    assert as_numbers(pa.array([1, None]), "x").tolist()[0] == 1.0
    assert np.isnan(as_numbers(pa.array([1, None]), "x")[1])


@pytest.mark.parametrize("ids", [HUGE, [2**63], np.array([2**63], np.uint64), pl.Series([2**64 - 1], dtype=pl.UInt64)])
def test_ids_beyond_int64_are_refused_saying_strings(ids):
    with pytest.raises(DataError, match="use strings"):
        as_ids(ids, "x")
    with pytest.raises(DataError, match="'user'.*use strings"):
        Interactions.from_table({"user": ids, "item": [1] * len(ids)}, query="user", candidate="item")
    with pytest.raises(DataError, match="queries.*'user'.*use strings"):
        Interactions.from_table(
            {"user": [1], "item": [1]}, query="user", candidate="item", queries={"user": ids, "x": [1] * len(ids)}
        )


def test_booleans_are_values_and_no_ids():
    with pytest.raises(DataError, match="x: ids must be strings or integers, got bool"):
        as_ids([True, False], "x")


def shop(candidates=None, queries=None, **rows):
    table = {"user": ["u", "v", "u", "v"], "item": ["a", "b", "b", "a"]}
    return Interactions.from_table(
        table | rows,
        query="user",
        candidate="item",
        queries=queries and {"user": ["u", "v"], **queries},
        candidates=candidates and {"item": ["a", "b"], **candidates},
    )


def learnt(feature, column):
    """Codes or numbers of the feature over the two items."""
    tower, data = TowerSpec([feature]), shop(candidates={"x": column})
    schema = Schema.learn(TowerSpec([History("item", share=None)]), tower, data)
    found = encode(tower, "candidate", schema, data.candidates)
    return found.codes["x"] if "x" in found.codes else found.dense["x"][:, 0]


LISTS = pa.array([["p", "q"], ["q", None]])
POLARS = pl.Series([["p", "q"], ["q", None]])


@pytest.mark.parametrize(
    "column",
    [
        LISTS,
        LISTS.cast(pa.large_list(pa.large_string())),
        pa.array(LISTS.to_pylist(), pa.list_(pa.string_view())),
        LISTS.cast(pa.list_(pa.string(), 2)),
        pa.array(LISTS.to_pylist(), pa.list_view(pa.string())),
        pa.array(LISTS.to_pylist(), pa.large_list_view(pa.string_view())),
        pa.ListArray.from_arrays([0, 2, 4], LISTS.flatten().dictionary_encode()),
        pa.DictionaryArray.from_arrays(pa.array([0, 1]), LISTS),
        POLARS,
        POLARS.cast(pl.List(pl.Categorical)),
        POLARS.cast(pl.List(pl.Enum(["q", "p"]))),
        POLARS.cast(pl.Array(pl.String, 2)),
        POLARS.cast(pl.Array(pl.Categorical, 2)),
    ],
    ids=lambda column: str(getattr(column, "type", None) or column.dtype),
)
def test_a_bag_takes_lists_of_every_kind(column):
    codes = learnt(Bag("x", dim=2), column)
    assert codes.values.tolist() == [1, 2, 2, 0]
    assert codes.offsets.tolist() == [0, 2, 4]


@pytest.mark.parametrize(
    ("feature", "column", "words"),
    [
        (Categorical("x"), [0.5, 1.5], "needs strings or integers, got double"),
        (Categorical("x"), [["a"], ["b"]], "needs strings or integers, got lists of strings"),
        (Categorical("x"), HUGE, "use strings"),
        (Categorical("x"), [dt.date(2020, 1, 1)] * 2, "date32"),
        (Text("x"), [0.5, 1.5], "needs strings, got double"),
        (Text("x"), [["a"], ["b"]], "needs strings, got lists"),
        (Bag("x"), ["a", "b"], "needs a list column of strings or integers, got strings"),
        (Bag("x"), [[0.1], [0.2]], "got lists of double, vectors"),
        (Bag("x"), [[["a"]], [["b"]]], "got lists of lists"),
        (Bag("x"), pa.array([[2**63], []], pa.list_(pa.uint64())), "use strings"),
        (Numeric("x"), ["a", "b"], "needs numbers, got strings"),
        (Numeric("x"), [2**60, 2**60 + 1], "which are ids and no numbers"),
        (Numeric("x"), HUGE, "use strings"),
        (Numeric("x"), [dt.date(2020, 1, 1)] * 2, "as an age in days"),
        (Numeric("x"), [[0.1], [0.2]], "vectors"),
    ],
    ids=str,
)
def test_a_feature_that_a_column_cannot_be_is_refused_by_name(feature, column, words):
    with pytest.raises(DataError) as caught:
        learnt(feature, column)
    message = str(caught.value)
    assert "\n" not in message
    assert f"{type(feature).__name__}('x')" in message
    assert words in message


def test_serving_other_ids_than_were_learnt_is_refused_by_name():
    tower, data = TowerSpec([Categorical("x")]), shop(candidates={"x": [1, 2]})
    schema = Schema.learn(TowerSpec([History("item", share=None)]), tower, data)
    with pytest.raises(
        DataError, match=r"Categorical\('x'\) learnt integers \(such as 1\), but got strings \(such as 's'"
    ):
        encode(tower, "candidate", schema, pa.table({"item": ["c"], "x": ["s"]}))
    nothing = encode(tower, "candidate", schema, pa.table({"item": ["c"], "x": pa.nulls(1)}))
    assert nothing.codes["x"].tolist() == [0]


def test_numbers_of_every_kind():
    half = pa.array(np.array([1, 3], np.float16))
    for column in ([1, 3], [1.0, 3.0], half, pa.array([1, 3], pa.decimal128(20, 0)), pa.array([1, 3], pa.uint64())):
        assert learnt(Numeric("x"), column).tolist() == [-1.0, 1.0]
    assert learnt(Numeric("x"), [False, True]).tolist() == [-1.0, 1.0]


@pytest.mark.parametrize("feature", [Categorical("device"), Text("device"), Numeric("device"), Bag("device")])
def test_a_column_of_the_rows_is_no_feature_of_a_candidate_and_the_refusal_says_where_it_stands(feature):
    data = shop(device=["ios", "web", "ios", "web"])
    with pytest.raises(DataError, match="side table of candidates, one row per item.*candidates={'item'"):
        Schema.learn(TowerSpec([History("item")]), TowerSpec([Categorical("item"), feature]), data)


def test_a_column_that_no_table_has_is_refused_with_those_there_are():
    data = shop(device=["ios", "web", "ios", "web"])
    with pytest.raises(
        DataError, match="neither the side table of queries .* nor the interactions; .* user, and .*device"
    ):
        Schema.learn(TowerSpec([History("item"), Categorical("planet")]), ID, data)
