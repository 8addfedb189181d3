"""A user's own module as a tower, through the whole journey; here Keras's, on whichever engine is tested."""

from __future__ import annotations

import numpy as np
import pytest

import recs_core as recs
from recs_core.errors import BundleError, SpecError, UnsupportedFeature

DIM = 8


@pytest.fixture(scope="module")
def data() -> recs.Interactions:
    random = np.random.default_rng(1)
    who = random.integers(0, 10, 200)
    what = 2 * random.integers(0, 4, 200) + who % 2
    return recs.Interactions.from_table({"user": who, "item": what}, query="user", candidate="item")


def module(rows: int, seed: int = 0) -> object:
    recs.backend("keras")  # chooses the engine before Keras is imported
    import keras

    model = keras.Sequential([keras.layers.Embedding(rows, DIM), keras.layers.Dense(DIM)])
    model.build((None,))
    keras.utils.set_random_seed(seed)
    return model


def test_a_native_module_trains_beside_a_spec(data: recs.Interactions) -> None:
    tower = recs.TowerSpec([recs.Categorical("item", dim=DIM)])
    model = recs.TwoTower(module(11), tower, recs.RetrievalSpec(temperature=0.2), recs.Adam(0.02), backend="keras")
    history = model.fit(data, epochs=15, batch_size=32)
    assert history["loss"][-1] < history["loss"][0] - 0.2
    found = model.recommend([0, 1], k=4)
    parity = found.ids % 2
    assert (parity[0] == 0).sum() >= 3 and (parity[1] == 1).sum() >= 3


def test_two_native_modules_and_what_cannot_be_saved(data: recs.Interactions, tmp_path: object) -> None:
    candidate = recs.Adopted(module(9, seed=1), [recs.Categorical("item")], output_dim=DIM)
    model = recs.TwoTower(module(11), candidate, recs.RetrievalSpec(temperature=0.2), backend="keras")
    model.fit(data, epochs=1, batch_size=32)
    assert model.encode_candidate().shape == (8, DIM + 1)
    with pytest.raises(BundleError, match="module"):
        model.save(f"{tmp_path}/bundle")


def test_raw_ids_are_refused_by_a_backend_that_hands_over_codes(data: recs.Interactions) -> None:
    tower = recs.TowerSpec([recs.Categorical("item", dim=DIM)])
    model = recs.TwoTower(recs.Adopted(module(11), raw_ids=True), tower, backend="keras")
    with pytest.raises(UnsupportedFeature, match="keras backend hands an adopted module codes, not raw ids"):
        model.fit(data, epochs=1)


def test_a_history_cannot_be_handed_to_a_module() -> None:
    with pytest.raises(SpecError, match="features must be Categorical, Bag, Text or Numeric"):
        recs.Adopted(object(), [recs.History("item")])
