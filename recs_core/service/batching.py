"""Requests of the same moment, answered together, one batch after the other; no more wait than there is room for."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from recs_core.service.problems import full, late

MOST = 64
"""Requests answered together: what a batch of them takes is what one that has just missed it waits."""

QUICK = 0.02
"""Seconds: where the last batch took less, the next is answered on the loop itself, so that nobody waits for the loop
longer than that. To hand a batch to a thread and back costs a quarter of all that the service does for a request of a
small corpus."""

Work = Callable[[Sequence[Any]], Sequence[Any]]


@dataclass(eq=False)
class Waiting:
    """A request in the queue. `since`: when it came, by the loop's clock. `at_once`: whether it is answered before the
    loop looks at its clients again. `waited`: seconds until it was taken up."""

    asks: Any
    future: asyncio.Future[Any]
    since: float
    at_once: bool
    waited: float = 0.0
    batch: int = 0


class Batcher:
    """`work` on whatever waits, one batch after the other: on a thread of its own, or at once while batches are quick.

    `room`: requests that may wait; `deadline`: seconds that one may. All methods are the event loop's alone.
    """

    def __init__(self, work: Work, room: int, deadline: float, dropped: Callable[[], None] = lambda: None) -> None:
        self._work, self._room, self._deadline, self._dropped = work, room, deadline, dropped
        self._queue: deque[Waiting] = deque()
        self._thread = ThreadPoolExecutor(1, "recs-serve")
        self._busy = self._called = False
        self._last = math.inf
        self._alarm: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._queue)

    def put(self, asks: Any) -> Waiting:
        """Queue a request; its future has the answer, or the error, later. Raises `Problem` 429 without room."""
        if len(self._queue) >= self._room:
            self._forget_the_gone()
            if len(self._queue) >= self._room:
                raise full(self._room)
        loop = asyncio.get_running_loop()
        waiting = Waiting(asks, loop.create_future(), loop.time(), not self._busy and self._last < QUICK)
        self._queue.append(waiting)
        if not self._busy and not self._called:  # once all that is ready now has been read
            self._called = True
            loop.call_soon(self._take)
        if self._alarm is None:
            self._alarm = loop.call_at(waiting.since + self._deadline, self._expire)
        return waiting

    def close(self) -> None:
        """Take no more; what runs is finished."""
        if self._alarm is not None:
            self._alarm.cancel()
        self._thread.shutdown(wait=True)

    def _take(self) -> None:
        self._called = False
        self._forget_the_gone()
        if self._busy or not self._queue:
            return
        loop = asyncio.get_running_loop()
        batch = [self._queue.popleft() for _ in range(min(MOST, len(self._queue)))]
        for waiting in batch:
            waiting.waited, waiting.batch = loop.time() - waiting.since, len(batch)
        self._busy = True
        if self._last < QUICK:
            loop.call_soon(self._done, batch, self._answered(batch))
        else:
            self._thread.submit(lambda: loop.call_soon_threadsafe(self._done, batch, self._answered(batch)))

    def _answered(self, batch: list[Waiting]) -> Sequence[Any]:
        """A reply, or an error, for each."""
        start = time.perf_counter()
        try:
            return self._work([waiting.asks for waiting in batch])
        except BaseException as error:
            return [error] * len(batch)
        finally:
            self._last = time.perf_counter() - start

    def _done(self, batch: list[Waiting], replies: Sequence[Any]) -> None:
        self._busy = False
        self._take()
        for waiting, reply in zip(batch, replies, strict=True):
            if waiting.future.done():
                continue
            if isinstance(reply, BaseException):
                waiting.future.set_exception(reply)
            else:
                waiting.future.set_result(reply)

    def _forget_the_gone(self) -> None:
        """Those whose client is gone are no work."""
        if any(waiting.future.done() for waiting in self._queue):
            kept = [waiting for waiting in self._queue if not waiting.future.done()]
            for _ in range(len(self._queue) - len(kept)):
                self._dropped()
            self._queue = deque(kept)

    def _expire(self) -> None:
        """Those that have waited too long are told so; the first in the queue has waited longest."""
        loop = asyncio.get_running_loop()
        while self._queue and self._queue[0].since + self._deadline <= loop.time():
            waiting = self._queue.popleft()
            if not waiting.future.done():
                waiting.future.set_exception(late(self._deadline))
        self._alarm = loop.call_at(self._queue[0].since + self._deadline, self._expire) if self._queue else None
