"""`/admin/candidates`: what serves changes, comes and retires without a pause; a refusal changes nothing."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

import recs_core as recs
from recs_core.monitor import monitor
from recs_core.reference.backend import OracleBackend
from recs_core.service.logs import Lines
from tests.service import shops

ASK = {"queries": [100], "k": 90}


@pytest.fixture(scope="module")
def priced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its candidate tower reads a price."""
    model = recs.TwoTower(
        query=recs.TowerSpec([recs.History("item", dim=8)], layers=[8]),
        candidate=recs.TowerSpec([recs.Categorical("item", dim=8), recs.Numeric("price")], layers=[8]),
        training=recs.TrainingSpec(epochs=1, batch_size=64),
        backend=OracleBackend(),
    )
    model.fit(shops.interactions(), progress=False)
    return model.save(tmp_path_factory.mktemp("priced") / "bundle")


def asked(client: Any, **more: Any) -> Any:
    return client.post("/recommend", json={**ASK, **more}).json()


def ids(reply: Any) -> list[str]:
    return [candidate["id"] for candidate in reply["answers"][0]["candidates"]]


def test_candidates_change_come_and_retire_as_in_the_library(priced: Path) -> None:
    change = {"candidates": {"item": ["i3", "new"], "price": [9.5, 2.5]}, "retire": ["i0", "i7"]}
    model = recs.load(priced, runtime="numpy")
    model.update_candidates(change["candidates"], retire=change["retire"])
    due = model.recommend([100], k=90)
    with shops.ready(priced, admin=True) as client:
        before = asked(client)
        told = client.post("/admin/candidates", json=change)
        assert told.status_code == 200
        assert told.json() == {"bundle": asked(client)["bundle"], "candidates": 91, "retired": 2}
        assert told.json()["bundle"].startswith(before["bundle"] + "+")
        found = asked(client)
        assert ids(found) == due.ids[0][: len(ids(found))].tolist() and len(ids(found)) == 89
        assert not {"i0", "i7"} & {*ids(found)} and "new" in ids(found)
        assert "new" in ids(asked(client, where="price = 2.5", attributes=True))
        assert not {"i0", "i7"} & {*ids(asked(client, queries=[9], unknown="popular"))}
        near = client.post("/similar", json={"candidates": ["new"], "k": 90}).json()["answers"][0]
        assert not {"i0", "i7"} & {candidate["id"] for candidate in near["candidates"]}
        for path, body in (("similar", {"candidates": ["i0"]}), ("recommend", {**ASK, "allow": ["i0"]})):
            told = client.post(f"/{path}", json=body)
            assert told.status_code == 422 and "'i0' is retired" in told.json()["error"]
        assert (client.get("/info").json()["retired"], client.get("/info").json()["candidates"]) == (2, 91)
        assert client.post("/admin/reload", json={}).json()["bundle"] == before["bundle"]
        assert asked(client) == before


