"""`recs train` on several processes: started by us and by torchrun, killed, stopped, started anew."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recs_core
from recs_core.distributed.launch import free_port

pytestmark = pytest.mark.slow

RECS = (sys.executable, "-m", "recs_core.cli")
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--no-python", "--nproc-per-node", "2")
DATA = ("synthetic", "--epochs", "5", "--float64")
ENVIRON = {**os.environ, "RECS_BACKEND": "torch", "OMP_NUM_THREADS": "1"}
FIRST_EPOCH = 120.0
"""Seconds that a run may take to save its first epoch."""


def train(*arguments: Any, of: tuple[str, ...] = RECS) -> subprocess.Popen[str]:
    command = [*of, *(() if of is RECS else RECS), "train", *map(str, arguments)]
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=ENVIRON, start_new_session=True, **pipes)


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


def test_so_many_workers_are_one_process(alone: Path, tmp_path: Path) -> None:
    assert ended(train(*DATA, "--workers", 2, "--out", tmp_path / "ours"))[0] == 0
    same(tmp_path / "ours", alone)
    assert ended(train(*DATA, "--out", tmp_path / "torchruns", of=TORCHRUN))[0] == 0
    same(tmp_path / "torchruns", alone)


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


def test_a_worker_that_hangs_is_named_within_the_timeout(tmp_path: Path) -> None:
    out = tmp_path / "run"
    running = train(*DATA, "--workers", 2, "--timeout", 3, "--out", out)
    saved(running, out)
    os.kill(worker(running, 1), signal.SIGSTOP)
    code, said = ended(running)
    assert code == 3
    assert said.startswith("recs: worker 0 of 2: worker 1 did not answer in ") and "--resume" in said
    assert len(said.splitlines()) == 1


def test_workers_that_torchrun_starts_anew_go_on_by_themselves(alone: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    running = train(*DATA, "--out", out, of=(*TORCHRUN, "--max-restarts", "2"))
    saved(running, out)
    os.kill(worker(running, 1), signal.SIGKILL)
    assert ended(running)[0] == 0
    same(out, alone)


def test_ctrl_c_ends_all_workers_and_the_checkpoint_stands(tmp_path: Path) -> None:
    out = tmp_path / "run"
    running = train(*DATA, "--workers", 2, "--out", out)
    saved(running, out)
    others = [worker(running, rank) for rank in range(2)]
    os.kill(running.pid, signal.SIGINT)
    assert ended(running) == (130, "")
    assert not any(Path(f"/proc/{process}").exists() for process in others)
    assert recs_core.TwoTower.resume(out / "bundle", backend="torch").position.epoch >= 1


def test_what_all_refuse_is_said_once(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    code, said = ended(train(*DATA, "--workers", 2, "--out", tmp_path / "run"))
    assert code == 2 and said == f"recs: {tmp_path}/run exists; choose another --out, or --force to write into it\n"


def test_a_worker_with_another_seed_is_refused(tmp_path: Path) -> None:
    own = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    out = tmp_path / "run"
    both = [
        subprocess.Popen(
            [*RECS, "train", *DATA, "--seed", str(seed), "--out", str(out), "--timeout", "60"],
            env={**ENVIRON, **own, "RANK": str(rank)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank, seed in enumerate((1, 2))
    ]
    for process in both:
        code, said = ended(process)
        assert code == 2 and len(said.splitlines()) == 1
        assert said.startswith("recs: worker 1 and worker 0 disagree on ")
    assert not (out / "bundle").exists()
