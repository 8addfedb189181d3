"""The three engines, one process each, walk one path: the oracle's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from recs_core.conformance.worlds import World
from recs_core.contract.optimizers import Adam
from recs_core.environment import ENGINES, is_installed
from recs_core.reference import training

WORLD = World(queries=20, corpus=30, users=40).with_(scoring="cosine", learn_temperature=True, candidate_bias=True)
STEPS = 100

RUN = """
import json, sys
from recs_core.keras_backend.backend import create
from tests.keras_backend.test_engines import STEPS, WORLD
from recs_core.contract.optimizers import Adam
from recs_core.contract.plans import UpdatePlan
backend = create(sys.argv[1])
model = backend.model(*WORLD.plans, WORLD.retrieval, WORLD.weights(), dtype="float64")
trainer = backend.trainer(model, UpdatePlan(Adam(0.01)))
losses = [float(trainer.step(batch, 0.01)) for batch in WORLD.batches(STEPS)]
print(json.dumps([losses, {name: value.tolist() for name, value in model.weights().items()}]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_hundred_steps_are_the_oracles(engine: str) -> None:
    if not is_installed(engine):
        pytest.skip(f"{engine} is not installed here")
    done = subprocess.run(
        [sys.executable, "-c", RUN, engine],
        env={**{k: v for k, v in os.environ.items() if k != "KERAS_BACKEND"}, "TF_CPP_MIN_LOG_LEVEL": "3"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    losses, weights = json.loads(done.stdout.splitlines()[-1])
    expected = training.trajectory(WORLD.model, Adam(0.01), WORLD.weights(), WORLD.batches(STEPS))
    np.testing.assert_allclose(losses, expected[0], rtol=1e-9)
    for name, value in expected[1].items():
        np.testing.assert_allclose(weights[name], value, rtol=1e-7, atol=1e-9, err_msg=name)


MANY = """
from recs_core.keras_backend.backend import create
from tests.keras_backend.test_engines import WORLD
backend = create("tensorflow")
for _ in range(6):
    model = backend.model(*WORLD.plans, WORLD.retrieval, WORLD.weights(), dtype="float32")
    model.query.embed(WORLD.batch().query)
"""


@pytest.mark.slow
def test_a_process_with_many_models_hears_nothing_of_retracing() -> None:
    """TensorFlow counts traces by the code traced, so that the sixth model's was one too many."""
    if not is_installed("tensorflow"):
        pytest.skip("tensorflow is not installed here")
    done = subprocess.run(
        [sys.executable, "-c", MANY],
        env={k: v for k, v in os.environ.items() if k != "KERAS_BACKEND"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "retracing" not in done.stderr


def test_a_second_engine_in_one_process_is_refused() -> None:
    from recs_core.contract.errors import BackendConflict
    from recs_core.keras_backend.backend import create

    mine = create(asked_by="the tests").engine
    other = next(engine for engine in ENGINES if engine != mine)
    with pytest.raises(BackendConflict, match="one engine per process"):
        create(other, asked_by="the tests")
