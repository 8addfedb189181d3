"""Qdrant as an index of recs-core."""

from recs_core_qdrant.index import QdrantIndex

__all__ = ["QdrantIndex"]
