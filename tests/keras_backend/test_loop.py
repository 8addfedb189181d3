"""Keras's own `fit` on the batches of ours: the same losses and weights, callbacks and schedules, on each engine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import recs_core as recs
from recs_core.contract.errors import DataError, SpecError, UnsupportedFeature
from recs_core.keras_backend.backend import Backend

ROWS, USERS, ITEMS, SIZE = 200, 30, 40, 32


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


def declared(backend: Backend, **options: Any) -> recs.TwoTower:
    parts = {
        "query": recs.TowerSpec([recs.Categorical("user", dim=4), recs.History("item", dim=4)], layers=[8]),
        "candidate": recs.TowerSpec([recs.Categorical("item", dim=4), recs.Numeric("price")], layers=[8]),
        "optimizer": recs.SGD(0.5),
        "training": recs.TrainingSpec(epochs=2, batch_size=SIZE),
        "backend": backend,
    }
    return recs.TwoTower(**{**parts, **options})


def losses() -> Any:
    """A callback that keeps what Keras says of a batch: the mean of its epoch so far."""
    import keras

    class Losses(keras.callbacks.Callback):
        def __init__(self) -> None:
            super().__init__()
            self.seen: list[float] = []

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            self.seen.append(float(logs["loss"]))

    return Losses()


def means(history: recs.TrainingHistory | Any, steps: int) -> np.ndarray:
    """The means so far of each epoch's losses, whose batches are all of one size."""
    each = np.array(history.losses).reshape(-1, steps)
    return (np.cumsum(each, axis=1) / np.arange(1, steps + 1)).ravel()


RETRIEVALS = {
    "in-batch": recs.RetrievalSpec(),
    "refined": recs.RetrievalSpec(logq="refined", mask_positives=True, candidate_bias=False),
    "uniform": recs.RetrievalSpec(negatives="uniform", num_negatives=20, scoring="dot", temperature=1.0),
    "mixed": recs.RetrievalSpec(negatives="mixed", num_negatives=20, learn_temperature=True, hard_negatives=9),
    "corpus": recs.RetrievalSpec(negatives="corpus"),
}
QUICK = {("in-batch", "interaction"), ("mixed", "query"), ("corpus", "query")}


def each() -> Iterator[object]:
    """Every kind of negatives in batches of both kinds; an engine that compiles takes seconds for each."""
    for retrieval in RETRIEVALS:
        for batch_by in ("interaction", "query"):
            marks = [] if (retrieval, batch_by) in QUICK else [pytest.mark.slow]
            yield pytest.param(retrieval, batch_by, marks=marks)


@pytest.mark.parametrize(("retrieval", "batch_by"), list(each()))
def test_its_losses_are_those_of_fit(backend: Backend, train: recs.Interactions, retrieval: str, batch_by: Any) -> None:
    import keras

    from recs_core.keras_backend import batches

    own, fitted = (declared(backend, retrieval=RETRIEVALS[retrieval]) for _ in range(2))
    settings: Any = {"batch_by": batch_by, "batch_size": 8 if batch_by == "query" else SIZE, "drop_last": True}
    given, seen = batches(own, train, **settings), losses()
    own.model.native.compile(keras.optimizers.SGD(0.5))
    own.model.native.fit(given, epochs=2, callbacks=[seen], verbose=0)
    fitted.fit(train, epochs=2, **settings)
    if (retrieval, batch_by) == ("in-batch", "interaction"):  # Keras weights its mean by rows: here all batches have 32
        np.testing.assert_allclose(seen.seen, means(fitted.history, len(given)), rtol=1e-4)
    assert seen.seen[0] == pytest.approx(fitted.history.losses[0], rel=1e-5)
    for name, weight in own.weights().items():
        np.testing.assert_allclose(weight, fitted.weights()[name], atol=1e-4, err_msg=name)


def test_batches_may_show_more_candidates_than_the_first_two(backend: Backend, train: recs.Interactions) -> None:
    """Keras on TensorFlow takes the axes that are alike in the first two batches for settled."""
    import keras

    from recs_core.keras_backend import batches

    def shown(odd: int) -> recs.Interactions:
        lists = [["never", "nor"] if row == odd else ["never"] for row in range(ROWS)]
        items = {"item": ["never", "nor", *(f"i{n}" for n in range(ITEMS))], "price": [float(n) for n in range(42)]}
        table = train.to_table().append_column("shown", pa.array(lists))
        names: Any = {"query": "user", "candidate": "item", "timestamp": "at", "negatives": "shown"}
        return recs.Interactions.from_table(table, **names, candidates=items)

    own, fitted, probe = declared(backend), declared(backend), declared(backend)
    settings: Any = {"batch_size": SIZE, "drop_last": True}
    columns = {odd: [b.candidate.size for b in probe.epochs(shown(odd), **settings)] for odd in range(9)}
    data = shown(next(odd for odd, sizes in columns.items() if sizes[0] == sizes[1] < max(sizes)))
    given = batches(own, data, **settings)
    own.model.native.compile(keras.optimizers.SGD(0.5))
    own.model.native.fit(given, epochs=1, verbose=0)
    fitted.fit(data, epochs=1, **settings)
    for name, weight in own.weights().items():
        np.testing.assert_allclose(weight, fitted.weights()[name], atol=1e-4, err_msg=name)


