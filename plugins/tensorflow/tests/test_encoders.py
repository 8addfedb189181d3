"""Histories with an encoder: the oracle's numbers, whatever is beside them, in TensorFlow's own loops too."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from recs_core_tensorflow import tf_dataset
from recs_core_tensorflow.backend import create
from recs_core_tensorflow.environment import tf
from recs_core_tensorflow.export import export_recommender, export_tower

import recs_core as recs
from recs_core import datasets
from recs_core.contract import weights as canonical
from recs_core.contract.batch import Batch, Features, Ragged, Sequences
from recs_core.contract.encoders import GRU, SelfAttention
from recs_core.contract.errors import DataError, UnsupportedFeature
from recs_core.contract.feature_kinds import Categorical, History
from recs_core.contract.optimizers import SGD
from recs_core.contract.plans import TowerPlan, UpdatePlan
from recs_core.contract.retrieval import RetrievalSpec
from recs_core.contract.towers import TowerSpec
from recs_core.reference import towers, training

SASREC = SelfAttention(layers=1, ffn=1, activation="relu", gate=False, position="learned")
SPECS = [
    SelfAttention(heads=2, ffn=2, dropout=0.3),
    SelfAttention(layers=1, heads=4, activation="relu", dropout=0),
    SelfAttention(layers=1, gate=False, position=None),
    SASREC,
    GRU(dropout=0.3),
    GRU(layers=2, dropout=0),
]
LENGTH, ROWS = 6, 9
SPEC = RetrievalSpec(
    scoring="cosine", temperature=0.3, negatives="corpus", candidate_bias=True, logq=False, remove_accidental_hits=False
)
ITEM = TowerSpec((Categorical("item", dim=8),))


def asked(encoder: GRU | SelfAttention) -> TowerSpec:
    """A tower of one history."""
    return TowerSpec((History("item", dim=8, max_length=LENGTH, encoder=encoder),))


def plans(encoder: GRU | SelfAttention) -> tuple[TowerPlan, TowerPlan]:
    return TowerPlan.of("query", asked(encoder)), TowerPlan.of("candidate", ITEM)


def weights(encoder: GRU | SelfAttention) -> dict[str, Any]:
    """None of them at a special value."""
    random = np.random.default_rng(1)
    shapes = canonical.shapes(*plans(encoder), SPEC, {"table/item": ROWS}, ROWS - 1)
    return {name: random.normal(size=shape) * 0.4 for name, shape in shapes.items()}


def histories() -> Sequences:
    """Two empty ones; rows that read the end of one, the middle, the same place as another, and nothing."""
    random = np.random.default_rng(2)
    codes = Ragged.of([random.integers(1, ROWS, n).tolist() for n in (6, 0, 3, 2, 0, 1, 5)])
    return Sequences(codes, np.array([5, 2, -1, 8, 6, 8, -1, 11, 16, 0], np.int32))


def batch(encoder: GRU | SelfAttention) -> Batch:
    """Against the corpus, with dropout's masks, where rows of one history share what is no negative."""
    random, read = np.random.default_rng(3), histories()
    drawn = plans(encoder)[0].encoders[0].masked
    keep = {name: random.random((len(read.values), width)) > 0.3 for name, width in drawn.items()}
    rows = np.arange(ROWS, dtype=np.int32)
    target = random.integers(0, ROWS - 1, len(read.at)).astype(np.int32)
    return Batch(
        rows={"table/item": rows, "task/bias": rows[:-1]},
        query=Features(len(read.at), {"item": replace(read, keep=keep)}),
        candidate=Features(ROWS - 1, {"item": rows[1:]}),
        task={
            "target_candidate": target,
            "target_query": np.arange(len(target), dtype=np.int32),
            "positives": Ragged.of([[1, 4], [0], [], [2, 3, 7]]),
            "positives_row": np.array([0, 0, 0, 1, 1, 2, 2, 3, 3, 3], np.int32),
        },
        bias_codes=rows[:-1],
        whole=frozenset({"table/item", "task/bias"}),
        full=(len(target), len(target)),
    )


@pytest.mark.parametrize("encoder", SPECS, ids=repr)
def test_gradients_of_a_step_are_the_oracles(encoder: GRU | SelfAttention) -> None:
    spec = replace(SPEC, mask_positives=True)
    model = create().model(*plans(encoder), spec, weights(encoder), dtype="float64")
    trainer = create().trainer(model, UpdatePlan(SGD(1.0)))
    loss = float(trainer.step(batch(encoder), 1.0))
    expected, gradients = training.gradients(
        training.Model(asked(encoder), ITEM, spec), weights(encoder), batch(encoder)
    )
    np.testing.assert_allclose(loss, expected, rtol=1e-13)
    moved = model.weights()
    for name, before in weights(encoder).items():
        np.testing.assert_allclose(before - moved[name], gradients[name], rtol=1e-10, atol=1e-13, err_msg=name)


