"""What workers tell one another, and who of them is lost: over words by key that all of them reach."""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeVar

from recs_core.contract.errors import RecsError, TrainingError, WorkerLost
from recs_core.contract.messages import one_line
from recs_core.contract.workers import Workers

T = TypeVar("T")

LOOK = 0.01
"""Seconds between two looks at what the others have told."""

GRACE = 5.0
"""Seconds in which those that have noticed a failure say so, and are not taken for the one that is lost."""


CLOSED = ("closed by", "closed connection", "connection closed", "reset by peer", "broken pipe", "connection refused")
TIMED_OUT = ("timed out", "timeout", "deadline")
"""One of these stands in what a library says where a worker has ended, and where it hangs."""

PLACE = re.compile(r"\[[^\]\s]*\.\w+:\d+\]\s*")
"""A place in a library's source."""


class Words(Protocol):
    """Words by key, which all workers reach. Each method raises `RuntimeError` where that is over."""

    def set(self, key: str, word: str) -> None:
        """Put a word there."""
        ...

    def get(self, key: str) -> str | None:
        """The word there, at once; None where nobody has put one."""
        ...

    def add(self, key: str, number: int) -> int:
        """Add to the number there, at first 0; what it is then."""
        ...


class Talk:
    """What every `Group` of the contract says, over `words`. A group adds how tensors go from one to another."""

    def __init__(self, workers: Workers, words: Words) -> None:
        self.workers, self._words = workers, words
        self.rank, self.size, self.name = workers.rank, workers.size, name(workers)
        self._told, self._asked = 0, 0

    def all(self, value: Any, what: str) -> list[Any]:
        """See `Group.all`."""
        key, self._asked = f"all/{self._asked}", self._asked + 1
        with self.noticing(what):
            self._words.set(f"{key}/{self.rank}", json.dumps(value))
            return [json.loads(self._got(f"{key}/{rank}")) for rank in range(self.size)]

    def _got(self, key: str) -> str:
        until = time.monotonic() + self.workers.timeout
        while (word := self._looked(key)) is None:
            if time.monotonic() > until:
                raise RuntimeError(self.silence)
        return word

    def told(self, make: Callable[[], T], what: str) -> T:
        """See `Group.told`."""
        key, self._told = f"told/{self._told}", self._told + 1
        if self.rank:
            return self._heard(key, what)
        try:
            with self._beating(key):
                value = make()
        except Exception as error:
            self._words.set(key, json.dumps({"error": f"{type(error).__name__}: {one_line(error)}"}))
            raise
        self._words.set(key, json.dumps({"value": value}))
        return value

    def _heard(self, key: str, what: str) -> Any:
        beats, until = 0, time.monotonic() + self.workers.timeout
        with self.noticing(what):
            while (word := self._looked(key)) is None:
                if time.monotonic() > until:
                    before, beats = beats, self._words.add(f"{key}/beats", 0)
                    if beats == before:
                        raise RuntimeError(self.silence)
                    until += self.workers.timeout
        said = json.loads(word)
        if "error" in said:
            raise TrainingError(f"{self.name}: worker 0 failed in {what}: {said['error']}")
        return said["value"]

    def _looked(self, key: str) -> str | None:
        """What somebody has told, if so; asked at intervals, as a wait would write lines of its own when it ends."""
        word = self._words.get(key)
        if word is None:
            time.sleep(LOOK)
        return word

    @contextlib.contextmanager
    def _beating(self, key: str) -> Iterator[None]:
        """Within the block the others know that this worker is alive."""
        over = threading.Event()

        def beat() -> None:
            with contextlib.suppress(RuntimeError):
                while not over.is_set():
                    self._words.add(f"{key}/beats", 1)
                    over.wait(self.workers.timeout / 4)

        thread = threading.Thread(target=beat, name="recs-alive", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    @property
    def silence(self) -> str:
        """What is wrong with a worker where the timeout is over."""
        return f"silent for {self.workers.timeout:g} s"

    @contextlib.contextmanager
    def noticing(self, what: str) -> Iterator[None]:
        """Within the block a `RuntimeError`, of the line to another worker, becomes one that says who is lost."""
        try:
            yield
        except RecsError:
            raise
        except RuntimeError as error:
            raise WorkerLost(f"{self.name}: {self._lost()} in {what} ({self._happened(error)})") from error

    def _happened(self, error: RuntimeError) -> str:
        """What an error of the line says, in words of ours where it is known: a library says it with its own paths."""
        text = str(error).lower()
        if any(sign in text for sign in CLOSED):
            return "a connection was closed"
        if any(sign in text for sign in TIMED_OUT):
            return self.silence
        return one_line(RuntimeError(PLACE.sub("", str(error))))

    def _lost(self) -> str:
        """Who has not noticed the failure too, in words."""
        others = [rank for rank in range(self.size) if rank != self.rank]
        if len(others) > 1:
            try:
                self._words.set(f"noticed/{self.rank}", "")
                others = [rank for rank in others if not self._noticed(rank)] or others
            except RuntimeError:
                others = [0]  # what the workers tell one another is gone with its host
        named = " and ".join(map(str, others))
        return f"worker{'s' if len(others) > 1 else ''} {named} did not answer"

    def _noticed(self, rank: int) -> bool:
        until = time.monotonic() + GRACE
        while time.monotonic() < until:
            if self._looked(f"noticed/{rank}") is not None:
                return True
        return False


def name(workers: Workers) -> str:
    """This worker, for an error."""
    return f"worker {workers.rank} of {workers.size}"
