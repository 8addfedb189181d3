"""A user's own module as a tower, through the whole journey; here Keras's, on whichever engine is tested."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recs_core as recs
from recs_core.contract.errors import BundleError, SpecError, UnsupportedFeature

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

    keras.utils.set_random_seed(seed)
    model = keras.Sequential([keras.layers.Embedding(rows, DIM), keras.layers.Dense(DIM)])
    model.build((None,))
    return model


def test_a_native_module_trains_beside_a_spec(data: recs.Interactions) -> None:
    tower = recs.TowerSpec([recs.Categorical("item", dim=DIM)])
    model = recs.TwoTower(module(11), tower, recs.RetrievalSpec(temperature=0.2), recs.Adam(0.02), backend="keras")
    history = model.fit(data, epochs=15, batch_size=32)
    assert history["loss"][-1] < history["loss"][0] - 0.2
    found = model.recommend([0, 1], k=4)
    parity = found.ids % 2
    assert (parity[0] == 0).sum() >= 3 and (parity[1] == 1).sum() >= 3


def test_two_native_modules(data: recs.Interactions) -> None:
    candidate = recs.Adopted(module(9, seed=1), [recs.Categorical("item")], output_dim=DIM)
    model = recs.TwoTower(module(11), candidate, recs.RetrievalSpec(temperature=0.2), backend="keras")
    model.fit(data, epochs=1, batch_size=32)
    assert model.encode_candidate().shape == (8, DIM + 1)


@pytest.mark.parametrize("rows", [1, 10])
def test_a_table_that_is_too_small_is_refused_before_training(data: recs.Interactions, rows: int) -> None:
    tower = recs.TowerSpec([recs.Categorical("item", dim=DIM)])
    model = recs.TwoTower(module(rows), tower, backend="keras")  # 10 users, and the row of unknown ones
    with pytest.raises(SpecError, match=r"takes code 0 of 'user', but not 10, the last .* needs 11 rows"):
        model.fit(data, epochs=1)


def test_the_last_code_of_a_history_is_tried_too(data: recs.Interactions) -> None:
    recs.backend("keras")
    import keras

    class Latest(keras.Model):
        def __init__(self, rows: int) -> None:
            super().__init__()
            self.items = keras.layers.Embedding(rows, DIM)

        def call(self, history: tuple[Any, Any]) -> Any:
            values, offsets = history
            return keras.ops.take(self.items(values), keras.ops.maximum(offsets[1:] - 1, 0), axis=0)

    tower = recs.TowerSpec([recs.Categorical("item", dim=DIM)])
    with pytest.raises(SpecError, match=r"takes code 0 of 'item', but not 8, the last .* needs 9 rows"):
        recs.TwoTower(recs.Adopted(Latest(8), [recs.History("item")]), tower, backend="keras").build(data)
    recs.TwoTower(recs.Adopted(Latest(9), [recs.History("item")]), tower, backend="keras").build(data)


def adopting(seed: int = 0) -> recs.TwoTower:
    query = recs.Adopted(module(11, seed), rebuild="shop.towers:make")
    tower = recs.TowerSpec([recs.Categorical("item", dim=DIM)])
    return recs.TwoTower(query, tower, recs.RetrievalSpec(temperature=0.2), backend="keras")


@pytest.fixture(scope="module")
def saved(data: recs.Interactions, tmp_path_factory: pytest.TempPathFactory) -> tuple[recs.TwoTower, Path]:
    model = adopting()
    model.fit(data, epochs=2, batch_size=32)
    return model, model.save(tmp_path_factory.mktemp("adopted") / "bundle")


def test_a_native_module_is_saved_and_takes_its_weights_over(
    saved: tuple[recs.TwoTower, Path], data: recs.Interactions
) -> None:
    model, path = saved
    loaded = recs.load(path, backend="keras", native={"query": module(11, seed=7)})
    np.testing.assert_array_equal(loaded.recommend([0, 1], k=4).ids, model.recommend([0, 1], k=4).ids)
    for name, weight in model.weights().items():
        np.testing.assert_array_equal(loaded.weights()[name], weight)
    other = recs.load(path, backend="keras", native={"query": module(11, seed=8)})
    for each in (loaded, other):
        assert isinstance(each, recs.TwoTower)
        each.fit(data, epochs=1, batch_size=32)
    np.testing.assert_array_equal(loaded.recommend([0], k=4).scores, other.recommend([0], k=4).scores)
    assert loaded.position.epoch == 3


def test_a_run_with_a_native_module_resumes(data: recs.Interactions, tmp_path: Path) -> None:
    class Dies:
        def on_epoch_end(self, record: Any) -> None:
            if record.epoch == 2:
                raise InterruptedError

    plan: dict[str, Any] = {"epochs": 3, "batch_size": 32}
    whole = adopting()
    whole.fit(data, **plan)
    with pytest.raises(InterruptedError):
        adopting().fit(data, **plan, checkpoint=tmp_path / "run", callbacks=[Dies()])
    again = recs.TwoTower.resume(tmp_path / "run", backend="keras", native={"query": module(11, seed=3)})
    again.fit(data)
    for name, weight in whole.weights().items():
        np.testing.assert_array_equal(again.weights()[name], weight, err_msg=name)


def test_where_a_native_module_cannot_be_loaded(saved: tuple[recs.TwoTower, Path]) -> None:
    _, path = saved
    remedy = re.escape(
        f"build it and recs.load({str(path)!r}, backend='keras', native={{'query': shop.towers.make()}})"
    )
    named = r"its query tower is a keras module, keras\..*Sequential"
    for options, why in (
        ({"runtime": "numpy"}, "which NumPy cannot run"),
        ({"backend": "torch"}, "which the torch backend cannot run"),
        ({"backend": "keras"}, "whose code no bundle holds"),
    ):
        with pytest.raises(BundleError, match=f"{named}, {why}; {remedy}"):
            recs.load(path, **options)


@pytest.mark.parametrize("rows", [10, 12])
def test_another_module_is_refused(saved: tuple[recs.TwoTower, Path], rows: int) -> None:
    with pytest.raises(BundleError, match=r"weights-.*does not fit the module given .*'query/native/0/embeddings'.*11"):
        recs.load(saved[1], backend="keras", native={"query": module(rows)})


def test_numpy_serves_the_stored_vectors_of_a_native_candidate_tower(data: recs.Interactions, tmp_path: Path) -> None:
    tower = recs.TowerSpec([recs.Categorical("user", dim=DIM)])
    model = recs.TwoTower(tower, module(9), recs.RetrievalSpec(temperature=0.2), backend="keras")
    model.fit(data, epochs=1, batch_size=32)
    with pytest.raises(BundleError, match="its candidate tower is a keras module"):
        recs.load(model.save(tmp_path / "without"), runtime="numpy")
    path = model.save(tmp_path / "bundle", include_vectors=True)
    served = recs.load(path, runtime="numpy")
    np.testing.assert_allclose(served.recommend([0, 1], k=4).scores, model.recommend([0, 1], k=4).scores, rtol=1e-5)
    np.testing.assert_allclose(served.similar([0], k=4).scores, model.similar([0], k=4).scores, rtol=1e-5)
    with pytest.raises(UnsupportedFeature, match="candidate tower is a native module, which NumPy cannot run"):
        served.encode_candidate(features={"item": [0]})


def test_verify_says_that_no_golden_query_was_asked(
    saved: tuple[recs.TwoTower, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    from recs_core.cli.main import main

    for command in ("verify", "info"):
        with pytest.raises(SystemExit) as stopped:
            main(["bundle", command, str(saved[1])])
        assert not stopped.value.code
    said = capsys.readouterr().out
    assert "golden queries not asked: its query tower is a keras module" in said
    assert "built by shop.towers:make" in said
    assert 'native={"query": shop.towers.make()}' in (saved[1] / "README.md").read_text()


def test_what_builds_a_module_is_named_as_an_import() -> None:
    with pytest.raises(SpecError, match="rebuild is 'package.module:function', got 'make it'"):
        recs.Adopted(object(), rebuild="make it")


def test_raw_ids_are_refused_by_a_backend_that_hands_over_codes(data: recs.Interactions) -> None:
    tower = recs.TowerSpec([recs.Categorical("item", dim=DIM)])
    model = recs.TwoTower(recs.Adopted(module(11), raw_ids=True), tower, backend="keras")
    with pytest.raises(UnsupportedFeature, match="keras backend hands an adopted module codes, not raw ids"):
        model.fit(data, epochs=1)


def test_what_a_module_reads_is_a_list_of_features() -> None:
    with pytest.raises(SpecError, match="features must be Categorical, Bag, …, got 'item'"):
        recs.Adopted(object(), ["item"])  # type: ignore[list-item]
