"""The shared conformance suite, on this backend."""

from recs_core.conformance import RetrievalConformance


class TestTorch(RetrievalConformance):
    backend = "torch"
