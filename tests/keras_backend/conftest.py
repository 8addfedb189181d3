"""The backend under test: keras on the engine of `KERAS_BACKEND`, else on the first one installed. One per process."""

from __future__ import annotations

import os

import pytest

from recs_core.keras_backend.backend import Backend, create

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# Made before any test module is imported: some import keras, which fixes its engine then.
BACKEND = create(asked_by="the tests")


@pytest.fixture(scope="session")
def backend() -> Backend:
    """The engine is in `backend.engine`."""
    return BACKEND
