"""Which rows of which tables a batch touches, and its codes as places among them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from recs_core.contract.batch import Features, flat, recoded
from recs_core.data.encoded import EncodedDataset


def localised(
    data: EncodedDataset, query: Features, candidate: Features, everything: bool
) -> tuple[dict[str, NDArray[np.int32]], Features, Features, set[str]]:
    """Replace table rows by places among the batch's unique rows, one union per table over all its uses."""
    uses: dict[str, list[tuple[str, str, NDArray[np.int32]]]] = {}
    for side, tower, features in (("query", data.query_tower, query), ("candidate", data.candidate_tower, candidate)):
        for feature in tower.features:
            if feature.table_name is not None and side not in data.adopted:
                codes = flat(features.codes[feature.name])
                uses.setdefault(feature.table_name, []).append((side, feature.name, codes))
    rows: dict[str, NDArray[np.int32]] = {}
    local: dict[tuple[str, str], NDArray[np.int32]] = {}
    whole = set()
    for name, parts in uses.items():
        if everything and any(side == "candidate" for side, _, _ in parts):
            rows[name] = np.arange(data.schema.table_rows[name], dtype=np.int32)
            local |= {(side, feature): codes for side, feature, codes in parts}
            whole.add(name)
        else:
            rows[name], inverse = unique(np.concatenate([codes for _, _, codes in parts]))
            ends = np.cumsum([len(codes) for _, _, codes in parts])[:-1]
            local |= {
                (side, feature): piece for (side, feature, _), piece in zip(parts, np.split(inverse, ends), strict=True)
            }
    return rows, _replace(query, "query", local), _replace(candidate, "candidate", local), whole


def _replace(features: Features, side: str, local: Mapping[tuple[str, str], NDArray[np.int32]]) -> Features:
    codes = dict(features.codes)
    for name, c in features.codes.items():
        if (side, name) in local:
            codes[name] = recoded(c, local[side, name])
    return Features(features.size, codes, features.dense)


def unique(codes: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """The distinct codes, ascending, and the place of each code among them."""
    rows, inverse = np.unique(codes, return_inverse=True)
    return rows, inverse.astype(np.int32)


def strictly_earlier(
    rows: NDArray[np.integer], start: NDArray[np.integer], times: NDArray[np.float64] | None
) -> NDArray[np.int64]:
    """How many rows of its query come before each of `rows`, not at the same moment. `start`: where the rows of that
    query begin; `times`: of all rows, sorted within a query; without them every earlier row counts."""
    low, high = start.astype(np.int64), rows.astype(np.int64)
    if times is None:
        return high - low
    now = times[rows]
    while (low < high).any():
        middle = (low + high) // 2
        before = times[middle] < now
        low, high = np.where(before, middle + 1, low), np.where(before, high, middle)
    return low - start
