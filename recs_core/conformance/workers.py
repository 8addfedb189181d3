"""Several workers, each with a backend joined to the others: threads of this process, or processes that stay."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import (
    FIRST_EXCEPTION,
    BrokenExecutor,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar, cast

from recs_core import config
from recs_core.contract.errors import WorkerLost
from recs_core.contract.protocols import Backend, WithDevices
from recs_core.contract.workers import Workers
from recs_core.distributed.launch import free_port

T = TypeVar("T")

TIMEOUT = 60.0
"""Seconds that a worker waits for another: no step here takes one."""

GRACE = 10.0
"""Seconds in which the others may end where one has failed."""


def on_workers(backend: Backend, size: int, job: Callable[[Backend], T], *, timeout: float = TIMEOUT) -> list[T]:
    """What `job` returns on each of `size` workers, by rank, given the backend over them. `timeout`:
    seconds that one waits for another.

    They are threads. Where `info.one_worker_per_process` they are processes, to which the backend and the job are
    pickled: a job is then a function of a module, as in `functools.partial(steps, world=…)`. They stay for the next
    job, unless one is lost.

    They compute where the backend computes by default: two workers may not share a GPU. Raises what a job raises, of
    several the one that the others did not only wait for, and `UnsupportedFeature` as `config.over`.
    """
    config.check_workers(backend.info)
    if backend.info.capabilities.get("device", False) is True:
        placed = cast("WithDevices", backend)
        backend = placed.on(next(iter(placed.devices())))
    if backend.info.one_worker_per_process:
        return _in_processes(backend, size, job, timeout)
    with ThreadPoolExecutor(size, thread_name_prefix="recs-worker") as pool:
        found = [pool.submit(_work, backend, workers, job) for workers in _named(size, timeout)]
        wait(found)
    return _results(found)


def _named(size: int, timeout: float) -> list[Workers]:
    port = free_port()
    return [Workers(rank, size, port=port, hosts=not rank, local=rank, timeout=timeout) for rank in range(size)]


def _work(backend: Backend, workers: Workers, job: Callable[[Backend], T]) -> T:
    return job(cast("Backend", config.over(backend, workers)))


def _results(found: Sequence[Future[T]]) -> list[T]:
    raised = [error for one in found if (error := one.exception()) is not None]
    for error in sorted(raised, key=lambda error: isinstance(error, LOST)):
        raise error
    return [one.result() for one in found]


LOST = (WorkerLost, BrokenExecutor)


@dataclass
class _Crew:
    """Processes that are workers, as long as none of them is lost."""

    workers: Sequence[Workers]
    processes: Sequence[Executor]
    numbers: Sequence[Future[int]]

    @classmethod
    def of(cls, size: int, timeout: float) -> _Crew:
        spawn = multiprocessing.get_context("spawn")  # a framework may not be forked
        processes = [ProcessPoolExecutor(1, spawn) for _ in range(size)]
        return cls(_named(size, timeout), processes, [process.submit(os.getpid) for process in processes])

    def end(self) -> None:
        for process, number in zip(self.processes, self.numbers, strict=True):
            with suppress(BrokenExecutor, ProcessLookupError):
                os.kill(number.result(), signal.SIGKILL)
            process.shutdown()


_crews: dict[tuple[int, float], _Crew] = {}


def _in_processes(backend: Backend, size: int, job: Callable[[Backend], T], timeout: float) -> list[T]:
    key = (size, timeout)
    if key not in _crews:
        _crews[key] = _Crew.of(size, timeout)
    crew = _crews[key]
    both = zip(crew.workers, crew.processes, strict=True)
    found = [process.submit(_work, backend, workers, job) for workers, process in both]
    wait(found, return_when=FIRST_EXCEPTION)
    wait(found, GRACE)
    if any(not one.done() or isinstance(one.exception(), LOST) for one in found):
        _crews.pop(key).end()
    return _results(found)
