"""Bundles to serve, and processes that do."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from starlette.testclient import TestClient

import recs_core as recs
from recs_core.reference.backend import OracleBackend
from recs_core.service import asgi

USERS, ITEMS = 40, 90


def interactions(seed: int = 0) -> recs.Interactions:
    """Integer queries from 100, candidates "i0" … with a price and a country."""
    random = np.random.default_rng(seed)
    who = np.concatenate([np.arange(USERS), random.integers(0, USERS, 300)])
    what = np.concatenate([np.arange(ITEMS), random.integers(0, ITEMS, len(who) - ITEMS)])
    return recs.Interactions.from_table(
        {"user": 100 + who, "item": [f"i{n}" for n in what], "t": np.arange(len(who)) * 60.0},
        query="user",
        candidate="item",
        timestamp="t",
        queries={"user": 100 + np.arange(USERS), "age": np.linspace(18.0, 80.0, USERS)},
        candidates={
            "item": [f"i{n}" for n in range(ITEMS)],
            "title": [f"Thing <{n}> & more" for n in range(ITEMS)],
            "price": np.linspace(1.0, 9.9, ITEMS),
            "country": [("UK", "FR", None)[n % 3] for n in range(ITEMS)],
        },
    )


def save(folder: Path, *, layers: tuple[int, ...] = (48, 32), seed: int = 0, encoder: Any = None) -> Path:
    """A bundle. Its query tower reads an id, a history and a number through `layers`; without any, a history alone,
    through the `encoder`."""
    history = recs.History("item", dim=32, max_length=encoder and 20, encoder=encoder)
    read = [recs.Categorical("user", dim=32), history, recs.Numeric("age")] if layers else [history]
    model = recs.TwoTower(
        query=recs.TowerSpec(read, layers=list(layers)),
        candidate=recs.TowerSpec([recs.Categorical("item", dim=32)]),
        retrieval=recs.RetrievalSpec(scoring="cosine", temperature=0.2),
        optimizer=recs.Adam(0.05),
        training=recs.TrainingSpec(epochs=1, batch_size=64),
        backend=OracleBackend(),
        seed=seed,
    )
    model.fit(interactions(), progress=False)
    return model.save(folder)


@contextlib.contextmanager
def ready(bundle: Path, **settings: Any) -> Iterator[TestClient]:
    """A client of a service in this process, once it is ready."""
    with TestClient(asgi(bundle, **settings)) as client:
        wait_until(lambda: client.get("/readyz").status_code == 200)
        yield client


def wait_until(true: Any, seconds: float = 60) -> None:
    """Ask again until it is so."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.01)


@dataclass(frozen=True)
class Process:
    """`recs serve` in a process of its own."""

    popen: subprocess.Popen[str]
    url: str
    log: Path

    def send(self, number: signal.Signals) -> None:
        self.popen.send_signal(number)

    def events(self) -> list[dict[str, Any]]:
        """What it has logged."""
        return [json.loads(line) for line in self.log.read_text("utf-8").rpartition("\n")[0].splitlines()]

    def saw(self, event: str) -> bool:
        return any(line["event"] == event for line in self.events())


@contextlib.contextmanager
def serving(bundle: Path, log: Path, *options: str, wait: bool = True, key: str = "") -> Iterator[Process]:
    """`recs serve` at a free port."""
    command = [sys.executable, "-c", "from recs_core.cli.main import main; main()", "serve", str(bundle), "--port", "0"]
    environment = {**os.environ, "RECS_API_KEY": key, "OPENBLAS_NUM_THREADS": "1"}
    with log.open("w") as stderr, subprocess.Popen([*command, *options], stderr=stderr, env=environment) as popen:
        try:
            wait_until(lambda: "\n" in log.read_text("utf-8") or popen.poll() is not None)
            url = json.loads(log.read_text("utf-8").splitlines()[0])["url"]
            if wait:
                wait_until(lambda: _is_ready(url))
            yield Process(popen, url, log)  # type: ignore[arg-type]
        finally:
            popen.kill()


def listens(url: str) -> bool:
    """Whether anybody is at the address."""
    try:
        return bool(httpx.get(f"{url}livez").status_code)
    except httpx.ConnectError:
        return False


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}readyz").status_code == 200
    except httpx.TransportError:
        return False


def answers_of(bundle: Path, query: int, k: int = 5) -> tuple[str, list[tuple[str, float]]]:
    """The digest of a bundle, and what the library answers by it, without a service."""
    model = recs.load(bundle, runtime="numpy")
    found = model.recommend([query], k=k, exclude="seen")
    scores = [float(score) for score in found.scores[0]]
    return str(recs.bundle.info(bundle).manifest["digest"]), list(zip(found.ids[0].tolist(), scores, strict=True))


def listed(answer: dict[str, Any]) -> list[tuple[str, float]]:
    """The ids and scores of one query's answer."""
    return [(candidate["id"], candidate["score"]) for candidate in answer["candidates"]]
