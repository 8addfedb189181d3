"""Recipe `history`: a query is the mean of its past candidates, in the candidates' own table.

Suits shops and media where queries have few rows, tastes drift, and new queries come daily: a query nobody has seen is
answered from its history. Costs no memory a query.
"""

from __future__ import annotations

from recs_core.data.interactions import Interactions
from recs_core.recipes.choice import Recipe, negatives
from recs_core.specs import Adam, Categorical, History, RetrievalSpec, Schedule, TowerSpec, TrainingSpec

DIM = 64
HALF_LIFE_DAYS = 21.0


def choose(data: Interactions) -> Recipe:
    """Settings for this training data."""
    corpus = int((data.candidate_counts() > 0).sum())
    against, why = negatives(corpus)
    recency = HALF_LIFE_DAYS if data.timestamps is not None else None
    return Recipe(
        query=TowerSpec([History(data.candidate_name, dim=DIM, share="candidate")]),
        candidate=TowerSpec([Categorical(data.candidate_name, dim=DIM)]),
        retrieval=RetrievalSpec(scoring="cosine", temperature=0.25, candidate_bias=True, **against),
        optimizer=Adam(1e-2),
        training=TrainingSpec(epochs=60, batch_size=256, step="query", recency_days=recency, schedule=Schedule()),
        reasons=(
            "step by query: a random half of a query's candidates predicts the other half",
            why,
            "temperature 0.25: a mean of several vectors is short of extremes",
            "Adam at 0.01, warmed up and let fade: seeds differ less than at a constant rate",
            f"rows weigh half as much every {HALF_LIFE_DAYS:g} days"
            if recency
            else "no timestamps, so no recency weight",
        ),
    )
