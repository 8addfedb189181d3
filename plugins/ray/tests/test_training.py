"""A training on Ray whose workers are killed is the training of one process, undisturbed."""

from __future__ import annotations

import json
import os
import random
import re
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import recs_core_ray
from conftest import CORES, below

import recs_core as recs
from recs_core.contract.errors import BundleError, DataError, WorkerLost
from recs_core.experiment import DataSpec, Experiment, ModelSpec, execute

pytestmark = pytest.mark.slow

EPOCHS = 8
RUN = Experiment(
    DataSpec("synthetic", split=None),
    ModelSpec("ids", training=recs.TrainingSpec(epochs=EPOCHS, batch_size=256)),
    backend="torch",
    dtype="float64",
)
WAIT = 240.0
"""Seconds that a run may take from one epoch to the next, the start of Ray's workers included."""


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run in this process."""
    out = tmp_path_factory.mktemp("alone") / "run"
    execute(RUN, out=out, progress=False).write(out)
    return out


def same(out: Path, alone: Path) -> None:
    got, expected = (json.loads((folder / "run.json").read_text()) for folder in (out, alone))
    np.testing.assert_allclose(got["losses"], expected["losses"], rtol=1e-12)
    weights = recs.load(alone / "bundle", runtime="numpy").weights()
    for name, weight in recs.load(out / "bundle", runtime="numpy").weights().items():
        np.testing.assert_allclose(weight, weights[name], rtol=0, atol=1e-10, err_msg=name)
    assert sorted(path.name for path in out.iterdir()) == ["bundle", "run.json"]


def workers() -> list[int]:
    """The processes in which Ray trains."""
    found = []
    for process in below(os.getpid()):
        try:
            if Path(f"/proc/{process}/cmdline").read_bytes().startswith(b"ray::RayTrainWorker"):
                found.append(process)
        except OSError:
            continue
    return found


def saved(out: Path, epochs: int) -> None:
    """Wait until so many epochs are saved."""
    wait_for(lambda: epochs_in(out) >= epochs, f"epoch {epochs}")


def wait_for(is_so: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + WAIT
    while not is_so():
        assert time.monotonic() < until, f"{what} did not come"
        time.sleep(0.02)


def new_workers(number: int, before: Collection[int] = ()) -> set[int]:
    """Wait until so many train, none of them from `before`."""
    wait_for(lambda: len(now := workers()) == number and not {*now} & {*before}, f"{number} new workers")
    return set(workers())


def epochs_in(out: Path) -> int:
    try:
        return int(recs.bundle.info(out / "bundle").manifest["position"]["epoch"])
    except BundleError:
        return 0


def seconds_of_an_epoch(out: Path) -> float:
    return float(recs.bundle.info(out / "bundle").manifest["history"]["epochs"][-1]["seconds"])


@contextmanager
def beside(then: Callable[[], None]) -> Iterator[None]:
    """Do something while the block waits for Ray."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            then()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        thread.join(WAIT)
    assert not raised, raised


def test_three_kills_of_random_workers_change_nothing(cluster: Any, alone: Path, tmp_path: Path) -> None:
    out, chance, killed = tmp_path / "run", random.Random(), []

    def kill() -> None:
        before: set[int] = set()
        for epoch in sorted(chance.sample(range(1, EPOCHS - 1), 3)):
            saved(out, epoch)
            before = new_workers(2, before)
            threading.Event().wait(chance.random() * seconds_of_an_epoch(out))  # to some step of the next
            killed.append(chance.choice(sorted(before)))
            os.kill(killed[-1], signal.SIGKILL)

    with beside(kill):
        assert recs_core_ray.fit(RUN, out=out, workers=2, max_failures=3) == out / "bundle"
    assert len(killed) == 3
    same(out, alone)
    told = recs.bundle.info(out / "bundle").manifest["provenance"]["command"]
    assert told == shlex.join(sys.argv)


@pytest.mark.long
def test_a_run_that_may_not_fail_says_who_was_lost_and_is_finished_by_another_number(
    cluster: Any, alone: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"

    def kill() -> None:
        saved(out, 2)
        os.kill(workers()[1], signal.SIGKILL)

    with beside(kill), pytest.raises(WorkerLost) as caught:
        recs_core_ray.fit(RUN, out=out, workers=2)
    said, _, way_on = str(caught.value).partition("; ")
    who = r"recs_core_ray\.fit\(max_failures=0\): worker [01] was lost, its process died \(ActorDiedError\)"
    assert re.fullmatch(who, said)
    assert way_on == (
        f"finish the run with fit(out='{out}', resume=True), or on one machine with recs train --resume --out {out}"
    )
    assert recs_core_ray.fit(out=out, resume=True, workers=1) == out / "bundle"
    same(out, alone)


@pytest.mark.long
def test_as_many_work_as_there_is_room_for_and_go_on_when_a_machine_is_gone(
    cluster: Any, alone: Path, tmp_path: Path
) -> None:
    out, (machine,) = tmp_path / "run", cluster.worker_nodes

    def take_away() -> None:
        saved(out, 1)
        first = new_workers(CORES + 1)
        cluster.remove_node(machine, allow_graceful=False)
        new_workers(CORES, first)

    with beside(take_away):
        recs_core_ray.fit(RUN, out=out, workers=(1, 8), max_failures=1)
    same(out, alone)


def test_an_error_of_ours_is_raised_as_it_is_and_nothing_is_left(cluster: Any, tmp_path: Path) -> None:
    heard = signal.getsignal(signal.SIGINT)
    other = replace(RUN, data=DataSpec(str(tmp_path / "none.parquet"), query="user", candidate="item"))
    with pytest.raises(DataError, match=f"^{tmp_path}/none.parquet: no such file$"):
        recs_core_ray.fit(other, out=tmp_path / "run", max_failures=-1)
    assert signal.getsignal(signal.SIGINT) is heard
    assert not any(tmp_path.iterdir())
