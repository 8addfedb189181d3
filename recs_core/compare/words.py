"""What a run means, in words."""

from __future__ import annotations

from collections.abc import Sequence

from recs_core.compare.agreement import Pair
from recs_core.contract.optimizers import Optimizer
from recs_core.contract.retrieval import RetrievalSpec
from recs_core.contract.towers import TowerSpec
from recs_core.contract.training import TrainingSpec


def tower(spec: TowerSpec) -> str:
    """As in "embedding of user_id, 32 → dense 16"."""
    parts = [" + ".join(feature.describe() for feature in spec.features)]
    for i, units in enumerate(spec.layers):
        activation = spec.final_activation if i == len(spec.layers) - 1 else spec.activation
        parts.append(f"dense {units}{f' {activation}' if activation else ''}")
    return " → ".join(parts)


def loss(retrieval: RetrievalSpec, training: TrainingSpec) -> str:
    """Which probability is maximised, against what, and how rows are put together."""
    against = {
        "in-batch": "the candidates of the batch",
        "uniform": f"{retrieval.num_negatives} candidates drawn uniformly",
        "mixed": f"the candidates of the batch and {retrieval.num_negatives} drawn uniformly",
        "corpus": "the whole corpus",
    }[retrieval.negatives]
    score = retrieval.scoring + (f" ÷ {retrieval.temperature:g}" if retrieval.temperature != 1 else "")
    if retrieval.learn_temperature:
        score += ", learned"
    if retrieval.candidate_bias:
        score += " + bias"
    extras = []
    if retrieval.logq and retrieval.negatives in ("in-batch", "mixed"):
        extras.append("logQ-corrected")
    if retrieval.masks_hits:
        extras.append("accidental hits masked")
    rows = "sum" if retrieval.reduction == "sum" else "weighted mean"
    unit = {"interaction": "rows", "query": "queries with all their targets"}[training.batch_by]
    detail = f"; {', '.join(extras)}" if extras else ""
    over = f"{rows} over targets of {training.batch_size} {unit}"
    return f"softmax cross-entropy of {score} against {against}, {over}{detail}"


def optimizer(spec: Optimizer) -> str:
    """Its name and rate."""
    dense = ", all rows" if spec.moves_all_rows else ""
    return f"{type(spec).__name__}({spec.learning_rate:g}{dense})"


def recommendation(retrieval: RetrievalSpec, excludes: bool) -> str:
    """How lists are made."""
    seen = "training candidates excluded" if excludes else "nothing excluded"
    return f"exact inner products with the whole corpus in float32, the core's index; {seen}"


def headline(done: Sequence[str], failed: Sequence[str], apart: Sequence[Pair], tier: str) -> str:
    """The one sentence at the top."""
    done = [name for name in done if name not in failed]
    if not done:
        return f"No backend finished: {listed(failed)} failed"
    without = f"; {listed(failed)} failed" if failed else ""
    if apart:
        named = ", ".join(f"{pair.first} and {pair.second}" for pair in apart[:2])
        more = f", {len(apart) - 2} more pairs" if len(apart) > 2 else ""
        return f"{named}{more} differ beyond {tier}{without}"
    if len(done) == 1:
        return f"{done[0]} agrees with the oracle ({tier}){without}"
    return f"{listed(done)} agree ({tier}){without}"


def listed(names: Sequence[str]) -> str:
    """As in "a, b and c"."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
