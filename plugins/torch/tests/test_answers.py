"""Filters, variety and reasons: what a model of PyTorch answers, NumPy answers from its bundle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pytest

import recs_core as recs

USERS = [f"u{n}" for n in range(5)]


@pytest.fixture(scope="module")
def model() -> recs.TwoTower:
    random = np.random.default_rng(4)
    rows = {"user": random.choice(USERS, 120).tolist(), "item": [f"i{n}" for n in random.integers(0, 20, 120)]}
    items = {"item": [f"i{n}" for n in range(20)], "price": [None if n == 3 else float(n) for n in range(20)]}
    data = recs.Interactions.from_table(rows, query="user", candidate="item", candidates=items)
    made = recs.TwoTower(
        recs.TowerSpec([recs.Categorical("user", dim=4), recs.History("item", dim=4, share=None)]),
        recs.TowerSpec([recs.Categorical("item", dim=4)], layers=[8]),
        recs.RetrievalSpec(learn_temperature=True),
        backend="torch",
    )
    made.fit(data, epochs=2, batch_size=16, progress=False)
    return made


def test_from_the_bundle_numpy_gives_the_same(model: recs.TwoTower, tmp_path: Path) -> None:
    path = model.save(tmp_path / "b")
    for loaded in (recs.load(path, runtime="numpy"), recs.load(path, backend="torch")):
        for options in (
            {"where": {"price": (None, 9)}},
            {"where": ~(pc.field("price") > 9), "exclude": "seen"},
            {"diversity": 0.5, "pool": 15},
        ):
            due, found = model.recommend(USERS, 5, **options), loaded.recommend(USERS, 5, **options)  # type: ignore[arg-type]
            np.testing.assert_array_equal(found.ids, due.ids)
            np.testing.assert_allclose(found.scores, due.scores, rtol=1e-5, atol=1e-5)
        best = model.recommend(["u1"], 1)
        why, there = model.explain("u1", best.ids[0, 0]), loaded.explain("u1", best.ids[0, 0])
        assert why.score == pytest.approx(best.scores[0, 0], rel=1e-5)
        assert [name for name, _ in there.parts] == [name for name, _ in why.parts]
        np.testing.assert_allclose([v for _, v in there.parts], [v for _, v in why.parts], rtol=1e-5, atol=1e-6)
