"""The bundle: a folder that holds a model, what it knows, and the proof that it is whole.

docs/bundle.md has the format.
"""

from recs_core.bundle.loading import BundleInfo, info, load, verify
from recs_core.bundle.saving import save

__all__ = ["BundleInfo", "info", "load", "save", "verify"]
