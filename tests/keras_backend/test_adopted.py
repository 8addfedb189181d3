"""Modules of one's own over every kind of column: a history in its order, a bag, vectors, one code."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recs_core as recs
from recs_core import datasets
from recs_core.contract.batch import Features, Ragged
from recs_core.contract.errors import DataError, SpecError
from recs_core.contract.features import Column
from recs_core.keras_backend.backend import Backend

EXAMPLE = Path(__file__).parents[2] / "examples/gru4rec_keras.py"
HISTORY = Column("item", "many", 4, "table/item", mean=True)
NUMBERS = Column("vector", "dense", 3)


def gru(rows: int, dim: int = 4, length: int = 3) -> Any:
    from keras import ops

    module = runpy.run_path(str(EXAMPLE))["GRU4Rec"](rows, dim, length)
    module((ops.zeros(1, "int32"), ops.zeros(2, "int32")))
    return module


def test_a_history_is_read_in_its_order(backend: Backend) -> None:
    """Rows that hold the same items in another order differ; what is older than the module reads does not count."""
    tower = backend.adopt(gru(9), [HISTORY])
    assert tower.output_dim == 4
    past = Ragged.of([[1, 2, 3], [3, 2, 1], [5, 1, 2, 3], [], [2]])
    vectors = tower.embed(Features(5, {"item": past}))
    assert np.abs(vectors[0] - vectors[1]).max() > 1e-4
    np.testing.assert_allclose(vectors[0], vectors[2], rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(vectors[3], 0)
    for row in range(5):
        alone = tower.embed(Features(1, {"item": past.take(np.array([row]))}))
        np.testing.assert_allclose(alone[0], vectors[row], rtol=1e-5, atol=1e-7)


def test_a_module_takes_every_kind_of_column(backend: Backend) -> None:
    import keras
    from keras import ops

    class Sums(keras.layers.Layer):
        """Numbers that a hand can check: the code, the numbers' sum, how many codes the bag holds, and their sum."""

        def build(self, _: Any) -> None:
            self.scale = self.add_weight(shape=(), initializer="ones")

        def call(self, given: Any) -> Any:
            values, offsets = given["item"]
            ends = ops.concatenate([ops.zeros(1, "int32"), ops.cumsum(values)])
            total = ops.take(ends, offsets[1:]) - ops.take(ends, offsets[:-1])
            parts = given["user"], ops.sum(given["vector"], axis=1), offsets[1:] - offsets[:-1], total
            return self.scale * ops.stack([ops.cast(part, "float32") for part in parts], axis=1)

    module = Sums()
    module.build(None)
    tower = backend.adopt(module, ["user", NUMBERS, HISTORY])
    assert tower.output_dim == 4
    codes = {"user": np.array([7, 0, 2], np.int32), "item": Ragged.of([[1, 5], [], [4]])}
    features = Features(3, codes, {"vector": np.arange(9.0).reshape(3, 3)})
    np.testing.assert_allclose(tower.embed(features), [[7, 3, 2, 6], [0, 12, 0, 0], [2, 21, 1, 4]])
    with pytest.raises(DataError, match="needs 'vector', which the features lack"):
        tower.embed(Features(3, codes))


def test_a_module_that_fails_on_the_probe_is_named(backend: Backend) -> None:
    with pytest.raises(SpecError, match=r"GRU4Rec failed on code 0 of user \(.*\); .* state output_dim="):
        backend.adopt(gru(9), ["user"])


def by_name(column: str, rows: int, ends: bool = False) -> Any:
    import keras
    from keras import ops

    class ByName(keras.Model):
        """Takes a dict, also of one feature: a code's row, or the sum of the rows of a bag."""

        def __init__(self) -> None:
            super().__init__()
            self.rows = keras.layers.Embedding(rows, 4)

        def call(self, given: Any) -> Any:
            if not ends:
                return self.rows(given[column])
            values, offsets = given[column]
            zero = ops.zeros((1, 4))
            totals = ops.concatenate([zero, ops.cumsum(self.rows(values), axis=0)])
            return ops.take(totals, offsets[1:], axis=0) - ops.take(totals, offsets[:-1], axis=0)

    return ByName()


