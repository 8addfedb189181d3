"""`recs serve` beside a plain FastAPI endpoint that calls `model.recommend`, under the same load on the same machine.

    python benchmarks/service.py [BUNDLE] [--rounds 5] [--seconds 5] [--workers 1,2] [--connections 32]
    python benchmarks/service.py --candidates 1000000 --index faiss-hnsw

Without a bundle it trains the recipe `history` on Online Retail; with `--candidates` it makes a model of so many, 64
numbers each, in clusters. `--index`: built, and kept in that bundle, before anything is asked.
Both are processes of their own, as is the load: so many keep-alive connections, each of which asks for the next query
once it has its answer (k=10, seen ones left out). The servers take turns; what is printed are medians over the rounds.
One of them has 200 clients more, which send a body a byte at a time and never finish it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import selectors
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

RECS = (sys.executable, "-m", "recs_core.cli")
SLOW = 200

PEER = """
import sys, uvicorn, recs_core as recs
from fastapi import FastAPI
from pydantic import BaseModel

model = recs.load(sys.argv[1], runtime="numpy")
app = FastAPI()

class Ask(BaseModel):
    queries: list[int | str]
    k: int = 10
    exclude_seen: bool = False

@app.get("/readyz")
def ready():
    return {}

@app.post("/recommend")
def recommend(ask: Ask):
    found = model.recommend(ask.queries, k=ask.k, exclude="seen" if ask.exclude_seen else None)
    return {"ids": found.ids.tolist(), "scores": found.scores.tolist()}

uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), access_log=False, log_level="warning")
"""


@dataclass(frozen=True)
class Round:
    """What one load saw."""

    requests: int
    seconds: float
    p50: float
    p99: float
    failed: int
    cpu: float = 0.0
    """Seconds of processor time that the server took per request: what a busy neighbour changes least."""
    ready: float = 0.0
    """Seconds from the start of the server to its first answer."""

    @property
    def rate(self) -> float:
        return self.requests / self.seconds


def load(port: int, queries: list[int | str], connections: int, seconds: float) -> Round:
    """Closed loop over raw sockets: what a client does to ask and to read costs as little as Python allows."""
    asks = [_request(query) for query in queries]
    selector = selectors.DefaultSelector()
    times: list[float] = []
    failed, sent_at, pending = 0, {}, {}
    at = 0
    for _ in range(connections):
        made = socket.create_connection(("127.0.0.1", port))
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        selector.register(made, selectors.EVENT_READ)
        pending[made] = b""
        made.sendall(asks[at % len(asks)])
        sent_at[made] = time.perf_counter()
        at += 1
    start = time.perf_counter()
    end = start + seconds
    while (now := time.perf_counter()) < end:
        for key, _ in selector.select(1):
            made = key.fileobj
            got = made.recv(65536)
            if not got:
                raise SystemExit("a connection was closed")
            got = pending[made] + got
            head = got.find(b"\r\n\r\n")
            if head < 0 or len(got) < head + 4 + _length(got[:head]):
                pending[made] = got
                continue
            pending[made] = b""
            failed += not got.startswith(b"HTTP/1.1 200")
            now = time.perf_counter()
            times.append(now - sent_at[made])
            made.sendall(asks[at % len(asks)])
            at += 1
            sent_at[made] = now
    spent = time.perf_counter() - start
    for made in pending:
        made.close()
    times.sort()
    return Round(len(times), spent, times[len(times) // 2], times[int(len(times) * 0.99)], failed)


def _request(query: int | str) -> bytes:
    body = json.dumps({"queries": [query], "k": 10, "exclude_seen": True}).encode()
    return _head(len(body)) + body


def _head(length: int) -> bytes:
    lines = (
        "POST /recommend HTTP/1.1",
        "host: localhost",
        "content-type: application/json",
        f"content-length: {length}",
    )
    return "\r\n".join((*lines, "", "")).encode()


def _length(head: bytes) -> int:
    start = head.lower().index(b"content-length:") + 15
    end = head.find(b"\r\n", start)
    return int(head[start : end if end > 0 else None])


def _free_port() -> int:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return int(made.getsockname()[1])


def start(command: list[str], port: int) -> subprocess.Popen[bytes]:
    """A server that is ready."""
    server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    end = time.time() + 60
    while time.time() < end:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5):
                return server
        except OSError:
            time.sleep(0.05)
    server.kill()
    raise SystemExit(f"not ready within a minute: {' '.join(command)}")


def measured(server: int, port: int, queries: list[int | str], connections: int, seconds: float) -> Round:
    """A load from a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        pool.apply(load, (port, queries, connections, 0.5))
        before = _processor_seconds(server)
        seen = pool.apply(load, (port, queries, connections, seconds))
    return replace(seen, cpu=(_processor_seconds(server) - before) / seen.requests)


