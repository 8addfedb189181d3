"""Workers on this machine: each a process with the same command, told by its environment who it is, as `torchrun` does.

Processes and not forks, and of the core's own: a framework may not be forked, the core starts workers of any backend
alike, and what a launcher of one framework would print when a worker dies is a page, not a line.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO, Any

from recs_core.contract.errors import ConfigError
from recs_core.contract.workers import TIMEOUT, Workers

LOST = 3
"""The exit code of a worker that waited for another."""

NOTICE = 20.0
"""Seconds in which the others may notice that one was killed, and say what they waited for."""

GRACE = 10.0
"""The same where one has noticed already; and those in which a worker may end that is told to."""

SHORT = 1.0
"""The same where one has ended with an error of its own, which the others know, or cannot know."""

LOOK = 0.05
"""Seconds between two looks at the workers."""


def workers_of(environ: Mapping[str, str], timeout: float | None = None) -> Workers | None:
    """The worker that `torchrun`, or `launch`, says this process is; None where nobody says so, or it is alone.

    `timeout`: seconds to wait for the others, by default `TIMEOUT`. Raises `ConfigError` for variables that do not read
    as such, or that lack one of the others.
    """
    if "RANK" not in environ or "WORLD_SIZE" not in environ:
        return None
    named = {"rank": "RANK", "size": "WORLD_SIZE", "port": "MASTER_PORT"}
    also = {"local": "LOCAL_RANK", "attempt": "TORCHELASTIC_RESTART_COUNT"}
    numbers = {field: _number(environ, name) for field, name in named.items()}
    numbers |= {field: _number(environ, name) for field, name in also.items() if name in environ}
    if "MASTER_ADDR" not in environ:
        raise ConfigError("RANK is set, and MASTER_ADDR, where the workers meet, is not; start them by torchrun")
    if numbers["size"] == 1:
        return None
    kept_by_launcher = environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    return Workers(
        address=environ["MASTER_ADDR"],
        hosts=numbers["rank"] == 0 and not kept_by_launcher,
        timeout=TIMEOUT if timeout is None else timeout,
        **numbers,
    )


def _number(environ: Mapping[str, str], name: str) -> int:
    text = environ.get(name, "")
    if not text.isdecimal():
        raise ConfigError(f"{name} in the environment is {text!r}, which is no number; start the workers by torchrun")
    return int(text)


def free_port() -> int:
    """A port of this machine on which nobody listens, nor on the one after it, where workers meet."""
    while True:
        with socket.socket() as found, socket.socket() as after, suppress(OSError, OverflowError):
            found.bind(("127.0.0.1", 0))
            port = int(found.getsockname()[1])
            after.bind(("127.0.0.1", port + 1))
            return port


@dataclass
class _Started:
    """A worker's process, and what it writes to stderr where that is kept back."""

    rank: int
    process: subprocess.Popen[bytes]
    said: IO[bytes] | None

    def last_line(self) -> str:
        """What it said last."""
        if self.said is None:
            return ""
        self.said.seek(0)
        lines = self.said.read().decode(errors="replace").splitlines()
        return next((line for line in reversed(lines) if line.strip()), "")


def launch(size: int, command: Sequence[str]) -> tuple[int, list[str]]:
    """Run a command as `size` workers on this machine; its exit code, and lines that say of a failure what worker 0,
    whose output is this process's, does not say.

    The code is 0 if all ended well, else that of the first that failed, 1 for one that a signal ended. Then the others
    are given a while to end by themselves. Each has its share of the cores, unless `OMP_NUM_THREADS` is set. Ctrl-C
    stops all.
    """
    with _started(size, command) as workers:
        first = None
        while first is None and any(worker.process.poll() is None for worker in workers):
            first = next((worker for worker in workers if worker.process.poll()), None)
            time.sleep(LOOK)
        first = first or next((worker for worker in workers if worker.process.poll()), None)
        if first is None:
            return 0, []
        code = int(first.process.poll() or 0)
        until = time.monotonic() + (NOTICE if code < 0 else GRACE if code == LOST else SHORT)
        while time.monotonic() < until and any(worker.process.poll() is None for worker in workers):
            time.sleep(LOOK)
        return max(1, code), _words(workers)


def _words(workers: Sequence[_Started]) -> list[str]:
    """Which were ended by a signal; and what the others said, unless worker 0 failed by an error of its own. That one
    was lost is worker 0's to say, unless it is that."""
    lines = []
    size, codes = len(workers), [worker.process.poll() for worker in workers]
    for worker, code in zip(workers, codes, strict=True):
        if code is not None and code < 0:
            lines.append(f"recs: worker {worker.rank} of {size} was ended by {signal.Signals(-code).name}")
        elif code == LOST and (codes[0] or 0) < 0 and (said := worker.last_line()):
            lines.append(said)
        elif code not in (0, LOST, None) and codes[0] in (0, LOST, None):
            lines.append(worker.last_line() or f"recs: worker {worker.rank} of {size} ended with code {code}")
    return lines


@contextmanager
def _started(size: int, command: Sequence[str]) -> Iterator[list[_Started]]:
    """The workers; afterwards none of them is left."""
    threads = str(max(1, (os.cpu_count() or 1) // size))
    shared = {"OMP_NUM_THREADS": threads, **os.environ, "WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1"}
    shared["MASTER_PORT"] = str(free_port())
    started: list[_Started] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        for rank in range(size):
            said = tempfile.TemporaryFile() if rank else None  # noqa: SIM115 (`_end` closes it)
            own: dict[str, Any] = {} if said is None else {"stdout": subprocess.DEVNULL, "stderr": said}
            named = {**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}
            process = subprocess.Popen(list(command), env=named, start_new_session=True, **own)
            started.append(_Started(rank, process, said))
        yield started
    finally:
        signal.signal(signal.SIGTERM, before)
        _end(started)


def _end(workers: Sequence[_Started]) -> None:
    for worker in workers:
        if worker.process.poll() is None:
            worker.process.terminate()
    until = time.monotonic() + GRACE
    for worker in workers:
        with suppress(subprocess.TimeoutExpired):
            worker.process.wait(max(0.0, until - time.monotonic()))
        if worker.process.poll() is None:
            worker.process.kill()
            worker.process.wait()
        if worker.said is not None:
            worker.said.close()
