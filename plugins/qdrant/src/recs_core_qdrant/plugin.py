"""The hook and the manifest. Imports no client: listings come through here."""

from __future__ import annotations

from recs_core.plugin import IndexInfo, No, hookimpl

INFO = IndexInfo(
    name="qdrant",
    factory="recs_core_qdrant.index:QdrantIndex",
    summary="Qdrant finds, on its server; what it finds is filtered, scored and completed here",
    recall_floor=0.9,
    requires=("qdrant_client",),
    capabilities={
        "exclude": True,
        "allow": True,
        "memory_map": No("the vectors are copied into Qdrant, which searches its copy"),
        "float64_scores": No("what Qdrant does not find is not scored"),
        "storable": No("Qdrant keeps what it was given: build finds it there again"),
        "updatable": True,
    },
    tuned={"hnsw_ef": (32, 64, 128, 256, 512)},
)


@hookimpl
def recs_indexes() -> list[IndexInfo]:
    """The manifest of `qdrant`."""
    return [INFO]
