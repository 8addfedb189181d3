"""`recs train` on several processes of keras[jax]: one process's run, killed, stopped, gone on with."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import keras
import pytest

import recs_core
from recs_core.conformance.runs import Run, assert_same, two_by_hand

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(keras.config.backend() != "jax", reason="of the engines, JAX trains on several workers"),
]

BACKEND = "keras[jax]"
DATA = ("synthetic", "--epochs", "4", "--float64")


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("alone") / "run"
    assert Run.of(BACKEND, out, *DATA).ended()[0] == 0
    return out


def test_two_workers_are_one_process_and_what_they_say_is_json(alone: Path, tmp_path: Path) -> None:
    code, printed, said = Run.of(BACKEND, tmp_path / "run", *DATA, "--workers", 2, "--json").ended()
    assert (code, said) == (0, "") and json.loads(printed)["epochs"] == 4
    assert_same(tmp_path / "run", alone)


def test_a_worker_that_is_killed_is_named_and_the_run_is_finished_by_any_number(alone: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    run = Run.of(BACKEND, out, *DATA, "--workers", 3)
    run.saved()
    os.kill(run.worker(2), signal.SIGKILL)
    code, _, said = run.ended()
    assert code == 1
    told, last = said.splitlines()
    assert told.startswith("recs: worker 0 of 3: worker 2 did not answer in ") and "(a connection was closed)" in told
    assert told.endswith(f"finish it from {out}/bundle, which holds the epochs before: recs train --resume --out {out}")
    assert last == "recs: worker 2 of 3 was ended by SIGKILL"
    assert Run.of(BACKEND, out, "--resume", "--workers", 2).ended()[0] == 0
    assert_same(out, alone)


@pytest.mark.long
def test_the_first_that_is_killed_is_named(tmp_path: Path) -> None:
    """JAX ends the others, which all talk by way of the first."""
    run = Run.of(BACKEND, tmp_path / "run", *DATA, "--workers", 2)
    run.saved()
    os.kill(run.worker(0), signal.SIGKILL)
    code, _, said = run.ended()
    assert code == 1 and said.splitlines()[0] == "recs: worker 0 of 2 was ended by SIGKILL"


@pytest.mark.long
def test_a_worker_that_hangs_is_named_within_the_timeout(tmp_path: Path) -> None:
    run = Run.of(BACKEND, tmp_path / "run", *DATA, "--workers", 2, "--timeout", 5)
    run.saved()
    os.kill(run.worker(1), signal.SIGSTOP)
    code, _, said = run.ended()
    assert code == 3
    assert said.startswith("recs: worker 0 of 2: worker 1 did not answer in ") and "--resume" in said
    assert len(said.splitlines()) == 1


@pytest.mark.long
def test_ctrl_c_ends_all_workers_and_the_checkpoint_stands(tmp_path: Path) -> None:
    run = Run.of(BACKEND, tmp_path / "run", *DATA, "--workers", 2)
    run.saved()
    others = [run.worker(rank) for rank in range(2)]
    os.kill(run.process.pid, signal.SIGINT)
    assert run.ended() == (130, "", "")
    assert not any(Path(f"/proc/{process}").exists() for process in others)
    assert recs_core.load(run.out / "bundle", runtime="numpy").weights()


@pytest.mark.long
def test_a_worker_with_another_seed_is_refused_by_all(tmp_path: Path) -> None:
    out, asked = tmp_path / "run", (*DATA, "--timeout", 60)
    both = [Run.of(BACKEND, out, *asked, "--seed", seed, environ=own) for seed, own in enumerate(two_by_hand())]
    for run in both:
        code, _, said = run.ended()
        assert code == 2 and len(said.splitlines()) == 1
        assert said.startswith("recs: worker 1 and worker 0 disagree on ")
    assert not (out / "bundle").exists()
