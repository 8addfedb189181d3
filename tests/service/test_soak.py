"""A minute under load with reloads all the while: no request fails, no answer is another bundle's, memory stays.

`SOAK_SECONDS=300 pytest -m slow tests/service/test_soak.py` takes as long as is wanted.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.service import shops
from tests.service.test_reload import QUERIES, point

SECONDS = float(os.environ.get("SOAK_SECONDS", "60"))
RELOAD_EVERY = max(1.0, min(10.0, SECONDS / 12))
CLIENTS = 4
GROWTH = 1.05
"""Of resident memory, from the end of the first third to the end."""

ASKED: tuple[tuple[int, dict[str, Any]], ...] = (
    (200, {"k": 10, "exclude_seen": True}),
    (200, {"k": 3, "where": "price < 5", "exclude": [["i1", "i2"]]}),
    (200, {"k": 5, "diversity": 0.5}),
    (422, {"k": 5, "where": "price <"}),
)


@pytest.mark.slow
def test_soak(bundle: Path, other: Path, tmp_path: Path) -> None:
    right = {digest: replies for digest, replies in (_right(each) for each in (bundle, other))}
    (place := tmp_path / "current").symlink_to(bundle, target_is_directory=True)
    with shops.serving(place, tmp_path / "log", "--no-log") as process:
        stop, wrong, counts = threading.Event(), [], [0] * CLIENTS
        loads = [
            threading.Thread(target=_load, args=(process.url, right, stop, wrong, counts, number))
            for number in range(CLIENTS)
        ]
        for thread in loads:
            thread.start()
        memory, turns, end = [], 0, time.monotonic() + SECONDS
        while time.monotonic() < end and not wrong:
            stop.wait(RELOAD_EVERY)
            turns += 1
            point(place, (other, bundle)[turns % 2])
            process.send(signal.SIGHUP)
            memory.append(_resident(process.popen.pid))
        shops.wait_until(lambda: sum(e["event"] == "bundle serves" for e in process.events()) > turns)
        stop.set()
        for thread in loads:
            thread.join()
        process.send(signal.SIGTERM)
        assert process.popen.wait(60) == 0
    print(f"{sum(counts):,} answers in {SECONDS:g} s, {turns} reloads, {memory[-1] / 1e6:.0f} MB")
    assert wrong == []
    assert min(counts) > 0
    assert memory[-1] <= GROWTH * memory[len(memory) // 3]


def _right(bundle: Path) -> tuple[str, dict[tuple[int, int], Any]]:
    """What a bundle answers when nothing else goes on."""
    with shops.ready(bundle) as client:
        replies = {
            (query, number): client.post("/recommend", json={"queries": [query], **ask}).json().get("answers")
            for query in QUERIES
            for number, (_, ask) in enumerate(ASKED)
        }
        return client.get("/readyz").json()["bundle"], replies


def _load(url: str, right: Any, stop: threading.Event, wrong: list[Any], counts: list[int], number: int) -> None:
    with httpx.Client(base_url=url, timeout=30) as client:
        while not stop.is_set():
            at = counts[number] * CLIENTS + number
            query, which = QUERIES[at % len(QUERIES)], at % len(ASKED)
            status, ask = ASKED[which]
            try:
                reply = client.post("/recommend", json={"queries": [query], **ask})
                told = reply.json()
                good = reply.status_code == status and (
                    status != 200 or told["answers"] == right[told["bundle"]][query, which]
                )
            except httpx.HTTPError as error:
                told, good = repr(error), False
            if not good:
                wrong.append(told)
                return
            counts[number] += 1


def _resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
