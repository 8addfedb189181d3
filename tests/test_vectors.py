"""Given vectors: read of list columns, mapped by a kernel or as they are, held once per id, and served for new ids."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import recs_core as recs
from recs_core.contract.errors import DataError, SpecError
from recs_core.contract.features import Known
from recs_core.data.schema import Schema
from recs_core.reference.backend import OracleBackend

HALF, SINGLE, DOUBLE = pa.float16(), pa.float32(), pa.float64()


def lists(vectors: Any, kind: pa.DataType = SINGLE, fixed: bool = False) -> pa.Array:
    width = len(next(v for v in vectors if v is not None))
    rows = [None if v is None else [np.dtype(kind.to_pandas_dtype()).type(x) for x in v] for v in vectors]
    return pa.array(rows, pa.list_(kind, width) if fixed else pa.list_(kind))


def encoded(feature: recs.Vector, values: pa.Array) -> np.ndarray[Any, Any]:
    state = feature.learn(values)
    return feature.settle(state).encode(values, Known(state))


@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize("kind", [HALF, SINGLE, DOUBLE, pa.int32(), pa.large_list])
def test_a_list_column_of_any_kind_is_read_as_its_numbers(kind: Any, fixed: bool) -> None:
    vectors = [[1, -2, 3], None, [0, 0.5 if kind in (HALF, SINGLE, DOUBLE) else 5, 7]]
    column = (
        lists(vectors, SINGLE, fixed).cast(pa.large_list(SINGLE))
        if kind is pa.large_list
        else lists(vectors, kind, fixed)
    )
    table = {"item": ["a", "b", "c"], "v": column}
    rows = {"user": ["u", "u", "u"], "item": ["a", "b", "c"]}
    data = recs.Interactions.from_table(rows, query="user", candidate="item", candidates=table)
    got = encoded(recs.Vector("v"), data.candidates["v"].combine_chunks())
    assert got.dtype == (np.float16 if kind is HALF else np.float32)
    assert got.tolist() == [[0, 0, 0] if v is None else v for v in vectors]


@given(st.lists(st.lists(st.floats(-1e3, 1e3, width=32), min_size=4, max_size=4), min_size=1, max_size=9))
def test_normalised_vectors_have_length_one_and_nothing_stays_nothing(vectors: list[list[float]]) -> None:
    got = encoded(recs.Vector("v", normalise=True), lists(vectors))
    for row, x in zip(got, np.array(vectors, np.float64), strict=True):
        np.testing.assert_allclose(row, x / np.sqrt((x**2).sum() + 1e-12), rtol=1e-6, atol=1e-7)


def test_what_needs_no_change_is_not_copied() -> None:
    numbers = np.arange(12, dtype=np.float32)
    column = pa.FixedSizeListArray.from_arrays(pa.array(numbers), 3)
    assert np.shares_memory(encoded(recs.Vector("v"), column), numbers)


def test_vectors_are_held_once_from_the_table_to_the_catalog() -> None:
    numbers = np.arange(6, dtype=np.float32)
    rows = {"user": ["u", "u", "v"], "item": ["a", "b", "c"]}
    items = {"item": ["a", "b", "c"], "v": pa.FixedSizeListArray.from_arrays(pa.array(numbers), 2)}
    data = recs.Interactions.from_table(rows, query="user", candidate="item", candidates=items)
    model = declared(recs.Vector("v", dim=4))
    model.fit(data.filter(min_per_query=1), epochs=1, progress=False)
    assert np.shares_memory(model.catalog.candidate.dense["v"], numbers)
    model.fit(data, epochs=1, progress=False)
    assert np.shares_memory(model.catalog.candidate.dense["v"], numbers)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[1.0, 2.0], [3.0], [4.0, 5.0]], "1 of 3 .* rows have a vector of 1 numbers, not of 2, the first is 'b'"),
        ([[1.0, 2.0], [3.0, None], [4.0, 5.0]], "hold a number that is missing or not finite, the first is 'b'"),
        ([[1.0, 2.0], None, [float("nan"), 5.0]], "hold a number that is missing or not finite, the first is 'c'"),
        ([[1.0, 2.0], None, [float("inf"), 5.0]], "hold a number that is missing or not finite, the first is 'c'"),
        ([[1.0, 2.0], [1e39, 0.0], [4.0, 5.0]], "hold a number that is missing or not finite, the first is 'b'"),
        ([None, None, None], "no row has a vector"),
        ([[], [], [4.0, 5.0]], "2 of 3 .* rows have a vector of 0 numbers, not of 2, .*null where there is none"),
        ([["a"], ["b"], ["c"]], r"Vector\('v'\) needs a list column of numbers, got lists of strings"),
        ([1.0, 2.0, 3.0], r"Vector\('v'\) needs a list column of numbers, got double"),
    ],
)  # fmt: skip
def test_vectors_that_cannot_be_used_are_refused_by_row(rows: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        shop_model([*[None] * 0], vectors=rows)


def shop_model(_: Any = None, *, vectors: Any, **options: Any) -> recs.TwoTower:
    table = {"user": ["u", "u", "v"], "item": ["a", "b", "c"]}
    items = {"item": ["a", "b", "c"], "v": vectors}
    data = recs.Interactions.from_table(table, query="user", candidate="item", candidates=items)
    model = declared(recs.Vector("v", dim=4), **options)
    model.fit(data, epochs=1, progress=False)
    return model


def declared(vector: recs.Vector, **options: Any) -> recs.TwoTower:
    query = recs.TowerSpec([recs.Categorical("user", dim=4)])
    return recs.TwoTower(query, recs.TowerSpec([vector]), **{"backend": OracleBackend(), **options})


def test_the_length_is_learnt_and_then_part_of_the_declaration() -> None:
    model = shop_model(vectors=[[1.0, 2.0, 3.0]] * 3)
    assert model.candidate.features[0] == recs.Vector("v", dim=4, length=3)
    assert model.weights()["candidate/vector/v/kernel"].shape == (3, 4)
    with pytest.raises(DataError, match="have a vector of 2 numbers, not of 3"):
        model.encode_candidate(features={"v": [[1.0, 2.0]]})


def test_towers_whose_widths_the_data_tells_are_checked_then() -> None:
    model = declared(recs.Vector("v"))  # width unknown: no error yet
    table = {"user": ["u"], "item": ["a"]}
    data = recs.Interactions.from_table(
        table, query="user", candidate="item", candidates={"item": ["a"], "v": [[1.0, 2.0]]}
    )
    with pytest.raises(SpecError, match="the query tower's output has 4 dims, the candidate tower's 2"):
        model.fit(data)


def test_new_candidates_with_a_vector_are_served_without_training(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    model = shop_model(vectors=list(vectors), retrieval=recs.RetrievalSpec(candidate_bias=False))
    new = model.encode_candidate(features={"item": ["new"], "v": [vectors[1]]})
    np.testing.assert_allclose(new[0], model.encode_candidate(["b"])[0], rtol=1e-6)
    model.save(tmp_path / "bundle")
    served = recs.load(tmp_path / "bundle", runtime="numpy")
    np.testing.assert_allclose(served.encode_candidate(features={"item": ["new"], "v": [vectors[1]]}), new, rtol=1e-5)


@pytest.mark.parametrize("kind", [HALF, SINGLE])
def test_a_bundle_holds_vectors_once_per_id_as_they_came(kind: pa.DataType, tmp_path: Path) -> None:
    model = shop_model(vectors=lists(np.arange(12).reshape(3, 4).tolist(), kind))
    model.save(tmp_path / "bundle")
    held = recs.load(tmp_path / "bundle", runtime="numpy").catalog.candidate.dense["v"]
    assert held.dtype == kind.to_pandas_dtype() and held.tolist() == np.arange(12.0).reshape(3, 4).tolist()
    assert not held.flags.owndata and not held.flags.writeable


def test_an_adopted_module_maps_its_vectors_itself() -> None:
    with pytest.raises(SpecError, match=r"a module maps its vectors itself; leave dim out of Vector\('v'\)"):
        recs.Adopted(lambda x: x, [recs.Vector("v", dim=4)])


@pytest.mark.parametrize("wrong", [{"dim": 0}, {"dim": 2.5}, {"length": -1}, {"normalise": "l2"}, {"normalise": 1}])
def test_a_declaration_that_cannot_be_meant_is_refused(wrong: Any) -> None:
    with pytest.raises(SpecError, match=r"Vector: 'v'"):
        recs.Vector("v", **wrong)


def test_vectors_of_the_query_and_of_the_context_are_read() -> None:
    table = {"user": ["u", "v"], "item": ["a", "b"], "page": [[1.0, 0.0], [0.0, 1.0]]}
    users = {"user": ["u", "v"], "face": [[1.0], [2.0]]}
    data = recs.Interactions.from_table(table, query="user", candidate="item", queries=users)
    query = recs.TowerSpec([recs.Vector("face", dim=2), recs.Vector("page", dim=2)])
    assert Schema.learn(query, recs.TowerSpec([recs.Categorical("item", dim=4)]), data).context == ("page",)
    model = recs.TwoTower(query, recs.TowerSpec([recs.Categorical("item", dim=4)]), backend=OracleBackend())
    model.fit(data, epochs=2, progress=False)
    got = model.query_tower.embed(
        recs.contract.batch.Features(1, {}, {"face": np.array([[2.0]]), "page": np.array([[0.5, 0.5]])})
    )
    weights = model.weights()
    expected = np.r_[2 * weights["query/vector/face/kernel"][0], weights["query/vector/page/kernel"].mean(0)]
    np.testing.assert_allclose(got[0], expected, rtol=1e-6)
    assert model.recommend(["u"], 2, context={"page": [[0.0, 1.0]]}).ids.shape == (1, 2)
