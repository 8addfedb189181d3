"""Recipe `sequence`: a query is its past candidates in order, through self-attention over the candidates' own table.

Suits what is watched, heard or played one after another, where the next depends on the order of those before it. Every
place of a history predicts the next candidate. A query nobody has seen is answered from its history. It trains some ten
times as long as `history`.
"""

from __future__ import annotations

import numpy as np

from recs_core.contract.encoders import SelfAttention
from recs_core.contract.errors import DataError
from recs_core.contract.feature_kinds import Categorical, History
from recs_core.contract.optimizers import Adam
from recs_core.contract.retrieval import RetrievalSpec
from recs_core.contract.towers import TowerSpec
from recs_core.contract.training import Schedule, TrainingSpec
from recs_core.data.interactions import Interactions
from recs_core.recipes.choice import Recipe, negatives

DIM = 64
SHORT_UP_TO = 20
"""Rows of the median query up to which histories are short: one layer and fewer places will do, and a longer training
with more dropout finds more."""
TEMPERATURE = 0.07


def choose(data: Interactions) -> Recipe:
    """Settings for this training data. Raises `DataError` where no time says what came first."""
    if data.timestamps is None:
        raise DataError(
            "recipe 'sequence' reads candidates in their order: name the time in Interactions.from_table(timestamp=…)"
        )
    counts = data.query_counts()
    median = float(np.median(counts[counts > 0]))
    short = median <= SHORT_UP_TO
    layers, length, dropout, histories, epochs = (1, 50, 0.35, 512, 60) if short else (2, 200, 0.2, 128, 40)
    against, why = negatives(data)
    encoder = SelfAttention(layers=layers, heads=2, dropout=dropout)
    sign = "≤" if short else ">"
    return Recipe(
        query=TowerSpec([History(data.candidate_name, dim=DIM, max_length=length, encoder=encoder)]),
        candidate=TowerSpec([Categorical(data.candidate_name, dim=DIM)]),
        retrieval=RetrievalSpec(
            scoring="cosine",
            temperature=TEMPERATURE,
            candidate_bias=True,
            **{**against, "mask_positives": True},
        ),
        optimizer=Adam(2e-3, beta_2=0.98, dense=True),
        training=TrainingSpec(epochs=epochs, batch_size=histories, batch_by="sequence", schedule=Schedule()),
        reasons=(
            f"a median of {median:.0f} rows per query {sign} {SHORT_UP_TO}: {encoder.describe()}, dropout {dropout:g}, "
            f"the latest {length}",
            f"batches of {histories} sequences, every place of which predicts the next candidate",
            why,
            f"temperature {TEMPERATURE:g} and Adam at 0.002 with β₂ = 0.98, warmed up and let fade, as published for "
            "self-attention; all places weigh alike",
        ),
    )
