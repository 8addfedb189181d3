"""The backend under test: keras on the engine of `KERAS_BACKEND`, else on the first one installed. One a process."""

from __future__ import annotations

import os

import pytest

from recs_core.keras_backend.backend import KerasBackend, factory

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


@pytest.fixture(scope="session")
def backend() -> KerasBackend:
    """The engine is in `backend.engine`."""
    return factory(asked_by="the tests")
