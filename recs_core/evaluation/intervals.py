"""How sure a metric is: percentile bootstrap over queries (Efron & Tibshirani 1993, ch. 13); of two runs, paired."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from recs_core.contract.errors import DataError, SpecError
from recs_core.contract.randomness import generator
from recs_core.evaluation.measures import QueryMetrics


class Interval(TypedDict):
    """A metric over the whole set, and the interval it is likely in."""

    value: float
    low: float
    high: float


def intervals(found: QueryMetrics, *, level: float = 0.95, samples: int = 1000, seed: int = 0) -> dict[str, Interval]:
    """Each metric with its bootstrap interval: queries are drawn with replacement, `samples` times.

    Raises `SpecError` for a level outside (0, 1) or fewer than 2 samples.
    """
    means = np.stack([_means(found, times) for times in _draws(len(found.queries), level, samples, seed)])
    return _intervals(found.mean(), means, level)


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
    draws = _draws(len(first.queries), level, samples, seed)
    differences = np.stack([_means(second, times, first) - _means(first, times) for times in draws])
    before, after = first.mean(), second.mean()
    return _intervals({name: after[name] - before[name] for name in before}, differences, level)


def _draws(size: int, level: float, samples: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """How often each query is drawn, sample by sample."""
    if not 0 < level < 1 or samples < 2:
        raise SpecError(f"a bootstrap needs 0 < level < 1 and samples ≥ 2, got level={level!r}, samples={samples!r}")
    random = generator(seed, "bootstrap")
    for _ in range(samples):
        yield np.bincount(random.integers(0, size, size), minlength=size)


def _means(found: QueryMetrics, times: NDArray[np.int64], like: QueryMetrics | None = None) -> NDArray[np.float64]:
    """Mean of each metric in the order of `like`, with each query counted so many times."""
    names = (like or found).values
    return np.array([np.average(found.values[name], weights=times * found.weights(name)) for name in names])


def _intervals(value: Mapping[str, float], means: NDArray[np.float64], level: float) -> dict[str, Interval]:
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return {name: Interval(value=value[name], low=float(low[i]), high=float(high[i])) for i, name in enumerate(value)}
