"""What a recipe decides, and the rules that recipes share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from recs_core.specs import Optimizer, RetrievalSpec, TowerSpec, TrainingSpec

FULL_SOFTMAX_UP_TO = 10_000
"""Corpora up to this size train against every candidate: better an epoch, and no slower on 2 cores."""

SAMPLED_NEGATIVES = 4_096


@dataclass(frozen=True)
class Recipe:
    """Specs for `TwoTower`, defaults for `fit`, and the reasons in words."""

    query: TowerSpec
    candidate: TowerSpec
    retrieval: RetrievalSpec
    optimizer: Optimizer
    training: TrainingSpec
    reasons: tuple[str, ...]


def negatives(corpus: int) -> tuple[dict[str, Any], str]:
    """Arguments of `RetrievalSpec` for a step by query, by the size of the corpus."""
    if corpus <= FULL_SOFTMAX_UP_TO:
        return {"negatives": "corpus"}, f"a corpus of {corpus:,} ≤ {FULL_SOFTMAX_UP_TO:,}: softmax over all of it"
    chosen = {"negatives": "uniform", "num_negatives": SAMPLED_NEGATIVES, "mask_positives": True}
    return chosen, f"a corpus of {corpus:,}: {SAMPLED_NEGATIVES:,} uniform negatives a step, known positives masked"
