"""What workers tell one another: lists and errors for all, and who is lost, named in one line."""

from __future__ import annotations

import dataclasses
import threading
from typing import Any

import pytest
import torch
from recs_core_torch import Backend
from recs_core_torch.group import Group

from recs_core.conformance.workers import on_workers
from recs_core.contract.errors import DataError, TrainingError, WorkerLost
from recs_core.contract.workers import Workers
from recs_core.distributed.launch import free_port


def test_all_and_told() -> None:
    def talk(backend: Any) -> tuple[Any, ...]:
        group = backend.group
        return (
            group.all({"rank": group.rank}, "ranks"),
            group.told(lambda: [group.rank, 0.1], "a list"),
            group.all(group.rank, "again"),
        )

    assert on_workers(Backend(), 3, talk) == [([{"rank": r} for r in range(3)], [0, 0.1], [0, 1, 2])] * 3


def test_what_fails_on_worker_0_fails_on_all() -> None:
    def fails() -> None:
        raise DataError("no such row")

    def talk(backend: Any) -> str:
        with pytest.raises((DataError, TrainingError)) as said:
            backend.group.told(fails, "the evaluation")
        return str(said.value)

    alone, other = on_workers(Backend(), 2, talk)
    assert alone == "no such row"
    assert other == "worker 1 of 2: worker 0 failed in the evaluation: DataError: no such row"


def test_the_others_wait_longer_than_the_timeout_for_what_worker_0_still_does() -> None:
    reached = threading.Event()

    def job(backend: Any) -> Any:
        group: Group = backend.group
        group.workers = dataclasses.replace(group.workers, timeout=0.4)
        group._timeout /= 600  # 0.1 s
        if group.rank:
            reached.set()
        return group.told(lambda: reached.wait() and threading.Event().wait(1.5), "a long evaluation")

    assert on_workers(Backend(), 2, job) == [False, False]


@pytest.mark.parametrize("hangs", [False, True])
@pytest.mark.parametrize("size", [2, 3])
def test_a_worker_that_is_lost_is_named_with_what_the_others_waited_for(size: int, hangs: bool) -> None:
    over = threading.Event()
    others = threading.Barrier(size - 1, action=over.set)

    def job(backend: Any) -> str:
        if backend.group.rank == size - 1:
            if hangs:
                over.wait()
            return ""
        try:
            with pytest.raises(WorkerLost) as said:
                backend.group.sum(torch.ones(1), "the loss")
        finally:
            others.wait()
        return str(said.value)

    found = on_workers(Backend(), size, job, timeout=2.0)
    for rank in range(size - 1):
        assert found[rank].startswith(f"worker {rank} of {size}: worker {size - 1} did not answer in the loss (")
        assert "\n" not in found[rank]


def test_a_worker_that_never_comes_is_waited_for_no_longer_than_the_timeout() -> None:
    with pytest.raises(WorkerLost, match=r"worker 1 of 2: worker 0 did not come to 127\.0\.0\.1:\d+ within 0\.1 s"):
        Backend().over(Workers(1, 2, port=free_port(), timeout=0.1))
    with pytest.raises(WorkerLost, match=r"worker 0 of 2: worker 1 did not come to 127\.0\.0\.1:\d+ within 1 s"):
        Backend().over(Workers(0, 2, port=free_port(), hosts=True, timeout=1.0))