def test_callbacks_schedules_and_a_last_batch_that_is_smaller(backend: Backend, train: recs.Interactions) -> None:
    import keras

    from recs_core.keras_backend import batches

    own, fitted = declared(backend), declared(backend)
    given = batches(own, train)
    steps = 2 * len(given)
    assert ROWS % SIZE and len(given) == -(-ROWS // SIZE)
    native = own.model.native
    assert isinstance(native, keras.Model)
    rate = keras.optimizers.schedules.PolynomialDecay(0.5, steps - 1, 0.25)
    native.compile(keras.optimizers.SGD(rate))
    stops = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: setattr(native, "stop_training", epoch == 1)
    )
    history = native.fit(given, epochs=9, callbacks=[stops], verbose=0)
    assert len(history.epoch) == 2
    fitted.fit(train, schedule=recs.Schedule(warmup=0, final=0.5))
    for name, weight in own.weights().items():
        np.testing.assert_allclose(weight, fitted.weights()[name], atol=1e-4, err_msg=name)
    assert own.fit(train, epochs=1)["loss"]  # goes on from these weights


def test_each_pass_is_the_next_epoch(backend: Backend, train: recs.Interactions) -> None:
    from recs_core.keras_backend import batches

    def prices(given: Any) -> list[Any]:
        given.on_epoch_begin()
        return [given[step][0]["candidate"]["dense"]["price"].ravel().tolist() for step in range(len(given))]

    given = batches(declared(backend), train)
    first, second = prices(given), prices(given)
    assert first != second and prices(batches(declared(backend), train, epoch=1)) == second


def test_dropout_is_in_the_batch_and_of_training_alone(backend: Backend, train: recs.Interactions) -> None:
    import keras

    from recs_core.keras_backend import batches

    spec = recs.TowerSpec([recs.Categorical("user", dim=4)], layers=[8], dropout=0.5)
    own, fitted = declared(backend, query=spec), declared(backend, query=spec)
    given, seen = batches(own, train), losses()
    own.model.native.compile(keras.optimizers.SGD(0.0))
    own.model.native.fit(given, epochs=1, callbacks=[seen], verbose=0)
    fitted.fit(train, epochs=1)
    assert seen.seen[0] == pytest.approx(fitted.history.losses[0], rel=1e-5)
    codes = given[0][0]["query"]["codes"]["user"]
    vectors = own.model.native(given[0][0])["query"]
    np.testing.assert_allclose(
        np.asarray(keras.ops.convert_to_numpy(vectors)),
        np.asarray(keras.ops.convert_to_numpy(own.query_tower.native(codes))),
        rtol=1e-5,
        atol=1e-6,
    )


def test_a_module_of_ones_own_trains_in_it(backend: Backend, train: recs.Interactions) -> None:
    import keras

    from recs_core.keras_backend import batches

    def module() -> Any:
        keras.utils.set_random_seed(3)
        return keras.Sequential([keras.layers.Embedding(USERS + 1, 8), keras.layers.Dense(8)])

    own, fitted = declared(backend, query=module()), declared(backend, query=module())
    given = batches(own, train)
    own.model.native.compile(keras.optimizers.SGD(0.5))
    own.model.native.fit(given, epochs=2, verbose=0)
    fitted.fit(train)
    for name, weight in own.weights().items():
        np.testing.assert_allclose(weight, fitted.weights()[name], atol=1e-4, err_msg=name)


@contextmanager
def policy(name: str) -> Iterator[None]:
    import keras

    before = keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.mixed_precision.set_dtype_policy(before)


def test_what_cannot_be_meant_is_refused(backend: Backend, train: recs.Interactions) -> None:
    from recs_core.keras_backend import batches

    native = declared(backend).build(train).model.native
    with (
        policy("mixed_float16"),
        pytest.raises(UnsupportedFeature, match="in float32, not mixed_float16; first"),
    ):
        native.compile("sgd")
    with pytest.raises(SpecError, match=r"the model comes first, then the data: batches\(model, train\)"):
        batches(train, declared(backend))  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="got Model as the model"):
        batches(declared(backend).build(train).model, train)  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="epochs: there is no argument 'shuffle'"):
        batches(declared(backend), train, shuffle=True)  # type: ignore[call-arg]
    fewer, _ = train.split(by="time", test=0.9)
    other = declared(backend).build(fewer).model.native
    other.compile("sgd")
    with pytest.raises(DataError, match=r"has 'table/\w+' of \d+ rows; the batches are of a model that has \d+ rows"):
        other.fit(batches(declared(backend), train), verbose=0)
