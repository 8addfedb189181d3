"""S8, S9 and S10: dropped clients, answers that say what they are, numbers that find causes, an end in good order."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient

from recs_core.service import asgi
from recs_core.service.logs import Lines
from tests.service import shops
from tests.service.test_limits import ONE, Held, in_process, until_ready


def test_s8_a_client_that_is_gone_is_no_work(bundle: Path) -> None:
    app = asgi(bundle)
    answered: list[int] = []

    async def asks(gone: asyncio.Event) -> list[Any]:
        """One request, as a server passes it on, whose client goes when it is told to."""
        sent: list[Any] = []
        parts = iter([{"type": "http.request", "body": b'{"queries": [101]}', "more_body": False}])

        async def receive() -> Any:
            for part in parts:
                return part
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        headers = [(b"content-type", b"application/json")]
        scope = {"type": "http", "method": "POST", "path": "/recommend", "headers": headers, "query_string": b""}
        await app(scope, receive, send)
        return sent

    async def scene() -> None:
        async with in_process(app) as client:
            await until_ready(client)
            held = Held(app)
            before = app.service._answer
            app.service._answer = lambda served, requests, spent: (
                answered.append(len(requests)) or before(served, requests, spent)
            )
            first = asyncio.create_task(client.post("/recommend", json=ONE))
            await asyncio.to_thread(held.begun.wait)
            going, staying = asyncio.Event(), asyncio.Event()
            gone = [asyncio.create_task(asks(going)) for _ in range(3)]
            stays = asyncio.create_task(asks(staying))
            while len(app.service.batcher) < 4:
                await asyncio.sleep(0)
            going.set()
            await asyncio.gather(*gone)
            held.go_on.set()
            assert (await first).status_code == 200
            assert (await stays)[0]["status"] == 200
            assert answered == [1, 1]  # the first, and the one that stayed
            assert "recs_dropped_total 3.0" in (await client.get("/metrics")).text

    asyncio.run(scene())
    app.service.close()


def answer(client: TestClient, **asked: Any) -> dict[str, Any]:
    told = client.post("/recommend", json=asked)
    assert told.status_code == 200, told.text
    return told.json()


def test_s9_an_answer_says_what_it_is(client: TestClient, bundle: Path) -> None:
    digest, right = shops.answers_of(bundle, 100)
    told = answer(client, queries=[100], k=5, exclude_seen=True)
    assert (told["bundle"], told["exact"]) == (digest, True)
    one = told["answers"][0]
    assert [id_ for id_, _ in shops.listed(one)] == [id_ for id_, _ in right]
    seen = shops.interactions()
    mine = {f"i{n}" for n in (i for i in range(shops.ITEMS))} & {
        str(seen.candidate_ids.ids[int(code)])
        for code, query in zip(seen.candidate_codes, seen.query_codes, strict=True)
        if seen.query_ids.ids[int(query)].as_py() == 100
    }
    assert (one["excluded"], one["requested_k"], one["returned"]) == (len(mine), 5, 5)
    assert (one["query"], one["unknown_query"], one["answered_by"]) == (100, False, "model")


def test_s9_fewer_than_asked_for_is_said_and_leaks_nothing(client: TestClient) -> None:
    one = answer(client, queries=[100], k=10, allow=["i1", "i2", "i3"], exclude=[["i2", "i2", "unheard of"]])[
        "answers"
    ][0]
    assert (one["requested_k"], one["returned"], one["excluded"]) == (10, 2, 1)
    assert {id_ for id_, _ in shops.listed(one)} == {"i1", "i3"}
    none = answer(client, queries=[100], where="price > 1000")["answers"][0]
    assert (none["returned"], none["candidates"]) == (0, [])
    everything = answer(client, queries=[100], k=1000)["answers"][0]
    assert (everything["requested_k"], everything["returned"]) == (1000, shops.ITEMS)


def test_s9_an_unknown_query_is_answered_as_declared_and_said(client: TestClient, bundle: Path) -> None:
    """By popularity: the candidates with the most training rows, which are their scores."""
    oov, popular = (answer(client, queries=[7], k=3, unknown=how)["answers"][0] for how in ("oov", "popular"))
    assert (oov["unknown_query"], oov["answered_by"]) == (True, "oov")
    assert (popular["unknown_query"], popular["answered_by"]) == (True, "popular")
    rows = shops.interactions()
    counts: dict[str, int] = {}
    for code in rows.candidate_codes:
        name = rows.candidate_ids.ids[int(code)].as_py()
        counts[name] = counts.get(name, 0) + 1
    assert [score for _, score in shops.listed(popular)] == sorted(counts.values(), reverse=True)[:3]
    assert all(counts[id_] == score for id_, score in shops.listed(popular))
    told = client.post("/recommend", json={"queries": [7], "unknown": "error"})
    assert (told.status_code, told.json()["error_type"]) == (422, "DataError")
    with shops.ready(bundle, unknown="popular") as other:
        assert answer(other, queries=[7], k=3)["answers"][0] == popular


@pytest.mark.parametrize("history", [[], ["zz"], ["zz", "yy"]])
def test_s9_a_history_of_nothing_that_is_known_makes_nobody_known(client: TestClient, history: list[str]) -> None:
    asked = {"history": [history, ["zz", "i1"]], "k": 3}
    for how in ("oov", "popular"):
        stranger, known = answer(client, **asked, unknown=how)["answers"]
        assert (stranger["unknown_query"], stranger["answered_by"]) == (True, how)
        assert (known["unknown_query"], known["answered_by"]) == (False, "model")
    popular = answer(client, queries=[7], k=3, unknown="popular")["answers"][0]
    assert shops.listed(answer(client, **asked, unknown="popular")["answers"][0]) == shops.listed(popular)
    told = client.post("/recommend", json={**asked, "unknown": "error"})
    assert (told.status_code, told.json()["field"]) == (422, "history")
    assert "1 of 2 queries have no history that the model can read" in told.json()["error"]
    mine = answer(client, queries=[100], history=[history], unknown="error")["answers"][0]
    assert (mine["unknown_query"], mine["answered_by"]) == (False, "model")


def test_s9_somebody_new_with_a_history_is_answered_by_the_model(client: TestClient) -> None:
    told = answer(client, history=[["i1", "i2"]], features={"age": [33.0]}, exclude_seen=True, k=4)["answers"][0]
    assert (told["query"], told["unknown_query"], told["answered_by"], told["excluded"]) == (None, False, "model", 2)
    assert not {"i1", "i2"} & {id_ for id_, _ in shops.listed(told)}


def test_the_other_questions(additive: Path) -> None:
    with shops.ready(additive) as client:
        near = client.post(
            "/similar", json={"candidates": ["i1"], "k": 3, "where": "price < 5", "attributes": True}
        ).json()
        entries = near["answers"][0]["candidates"]
        assert len(entries) == 3
        assert all(entry["attributes"]["price"] < 5 and entry["id"] != "i1" for entry in entries)
        best = shops.listed(answer(client, queries=[100], k=1)["answers"][0])[0]
        parts = client.post("/explain", json={"query": 100, "candidate": best[0]}).json()
        assert parts["score"] == pytest.approx(sum(part["value"] for part in parts["parts"]))
        assert parts["score"] == pytest.approx(best[1], abs=1e-5)
        past = client.post("/history", json={"query": 100, "last": 2}).json()
        assert past["of"] > 2
        assert len(past["candidates"]) == 2
        assert client.post("/history", json={"query": 7}).json()["unknown_query"] is True
        known = client.post("/queries", json={"starts_with": "13", "most": 3}).json()
        assert (known["of"], known["queries"]) == (10, [130, 131, 132])
        assert client.get("/info").json()["explains"] is True


def test_a_score_of_somebody_unknown_is_explained_without_a_word_to_the_log(additive: Path) -> None:
    """A warning would have the id."""
    with shops.ready(additive) as client:
        for asked, unknown in (
            ({"query": 7}, True),
            ({"query": 100}, False),
            ({"history": ["zz"]}, True),
            ({"history": ["i1"]}, False),
        ):
            told = client.post("/explain", json={**asked, "candidate": "i1"})
            assert (told.status_code, told.json()["unknown_query"]) == (200, unknown)


@pytest.mark.parametrize("asked", [{"query": 7}, {"history": ["zz"]}])
@pytest.mark.parametrize("told", ["request", "service"])
def test_a_score_of_somebody_unknown_is_explained_as_it_is_answered(
    additive: Path, asked: dict[str, Any], told: str
) -> None:
    """By OOV rows where they answer; popularity has no parts, and "error" is one here too."""
    field = next(iter(asked))
    for how in ("oov", "popular", "error"):
        settings, more = ({"unknown": how}, {}) if told == "service" else ({}, {"unknown": how})
        with shops.ready(additive, **settings) as client:
            known = client.post("/explain", json={"query": 100, "candidate": "i1", **more})
            assert (known.status_code, known.json()["answered_by"]) == (200, "model")
            reply = client.post("/explain", json={**asked, "candidate": "i1", **more})
        said = reply.json()
        if how == "oov":
            assert (reply.status_code, said["unknown_query"], said["answered_by"]) == (200, True, "oov")
        else:
            refusal = {"popular": "UnsupportedFeature", "error": "DataError"}[how]
            assert (reply.status_code, said["error_type"]) == (422, refusal)
            assert "unknown 'oov'" in said["error"]
        assert how != "error" or said["field"] == field


def test_layers_leave_a_score_unexplained_and_that_is_said(client: TestClient) -> None:
    told = client.post("/explain", json={"query": 100, "candidate": "i1"})
    assert (told.status_code, told.json()["error_type"]) == (422, "UnsupportedFeature")


def test_s10_numbers_and_headers(bundle: Path) -> None:
    with shops.ready(bundle) as client:
        reply = client.post("/recommend", json=ONE, headers={"x-request-id": "abc-1"})
        assert reply.headers["x-request-id"] == "abc-1"
        assert 0 < float(reply.headers["x-compute-time"]) < 60
        assert client.post("/recommend", json=ONE, headers={"x-request-id": "a b"}).headers["x-request-id"] != "a b"
        client.post("/recommend", json={"k": 0})
        text = client.get("/metrics").text
        numbers = dict(re.findall(r"^(recs_\S+) (\S+)$", text, flags=re.M))
        assert numbers['recs_requests_total{outcome="ok",route="/recommend"}'] == "2.0"
        assert numbers['recs_requests_total{outcome="InvalidRequest",route="/recommend"}'] == "1.0"
        for name in ("queue_seconds", "encode_seconds", "search_seconds", "batch_requests"):
            assert numbers[f"recs_{name}_count"] == "2.0"
        assert numbers[f'recs_bundle{{digest="{shops.answers_of(bundle, 100)[0]}"}}'] == "1.0"
        assert float(numbers["recs_memory_bytes"]) > 1e6
        assert client.get("/info").json()["limits"]["queries"] == 32


@pytest.mark.parametrize("answers", [False, True])
def test_logs_have_the_request_and_no_ids_of_people(
    bundle: Path, caplog: pytest.LogCaptureFixture, answers: bool
) -> None:
    caplog.set_level(logging.INFO, "recs_core")
    with shops.ready(bundle, log_answers=answers) as client:
        client.post("/recommend", json={"queries": [123]}, headers={"x-request-id": "req-1"})
        client.post("/recommend", json={"queries": ["somebody"]}, headers={"x-request-id": "req-2"})
    lines = [json.loads(Lines().format(record)) for record in caplog.records if record.getMessage() == "request"]
    assert [(line["request"], line["status"], line.get("error_type")) for line in lines] == [
        ("req-1", 200, None),
        ("req-2", 422, "DataError"),
    ]
    assert all("123" not in json.dumps(line["route"]) and "somebody" not in json.dumps(line) for line in lines)
    assert not any({"queries", "query", "history", "body"} & set(line) for line in lines)
    assert ["answers" in line for line in lines] == [answers, False]
    for answer in lines[0].get("answers", ()):
        assert set(answer) == {"answered_by", "top", "candidates"}


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_s10_sigterm_ends_in_good_order(bundle: Path, tmp_path: Path, workers: str) -> None:
    """Not ready at once, answering still, then nobody listens, exit code 0; and nobody was told an error."""
    with shops.serving(bundle, tmp_path / "log", "--workers", workers, "--linger", "1") as process:
        with httpx.Client(base_url=process.url) as client:
            assert client.post("/recommend", json=ONE).status_code == 200
            process.send(signal.SIGTERM)
            shops.wait_until(lambda: client.get("/readyz").status_code == 503)
            assert client.get("/readyz").json()["error_type"] == "Draining"
            assert client.get("/livez").status_code == 200
            assert client.post("/recommend", json=ONE).status_code == 200
        assert process.popen.wait(30) == 0
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{process.url}livez")
        assert not [line for line in process.events() if line["level"] == "error"]


@pytest.mark.slow
def test_s10_what_is_being_answered_is_finished(bundle: Path, tmp_path: Path) -> None:
    """A body that arrives slowly, whose last byte comes after SIGTERM."""
    import socket

    with shops.serving(bundle, tmp_path / "log", "--drain", "20") as process:
        host, port = process.url.removeprefix("http://").strip("/").split(":")
        body = json.dumps(ONE).encode()
        with socket.create_connection((host, int(port))) as made:
            kind = "content-type: application/json"
            head = f"POST /recommend HTTP/1.1\r\nhost: localhost\r\n{kind}\r\ncontent-length: {len(body)}\r\n\r\n"
            made.sendall(head.encode() + body[:-1])
            httpx.get(f"{process.url}livez")  # by now the head has been read
            process.send(signal.SIGTERM)
            shops.wait_until(lambda: not shops.listens(process.url))
            made.sendall(body[-1:])
            assert made.recv(65536).startswith(b"HTTP/1.1 200")
        assert process.popen.wait(30) == 0
