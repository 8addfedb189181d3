"""A user's own `tf.keras.Model`, raw ids and all, in a bundle: a model that is built again takes its state over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recs_core_tensorflow import tf_dataset
from recs_core_tensorflow.environment import tf

import recs_core as recs
from recs_core import datasets
from recs_core.contract.errors import BundleError, SpecError, TrainingError


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


# What a module takes, and what it returns


def shop(rows: int = 200) -> recs.Interactions:
    random = np.random.default_rng(0)
    table = {"user": [f"u{n}" for n in random.integers(0, 12, rows)], "item": [f"i{n % 9}" for n in range(rows)]}
    items = {
        "item": [f"i{n}" for n in range(9)],
        "title": [f"red shoe {n}" for n in range(9)],
        "tags": [["a", "b"][: n % 3] for n in range(9)],
    }
    return recs.Interactions.from_table(table, query="user", candidate="item", candidates=items)


class ByName(tf.keras.Model):
    """Takes a dict, also of one feature."""

    def __init__(self, name: str, rows: int, ids: list[str] | None = None) -> None:
        super().__init__()
        self.column, self.rows = name, tf.keras.layers.Embedding(rows, 4)
        self.look = None
        if ids is not None:
            self.look = tf.keras.layers.StringLookup()
            self.look.adapt(ids)

    def call(self, given: Any) -> Any:
        codes = given[self.column] if self.look is None else self.look(given[self.column])
        rows = self.rows(codes)
        return tf.reduce_sum(rows, axis=1) if isinstance(rows, tf.RaggedTensor) else rows


def of(query: Any, candidate: Any = None) -> recs.TwoTower:
    declared = recs.TowerSpec([recs.Categorical("user", dim=4)]), recs.TowerSpec([recs.Categorical("item", dim=4)])
    towers = query or declared[0], candidate or declared[1]
    return recs.TwoTower(*towers, optimizer=recs.Adam(0.01), backend="tensorflow")


@pytest.mark.parametrize("raw_ids", [False, True])
def test_a_module_may_take_a_dict_of_one_feature(raw_ids: bool) -> None:
    train = shop()
    ids = train.query_ids.ids.to_pylist()
    module = ByName("user", len(ids) + 2, ids if raw_ids else None)
    model = of(recs.Adopted(module, raw_ids=raw_ids))
    losses = model.fit(train, epochs=3, batch_size=32)["loss"]
    assert losses[-1] < losses[0]
    wanted = module({"user": tf.constant(ids[:2]) if raw_ids else model.schema.vocabularies["table/user"].encode(
        train.query_ids.ids[:2]) + 1})  # fmt: skip
    np.testing.assert_allclose(model.query_tower.embed(model_features(model, [0, 1])), wanted, rtol=1e-6)


def model_features(model: recs.TwoTower, codes: list[int]) -> Any:
    from recs_core.contract.batch import Features

    return Features(len(codes), {"user": np.asarray(codes, np.int32) + 1})


@pytest.mark.parametrize("feature", [recs.Bag("tags", dim=4), recs.Text("title", dim=4, buckets=64)])
def test_a_bag_and_a_text_come_ragged_in_a_dict_too(feature: Any) -> None:
    model = of(None, recs.Adopted(ByName(feature.name, 64), [feature]))
    losses = model.fit(shop(), epochs=3, batch_size=32)["loss"]
    assert losses[-1] < losses[0]


def test_the_text_of_a_column_reaches_a_module_as_it_is() -> None:
    """The vectoriser of a module's own, over the words of raw titles."""
    train = shop()
    words = tf.keras.layers.TextVectorization()
    words.adapt([f"red shoe {n}" for n in range(9)])

    class Titles(tf.keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.rows = words, tf.keras.layers.Embedding(words.vocabulary_size(), 4)

        def call(self, titles: Any) -> Any:
            return tf.reduce_mean(self.rows(self.words(titles)), axis=1)

    module = Titles()
    model = of(None, recs.Adopted(module, [recs.Categorical("title", dim=4)], raw_ids=True)).build(train)
    np.testing.assert_allclose(
        model.candidate_tower.embed(model_titles(model)), module(tf.constant(["red shoe 3", "red shoe 1"])), rtol=1e-6
    )
    with pytest.raises(SpecError, match=r"codes of 'title' stand for no ids; .* by recs\.Categorical\('title'\)"):
        of(None, recs.Adopted(Titles(), [recs.Text("title", dim=4)], raw_ids=True)).build(train)


def model_titles(model: recs.TwoTower) -> Any:
    import pyarrow as pa

    from recs_core.contract.batch import Features

    rows = model.schema.vocabularies["table/title"].encode(pa.array(["red shoe 3", "red shoe 1"])) + 1
    return Features(2, {"title": rows.astype(np.int32)})


def test_what_fails_is_told_what_to_type() -> None:
    train = shop()
    ids = train.query_ids.ids.to_pylist()
    with pytest.raises(SpecError, match=r"ByName failed on codes of 'user' \(.*\); recs\.Adopted\(…, raw_ids=True\)"):
        of(ByName("user", 20, ids)).build(train)
    look = tf.keras.layers.StringLookup()
    look.adapt(ids)
    without_input = tf.keras.Sequential([look, tf.keras.layers.Embedding(20, 4)])
    with pytest.raises(SpecError, match=r"on raw ids of 'user' .*with tf\.keras\.Input\(\(\), dtype=tf\.string\)"):
        of(recs.Adopted(without_input, raw_ids=True)).build(train)
    flat = tf.keras.Sequential([tf.keras.layers.Embedding(20, 4), tf.keras.layers.Reshape((1, 4))])
    with pytest.raises(SpecError, match=r"Sequential must return a tensor of shape \(2, d\); it returned \(2, 1, 4\)"):
        of(flat).build(train)


class Late(tf.keras.Model):
    """Returns another shape from its fourth training step on."""

    def __init__(self, rows: int | None, width: int | None) -> None:
        super().__init__()
        self.table, self.calls = tf.keras.layers.Embedding(20, 4), tf.Variable(0, trainable=False)
        self.kept = rows, width

    def call(self, codes: Any, training: bool = False) -> Any:
        if training:
            self.calls.assign_add(1)
        out, (rows, width) = self.table(codes), self.kept
        return tf.cond(self.calls > 3, lambda: out[:rows, :width], lambda: out)


@pytest.mark.parametrize(("rows", "width"), [(5, None), (None, 3)])
@pytest.mark.parametrize("loop", ["fit", "keras"])
def test_another_shape_in_a_late_step_is_named(loop: str, rows: int | None, width: int | None) -> None:
    train, model = shop(), of(Late(rows, width))
    said = rf"Late must return a tensor of shape \(32, 4\); it returned \({rows or 32}, {width or 4}\)"
    if loop == "fit":
        with pytest.raises(SpecError, match=said):
            model.fit(train, epochs=1, batch_size=32)
        assert len(model.history.losses) == 3
    else:
        batches = tf_dataset(model, train, batch_size=32)
        model.model.native.compile("sgd")
        with pytest.raises(SpecError, match=said):
            model.model.native.fit(batches, verbose=0)


def test_a_module_in_half_precision_trains_beside_float32() -> None:
    tf.keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        module = tf.keras.Sequential([tf.keras.layers.Embedding(20, 8), tf.keras.layers.Dense(4)])
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")
    model = of(module)
    losses = model.fit(shop(), epochs=3, batch_size=32)["loss"]
    assert losses[-1] < losses[0]
    assert model.encode_query(["u1"]).dtype == np.float32


def test_a_code_beyond_a_table_is_said_in_one_line() -> None:
    with pytest.raises(SpecError, match=r"takes code 0 of 'user', but not \d+, the last .* needs \d+ rows") as caught:
        of(ByName("user", 3)).build(shop())
    assert "\n" not in str(caught.value)
    with pytest.raises(  # a module of a stated width is not tried
        TrainingError, match=r"batch 1 of \d \(64 queries\): InvalidArgumentError: indices\[\d+\] = \d+ is not in"
    ):
        of(recs.Adopted(ByName("user", 3), output_dim=4)).fit(shop(), epochs=1, batch_size=64)
