"""What is compared when only a data set is named."""

from __future__ import annotations

from collections.abc import Mapping

from recs_core.contract.feature_kinds import Categorical
from recs_core.contract.optimizers import Adam
from recs_core.contract.retrieval import RetrievalSpec
from recs_core.contract.towers import TowerSpec
from recs_core.contract.training import TrainingSpec
from recs_core.experiment import ModelSpec

REPORT = ModelSpec(
    recipe=None,
    query=TowerSpec([Categorical("user_id", dim=32)], layers=[16], activation=None),
    candidate=TowerSpec([Categorical("movie_id", dim=32)], layers=[16], activation=None),
    retrieval=RetrievalSpec(
        scoring="dot",
        temperature=1.0,
        candidate_bias=False,
        logq=False,
        remove_accidental_hits=False,
        reduction="sum",
    ),
    optimizer=Adam(0.01, dense=True),
    training=TrainingSpec(epochs=10, batch_size=16),
)
"""The model of the published report, as TFRS means it, but for the ReLU at the end: rounding can switch a ReLU on or
off, so that a ReLU tower in float32 is held to its metrics alone, and this one to every step and list (docs/report.md).
"""

MODELS: Mapping[str, ModelSpec] = {"report": REPORT}
"""Data set → the model that goes with it; any other gets a recipe."""
