"""A user's own module beside a history in order, on each backend that takes modules and is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recs_core as recs
from recs_core.contract.errors import SpecError


@pytest.fixture(params=["keras", "torch", "tensorflow"])
def backend(request: pytest.FixtureRequest) -> str:
    if request.param != "keras":
        pytest.importorskip(f"recs_core_{request.param}")
    return str(request.param)


def table_of(backend: str, rows: int) -> Any:
    """A table with so many rows of 8, as a module of the backend's framework."""
    recs.backend(backend)  # chooses Keras's engine, and TFRS's Keras, before either is imported
    if backend == "torch":
        from torch import nn

        return nn.Embedding(rows, 8)
    if backend == "tensorflow":
        from recs_core_tensorflow.environment import tf

        return tf.keras.layers.Embedding(rows, 8)
    import keras

    table = keras.layers.Embedding(rows, 8)
    table.build((None,))
    return table


@pytest.mark.parametrize("encoder", [recs.SelfAttention(layers=1, heads=2), recs.GRU()], ids=["attention", "gru"])
def test_a_module_beside_a_history_in_order(backend: str, encoder: Any, tmp_path: Path) -> None:
    """Trained by sequence, saved, and loaded where it was trained and in NumPy, which has the corpus' vectors."""
    random = np.random.default_rng(2)
    table = {"user": random.integers(0, 20, 300), "item": random.integers(0, 30, 300), "t": np.arange(300.0)}
    data = recs.Interactions.from_table(table, query="user", candidate="item", timestamp="t")
    query = recs.TowerSpec([recs.History("item", dim=8, max_length=6, encoder=encoder)])
    training = recs.TrainingSpec(epochs=1, batch_size=8, batch_by="sequence")
    model = recs.TwoTower(query, table_of(backend, 31), training=training, backend=backend)
    before = model.build(data).encode_candidate()[:, :8].copy()
    model.fit(data, progress=False)
    assert np.abs(model.encode_candidate()[:, :8] - before).max() > 1e-4
    found = model.recommend([3, 7], k=5)
    path = model.save(tmp_path / "bundle", include_vectors=True)
    for loaded in (
        recs.load(path, backend=backend, native={"candidate": table_of(backend, 31)}),
        recs.load(path, runtime="numpy"),
    ):
        assert loaded.recommend([3, 7], k=5).ids.tolist() == found.ids.tolist()
        history = loaded.recommend(history=[[1, 2, 3]], k=5)
        np.testing.assert_allclose(history.scores, model.recommend(history=[[1, 2, 3]], k=5).scores, rtol=1e-4)


def test_a_module_declares_no_encoder(backend: str) -> None:
    """It reads its history as it will; and batches by sequence ask for a vector of every place."""
    table = {"user": np.arange(40) % 4, "item": np.arange(40) % 7, "t": np.arange(40.0)}
    data = recs.Interactions.from_table(table, query="user", candidate="item", timestamp="t")
    items = recs.TowerSpec([recs.Categorical("item", dim=8)])
    told = recs.Adopted(table_of(backend, 31), [recs.History("item", max_length=6, encoder=recs.GRU())], output_dim=8)
    with pytest.raises(SpecError, match="reads 'item' in order by itself; declare the history without an encoder"):
        recs.TwoTower(told, items, backend=backend).build(data)
    plain = recs.Adopted(table_of(backend, 31), [recs.History("item", max_length=6)], output_dim=8)
    training = recs.TrainingSpec(batch_by="sequence")
    with pytest.raises(SpecError, match="A module of your own reads one history per query: batch_by='interaction'"):
        recs.TwoTower(plain, items, training=training, backend=backend).fit(data, progress=False)