def test_a_module_may_take_a_dict_of_one_feature(backend: Backend) -> None:
    import keras

    x = keras.Input((), dtype="int32", name="user")
    functional = keras.Model({"user": x}, keras.layers.Embedding(5, 4)(x))
    codes = np.array([3, 1], np.int32)
    for module in (by_name("user", 5), functional):  # the first has no weights before it is adopted
        tower = backend.adopt(module, ["user"])
        assert tower.by_name and tower.output_dim == 4
        table = np.asarray(module.get_weights()[0])
        np.testing.assert_allclose(tower.embed(Features(2, {"user": codes})), table[codes], rtol=1e-6)


@pytest.mark.parametrize("feature", [recs.Bag("tags", dim=4), recs.Text("title", dim=4, buckets=64)])
def test_a_bag_and_a_text_come_with_their_offsets(backend: Backend, feature: Any) -> None:
    items = {
        "item": [f"i{n}" for n in range(9)],
        "title": [f"red shoe {n}" for n in range(9)],
        "tags": [["a", "b"][: n % 3] for n in range(9)],
    }
    table = {"user": [f"u{n % 12}" for n in range(200)], "item": [f"i{n % 9}" for n in range(200)]}
    train = recs.Interactions.from_table(table, query="user", candidate="item", candidates=items)
    model = recs.TwoTower(
        recs.TowerSpec([recs.Categorical("user", dim=4)]),
        recs.Adopted(by_name(feature.name, 64, ends=True), [feature]),
        optimizer=recs.Adam(0.01),
        backend=f"keras[{backend.engine}]",
    )
    losses = model.fit(train, epochs=3, batch_size=32)["loss"]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(("rows", "width"), [(1, None), (None, 3)])
def test_another_shape_is_named_at_whatever_call(backend: Backend, rows: int | None, width: int | None) -> None:
    import keras

    class Late(keras.Model):
        """Returns another shape once it is late."""

        def __init__(self) -> None:
            super().__init__()
            self.table, self.late = keras.layers.Embedding(9, 4), False

        def call(self, codes: Any) -> Any:
            return self.table(codes)[:rows, :width] if self.late else self.table(codes)

    module = Late()
    tower = backend.adopt(module, ["user"])
    features = Features(2, {"user": np.array([3, 1], np.int32)})
    assert tuple(tower(features).shape) == (2, 4)
    module.late = True
    said = rf"Late must return a tensor of shape \(2, 4\); it returned \({rows or 2}, {width or 4}\)"
    with pytest.raises(SpecError, match=said):
        tower(features)


def test_a_gru_over_the_history_trains_embeds_saves_and_loads(backend: Backend, tmp_path: Path) -> None:
    data = datasets.load("report")
    item = data.candidate_name
    rows = 1 + len(data.candidate_ids)
    candidate = recs.TowerSpec([recs.Categorical(item, dim=4)])
    module = gru(rows)
    model = recs.TwoTower(
        recs.Adopted(module, [recs.History(item, max_length=3)]),
        candidate,
        optimizer=recs.Adam(0.05),
        backend=f"keras[{backend.engine}]",
    )
    before = [np.array(value) for value in module.get_weights()]
    model.fit(data, epochs=2, batch_size=16)
    assert all((old != new).any() for old, new in zip(before, module.get_weights(), strict=True))
    asked = data.query_ids.ids[:3].to_pylist()
    expected = model.recommend(asked, k=3)
    model.save(tmp_path / "bundle")
    loaded = recs.load(tmp_path / "bundle", native={"query": gru(rows)})
    np.testing.assert_array_equal(loaded.recommend(asked, k=3).ids, expected.ids)


@pytest.mark.slow
def test_the_example_runs(
    backend: Backend, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["gru4rec_keras.py", "synthetic"])
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    assert "recall@20" in capsys.readouterr().out


def test_float64_that_jax_holds_in_float32_is_refused(backend: Backend) -> None:
    """Keras says float64 of such a weight still: a model in float64 would be trained with sums in float32."""
    if backend.engine != "jax":
        pytest.skip("the other engines hold what they are asked for")
    import jax
    import keras

    module = keras.Sequential([keras.layers.Embedding(4, 2, dtype="float64")], name="own")
    with jax.enable_x64(False), pytest.warns(UserWarning, match="truncated"):
        module.build((None,))
    with pytest.raises(SpecError, match=r"of 'own' was made as float64, but JAX holds it in float32; set JAX_ENABLE_X"):
        backend.adopt(module, ["user"])
