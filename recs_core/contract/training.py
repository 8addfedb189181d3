"""Training, declared: epochs, batches, weights of rows, the learning rate's schedule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, TypedDict

from recs_core.contract.validation import Declared, is_finite, is_one_of, is_whole, require

BatchBy: TypeAlias = Literal["interaction", "query", "sequence"]
Precision: TypeAlias = Literal["bf16"]


@dataclass(frozen=True)
class Schedule(Declared):
    """Learning-rate factor: linear warm-up over the first `warmup` share of all steps, then linear decay to `final`."""

    warmup: float = 0.05
    final: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        require(is_finite(self.warmup) and 0 <= self.warmup < 1, self, f"needs 0 ≤ warmup < 1, got {self.warmup!r}")
        require(is_finite(self.final) and 0 <= self.final <= 1, self, f"needs 0 ≤ final ≤ 1, got {self.final!r}")

    def factor(self, step: int, total: int) -> float:
        """Factor at `step` (from 0) of `total`."""
        warm = round(self.warmup * total)
        if step < warm:
            return (step + 1) / warm
        progress = (step - warm) / max(1, total - warm - 1)
        return 1 + (self.final - 1) * min(1.0, progress)


@dataclass(frozen=True)
class TrainingSpec(Declared):
    """How `fit` trains, unless its own arguments say otherwise.

    `batch_size` counts what `batch_by` names: interactions, queries with all their targets, or sequences: a query's
    candidates in order of time, each the target of those before it, cut where they are longer than the history's
    `max_length` + 1 into windows that share their first candidate with the last of the one before. `targets`: by
    sequence, how many of the next candidates each place of a sequence predicts. A target's weight is
    n^(row_weight − 1) over its query's n targets, × (½^(age / recency_days) + 0.02) where `recency_days` is a
    half-life in days before the newest training row (None: no recency). `drop_last` leaves out an epoch's last batch
    where it is smaller than `batch_size`, as a batch normalisation of one's own may need; who is in it differs from
    epoch to epoch. `replay`: the share of an epoch, of what `batch_size` counts, that is drawn anew for each epoch from
    what earlier fits saw and these data lack; all of that where there is less. `pool_rows`: how many interactions are
    shuffled among themselves at a time, for a store that memory cannot cache, which is then read block by block; None:
    all of an epoch. `precision` "bf16" computes the towers
    of a training step in bfloat16 and all else in float32, which a GPU does faster, where the backend can; None:
    everything in the model's dtype.
    """

    epochs: int = 10
    batch_size: int = 4096
    batch_by: BatchBy = "interaction"
    targets: int = 1
    recency_days: float | None = None
    row_weight: float = 1.0
    schedule: Schedule | None = None
    drop_last: bool = False
    replay: float = 0.0
    pool_rows: int | None = None
    precision: Precision | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require(is_whole(self.epochs, 1), self, f"needs epochs ≥ 1, got {self.epochs!r}")
        require(is_whole(self.batch_size, 1), self, f"needs batch_size ≥ 1, got {self.batch_size!r}")
        require(
            is_one_of(self.batch_by, ("interaction", "query", "sequence")),
            self,
            f"batch_by is 'interaction', 'query' or 'sequence', got {self.batch_by!r}",
        )
        require(is_whole(self.targets, 1), self, f"needs targets ≥ 1, got {self.targets!r}")
        require(
            self.targets == 1 or self.batch_by == "sequence",
            self,
            f"targets={self.targets} are of a place of a sequence: pass batch_by='sequence', or leave targets out; "
            f"got batch_by={self.batch_by!r}",
        )
        require(
            self.recency_days is None or (is_finite(self.recency_days) and self.recency_days > 0),
            self,
            f"needs recency_days > 0 or None, got {self.recency_days!r}",
        )
        require(is_finite(self.row_weight), self, f"row_weight must be a number, got {self.row_weight!r}")
        require(
            self.schedule is None or isinstance(self.schedule, Schedule),
            self,
            f"schedule is recs.Schedule(warmup=…, final=…) or None, got {self.schedule!r}",
        )
        require(isinstance(self.drop_last, bool), self, f"drop_last is True or False, got {self.drop_last!r}")
        require(is_finite(self.replay) and 0 <= self.replay < 1, self, f"needs 0 ≤ replay < 1, got {self.replay!r}")
        require(
            self.pool_rows is None or is_whole(self.pool_rows, 1),
            self,
            f"pool_rows is a whole number ≥ 1 or None, got {self.pool_rows!r}",
        )
        require(
            self.pool_rows is None or self.batch_by == "interaction",
            self,
            f"pool_rows={self.pool_rows} are interactions: pass batch_by='interaction', or leave pool_rows out; "
            f"got batch_by={self.batch_by!r}",
        )
        require(
            self.precision is None or is_one_of(self.precision, ("bf16",)),
            self,
            f"precision is 'bf16' or None, got {self.precision!r}",
        )


class BatchSettings(TypedDict, total=False):
    """The fields of `TrainingSpec` that say how data is cut into batches, as keyword arguments: those that are there
    win over what was declared."""

    batch_size: int
    batch_by: BatchBy
    targets: int
    recency_days: float | None
    row_weight: float
    drop_last: bool
    replay: float
    pool_rows: int | None


class TrainingSettings(BatchSettings, total=False):
    """All fields of `TrainingSpec`, likewise."""

    epochs: int
    schedule: Schedule | None
    precision: Precision | None