def _processor_seconds(server: int) -> float:
    """Of the process and its children, from Linux."""
    fields = Path(f"/proc/{server}/stat").read_text().rpartition(")")[2].split()
    own = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return own + sum(
        map(_processor_seconds, map(int, Path(f"/proc/{server}/task/{server}/children").read_text().split()))
    )


@contextlib.contextmanager
def slow_clients(port: int, number: int) -> Iterator[None]:
    """So many connections, each of which sends a byte of a body now and then."""
    stop = threading.Event()

    def begun() -> socket.socket:
        made = socket.create_connection(("127.0.0.1", port))
        made.sendall(_head(1_000_000))
        return made

    def trickle() -> None:
        clients = [begun() for _ in range(number)]
        while not stop.wait(0.5):
            for at, client in enumerate(clients):
                try:
                    client.sendall(b" ")
                except OSError:  # it was told 408
                    clients[at] = begun()
        for client in clients:
            client.close()

    thread = threading.Thread(target=trickle)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def train(folder: Path) -> Path:
    """The recipe `history` on Online Retail, one epoch: answers cost the same after one as after sixty."""
    import recs_core as recs

    data = recs.datasets.load("online-retail").filter(min_per_query=5, min_per_candidate=5)
    train, _ = data.split(by="time", at="2011-11-10", known_only=True)
    model = recs.recipe("history", train)
    model.fit(train, epochs=1, progress=False)
    return model.save(folder / "bundle", include_vectors=True)


def made(folder: Path, candidates: int) -> Path:
    """A thousand queries and so many candidates, never trained."""
    import numpy as np
    from bundle import model
    from clusters import clusters

    big = model(candidates)
    weights, drawn = big.weights(), clusters(64, np.random.default_rng(0))
    for table in ("table/user", "table/item"):
        weights[table][:] = drawn(len(weights[table]))
    return big.save(folder / "bundle", include_vectors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", nargs="?", type=Path)
    parser.add_argument("--candidates", type=int)
    parser.add_argument("--index")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--workers", default="1,2")
    asked = parser.parse_args()
    if asked.bundle and asked.index:
        parser.error("--index changes the bundle: leave one of them out")
    with tempfile.TemporaryDirectory() as folder:
        bundle = asked.bundle or (made(Path(folder), asked.candidates) if asked.candidates else train(Path(folder)))
        if asked.index:
            subprocess.run(
                [*RECS, "index", "build", str(bundle), "--index", asked.index], stdout=sys.stderr, check=True
            )
        import recs_core as recs

        model = recs.load(bundle, runtime="numpy")
        queries = model.schema.queries.ids.to_pylist()[:2000]
        (peer := Path(folder) / "peer.py").write_text(PEER)
        commands = {
            f"recs serve --workers {n}": lambda port, n=n: [
                *RECS, "serve", str(bundle),
                "--port", str(port), "--workers", n, "--no-log",
            ]
            for n in asked.workers.split(",")
        }  # fmt: skip
        slow = f"{next(iter(commands))}, {SLOW} slow clients beside"
        commands[slow] = next(iter(commands.values()))
        commands["plain FastAPI"] = lambda port: [sys.executable, str(peer), str(bundle), str(port)]
        rounds: dict[str, list[Round]] = {name: [] for name in commands}
        for _ in range(asked.rounds):
            for name, command in commands.items():
                port, began = _free_port(), time.perf_counter()
                server = start(command(port), port)
                ready = time.perf_counter() - began
                try:
                    with slow_clients(port, SLOW if name == slow else 0):
                        seen = measured(server.pid, port, queries, asked.connections, asked.seconds)
                        rounds[name].append(replace(seen, ready=ready))
                finally:
                    server.terminate()
                    server.wait()
    plain = median(r.rate for r in rounds["plain FastAPI"])
    print(
        "| server | requests/s | beside plain | p50, ms | p99, ms | processor µs per request | failed | ready, s |\n"
        "|---|--:|--:|--:|--:|--:|--:|--:|"
    )
    for name, each in rounds.items():
        rate = median(r.rate for r in each)
        p50, p99 = (1000 * median(getattr(r, p) for r in each) for p in ("p50", "p99"))
        cpu, failed = 1e6 * median(r.cpu for r in each), sum(r.failed for r in each)
        ready = median(r.ready for r in each)
        times = f"{p50:.1f} | {p99:.1f} | {cpu:,.0f}"
        print(f"| {name} | {rate:,.0f} | {rate / plain:.1f}× | {times} | {failed} | {ready:.1f} |")


if __name__ == "__main__":
    main()
