"""The bundle: a folder that holds a model, what it knows, and the proof that it is whole.

It writes and reads the value `Fitted` and builds no model: `recs.load` does, and `recs.verify` asks one.
docs/bundle.md has the format.
"""

from typing import TYPE_CHECKING

from recs_core.bundle.golden import Towers
from recs_core.bundle.reading import BundleInfo, Stored, info, read

if TYPE_CHECKING:
    from recs_core.bundle.saving import describe as describe
    from recs_core.bundle.saving import save as save


def __getattr__(name: str) -> object:
    """What writes is imported when it is first used: reading does without what it needs."""
    if name in ("describe", "save"):
        from recs_core.bundle import saving

        return getattr(saving, name)
    raise AttributeError(f"module 'recs_core.bundle' has no attribute {name!r}")


__all__ = ["BundleInfo", "Stored", "Towers", "describe", "info", "read", "save"]
