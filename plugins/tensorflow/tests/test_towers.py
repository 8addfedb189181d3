"""A user's own `tf.keras.Model` as a tower."""

from __future__ import annotations

import numpy as np
import pytest
from recs_core_tensorflow.backend import create
from recs_core_tensorflow.environment import tf

import recs_core as recs
from recs_core import datasets
from recs_core.adopted import Adopted
from recs_core.contract.batch import Batch, Features
from recs_core.contract.errors import DataError, SpecError
from recs_core.contract.feature_kinds import Categorical
from recs_core.contract.optimizers import Adagrad
from recs_core.contract.plans import TowerPlan, UpdatePlan
from recs_core.contract.retrieval import RetrievalSpec
from recs_core.contract.towers import TowerSpec

TASK = RetrievalSpec(candidate_bias=False, logq=False, remove_accidental_hits=False)
USERS = ["[UNK]", "ann", "bob", "cy"]  # row 0 stands for ids never seen


def by_raw_id() -> object:
    tf.keras.utils.set_random_seed(1)
    lookup = tf.keras.layers.StringLookup(vocabulary=USERS[1:], mask_token=None)
    return tf.keras.Sequential([lookup, tf.keras.layers.Embedding(4, 3), tf.keras.layers.Dense(2)])


def batch() -> Batch:
    """Codes of an adopted side are rows of whole tables, those of a built one count within `rows`."""
    return Batch(
        rows={"table/item": np.array([2, 4], np.int32)},
        query=Features(3, {"user": np.array([1, 3, 3], np.int32)}),
        candidate=Features(3, {"item": np.array([0, 1, 1], np.int32)}),
        task={},
    )


def test_a_string_lookup_gets_raw_ids() -> None:
    module = by_raw_id()
    tower = create().adopt(module, ["user"], ids={"user": USERS})
    assert tower.output_dim == 2
    got = tower.embed(Features(2, {"user": np.array([2, 0], np.int32)}))
    np.testing.assert_allclose(got, module(tf.constant(["bob", "never seen"])))
    np.testing.assert_allclose(tower(batch()), module(tf.constant(["ann", "cy", "cy"])))


def test_an_adopted_tower_trains_beside_a_built_one() -> None:
    tower = create().adopt(by_raw_id(), ["user"], ids={"user": USERS})
    item = TowerPlan.of("candidate", TowerSpec((Categorical("item", dim=2),)))
    table = np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32)
    model = create().model(tower, item, TASK, {"table/item": table})
    native = [name for name in model.weights() if name.startswith("query/native/")]
    assert len(native) == 3  # the embedding, a kernel and a bias
    assert set(model.weights()) == {*native, "table/item"}
    trainer = create().trainer(model, UpdatePlan(Adagrad(0.5)))
    losses = [float(trainer.step(batch(), 0.5)) for _ in range(20)]
    assert 2 / 3 * np.log(2) < losses[-1] < losses[0]  # two of three columns hold the same item
    saved = model.weights()
    model.load_weights({name: value * 0 for name, value in saved.items()})
    assert not tower.embed(Features(1, {"user": np.array([1], np.int32)})).any()
    model.load_weights(saved)


def test_several_features_come_as_a_dict() -> None:
    inputs = {name: tf.keras.Input((), dtype=tf.int32, name=name) for name in ("user", "country")}
    parts = [tf.keras.layers.Embedding(4, 2)(value) for value in inputs.values()]
    tower = create().adopt(tf.keras.Model(inputs, tf.keras.layers.Concatenate()(parts)), ["user", "country"])
    assert tower.output_dim == 4
    with pytest.raises(DataError, match="'country'"):
        tower.embed(Features(1, {"user": np.zeros(1, np.int32)}))


def test_a_keras_3_layer_is_refused_by_name() -> None:
    import keras  # here, as it may import TensorFlow, which the plugin must be the first to do

    with pytest.raises(SpecError, match="Keras 3 layer, but TFRS runs on Keras 2"):
        create().adopt(keras.layers.Dense(3), ["user"])
    with pytest.raises(SpecError, match=r"adopts a tf\.keras\.Model"):
        create().adopt(object(), ["user"])


def test_a_signature_that_does_not_match_is_refused() -> None:
    with pytest.raises(SpecError, match=r"failed on codes of 'user' .*recs\.Adopted\(…, raw_ids=True\)"):
        create().adopt(by_raw_id(), ["user"])
    with pytest.raises(SpecError, match="output_dim=5 is stated, but the output of Sequential has 2 columns"):
        create().adopt(by_raw_id(), ["user"], output_dim=5, ids={"user": USERS})
    with pytest.raises(SpecError, match="'item'"):
        create().adopt(by_raw_id(), ["user"], ids={"item": USERS})
    tower = create().adopt(by_raw_id(), ["user"], ids={"user": USERS})
    wide = TowerPlan.of("candidate", TowerSpec((Categorical("item", dim=3),)))
    with pytest.raises(SpecError, match="2 dims, the candidate tower's 3"):
        create().model(tower, wide, TASK, {"table/item": np.zeros((2, 3))})


def test_two_tower_takes_a_native_model_with_a_string_lookup() -> None:
    train = datasets.load("report")
    users = train.query_ids.ids.to_pylist()
    lookup = tf.keras.layers.StringLookup(vocabulary=users, mask_token=None)
    module = tf.keras.Sequential([lookup, tf.keras.layers.Embedding(len(users) + 1, 4)])
    model = recs.TwoTower(
        query=Adopted(module, raw_ids=True, output_dim=4),
        candidate=TowerSpec((Categorical("movie_id", dim=4),)),
        backend="tensorflow",
    )
    history = model.fit(train, epochs=3, batch_size=16, progress=False)
    assert history.losses[-1] < history.losses[0]
    assert model.query_tower.native is module
    assert len(model.recommend([users[0]], k=5, exclude="seen").ids[0]) == 5
