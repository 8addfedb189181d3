"""Hard negatives: what a model ranks high for a query that never took it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa

from recs_core.contract.batch import Ragged
from recs_core.contract.errors import DataError, SpecError
from recs_core.contract.validation import is_whole
from recs_core.data.context import columns_of
from recs_core.data.interactions import Interactions
from recs_core.evaluation.targets import targets_of
from recs_core.index.exact import ExactIndex
from recs_core.recommender import Recommender
from recs_core.training import arguments

NAME = "mined"
"""The column that the lists are."""


def mined(model: Recommender, train: Interactions, k: int, skip: int) -> Interactions:
    """See `TwoTower.mine_negatives`."""
    arguments.check_rows(train, None, "mine_negatives")
    if NAME in train.extra.column_names:
        raise DataError(f"mine_negatives: train has a column {NAME!r}, which the lists would hide; rename it")
    corpus = len(model.schema.candidates)
    for name, value, least in (("k", k, 1), ("skip", skip, 0)):
        if not is_whole(value, least):
            raise SpecError(f"mine_negatives: {name} is a whole number ≥ {least}, got {value!r}")
    if skip >= corpus:
        raise SpecError(f"mine_negatives: skip={skip} leaves nothing of a corpus of {corpus:,}; lower it")
    asks = targets_of(model.schema, train, exclude=train)
    context, at = columns_of(train, model.schema).take(pa.array(asks.rows)), None
    if model.schema.time_name is not None:
        at, context = context[model.schema.time_name], context.drop_columns([model.schema.time_name])
    given = context if context.num_columns else None
    queries = model.encode_query(asks.queries, context=given, at=at)
    index = ExactIndex()
    index.build(model.encode_candidate().astype(np.float32, copy=False))
    found = index.search(queries.astype(np.float32, copy=False), min(skip + k, corpus), exclude=asks.excluded)
    best = found.ids[:, skip:]
    codes = train.candidate_ids.encode(model.schema.candidates.ids)[np.maximum(best, 0)]
    lists = Ragged.from_lengths(codes.ravel(), np.full(len(best), best.shape[1]))
    lists = lists.without((best.ravel() < 0) | (codes.ravel() < 0))
    return replace(train, negatives_name=NAME, negatives=lists.take(asks.codes.segments[asks.of_rows]))
