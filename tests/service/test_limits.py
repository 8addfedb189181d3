"""S5 and S6: full is said at once, limits before work, and every refusal has one shape."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient

from recs_core.service import asgi
from recs_core.service.settings import MAX_CONDITION, MAX_ID, MAX_K, MAX_LISTED, MAX_QUERIES
from tests.service import shops

ONE = {"queries": [100]}


def refused(client: TestClient, path: str = "/recommend", **asked: Any) -> tuple[int, str, str | None]:
    """Status, type and field of what a request is told, whose JSON has one shape."""
    reply = client.post(path, **asked)
    told = reply.json()
    assert set(told) == {"error", "error_type", "field"}, told
    assert "\n" not in told["error"]
    assert "Traceback" not in told["error"]
    return reply.status_code, told["error_type"], told["field"]


class Held:
    """A service whose thread answers when it is let."""

    def __init__(self, app: Any) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()
        answer = app.service._answer

        def held(*args: Any) -> Any:
            self.begun.set()
            assert self.go_on.wait(30)
            return answer(*args)

        app.service._answer = held


async def until_ready(client: httpx.AsyncClient) -> None:
    while (await client.get("/readyz")).status_code != 200:
        await asyncio.sleep(0.01)


def in_process(app: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service")


def test_s5_one_more_than_may_wait_is_told_so_while_the_others_wait(bundle: Path) -> None:
    app = asgi(bundle, waiting=2)

    async def scene() -> None:
        async with in_process(app) as client:
            await until_ready(client)
            held = Held(app)
            first = asyncio.create_task(client.post("/recommend", json=ONE))
            await asyncio.to_thread(held.begun.wait)
            queued = [asyncio.create_task(client.post("/recommend", json=ONE)) for _ in range(2)]
            while len(app.service.batcher) < 2:
                await asyncio.sleep(0)
            told = await client.post("/recommend", json=ONE)  # comes back while nothing can be answered
            assert (told.status_code, told.json()["error_type"], told.headers["retry-after"]) == (429, "Full", "1")
            held.go_on.set()
            assert [reply.status_code for reply in await asyncio.gather(first, *queued)] == [200] * 3
            assert (await client.post("/recommend", json=ONE)).status_code == 200

    asyncio.run(scene())
    app.service.close()


def test_s5_one_that_has_waited_too_long_is_told_so(bundle: Path) -> None:
    app = asgi(bundle, deadline=0.05)

    async def scene() -> None:
        async with in_process(app) as client:
            await until_ready(client)
            held = Held(app)
            first = asyncio.create_task(client.post("/recommend", json=ONE))
            await asyncio.to_thread(held.begun.wait)
            late = await client.post("/recommend", json=ONE)
            assert (late.status_code, late.json()["error_type"]) == (503, "TooLate")
            held.go_on.set()
            assert (await first).status_code == 200  # it was being answered

    asyncio.run(scene())
    app.service.close()


def test_s6_a_body_over_the_limit_is_not_read(bundle: Path) -> None:
    text = json.dumps({**ONE, "k": 3}).encode()
    with shops.ready(bundle, max_body=len(text)) as client:
        as_json = {"content-type": "application/json"}
        assert client.post("/recommend", content=text, headers=as_json).status_code == 200
        too_much = (413, "TooLarge", None)
        assert refused(client, content=text + b" ", headers=as_json) == too_much
        parts = (text[:5], text[5:], b" ")  # which does not say how long it will be
        assert refused(client, content=iter(parts), headers=as_json) == too_much


@pytest.mark.parametrize(
    ("name", "at_the_limit", "over", "status"),
    [
        ("queries", [100] * MAX_QUERIES, [100] * (MAX_QUERIES + 1), 413),
        ("k", MAX_K, MAX_K + 1, 422),
        ("k", 1, 0, 422),
        ("exclude", [["i1"] * MAX_LISTED], [["i1"] * (MAX_LISTED + 1)], 422),
        ("history", [["i1"] * MAX_LISTED], [["i1"] * (MAX_LISTED + 1)], 422),
        ("allow", ["i1"] * MAX_LISTED, ["i1"] * (MAX_LISTED + 1), 413),
        ("where", "price < 5" + " " * (MAX_CONDITION - 9), "price < 5" + " " * (MAX_CONDITION - 8), 422),
        ("exclude", [["i" * MAX_ID]], [["i" * (MAX_ID + 1)]], 422),
        ("diversity", 1, 1.0000001, 422),
    ],
)
def test_s6_each_limit_at_n_and_one_more(
    client: TestClient, name: str, at_the_limit: Any, over: Any, status: int
) -> None:
    assert client.post("/recommend", json={**ONE, name: at_the_limit}).status_code == 200
    assert refused(client, json={**ONE, name: over}) in (
        (status, "InvalidRequest", name),
        (status, "TooMany", name),
    )


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ('{"queries": [100], "topk": 3}', "topk"),
        ('{"queries": 100}', "queries"),
        ('{"queries": []}', "queries"),
        ('{"queries": [null]}', "queries"),
        ('{"queries": [true]}', "queries"),
        ('{"queries": [1.5]}', "queries"),
        ('{"queries": [9223372036854775808]}', "queries"),
        ('{"queries": ["100"]}', "queries"),
        ('{"queries": [100], "k": "10"}', "k"),
        ('{"queries": [100], "k": 10.0}', "k"),
        ('{"queries": [100], "k": null}', "k"),
        ('{"queries": [100], "k": 1e300}', "k"),
        ('{"queries": [100], "exclude_seen": 1}', "exclude_seen"),
        ('{"queries": [100], "diversity": NaN}', "diversity"),
        ('{"queries": [100], "exclude": ["i1"]}', "exclude"),
        ('{"queries": [100], "exclude": [["i1"], ["i2"]]}', "exclude"),
        ('{"queries": [100], "exclude": [[1]]}', "exclude"),
        ('{"queries": [100], "allow": ["unheard of"]}', "allow"),
        ('{"queries": [100], "where": "price <"}', "where"),
        ('{"queries": [100], "where": "cost < 5"}', "where"),
        ('{"queries": [100], "where": ""}', "where"),
        ('{"queries": [100], "pool": 50}', "pool"),
        ('{"queries": [100], "diversity": 0.5, "pool": 5}', "pool"),
        ('{"queries": [100], "context": "blank"}', "context"),
        ('{"queries": [100], "at": "2026-01-01"}', "at"),
        ('{"queries": [100], "unknown": "guess"}', "unknown"),
        ('{"history": [["i1"]], "features": {"age": [NaN]}}', "features"),
        ('{"features": {"age": ["old"]}, "history": [[]]}', "features"),
        ('{"features": {"age": [30, 40]}, "history": [[]]}', "features"),
        ('{"features": {"height": [30]}, "history": [[]]}', "features"),
        ("[]", None),
        ("null", None),
    ],
)
def test_s6_what_cannot_be_meant_is_refused_by_field(client: TestClient, body: str, field: str | None) -> None:
    status, error_type, named = refused(client, content=body, headers={"content-type": "application/json"})
    assert (status, named) == (422, field)
    assert error_type in ("InvalidRequest", "DataError")


@pytest.mark.parametrize("body", [b"", b"{", b'{"queries": [100]', b"\xff\xfe", b'{"a": "\\ud800"}', b"[" * 100_000])
def test_s6_what_is_no_json(client: TestClient, body: bytes) -> None:
    assert refused(client, content=body, headers={"content-type": "application/json"})[:2] == (400, "InvalidJson")


def test_s6_other_methods_and_paths_have_the_shape_too(client: TestClient) -> None:
    assert client.get("/recommend").json()["error_type"] == "MethodNotAllowed"
    assert refused(client, "/recommended", json={})[:2] == (404, "NotFound")
    assert refused(client, content=b"{}")[:2] == (415, "NotJson")


def test_a_bug_is_not_shown_and_is_logged(bundle: Path, caplog: pytest.LogCaptureFixture) -> None:
    app = asgi(bundle)
    with TestClient(app) as client:
        shops.wait_until(lambda: client.get("/readyz").status_code == 200)

        def bug(*_: Any) -> Any:
            raise KeyError("a secret of the code")

        app.service._answer = bug
        assert refused(client, json=ONE, headers={"x-request-id": "mine-1"}) == (500, "InternalError", None)
    record = next(record for record in caplog.records if record.getMessage() == "bug")
    assert record.told["request"] == "mine-1"  # type: ignore[attr-defined]
    assert record.exc_info is not None
