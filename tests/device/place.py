"""Where these tests run, and how two runs are held to one another."""

from __future__ import annotations

import os

import numpy as np
import pytest

import recs_core as recs

torch = pytest.importorskip("torch")

DEVICE = os.environ.get("RECS_TEST_DEVICE", "cuda")
"""Tried as "cpu" where there is no GPU: it then shows that the tests themselves run, and no more."""

ON_DEVICE = pytest.mark.skipif(
    DEVICE == "cuda" and not torch.cuda.is_available(), reason="needs a GPU that PyTorch finds"
)

LOSS = {"float64": 1e-9, "float32": 1e-5}
"""Relative: P1 and P3 of docs/conformance.md."""
WEIGHT = {"float64": 1e-7, "float32": 1e-4}
"""Absolute. In float32 no tier holds weights after many steps; this only finds what is grossly wrong."""


def trained(data: recs.Interactions, device: str, parts: dict[str, object], epochs: int = 2) -> recs.TwoTower:
    """A model of these parts, trained on a device."""
    model = recs.TwoTower(**parts, backend="torch", device=device)  # type: ignore[arg-type]
    model.fit(data, epochs=epochs, progress=False)
    return model


def assert_same_run(one: recs.TwoTower, other: recs.TwoTower) -> None:
    """The same losses, weights and optimizer state, within the tiers."""
    dtype = one.dtype
    np.testing.assert_allclose(other.history.losses, one.history.losses, rtol=LOSS[dtype])
    for found, expected in ((other.weights(), one.weights()), (state(other), state(one))):
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, atol=WEIGHT[dtype], rtol=WEIGHT[dtype], err_msg=name)


def state(model: recs.TwoTower) -> dict[str, np.ndarray]:
    """The optimizer's state."""
    progress = model.fitted().progress
    assert progress is not None and progress.state is not None
    return dict(progress.state)


def assert_same_lists(one: recs.TopK, other: recs.TopK) -> None:
    """The same top k, up to swaps of candidates whose scores are closer than twice the score error."""
    error = np.abs(np.where(np.isfinite(one.scores), one.scores - other.scores, 0)).max()
    for row in np.flatnonzero(~(one.ids == other.ids).all(1)):
        where = np.flatnonzero(one.ids[row] != other.ids[row])
        assert np.ptp(one.scores[row][where]) <= 2 * error or len(where) == 1, f"query {row}, places {where}"
