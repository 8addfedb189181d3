"""The oracle's towers, by hand and against finite differences."""

import numpy as np
import pytest

from recs_core.contract.batch import Features, Ragged
from recs_core.contract.feature_kinds import Bag, Categorical, History, Numeric, Text
from recs_core.contract.towers import TowerSpec
from recs_core.reference import towers


def ragged(*rows):
    lengths = [len(row) for row in rows]
    return Ragged(np.array([c for row in rows for c in row], np.int32), np.cumsum([0, *lengths]).astype(np.int32))


TABLE = np.array([[1.0, 10.0], [2.0, 20.0], [4.0, 40.0]])


@pytest.mark.parametrize(
    ("feature", "codes", "expected"),
    [
        (Categorical("a", dim=2), np.array([2, 0, 2], np.int32), [[4, 40], [1, 10], [4, 40]]),
        (Bag("a", dim=2), ragged([0, 1], [], [2, 2, 1]), [[1.5, 15], [0, 0], [10 / 3, 100 / 3]]),
        (Bag("a", dim=2, pooling="sum"), ragged([0, 1], [], [2, 2, 1]), [[3, 30], [0, 0], [10, 100]]),
        (Text("a", dim=2, buckets=3), ragged([0, 2], [1], []), [[2.5, 25], [2, 20], [0, 0]]),
        (History("a", dim=2), ragged([], [1, 2], [0]), [[0, 0], [3, 30], [1, 10]]),
    ],
)
def test_a_feature_is_its_rows_pooled(feature, codes, expected):
    got = towers.embed(TowerSpec([feature]), "query", Features(3, {"a": codes}), {feature.table_name: TABLE})
    np.testing.assert_array_equal(got, expected)


def test_features_stand_side_by_side_in_the_order_of_the_spec():
    tower = TowerSpec([Numeric("price"), Categorical("a", dim=2), Numeric("age")])
    features = Features(1, {"a": np.array([1], np.int32)}, {"age": np.array([[7.0]]), "price": np.array([[3.0]])})
    got = towers.embed(tower, "query", features, {"table/a": TABLE})
    np.testing.assert_array_equal(got, [[3, 2, 20, 7]])


def test_keep_masks_the_concatenation_before_the_layers():
    tower = TowerSpec([Categorical("a", dim=2)], layers=[1], activation=None)
    features = Features(1, {"a": np.array([1], np.int32)}, keep=np.array([[2.0, 0.0]]))
    weights = {
        "table/a": TABLE,
        "query/dense_0/kernel": np.array([[1.0], [1.0]]),
        "query/dense_0/bias": np.array([0.5]),
    }
    np.testing.assert_array_equal(towers.embed(tower, "query", features, weights), [[4.5]])


@pytest.mark.parametrize(
    ("activation", "final", "expected"),
    [
        ("relu", None, 1.0),
        (None, "relu", 0.0),
        ("tanh", None, 2 * np.tanh(-2) + 1),
        ("sigmoid", "tanh", np.tanh(2 / (1 + np.exp(2)) + 1)),
    ],
)
def test_the_activation_follows_every_layer_but_the_last(activation, final, expected):
    tower = TowerSpec([Numeric("x")], layers=[1, 1], activation=activation, final_activation=final)
    weights = {
        "query/dense_0/kernel": np.array([[1.0]]),
        "query/dense_0/bias": np.array([-3.0]),
        "query/dense_1/kernel": np.array([[2.0]]),
        "query/dense_1/bias": np.array([1.0]),
    }
    got = towers.embed(tower, "query", Features(1, dense={"x": np.array([[1.0]])}), weights)
    want = max(0.0, 2 * -2 + 1) if activation is None else expected
    np.testing.assert_allclose(got, [[want]], rtol=1e-15)


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid", None])
def test_backward_is_the_derivative_of_forward(activation):
    random = np.random.default_rng(0)
    tower = TowerSpec(
        [
            Categorical("a", dim=2, table="shared"),
            Bag("b", dim=2, table="shared", pooling="sum"),
            Text("t", dim=3, buckets=4),
            Numeric("n"),
        ],
        layers=[3, 2],
        activation=activation,
        final_activation="tanh",
    )
    features = Features(
        3,
        {"a": np.array([2, 0, 2], np.int32), "b": ragged([2, 2], [], [1]), "t": ragged([3], [0, 1, 0], [])},
        {"n": random.normal(size=(3, 1))},
        keep=random.integers(0, 2, (3, 8)) * 2.0,
    )
    weights = {
        "table/shared": random.normal(size=(3, 2)),
        "table/t": random.normal(size=(4, 3)),
        "query/dense_0/kernel": random.normal(size=(8, 3)),
        "query/dense_0/bias": random.normal(size=3),
        "query/dense_1/kernel": random.normal(size=(3, 2)),
        "query/dense_1/bias": random.normal(size=2),
    }
    direction = random.normal(size=(3, 2))
    _, trace = towers.forward(tower, "query", features, weights)
    gradients = towers.backward(tower, "query", features, weights, trace=trace, gradient=direction)
    assert set(gradients) == set(weights)
    for name, weight in weights.items():
        numeric = np.zeros_like(weight)
        for at in np.ndindex(weight.shape):
            ends = []
            for sign in (1, -1):
                moved = weight.copy()
                moved[at] += sign * 1e-6
                ends.append((towers.embed(tower, "query", features, {**weights, name: moved}) * direction).sum())
            numeric[at] = (ends[0] - ends[1]) / 2e-6
        np.testing.assert_allclose(gradients[name], numeric, atol=1e-8, err_msg=name)
