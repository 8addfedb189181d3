"""recs-core in PyTorch: towers and task as `nn.Module`s, a blocked softmax, row-sparse optimizers, ONNX export.

Names load PyTorch when they are first used, so that the manifest in `plugin.py` can be read without it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recs_core_torch.adopted import AdoptedTower
    from recs_core_torch.backend import Backend
    from recs_core_torch.data import loader
    from recs_core_torch.export import export_onnx
    from recs_core_torch.model import Model
    from recs_core_torch.task import RetrievalTask
    from recs_core_torch.towers import Tower
    from recs_core_torch.trainer import Trainer

_HOMES = {
    "AdoptedTower": "adopted",
    "Backend": "backend",
    "Model": "model",
    "RetrievalTask": "task",
    "Tower": "towers",
    "Trainer": "trainer",
    "export_onnx": "export",
    "loader": "data",
}

__all__ = ["AdoptedTower", "Backend", "Model", "RetrievalTask", "Tower", "Trainer", "export_onnx", "loader"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
