"""Recipe `features`: history and ids, beside every side feature of queries and candidates that says something.

Suits catalogs that change: a candidate without a single row has a vector from its features
(`encode_candidate(features=…)`), and a query is answered from its history and what is known of it. Costs a dense layer
per tower.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recs_core.contract.columns import as_numbers, as_values, is_text, nature
from recs_core.contract.errors import DataError
from recs_core.contract.feature_kinds import Bag, Categorical, Clock, Numeric, Text, Vector
from recs_core.contract.features import Feature
from recs_core.contract.messages import some
from recs_core.contract.plain import one_chunk
from recs_core.contract.text_columns import thousands
from recs_core.contract.towers import TowerSpec
from recs_core.data.interactions import Interactions
from recs_core.data.schema import refuse_told_twice
from recs_core.recipes import history
from recs_core.recipes.choice import Recipe

DIM = 64
SIDE_DIM = 16
WORDS_OF_TEXT = 1.5
"""Words a value, on average, from which on a string column is text and not a name."""
REPEATS = 3
"""Rows a distinct value, on average, that a name must be shared by: one of its own tells nothing of another."""

BLOCK = 1 << 12
"""Vectors looked at together: in float64 all of them may take more memory than there is."""


def choose(data: Interactions, context: Sequence[str] = ()) -> Recipe:
    """Settings for this training data: those of `history` but for the towers, by query, or by interaction where there
    is `context`, columns of the rows that are known when a query is asked.

    Raises `DataError` for one that is not there, that stands in the queries' table too, or that cannot be read.
    """
    if context:
        base = history.next_from_latest(data, "context is of an interaction")
    else:
        base = history.half_from_half(data, "the one tried with side features")
    queries = data.queries.drop_columns([data.query_name])
    candidates = data.candidates.drop_columns([data.candidate_name])
    ids = [data.query_name, data.candidate_name]
    query, query_reasons = side_features(
        queries,
        data.query_name,
        elsewhere=[*candidates.column_names, *ids],
        taken=[feature.name for feature in base.query.features],
    )
    candidate, candidate_reasons = side_features(
        candidates,
        data.candidate_name,
        elsewhere=[*queries.column_names, *ids],
        taken=[feature.name for feature in base.candidate.features],
    )
    asked, asked_reasons = _of_requests(data, context)
    side_reasons = query_reasons + candidate_reasons + asked_reasons or [
        "no column beside the ids: `history` answers the same for less"
    ]
    side_reasons += [*_worded_ids(data.queries, data.query_name), *_worded_ids(data.candidates, data.candidate_name)]
    return Recipe(
        query=TowerSpec([*base.query.features, *query, *asked], layers=[DIM]),
        candidate=TowerSpec([*base.candidate.features, *candidate], layers=[DIM]),
        retrieval=base.retrieval,
        optimizer=base.optimizer,
        training=base.training,
        reasons=(*base.reasons, *side_reasons),
    )


def _of_requests(data: Interactions, context: Sequence[str]) -> tuple[list[Feature], list[str]]:
    """A feature for each column of the rows that is context, and a line on each."""
    times = [] if data.timestamp_name is None else [data.timestamp_name]
    for name in context:
        if name not in (*times, *data.extra.column_names):
            have = some([*times, *data.extra.column_names], 20)
            raise DataError(f"context: the interactions have no column {name!r} beside their ids; they have {have}")
        refuse_told_twice("context", name, data)
    named = [name for name in dict.fromkeys(context) if name not in times]
    features, reasons = [], []
    for name, feature, why in _looked_at(data.extra.select(named), "the request", data.candidates.column_names):
        if feature is None:
            raise DataError(f"context: {name!r} cannot be read: {why.removeprefix('left out, ')}")
        features.append(feature)
        reasons.append(f"the request's {name}: {why}")
    for name in set(times).intersection(context):
        features.append(Clock(name))
        reasons.append(f"the request's {name}: its hour, weekday and age")
    return features, reasons


def side_features(
    table: pa.Table, of: str, *, elsewhere: Sequence[str] = (), taken: Sequence[str] = ()
) -> tuple[list[Feature], list[str]]:
    """A feature for each column that can be used, and a line on each: what it became, or why it is left out.

    `of`: the id column of the table. `elsewhere`: columns of other tables; one of the same name is another thing, so
    its feature gets a table of its own. `taken`: names that the tower's other features have.
    """
    found = list(_looked_at(table, of, elsewhere, taken))
    return [feature for _, feature, _ in found if feature is not None], [
        f"{of}'s {name}: {why}" for name, _, why in found
    ]


def _looked_at(
    table: pa.Table, of: str, elsewhere: Sequence[str] = (), taken: Sequence[str] = ()
) -> Iterator[tuple[str, Feature | None, str]]:
    """Each column's name, its feature, None where it is left out, and why. Arguments as of `side_features`."""
    names = {*table.column_names, *elsewhere}
    for name in table.column_names:
        own = _unused(f"{of}.{name}", names) if name in elsewhere else None
        yield name, *_feature(name, table[name], own, taken)