@pytest.mark.parametrize("encoder", SPECS, ids=repr)
def test_vectors_are_the_oracles_and_alone_the_same(encoder: GRU | SelfAttention) -> None:
    model = create().model(*plans(encoder), SPEC, weights(encoder), dtype="float64")
    read = histories()
    expected = towers.embed(asked(encoder), "query", Features(len(read.at), {"item": read}), weights(encoder))
    found = model.query.embed(batch(encoder).query)  # without its masks
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)
    np.testing.assert_array_equal(found[read.at < 0], 0)
    for row in range(len(read.at)):
        alone = model.query.embed(Features(1, {"item": read.take(np.array([row]))}))
        np.testing.assert_allclose(alone[0], found[row], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("encoder", [SPECS[0], SASREC, SPECS[-1]], ids=repr)
def test_the_native_tower_reads_ragged_codes(encoder: GRU | SelfAttention) -> None:
    model = create().model(*plans(encoder), SPEC, weights(encoder), dtype="float64")
    for held in ([[3, 1, 4], [], [5, 2, 6, 7, 1, 2, 8], [8]], [[], []]):
        latest = Ragged.of(held).latest(LENGTH)
        features = Features(len(held), {"item": Sequences.last(latest)})
        expected = towers.embed(asked(encoder), "query", features, weights(encoder))
        vectors = model.query.native(tf.ragged.constant(held, tf.int32, ragged_rank=1))
        np.testing.assert_allclose(vectors, expected, rtol=1e-12, atol=1e-14)
    names = {variable.name.removesuffix(":0") for variable in model.native.trainable_variables}
    assert set(plans(encoder)[0].encoders[0].parts) <= names
    with pytest.raises(DataError, match="history with an encoder"):
        model.query.native(tf.zeros((2, 3), tf.int32))


def fitted(encoder: GRU | SelfAttention) -> tuple[recs.TwoTower, recs.Interactions]:
    data = datasets.load("synthetic", num_queries=40, num_candidates=60, num_interactions=300)
    query = recs.TowerSpec([recs.History(data.candidate_name, dim=8, max_length=5, encoder=encoder)])
    model = recs.TwoTower(
        query,
        recs.TowerSpec([recs.Categorical(data.candidate_name, dim=8)]),
        retrieval=replace(SPEC, mask_positives=True),
        optimizer=SGD(0.1),
        training=recs.TrainingSpec(epochs=1, batch_size=8, batch_by="sequence"),
        backend="tensorflow",
        seed=1,
    )
    return model.build(data), data


@pytest.mark.parametrize("encoder", [SPECS[0], replace(SPECS[0], time="request"), SPECS[-1]], ids=repr)
def test_the_whole_model_in_keras_own_loop(encoder: GRU | SelfAttention) -> None:
    model, data = fitted(encoder)
    own = copy.copy(model)
    native = model.model.native
    native.compile(tf.keras.optimizers.SGD(0.1))
    native.fit(tf_dataset(model, data), epochs=1, verbose=0)
    own.fit(data)
    for name, weight in own.model.weights().items():
        np.testing.assert_allclose(model.model.weights()[name], weight, atol=1e-4, err_msg=name)


def test_codes_alone_are_refused_where_times_are_read(tmp_path: Any) -> None:
    model, data = fitted(SelfAttention(layers=1, ffn=1, time="history"))
    name = data.candidate_name
    with pytest.raises(UnsupportedFeature, match="a SavedModel cannot hold .* which reads when past candidates were"):
        export_tower(model, "query", tmp_path / "tower")
    with pytest.raises(UnsupportedFeature, match="codes alone do not tell"):
        model.query_tower.native({name: tf.ragged.constant([[1, 2]], dtype=tf.int32)})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("encoder", [SPECS[0], SASREC, SPECS[-1]], ids=repr)
def test_a_saved_model_gives_the_same_vectors_and_lists(encoder: GRU | SelfAttention, tmp_path: Any) -> None:
    model, data = fitted(encoder)
    known = model.schema.candidates.ids.to_pylist()
    asked_with = [known[:3], [], known[3:10], [*known[5:6], *known[:1]]]
    padding = -1 if isinstance(known[0], int) else ""
    padded = [[*row, *[padding] * (7 - len(row))] for row in asked_with]
    export_tower(model, "query", tmp_path / "tower")
    served = tf.saved_model.load(str(tmp_path / "tower")).signatures["serving_default"]
    found = served(**{data.candidate_name: tf.constant(padded)})["embedding"]
    unit = found / np.sqrt((found.numpy() ** 2).sum(axis=1, keepdims=True) + 1e-12)
    np.testing.assert_allclose(unit, model.encode_query(history=asked_with)[:, :8], rtol=1e-5, atol=1e-6)
    export_recommender(model, tmp_path / "all", k=4)
    served = tf.saved_model.load(str(tmp_path / "all")).signatures["serving_default"]
    lists = model.recommend(history=asked_with, k=4)
    np.testing.assert_allclose(served(**{data.candidate_name: tf.constant(padded)})["scores"], lists.scores, atol=1e-5)
