"""The built-in backend's hook: the same door that every other backend uses. Imports no framework."""

from __future__ import annotations

from recs_core.contract.manifest import BACKEND_CAPABILITIES
from recs_core.environment import ENGINES
from recs_core.plugin import BackendInfo, hookimpl

INFO = BackendInfo(
    name="keras",
    factory="recs_core.keras_backend.backend:factory",
    summary="Keras 3 on jax, torch or tensorflow",
    requires=("keras",),
    engines=ENGINES,
    capabilities=dict.fromkeys(BACKEND_CAPABILITIES, True),
)


@hookimpl
def recs_backends() -> list[BackendInfo]:
    """The manifest of `keras`."""
    return [INFO]
