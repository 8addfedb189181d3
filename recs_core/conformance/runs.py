"""Runs of `recs train` on several processes: started, watched and held to one another, for tests that end them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recs_core.conformance import expect
from recs_core.distributed.launch import free_port
from recs_core.loading import load

RECS = (sys.executable, "-m", "recs_core.cli")
LONGEST = 300.0
"""Seconds that a run may take to end, and to save its first epoch."""


@dataclass(frozen=True)
class Run:
    """A run that goes on, in a session of its own, and the folder it writes."""

    process: subprocess.Popen[str]
    out: Path

    @classmethod
    def of(
        cls,
        backend: str,
        out: Path,
        *arguments: Any,
        by: Sequence[str] = (),
        environ: Mapping[str, str] | None = None,
    ) -> Run:
        """`recs train … --out` on a backend, one thread to a process; `by`: the command that starts it, such as
        torchrun's; `environ`: variables beside those of this process.
        """
        command = [*by, *RECS, "train", *map(str, arguments), "--out", str(out)]
        variables = {**os.environ, "RECS_BACKEND": backend, "OMP_NUM_THREADS": "1", **(environ or {})}
        pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return cls(subprocess.Popen(command, env=variables, start_new_session=True, **pipes), out)

    def ended(self) -> tuple[int, str, str]:
        """Its exit status, and what it printed and said, once it ends."""
        printed, said = self.process.communicate(timeout=LONGEST)
        return self.process.returncode, printed, said

    def saved(self) -> None:
        """Wait for the first epoch's checkpoint."""
        until = time.monotonic() + LONGEST
        while not (self.out / "bundle" / "manifest.json").exists():
            assert self.process.poll() is None and time.monotonic() < until, self.process.communicate()
            time.sleep(0.02)

    def worker(self, rank: int) -> int:
        """The process of a worker."""
        started = self.process.pid
        for child in Path(f"/proc/{started}/task/{started}/children").read_text().split():
            if f"RANK={rank}".encode() in Path(f"/proc/{child}/environ").read_bytes().split(b"\0"):
                return int(child)
        raise AssertionError(f"worker {rank} is not there")


def two_by_hand() -> list[dict[str, str]]:
    """The variables of each of two workers that are started as torchrun would."""
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    return [{**shared, "RANK": str(rank)} for rank in range(2)]


def assert_same(out: Path, alone: Path) -> None:
    """The losses, metrics and weights of one process in float64 (P6)."""
    got, due = (json.loads((folder / "run.json").read_text()) for folder in (out, alone))
    np.testing.assert_allclose(got["losses"], due["losses"], rtol=expect.LOSS_WORKERS["float64"])
    assert got["metrics"] == due["metrics"]
    weights = load(alone / "bundle", runtime="numpy").weights()
    for name, weight in load(out / "bundle", runtime="numpy").weights().items():
        np.testing.assert_allclose(weight, weights[name], rtol=0, atol=expect.WEIGHT_WORKERS["float64"], err_msg=name)
