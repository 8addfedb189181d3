"""Why a score is what it is: the parts that it is a sum of, where it is one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from recs_core.asked import Asked, Unknown
from recs_core.contract.batch import Features, flat
from recs_core.contract.errors import DataError, UnsupportedFeature, about
from recs_core.contract.features import Column
from recs_core.contract.plans import TowerPlan
from recs_core.contract.retrieval import RetrievalSpec
from recs_core.contract.task import COSINE_EPSILON
from recs_core.contract.weights import Weights
from recs_core.data.schema import Schema

if TYPE_CHECKING:
    from recs_core.recommender import Recommender

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Explanation:
    """A score and its parts, (name, value) in the order of the query tower: one for each feature, for each id of a
    feature with several, and the candidate's bias. `score` is their sum, in float64. `unknown_query`: whether training
    never saw the query, or nothing is known of it. `answered_by`: "model", or "oov" where nothing is known of it."""

    score: float
    parts: tuple[tuple[str, float], ...]
    unknown_query: bool
    answered_by: Literal["model", "oov"]

    def __str__(self) -> str:
        largest_first = sorted(self.parts, key=lambda part: -abs(part[1]))
        return "\n".join(f"{value:+10.4f}  {name}" for name, value in [("score", self.score), *largest_first])


def explained(
    model: Recommender,
    query: Any,
    candidate: Any,
    history: Any,
    features: Any,
    context: Any,
    at: Any,
    unknown: Unknown,
) -> Explanation:
    """`Recommender.explain`, from weights alone."""
    plan = _additive(model.query_tower.plan)
    asks = None if query is None else [query], None if history is None else [history], features, context, at
    with about("query", instead_of="queries"):
        question = model.asked(*asks)
    if len(question) != 1:
        raise DataError(f"explain: features has {len(question)} rows; explain one query at a time", "features")
    _check_unknown(question, unknown)
    with about("candidate"):
        vector = model.encode_candidate([candidate])[0].astype(np.float64)
    read = question.features(model.query, model.catalog)
    parts = _parts(plan, model.retrieval, model.schema, model.weights(), read, vector)
    by: Literal["model", "oov"] = "oov" if len(question.strangers) else "model"
    return Explanation(math.fsum(value for _, value in parts), parts, bool(question.unknown[0]), by)


def _check_unknown(question: Asked, unknown: Unknown) -> None:
    """As `recommend` answers one of whom nothing is known; popularity is no sum of parts."""
    with about("query", instead_of="queries"):
        question.check_unknown(unknown, stacklevel=4)
    if unknown == "popular" and len(question.strangers):
        raise UnsupportedFeature(
            "explain: nothing is known of this query, which popularity answers: its score is a count of rows and no "
            "sum of parts; pass unknown='oov' for those of OOV rows"
        )


def _additive(plan: TowerPlan | None) -> TowerPlan:
    """The query tower's plan. Raises `UnsupportedFeature` where a score is no sum over its features."""
    if plan is None:
        raise UnsupportedFeature("explain: the query tower is a module of your own, whose scores have no known parts")
    if plan.layers:
        raise UnsupportedFeature(
            f"explain: the query tower has {len(plan.layers)} dense layer{'s' * (len(plan.layers) > 1)}, which mix its "
            "features, so that a score is no sum of parts; a query tower with layers=[] has them"
        )
    for column in plan.columns:
        if column.encoder is not None:
            raise UnsupportedFeature(
                f"explain: {column.name!r} is read in order by an encoder, which mixes its candidates, so that a score "
                "is no sum of parts; a history without encoder has them"
            )
    return plan


def _parts(
    plan: TowerPlan, spec: RetrievalSpec, schema: Schema, weights: Weights, features: Features, candidate: Array
) -> tuple[tuple[str, float], ...]:
    """Of one query's `features`, and a candidate's retrieval vector, (d,) or (d + 1,)."""
    products: list[tuple[str, float]] = []
    square, start = 0.0, 0
    for column in plan.columns:
        own, start = candidate[start : start + column.width], start + column.width
        vectors = _vectors(column, schema, weights, features)
        products += [(name, float(vector @ own)) for name, vector in vectors]
        whole = np.sum([vector for _, vector in vectors], axis=0)
        square += float(np.dot(whole, whole))
    scale = 1 / math.sqrt(square + COSINE_EPSILON) if spec.scoring == "cosine" else 1.0
    parts = [(name, scale * product) for name, product in products]
    if spec.candidate_bias:
        parts.append(("bias", float(candidate[-1])))
    return tuple(parts)


def _vectors(column: Column, schema: Schema, weights: Weights, features: Features) -> list[tuple[str, Array]]:
    """What the column's part of the query vector is a sum of, (width,) each, by name."""
    if column.table is None:
        numbers = features.dense[column.name][0].astype(np.float64)
        return [(column.name, numbers if column.kernel is None else numbers @ weights[column.kernel])]
    table, codes = weights[column.table], features.codes[column.name]
    if isinstance(codes, np.ndarray):
        return [(column.name, table[codes[0]].astype(np.float64))]
    rows, counts = np.unique(flat(codes), return_counts=True)
    share = counts / len(flat(codes)) if column.mean else counts
    names = [f"{column.name} {_said(int(row), column.table, schema)}" for row in rows]
    return list(zip(names, share[:, None] * table[rows].astype(np.float64), strict=True))


def _said(row: int, table: str, schema: Schema) -> str:
    """The id that a row of a table stands for."""
    if table not in schema.vocabularies:
        return f"bucket {row}"
    first = schema.first_row(table)
    return str(schema.vocabularies[table].ids[row - first].as_py()) if row >= first else "unknown"
