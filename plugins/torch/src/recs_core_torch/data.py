"""Batches for PyTorch: arrays as tensors without a copy, and a `DataLoader` over a data set of the core."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any, TypeAlias

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from recs_core.contract.batch import Batch, Features, Ragged
from recs_core.contract.protocols import BatchPlan, Dataset

Input: TypeAlias = Tensor | tuple[Tensor, Tensor]
"""One column: codes (n,), many codes per row as (values (nnz,), offsets (n + 1,)), or numbers (n, width)."""


def as_tensor(array: NDArray[Any], device: torch.device | None = None) -> Tensor:
    """The array as a tensor that shares its memory on a CPU; a read-only array is copied, as PyTorch has none."""
    tensor = torch.from_numpy(array if array.flags.writeable else array.copy())
    return tensor if device is None else tensor.to(device)


def as_inputs(features: Features, like: Tensor) -> dict[str, Input]:
    """The features as tensors by name, on the device of `like`, numbers in its dtype. CPU memory is shared."""
    inputs: dict[str, Input] = {name: as_tensor(x, like.device).to(like.dtype) for name, x in features.dense.items()}
    for name, codes in features.codes.items():
        if isinstance(codes, Ragged):
            inputs[name] = as_tensor(codes.values, like.device), as_tensor(codes.offsets, like.device)
        else:
            inputs[name] = as_tensor(codes, like.device)
    return inputs


class BatchStream(IterableDataset[Batch]):
    """One epoch of a data set's batches. Worker w of W yields batches w, w + W, …, so a loader keeps their order."""

    def __init__(self, dataset: Dataset, plan: BatchPlan, *, seed: int, epoch: int) -> None:
        self.dataset, self.plan, self.seed, self.epoch = dataset, plan, seed, epoch

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        start, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        return islice(self.dataset.batches(self.plan, seed=self.seed, epoch=self.epoch), start, None, step)


def loader(
    dataset: Dataset, plan: BatchPlan, *, seed: int = 0, epoch: int = 0, num_workers: int = 0
) -> DataLoader[Batch]:
    """A `torch.utils.data.DataLoader` of `Batch`es, for a native loop:

        >>> from recs_core_torch import loader
        >>> for batch in loader(dataset, plan, seed=0, epoch=0):
        ...     loss = task(query(batch), candidate(batch), **batch.task)

    The batches and their order are those of `dataset.batches`, whatever `num_workers` is.
    """
    stream = BatchStream(dataset, plan, seed=seed, epoch=epoch)
    return DataLoader(stream, batch_size=None, num_workers=num_workers, collate_fn=_as_is)


def _as_is(batch: Any) -> Any:
    return batch
