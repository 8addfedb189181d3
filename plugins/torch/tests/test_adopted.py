"""A user's own `nn.Module` in a bundle: its state is saved, and a module that is built again takes it over."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from torch import nn

import recs_core as recs
from recs_core import datasets
from recs_core.contract.errors import BundleError, SpecError

GRU4REC = Path(__file__).parents[3] / "examples" / "gru4rec_torch.py"


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


def test_one_module_in_both_towers_is_refused() -> None:
    """It would move twice in every step."""
    data, both = datasets.load("synthetic"), module(1001, 0)
    with pytest.raises(SpecError, match="the same Sequential stands in both towers"):
        recs.TwoTower(both, both, backend="torch").fit(data, epochs=1)


def walks() -> recs.Interactions:
    """Half of the queries go up through 12 items in a circle, half down: what comes next is told by order alone."""
    starts, steps = np.arange(96), np.arange(6)
    items = (starts[:, None] // 2 + np.where(starts % 2, 1, -1)[:, None] * steps) % 12
    columns = {"who": np.repeat(starts, 6), "item": items.ravel(), "time": np.tile(steps, 96)}
    return recs.Interactions.from_table(columns, query="who", candidate="item", timestamp="time")


def gru(seed: int) -> nn.Module:
    """The example's module."""
    torch.manual_seed(seed)
    module: nn.Module = runpy.run_path(str(GRU4REC))["GRU4Rec"](rows=13, dim=16)
    return module


def test_a_module_reads_histories_in_their_order(tmp_path: Path) -> None:
    query = recs.Adopted(gru(seed=0), [recs.History("item", max_length=3)])
    candidate = recs.TowerSpec([recs.Categorical("item", dim=16)])
    model = recs.TwoTower(query, candidate, recs.RetrievalSpec(temperature=0.2), recs.Adam(0.02), backend="torch")
    model.fit(walks(), epochs=20, batch_size=64)
    asked = [[3, 4, 5], [5, 4, 3], [9, 8, 7]]
    assert model.recommend(history=asked, k=1).ids[:, 0].tolist() == [6, 2, 6]
    assert model.recommend(history=[[]], k=1).ids.shape == (1, 1)  # the state before any item
    path = model.save(tmp_path / "bundle")
    loaded = recs.load(path, backend="torch", native={"query": gru(seed=1)})
    np.testing.assert_array_equal(
        loaded.recommend(history=asked, k=3).scores, model.recommend(history=asked, k=3).scores
    )


@pytest.mark.parametrize("share", ["candidate", None])
def test_a_module_of_items_stands_beside_a_history_of_them(share: Literal["candidate"] | None) -> None:
    """Its codes are rows of whole tables, whatever rows the other tower's batch gathers of a table of that name."""
    module = nn.Embedding(13, 4)
    query = recs.TowerSpec([recs.History("item", dim=4, share=share)])
    model = recs.TwoTower(query, recs.Adopted(module, [recs.Categorical("item")]), backend="torch")
    before = module.weight.detach().clone()
    model.fit(walks(), epochs=1, batch_size=7)
    assert (module.weight.detach() != before)[1:].any(1).all()


def test_the_example_trains_evaluates_and_recommends() -> None:
    done = subprocess.run([sys.executable, GRU4REC, "synthetic"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    metrics, items = done.stdout.splitlines()
    assert metrics.startswith("recall@20 0.") and len(items.split()) == 5
    source = GRU4REC.read_text()
    assert sum(1 for line in source[source.index("class GRU4Rec") :].splitlines() if line.strip()) <= 40
