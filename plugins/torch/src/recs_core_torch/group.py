"""The workers that a model is spread over: how tensors go from one to another; what they say is the core's `Talk`."""

from __future__ import annotations

import socket
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

from recs_core.contract.errors import WorkerLost
from recs_core.contract.messages import one_line
from recs_core.contract.workers import Workers
from recs_core.distributed.meeting import meet
from recs_core.distributed.talk import LOOK, Talk, name
from recs_core_torch.plugin import INFO


class Group(Talk):
    """See `Group` of the contract. Tensors go by gloo, or by NCCL where they are on a CUDA device.

    `sent`: what was sent for → bytes that this worker sent, counted as if every pair of workers had a line of its own,
    and a sum went around in a ring. A group is no default of the process: several may live in one, in threads.

    Raises `ConfigError` and `WorkerLost` as `meet`.
    """

    def __init__(self, workers: Workers, device: torch.device) -> None:
        self.device, self.sent = device, Counter[str]()
        self._timeout = timedelta(seconds=workers.timeout)
        meet(workers, INFO.name)
        at = f"{workers.address}:{workers.port}"
        try:
            if not workers.hosts:
                _wait_for(workers)
            kept = TCPStore(
                workers.address, workers.port, None, workers.hosts, timeout=self._timeout, wait_for_workers=False
            )
            store = PrefixStore(f"recs/{workers.attempt}", kept)
            super().__init__(workers, _Words(store))
            self._all = self._connected(PrefixStore("tensors", store))
        except (RuntimeError, OSError) as error:
            raise WorkerLost(f"{name(workers)}: not all workers joined at {at} ({one_line(error)})") from error

    def _connected(self, store: Any) -> Any:
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
        if self.size == 1:
            return x
        own = sizes[self.rank]
        got = self.exchange(x, sizes, [own] * self.size, what)
        return got.view(self.size, own, *x.shape[1:]).sum(0)

    def sum(self, x: Tensor, what: str) -> Tensor:
        """The sum of all, in place."""
        if self.size > 1:
            self.sent[what] += 2 * (self.size - 1) * x.numel() * x.element_size() // self.size
            self._done(lambda: self._all.allreduce([x]), what)
        return x

    def _done(self, begin: Callable[[], Any], what: str) -> None:
        with self.noticing(what):
            begin().wait()


class _Words:
    """What workers tell one another, in PyTorch's store."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def set(self, key: str, word: str) -> None:
        self._store.set(key, word)

    def get(self, key: str) -> str | None:
        return self._store.get(key).decode() if self._store.check([key]) else None

    def add(self, key: str, number: int) -> int:
        return int(self._store.add(key, number))


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
