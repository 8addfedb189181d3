"""The hook of the built-in indexes: the same door that every other index uses."""

from __future__ import annotations

from recs_core.contract.manifest import INDEX_CAPABILITIES
from recs_core.plugin import IndexInfo, No, hookimpl

INFO = IndexInfo(
    name="exact",
    factory="recs_core.index.exact:ExactIndex",
    summary="every candidate scored, in blocks, with NumPy",
    is_exact=True,
    capabilities={**dict.fromkeys(INDEX_CAPABILITIES, True), "storable": No("nothing is made of the vectors")},
)

INT8 = IndexInfo(
    name="int8",
    factory="recs_core.index.int8:Int8Index",
    summary="a first pass over codes of one byte, the best of it scored exactly, with NumPy",
    recall_floor=0.95,
    capabilities={
        "exclude": True,
        "allow": True,
        "memory_map": No("codes are made once, by build"),
        "float64_scores": No("what the codes rank too low is not scored"),
        "storable": True,
        "updatable": True,
    },
    tuned={"rescore": (2, 5, 10, 20, 50)},
)


@hookimpl
def recs_indexes() -> list[IndexInfo]:
    """The manifests of `exact` and `int8`."""
    return [INFO, INT8]
