"""The workers that a model of keras[jax] is spread over: processes of JAX, whose devices are one mesh.

JAX joins others once in a process, before it computes there, and stays with them.
"""

from __future__ import annotations

import atexit
import ctypes
import math
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from queue import SimpleQueue
from typing import Any, TypeVar

import jax
import numpy as np
from jax._src import distributed, xla_bridge  # JAX has no public door to the words that its processes share
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from numpy.typing import NDArray

from recs_core.contract.errors import BackendConflict, UnsupportedFeature, WorkerLost
from recs_core.contract.messages import one_line
from recs_core.contract.workers import Workers
from recs_core.distributed.launch import LOST
from recs_core.distributed.meeting import HERE, meet
from recs_core.distributed.talk import Talk, name

T = TypeVar("T")

AXIS = "workers"
"""The axis of the mesh."""

NEEDED = ("jax_cpu_collectives_implementation", "jax_enable_preemption_service")
"""Settings that a JAX has which workers can rest on."""

BEATS = 4
"""How often a worker tells the others within the timeout that it takes part."""

LEAVING = 3
"""Seconds that a worker which ends waits for the others to end too."""

BROKEN = ("Gloo", "NCCL", "DEADLINE_EXCEEDED", "UNAVAILABLE")
"""One of these stands in what JAX says where the line to another worker is broken."""

_joined: Group | None = None


def joined(workers: Workers) -> Group:
    """The group of this process, which joins the others unless it has.

    Raises `BackendConflict` where JAX has computed already, or is another worker, `UnsupportedFeature` for a JAX that
    is too old, and as `meet`.
    """
    global _joined  # noqa: PLW0603 (JAX has one group in a process)
    if _joined is None:
        _joined = Group(workers)
    if _joined.workers != workers:
        raise BackendConflict(
            f"this process is {_joined.name} of JAX, which joins others once in a process; start one for each worker"
        )
    return _joined


class Group(Talk):
    """See `Group` of the contract. Arrays go by gloo between CPUs, by NCCL between GPUs. `joined` makes it.

    `mesh`: all devices of all workers. `rows`, `whole`: how an array lies that is cut among them by its first axis, and
    one that each has.
    """

    def __init__(self, workers: Workers) -> None:
        _check()
        meet(workers, "keras[jax]")
        self.workers, self.busy, self._heard_last = workers, False, time.monotonic()
        self._tasks: SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = SimpleQueue()
        threading.Thread(target=self._work, name="recs-group", daemon=True).start()
        try:
            with _hushed():
                self._timed(lambda: _join(workers))
                super().__init__(workers, _Words(distributed.global_state.client))
                self.mesh = Mesh(np.asarray(jax.devices()), (AXIS,))
                self.rows = NamedSharding(self.mesh, PartitionSpec(AXIS))
                self.whole = NamedSharding(self.mesh, PartitionSpec())
                threading.Thread(target=self._beat, name="recs-alive", daemon=True).start()
                self._gather = jax.jit(lambda tree: tree, out_shardings=self.whole)
                self.gathered(self.cut(np.zeros(self.mesh.size)))  # the lines between workers are made by the first use
        except (_Broken, OSError) as error:
            at = "{}:{}".format(*workers.meeting)
            raise WorkerLost(f"{name(workers)}: not all workers joined at {at} ({one_line(error)})") from error

    def done(self, compute: Callable[[], T], what: str) -> T:
        """What `compute` returns, which all workers call. Raises `WorkerLost` after the timeout, and where the line to
        another is broken."""
        try:
            return self._timed(compute)
        except _Broken:
            with self.noticing(what):
                raise

    def _timed(self, compute: Callable[[], T]) -> T:
        """What `compute` returns. JAX would wait for another worker for ever, and where nobody comes end the process:
        so another thread computes, and this one looks at the clock."""
        found: Future[T] = Future()
        self.busy = True
        self._tasks.put((compute, found))
        patience = self.workers.timeout
        while not wait([found], patience).done:
            if time.monotonic() - self._heard_last > self.workers.timeout:
                raise _Broken(self.silence)
            patience = self.workers.timeout / BEATS
        self.busy = False
        try:
            return found.result()
        except (RuntimeError, ValueError) as error:
            if any(sign in str(error) for sign in BROKEN):
                raise _Broken(str(error)) from error
            raise

    def _work(self) -> None:
        while True:
            compute, found = self._tasks.get()
            try:
                found.set_result(compute())
            except BaseException as error:
                found.set_exception(error)

    def _beat(self) -> None:
        """Tell the others that this worker takes part, and so compiles where it is late; and note when all others last
        did."""
        others = [f"beats/{rank}" for rank in range(self.size) if rank != self.rank]
        heard = [0] * len(others)
        with suppress(RuntimeError):
            while True:
                self._words.add(f"beats/{self.rank}", int(self.busy))
                now = [self._words.add(key, 0) for key in others]
                if all(new > old for new, old in zip(now, heard, strict=True)):
                    heard, self._heard_last = now, time.monotonic()
                time.sleep(self.workers.timeout / BEATS)

    def cut(self, array: NDArray[Any]) -> jax.Array:
        """An array that every worker has, of which each keeps its rows; their number is one of the mesh's."""
        return jax.make_array_from_callback(array.shape, self.rows, lambda place: array[place])

    def shared(self, tree: Any) -> Any:
        """Arrays that every worker has, and keeps."""
        here = [jax.device_put(tree, device) for device in self.mesh.local_devices]
        make = jax.make_array_from_single_device_arrays
        return jax.tree.map(lambda x, *parts: make(x.shape, self.whole, list(parts)), tree, *here)

    def gathered(self, tree: Any, what: str = "whole tables") -> Any:
        """Copies of the arrays of all workers, in NumPy, on each."""
        return self.done(lambda: jax.tree.map(local, self._gather(tree)), what)


