"""`recs train` on several processes: started by us and by torchrun, killed, stopped, started anew."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

import recs_core
from recs_core.conformance.runs import Run, assert_same, two_by_hand

pytestmark = pytest.mark.slow

BACKEND = "torch"
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--no-python", "--nproc-per-node", "2")
DATA = ("synthetic", "--epochs", "5", "--float64")


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("alone") / "run"
    assert Run.of(BACKEND, out, *DATA).ended()[0] == 0
    return out


@pytest.mark.parametrize("started", [{}, {"by": TORCHRUN}], ids=["ours", "torchrun's"])
def test_so_many_workers_are_one_process(alone: Path, tmp_path: Path, started: dict[str, Any]) -> None:
    workers = () if started else ("--workers", 2)
    assert Run.of(BACKEND, tmp_path / "run", *DATA, *workers, **started).ended()[0] == 0
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


def test_a_worker_that_hangs_is_named_within_the_timeout(tmp_path: Path) -> None:
    run = Run.of(BACKEND, tmp_path / "run", *DATA, "--workers", 2, "--timeout", 3)
    run.saved()
    os.kill(run.worker(1), signal.SIGSTOP)
    code, _, said = run.ended()
    assert code == 3
    assert said.startswith("recs: worker 0 of 2: worker 1 did not answer in ") and "--resume" in said
    assert "(silent for 3 s)" in said
    assert len(said.splitlines()) == 1


def test_workers_that_torchrun_starts_anew_go_on_by_themselves(alone: Path, tmp_path: Path) -> None:
    run = Run.of(BACKEND, tmp_path / "run", *DATA, by=(*TORCHRUN, "--max-restarts", "2"))
    run.saved()
    os.kill(run.worker(1), signal.SIGKILL)
    assert run.ended()[0] == 0
    assert_same(run.out, alone)


def test_a_disk_that_is_full_at_the_first_checkpoint_leaves_none_and_the_run_can_be_finished(
    alone: Path, tmp_path: Path
) -> None:
    out, roomless = tmp_path / "run", ("sh", "-c", 'ulimit -f 8; exec "$@"', "sh")
    own = zip(two_by_hand(), ((), roomless), strict=True)
    both = [Run.of(BACKEND, out, *DATA, environ=environ, by=by) for environ, by in own]
    for run in both:
        code, _, said = run.ended()
        assert code == 2 and len(said.splitlines()) == 1 and "cannot be written, File too large" in said
    assert [path.name for path in out.iterdir()] == ["run.json"]
    code, printed, _ = Run.of(BACKEND, out, "--resume").ended()
    assert code == 0 and f"no epoch was saved in {out}: starting at the first" in printed
    assert_same(out, alone)


def test_ctrl_c_ends_all_workers_and_the_checkpoint_stands(tmp_path: Path) -> None:
    run = Run.of(BACKEND, tmp_path / "run", *DATA, "--workers", 2)
    run.saved()
    others = [run.worker(rank) for rank in range(2)]
    os.kill(run.process.pid, signal.SIGINT)
    code, _, said = run.ended()
    assert (code, said) == (130, "")
    assert not any(Path(f"/proc/{process}").exists() for process in others)
    assert recs_core.TwoTower.resume(run.out / "bundle", backend=BACKEND).position.epoch >= 1


def test_what_all_refuse_is_said_once(tmp_path: Path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    code, _, said = Run.of(BACKEND, out, *DATA, "--workers", 2).ended()
    assert code == 2 and said == f"recs: {out} exists; choose another --out, or --force to write into it\n"


def test_a_worker_on_another_backend_is_refused_by_both(tmp_path: Path) -> None:
    """Neither understands the other's framework, and none says a word of its own."""
    pytest.importorskip("jax")
    out, backends = tmp_path / "run", (BACKEND, "keras[jax]")
    both = [Run.of(b, out, *DATA, environ=own) for b, own in zip(backends, two_by_hand(), strict=True)]
    for run in both:
        code, _, said = run.ended()
        assert code == 2 and len(said.splitlines()) == 1
        assert said.startswith("recs: worker 1 and worker 0 disagree on backend: keras[jax] and torch; ")
    assert not out.exists()


def test_a_worker_with_another_seed_is_refused(tmp_path: Path) -> None:
    out, asked = tmp_path / "run", (*DATA, "--timeout", 60)
    both = [Run.of(BACKEND, out, *asked, "--seed", seed, environ=own) for seed, own in enumerate(two_by_hand())]
    for run in both:
        code, _, said = run.ended()
        assert code == 2 and len(said.splitlines()) == 1
        assert said.startswith("recs: worker 1 and worker 0 disagree on ")
    assert not out.exists()  # so that the command can be typed again
