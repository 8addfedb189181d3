"""Batches for PyTorch: arrays as tensors without a copy, and a `DataLoader` of what `fit` would train on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias, Unpack

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler
from torch.utils.data import Dataset as TorchDataset

from recs_core.contract.batch import Batch, Features, Ragged, Sequences, Side, TaskInputs
from recs_core.contract.errors import SpecError
from recs_core.contract.training import BatchSettings
from recs_core.data.epochs import Epochs, epochs_of
from recs_core_torch.sequences import TensorSequences
from recs_core_torch.tensors import as_tensor, sent

if TYPE_CHECKING:
    from recs_core import Interactions, TwoTower
    from recs_core.contract.plans import TowerPlan

Input: TypeAlias = Tensor | tuple[Tensor, Tensor] | TensorSequences
"""One column: codes (n,), many codes per row as (values (nnz,), offsets (n + 1,)), histories in order, or numbers (n,
width)."""


def as_inputs(features: Features) -> dict[str, Input]:
    """The features as tensors by name, on the CPU, whose memory is shared."""
    inputs: dict[str, Input] = {name: as_tensor(numbers) for name, numbers in features.dense.items()}
    for name, codes in features.codes.items():
        if isinstance(codes, Sequences):
            inputs[name] = TensorSequences.of(codes)
        elif isinstance(codes, Ragged):
            inputs[name] = as_tensor(codes.values), as_tensor(codes.offsets)
        else:
            inputs[name] = as_tensor(codes)
    return inputs


@dataclass(frozen=True)
class TensorFeatures:
    """`Features` as tensors: the columns of `size` rows by name, and dropout's multipliers."""

    size: int
    columns: Mapping[str, Input]
    keep: Tensor | None = None

    @classmethod
    def of(cls, features: Features) -> TensorFeatures:
        """These features, on the CPU, whose memory is shared."""
        return cls(features.size, as_inputs(features), None if features.keep is None else as_tensor(features.keep))

    def each(self, change: Callable[[Tensor], Tensor]) -> TensorFeatures:
        """The same, every tensor changed."""
        columns = {name: _each(x, change) for name, x in self.columns.items()}
        return TensorFeatures(self.size, columns, None if self.keep is None else change(self.keep))

    def like(self, weight: Tensor) -> TensorFeatures:
        """On the device of `weight`, numbers in its dtype."""
        return self.each(lambda x: sent(x, weight.device, weight.dtype if x.is_floating_point() else None))


def _each(column: Input, change: Callable[[Tensor], Tensor]) -> Input:
    if isinstance(column, TensorSequences):
        return column.each(change)
    return (change(column[0]), change(column[1])) if isinstance(column, tuple) else change(column)


@dataclass(frozen=True)
class TensorBatch:
    """A batch of `loader`: `query` and `candidate` for the towers, `task` for the task.

    Towers take it whole, `query(batch)`; the loss is `task(query(batch), candidate(batch), **batch.task)`. `task` holds
    NumPy arrays wherever the batch is: the task plans with them, and moves what it computes with.
    """

    query: TensorFeatures
    candidate: TensorFeatures
    task: TaskInputs
    rows: Mapping[str, int]  # of each table of the model that it was made for

    def side(self, side: Side) -> TensorFeatures:
        """The features of one side."""
        return self.query if side == "query" else self.candidate

    def to(self, device: torch.device | str | int, non_blocking: bool = False) -> TensorBatch:
        """The batch on a device."""
        return self._each(lambda x: x.to(device, non_blocking=non_blocking))

    def pin_memory(self, device: Any = None) -> TensorBatch:
        """The batch in memory that a CUDA device copies from by itself."""
        return self._each(lambda x: x.pin_memory(device))

    def _each(self, change: Callable[[Tensor], Tensor]) -> TensorBatch:
        return replace(self, query=self.query.each(change), candidate=self.candidate.each(change))


Step: TypeAlias = tuple[int, int]
"""An epoch and a batch of it, both from 0."""


class Steps(Sampler[list[Step]]):
    """Each pass is the next epoch's batches, of which rank r of w ranks has r, r + w, …, as many as every other.

    A batch sampler, of one step per batch: Accelerate makes a loader anew, and keeps no other sampler.
    """

    def __init__(self, epoch: int, steps: int, rank: int, world_size: int) -> None:
        self.epoch, self.steps, self.rank, self.world_size = epoch, steps, rank, world_size

    def __len__(self) -> int:
        return self.steps // self.world_size

    def __iter__(self) -> Iterator[list[Step]]:
        epoch, self.epoch = (
            self.epoch,
            self.epoch + 1,
        )  # at the first step: a loader with workers asks twice, reads once
        yield from ([(epoch, self.rank + i * self.world_size)] for i in range(len(self)))


class Batches(TorchDataset[TensorBatch]):
    """Batches by epoch and step, so that any worker makes any of them. `plans`: of the declared towers, by side."""

    def __init__(self, epochs: Epochs, plans: Mapping[Side, TowerPlan | None]) -> None:
        self.epochs, self.plans = epochs, plans
        self.rows = epochs.table_rows

    def __getitem__(self, step: Step) -> TensorBatch:
        batch = self.epochs.batch(*step)
        return TensorBatch(self._side("query", batch), self._side("candidate", batch), batch.task, self.rows)

    def _side(self, side: Side, batch: Batch) -> TensorFeatures:
        plan = self.plans[side]
        return TensorFeatures.of(batch.side(side) if plan is None else plan.unpack(batch))


def loader(
    model: TwoTower,
    train: Interactions,
    *,
    epoch: int | None = None,
    rank: int = 0,
    world_size: int = 1,
    num_workers: int = 0,
    pin_memory: bool = False,
    persistent_workers: bool = False,
    **settings: Unpack[BatchSettings],
) -> DataLoader[TensorBatch]:
    """A `torch.utils.data.DataLoader` of the batches that `model.fit(train)` would train on, for a loop of one's own:

        >>> from recs_core_torch import loader
        >>> query, candidate, task = model.build(train).model.children()
        >>> for batch in loader(model, train, batch_size=512):  # the first epoch; the next pass is the next one
        ...     loss = task(query(batch), candidate(batch), **batch.task)

    Its batches and their order depend on the model's seed, the epoch and the settings, whatever `num_workers` is.

    `epoch`: where to begin, from 0; None: after those that `fit` has done. `rank`, `world_size`: the batches of one of
    so many processes; an epoch gives each as many, and leaves out up to world_size − 1, others in each epoch.
    `num_workers`, `pin_memory`, `persistent_workers`: as in `DataLoader`. `settings`: as in `TwoTower.epochs`, which
    says what is raised; `SpecError` also for ranks that are none.
    """
    if not 0 <= rank < world_size:
        raise SpecError(f"loader: rank is one of 0 … world_size − 1, got rank={rank}, world_size={world_size}")
    epochs = epochs_of(model, train, epoch, settings, asked="loader", backend="torch")
    steps = Steps(epochs.epoch, len(epochs), rank, world_size)
    if not len(steps):
        raise SpecError(f"loader: an epoch has {len(epochs)} batches for {world_size} ranks; lower batch_size")
    return DataLoader(
        Batches(epochs, {"query": model.query_tower.plan, "candidate": model.candidate_tower.plan}),
        batch_sampler=steps,
        collate_fn=_only,
        num_workers=num_workers,
        pin_memory=pin_memory,
        persistent_workers=persistent_workers,
    )


def _only(batches: list[TensorBatch]) -> TensorBatch:
    return batches[0]
