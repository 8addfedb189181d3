"""S1, S2 and S4: alive before it is ready, ready once the golden queries are answered, reloaded when it is told to."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save
from starlette.testclient import TestClient

from recs_core.contract.errors import BundleError, ConfigError
from recs_core.service import asgi
from recs_core.service.serving import Served
from recs_core.storage import manifest
from tests.bundle import forge
from tests.service import shops


def test_s1_a_broken_bundle_leaves_it_alive_and_never_ready(bundle: Path, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(bundle, tmp_path / "broken"))
    weights = broken / manifest.read(broken)[1]["contents"]["weights"]
    weights.write_bytes(weights.read_bytes()[:-1])
    app = asgi(broken, api_key="a key that nobody brings")
    with TestClient(app) as client:
        shops.wait_until(lambda: app.service.serving.failed is not None)
        assert client.get("/livez").json() == {"status": "alive"}  # both are open
        told = client.get("/readyz")
        assert (told.status_code, told.json()["error_type"]) == (503, "NotReady")
        assert "length" in told.json()["error"] or "bytes" in told.json()["error"]
        asked = client.post("/recommend", json={"queries": [100]}, headers={"x-api-key": "a key that nobody brings"})
        assert asked.status_code == 503


def test_s1_the_questions_and_the_numbers_want_the_key(bundle: Path) -> None:
    with shops.ready(bundle, api_key="s3cret") as client:
        assert client.post("/recommend", json={"queries": [100]}).json()["error_type"] == "Unauthorized"
        assert [client.get(path).status_code for path in ("/info", "/metrics")] == [401, 401]
        for headers in ({"x-api-key": "s3cret"}, {"authorization": "Bearer s3cret"}):
            assert client.post("/recommend", json={"queries": [100]}, headers=headers).status_code == 200
            assert client.get("/info", headers=headers).status_code == 200
        for wrong in ("s3cre", "s3cretx", "", "ünïcode"):
            headers = {"x-api-key": wrong.encode("latin-1")}
            assert client.post("/recommend", json={"queries": [100]}, headers=headers).status_code == 401


def test_s2_a_bundle_that_answers_otherwise_than_it_was_saved_is_not_served(bundle: Path, tmp_path: Path) -> None:
    """Digests and shapes are those of its manifest: only its golden queries tell."""
    forged = Path(shutil.copytree(bundle, tmp_path / "forged"))
    weights = load_file(forged / manifest.read(forged)[1]["contents"]["weights"])
    weights["table/item"] = np.roll(weights["table/item"], 1, axis=0)
    forge.replace(forged, "weights", save(weights))
    with pytest.raises(BundleError, match="golden query"):
        Served.of(str(forged))


def test_s4_nothing_is_reloaded_until_that_is_said(bundle: Path, other: Path, tmp_path: Path) -> None:
    place = Path(shutil.copytree(bundle, tmp_path / "place"))
    first, second = shops.answers_of(bundle, 100)[0], shops.answers_of(other, 100)[0]
    with shops.ready(place, admin=True) as client:
        shutil.rmtree(place)
        shutil.copytree(other, place)
        assert client.get("/readyz").json()["bundle"] == first
        assert client.post("/admin/reload", json={}).json() == {"bundle": second}
        assert client.get("/readyz").json()["bundle"] == second


def test_s4_the_admin_call_is_off_by_default(client: TestClient) -> None:
    assert client.post("/admin/reload", json={}).status_code == 404


def test_a_page_of_another_site_cannot_reload(bundle: Path) -> None:
    """A browser sends a form without asking, and JSON only where it is allowed to."""
    with shops.ready(bundle, admin=True) as client:
        sent = client.post("/admin/reload", content=b"{}", headers={"content-type": "text/plain"})
        assert sent.status_code == 415


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"waiting": 0}, "waiting"),
        ({"unknown": "guess"}, "unknown"),
        ({"api_key": " "}, "api_key"),
        ({"port": 1}, "port"),
    ],
)
def test_a_setting_that_cannot_be_meant_is_refused(bundle: Path, settings: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        asgi(bundle, **settings)
