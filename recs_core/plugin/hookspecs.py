"""The hooks of recs-core. A plugin module implements those it needs with `@hookimpl`; it imports no framework."""

from __future__ import annotations

from collections.abc import Iterable

import pluggy

from recs_core.contract.manifest import BackendInfo, IndexInfo

PROJECT = "recs_core"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def recs_backends() -> Iterable[BackendInfo]:  # type: ignore[empty-body]
    """The manifests of the backends that this plugin provides.

    Each manifest's name is the name of an entry point in the group `recs_core.backends` of the same distribution:

        # pyproject.toml
        [project.entry-points."recs_core.backends"]
        mine = "recs_core_mine.plugin"

        >>> # recs_core_mine/plugin.py
        >>> from recs_core.plugin import BACKEND_CAPABILITIES, BackendInfo, No, hookimpl
        >>> INFO = BackendInfo(
        ...     name="mine",
        ...     factory="recs_core_mine.backend:MyBackend",
        ...     summary="my framework",
        ...     capabilities={name: No("not written yet") for name in BACKEND_CAPABILITIES},
        ... )
        >>> @hookimpl
        ... def recs_backends():
        ...     return [INFO]
    """


@hookspec
def recs_indexes() -> Iterable[IndexInfo]:  # type: ignore[empty-body]
    """The manifests of the indexes that this plugin provides; the entry-point group is `recs_core.indexes`.

    >>> from recs_core.plugin import INDEX_CAPABILITIES, IndexInfo, No, hookimpl
    >>> INDEX = IndexInfo(
    ...     name="mine",
    ...     factory="recs_core_mine.index:MyIndex",
    ...     summary="my index",
    ...     recall_floor=0.9,
    ...     capabilities={name: No("not written yet") for name in INDEX_CAPABILITIES},
    ... )
    >>> @hookimpl
    ... def recs_indexes():
    ...     return [INDEX]
    """


@hookspec
def recs_backend_selected(info: BackendInfo, source: str) -> None:
    """Called on the plugin of a backend that is about to be built, before its factory and its framework are imported.

    `source` says who chose it, as in "RECS_BACKEND" or "[tool.recs_core] in /path/pyproject.toml". The place to set
    what a framework reads once, at import.
    """
