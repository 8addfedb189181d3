"""The shared conformance suite, on the engine of this process."""

import pytest

from recs_core.conformance import RetrievalConformance


@pytest.mark.slow
class TestKeras(RetrievalConformance):
    backend = "keras"
