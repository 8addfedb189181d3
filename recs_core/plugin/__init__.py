"""What plugin authors import: `from recs_core.plugin import hookimpl, BackendInfo, IndexInfo, No`."""

from recs_core.contract.manifest import BACKEND_CAPABILITIES, INDEX_CAPABILITIES, BackendInfo, IndexInfo, No
from recs_core.plugin.hookspecs import hookimpl, hookspec

__all__ = ["BACKEND_CAPABILITIES", "INDEX_CAPABILITIES", "BackendInfo", "IndexInfo", "No", "hookimpl", "hookspec"]
