"""Many models in one process, forked children, threads: every backend, each in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from recs_core.environment import is_installed

PROGRAM = Path(__file__).with_name("program.py")

NEEDS = {
    "torch": ("torch", "recs_core_torch"),
    "tensorflow": ("tensorflow", "tf_keras", "tensorflow_recommenders", "recs_core_tensorflow"),
    "keras[jax]": ("keras", "jax"),
    "keras[torch]": ("keras", "torch"),
    "keras[tensorflow]": ("keras", "tensorflow"),
}
SURVIVES_A_FORK = ("torch", "keras[torch]")
EVERY_BACKEND = pytest.mark.parametrize("backend", NEEDS)
pytestmark = pytest.mark.slow


def ran(name: str, backend: str) -> Any:
    missing = [module for module in NEEDS[backend] if not is_installed(module)]
    if missing:
        pytest.skip(f"{missing[0]} is not installed here")
    unset = ("KERAS_BACKEND", "TF_USE_LEGACY_KERAS", "OMP_NUM_THREADS")  # torch with all its threads: what fork breaks
    done = subprocess.run(
        [sys.executable, str(PROGRAM), name, backend],
        env={key: value for key, value in os.environ.items() if key not in unset},
        cwd=PROGRAM.parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@EVERY_BACKEND
def test_twenty_models_in_one_process_end_within_a_tenth_of_the_third(backend: str) -> None:
    if not Path("/proc/self/statm").exists():
        pytest.skip("resident memory is read from /proc, which this system lacks")
    megabytes = ran("memory", backend)
    assert megabytes[-1] <= 1.1 * megabytes[2], megabytes


@EVERY_BACKEND
def test_a_forked_child_works_or_says_why_it_cannot(backend: str) -> None:
    if not hasattr(os, "fork"):
        pytest.skip("this system has no fork")
    outcomes = ran("forks", backend)
    assert outcomes.pop("fit in a child of a process that only imported it") == "ok"
    for deed, outcome in outcomes.items():
        if backend in SURVIVES_A_FORK:
            assert outcome == "ok", (deed, outcome)
        else:
            assert outcome.startswith("UnsupportedFeature: "), (deed, outcome)
            assert "forked process" in outcome and "spawn" in outcome, (deed, outcome)


@EVERY_BACKEND
def test_questions_beside_a_fit_are_answered(backend: str) -> None:
    assert ran("threads", backend) == []
