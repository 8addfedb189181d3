"""The shared conformance suite, on each of the indexes."""

from recs_core.conformance import IndexConformance


class TestFlat(IndexConformance):
    index = "faiss-flat"


class TestIVF(IndexConformance):
    index = "faiss-ivf"


class TestHNSW(IndexConformance):
    index = "faiss-hnsw"
