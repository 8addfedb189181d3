"""The index against the conformance suite, in Qdrant's local mode."""

from __future__ import annotations

from qdrant_client import QdrantClient
from recs_core_qdrant import QdrantIndex

from recs_core.conformance import IndexConformance


def in_memory() -> QdrantIndex:
    return QdrantIndex(client=QdrantClient(":memory:"))


class TestQdrant(IndexConformance):
    index = staticmethod(in_memory)
