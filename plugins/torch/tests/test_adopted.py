"""A user's own `nn.Module` in a bundle: its state is saved, and a module that is built again takes it over."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import recs_core as recs
from recs_core import datasets
from recs_core.contract.errors import BundleError


def module(rows: int, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Embedding(rows, 8), nn.BatchNorm1d(8), nn.Linear(8, 8))


def test_an_adopted_module_is_saved_and_trains_on(tmp_path: Path) -> None:
    data = datasets.load("synthetic")
    rows = 1 + int((data.query_counts() > 0).sum())
    tower = recs.TowerSpec([recs.Categorical(data.candidate_name, dim=8)])
    model = recs.TwoTower(module(rows, 0), tower, optimizer=recs.Adam(0.01), backend="torch")
    model.fit(data, epochs=1, batch_size=512)
    path = model.save(tmp_path / "bundle")
    assert any(name == "query/native/1.running_mean" for name in model.weights())

    ids = data.query_ids.ids[:5].to_pylist()
    loaded = [recs.load(path, backend="torch", native={"query": module(rows, seed)}) for seed in (1, 2)]
    assert (loaded[0].recommend(ids).ids == model.recommend(ids).ids).all()
    for each in (model, *loaded):
        each.fit(data, epochs=1, batch_size=512)
        np.testing.assert_array_equal(each.recommend(ids).scores, model.recommend(ids).scores)
    with pytest.raises(BundleError, match=r"does not fit the module given .*'query/native/0.weight' has shape"):
        recs.load(path, backend="torch", native={"query": module(rows + 1, 0)})
