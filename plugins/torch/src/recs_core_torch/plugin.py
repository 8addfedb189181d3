"""What the plugin says of itself. Imports no framework: listing backends must not load PyTorch."""

from __future__ import annotations

from collections.abc import Iterable

from recs_core.contract.manifest import BACKEND_CAPABILITIES
from recs_core.plugin import BackendInfo, hookimpl

INFO = BackendInfo(
    name="torch",
    factory="recs_core_torch.backend:create",
    summary="PyTorch: nn.Module towers, blocked softmax, row-sparse optimizers",
    requires=("torch",),
    capabilities={name: True for name in BACKEND_CAPABILITIES},
)


@hookimpl
def recs_backends() -> Iterable[BackendInfo]:
    """The `torch` backend."""
    return [INFO]
