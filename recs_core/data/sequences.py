"""Batches by sequence: what they need of a data set, the windows that long histories are cut into, dropout's masks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recs_core.contract.batch import Codes, Ragged, Sequences, numbers_of, offsets_of
from recs_core.contract.encoders import EncoderPlan
from recs_core.contract.errors import DataError, SpecError
from recs_core.contract.protocols import BatchPlan
from recs_core.data.encoded import EncodedDataset

LEVELS = 1 << 16
"""Dropout's shares are rounded to so many parts: 16 bits are drawn per number."""


def check_sequences(data: EncodedDataset, plan: BatchPlan) -> None:
    """Raise `SpecError` where the plan's way of cutting batches and the query tower's encoder do not go together,
    `DataError` where the rows have no order, or a candidate has no row in the history's table."""
    past = [feature for feature in data.query_tower.features if feature.reads_past]
    encoded = [feature for feature in past if feature.column("query").encoder is not None]
    if plan.batch_by == "query" and encoded:
        raise SpecError(
            f"batch_by='query' draws a query's history without its order, but {encoded[0].where} has an encoder, which "
            "reads it; train with batch_by='sequence'"
        )
    if plan.batch_by != "sequence":
        return
    if not encoded or len(past) > 1:
        found = ", ".join(feature.where for feature in past) or "none"
        raise SpecError(
            "batch_by='sequence' needs one feature that reads the past, with an encoder: History(…, max_length=200, "
            f"encoder=recs.SelfAttention()); the query tower has {found}. A module of your own reads one history per "
            "query: batch_by='interaction'"
        )
    if data.timestamps is None:
        raise DataError(
            "batch_by='sequence' needs a timestamp column, which says what came first; name it in "
            "Interactions.from_table(timestamp=…)"
        )
    table = encoded[0].table_name
    assert table is not None
    missing = np.flatnonzero(data.schema.candidate_rows(table)[data.candidate_codes] < 0)
    if len(missing):
        candidate = data.schema.candidates.ids[int(data.candidate_codes[missing[0]])].as_py()
        raise DataError(
            f"batch_by='sequence': {candidate!r} of a row has no row in {table!r}, which an earlier fit made, so its "
            "place cannot be read; model.extend(train) gives it one, or leave such rows out"
        )


def length_of(data: EncodedDataset) -> int:
    """The most codes that the encoder of the query tower reads."""
    return next(
        column.encoder.length
        for column in (feature.column("query") for feature in data.query_tower.features)
        if column.encoder is not None
    )


def windows_of(counts: NDArray[np.int64], length: int) -> Ragged:
    """Row numbers of windows of 2 to `length` + 1 neighbouring rows of one query, of which it has `counts`, queries end
    to end. From a query's newest row backwards; each window's first row is the last of the one before, so that every
    row but a query's first is in one window that does not begin with it. Raises `DataError` if there is none.
    """
    number = -(-(counts - 1).clip(0) // length)  # windows of each query
    if not number.sum():
        raise DataError("batch_by='sequence' needs queries with two interactions and more; no query has them")
    starts = np.concatenate([[0], np.cumsum(counts)])
    query = np.repeat(np.arange(len(counts)), number)
    behind = np.arange(len(query)) - offsets_of(number)[:-1][query]  # windows of the query that are newer
    last = starts[1:][query] - 1 - behind * length
    first = np.maximum(starts[:-1][query], last - length)
    lengths = last - first + 1
    offsets = offsets_of(lengths)
    rows = np.repeat(first - offsets[:-1], lengths) + np.arange(offsets[-1])
    return Ragged(rows.astype(numbers_of(int(starts[-1]))), offsets)


def with_masks(codes: Codes, encoder: EncoderPlan, random: np.random.Generator) -> Sequences:
    """Histories with the keep masks that their encoder takes in training."""
    assert isinstance(codes, Sequences)
    dropped = round(encoder.spec.dropout * LEVELS)
    keep = {name: _bits(random, (len(codes.values), width)) >= dropped for name, width in encoder.masked.items()}
    return replace(codes, keep=keep)


def _bits(random: np.random.Generator, shape: tuple[int, int]) -> NDArray[Any]:
    """Uniform 16-bit numbers, four per draw: a batch has millions of them."""
    number = shape[0] * shape[1]
    drawn = random.bit_generator.random_raw(-(-number // 4))
    return drawn.astype("<u8", copy=False).view("<u2")[:number].reshape(shape)
