"""The shared conformance suite, on this backend and its two indexes."""

from recs_core.conformance import IndexConformance, RetrievalConformance


class TestTensorFlow(RetrievalConformance):
    backend = "tensorflow"


class TestBruteForce(IndexConformance):
    index = "tfrs-brute-force"


class TestStreaming(IndexConformance):
    index = "tfrs-streaming"
