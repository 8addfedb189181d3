"""Recipe `ids`: a vector per query and a vector per candidate.

Suits data where queries return often and old rows are as good as new ones (ratings, check-ins). Costs one row per query
in memory, and answers new queries by candidate bias alone.
"""

from __future__ import annotations

from recs_core.contract.feature_kinds import Categorical
from recs_core.contract.retrieval import RetrievalSpec
from recs_core.contract.towers import TowerSpec
from recs_core.contract.training import Schedule, TrainingSpec
from recs_core.data.interactions import Interactions
from recs_core.recipes.choice import Recipe, adam, negatives, rows_per_query, temperature_for

DIM = 64


def choose(data: Interactions) -> Recipe:
    """Settings for this training data."""
    against, why = negatives(data)
    optimizer, why_so = adam(data, 5e-3)
    temperature, why_this = temperature_for(data)
    return Recipe(
        query=TowerSpec([Categorical(data.query_name, dim=DIM)]),
        candidate=TowerSpec([Categorical(data.candidate_name, dim=DIM)]),
        retrieval=RetrievalSpec(scoring="cosine", temperature=temperature, candidate_bias=True, **against),
        optimizer=optimizer,
        training=TrainingSpec(epochs=60, batch_size=256, batch_by="query", row_weight=0.5, schedule=Schedule()),
        reasons=(
            f"batches by query: a query meets all its targets at once, {rows_per_query(data):.0f} rows per query here",
            why,
            why_this,
            why_so,
            "row_weight 0.5: a query counts as √n of its n rows",
        ),
    )
