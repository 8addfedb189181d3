"""Batches for a loop of one's own: those that `fit` would train on, epoch after epoch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from recs_core.contract.batch import Batch
from recs_core.contract.errors import DataError, SpecError
from recs_core.contract.protocols import BatchPlan
from recs_core.contract.training import BatchSettings
from recs_core.data.batching import Batching

if TYPE_CHECKING:
    from recs_core.two_tower import TwoTower


class Epochs:
    """A data set under one plan. Each pass over it is the next epoch, from `epoch` on; `len` is the number of batches
    of one. The same seed gives the batches that `TwoTower.fit` trains on, in their order."""

    def __init__(self, data: Batching, plan: BatchPlan, *, seed: int, epoch: int = 0) -> None:
        self.data, self.plan, self.seed, self.epoch = data, plan, seed, epoch

    def __len__(self) -> int:
        return self.data.steps(self.plan)

    def __iter__(self) -> Iterator[Batch]:
        epoch, self.epoch = self.epoch, self.epoch + 1
        yield from self.data.batches(self.plan, seed=self.seed, epoch=epoch)

    @property
    def plans_differ(self) -> bool:
        """Whether the plan of one batch may have other parts than that of another: where targets of a query, or their
        number, decide, as by query or of several per place, unless every candidate is scored as it is."""
        spec = self.plan.retrieval
        several = self.plan.batch_by == "query" or self.plan.targets > 1
        return several and (spec.negatives != "corpus" or spec.hard_negatives is not None)

    @property
    def table_rows(self) -> Mapping[str, int]:
        """Rows of each table of the model that the batches are made for; `check_tables` compares them."""
        return self.data.data.schema.table_rows

    def batch(self, epoch: int, step: int) -> Batch:
        """Batch `step` of an epoch, both from 0, made without those before it. Raises `DataError` for a step beyond."""
        if not 0 <= step < len(self):
            raise DataError(f"epochs: there is no batch {step}; an epoch has {len(self)}, from 0")
        return self.data.batch(self.plan, seed=self.seed, epoch=epoch, step=step)


def epochs_of(
    model: TwoTower, train: Any, epoch: int | None, settings: BatchSettings, *, asked: str, backend: str
) -> Epochs:
    """`model.epochs(train)` for the function `asked` of a backend. Raises as that, and `SpecError` for a model of
    another backend, or for the data where the model should stand."""
    if not hasattr(model, "epochs"):
        got = type(model).__name__
        raise SpecError(f"{asked}: the model comes first, then the data: {asked}(model, train); got {got} as the model")
    if model.backend.info.name != backend:
        raise SpecError(f"{asked}: the model is on {model.backend_name}; build it with backend={backend!r}")
    return model.epochs(train, epoch=epoch, **settings)


def check_tables(own: Mapping[str, int], made_for: Mapping[str, int], who: str, given: str, cure: str) -> None:
    """Raise `DataError` unless what was `made_for` tables of so many rows fits its `own`. In words, `who` these belong
    to, what was `given`, and the `cure`."""
    for name, rows in own.items():
        if made_for.get(name) != rows:
            theirs = f"has {made_for[name]} rows there" if name in made_for else "does not have it"
            raise DataError(f"{who} has {name!r} of {rows} rows; {given} of a model that {theirs}; {cure}")