class _Broken(RuntimeError):
    """The line to another worker is broken, or silent."""


def local(array: jax.Array) -> NDArray[Any]:
    """A copy of an array that each worker has."""
    return np.array(array.addressable_data(0))


class _Words:
    """What workers tell one another, in the store of JAX's processes."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def set(self, key: str, word: str) -> None:
        self._client.key_value_set(key, word, allow_overwrite=True)

    def get(self, key: str) -> str | None:
        try:
            return str(self._client.key_value_try_get(key))
        except jax.errors.JaxRuntimeError as error:
            if "NOT_FOUND" in str(error):
                return None
            raise

    def add(self, key: str, number: int) -> int:
        return int(self._client.key_value_increment(key, number))


def _check() -> None:
    lacks = [setting for setting in NEEDED if not hasattr(jax.config, setting)]
    if lacks or not hasattr(jax, "shard_map"):
        raise UnsupportedFeature(
            f"keras[jax] on several workers needs a newer JAX than {jax.__version__}; `pip install -U jax`"
        )
    if xla_bridge.backends_are_initialized():
        raise BackendConflict(
            "JAX has computed in this process already, and joins other workers before that; ask for workers first"
        )


def _join(workers: Workers) -> None:
    """Join the others where they have met."""
    at = "{}:{}".format(*workers.meeting)
    jax.config.update("jax_enable_preemption_service", False)  # it would hear SIGTERM, and not end
    if jax.config.jax_cpu_collectives_implementation is None:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
    if "OMP_NUM_THREADS" in os.environ:
        os.environ.setdefault("NPROC", os.environ["OMP_NUM_THREADS"])  # XLA's own word for it
    later = math.ceil(2 * workers.timeout) + 60  # when JAX ends a process, and says pages: our own timeout is before
    atexit.register(_leave)
    jax.distributed.initialize(
        at,
        workers.size,
        workers.rank,
        local_device_ids=[workers.local],
        initialization_timeout=later,
        heartbeat_timeout_seconds=later,
        shutdown_timeout_seconds=LEAVING,
        coordinator_bind_address=at if workers.address in HERE else None,
    )


def _leave() -> None:
    """End together, as JAX wants it; where not all do, without a word to the others, which would end this process. And
    where a thread waits in XLA for a worker that hangs, at once: the process would wait with it."""
    state, stuck = distributed.global_state, _joined is not None and _joined.busy
    if _joined is not None and not stuck and _all_end(state.client):
        return
    if state.service is not None:
        time.sleep(LEAVING)  # the first ends last: the others talk by way of it
    for kept in (state.client, state.service):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(kept))  # for ever: what they do when freed ends the process
    state.client = state.service = None
    if stuck:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(LOST)


def _all_end(client: Any) -> bool:
    try:
        client.wait_at_barrier("over", LEAVING * 1000)
    except jax.errors.JaxRuntimeError:
        return False
    return True


@contextmanager
def _hushed() -> Iterator[None]:
    """Within the block the process says nothing: XLA and gloo write that they have met, gloo on stdout."""
    with tempfile.TemporaryFile() as into:
        kept = {number: os.dup(number) for number in (1, 2)}
        try:
            for number in kept:
                os.dup2(into.fileno(), number)
            yield
        finally:
            for number, copy in kept.items():
                os.dup2(copy, number)
                os.close(copy)
