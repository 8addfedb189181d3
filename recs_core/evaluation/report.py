"""Rows of a metrics table, as a program and a table read them: {name: {"value": …}} or with "low" and "high"."""

from __future__ import annotations

from collections.abc import Mapping

from recs_core.evaluation.intervals import Interval, intervals
from recs_core.evaluation.measures import QueryMetrics


def report_rows(
    found: QueryMetrics,
    *,
    extra: Mapping[str, float] | None = None,
    with_intervals: bool = False,
    samples: int = 1000,
    seed: int = 0,
) -> dict[str, dict[str, float]]:
    """A row per metric of `found`, in order, then those of `extra` (of `list_metrics`), which have no interval."""
    bounds: Mapping[str, Interval] = intervals(found, samples=samples, seed=seed) if with_intervals else {}
    rows: dict[str, dict[str, float]] = {name: {"value": value} for name, value in found.mean().items()}
    for name, interval in bounds.items():
        rows[name] = {"value": interval["value"], "low": interval["low"], "high": interval["high"]}
    return rows | {name: {"value": value} for name, value in (extra or {}).items()}
