"""Train in one backend, load in another: the same answers, and training goes on as if nothing had happened.

Every ordered pair, each backend in a process of its own, one for all that it trains and one for all that it loads;
encoders of histories in a ring of the backends. Tolerances go
by what is compared: the same weights in another backend (P4), training on in float64 (P1) and in float32 with smooth
towers (P3), ReLU towers in float32 (P5).
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recs_core.reference.backend import OracleBackend
from tests.parity.marks import EVERY_BACKEND
from tests.parity.worker import WORLDS, answers

ALL = ("torch", "tensorflow", "keras[torch]", "keras[tensorflow]", "keras[jax]")
PAIRS = list(itertools.permutations(ALL, 2))
RING = list(zip(ALL, (*ALL[1:], ALL[0]), strict=True))
REAL_PAIRS = (("torch", "tensorflow"), ("tensorflow", "keras[jax]"))
RELU = tuple(dict.fromkeys(itertools.chain(*REAL_PAIRS)))
ENCODERS = ("attention", "gru")
WORKER = Path(__file__).parent / "worker.py"
ENVIRON = {
    **os.environ,
    "OMP_NUM_THREADS": "1",
}  # several run at once, and PyTorch's threads would wait for one another

pytestmark = EVERY_BACKEND


def work(folder: Path, jobs: dict[str, list[str]]) -> None:
    """The jobs of each backend, in a process of its own, as many at once as there are cores."""

    def done(backend: str) -> None:
        command = [sys.executable, WORKER, backend, str(folder), *jobs[backend]]
        found = subprocess.run(command, env=ENVIRON, capture_output=True, text=True, check=False)
        assert found.returncode == 0, f"{' '.join(map(str, command))}\n{found.stderr[-4000:]}"

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(done, jobs))


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what each backend made of each world, and of what others had made of it."""
    folder = tmp_path_factory.mktemp("parity")
    trained = {backend: ["tiny", *ENCODERS, "report"] for backend in ALL}
    loaded = {backend: [f"tiny:{','.join(other for other in ALL if other != backend)}"] for backend in ALL}
    for backend in RELU:
        trained[backend].append("relu")
    for first, second in RING:
        loaded[second] += [f"{world}:{first}" for world in ENCODERS]
    for first, second in REAL_PAIRS:
        trained[first].append("online-retail")
        loaded[second].append(f"online-retail:{first}")
    work(folder, trained)
    work(folder, loaded)
    return folder


def read(path: Path) -> dict[str, Any]:
    with np.load(path) as file:
        return dict(file)


def assert_same_lists(a: dict[str, Any], b: dict[str, Any]) -> None:
    """Top-10 identical up to swaps of candidates whose scores are closer than twice the score error."""
    error = np.abs(np.where(np.isfinite(a["scores"]), a["scores"] - b["scores"], 0)).max()
    same = (a["ids"] == b["ids"]).all(1)
    for row in np.flatnonzero(~same):
        where = np.flatnonzero(a["ids"][row] != b["ids"][row])
        assert np.ptp(a["scores"][row][where]) <= 2 * error or len(where) == 1, f"query {row}, places {where}"
    assert same.mean() >= 0.99


def assert_same_answers(a: dict[str, Any], b: dict[str, Any], tolerance: float) -> None:
    for side in ("query", "candidate"):
        np.testing.assert_allclose(b[side], a[side], atol=tolerance, rtol=tolerance)
    assert_same_lists(a, b)


def assert_loaded(folder: Path, first: str, second: str, float32: float = 1e-6) -> None:
    """What one backend saved, another has and answers with; vectors within `float32`, or 1e-9 in float64."""
    for dtype, tolerance in (("float32", float32), ("float64", 1e-9)):
        saved = read(folder / first / f"saved-{dtype}.npz")
        loaded = read(folder / second / f"loaded-{first}-{dtype}.npz")
        for name, value in weights(saved).items():
            assert np.array_equal(loaded[name], value), name
        assert_same_answers(saved, loaded, tolerance)
        np.testing.assert_allclose(loaded["metrics"], saved["metrics"], atol=1e-9)


def assert_going_on(folder: Path, first: str, second: str) -> None:
    """Training on in float64 goes as it would have gone in the first backend."""
    stayed, moved = read(folder / first / "on-float64.npz"), read(folder / second / f"on-{first}-float64.npz")
    np.testing.assert_allclose(moved["losses"], stayed["losses"], rtol=1e-9)
    for name, value in weights(stayed).items():
        np.testing.assert_allclose(moved[name], value, atol=1e-7, err_msg=name)
    assert np.array_equal(moved["ids"], stayed["ids"])


def weights(found: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if name.startswith("weight/")}


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize(("first", "second"), RING)
def test_encoders_of_histories(made: Path, encoder: str, first: str, second: str) -> None:
    # Normalising small rows makes a rounding larger: 7e-6 was seen in float32, and as many ulps (6e-15) in float64.
    assert_loaded(made / encoder, first, second, float32=3e-5)
    assert_going_on(made / encoder, first, second)


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_the_same_weights_give_the_same_answers(made: Path, first: str, second: str) -> None:
    assert_loaded(made / "tiny", first, second)


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_training_goes_on_in_float64_as_in_the_first_backend(made: Path, first: str, second: str) -> None:
    assert_going_on(made / "tiny", first, second)


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_training_goes_on_in_float32_as_in_the_first_backend(made: Path, first: str, second: str) -> None:
    tiny = made / "tiny"
    stayed, moved = read(tiny / first / "on-float32.npz"), read(tiny / second / f"on-{first}-float32.npz")
    np.testing.assert_allclose(moved["losses"], stayed["losses"], rtol=1e-5)
    assert_same_lists(stayed, moved)


@pytest.mark.parametrize(("first", "second"), REAL_PAIRS)
def test_on_real_purchases(made: Path, first: str, second: str) -> None:
    real = made / "online-retail"
    saved, loaded = read(real / first / "saved-float32.npz"), read(real / second / f"loaded-{first}-float32.npz")
    assert_same_answers(saved, loaded, 1e-6)
    np.testing.assert_allclose(loaded["metrics"], saved["metrics"], atol=1e-9)
    stayed, moved = read(real / first / "on-float32.npz"), read(real / second / f"on-{first}-float32.npz")
    np.testing.assert_allclose(moved["losses"], stayed["losses"], rtol=1e-5)
    assert_same_lists(stayed, moved)


def test_a_hundred_steps_on_the_reports_data_are_the_oracles(made: Path) -> None:
    train, test = WORLDS["report"].data()
    oracle = WORLDS["report"].model(backend=OracleBackend(), dtype="float64")
    oracle.fit(train, epochs=WORLDS["report"].before + WORLDS["report"].after, progress=False)
    assert len(oracle.history.losses) == 100
    expected = answers(oracle, train, test)
    for backend in ALL:
        found = read(made / "report" / backend / "on-float32.npz")
        np.testing.assert_allclose(found["losses"], oracle.history.losses, rtol=1e-5, err_msg=backend)
        assert_same_lists(expected, found)


def test_relu_towers_in_float32_end_within_each_others_intervals(made: Path) -> None:
    ends = {backend: read(made / "relu" / backend / "saved-float32.npz") for backend in RELU}
    for first, second in itertools.permutations(RELU, 2):
        assert (ends[second]["metrics"] >= ends[first]["low"]).all(), (first, second)
        assert (ends[second]["metrics"] <= ends[first]["high"]).all(), (first, second)
