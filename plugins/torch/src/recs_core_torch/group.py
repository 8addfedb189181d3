"""The workers that a model is spread over: how tensors and words go from one to another, and who is lost."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

from recs_core.contract.errors import RecsError, TrainingError, WorkerLost
from recs_core.contract.messages import one_line
from recs_core.contract.workers import Workers

T = TypeVar("T")

LOOK = 0.01
"""Seconds between two looks at what the others have told."""

GRACE = 5.0
"""Seconds in which those that have noticed a failure say so, and are not taken for the one that is lost."""


class Group:
    """See `Group` of the contract. Tensors go by gloo, or by NCCL where they are on a CUDA device.

    `sent`: what was sent for → bytes that this worker sent, counted as if every pair of workers had a line of its own,
    and a sum went around in a ring. A group is no default of the process: several may live in one, in threads.

    Raises `WorkerLost` if the others do not come within the timeout.
    """

    def __init__(self, workers: Workers, device: torch.device) -> None:
        self.workers, self.device = workers, device
        self.rank, self.size, self.sent = workers.rank, workers.size, Counter[str]()
        self._timeout, self._told, self._asked = timedelta(seconds=workers.timeout), 0, 0
        self._name = f"worker {self.rank} of {self.size}"
        at = f"{workers.address}:{workers.port}"
        try:
            if not workers.hosts:
                _wait_for(workers)
            kept = TCPStore(
                workers.address, workers.port, None, workers.hosts, timeout=self._timeout, wait_for_workers=False
            )
            self._store = PrefixStore(f"recs/{workers.attempt}", kept)
            self._all = self._connected()
        except (RuntimeError, OSError) as error:
            raise WorkerLost(f"{self._name}: not all workers came to {at} ({one_line(error)})") from error

    def _connected(self) -> Any:
        store = PrefixStore("tensors", self._store)
        if self.device.type != "cuda":
            return dist.ProcessGroupGloo(store, self.rank, self.size, self._timeout)
        options = dist.ProcessGroupNCCL.Options()
        options._timeout = self._timeout
        return dist.ProcessGroupNCCL(store, self.rank, self.size, options)

    def exchange(self, x: Tensor, send: Sequence[int], receive: Sequence[int], what: str) -> Tensor:
        """Rows of `x` (Σ send, …), those for rank 0 first, to their ranks; (Σ receive, …) what came, by rank."""
        if self.size == 1:
            return x
        out = x.new_empty((sum(receive), *x.shape[1:]))
        self.sent[what] += (len(x) - send[self.rank]) * x.element_size() * x.shape[1:].numel()
        self._done(
            lambda: self._all.alltoall_base(out, x.contiguous(), list(receive), list(send), dist.AllToAllOptions()),
            what,
        )
        return out

    def gather(self, x: Tensor, sizes: Sequence[int], what: str) -> Tensor:
        """(Σ sizes, …): the rows of all, by rank, each of which has `sizes` of them."""
        send = x.expand(self.size, *x.shape).reshape(-1, *x.shape[1:])
        return self.exchange(send, [len(x)] * self.size, sizes, what)

    def scatter_sum(self, x: Tensor, sizes: Sequence[int], what: str) -> Tensor:
        """(sizes[rank], …): the sum over all of their rows of `x` (Σ sizes, …) that are this rank's, added by rank."""
        own = sizes[self.rank]
        got = self.exchange(x, sizes, [own] * self.size, what)
        return got.view(self.size, own, *x.shape[1:]).sum(0)

    def sum(self, x: Tensor, what: str) -> Tensor:
        """The sum of all, in place."""
        if self.size > 1:
            self.sent[what] += 2 * (self.size - 1) * x.numel() * x.element_size() // self.size
            self._done(lambda: self._all.allreduce([x]), what)
        return x

    def all(self, value: Any, what: str) -> list[Any]:
        """See `Group.all`."""
        key, self._asked = f"all/{self._asked}", self._asked + 1
        with self._noticing(what):
            self._store.set(f"{key}/{self.rank}", json.dumps(value))
            return [json.loads(self._got(f"{key}/{rank}")) for rank in range(self.size)]

    def _got(self, key: str) -> bytes:
        until = time.monotonic() + self.workers.timeout
        while not self._there(key):
            if time.monotonic() > until:
                raise RuntimeError(f"silent for {self.workers.timeout:g} s")
        return self._store.get(key)

    def told(self, make: Callable[[], T], what: str) -> T:
        """See `Group.told`."""
        key, self._told = f"told/{self._told}", self._told + 1
        if self.rank:
            return self._heard(key, what)
        try:
            with self._beating(key):
                value = make()
        except Exception as error:
            self._store.set(key, json.dumps({"error": f"{type(error).__name__}: {one_line(error)}"}))
            raise
        self._store.set(key, json.dumps({"value": value}))
        return value

    def _heard(self, key: str, what: str) -> Any:
        beats, until = 0, time.monotonic() + self.workers.timeout
        with self._noticing(what):
            while not self._there(key):
                if time.monotonic() > until:
                    before, beats = beats, self._store.add(f"{key}/beats", 0)
                    if beats == before:
                        raise RuntimeError(f"silent for {self.workers.timeout:g} s")
                    until += self.workers.timeout
            said = json.loads(self._store.get(key))
        if "error" in said:
            raise TrainingError(f"{self._name}: worker 0 failed in {what}: {said['error']}")
        return said["value"]

    def _there(self, key: str) -> bool:
        """Whether somebody has told this; asked at intervals, as a wait would write lines of its own when it ends."""
        found = bool(self._store.check([key]))
        if not found:
            time.sleep(LOOK)
        return found

    @contextlib.contextmanager
    def _beating(self, key: str) -> Iterator[None]:
        """Within the block the others know that this worker is alive."""
        over = threading.Event()

        def beat() -> None:
            with contextlib.suppress(RuntimeError):
                while not over.is_set():
                    self._store.add(f"{key}/beats", 1)
                    over.wait(self.workers.timeout / 4)

        thread = threading.Thread(target=beat, name="recs-alive", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _done(self, begin: Callable[[], Any], what: str) -> None:
        with self._noticing(what):
            begin().wait()

    @contextlib.contextmanager
    def _noticing(self, what: str) -> Iterator[None]:
        """Within the block an error of the line to another worker becomes one that says who is lost."""
        try:
            yield
        except RecsError:
            raise
        except RuntimeError as error:
            raise WorkerLost(f"{self._name}: {self._lost()} in {what} ({one_line(error)})") from error

    def _lost(self) -> str:
        """Who has not noticed the failure too, in words."""
        others = [rank for rank in range(self.size) if rank != self.rank]
        if len(others) > 1:
            try:
                self._store.set(f"noticed/{self.rank}", "")
                others = [rank for rank in others if not self._noticed(rank)] or others
            except RuntimeError:
                others = [0]  # what the workers tell one another is gone with its host
        named = " and ".join(map(str, others))
        return f"worker{'s' if len(others) > 1 else ''} {named} did not answer"

    def _noticed(self, rank: int) -> bool:
        until = time.monotonic() + GRACE
        while time.monotonic() < until:
            if self._there(f"noticed/{rank}"):
                return True
        return False


def _wait_for(workers: Workers) -> None:
    """Until somebody listens where the workers meet; a store that finds nobody writes pages. Raises `OSError`."""
    until = time.monotonic() + workers.timeout
    while True:
        try:
            with socket.create_connection((workers.address, workers.port), workers.timeout):
                return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(LOOK)
