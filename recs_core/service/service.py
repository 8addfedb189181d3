"""One bundle, its queue and its numbers: what the routes ask."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import Any

from recs_core.contract.errors import BundleError, RecsError
from recs_core.contract.messages import one_line
from recs_core.service.answering import Spent
from recs_core.service.batching import Batcher, Waiting
from recs_core.service.logs import tell
from recs_core.service.metrics import Metrics
from recs_core.service.problems import Problem, problem_of
from recs_core.service.schemas import Update
from recs_core.service.serving import Served, Serving
from recs_core.service.settings import Settings
from recs_core.service.work import Worker


class Service:
    """Whatever asks it is on the event loop. `beside`: the service of the second bundle, or None."""

    def __init__(self, settings: Settings, beside: Service | None = None) -> None:
        self.settings, self.beside = settings, beside
        self.serving = Serving(settings.bundle, settings.index)
        self.metrics = Metrics()
        self.batcher = Batcher(self._work, settings.waiting, settings.deadline, self.metrics.dropped.inc)
        self.draining = False
        self.reloaded: Callable[[], None] = lambda: None
        self.alone = True  # and not one of several workers
        self._answer = Worker(settings.unknown)
        self._started = False
        self._loading: asyncio.Future[None] | None = None

    def start(self) -> None:
        """Begin to verify the bundle, once. `/readyz` says when it serves."""
        if not self._started:
            self._started = True
            self._soon(self._load)
        if self.beside is not None:
            self.beside.start()

    def load(self) -> None:
        """Verify the bundle here and now, and serve it; where it cannot be served that is logged."""
        self._started = True
        with contextlib.suppress(RecsError):
            self._load()
        if self.beside is not None:
            self.beside.load()

    def put(self, asks: Any) -> Waiting:
        """Queue a question. Raises `Problem` where no bundle serves or there is no room."""
        self.start()
        _ = self.serving.now
        return self.batcher.put(asks)

    async def reload(self) -> Served:
        """Serve what lies at the path now, and at that of the bundle beside. Raises `Problem` 409 where one of them
        cannot be served, and what served before goes on."""
        try:
            return await asyncio.to_thread(self._load_both)
        except RecsError as error:
            goes_on = f"; {self.serving.now.digest} goes on" if self.serving.ready else ""
            raise Problem(409, type(error).__name__, one_line(error) + goes_on) from error

    async def update(self, asks: Update) -> Served:
        """Serve what serves now with other candidates, until the next reload. Raises `Problem`, and what served before
        goes on."""
        if not self.alone:
            raise Problem(
                409,
                "SeveralWorkers",
                "each of several workers would answer otherwise: save a bundle that update_candidates has changed, and "
                "/admin/reload it",
            )
        try:
            served = await asyncio.to_thread(self.serving.update, asks, self._answer.warm)
        except Exception as error:
            tell(logging.ERROR, "candidates refused", error=one_line(error))
            raise problem_of(error) from error
        self.metrics.serves(served.digest)
        tell(logging.INFO, "candidates changed", path=self.settings.bundle, bundle=served.digest)
        return served

    def reload_soon(self) -> None:
        """As `reload`, beside whatever is asked: what becomes of it is logged."""
        self._soon(self._load_both)

    def close(self) -> None:
        """Answer what is being answered, and end the thread."""
        self.batcher.close()
        if self.beside is not None:
            self.beside.close()

    def _soon(self, load: Callable[[], Served]) -> None:
        async def quietly() -> None:
            with contextlib.suppress(RecsError):
                await asyncio.to_thread(load)

        self._loading = asyncio.ensure_future(quietly())

    # On any thread

    def _load_both(self) -> Served:
        """Serve this bundle and the one beside it, or neither. Raises `RecsError`."""
        if self.beside is None:
            return self._load()
        with self.serving.replacing, self.beside.serving.replacing:
            served = self._verified()
            try:
                other = self.beside._verified()
            except RecsError as error:
                raise BundleError(f"the bundle beside: {one_line(error)}") from error
            self._serve(served)
            self.beside._serve(other)
        return served

    def _load(self) -> Served:
        """Serve this bundle. Raises `RecsError`."""
        with self.serving.replacing:
            served = self._verified()
            self._serve(served)
        return served

    def _verified(self) -> Served:
        try:
            return self.serving.verified(self._answer.warm)
        except RecsError as error:
            self.metrics.reloads.labels(type(error).__name__).inc()
            tell(logging.ERROR, "bundle refused", path=self.settings.bundle, error=one_line(error))
            raise

    def _serve(self, served: Served) -> None:
        self.serving.serve(served)
        self.metrics.reloads.labels("ok").inc()
        self.metrics.serves(served.digest)
        tell(logging.INFO, "bundle serves", path=self.settings.bundle, bundle=served.digest)

    # On the batcher's thread

    def _work(self, requests: Sequence[Any]) -> Sequence[Any]:
        """All of a batch is answered by one bundle."""
        spent = Spent()
        replies = self._answer(self.serving.now, requests, spent)
        self.metrics.batch.observe(len(requests))
        self.metrics.encode.observe(spent.encode)
        self.metrics.search.observe(spent.search)
        return replies
