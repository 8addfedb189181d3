"""What Prometheus reads: requests by outcome, where their time goes, and which bundle serves."""

from __future__ import annotations

import os
import resource
import sys
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
SIZES = (1, 2, 4, 8, 16, 32, 64)
MANY = "PROMETHEUS_MULTIPROC_DIR"


class Metrics:
    """The numbers of one service, in a registry of their own: several may be in one process."""

    def __init__(self) -> None:
        self.registry = own = CollectorRegistry()

        def seconds(name: str, what: str, labels: tuple[str, ...] = ()) -> Histogram:
            return Histogram(f"recs_{name}_seconds", what, labels, buckets=SECONDS, registry=own)

        def gauge(name: str, what: str, of_workers: Any, labels: tuple[str, ...] = ()) -> Gauge:
            return Gauge(f"recs_{name}", what, labels, registry=own, multiprocess_mode=of_workers)

        self.requests = Counter("recs_requests", "Requests by route and outcome.", ("route", "outcome"), registry=own)
        self.seconds = seconds("request", "A request, from its body to its answer.", ("route",))
        self.queued = seconds("queue", "Waiting for the batch before.")
        self.encode = seconds("encode", "A batch's queries as vectors.")
        self.search = seconds("search", "A batch's search.")
        self.batch = Histogram("recs_batch_requests", "Requests answered together.", buckets=SIZES, registry=own)
        self.dropped = Counter("recs_dropped", "Requests whose client was gone before their turn.", registry=own)
        self.reloads = Counter("recs_reloads", "Loads of a bundle by outcome.", ("outcome",), registry=own)
        self.waiting = gauge("waiting", "Requests that wait.", "livesum")
        self.memory = gauge("memory_bytes", "Resident memory.", "liveall")
        self.bundle = gauge("bundle", "1 for the bundle that serves.", "livemax", ("digest",))
        self._outcomes: dict[tuple[str, str], Counter] = {}
        self._durations: dict[str, Histogram] = {}
        self._digest: str | None = None

    def answered(self, route: str, outcome: str, seconds: float) -> None:
        """One request more. `outcome`: "ok", or the `error_type`."""
        key = route, outcome
        if key not in self._outcomes:  # labels() takes a lock and a search
            self._outcomes[key] = self.requests.labels(route, outcome)
            self._durations[route] = self.seconds.labels(route)
        self._outcomes[key].inc()
        self._durations[route].observe(seconds)

    def serves(self, digest: str) -> None:
        """Another bundle serves now."""
        if self._digest not in (None, digest):
            self.bundle.labels(self._digest).set(0)
        self._digest = digest
        self.bundle.labels(digest).set(1)

    def text(self, waiting: int) -> bytes:
        """As Prometheus reads it; of several workers, the sum over all of them."""
        self.waiting.set(waiting)
        self.memory.set(resident())
        if MANY not in os.environ:
            return generate_latest(self.registry)
        from prometheus_client.multiprocess import MultiProcessCollector

        together = CollectorRegistry()
        MultiProcessCollector(together)  # type: ignore[no-untyped-call]
        return generate_latest(together)


def resident() -> int:
    """Bytes of memory that this process holds, its maps included."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024
