"""S10: a line for each request, with its id; none for the probes, and nothing of a path that is no route."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from recs_core.service import asgi
from tests.service import shops

KEY = {"x-api-key": "secret"}


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """Of requests, since the last call."""
    told = [record.told for record in caplog.records if record.getMessage() == "request"]  # type: ignore[attr-defined]
    caplog.clear()
    return told


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "route", "error_type"),
    [
        ("GET", "/info", KEY, 200, "/info", None),
        ("GET", "/info", {}, 401, "/info", "Unauthorized"),
        ("GET", "/metrics", KEY, 200, "/metrics", None),
        ("GET", "/metrics", {}, 401, "/metrics", "Unauthorized"),
        ("POST", "/admin/reload", {}, 401, "/admin/reload", "Unauthorized"),
        ("POST", "/admin/reload", KEY, 200, "/admin/reload", None),
        ("POST", "/admin/candidates", {}, 401, "/admin/candidates", "Unauthorized"),
        ("POST", "/recommend", {}, 401, "/recommend", "Unauthorized"),
        ("GET", "/recommend", KEY, 405, "/recommend", "MethodNotAllowed"),
        ("GET", "/history/100", KEY, 404, None, "NotFound"),
        ("GET", "/openapi.json", {}, 200, "/openapi.json", None),
        ("GET", "/", {}, 200, "/", None),
        ("POST", "/beside/recommend", KEY, 422, "/recommend", "DataError"),
        ("GET", "/beside/info", {}, 401, "/info", "Unauthorized"),
        ("GET", "/beside/100", KEY, 404, None, "NotFound"),
    ],
)
def test_every_request_has_an_id_and_one_line(
    bundle: Path,
    caplog: pytest.LogCaptureFixture,
    method: str,
    path: str,
    headers: dict[str, str],
    status: int,
    route: str | None,
    error_type: str | None,
) -> None:
    with (
        caplog.at_level("INFO", "recs_core.service"),
        shops.ready(bundle, api_key="secret", admin=True, beside=str(bundle)) as client,
    ):
        shops.wait_until(lambda: client.get("/beside/readyz").status_code == 200)
        assert lines(caplog) == []
        body = {"json": {}} if method == "POST" else {}
        told = client.request(method, path, headers={**headers, "x-request-id": "mine-1"}, **body)
        (line,) = lines(caplog)
    assert (told.status_code, told.headers["x-request-id"]) == (status, "mine-1")
    assert (line["request"], line["route"], line["status"]) == ("mine-1", route, status)
    assert line.get("error_type") == error_type
    assert set(line) <= {"request", "route", "status", "ms", "error_type", "field"}  # nothing else of what was asked


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_a_probe_has_an_id_and_no_line(bundle: Path, caplog: pytest.LogCaptureFixture, path: str) -> None:
    with caplog.at_level("INFO", "recs_core.service"), shops.ready(bundle) as client:
        assert client.get(path).headers["x-request-id"] != client.get(path).headers["x-request-id"]
    assert lines(caplog) == []


def test_a_request_that_names_another_host_has_a_line(bundle: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "recs_core.service"), TestClient(asgi(bundle, local=True)) as client:
        assert client.post("/recommend", json={}, headers={"host": "evil.example"}).status_code == 421
    (line,) = lines(caplog)
    assert (line["route"], line["status"], line["error_type"]) == ("/recommend", 421, "OtherHost")
