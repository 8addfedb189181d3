"""S3: a reload keeps serving, its failure keeps the old bundle, and every answer is of the one that it names."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.service import shops

QUERIES = tuple(range(100, 100 + shops.USERS))


@pytest.fixture
def place(bundle: Path, tmp_path: Path) -> Path:
    """A link to the bundle that serves, as deployments have it."""
    link = tmp_path / "current"
    link.symlink_to(bundle, target_is_directory=True)
    return link


def point(link: Path, bundle: Path) -> None:
    """In one step."""
    (following := link.with_name("next")).symlink_to(bundle, target_is_directory=True)
    following.replace(link)


def test_s3_a_failed_reload_leaves_the_old_bundle(bundle: Path, place: Path, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(bundle, tmp_path / "broken"))
    (broken / "manifest.json").write_text("{}")
    digest, answer = shops.answers_of(bundle, 100)
    with shops.ready(place, admin=True) as client:
        point(place, broken)
        told = client.post("/admin/reload", json={})
        assert told.status_code == 409
        assert told.json()["error_type"] == "BundleError"
        assert digest in told.json()["error"]  # which goes on
        assert client.get("/readyz").json()["bundle"] == digest
        asked = client.post("/recommend", json={"queries": [100], "k": 5, "exclude_seen": True}).json()
        assert (asked["bundle"], [id_ for id_, _ in shops.listed(asked["answers"][0])]) == (
            digest,
            [i for i, _ in answer],
        )
        assert 'recs_reloads_total{outcome="BundleError"} 1.0' in client.get("/metrics").text


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [(b"xx", 400, None), (b"", 400, None), (b"[]", 422, None), (b'{"bundle": "b"}', 422, "bundle"), (b"{}", 200, None)],
)
def test_a_reload_takes_an_empty_object(bundle: Path, body: bytes, status: int, field: str | None) -> None:
    with shops.ready(bundle, admin=True) as client:
        told = client.post("/admin/reload", content=body, headers={"content-type": "application/json"})
        assert (told.status_code, told.json().get("field")) == (status, field)
        reloads = 2 if status == 200 else 1  # the first is the start's
        assert f'recs_reloads_total{{outcome="ok"}} {reloads}.0' in client.get("/metrics").text


@pytest.mark.parametrize("broken", ["main", "beside"])
def test_of_two_bundles_both_are_replaced_or_neither(bundle: Path, other: Path, tmp_path: Path, broken: str) -> None:
    damaged = Path(shutil.copytree(bundle, tmp_path / "damaged"))
    (damaged / "manifest.json").write_text("{}")
    places = {name: tmp_path / name for name in ("main", "beside")}
    for place in places.values():
        place.symlink_to(bundle, target_is_directory=True)
    digest, following = (shops.answers_of(each, 100)[0] for each in (bundle, other))
    with shops.ready(places["main"], beside=str(places["beside"]), admin=True) as client:

        def serve() -> list[str]:
            return [client.get(f"{at}/readyz").json().get("bundle") for at in ("", "/beside")]

        shops.wait_until(lambda: serve() == [digest, digest])
        for name, place in places.items():
            point(place, damaged if name == broken else other)
        told = client.post("/admin/reload", json={})
        assert told.status_code == 409
        assert told.json()["error"].startswith("the bundle beside: ") == (broken == "beside")
        assert str(places[broken]) in told.json()["error"] and told.json()["error"].endswith(f"{digest} goes on")
        assert serve() == [digest, digest]
        point(places[broken], other)
        assert client.post("/admin/reload", json={}).json() == {"bundle": following}
        assert serve() == [following, following]


def test_s3_every_answer_under_reloads_is_of_the_bundle_that_it_names(bundle: Path, other: Path, place: Path) -> None:
    """Two clients ask while the bundle is replaced over and over; what is right was asked of each bundle before."""
    right: dict[str, dict[int, Any]] = {}
    ask = {"k": 5, "exclude_seen": True}
    for each in (bundle, other):
        with shops.ready(each) as client:
            replies = {q: client.post("/recommend", json={"queries": [q], **ask}).json() for q in QUERIES}
            right[replies[100]["bundle"]] = {q: reply["answers"][0] for q, reply in replies.items()}
    assert len(right) == 2
    wrong: list[Any] = []
    named: list[str] = []
    with shops.ready(place, admin=True) as client:
        stop = threading.Event()

        def load() -> None:
            at = 0
            while not stop.is_set():
                query = QUERIES[at % len(QUERIES)]
                reply = client.post("/recommend", json={"queries": [query], **ask})
                told = reply.json()
                named.append(told.get("bundle"))
                if reply.status_code != 200 or told["answers"][0] != right[told["bundle"]][query]:
                    wrong.append(told)
                at += 1

        loads = [threading.Thread(target=load) for _ in range(2)]
        for thread in loads:
            thread.start()
        for turn in range(8):
            point(place, (other, bundle)[turn % 2])
            assert client.post("/admin/reload", json={}).status_code == 200
        stop.set()
        for thread in loads:
            thread.join()
    assert wrong == []
    assert set(named) == set(right)


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_s3_a_signal_reloads_every_worker(bundle: Path, other: Path, place: Path, tmp_path: Path, workers: str) -> None:
    second = shops.answers_of(other, 100)[0]
    with shops.serving(place, tmp_path / "log", "--workers", workers) as process:
        shops.wait_until(lambda: sum(e["event"] == "bundle serves" for e in process.events()) == int(workers))
        point(place, other)
        process.send(signal.SIGHUP)
        shops.wait_until(lambda: sum(e.get("bundle") == second for e in process.events()) == int(workers))
        assert {httpx.get(f"{process.url}readyz").json()["bundle"] for _ in range(8)} == {second}
        point(place, tmp_path)  # no bundle at all
        process.send(signal.SIGHUP)
        shops.wait_until(lambda: sum(e["event"] == "bundle refused" for e in process.events()) == int(workers))
        assert httpx.get(f"{process.url}readyz").json()["bundle"] == second
        process.send(signal.SIGTERM)
        assert process.popen.wait(30) == 0


@pytest.mark.slow
def test_a_worker_that_dies_is_replaced(bundle: Path, tmp_path: Path) -> None:
    with shops.serving(bundle, tmp_path / "log", "--workers", "2") as process:
        shops.wait_until(lambda: sum(e["event"] == "bundle serves" for e in process.events()) == 2)
        children = Path(f"/proc/{process.popen.pid}/task/{process.popen.pid}/children").read_text().split()
        workers = [pid for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        os.kill(int(workers[0]), signal.SIGKILL)
        shops.wait_until(lambda: sum(e["event"] == "bundle serves" for e in process.events()) == 3)
        process.send(signal.SIGTERM)
        assert process.popen.wait(30) == 0
