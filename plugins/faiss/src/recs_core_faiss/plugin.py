"""What this plugin offers, said without importing faiss."""

from __future__ import annotations

from recs_core.plugin import IndexInfo, No, hookimpl

REQUIRES = ("faiss",)

_APPROXIMATE: dict[str, bool | No] = {
    "exclude": True,
    "allow": True,
    "memory_map": No("codes of one byte are made once, by build; the vectors themselves stay where they are"),
    "float64_scores": No("what is not found is not scored"),
    "storable": True,
    "updatable": True,
}

FLAT = IndexInfo(
    name="faiss-flat",
    factory="recs_core_faiss.flat:Flat",
    summary="faiss.knn: every candidate scored, the vectors left where they are",
    is_exact=True,
    requires=REQUIRES,
    capabilities={
        "exclude": True,
        "allow": True,
        "memory_map": True,
        "float64_scores": True,
        "storable": No("nothing is made of the vectors"),
        "updatable": True,
    },
)

IVF = IndexInfo(
    name="faiss-ivf",
    factory="recs_core_faiss.ivf:IVF",
    summary="faiss.IndexIVFScalarQuantizer: the candidates of the nearest clusters, in codes of one byte",
    recall_floor=0.9,
    requires=REQUIRES,
    capabilities=_APPROXIMATE,
    tuned={"probes": (4, 8, 16, 32, 64, 128, 256)},
)

HNSW = IndexInfo(
    name="faiss-hnsw",
    factory="recs_core_faiss.hnsw:HNSW",
    summary="faiss.IndexHNSWSQ: a graph of neighbours over codes of one byte",
    recall_floor=0.95,
    requires=REQUIRES,
    capabilities=_APPROXIMATE,
    tuned={"ef": (16, 32, 64, 128, 256, 512)},
)


@hookimpl
def recs_indexes() -> list[IndexInfo]:
    """The manifests of `faiss-flat`, `faiss-ivf` and `faiss-hnsw`."""
    return [FLAT, IVF, HNSW]
