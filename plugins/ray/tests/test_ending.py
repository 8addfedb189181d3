"""Which errors of workers end a training at once, and what is said of one that ended."""

from __future__ import annotations

from pathlib import Path

import pytest
from ray.exceptions import ActorDiedError
from ray.train import ControllerError, WorkerGroupError
from recs_core_ray.ending import AtOnce, in_our_words

from recs_core.contract.errors import DataError, TrainingError, WorkerLost

LOST = WorkerLost("worker 1 of 3: worker 2 did not answer in rows")
OUT = Path("run")


def test_an_error_of_ours_ends_it_and_a_lost_worker_does_not() -> None:
    AtOnce().after_exception(None, {0: LOST, 2: ActorDiedError(), 1: ValueError("?")})
    with pytest.raises(DataError, match="no such file"):
        AtOnce().after_exception(None, {0: LOST, 1: DataError("no such file")})


def test_an_error_of_ours_is_told_as_it_is() -> None:
    error = DataError("no such file")
    assert in_our_words(ControllerError(error), OUT, 3) is error


@pytest.mark.parametrize(
    ("failures", "who"),
    [
        ({0: LOST, 1: LOST, 2: ValueError("a\n  b")}, "worker 2 was lost, a b; finish"),
        ({1: LOST}, f"worker 1 was lost, {LOST}; finish"),
    ],
)
def test_of_the_workers_that_ended_it_is_told_of_one_that_did_not_wait(
    failures: dict[int, Exception], who: str
) -> None:
    told = in_our_words(WorkerGroupError("pages\nof it", failures), OUT, 3)
    assert isinstance(told, WorkerLost) and "\n" not in str(told)
    assert who in str(told) and "fit(out='run', resume=True)" in str(told)


def test_what_ray_itself_could_not_do_is_told_on_one_line() -> None:
    told = in_our_words(ControllerError(ValueError("no\nroom")), OUT, 3)
    assert isinstance(told, TrainingError) and str(told).endswith("controller error: no room")
