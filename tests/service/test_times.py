"""A bundle that reads times: `history_at` and `at` of a request."""

from __future__ import annotations

from pathlib import Path

import pytest

import recs_core as recs
from tests.service import shops
from tests.test_times import START, fitted, past_of


def test_a_request_tells_its_times(tmp_path: Path) -> None:
    model = fitted("request")
    path = model.save(tmp_path / "bundle")
    items, times = past_of(model, "u1")
    at = START + 400 * 86_400
    expected = recs.load(path, runtime="numpy").recommend(["u1"], k=3, at=at)
    with shops.ready(path) as client:
        for asks in ({"queries": ["u1"]}, {"history": [items], "history_at": [times]}):
            answer = client.post("/recommend", json={**asks, "k": 3, "at": at}).json()["answers"][0]
            assert [found["id"] for found in answer["candidates"]] == expected.ids[0].tolist()
            assert [found["score"] for found in answer["candidates"]] == pytest.approx(expected.scores[0].tolist())
        refused = client.post("/recommend", json={"history": [items]})
        assert refused.status_code == 422
        assert "pass history_at as well" in refused.json()["error"]
        short = client.post("/recommend", json={"history": [items], "history_at": [times[1:]]})
        assert short.json()["field"] == "history_at"
