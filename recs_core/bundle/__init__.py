"""The bundle: a folder that holds a model, what it knows, and the proof that it is whole.

docs/bundle.md has the format.
"""

from typing import TYPE_CHECKING

from recs_core.bundle.loading import BundleInfo, info, load, verify

if TYPE_CHECKING:
    from recs_core.bundle.saving import save as save


def __getattr__(name: str) -> object:
    """`save` is imported when it is first used: loading does without what it needs."""
    if name == "save":
        from recs_core.bundle.saving import save

        return save
    raise AttributeError(f"module 'recs_core.bundle' has no attribute {name!r}")


__all__ = ["BundleInfo", "info", "load", "save", "verify"]
