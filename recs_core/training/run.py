"""One call of `fit`, as it was planned: what a checkpoint holds, and what the next call has to agree with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from recs_core.contract.errors import DataError, SpecError
from recs_core.contract.optimizers import Optimizer
from recs_core.contract.training import TrainingSpec
from recs_core.data.interactions import Interactions
from recs_core.training.early_stopping import Best, EarlyStopping


@dataclass
class FitRun:
    """One call of `fit`: as it was planned, and as far as it got. `open` until it ended in good order; a checkpoint
    holds an open one, which the next `fit` finishes."""

    settings: TrainingSpec
    until: int  # the epoch at which it is done, counted from the model's first
    data: str  # `Interactions.digest()` of what it trains on
    validate_every: int = 1
    k: tuple[int, ...] = (10, 20)
    best: Best = field(default_factory=Best)
    open: bool = True

    def begun_or_gone_on_with(
        self, before: FitRun | None, asked: Mapping[str, Any], optimizer: Optimizer | None, declared: Optimizer
    ) -> FitRun:
        """The run of a call of `fit` that states this one, whose `until` is still the epoch at which it begins: the one
        `before`, if that is open and `asked`, the settings given, names no epochs; else a new one. `optimizer`: what
        was asked for, `declared`: what is used so far. Raises as `check_goes_on`."""
        if before is None or not before.open or "epochs" in asked:
            return replace(self, until=self.until + self.settings.epochs)
        given = {**asked, **({} if optimizer is None else {"optimizer": optimizer})}
        before.check_goes_on(self.data, given, {**vars(before.settings), "optimizer": declared}, self.best.rule)
        return before

    def check_goes_on(
        self, data: str, asked: Mapping[str, Any], planned: Mapping[str, Any], early_stopping: EarlyStopping | None
    ) -> None:
        """Raise `DataError` or `SpecError` unless a call with these arguments can finish this run. `data`: a digest;
        `asked`: settings that were given, to be as in `planned`."""
        begun = "this model is in the middle of a run"
        another = "or pass epochs= to begin another run from these weights"
        if self.data != data:
            raise DataError(f"{begun} on other training data; fit the same data to finish it, {another}")
        for name, value in asked.items():
            if planned[name] != value:
                raise SpecError(f"{begun} with {name}={planned[name]!r}, asked for {value!r}; leave it out, {another}")
        if early_stopping not in (None, self.best.rule):
            raise SpecError(f"{begun} with early_stopping={self.best.rule!r}; leave it out, {another}")

    def cuts_as(self, other: FitRun) -> bool:
        """Whether an epoch of this run has the same batches as one of the other."""
        mine, theirs = self.settings, other.settings
        same = all(
            getattr(mine, name) == getattr(theirs, name)
            for name in ("batch_size", "batch_by", "drop_last", "replay", "pool_rows")
        )
        return same and self.data == other.data


def facts(train: Interactions, digest: str) -> dict[str, Any]:
    """What a bundle tells of the data that a model trains on."""
    times = train.timestamps
    return {
        "digest": digest,
        "rows": len(train),
        "queries": len(train.query_ids),
        "candidates": len(train.candidate_ids),
        "from": None if times is None or not len(times) else float(times.min()),
        "to": None if times is None or not len(times) else float(times.max()),
    }
