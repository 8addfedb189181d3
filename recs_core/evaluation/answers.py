"""What a model answers to test data, and what that is worth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recs_core.contract.errors import SpecError
from recs_core.evaluation import beyond
from recs_core.evaluation.measures import DEFAULT_K, QueryMetrics, Ties, check_ties, cuts, metric_names, query_metrics
from recs_core.evaluation.ranking import Ranks
from recs_core.evaluation.targets import Targets

OwnMetric: TypeAlias = Callable[[Ranks], "float | ArrayLike"]
"""A metric of the caller's own: the ranks of Q queries, each with a target → a number, or one for each, (Q,)."""


@dataclass(frozen=True)
class Answers:
    """What test data was answered.

    `asked`: what it asked. `ranks`: where the targets stand. `lists` (Q, k) int32: the candidate codes that each query
    is recommended, best first, −1 where a list is short; None if no list was asked for. `counts` (C,): training rows of
    each candidate. `among` (C,) bool: the candidates that coverage looks at; None for the corpus.
    """

    asked: Targets
    ranks: Ranks
    lists: NDArray[np.int32] | None
    counts: NDArray[np.integer]
    among: NDArray[np.bool_] | None = None

    def only(self, targets: NDArray[np.bool_], among: NDArray[np.bool_] | None = None) -> Answers:
        """Of the targets marked (T,) alone; queries of which none is marked leave. `asked` stays the whole's."""
        kept = np.unique(self.ranks.queries[targets])
        lists = None if self.lists is None else self.lists[kept]
        return replace(self, ranks=self.ranks.only(targets), lists=lists, among=among)


@dataclass(frozen=True)
class Measures:
    """What is measured of answers: the metrics at each of `k`, by a rule for `ties`, and `own` ones.

    Raises `SpecError` for k ≤ 0, unknown `ties`, and an own metric that is no function, has no name, or one that is
    taken.
    """

    k: Sequence[int] = DEFAULT_K
    ties: Ties = "pessimistic"
    own: Sequence[OwnMetric] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "k", cuts(self.k))
        check_ties(self.ties)
        _check_own(self.own, [*metric_names(self.k), *beyond_names(self.k)])

    def of(self, answers: Answers) -> QueryMetrics:
        """Accuracy, numbers beyond it, and the own metrics, of the queries that have a target.

        Raises `DataError` when none has, `SpecError` for an own metric that gives anything but numbers.
        """
        found = query_metrics(answers.ranks, k=self.k, ties=self.ties)
        parts = [found, self._of_lists(answers, found), self._of_tail(answers, found), self._of_own(answers, found)]
        return replace(
            found,
            values={name: value for part in parts for name, value in part.values.items()},
            weights={name: weight for part in parts for name, weight in part.weights.items()},
            whole={name: value for part in parts for name, value in part.whole.items()},
        )

    def _of_lists(self, answers: Answers, found: QueryMetrics) -> QueryMetrics:
        """Coverage and popularity of the queries in `found`."""
        if answers.lists is None:
            return replace(found, values={}, weights={})
        lists = answers.lists[found.queries]
        covered = beyond.coverage(beyond.first_places(lists, len(answers.counts)), self.k, answers.among)
        popular, lengths = beyond.popularity_of(lists, answers.counts, self.k)
        return replace(found, values=popular, weights=lengths, whole=covered)

    def _of_tail(self, answers: Answers, found: QueryMetrics) -> QueryMetrics:
        """The recall of the tail; queries without a target in it weigh nothing."""
        rare = beyond.tail_recall(answers.ranks, answers.counts, k=self.k, ties=self.ties)
        weight = np.isin(found.queries, rare.queries).astype(np.int64)
        values = {name: np.zeros(len(weight)) for name in rare.values}
        for name, recall in rare.values.items():
            values[name][weight > 0] = recall
        return replace(found, values=values, weights=dict.fromkeys(values, weight))

    def _of_own(self, answers: Answers, found: QueryMetrics) -> QueryMetrics:
        """What the own metrics make of the queries that have a target."""
        asked = answers.ranks.only(np.ones(len(answers.ranks.targets), np.bool_))
        numbers = {function.__name__: _number(function, asked) for function in self.own}
        whole = {name: number for name, number in numbers.items() if isinstance(number, float)}
        values = {name: number for name, number in numbers.items() if not isinstance(number, float)}
        return replace(found, values=values, weights={}, whole=whole)


def beyond_names(k: Sequence[int] = DEFAULT_K) -> list[str]:
    """Names of the numbers beyond accuracy at those k."""
    return [f"{family}@{cut}" for family in ("coverage", "popularity", "tail_recall") for cut in cuts(k)]


def _check_own(own: Any, taken: list[str]) -> None:
    if callable(own) or not isinstance(own, Sequence) or isinstance(own, str):
        raise SpecError(f"metrics: expected a list of functions of ranks, got {own!r}; put it in a list")
    for place, function in enumerate(own):
        if not callable(function):
            raise SpecError(f"metrics[{place}]: expected a function of ranks, got {function!r}")
        name = getattr(function, "__name__", "<lambda>")
        if name == "<lambda>":
            raise SpecError(
                f"metrics[{place}]: a metric is named by its function, and {function!r} has no name; use def"
            )
        if name in taken:
            raise SpecError(f"metrics[{place}]: {name!r} is the name of another metric; rename the function")
        taken = [*taken, name]


def _number(function: Any, ranks: Ranks) -> float | NDArray[np.float64]:
    """What an own metric gives: a number for all queries, or (Q,)."""
    name, size = function.__name__, len(ranks.lengths)
    given = function(ranks)
    try:
        found = np.asarray(given)
    except ValueError:
        found = np.asarray(None)
    if found.dtype.kind not in "biuf":
        raise SpecError(f"metrics: {name} gave {given!r:.60}; return a number, or one per query")
    if found.shape not in ((), (size,)):
        raise SpecError(f"metrics: {name} gave shape {found.shape}; return a number, or one for each of {size} queries")
    if not np.isfinite(found).all():
        raise SpecError(f"metrics: {name} gave NaN or infinity; return a finite number")
    return found.astype(np.float64) if found.shape else float(found)
