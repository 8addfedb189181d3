"""The guard by itself, without a framework; `tests/processes` tries it with each."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable

import pytest

from recs_core.contract import guard
from recs_core.contract.errors import UnsupportedFeature
from recs_core.contract.guard import Guard

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning", "ignore:.*fork.*:RuntimeWarning"),
]


def outcome_in_child(deed: Callable[[], object]) -> int:
    """0 if it works, 1 if it is refused, minus a signal's number if it hangs."""
    child = os.fork()
    if child == 0:
        signal.alarm(10)
        try:
            deed()
        except UnsupportedFeature:
            os._exit(1)
        except BaseException:
            os._exit(2)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def entered(held: Guard) -> None:
    with held:
        pass


def test_a_child_takes_a_guard_that_a_thread_of_its_parent_holds() -> None:
    held, taken, done = Guard("numpy", "the tests"), threading.Event(), threading.Event()

    def hold() -> None:
        with held:
            taken.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    taken.wait()
    try:
        assert outcome_in_child(lambda: entered(held)) == 0
    finally:
        done.set()
        thread.join()


def test_one_thread_may_take_it_twice_and_others_wait() -> None:
    held, order = Guard("numpy", "the tests"), []
    with held, held:
        thread = threading.Thread(target=lambda: (entered(held), order.append("other")))
        thread.start()
        order.append("mine")
    thread.join()
    assert order == ["mine", "other"]


def test_what_had_started_before_a_fork_is_refused_in_the_child_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "_used", set())
    monkeypatch.setitem(guard._STARTED, "slow", ("no.such.module", bool))
    before = Guard("slow", "the tests")
    assert outcome_in_child(lambda: entered(before)) == 1
    assert outcome_in_child(lambda: Guard("slow", "the tests")) == 1
    assert outcome_in_child(lambda: Guard("other", "the tests")) == 0
    entered(before)


def test_a_child_may_start_what_its_parent_had_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "_used", set())
    monkeypatch.setitem(guard._STARTED, "slow", ("no.such.module", bool))
    assert outcome_in_child(lambda: entered(Guard("slow", "the tests"))) == 0
