"""Recipe `ids`: a vector a query and a vector a candidate.

Suits data where queries return often and old rows are as good as new ones (ratings, check-ins). Costs one row a query
in memory, and answers new queries by candidate bias alone.
"""

from __future__ import annotations

from recs_core.contract.features import Categorical
from recs_core.contract.retrieval import RetrievalSpec
from recs_core.contract.towers import TowerSpec
from recs_core.contract.training import Schedule, TrainingSpec
from recs_core.data.interactions import Interactions
from recs_core.recipes.choice import FULL_SOFTMAX_UP_TO, Recipe, adam, negatives, rows_a_query

DIM = 64


def choose(data: Interactions) -> Recipe:
    """Settings for this training data."""
    corpus = int((data.candidate_counts() > 0).sum())
    against, why = negatives(corpus)
    optimizer, why_so = adam(data, 5e-3)
    temperature = 0.2 if corpus <= FULL_SOFTMAX_UP_TO else 0.105
    return Recipe(
        query=TowerSpec([Categorical(data.query_name, dim=DIM)]),
        candidate=TowerSpec([Categorical(data.candidate_name, dim=DIM)]),
        retrieval=RetrievalSpec(scoring="cosine", temperature=temperature, candidate_bias=True, **against),
        optimizer=optimizer,
        training=TrainingSpec(epochs=60, batch_size=256, batch_by="query", row_weight=0.5, schedule=Schedule()),
        reasons=(
            f"step by query: a query meets all its targets at once, {rows_a_query(data):.0f} rows a query here",
            why,
            f"temperature {temperature}: what selects best on corpora of this size",
            why_so,
            "row_weight 0.5: a query counts as √n of its n rows",
        ),
    )
