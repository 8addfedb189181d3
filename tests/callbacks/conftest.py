"""The data of the runs, and a run that nothing disturbed."""

from __future__ import annotations

import pytest

import recs_core as recs
from tests.bundle.small import interactions
from tests.callbacks.runs import PLAN, STEPS, model


@pytest.fixture(scope="module")
def data() -> recs.Interactions:
    return interactions()


@pytest.fixture(scope="module")
def whole(data: recs.Interactions) -> recs.TwoTower:
    out = model()
    out.fit(data, **PLAN)
    assert len(out.history.losses) == 3 * STEPS
    return out
