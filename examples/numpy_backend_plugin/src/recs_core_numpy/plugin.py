"""What this backend says of itself, through the hook that every backend uses."""

from recs_core.contract.errors import UnsupportedFeature
from recs_core.plugin import BACKEND_CAPABILITIES, BackendInfo, No, hookimpl

LACKS = {"adopt": No("NumPy has no modules of its own"), "native_loop": No("NumPy has no gradients of its own")}

INFO = BackendInfo(
    name="numpy",
    factory="recs_core_numpy.backend:create",
    summary="plain NumPy, gradients by hand",
    requires=("numpy",),
    capabilities={name: LACKS.get(name, True) for name in BACKEND_CAPABILITIES},
)


@hookimpl
def recs_backends() -> list[BackendInfo]:
    return [INFO]


def lacks(capability: str) -> UnsupportedFeature:
    """What a call that needs a declined capability raises: the reason declared above."""
    return UnsupportedFeature(f"backend 'numpy' has no {capability}: {LACKS[capability].reason}")
