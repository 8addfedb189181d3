"""A user's own `tf.keras.Model`, raw ids and all, in a bundle: a model that is built again takes its state over."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from recs_core_tensorflow.environment import tf

import recs_core as recs
from recs_core import datasets
from recs_core.contract.errors import BundleError, SpecError


def module(ids: list[str] | list[int], seed: int, dim: int = 8) -> object:
    tf.keras.utils.set_random_seed(seed)
    lookup = tf.keras.layers.StringLookup if isinstance(ids[0], str) else tf.keras.layers.IntegerLookup
    rows = tf.keras.layers.Embedding(len(ids) + 1, dim)
    return tf.keras.Sequential([lookup(vocabulary=ids), rows, tf.keras.layers.Dense(8)])


def test_an_adopted_model_is_saved_and_trains_on(tmp_path: Path) -> None:
    data = datasets.load("synthetic")
    ids = data.query_ids.ids.to_pylist()
    tower = recs.TowerSpec([recs.Categorical(data.candidate_name, dim=8)])
    model = recs.TwoTower(
        recs.Adopted(module(ids, 0), raw_ids=True), tower, optimizer=recs.Adam(0.01), backend="tensorflow"
    )
    model.fit(data, epochs=1, batch_size=512)
    path = model.save(tmp_path / "bundle")

    loaded = [recs.load(path, backend="tensorflow", native={"query": module(ids, seed)}) for seed in (1, 2)]
    assert (loaded[0].recommend(ids[:5]).ids == model.recommend(ids[:5]).ids).all()
    for each in (model, *loaded):
        each.fit(data, epochs=1, batch_size=512)
        np.testing.assert_allclose(each.recommend(ids[:5]).scores, model.recommend(ids[:5]).scores, rtol=1e-6)
    with pytest.raises(BundleError, match=r"does not fit the module given .*'query/native/0/embeddings' has shape"):
        recs.load(path, backend="tensorflow", native={"query": module(ids, 0, dim=4)})


def test_one_model_in_both_towers_is_refused() -> None:
    """It would move twice in every step."""
    data = datasets.load("synthetic")
    both = recs.Adopted(module(data.query_ids.ids.to_pylist(), 0), raw_ids=True)
    with pytest.raises(SpecError, match="the same Sequential stands in both towers"):
        recs.TwoTower(both, both, backend="tensorflow").fit(data, epochs=1)


def adapted(kind: str, ids: list[str], seed: int) -> object:
    tf.keras.utils.set_random_seed(seed)
    if kind == "lookup":
        look = tf.keras.layers.StringLookup(mask_token=None)
        look.adapt(ids)
        layers = [look, tf.keras.layers.Embedding(look.vocabulary_size(), 8)]
    else:
        look = tf.keras.layers.TextVectorization(split="character", output_sequence_length=6)
        look.adapt(ids)
        rows = tf.keras.layers.Embedding(look.vocabulary_size(), 8)
        layers = [look, rows, tf.keras.layers.GlobalAveragePooling1D()]
    return tf.keras.Sequential([tf.keras.Input((), dtype=tf.string), *layers])


@pytest.mark.parametrize("kind", ["lookup", "text"])
def test_a_layer_adapted_to_its_ids_trains_embeds_and_is_saved(kind: str, tmp_path: Path) -> None:
    data = datasets.load("synthetic")
    train = recs.Interactions.from_table(
        {"user": [f"u{v}" for v in data.query_codes], "item": [f"i{v}" for v in data.candidate_codes]},
        query="user",
        candidate="item",
    )
    ids = train.query_ids.ids.to_pylist()
    tower = recs.TowerSpec([recs.Categorical("item", dim=8)])
    query = recs.Adopted(adapted(kind, ids, 0), raw_ids=True)
    model = recs.TwoTower(query, tower, optimizer=recs.Adam(0.01), backend="tensorflow")
    history = model.fit(train, epochs=2, batch_size=512)
    assert history["loss"][1] < history["loss"][0]
    assert [name for name in model.weights() if name.startswith("query/")] == ["query/native/0/embeddings"]
    path = model.save(tmp_path / "bundle")
    loaded = recs.load(path, backend="tensorflow", native={"query": adapted(kind, ids, 1)})
    assert (loaded.recommend(ids[:5]).ids == model.recommend(ids[:5]).ids).all()
