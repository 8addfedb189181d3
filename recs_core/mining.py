"""Hard negatives: what a model ranks high for a query that never took it."""

from __future__ import annotations

import logging
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

log = logging.getLogger("recs_core")

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
    lists = Ragged.from_lengths(best.ravel(), np.full(len(best), best.shape[1]))
    lists = _in_codes_of(train, model, lists.without(lists.values < 0))
    return replace(train, negatives_name=NAME, negatives=lists.take(asks.codes.segments[asks.of_rows]))


def _in_codes_of(train: Interactions, model: Recommender, lists: Ragged) -> Ragged:
    """Lists of a model's candidates in the codes of `train`, less those that it has no code of, which are counted."""
    codes = train.candidate_ids.encode(model.schema.candidates.ids)[lists.values]
    unknown = codes < 0
    if unknown.any():
        log.info(
            "mine_negatives: %d of %d found are no candidates of train, in its rows or its side table: left out",
            unknown.sum(),
            len(codes),
        )
    return Ragged(codes, lists.offsets).without(unknown)
