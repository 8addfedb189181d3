"""The built-in index's hook: the same door that every other index uses."""

from __future__ import annotations

from recs_core.contract.manifest import INDEX_CAPABILITIES
from recs_core.plugin import IndexInfo, hookimpl

INFO = IndexInfo(
    name="exact",
    factory="recs_core.index.exact:ExactIndex",
    summary="every candidate scored, in blocks, with NumPy",
    is_exact=True,
    capabilities=dict.fromkeys(INDEX_CAPABILITIES, True),
)


@hookimpl
def recs_indexes() -> list[IndexInfo]:
    """The manifest of `exact`."""
    return [INFO]
