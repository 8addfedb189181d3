"""Several workers in one process: each a thread with a backend of its own, joined to the others as processes are."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar, cast

from recs_core import config
from recs_core.contract.errors import WorkerLost
from recs_core.contract.protocols import Backend, WithDevices
from recs_core.contract.workers import Workers
from recs_core.distributed.launch import free_port

T = TypeVar("T")

TIMEOUT = 60.0
"""Seconds that a worker waits for another: no step here takes one."""


def on_workers(backend: Backend, size: int, job: Callable[[Backend], T], *, timeout: float = TIMEOUT) -> list[T]:
    """What `job` returns on each of `size` workers, by rank, given the backend over them. `timeout`:
    seconds that one waits for another.

    They compute where the backend computes by default: two workers may not share a GPU. Raises what a job raises, of
    several the one that the others did not only wait for, and `UnsupportedFeature` as `config.over`.
    """
    config.check_workers(backend.info)
    if backend.info.capabilities.get("device", False) is True:
        placed = cast("WithDevices", backend)
        backend = placed.on(next(iter(placed.devices())))
    port = free_port()

    def worker(rank: int) -> T:
        workers = Workers(rank, size, port=port, hosts=not rank, local=rank, timeout=timeout)
        return job(cast("Backend", config.over(backend, workers)))

    with ThreadPoolExecutor(size, thread_name_prefix="recs-worker") as pool:
        found = [pool.submit(worker, rank) for rank in range(size)]
        wait(found)
    raised = [error for one in found if (error := one.exception()) is not None]
    for error in sorted(raised, key=lambda error: isinstance(error, WorkerLost)):
        raise error
    return [one.result() for one in found]
