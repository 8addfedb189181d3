"""`recs train` on several processes of keras[jax]: one process's run, killed, stopped, gone on with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import recs_core
from recs_core.distributed.launch import free_port

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(keras.config.backend() != "jax", reason="of the engines, JAX trains on several workers"),
]

RECS = (sys.executable, "-m", "recs_core.cli", "train")
DATA = ("synthetic", "--epochs", "4", "--float64")
ENVIRON = {**os.environ, "RECS_BACKEND": "keras[jax]", "OMP_NUM_THREADS": "1"}
FIRST_EPOCH = 180.0
"""Seconds that a run may take to save its first epoch."""


def train(*arguments: Any, **environ: str) -> subprocess.Popen[str]:
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*RECS, *map(str, arguments)], env={**ENVIRON, **environ}, start_new_session=True, **pipes)


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, said = process.communicate(timeout=300)
    return process.returncode, said


def worker(process: subprocess.Popen[str], rank: int) -> int:
    """The process of a worker, by its parent's."""
    for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
        if f"RANK={rank}".encode() in Path(f"/proc/{child}/environ").read_bytes().split(b"\0"):
            return int(child)
    raise AssertionError(f"worker {rank} is not there")


def saved(process: subprocess.Popen[str], out: Path) -> None:
    """Wait for the first epoch's checkpoint."""
    until = time.monotonic() + FIRST_EPOCH
    while not (out / "bundle" / "manifest.json").exists():
        assert process.poll() is None and time.monotonic() < until, process.communicate()
        time.sleep(0.02)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("alone") / "run"
    assert ended(train(*DATA, "--out", out))[0] == 0
    return out


def same(out: Path, alone: Path) -> None:
    got, expected = (json.loads((folder / "run.json").read_text()) for folder in (out, alone))
    np.testing.assert_allclose(got["losses"], expected["losses"], rtol=1e-12)
    assert got["metrics"] == expected["metrics"]
    weights = recs_core.load(alone / "bundle", runtime="numpy").weights()
    for name, weight in recs_core.load(out / "bundle", runtime="numpy").weights().items():
        np.testing.assert_allclose(weight, weights[name], rtol=0, atol=1e-10, err_msg=name)


def test_two_workers_are_one_process_and_what_they_say_is_json(alone: Path, tmp_path: Path) -> None:
    running = train(*DATA, "--workers", 2, "--out", tmp_path / "run", "--json")
    printed, said = running.communicate(timeout=300)
    assert (running.returncode, said) == (0, "") and json.loads(printed)["epochs"] == 4
    same(tmp_path / "run", alone)


def test_a_worker_that_is_killed_is_named_and_the_run_is_finished_by_any_number(alone: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    running = train(*DATA, "--workers", 3, "--out", out)
    saved(running, out)
    os.kill(worker(running, 2), signal.SIGKILL)
    code, said = ended(running)
    assert code == 1
    told, last = said.splitlines()
    assert told.startswith("recs: worker 0 of 3: worker 2 did not answer in ")
    assert told.endswith(f"finish it from {out}/bundle, which holds the epochs before: recs train --resume --out {out}")
    assert last == "recs: worker 2 of 3 was ended by SIGKILL"
    assert ended(train("--resume", "--out", out, "--workers", 2))[0] == 0
    same(out, alone)


@pytest.mark.long
def test_the_first_that_is_killed_is_named(tmp_path: Path) -> None:
    """JAX ends the others, which all talk by way of the first."""
    running = train(*DATA, "--workers", 2, "--out", tmp_path / "run")
    saved(running, tmp_path / "run")
    os.kill(worker(running, 0), signal.SIGKILL)
    code, said = ended(running)
    assert code == 1 and said.splitlines()[0] == "recs: worker 0 of 2 was ended by SIGKILL"


@pytest.mark.long
def test_a_worker_that_hangs_is_named_within_the_timeout(tmp_path: Path) -> None:
    out = tmp_path / "run"
    running = train(*DATA, "--workers", 2, "--timeout", 5, "--out", out)
    saved(running, out)
    os.kill(worker(running, 1), signal.SIGSTOP)
    code, said = ended(running)
    assert code == 3
    assert said.startswith("recs: worker 0 of 2: worker 1 did not answer in ") and "--resume" in said
    assert len(said.splitlines()) == 1


@pytest.mark.long
def test_ctrl_c_ends_all_workers_and_the_checkpoint_stands(tmp_path: Path) -> None:
    out = tmp_path / "run"
    running = train(*DATA, "--workers", 2, "--out", out)
    saved(running, out)
    others = [worker(running, rank) for rank in range(2)]
    os.kill(running.pid, signal.SIGINT)
    assert ended(running) == (130, "")
    assert not any(Path(f"/proc/{process}").exists() for process in others)
    assert recs_core.load(out / "bundle", runtime="numpy").weights()


@pytest.mark.long
def test_a_worker_with_another_seed_is_refused_by_all(tmp_path: Path) -> None:
    own = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    arguments = [(*DATA, "--seed", seed, "--out", tmp_path / "run", "--timeout", 60) for seed in (1, 2)]
    for process in [train(*given, **own, RANK=str(rank)) for rank, given in enumerate(arguments)]:
        code, said = ended(process)
        assert code == 2 and len(said.splitlines()) == 1
        assert said.startswith("recs: worker 1 and worker 0 disagree on ")
    assert not (tmp_path / "run" / "bundle").exists()
