"""The first words between workers: whether all have come, and are alike in what decides how they would talk.

Plain sockets, before any framework joins them: what two frameworks would say, neither understands. Worker 0 listens;
each other says who it is in a line of JSON, and is told in a line when all have come, or the time is over.
"""

from __future__ import annotations

import errno
import json
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from typing import Any

from recs_core.contract.errors import ConfigError, RecsError, WorkerLost
from recs_core.contract.messages import one_line
from recs_core.contract.workers import Workers
from recs_core.distributed.agreement import disagreement
from recs_core.distributed.talk import name
from recs_core.version import __version__

LOOK = 0.1
"""Seconds between two tries to reach worker 0."""

GRACE = 5.0
"""Seconds for a line from one that has come; for the others to come once two disagree, so that they hear of it; and for
a port to be free again."""

LIMIT = 1 << 16
"""Bytes of a line."""

HERE = ("127.0.0.1", "localhost")
"""Addresses that no other machine reaches."""

Facts = Mapping[str, str]


def meet(workers: Workers, backend: str) -> None:
    """Wait until all workers have come to `workers.meeting`, each with the same number of workers, version and backend.

    Raises, on every worker that came, `ConfigError` that names the first which differs and in what, and `WorkerLost`
    that names who did not come within the timeout.
    """
    if workers.size == 1:
        return
    facts = {"the number of workers": str(workers.size), "version": f"recs-core {__version__}", "backend": backend}
    kind, said = _received(workers, facts) if workers.rank == 0 else _told(workers, facts)
    if said is not None:
        raise KINDS[kind](f"{name(workers)}: {said}" if kind == "lost" else said)


KINDS: Mapping[str, type[RecsError]] = {"lost": WorkerLost, "refused": ConfigError}

Verdict = tuple[str, str | None]
"""A key of `KINDS`, and what is wrong; None if nothing is."""


def _received(workers: Workers, facts: Facts) -> Verdict:
    """Worker 0's part."""
    came, lines = {0: facts}, dict[int, socket.socket]()
    until = time.monotonic() + workers.timeout
    with ExitStack() as opened:
        with _listening(workers) as server:
            while not set(range(workers.size)) <= set(came) and (left := until - time.monotonic()) > 0:
                server.settimeout(left)
                with suppress(OSError, ValueError):  # nobody came, or somebody else
                    rank, theirs, line = _arrived(server, workers.attempt)
                    if rank in lines:
                        _say(lines[rank], ("refused", f"another process is worker {rank} too; each has its own RANK"))
                    came[rank], lines[rank] = theirs, opened.enter_context(line)
                    if theirs != facts:
                        until = min(until, time.monotonic() + GRACE)
        verdict = _verdict(workers, dict(sorted(came.items())))
        for line in lines.values():  # nobody listens there now, so that a framework may
            _say(line, verdict)
    return verdict


def _verdict(workers: Workers, each: Mapping[int, Facts]) -> Verdict:
    differs = disagreement(each)
    if differs is not None:
        return "refused", differs
    missing = [str(rank) for rank in range(workers.size) if rank not in each]
    return "lost", _absent(workers, " and ".join(missing)) if missing else None


def _absent(workers: Workers, who: str, why: str = "") -> str:
    at = "{}:{}".format(*workers.meeting)
    return (
        f"worker{'s' if ' ' in who else ''} {who} did not come to {at} within {workers.timeout:g} s{why}; start all "
        f"{workers.size} workers, with the same MASTER_ADDR and MASTER_PORT, and see what a missing one says"
    )


@contextmanager
def _listening(workers: Workers) -> Iterator[socket.socket]:
    """Where the others come; on this machine alone where its address is of no use elsewhere."""
    host, port = workers.meeting
    dual = host not in HERE and socket.has_dualstack_ipv6()
    at, family = (host if host in HERE else "", port), socket.AF_INET6 if dual else socket.AF_INET
    until = time.monotonic() + GRACE
    while True:
        try:
            server = socket.create_server(at, family=family, dualstack_ipv6=dual, backlog=workers.size)
            break
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() > until:
                raise WorkerLost(
                    f"{name(workers)}: cannot listen at port {port}, where workers meet ({error.strerror}); "
                    "choose another MASTER_PORT"
                ) from error
            time.sleep(LOOK)
    with closing(server):
        yield server


def _arrived(server: socket.socket, attempt: int) -> tuple[int, Facts, socket.socket]:
    """The next that comes: its number, what it says, and the line to it. Raises `OSError` where nobody does, and
    `ValueError` for one that is no worker, or of another attempt."""
    line, _ = server.accept()
    try:
        said = _read(line, GRACE)
        if not isinstance(said, dict) or said.get("attempt") != attempt:
            raise ValueError
        return int(said["rank"]), {str(key): str(value) for key, value in said["facts"].items()}, line
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        line.close()
        raise ValueError from error


def _told(workers: Workers, facts: Facts) -> Verdict:
    """What worker 0 says when all have come."""
    until = time.monotonic() + workers.timeout
    mine = {"rank": workers.rank, "attempt": workers.attempt, "facts": facts}
    while True:
        try:
            with socket.create_connection(workers.meeting, max(LOOK, until - time.monotonic())) as line:
                _write(line, mine)
                kind, said = _read(line, workers.timeout + GRACE)
                return str(kind), said
        except (OSError, ValueError, TypeError) as error:  # not there yet, or gone, or somebody else
            if time.monotonic() > until:
                return "lost", _absent(workers, "0", f" ({one_line(error)})")
            time.sleep(LOOK)


def _say(line: socket.socket, verdict: Verdict) -> None:
    with suppress(OSError):
        _write(line, verdict)


def _write(line: socket.socket, said: Any) -> None:
    line.sendall(json.dumps(said).encode() + b"\n")


def _read(line: socket.socket, patience: float) -> Any:
    line.settimeout(patience)
    with line.makefile("rb") as file:
        return json.loads(file.readline(LIMIT))
