"""The backend against the conformance suite."""

from recs_core_numpy.backend import Backend

from recs_core.conformance import RetrievalConformance


class TestNumpy(RetrievalConformance):
    backend = Backend()
