"""The `tf.data.Dataset` of what `fit` would train on, in Keras's own `fit`: the same losses, callbacks, schedules."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from recs_core_tensorflow import tf_dataset
from recs_core_tensorflow.environment import tf, tfrs

import recs_core as recs
from recs_core.contract.errors import DataError, SpecError, UnsupportedFeature

ROWS, USERS, ITEMS = 300, 30, 40


@pytest.fixture(scope="module")
def train() -> recs.Interactions:
    """Each row is another pair."""
    pairs = np.random.default_rng(0).choice(USERS * ITEMS, ROWS, replace=False)
    table = {
        "user": [f"u{n}" for n in pairs // ITEMS],
        "item": [f"i{n}" for n in pairs % ITEMS],
        "at": np.arange(ROWS, dtype=float),
    }
    items = {"item": [f"i{n}" for n in range(ITEMS)], "price": [float(n) for n in range(ITEMS)]}
    return recs.Interactions.from_table(table, query="user", candidate="item", timestamp="at", candidates=items)


def declared(**options: Any) -> recs.TwoTower:
    parts = {
        "query": recs.TowerSpec([recs.Categorical("user", dim=4), recs.History("item", dim=4)], layers=[8]),
        "candidate": recs.TowerSpec([recs.Categorical("item", dim=4), recs.Numeric("price")], layers=[8]),
        "optimizer": recs.SGD(0.5),
        "training": recs.TrainingSpec(epochs=2, batch_size=32),
        "backend": "tensorflow",
    }
    return recs.TwoTower(**{**parts, **options})


class Losses(tf.keras.callbacks.Callback):
    def __init__(self) -> None:
        super().__init__()
        self.losses: list[float] = []

    def on_train_batch_end(self, batch: int, logs: dict[str, float]) -> None:
        self.losses.append(logs["loss"])


RETRIEVALS = {
    "in-batch": recs.RetrievalSpec(),
    "in-batch, hits kept": recs.RetrievalSpec(remove_accidental_hits=False, candidate_bias=False),
    "refined": recs.RetrievalSpec(logq="refined", mask_positives=True),
    "hard": recs.RetrievalSpec(hard_negatives=5),
    "uniform": recs.RetrievalSpec(negatives="uniform", num_negatives=20, scoring="dot", temperature=1.0),
    "mixed": recs.RetrievalSpec(negatives="mixed", num_negatives=20, learn_temperature=True),
    "corpus": recs.RetrievalSpec(negatives="corpus", reduction="sum", temperature=1.0),
    "corpus, hard": recs.RetrievalSpec(negatives="corpus", hard_negatives=5),
}


QUICK = {("in-batch", "interaction"), ("mixed", "query"), ("corpus", "query")}


def each() -> Iterator[object]:
    """Every kind of negatives in batches of both kinds; a graph of each takes seconds."""
    for retrieval in RETRIEVALS:
        for batch_by in ("interaction", "query"):
            marks = [] if (retrieval, batch_by) in QUICK else [pytest.mark.slow]
            yield pytest.param(retrieval, batch_by, marks=marks)


@pytest.mark.parametrize(("retrieval", "batch_by"), list(each()))
def test_its_losses_are_those_of_fit(train: recs.Interactions, retrieval: str, batch_by: Any) -> None:
    rate = 0.5 if RETRIEVALS[retrieval].reduction == "mean" else 0.01
    own, fitted = (declared(retrieval=RETRIEVALS[retrieval], optimizer=recs.SGD(rate)) for _ in range(2))
    batches = tf_dataset(own, train, batch_by=batch_by, batch_size=8 if batch_by == "query" else 32)
    seen = Losses()
    own.model.native.compile(tf.keras.optimizers.SGD(rate))
    own.model.native.fit(batches, epochs=2, callbacks=[seen], verbose=0)
    fitted.fit(train, epochs=2, batch_by=batch_by, batch_size=8 if batch_by == "query" else 32)
    np.testing.assert_allclose(seen.losses, fitted.history.losses, rtol=1e-4)
    for name, weight in own.weights().items():
        np.testing.assert_allclose(weight, fitted.weights()[name], atol=1e-4, err_msg=name)


def test_a_query_of_one_target_is_laid_out_as_the_others() -> None:
    """Where each query of a batch has one target, and in the next some have more, the kernel's plans differ."""
    users = [0, 1, 2, 3, 4, 5, 6, 6, 7, 7]
    table = {"user": users, "item": [0, 1, 2, 3, 4, 0, 1, 2, 3, 4]}
    train = recs.Interactions.from_table(table, query="user", candidate="item")
    towers = (recs.TowerSpec([recs.Categorical(name, dim=3)]) for name in ("user", "item"))
    model = recs.TwoTower(*towers, backend="tensorflow", training=recs.TrainingSpec(batch_by="query", batch_size=2))
    targets = {len(batch.task["target_query"]) for batch in model.epochs(train)}
    assert len(targets) > 1
    assert [float(model.model.native.compute_loss(batch)) for batch in tf_dataset(model, train)] == pytest.approx(
        [
            float(model.task(model.query_tower(batch), model.candidate_tower(batch), **batch.task | codes(batch)))
            for batch in model.epochs(train)
        ],
        rel=1e-5,
    )


def codes(batch: Any) -> dict[str, Any]:
    return {"candidate_ids": batch.rows["task/bias"][batch.bias_codes]}


