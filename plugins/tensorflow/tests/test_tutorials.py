"""TFRS's tutorials, moved, run as printed: towers kept as they are, and declared."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[3] / "examples"
NAMES = ("tfrs_basic_retrieval", "tfrs_context_features", "tfrs_deep_recommenders", "tfrs_efficient_serving")
CHANCE = 100 / 400  # recall@100 of any order of 400 movies


def printed(name: str) -> str:
    """What an example prints."""
    command = [sys.executable, "-W", "ignore", EXAMPLES / f"{name}.py"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.slow
def test_basic_retrieval_learns_and_is_served_as_it_recommends() -> None:
    lines = printed("tfrs_basic_retrieval").splitlines()
    assert [line.split()[0] for line in lines] == ["kept", "user", "served", "declared", "user", "served"]
    for metrics, recommended, served in (lines[:3], lines[3:]):
        assert float(metrics.split("recall@100 ")[1].split()[0]) > 1.5 * CHANCE
        assert recommended.split(" | ")[1:] == served.split(" | ")[1:] != []


@pytest.mark.slow
def test_deep_recommenders_learn_at_every_depth() -> None:
    *depths, user = printed("tfrs_deep_recommenders").splitlines()
    assert [re.split(" {3}", line)[:2] for line in depths] == [
        [sizes, way] for sizes in ("[32]", "[64, 32]", "[128, 64, 32]") for way in ("kept", "declared")
    ]
    assert all(float(line.split("recall@100 ")[1]) > CHANCE + 0.05 for line in depths)
    assert len(user.split(" | ")) == 4


@pytest.mark.slow
def test_efficient_serving_finds_nearly_all_of_the_best() -> None:
    pytest.importorskip("faiss", reason="needs faiss-cpu: tox -e tensorflow")
    *searches, user = printed("tfrs_efficient_serving").splitlines()
    assert [line.split()[:2] for line in searches] == [
        [way, index] for way in ("kept", "declared") for index in ("exact", "leaves")
    ]
    exact, leaves = ([float(line.split("best 10: ")[1].split()[0]) for line in searches[i::2]] for i in (0, 1))
    assert exact == [1.0, 1.0] and min(leaves) > 0.9
    assert len(user.split(" | ")) == 4


@pytest.mark.slow
def test_context_features_learn_with_and_without_the_time() -> None:
    *models, early, late = printed("tfrs_context_features").splitlines()
    assert [line.split()[:2] for line in models] == [
        [times, way] for times in ("plain", "timed") for way in ("kept", "declared")
    ]
    assert all(float(line.split("recall@100 ")[1]) > CHANCE + 0.05 for line in models)
    assert early.split(" | ")[1:] != late.split(" | ")[1:]


@pytest.mark.parametrize("name", NAMES)
def test_a_tutorial_moved_has_at_most_60_lines(name: str) -> None:
    _, _, program = (EXAMPLES / f"{name}.py").read_text().split('"""', 2)
    assert sum(1 for line in program.splitlines() if line.strip()) <= 60