def test_a_log_tells_answers_after_a_change_from_those_before(
    priced: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What is compared with the bundle is what the bundle answered, and a candidate that was added is no bad line."""
    with caplog.at_level("INFO", "recs_core.service"), shops.ready(priced, admin=True, log_answers=True) as client:
        asked(client)
        change = client.post("/admin/candidates", json={"candidates": {"item": ["new"], "price": [2.5]}}).json()
        assert "new" in ids(asked(client, k=91))
    log = tmp_path / "log.jsonl"
    log.write_text("".join(f"{Lines().format(record)}\n" for record in caplog.records))
    bundle, _, changes = change["bundle"].partition("+")
    report = monitor(priced, log)
    assert report.others == {f"{bundle[:12]}+{changes}": 1}
    assert (report.malformed, [day.requests for day in report.days]) == (0, [1])


def test_the_same_changes_have_the_same_name(priced: Path) -> None:
    names = []
    for changes in ([["i1"], ["i2"]], [["i1"], ["i2"]], [["i2"], ["i1"]]):
        with shops.ready(priced, admin=True) as client:
            for gone in changes:
                names.append(client.post("/admin/candidates", json={"retire": gone}).json()["bundle"])
    assert names[:2] == names[2:4] and len({*names}) == 4


@pytest.mark.parametrize(
    ("body", "status", "field", "said"),
    [
        ({"candidates": {"item": ["a", "a"], "price": [1, 2]}}, 422, "candidates", "'a' appear more than once"),
        ({"candidates": {"item": [1], "price": [1]}}, 422, "candidates", "these are integers"),
        ({"candidates": {"item": ["a"]}}, 422, "candidates", "needs a column"),
        ({"candidates": {"item": ["a"], "price": [None]}}, 422, "candidates", "have no finite value, the first is 'a'"),
        ({"candidates": {"price": [1]}}, 422, "candidates", "no column 'item'"),
        ({"candidates": {"item": ["a"], "price": [1, 2]}}, 422, "candidates", "cannot be read as a table"),
        ({"candidates": {"item": ["i1"], "prise": [9.0]}}, 422, "candidates", "neither reads 'prise' nor keeps it"),
        ({"candidates": {}}, 422, "candidates", "columns by name, the candidates' ids among them"),
        ({"retire": ["nobody"]}, 422, "retire", "'nobody' is not in the corpus of 90"),
        ({"retire": "i1"}, 422, "retire", "at most 10,000 ids"),
        ({"retired": ["i1"]}, 422, "retired", "there is no field 'retired'"),
        ({"retire": [f"i{n}" for n in range(90)]}, 422, "retire", "none be left"),
    ],
)
def test_a_refusal_changes_nothing(priced: Path, body: Any, status: int, field: str | None, said: str) -> None:
    with shops.ready(priced, admin=True) as client:
        before = asked(client)
        told = client.post("/admin/candidates", json=body)
        assert (told.status_code, told.json()["field"]) == (status, field)
        assert said in told.json()["error"]
        assert asked(client) == before


def test_it_is_off_by_default_and_wants_the_key(priced: Path) -> None:
    with shops.ready(priced) as client:
        assert client.post("/admin/candidates", json={}).status_code == 404
    with shops.ready(priced, admin=True, api_key="secret") as client:
        assert client.post("/admin/candidates", json={"retire": ["i1"]}).status_code == 401
        told = client.post("/admin/candidates", json={"retire": ["i1"]}, headers={"x-api-key": "secret"})
        assert told.status_code == 200
        sent = client.post("/admin/candidates", content=b"{}", headers={"x-api-key": "secret"})
        assert sent.status_code == 415


def test_of_several_workers_none_changes_alone(priced: Path) -> None:
    from recs_core.service import asgi

    app = asgi(priced, admin=True)
    app.service.alone = False
    from starlette.testclient import TestClient

    with TestClient(app) as client:
        shops.wait_until(lambda: client.get("/readyz").status_code == 200)
        told = client.post("/admin/candidates", json={"retire": ["i1"]})
        assert told.status_code == 409 and told.json()["error_type"] == "SeveralWorkers"


def test_every_answer_under_updates_is_of_the_state_that_it_names(priced: Path) -> None:
    """Two clients ask while a candidate retires and comes back, over and over."""
    wrong: list[Any] = []
    with shops.ready(priced, admin=True) as client:
        gone_in: dict[str, bool] = {asked(client)["bundle"]: False}
        replies: list[Any] = []
        stop = threading.Event()

        def load() -> None:
            while not stop.is_set():
                replies.append(asked(client))

        loads = [threading.Thread(target=load) for _ in range(2)]
        for thread in loads:
            thread.start()
        for turn in range(10):
            change = {"candidates": {"item": ["i5"]}} if turn % 2 else {"retire": ["i5"]}
            gone_in[client.post("/admin/candidates", json=change).json()["bundle"]] = not turn % 2
        stop.set()
        for thread in loads:
            thread.join()
    wrong = [reply for reply in replies if ("i5" in ids(reply)) == gone_in[reply["bundle"]]]
    assert replies and wrong == [] and len(gone_in) == 11
