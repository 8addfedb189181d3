"""Metrics as rows: as a program and a table read them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeAlias

from recs_core.evaluation.intervals import Interval, intervals
from recs_core.evaluation.measures import QueryMetrics

Row: TypeAlias = dict[str, float]
"""`{"value": …}`, or with "low" and "high"."""


def report_rows(
    found: QueryMetrics, *, with_intervals: bool = False, samples: int = 1000, seed: int = 0
) -> dict[str, Row]:
    """A row per metric of `found`, in order: `{name: {"value": …}}`, with "low" and "high" where asked for; those of
    `found.whole` have no interval."""
    bounds: Mapping[str, Interval] = intervals(found, samples=samples, seed=seed) if with_intervals else {}
    rows: dict[str, Row] = {name: {"value": value} for name, value in found.mean().items()}
    for name, interval in bounds.items():
        rows[name] = {"value": interval["value"], "low": interval["low"], "high": interval["high"]}
    return rows


def plain(metrics: Any) -> Any:
    """Metrics by name, however deep, as JSON has them: null for NaN."""
    if isinstance(metrics, Mapping):
        return {name: plain(value) for name, value in metrics.items()}
    return None if isinstance(metrics, float) and math.isnan(metrics) else metrics


def shown(row: Row) -> str:
    """A value, and its interval where it has one, as text: "0.1339 [0.1238, 0.1442]"; "–" for NaN."""
    bounds = f" [{number(row['low'])}, {number(row['high'])}]" if "low" in row and not math.isnan(row["low"]) else ""
    return number(row["value"]) + bounds


def number(value: float) -> str:
    """A metric as text: shares with four decimals, numbers of rows with one, "–" for NaN."""
    return "–" if math.isnan(value) else f"{value:.4f}" if abs(value) < 10 else f"{value:,.1f}"
