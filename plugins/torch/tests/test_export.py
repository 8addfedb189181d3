"""ONNX: the exported tower answers as the live one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from recs_core_torch import Backend, Model, export, export_onnx
from torch import nn
from torch_worlds import codes, ragged

import recs_core as recs
from recs_core.contract.batch import Features, Sequences
from recs_core.contract.errors import MissingExtra, SpecError, UnsupportedFeature
from recs_core.contract.features import Column
from recs_core.contract.plans import TowerPlan
from recs_core.contract.towers import SIDES
from recs_core.contract.weights import initial

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")


def run(path: Path, features: Features) -> np.ndarray:
    """The exported tower's vectors."""
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (vectors,) = session.run(None, features.arrays())
    return vectors


def test_golden_queries(tmp_path: Path, model: Model, query_features: Features) -> None:
    path = export_onnx(model.query, tmp_path / "query.onnx")
    assert [file.name for file in tmp_path.iterdir()] == ["query.onnx"]
    single = Features(1, {"user.id": codes(1), "tags": ragged([]), "item": ragged([2])}, {"age": np.zeros((1, 1))})
    random = np.random.default_rng(0)
    many = Features(
        50,
        {
            "user.id": random.integers(0, 6, 50).astype(np.int32),
            "tags": ragged(*(random.integers(0, 5, n).tolist() for n in random.integers(0, 4, 50))),
            "item": ragged(*(random.integers(0, 9, n).tolist() for n in random.integers(0, 6, 50))),
        },
        {"age": random.normal(size=(50, 1))},
    )
    for features in (query_features, single, many):
        np.testing.assert_allclose(run(path, features), model.query.embed(features), rtol=1e-5, atol=1e-6)


def test_an_adopted_module(tmp_path: Path) -> None:
    tower = Backend().adopt(nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 2), nn.Tanh()), ["item"])
    features = Features(4, {"item": codes(0, 4, 4, 2)})
    path = export_onnx(tower, tmp_path / "item.onnx")
    np.testing.assert_allclose(run(path, features), tower.embed(features), rtol=1e-5, atol=1e-6)


def test_an_adopted_module_of_numbers(tmp_path: Path) -> None:
    tower = Backend().adopt(nn.Linear(3, 2), [Column("face", "dense", 3)])
    features = Features(4, {}, {"face": np.arange(12, dtype=np.float32).reshape(4, 3)})
    path = export_onnx(tower, tmp_path / "face.onnx")
    np.testing.assert_allclose(run(path, features), tower.embed(features), rtol=1e-5, atol=1e-6)


def test_the_exporter_is_missing(tmp_path: Path, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "find_spec", lambda name: None if name == "onnxscript" else True)
    with pytest.raises(MissingExtra, match="pip install onnxscript"):
        export_onnx(model.query, tmp_path / "query.onnx")
    assert not list(tmp_path.iterdir())


class Branching(nn.Embedding):
    """A module whose path depends on the values, which no graph can hold."""

    def forward(self, item: torch.Tensor) -> torch.Tensor:
        return super().forward(item) if item.sum() > 1 else super().forward(item) * 2


def test_what_cannot_be_exported(tmp_path: Path, model: Model) -> None:
    tower = Backend().adopt(Branching(5, 3), ["item"])
    with pytest.raises(SpecError, match="cannot be exported"):
        export_onnx(tower, tmp_path / "item.onnx")
    assert not list(tmp_path.iterdir())
    with pytest.raises(SpecError, match="no folder"):
        export_onnx(model.query, tmp_path / "nowhere" / "query.onnx")


def test_a_history_that_reads_times_is_refused(tmp_path: Path) -> None:
    history = recs.History("item", dim=8, max_length=6, encoder=recs.SelfAttention(time="history"))
    towers = recs.TowerSpec([history]), recs.TowerSpec([recs.Categorical("item", dim=8)])
    plans = [TowerPlan.of(side, tower) for side, tower in zip(SIDES, towers, strict=True)]
    weights = initial(plans[0], plans[1], recs.RetrievalSpec(), {"table/item": 20}, 19, seed=0)
    model = Backend().model(*plans, recs.RetrievalSpec(), weights)
    with pytest.raises(UnsupportedFeature, match="query/encoder/item reads when past candidates were"):
        export_onnx(model.query, tmp_path / "query.onnx")
    with pytest.raises(UnsupportedFeature, match="codes alone do not tell"):
        model.query.embed(Features(1, {"item": Sequences.last(ragged([1, 2]))}))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "spec",
    [
        recs.SelfAttention(layers=2, heads=2, ffn=2),
        recs.SelfAttention(layers=1, ffn=1, activation="relu", gate=False, position="learned"),
        recs.GRU(layers=2),
    ],
    ids=["attention", "sasrec", "gru"],
)
@pytest.mark.slow
def test_histories_in_order(tmp_path: Path, spec: recs.GRU | recs.SelfAttention) -> None:
    history = recs.History("item", dim=8, max_length=6, encoder=spec)
    towers = recs.TowerSpec([history], layers=[3]), recs.TowerSpec([recs.Categorical("item", dim=8)], layers=[3])
    plans = [TowerPlan.of(side, tower) for side, tower in zip(SIDES, towers, strict=True)]
    retrieval = recs.RetrievalSpec()
    weights = initial(plans[0], plans[1], retrieval, {"table/item": 20}, 19, seed=0)
    model = Backend().model(*plans, retrieval, weights)
    path = export_onnx(model.query, tmp_path / "query.onnx")
    random = np.random.default_rng(1)
    for lengths in ([3, 0, 6, 1], [0], [6] * 9, random.integers(0, 7, 40).tolist()):
        held = ragged(*(random.integers(0, 20, n).tolist() for n in lengths))
        features = Features(len(lengths), {"item": Sequences.last(held)})
        np.testing.assert_allclose(run(path, features), model.query.embed(features), rtol=1e-4, atol=1e-5)
