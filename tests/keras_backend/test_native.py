"""What a Keras user holds: towers as models, the task in a loop of one's own, adopted modules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recs_core.conformance.worlds import World
from recs_core.contract.batch import Features, Ragged
from recs_core.contract.errors import DataError, SpecError, UnsupportedFeature
from recs_core.contract.feature_kinds import Bag, Categorical, Numeric
from recs_core.contract.optimizers import Adam
from recs_core.contract.plans import UpdatePlan
from recs_core.contract.retrieval import RetrievalSpec
from recs_core.contract.towers import TowerSpec
from recs_core.keras_backend.backend import Backend
from recs_core.reference import towers

SPEC = TowerSpec((Categorical("user", dim=4, num_oov=2), Bag("tags", dim=3), Numeric("age")), layers=(3,))
WORLD = World(query=SPEC)
FEATURES = WORLD.features("query", 6)
SMALL = RetrievalSpec(logq=False, remove_accidental_hits=False, candidate_bias=False)


def padded(codes: Ragged) -> np.ndarray:
    out = np.full((len(codes.lengths), codes.lengths.max()), -1, np.int32)
    for row, (lo, hi) in enumerate(zip(codes.offsets[:-1], codes.offsets[1:], strict=True)):
        out[row, : hi - lo] = codes.values[lo:hi]
    return out


def model_of(backend: Backend, **changes: Any) -> Any:
    weights = WORLD.weights()
    return backend.model(*WORLD.plans, WORLD.retrieval, weights, **changes)


def test_native_is_a_keras_model_with_the_towers_vectors(backend: Backend, tmp_path: Path) -> None:
    import keras

    tower = model_of(backend).query
    codes = FEATURES.codes
    inputs = {"user": codes["user"], "tags": padded(codes["tags"]), "age": FEATURES.dense["age"]}
    expected = towers.embed(SPEC, "query", FEATURES, WORLD.weights())
    np.testing.assert_allclose(tower.embed(FEATURES), expected, atol=1e-6)
    for vectors in (tower.native(inputs), tower(FEATURES)):
        np.testing.assert_allclose(keras.ops.convert_to_numpy(vectors), expected, atol=1e-6)

    lines: list[str] = []
    tower.native.summary(print_fn=lambda line, **_: lines.append(line))
    assert all(name in "".join(lines) for name in ("user", "tags", "dense_0"))

    tower.native.save(tmp_path / "tower.keras")
    loaded = keras.saving.load_model(tmp_path / "tower.keras")
    np.testing.assert_allclose(keras.ops.convert_to_numpy(loaded(inputs)), expected, atol=1e-6)


def test_training_moves_the_native_model(backend: Backend) -> None:
    model = model_of(backend)
    before = model.query.native.get_weights()
    backend.trainer(model, UpdatePlan(Adam())).step(WORLD.batch(), 0.1)
    assert all((x != y).any() for x, y in zip(before, model.query.native.get_weights(), strict=True))


def test_codes_outside_a_table_are_refused(backend: Backend) -> None:
    wrong = Features(1, {**FEATURES.take(np.arange(1)).codes, "user": np.array([99], np.int32)}, {"age": np.zeros(1)})
    with pytest.raises(DataError, match="'user' holds a code outside table/user"):
        model_of(backend).query.embed(wrong)


def adopted(backend: Backend, *layers: Any) -> Any:
    import keras

    module = keras.Sequential([keras.layers.Embedding(11, 4), *layers, keras.layers.Dense(3)])
    module(np.zeros(1, np.int32))
    return backend.adopt(module, ["user"])


def trained_with(backend: Backend, tower: Any, steps: int = 40) -> tuple[Any, list[float]]:
    world = World(retrieval=SMALL)
    weights = {name: value for name, value in world.weights().items() if name.split("/")[1] in ("item", "dense_0")}
    weights = {name: value for name, value in weights.items() if not name.startswith("query")}
    model = backend.model(tower, world.plans[1], SMALL, weights)
    trainer = backend.trainer(model, UpdatePlan(Adam(0.03)))
    batch = world.batch()
    rows = {name: rows for name, rows in batch.rows.items() if name != "table/user"}
    user = batch.rows["table/user"][batch.query.codes["user"]]
    batch = type(batch)(rows, Features(batch.query.size, {"user": user}), batch.candidate, batch.task)
    return model, [float(trainer.step(batch, 0.03)) for _ in range(steps)]


def test_an_adopted_module_is_trained(backend: Backend) -> None:
    import keras

    tower = adopted(backend, keras.layers.Dropout(0.2, seed=1))
    assert tower.output_dim == 3
    model, losses = trained_with(backend, tower)
    assert np.mean(losses[-5:]) < np.mean(losses[:5])
    assert len(set(losses)) == len(losses)  # dropout draws anew each step
    weights = model.weights()
    assert {name for name in weights if name.endswith(("kernel", "embeddings"))} >= {"query/native/1/kernel"}
    model.load_weights(weights)


def test_moving_statistics_are_kept_or_refused(backend: Backend) -> None:
    import keras

    tower = adopted(backend, keras.layers.BatchNormalization())
    if backend.engine == "jax":
        with pytest.raises(UnsupportedFeature, match="moving statistics"):
            trained_with(backend, tower)
        return
    before = [np.array(keras.ops.convert_to_numpy(v)) for v in tower.native.non_trainable_weights]
    trained_with(backend, tower, steps=2)
    for old, variable in zip(before, tower.native.non_trainable_weights, strict=True):
        assert (old != keras.ops.convert_to_numpy(variable)).any()


def test_what_cannot_be_adopted_says_why(backend: Backend) -> None:
    import keras

    with pytest.raises(SpecError, match=r"keras\.Model or keras\.Layer"):
        backend.adopt(object(), ["user"])
    with pytest.raises(SpecError, match=r"Dense failed on code 0 of user \(.*\); call it once on an example"):
        backend.adopt(keras.layers.Dense(3), ["user"])
    with pytest.raises(SpecError, match="stands in both towers"):
        tower = adopted(backend)
        backend.model(tower, tower, SMALL, {})


def test_the_tasks_gradient_reaches_vectors_bias_and_temperature(backend: Backend) -> None:
    """Against finite differences of the loss itself, which the conformance suite holds to the oracle."""
    random = np.random.default_rng(0)
    query, candidate = random.normal(size=(5, 3)), random.normal(size=(5, 3))
    bias, log = random.normal(size=7), np.log(0.5)
    codes = np.array([0, 3, 3, 6, 1])
    spec = RetrievalSpec(learn_temperature=True, logq=False)

    def loss(query: Any, candidate: Any, bias: Any, log: Any) -> float:
        task = backend.task(spec, weights={"task/bias": bias, "task/log_temperature": log}, dtype="float64")
        return as_float(task(query, candidate, candidate_ids=codes))

    at = [query, candidate, bias, np.asarray(log)]
    got = gradients(backend, spec, at, codes)
    for i, array in enumerate(at):
        move = random.normal(size=array.shape)
        up, down = ([*at[:i], array + sign * 1e-5 * move, *at[i + 1 :]] for sign in (1, -1))
        np.testing.assert_allclose((got[i] * move).sum(), (loss(*up) - loss(*down)) / 2e-5, rtol=1e-6, atol=1e-9)


def as_float(scalar: Any) -> float:
    return float(scalar.detach() if hasattr(scalar, "detach") else scalar)


def gradients(backend: Backend, spec: RetrievalSpec, at: list[Any], codes: np.ndarray) -> list[Any]:
    """By the engine's own differentiation."""
    import keras

    task = backend.task(spec, weights={"task/bias": at[2], "task/log_temperature": at[3]}, dtype="float64")
    own = [task.variables["task/bias"], task.variables["task/log_temperature"]]
    if backend.engine == "torch":
        import torch

        query, candidate = (torch.tensor(x, requires_grad=True) for x in at[:2])
        task(query, candidate, candidate_ids=codes).backward()
        return [x.grad.numpy() for x in (query, candidate, own[0].value, own[1].value)]
    if backend.engine == "tensorflow":
        import tensorflow as tf

        query, candidate = (tf.Variable(x) for x in at[:2])
        leaves = [query, candidate, own[0].value, own[1].value]
        with tf.GradientTape() as tape:
            value = task(query, candidate, candidate_ids=codes)
        return [tf.convert_to_tensor(g).numpy() for g in tape.gradient(value, leaves)]
    import jax

    def loss(query: Any, candidate: Any, bias: Any, log: Any) -> Any:
        with keras.StatelessScope([(own[0], bias), (own[1], log)]):
            return task(query, candidate, candidate_ids=codes)

    return [np.asarray(g) for g in jax.grad(loss, argnums=(0, 1, 2, 3))(*at[:2], own[0].value, own[1].value)]
