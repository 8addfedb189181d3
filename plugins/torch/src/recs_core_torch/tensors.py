"""Arrays as tensors."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor


def as_tensor(array: NDArray[Any], device: torch.device | None = None) -> Tensor:
    """The array as a tensor that shares its memory on a CPU; a read-only array is copied, as PyTorch has none."""
    tensor = torch.from_numpy(array if array.flags.writeable else array.copy())
    return tensor if device is None else sent(tensor, device)


def sent(tensor: Tensor, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """The tensor on a device, in its own dtype or another.

    CUDA is not waited for: what comes from the host's memory has left it when this returns, and is there before what
    is asked of the device next. Of other devices that is not known.
    """
    return tensor.to(device, dtype or tensor.dtype, non_blocking=device.type == "cuda")
