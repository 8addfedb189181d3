"""A process that serves: the socket, the signals and the drain; and several of them on one address."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from typing import Any

import uvicorn
from prometheus_client.multiprocess import mark_process_dead
from threadpoolctl import threadpool_limits

from recs_core.contract.errors import ConfigError
from recs_core.service.app import application
from recs_core.service.logs import tell, to_stderr
from recs_core.service.metrics import MANY
from recs_core.service.service import Service
from recs_core.service.settings import Settings, is_finite

SWITCH = 0.0005
"""Seconds that one thread may keep the interpreter: the loop reads the next requests while a batch is answered."""

AGAIN = 1.0
"""Seconds before a worker that ended by itself is started again."""


@dataclass(frozen=True)
class Address:
    """Where to listen, and how long to end. `port` 0: a free one. `threads`: of the search, in each worker. `linger`:
    seconds between SIGTERM, from which on `/readyz` is 503, and the end of listening. `drain`: seconds that requests
    which are in the process then may take. Raises `ConfigError` for seconds that are not finite."""

    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    threads: int = 1
    linger: float = 0.0
    drain: float = 30.0

    def __post_init__(self) -> None:
        for name in ("linger", "drain"):
            if not is_finite(value := getattr(self, name)) or value < 0:
                raise ConfigError(f"--{name} must be a finite number of seconds, 0 or more; got {value!r}")


def run(settings: Settings, address: Address) -> None:
    """Serve until SIGTERM or Ctrl-C; SIGHUP serves what lies at the bundle's path then. Raises `ConfigError` for an
    address that cannot be had."""
    with bound(address) as listening:
        port = listening.getsockname()[1]
        to_stderr()
        tell(logging.INFO, "listening", url=url(address.host, port), workers=address.workers)
        if address.workers == 1:
            _serve(settings, address, listening)
        else:
            _Supervisor(settings, replace(address, port=port)).run()


def url(host: str, port: int) -> str:
    """As a browser takes it."""
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


@contextlib.contextmanager
def bound(address: Address) -> Iterator[socket.socket]:
    """A socket at the address, not listening yet; of several workers each has one, and the system shares out."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with socket.socket(family) as made:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if address.workers > 1:
            if not hasattr(socket, "SO_REUSEPORT"):
                raise ConfigError("--workers: this system cannot share a port; start one service per port")
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            made.bind((address.host, address.port))
        except OSError as error:
            why = error.strerror or str(error)
            raise ConfigError(f"--host {address.host} --port {address.port}: {why}; choose another") from None
        yield made


class _Server(uvicorn.Server):
    """uvicorn's, with signals that mean what operators expect of them: HUP reloads, TERM drains and ends with 0."""

    def __init__(self, config: uvicorn.Config, service: Service, linger: float) -> None:
        super().__init__(config)
        self._service, self._linger = service, linger

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """In place of uvicorn's, which ends by the signal."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._end)
        if multiprocessing.parent_process() is None:  # else Ctrl-C is for the process that passes it on
            loop.add_signal_handler(signal.SIGINT, self._end)
        loop.add_signal_handler(signal.SIGHUP, self._service.reload_soon)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP, signal.SIGTERM})
        yield

    def _end(self) -> None:
        if self._service.draining:
            self.should_exit = self.force_exit = True  # asked twice
            return
        self._service.draining = True
        tell(logging.INFO, "draining", linger=self._linger)
        asyncio.get_running_loop().call_later(self._linger, setattr, self, "should_exit", True)


def _serve(settings: Settings, address: Address, listening: socket.socket, many: bool = False) -> None:
    """One process' service."""
    sys.setswitchinterval(SWITCH)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})  # one that comes before there is a handler waits
    app = application(settings)
    if many:
        app.service.alone = False
        app.service.load()  # before it listens: the others answer meanwhile, or nobody does
        app.service.reloaded = lambda: os.kill(os.getppid(), signal.SIGHUP)  # so that the others do, too
    config = uvicorn.Config(
        app,
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=75,  # longer than what stands before it keeps an idle connection
        timeout_graceful_shutdown=int(address.drain),
        lifespan="on",
    )
    with threadpool_limits(address.threads):
        _Server(config, app.service, address.linger).run([listening])
    tell(logging.INFO, "ended")


def _worker(settings: Settings, address: Address) -> None:
    """In a process of its own; it ends with the one that started it."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    to_stderr()

    def watch() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
    with bound(address) as listening:
        _serve(settings, address, listening, many=True)


class _Supervisor:
    """The process that workers are children of: it keeps so many running, passes signals on, and ends when they have.

    `_workers` are those that should run, `_children` all that do: one that is being started is told to end, too.
    """

    def __init__(self, settings: Settings, address: Address) -> None:
        self._told = settings, address
        self._context = multiprocessing.get_context("spawn")
        self._workers: list[BaseProcess] = []
        self._children: list[BaseProcess] = []
        self._ending = False

    def run(self) -> None:
        """Until SIGTERM or Ctrl-C."""
        for name in ("SIGTERM", "SIGINT"):
            signal.signal(getattr(signal, name), self._end)
        signal.signal(signal.SIGHUP, lambda *_: self._pass_on(signal.SIGHUP))
        with tempfile.TemporaryDirectory(prefix="recs-metrics-") as folder:
            os.environ[MANY] = folder
            self._workers = [self._started() for _ in range(self._told[1].workers)]
            while not self._ending:
                connection.wait([worker.sentinel for worker in self._workers], timeout=AGAIN)
                self._mend()
            for worker in self._children:
                worker.join()

    def _mend(self) -> None:
        for place, worker in enumerate(self._workers):
            if worker.is_alive() or self._ending:
                continue
            tell(logging.ERROR, "worker ended", exit_code=worker.exitcode)
            mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]
            self._children.remove(worker)
            time.sleep(AGAIN)
            if not self._ending:
                self._workers[place] = self._started()

    def _started(self) -> BaseProcess:
        """A signal that comes before the worker has its handlers waits."""
        worker = self._context.Process(target=_worker, args=self._told)
        early = {signal.SIGHUP, signal.SIGTERM}
        signal.pthread_sigmask(signal.SIG_BLOCK, early)
        try:
            worker.start()
            self._children.append(worker)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, early)
        return worker

    def _end(self, *_: Any) -> None:
        self._ending = True
        self._pass_on(signal.SIGTERM)

    def _pass_on(self, number: int) -> None:
        for worker in tuple(self._children):
            if worker.is_alive() and worker.pid is not None:
                os.kill(worker.pid, number)
