"""What is odd about a data set, before any time is spent on training: `recs data check`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recs_core.data.interactions import Interactions
from recs_core.data.pairs import distinct, numbered
from recs_core.data.splits import Leakage, leakage
from recs_core.tables.times import day, suspicion


@dataclass(frozen=True)
class Side:
    """One side's ids. `missing`: column of the side table → ids for which it is null or NaN.

    `cold`: ids without a row; `once`: ids with one row. `top_share`: share of the rows that the most frequent 1 % of
    the ids (at least one) hold.
    """

    name: str
    ids: int
    cold: int
    once: int
    top_share: float
    missing: dict[str, int]

    @property
    def cold_share(self) -> float:
        """Share of the ids that no row has."""
        return self.cold / self.ids

    def to_json(self) -> dict[str, Any]:
        """Everything as plain JSON data."""
        return asdict(self) | {"cold_share": self.cold_share}


@dataclass(frozen=True)
class Audit:
    """Facts of one data set, and of a test set against it.

    `duplicate_rows`: rows whose (query, candidate) an earlier row has. `density`: distinct pairs ÷ all possible pairs.
    `in_time_order`: rows never go back in time; None without timestamps, as are `first_day` and `last_day`.
    `odd_times`: what the times seem to be, where they can hardly be seconds.
    """

    rows: int
    duplicate_rows: int
    density: float
    queries: Side
    candidates: Side
    first_day: str | None
    last_day: str | None
    in_time_order: bool | None
    odd_times: str | None
    leakage: Leakage | None

    def to_json(self) -> dict[str, Any]:
        """Everything as plain JSON data."""
        parts = {"queries": self.queries, "candidates": self.candidates, "leakage": self.leakage}
        return asdict(self) | {name: part and part.to_json() for name, part in parts.items()}

    def remarks(self) -> list[str]:
        """What a careful reader would say about it, a line each; empty when there is nothing to say."""
        lines = []
        if self.duplicate_rows:
            share = self.duplicate_rows / self.rows
            lines.append(f"{self.duplicate_rows:,} of {self.rows:,} rows ({share:.1%}) repeat an earlier pair")
        if self.odd_times:
            lines.append(self.odd_times)
        for side in (self.queries, self.candidates):
            if side.cold:
                lines.append(f"{side.cold:,} of {side.ids:,} {side.name} ({side.cold_share:.1%}) have no interaction")
            lines += [
                f"{count:,} of {side.ids:,} {side.name} lack {column!r}" for column, count in side.missing.items()
            ]
        if self.leakage:
            lines += _leaks(self.leakage)
        return lines


def audit(data: Interactions, test: Interactions | None = None) -> Audit:
    """Look at `data`, and at `test` against it. Their vocabularies may differ; `DataError` if their id types do."""
    different = distinct(numbered(data.query_codes, data.candidate_codes, len(data.candidate_ids)))
    times = data.timestamps
    return Audit(
        rows=len(data),
        duplicate_rows=len(data) - different,
        density=different / (len(data.query_ids) * len(data.candidate_ids)),
        queries=_side(data.query_name, data.query_counts(), data.queries),
        candidates=_side(data.candidate_name, data.candidate_counts(), data.candidates),
        first_day=None if times is None else day(times.min()),
        last_day=None if times is None else day(times.max()),
        in_time_order=None if times is None else bool(np.all(np.diff(times) >= 0)),
        odd_times=None if times is None else suspicion(times),
        leakage=None if test is None else leakage(data, test),
    )


def _side(name: str, counts: NDArray[np.int64], features: pa.Table) -> Side:
    top = max(1, len(counts) // 100)
    missing = {column: _missing(features[column]) for column in features.column_names}
    return Side(
        name=name,
        ids=len(counts),
        cold=int(np.sum(counts == 0)),
        once=int(np.sum(counts == 1)),
        top_share=float(np.sort(counts)[-top:].sum() / counts.sum()),
        missing={column: count for column, count in missing.items() if count},
    )


def _missing(column: pa.ChunkedArray) -> int:
    return int(pc.sum(pc.is_null(column, nan_is_null=pa.types.is_floating(column.type))).as_py() or 0)


def _leaks(found: Leakage) -> list[str]:
    of = f"of {found.test_rows:,} test rows"
    lines = []
    if found.unseen_rows:
        ids = f"{found.unseen_queries:,} queries, {found.unseen_candidates:,} candidates"
        lines.append(f"{found.unseen_rows:,} {of} ({found.unseen_share:.1%}) have an id never seen in training ({ids})")
    if found.repeated_rows:
        lines.append(f"{found.repeated_rows:,} {of} ({found.repeated_share:.1%}) repeat a training pair")
        targets = (
            f"{found.repeated_targets:,} of {found.test_targets:,} test targets ({found.repeated_target_share:.1%})"
        )
        lines.append(
            f"{targets} are such repeats: with exclude=train no list holds them; evaluate counts them as missed, and "
            "repeats='drop' (--repeats drop) leaves them out"
        )
    if found.early_rows:
        early = f"{found.early_rows:,} {of} ({found.early_share:.1%})"
        lines.append(f"{early} are earlier than the latest training row: a leak in time")
    return lines
