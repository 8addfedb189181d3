"""The version of this package, and of those that it works with."""

from __future__ import annotations

from collections.abc import Iterable

__version__ = "0.1.0"


def installed(names: Iterable[str]) -> dict[str, str]:
    """Distribution → its version; one that is not installed, or goes by another name, is left out."""
    from importlib import metadata

    found = {}
    for name in dict.fromkeys(names):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # an import name that differs from the distribution's
    return found
