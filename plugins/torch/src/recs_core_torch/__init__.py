"""recs-core in PyTorch: towers and task as `nn.Module`s, a blocked softmax, row-sparse optimizers, ONNX export."""

from recs_core_torch.backend import TorchBackend
from recs_core_torch.data import loader
from recs_core_torch.export import export_onnx
from recs_core_torch.kernel import BlockedSoftmax
from recs_core_torch.model import Model
from recs_core_torch.task import RetrievalTask
from recs_core_torch.towers import AdoptedTower, Tower
from recs_core_torch.trainer import Trainer

__all__ = [
    "AdoptedTower", "BlockedSoftmax", "Model", "RetrievalTask", "TorchBackend", "Tower", "Trainer", "export_onnx", "loader",
]  # fmt: skip
