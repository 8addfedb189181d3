"""What a recipe decides, and the rules that recipes share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from recs_core.contract.feature_kinds import History
from recs_core.contract.optimizers import Adam, Optimizer
from recs_core.contract.retrieval import RetrievalSpec
from recs_core.contract.towers import TowerSpec
from recs_core.contract.training import BatchBy, TrainingSpec
from recs_core.data.interactions import Interactions
from recs_core.recipes.lift import lift

FULL_SOFTMAX_UP_TO = 10_000
"""Corpora up to this size train against every candidate: better per epoch, and no slower on 2 cores."""

SAMPLED_NEGATIVES = 4_096

DENSE_ADAM_UP_TO = 200_000
"""Ids, queries and candidates together, up to which Adam moves every row at every step: a row that batches touch now
and then goes on by its momentum, which recommends better (docs/quality.md) and costs little on tables of this size."""

TEMPERATURES = (0.05, 0.06, 0.07, 0.085, 0.105, 0.12, 0.14, 0.17, 0.2, 0.25, 0.3, 0.36, 0.42, 0.5)
"""The steps of the rule. Half a step away costs about as much as another seed."""

ROWS_UP_TO = 200
"""Rows per query, on average, from which on the temperature falls no further: 132 were the most tried."""

NEXT = 1.4
"""What batches by interaction multiply the temperature by: one candidate predicted from few leaves more to chance."""

LAZY_RATE = 3.0
"""What a lazy row, which moves only when touched, learns faster by."""


@dataclass(frozen=True)
class Recipe:
    """Specs for `TwoTower`, defaults for `fit`, and the reasons in words."""

    query: TowerSpec
    candidate: TowerSpec
    retrieval: RetrievalSpec
    optimizer: Optimizer
    training: TrainingSpec
    reasons: tuple[str, ...]

    @property
    def history(self) -> History | None:
        """The query's history, if it has one."""
        return next((feature for feature in self.query.features if isinstance(feature, History)), None)


def negatives(data: Interactions) -> tuple[dict[str, Any], str]:
    """Arguments of `RetrievalSpec`, by the size of the corpus and by whether rows say what they were shown."""
    corpus = int((data.candidate_counts() > 0).sum())
    chosen: dict[str, Any]
    if data.negatives is not None:
        number = min(SAMPLED_NEGATIVES, corpus)
        chosen = {"negatives": "uniform", "num_negatives": number, "mask_positives": True}
        return chosen, f"rows say what they were shown: those, and {number:,} uniform negatives per step"
    if corpus <= FULL_SOFTMAX_UP_TO:
        return {"negatives": "corpus"}, f"a corpus of {corpus:,} ≤ {FULL_SOFTMAX_UP_TO:,}: softmax over all of it"
    chosen = {"negatives": "uniform", "num_negatives": SAMPLED_NEGATIVES, "mask_positives": True}
    return chosen, f"a corpus of {corpus:,}: {SAMPLED_NEGATIVES:,} uniform negatives per step, known positives masked"


def temperature(rows_per_query: float, shared: float, step: BatchBy = "query") -> float:
    """The temperature for so many training rows per query, and queries that share so much (`recs_core.recipes.lift`).

    1.33 ÷ (rows per query^0.4 × lift^0.8), times `NEXT` for batches by interaction, at the nearest of
    `TEMPERATURES`. More rows per query say more of each, and a high lift says that few candidates suit a query: both
    allow sharper scores. Beside these two the size of the corpus explains nothing more, and without the lift nothing
    explains why two corpora of 3,000 differ. A lift below 1 counts as 1, and more rows than
    were ever measured as `ROWS_UP_TO`.

    Fitted to the best temperatures that `benchmarks/quality/temperature.py` finds on validation; docs/recipes.md has
    the table, `python benchmarks/quality/temperature.py table` makes it.
    """
    rows = min(max(rows_per_query, 1.0), ROWS_UP_TO)
    wanted = 1.33 / (rows**0.4 * max(shared, 1.0) ** 0.8)
    wanted *= NEXT if step == "interaction" else 1.0
    return min(TEMPERATURES, key=lambda tried: abs(math.log(tried / wanted)))


def temperature_for(data: Interactions, step: BatchBy = "query") -> tuple[float, str]:
    """The temperature for this training data, and why."""
    rows, shared = rows_per_query(data), lift(data)
    chosen = temperature(rows, shared, step)
    return chosen, f"temperature {chosen:g}: {rows:.0f} rows per query, a lift of {shared:.1f}"


def adam(data: Interactions, learning_rate: float) -> tuple[Adam, str]:
    """Adam for a vector per query and a vector per candidate, by how many there are."""
    ids = len(data.query_ids) + len(data.candidate_ids)
    if ids <= DENSE_ADAM_UP_TO:
        return Adam(learning_rate, dense=True), f"{ids:,} ids ≤ {DENSE_ADAM_UP_TO:,}: dense Adam"
    return Adam(learning_rate * LAZY_RATE), f"{ids:,} ids: lazy Adam, {LAZY_RATE:g} times as fast"


def rows_per_query(data: Interactions) -> float:
    """Training rows per query that has any, on average."""
    return len(data) / max(1, int((data.query_counts() > 0).sum()))
