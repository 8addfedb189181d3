"""Workers that meet: all alike, one that differs, one that does not come, and strangers. Workers are threads."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from threading import Event
from typing import Any

import pytest

from recs_core.contract.errors import ConfigError, RecsError, WorkerLost
from recs_core.contract.workers import Workers
from recs_core.distributed import meeting
from recs_core.distributed.launch import free_port
from recs_core.distributed.meeting import meet

BOTH = "start all workers with the same command, on the same data, in the same environment"


def named(size: int, timeout: float = 30.0) -> list[Workers]:
    port = free_port()
    return [Workers(rank, size, port=port, timeout=timeout) for rank in range(size)]


def met(workers: Sequence[Workers], backends: Mapping[int, str] | None = None) -> list[tuple[type, str] | None]:
    """What each raises, as its type and words."""

    def one(each: Workers) -> Any:
        try:
            meet(each, (backends or {}).get(each.rank, "torch"))
        except RecsError as error:
            return type(error), str(error)
        return None

    with ThreadPoolExecutor(len(workers)) as pool:
        return list(pool.map(one, workers))


def test_all_that_are_alike_go_on() -> None:
    workers = named(4)
    assert met(workers) == [None] * 4
    assert met(workers[::-1]) == [None] * 4  # the same port again, in any order


def test_one_worker_meets_nobody() -> None:
    meet(Workers(0, 1, port=0), "torch")


def test_another_backend_is_named_on_every_worker() -> None:
    due = ConfigError, f"worker 2 and worker 0 disagree on backend: keras[jax] and torch; {BOTH}"
    assert met(named(4), {2: "keras[jax]"}) == [due] * 4


def test_another_number_of_workers_is_named_without_waiting_for_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meeting, "GRACE", 0.2)
    first, second = named(2)
    due = ConfigError, f"worker 1 and worker 0 disagree on the number of workers: 2 and 3; {BOTH}"
    assert met([replace(first, size=3), second]) == [due] * 2


def test_another_version_is_named() -> None:
    first, second = named(2)
    facts = {"the number of workers": "2", "version": "recs-core 9", "backend": "torch"}
    with ThreadPoolExecutor(2) as pool:
        told = pool.submit(meeting._told, second, facts)
        with pytest.raises(ConfigError, match=r"worker 1 and worker 0 disagree on version: recs-core 9 and recs-core "):
            meet(first, "torch")
        kind, said = told.result()
    assert kind == "refused" and "disagree on version" in str(said)


@pytest.mark.parametrize("absent", [1, 2])
def test_one_that_does_not_come_is_named_by_those_that_came(absent: int) -> None:
    workers = [each for each in named(3, timeout=1.0) if each.rank != absent]
    at = "{}:{}".format(*workers[0].meeting)
    for each, found in zip(workers, met(workers), strict=True):
        assert found is not None
        kind, said = found
        assert kind is WorkerLost
        assert said.startswith(f"worker {each.rank} of 3: worker {absent} did not come to {at} within 1 s; start all 3")


def test_a_first_that_does_not_come_is_waited_for_no_longer_than_the_timeout() -> None:
    with pytest.raises(WorkerLost, match=r"worker 1 of 2: worker 0 did not come to .* within 0\.2 s \(.*refused\)"):
        meet(named(2, timeout=0.2)[1], "torch")


def test_strangers_and_earlier_attempts_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    (first, second), arrived, seen, passed = named(2), meeting._arrived, list[str](), Event()
    strangers = [b"GET / HTTP/1.1\r\n\r\n", b"[]\n", b'{"rank": 1, "attempt": 7, "facts": {}}\n', b'{"attempt": 0}\n']

    def with_strangers(server: Any, attempt: int) -> Any:
        """Before the first worker come others."""
        while strangers:
            with socket.create_connection(first.meeting, 30) as line:
                line.sendall(strangers.pop())
                with pytest.raises(ValueError) as said:
                    arrived(server, attempt)
                seen.append(str(said.value))
        passed.set()
        return arrived(server, attempt)

    monkeypatch.setattr(meeting, "_arrived", with_strangers)
    with ThreadPoolExecutor(1) as pool:
        told = pool.submit(meet, first, "torch")
        assert passed.wait(30)
        meet(second, "torch")
        told.result()
    assert len(seen) == 4


def test_a_port_that_is_taken_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meeting, "GRACE", 0.0)
    first, _ = named(2)
    with socket.create_server(first.meeting), pytest.raises(WorkerLost, match="cannot listen at port .*choose another"):
        meet(first, "torch")


def test_two_with_one_number_are_told() -> None:
    first, second, third = named(3)

    def one(each: Workers) -> str:
        try:
            meet(each, "torch")
        except ConfigError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(4) as pool:
        zero, both = pool.submit(one, first), [pool.submit(one, second) for _ in range(2)]
        told = next(as_completed(both, 30)).result()
        assert told == "another process is worker 1 too; each has its own RANK"
        assert pool.submit(one, third).result() == zero.result() == ""
        assert sorted(each.result() for each in both) == ["", told]
