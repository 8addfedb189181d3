"""Recipe `features`: history and ids, beside every side feature of queries and candidates that says something.

Suits catalogs that change: a candidate without a single row has a vector from its features
(`encode_candidate(features=…)`), and a query is answered from its history and what is known of it. Costs a dense layer
a tower.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from recs_core.data.interactions import Interactions
from recs_core.recipes import history
from recs_core.recipes.choice import Recipe
from recs_core.specs import Bag, Categorical, Feature, Numeric, Text, TowerSpec

DIM = 64
SIDE_DIM = 16
WORDS_OF_TEXT = 1.5
"""Words a value, on average, from which on a string column is text and not a name."""
REPEATS = 3
"""Rows a distinct value, on average, that a name must be shared by: one of its own tells nothing of another."""


def choose(data: Interactions) -> Recipe:
    """Settings for this training data: those of `history` by query but for the towers. By interaction is untried."""
    base = history.half_from_half(data, "the one tried with side features")
    query, query_reasons = side_features(data.queries.drop_columns([data.query_name]), data.query_name)
    candidate, candidate_reasons = side_features(
        data.candidates.drop_columns([data.candidate_name]), data.candidate_name
    )
    side_reasons = query_reasons + candidate_reasons or [
        "no column beside the ids: `history` answers the same for less"
    ]
    return Recipe(
        query=TowerSpec([*base.query.features, *query], layers=[DIM]),
        candidate=TowerSpec([*base.candidate.features, *candidate], layers=[DIM]),
        retrieval=base.retrieval,
        optimizer=base.optimizer,
        training=base.training,
        reasons=(*base.reasons, *side_reasons),
    )


def side_features(table: pa.Table, of: str) -> tuple[list[Feature], list[str]]:
    """A feature for each column that can be used, and a line on each: what it became, or why it is left out."""
    features, reasons = [], []
    for name in table.column_names:
        feature, why = _feature(name, table[name])
        reasons.append(f"{of}'s {name}: {why}")
        if feature is not None:
            features.append(feature)
    return features, reasons


def _feature(name: str, column: pa.ChunkedArray) -> tuple[Feature | None, str]:
    kind = column.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return Bag(name, dim=SIDE_DIM), "a list, so a bag"
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        missing = len(column) - pc.sum(pc.is_finite(column)).as_py()
        if missing:
            return None, f"left out, {missing} of {len(column)} numbers are missing; fill them to have it used"
        return Numeric(name), "a number, standardised"
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        return None, f"left out, {kind} is none of text, name, list and number"
    known = column.drop_null()
    distinct = len(known.unique())
    if distinct * REPEATS <= len(known):
        return Categorical(name, dim=SIDE_DIM), f"{distinct} distinct values, so a category"
    words = pc.mean(pc.list_value_length(pc.utf8_split_whitespace(known))).as_py() or 0.0
    if words >= WORDS_OF_TEXT:
        return Text(name, dim=DIM), f"{words:.1f} words a value, so text"
    return None, f"left out, {distinct} distinct values of {len(known)} say nothing of one another"
