"""The kinds of features that read numbers: as they are, by bucket, or a time by its parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recs_core.contract.columns import as_numbers, describe_type
from recs_core.contract.errors import BadRows, DataError
from recs_core.contract.features import Feature, Known, State, TableFeature
from recs_core.contract.validation import is_finite, is_one_of, is_whole, require

SECONDS_A_DAY = 86_400.0

LARGEST = float(np.finfo(np.float32).max)

CLOCK_PARTS = ("hour", "weekday", "age_days")


@dataclass(frozen=True)
class Numeric(Feature):
    """One number per row, standardised with the training mean and standard deviation (population; 1 if it is 0), or as
    it is without `standardise`, for a module of one's own that does so itself."""

    standardise: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require(isinstance(self.standardise, bool), self, f"{self.name!r}: standardise is True or False")

    @property
    def width(self) -> int:
        return 1

    def learn(self, values: pa.Array) -> State:
        numbers = self._numbers(values)
        if not self.standardise:
            return {"mean": 0.0, "deviation": 1.0}
        deviation = float(numbers.std())
        return {"mean": float(numbers.mean()), "deviation": deviation if deviation > 0 else 1.0}

    def check_learnt(self, state: State) -> None:
        check_standard(state, self.where)

    def encode(self, values: pa.Array, known: Known) -> NDArray[np.float64]:
        standard = (self._numbers(values) - known.state["mean"]) / known.state["deviation"]
        return check_held(standard, self.where)[:, None]

    def _numbers(self, values: pa.Array) -> NDArray[np.float64]:
        numbers = as_numbers(values, self.where)
        missing = ~np.isfinite(numbers)
        if missing.any():
            raise BadRows(self.where, missing, "have no finite value", "fill or drop them")
        return check_held(numbers, self.where)


@dataclass(frozen=True)
class Bucketed(TableFeature):
    """A number, by the bucket that it falls into: one of the rows 1 … n of its table; row 0 is for a missing one.

    `edges`: the ascending borders, n − 1 of them, or a number of buckets of equal size in the training data. A number
    on a border belongs to the bucket above it.
    """

    edges: Sequence[float] | int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        if not is_whole(self.edges, 2):
            given = list(self.edges) if isinstance(self.edges, (list, tuple, np.ndarray)) else []
            rising = all(is_finite(edge) for edge in given) and all(a < b for a, b in pairwise(given))
            require(bool(given) and rising, self, f"{self.name!r}: edges must rise, or be ≥ 2, got {self.edges!r}")
            object.__setattr__(self, "edges", tuple(float(edge) for edge in given))

    def learn(self, values: pa.Array) -> State:
        numbers = as_numbers(values, self.where)
        if not isinstance(self.edges, int):
            return {"edges": list(self.edges)}
        known = numbers[np.isfinite(numbers)]
        shares = np.arange(1, self.edges) / self.edges
        return {"edges": np.unique(np.quantile(known, shares)).tolist() if len(known) else []}

    def check_learnt(self, state: State) -> None:
        edges = state.get("edges")
        if not isinstance(edges, list) or not all(is_finite(edge) for edge in edges) or edges != sorted(edges):
            raise DataError(f"{self.where}: has no ascending edges")

    def rows(self, state: State) -> int:
        return len(state["edges"]) + 2

    def encode(self, values: pa.Array, known: Known) -> NDArray[np.int32]:
        numbers = as_numbers(values, self.where)
        buckets = 1 + np.searchsorted(known.state["edges"], numbers, side="right")
        return np.where(np.isnan(numbers), 0, buckets).astype(np.int32)


@dataclass(frozen=True)
class Clock(Feature):
    """A time, as numbers that say when in the day, when in the week, and how late.

    `parts`: "hour" of the day and "weekday" are two numbers each, sin 2πx and cos 2πx, where x is the share of the day
    that is over, or that of the week's whole days (Monday 0, Sunday 6/7); "age_days" is one, standardised with the
    training mean and standard deviation (population; 1 if it is 0), and goes on beyond the training's last day. All are
    in UTC. It reads seconds since 1970, dates or timestamps: the time of an interaction, where it is named after that
    column (`Interactions.from_table(timestamp=…)`), or the column of a side table. A time that is not known is zeros.
    """

    parts: Sequence[Literal["hour", "weekday", "age_days"]] = ("hour", "weekday", "age_days")

    def __post_init__(self) -> None:
        super().__post_init__()
        given = tuple(self.parts) if isinstance(self.parts, (list, tuple)) else ()
        known = all(is_one_of(part, CLOCK_PARTS) for part in given)
        ok = bool(given) and known and len(set(given)) == len(given)
        listed = ", ".join(map(repr, CLOCK_PARTS))
        require(ok, self, f"{self.name!r}: parts are some of {listed}, each once, got {self.parts!r}")
        object.__setattr__(self, "parts", given)

    @property
    def width(self) -> int:
        return sum(1 if part == "age_days" else 2 for part in self.parts)

    def describe(self) -> str:
        return f"clock of {self.name} ({', '.join(self.parts)})"

    def learn(self, values: pa.Array) -> State:
        days = self._days(values)
        known = days[~np.isnan(days)]
        deviation = float(known.std()) if len(known) else 0.0
        mean = float(known.mean()) if len(known) else 0.0
        return {"mean": mean, "deviation": deviation if deviation > 0 else 1.0}

    def check_learnt(self, state: State) -> None:
        check_standard(state, self.where)

    def encode(self, values: pa.Array, known: Known) -> NDArray[np.float64]:
        days = self._days(values)
        columns: list[NDArray[np.float64]] = []
        for part in self.parts:
            if part == "age_days":
                columns.append(check_held((days - known.state["mean"]) / known.state["deviation"], self.where))
                continue
            # 1970-01-01 was a Thursday, three days after a Monday.
            turn = days % 1 if part == "hour" else (np.floor(days) + 3) % 7 / 7
            columns += [np.sin(2 * np.pi * turn), np.cos(2 * np.pi * turn)]
        return np.nan_to_num(np.stack(columns, 1))

    def _days(self, values: pa.Array) -> NDArray[np.float64]:
        """(n,) days since 1970-01-01 UTC; NaN where there is no time."""
        kind = values.type
        if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
            values = pc.divide(values.cast(pa.timestamp("us"), safe=False).cast(pa.int64()).cast(pa.float64()), 1e6)
        elif not (pa.types.is_null(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind)):
            got = describe_type(kind)
            raise DataError(f"{self.where}: needs seconds, dates or timestamps, got {got}: convert them")
        seconds = as_numbers(values, self.where)
        if np.isinf(seconds).any():
            raise BadRows(self.where, np.isinf(seconds), "hold an infinite time", "mend them, or null where unknown")
        return check_held(seconds, self.where) / SECONDS_A_DAY


def check_held(numbers: NDArray[np.float64], where: str) -> NDArray[np.float64]:
    """The numbers; raise `BadRows` for one that float32 does not hold, of which a tower would make infinity and NaN."""
    beyond = np.abs(numbers) > LARGEST
    if beyond.any():
        raise BadRows(
            where, beyond, f"hold a number beyond ±{LARGEST:.2g}, as large as float32 has", "mend or drop them"
        )
    return numbers


def check_standard(state: State, where: str) -> None:
    """Raise `DataError` unless a state can standardise."""
    mean, deviation = state.get("mean"), state.get("deviation")
    if not (is_finite(mean) and is_finite(deviation) and deviation > 0):  # type: ignore[operator]
        raise DataError(f"{where}: has no mean and deviation to standardise with")
