"""How sure a metric is: percentile bootstrap over queries (Efron & Tibshirani 1993, ch. 13); of two runs, paired."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from recs_core.contract.errors import DataError, SpecError
from recs_core.contract.randomness import generator
from recs_core.evaluation.measures import QueryMetrics

DRAWN = 1 << 22
"""How many counts of draws are held at a time: 32 MB."""

TOGETHER = 16
"""How many metrics are multiplied with the draws at a time."""


class Interval(TypedDict):
    """A metric over the whole set, and the interval it is likely in."""

    value: float
    low: float
    high: float


def intervals(found: QueryMetrics, *, level: float = 0.95, samples: int = 1000, seed: int = 0) -> dict[str, Interval]:
    """Each metric but `found.whole` with its bootstrap interval: queries are drawn with replacement, `samples` times.

    Raises `SpecError` for a level outside (0, 1) or fewer than 2 samples.
    """
    names = list(found.values)
    means = np.concatenate([_means(found, names, times) for times in _draws(len(found.queries), level, samples, seed)])
    value = found.mean()
    return _intervals({name: value[name] for name in names}, means, level)


def compare(
    first: QueryMetrics, second: QueryMetrics, *, level: float = 0.95, samples: int = 1000, seed: int = 0
) -> dict[str, Interval]:
    """second − first for each metric, and the interval of that: every sample draws the same queries for both.

    An interval that leaves out 0 is a difference that the choice of test queries does not explain. Raises `DataError`
    unless both measured the same metrics of the same queries.
    """
    if set(first.values) != set(second.values) or not np.array_equal(first.queries, second.queries):
        raise DataError("the two runs measured different metrics or queries: evaluate both on the same test data and k")
    if not np.array_equal(first.num_targets, second.num_targets):
        raise DataError("the two runs have different targets: evaluate both on the same test data")
    names = list(first.values)
    draws = _draws(len(first.queries), level, samples, seed)
    differences = np.concatenate([_means(second, names, times) - _means(first, names, times) for times in draws])
    before, after = first.mean(), second.mean()
    return _intervals({name: after[name] - before[name] for name in names}, differences, level)


def _draws(size: int, level: float, samples: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """How often each query is drawn, (samples, size), some samples at a time."""
    if not 0 < level < 1 or samples < 2:
        raise SpecError(f"a bootstrap needs 0 < level < 1 and samples ≥ 2, got level={level!r}, samples={samples!r}")
    random = generator(seed, "bootstrap")
    together = max(1, DRAWN // max(size, 1))
    for start in range(0, samples, together):
        rows = range(start, min(start + together, samples))
        yield np.stack([np.bincount(random.integers(0, size, size), minlength=size) for _ in rows]).astype(np.float64)


def _means(found: QueryMetrics, names: Sequence[str], times: NDArray[np.float64]) -> NDArray[np.float64]:
    """(samples, names): each metric's mean with each query counted so many times, NaN where none that weighs is."""
    means = np.empty((len(times), len(names)))
    for start in range(0, len(names), TOGETHER):
        here = names[start : start + TOGETHER]
        weights = np.stack([found.weights.get(name, np.ones(len(found.queries))) for name in here], axis=1)
        values = np.stack([found.values[name] for name in here], axis=1)
        with np.errstate(invalid="ignore"):
            means[:, start : start + TOGETHER] = times @ (values * weights) / (times @ weights)
    return means


def _intervals(value: Mapping[str, float], means: NDArray[np.float64], level: float) -> dict[str, Interval]:
    bounds = np.full((2, len(value)), np.nan)
    found = np.flatnonzero(np.isfinite(means).any(axis=0))
    bounds[:, found] = np.nanquantile(means[:, found], [(1 - level) / 2, (1 + level) / 2], axis=0)
    return {
        name: Interval(value=value[name], low=float(low), high=float(high))
        for name, low, high in zip(value, *bounds, strict=True)
    }
