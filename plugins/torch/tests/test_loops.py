"""The examples of loops of one's own run as printed."""

from __future__ import annotations

import math
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["loop_lightning", "loop_bce_torch"])
def test_an_example_trains_and_evaluates(name: str) -> None:
    command = [sys.executable, "-W", "ignore", EXAMPLES / f"{name}.py", "synthetic"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split("recall@20 ")[-1].split()[0]) > 0


def test_the_module_of_lightning_has_at_most_30_lines() -> None:
    source = (EXAMPLES / "loop_lightning.py").read_text()
    module = source[source.index("class TwoTower") : source.index("def main")]
    assert sum(1 for line in module.splitlines() if line.strip()) <= 30


def test_a_loss_of_ones_own_counts_its_negatives() -> None:
    """At scores of 0 each term is ln 2: one positive and two negatives, but for columns of the positive itself."""
    bce = runpy.run_path(str(EXAMPLES / "loop_bce_torch.py"))["bce"]
    task = {
        "target_query": np.array([0, 1]),
        "target_candidate": np.array([0, 1]),
        "negatives_from": 2,
        "candidate_ids": np.array([5, 6, 7, 7]),
    }
    vectors = torch.zeros(2, 3), torch.zeros(4, 3)
    assert bce(*vectors, task, negatives=2).item() == pytest.approx(3 * math.log(2))
    task["candidate_ids"] = np.array([7, 6, 7, 7])  # the first target is what may be drawn
    assert bce(*vectors, task, negatives=2).item() == pytest.approx(2 * math.log(2))
    task["target_candidate"] = np.array([0, 0])
    assert bce(*vectors, task, negatives=2).item() == pytest.approx(math.log(2))