def _feature(name: str, column: pa.ChunkedArray, table: str | None, taken: Sequence[str]) -> tuple[Feature | None, str]:
    if name in taken:
        return None, f"left out, the tower reads another column {name!r}: rename this one to have it used"
    if not name or "/" in name:
        return None, "left out, a feature's name must not be empty or hold '/': rename the column to have it used"
    known = column.drop_null()
    if not len(known):
        return None, "left out, it has no value at all"
    seen = nature(column)
    if "ids" in seen.uses:
        return Bag(name, dim=SIDE_DIM, table=table), f"{seen.what}, so a bag"
    if "number" in seen.uses and not pa.types.is_boolean(column.type):
        missing = int(np.sum(~np.isfinite(as_numbers(column, name))))
        if missing:
            return None, f"left out, {missing} of {len(column)} numbers are missing; fill them to have it used"
        return Numeric(name), "a number, standardised"
    if "vector" in seen.uses:
        return _vector(name, known, seen.what)
    if pa.types.is_date(column.type) or pa.types.is_timestamp(column.type):
        return Clock(name, parts=("age_days",)), "a time, so its age"
    if "id" not in seen.uses:
        return None, f"left out, {seen.what}"
    if is_text(known.type) and (why := thousands(known)):
        return None, f"left out, {seen.what}{why}"
    return _named(name, as_values(known, name), table)


def _vector(name: str, known: pa.ChunkedArray, what: str) -> tuple[Feature | None, str]:
    lengths = pc.list_value_length(known).unique().to_pylist()
    if len(lengths) > 1:
        return None, f"left out, {what} of {some(lengths, 3)} numbers: make all of one length to have it used"
    blocks = (known.slice(start, BLOCK) for start in range(0, len(known), BLOCK))
    if not all(np.isfinite(as_numbers(pc.list_flatten(block), name)).all() for block in blocks):
        return None, f"left out, {what} that hold numbers which are missing; fill them to have it used"
    return Vector(name, dim=DIM, normalise=True), f"{what} of {lengths[0]} numbers, normalised and mapped to {DIM}"


def _named(name: str, known: pa.Array, table: str | None) -> tuple[Feature | None, str]:
    """Strings, or integers that count nothing: a category if values repeat, text if they are of several words."""
    distinct = len(known.unique())
    if distinct * REPEATS <= len(known):
        return Categorical(name, dim=SIDE_DIM, table=table), f"{distinct} distinct values, so a category"
    if is_text(known.type):
        words = _words(known)
        if words >= WORDS_OF_TEXT:
            return Text(name, dim=DIM, table=table), f"{words:.1f} words a value, so text"
    return None, f"left out, {distinct} distinct values of {len(known)} say nothing of one another"


def _words(strings: pa.Array) -> float:
    """Words a value, on average."""
    return float(pc.mean(pc.list_value_length(pc.utf8_split_whitespace(strings))).as_py())


def _worded_ids(table: pa.Table, name: str) -> list[str]:
    """A line on ids that would be text in a column of their own, unless such a column is there."""
    ids = one_chunk(table[name])
    others = (one_chunk(table[other]) for other in table.column_names if other != name)
    copies = (other for other in others if is_text(other.type) and other.cast(ids.type).equals(ids))
    if not is_text(ids.type) or (words := _words(ids)) < WORDS_OF_TEXT or any(True for _ in copies):
        return []
    return [f"{name}: an id alone, of {words:.1f} words; give its side table a copy of it to have it read as text"]


def _unused(name: str, names: set[str]) -> str:
    while name in names:
        name += "'"
    return name
