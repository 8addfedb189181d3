"""Recipe `history`: a query is the mean of its past candidates, or the latest of them, in the candidates' own table.

Suits shops and media where queries have few rows, tastes drift, and new queries come daily: a query nobody has seen is
answered from its history. Costs no memory per query.

Long histories say what a query likes: a random half of its candidates predicts the other half. Short ones, of which
times are known, say what it is after now: the latest few candidates predict the next one.
"""

from __future__ import annotations

from recs_core.contract.feature_kinds import Categorical, History
from recs_core.contract.optimizers import Adam
from recs_core.contract.retrieval import RetrievalSpec
from recs_core.contract.towers import TowerSpec
from recs_core.contract.training import Schedule, TrainingSpec
from recs_core.data.interactions import Interactions
from recs_core.recipes.choice import Recipe, negatives, rows_per_query, temperature_for

DIM = 64
HALF_LIFE_DAYS = 21.0

SHORT_UP_TO = 20
"""Rows per query, on average, up to which histories are short."""
LATEST = 3


def choose(data: Interactions) -> Recipe:
    """Settings for this training data."""
    rows = rows_per_query(data)
    if data.timestamps is None:
        return half_from_half(data, "no timestamps")
    if rows > SHORT_UP_TO:
        return half_from_half(data, f"{rows:.0f} rows per query > {SHORT_UP_TO}")
    return next_from_latest(data, f"{rows:.0f} rows per query ≤ {SHORT_UP_TO}")


def half_from_half(data: Interactions, why: str) -> Recipe:
    """By query: a random half of a query's candidates predicts the other half. `why` goes into the reasons."""
    recency = None if data.timestamps is None else HALF_LIFE_DAYS
    return _recipe(
        data,
        History(data.candidate_name, dim=DIM),
        TrainingSpec(epochs=60, batch_size=256, batch_by="query", recency_days=recency, schedule=Schedule()),
        how=f"batches by query: {why}, so a random half of a query's candidates predicts the other half",
    )


def next_from_latest(data: Interactions, why: str) -> Recipe:
    """By interaction: the latest few candidates, or all earlier ones where histories are long, predict the next."""
    recency = None if data.timestamps is None else HALF_LIFE_DAYS
    latest = LATEST if rows_per_query(data) <= SHORT_UP_TO else None
    return _recipe(
        data,
        History(data.candidate_name, dim=DIM, max_length=latest),
        TrainingSpec(epochs=10, batch_size=512, batch_by="interaction", recency_days=recency, schedule=Schedule()),
        how=f"batches by interaction: {why}, so {f'the latest {latest}' if latest else 'all earlier'} candidates "
        "predict the next",
    )


def _recipe(data: Interactions, history: History, training: TrainingSpec, *, how: str) -> Recipe:
    against, why = negatives(data)
    temperature, why_this = temperature_for(data, training.batch_by)
    half_life = training.recency_days
    return Recipe(
        query=TowerSpec([history]),
        candidate=TowerSpec([Categorical(data.candidate_name, dim=DIM)]),
        retrieval=RetrievalSpec(scoring="cosine", temperature=temperature, candidate_bias=True, **against),
        optimizer=Adam(1e-2),
        training=training,
        reasons=(
            how,
            why,
            why_this,
            "Adam at 0.01, warmed up and let fade: seeds differ less than at a constant rate",
            f"rows weigh half as much every {half_life:g} days" if half_life else "no timestamps, so no recency weight",
        ),
    )
