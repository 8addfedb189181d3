"""A random worker is killed again and again under torchrun: does the run go on, and end as if nobody had disturbed it?

    python benchmarks/kills.py [--kills 20] [--workers 2] [--epochs 100] [--seed 0]

A kill comes up to a second after the workers, started anew, have saved a checkpoint. Prints how many kills there were
and the largest difference in a loss, relative, and in a weight, to a run of one process, in float64. Linux.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import recs_core

RECS = [sys.executable, "-m", "recs_core.cli", "--backend", "torch", "train", "synthetic", "--float64"]


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("kills", 20), ("workers", 2), ("epochs", 100), ("seed", 0)):
        asked.add_argument(f"--{name}", type=int, default=default)
    options = asked.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        alone, killed = Path(folder) / "alone", Path(folder) / "killed"
        command = [*RECS, "--epochs", str(options.epochs), "--out"]
        quiet = {"env": {**os.environ, "OMP_NUM_THREADS": "1"}, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
        subprocess.run([*command, str(alone)], check=True, **quiet)
        start = time.perf_counter()
        torchrun = ["torch.distributed.run", "--no-python", "--nproc-per-node", str(options.workers)]
        running = subprocess.Popen(
            [sys.executable, "-m", *torchrun, "--max-restarts", str(options.kills), *command, str(killed)], **quiet
        )
        kills = disturbed(running, killed / "bundle" / "manifest.json", options.kills, random.Random(options.seed))
        _, said = running.communicate()
        if running.returncode:
            sys.exit(f"after {kills} kills the run ended with code {running.returncode}\n{said.decode()[-2000:]}")
        loss, weight = differences(killed, alone)
        sys.stdout.write(
            f"{kills} kills of {options.workers} workers in {time.perf_counter() - start:.0f} s, each run went on; "
            f"losses differ by {loss:.1e} at most, weights by {weight:.1e}\n"
        )


def disturbed(running: subprocess.Popen[bytes], manifest: Path, kills: int, draw: random.Random) -> int:
    """How many workers were killed while the run lasted."""
    before: set[int] = set()
    for number in range(kills):
        since = time.time_ns()
        while True:
            if running.poll() is not None:
                return number
            workers = set(children(running.pid)) - before
            if workers and manifest.exists() and manifest.stat().st_mtime_ns > since:
                break
            time.sleep(0.02)
        time.sleep(draw.random())
        before |= workers
        try:
            os.kill(draw.choice(sorted(workers)), signal.SIGKILL)
        except ProcessLookupError:
            return number  # the run has ended
    return kills


def children(process: int) -> list[int]:
    """The workers: processes that torchrun started and that know their rank."""
    found = []
    for child in Path(f"/proc/{process}/task/{process}/children").read_text().split():
        try:
            if b"\0RANK=" in Path(f"/proc/{child}/environ").read_bytes():
                found.append(int(child))
        except OSError:
            continue
    return found


def differences(one: Path, other: Path) -> tuple[float, float]:
    """Of losses, relative, and of weights, the largest."""
    losses = [np.array(json.loads((out / "run.json").read_text())["losses"]) for out in (one, other)]
    weights = [recs_core.load(out / "bundle", runtime="numpy").weights() for out in (one, other)]
    apart = max(float(np.abs(np.asarray(weights[0][name]) - np.asarray(weights[1][name])).max()) for name in weights[1])
    return float(np.abs(losses[0] / losses[1] - 1).max()), apart


if __name__ == "__main__":
    main()
