"""What this backend says of itself, through the hook that every backend uses."""

from __future__ import annotations

from recs_core.plugin import BACKEND_CAPABILITIES, BackendInfo, No, hookimpl

LACKS = {
    "dense_adam": No("Adam moves touched rows only here"),
    "row_wise_adagrad": No("accumulators are shaped as their weight here"),
    "adopt": No("plain NumPy has no modules of its own"),
    "native_loop": No("plain NumPy has no gradients of its own"),
}

INFO = BackendInfo(
    name="numpy",
    factory="recs_core_numpy.backend:NumpyBackend",
    summary="plain NumPy, gradients by hand",
    requires=("numpy",),
    capabilities={name: LACKS.get(name, True) for name in BACKEND_CAPABILITIES},
)


@hookimpl
def recs_backends() -> list[BackendInfo]:
    """The manifest of `numpy`."""
    return [INFO]
