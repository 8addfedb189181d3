"""Bundles of every released format version, made once and kept: they load for ever and answer the same."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import recs_core as recs
from recs_core.reference.backend import OracleBackend
from tests.bundle.small import interactions

KEPT = Path(__file__).parent / "kept"


@pytest.mark.parametrize("options", [{"runtime": "numpy"}, {"backend": OracleBackend()}], ids=["numpy", "backend"])
def test_version_1(options):
    expected = json.loads((KEPT / "v1.json").read_text())
    found = recs.load(KEPT / "v1", **options).recommend(expected["queries"], k=5)
    assert found.ids.tolist() == expected["ids"]
    np.testing.assert_allclose(found.scores, expected["scores"], rtol=1e-5, atol=1e-5)


def test_version_1_trains_on():
    model = recs.load(KEPT / "v1", backend=OracleBackend())
    assert model.position.epoch == 2
    model.fit(interactions(), epochs=1, progress=False)
