"""The NumPy runtime against the float64 oracle, which shares no code with it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recs_core.contract import weights as canonical
from recs_core.contract.batch import Batch, Features, Ragged, Sequences
from recs_core.contract.encoders import GRU, SelfAttention
from recs_core.contract.errors import DataError, UnsupportedFeature
from recs_core.contract.feature_kinds import Bag, Categorical, History, Numeric, Text
from recs_core.contract.plans import TowerPlan
from recs_core.contract.retrieval import RetrievalSpec
from recs_core.contract.towers import TowerSpec
from recs_core.reference import towers as reference
from recs_core.runtime import NumpyTower, towers

ROWS = 11


def ragged(random, size, longest=6):
    lengths = random.integers(0, longest + 1, size)
    lengths[random.random(size) < 0.3] = 0
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return Ragged(random.integers(0, ROWS, offsets[-1]).astype(np.int32), offsets)


FEATURES = {
    "categorical": Categorical("a", dim=3),
    "bag mean": Bag("b", dim=2),
    "bag sum": Bag("c", dim=4, pooling="sum"),
    "text": Text("d", dim=3, buckets=ROWS),
    "history": History("e", dim=5),
    "gru": History("g", dim=4, max_length=6, encoder=GRU()),
    "attention": History("h", dim=4, max_length=6, encoder=SelfAttention(layers=1, heads=2)),
    "numeric": Numeric("f"),
}


def case(tower, size, seed, dtype="float32"):
    random = np.random.default_rng(seed)
    tables = {f.table_name: ROWS for f in tower.features if f.table_name}
    initial = canonical.initial(TowerPlan.of("query", tower), None, RetrievalSpec(), tables, 1, seed=seed)
    weights = {name: (random.standard_normal(w.shape) * 0.7).astype(dtype) for name, w in initial.items()}
    codes, dense = {}, {}
    for feature in tower.features:
        if isinstance(feature, Numeric):
            dense[feature.name] = random.standard_normal((size, 1))
        elif isinstance(feature, Categorical):
            codes[feature.name] = random.integers(0, ROWS, size).astype(np.int32)
        else:
            bag = ragged(random, size)
            codes[feature.name] = Sequences.last(bag) if getattr(feature, "encoder", None) else bag
    return weights, Features(size, codes, dense)


def numpy_tower(spec, weights):
    return NumpyTower(TowerPlan.of("query", spec), weights)


def check(tower, size, seed, dtype="float32"):
    weights, features = case(tower, size, seed, dtype)
    found = NumpyTower(TowerPlan.of("query", tower), weights).embed(features)
    expected = reference.embed(tower, "query", features, weights) if size else np.zeros((0, tower.output_dim))
    assert found.dtype == dtype
    assert found.shape == (size, tower.output_dim)
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("feature", FEATURES.values(), ids=FEATURES)
def test_every_kind_of_feature(feature, dtype):
    check(TowerSpec([feature]), 40, seed=1, dtype=dtype)


@settings(max_examples=60, deadline=None)
@given(
    features=st.lists(st.sampled_from(list(FEATURES.values())), min_size=1, max_size=6, unique=True),
    layers=st.lists(st.integers(1, 7), max_size=3),
    activation=st.sampled_from([None, "relu", "tanh", "sigmoid"]),
    final=st.sampled_from([None, "relu", "tanh", "sigmoid"]),
    size=st.integers(0, 20),
    seed=st.integers(0, 1000),
    block=st.integers(1, 9),
)
def test_towers_of_every_shape(features, layers, activation, final, size, seed, block):
    before = towers.BLOCK
    towers.BLOCK = block  # so that rows fall into many blocks, some longer than one
    try:
        check(TowerSpec(features, layers=layers, activation=activation, final_activation=final), size, seed)
    finally:
        towers.BLOCK = before


def test_by_hand():
    table = np.array([[1, 2], [3, 4], [5, 6]], np.float32)
    weights = {"table/b": table, "query/dense_0/kernel": np.array([[1], [-1]], np.float32)}
    weights["query/dense_0/bias"] = np.array([0.5], np.float32)
    tower = numpy_tower(TowerSpec([Bag("b", dim=2)], layers=[1], final_activation="relu"), weights)
    bags = Ragged(np.array([0, 2, 2], np.int32), np.array([0, 2, 2, 3], np.int32))
    # means (3, 4), nothing, (5, 6): 3 − 4 + ½, 0 + ½, 5 − 6 + ½; negative ones cut to 0
    assert tower.embed(Features(3, {"b": bags})).tolist() == [[0], [0.5], [0]]


def test_a_sigmoid_far_out_neither_overflows_nor_warns():
    weights = {"query/dense_0/kernel": np.array([[1]], np.float32), "query/dense_0/bias": np.zeros(1, np.float32)}
    tower = numpy_tower(TowerSpec([Numeric("f")], layers=[1], final_activation="sigmoid"), weights)
    assert tower.embed(Features(3, {}, {"f": np.array([[-1e30], [0], [1e30]])})).tolist() == [[0], [0.5], [1]]


def test_only_rows_asked_for_are_read(tmp_path):
    """The table is larger than the memory it may take: a sparse file of 64 GB that holds zeros."""
    rows = 2**28
    path = tmp_path / "table"
    with path.open("wb") as file:
        file.truncate(rows * 64 * 4)
    table = np.memmap(path, np.float32, "r", shape=(rows, 64))
    tower = numpy_tower(TowerSpec([Categorical("a", dim=64)]), {"table/a": table})
    assert not tower.embed(Features(2, {"a": np.array([0, rows - 1], np.int32)})).any()


def test_a_batch_and_a_missing_feature_are_refused():
    weights, features = case(TowerSpec([FEATURES["categorical"]]), 3, seed=0)
    tower = numpy_tower(TowerSpec([FEATURES["categorical"]]), weights)
    np.testing.assert_array_equal(tower(features), tower.embed(features))
    with pytest.raises(UnsupportedFeature, match="does not train"):
        tower(Batch({}, features, features, {}))
    with pytest.raises(DataError, match="lack 'a'"):
        tower.embed(Features(3))


@pytest.mark.parametrize("encoder", [GRU(), SelfAttention()], ids=["gru", "attention"])
def test_histories_that_are_all_empty_are_zeros(encoder):
    spec = TowerSpec([History("e", dim=4, max_length=3, encoder=encoder)])
    weights, _ = case(spec, 1, seed=1)
    empty = Ragged(np.zeros(0, np.int32), np.zeros(3, np.int32))
    np.testing.assert_array_equal(
        numpy_tower(spec, weights).embed(Features(2, {"e": Sequences.last(empty)})), np.zeros((2, 4))
    )