def test_each_pass_is_the_next_epoch_of_a_known_length(train: recs.Interactions) -> None:
    def prices(dataset: Any) -> list[list[float]]:
        return [batch["candidate"]["price"][:, 0].numpy().tolist() for batch in dataset]

    model = declared()
    batches = tf_dataset(model, train)
    assert len(batches) == int(batches.cardinality()) == -(-ROWS // 32)
    first, second = prices(batches), prices(batches)
    assert len(first) == len(batches)
    assert first != second
    assert prices(tf_dataset(model, train, epoch=1)) == second
    assert [len(batch) for batch in prices(tf_dataset(model, train, drop_last=True))] == [32] * (ROWS // 32)


def test_keras_callbacks_and_schedules_work(train: recs.Interactions) -> None:
    own, fitted = declared(), declared(training=recs.TrainingSpec(epochs=2, batch_size=32))
    native = own.build(train).model.native
    assert isinstance(native, tfrs.Model)
    batches = tf_dataset(own, train)
    steps = 2 * len(batches)
    native.compile(tf.keras.optimizers.SGD(tf.keras.optimizers.schedules.PolynomialDecay(0.5, steps - 1, 0.25)))
    stops = tf.keras.callbacks.EarlyStopping("loss", patience=1, min_delta=1e9)
    seen = Losses()
    history = native.fit(batches, epochs=9, callbacks=[stops, seen], verbose=0)
    assert len(history.epoch) == 2  # of nine: no loss falls by as much
    fitted.fit(train, schedule=recs.Schedule(warmup=0, final=0.5))
    np.testing.assert_allclose(seen.losses, fitted.history.losses, rtol=1e-4)


def test_dropout_is_in_the_batch_and_of_training_alone(train: recs.Interactions) -> None:
    spec = recs.TowerSpec([recs.Categorical("user", dim=4)], layers=[8], dropout=0.5)
    own, fitted = declared(query=spec), declared(query=spec)
    batches = tf_dataset(own, train)
    batch = next(iter(batches))
    native = own.model.native
    assert float(native.compute_loss(batch, training=True)) != float(native.compute_loss(batch))
    plain = own.query_tower.forward({"user": batch["query"]["user"]}, training=False)
    np.testing.assert_array_equal(native(batch)[0], plain)
    loss = float(native.compute_loss(batch, training=True))
    fitted.fit(train, epochs=1)
    assert loss == pytest.approx(fitted.history.losses[0], rel=1e-5)


def test_a_model_in_float64_has_its_loss_in_a_loop_of_ones_own(train: recs.Interactions) -> None:
    own, fitted = declared(dtype="float64"), declared(dtype="float64")
    loss = own.build(train).model.native.compute_loss(next(iter(tf_dataset(own, train))), training=True)
    fitted.fit(train, epochs=1)
    assert float(loss) == pytest.approx(fitted.history.losses[0], rel=1e-12)
    with pytest.raises(UnsupportedFeature, match=r"in float32, the model is in float64; use TwoTower\.fit"):
        own.model.native.compile("sgd")


@contextmanager
def policy(name: str) -> Iterator[None]:
    tf.keras.mixed_precision.set_global_policy(name)
    try:
        yield
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")


def test_mixed_precision_is_refused_in_one_line(train: recs.Interactions) -> None:
    native = declared().build(train).model.native
    with policy("mixed_float16"), pytest.raises(UnsupportedFeature, match=r"not mixed_float16; .*'float32'"):
        native.compile("sgd")
    scaled = tf.keras.mixed_precision.LossScaleOptimizer(tf.keras.optimizers.SGD())
    with pytest.raises(UnsupportedFeature, match="scales no loss"):
        native.compile(scaled)


def test_fit_of_ours_computes_in_its_own_dtype_under_any_policy(train: recs.Interactions) -> None:
    plain, mixed = declared(), declared()
    plain.fit(train, epochs=1)
    with policy("mixed_float16"):
        mixed.fit(train, epochs=1)
    assert mixed.history.losses == plain.history.losses


def test_a_batch_of_another_model_is_refused(train: recs.Interactions) -> None:
    fewer, _ = train.split(by="time", test=0.9)
    other = declared().build(fewer).model.native
    batches = tf_dataset(declared(), train)
    with pytest.raises(DataError, match=r"the model has 'table/\w+' of \d+ rows; the batch is of a model that has"):
        other.compute_loss(next(iter(batches)))
    other.compile("sgd")
    with pytest.raises(DataError, match="make a dataset of this model with tf_dataset"):
        other.fit(batches, verbose=0)
    of_no_user = tf_dataset(declared(query=recs.TowerSpec([recs.History("item", dim=4)], layers=[8])), train)
    with pytest.raises(DataError, match="'table/user' of .* a model that does not have it"):
        declared().build(train).model.native.compute_loss(next(iter(of_no_user)))


def test_what_cannot_be_meant_is_refused(train: recs.Interactions) -> None:
    with pytest.raises(SpecError, match=r"the model comes first, then the data: tf_dataset\(model, train\)"):
        tf_dataset(train, declared())  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="got Model as the model"):
        tf_dataset(declared().build(train).model, train)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="train must be Interactions"):
        tf_dataset(declared(), train.to_table())
    with pytest.raises(SpecError, match="epochs: there is no argument 'shuffle'"):
        tf_dataset(declared(), train, shuffle=True)  # type: ignore[call-arg]
    with pytest.raises(SpecError, match="the model is on "):
        tf_dataset(declared(backend="keras"), train)
