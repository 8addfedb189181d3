"""A feature kind of one's own on every backend, each in a process of its own, as two of them want different Keras."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.parity.marks import EVERY_BACKEND

pytestmark = EVERY_BACKEND

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("backend", ["torch", "tensorflow", "jax"])
def test_it_trains_on(backend: str) -> None:
    test = "tests/test_own_feature.py::test_it_trains_as_the_oracle_does_and_serves_without_a_framework"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", test, "-k", backend]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "1 passed" in done.stdout, done.stdout + done.stderr
