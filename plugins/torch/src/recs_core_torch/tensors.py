"""Arrays as tensors."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor


def as_tensor(array: NDArray[Any], device: torch.device | None = None) -> Tensor:
    """The array as a tensor that shares its memory on a CPU; a read-only array is copied, as PyTorch has none."""
    tensor = torch.from_numpy(array if array.flags.writeable else array.copy())
    return tensor if device is None else tensor.to(device)
