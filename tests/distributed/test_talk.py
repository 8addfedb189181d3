"""What workers tell one another, over words in a dict. Workers are threads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import pytest

from recs_core.contract.errors import DataError, TrainingError, WorkerLost
from recs_core.contract.workers import Workers
from recs_core.distributed.talk import Talk

T = TypeVar("T")


class Words:
    """See `Words` of talk."""

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}
        self.lock = threading.Lock()

    def set(self, key: str, word: str) -> None:
        self.kept[key] = word

    def get(self, key: str) -> str | None:
        return self.kept.get(key)

    def add(self, key: str, number: int) -> int:
        with self.lock:
            self.kept[key] = self.kept.get(key, 0) + number
            return int(self.kept[key])


def on_threads(size: int, job: Callable[[Talk], T], timeout: float = 30.0) -> list[T]:
    words = Words()
    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(lambda rank: job(Talk(Workers(rank, size, timeout=timeout), words)), range(size)))


def test_all_have_what_each_says_and_what_the_first_makes() -> None:
    def job(talk: Talk) -> Any:
        return talk.all(talk.rank, "a"), talk.all([talk.rank], "b"), talk.told(lambda: {"by": talk.rank}, "c")

    assert on_threads(3, job) == [([0, 1, 2], [[0], [1], [2]], {"by": 0})] * 3


def test_what_fails_on_the_first_fails_on_all() -> None:
    def fails() -> None:
        raise DataError("no such row")

    def job(talk: Talk) -> str:
        with pytest.raises((DataError, TrainingError)) as said:
            talk.told(fails, "the evaluation")
        return str(said.value)

    due = "worker 1 of 2: worker 0 failed in the evaluation: DataError: no such row"
    assert on_threads(2, job) == ["no such row", due]


def test_the_others_wait_as_long_as_the_first_works() -> None:
    working = threading.Event()
    assert on_threads(2, lambda talk: talk.told(lambda: working.wait(0.6), "work"), timeout=0.2) == [False, False]


def test_one_that_is_silent_is_named_by_those_that_noticed() -> None:
    def job(talk: Talk) -> str:
        if talk.rank == 2:
            return ""
        with pytest.raises(WorkerLost) as said:
            talk.all(talk.rank, "a vote")
        return str(said.value)

    first, second, _ = on_threads(3, job, timeout=0.2)
    assert first == "worker 0 of 3: worker 2 did not answer in a vote (silent for 0.2 s)"
    assert second == "worker 1 of 3: worker 2 did not answer in a vote (silent for 0.2 s)"


GLOO = "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:553] "


@pytest.mark.parametrize(
    ("said", "happened"),
    [
        (f"{GLOO}Connection closed by peer [127.0.0.1]:11152. This is typically", "a connection was closed"),
        (f"{GLOO}Read error [127.0.0.1]:20716: Connection reset by peer. This is", "a connection was closed"),
        (f"INTERNAL: Gloo all-reduce failed: {GLOO}Read error: Connection reset by peer", "a connection was closed"),
        (f"{GLOO}Timed out waiting 4000ms for send operation to complete", "silent for 30 s"),
        ("DEADLINE_EXCEEDED: Gloo context initialization failed", "silent for 30 s"),
        (f"{GLOO}enforce fail at {GLOO}no device\nfor tcp", "enforce fail at no device for tcp"),
    ],
)
def test_what_happened_is_said_without_a_librarys_paths(said: str, happened: str) -> None:
    with pytest.raises(WorkerLost) as lost, Talk(Workers(0, 2, timeout=30.0), Words()).noticing("the loss"):
        raise RuntimeError(said)
    assert str(lost.value) == f"worker 0 of 2: worker 1 did not answer in the loss ({happened})"
