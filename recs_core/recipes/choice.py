"""What a recipe decides, and the rules that recipes share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from recs_core.contract.features import History
from recs_core.contract.optimizers import Adam, Optimizer
from recs_core.contract.retrieval import RetrievalSpec
from recs_core.contract.towers import TowerSpec
from recs_core.contract.training import TrainingSpec
from recs_core.data.interactions import Interactions

FULL_SOFTMAX_UP_TO = 10_000
"""Corpora up to this size train against every candidate: better an epoch, and no slower on 2 cores."""

SAMPLED_NEGATIVES = 4_096

DENSE_ADAM_UP_TO = 200_000
"""Ids, queries and candidates together, up to which Adam moves every row at every step: a row that batches touch now
and then goes on by its momentum, which recommends better (docs/quality.md) and costs little on tables of this size."""

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


def negatives(corpus: int) -> tuple[dict[str, Any], str]:
    """Arguments of `RetrievalSpec`, by the size of the corpus."""
    if corpus <= FULL_SOFTMAX_UP_TO:
        return {"negatives": "corpus"}, f"a corpus of {corpus:,} ≤ {FULL_SOFTMAX_UP_TO:,}: softmax over all of it"
    chosen = {"negatives": "uniform", "num_negatives": SAMPLED_NEGATIVES, "mask_positives": True}
    return chosen, f"a corpus of {corpus:,}: {SAMPLED_NEGATIVES:,} uniform negatives a step, known positives masked"


def adam(data: Interactions, learning_rate: float) -> tuple[Adam, str]:
    """Adam for a vector a query and a vector a candidate, by how many there are."""
    ids = len(data.query_ids) + len(data.candidate_ids)
    if ids <= DENSE_ADAM_UP_TO:
        return Adam(learning_rate, dense=True), f"{ids:,} ids ≤ {DENSE_ADAM_UP_TO:,}: dense Adam"
    return Adam(learning_rate * LAZY_RATE), f"{ids:,} ids: lazy Adam, {LAZY_RATE:g} times as fast"


def rows_a_query(data: Interactions) -> float:
    """Training rows of a query that has any, on average."""
    return len(data) / max(1, int((data.query_counts() > 0).sum()))
