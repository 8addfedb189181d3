"""Arrays as tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def as_tensor(array: NDArray[Any], device: torch.device | None = None) -> Tensor:
    """The array as a tensor that shares its memory on a CPU; a read-only array is copied, as PyTorch has none."""
    tensor = torch.from_numpy(array if array.flags.writeable else array.copy())
    return tensor if device is None else sent(tensor, device)


def copied(array: NDArray[Any], like: Tensor) -> Tensor:
    """The array as a tensor of its own, in the dtype and on the device of `like`.

    On a CPU NumPy makes it, which asks Linux for large pages as PyTorch does not: to copy a table of a million rows of
    64 takes a third of the time, and to read and write 8,192 of its rows two thirds.
    """
    return sent(torch.from_numpy(np.array(array, numpy_dtype(like), order="C")), like.device)


def filled(shape: tuple[int, ...], value: float, like: Tensor) -> Tensor:
    """One number throughout, in the dtype and on the device of `like`; on a CPU as in `copied`."""
    if like.device.type == "cpu":
        return torch.from_numpy(np.full(shape, value, numpy_dtype(like)))
    return like.new_full(shape, value)


def numpy_dtype(tensor: Tensor) -> np.dtype[Any]:
    """The tensor's dtype, as NumPy has it."""
    return tensor.new_empty(0).cpu().numpy().dtype


def sent(tensor: Tensor, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """The tensor on a device, in its own dtype or another.

    CUDA is not waited for: what comes from the host's memory has left it when this returns, and is there before what
    is asked of the device next. Of other devices that is not known.
    """
    return tensor.to(device, dtype or tensor.dtype, non_blocking=device.type == "cuda")
